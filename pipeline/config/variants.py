"""A run with other knobs: what `compare` sets, and what a command line says."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.params import Params, RunParams, changed
from pipeline.core.errors import InputError


def variants(params: Params, run: str, models: list[str], settings: Mapping[str, Any]) -> dict[str, RunParams]:
    """The run's params for each of `models`, or for those of `compare.models` if the list is empty.

    What the block `compare` sets is for its own run; `settings`, by dotted key, come last. Raises InputError for a
    wrong one, or if there is neither such a block nor both a run and models.
    """
    block = params.compare
    if block is None and not (run and models):
        raise InputError(
            "params.yaml: compare: missing; it says which models to compare, and with what settings, "
            "where --run and --models do not"
        )
    whole = params.run(run)
    of_run = block if block and run == block.run else None
    made: dict[str, RunParams] = {}
    try:
        if of_run:
            whole = changed(whole, of_run.settings, "compare.settings")
        for model in models or (block.models if block else []):
            own = of_run.models.get(model, {}) if of_run else {}
            made[model] = changed(changed(whole, own, f"compare.models.{model}"), settings, "--set", model)
    except ValueError as error:
        raise InputError(str(error)) from None
    return made

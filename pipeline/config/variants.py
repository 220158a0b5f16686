"""A run with other knobs: what `compare` sets, and what a command line says."""

from collections.abc import Mapping
from typing import Any

from pipeline.config.params import Params, RunParams, changed
from pipeline.core.errors import InputError


def variants(params: Params, run: str, models: list[str], settings: Mapping[str, Any]) -> dict[str, RunParams]:
    """The run's params for each of `models`, or for those of `compare.models` if the list is empty.

    What the block `compare` sets is for its own run; `settings`, by dotted key, come last. Raises InputError for a
    wrong one, or if there is no such block.
    """
    block, whole = params.compare, params.run(run)
    if block is None:
        raise InputError("params.yaml: compare: missing; it says which models to compare, and with what settings")
    made: dict[str, RunParams] = {}
    try:
        if run == block.run:
            whole = changed(whole, block.settings, "compare.settings")
        for model in models or block.models:
            own = block.models.get(model, {}) if run == block.run else {}
            made[model] = changed(changed(whole, own, f"compare.models.{model}"), settings, "--set", model)
    except ValueError as error:
        raise InputError(str(error)) from None
    return made

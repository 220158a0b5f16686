"""A run with other knobs: what `compare` sets, and what a command line says."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.params import Params, RunParams, changed
from pipeline.config.starting import starting_weights
from pipeline.core.errors import InputError


def started(project: Path, base: RunParams, made: Mapping[str, RunParams]) -> dict[str, RunParams]:
    """`made`, those of another backbone than `base` with weights of their own where theirs are a file of `base`.

    They are found as `add` finds them. Raises InputError as `starting_weights` does.
    """
    of_base, found = base.model.pretrained, dict(made)
    for name, run in made.items():
        if isinstance(of_base, str) and run.model.pretrained == of_base and run.model.backbone != base.model.backbone:
            ways = f"compare.models.{name}.model.pretrained of params.yaml", "--set model.pretrained=false"
            weights, _ = starting_weights(project, run.model.backbone, *ways)
            own = {"model.pretrained": weights.relative_to(project).as_posix(), "model.pretrained_sha256": None}
            found[name] = changed(run, own, f"compare.models.{name}")
    return found


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


def policy_variants(
    params: Params, run: str, policies: list[str], seeds: int, settings: Mapping[str, Any]
) -> dict[str, dict[int, RunParams]]:
    """The run's params under each of the online augmentation `policies`, with its own seed and those after it.

    `settings`, by dotted key, are for all of them. Raises InputError for a wrong one, or a policy that there is not or
    that does not fit the task.
    """
    try:
        whole = changed(params.run(run), settings, "--set")
        first = whole.train.seed
        return {
            policy: {
                seed: changed(whole, {"train.online.policy": policy, "train.seed": seed}, "--policies")
                for seed in range(first, first + seeds)
            }
            for policy in policies
        }
    except ValueError as error:
        raise InputError(str(error)) from None

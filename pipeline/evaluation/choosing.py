"""What of a run's predictions is shown, where it is left to the validation split."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.params import AUTO, HOW
from pipeline.core.sample import read_samples
from pipeline.metrics.chosen import choose_score
from pipeline.metrics.metrics import judged, paired

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec
    from pipeline.runtimes.runtime import Runtime


def choose_on_val(
    runtime: "Runtime", spec: "ModelSpec", predict: Mapping[str, Any], val_folder: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The block `predict` with numbers, and what was chosen, for metrics.json: {} where nothing was left to val.

    Where `predict` asks for it, the images of `val_folder` are predicted. Raises InputError if there are none, or none
    with an object.
    """
    block = {key: value for key, value in predict.items() if key not in HOW}
    if block["score"] != AUTO:
        return block, {}
    if val_folder is None:
        raise InputError("predict.score: found auto, expected a number: there is no validation split to choose it by")
    from pipeline.runtimes.answers import predict_samples

    all_of_them = judged(replace(spec, predict=block | {"score": 0.0}))
    samples = read_samples(val_folder)
    truth, predicted = paired(samples, predict_samples(runtime, all_of_them, val_folder, samples))
    seen = [replace(p, objects=p.objects[: block.get("max_objects")]) for p in predicted]
    try:
        chosen = choose_score(spec.task, truth, seen, _costs(**{key: predict.get(key) for key in HOW}))
    except ValueError as error:
        raise InputError(f"{val_folder}: {error}; state a number for predict.score") from None
    return block | {"score": chosen["score"]}, {"on": val_folder.name, "images": len(truth), **chosen}


def _costs(miss_cost: float | None, alarm_cost: float | None) -> tuple[float, float] | None:
    """None where neither is stated; where one is, the other is 1."""
    return None if miss_cost is None and alarm_cost is None else (miss_cost or 1.0, alarm_cost or 1.0)

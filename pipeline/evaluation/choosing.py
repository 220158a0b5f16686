"""What of a run's predictions is shown, where it is left to the validation split, and what their scores are worth."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.params import AUTO, COSTS, HOW, NONE
from pipeline.core.sample import Sample, read_samples
from pipeline.metrics.calibration import scored
from pipeline.metrics.chosen import choose_score
from pipeline.metrics.fitting import fitted
from pipeline.metrics.metrics import judged, paired, shown_of

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec
    from pipeline.runtimes.runtime import Runtime


def choose_on_val(
    runtime: "Runtime", spec: "ModelSpec", predict: Mapping[str, Any], val_folder: Path | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The block `predict` with numbers, and what val decided, for metrics.json: `chosen`, the score, and `calibrated`,
    the fit of what scores are worth, each where it was left to val.

    Where `predict` asks for one, the images of `val_folder` are predicted. The fit is of the answers that are shown.
    Raises InputError if there are no images, or none with what is asked for.
    """
    block, how = {key: value for key, value in predict.items() if key not in HOW}, predict.get("calibrate", NONE)
    automatic = block["score"] == AUTO
    if not automatic and how == NONE:
        return block, {}
    key, value = ("predict.score", AUTO) if automatic else ("predict.calibrate", how)
    if val_folder is None:
        raise InputError(f"{key}: found {value}: there is no validation split to choose it by")
    truth, predicted = _on_val(runtime, spec, block, val_folder)
    if not truth:
        raise InputError(f"{key}: found {value}: {val_folder} has no images to choose it by")
    about, decided = {"on": val_folder.name, "images": len(truth)}, dict[str, Any]()
    try:
        if automatic:
            chosen = choose_score(spec.task, truth, predicted, _costs(**{key: predict.get(key) for key in COSTS}))
            decided["chosen"], block["score"] = {**about, **chosen}, chosen["score"]
        if how != NONE:
            key, shown = "predict.calibrate", [_shown(p, block["score"]) for p in predicted]
            decided["calibrated"] = {**about, **_fit(spec.task, truth, shown, calibrate=how)}
            block["calibration"] = decided["calibrated"]["fit"]
    except InputError as error:
        other = "a number" if key == "predict.score" else NONE
        raise InputError(f"{val_folder}: {error}; state {other} for {key}") from None
    return block, decided


def _on_val(
    runtime: "Runtime", spec: "ModelSpec", block: Mapping[str, Any], val_folder: Path
) -> tuple[list[Sample], list[Sample]]:
    """The samples of val, and what the model says of them from any score on, in one order."""
    from pipeline.runtimes.answers import predict_samples

    all_of_them = judged(replace(spec, predict={**block, "score": 0.0}))
    samples = read_samples(val_folder)
    truth, predicted = paired(samples, predict_samples(runtime, all_of_them, val_folder, samples))
    return truth, [replace(p, objects=p.objects[: block.get("max_objects")]) for p in predicted]


def _fit(task: str, truth: list[Sample], shown: list[Sample], calibrate: str) -> dict[str, Any]:
    answers = scored(task, truth, shown)
    return {"answers": len(answers.score), "fit": fitted(calibrate, answers)}


def _shown(predicted: Sample, score: float) -> Sample:
    return replace(predicted, objects=shown_of(predicted.objects, score, None))


def _costs(miss_cost: float | None, alarm_cost: float | None) -> tuple[float, float] | None:
    """None where neither is stated; where one is, the other is 1."""
    return None if miss_cost is None and alarm_cost is None else (miss_cost or 1.0, alarm_cost or 1.0)

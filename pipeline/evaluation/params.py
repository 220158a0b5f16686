"""Params of prediction: what of a net's answers is shown. They change no weights, and not what AP is computed over."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from pipeline.core.errors import InputError
from pipeline.core.params import AUTO, COSTS, HOW, NONE, Block, Count, Fraction
from pipeline.core.spec import ModelSpec

Cost = Annotated[float, Field(gt=0)]
Calibrate = Literal["none", "platt", "isotonic"]


class ClassifyPredict(Block):
    """Of `pocketlens slide`, which finds objects with a classifier; a label per image needs none of it."""

    score: Fraction = 0.3
    """Objects below are not shown."""
    nms_iou: Fraction = 0.3
    """Boxes of one class that overlap more are one object; windows of one object lie far apart."""
    max_objects: Count = 100
    """Of an image, the best ones."""
    calibrate: Calibrate = "none"
    """Of all answers but those of `slide`: scores that say how often they are right,
    [fitted on val](verification.md#calibrated-scores)."""


class _Choosable(Block):
    """`score` comes first, then how it is chosen."""

    score: Fraction | Literal["auto"]
    miss_cost: Cost | None = None
    """With `score: auto`, the price of an object that is not found: the score with the lowest sum is taken. `null`: 1
    where the other one is stated; by F1 where neither is."""
    alarm_cost: Cost | None = None
    """The same of a false alarm."""
    calibrate: Calibrate = "none"
    """Scores that say how often they are right, [fitted on val](verification.md#calibrated-scores); `score` is compared
    with those before."""

    @model_validator(mode="after")
    def _costs_choose(self) -> Self:
        stated = [name for name in COSTS if getattr(self, name) is not None]
        if stated and self.score != AUTO:
            raise ValueError(f"{stated[0]}: goes with score: {AUTO}, found score: {self.score}")
        return self


class LocalizePredict(_Choosable):
    score: Fraction | Literal["auto"] = 0.5
    """From this probability on an object is present. `auto`: [chosen on val](verification.md#a-score-chosen-on-val)."""


class DetectPredict(_Choosable):
    score: Fraction | Literal["auto"] = 0.3
    """Objects below are not shown. `auto`: [chosen on val](verification.md#a-score-chosen-on-val)."""
    nms: Literal["hard", "vote", "soft"] = "vote"
    """hard drops boxes that overlap a better one; vote takes their mean with it; soft lowers their scores."""
    nms_iou: Fraction = 0.6
    """Boxes of one class that overlap more are one object."""
    max_objects: Count = 100
    """Shown per image, the best ones."""


PREDICT: dict[str, type[Block]] = {"classify": ClassifyPredict, "localize": LocalizePredict, "detect": DetectPredict}


def with_predict(spec: ModelSpec, predict: Mapping[str, Any] | None) -> ModelSpec:
    """The spec with the run's block `predict`; where it is None with that of its model.json (exports have one), else
    with the task's defaults. Raises InputError where something is left to val.
    """
    block = predict or spec.predict or PREDICT[spec.task]().model_dump()
    if block["score"] == AUTO:
        raise InputError(f"predict.score: found {AUTO}, expected the number that stage evaluate chose")
    if (how := block.get("calibrate", NONE)) != NONE:
        raise InputError(f"predict.calibrate: found {how}, expected the fit of stage evaluate in its place")
    return replace(spec, predict={key: value for key, value in block.items() if key not in HOW})

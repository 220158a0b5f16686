"""Params of prediction: what of a net's answers is shown. They change no weights, and not what AP is computed over."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal

from pipeline.core.params import Block, Count, Fraction
from pipeline.core.spec import ModelSpec


class ClassifyPredict(Block):
    """Of `pocketlens slide`, which finds objects with a classifier; a label per image needs none of it."""

    score: Fraction = 0.3
    """Objects below are not shown."""
    nms_iou: Fraction = 0.3
    """Boxes of one class that overlap more are one object; windows of one object lie far apart."""
    max_objects: Count = 100
    """Of an image, the best ones."""


class LocalizePredict(Block):
    score: Fraction = 0.5
    """From this probability on an object is present."""


class DetectPredict(Block):
    score: Fraction = 0.3
    """Objects below are not shown."""
    nms: Literal["hard", "vote", "soft"] = "vote"
    """hard drops boxes that overlap a better one; vote takes their mean with it; soft lowers their scores."""
    nms_iou: Fraction = 0.6
    """Boxes of one class that overlap more are one object."""
    max_objects: Count = 100
    """Shown per image, the best ones."""


PREDICT: dict[str, type[Block]] = {"classify": ClassifyPredict, "localize": LocalizePredict, "detect": DetectPredict}


def with_predict(spec: ModelSpec, predict: Mapping[str, Any] | None) -> ModelSpec:
    """The spec with the run's block `predict`; where it is None with that of its model.json (exports have one), else
    with the task's defaults.
    """
    return replace(spec, predict=dict(predict or spec.predict or PREDICT[spec.task]().model_dump()))

"""Every head of the detector, small, as a test builds it."""

from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.core.spec import ModelSpec
from pipeline.models.heads import HEADS
from pipeline.ops.decode import FORMS

DETECTORS = tuple(kind for kind, row in HEADS.items() if row.task == "detect")
ON_STRIDES = tuple(kind for kind in DETECTORS if kind != "yolov1")  # those that stand on several


def head_of(kind: str, side: int = 64, strides: list[int] | None = None) -> dict[str, Any]:
    """A head's block in model.json, with anchors where it has some, for boxes that fit a canvas of `side` pixels."""
    row = HEADS[kind]
    on = strides or row.options().model_dump()["strides"]
    head = {"kind": kind, "strides": on, "neck": 16, "channels": 16}
    sizes = np.random.default_rng(0).uniform(4, side, (50, 2))
    return head | ({"anchors": row.find_anchors(sizes, on, side)} if row.anchors else {})


def with_head(kind: str, spec: ModelSpec) -> ModelSpec:
    """`spec` of another head, without building it."""
    head, boxes = head_of(kind), HEADS[kind].boxes
    outputs = [f"{output}_{s}" for s in head["strides"] for output in FORMS[boxes].outputs]
    return replace(spec, head=head, strides=head["strides"], outputs=outputs, boxes=boxes)

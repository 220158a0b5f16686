"""What the net should say of a batch of images, as its loss takes it."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.core.sample import Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.preprocess import Frame

Item = tuple[NDArray[np.uint8], Sample, Frame, list[Object]]  # an image on the canvas, and what lies on it


def targets(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """What the net of `spec` should say of these images, as its loss takes it."""
    return {"classify": _labels, "localize": _one_object, "detect": _all_objects}[spec.task](items, spec)


def _labels(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    return {"label": torch.tensor([spec.labels.index(str(item[1].label)) for item in items])}


def _one_object(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """The largest object of each image; rows of zeros where there is none."""
    count = len(items)
    presence, box, label = torch.zeros(count), torch.zeros(count, 4), torch.zeros(count, dtype=torch.int64)
    landmarks = torch.zeros(count, len(spec.landmarks), 3)
    for row, item in enumerate(items):
        objects = [o for o in item[3] if not o.crowd and min(o.box[2:]) > 0]  # a crop may have cut it off
        if not objects:
            continue
        largest = max(objects, key=lambda o: o.box[2] * o.box[3])
        presence[row], label[row], box[row] = 1, spec.labels.index(largest.label), torch.tensor(largest.box)
        if largest.landmarks:
            points = [(p.x, p.y, float(p.visibility > 0)) for p in largest.landmarks]
            landmarks[row, : len(points)] = torch.tensor(points)
    return {"presence": presence, "box": box, "label": label, "landmarks": landmarks}


def _all_objects(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """All objects of the batch in one list, boxes and landmarks in pixels of the canvas; crowds are left out."""
    rows = [(i, o) for i, item in enumerate(items) for o in item[3] if not o.crowd and min(o.box[2:]) > 0]
    corners = [(o.box[0], o.box[1], o.box[0] + o.box[2], o.box[1] + o.box[3]) for _, o in rows]
    count, points = len(rows), len(spec.landmarks)
    landmarks = torch.zeros(count, points, 3)
    for row, (_, o) in enumerate(rows):
        if o.landmarks:
            found = [(p.x * spec.size, p.y * spec.size, float(p.visibility)) for p in o.landmarks]
            landmarks[row, : len(found)] = torch.tensor(found)
    return {
        "image": torch.tensor([i for i, _ in rows], dtype=torch.int64),
        "box": torch.tensor(corners, dtype=torch.float32).view(count, 4) * spec.size,
        "label": torch.tensor([spec.labels.index(o.label) for _, o in rows], dtype=torch.int64),
        "landmarks": landmarks,
    }

"""From the graph's outputs to labels and objects in the image's frame: numpy only, the same for every runtime."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.spec import ModelSpec
from pipeline.preprocess import Frame
from pipeline.sample import HIDDEN, VISIBLE, Landmark, Object

Array = NDArray[np.float32]
BEFORE_NMS = 1000  # the best cells per image that go into NMS


def decode(
    outputs: list[Array], spec: ModelSpec, frame: Frame, score: float | None = None
) -> tuple[str | None, dict[str, float] | None, list[Object]]:
    """What the model says of ONE image: (label, probability per label, objects).

    `outputs`: the graph's, without the batch axis, in the order of `spec.outputs`; `frame` says where the image
    lies on the canvas; `score` replaces the spec's threshold for objects. Objects come best first, their boxes
    clipped to the image, their landmarks not.
    """
    score = spec.predict["score"] if score is None else score
    named = dict(zip(spec.outputs, outputs, strict=True))
    if spec.task == "classify":
        probabilities = _softmax(named["logits"])
        scores = {label: _plain(p) for label, p in zip(spec.labels, probabilities, strict=True)}
        return spec.labels[int(probabilities.argmax())], scores, []
    objects = _one_object(named, spec, score) if spec.task == "localize" else _objects(named, spec, score)
    return None, None, [_clipped(frame.to_image(o)) for o in objects]


def _one_object(named: dict[str, Array], spec: ModelSpec, score: float) -> list[Object]:
    presence = _plain(_sigmoid(named["presence"])[0])
    if presence < score:
        return []
    x, y, w, h = (float(v) for v in named["box"])
    landmarks = []
    if spec.landmarks:
        landmarks = [Landmark(float(px), float(py), VISIBLE) for px, py in named["landmarks"].reshape(-1, 2)]
    label = spec.labels[int(named["classes"].argmax())]
    return [Object(label, (x, y, w, h), landmarks, score=presence)]


def _objects(named: dict[str, Array], spec: ModelSpec, score: float) -> list[Object]:
    cells = [_level(named, stride, score, bool(spec.landmarks)) for stride in spec.strides]
    scores, labels, boxes, points = (np.concatenate(part) for part in zip(*cells, strict=True))
    best = np.argsort(-scores, kind="stable")[:BEFORE_NMS]
    scores, labels, boxes, points = scores[best], labels[best], boxes[best], points[best]
    kept = nms(boxes, scores, labels, spec.predict["nms_iou"])[: spec.predict["max_objects"]]
    return [_object(spec, scores[i], labels[i], boxes[i] / spec.size, points[i]) for i in kept]


def _level(named: dict[str, Array], stride: int, score: float, landmarks: bool) -> tuple[Any, ...]:
    """The cells of one level above `score`: scores [P], labels [P], boxes xyxy and landmarks in pixels."""
    probability = _sigmoid(named[f"scores_{stride}"])
    label, y, x = np.nonzero(probability >= score)
    centre = (np.stack([x, y], axis=1) + 0.5) * stride
    sides = named[f"boxes_{stride}"][:, y, x].T * stride
    boxes = np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1)
    points = np.zeros((len(x), 0, 3))
    if landmarks:
        points = (
            named[f"landmarks_{stride}"][:, y, x]
            .T.reshape(len(x), len(named[f"landmarks_{stride}"]) // 3, 3)
            .astype(float)
        )
        points[..., :2] = points[..., :2] * stride + centre[:, None]
    return probability[label, y, x], label, boxes, points


def _object(spec: ModelSpec, score: float, label: int, box: Any, points: Any) -> Object:
    x0, y0, x1, y1 = (float(v) for v in box)
    landmarks = [
        Landmark(float(px) / spec.size, float(py) / spec.size, VISIBLE if v > 0 else HIDDEN) for px, py, v in points
    ]
    return Object(spec.labels[label], (x0, y0, x1 - x0, y1 - y0), landmarks, score=_plain(score))


def nms(boxes: Any, scores: Any, labels: Any, iou: float) -> list[int]:
    """Greedy non-maximum suppression per class: indices of the boxes (xyxy [P, 4]) that stay, best first."""
    order = np.argsort(-scores, kind="stable")
    area = np.clip(boxes[:, 2:] - boxes[:, :2], 0, None).prod(axis=1)
    kept: list[int] = []
    while len(order):
        first, rest = order[0], order[1:]
        kept.append(int(first))
        low = np.maximum(boxes[first, :2], boxes[rest, :2])
        high = np.minimum(boxes[first, 2:], boxes[rest, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        union = area[first] + area[rest] - shared
        same = (shared > iou * union) & (labels[rest] == labels[first])
        order = rest[~same]
    return kept


def _clipped(o: Object) -> Object:
    x0, y0 = min(max(o.box[0], 0.0), 1.0), min(max(o.box[1], 0.0), 1.0)
    x1, y1 = min(max(o.box[0] + o.box[2], 0.0), 1.0), min(max(o.box[1] + o.box[3], 0.0), 1.0)
    return Object(o.label, (x0, y0, x1 - x0, y1 - y0), o.landmarks, o.crowd, o.score)


def _plain(probability: Any) -> float:
    return round(float(probability), 6)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), dtype=np.float32)


def _softmax(x: Array) -> Array:
    e = np.exp(x - x.max())
    return np.asarray(e / e.sum(), dtype=np.float32)

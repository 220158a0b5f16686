"""From the graph's outputs to labels and objects in the image's frame: numpy only, the same for every runtime."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.sample import HIDDEN, VISIBLE, Landmark, Object
from pipeline.core.spec import ModelSpec
from pipeline.ops.boxes import nms, soft_nms, votes
from pipeline.ops.preprocess import Frame

Array = NDArray[np.float32]
BEFORE_NMS = 1000  # the best cells per image that go into NMS
OFFSET_WEIGHTS = (10.0, 10.0, 5.0, 5.0)  # what SSD multiplies offsets of x, y, width and height by, to learn them alike
MOST_OFFSET = math.log(1000 / 16)  # of a side; a larger one is taken for this


def decode(
    outputs: list[Array], spec: ModelSpec, frame: Frame
) -> tuple[str | None, dict[str, float] | None, list[Object]]:
    """What the model says of ONE image: (label, probability per label, objects).

    `outputs`: the graph's, without the batch axis, in the order of `spec.outputs`; `frame` says where the image
    lies on the canvas. Objects come best first, their boxes clipped to the image, their landmarks not.

    >>> spec = ModelSpec(
    ...     *("actions", "clips", "classify", ["run", "wave"], [], [], [], "mobilenetv2_050", {"kind": "pool"}),
    ...     *(96, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ...     outputs=["logits"],
    ... )
    >>> decode([np.log(np.array([1, 3], np.float32))], spec, Frame(1, 1, 0, 0))
    ('wave', {'run': 0.25, 'wave': 0.75}, [])
    """
    named = dict(zip(spec.outputs, outputs, strict=True))
    if spec.task == "classify":
        probabilities = _softmax(named["logits"])
        scores = {label: _plain(p) for label, p in zip(spec.labels, probabilities, strict=True)}
        return spec.labels[int(probabilities.argmax())], scores, []
    objects = _one_object(named, spec) if spec.task == "localize" else _objects(named, spec)
    return None, None, [_clipped(frame.to_image(o)) for o in objects]


def _one_object(named: dict[str, Array], spec: ModelSpec) -> list[Object]:
    presence = _plain(_sigmoid(named["presence"])[0])
    if presence < spec.predict["score"]:
        return []
    x, y, w, h = (float(v) for v in named["box"])
    landmarks = []
    if spec.landmarks:
        landmarks = [Landmark(float(px), float(py), VISIBLE) for px, py in named["landmarks"].reshape(-1, 2)]
    label = spec.labels[int(named["classes"].argmax())]
    return [Object(label, (x, y, w, h), landmarks, score=presence)]


def _objects(named: dict[str, Array], spec: ModelSpec) -> list[Object]:
    level, score, most = form(spec).level, spec.predict["score"], spec.predict["max_objects"]
    cells = [level(named, number, spec, score) for number in range(len(spec.strides))]
    scores, labels, boxes, points = (np.concatenate(part) for part in zip(*cells, strict=True))
    best = np.argsort(-scores, kind="stable")[:BEFORE_NMS]
    scores, labels, boxes, points = scores[best], labels[best], boxes[best], points[best]
    if spec.predict["nms"] == "soft":
        kept, left = soft_nms(boxes, scores, labels, score, most)
        scores[kept] = left
    else:
        kept = nms(boxes, scores, labels, spec.predict["nms_iou"], most)
    found, spots = boxes[kept], points[kept]
    if spec.predict["nms"] == "vote":
        shares = votes(kept, boxes, scores, labels)
        found, spots = shares @ boxes, np.tensordot(shares, points, axes=1)
    columns = scores[kept], labels[kept], found / spec.size, spots
    return [_object(spec, *row) for row in zip(*(column.tolist() for column in columns), strict=True)]


def _from_distances(named: dict[str, Array], level: int, spec: ModelSpec, score: float) -> tuple[Any, ...]:
    """The cells of one level above `score`: scores [P], labels [P], boxes xyxy [P, 4] and landmarks [P, L, 3] in
    pixels.
    """
    stride = spec.strides[level]
    probability = _sigmoid(named[f"scores_{stride}"])
    label, y, x = np.nonzero(probability >= score)
    centre = (np.stack([x, y], axis=1) + 0.5) * stride
    sides = named[f"boxes_{stride}"][:, y, x].T * stride
    boxes = np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1)
    points = np.zeros((len(x), 0, 3))
    if spec.landmarks:
        points = named[f"landmarks_{stride}"][:, y, x].T.reshape(len(x), len(spec.landmarks), 3).astype(float)
        points[..., :2] = points[..., :2] * stride + centre[:, None]
    return probability[label, y, x], label, boxes, points


def _from_anchors(named: dict[str, Array], level: int, spec: ModelSpec, score: float) -> tuple[Any, ...]:
    """The same of a head with anchors; a score is that of the label times the objectness."""
    stride, anchors = spec.strides[level], np.array(spec.head["anchors"][level])
    by_anchor = _by_anchor(named, stride, len(anchors))
    probability = _sigmoid(by_anchor["scores"]) * _sigmoid(by_anchor["objectness"])
    anchor, label, y, x = np.nonzero(probability >= score)
    raw = _sigmoid(by_anchor["boxes"][anchor, :, y, x]).reshape(-1, 4)
    centre = (raw[:, :2] * 2 - 0.5 + np.stack([x, y], axis=1)) * stride
    half = (raw[:, 2:] * 2) ** 2 * anchors[anchor] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    at = anchor, slice(None), y, x
    return probability[anchor, label, y, x], label, boxes, _by_sides(by_anchor, at, anchors, stride, spec)


def _from_offsets(named: dict[str, Array], level: int, spec: ModelSpec, score: float) -> tuple[Any, ...]:
    """The same of a head with SSD's default boxes; a score is the label's share of a softmax with the background."""
    stride, anchors = spec.strides[level], np.array(spec.head["anchors"][level])
    by_anchor = _by_anchor(named, stride, len(anchors))
    logits = np.concatenate([by_anchor["background"], by_anchor["scores"]], axis=1)
    # rounded once, at the end: equal scores of an int8 file stay equal, whatever the order that they are summed in
    probability = _softmax(logits.astype(np.float64), axis=1)[:, 1:]
    anchor, label, y, x = np.nonzero(probability >= score)
    offsets = by_anchor["boxes"][anchor, :, y, x].reshape(-1, 4) / np.array(OFFSET_WEIGHTS)
    centre = (np.stack([x, y], axis=1) + 0.5) * stride + offsets[:, :2] * anchors[anchor]
    half = np.exp(np.minimum(offsets[:, 2:], MOST_OFFSET)) * anchors[anchor] / 2
    boxes = np.concatenate([centre - half, centre + half], axis=1)
    at = anchor, slice(None), y, x
    return probability[anchor, label, y, x], label, boxes, _by_sides(by_anchor, at, anchors, stride, spec)


def _by_anchor(named: dict[str, Array], stride: int, anchors: int) -> dict[str, Array]:
    """The outputs of a stride by their kind, [A, channels of one, H, W] each."""
    own = {name.rsplit("_", 1)[0]: o for name, o in named.items() if name.rsplit("_", 1)[1] == str(stride)}
    return {kind: o.reshape(anchors, -1, *o.shape[1:]) for kind, o in own.items()}


def _by_sides(
    by_anchor: dict[str, Array], at: tuple[Any, ...], anchors: NDArray[np.float64], stride: int, spec: ModelSpec
) -> NDArray[np.float64]:
    """The landmarks [P, L, 3] of the anchors and cells `at` (anchor, :, y, x), which are in sides of their anchor."""
    anchor, _, y, x = at
    if not spec.landmarks:
        return np.zeros((len(x), 0, 3))
    points = by_anchor["landmarks"][at].reshape(len(x), len(spec.landmarks), 3).astype(float)
    middle = (np.stack([x, y], axis=1) + 0.5) * stride
    points[..., :2] = points[..., :2] * anchors[anchor][:, None] + middle[:, None]
    return points


class Form(NamedTuple):
    """How a detector's outputs become boxes; a head names one, and model.json holds its name.

    `level(named, number, spec, score)` gives the cells of a level, as `_from_distances` does. `outputs` and `boxes` are
    the words of preprocess.json, without the batch axis. s: a stride, S: the side of the canvas, K: labels, L:
    landmarks, A: anchors a stride.
    """

    level: Callable[[dict[str, Array], int, ModelSpec, float], tuple[Any, ...]]
    outputs: dict[str, str]
    boxes: str


FORMS: dict[str, Form] = {
    "distances": Form(
        _from_distances,
        {
            "scores": "[K, S/s, S/s]: sigmoid gives the probability of each label in each cell",
            "boxes": "[4, S/s, S/s]: left, top, right, bottom, from the cell's centre, in strides, 0 or more",
            "landmarks": "[3 L, S/s, S/s]: per landmark x, y from the cell's centre in strides, visibility",
        },
        "box in pixels of the canvas: centre - (left, top) s to centre + (right, bottom) s",
    ),
    "anchors": Form(
        _from_anchors,
        {
            "scores": "[A K, S/s, S/s]: the first K channels are the first anchor's",
            "boxes": "[A 4, S/s, S/s]: x, y, width, height, each before its sigmoid",
            "objectness": "[A, S/s, S/s]: sigmoid(objectness) sigmoid(score) is the probability of a label",
            "landmarks": "[A 3 L, S/s, S/s]: per landmark x, y from the cell's centre in anchor sides, visibility",
        },
        "box, with b = sigmoid(boxes): its centre at (2 b_x - 0.5 + i, 2 b_y - 0.5 + j) s, "
        "its sides anchor_w (2 b_w)^2 and anchor_h (2 b_h)^2; A anchors a stride, `anchors` has their sides in pixels",
    ),
    "offsets": Form(
        _from_offsets,
        {
            "scores": "[A K, S/s, S/s]: the first K channels are the first anchor's",
            "boxes": "[A 4, S/s, S/s]: offsets of x, y, width, height from the anchor",
            "background": "[A, S/s, S/s]: softmax over it and its anchor's K scores gives the labels' probabilities",
            "landmarks": "[A 3 L, S/s, S/s]: per landmark x, y from the cell's centre in anchor sides, visibility",
        },
        f"box, with b = boxes: its centre at (i + 0.5) s + anchor_w b_x / {OFFSET_WEIGHTS[0]:g} and (j + 0.5) s + "
        f"anchor_h b_y / {OFFSET_WEIGHTS[1]:g}, its sides anchor_w exp(b_w / {OFFSET_WEIGHTS[2]:g}) and anchor_h "
        f"exp(b_h / {OFFSET_WEIGHTS[3]:g}), each exponent {MOST_OFFSET:.6f} at most; A anchors a stride, `anchors` has "
        "their sides in pixels",
    ),
}


def form(spec: ModelSpec) -> Form:
    """The form of a detector's boxes. Raises InputError if model.json names another one than `FORMS` has.

    >>> spec = ModelSpec(
    ...     *("herd", "herd", "detect", ["cow"], [], [], [], "mobilenetv2_050", {"kind": "anchor_free"}),
    ...     *(256, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
    ...     boxes="distances",
    ... )
    >>> form(spec).boxes
    'box in pixels of the canvas: centre - (left, top) s to centre + (right, bottom) s'
    """
    if spec.boxes not in FORMS:
        raise InputError(
            f"model.json of run {spec.run!r}: boxes {spec.boxes!r}; expected one of {', '.join(FORMS)}. An older "
            "version wrote none: train the run again"
        )
    return FORMS[spec.boxes]


def _object(spec: ModelSpec, score: float, label: int, box: list[float], points: list[list[float]]) -> Object:
    x0, y0, x1, y1 = box
    landmarks = [Landmark(px / spec.size, py / spec.size, VISIBLE if v > 0 else HIDDEN) for px, py, v in points]
    return Object(spec.labels[label], (x0, y0, x1 - x0, y1 - y0), landmarks, score=_plain(score))


def _clipped(o: Object) -> Object:
    x0, y0 = min(max(o.box[0], 0.0), 1.0), min(max(o.box[1], 0.0), 1.0)
    x1, y1 = min(max(o.box[0] + o.box[2], 0.0), 1.0), min(max(o.box[1] + o.box[3], 0.0), 1.0)
    return Object(o.label, (x0, y0, x1 - x0, y1 - y0), o.landmarks, o.crowd, o.score)


def _plain(probability: Any) -> float:
    return round(float(probability), 6)


def _sigmoid(x: Array) -> Array:
    return np.asarray(1 / (1 + np.exp(-np.clip(x, -60, 60))), dtype=np.float32)


def _softmax(x: NDArray[Any], axis: int = 0) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return np.asarray(e / e.sum(axis, keepdims=True), dtype=np.float32)

"""preprocess.json: what an app does with an image before the model and with its answers after it, in plain words."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.core.calibrated import LEAST
from pipeline.ops.boxes import SOFT_SIGMA, VOTES_OVER
from pipeline.ops.decode import BEFORE_NMS, form
from pipeline.ops.preprocess import FILL

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec

MEANINGS = {  # without the batch axis; K: labels, L: landmarks. A detector's are in `ops.decode.FORMS`
    "classify": {"logits": "[K]: softmax gives the probability of each label"},
    "localize": {
        "presence": "[1]: sigmoid gives the probability that there is an object; the rest counts only then",
        "box": "[4]: x, y of the upper-left corner, width, height, as shares of the canvas",
        "classes": "[K]: the largest is the object's label",
        "landmarks": "[2 L]: x, y of each landmark, as shares of the canvas",
    },
}
EDGE = "beyond the canvas the pixels of its edge are repeated"
STEPS_SAID = {  # on the canvas, in order, after the resize and its grey bars
    "gray": "each of the three channels becomes (19595 red + 38470 green + 7471 blue + 32768) >> 16",
    "gaussian": "per channel, with (1 2 1) for side 3 or (1 4 6 4 1) for side 5 across and down: the sum of weight"
    f" times pixel, plus half the sum of all weights, divided by that sum (16 or 256) and rounded down; {EDGE}",
    "median": f"per channel the fifth in size of the 3 x 3 pixels around each; {EDGE}",
}
CELLS = "a cell (column i, row j) of stride s has its centre at ((i + 0.5) s, (j + 0.5) s) pixels of the canvas"
SHARES = "divide by S: shares of the canvas"
BACK = "take off the offset of the resize and divide by its scale, both as shares of the canvas: shares of the image"
CLIP = "clip boxes, not landmarks, to 0 to 1"
WORTH = {  # by the `by` of `calibration`
    "platt": f"sigmoid(slope log(p / (1 - p)) + offset) of `calibration`, p between {LEAST:f} and 1 - {LEAST:f}",
    "isotonic": "the value at p of straight lines between the knots (`scores`, `right`) of `calibration`; beyond the "
    "first and the last that of the knot",
}


def preprocessing(spec: "ModelSpec", targets: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """The whole contract of `spec`'s model, for people and programs that have no Python; `targets` are the files, as
    in export.json.
    """
    return {
        "input": {"name": "image", "dtype": "uint8", "shape": [1, spec.size, spec.size, 3], "layout": "NHWC"},
        "colour": "RGB, upright (EXIF orientation applied)",
        "resize": spec.resize,
        "filter": "bilinear, antialiased when shrinking (Pillow's BILINEAR)",
        "fill": [FILL] * 3 if spec.resize == "letterbox" else None,
        "preprocess": [{**step, "does": STEPS_SAID[step["step"]]} for step in spec.preprocess],
        "normalization": {"inside_the_graph": True, "mean": spec.mean, "std": spec.std},
        "outputs": spec.outputs,
        "decode": _decode(spec),
        "runtimes": {
            target: {key: row[key] for key in ("runtime", "oldest_version")} for target, row in (targets or {}).items()
        },
    }


def _decode(spec: "ModelSpec") -> dict[str, Any]:
    found = _before_calibration(spec)
    fit = spec.predict.get("calibration")
    if fit is None:
        return found
    of = "the label's probability" if spec.task == "classify" else "each score that is left"
    rest = "; the other labels share the rest as before, each up to that" if spec.task == "classify" else ""
    found["steps"].append(f"{of}, p, becomes {WORTH[fit['by']]}{rest}")
    return {**found, "calibration": fit}


def _before_calibration(spec: "ModelSpec") -> dict[str, Any]:
    boxes = form(spec) if spec.task == "detect" else None
    meanings = boxes.outputs if boxes else MEANINGS[spec.task]
    found: dict[str, Any] = {
        "kind": spec.head["kind"] if boxes else spec.task,
        "labels": len(spec.labels),
        "landmarks": len(spec.landmarks),
        "outputs": {name: meanings[name.rsplit("_", 1)[0] if spec.strides else name] for name in spec.outputs},
    }
    if spec.task == "classify":
        return {**found, "steps": ["the label is the one of the largest logit, by the order of labels.txt"]}
    floor = spec.predict["score"]
    if boxes is None:
        return {**found, "score": floor, "steps": [f"no object where sigmoid(presence) is below {floor:g}", BACK, CLIP]}
    steps = [
        CELLS,
        boxes.boxes,
        f"keep each pair of cell and label with a probability of {floor:g} or more; of them the {BEFORE_NMS} best",
        *_suppression(spec.predict),
        "a landmark is visible where its visibility is above 0, else hidden",
        SHARES,
        BACK,
        CLIP,
    ]
    numbers = {
        "score": floor,
        "before_nms": BEFORE_NMS,
        "nms": spec.predict["nms"],
        "nms_iou": spec.predict["nms_iou"],
        "vote_iou": VOTES_OVER,
        "soft_sigma": SOFT_SIGMA,
        "max_objects": spec.predict["max_objects"],
    }
    cells = {"boxes": spec.boxes, "strides": spec.strides, "anchors": spec.head.get("anchors")}
    return {**found, **cells, **numbers, "steps": steps}


def _suppression(predict: dict[str, Any]) -> list[str]:
    floor, most = predict["score"], f"the best {predict['max_objects']} stay"
    if predict["nms"] == "soft":
        return [
            "soft-NMS: take the box with the best score; multiply the scores of the other boxes of its label by "
            f"exp(-IoU^2 / {SOFT_SIGMA:g}); again with those left, until the best is below {floor:g}",
            most,
        ]
    hard = (
        "NMS: from the best score down, take off the boxes of the same label that overlap the box "
        f"by an IoU above {predict['nms_iou']:g}"
    )
    if predict["nms"] == "hard":
        return [hard, most]
    vote = (
        "each of them, with its landmarks, becomes the mean, weighted by score, of itself and of all boxes before NMS "
        f"of its label that overlap it by an IoU of {VOTES_OVER:g} or more; its score stays"
    )
    return [hard, most, vote]

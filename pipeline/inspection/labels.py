"""Labels of the one form as FiftyOne has them, and back."""

import hashlib
import json
import math
from typing import Any

from pipeline.core.sample import ABSENT, VISIBLE, Landmark, Object, Sample

TRUTH = "ground_truth"
# what an object carries beside FiftyOne's own: its place in the image's list, by which its landmarks are found again
ATTRIBUTES = ("number", "iscrowd")


def classification(fo: Any, sample: Sample) -> Any:
    return fo.Classification(label=sample.label, confidence=(sample.scores or {}).get(str(sample.label)))


def with_objects(fo: Any, field: str, objects: list[Object], landmarks: bool) -> dict[str, Any]:
    """`field`, and `field`_landmarks if the dataset has `landmarks`."""
    found = {field: detections(fo, objects)}
    if landmarks:
        points = [_keypoint(fo, number, o) for number, o in enumerate(objects) if o.landmarks]
        found[f"{field}_landmarks"] = fo.Keypoints(keypoints=points)
    return found


def detections(fo: Any, objects: list[Object]) -> Any:
    return fo.Detections(
        detections=[
            fo.Detection(label=o.label, bounding_box=list(o.box), confidence=o.score, number=number, iscrowd=o.crowd)
            for number, o in enumerate(objects)
        ]
    )


def _keypoint(fo: Any, number: int, o: Object) -> Any:
    """Absent points are NaN, which is not drawn; `visible` is COCO's, as FiftyOne's own importer writes it."""
    gone = (math.nan, math.nan)
    points = [(p.x, p.y) if p.visibility else gone for p in o.landmarks]
    scores = None if o.score is None else [o.score] * len(points)
    return fo.Keypoint(
        label=o.label, points=points, confidence=scores, number=number, visible=[p.visibility for p in o.landmarks]
    )


def declare(fo: Any, dataset: Any) -> None:
    """The fields of the attributes above, so that they can be read of a dataset without one object, too."""
    kinds = {"number": fo.IntField, "iscrowd": fo.BooleanField}
    for field in dataset.get_field_schema(embedded_doc_type=fo.Detections):
        for name in ATTRIBUTES:
            dataset.add_sample_field(f"{field}.detections.{name}", kinds[name])
    for field in dataset.get_field_schema(embedded_doc_type=fo.Keypoints):
        dataset.add_sample_field(f"{field}.keypoints.number", fo.IntField)
        dataset.add_sample_field(f"{field}.keypoints.visible", fo.ListField, subfield=fo.IntField)


def offer(dataset: Any, labels: list[str]) -> None:
    """Let the App change `ground_truth`, with these classes to choose from."""
    schema = dataset.generate_label_schemas(TRUTH, scan_samples=False)
    schema |= {"classes": labels, "component": "dropdown"}
    schema["attributes"] = [row for row in schema["attributes"] if row["name"] in ("id", "iscrowd")]
    dataset.set_label_schemas({TRUTH: schema})
    dataset.active_label_schemas = [TRUTH]


def labels_in(dataset: Any, landmarks: int) -> list[tuple[str | None, list[Object]]]:
    """(image label, objects) of the field `ground_truth` of each sample, as they are now; of objects with their
    number of `landmarks`.
    """
    if dataset.get_field(f"{TRUTH}.detections") is None:
        return [(label, []) for label in dataset.values(f"{TRUTH}.label")]
    parts = ("label", "bounding_box", *ATTRIBUTES)
    rows = zip(*dataset.values([f"{TRUTH}.detections.{part}" for part in parts]), strict=True)
    labels = dataset.values("label") if dataset.get_field("label") else [None] * len(dataset)
    points: list[dict[int, list[Landmark]]] = [{} for _ in labels]
    if landmarks:
        marks = dataset.values([f"{TRUTH}_landmarks.keypoints.{part}" for part in ("number", "points", "visible")])
        points = [_landmarks(*row) for row in zip(*marks, strict=True)]
    return [(label, _objects(row, own)) for label, row, own in zip(labels, rows, points, strict=True)]


def _objects(columns: tuple[Any, ...], points: dict[int, list[Landmark]]) -> list[Object]:
    """Of an image's labels, boxes, numbers and crowds, each a list or None."""
    return [
        Object(label, (box[0], box[1], box[2], box[3]), points.get(number, []), bool(crowd))
        for label, box, number, crowd in zip(*(column or [] for column in columns), strict=True)
    ]


def _landmarks(
    numbers: list[int | None] | None, points: list[Any] | None, visible: list[Any] | None
) -> dict[int, list[Landmark]]:
    found = {}
    for number, places, seen in zip(numbers or [], points or [], visible or [], strict=True):
        if number is not None:
            found[number] = [_landmark(place, v) for place, v in zip(places, seen or [None] * len(places), strict=True)]
    return found


def _landmark(place: Any, visibility: int | None) -> Landmark:
    x, y = place
    if not isinstance(x, float | int) or not math.isfinite(x) or not math.isfinite(y):
        return Landmark(0, 0, ABSENT)
    return Landmark(x, y, visibility or VISIBLE)


def hash_of(label: str | None, objects: list[Object]) -> str:
    """What tells whether labels in FiftyOne are still those that were written there."""
    rows = [[o.label, o.box, o.crowd, [[p.x, p.y, p.visibility] for p in o.landmarks]] for o in objects]
    return hashlib.sha256(json.dumps([label, rows]).encode()).hexdigest()[:16]

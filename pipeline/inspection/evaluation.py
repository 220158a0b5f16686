"""FiftyOne's own evaluation of a run beside ours, and why the two differ where they do.

Three things make them differ, and each has a bound that is computed here. Ties: FiftyOne puts right predictions before
wrong ones of the same score, where COCO keeps their order; its AP lies between ours and `highest`. Areas: it measures
landmarks against the extent of an object's points in an image of side 1, where COCO takes the box in pixels; ours are
the same in `their_way`. Crowds: it counts a crowd as found once for each prediction in it; these are left out of what
is counted here.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from pipeline.core.sample import Dataset, Object, Sample
from pipeline.inspection.labels import TRUTH, detections
from pipeline.metrics import coco_ap
from pipeline.metrics.coco_match import LANDMARK_SIGMA
from pipeline.metrics.matching import iou, match, of_nothing
from pipeline.metrics.metrics import score

SIZES = {"small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, math.inf)}  # COCO's, in pixels of the image
MOST_GROUPS = 50  # that a report lists
KEY = "eval"


def evaluate(
    fo: Any, view: Any, task: str, info: Dataset, truth: list[Sample], predicted: list[Sample], shown: list[Sample]
) -> tuple[dict[str, float | None], dict[str, Any]]:
    """FiftyOne's figures, and tables of them beside ours. `shown` are the predictions in the field `predictions`;
    those in `predicted` are written into `predictions_all` (detect).
    """
    if not predicted:
        return {}, {}
    if task == "classify":
        return _classified(view, info, truth, predicted)
    results = view.evaluate_detections("predictions", eval_key=KEY, classes=info.labels)
    figures = {k: _defined(v) for k, v in results.metrics().items()}
    beside: dict[str, Any] = {"ties": _ties(predicted), "crowds": sum(o.crowd for t in truth for o in t.objects)}
    if task == "detect":
        # last and without an evaluation key: FiftyOne takes milliseconds to read or write one such object
        view.set_values("predictions_all", [detections(fo, p.objects) for p in predicted])
        results = _precision_recall(view, "predictions_all", TRUTH, info)
        figures["mAP"] = _defined(results.mAP())
        beside |= _boxes(results, info, truth, predicted)
    return figures, beside | _counted(view, truth, shown)


def _classified(
    view: Any, info: Dataset, truth: list[Sample], predicted: list[Sample]
) -> tuple[dict[str, float | None], dict[str, Any]]:
    results = view.evaluate_classifications("predictions", eval_key=KEY, classes=info.labels)
    theirs, ours = results.report(), score("classify", truth, predicted, info)["per_class"]
    per_class = {
        label: {"fiftyone": _defined(theirs[label]["f1-score"]), "ours": ours[label]["f1"]}
        for label in info.labels
        if label in theirs and label in ours
    }
    right = view.values(KEY)
    rows = [(float(r), float(t.label == p.label)) for r, t, p in zip(right, truth, predicted, strict=True)]
    groups = {
        name: {"images": len(own), "accuracy": {"fiftyone": _mean(r for r, _ in own), "ours": _mean(o for _, o in own)}}
        for name, own in _by_group(truth, rows)
    }
    return {k: _defined(v) for k, v in results.metrics().items()}, {"per_class": {"f1": per_class}, "per_group": groups}


def _precision_recall(view: Any, predicted: str, true: str, info: Dataset, **knobs: Any) -> Any:
    """FiftyOne's results at all IoUs alone: its `evaluate_detections` reads and matches all objects at 0.5 before.

    It copies all objects of an image, so that its marks are not saved with them; nothing is saved here.
    """
    from fiftyone.utils.eval import coco

    config = coco.COCOEvaluationConfig(predicted, true, iou=0.5, classwise=True, compute_mAP=True, **knobs)
    with _uncopied(coco):
        return config.build().generate_results(view, [], classes=info.labels)


@contextmanager
def _uncopied(coco: Any) -> Iterator[None]:
    copied = getattr(coco, "_copy_labels", None)  # of another version, which may call it otherwise, and is slower then
    if copied is None:
        yield
        return
    coco._copy_labels = lambda labels: labels
    try:
        yield
    finally:
        coco._copy_labels = copied


def _boxes(results: Any, info: Dataset, truth: list[Sample], predicted: list[Sample]) -> dict[str, Any]:
    """AP of each label and size; and how far ties may move it."""
    ours = score("detect", truth, predicted, info)
    per_class = {
        label: {"fiftyone": _defined(results.mAP(classes=[label])), "ours": row["AP"]}
        for label, row in ours["per_class"].items()
    }
    most = highest(truth, predicted, info) if _ties(predicted) else ours["AP"]
    return {"per_class": {"AP": per_class}, "AP": {"ours": ours["AP"], "highest": most}}


def highest(truth: list[Sample], predicted: list[Sample], info: Dataset) -> float | None:
    """The AP of boxes where of equal scores those that are right come first, at each IoU."""
    found = [coco_ap.evaluate(truth, right_first(truth, predicted, 0.5 + 0.05 * k), info).ap(iou=k) for k in range(10)]
    known = [ap for ap in found if ap is not None]
    return sum(known) / len(known) if known else None


def right_first(truth: list[Sample], predicted: list[Sample], least: float) -> list[Sample]:
    """The predictions with scores that are all different, in the order of their own: of equal ones first those that
    have a true object at an IoU of `least`.
    """
    rows = []
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        overlap = iou(p.objects, t.objects)
        own = np.array([[o.label == other.label and not other.crowd for other in t.objects] for o in p.objects])
        overlap = np.where(own.reshape(overlap.shape), overlap, 0.0)
        best = overlap.max(axis=1, initial=0.0)
        free = np.ones(len(t.objects), bool)
        for k in sorted(range(len(p.objects)), key=lambda k: (-(p.objects[k].score or 0), -best[k])):
            near = overlap[k] * free
            right = bool(len(near)) and near.max() >= least
            if right:
                free[near.argmax()] = False
            rows.append((-(p.objects[k].score or 0.0), not right, -best[k], i, k))
    made: list[list[Object]] = [[] for _ in predicted]
    for place, (*_, i, k) in enumerate(sorted(rows)):
        made[i].append(replace(predicted[i].objects[k], score=1 - place / len(rows)))
    return [replace(p, objects=own) for p, own in zip(predicted, made, strict=True)]


def _ties(predicted: list[Sample]) -> int:
    """How many predicted objects have the score of another one of their label."""
    counts = Counter((o.label, o.score) for p in predicted for o in p.objects)
    return sum(count for count in counts.values() if count > 1)


def _counted(view: Any, truth: list[Sample], shown: list[Sample]) -> dict[str, Any]:
    """Recall and precision at IoU 0.5 by size and by group, by FiftyOne's matches and by ours."""
    rows = [
        [*_our_counts(t, p), *theirs]
        for t, p, theirs in zip(truth, shown, _their_counts(view, truth, shown), strict=True)
    ]
    found: dict[str, Any] = {"per_size": {}, "per_group": {}}
    for size, (least, most) in SIZES.items():
        table = _rates([[_within(part, least, most) for part in row] for row in rows])
        if table["objects"]:
            found["per_size"][size] = table
    for name, own in _by_group(truth, rows):
        found["per_group"][name] = {"images": len(own), **_rates(own)}
    return found


Counts = list[tuple[float, bool]]  # an object's area in pixels, and whether it has a match


def _our_counts(truth: Sample, shown: Sample) -> tuple[Counts, Counts]:
    found = match(truth.objects, shown.objects)
    right, wrong = set(found.values()), of_nothing(truth.objects, shown.objects, found)
    true = [(_area(o, truth), t in found) for t, o in enumerate(truth.objects) if not o.crowd]
    said = [(_area(o, truth), True) for p, o in enumerate(shown.objects) if p in right]
    return true, said + [(_area(o, truth), False) for o in wrong]


def _their_counts(view: Any, truth: list[Sample], shown: list[Sample]) -> list[tuple[Counts, Counts]]:
    paths = (
        f"{TRUTH}.detections.id",
        f"{TRUTH}.detections.{KEY}",
        *(f"predictions.detections.{k}" for k in (KEY, f"{KEY}_id")),
    )
    rows = []
    for t, p, ids, true, said, of in zip(truth, shown, *view.values(list(paths)), strict=True):
        crowds = {id for id, o in zip(ids or [], t.objects, strict=True) if o.crowd}
        true_rows = [(_area(o, t), e == "tp") for o, e in zip(t.objects, true or [], strict=True) if not o.crowd]
        pairs = zip(p.objects, said or [], of or [], strict=True)
        rows.append((true_rows, [(_area(o, t), e == "tp") for o, e, id in pairs if id not in crowds]))
    return rows


def _area(o: Object, sample: Sample) -> float:
    return o.box[2] * sample.width * o.box[3] * sample.height


def _within(counts: Counts, least: float, most: float) -> Counts:
    return [row for row in counts if least <= row[0] < most]


def _rates(rows: Sequence[Sequence[Counts]]) -> dict[str, Any]:
    """Of images' (our true, our said, their true, their said)."""
    true, said, their_true, their_said = ([one for row in rows for one in row[k]] for k in range(4))
    return {
        "objects": len(true),
        "recall": {"fiftyone": _mean(f for _, f in their_true), "ours": _mean(f for _, f in true)},
        "precision": {"fiftyone": _mean(f for _, f in their_said), "ours": _mean(f for _, f in said)},
    }


def landmarks(view: Any, info: Dataset, truth: list[Sample], shown: list[Sample]) -> dict[str, float | None]:
    """AP by object keypoint similarity of the predictions that are `shown`; empty where these have no landmarks.

    FiftyOne's formula has sigma where COCO's has two of it.
    """
    if not any(o.landmarks for p in shown for o in p.objects):
        return {}
    sigmas = [2 * LANDMARK_SIGMA] * len(info.landmarks)
    results = _precision_recall(view, "predictions_landmarks", f"{TRUTH}_landmarks", info, keypoint_sigmas=sigmas)
    square = [_by_extent(t) for t in truth], [replace(p, width=UNIT, height=UNIT) for p in shown]
    ways = {"ours": (truth, shown), "their_way": square}
    ours = {name: coco_ap.evaluate(*both, info, "keypoints").ap() for name, both in ways.items()}
    return {"fiftyone": _defined(results.mAP()), **ours}


UNIT = 1000  # pixels of an image's side, for which FiftyOne takes 1


def _by_extent(sample: Sample) -> Sample:
    """As FiftyOne sees its landmarks: in a square image, each object as large as the extent of its points."""
    objects = []
    for o in sample.objects:
        points = [(p.x, p.y) for p in o.landmarks if p.visibility]
        if points:
            (left, top), (right, low) = np.min(points, axis=0), np.max(points, axis=0)
            objects.append(replace(o, box=(left, top, right - left, low - top)))
    return replace(sample, width=UNIT, height=UNIT, objects=objects)


def _by_group(truth: list[Sample], rows: list[Any]) -> list[tuple[str, list[Any]]]:
    """The rows of each group of images, or clip; none where each image is one of its own."""
    found = defaultdict(list)
    for t, row in zip(truth, rows, strict=True):
        if name := t.group or t.clip:
            found[name].append(row)
    return sorted(found.items())[:MOST_GROUPS]


def _mean(values: Iterable[float]) -> float | None:
    known = list(values)
    return round(sum(known) / len(known), 6) if known else None


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) and value >= 0 else None

"""What is wrong with an image's predictions, as the fields that the views of a run are made of."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipeline.core.sample import Object, Sample
from pipeline.metrics.matching import iou, match, of_nothing

LOOSE = 0.1  # IoU from which a box is at the right place, but badly (Bolya et al. 2020, "TIDE", arXiv 2008.08115)
UNCERTAIN = 0.1  # share of the images that the view "most uncertain" has
FEWEST = 20  # images that it has where there are so many


def judged(task: str, truth: Sample, shown: Sample) -> dict[str, Any]:
    """Of the predictions that are shown of an image: `wrong_label`, `confused_with` ("cow as goat"), and of objects
    how many `missed` and `false_positives` there are; `localization_only`: these are boxes of the right label that lie
    badly, and nothing else is wrong.
    """
    if task == "classify":
        wrong = truth.label != shown.label
        return {"wrong_label": wrong, "confused_with": [f"{truth.label} as {shown.label}"] if wrong else []}
    found = match(truth.objects, shown.objects, by_label=False)
    pairs = [(truth.objects[t].label, shown.objects[p].label) for t, p in found.items()]
    confused = sorted({f"{a} as {b}" for a, b in pairs if a != b})
    extra = of_nothing(truth.objects, shown.objects, found)
    missed = [o for t, o in enumerate(truth.objects) if t not in found and not o.crowd]
    loose = _loose(missed, extra) == len(missed) == len(extra) and not confused
    return {
        "wrong_label": bool(confused),
        "confused_with": confused,
        "missed": len(missed),
        "false_positives": len(extra),
        "localization_only": bool(missed) and loose,
    }


def _loose(missed: list[Object], extra: list[Object]) -> int:
    """How many of the missed objects have an extra box of their label that lies near, each used once."""
    overlap, free = iou(extra, missed), set(range(len(extra)))
    for t, o in enumerate(missed):
        near = [p for p in free if extra[p].label == o.label and overlap[p, t] >= LOOSE]
        if near:
            free.remove(max(near, key=lambda p: overlap[p, t]))
    return len(extra) - len(free)


def gap(task: str, exact: Sample, close: Sample) -> float:
    """How far the answers of two models to an image are apart, from 0 to 1, whatever the truth: half the sum of the
    differences of the scores; of objects 1 less the IoU of what both found, over all that either shows.
    """
    if task == "classify":
        a, b = exact.scores or {}, close.scores or {}
        return sum(abs(a.get(label, 0.0) - b.get(label, 0.0)) for label in a.keys() | b.keys()) / 2
    total = len(exact.objects) + len(close.objects)
    overlap = iou(close.objects, exact.objects)
    both = match(exact.objects, close.objects)
    return 1 - 2 * float(sum(overlap[p, t] for t, p in both.items())) / total if total else 0.0


def differ(task: str, exact: Sample, close: Sample) -> bool:
    """Whether one of two models gives another label, or an object that the other one does not."""
    if task == "classify":
        return exact.label != close.label
    return 2 * len(match(exact.objects, close.objects)) < len(exact.objects) + len(close.objects)


def uncertainty(task: str, predicted: Sample) -> float:
    """From 0 to 1: the entropy of the scores over that of a guess; of objects that of the least certain one."""
    if task == "classify":
        scores = np.array(list((predicted.scores or {}).values()))
        return _entropy(scores) / math.log(len(scores)) if len(scores) > 1 else 0.0
    each = [_entropy(np.array([o.score, 1 - o.score])) / math.log(2) for o in predicted.objects if o.score is not None]
    return max(each, default=0.0)


def _entropy(shares: np.ndarray) -> float:
    known = shares[shares > 0]
    return float(-(known * np.log(known)).sum())


def ranks(values: Sequence[float]) -> list[int]:
    """The place of each, 1 for the highest; equal ones in their order.

    >>> ranks([0.1, 0.9, 0.9])
    [3, 1, 2]
    """
    places = [0] * len(values)
    for place, i in enumerate(sorted(range(len(values)), key=lambda i: -values[i]), 1):
        places[i] = place
    return places


def uncertain_ones(images: int) -> int:
    """How many of so many images the view "most uncertain" has.

    >>> uncertain_ones(8), uncertain_ones(1000)
    (8, 100)
    """
    return min(images, max(FEWEST, round(UNCERTAIN * images)))

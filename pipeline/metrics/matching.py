"""Which predicted object is which true one, and what follows: confusion with background, landmark errors."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core import face68
from pipeline.core.sample import Object, Sample
from pipeline.metrics.coco_match import box_iou

MATCH_IOU = 0.5
PCK_SIDE = 0.1  # of the longer side of the true box
BACKGROUND = "(background)"
Pair = tuple[Object, Object | None, int, int]  # truth, prediction, width and height of the image in pixels


def iou(predicted: list[Object], truth: list[Object]) -> NDArray[np.float64]:
    """[P, T] intersection over union; for a crowd, over the predicted box alone (COCO's rule for crowds).

    >>> left, whole = Object("cow", (0, 0, 0.5, 1)), Object("cow", (0, 0, 1, 1))
    >>> iou([left, whole], [whole]).tolist()
    [[0.5], [1.0]]
    """
    if not predicted or not truth:
        return np.zeros((len(predicted), len(truth)))
    found, gold = (np.array([o.box for o in objects], dtype=np.float64) for objects in (predicted, truth))
    return box_iou(found[:, None], gold[None], np.array([o.crowd for o in truth]))


def match(
    truth: list[Object], predicted: list[Object], by_label: bool = True, least: float = MATCH_IOU
) -> dict[int, int]:
    """Index of the true object -> index of its prediction, at an IoU of `least` or more, each used once, crowds never.

    Greedy as in COCO: predictions by falling score, each takes the free true object it overlaps most. With
    `by_label` only objects of one label match.

    >>> truth = [Object("cow", (0, 0, 0.5, 0.5)), Object("goat", (0.5, 0.5, 0.5, 0.5))]
    >>> found = [Object("goat", (0.5, 0.5, 0.5, 0.4), score=0.9), Object("goat", (0, 0, 0.5, 0.5), score=0.8)]
    >>> match(truth, found), match(truth, found, by_label=False)
    ({1: 0}, {1: 0, 0: 1})
    """
    overlap = iou(predicted, truth)
    found: dict[int, int] = {}
    for p in sorted(range(len(predicted)), key=lambda p: -(predicted[p].score or 0)):
        free = [
            t
            for t, o in enumerate(truth)
            if t not in found
            and not o.crowd
            and overlap[p, t] >= least
            and (not by_label or o.label == predicted[p].label)
        ]
        if free:
            found[max(free, key=lambda t: overlap[p, t])] = p
    return found


def object_pairs(truth: list[Sample], predicted: list[Sample]) -> list[Pair]:
    """Every true object but crowds, with its prediction or None (see `match`) and its image's size.

    >>> truth = Sample("a", "a.jpg", 8, 6, objects=[Object("cow", (0, 0, 0.5, 0.5))])
    >>> [(t.label, p, width, height) for t, p, width, height in object_pairs([truth], [Sample("a", "a.jpg", 8, 6)])]
    [('cow', None, 8, 6)]
    """
    pairs: list[Pair] = []
    for t, p in zip(truth, predicted, strict=True):
        found = match(t.objects, p.objects)
        for i, o in enumerate(t.objects):
            if not o.crowd:
                pairs.append((o, p.objects[found[i]] if i in found else None, t.width, t.height))
    return pairs


def confusion(truth: list[Sample], predicted: list[Sample]) -> Counter[tuple[str, str]]:
    """(true label, predicted label) -> how many objects, matched whatever their labels.

    A missed object counts as predicted BACKGROUND, a prediction of nothing as true BACKGROUND. What lies half or
    more in a crowd of its own label is not a mistake and is left out.

    >>> near, far = (0, 0, 0.5, 0.5), (0.5, 0.5, 0.5, 0.5)
    >>> truth = Sample("a", "a.jpg", 8, 8, objects=[Object("cow", near), Object("cow", far)])
    >>> found = Sample("a", "a.jpg", 8, 8, objects=[Object("goat", near, score=0.9)])
    >>> dict(confusion([truth], [found]))
    {('cow', 'goat'): 1, ('cow', '(background)'): 1}
    """
    counts: Counter[tuple[str, str]] = Counter()
    for sample, prediction in zip(truth, predicted, strict=True):
        shown = prediction.objects
        found = match(sample.objects, shown, by_label=False)
        for t, o in enumerate(sample.objects):
            if not o.crowd:
                counts[o.label, shown[found[t]].label if t in found else BACKGROUND] += 1
        for extra in of_nothing(sample.objects, shown, found):
            counts[BACKGROUND, extra.label] += 1
    return counts


def of_nothing(truth: list[Object], predicted: list[Object], found: dict[int, int]) -> list[Object]:
    """The predicted objects that no true one was matched with (`found`, from `match`), and that are a mistake: those
    that lie half or more in a crowd of their own label are none.

    >>> herd = Object("cow", (0, 0, 1, 1), crowd=True)
    >>> [o.label for o in of_nothing([herd], [Object(label, (0, 0, 1, 1), score=0.9) for label in ("cow", "goat")], {})]
    ['goat']
    """
    overlap = iou(predicted, truth)
    crowds = [t for t, o in enumerate(truth) if o.crowd]
    return [
        predicted[p]
        for p in sorted(set(range(len(predicted))) - set(found.values()))
        if not any(overlap[p, t] >= MATCH_IOU and truth[t].label == predicted[p].label for t in crowds)
    ]


@dataclass(frozen=True, slots=True)
class LandmarkErrors:
    """`nme`: normalised mean error, None if no object is matched; `pck`: share of correct landmarks, None if
    the truth has none. `matched` and `missed` count the true objects that have landmarks.
    """

    nme: float | None
    pck: float | None
    matched: int
    missed: int


def landmark_errors(pairs: list[Pair]) -> LandmarkErrors:
    """How far the predicted landmarks are from the true ones.

    NME: pixels between a true landmark and the predicted one over sqrt(w * h) of the true box, the mean over the
    landmarks of an object and then over the matched objects; missed objects are not in it, but counted. PCK at
    0.1: the share of all true landmarks, those of missed objects included, that lie within 0.1 of the longer side
    of the true box (Yang and Ramanan, 2013). Hidden landmarks count, absent ones do not.

    >>> from pipeline.core.sample import Landmark
    >>> truth = Object("face", (0, 0, 1, 1), [Landmark(0.5, 0.5), Landmark(0.2, 0.2)])
    >>> found = Object("face", (0, 0, 1, 1), [Landmark(0.5, 0.7), Landmark(0.2, 0.2)])
    >>> errors = landmark_errors([(truth, found, 100, 100)])
    >>> round(errors.nme, 3), errors.pck
    (0.1, 0.5)
    """
    errors, right, total, missed = [], 0, 0, 0
    for truth, prediction, width, height in pairs:
        known = [i for i, p in enumerate(truth.landmarks) if p.visibility]
        w, h = truth.box[2] * width, truth.box[3] * height
        if not known or w <= 0 or h <= 0:
            continue
        total += len(known)
        if prediction is None or not prediction.landmarks:
            missed += 1
            continue
        distances = [_distance(truth, prediction, i, width, height) for i in known]
        right += sum(d <= PCK_SIDE * max(w, h) for d in distances)
        errors.append(sum(distances) / len(known) / math.sqrt(w * h))
    nme = sum(errors) / len(errors) if errors else None
    return LandmarkErrors(nme, right / total if total else None, len(errors), missed)


def interocular_error(pairs: list[Pair]) -> float | None:
    """NME of 68-point faces as papers on 300-W give it: over the distance of the outer eye corners instead of the
    box (Sagonas et al., 2013). Faces that are missed, or have a corner that is absent, are not in it.
    """
    errors = []
    left, right = face68.EYE_CORNERS
    for truth, prediction, width, height in pairs:
        known = [i for i, p in enumerate(truth.landmarks) if p.visibility]
        if prediction is None or not prediction.landmarks or not {left, right} <= set(known):
            continue
        a, b = truth.landmarks[left], truth.landmarks[right]
        if apart := math.hypot((a.x - b.x) * width, (a.y - b.y) * height):
            distances = [_distance(truth, prediction, i, width, height) for i in known]
            errors.append(sum(distances) / len(known) / apart)
    return sum(errors) / len(errors) if errors else None


def _distance(truth: Object, prediction: Object, i: int, width: int, height: int) -> float:
    a, b = truth.landmarks[i], prediction.landmarks[i]
    return math.hypot((a.x - b.x) * width, (a.y - b.y) * height)

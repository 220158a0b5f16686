"""Whether a score of 0.8 is right in 8 of 10 cases: calibration errors, and what a reliability diagram shows."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.calibrated import worth
from pipeline.core.sample import Sample
from pipeline.metrics.matching import MATCH_IOU, iou, match, of_nothing
from pipeline.metrics.metrics import DIGITS, one_object

BINS = {"classify": 15, "detect": 25}  # of equal width, as in the papers that the errors are from
TOUCHES = 1e-9  # IoU

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scored:
    """N answers: their labels, `score` [N] and `right` [N] from 0 to 1, how right each one is."""

    label: list[str]
    score: Floats
    right: Floats


def scored(task: str, truth: list[Sample], predicted: list[Sample], least: float = MATCH_IOU) -> Scored:
    """The answers of a classifier, one an image, right (1) or not (0); of a localizer, right where there is an object;
    or a detector's objects, whose `right` is the IoU with the true object of their label that they are matched with, 0
    where it is under `least`. What lies in a crowd of its label is left out. Both lists are in one order.

    >>> truth = [Sample(i, "a.jpg", 8, 8, label="cow") for i in "ab"]
    >>> said = [Sample(i, "a.jpg", 8, 8, label=label, scores={label: 0.8}) for i, label in zip("ab", ("cow", "goat"))]
    >>> answers = scored("classify", truth, said)
    >>> answers.score.tolist(), answers.right.tolist()
    ([0.8, 0.8], [1.0, 0.0])
    """
    rows: list[tuple[str, float, float]] = []
    for t, p in zip(truth, predicted, strict=True):
        if task == "classify":
            label = str(p.label)
            rows.append((label, (p.scores or {})[label], float(t.label == p.label)))
            continue
        if task == "localize":
            rows += [(o.label, o.score or 0.0, float(one_object(t) is not None)) for o in p.objects]
            continue
        found, overlap = match(t.objects, p.objects, least=least), iou(p.objects, t.objects)
        rows += [(p.objects[k].label, p.objects[k].score or 0.0, float(overlap[k, i])) for i, k in found.items()]
        rows += [(o.label, o.score or 0.0, 0.0) for o in of_nothing(t.objects, p.objects, found)]
    labels, scores, right = zip(*rows, strict=True) if rows else ((), (), ())
    return Scored(list(labels), np.array(scores, np.float64), np.array(right, np.float64))


def reliability(answers: Scored, bins: int) -> list[tuple[float, float, int, float, float]]:
    """Of each of `bins` ranges of scores, equally wide, that has answers: from, to, how many answers, their mean score,
    and how right they are in the mean.

    >>> reliability(Scored(["cow"] * 3, np.array([0.5, 0.75, 1.0]), np.array([1.0, 0.0, 1.0])), 2)
    [(0.5, 1.0, 3, 0.75, 0.6666666666666666)]
    """
    place = np.clip((answers.score * bins).astype(int), 0, bins - 1)
    rows = []
    for b in np.unique(place).tolist():
        own = place == b
        means = float(answers.score[own].mean()), float(answers.right[own].mean())
        rows.append((b / bins, (b + 1) / bins, int(own.sum()), *means))
    return rows


def binned_error(answers: Scored, bins: int) -> float | None:
    """The mean distance of score and rightness over the ranges, weighted by their answers; None without any.

    Of a classifier ECE (Guo et al., 2017), of a detector's objects at an IoU of 0.5 D-ECE (Kueppers et al., 2020).

    >>> binned_error(Scored(["cow"] * 2, np.array([0.75, 0.75]), np.array([1.0, 0.0])), 10)
    0.25
    """
    if not len(answers.score):
        return None
    return sum(n * abs(score - right) for _, _, n, score, right in reliability(answers, bins)) / len(answers.score)


def calibration(
    task: str,
    truth: list[Sample],
    predicted: list[Sample],
    score: float | None,
    fit: Mapping[str, Any] | None = None,
) -> tuple[dict[str, Any], list[tuple[float, float, int, float, float]]]:
    """For metrics.json, and the rows of a reliability diagram (see `reliability`); both lists are in one order.

    Of a classifier `ECE`; of a detector's objects from `score` on `D_ECE`, and `LaECE` and `LaACE`, where an object is
    as right as its IoU, however small (Kuzucu et al., 2024, https://arxiv.org/abs/2405.20459, with a threshold of 0):
    in ranges of scores and object by object, the mean over the labels that are predicted. With a `fit` (of
    `core.calibrated.worth`) all of it is of what the scores are worth, and `raw` has the errors of the scores.

    >>> truth = [Sample(i, "a.jpg", 8, 8, label="cow") for i in "ab"]
    >>> said = [Sample(i, "a.jpg", 8, 8, label=label, scores={label: 0.75}) for i, label in zip("ab", ("cow", "goat"))]
    >>> calibration("classify", truth, said, None)[0]
    {'ECE': 0.25, 'answers': 2, 'bins': 15}
    """
    bins, answers = BINS[task], scored(task, truth, predicted)
    answers = Scored(answers.label, answers.score, (answers.right > 0).astype(np.float64))
    touching = answers if task == "classify" else scored(task, truth, predicted, TOUCHES)
    told = _worth(answers, fit)
    errors = _errors(task, told, _worth(touching, fit))
    figures: dict[str, Any] = {} if task == "classify" else {"score": score}
    figures |= {**errors, "answers": len(answers.score), "bins": bins}
    if fit is not None:
        figures["raw"] = _errors(task, answers, touching)
    return figures, reliability(told, bins)


def _errors(task: str, answers: Scored, touching: Scored) -> dict[str, float | None]:
    """The errors of `answers`, that are right or not, and of `touching`, that are as right as their IoU."""
    bins, each = BINS[task], _by_label(touching)
    if task == "classify":
        errors = {"ECE": binned_error(answers, bins)}
    else:
        errors = {
            "D_ECE": binned_error(answers, bins),
            "LaECE": _mean([binned_error(own, bins) for own in each]),
            "LaACE": _mean([float(np.abs(own.score - own.right).mean()) for own in each]),
        }
    return {name: None if error is None else round(error, DIGITS) for name, error in errors.items()}


def _worth(answers: Scored, fit: Mapping[str, Any] | None) -> Scored:
    if fit is None:
        return answers
    return replace(answers, score=np.array([worth(float(score), fit) for score in answers.score], np.float64))


def _by_label(answers: Scored) -> list[Scored]:
    names = np.array(answers.label)
    each = [(label, names == label) for label in sorted(set(answers.label))]
    return [Scored([label], answers.score[own], answers.right[own]) for label, own in each]


def _mean(values: list[Any]) -> float | None:
    return sum(values) / len(values) if values else None

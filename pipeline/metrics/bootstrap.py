"""Where a figure would lie on other images of the same kind: the bootstrap, by images that are drawn anew."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.coco_ap import resampled_ap
from pipeline.metrics.coco_match import Matches, matches
from pipeline.metrics.matching import LandmarkErrors, iou, landmark_errors, object_pairs
from pipeline.metrics.metrics import DIGITS, one_object

Floats = NDArray[np.float64]
Counts = NDArray[np.int32]
Resampled = Callable[[Counts], dict[str, Floats]]
REPLICATES, SEED, LEVEL = 1000, 0, 0.95
WITHIN_95 = 1.96  # standard errors
AT_ONCE = 1_000_000  # numbers of samples that are held in one step


@dataclass(frozen=True, slots=True)
class Draws:
    """`weights` [I, R]: how often each of I images is in each of R samples, that have as many groups as there are.
    `unit` is what is drawn: "group", or "image" where none of them has a group or clip.
    """

    weights: NDArray[np.uint8]  # nothing is drawn 256 times: with n groups it is once on average
    unit: str
    groups: int


def drawn_with(sample: Sample) -> tuple[str, str]:
    """What an image is drawn together with, its kind and name; of no kind where it is alone.

    >>> drawn_with(Sample("a", "a.jpg", 8, 8, clip="1")), drawn_with(Sample("a", "a.jpg", 8, 8))
    (('clip', '1'), ('', 'a'))
    """
    if sample.group:
        return "group", sample.group
    return ("clip", sample.clip) if sample.clip else ("", sample.id)


def draws(truth: list[Sample], replicates: int = REPLICATES) -> Draws:
    """Samples with replacement, always the same ones for the same images. Images of a group or clip are alike and are
    drawn together.

    >>> frames = [Sample(i, "a.jpg", 8, 8, clip=clip) for i, clip in (("a", "1"), ("b", "1"), ("c", "2"))]
    >>> drawn = draws(frames, 100)
    >>> drawn.unit, drawn.groups, np.unique(drawn.weights[:2] + drawn.weights[2]).tolist()
    ('group', 2, [2])
    """
    names = [drawn_with(s) for s in truth]
    index = {name: i for i, name in enumerate(dict.fromkeys(names))}
    place, groups = np.array([index[name] for name in names], np.int64), len(index)
    weights, random = np.empty((len(truth), replicates), np.uint8), np.random.default_rng(SEED)
    for part in _parts(groups, replicates):
        count = part.stop - part.start
        drawn = random.integers(0, max(1, groups), (count, groups))
        drawn += np.arange(count)[:, None] * groups
        times = np.bincount(drawn.ravel(), minlength=count * groups).reshape(count, groups)
        weights[:, part] = times[:, place].T
    return Draws(weights, "group" if any(kind for kind, _ in names) else "image", groups)


def _parts(rows: int, replicates: int) -> list[slice]:
    """The replicates in parts whose numbers, `rows` each, are held at once."""
    step = max(1, AT_ONCE // max(1, rows))
    return [slice(start, min(start + step, replicates)) for start in range(0, replicates, step)]


def resampled(
    task: str, truth: list[Sample], predicted: list[Sample], dataset: Dataset, weights: NDArray[np.integer]
) -> dict[str, Floats]:
    """[R] of each figure of the task that has an interval, over R samples of the images with `weights` [I, R]; NaN
    where it is not defined. Objects are matched once, and the matches drawn. Both lists are in one order.

    >>> truth = [Sample(i, "a.jpg", 8, 8, label="cow") for i in "ab"]
    >>> said = [truth[0], Sample("b", "a.jpg", 8, 8, label="goat")]
    >>> found = resampled("classify", truth, said, Dataset("herd", ["cow", "goat"]), np.array([[1, 2], [1, 1]]))
    >>> found["accuracy"].round(3).tolist()
    [0.5, 0.667]
    """
    figures = {"classify": _classify, "detect": _detect, "localize": _localize}[task](truth, predicted, dataset)
    parts = [figures(weights[:, part].astype(np.int32)) for part in _parts(len(truth), weights.shape[1])]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def intervals(
    task: str, truth: list[Sample], predicted: list[Sample], dataset: Dataset, figures: Mapping[str, Any]
) -> dict[str, Any]:
    """For metrics.json, whose `figures` are: `intervals`, of each figure that has one where it lies with 95 %
    confidence, and `bootstrap`, how they were found. `lacking_a_label` counts the samples that have no true one of a
    label that the images have: their mean over labels is of the others.

    >>> truth = [Sample(str(i), "a.jpg", 8, 8, label="cow") for i in range(100)]
    >>> said = [Sample(str(i), "a.jpg", 8, 8, label="goat" if i < 20 else "cow") for i in range(100)]
    >>> found = intervals("classify", truth, said, Dataset("herd", ["cow", "goat"]), {"accuracy": 0.8})
    >>> [round(end, 2) for end in found["intervals"]["accuracy"]], found["bootstrap"]["unit"]
    ([0.72, 0.88], 'image')
    """
    drawn = draws(truth)
    found = resampled(task, truth, predicted, dataset, drawn.weights)
    return {
        "intervals": {
            name: _within(name, figures[name], found[name], drawn.groups)
            for name in found
            if figures.get(name) is not None
        },
        "bootstrap": {
            "replicates": REPLICATES,
            "unit": drawn.unit,
            "groups": drawn.groups,
            "level": LEVEL,
            "seed": SEED,
            "lacking_a_label": _lacking(truth, drawn.weights),
        },
    }


def interval(figure: float, samples: Floats, groups: int) -> list[float] | None:
    """Where a `figure`, or the difference of two, lies with 95 % confidence, by its values on samples of the images
    (NaN where it is not defined); None of less than two groups.

    The percentiles of the samples (Efron, 1979), moved by as much as their mean is beside the figure: AP is higher on
    samples with copies, as precision is taken as the highest at any higher recall. `benchmarks/intervals.py` measures
    how often it holds.

    >>> interval(0.5, np.array([0.5, 0.6, 0.7] * 40), 120)
    [0.4, 0.6]
    """
    known = samples[~np.isnan(samples)]
    if groups < 2 or not known.size:
        return None
    ends = np.quantile(known, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) + (figure - known.mean())
    return [round(float(end), DIGITS) + 0.0 for end in ends]


def half_width(apart: Floats, groups: int) -> float:
    """Half of what holds the difference of two models' figures with 95 % confidence, where little may not be taken for
    certain; `apart` are the differences on samples of so many images, or groups of them.

    To the variance of the samples comes that of one image lost and one gained (as Bonett and Price, 2012, count them):
    where both models answer a dozen images alike all samples are alike too, and yet a dozen says little.

    >>> round(half_width(np.zeros(1000), 100), 3)
    0.027
    """
    return WITHIN_95 * math.sqrt(float(np.nanvar(apart)) + 2 / (groups + 2) ** 2)


def _within(name: str, figure: float, samples: Floats, groups: int) -> list[float] | None:
    """The interval of a figure, within the figures that there are. Where every image is right, or none, all samples
    are alike, and yet a few images say little: there it is that of Clopper and Pearson (1934)."""
    found = interval(figure, samples, groups)
    if found is None:
        return None
    low, high = max(0.0, found[0]), found[1] if name == "nme" else min(1.0, found[1])
    if name != "nme" and low == high and figure in (0.0, 1.0):
        furthest = round(((1 - LEVEL) / 2) ** (1 / groups), DIGITS)
        return [furthest, 1.0] if figure else [0.0, round(1 - furthest, DIGITS)]
    return [low, high]


def _lacking(truth: list[Sample], weights: NDArray[np.integer]) -> int:
    """How many samples of the images lack a label that the images have."""
    images: dict[str, list[int]] = {}
    for i, sample in enumerate(truth):
        for label in {sample.label, *(o.label for o in sample.objects if not o.crowd)} - {None}:
            images.setdefault(str(label), []).append(i)
    lacks = np.zeros(weights.shape[1], bool)
    for part in _parts(len(truth), weights.shape[1]):
        for own in images.values():
            lacks[part] |= ~weights[own, part].any(axis=0)
    return int(lacks.sum())


def _classify(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> Resampled:
    index = {label: k for k, label in enumerate(dataset.labels)}
    true, said = (np.array([index[str(s.label)] for s in samples], np.int64) for samples in (truth, predicted))
    right = true == said

    def figures(weights: Counts) -> dict[str, Floats]:
        hits = _by_label(true[right], weights[right], len(index))
        both = _by_label(true, weights, len(index)) + _by_label(said, weights, len(index))
        f1 = np.divide(2 * hits, both, out=np.full_like(hits, np.nan), where=both > 0)
        return {"accuracy": _ratio(right, np.ones(len(truth)), weights), "macro_f1": _mean_of_known(f1)}

    return figures


def _detect(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> Resampled:
    boxes, points, errors = matches(truth, predicted, dataset), list[Matches](), list[LandmarkErrors]()
    if dataset.landmarks:
        points = matches(truth, predicted, dataset, "keypoints")
        errors = [landmark_errors(object_pairs([t], [p])) for t, p in zip(truth, predicted, strict=True)]

    def figures(weights: Counts) -> dict[str, Floats]:
        ap = resampled_ap(boxes, weights)
        found = {"AP": _mean_of_known(ap.mean(axis=0)), "AP50": _mean_of_known(ap[0])}
        if dataset.landmarks:
            found["landmark_AP"] = _mean_of_known(resampled_ap(points, weights).mean(axis=0))
            found["nme"] = _nme(errors, weights)
        return found

    return figures


def _localize(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> Resampled:
    pairs = [(one_object(t), one_object(p), t.width, t.height) for t, p in zip(truth, predicted, strict=True)]
    present = np.array([o is not None for o, *_ in pairs])
    overlap = np.array([float(iou([p], [o])[0, 0]) if o and p else 0.0 for o, p, *_ in pairs])
    agreed = np.array([(o is None) == (p is None) for o, p, *_ in pairs])
    errors = [landmark_errors([(o, p, w, h)] if o else []) for o, p, w, h in pairs] if dataset.landmarks else []

    def figures(weights: Counts) -> dict[str, Floats]:
        found = {
            "mean_iou": _ratio(overlap, present, weights),
            "presence_accuracy": _ratio(agreed, np.ones(len(pairs)), weights),
        }
        return found | {"nme": _nme(errors, weights)} if dataset.landmarks else found

    return figures


def _nme(errors: list[LandmarkErrors], weights: Counts) -> Floats:
    total = np.array([(e.nme or 0.0) * e.matched for e in errors])
    return _ratio(total, np.array([e.matched for e in errors]), weights)


def _ratio(part: NDArray[Any], whole: NDArray[Any], weights: Counts) -> Floats:
    """[R] sums of `part` [I] over those of `whole` [I], which count the objects or images that there are."""
    count = np.asarray(whole, np.float64) @ weights
    total = np.asarray(part, np.float64) @ weights
    return np.divide(total, count, out=np.full_like(count, np.nan), where=count > 0)


def _by_label(label: NDArray[np.int64], weights: Counts, labels: int) -> Floats:
    """[K, R] sums of the rows of `weights` [I, R] by the `label` [I] of each."""
    found = np.zeros((labels, weights.shape[1]))
    order = np.argsort(label, kind="stable")
    there, starts = np.unique(label[order], return_index=True)
    if len(there):
        found[there] = np.add.reduceat(weights[order], starts, axis=0)
    return found


def _mean_of_known(values: Floats) -> Floats:
    """[R] means over the labels, [K, R], that are not NaN; NaN where all are."""
    known = ~np.isnan(values)
    count = known.sum(axis=0)
    total = np.where(known, values, 0).sum(axis=0)
    return np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)

"""COCO's average precision on Samples: the numbers of pycocotools, without its wait."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.coco_match import IOUS, Matches, matches

RECALLS = np.linspace(0, 1, 101)  # where COCO reads precision
EPSILON = np.spacing(1)  # that COCO adds to the number of predictions
Counts = NDArray[np.integer]
AT_ONCE = 2_000_000  # numbers that are resampled in one step: they stay near the processor


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What COCO accumulates, -1 where there is no truth: `precision` [10 IoUs 0.50 to 0.95, 101 recalls, K labels]
    and `recall` [10, K], over objects of any area or one size, at most 100 of a label per image (20 for landmarks)."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def ap(self, label: int | None = None, iou: int | None = None) -> float | None:
        """Mean precision, of one label index or all, at one IoU index or all; None without truth to find."""
        part = self.precision if label is None else self.precision[..., label : label + 1]
        return _mean(part if iou is None else part[iou])

    def ar(self) -> float | None:
        """Mean over labels and IoUs of the recall that is reached."""
        return _mean(self.recall)


def evaluate(
    truth: list[Sample], predicted: list[Sample], dataset: Dataset, kind: str = "bbox", size: str | None = None
) -> Evaluation:
    """COCO's evaluation of boxes (`kind` "bbox") or of landmarks by their object keypoint similarity ("keypoints"); of
    boxes also of one `size` alone, a key of `coco_match.AREAS`.

    `truth` and `predicted` are the same images in the same order. Ties between scores of several images are
    broken by that order, as in pycocotools. Method: https://cocodataset.org/#detection-eval.

    >>> from pipeline.core.sample import Object
    >>> truth = Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5))])
    >>> found = Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.4), score=0.9)])
    >>> result = evaluate([truth], [found], Dataset("herd", ["cow"]))  # IoU 0.8: found at 0.50 to 0.75
    >>> round(result.ap(), 3), round(result.ap(iou=0), 3)
    (0.7, 1.0)
    """
    return accumulated(matches(truth, predicted, dataset, kind, size))


def accumulated(of_labels: list[Matches]) -> Evaluation:
    """Precision and recall of matches, of each label by falling score.

    >>> from pipeline.core.sample import Object
    >>> herd = [Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5), score=0.9)])]
    >>> round(accumulated(matches(herd, herd, Dataset("herd", ["cow"]))).ap(), 6)
    1.0
    """
    precision = -np.ones((len(IOUS), len(RECALLS), len(of_labels)))
    recall = -np.ones((len(IOUS), len(of_labels)))
    for k, own in enumerate(of_labels):
        positives = int(own.positives.sum())
        if not positives:
            continue
        right, counted = np.cumsum(own.right, axis=1), np.cumsum(own.counted, axis=1)
        reached = right / positives
        highest = np.maximum.accumulate((right / (counted + EPSILON))[:, ::-1], axis=1)[:, ::-1]
        highest = np.pad(highest, ((0, 0), (0, 1)))  # a recall that is not reached has precision 0
        for t in range(len(IOUS)):
            precision[t, :, k] = highest[t, np.searchsorted(reached[t], RECALLS)]
        recall[:, k] = reached[:, -1] if own.right.size else 0.0
    return Evaluation(precision, recall)


def resampled_ap(of_labels: list[Matches], weights: Counts) -> NDArray[np.float64]:
    """[10, K, R] the AP at each IoU of each label, over R samples of the images: `weights` [I, R] says how often each
    image is in it. NaN where a sample has no truth of the label.

    A sample's AP is COCO's on a dataset that has the images as often, in their order, the copies of one together.

    >>> from pipeline.core.sample import Object
    >>> truth = [Sample(i, "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5))]) for i in "ab"]
    >>> found = [Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5), score=0.9)]), truth[1]]
    >>> found[1] = Sample("b", "a.jpg", 80, 80)
    >>> of_labels = matches(truth, found, Dataset("herd", ["cow"]))
    >>> resampled_ap(of_labels, np.array([[2, 0, 1], [0, 2, 1]]))[0].round(3).tolist()  # both a, both b, one of each
    [[1.0, 0.0, 0.505]]
    """
    found = np.full((len(IOUS), len(of_labels), weights.shape[1]), np.nan)
    weights = weights.astype(np.int32, copy=False)
    for k, own in enumerate(of_labels):
        step = max(1, AT_ONCE // max(1, len(own.image)))
        for start in range(0, weights.shape[1], step):
            found[:, k, start : start + step] = _resampled(own, weights[:, start : start + step])
    return found


def _resampled(own: Matches, weights: Counts) -> NDArray[np.float64]:
    """[10, R] of one label."""
    positives = own.positives @ weights
    row, copy = _rows(own, int(weights.max(initial=0)))
    times = weights[own.image[row]]
    several = copy > 0
    times[several] = times[several] >= copy[several, None]
    all_so_far = np.cumsum(times, axis=0, dtype=np.int32)
    found = np.zeros((len(IOUS), weights.shape[1]))
    for t in range(len(IOUS)):
        at, ignored = np.flatnonzero(own.right[t, row]), np.flatnonzero(~own.counted[t, row])
        so_far = all_so_far[at]
        if len(ignored):
            left_out = np.pad(np.cumsum(times[ignored], axis=0, dtype=np.int32), ((1, 0), (0, 0)))
            so_far -= left_out[np.searchsorted(ignored, at)]
        if len(at):
            found[t] = _area(np.cumsum(times[at], axis=0, dtype=np.int32), so_far, positives)
    return np.where(positives > 0, found, np.nan)


def _area(right: Counts, so_far: Counts, positives: Counts) -> NDArray[np.float64]:
    """[R] the mean over `RECALLS` of the precision, from the N objects that are right: [N, R] how many are right, and
    how many predicted, up to each. Between them precision only falls, so no other object matters."""
    highest = np.maximum.accumulate((right / (so_far + EPSILON))[::-1], axis=0)[::-1]
    reached = right / np.maximum(positives, 1)
    steps = (reached * 100 + 1e-9).astype(np.int64)
    steps += RECALLS[steps] <= reached  # how many of RECALLS are reached
    return (highest * np.diff(steps, axis=0, prepend=0)).sum(axis=0) / len(RECALLS)


def _rows(own: Matches, most: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The objects in the order in which copied images have them, and 0, or which copy it is of an image with several
    objects of equal score, one of them right: each copy has all of them, in turn. Of others the copies may stand
    together."""
    alike = (np.diff(own.score, prepend=np.nan) == 0) & (np.diff(own.image, prepend=-1) == 0)
    tie = np.cumsum(~alike) - 1
    several = (np.bincount(tie) > 1) & (np.bincount(tie, own.right.any(0)) > 0)
    number = np.where(several[tie], max(most, 1), 1)
    row = np.repeat(np.arange(len(tie)), number)
    copy = np.arange(len(row)) - np.repeat(np.cumsum(number) - number, number) + 1
    order = np.lexsort((row, copy, tie[row]))
    row, copy = row[order], copy[order]
    return row, np.where(several[tie[row]], copy, 0)


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None

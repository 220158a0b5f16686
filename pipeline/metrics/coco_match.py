"""COCO's matching of predicted objects with true ones, all images and labels at once."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Object, Sample

# The mean of the 17 values that COCO measured for people, used for every landmark: there are none for other objects.
LANDMARK_SIGMA = 0.067
IOUS = np.linspace(0.5, 0.95, 10)
# from and to how many square pixels COCO's sizes reach, both ends among them
AREAS = {"small": (0.0, 32.0**2), "medium": (32.0**2, 96.0**2), "large": (96.0**2, 1e10)}
MOST = {"bbox": 100, "keypoints": 20}  # predicted objects of a label that count in an image, the best ones

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Matches:
    """Of one label: its N predicted objects by falling score, those of equal score in the order of the images.

    `image` [N] is the index of each one's image, `score` [N]; `right` [10, N] says at which of `IOUS` it is a true
    object, `counted` [10, N] where it is not ignored, as what lies in a crowd is. `positives` [I] are the true
    objects to find in each image.
    """

    image: Ints
    score: Floats
    right: Bools
    counted: Bools
    positives: Ints


@dataclass(frozen=True, slots=True)
class _Objects:
    """Of all images, ordered by (`group`, rank in it): a group is a label in an image. Boxes [N, 4] in pixels,
    points [N, L, 3] in pixels with their visibility."""

    group: Ints
    box: Floats
    points: Floats
    score: Floats
    crowd: Bools

    def __getitem__(self, rows: NDArray[np.integer] | Bools) -> "_Objects":
        return _Objects(self.group[rows], self.box[rows], self.points[rows], self.score[rows], self.crowd[rows])


_Overlap = Callable[[_Objects, _Objects, Ints, Ints], Floats]


def matches(
    truth: list[Sample], predicted: list[Sample], dataset: Dataset, kind: str = "bbox", size: str | None = None
) -> list[Matches]:
    """What COCO's evaluation finds for each label, of boxes (`kind` "bbox") or of landmarks ("keypoints").

    With a `size` of `AREAS`, true boxes of another area are ignored, and predicted ones that are no true object.

    `truth` and `predicted` are the same images in the same order. By falling score each prediction takes the true
    object of its label that it overlaps most, of those that are free. A crowd is always free, for what has no other.
    Method: https://cocodataset.org/#detection-eval.

    >>> truth = Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5))])
    >>> found = Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.4), score=0.9)])
    >>> [cows] = matches([truth], [found], Dataset("herd", ["cow"]))  # IoU 0.8
    >>> cows.right.sum(), cows.positives.tolist()
    (np.int64(7), [1])
    """
    images = len(truth)
    landmarks = len(dataset.landmarks) if kind == "keypoints" else 0
    gold = _objects(truth, truth, dataset.labels, landmarks)
    ignored = gold.crowd | (gold.points[..., 2] <= 0).all(1) if kind == "keypoints" else gold.crowd
    if size is not None:
        ignored = ignored | _outside(gold, size)
    order = np.lexsort((ignored, gold.group))
    gold, ignored = gold[order], ignored[order]
    found = _objects(predicted, truth, dataset.labels, landmarks)
    found = found[np.lexsort((-found.score, found.group))]
    found = found[_rank(found.group) < MOST[kind]]
    right, counted = _match(found, gold, ignored, _oks if kind == "keypoints" else _iou)
    if size is not None:
        counted &= right | ~_outside(found, size)
    positives = np.bincount(gold.group[~ignored], minlength=images * len(dataset.labels)).reshape(
        len(dataset.labels), images
    )
    by_score = np.lexsort((-found.score, found.group // images))
    ends = np.searchsorted(found.group[by_score] // images, np.arange(len(dataset.labels) + 1))
    each = [by_score[a:b] for a, b in pairwise(ends)]
    return [
        Matches(found.group[rows] % images, found.score[rows], right[:, rows], counted[:, rows], positives[k])
        for k, rows in enumerate(each)
    ]


def _objects(samples: list[Sample], sized: list[Sample], labels: list[str], landmarks: int) -> _Objects:
    """The objects of `samples` in pixels of the images `sized`, in their order; with 0 `landmarks` without points."""
    index = {label: k * len(samples) for k, label in enumerate(labels)}
    rows = [(i, o) for i, sample in enumerate(samples) for o in sample.objects]
    image = np.array([i for i, _ in rows], np.int64)
    sides = np.array([(s.width, s.height) for s in sized], np.float64).reshape(-1, 2)[image]
    points = np.array([_points(o, landmarks) for _, o in rows] if landmarks else [], np.float64)
    points = points.reshape(len(rows), landmarks, 3)
    points[..., :2] *= sides[:, None]
    return _Objects(
        group=np.array([index[o.label] for _, o in rows], np.int64) + image,
        box=np.array([o.box for _, o in rows], np.float64).reshape(-1, 4) * np.tile(sides, 2),
        points=points,
        score=np.array([o.score or 0.0 for _, o in rows], np.float64),
        crowd=np.array([o.crowd for _, o in rows], bool),
    )


def _outside(objects: _Objects, size: str) -> Bools:
    """[N] whether the area of a box, which is taken for the object's, is not of `size`."""
    low, high = AREAS[size]
    area = objects.box[:, 2] * objects.box[:, 3]
    outside: Bools = (area < low) | (area > high)
    return outside


def _points(o: Object, count: int) -> list[tuple[float, float, int]]:
    return [(p.x, p.y, p.visibility) for p in o.landmarks] or [(0.0, 0.0, 0)] * count


def _rank(group: Ints) -> Ints:
    """The place of each row in its group; `group` is sorted."""
    return np.arange(len(group)) - np.searchsorted(group, group)


def _match(found: _Objects, gold: _Objects, ignored: Bools, overlap: _Overlap) -> tuple[Bools, Bools]:
    """`right` and `counted` [10, N] of the objects `found`. The n-th ones of all groups are matched at once."""
    taken, left_out = (np.zeros((len(found.group), len(IOUS)), bool) for _ in range(2))
    first, last = (np.searchsorted(gold.group, found.group, side) for side in ("left", "right"))
    d = np.repeat(np.arange(len(found.group)), last - first)
    g = np.arange(len(d)) + np.repeat(last - np.cumsum(last - first), last - first)
    overlaps = overlap(found, gold, d, g)
    near = np.flatnonzero(overlaps >= IOUS[0])
    d, g, overlaps = d[near], g[near], overlaps[near]
    candidates, own = np.unique(d, return_inverse=True)
    turn = _rank(found.group[candidates])[own]
    order = np.lexsort((g, overlaps, ~ignored[g], d, turn))  # of an object the best candidate last
    d, g, overlaps, turn = d[order], g[order], overlaps[order], turn[order]
    free = np.ones((len(gold.group), len(IOUS)), bool)
    ends = np.searchsorted(turn, np.arange(turn[-1] + 2 if len(turn) else 1))
    for a, b in pairwise(ends):
        starts = np.flatnonzero(np.diff(d[a:b], prepend=-1))
        possible = (overlaps[a:b, None] >= IOUS) & (free[g[a:b]] | gold.crowd[g[a:b], None])
        best = np.maximum.reduceat(np.where(possible, np.arange(b - a)[:, None], -1), starts)
        who, at = np.nonzero(best >= 0)
        row = a + best[who, at]
        free[g[row], at] = False
        taken[d[row], at] = True
        left_out[d[row], at] = ignored[g[row]]
    return (taken & ~left_out).T, ~left_out.T


def _iou(found: _Objects, gold: _Objects, d: Ints, g: Ints) -> Floats:
    return box_iou(found.box[d], gold.box[g], gold.crowd[g])


def box_iou(found: Floats, gold: Floats, crowd: Bools) -> Floats:
    """Intersection over union of boxes (x, y, w, h), [..., 4] each, which are broadcast; for a crowd, over the
    predicted box alone (COCO's rule for crowds).

    >>> box_iou(np.array([[0, 0, 1, 2.0]] * 2), np.array([[0, 0, 1, 4.0]] * 2), np.array([False, True])).tolist()
    [0.5, 1.0]
    """
    corners = [np.minimum(found[..., i] + found[..., i + 2], gold[..., i] + gold[..., i + 2]) for i in (0, 1)]
    w, h = (np.maximum(corners[i] - np.maximum(found[..., i], gold[..., i]), 0) for i in (0, 1))
    own, other = found[..., 2] * found[..., 3], gold[..., 2] * gold[..., 3]
    union = np.where(crowd, own, own + other - w * h)
    return np.divide(w * h, union, out=np.zeros_like(union), where=(w > 0) & (h > 0))


def _oks(found: _Objects, gold: _Objects, d: Ints, g: Ints) -> Floats:
    """[P] object keypoint similarity; of objects without points, by how far the found ones lie outside of twice the
    box."""
    points, true, box = found.points[d, :, :2], gold.points[g], gold.box[g]
    apart = points - true[..., :2]
    low, high = (box[:, :2] - box[:, 2:])[:, None], (box[:, :2] + box[:, 2:] * 2)[:, None]
    beyond = np.maximum(0, low - points) + np.maximum(0, points - high)
    known = true[..., 2] > 0
    none: Bools = np.asarray(known.sum(1) == 0)
    apart = np.where(none[:, None, None], beyond, apart)
    error = (apart[..., 0] ** 2 + apart[..., 1] ** 2) / (LANDMARK_SIGMA * 2) ** 2
    error = error / (box[:, 2] * box[:, 3] + np.spacing(1))[:, None] / 2
    known |= none[:, None]
    similar, count = np.zeros(len(d)), known.sum(1)
    for n in np.unique(count):  # rows of as many points are summed as COCO sums them: to the last digit
        own = count == n
        similar[own] = np.exp(-error[own][known[own]].reshape(-1, n)).sum(1) / n
    return similar

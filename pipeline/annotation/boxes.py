"""A detector on features of a frozen backbone that learns in seconds, and what it says of images it has not seen.

It is R-CNN's (Girshick et al., 2014) on pooled boxes: a logistic regression says what a box shows, "nothing" as one of
the labels, a ridge regression where its object lies, and boxes of nothing that are taken for something are learned too.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.annotation.crops import (
    NUMBERS,
    Boxes,
    Floats,
    Maps,
    Projection,
    grid,
    inside,
    moved,
    moves,
    of_nothing,
    overlap,
    pooled,
)
from pipeline.annotation.heads import Head, folds_of

COPIES, APART = 6, 0.35  # of each box, moved by up to so much of its sides
CLOSE = 0.6  # IoU from which on a moved box still shows its object
NOTHING = 8  # boxes of nothing an image
ROUNDS, MINED, HARD = 2, 150, 5  # of search for hard ones: on so many images, so many an image
TRIED, SAME = 60, 0.3  # boxes of an image that are looked at twice; IoU from which on two are one
RIDGE = 0.1  # of the number of rows
KEPT = 1_000_000_000  # bytes of the features of grids that stay in memory


@dataclass(slots=True)
class Boxed:
    """An image: maps of it, its boxes on the canvas, the index of each one's label, and boxes of crowds, in which
    nothing is told apart.
    """

    maps: Maps
    boxes: Boxes
    labels: NDArray[np.int64]
    crowds: Boxes

    @property
    def all(self) -> Boxes:
        return np.concatenate([self.boxes, self.crowds])


@dataclass(slots=True)
class Judgement:
    """Of the boxes of an image: probabilities [N, K + 1], the last one of nothing, and where their objects lie [N, 4].
    `found` [M, 4] with `scores` [M, K] are where the head sees something, the surest first.
    """

    said: Floats
    places: Boxes
    found: Boxes
    scores: Floats


class Features:
    """What is the same whatever is learned: numbers for boxes of the images, and for a grid of boxes."""

    def __init__(self, images: list[Boxed], seed: int = 0) -> None:
        self.images, self.rng = images, np.random.default_rng(seed)
        boxes = [b.boxes for b in images]
        self.sizes = np.concatenate([b[:, 2:] - b[:, :2] for b in boxes])
        self.grid = grid(self.sizes)
        self.nothing = [of_nothing(self.rng, image.all, self.sizes, NOTHING) for image in images]
        self.copies = [self._jittered(b) for b in boxes]
        some = [
            pooled(image.maps, np.concatenate([image.boxes, copies[:COPIES], nothing[: NOTHING // 2]]))
            for image, copies, nothing in zip(images, self.copies, self.nothing, strict=True)
        ]
        self._project = Projection(np.concatenate(some), NUMBERS)
        self._grids: dict[int, Floats] = {}
        self._kept = 0  # bytes of them

    def of(self, image: int, boxes: Boxes) -> Floats:
        """[N, D]."""
        return self._project(pooled(self.images[image].maps, boxes))

    def of_grid(self, image: int) -> Floats:
        found = self._grids.get(image)
        if found is None:
            found = self.of(image, self.grid)
            if self._kept + found.nbytes <= KEPT:
                self._kept += found.nbytes
                self._grids[image] = found
        return found

    def _jittered(self, boxes: Boxes) -> Boxes:
        repeated = np.repeat(boxes, COPIES, axis=0)
        return moved(repeated, self.rng.uniform(-APART, APART, (len(repeated), 4)))


class BoxHead:
    """Learns the images `learned` of `features`, whose labels are 0 to `count` - 1."""

    def __init__(self, features: Features, learned: Sequence[int], count: int) -> None:
        self._features, self._count = features, count
        rows, labels, wanted = [], [], []
        for i in learned:
            image, copies = features.images[i], features.copies[i]
            truth = np.repeat(image.boxes, COPIES, axis=0)
            close = np.array([overlap(a[None], b[None])[0, 0] for a, b in zip(copies, truth, strict=True)]) > CLOSE
            numbers = features.of(i, np.concatenate([copies, image.boxes, features.nothing[i]]))
            wanted.append((numbers[: len(copies)], moves(copies, truth)))
            kept = np.concatenate([close, np.ones(len(numbers) - len(copies), bool)]) if len(copies) else slice(None)
            rows.append(numbers[kept])
            names = np.concatenate([np.repeat(image.labels, COPIES), image.labels])
            labels.append(np.concatenate([names, np.full(len(features.nothing[i]), count)])[kept])
        self._fit_places(np.concatenate([a for a, _ in wanted]), np.concatenate([b for _, b in wanted]))
        self._fit_labels(rows, labels, learned)

    def _fit_places(self, rows: Floats, wanted: Boxes) -> None:
        self._middle, self._mean = rows.mean(axis=0), wanted.mean(axis=0)
        x = (rows - self._middle).astype(np.float64)
        ridge = RIDGE * len(x) * np.eye(x.shape[1])
        self._weights = np.linalg.solve(x.T @ x + ridge, x.T @ (wanted - self._mean))

    def _fit_labels(self, rows: list[Floats], labels: list[NDArray[np.int64]], learned: Sequence[int]) -> None:
        features = self._features
        mined = features.rng.permutation(np.array(learned))[:MINED]
        for turn in range(ROUNDS + 1):
            self.head = Head(np.concatenate(rows), np.concatenate(labels), self._count + 1)
            if turn == ROUNDS:
                return
            for i in mined.tolist():
                numbers = features.of_grid(i)
                sure = 1 - self.head(numbers)[:, self._count]
                sure[overlap(features.grid, features.images[i].all).max(axis=1, initial=0) >= SAME] = 0
                hard = np.argsort(-sure)[:HARD]
                hard = hard[sure[hard] > 0.3]
                rows.append(numbers[hard])
                labels.append(np.full(len(hard), self._count))

    def places(self, boxes: Boxes, numbers: Floats) -> Boxes:
        """Where the objects of `boxes` lie, by their features."""
        return moved(boxes, (numbers - self._middle) @ self._weights + self._mean)

    def __call__(self, image: int) -> Judgement:
        import torch
        from torchvision.ops import nms

        features, boxes = self._features, self._features.images[image].boxes
        numbers, all_over = features.of(image, boxes), features.of_grid(image)
        tried = np.argsort(self.head(all_over)[:, self._count])[:TRIED]
        found = self.places(features.grid[tried], all_over[tried])
        said = self.head(features.of(image, found))
        sure = torch.from_numpy(1 - said[:, self._count])
        kept = nms(torch.from_numpy(found.astype(np.float32)), sure, SAME).numpy()
        judged, labels = self.head(numbers), features.images[image].labels
        unknown = np.flatnonzero(~np.isin(labels, self.head.known))
        judged[unknown] = np.eye(self._count + 1, dtype=np.float32)[labels[unknown]]
        return Judgement(judged, self.places(boxes, numbers), found[kept], said[kept, : self._count])


def judge(images: list[Boxed], groups: Sequence[str], count: int) -> list[Judgement]:
    """Each image by a head that has seen none of its group. Labels are 0 to `count` - 1; one that no other group has
    cannot be judged, and is taken for sure. Two groups must have boxes.
    """
    features, folds = Features(images), _folds(images, groups)
    judged: dict[int, Judgement] = {}
    with tqdm(total=len(images), desc="judge", unit="image", mininterval=0.5, disable=None) as bar:
        for number, fold in enumerate(kinds := np.unique(folds), 1):
            bar.set_postfix_str(f"learns fold {number} of {len(kinds)}")
            head = BoxHead(features, np.flatnonzero(folds != fold).tolist(), count)
            bar.set_postfix_str(f"fold {number} of {len(kinds)}")
            for i in np.flatnonzero(folds == fold).tolist():
                judged[i] = head(i)
                bar.update()
    return [judged[i] for i in range(len(images))]


def _folds(images: list[Boxed], groups: Sequence[str]) -> NDArray[np.int64]:
    """As `folds_of`, groups with a box apart from the others, so that no fold has all boxes."""
    names = np.array(groups)
    has_boxes = np.isin(names, [name for name, image in zip(groups, images, strict=True) if len(image.boxes)])
    folds = np.zeros(len(names), np.int64)
    for some in (has_boxes, ~has_boxes):
        if some.any():
            folds[some] = folds_of(names[some].tolist())
    return folds


def unlabelled(judgement: Judgement, boxes: Boxes) -> NDArray[np.int64]:
    """Which of `found` are of nothing that has a box: neither one of `boxes`, nor a part of one."""
    apart = overlap(judgement.found, boxes).max(axis=1, initial=0) < SAME
    return np.flatnonzero(apart & (inside(judgement.found, boxes).max(axis=1, initial=0) < CLOSE))

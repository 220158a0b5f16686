"""Whether choosing pays here: what is labelled, played through again with the choice and with chance."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from pipeline.annotation.choice import Taken, typical, uncertain
from pipeline.annotation.doubts import entropy
from pipeline.annotation.heads import Head

SEEDS, ROUNDS = 5, 4
FEW = 20  # labels a class, below which typical images are chosen
LEAST = 60  # images without which nothing can be told
HELD_OUT = 0.3
SHRINK = 1.0  # of a head that learns few labels, all of them right
T = 2.776  # of Student's distribution: 95 % between five seeds

Floats = NDArray[np.float32]
Indices = NDArray[np.int64]


@dataclass(slots=True)
class Images:
    """Features [N, C] of images, the index of each one's label, sets of near-duplicates, and clips (None: of none)."""

    features: Floats
    labels: Indices
    groups: Sequence[int]
    clips: Sequence[str | None]
    count: int


def next_rows(images: Images, known: Indices, free: Indices, number: int, seed: int) -> list[int]:
    """At most `number` of the rows `free`, where the labels of `known` are: what the command would choose."""
    taken = Taken([images.groups[i] for i in free], [images.clips[i] for i in free], number)
    embeddings = images.features[free]
    if len(known) < FEW * images.count:
        rows = typical(embeddings, images.features[known], number, taken)
    else:
        head = Head(images.features[known], images.labels[known], images.count, SHRINK)
        rows = uncertain(embeddings, entropy(head(embeddings)), number, taken, seed)
    return [int(free[i]) for i in rows]


def curve(
    images: Images, pool: Indices, test: Indices, start: Indices, budgets: Sequence[int], chance: bool, seed: int
) -> list[float]:
    """Accuracy on `test` of a head that has learned `start`, then at each of `budgets` images of `pool` that are
    chosen, or drawn by chance. Where the choice has no more to give, as the rest shows the same, chance goes on.
    Each budget is larger than what was there before.
    """
    rng, known, scores = np.random.default_rng(seed), start, []
    for budget in budgets:
        free = np.setdiff1d(pool, known)
        number = budget - len(known)
        assert number > 0, (budget, len(known))
        rows = [] if chance else next_rows(images, known, free, number, seed)
        rest = rng.permutation(np.setdiff1d(free, rows))[: number - len(rows)]
        known = np.concatenate([known, np.array(rows, np.int64), rest])
        head = Head(images.features[known], images.labels[known], images.count, SHRINK)
        scores.append(float((head(images.features[test]).argmax(axis=1) == images.labels[test]).mean()))
    return scores


def halves(groups: Sequence[str], share: float, rng: np.random.Generator) -> tuple[Indices, Indices]:
    """The rows of a pool and of a test set that has about `share` of them, a group on one side."""
    names = np.array(groups)
    order = rng.permutation(np.unique(names))
    sizes = np.cumsum([int((names == name).sum()) for name in order])
    held = order[: max(1, int(np.searchsorted(sizes, share * len(names))))]
    test = np.isin(names, held)
    return np.flatnonzero(~test), np.flatnonzero(test)


def gain(images: Images, groups: Sequence[str]) -> tuple[float, float] | None:
    """By how much accuracy is higher with the choice than by chance, the mean over budgets and seeds, and half of its
    95 % interval; None where there is too little to tell. `groups` are on one side of a split.
    """
    if len(images.labels) < LEAST or len(set(groups)) < 4 or len(np.unique(images.labels)) < 2:
        return None
    differences = []
    for seed in tqdm(range(SEEDS), "does choosing pay", unit="round", disable=None):
        rng = np.random.default_rng(seed)
        pool, test = halves(groups, HELD_OUT, rng)
        start = rng.permutation(pool)[: max(images.count, len(pool) // 12)]
        more = len(pool) // 3 - len(start)
        if more < ROUNDS:  # no image for each round: many labels, or one clip that has most images
            return None
        budgets = [len(start) + more * (n + 1) // ROUNDS for n in range(ROUNDS)]
        ours, chance = (curve(images, pool, test, start, budgets, how, seed) for how in (False, True))
        differences.append(np.mean(ours) - np.mean(chance))
    return float(np.mean(differences)), float(T * np.std(differences, ddof=1) / SEEDS**0.5)


def gain_text(found: tuple[float, float] | None) -> str:
    """What to say of it."""
    if found is None:
        return "too little is labelled to tell whether choosing pays here: random may be as good"
    mean, half = found
    said = f"on what is labelled, the choice is worth {mean:+.3f} accuracy ({mean - half:+.3f} to {mean + half:+.3f})"
    return said if mean > half else f"{said}: random is as good here"

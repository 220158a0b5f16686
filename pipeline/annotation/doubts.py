"""How little a model knows of an image: entropy, and where two forms of the model differ."""

from collections import Counter
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Sample
from pipeline.metrics.matching import iou, match

BOXES = 10  # of an image that count, so that a crowd is no more than that
FAINT = 0.05  # below this score a box is nothing
RAREST = 4.0  # times that a rare label counts, at most


def entropy(chances: NDArray[np.float32]) -> NDArray[np.float32]:
    """[N] of [N, K] probabilities, over that of K equal ones: 0 to 1."""
    safe = np.clip(chances, 1e-9, 1)
    result: NDArray[np.float32] = -(safe * np.log(safe)).sum(axis=1) / np.log(max(2, chances.shape[1]))
    return result


def rarity(labels: Iterable[str]) -> dict[str, float]:
    """What a box of each label counts: 1 for one as frequent as the mean or more, up to `RAREST` for a rare one.

    >>> rarity(["cow"] * 9 + ["goat"])
    {'cow': 1.0, 'goat': 2.23606797749979}
    """
    counts = Counter(labels)
    mean = sum(counts.values()) / max(1, len(counts))
    return {label: min(RAREST, max(1.0, (mean / n) ** 0.5)) for label, n in counts.items()}


def doubt(said: Sample, weights: dict[str, float]) -> float:
    """Of an image by its label's scores; else by its boxes, each as sure as its score, the `BOXES` least sure ones in
    all over `BOXES`; a label that `weights` does not have counts `RAREST`.

    >>> round(doubt(Sample("1", "1.jpg", 64, 48, scores={"cow": 0.5, "goat": 0.5}), {}), 6)
    1.0
    """
    if said.scores is not None:
        return float(entropy(np.array([list(said.scores.values())], np.float32))[0])
    rows = [(o.score or 0.0, weights.get(o.label, RAREST)) for o in said.objects if (o.score or 0.0) >= FAINT]
    each = [float(entropy(np.array([[p, 1 - p]], np.float32))[0]) * weight for p, weight in rows]
    return sum(sorted(each, reverse=True)[:BOXES]) / BOXES


def disagreement(one: Sample, other: Sample) -> float:
    """0 to 1: how far the scores of two forms of a model are apart, or which share of their boxes has none of the same
    label in the other one, by score.

    >>> a, b = (Sample("1", "1.jpg", 64, 48, scores={"cow": p, "goat": 1 - p}) for p in (0.9, 0.6))
    >>> round(disagreement(a, b), 6)
    0.3
    """
    if one.scores is not None and other.scores is not None:
        return sum(abs(p - other.scores.get(label, 0.0)) for label, p in one.scores.items()) / 2
    mine, theirs = ([o for o in s.objects if (o.score or 0.0) >= FAINT] for s in (one, other))
    whole, overlap = sum(o.score or 0.0 for o in (*mine, *theirs)), iou(theirs, mine)
    same = sum(
        2 * float(overlap[b, a]) * min(mine[a].score or 0.0, theirs[b].score or 0.0)
        for a, b in match(mine, theirs).items()
    )
    return 1 - same / whole if whole else 0.0

"""Which images of a pool are worth a label: typical ones while little is labelled, then uncertain ones that differ."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

NEIGHBOURS = 20  # whose mean distance says how dense it is around an image, as in TypiClust (Hacohen et al., 2022)
MOST_CLUSTERS = 500
WIDE = 5  # times as many as are asked for are near enough to the most uncertain ones to be chosen for how they differ
SAME = 1e-3  # squared distance of features, of length 1, below which two images show the same
PER_CLIP = 3  # images of a clip, or as many as it takes if there are few clips

Floats = NDArray[np.float32]


class Taken:
    """What may still be chosen: one image of a set of near-duplicates (`groups`), a few of a clip (`clips`, None: of
    none), which are `most` for each clip.
    """

    def __init__(self, groups: Sequence[int], clips: Sequence[str | None], count: int) -> None:
        self.groups, self.clips = groups, clips
        known = {clip for clip in clips if clip is not None}
        self.most = max(PER_CLIP, -(-count // max(1, len(known))))
        self.order: list[int] = []
        self._groups: set[int] = set()
        self._clips: Counter[str | None] = Counter()

    def give(self, groups: set[int]) -> None:
        """Have these groups taken from the start."""
        self._groups |= groups

    def free(self, i: int) -> bool:
        full = self.clips[i] is not None and self._clips[self.clips[i]] >= self.most
        return not full and self.groups[i] not in self._groups

    def take(self, i: int) -> None:
        self.order.append(i)
        self._groups.add(self.groups[i])
        self._clips[self.clips[i]] += 1


def typical(embeddings: Floats, labelled: Floats, count: int, taken: Taken) -> list[int]:
    """At most `count` rows of `embeddings` [N, C], the most typical first: of the largest cluster that has least of
    what is `labelled` [M, C] or chosen, the one in the densest place. One alone in its cluster comes after all others.
    """
    from sklearn.cluster import KMeans

    both = _unit(np.concatenate([embeddings, labelled]))
    distinct = len(np.unique(both.round(4), axis=0))
    clusters = min(distinct, len(labelled) + count, MOST_CLUSTERS)
    of = KMeans(clusters, n_init=1, random_state=0).fit_predict(both)
    covered = Counter(of[len(embeddings) :].tolist())
    members: dict[int, list[int]] = {}
    for cluster in range(clusters):
        rows = np.flatnonzero(of[: len(embeddings)] == cluster)
        members[cluster] = rows[np.argsort(-_density(both[rows]), kind="stable")].tolist()
    size = {cluster: len(queue) for cluster, queue in members.items()}
    while len(taken.order) < count:
        for queue in members.values():
            while queue and not taken.free(queue[0]):
                queue.pop(0)
        left = [cluster for cluster, queue in members.items() if queue]
        if not left:
            break
        best = min(left, key=lambda c: (size[c] == 1, covered[c], -size[c], c))
        covered[best] += 1
        taken.take(members[best].pop(0))
    return taken.order


def _density(rows: Floats) -> Floats:
    """The higher the nearer the `NEIGHBOURS` nearest others are."""
    if len(rows) < 2:
        return np.zeros(len(rows), np.float32)
    apart = np.sqrt(np.maximum(2 - 2 * rows @ rows.T, 0))
    near = np.sort(apart, axis=1)[:, 1 : NEIGHBOURS + 1]
    result: Floats = -near.mean(axis=1)
    return result


def uncertain(embeddings: Floats, doubts: Floats, count: int, taken: Taken, seed: int = 0) -> list[int]:
    """At most `count` rows of `embeddings` [N, C]: of the ones with the most `doubts` [N], first the one with the most,
    then by chance, the likelier the more doubt there is and the further they are from what is chosen (k-means++, Arthur
    and Vassilvitskii, 2007).
    """
    rows, rng = _unit(embeddings), np.random.default_rng(seed)
    order = np.argsort(-doubts, kind="stable")
    apart = np.full(len(rows), 2.0)
    while len(taken.order) < count:
        left = np.array([i for i in order if taken.free(int(i))], np.int64)
        if not len(left):
            break
        new = left[apart[left] > SAME] if (apart[left] > SAME).any() else left
        near = new[: WIDE * (count - len(taken.order))]
        weights = apart[near] * np.maximum(doubts[near], 1e-9)
        first = not taken.order or weights.sum() <= 0
        i = int(near[0] if first else rng.choice(near, p=weights / weights.sum()))
        taken.take(i)
        apart = np.minimum(apart, np.maximum(2 - 2 * rows @ rows[i], 0))
    return taken.order


def _unit(rows: Floats) -> Floats:
    result: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-12))
    return result

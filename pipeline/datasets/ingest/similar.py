"""Near-duplicates: images that show the same and so belong on one side of a split.

The search is exact, in blocks: every pair's difference hashes are compared, and what is alike is joined as it is found,
so neither the number of pairs nor that of images decides how much memory it takes beyond the images' own thumbnails.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from PIL import Image

CORRELATION = 0.975  # of the thumbnails; keeps images of one plain background apart
FLAT = 4.0  # grey levels: below, a thumbnail's standard deviation says that there is nothing to compare
ROWS, COLUMNS = 64, 4096  # of a block of pairs: 2 MB of hashes, which a core's cache holds
GATHERED = 2**14  # pairs whose thumbnails are laid side by side at a time
LONG = 0.1  # of all images: so many that are alike in a row are one set only if each is like the first
SHORT = 3  # images; a row of these is one set in any dataset

Indices = NDArray[np.int64]


@dataclass(slots=True)
class NearDuplicates:
    """`sets` of two or more images, by index, each with its first image first: one side of a split each. `chains` are
    longer rows in which an image is like the next one, though not like all: they are several sets.
    """

    sets: list[list[int]] = field(default_factory=list)
    chains: list[list[int]] = field(default_factory=list)
    likeness: "Likeness | None" = None
    digests: Sequence[str] = ()

    def pairs(self) -> list[tuple[int, int]]:
        """The first image of each set with each other one of it."""
        return [(members[0], other) for members in self.sets for other in members[1:]]

    def apart(self, sides: Sequence[int]) -> dict[int, int]:
        """Image -> one like it on a side further from training (`sides` by index, 0 for train), within the chains."""
        found: dict[int, int] = {}
        for chain in self.chains:
            members = np.array(chain)
            side = np.array([sides[i] for i in chain])
            for held_out in range(max(sides), 0, -1):
                nearer, further = members[side < held_out], members[side == held_out]
                for a, b in self._like(nearer, further):
                    found.setdefault(a, b)
        return found

    def alike(self, a: int, b: int) -> bool:
        """Whether the two images of a set are so themselves, and not through others of it."""
        if self.digests[a] == self.digests[b]:
            return True
        return self.likeness is not None and len(self.likeness.alike(np.array([a]), np.array([b]))[0]) > 0

    def _like(self, left: Indices, right: Indices) -> Iterator[tuple[int, int]]:
        if self.likeness is None or not len(right):
            return
        for start in range(0, len(left), ROWS):
            a, b = self.likeness.alike(left[start : start + ROWS], right)
            first, places = np.unique(a, return_index=True)
            yield from zip((left[start:][first]).tolist(), right[b[places]].tolist(), strict=True)


def thumbnail(image: Image.Image) -> NDArray[np.uint8]:
    """uint8 [16, 17]: the grey image that near-duplicates are told by.

    >>> thumbnail(Image.new("RGB", (640, 480), (9, 9, 9))).shape
    (16, 17)
    """
    return np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX))


def digest(image: Image.Image) -> str:
    """What identical images share: a hash of the size and the pixels.

    >>> digest(Image.new("RGB", (2, 1))) == digest(Image.new("RGB", (1, 2)))
    False
    """
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def near_duplicates(
    thumbnails: Sequence[NDArray[np.uint8]] | NDArray[np.uint8],
    digests: Sequence[str],
    groups: Sequence[str | None],
    how: str = "similar",
    bits: int = 32,
) -> NearDuplicates:
    """Sets of images that show the same, from [N, 16, 17] thumbnails.

    Two are the same when their pixels are (`digests`), or, if `how` is "similar", when they are of different groups,
    their difference hashes (dHash, 256 bits) differ in at most `bits`, and their thumbnails are nearly the same. "off"
    finds none.

    >>> ramp = np.arange(0, 255, 15, dtype=np.uint8)
    >>> rising = np.tile(ramp, (16, 1))
    >>> near_duplicates(np.stack([rising, rising + 1, rising[:, ::-1]]), ["a", "b", "c"], [None] * 3).sets
    [[0, 1]]
    """
    found = NearDuplicates(digests=digests)
    if how == "off" or not len(digests):
        return found
    first: dict[str, int] = {}
    parent = np.array([first.setdefault(digest, i) for i, digest in enumerate(digests)])
    if how == "similar":
        likeness = found.likeness = Likeness(np.asarray(thumbnails), groups, bits)
        distinct = np.array(list(first.values()))
        _join(likeness, distinct[likeness.shaped[distinct]], parent)
    sets: dict[int, list[int]] = defaultdict(list)
    for i, top in enumerate(_tops(parent).tolist()):
        sets[top].append(i)
    for members in sets.values():
        stars = [members]
        if found.likeness and len(members) > max(SHORT, LONG * len(digests)) and len({digests[i] for i in members}) > 1:
            stars = _stars(found.likeness, np.array(members))
        if len(stars) > 1:
            found.chains.append(members)
        found.sets += [star for star in stars if len(star) > 1]
    return found


class Likeness:
    """Compares images by hash and thumbnail, a block of pairs at a time. `shaped` says which are not flat."""

    def __init__(self, thumbnails: NDArray[np.uint8], groups: Sequence[str | None], bits: int) -> None:
        self.bits = bits
        self.thumbnails = thumbnails.reshape(len(thumbnails), -1)
        self.shaped = np.array([t.std() >= FLAT for t in thumbnails])
        rising = (thumbnails[:, :, 1:] > thumbnails[:, :, :-1]).reshape(len(thumbnails), -1)
        # shuffled, so that each 64 bits are of the whole image: most pairs differ enough in the first half of them
        order = np.random.default_rng(0).permutation(rising.shape[1])
        self.words = np.ascontiguousarray(np.packbits(rising[:, order], axis=1)).view(np.uint64).T.copy()
        number = {group: i for i, group in enumerate(dict.fromkeys(groups))}
        self.groups = np.array([-1 - i if group is None else number[group] for i, group in enumerate(groups)])
        block = (ROWS, COLUMNS)
        self._room = np.empty(block, np.uint64), np.empty(block, np.uint8), np.empty(block, np.uint8)

    def alike(self, rows: Indices, columns: Indices, apart: tuple[Indices, ...] = ()) -> tuple[Indices, Indices]:
        """The pairs of places in `rows`, up to ROWS, and in `columns` that are alike. Of each number for
        an image in `apart`, only pairs that differ in it are looked at.
        """
        found = []
        for start in range(0, len(columns), COLUMNS):
            a, b = self._alike(rows, columns[start : start + COLUMNS], apart)
            found.append((a, b + start))
        return np.concatenate([a for a, _ in found]), np.concatenate([b for _, b in found])

    def _alike(self, rows: Indices, columns: Indices, apart: tuple[Indices, ...]) -> tuple[Indices, Indices]:
        xor, count, differ = (part[: len(rows), : len(columns)] for part in self._room)
        differ[:] = 0
        for word in self.words[:2]:
            np.bitwise_count(np.bitwise_xor(word[rows, None], word[columns], out=xor), out=count)
            differ += count
        near = differ <= self.bits
        if not near.any():
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        for number in apart:
            near &= number[rows, None] != number[columns]
        a, b = np.nonzero(near)
        same = self.differing(rows[a], columns[b]) <= self.bits
        a, b = a[same], b[same]
        if len(a) > near.size // 16:
            correlation = (self._centred(rows) @ self._centred(columns).T)[a, b]
        else:
            correlation = np.concatenate(
                [np.zeros(0, np.float32)] + [
                    np.einsum("ij,ij->i", self._centred(rows[a[some]]), self._centred(columns[b[some]]))
                    for some in (slice(start, start + GATHERED) for start in range(0, len(a), GATHERED))
                ]
            )  # fmt: skip
        same = correlation >= CORRELATION
        return a[same], b[same]

    def differing(self, left: Indices, right: Indices) -> Indices:
        """In how many bits the hashes of each pair differ."""
        return np.bitwise_count(self.words[:, left] ^ self.words[:, right]).sum(axis=0, dtype=np.int64)

    def _centred(self, indices: Indices) -> NDArray[np.float32]:
        values = self.thumbnails[indices].astype(np.float32)
        values -= values.mean(axis=1, keepdims=True)
        values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), np.float32(1e-6))
        return values


def _join(likeness: Likeness, indices: Indices, parent: Indices) -> None:
    """Join in `parent` what is alike, of different groups, among the images `indices` (union-find)."""
    for start in range(0, len(indices), ROWS):
        rows = indices[start : start + ROWS]
        tops = _tops(parent)
        for left in range(start, len(indices), COLUMNS):
            columns = indices[left : left + COLUMNS]
            a, b = likeness.alike(rows, columns, (tops, likeness.groups))
            if not len(a):
                continue
            ends = np.stack([tops[rows[a]], tops[columns[b]]])
            # of a fixed camera's frames all pairs of a block are alike, and most say the same
            for p, q in np.unique(np.sort(ends, axis=0), axis=1).T.tolist():
                one, two = _top(parent, p), _top(parent, q)
                parent[max(one, two)] = min(one, two)
            tops = _tops(parent)


def _top(parent: Indices, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = int(parent[i])
    return i


def _tops(parent: Indices) -> Indices:
    """The first image of each one's set; `parent` leads there in one step from now on."""
    while not np.array_equal(above := parent[parent], parent):
        parent[:] = above
    return parent.copy()


def _stars(likeness: Likeness, members: Indices) -> list[list[int]]:
    """Sets in each of which every image is like the first one."""
    stars = []
    while len(members):
        _, near = likeness.alike(members[:1], members)
        star = np.zeros(len(members), bool)
        star[near] = True
        star[0] = True
        stars.append(members[star].tolist())
        members = members[~star]
    return stars

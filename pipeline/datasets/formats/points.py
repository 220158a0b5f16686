"""What the sources of landmarks without boxes share: the object that the points make, and who mirrors whom."""

from collections import Counter
from collections.abc import Iterable
from typing import Annotated

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.params import Block
from pipeline.core.sample import ABSENT, Landmark, Object
from pipeline.datasets.formats.reading import Reading, known_scheme, left_right_pairs, point_names

UNSET = ((0.0, 0.0), (-1.0, -1.0))  # pixels where tools put a landmark that nobody has set
OUTSIDE = 1.0  # pixels that a landmark may lie outside of the image and count
Point = tuple[float, float] | None  # x, y in pixels; None where it is not labelled


class LandmarkOptions(Block):
    label: Annotated[str, Field(min_length=1)] = "object"
    """What the landmarks are of; the files do not say."""
    pairs: list[list[int]] = Field(default_factory=list)
    """Landmarks, from 0, that a mirror swaps; `[]` goes by their names, or by the 68 points of a face."""


def usual(counts: Iterable[int]) -> int:
    """The number of landmarks that most files or rows have, the larger one of two that are as frequent."""
    found = Counter(counts)
    return max(found, key=lambda n: (found[n], n))


def name_points(reading: Reading, count: int, names: list[str], pairs: list[list[int]]) -> None:
    """Set the reading's landmarks (numbered, if `names` is empty), left-right pairs and skeleton.

    `pairs` are the user's, from 0; without them they come from the names, or are those of a known scheme.
    Raises InputError if they name a landmark that is not there.
    """
    wrong = [pair for pair in pairs if len(pair) != 2 or not all(0 <= i < count for i in pair)]
    if wrong:
        raise InputError(f"options.pairs: {wrong[0]}; expected two landmarks, from 0 to {count - 1}")
    reading.landmarks = names or point_names(count)
    known, reading.skeleton = ([], []) if names else known_scheme(count)
    reading.pairs = [(a, b) for a, b in pairs] or known or left_right_pairs(names)


def scheme_of(names: list[str]) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Left-right pairs and skeleton that the names of landmarks say: those of a known scheme if they are numbers alone.

    >>> scheme_of(["nose", "left_eye", "right_eye"])
    ([(1, 2)], [])
    """
    return known_scheme(len(names)) if names == point_names(len(names)) else (left_right_pairs(names), [])


def is_labelled(point: Point) -> bool:
    """Whether somebody has set the landmark, whose place is in pixels.

    >>> [is_labelled(p) for p in (None, (0.0, 0.0), (-1.0, -1.0), (0.0, 5.0))]
    [False, False, False, True]
    """
    return point is not None and point not in UNSET


def object_of(points: list[Point], label: str, size: tuple[int, int]) -> Object:
    """An object of `points` in an image of `size` pixels. Its box is the smallest around those that the rules keep,
    which are set and in the image, without a margin: that is the box whose sides benchmarks of landmarks divide by, and
    a margin would be a guess.
    """
    w, h = size
    landmarks = [Landmark(0.0, 0.0, ABSENT) if p is None else Landmark(p[0] / w, p[1] / h) for p in points]
    known = [made for p, made in zip(points, landmarks, strict=True) if p is not None and _is_kept(p, size)]
    if not known:
        return Object(label, (0.0, 0.0, 0.0, 0.0), landmarks)
    left, top = min(p.x for p in known), min(p.y for p in known)
    right, bottom = max(p.x for p in known), max(p.y for p in known)
    return Object(label, (left, top, right - left, bottom - top), landmarks)


def _is_kept(point: tuple[float, float], size: tuple[int, int]) -> bool:
    inside = all(-OUTSIDE <= v <= side + OUTSIDE for v, side in zip(point, size, strict=True))
    return is_labelled(point) and inside  # NaN is nowhere

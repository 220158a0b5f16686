"""The lines of YOLO label files: `class cx cy w h`, with landmarks after them in pose sets, all relative.

Ultralytics writes its predictions in the same form, with a confidence and the number of a track behind. Polygons and
rotated boxes are lines of more numbers. None of these is a labelled box, and what a line is instead is said.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.sample import VISIBLE, Landmark, Object
from pipeline.datasets.formats.keys import refuse_many, refuse_twice
from pipeline.datasets.formats.reading import known_scheme, label_text, landmark, left_right_pairs, point_names

PREDICTION = "a prediction?"


@dataclass(slots=True)
class Points:
    """The landmarks of a pose set: `each` has 2 or 3 numbers in a line."""

    names: list[str] = field(default_factory=list)
    each: int = 3
    pairs: list[tuple[int, int]] = field(default_factory=list)
    skeleton: list[tuple[int, int]] = field(default_factory=list)


def points_of(file: Path, content: dict[str, Any]) -> Points:
    """What data.yaml says by kpt_shape, kpt_names and flip_idx. Raises InputError where they do not fit each other."""
    shape = content.get("kpt_shape")
    if not shape:
        return Points()
    if not (isinstance(shape, list) and len(shape) == 2 and all(type(n) is int for n in shape)):
        raise InputError(f"{file}: kpt_shape: found {shape}; expected [points, 2 or 3]")
    count, each = shape
    refuse_many(count, f"{file}: kpt_shape", "landmarks")
    if count < 1 or each not in (2, 3):
        raise InputError(f"{file}: kpt_shape: found {shape}; expected [points, 2 or 3]")
    names = _point_names(file, content.get("kpt_names"), count)
    known, skeleton = known_scheme(0 if names else count)
    flipped = content.get("flip_idx")
    if flipped is None or flipped == []:
        return Points(names or point_names(count), each, left_right_pairs(names) or known, skeleton)
    places = list(range(count))
    if not isinstance(flipped, list) or any(type(i) is not int for i in flipped) or sorted(flipped) != places:
        raise InputError(f"{file}: flip_idx: found {flipped!r:.60}; expected each of 0 to {count - 1} once")
    if odd := [i for i in places if flipped[flipped[i]] != i]:
        raise InputError(
            f"{file}: flip_idx: {odd[0]} becomes {flipped[odd[0]]}, which does not become it; expected pairs"
        )
    return Points(names or point_names(count), each, [(i, j) for i, j in enumerate(flipped) if i < j], skeleton)


def _point_names(file: Path, said: Any, count: int) -> list[str]:
    """The landmarks' names, of the first class where each has a list of its own; [] where they are only numbered."""
    lists = list(said.values()) if isinstance(said, dict) else [said]
    if not said:
        return []
    first = lists[0]
    if not isinstance(first, list) or len(first) != count:
        raise InputError(f"{file}: kpt_names: found {first!r:.80}; expected {count} names as kpt_shape says")
    refuse_twice(map(str, first), f"{file}: kpt_names", "landmark")
    if others := [names for names in lists if names != first]:
        raise InputError(f"{file}: kpt_names: {first!r:.60} and {others[0]!r:.60}; expected the same for all classes")
    return [label_text(name) for name in first]


class LineError(ValueError):
    """A line without a labelled box: `rule` is the ledger's."""

    def __init__(self, rule: str, found: str):
        super().__init__(found)
        self.rule = rule


def object_of(line: str, labels: list[str], points: int, each: int) -> Object:
    """The object that a line says, of `points` landmarks with `each` (2 or 3) numbers. Raises LineError.

    >>> object_of("1 0.5 0.5 0.5 0.25", ["cow", "dog"], 0, 3).label
    'dog'
    >>> object_of("1 0.5 0.5 0.5 0.25 0.9", ["cow", "dog"], 0, 3)
    Traceback (most recent call last):
    pipeline.datasets.formats.yolo_lines.LineError: 6 numbers, expected 5; a prediction? 0.9 after the box may be ...
    """
    try:
        index, *numbers = _numbers(line)
    except ValueError:
        raise LineError("bad_line", line[:60]) from None
    if len(numbers) + 1 != 5 + points * each:
        raise LineError(
            "bad_line", f"{len(numbers) + 1} numbers, expected {5 + points * each}{_kind(numbers, points, each)}"
        )
    if index not in range(len(labels)):
        raise LineError("unknown_class", f"class {index:g}, expected 0 to {len(labels) - 1}")
    if each == 3 and (odd := [v for v in numbers[6::3] if v not in (0, 1, 2)]):
        found = f"visibility {odd[0]:g}, expected 0, 1 or 2; {PREDICTION} it may be a landmark's confidence"
        raise LineError("bad_line", found)
    cx, cy, w, h = numbers[:4]
    return Object(labels[int(index)], (cx - w / 2, cy - h / 2, w, h), _landmarks(numbers[4:], each))


def class_in(line: str) -> int:
    """The number of the class in a line that is one of a label."""
    return int(float(line.split(maxsplit=1)[0]))


def unseen_in(line: str, each: int) -> int:
    """How many landmarks of a line that is one of a label have a place, and a visibility of 0."""
    numbers = [float(word) for word in line.split()[5:]]
    points = zip(numbers[::3], numbers[1::3], numbers[2::3], strict=False) if each == 3 else ()
    return sum(not seen and bool(x or y) for x, y, seen in points)


def _numbers(line: str) -> list[float]:
    """All numbers of a line, as `values.number` takes them. Raises ValueError. One call for each would take twice as
    long, of the millions of a set.
    """
    words = line.split()
    if "_" in line or not (line.isascii() or all(map(str.isascii, words))):  # blanks need not be ASCII
        raise ValueError(line)
    return [float(word) for word in words]


def _kind(numbers: list[float], points: int, each: int) -> str:
    """What a line of these numbers, without the class, may be instead of a label."""
    more = numbers[4 + points * each :]
    if len(more) in (1, 2) and all(map(math.isfinite, numbers)) and (len(more) == 1 or 0 <= more[0] <= 1):
        behind = "box" if not points else "landmarks"
        shown = " ".join(f"{number:g}" for number in more)
        return f"; {PREDICTION} {shown} after the {behind} may be a confidence or the number of a track"
    if points and len(numbers) == 4 + points * (5 - each):
        return f"; as of landmarks with {5 - each} numbers each, while kpt_shape says {each}"
    if points:
        return ""
    if len(numbers) in (8, 9):
        return "; four corners: a rotated box or a polygon, not read"
    return "; a polygon, not read" if len(numbers) >= 6 and len(numbers) % 2 == 0 else ""


def _landmarks(numbers: list[float], each: int) -> list[Landmark]:
    """Without a visibility, Ultralytics writes 0 0 for a point that is not there."""
    points = []
    for i in range(0, len(numbers), each):
        x, y = numbers[i : i + 2]
        points.append(landmark(x, y, numbers[i + 2] if each == 3 else VISIBLE * bool(x or y)))
    return points

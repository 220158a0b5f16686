"""Boxes and points that were drawn on an image, and the objects that they are."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.core.sample import ABSENT, VISIBLE, Landmark, Object
from pipeline.datasets.formats.reading import Problem, Reading, label_text


@dataclass(slots=True)
class Box:
    """`box` is x, y, w, h in pixels; `tie` what its points name it by."""

    key: str
    label: str
    box: tuple[float, float, float, float]
    tie: Any = None

    def __post_init__(self) -> None:
        self.label = label_text(self.label)


@dataclass(slots=True)
class Point:
    """A landmark in pixels. `ties` are the places of the boxes that it says it belongs to, None where it says none."""

    key: str
    name: str
    x: float
    y: float
    visibility: int = VISIBLE
    ties: list[int] | None = None

    def __post_init__(self) -> None:
        self.name = label_text(self.name)


@dataclass(slots=True)
class Drawing:
    """What was drawn on the image `name` of `size` pixels; `labels` are those of the whole image, `group` the video.

    `loose_labels` are set, but not by true; `odd_labels` say what stands for a label of the image and is none.
    """

    name: str
    size: tuple[int, int]
    where: str
    split: str | None = None
    group: str | None = None
    labels: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    points: list[Point] = field(default_factory=list)
    loose_labels: list[str] = field(default_factory=list)
    odd_labels: list[str] = field(default_factory=list)

    def content(self) -> Any:
        boxes = [(b.label, b.box) for b in self.boxes]
        labels = sorted(self.labels), sorted(self.loose_labels), sorted(self.odd_labels)
        return labels, sorted(boxes), sorted((p.name, p.x, p.y, p.visibility) for p in self.points)


class Drawn:
    """What is drawn, into `reading`; `notes` counts what is said once for the whole set, by (rule, words)."""

    def __init__(self, reading: Reading):
        self.reading = reading
        self.notes: Counter[tuple[str, str]] = Counter()
        self._loose = ""

    def problem(self, file: str, key: str, rule: str, found: str, done: str = "dropped") -> None:
        self.reading.problems.append(Problem(file, key, rule, found, done))

    def objects_of(self, drawing: Drawing) -> list[Object]:
        """An object for each box, with the points that belong to it; their names are in `reading.landmarks`.

        >>> drawn = Drawing("1", (100, 50), "", boxes=[Box("", "cow", (10, 10, 50, 25))])
        >>> drawn.points.append(Point("", "nose", 20, 20))
        >>> [cow] = Drawn(Reading([], ["cow"], ["nose"])).objects_of(drawn)
        >>> cow.box, cow.landmarks[0].x
        ((0.1, 0.2, 0.5, 0.5), 0.2)
        """
        width, height = drawing.size
        places = {name: i for i, name in enumerate(self.reading.landmarks)}
        found: list[dict[int, Landmark]] = [{} for _ in drawing.boxes]
        for point in drawing.points:
            box = self._box_of(point, drawing)
            if box is None:
                continue
            if places[point.name] in found[box]:
                said = f"{point.name}: {drawing.boxes[box].key} has one already"
                self.problem(drawing.name, point.key, "landmark_twice", said)
                continue
            found[box][places[point.name]] = Landmark(point.x / width, point.y / height, point.visibility)
        objects = []
        for box_, points in zip(drawing.boxes, found, strict=True):
            x, y, w, h = box_.box
            landmarks = [points.get(i, Landmark(0.0, 0.0, ABSENT)) for i in range(len(places))]
            objects.append(Object(box_.label, (x / width, y / height, w / width, h / height), landmarks))
        return objects

    def _box_of(self, point: Point, drawing: Drawing) -> int | None:
        """The place of the box that a point belongs to: the one that it says, else the only one that it lies in."""
        if point.ties is not None and len(point.ties) == 1:
            return point.ties[0]
        asked = range(len(drawing.boxes)) if point.ties is None else point.ties
        inside = [i for i in asked if holds(drawing.boxes[i].box, point.x, point.y)]
        if len(inside) == 1:
            if point.ties is None:
                self.notes["tied_by_place", "points that say no box; given to the only one that they lie in"] += 1
            return inside[0]
        said = f"it lies in {len(inside)} boxes" if asked else "the box that it names is not there"
        self.problem(drawing.name, point.key, "loose_point", f"{point.name}: {self._loose or f'{said}; expected one'}")
        return None


def holds(box: tuple[float, float, float, float], x: float, y: float) -> bool:
    """Whether the point lies in the box, or on its edge."""
    left, top, w, h = box
    return left <= x <= left + w and top <= y <= top + h

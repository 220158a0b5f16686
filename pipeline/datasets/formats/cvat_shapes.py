"""The shapes in CVAT's XML: boxes, points, skeletons and tags of one image or frame."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from pipeline.core.sample import HIDDEN, VISIBLE
from pipeline.datasets.formats.drawn import Box, Drawing, Drawn, Point, holds
from pipeline.datasets.formats.reading import label_text
from pipeline.datasets.formats.shapes import turned
from pipeline.datasets.formats.values import flag, number

BROKEN_XML = (ParseError, DefusedXmlException, UnicodeError, LookupError, ValueError)
CORNERS = ("xtl", "ytl", "xbr", "ybr")


@dataclass(slots=True)
class Skeleton:
    key: str
    label: str
    group: str | None
    points: list[Point]


@dataclass(slots=True)
class Shapes:
    """Of one image or frame; a point goes with its group_id. `tied` are the places of boxes with the labels of their
    skeletons.
    """

    labels: list[str] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    points: list[tuple[Point, str | None]] = field(default_factory=list)
    skeletons: list[Skeleton] = field(default_factory=list)
    tied: list[tuple[int, str]] = field(default_factory=list)

    def take(self, shape: Element, key: str, label: str, group: str | None) -> bool:
        """Add one shape; False for one of a kind that is not read. Raises ValueError saying what is wrong with it."""
        if shape.tag == "tag":
            self.labels.append(label)
        elif shape.tag == "box":
            self.boxes.append(Box(key, label, _box(shape), group))
        elif shape.tag == "points":
            self.points.append((_point(shape, key, label), group))
        elif shape.tag == "skeleton":
            if len(shape) == 0:
                raise ValueError("a skeleton without points, not even outside ones")
            parts = [p for p in shape.iter("points") if not flag(p.get("outside"), "outside")]
            points = [_point(p, f"{key}, {p.get('label')}", p.get("label")) for p in parts]
            if points:
                self.skeletons.append(Skeleton(key, label_text(label), group, points))
        else:
            return False
        return True

    def drawn(self, drawing: Drawing, drawings: Drawn) -> Drawing:
        """`drawing` with these shapes, each point told its box. A skeleton that has none gets one."""
        drawing.labels, drawing.boxes = self.labels, self.boxes
        for skeleton, box in zip(self.skeletons, self._boxes_of_skeletons(), strict=True):
            place = len(drawing.boxes) if box is None else box
            if box is None:
                drawing.boxes.append(_around(skeleton))
                drawings.notes["box_made", "skeletons without a box; of each the smallest around its points"] += 1
            else:
                self.tied.append((box, skeleton.label))
            for point in skeleton.points:
                point.ties = [place]
                drawing.points.append(point)
        for point, group in self.points:
            point.ties = None if group is None else [i for i, b in enumerate(drawing.boxes) if b.tie == group]
            drawing.points.append(point)
        return drawing

    def _boxes_of_skeletons(self) -> list[int | None]:
        """For each skeleton the one box of its group; without a group, the one around it that is of no skeleton's group
        and whose label begins its own ("alpaca" and "alpaca_points"), and so among several of a group, where the place
        alone tells if no label does. A box that two could have is nobody's."""
        groups = Counter(skeleton.group for skeleton in self.skeletons if skeleton.group is not None)
        found = []
        for skeleton in self.skeletons:
            if skeleton.group is not None:
                boxes = [i for i, box in enumerate(self.boxes) if box.tie == skeleton.group]
                if len(boxes) > 1 or groups[skeleton.group] > 1:
                    around = [i for i in boxes if _lies_in(skeleton, self.boxes[i])]
                    boxes = [i for i in around if _begins(skeleton, self.boxes[i])] or around
            else:
                loose = [i for i, box in enumerate(self.boxes) if box.tie not in groups and _lies_in(skeleton, box)]
                boxes = [i for i in loose if _begins(skeleton, self.boxes[i])]
            found.append(boxes[0] if len(boxes) == 1 else None)
        return [box if found.count(box) == 1 else None for box in found]


def _lies_in(skeleton: Skeleton, box: Box) -> bool:
    return all(holds(box.box, p.x, p.y) for p in skeleton.points)


def _begins(skeleton: Skeleton, box: Box) -> bool:
    return skeleton.label.startswith(box.label)


def _around(skeleton: Skeleton) -> Box:
    left, top = min(p.x for p in skeleton.points), min(p.y for p in skeleton.points)
    right, bottom = max(p.x for p in skeleton.points), max(p.y for p in skeleton.points)
    return Box(skeleton.key, skeleton.label, (left, top, right - left, bottom - top), skeleton.group)


def _box(shape: Element) -> tuple[float, float, float, float]:
    left, top, right, bottom = (number(shape.get(corner), corner) for corner in CORNERS)
    if degrees := rotation_of(shape):
        return turned((left + right) / 2, (top + bottom) / 2, right - left, bottom - top, degrees)
    return left, top, right - left, bottom - top


def rotation_of(shape: Element) -> float:
    """In degrees, clockwise as it is seen. Raises ValueError if it is no number.

    >>> rotation_of(Element("box", rotation="30.00"))
    30.0
    """
    return number(shape.get("rotation") or 0, "rotation")


def _point(shape: Element, key: str, label: str | None) -> Point:
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";")]
    if not label or len(pairs) != 1 or len(pairs[0]) != 2:
        raise ValueError(f"points {shape.get('points')!r:.60} for {label!r:.60}; expected one x,y and a label")
    x, y = (number(value, f"points of {label!r:.60}") for value in pairs[0])
    return Point(key, label, x, y, HIDDEN if flag(shape.get("occluded"), "occluded") else VISIBLE)


def bones(svg: str) -> Iterator[tuple[str, str]]:
    """The lines of a skeleton's picture in <meta>, by the names of the points at their ends; none of what is no XML."""
    try:
        parts = list(fromstring(f"<svg>{svg}</svg>", forbid_dtd=True).iter())
    except BROKEN_XML:
        return
    names = {p.get("data-node-id"): label_text(p.get("data-label-name") or "") for p in parts if p.get("data-node-id")}
    for part in parts:
        a, b = names.get(part.get("data-node-from")), names.get(part.get("data-node-to"))
        if a and b:
            yield a, b

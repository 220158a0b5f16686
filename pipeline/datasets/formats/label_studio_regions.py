"""The regions that one annotation of Label Studio has: boxes, keypoints and choices."""

import math
from typing import Any

from pipeline.core.sample import HIDDEN, VISIBLE
from pipeline.datasets.formats.drawn import Box, Drawing, Drawn, Point
from pipeline.datasets.formats.keys import brief
from pipeline.datasets.formats.shapes import turned
from pipeline.datasets.formats.values import number

HIDDEN_WORDS = {"hidden", "occluded"}
BESIDE = {"textarea", "rating", "number", "relation", "pairwise", "datetime", "taxonomy"}  # no shapes


class Regions:
    """The regions of one annotation, into `drawing`."""

    def __init__(self, regions: list[dict[str, Any]], drawing: Drawing, drawings: Drawn):
        self.regions, self.drawing, self.drawings = regions, drawing, drawings
        # a label or a choice for one region is a second result with the same id
        self.drawn = {self._id(r) for r in regions if r.get("type") != "choices" and not _is_beside(r)} - {""}
        self.bare = {self._id(r) for r in regions if r.get("type") in ("rectangle", "keypoint")} - {""}
        self.labels = {self._id(r): _labels(r) for r in regions if r.get("type") == "labels" and self._id(r)}
        self.hidden = {self._id(r) for r in regions if r.get("type") == "choices" and _words(r) & HIDDEN_WORDS} - {""}

    def read(self) -> None:
        points: list[tuple[Point, str | None]] = []
        for place, region in enumerate(self.regions, 1):
            key, kind, shape = f"region {self._id(region) or place}", region.get("type"), _shape_of(region)
            if region.get("item_index") not in (None, 0):
                self._problem(key, "other_shape", "on another image of the task")
            elif kind == "choices":
                self._choice(region)
            elif shape is None:
                if _is_beside(region):
                    self.drawings.notes["not_read", f"{kind} regions"] += 1
                elif kind != "labels":
                    self._problem(key, "other_shape", f"{kind!r:.40}; expected rectanglelabels or keypointlabels")
            elif kind == "labels" and self._id(region) in self.bare:
                continue  # they are those of the shape
            elif label := self._label(region, key):
                try:
                    self._take(region, key, label, shape, points)
                except ValueError as error:
                    self._problem(key, "bad_box" if shape == "rectangle" else "bad_landmarks", str(error))
        for point, parent in points:
            boxes = self.drawing.boxes
            point.ties = None if not parent else [i for i, box in enumerate(boxes) if box.tie == parent]
            self.drawing.points.append(point)

    @staticmethod
    def _id(region: dict[str, Any]) -> str:
        return str(region.get("id") or "")

    def _problem(self, key: str, rule: str, found: str) -> None:
        self.drawings.problem(self.drawing.name, key, rule, found)

    def _choice(self, region: dict[str, Any]) -> None:
        if self._id(region) not in self.drawn:
            self.drawing.labels += _labels(region)
            if odd := _odd_label(region):
                self.drawing.odd_labels.append(odd)
        elif not _words(region) & HIDDEN_WORDS:
            self.drawings.notes["not_read", "choices for a region"] += 1

    def _label(self, region: dict[str, Any], key: str) -> str | None:
        labels = _labels(region) or self.labels.get(self._id(region), [])
        if (odd := _odd_label(region)) or len(labels) != 1:
            self._problem(key, "unknown_class", odd or f"labels {', '.join(labels) or 'none'}; expected one")
            return None
        return labels[0]

    def _take(
        self, region: dict[str, Any], key: str, label: str, shape: str, points: list[tuple[Point, str | None]]
    ) -> None:
        value, (width, height) = region["value"], self.drawing.size
        x, y = number(value.get("x"), "x") * width / 100, number(value.get("y"), "y") * height / 100
        if region.get("image_rotation"):
            self.drawings.notes["view_turned", "regions drawn on a turned view; their places are the image's"] += 1
        if shape == "keypoint":
            seen = HIDDEN if self._id(region) in self.hidden else VISIBLE
            parent = region.get("parentID")
            _refuse_beyond(x, y)
            points.append((Point(key, label, x, y, seen), str(parent) if parent else None))
            return
        w = number(value.get("width"), "width") * width / 100
        h = number(value.get("height"), "height") * height / 100
        degrees = number(value.get("rotation") or 0, "rotation")
        if degrees:
            self.drawings.notes["box_turned", "boxes are turned; of each the box around it is taken"] += 1
        box = _box(x, y, w, h, degrees)
        _refuse_beyond(*box)
        self.drawing.boxes.append(Box(key, label, box, self._id(region)))


def _box(x: float, y: float, w: float, h: float, degrees: float) -> tuple[float, float, float, float]:
    """From the corner that the rectangle is turned about. A side is negative where it was drawn the other way."""
    if not degrees:
        return min(x, x + w), min(y, y + h), abs(w), abs(h)
    turn = math.radians(degrees)
    cx = x + w / 2 * math.cos(turn) - h / 2 * math.sin(turn)
    cy = y + w / 2 * math.sin(turn) + h / 2 * math.cos(turn)
    return turned(cx, cy, w, h, degrees)


def _refuse_beyond(*pixels: float) -> None:
    if not math.isfinite(sum(map(abs, pixels))):
        raise ValueError(f"at {', '.join(f'{p:g}' for p in pixels)} pixels; expected finite numbers")


def _shape_of(region: dict[str, Any]) -> str | None:
    """Whether a region is a rectangle or a keypoint; None for all else."""
    value, kind = region.get("value"), region.get("type")
    if not isinstance(value, dict):
        return None
    if kind in ("rectanglelabels", "rectangle") or (kind == "labels" and "height" in value):
        return "rectangle"
    if kind in ("keypointlabels", "keypoint") or (kind == "labels" and "width" in value and "x" in value):
        return "keypoint"
    return None


def _is_beside(region: dict[str, Any]) -> bool:
    kind = region.get("type")
    return isinstance(kind, str) and kind in BESIDE


def _labels(region: dict[str, Any]) -> list[str]:
    value = region.get("value")
    found = value.get(str(region.get("type"))) if isinstance(value, dict) else None
    return [label for label in found if isinstance(label, str) and label] if isinstance(found, list) else []


def _odd_label(region: dict[str, Any]) -> str:
    """What is said of labels that are no texts; "" where all are, or none is there."""
    value, kind = region.get("value"), str(region.get("type"))
    found = value.get(kind) if isinstance(value, dict) else None
    if found is None or (isinstance(found, list) and len(_labels(region)) == len(found)):
        return ""
    return f"{kind} {brief(found)}; expected a list of names of classes, as text"


def _words(region: dict[str, Any]) -> set[str]:
    return {label.lower() for label in _labels(region)}

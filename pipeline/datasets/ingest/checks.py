"""Rules on labels. What breaks one is named in the ledger; the rest goes on."""

import math
from collections import defaultdict
from dataclasses import replace

from pipeline.core.image_file import DecodedImage
from pipeline.core.sample import ABSENT, Landmark, Object, Sample
from pipeline.datasets.formats.points import UNSET
from pipeline.datasets.formats.reading import Candidate, Problem

ASPECT = 0.02  # how far the aspect ratio that labels were made for may be from the image's
BOX = ("x", "y", "width", "height")
NOTHING = 1e-6  # of a side of the image; a box that is narrower, or reaches in by less, is not there
SAME = 6  # decimals in which two boxes are one
FARTHEST = 1 << 24  # pixels; what lies further out, or is larger, is of no image


class LabelledSizeError(ValueError):
    """The labels were made for an image of another shape; the message is what was found."""


def checked(candidate: Candidate, decoded: DecodedImage) -> tuple[list[Object], list[Problem], int]:
    """As `check_objects`, the candidate's objects in its upright image. Raises LabelledSizeError as `fit_labels`.

    >>> from PIL import Image
    >>> candidate = Candidate(None, "1.jpg", objects=[Object("cow", (0.5, 0, 1, 1))], keys=["cow"])
    >>> image = DecodedImage(Image.new("RGB", (40, 20)), (40, 20), 1, untouched=True)
    >>> objects, problems, _ = checked(candidate, image)
    >>> objects[0].box, problems[0].rule
    ((0.5, 0.0, 0.5, 1.0), 'box_clipped')
    """
    objects, unset = hide_unset(candidate, candidate.size or decoded.size)
    objects = fit_labels(candidate, objects, decoded)
    objects, problems, clipped_silently = check_objects(candidate.name, objects, candidate.keys, decoded.size)
    return objects, unset + problems, clipped_silently


def hide_unset(candidate: Candidate, size: tuple[int, int]) -> tuple[list[Object], list[Problem]]:
    """The candidate's objects without the landmarks that nobody has set: those at (0, 0) or (-1, -1) pixels of `size`,
    that of the labels; and a problem for each.
    """
    objects, problems = [], []
    for o, key in zip(candidate.objects, candidate.keys, strict=True):
        places = [(round(p.x * size[0], 3), round(p.y * size[1], 3)) if p.visibility else None for p in o.landmarks]
        unset = [i for i, place in enumerate(places) if place in UNSET]
        for i in unset:
            found = f"landmark {i}: {places[i]} px"
            problems.append(Problem(candidate.name, key, "landmark_unset", found, "hidden"))
        points = [Landmark(0.0, 0.0, ABSENT) if i in unset else p for i, p in enumerate(o.landmarks)]
        objects.append(replace(o, landmarks=points) if unset else o)
    return objects, problems


def fit_labels(candidate: Candidate, objects: list[Object], decoded: DecodedImage) -> list[Object]:
    """The candidate's `objects` in the upright image.

    Labels made for the image as it is stored, before EXIF turns it, are turned with it. Raises LabelledSizeError if
    they were made for an image of another shape.
    """
    (w, h), size = decoded.size, candidate.size
    if size is None or not objects or size == (w, h):
        return objects
    turned = decoded.orientation >= 5
    if turned and abs(size[0] / size[1] * w / h - 1) <= ASPECT and size != (w, h):
        return [turn(o, decoded.orientation) for o in objects]
    if abs(size[0] / size[1] * h / w - 1) > ASPECT:
        raise LabelledSizeError(f"{w} x {h} pixels, labelled as {size[0]} x {size[1]}")
    return objects


def turn(o: Object, orientation: int) -> Object:
    """An object of the stored image in the upright one; `orientation` as EXIF 2.3 counts them, 1 to 8."""

    def place(x: float, y: float) -> tuple[float, float]:
        if orientation in (2, 3, 7, 8):
            x = 1 - x
        if orientation in (3, 4, 6, 7):
            y = 1 - y
        return (y, x) if orientation >= 5 else (x, y)

    x, y, w, h = o.box
    (ax, ay), (bx, by) = place(x, y), place(x + w, y + h)
    points = [Landmark(*place(p.x, p.y), p.visibility) if p.visibility else p for p in o.landmarks]
    return replace(o, box=(min(ax, bx), min(ay, by), abs(bx - ax), abs(by - ay)), landmarks=points)


def check_objects(
    name: str, objects: list[Object], keys: list[str], size: tuple[int, int]
) -> tuple[list[Object], list[Problem], int]:
    """The objects that can be kept, inside the image; a problem for each change; how many were clipped silently.

    A box that spills over the edge is clipped, without a word when it is by a pixel of `size` or less.
    """
    kept: list[Object] = []
    problems: list[Problem] = []
    there = set()
    clipped_silently = 0
    for o, key in zip(objects, keys, strict=True):
        if fault := _fault(o, size):
            problems.append(Problem(name, key, *fault, "dropped"))
            continue
        x, y, w, h = o.box
        left, top, right, bottom = max(0.0, x), max(0.0, y), min(1.0, x + w), min(1.0, y + h)
        spill = max((left - x) * size[0], (x + w - right) * size[0], (top - y) * size[1], (y + h - bottom) * size[1])
        if spill > 1:
            found = f"{_shown(o.box, size)} spills by {spill:.1f} px"
            problems.append(Problem(name, key, "box_clipped", found, "clipped"))
        elif spill > 1e-9:
            clipped_silently += 1
        same = (o.label, *(round(v, SAME) for v in (left, top, right, bottom)))
        if same in there:
            problems.append(Problem(name, key, "box_duplicate", _shown(o.box, size), "dropped"))
            continue
        there.add(same)
        points = [_landmark(name, key, i, p, size, problems) for i, p in enumerate(o.landmarks)]
        box = (left, top, right - left, bottom - top) if spill > 0 else o.box
        kept.append(replace(o, box=box, landmarks=points))
    return kept, problems, clipped_silently


def _fault(o: Object, size: tuple[int, int]) -> tuple[str, str] | None:
    """The rule that leaves nothing of the object, and what was found."""
    x, y, w, h = o.box
    shown = ", ".join(f"{v:.6g}" for v in o.box)
    if not all(map(math.isfinite, o.box)):
        return "box_not_finite", shown
    far = [(abs(v * side), part, v, side) for part, v, side in zip(BOX, o.box, size * 2, strict=True)]
    if max(far)[0] > FARTHEST:
        _, part, v, side = max(far)
        return "box_beyond", f"{part} {v * side:.6g} px, {v:.6g} times the image's {side}; no image is so large"
    if w < NOTHING or h < NOTHING:
        return "box_zero_area", f"width {w:.6g}, height {h:.6g} of the image's"
    if max(x, y) > 1 - NOTHING or min(x + w, y + h) < NOTHING:
        return "box_outside", f"x, y, w, h: {shown}; expected 0 to 1"
    return None


def _landmark(name: str, key: str, place: int, p: Landmark, size: tuple[int, int], problems: list[Problem]) -> Landmark:
    """The landmark, absent if it lies where the image is not; on the edge if that is by a pixel or less."""
    if p.visibility == ABSENT:
        return p
    if not (math.isfinite(p.x) and math.isfinite(p.y)):
        problems.append(Problem(name, key, "landmark_not_finite", f"landmark {place}: {p.x}, {p.y}", "hidden"))
        return Landmark(0.0, 0.0, ABSENT)
    x, y = min(max(p.x, 0.0), 1.0), min(max(p.y, 0.0), 1.0)
    if max(abs(p.x - x) * size[0], abs(p.y - y) * size[1]) > 1:
        found = f"landmark {place}: {_px(p.x * size[0])}, {_px(p.y * size[1])} px"
        problems.append(Problem(name, key, "landmark_outside", found, "hidden"))
        return Landmark(0.0, 0.0, ABSENT)
    return Landmark(x, y, p.visibility)


def _shown(box: tuple[float, float, float, float], size: tuple[int, int]) -> str:
    x, y, w, h = box
    return f"{x * size[0]:.1f}, {y * size[1]:.1f}, {w * size[0]:.1f}, {h * size[1]:.1f} px"


def _px(value: float) -> str:
    return f"{value:.1f}" if abs(value) <= FARTHEST else f"{value:.6g}"


def conflicting(samples: list[Sample], digests: list[str], names: list[str]) -> dict[str, Problem]:
    """Sample id -> problem, for images that are pixel for pixel the same and labelled differently."""
    same: dict[str, list[int]] = defaultdict(list)
    for i, digest in enumerate(digests):
        same[digest].append(i)
    found = {}
    for indices in same.values():
        truths = [_truth(samples[i]) for i in indices]
        if (differs := next((j for j, truth in enumerate(truths) if truth != truths[0]), None)) is None:
            continue
        for i, truth in zip(indices, truths, strict=True):
            other = indices[0] if truth != truths[0] else indices[differs]
            said = f"the same image as {names[other]}, labelled {_labels(samples[i])} and {_labels(samples[other])}"
            found[samples[i].id] = Problem(names[i], "", "conflicting_labels", said)
    return found


def _truth(sample: Sample) -> tuple[object, ...]:
    boxes = sorted((o.label, *(round(v, 2) for v in o.box)) for o in sample.objects)
    return (sample.label, *boxes)


def _labels(sample: Sample) -> str:
    return sample.label or ", ".join(sorted(o.label for o in sample.objects)) or "nothing"

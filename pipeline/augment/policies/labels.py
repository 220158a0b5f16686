"""Labels that follow a moved image: as points that the library moves with the pixels, and back.

Boxes travel as the outline of the ellipse inscribed in them: the bounding box of a rotated rectangle is looser
than the object in it, and the ellipse's is closest on average (Kalra et al., Towards Rotation Invariance in Object
Detection, ICCV 2021). The object's own landmarks, where the box held them, are held by the moved box too.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.notes import is_noting, movement, note
from pipeline.augment.policies.policy import Pixels, Points
from pipeline.core.sample import ABSENT, Landmark, Object

MIN_VISIBLE = 0.3  # share of a box that must stay in the image
EDGE = 1e-4  # rounding of the libraries, relative: a landmark this far outside still lies on the edge
NO_POINTS = np.empty((0, 2))
MARKERS = np.array([(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])  # their orientation tells a mirrored image
_TURN = np.linspace(0, 2 * np.pi, 32, endpoint=False)
OUTLINE = 0.5 + 0.5 * np.stack([np.cos(_TURN), np.sin(_TURN)], axis=1)  # the ellipse in a unit box, [32, 2]


def move_objects(
    geometry: Callable[[Pixels, Points, int], tuple[Pixels, Points]],
    pixels: Pixels,
    objects: list[Object],
    seed: int,
    pairs: Sequence[tuple[int, int]],
    mirrors: bool = True,
) -> tuple[Pixels, list[Object] | None]:
    """Move an image and its objects by one draw of `geometry`. None for the objects where one of them is lost:
    less than `MIN_VISIBLE` of its box is still in the image. Without `mirrors`, what a draw would mirror goes in
    mirrored, and comes out as it was.
    """
    if not objects and mirrors and not is_noting():
        return geometry(pixels, NO_POINTS, seed)[0], []
    groups = [MARKERS]
    for o in objects:
        groups += [_outline(o), np.array([(p.x, p.y) for p in o.landmarks], dtype=float).reshape(-1, 2)]
    before = np.concatenate(groups)
    moved_pixels, points = geometry(pixels, before, seed)
    if not mirrors and is_mirrored(points[: len(MARKERS)]):
        moved_pixels, points = geometry(np.ascontiguousarray(pixels[:, ::-1]), before * (-1, 1) + (1, 0), seed)
    markers, *rest = np.split(points, np.cumsum([len(group) for group in groups])[:-1])
    swap = pairs if is_mirrored(markers) else ()
    moved = []
    for o, outline, spots in zip(objects, rest[::2], rest[1::2], strict=True):
        held = np.array([p.visibility != ABSENT and _holds(o.box, p) for p in o.landmarks], dtype=bool)
        hull = np.concatenate([outline, spots[held]])
        low, high = hull.min(axis=0).tolist(), hull.max(axis=0).tolist()
        if visible_share(low, high) < MIN_VISIBLE and _is_in_image(o):
            return moved_pixels, None
        left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in (*low, *high))
        box = (left, top, right - left, bottom - top)
        moved.append(Object(o.label, box, swapped(_landmarks(o, spots), swap), o.crowd, o.score))
    note(lambda: movement(markers, (pixels.shape[1], pixels.shape[0])))
    return moved_pixels, moved


def is_mirrored(markers: NDArray[np.float64]) -> bool:
    """Whether the moved `MARKERS` [4, 2] turn the other way round: true for one flip, false for two."""
    right, down = markers[1] - markers[0], markers[2] - markers[0]
    return bool(right[0] * down[1] - right[1] * down[0] < 0)


def swapped(landmarks: list[Landmark], pairs: Sequence[tuple[int, int]]) -> list[Landmark]:
    """The landmarks with those of each pair in each other's place: a mirrored left ear is a right one."""
    result = list(landmarks)
    for a, b in pairs:
        if max(a, b) < len(result):  # an object without landmarks has none to swap
            result[a], result[b] = result[b], result[a]
    return result


def visible_share(low: Sequence[float], high: Sequence[float]) -> float:
    """The share of the box from `low` to `high` (x, y) that lies in the image; a side of no length counts whole."""
    share = 1.0
    for start, end in zip(low, high, strict=True):
        seen = min(end, 1 + EDGE) - max(start, -EDGE)
        share *= min(max(seen / (end - start), 0.0), 1.0) if end > start else float(seen >= 0)
    return share


def _clipped(o: Object) -> tuple[float, float, float, float]:
    """The corners of the part of the box that lies in the image: left, top, right, bottom."""
    x, y, w, h = o.box
    left, top = min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0)
    return left, top, max(left, min(x + w, 1.0)), max(top, min(y + h, 1.0))


def _is_in_image(o: Object) -> bool:
    left, top, right, bottom = _clipped(o)
    return left < right and top < bottom


def _outline(o: Object) -> Points:
    left, top, right, bottom = _clipped(o)
    return OUTLINE * (right - left, bottom - top) + (left, top)


def _holds(box: tuple[float, float, float, float], p: Landmark) -> bool:
    x, y, w, h = box
    return x <= p.x <= x + w and y <= p.y <= y + h


def _landmarks(o: Object, spots: Points) -> list[Landmark]:
    """Where the landmarks went; one that was or becomes absent is (0, 0, 0), as in COCO."""
    moved = []
    for p, (x, y) in zip(o.landmarks, spots.tolist(), strict=True):
        if p.visibility == ABSENT or not (-EDGE <= x <= 1 + EDGE and -EDGE <= y <= 1 + EDGE):
            moved.append(Landmark(0.0, 0.0, ABSENT))
        else:
            moved.append(Landmark(min(max(x, 0.0), 1.0), min(max(y, 0.0), 1.0), p.visibility))
    return moved

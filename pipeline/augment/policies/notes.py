"""What a draw did to an image, for a person to read: noted by the steps themselves, and only while someone asks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)
LEAST, LEAST_DEGREES = 0.005, 0.5  # of a scale or a shift, and of a turn that is told
PULLED = 0.01  # of the image's side, half of what a corner lies off where the other three have it
WORDS = {  # what the names of steps do not tell those who do not know their library
    "Add": "brighter or darker",
    "Multiply": "brighter or darker",
    "AddToHueAndSaturation": "other colours",
    "HueSaturationValue": "other colours",
    "PlanckianJitter": "other light",
    "Dropout": "pixels blackened",
    "CoarseDropout": "patches blanked",
    "Invert": "colours reversed",
    "InvertImg": "colours reversed",
    "Solarize": "light colours reversed",
    "Posterize": "fewer colours",
    "Superpixels": "patches of one colour",
}
SHAPE = "shape"  # albumentations tells the image's own among what it has drawn


@contextmanager
def noted() -> Iterator[list[str]]:
    """The notes of all policies that this thread calls inside the block, in the order of the steps.

    >>> from pipeline.augment.policies import augmenter
    >>> with noted() as notes:
    ...     _ = augmenter("none")(np.zeros((8, 8, 3), np.uint8), [], 0)
    >>> notes
    []
    """
    notes: list[str] = []
    before = _NOTES.set(notes)
    try:
        yield notes
    finally:
        _NOTES.reset(before)


def is_noting() -> bool:
    return _NOTES.get() is not None


def note(text: Callable[[], str]) -> None:
    """Add a note, which is made only where someone asks."""
    notes = _NOTES.get()
    if notes is not None and (said := text()):
        notes.append(said)


def called(name: str) -> str:
    """The name of a library's step, with what it does where that is not plain.

    >>> called("Invert"), called("MedianBlur")
    ('Invert (colours reversed)', 'MedianBlur')
    """
    return f"{name} ({WORDS[name]})" if name in WORDS else name


def arguments(values: Mapping[str, Any]) -> str:
    """Numbers and words among `values`, as `limit 0.3, kind soft`; tables, such as noise, are left out."""
    return ", ".join(f"{name} {_short(value)}" for name, value in values.items() if name != SHAPE and _is_short(value))


def movement(corners: NDArray[np.float64], size: tuple[int, int]) -> str:
    """How an image of `size` (width, height) has moved, told by where its four `corners` [4, 2] went: the upper left,
    the upper right, the lower left and the lower right one, relative to it. A flip is told before the turn after it.

    >>> movement(np.array([(0, 1), (1, 1), (0, 0), (1, 0)]), (640, 480))
    'flipped top to bottom'
    """
    left_top, right_top, left_bottom, right_bottom = corners
    # of a warp that pulls the sides apart the mean of two
    across = (right_top - left_top + right_bottom - left_bottom) / 2 * size / size[0]
    down = (left_bottom - left_top + right_bottom - right_top) / 2 * size / size[1]
    mirrored = across[0] * down[1] - across[1] * down[0] < 0
    if mirrored:
        across = -across
    turn, upright = (float(np.degrees(np.arctan2(*v))) for v in ((across[1], across[0]), (-down[0], down[1])))
    slant = (upright - turn + 180) % 360 - 180
    said = []
    if mirrored:  # left to right and by half a turn is top to bottom
        said = ["flipped top to bottom" if abs(turn) > 90 else "mirrored"]
        turn -= 180 * np.sign(turn) if abs(turn) > 90 else 0
    said += _turned(turn) + ([f"slanted {abs(slant):.0f}°"] if abs(slant) > LEAST_DEGREES else [])
    said += _scaled(float(np.hypot(*across)), float(np.hypot(*down))) + _shifted(corners.mean(axis=0) - 0.5)
    pulled = np.abs(left_top + right_bottom - right_top - left_bottom).max() / 2
    return ", ".join(said + ["pulled out of shape"] * bool(pulled > PULLED))


def _turned(degrees: float) -> list[str]:
    if abs(degrees) <= LEAST_DEGREES:
        return []
    way = "" if abs(degrees) > 180 - LEAST_DEGREES else " clockwise" if degrees > 0 else " counterclockwise"
    return [f"turned {abs(degrees):.0f}°{way}"]


def _scaled(wide: float, high: float) -> list[str]:
    if abs(wide - high) < LEAST:
        return [f"{'shrunk' if wide < 1 else 'enlarged'} to {wide:.0%}"] if f"{wide:.0%}" != "100%" else []
    sides = ((wide, "wide"), (high, "high"))
    return [f"{factor:.0%} as {side}" for factor, side in sides if f"{factor:.0%}" != "100%"]


def _shifted(by: NDArray[np.float64]) -> list[str]:
    ways = [(by[0], ("right", "left")), (by[1], ("down", "up"))]
    told = [f"{abs(share):.0%} {way[int(share < 0)]}" for share, way in ways if abs(share) >= LEAST]
    return [f"shifted {' and '.join(told)}"] if told else []


def _is_short(value: Any) -> bool:
    return np.isscalar(value) or (isinstance(value, list | tuple) and len(value) <= 3 and all(map(np.isscalar, value)))


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + " ".join(map(_short, value)) + ")"
    return f"{value:.2g}" if isinstance(value, float | np.floating) else str(value)

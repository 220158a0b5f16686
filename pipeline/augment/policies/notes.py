"""What a draw did to an image, for a person to read: noted by the steps themselves, and only while someone asks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import numpy as np
from numpy.typing import NDArray

_NOTES: ContextVar[list[str] | None] = ContextVar("notes", default=None)
LEAST = 0.005  # of a scale or a shift that is told
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
    """How an image of `size` (width, height) has moved, told by where three `corners` [3, 2] went: the upper left, the
    upper right and the lower left one, relative to it. The turn is clockwise.
    """
    across, down = (corners[1] - corners[0]) * size / size[0], (corners[2] - corners[0]) * size / size[1]
    mirrored = across[0] * down[1] - across[1] * down[0] < 0
    if mirrored:
        across = -across
    turn = np.degrees(np.arctan2(across[1], across[0]))
    wide, high = np.hypot(*across), np.hypot(*down)
    middle = (corners[1] + corners[2]) / 2 - 0.5
    said = ["mirrored"] if mirrored else []
    said += [f"turned {turn:.0f}°"] if abs(turn) > 0.5 else []
    if max(abs(wide - 1), abs(high - 1)) >= LEAST:
        said.append(f"scaled {wide:.2f}" if abs(wide - high) < LEAST else f"scaled {wide:.2f} by {high:.2f}")
    if np.abs(middle).max() >= LEAST:
        said.append(f"shifted {round(100 * middle[0]):+d}% {round(100 * middle[1]):+d}%".replace("+0%", "0%"))
    return ", ".join(said)


def _is_short(value: Any) -> bool:
    return np.isscalar(value) or (isinstance(value, list | tuple) and len(value) <= 3 and all(map(np.isscalar, value)))


def _short(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "(" + " ".join(map(_short, value)) + ")"
    return f"{value:.2g}" if isinstance(value, float | np.floating) else str(value)

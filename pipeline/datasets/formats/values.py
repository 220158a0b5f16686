"""Numbers and flags as label files write them, read in one way in all formats: as values of JSON, or as text."""

import math
from typing import Any

from pipeline.datasets.formats.keys import brief


def number(value: Any, name: str = "", finite: bool = True) -> float:
    """A number, or text of one: decimal, in ASCII, without the `_` that only Python knows.

    Raises ValueError that begins with `name`, for all else; with `finite` for NaN and infinity too.

    >>> number("1.5"), number(2), number("1e3")
    (1.5, 2.0, 1000.0)
    >>> number("1_0", "XMin")
    Traceback (most recent call last):
    ValueError: XMin: '1_0', expected a number
    """
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError  # noqa: TRY004, TRY301 (one error for all that is no number)
        if isinstance(value, str) and (not value.strip().isascii() or "_" in value):  # blanks may be of any kind
            raise ValueError  # noqa: TRY301
        found = float(value)
        if finite and not math.isfinite(found):
            raise ValueError  # noqa: TRY301
    except (ValueError, OverflowError):
        raise ValueError(f"{_named(name)}{brief(value)}, expected a number") from None
    return found


def whole(value: Any, name: str = "") -> int:
    """A number without a fraction. Raises ValueError that begins with `name`.

    >>> whole("12"), whole(3.0)
    (12, 3)
    """
    found = number(value, name)
    if not found.is_integer():
        raise ValueError(f"{_named(name)}{brief(value)}, expected a whole number")
    return int(found)


def four(value: Any, name: str) -> tuple[float, float, float, float]:
    """The four numbers of a box, finite or not, in a list. Raises ValueError that begins with `name`.

    >>> four([1, 2.5, "3", 4], "bbox")
    (1.0, 2.5, 3.0, 4.0)
    """
    try:
        x, y, w, h = (number(one, finite=False) for one in (value if isinstance(value, list) else ()))
    except ValueError:
        raise ValueError(f"{name} {brief(value)}; expected [x, y, w, h]") from None
    return x, y, w, h


def flag(value: Any, name: str = "") -> bool:
    """Whether a flag is set: 1, true, or text of these; 0, false and nothing are not. Raises ValueError that begins
    with `name` for all else: no one can say what a 2 means.

    >>> [flag(value) for value in (1, "1", True, "True", 0, "false", "", None)]
    [True, True, True, True, False, False, False, False]
    >>> flag(2, "iscrowd")
    Traceback (most recent call last):
    ValueError: iscrowd: 2, expected 0 or 1
    """
    said = value.strip().lower() if isinstance(value, str) else value
    if said is None or isinstance(said, bool):
        return bool(said)
    if isinstance(said, str) and said in ("", "false", "true"):
        return said == "true"
    try:
        found = number(said)
    except ValueError:
        found = math.nan
    if found not in (0, 1):
        raise ValueError(f"{_named(name)}{brief(value)}, expected 0 or 1")
    return found == 1


def _named(name: str) -> str:
    return f"{name}: " if name else ""

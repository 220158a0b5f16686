"""Labelled data as its owner has it. The table FORMATS is made of the modules of this folder that end in a FORMAT.

A source is only read, never written to. To add a format, put one module here: `format.py` says what its row has.
"""

import importlib
import pkgutil
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.params import TASKS
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.signs import foreign_in


def _formats() -> dict[str, Format]:
    """Raises ValueError for a row that is not named as its module: two rows of one name would hide each other."""
    rows = []
    for found in pkgutil.iter_modules(__path__):
        row = getattr(importlib.import_module(f"{__name__}.{found.name}"), "FORMAT", None)
        if row is None:  # what formats share
            continue
        if not isinstance(row, Format):
            raise TypeError(f"{__name__}.{found.name}: FORMAT is {type(row).__name__}; expected Format(...)")
        if unknown := set(row.tasks) - set(TASKS):
            raise ValueError(f"{__name__}.{found.name}: tasks {sorted(unknown)}; expected of {', '.join(TASKS)}")
        if row.name != found.name:
            raise ValueError(f"{__name__}.{found.name}: FORMAT is named {row.name!r}; expected {found.name!r}")
        rows.append(row)
    return {row.name: row for row in sorted(rows, key=lambda row: (row.recognize is None, row.rank, row.name))}


FORMATS = _formats()


def detect_format(path: Path | str, labels: Path | str | None = None) -> tuple[str, str]:
    """The format of the data at `path` (labels elsewhere: `labels`) and, for people, what it was recognized by.

    Raises InputError naming `path`, what each format says against it and what was looked for, when none fits.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("cat/1.jpg", "dog/1.jpg"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     detect_format(folder)
    ('folder', '2 class folders of images (cat, dog)')
    """
    path = Path(path)
    place = Path(labels) if labels else path
    if not path.is_dir():
        raise InputError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    misses: dict[str, str] = {}
    for row in FORMATS.values():
        if reason := _asked(row, path, place, misses):
            return row.name, reason
    looked_for = "; ".join(f"{row.looks_for} ({row.name})" for row in FORMATS.values() if row.recognize)
    raise InputError(f"{path}: no known format{foreign_in(place)}{_nearest(misses)}; looked for {looked_for}")


def nearest_of(task: str, path: Path, labels: Path | None = None) -> str:
    """What the formats that `task` learns from say against the data, to be put behind an error; "" if none does.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "classes.txt").write_text("cow")
    ...     nearest_of("detect", Path(folder)).replace(folder, "herd")
    '; nearest: yolo, but herd/classes.txt: class names, but no text files of class and box in herd or below'
    """
    misses: dict[str, str] = {}
    for row in FORMATS.values():
        if task in row.tasks:
            _asked(row, path, labels or path, misses)
    return foreign_in(labels or path) + _nearest(misses)


def _asked(row: Format, path: Path, labels: Path, misses: dict[str, str]) -> str | None:
    try:
        return row.recognize(path, labels) if row.recognize else None
    except InputError as error:
        misses[row.name] = str(error)
        return None


def _nearest(misses: dict[str, str]) -> str:
    return f"; nearest: {'; '.join(f'{name}, but {miss}' for name, miss in misses.items())}" if misses else ""

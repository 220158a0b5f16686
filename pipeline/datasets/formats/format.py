"""What a label format is to the rest of the project: a row of the table FORMATS."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pipeline.core.params import Block
from pipeline.datasets.formats.reading import Reading
from pipeline.datasets.formats.signs import Sign
from pipeline.datasets.formats.writing import Writer

Task = Literal["classify", "localize", "detect"]


class NoOptions(Block):
    """Of a format that has none."""


@dataclass(frozen=True, slots=True)
class Format:
    """One format, at the end of the module that is named as it is.

    `tasks` are what a run can learn from it. `Options` has a default for every option, and a docstring under each
    that says its meaning and unit; a dataset block of params.yaml and the docs are made from it.
    `read(path, labels, options)` is given the folder of images or clips, the folder or file of labels, and an
    `Options`. `recognize(path, labels)` says in a few words what the format was recognized by, or None; where the data
    are nearly of this format it raises InputError saying what is against it, and the next format is asked. A format
    without it is taken only where it is named. `looks_for` is what that looks for, for people, a noun.

    Formats are asked in the order of `rank`, then by name, and the first that recognizes a folder gets it. A rank is
    low where the mark is one that only this format has, and high where other datasets have it by chance.

    `write` says how it is written; a format without it is only read. `sign` tells a file of its labels, so that the
    ledger names those that lie beside labels of another format; without it they are named as of no known format.
    """

    name: str
    tasks: tuple[Task, ...]
    Options: type[Block]
    read: Callable[[Path, Path, Any], Reading]
    looks_for: str
    recognize: Callable[[Path, Path], str | None] | None = None
    rank: int = 80
    write: Writer | None = None
    sign: Sign | None = None

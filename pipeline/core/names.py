"""Names of classes, datasets, runs and label layers, which become names of files and words of commands."""

import re
from collections.abc import Iterable

from pipeline.core.errors import InputError, shown

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")  # DVC takes a dot for a level and * ? [ for patterns
NAMED = "letters, digits, _ and - only, up to 100, and no - at the start (it becomes a file name)"


def check_name(name: str, where: str) -> str:
    """The name as it is. Raises InputError that begins with `where` for one that could be a path, an option, a pattern
    or a command.

    >>> check_name("herd", "models/herd/model.json: run")
    'herd'
    """
    if not NAME.fullmatch(name):
        raise InputError(f"{where} {name!r}: expected {NAMED}")
    return name


def check_labels(labels: Iterable[str], where: str) -> None:
    """Raises InputError that begins with `where` for a class with a line break or another control character: in a file
    of a name a line, as labels.txt, it would move the number of each class after it. `ingest` writes such ones escaped.

    >>> check_labels(["cow", "mountain goat"], "dataset.json")
    """
    if odd := next((label for label in labels if shown(str(label)) != label), None):
        raise InputError(f"{where}: label {odd!r:.80}: expected a name on one line, without control characters")

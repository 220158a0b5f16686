"""Names of datasets, runs and label layers, which become names of files and folders and words of commands."""

import re

from pipeline.core.errors import InputError

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

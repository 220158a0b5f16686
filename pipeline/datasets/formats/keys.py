"""Keys of a source's rows: ids and names that have to stand once, and by which rows refer to each other."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError, shown
from pipeline.core.lines import read_rows
from pipeline.datasets.formats.reading import label_text

MOST_NAMES = {"landmarks": 1000, "individuals": 1000, "classes": 100_000}  # every object has room for each landmark


LONGEST_NAME = 1000  # letters


def refuse_many(count: int, where: str, what: str) -> None:
    """Raises InputError that begins with `where` for more than any dataset has of `what`, a key of MOST_NAMES: few
    bytes of a header would take all memory.

    >>> refuse_many(68, "faces.csv: the header", "landmarks")
    """
    if count > MOST_NAMES[what]:
        raise InputError(f"{where}: found {count} {what}; expected at most {MOST_NAMES[what]}")


def id_text(value: object) -> str | None:
    """An id as text, the same for 1, 1.0 and "1"; None for what is no id: true, null, a list, an object, NaN.

    >>> [id_text(value) for value in (1, 1.0, "1", True, None, [1])]
    ['1', '1', '1', None, None, None]
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    return str(value)


def brief(value: object) -> str:
    """A value of a label file as it may stand in the ledger.

    >>> brief([1] * 50)
    '[1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, ...'
    """
    text = shown(repr(value))
    return text if len(text) <= 40 else f"{text[:37]}..."


def class_name(value: object, where: str) -> str:
    """The name of a class as a label file has it: text or a number. Raises InputError that begins with `where`."""
    if isinstance(value, bool) or not isinstance(value, str | int | float) or not str(value).strip():
        raise InputError(f"{where}: found {brief(value)}; expected the name of a class")
    if len(text := label_text(value)) > LONGEST_NAME:
        raise InputError(f"{where}: a name of {len(text)} letters, {brief(text)}; expected at most {LONGEST_NAME}")
    return text


def class_names(labels: Sequence[object], where: str) -> list[str]:
    """Raises InputError that begins with `where` for what is no name: an empty line between names would shift them.

    >>> class_names(["cow", 7], "data.yaml: names")
    ['cow', '7']
    """
    refuse_many(len(labels), where, "classes")
    return [class_name(label, f"{where}: class {number}") for number, label in enumerate(labels)]


def class_list(file: Path) -> list[str]:
    """The names of classes in a file, a name a line. Raises InputError for an empty line before the last name, or a
    comment in front of the first: each would shift them.
    """
    names = [line.strip() for line in read_rows(file).rstrip().split("\n")]
    if names[0].startswith("# "):
        raise InputError(f"{file}:1: {brief(names[0])}; expected the name of class 0, and no comment")
    return class_names(names, str(file))


def refuse_twice(names: Iterable[str], where: str, what: str) -> None:
    """Raises InputError that begins with `where` if one of the names is there twice, in any Unicode form.

    >>> refuse_twice(["nose", "chin"], "faces.csv: the header", "landmark")
    """
    twice = [name for name, count in Counter(map(label_text, names)).items() if count > 1]
    if twice:
        raise InputError(f"{where} has {twice[0]!r} twice; expected each {what} once")


def one_key_each(labels: Sequence[tuple[Any, str]], used: Iterable[Any], where: str, key: str) -> list[str]:
    """What is to be noted of (key, class name) where a name has several keys: those that nothing uses do not matter.

    Raises InputError that begins with `where` if objects use two keys of one name: whether these are one class only
    their owner knows. `key` is what the keys are called.

    >>> one_key_each([(0, "cow"), (1, "cow")], [1], "data.yaml: names", "class")
    ["'cow' is class 0 and 1; no object has class 0"]
    """
    keys: dict[str, list[Any]] = {}
    for own, label in labels:
        keys.setdefault(label, []).append(own)
    used, notes = set(used), []
    for label, own in keys.items():
        if len(own) < 2:
            continue
        said = f"{label!r} is {key} {' and '.join(map(str, own))}"
        unused = [k for k in own if k not in used]
        if len(own) - len(unused) > 1:
            raise InputError(f"{where}: {said}; expected one {key} for each name")
        notes.append(f"{said}; no object has {key} {' or '.join(map(str, unused))}")
    return notes

"""`obj.data` as darknet is given it: which names, and which lists of images for training and validation.

    classes = 2
    train = data/train.txt
    valid = data/test.txt
    names = data/obj.names
    backup = backup/

Paths are relative to the folder that darknet runs in, which seldom is there: what counts is the end of a path.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.lines import read_rows
from pipeline.datasets.formats.keys import class_list
from pipeline.datasets.formats.reading import SPLIT_NAMES
from pipeline.datasets.formats.split_lists import SplitList

LISTS = {key: split for key, split in SPLIT_NAMES.items() if key != "eval"}  # darknet's eval is a measure: eval = coco
PLACES = ("", "data", "cfg")
LONGEST = 1 << 16  # bytes: weights and recordings are called .data too


@dataclass(slots=True)
class Data:
    """What a .data file says: the file of names, the lists, and lists that are not here."""

    file: Path
    names: Path
    lists: list[SplitList] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)


def find(folder: Path) -> Data | None:
    """The one .data file in `folder`, or where darknet has it in there, that gives names. Raises InputError for several
    that give different ones.
    """
    files = (file for place in PLACES for file in sorted((folder / place).glob("*.data")))
    found = [data for file in files if (data := _read(folder, file))]
    if len({data.names for data in found}) > 1:
        shown = ", ".join(f"{data.file.name} gives {data.names.name}" for data in found)
        raise InputError(f"{folder}: {shown}; expected one .data file, or a folder for each")
    return found[0] if found else None


def labels_of(data: Data) -> list[str]:
    """The classes, a name a line. Raises InputError if they are not as many as the file says."""
    labels = class_list(data.names)
    classes = _values(data.file).get("classes")
    if classes and classes != str(len(labels)):
        raise InputError(f"{data.names}: {len(labels)} names, while {data.file.name} says classes = {classes}")
    return labels


def _values(file: Path) -> dict[str, str]:
    lines = (line.partition("=") for line in read_rows(file).split("\n") if not line.lstrip().startswith(("#", ";")))
    return {key.strip().lower(): value.strip() for key, mark, value in lines if mark}


def _read(root: Path, file: Path) -> Data | None:
    if file.stat().st_size > LONGEST:
        return None
    try:
        values = _values(file)
    except InputError:
        return None
    if "names" not in values:
        return None
    names = _near(root, file, values["names"])
    if names is None:
        raise InputError(f"{file}: names = {values['names']}: no such file beside it or above")
    data = Data(file, names)
    for key, split in LISTS.items():
        if key in values and (found := _near(root, file, values[key])):
            data.lists.append(SplitList(split, found))
        elif key in values:
            data.missing.append(f"{key} = {values[key]}")
    return data


def _near(root: Path, file: Path, said: str) -> Path | None:
    """The file in `root` at the longest end of a path, from the folder of `file` or the one above."""
    parts = [part for part in PurePosixPath(said.replace("\\", "/")).parts if part not in ("/", ".", "..")]
    for i in range(len(parts)):
        for folder in dict.fromkeys((file.parent, root)):
            place = folder.joinpath(*parts[i:])
            if os.path.isfile(place):  # noqa: PTH113 (Path.is_file raises where a text is too long for a name)
                return place
    return None

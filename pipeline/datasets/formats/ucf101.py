"""Clips in UCF101's layout (Soomro et al. 2012, arXiv:1212.0402): `[videos/]<Class>/v_<Class>_gNN_cNN.avi`.

The official lists `ucfTrainTestlist/{trainlist,testlist}0N.txt` say what is train and test; without that folder the
groups are split by ours. Clips by class folder under other names are taken too: each is a group of its own then.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.params import Block, Count, nearest
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.reading import (
    CLIP_SUFFIXES,
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    label_text,
    relative,
)

NAME = re.compile(r".+_(?P<group>g\d+)_c\d+$")
LISTS = "ucfTrainTestlist"


class Options(Block):
    split: Literal[1, 2, 3] = 1
    """Which of the three official lists."""
    frames: Count = 8
    """Images per clip, evenly spaced."""
    classes: list[str] = Field(default_factory=list)
    """The class folders to take; `[]` takes all."""


def read(path: Path, labels: Path, options: Options) -> Reading:
    """Raises InputError for a folder without clips, a class that is not there, and fewer than two classes.

    A group number is one `group` in all classes, as in the official lists: clips of one recording stay on one side.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("Run/v_Run_g01_c01.avi", "Jump/v_Jump_g02_c01.avi"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     reading = read(Path(folder), Path(folder), Options(frames=4))
    >>> [(c.label, c.group, c.frames) for c in reading.candidates]
    [('Jump', 'g02', 4), ('Run', 'g01', 4)]
    """
    reading = clips(path, labels, options.split, options.classes)
    for candidate in reading.candidates:
        candidate.frames = options.frames
    return reading


def clips(path: Path, labels: Path, split: int, classes: Sequence[str] = ()) -> Reading:
    """The clips with their class, group and the split of official list number `split`; see `read`."""
    root = path / "videos" if (path / "videos").is_dir() else path
    files = [f for f in sorted(files_under(root, CLIP_SUFFIXES)) if f.parent != root]
    if not files:
        raise InputError(f"{root}: no clips in class folders; expected <Class>/v_<Class>_gNN_cNN.avi")
    reading = Reading([], _chosen(path, sorted({_class_of(f, root) for f in files}), classes))
    for file in files:
        label = _class_of(file, root)
        if label in reading.labels:
            match = NAME.match(file.stem)
            group = match["group"] if match else label_text(file.stem)
            reading.candidates.append(
                Candidate(file, relative(file, path), group=group, clip=file.stem, label=label, frames=1)
            )
    give_ids(reading.candidates, [c.clip or "" for c in reading.candidates])
    for candidate in reading.candidates:
        candidate.clip = candidate.id
    lists = _list_folder(path, labels)
    if lists is None:
        where = relative(labels, path) if labels != path else LISTS
        reading.problems.append(Problem(where, "", "no_lists", "no official lists; split by group", "noted"))
    else:
        _split(reading, lists, split, path, labels)
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    root = path / "videos" if (path / "videos").is_dir() else path
    files = [f for f in files_under(root, CLIP_SUFFIXES) if f.parent != root]
    classes = {_class_of(f, root) for f in files}
    return f"{len(files)} clips in {len(classes)} class folders" if len(classes) > 1 else None


def _class_of(file: Path, root: Path) -> str:
    return label_text(file.relative_to(root).parts[0])


def _chosen(path: Path, class_folders: list[str], wanted: Sequence[str]) -> list[str]:
    wanted = [label_text(name) for name in wanted]
    for name in wanted:
        if name not in class_folders:
            raise InputError(f"{path}: options.classes: no class folder {name!r}{nearest(name, class_folders)}")
    chosen = [name for name in class_folders if not wanted or name in wanted]
    if len(chosen) < 2:
        raise InputError(f"{path}: classes {', '.join(chosen)}; expected two or more")
    return chosen


def _list_folder(path: Path, labels: Path) -> Path | None:
    for folder in (labels, labels / LISTS, path / LISTS):
        if folder.is_dir() and any(folder.glob("trainlist*.txt")):
            return folder
    return None


def _split(reading: Reading, lists: Path, number: int, path: Path, labels: Path) -> None:
    """Give each clip the split that the lists say; those on no list are refused."""
    listed: dict[str, set[str]] = defaultdict(set)
    here = {label_text(c.file.stem) for c in reading.candidates}
    for split, stem in (("train", "trainlist"), ("test", "testlist")):
        file = lists / f"{stem}{number:02d}.txt"
        if not file.is_file():
            raise InputError(f"{file}: no such file; options.split is {number}")
        elsewhere = 0
        for line in file.read_text(encoding="utf-8-sig").splitlines():
            if not line.strip():
                continue
            entry = re.split(r"\s+\d+$", line.strip())[0]  # the train lists have the class number after the name
            label, _, clip = label_text(entry.replace("\\", "/")).rpartition("/")
            if label in reading.labels and Path(clip).stem not in here:
                elsewhere += 1
            listed[f"{label}/{Path(clip).stem}"].add(split)
        if elsewhere:
            found = f"{elsewhere} clips of these classes are on the list and not here"
            reading.problems.append(Problem(relative(file, labels, path), "", "not_here", found, "noted"))
    kept = []
    for candidate in reading.candidates:
        splits = listed[f"{candidate.label}/{label_text(candidate.file.stem)}"]
        candidate.split = "test" if "test" in splits else "train"
        if not splits:
            found = f"on neither list of split {number}"
            reading.problems.append(Problem(candidate.name, "", "not_listed", found))
        else:
            kept.append(candidate)
        if len(splits) > 1:
            found = f"on both lists of split {number}; taken as test"
            reading.problems.append(Problem(candidate.name, "", "listed_twice", found, "noted"))
    reading.candidates = kept


FORMAT = Format(
    name="ucf101",
    tasks=("classify",),
    Options=Options,
    read=read,
    looks_for="folders of clips, named by class",
    recognize=recognize,
    rank=20,
)

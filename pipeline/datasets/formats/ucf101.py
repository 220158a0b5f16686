"""Clips in UCF101's layout (Soomro et al. 2012, arXiv:1212.0402): `[videos/]<Class>/v_<Class>_gNN_cNN.avi`.

The official lists `ucfTrainTestlist/{trainlist,testlist}0N.txt` say what is train and test; without that folder, lists
or folders of splits do, else the groups are split by ours."""

import re
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
    without_suffix,
)
from pipeline.datasets.formats.split_folders import class_folders
from pipeline.datasets.formats.split_lists import Ends, SplitList, matched, note_unplaced, settled, split_lists

NAME = re.compile(r".+_(?P<group>g\d+)_c\d+$")
UNREAD_SUFFIXES = {".3gp", ".asf", ".flv", ".m2ts", ".mts", ".ogv", ".rm", ".vob"}
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

    A group number is one `group` in all classes, as in the official lists: clips of one recording stay on one side. In
    its class alone where other lists, or folders, give the splits, as in subsets of UCF101 that people share.

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
    files = {relative(f, root): f for f in sorted(files_under(root, CLIP_SUFFIXES)) if f.parent != root}
    if not files:
        raise InputError(f"{root}: no clips in class folders; expected <Class>/v_<Class>_gNN_cNN.avi")
    found, rows = class_folders(files, root)
    reading = Reading([], _chosen(path, sorted({label for _, label in found.values()}), classes), problems=rows)
    for name, file in files.items():
        if name not in found:
            reading.problems.append(Problem(relative(file, path), "", "no_class", "a clip outside every class folder"))
        elif (label := found[name][1]) in reading.labels:
            clip = Candidate(file, relative(file, path), split=found[name][0], label=label, frames=1)
            reading.candidates.append(clip)
    give_ids(reading.candidates, [c.file.stem for c in reading.candidates])
    _split(reading, split, path, labels)
    other = _list_folder(path, labels) is None and any(c.split for c in reading.candidates)
    for candidate in reading.candidates:
        recording = NAME.match(candidate.file.stem)
        candidate.clip, candidate.group = candidate.id, label_text(without_suffix(relative(candidate.file, root)))
        if recording:
            candidate.group = f"{candidate.label}/{recording['group']}" if other else recording["group"]
    _note_unread(reading, root, path)
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    root = path / "videos" if (path / "videos").is_dir() else path
    files = [relative(f, root) for f in files_under(root, CLIP_SUFFIXES)]
    if not files:
        return None
    classes = {label for _, label in class_folders(files, root)[0].values()}
    if len(classes) > 1:
        return f"{len(files)} clips in {len(classes)} class folders"
    raise InputError(f"{root}: {len(files)} clips, class folders {', '.join(classes) or 'none'}; expected two or more")


def _note_unread(reading: Reading, root: Path, path: Path) -> None:
    for file in sorted(files_under(root, UNREAD_SUFFIXES)):
        found = f"{file.suffix} is not read; expected one of {', '.join(sorted(CLIP_SUFFIXES))}"
        reading.problems.append(Problem(relative(file, path), "", "unreadable_clip", found))


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


def _split(reading: Reading, number: int, path: Path, labels: Path) -> None:
    """Give each clip the split that the lists say. Those on no official list are refused."""
    folder = _list_folder(path, labels)
    lists = split_lists(reading, path, labels) if folder is None else _official(folder, number)
    names = [c.name for c in reading.candidates]
    given = matched(lists, Ends(names), reading, labels, path, classes=set(reading.labels)) if lists else []
    splits = settled(given, reading)
    kept = []
    for candidate in reading.candidates:
        if folder is not None and candidate.name not in splits:
            found = f"on neither list of split {number}"
            reading.problems.append(Problem(candidate.name, "", "not_listed", found))
            continue
        candidate.split = splits.get(candidate.name, candidate.split)
        kept.append(candidate)
    reading.candidates = kept
    note_unplaced(reading)
    if not any(c.split for c in kept):
        where = relative(labels, path) if labels != path else LISTS
        reading.problems.append(Problem(where, "", "no_lists", "no official lists; split by group", "noted"))


def _official(folder: Path, number: int) -> list[SplitList]:
    lists = [SplitList(split, folder / f"{split}list{number:02d}.txt") for split in ("train", "test")]
    for file in (one.file for one in lists):
        if not file.is_file():
            raise InputError(f"{file}: no such file; options.split is {number}")
    return lists


FORMAT = Format(
    name="ucf101",
    tasks=("classify",),
    Options=Options,
    read=read,
    looks_for="folders of clips, named by class",
    recognize=recognize,
    rank=20,
)

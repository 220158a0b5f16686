"""Lists of the files of a split, a name a line, and the splits that a source gives by lists, else by folders."""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.core.errors import InputError
from pipeline.core.lines import first_bytes, first_line, read_rows
from pipeline.core.sample import SPLITS
from pipeline.datasets.formats.image_index import one_form
from pipeline.datasets.formats.reading import (
    CLIP_SUFFIXES,
    IMAGE_SUFFIXES,
    Candidate,
    Problem,
    Reading,
    is_split_name,
    label_text,
    relative,
    split_of,
    splits_in,
    without_suffix,
)
from pipeline.datasets.formats.split_folders import folder_splits, refuse_unknown

IMAGE_SETS, VOC_IMAGES = "ImageSets/Main", "JPEGImages"  # Pascal VOC's
PLACES = ("", "ImageSets", "splits", "lists", "meta")  # where others have lists
UNCLEAR = ("", False)  # several files fit
BY_NAME = "no folder of the list is here; files are found by name alone"


class SplitList(NamedTuple):
    """A file that lists a split. One that may be another text is passed over if nothing that it says is here."""

    split: str
    file: Path
    sure: bool = True


@dataclass(slots=True)
class Given:
    """What one list or folder of the source says: `names` belong to `split`."""

    split: str
    source: str
    names: set[str]


class Ends:
    """Files by the ends of their paths: what a list that was written elsewhere means. `names` are relative, POSIX."""

    def __init__(self, names: Iterable[str]) -> None:
        self.names = set(names)
        self._alike: dict[str, list[str]] = defaultdict(list)  # by the last part, and by "stem/"
        for name in self.names:
            last = one_form(name).rpartition("/")[2]
            self._alike[last].append(name)
            self._alike[f"{last.rpartition('.')[0] or last}/"].append(name)
        self._of_voc: dict[str, str] = {}  # in VOC's folder `1` is `1.jpg`, never `a/1.jpg`; "" where two would fit
        for name in (name for name in self.names if name.startswith(f"{VOC_IMAGES}/")):
            for key in (name, without_suffix(name)):
                self._of_voc[key] = "" if key in self._of_voc else name
        self._by_end: dict[str, dict[str, str | None]] = {}  # of names that are alike; made when asked for

    def find(self, entry: str) -> tuple[str, bool] | None:
        """The one file with the longest common end, and whether one of both paths is whole in it.

        None if there is none, UNCLEAR if several share that end.

        >>> Ends(["obj/1.jpg", "obj/2.jpg"]).find("/content/ships/obj/2")
        ('obj/2.jpg', True)
        """
        entry = entry.replace("\\", "/")
        if name := entry if entry in self.names else self._of_voc.get(f"{VOC_IMAGES}/{entry}"):
            return name, True
        parts = [part for part in one_form(entry).split("/") if part not in ("", ".", "..")]
        if not parts:
            return None
        last, folders = PurePosixPath(parts[-1]), parts[:-1]
        known = last.suffix in IMAGE_SUFFIXES | CLIP_SUFFIXES
        for alike in (last.name, f"{last.name}/", *([f"{last.stem}/"] if known else [])):
            if alike in self._alike:
                return self._longest(alike, folders)
        return None

    def _longest(self, alike: str, folders: list[str]) -> tuple[str, bool]:
        """Of the files that are `alike`, the one that shares most of the folders' end."""
        ends = self._by_end.get(alike)
        if ends is None:
            ends = {}
            for name in self._alike[alike]:
                above = one_form(name).split("/")[:-1]
                for i in range(len(above) + 1):
                    end = "/".join(above[i:])
                    ends[end] = None if end in ends else name
                end = "/" + "/".join(above)  # all of it
                ends[end] = None if end in ends else name
            if len(self._alike[alike]) > 1:
                self._by_end[alike] = ends
        for i in range(len(folders) + 1):
            end = "/".join(folders[i:])
            if whole := ends.get(f"/{end}"):
                return whole, True
            if end in ends:
                one = ends[end]  # None: several end so
                return (one, i == 0) if one else UNCLEAR
        return UNCLEAR


def entries(file: Path) -> list[str]:
    """The names in a list, one a line. Raises InputError if it is no text."""
    return [_unquoted(line) for text in read_rows(file).split("\n") if (line := text.strip())]


def _unquoted(line: str) -> str:
    return line[1:-1] if len(line) > 2 and line[0] == line[-1] == '"' else line


def matched(
    lists: list[SplitList], ends: Ends, reading: Reading, *roots: Path, classes: set[str] | None = None
) -> list[Given]:
    """The files that each list means; what of it, or of the clips of `classes`, is not here is counted
    in the ledger.

    A number or another file after a name is passed over. Where some entry has its folders in common with a file, a
    name alone is not enough for another. Raises InputError for a list of which nothing is here.
    """
    said_in = {one.file: entries(one.file) for one in lists}
    reading.lists |= said_in.keys()
    hits_in = {file: [hit_of(entry, ends) for entry in said] for file, said in said_in.items()}
    sure = any(hit and hit[1] for hits in hits_in.values() for hit in hits)
    given = []
    for split, file, is_list in lists:
        said = said_in[file]
        names = [hit[0] if hit and (hit[1] or not sure) else None for hit in hits_in[file]]
        unclear = hits_in[file].count(UNCLEAR)
        if said and not any(names):
            if not is_list:
                continue
            example = (
                f"; {unclear} fit several files"
                if unclear
                else f"; the files are {min(ends.names, default='none')!r}, ..."
            )
            raise InputError(
                f"{file}: nothing that it lists is here: {len(said)} lines, first {said[0][:200]!r}{example}"
            )
        where = relative(file, *roots)
        both = zip(said, hits_in[file], names, strict=True)
        missing = [entry for entry, hit, name in both if not name and hit != UNCLEAR]
        if classes is not None:
            missing = [e for e in missing if classes.intersection(label_text(e.replace("\\", "/")).split("/")[:-1])]
        what = "images" if classes is None else "clips of these classes"
        for count, rule, found in (
            (len(missing), "not_here", f"{len(missing)} {what} are on the list and not here"),
            (unclear, "ambiguous_file", f"{unclear} lines of the list fit several files; not used"),
            (any(names) and not sure, "matched_by_name", BY_NAME),
        ):
            if count:
                reading.problems.append(Problem(where, "", rule, found, "noted"))
        given.append(Given(split, where, {name for name in names if name}))
    return given


def hit_of(entry: str, ends: Ends) -> tuple[str, bool] | None:
    """An entry's file; after its name a class number or another file may stand, as in 1.jpg 2 or 1.jpg 1.xml."""
    if hit := ends.find(entry):
        return hit
    name, _, more = entry.rpartition(" ") if " " in entry else entry.rpartition("\t")
    suffix = PurePosixPath(name.strip()).suffix.lower()
    if re.fullmatch(r"[-+]?\d+", more) or (suffix in IMAGE_SUFFIXES | CLIP_SUFFIXES and PurePosixPath(more).suffix):
        return ends.find(name.strip()) if name.strip() else None
    return None


def split_lists(reading: Reading, path: Path, labels: Path) -> list[SplitList]:
    """The lists beside the data, by their names. Raises InputError for one of no split in ImageSets/Main, where others
    there have one.
    """
    lists: dict[Path, SplitList] = {}
    for root in dict.fromkeys((path, labels, path.parent, labels.parent)):
        lists |= _image_sets(root / IMAGE_SETS, reading, path, labels)
    return list((lists | {one.file: one for one in named_lists(path, labels)}).values())


def named_lists(path: Path, labels: Path, places: Iterable[str] = PLACES) -> list[SplitList]:
    """The lists in the folders `places` of the data and of the labels that are called like a split."""
    folders = [root / place for root in dict.fromkeys((path, labels)) for place in places]
    files = [f for folder in folders for f in _texts(folder) if is_split_name(f.stem)]
    return [SplitList(str(split_of(f.stem)), f, sure) for f in files if (sure := _is_list(f)) is not None]


def _texts(folder: Path) -> list[Path]:
    files = folder.iterdir() if folder.is_dir() else ()
    return sorted(file for file in files if file.suffix.lower() == ".txt" and not file.name.startswith("."))


def _image_sets(folder: Path, reading: Reading, path: Path, labels: Path) -> dict[Path, SplitList]:
    """The lists of VOC's own folder. Those of one class (aeroplane_train.txt) are not asked."""
    files = _texts(folder)
    splits = {f.name: split_of(f.stem) for f in files if is_split_name(f.stem) or not splits_in(f.stem)}
    refuse_unknown(splits, folder)
    if "train" not in splits.values():
        for file in (f for f in files if f.stem.lower() == "trainval"):
            found = "train and val in one; those that no other list names are train"
            reading.problems.append(Problem(relative(file, path, labels), "", "no_split", found, "noted"))
    return {folder / name: SplitList(split, folder / name) for name, split in splits.items() if split}


def _is_list(file: Path) -> bool | None:
    """Whether a text beside the data surely lists files; None for a label file or a note."""
    try:
        first = _unquoted(first_line(file))
    except InputError:  # if it is a list, reading it says so
        first = next(iter(first_bytes(file, 5000).decode(errors="replace").split()), "")
    name = re.sub(r"\s+[-+]?\d+$", "", first)
    words = name.split()
    if {PurePosixPath(word).suffix.lower() for word in (name, *words[:1])} & (IMAGE_SUFFIXES | CLIP_SUFFIXES):
        return True
    return bool(re.search(r"[\d/\\]", name)) if len(words) == 1 and len(first.split()) < 3 else None


def settled(given: list[Given], reading: Reading) -> dict[str, str]:
    """Name -> split. What two splits name is of the one further from training; a val or test that is the whole of
    train, or of the other, is none.
    """
    by_split = {split: {name for g in given if g.split == split for name in g.names} for split in SPLITS}
    source = {g.split: g.source for g in given}
    for first, second, gone in (("train", "val", "val"), ("train", "test", "test"), ("test", "val", "val")):
        if by_split[first] and by_split[first] == by_split[second]:
            reading.problems.append(_same(source[second], first, second, gone, len(by_split[first])))
            by_split[gone] = set()
    splits: dict[str, str] = {}
    for split in SPLITS:
        for name in sorted(by_split[split]):
            if name in splits:
                found = f"listed for {splits[name]} and for {split}; taken as {split}"
                reading.problems.append(Problem(name, "", "listed_twice", found, "noted"))
            splits[name] = split
    return splits


def val_is_train(found: Iterable[Candidate], splits: dict[str, str | None], reading: Reading) -> bool:
    """Whether the label files of val (`splits`: file -> split) list just the images of train, which is noted."""
    names: dict[str | None, set[str]] = defaultdict(set)
    for candidate in found:
        names[candidate.split].add(candidate.name)
    if not names["val"] or names["val"] != names["train"]:
        return False
    where = next(file for file, split in splits.items() if split == "val")
    reading.problems.append(_same(where, "train", "val", "val", len(names["val"])))
    return True


def _same(where: str, first: str, second: str, gone: str, count: int) -> Problem:
    found = f"{second} has the same {count} files as {first}; {gone} is taken out of train"
    return Problem(where, "", "same_files", found, "noted")


def place(
    reading: Reading,
    path: Path,
    names: Iterable[str],
    lists: list[SplitList],
    given: list[Given] | None = None,
    beside: dict[str, str] | None = None,
    alone: bool = True,
) -> None:
    """Set the split of the candidates that have none: as the lists and what is `given` say, else as their folder, or
    that of their label file (`beside`: name -> its path) says, where that is the split of all only if `alone`. `names`
    are all files that a list may mean.

    Raises InputError for a list of which nothing is here, and for a folder of no split among such of one.
    """
    todo = [c for c in reading.candidates if c.split is None]
    given = [*(given or []), *(matched(lists, Ends(names), reading, path) if lists else [])]
    splits = settled(given, reading)
    for candidate in todo:
        candidate.split = splits.get(candidate.name)
    rest = [c for c in todo if c.split is None]
    folders, rows = folder_splits((c.name for c in rest), path)
    if not folders and beside:
        labels, rows = folder_splits({beside[c.name] for c in rest if c.name in beside}, path)
        folders = {name: labels[text] for name, text in beside.items() if text in labels}
    reading.problems += rows
    if alone or splits or len(set(folders.values())) > 1:
        for candidate in rest:
            candidate.split = folders.get(candidate.name)
    note_unplaced(reading)


def note_unplaced(reading: Reading) -> None:
    """A row for the candidates without a split, where others have one."""
    count = sum(c.split is None for c in reading.candidates)
    if 0 < count < len(reading.candidates):
        found = f"{count} of {len(reading.candidates)} files are of no split, while others are; taken as train"
        reading.problems.append(Problem("", "", "no_split", found, "noted"))

"""What the names of folders say: the split of what lies in them, and its class where folders are classes."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS
from pipeline.datasets.formats.reading import (
    Problem,
    Reading,
    is_split_name,
    label_text,
    says_nothing,
    split_of,
    splits_in,
)

Folders = dict[str, tuple[str, ...]]  # a file's name -> the folders above it that are still to be understood


def folder_splits(names: Iterable[str], where: Path) -> tuple[dict[str, str], list[Problem]]:
    """(name -> split, rows) of the files `names`, relative to `where`, that lie in folders of a split at any depth.

    A name of a split alone ("seg_train", "val2017") counts wherever it stands, one with other words ("birds_train")
    where all folders beside it speak of splits too, and of different ones. The first from the top is taken. Raises
    InputError for a folder that speaks of none while those beside it do.

    >>> folder_splits(["images/train/1.jpg", "images/val/2.jpg", "3.jpg"], Path("herd"))[0]
    {'images/train/1.jpg': 'train', 'images/val/2.jpg': 'val'}
    """
    names = list(names)
    folders = {name.rpartition("/")[0] for name in names}
    below: dict[str, set[str]] = defaultdict(set)
    for folder in filter(None, folders):
        parts = folder.split("/")
        for i, part in enumerate(parts):
            below["/".join(parts[:i])].add(part)
    sure: dict[str, str] = {}
    likely: dict[str, str] = {}
    rows = []
    for parent, children in sorted(below.items()):
        splits = {child: split_of(child) for child in sorted(children)}
        known = {f"{parent}/{child}".lstrip("/"): split for child, split in splits.items() if split}
        if any(is_split_name(child) for child in children):
            refuse_unknown(splits, where / parent)
            sure |= known
        elif len(known) == len(splits) and len(set(known.values())) > 1:
            likely |= known
        for child in (c for c in splits if len(splits_in(c)) > 1):
            rows.append(Problem(f"{parent}/{child}".lstrip("/"), "", "no_split", f"speaks of {mixed(child)}", "noted"))
    said = {}
    for folder in folders:
        parts = folder.split("/")
        above = ["/".join(parts[: i + 1]) for i in range(len(parts))]
        said[folder] = next((known[a] for known in (sure, likely) for a in above if a in known), None)
    found = {name: said[name.rpartition("/")[0]] for name in names}
    return {name: split for name, split in found.items() if split}, rows


def file_splits(files: list[str], where: Path, reading: Reading) -> dict[str, str | None]:
    """Label file -> split, from its name or the nearest folder that has one; a single file is the whole set.

    Raises InputError for a file of no split where others have one. Where none has one, each is a row of the ledger.
    """
    if len(files) < 2:
        return dict.fromkeys(files)
    splits = {file: split_of(PurePosixPath(file).stem, *reversed(PurePosixPath(file).parts[:-1])) for file in files}
    refuse_unknown(splits, where)
    if not any(splits.values()):
        found = "one of several files, no split in its name or its folder's"
        reading.problems += [Problem(file, "", "no_split", found, "noted") for file in files]
    return splits


def folders_of(split: str | None, names: Iterable[str]) -> tuple[str, ...]:
    """The names of folders that speak of `split`, among those that the files `names` lie in.

    >>> folders_of("val", ["val2017/1.jpg", "train2017/2.jpg"])
    ('val2017',)
    """
    parts = {part for folder in {name.rpartition("/")[0] for name in names} for part in folder.split("/")}
    return tuple(sorted(part for part in parts if split and split_of(part) == split))


def refuse_unknown(splits: dict[str, str | None], where: Path) -> None:
    """Raise InputError for a folder or file in `where` of no split, if one beside it has one."""
    unknown = [name for name, split in splits.items() if split is None]
    known = [name for name, split in splits.items() if split is not None]
    if not (known and unknown):
        return
    advice = "expected train, val or test in its name, or it elsewhere"
    if splits_in(unknown[0]) == {"train", "val"}:
        advice = "name it train: val is taken out of it then"
    beside = ", ".join(known[:3]) + (", ..." if len(known) > 3 else "")
    raise InputError(
        f"{where / unknown[0]}: speaks of {mixed(unknown[0]) or 'no split'}, unlike {beside} beside it; {advice}"
    )


def mixed(name: str) -> str:
    """The splits that a name speaks of, for people: "train and val"."""
    return " and ".join(sorted(splits_in(name), key=SPLITS.index))


def class_folders(names: Iterable[str], where: Path) -> tuple[dict[str, tuple[str | None, str]], list[Problem]]:
    """(name -> (split, class), rows) of the files `names`, relative to `where`, that lie in class folders.

    A class is a folder at the top, in a split's folder, or in the one folder that holds all ("images", or one whose
    folders are splits); a split's folder may lie in the class too. A file outside every class has no entry. Raises
    InputError where folders of splits hold no classes, and for a class that is called like a split.

    >>> class_folders(["Training/cat/1.jpg", "dev/dog/2.jpg", "3.jpg"], Path("pets"))[0]
    {'Training/cat/1.jpg': ('train', 'cat'), 'dev/dog/2.jpg': ('val', 'dog')}
    """
    names = list(names)
    inner = _unwrapped({name: tuple(name.split("/")[:-1]) for name in names if "/" in name})
    tops = {top: split_of(top) for top in sorted({folders[0] for folders in inner.values()})}
    alone = [top for top in tops if is_split_name(top)]
    if tops and all(tops.values()) and (alone or len(set(tops.values())) > 1):
        return _below_splits(inner, tops, where)
    others = ", ".join(top for top in tops if not tops[top])
    like = [top for top in tops if tops[top]]
    nested = [top for top in like if all(len(folders) > 1 for folders in inner.values() if folders[0] == top)]
    if alone or nested:
        raise InputError(
            f"{where}: folder {', '.join(like)} is called like a split, {others or 'nothing'} beside it like classes; "
            f"expected either folders of splits with classes in them, or classes of other names"
        )
    rows = [_like_a_split(top, f"a class, as {others or 'those'} beside it") for top in like]
    splits, more = folder_splits(inner, where)
    if splits and all(map(says_nothing, tops)):
        raise InputError(
            f"{where}: {', '.join(tops)} hold folders of splits and are called like no classes; expected "
            f"<split>/<class>/image or <class>/<split>/image, or one of them as the data"
        )
    labels = {name: (splits.get(name), label_text(folders[0])) for name, folders in inner.items()}
    return labels, rows + more + _alike_below(inner)


def _alike_below(inner: Folders) -> list[Problem]:
    """A row where each of the classes holds the same folders, no splits, and no image outside them: these may be the
    classes, and what is above them places or days.
    """
    below: dict[str, set[str]] = defaultdict(set)
    for folders in inner.values():
        below[folders[0]].add(folders[1] if len(folders) > 1 else "")
    first = next(iter(below.values()), set())
    alike = len(below) > 1 and all(there == first for there in below.values())
    if not alike or len(first) < 2 or "" in first or any(split_of(f) or says_nothing(f) for f in first):
        return []
    found = f"{_shown(sorted(below))} are the classes; each holds {_shown(sorted(first))}, which say nothing then"
    return [Problem("", "", "same_folders", f"{found}; where they are the classes, put them at the top", "noted")]


def _shown(names: list[str]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")


def _unwrapped(inner: Folders) -> Folders:
    """Without the folders that hold all, if their names are no classes, or what the last one holds are splits."""
    plain = True
    deeper = inner
    while len({folders[0] for folders in deeper.values()}) == 1:
        top = next(iter(deeper.values()))[0]
        if is_split_name(top):
            break
        plain = plain and says_nothing(top)
        deeper = {name: folders[1:] for name, folders in deeper.items() if len(folders) > 1}
        below = {folders[0] for folders in deeper.values()}
        if below and (plain or (all(map(split_of, below)) and any(map(is_split_name, below)))):
            inner = deeper
    return inner


def _below_splits(
    inner: Folders, tops: dict[str, str | None], where: Path
) -> tuple[dict[str, tuple[str | None, str]], list[Problem]]:
    labels: dict[str, tuple[str | None, str]] = {}
    found_in: dict[str, set[str | None]] = defaultdict(set)
    by_top: dict[str, Folders] = {top: {} for top in tops}
    for name, folders in inner.items():
        by_top[folders[0]][name] = folders[1:]
    inside: Folders = {}
    for top, split in tops.items():
        inside |= (below := _below_one(by_top[top], split))
        for name, folders in below.items():
            labels[name] = (split, label_text(folders[0]))
            found_in[labels[name][1]].add(split)
    if not labels:
        raise InputError(
            f"{where}: split folders ({', '.join(tops)}) without class folders in them; expected <split>/<class>/image"
        )
    like = [label for label in sorted(found_in) if is_split_name(label)]
    for label in like:
        if len(like) == len(found_in) or len(found_in[label]) < 2:
            raise InputError(f"{where}: class folder {label} in a split's folder is called like a split; rename it")
    return {name: labels[name] for name in inner if name in labels}, [
        *(_like_a_split(label, "a class, as it lies in folders of several splits") for label in like),
        *_alike_below(inside),
    ]


def _below_one(files: Folders, split: str | None) -> Folders:
    """The class folders of one split: without folders that repeat it or whose name is no class (train/train/cat)."""
    while True:
        inner = {name: folders for name, folders in files.items() if folders}
        below = {folders[0] for folders in inner.values()}
        deeper = {name: folders[1:] for name, folders in inner.items() if len(folders) > 1}
        only = below.pop() if len(below) == 1 else ""
        again = is_split_name(only) and split_of(only) == split
        if not deeper or not only or not (again or says_nothing(only)):
            return inner
        files = deeper


def _like_a_split(folder: str, taken: str) -> Problem:
    return Problem(folder, "", "class_like_split", f"called like a split; taken for {taken}", "noted")

"""What `data.yaml` says of the splits: `train`, `val` and `test` are folders of images, lists of them, or several."""

import os
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.datasets.formats.keys import brief
from pipeline.datasets.formats.reading import SPLIT_NAMES, Problem, Reading, relative
from pipeline.datasets.formats.split_lists import Given, SplitList


@dataclass(slots=True)
class YamlSplits:
    """Split -> entries as they stand in `file`, and the `path` there that they are relative to."""

    file: Path
    root: str = ""
    entries: dict[str, list[str]] = field(default_factory=dict)


def yaml_splits(file: Path, content: dict[object, object]) -> YamlSplits:
    """Of the `content` of data.yaml. Raises InputError for an entry that is no text."""
    splits = YamlSplits(file, str(content.get("path") or ""))
    for key, said in content.items():
        if not said or str(key).lower() not in SPLIT_NAMES:
            continue
        entries = [said] if isinstance(said, str) else said
        if not isinstance(entries, list) or not all(isinstance(entry, str) for entry in entries):
            raise InputError(
                f"{file}: {key}: found {brief(said)}; expected a folder, a list of images, or several of them"
            )
        splits.entries.setdefault(SPLIT_NAMES[str(key).lower()], []).extend(entries)
    return splits


def unlike(first: YamlSplits, other: YamlSplits) -> tuple[str, str, str] | None:
    """The first split of which two files say different things, and what; None if they agree or one says nothing.

    A set has another `path` on each machine: only its last folder counts.
    """
    if not first.entries or not other.entries:
        return None
    for split in dict.fromkeys((*first.entries, *other.entries)):
        own, its = (
            sorted([*_parts(said.root)[-1:], *_parts(entry)] for entry in said.entries.get(split, []))
            for said in (first, other)
        )
        if len(own) != len(its) or not all(_one_ends_in_the_other(a, b) for a, b in zip(own, its, strict=True)):
            known, found = (", ".join("/".join(parts) for parts in said)[:200] or "none" for said in (own, its))
            return split, known, found
    return None


def _one_ends_in_the_other(one: list[str], other: list[str]) -> bool:
    common = min(len(one), len(other))
    return one[len(one) - common :] == other[len(other) - common :]


def given_by(
    splits: YamlSplits, images: Iterable[str], reading: Reading, path: Path, labels: Path
) -> tuple[list[Given], list[SplitList]]:
    """What the folders give to a split, and the lists. `images` are relative to `path`.

    A folder or list that is not where data.yaml says is the one whose path has the longest end in common. Where some
    folder is found whole so, its last name alone is not enough for another. What is not found is a row of the ledger.
    """
    inside: dict[str, set[str]] = defaultdict(set)  # folder -> the images below
    for name in images if splits.entries else ():
        for folder in PurePosixPath(name).parents:
            inside[folder.as_posix()].add(name)
    lists: list[SplitList] = []
    found: list[tuple[str, str, str, bool]] = []  # split, entry, folder, whether it is found whole
    for split, entries in splits.entries.items():
        for entry in entries:
            if entry.lower().endswith(".txt"):
                lists += [SplitList(split, file)] if (file := _list_file(entry, splits, path, labels)) else []
                found += [(split, entry, "", True)] if file else []
            elif hit := _folder(entry, splits, path, inside):
                found.append((split, entry, *hit))
    sure = any(whole for _, _, folder, whole in found if folder)
    source = relative(splits.file, labels, path)
    found = [hit for hit in found if hit[3] or not sure]
    given = [Given(split, source, inside[folder]) for split, _, folder, _ in found if folder]
    if given and not sure:
        what = "no folder that it names is here whole; found by the last name alone"
        reading.problems.append(Problem(source, "", "matched_by_name", what, "noted"))
    here = {(split, entry) for split, entry, *_ in found}
    for split, entries in splits.entries.items():
        if missing := [entry for entry in entries if (split, entry) not in here]:
            what = f"{', '.join(missing)[:200]}: no such list, nor such a folder of images"
            reading.problems.append(Problem(source, split, "not_here", what, "noted"))
    return given, lists


def _places(entry: str, splits: YamlSplits) -> list[Path]:
    """Where an entry lies if it is of this machine."""
    return [Path(os.path.normpath(splits.file.parent / root / entry)) for root in dict.fromkeys((splits.root, ""))]


def _parts(entry: str) -> list[str]:
    return [part for part in PurePosixPath(entry.replace("\\", "/")).parts if part not in (".", "..", "/")]


def _list_file(entry: str, splits: YamlSplits, path: Path, labels: Path) -> Path | None:
    parts = _parts(entry)
    ends = [Path(*parts[i:]) for i in range(len(parts))]
    places = [root / end for end in ends for root in (splits.file.parent, path, labels)]
    stated = (place for place in _places(entry, splits) if any(map(place.is_relative_to, (path, labels))))
    places = [*stated, *places]
    return next((place for place in places if os.path.isfile(place)), None)  # noqa: PTH113 (no error for an odd path)


def _folder(entry: str, splits: YamlSplits, path: Path, inside: dict[str, set[str]]) -> tuple[str, bool] | None:
    """The folder relative to `path`, and whether one of both paths is whole in the other."""
    for place in _places(entry.replace("\\", "/"), splits):
        if path.is_relative_to(place):
            return ".", True
        if place.is_relative_to(path) and (folder := place.relative_to(path).as_posix()) in inside:
            return folder, True
    said = _parts(entry)
    shared: dict[int, list[str]] = defaultdict(list)
    for folder in inside:
        pairs = zip(reversed((path / folder).parts), reversed(said), strict=False)
        equal = [ours == theirs for ours, theirs in pairs]
        shared[equal.index(False) if False in equal else len(equal)].append(folder)
    if not (most := max(shared, default=0)):
        return None
    whole = [folder for folder in shared[most] if len(PurePosixPath(folder).parts) <= most]
    best = whole if len(whole) == 1 else shared[most]
    return (best[0], bool(whole) or most == len(said)) if len(best) == 1 else None

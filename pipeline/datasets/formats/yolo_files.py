"""Which text file has the labels of an image of a YOLO set: beside it, in the parallel tree, or by its name alone."""

import math
import os
from collections import Counter, defaultdict
from collections.abc import Mapping
from itertools import chain
from pathlib import Path

from pipeline.core.errors import InputError, shown
from pipeline.core.lines import read_rows
from pipeline.datasets.formats.image_index import ImageIndex, one_form
from pipeline.datasets.formats.reading import Problem, Reading

Places = tuple[list[str], list[str]]  # where a label file surely is that of the image, and where it may be


def label_files(
    images: ImageIndex, texts: Mapping[Path, str], numbers: int, reading: Reading
) -> tuple[dict[str, Path | None], set[Path]]:
    """Image -> the file of `texts` (file -> name) with its labels, lines of so many `numbers`; None where nobody can
    say which that is, which gets a row. And all files that are called like an image.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     text = Path(folder, "a.txt")
    ...     own, _ = label_files(ImageIndex(Path(folder)), {text: "a.txt"}, 5, Reading([], []))
    >>> own["a.jpg"] == text
    True
    """
    called = _called(images, texts)
    own = {name: _one_of(*there, numbers) for name, there in called.items()}
    fits = Counter(own.values())
    for name, file in own.items():
        every = list(chain(*called[name]))
        if file is None:
            what = f"{_named(every, texts)} have other labels; expected one of them"
        elif fits[file] > 1:
            what = f"{shown(texts[file])} fits {fits[file]} images; expected one"
        else:
            continue
        own[name] = None
        reading.problems.append(Problem(name, texts[every[0]], "ambiguous_file", what))
    _say_second(called, own, texts, numbers, reading)
    return own, set(chain.from_iterable(chain(*there) for there in called.values()))


def _say_second(
    called: dict[str, tuple[list[Path], list[Path]]],
    own: dict[str, Path | None],
    texts: Mapping[Path, str],
    numbers: int,
    reading: Reading,
) -> None:
    """Rows for the texts that are called like an image and are not read: each that has other labels, the others as
    one.
    """
    plain = []
    read = set(own.values())
    for name, there in called.items():
        file = own[name]
        for other in chain(*there) if file else ():
            if other in read or file is None:
                continue
            labels = _labels(other, numbers)
            if labels and labels != _labels(file, numbers):
                found = f"labels for {shown(name)}, whose own are {shown(texts[file])}; not read"
                reading.problems.append(Problem(texts[other], "", "not_read", found, "noted"))
            else:
                plain.append(texts[other])
    if plain:
        found = f"{len(plain)} texts such as {shown(min(plain))}, called like images whose labels lie elsewhere"
        reading.problems.append(Problem("", "", "not_read", found, "noted"))


def _named(files: list[Path], texts: Mapping[Path, str]) -> str:
    """Two of the files, from the folder on that holds both where they have one name."""
    names = [texts[file] for file in files[:2]]
    if len(set(names)) < len(names):
        above = os.path.commonpath(files[:2])
        names = [file.relative_to(above).as_posix() for file in files[:2]]
    return " and ".join(map(shown, names))


def _called(images: ImageIndex, texts: Mapping[Path, str]) -> dict[str, tuple[list[Path], list[Path]]]:
    """Image -> the files that are called like it: those that surely are of it, and others, which may be in another form
    of its name. One that surely is of another image is not of this one.
    """
    by_name: dict[str, list[Path]] = defaultdict(list)
    for file, name in texts.items():
        by_name[name].append(file)
    places = {name: _places(name, images) for name in images.names}
    sure = {name: _at(by_name, where) for name, (where, _) in places.items()}
    first = {there[0] for there in sure.values() if there}
    sure = {name: [f for i, f in enumerate(there) if not i or f not in first] for name, there in sure.items()}
    taken = set(chain.from_iterable(sure.values()))
    likely = {name: [f for f in _at(by_name, where) if f not in taken] for name, (_, where) in places.items()}
    taken.update(chain.from_iterable(likely.values()))
    forms: dict[str, list[Path]] = defaultdict(list)
    for file, name in texts.items():
        if file not in taken:
            forms[one_form(name)].append(file)
    for name, own in places.items() if forms else ():
        alike = (forms.get(form, []) for form in dict.fromkeys(map(one_form, chain(*own))))
        likely[name] += [there[0] for there in alike if len(there) == 1]
    return {name: (sure[name], likely[name]) for name in places if sure[name] or likely[name]}


def _at(by_name: dict[str, list[Path]], places: list[str]) -> list[Path]:
    return [file for place in dict.fromkeys(places) for file in by_name.get(place, ())]


def _places(name: str, images: ImageIndex) -> Places:
    stem = os.path.splitext(name)[0]  # noqa: PTH122 (fast, of each image of a set)
    *folders, last = name.split("/")
    base = stem.rpartition("/")[2]
    sure, likely = [f"{stem}.txt", f"labels/{stem}.txt"], [f"{name}.txt", f"labels/{name}.txt"]
    if "images" in folders:
        place = len(folders) - 1 - folders[::-1].index("images")
        parallel = "/".join([*folders[:place], "labels", *folders[place + 1 :], ""])
        sure.append(f"{parallel}{base}.txt")
        likely += ["/".join([*folders[:place], *folders[place + 1 :], f"{base}.txt"]), f"{parallel}{last}.txt"]
    if len(images.find(base)) == 1:
        likely.append(f"{base}.txt")
    return sure, likely


def _one_of(sure: list[Path], likely: list[Path], numbers: int) -> Path | None:
    """The file with the labels: of several the only one that has some; None where those of two differ. An empty one is
    the label of an image with nothing on it, where it lies among labels.
    """
    if len(sure) + len(likely) == 1:
        return [*sure, *likely][0]
    for files in (sure, likely):
        found = {file: labels for file in files if (labels := _labels(file, numbers)) is not None}
        if found:
            alike = len(set(map(tuple, found.values()))) == 1
            return next(iter(found)) if alike else None
    every = [*sure, *likely]
    return next(filter(_among_labels, every), every[0])


def _among_labels(file: Path) -> bool:
    return "labels" in file.parts[:-1]


def _labels(file: Path, numbers: int) -> list[tuple[float, ...]] | None:
    """The lines of labels in a file, in one order, without other text and lines of more or fewer numbers; None if it
    has no such line, and is not empty among labels.
    """
    found = []
    try:
        text = read_rows(file)
        for line in text.split("\n"):
            words = line.split()
            if len(words) == numbers:
                values = [float(word) for word in words]
                found += [tuple(round(value, 5) for value in values)] if all(map(math.isfinite, values)) else []
    except (InputError, ValueError):
        return None
    return sorted(found) if found or (not text.strip() and _among_labels(file)) else None

"""Class folders: `path/<class>/**/image`, or `path/{train,val,test}/<class>/**/image`; lists may give the splits."""

from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.reading import (
    Candidate,
    Problem,
    Reading,
    give_ids,
    relative,
    without_suffix,
)
from pipeline.datasets.formats.split_folders import class_folders
from pipeline.datasets.formats.split_lists import Ends, matched, note_unplaced, settled, split_lists


def read(path: Path, labels: Path, options: NoOptions) -> Reading:  # noqa: ARG001 (every format is called alike)
    """The folder that an image lies in, directly or deeper, is its label. Raises InputError for fewer than two, for one
    that is called like a split, and for folders of splits without classes.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("train/cat/1.jpg", "test/dog/1.jpg"):
    ...         Path(folder, name).parent.mkdir(parents=True)
    ...         Path(folder, name).touch()
    ...     reading = read(Path(folder), Path(folder), NoOptions())
    >>> [(c.name, c.split, c.label) for c in reading.candidates]
    [('test/dog/1.jpg', 'test', 'dog'), ('train/cat/1.jpg', 'train', 'cat')]
    """
    images = ImageIndex(path)
    reading = Reading([], [])
    classes, rows = class_folders(images.names, path)
    for name, file in images.names.items():
        if name in classes:
            split, label = classes[name]
            reading.candidates.append(Candidate(file, name, split=split, label=label))
        else:
            reading.problems.append(Problem(name, "", "no_class", "an image outside every class folder"))
    reading.problems += rows
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    reading.labels = sorted({c.label for c in reading.candidates if c.label})
    if len(reading.labels) < 2:
        found = ", ".join(reading.labels) or "none"
        raise InputError(f"{path}: class folders with images: {found}; expected two or more")
    lists = split_lists(reading, path, labels)
    splits = settled(matched(lists, Ends(images.names), reading, path), reading)
    for candidate in reading.candidates:
        candidate.split = splits.get(candidate.name, candidate.split)
    note_unplaced(reading)
    reading.problems += _others(path, images, {one.file for one in lists})
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    found = read(path, path, NoOptions())
    shown = ", ".join(found.labels[:4]) + (", ..." if len(found.labels) > 4 else "")
    return f"{len(found.labels)} class folders of images ({shown})"


def _others(path: Path, images: ImageIndex, lists: set[Path]) -> list[Problem]:
    """Rows for other files among the images that are no lists of them, and for class folders without any."""
    rows = []
    names = [*images.names, *(relative(file, path) for file in lists)]
    filled = {folder.as_posix() for name in names for folder in PurePosixPath(name).parents}
    for file in sorted(path.rglob("*")):
        name = relative(file, path)
        if any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts):
            continue
        if file.is_dir():
            if name not in filled:
                rows.append(Problem(name, "", "empty_folder", "no images in it", "noted"))
        elif name not in images.names and file not in lists:
            rows.append(Problem(name, "", "not_an_image", file.suffix or "no suffix", "noted"))
    return rows


FORMAT = Format(
    name="folder",
    tasks=("classify",),
    Options=NoOptions,
    read=read,
    looks_for="two or more folders of images, named by class",
    recognize=recognize,
    rank=90,  # images in folders are in nearly every dataset
)

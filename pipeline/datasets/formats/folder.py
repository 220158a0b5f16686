"""Class folders: `path/<class>/**/image`, or `path/{train,val,test}/<class>/**/image`."""

from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.reading import (
    SPLIT_NAMES,
    Candidate,
    Problem,
    Reading,
    give_ids,
    label_text,
    relative,
    without_suffix,
)


def read(path: Path, labels: Path, options: NoOptions) -> Reading:  # noqa: ARG001 (every format is called alike)
    """The folder that an image lies in, directly or deeper, is its label. Raises InputError for fewer than two.

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
    splits = _split_folders(images)
    reading = Reading([], [])
    for name, file in images.names.items():
        folders = list(PurePosixPath(name).parts[:-1])
        split = SPLIT_NAMES[folders.pop(0).lower()] if splits and folders else None
        if not folders:
            reading.problems.append(Problem(name, "", "no_class", "an image outside every class folder"))
            continue
        reading.candidates.append(Candidate(file, name, split=split, label=label_text(folders[0])))
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    reading.labels = sorted({c.label for c in reading.candidates if c.label})
    if len(reading.labels) < 2:
        found = ", ".join(reading.labels) or "none"
        raise InputError(f"{path}: class folders with images: {found}; expected two or more")
    reading.problems += _others(path, images)
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    try:
        found = read(path, path, NoOptions())
    except InputError:
        return None
    shown = ", ".join(found.labels[:4]) + (", ..." if len(found.labels) > 4 else "")
    return f"{len(found.labels)} class folders of images ({shown})"


def _split_folders(images: ImageIndex) -> bool:
    """Whether the top folders are splits and not classes."""
    tops = {PurePosixPath(name).parts[0].lower() for name in images.names if "/" in name}
    deep = any(name.count("/") > 1 for name in images.names)
    return bool(tops) and deep and tops <= SPLIT_NAMES.keys()


def _others(path: Path, images: ImageIndex) -> list[Problem]:
    """Rows for other files among the images, and for class folders without any."""
    rows = []
    for file in sorted(path.rglob("*")):
        name = relative(file, path)
        if any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts):
            continue
        if file.is_dir():
            if not any(n.startswith(name + "/") for n in images.names):
                rows.append(Problem(name, "", "empty_folder", "no images in it", "noted"))
        elif name not in images.names:
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

"""From the ids of images back to the files that they were made of."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath

from pipeline.datasets.formats.reading import (
    CLIP_SUFFIXES,
    IMAGE_SUFFIXES,
    Candidate,
    files_under,
    give_ids,
    without_suffix,
)

FRAME = re.compile(r"-\d{5}$")  # what the id of a clip's frame has behind the clip's


def source_files(source: Path, ids: Iterable[str]) -> dict[str, str]:
    """id -> the image or clip below the folder `source` that it was made of, by its name relative to that.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "cow.jpg").touch()
    ...     source_files(Path(folder), ["cow", "goat"])
    {'cow': 'cow.jpg'}
    """
    found = files_under(source, IMAGE_SUFFIXES | CLIP_SUFFIXES)
    return _files_of([file.relative_to(source).as_posix() for file in found], ids)


def _files_of(files: Iterable[str], ids: Iterable[str]) -> dict[str, str]:
    by_id = {id: file for file in files for id in _likely_ids(file)}
    whole = {id: id if id in by_id else FRAME.sub("", id) for id in ids}
    return {id: by_id[base] for id, base in whole.items() if base in by_id}


def _likely_ids(name: str) -> Iterator[str]:
    """The ids that a format may have given the file, by its own name or its path, alone or beside one alike."""
    for wanted in (PurePosixPath(name).stem, without_suffix(name)):
        for others in (0, 1):
            made = [Candidate(Path(name), name), *[Candidate(Path(), "")] * others]
            give_ids(made, [wanted] * len(made))
            yield made[0].id

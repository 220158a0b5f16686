"""Links in somebody's data that lead out of it: what they name is this machine's, and no part of the data."""

import os
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.errors import InputError, shown
from pipeline.core.links import is_within
from pipeline.datasets.formats.reading import CLIP_SUFFIXES, IMAGE_SUFFIXES, Problem, Reading, relative


def links_out(path: Path, labels: Path, how: str) -> set[Path]:
    """The images and clips in `path` and `labels`, both resolved, that are links to a place in neither, nor in a cache
    of DVC. `how` says what follows them.

    Raises InputError for another file, or a folder, that is such a link: its lines, as of a classes.txt, would go into
    names and messages before anybody sees them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     data = Path(folder).resolve() / "data"
    ...     data.mkdir()
    ...     Path(data, "photo.jpg").symlink_to("/etc/hostname")
    ...     [link.name for link in links_out(data, data, "links_out: follow")]
    ['photo.jpg']
    """
    found = {
        link for root in {path, labels} for link in _links(root) if link.exists() and not is_within(link, path, labels)
    }
    media = {link for link in found if link.suffix.lower() in IMAGE_SUFFIXES | CLIP_SUFFIXES and not link.is_dir()}
    if others := sorted(found - media):
        names = ", ".join(shown(relative(link, path, labels)) for link in others[:3])
        more = f" and {len(others) - 3} more" if len(others) > 3 else ""
        raise InputError(f"{path}: {names}{more}: links that lead out of it; copy what they name, or {how}")
    return media


def without(reading: Reading, links: set[Path], how: str) -> None:
    """Take what comes from these links out of `reading`, with a row for each.

    >>> from pipeline.datasets.formats.reading import Candidate
    >>> reading = Reading([Candidate(Path("herd/a.jpg"), "a.jpg")], [])
    >>> without(reading, {Path("herd/a.jpg")}, "links_out: follow")
    >>> reading.candidates, reading.problems[0].rule
    ([], 'link_out')
    """
    for candidate in (one for one in reading.candidates if one.file in links):
        reading.problems.append(Problem(candidate.name, "", "link_out", f"a link that leads out of the folder; {how}"))
        reading.lost += len(candidate.objects)
    reading.candidates = [one for one in reading.candidates if one.file not in links]


def _links(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        yield from (link for name in (*folders, *files) if (link := Path(folder, name)).is_symlink())

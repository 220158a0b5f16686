"""Links: those that lead out of the folder they are in, and those that save a copy."""

import os
import re
import shutil
from pathlib import Path

CACHED = re.compile(r".*/files/md5/[0-9a-f]{2}/[0-9a-f]{30}")  # of DVC, which links to it where `cache.type` says so


def is_within(place: Path | str, *roots: Path) -> bool:
    """Whether what has the name `place`, by whatever links, lies in one of the folders `roots`, whose paths have no
    link, or in a cache of DVC. What is not there is where it would be.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     data = Path(folder).resolve() / "data"
    ...     data.mkdir()
    ...     Path(data, "photo.jpg").symlink_to("/etc/hostname")
    ...     is_within(data / "photo.jpg", data), is_within(data / "1.jpg", data)
    (False, True)
    """
    to = Path(os.path.realpath(place))
    return any(to.is_relative_to(root) for root in roots) or CACHED.fullmatch(to.as_posix()) is not None


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A hard link where the file system has them (no bytes moved), else a copy.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a.txt").write_text("cow")
    ...     link_or_copy(f"{folder}/a.txt", f"{folder}/b.txt")
    ...     Path(folder, "b.txt").read_text()
    'cow'
    """
    try:
        os.link(os.path.realpath(source), target)  # a hard link of a link would be a link
    except OSError:
        shutil.copyfile(source, target)

"""Whether what is only to be read stayed as it was."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def unchanged(root: Path) -> Iterator[None]:
    """Fails where anything in the folder is another one afterwards: names, content, links, modes, times."""
    before = _state(root)
    yield
    assert _state(root) == before


def _state(root: Path) -> dict[str, tuple[object, ...]]:
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in ("", *folders, *files)):
            about = path.lstat()
            content = str(path.readlink()) if path.is_symlink() else ""
            if not content and path.is_file() and os.access(path, os.R_OK):
                content = hashlib.sha256(path.read_bytes()).hexdigest()
            found[str(path)] = (content, about.st_mode, about.st_mtime_ns, about.st_size, about.st_ino)
    return found

"""Commands that take turns with a file, each in a process of its own."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import InputError
from pipeline.core.scratch import shared_folder

TURN_S = 60.0


@contextmanager
def turn(path: Path, wait_s: float = TURN_S) -> Iterator[None]:
    """While this lasts, no other command reads and writes the file: of two at once, one's lines would be lost. Raises
    InputError after `wait_s` seconds.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, turn(Path(folder, "params.yaml")):
    ...     pass
    """
    lock = FileLock(_lock_file(path.resolve()), mode=0o666)  # several people may have one project
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        since = f"has been writing it for {wait_s:g} s" if wait_s else "is writing it"
        raise InputError(f"{path}: another command {since}; end that, then try again") from None
    try:
        yield
    finally:
        lock.release()


def _lock_file(path: Path) -> Path:
    """In the project's .dvc/tmp, which git does not see; without DVC in the folder for temporary files."""
    name = f"pocketlens-{hashlib.sha256(os.fsencode(path)).hexdigest()[:16]}.lock"
    project = next((folder for folder in path.parents if (folder / ".dvc/config").is_file()), None)
    return project / ".dvc/tmp" / name if project else shared_folder() / name

"""Commands that take turns with a file, each in a process of its own."""

import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import InputError

TURN_S = 60.0


@contextmanager
def turn(path: Path, wait_s: float = TURN_S) -> Iterator[None]:
    """While this lasts, no other command reads and writes the file: of two at once, one's lines would be lost. Raises
    InputError after `wait_s` seconds.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder, turn(Path(folder, "params.yaml")):
    ...     pass
    """
    name = hashlib.sha256(os.fsencode(path.resolve())).hexdigest()[:16]
    lock = FileLock(Path(tempfile.gettempdir(), f"pocketlens-{os.getuid()}-{name}.lock"))  # a project has no file of it
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        since = f"has been writing it for {wait_s:g} s" if wait_s else "is writing it"
        raise InputError(f"{path}: another command {since}; end that, then try again") from None
    try:
        yield
    finally:
        lock.release()

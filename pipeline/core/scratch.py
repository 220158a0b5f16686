"""Temporary files of a process, also those that libraries write: in a folder of its own, which goes with it."""

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

PREFIX = "pocketlens-"
OWN = re.compile(rf"{PREFIX}\w{{8}}")  # short: sockets lie below it, whose paths may have 104 letters


@contextmanager
def scratch() -> Iterator[None]:
    """While this lasts, this process makes its temporary files in a folder of its own below the system's. What
    processes of this user that were killed have left there is removed, never what one that lives has.

    >>> with scratch(), tempfile.TemporaryDirectory() as folder:
    ...     OWN.fullmatch(Path(folder).parent.name) is not None
    True
    """
    handle, before = None, tempfile.tempdir
    with suppress(OSError):  # a full or read-only disk, which what needs a file says
        folder = Path(tempfile.gettempdir())
        if fcntl is not None and not OWN.fullmatch(folder.name):  # a command that calls another one has its own
            _remove_left(folder)
            handle, tempfile.tempdir = _made(folder)
    try:
        yield
    finally:
        if handle is not None:
            shutil.rmtree(str(tempfile.tempdir), ignore_errors=True)
            tempfile.tempdir = before
            os.close(handle)


def shared_folder() -> Path:
    """The system's folder for temporary files, for what outlives a process or is there for several.

    >>> with scratch():
    ...     inside = shared_folder()
    >>> inside == shared_folder()
    True
    """
    folder = Path(tempfile.gettempdir())
    return folder.parent if OWN.fullmatch(folder.name) else folder


def _made(folder: Path) -> tuple[int, str]:
    """The handle of a new folder, locked, and its path. Raises OSError on a file system without locks, where nobody
    could tell later whether it is in use.
    """
    while True:
        made = tempfile.mkdtemp(prefix=PREFIX, dir=folder)
        try:
            handle = _lock(made)
            if Path(made).is_dir():
                return handle, made
            os.close(handle)
        except (BlockingIOError, FileNotFoundError):  # another process has just taken it for one that was left
            continue
        except OSError:
            Path(made).rmdir()
            raise


def _remove_left(folder: Path) -> None:
    """Those of this user that no process has locked: the system takes a lock back however a process ends."""
    for entry in list(os.scandir(folder)):
        if OWN.fullmatch(entry.name) and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                handle = _lock(entry.path)
                shutil.rmtree(entry.path, ignore_errors=True)
                os.close(handle)


def _lock(folder: str) -> int:
    """Raises BlockingIOError where another process has it, another OSError where there are no locks."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        raise
    return handle

"""Temporary files of a process, also those that libraries write: in a folder of its own, which goes with it."""

import hashlib
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

# of this machine, since locks on a shared disk may say nothing of another's; short: sockets lie below it, whose paths
# may have 104 letters
PREFIX = f".pocketlens-{hashlib.sha256(platform.node().encode()).hexdigest()[:6]}-"
MARK = ".of-a-process"  # in what was made here, and in no folder that only has such a name

_own: Path | None = None  # of this process, while it has one


@contextmanager
def scratch() -> Iterator[None]:
    """While this lasts, this process makes its temporary files in a folder of its own below the system's. What
    processes of this user that were killed have left there is removed, never what one that lives has. Processes that it
    starts anew have the system's folder.

    >>> with scratch(), tempfile.TemporaryDirectory() as folder:
    ...     Path(folder).parent.name.startswith(PREFIX)
    True
    """
    global _own
    made, handle, before = None, -1, tempfile.tempdir
    with suppress(OSError):  # a full or read-only disk, which what needs a file says
        if fcntl is not None and _own is None:  # a command that calls another one has its own
            folder = Path(tempfile.gettempdir())
            _remove_left(folder)
            handle, made = _made(folder)
            _own, tempfile.tempdir = Path(made), made
    try:
        yield
    finally:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
            _own, tempfile.tempdir = None, before
            os.close(handle)


def shared_folder() -> Path:
    """The system's folder for temporary files, for what outlives a process or is there for several.

    >>> with scratch():
    ...     inside = shared_folder()
    >>> inside == shared_folder()
    True
    """
    return _own.parent if _own else Path(tempfile.gettempdir())


def _made(folder: Path) -> tuple[int, str]:
    """The handle of a new folder, locked, and its path. Raises OSError on a file system without locks, where nobody
    could tell later whether it is in use.
    """
    while True:
        made = tempfile.mkdtemp(prefix=PREFIX, dir=folder)
        try:
            handle = _lock(made)
            if _is_marked(made, handle):
                return handle, made
        except (BlockingIOError, FileNotFoundError):  # another process has just taken it for one that was left
            continue
        except OSError:
            shutil.rmtree(made, ignore_errors=True)
            raise


def _is_marked(made: str, handle: int) -> bool:
    """Whether it is still there to be marked. Raises OSError where it cannot be, as on a full disk."""
    try:
        Path(made, MARK).touch()
    except OSError:
        os.close(handle)
        if Path(made).is_dir():
            raise
        return False
    return True


def _remove_left(folder: Path) -> None:
    """Those of this user that no process has locked: the system takes a lock back however a process ends."""
    for entry in list(os.scandir(folder)):
        if entry.name.startswith(PREFIX) and entry.is_dir(follow_symlinks=False):
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != os.getuid():
                    continue
                handle = _lock(entry.path)
                try:
                    if Path(entry.path, MARK).is_file():
                        shutil.rmtree(entry.path, ignore_errors=True)
                    else:  # killed before it was marked; what is not empty is no folder of ours
                        Path(entry.path).rmdir()
                finally:
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

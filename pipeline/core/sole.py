"""A folder that one process at a time fills."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.core.errors import InputError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]


@contextmanager
def sole(place: Path, path: Path) -> Iterator[None]:
    """Make the folder `place`, or empty the one that a run which was ended has left; while this lasts, it is this
    process's alone. On an error it is removed. Raises InputError, which names `path`, what the folder is to become,
    where another process has it, or a file has that name.

    The system takes the lock back when the process ends, however it does; no file of it is left.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     place = Path(folder, ".herd.unfinished")
    ...     with sole(place, Path(folder, "herd")):
    ...         list(place.iterdir())
    []
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path}: a file; expected a folder, or nothing of that name")
    above = next(parent for parent in place.parents if parent.exists())
    for file in (above, place):
        if file.exists() and not file.is_dir():
            raise InputError(f"{file}: a file, in the way of the folder {path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        place.mkdir()
    handle = _held(place)
    if handle is None:
        raise InputError(f"{path}: another process is making it; wait for that one to end, then run it again")
    try:
        for entry in list(place.iterdir()):
            remove(entry)
        yield
    except BaseException:
        remove(place)
        raise
    finally:
        if handle >= 0:
            os.close(handle)


def remove(path: Path) -> None:
    """Remove a file, a link or a folder with all in it, as far as that is possible.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "herd").mkdir()
    ...     remove(Path(folder, "herd"))
    ...     list(Path(folder).iterdir())
    []
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()


def swap(place: Path, path: Path, old: Path) -> None:
    """Move the folder `place` to `path`, and what is there, which waits as `old` meanwhile, away. On an error it is
    put back.
    """
    try:
        if path.exists() or path.is_symlink():
            path.rename(old)  # at no moment is `path` half a folder
        place.replace(path)
    except BaseException:
        put_back(old, path)
        raise
    remove(old)


def put_back(old: Path, path: Path) -> None:
    """Move what `swap` had moved to `old` back to `path`, if that is empty: its run did not come to the end."""
    if old.exists() and not (path.exists() or path.is_symlink()):
        old.rename(path)


def _held(place: Path) -> int | None:
    """The handle of the folder, locked: -1 where the system has no such locks, None where another process has it, or
    has finished it meanwhile.
    """
    if fcntl is None:
        return -1
    try:
        handle = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks
        return handle
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), place.stat()):
            return handle
    os.close(handle)
    return None

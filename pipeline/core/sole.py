"""Folders and files that one process at a time fills, and how a folder takes another's place."""

import ctypes
import os
import shutil
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.core.errors import InputError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None  # type: ignore[assignment]

WAIT_S = 20.0  # for another process that writes the same file: most take less than one
MOMENT_S = 0.5  # in which who only looks whether a folder is in use has looked
LOOK_S = 0.02
HERE, EXCHANGE = -100, 2  # AT_FDCWD and RENAME_EXCHANGE of Linux


class InTheWayError(InputError):
    """What lies under the hidden name that a folder is written under is the user's."""


@contextmanager
def sole(place: Path, path: Path) -> Iterator[None]:
    """Make the folder `place`, or empty the one that a run which was ended has left; while this lasts, it is this
    process's alone. On an error it is removed. Raises InputError, which names `path`, what the folder is to become,
    where another process has it, a file has that name, or what is left in it cannot be removed.

    The system takes the lock back when the process ends, however it does; no file of it is left.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     place = Path(folder, ".herd.unfinished")
    ...     with sole(place, Path(folder, "herd")):
    ...         list(place.iterdir())
    []
    """
    if _is_no_folder(path):
        raise InputError(f"{path}: a file; expected a folder, or nothing of that name")
    unlink_planted(place)
    above = next(parent for parent in place.parents if parent.exists())
    for file in (above, place):
        if _is_no_folder(file):
            raise InTheWayError(f"{file}: a file, in the way of the folder {path}")
    place.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileExistsError):
        place.mkdir()
    handle = _held(place)
    if handle is None:
        raise InputError(f"{path}: another process is making it; wait for that one to end, then run it again")
    try:
        _empty(place, path)
        yield
    except BaseException:
        remove(place)
        raise
    finally:
        if handle >= 0:
            os.close(handle)


@contextmanager
def writing(place: Path, path: Path) -> Iterator[None]:
    """While this lasts, the file `place`, which becomes `path`, is this process's to write; it is there, and empty or
    what a run that was ended has left. Who comes meanwhile waits. Raises InputError after WAIT_S.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with writing(Path(folder, ".note.unfinished"), Path(folder, "note")):
    ...         [entry.name for entry in Path(folder).iterdir()]
    ['.note.unfinished']
    """
    unlink_planted(place)
    if fcntl is None:
        yield
        return
    until = time.monotonic() + WAIT_S
    while (handle := _locked(place, os.O_RDWR | os.O_CREAT)) is None:
        if time.monotonic() > until:
            raise InputError(f"{path}: another process is writing it; wait for that one to end, then run it again")
        time.sleep(LOOK_S)
    try:
        yield
    finally:
        os.close(handle)


@contextmanager
def only(folder: Path, what: str) -> Iterator[None]:
    """While this lasts, no other process is in here for the same `folder`, which is made if need be, and stays. Raises
    InputError, which says that `what` is done by another one.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with only(Path(folder, "herd"), "herd: another process trains it"):
    ...         Path(folder, "herd").is_dir()
    True
    """
    folder.mkdir(parents=True, exist_ok=True)
    handle = _held(Path(os.path.realpath(folder)))
    if handle is None:
        raise InputError(f"{what}; wait for that one to end, then run it again")
    try:
        yield
    finally:
        if handle >= 0:
            os.close(handle)


def is_held(path: Path) -> bool:
    """Whether a process has locked the file or folder, or that cannot be asked: one may not read it. Nobody locks what
    is neither, as a pipe or a link.

    >>> is_held(Path("no such file"))
    False
    """
    if fcntl is None:
        return False
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)  # a pipe would wait for who writes
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # a file system without locks
        return False
    finally:
        os.close(handle)
    return False


def unlink_planted(place: Path) -> None:
    """Remove what has the name of a file that is to be written, and no content of its own: through a link, which may
    come with somebody's data, another file would be written over; a pipe would be waited for.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, ".note.unfinished").symlink_to("note")
    ...     unlink_planted(Path(folder, ".note.unfinished"))
    ...     list(Path(folder).iterdir())
    []
    """
    with suppress(FileNotFoundError, NotADirectoryError):
        found = place.lstat()
        own = stat.S_ISREG(found.st_mode) and found.st_nlink == 1
        if not own and not stat.S_ISDIR(found.st_mode):
            place.unlink()


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
    """Move the folder `place` to `path`, and what is there away. Where the system can exchange two names, `path` is the
    old folder or the new one at every moment; elsewhere the old one waits as `old` while the new one is moved. On an
    error it is put back.
    """
    if path.is_dir() and not path.is_symlink():
        former = _held(path)  # under the name of `place` it is not the next process's to fill
        try:
            if exchanged(place, path):
                remove(place)
                return
        finally:
            if former is not None and former >= 0:
                os.close(former)
    try:
        if path.exists() or path.is_symlink():
            path.rename(old)
        place.replace(path)
    except BaseException:
        put_back(old, path)
        raise
    remove(old)


def exchanged(a: Path, b: Path) -> bool:
    """Whether the two now have each other's name: not where the system or its file system cannot do that at once."""
    try:
        call = ctypes.CDLL(None).renameat2
    except (AttributeError, OSError, TypeError):  # no Linux, or one before 2014
        return False
    return bool(call(HERE, os.fsencode(a), HERE, os.fsencode(b), EXCHANGE) == 0)


def put_back(old: Path, path: Path) -> None:
    """Move what `swap` had moved to `old` back to `path`, if that is empty: its run did not come to the end."""
    if old.exists() and not (old.is_symlink() or path.exists() or path.is_symlink()):
        old.rename(path)


def _empty(place: Path, path: Path) -> None:
    for entry in list(place.iterdir()):
        remove(entry)
    if left := next(place.iterdir(), None):  # as another user's
        raise InTheWayError(f"{left}: cannot be removed, and would be taken for a part of {path}; remove it")


def _held(place: Path) -> int | None:
    """The handle of the folder, locked: -1 where the system has no such locks, None where another process has it, or
    has finished it meanwhile.
    """
    if fcntl is None:
        return -1
    until = time.monotonic() + MOMENT_S
    with suppress(FileNotFoundError):
        while (handle := _locked(place, os.O_RDONLY | os.O_DIRECTORY)) is None and time.monotonic() < until:
            time.sleep(LOOK_S)
        return handle
    return None


def _locked(place: Path, how: int) -> int | None:
    """The handle of what is at `place`, opened so and locked, or not, on a file system without locks; None where
    another process has it, or has moved it away meanwhile. Raises OSError for a link.
    """
    handle = os.open(place, how | os.O_NOFOLLOW, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return None
    except OSError:  # a file system without locks
        return handle
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(handle), place.lstat()):
            return handle
    os.close(handle)
    return None


def _is_no_folder(path: Path) -> bool:
    """Whether something else has the name. One question: what is there may be moved away at any moment."""
    try:
        return not stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False

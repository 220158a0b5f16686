"""Room on the disk: asked for before work that would be lost without it."""

import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from pipeline.core.boundary import FULL, ROOM, SHARED
from pipeline.core.errors import InputError
from pipeline.core.files import naming

PIXELS_A_BYTE = 64  # of a JPEG of one colour: no image takes less
ON_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def need_room(place: Path, size: int) -> None:
    """Raises InputError where the disk that `place` is on, or will be, has less than `size` bytes left.

    >>> need_room(Path("models/herd"), 1000)
    """
    there = next(folder for folder in (place.absolute(), *place.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free
    if free < size:
        raise InputError(f"{place}: {_said(free)} are free on its disk; expected {_said(size)}; {ROOM}")


def size_bytes(path: Path | str) -> int:
    """Of a file, or of all files in a folder.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "a").write_text("12345")
    ...     _ = Path(folder, "b").write_text("123")
    ...     size_bytes(f"{folder}/a"), size_bytes(folder)
    (5, 8)
    """
    path = Path(path)
    files = (file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def _said(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def least_of_image(file: Path, pixels: int) -> int:
    """The bytes that an image of `file` takes at least, written anew as a good JPEG of so many pixels; 0 where the file
    is not there.

    >>> least_of_image(Path("no such file"), 64 * 64)
    0
    """
    try:
        return min(file.stat().st_size, pixels // PIXELS_A_BYTE)
    except OSError:
        return 0


def take_room(path: Path) -> None:
    """Have the disk give a file with holes the room of all its bytes. Where a memory map of it finds none later, the
    process ends by a bus error, without a word. Raises OSError.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "calibration.npy")
    ...     with file.open("wb") as opened:
    ...         size = opened.truncate(8192)
    ...     take_room(file)
    ...     file.stat().st_size
    8192
    """
    if not hasattr(os, "posix_fallocate"):  # not on macOS, nor on Windows
        return
    with naming(path), path.open("r+b") as file:
        os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def is_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full, or was raised for one that does, in a library's words too.

    >>> is_full(OSError(errno.ENOSPC, "No space left on device")), is_full(OSError(errno.ENOENT, "No such file"))
    (True, False)
    """
    return any(_says_full(cause) for cause in _causes(error))


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _says_full(error: BaseException) -> bool:
    if isinstance(error, OSError):
        return error.errno in ON_DISK
    return bool(FULL.search(str(error))) and not SHARED.search(str(error))

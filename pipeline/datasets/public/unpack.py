"""Archives (tar in any compression, zip, RAR) into a folder: regular files only, and none outside of it."""

import errno
import gzip
import lzma
import shutil
import stat
import subprocess
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Self

from tqdm import tqdm

from pipeline.core.errors import InputError, shown
from pipeline.core.files import new_folder

Place = Callable[[str], str | None]  # the path of a file in its archive -> where it goes in the folder; None: nowhere
RAR = b"Rar!\x1a\x07"
LONG_HEADERS = (
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
)  # what they say of the file behind them stands in bytes of their own
LONGEST_HEADER = 1 << 18  # bytes: a path has 4096 at most, other attributes of a file some 64 kB
MOST_OF_HEADERS = 1 << 30  # bytes of all headers of a tar, of which each counts as OF_A_HEADER and its own
OF_A_HEADER = 256  # bytes in memory of a name: four million files
SPARSE = "a file with holes; expected files as they are (`tar` without --sparse); the archive is kept"
ENCRYPTED = 0x1  # flag of a file in a zip
WITHOUT_PASSWORD = "is encrypted; expected an archive without a password, this one is kept"
# programs that unpack RAR, with what they are given; never a name of a file in it, which may read as an option
RAR_PROGRAMS = {
    "bsdtar": ("-xf", "{archive}", "-C", "{folder}"),
    "unrar": ("x", "-inul", "-o+", "{archive}", "{folder}/"),
    "unar": ("-quiet", "-no-directory", "-output-directory", "{folder}", "{archive}"),
    "7zz": ("x", "-y", "-bd", "-o{folder}", "{archive}"),
    "7z": ("x", "-y", "-bd", "-o{folder}", "{archive}"),
}


def members(archive: Path) -> list[str]:
    """The files in an archive, sorted. Raises InputError if it is none, or broken."""
    with _reading(archive):
        if _is_rar(archive):
            return sorted(_rar_sizes(archive))
        if tar := _as_tar(archive):
            with tar:
                return sorted(member.name for member in _entries(tar) if member.isfile())
        with zipfile.ZipFile(archive) as packed:
            return sorted(info.filename for info in packed.infolist() if not info.is_dir())


def unpack(archive: Path, folder: Path, place: Place) -> None:
    """Write the files of `archive` that have a place into `folder`.

    Raises InputError naming the archive: for one that is broken or none, a path that leads out of the folder, a link,
    two files for one place, too little room on the disk, and a RAR archive where no program unpacks it.
    """
    with _reading(archive):
        if _is_rar(archive):
            _unpack_rar(archive, folder, place)
        elif tar := _as_tar(archive):
            with tar:
                _unpack_tar(tar, archive, folder, place)
        else:
            _unpack_zip(archive, folder, place)


def _unpack_tar(tar: tarfile.TarFile, archive: Path, folder: Path, place: Place) -> None:
    places = _Places(archive, place)
    for member in tqdm(_entries(tar), f"unpack {archive.name}", unit="file", mininterval=0.5):
        target = None if member.isdir() else places.of(member.name)
        if target is None:
            continue
        if not member.isfile():
            raise InputError(f"{archive}: {shown(member.name)}: a link or device; expected files only")
        _check_room(archive, member.size, folder)
        with _placing(archive, member.name):
            tar.extract(member.replace(name=target, deep=False), folder, set_attrs=False, filter="data")


def _as_tar(archive: Path) -> tarfile.TarFile | None:
    """The archive opened if it is a tar, in any compression. Raises InputError for a first header that is too long."""
    kind = type("_Header", (_Header,), {"archive": archive, "headers": 0})
    try:
        with _header():
            return tarfile.open(archive, tarinfo=kind)
    except tarfile.StreamError:  # of `_header`
        raise
    except tarfile.TarError:
        return None


def _entries(tar: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Each is forgotten by `tar` after its turn: what stands in millions of headers would fill the memory."""
    while True:
        with _header():
            member = tar.next()
        if member is None:
            return
        if member.size < 0:  # the next header would be this one, for ever
            raise tarfile.StreamError(f"{shown(member.name)} has {member.size} bytes")
        tar.members.clear()  # type: ignore[attr-defined]  # typeshed does not list it
        yield member


@contextmanager
def _header() -> Iterator[None]:
    try:
        yield
    except InputError:
        raise
    except (ValueError, OverflowError, RecursionError) as error:  # as of numbers that are none, and of nested headers
        raise tarfile.StreamError(f"a header that says nothing: {error}") from None


class _Header(tarfile.TarInfo):
    """A header of a tar that is of bounded length: zeros of gigabytes take a megabyte when they are compressed, and
    tarfile reads what belongs to a header at once.
    """

    archive: Path
    headers: int  # bytes of all of them so far

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        header = super().frombuf(buf, encoding, errors)
        if header.type == tarfile.GNUTYPE_SPARSE:
            raise InputError(f"{cls.archive}: {shown(header.name)}: {SPARSE}")
        size = header.size if header.type in LONG_HEADERS else 0
        if not 0 <= size <= LONGEST_HEADER:
            found = f"a header of {size:,} bytes, as of a name"
            raise InputError(f"{cls.archive}: {found}; expected at most {LONGEST_HEADER:,}; the archive is kept")
        cls.headers += OF_A_HEADER + size
        if cls.headers > MOST_OF_HEADERS:
            found = f"headers of more than {MOST_OF_HEADERS >> 20} MB, as of millions of files or of long names"
            raise InputError(f"{cls.archive}: {found}; unpack it by hand, or pack it as several; the archive is kept")
        return header

    def _proc_gnusparse_10(self, *_: object) -> None:
        """Its list of holes stands in front of the file, and is as long as it likes."""
        raise InputError(f"{self.archive}: {shown(self.name)}: {SPARSE}")


def _unpack_zip(archive: Path, folder: Path, place: Place) -> None:
    places = _Places(archive, place)
    with zipfile.ZipFile(archive) as packed:
        for info in tqdm(packed.infolist(), f"unpack {archive.name}", unit="file", mininterval=0.5):
            target = None if info.is_dir() else places.of(info.filename)
            if target is None:
                continue
            if info.flag_bits & ENCRYPTED:
                raise InputError(f"{archive}: {shown(info.filename)}: {WITHOUT_PASSWORD}")
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{archive}: {shown(info.filename)}: a link; expected files only")
            _check_room(archive, info.file_size, folder)
            file = folder / target
            with _placing(archive, info.filename):
                file.parent.mkdir(parents=True, exist_ok=True)
                with packed.open(info) as source, file.open("wb") as out:
                    shutil.copyfileobj(source, out)


@contextmanager
def _placing(archive: Path, name: str) -> Iterator[None]:
    """Raises InputError that names the archive and the file in it for a path that no file can have here: one that goes
    through another file, or is too long.
    """
    try:
        yield
    except (NotADirectoryError, IsADirectoryError, FileExistsError, RecursionError) as error:
        said = getattr(error, "strerror", None) or "too many folders"
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        said = str(error.strerror)
    else:
        return
    raise InputError(f"{archive}: {shown(name)[:200]}: cannot lie there: {said}; the archive is kept")


def _unpack_rar(archive: Path, folder: Path, place: Place) -> None:
    """All of it, by the first of RAR_PROGRAMS that is installed; what has a place is held to the archive's own list."""
    sizes, places = _rar_sizes(archive), _Places(archive, place)
    targets = {name: target for name in sizes if (target := places.of(name)) is not None}
    _check_room(archive, sum(sizes.values()), folder)
    program = next((name for name in RAR_PROGRAMS if shutil.which(name)), None)
    if program is None:
        raise InputError(
            f"{archive}: no program here unpacks RAR; install one of {', '.join(RAR_PROGRAMS)} (Debian: "
            "`apt install libarchive-tools`), then run it again: the archive is kept"
        )
    with new_folder(folder / ".rar") as whole:
        _run_rar(program, archive, whole)
        for name, target in targets.items():
            file = whole.resolve() / name
            if not file.is_file() or file.resolve() != file or file.stat().st_size != sizes[name]:
                raise InputError(f"{archive}: {shown(name)} did not come out of it as it is listed, by {program}")
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            file.replace(folder / target)
    shutil.rmtree(folder / ".rar")


def _run_rar(program: str, archive: Path, folder: Path) -> None:
    paths = {"archive": str(archive.absolute()), "folder": str(folder.absolute())}
    given = [program, *(word.format(**paths) for word in RAR_PROGRAMS[program])]
    done = subprocess.run(given, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).split())[-300:]
        raise InputError(f"{archive}: {program} ended with {done.returncode}: {said}")


def _rar_sizes(archive: Path) -> dict[str, int]:
    """Of each file in the archive. Raises InputError for a path that leads out, a link, and two files of one path."""
    import rarfile

    paths = _Places(archive, lambda name: name)
    with rarfile.RarFile(archive) as packed:
        if packed.needs_password():
            raise InputError(f"{archive}: {WITHOUT_PASSWORD}")
        found = {}
        for info in packed.infolist():
            if info.is_dir():
                _inside(archive, info.filename, info.filename)
                continue
            paths.of(info.filename)
            if not info.is_file():
                raise InputError(f"{archive}: {shown(info.filename)}: a link; expected files only")
            found[info.filename] = info.file_size
        return found


class _Places:
    """Where the files of `archive` go by `place`: each inside of the folder, and no two to one place."""

    def __init__(self, archive: Path, place: Place) -> None:
        self._archive, self._place = archive, place
        self._taken: dict[PurePosixPath, str] = {}

    def of(self, name: str) -> str | None:
        target = self._place(name)
        if target is None:
            return None
        path = _inside(self._archive, name, target)
        if path in self._taken:
            both = f"{shown(self._taken[path])} and {shown(name)}"
            raise InputError(f"{self._archive}: {both} would both become {shown(target)}; expected one of them")
        self._taken[path] = name
        return target


def _inside(archive: Path, name: str, target: str) -> PurePosixPath:
    path = PurePosixPath(target.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.parts or ":" in path.parts[0]:
        raise InputError(f"{archive}: {shown(name)}: leads out of the folder that it is unpacked into")
    return path


def _check_room(archive: Path, size: int, folder: Path) -> None:
    if size > (free := shutil.disk_usage(folder).free):
        needed = f"{size / 1e6:,.0f} MB more are needed on the disk of {folder}"
        raise InputError(f"{archive}: {needed}, {free / 1e6:,.0f} MB are free")


def _is_rar(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(len(RAR)) == RAR


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Sets an archive aside of which the libraries raise that it is broken or none, and raises InputError; a sound one
    that they cannot unpack stays where it is.
    """
    import rarfile

    none = (tarfile.TarError, zipfile.BadZipFile, rarfile.NotRarFile, rarfile.BadRarFile)
    broken = (gzip.BadGzipFile, lzma.LZMAError, zlib.error, EOFError)
    try:
        yield
    except (*none, *broken) as error:
        with archive.open("rb") as file:
            begins = file.read(20)
        raise InputError(
            f"{archive}: not a whole tar, zip or RAR archive ({' '.join(str(error).split())}); it began with "
            f"{begins!r} and {set_aside(archive)}"
        ) from None
    except (rarfile.Error, NotImplementedError) as error:
        said = " ".join(str(error).split())
        raise InputError(f"{archive}: cannot be unpacked here ({said}); the archive is kept") from None


def set_aside(file: Path) -> str:
    """Rename a file that is not what it should be, so that the next try fetches it; returns words that say so."""
    aside = file.with_name(f"{file.name}.refused")
    file.replace(aside)
    return f"is kept as {aside.name}, so that the next try fetches it anew"

"""Archives (tar in any compression, zip, RAR) into a folder: regular files only, and none outside of it."""

import gzip
import itertools
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

from tqdm import tqdm

from pipeline.core.errors import InputError, shown
from pipeline.core.files import new_folder

Place = Callable[[str], str | None]  # the path of a file in its archive -> where it goes in the folder; None: nowhere
RAR = b"Rar!\x1a\x07"
# programs that unpack RAR, with what they are given: {archive}, {folder} and, for {names}, the files or nothing for all
RAR_PROGRAMS = {
    "bsdtar": ("-xf", "{archive}", "-C", "{folder}", "{names}"),
    "unrar": ("x", "-inul", "-o+", "{archive}", "{names}", "{folder}/"),
    "unar": ("-quiet", "-no-directory", "-output-directory", "{folder}", "{archive}", "{names}"),
    "7zz": ("x", "-y", "-bd", "-o{folder}", "{archive}", "{names}"),
    "7z": ("x", "-y", "-bd", "-o{folder}", "{archive}", "{names}"),
}
AT_A_TIME = 1000  # names that a program is given


def members(archive: Path) -> list[str]:
    """The files in an archive, sorted. Raises InputError if it is none, or broken."""
    with _reading(archive):
        if _is_rar(archive):
            return sorted(_rar_sizes(archive))
        if tarfile.is_tarfile(archive):
            with tarfile.open(archive) as tar:
                return sorted(member.name for member in tar if member.isfile())
        with zipfile.ZipFile(archive) as packed:
            return sorted(info.filename for info in packed.infolist() if not info.is_dir())


def unpack(archive: Path, folder: Path, place: Place) -> None:
    """Write the files of `archive` that have a place into `folder`.

    Raises InputError naming the archive: for one that is broken or none, a path that leads out of the folder, a link,
    too little room on the disk, and a RAR archive where no program is installed that unpacks it.
    """
    with _reading(archive):
        if _is_rar(archive):
            _unpack_rar(archive, folder, place)
        elif tarfile.is_tarfile(archive):
            _unpack_tar(archive, folder, place)
        else:
            _unpack_zip(archive, folder, place)


def _unpack_tar(archive: Path, folder: Path, place: Place) -> None:
    with tarfile.open(archive) as tar:
        for member in tqdm(tar, f"unpack {archive.name}", unit="file", mininterval=0.5):
            target = None if member.isdir() else place(member.name)
            if target is None:
                continue
            if not member.isfile():
                raise InputError(f"{archive}: {shown(member.name)}: a link or device; expected files only")
            _check(archive, member.name, target)
            _check_room(archive, member.size, folder)
            tar.extract(member.replace(name=target, deep=False), folder, set_attrs=False, filter="data")


def _unpack_zip(archive: Path, folder: Path, place: Place) -> None:
    with zipfile.ZipFile(archive) as packed:
        for info in tqdm(packed.infolist(), f"unpack {archive.name}", unit="file", mininterval=0.5):
            target = None if info.is_dir() else place(info.filename)
            if target is None:
                continue
            if stat.S_ISLNK(info.external_attr >> 16):
                raise InputError(f"{archive}: {shown(info.filename)}: a link; expected files only")
            _check(archive, info.filename, target)
            _check_room(archive, info.file_size, folder)
            file = folder / target
            file.parent.mkdir(parents=True, exist_ok=True)
            with packed.open(info) as source, file.open("wb") as out:
                shutil.copyfileobj(source, out)


def _unpack_rar(archive: Path, folder: Path, place: Place) -> None:
    """By the first of RAR_PROGRAMS that is installed; what it wrote is held to the archive's own list."""
    sizes = _rar_sizes(archive)
    targets = {name: target for name in sizes if (target := place(name)) is not None}
    for name, target in targets.items():
        _check(archive, name, name)
        _check(archive, name, target)
    _check_room(archive, sum(sizes[name] for name in targets), folder)
    program = next((name for name in RAR_PROGRAMS if shutil.which(name)), None)
    if program is None:
        raise InputError(
            f"{archive}: no program here unpacks RAR; install one of {', '.join(RAR_PROGRAMS)} (Debian: "
            "`apt install libarchive-tools`), then run it again: the archive is kept"
        )
    with new_folder(folder / ".rar") as whole:
        _run_rar(program, archive, whole, [] if len(targets) == len(sizes) else sorted(targets))
        for name, target in targets.items():
            file = whole / name
            if file.is_symlink() or not file.is_file() or file.stat().st_size != sizes[name]:
                raise InputError(f"{archive}: {shown(name)} did not come out of it as it is listed, by {program}")
            (folder / target).parent.mkdir(parents=True, exist_ok=True)
            file.replace(folder / target)
    shutil.rmtree(folder / ".rar")


def _run_rar(program: str, archive: Path, folder: Path, names: list[str]) -> None:
    paths = {"archive": str(archive.absolute()), "folder": str(folder.absolute())}
    for start in range(0, max(1, len(names)), AT_A_TIME):
        some = names[start : start + AT_A_TIME]
        words = [some if word == "{names}" else [word.format(**paths)] for word in RAR_PROGRAMS[program]]
        given = [program, *itertools.chain.from_iterable(words)]
        done = subprocess.run(given, capture_output=True, text=True, errors="replace", check=False)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())[-300:]
            raise InputError(f"{archive}: {program} ended with {done.returncode}: {said}")


def _rar_sizes(archive: Path) -> dict[str, int]:
    import rarfile

    with rarfile.RarFile(archive) as packed:
        found = {}
        for info in packed.infolist():
            if info.is_dir():
                continue
            if not info.is_file():
                raise InputError(f"{archive}: {shown(info.filename)}: a link; expected files only")
            found[info.filename] = info.file_size
        return found


def _check(archive: Path, name: str, target: str) -> None:
    parts = PurePosixPath(target.replace("\\", "/"))
    if parts.is_absolute() or ".." in parts.parts or parts.parts[:1] == () or ":" in parts.parts[0]:
        raise InputError(f"{archive}: {shown(name)}: leads out of the folder that it is unpacked into")


def _check_room(archive: Path, size: int, folder: Path) -> None:
    if size > (free := shutil.disk_usage(folder).free):
        needed = f"{size / 1e6:,.0f} MB more are needed on the disk of {folder}"
        raise InputError(f"{archive}: {needed}, {free / 1e6:,.0f} MB are free")


def _is_rar(archive: Path) -> bool:
    with archive.open("rb") as file:
        return file.read(len(RAR)) == RAR


@contextmanager
def _reading(archive: Path) -> Iterator[None]:
    """Removes an archive of which the libraries raise that it is broken or none, and raises InputError."""
    import rarfile

    broken = (tarfile.TarError, zipfile.BadZipFile, rarfile.Error, gzip.BadGzipFile, lzma.LZMAError, zlib.error)
    try:
        yield
    except (*broken, EOFError, RuntimeError) as error:
        with archive.open("rb") as file:
            begins = file.read(20)
        archive.unlink()
        raise InputError(
            f"{archive}: not a whole tar, zip or RAR archive ({' '.join(str(error).split())}); it began with "
            f"{begins!r} and is removed, so that the next try fetches it anew"
        ) from None

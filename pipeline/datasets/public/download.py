"""`pocketlens download`: a public set as a folder that `pocketlens add` takes."""

import shlex
import shutil
from pathlib import Path

from filelock import FileLock, Timeout

from pipeline.core.errors import InputError, without_password
from pipeline.core.files import new_folder, read_json, write_json
from pipeline.core.params import nearest
from pipeline.datasets.public.fetch import Downloads
from pipeline.datasets.public.sets import SETS

RECORD = ".pocketlens-download.json"  # hidden: no format looks at it
WORK = ".downloads"  # beside the folders of the sets


def download(name: str, to: Path, most: int | None = None) -> str:
    """Bring the public set `name` into the folder `to`, or the first `most` images or clips of each of its splits.

    Returns what is there and how it is added. What was fetched of it before is gone on with, in .downloads/ beside
    `to`, and removed once `to` is whole. Raises InputError for an unknown set, a folder that has something else in it,
    another download of the set at the same time, and what hinders the download.

    >>> download("nosuch", Path("nowhere"))
    Traceback (most recent call last):
    pipeline.core.errors.InputError: set 'nosuch'; expected one of ucf101, ucf101-subset, alpaca, oxford-pets, \
coco128, coco-val2017, voc2007
    """
    if name not in SETS:
        raise InputError(f"set {name!r}{nearest(name, SETS)}")
    asked = {"set": name, "max": most}
    if not to.name or ".." in to.parts:  # "." has no name to put another one beside
        to = to.resolve()
    if not _is_there(to, asked):
        work = to.parent / WORK
        work.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(work / f"{name}.lock", timeout=0):
                _bring(name, to, most, asked)
        except Timeout:
            raise InputError(f"{work / name}: another download of {name} is at work there") from None
    lines = [f"pocketlens add {line.format(to=shlex.quote(to.as_posix()))}" for line in SETS[name].add]
    there = f"{to}: {name}, {_files(to):,} files (licence: {SETS[name].licence})"
    return "\n".join([there, *_gone(read_json(to / RECORD).get("gone", [])), "next:", *lines])


def _bring(name: str, to: Path, most: int | None, asked: dict[str, str | int | None]) -> None:
    work = to.parent / WORK
    downloads = Downloads(work / name, work / "seen.json")
    with new_folder(to) as folder:
        SETS[name].bring(downloads, folder, most)
        write_json(folder / RECORD, {**asked, "gone": sorted(map(without_password, downloads.gone))})
    downloads.remember()
    shutil.rmtree(work / name)


def _is_there(to: Path, asked: dict[str, str | int | None]) -> bool:
    """Raises InputError for a file, and a folder that is not empty, but for the same set."""
    if not to.exists() or (to.is_dir() and not any(to.iterdir())):
        return False
    if not (to / RECORD).is_file():
        raise InputError(f"{to}: is there already; expected a new or empty folder")
    found = {key: value for key, value in read_json(to / RECORD).items() if key != "gone"}
    if found != asked:
        said = " ".join(f"{key} {value}" for key, value in found.items() if value is not None)
        raise InputError(f"{to}: has {said} already; expected another folder, or that one removed")
    return True


def _gone(addresses: list[str]) -> list[str]:
    """A line that says so, if any are."""
    if not addresses:
        return []
    few = ", ".join(addresses[:3]) + (", ..." if len(addresses) > 3 else "")
    are = "1 image is" if len(addresses) == 1 else f"{len(addresses):,} images are"
    return [f"{are} no longer on the server and not in the set: {few}"]


def _files(folder: Path) -> int:
    return sum(path.is_file() for path in folder.rglob("*")) - 1  # RECORD

"""Data that lies elsewhere, as in S3: its objects as files of a folder here, each as it was when they were listed.

The objects are listed once and fetched one by one. What was fetched before, and is the same there and here, stays; so a
fetch that was broken off goes on. fsspec knows how to talk to the place: s3, gs, az, http, sftp and what else it has.
"""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from hashlib import sha256 as hash_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock
from tqdm import tqdm

from pipeline.core.boundary import WITHOUT_NAME
from pipeline.core.errors import InputError, without_password
from pipeline.core.files import LONGEST_NAME, content_of_file, naming, sha256, write_text
from pipeline.core.lines import check_size
from pipeline.core.parallel import own_place
from pipeline.datasets.formats.reading import Problem

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

URL = re.compile(r"[a-z][a-z0-9+.-]+(://|::)", re.IGNORECASE)  # C:\ is a disk
FETCHED = Path(".fetched")  # in a project
TOGETHER = 16  # objects that are fetched at once
# what tells two versions of an object apart, in the words of the file systems; the first that both have is compared
CODES = ("ETag", "etag", "md5Hash", "content_md5")
VERSIONS = (*CODES, "mtime", "LastModified", "Last-Modified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True)
class Fetched:
    """A line of the list beside the files: the name here, the object there, and what was written."""

    name: str
    key: str
    size: int
    version: str
    sha256: str


def fetched(place: str, cache: Path) -> tuple[Path, list[Problem]]:
    """A path of params.yaml as it is; of a URL the copy in `cache`, and what is not in it: see `fetch`.

    >>> fetched("data/herd", FETCHED)[0].as_posix()
    'data/herd'
    """
    return fetch(place, cache) if is_url(place) else (Path(place), [])


def kept(place: str, cache: Path) -> Path:
    """The same place without a look at what is elsewhere: it is there as it was fetched last.

    >>> kept("s3://farm/herd/", Path(".fetched")).as_posix()
    '.fetched/52d1eadfc78aa4fa/herd'
    """
    if not is_url(place):
        return Path(place)
    said = without_password(place)  # the same folder when a password or token was renewed
    name = said.partition("?")[0].rstrip("/").rpartition("/")[2]
    return cache / hash_of(said.encode()).hexdigest()[:16] / (name if _is_name(name) else "all")


def _is_name(part: str) -> bool:
    """Whether a file or folder can be called like that."""
    return part not in ("", ".", "..") and "\0" not in part and len(part.encode()) <= LONGEST_NAME


def is_url(place: str) -> bool:
    """Whether a place of params.yaml is elsewhere, and no path.

    >>> is_url("s3://farm/herd"), is_url("data/herd"), is_url("C:/herd")
    (True, False, False)
    """
    return URL.match(place) is not None


def fetch(url: str, cache: Path) -> tuple[Path, list[Problem]]:
    """What lies at `url`, an object or all below it, as a file or folder in `cache`; and a row for each object that is
    not there: its name cannot be a file's, or it was changed since it was listed.

    Raises InputError if nothing is there, it cannot be read, or the one object that is meant was changed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "herd").mkdir()
    ...     _ = Path(folder, "herd", "a b.txt").write_text("two cows")
    ...     place, problems = fetch(f"file://{folder}/herd", Path(folder, "cache"))
    ...     place.name, [file.name for file in place.iterdir()], problems
    ('herd', ['a b.txt'], [])
    """
    place = kept(url, cache)
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{place.parent}.lock"):  # who waits finds here what the other one has fetched
        return place, _fetch(url, place)


def _fetch(url: str, place: Path) -> list[Problem]:
    said = without_password(url)
    try:
        with _named(said, "cannot be listed"):
            system, root, objects = _listed(url)
    except _GoneError:  # no such bucket
        raise InputError(f"{said}: nothing is there") from None
    alone = list(objects) == [root]
    wanted, problems = ({"": root}, []) if alone else _named_as_files(objects, root)
    rows = Path(f"{place.parent}.jsonl")  # beside the folder, where no object can be called like it
    held = _held(rows, place, wanted, objects)
    _remove_others(place, wanted)
    missing = [name for name in wanted if name not in held]
    problems += _fetch_all(system, said, rows, place, {name: objects[wanted[name]] for name in missing})
    if alone and problems:
        raise InputError(f"{said}: {problems[0].found}; run it again")
    return problems


def _listed(url: str) -> tuple["AbstractFileSystem", str, dict[str, dict[str, Any]]]:
    """The file system, the key of what is asked for, and key -> information of each object there."""
    from fsspec.core import url_to_fs

    # an instance of its own remembers no older listing
    system, root = url_to_fs(url, skip_instance_cache=True)
    objects = {key: info for key, info in system.find(root, detail=True).items() if not key.endswith("/")}
    system.invalidate_cache()
    if not objects:
        raise FileNotFoundError
    bare = [key for key, info in objects.items() if info.get("size") is None]  # over HTTP
    with ThreadPoolExecutor(TOGETHER) as pool:
        objects |= zip(bare, pool.map(partial(_information, system), bare), strict=True)
    return system, root, {key: info | {"name": key} for key, info in objects.items()}


def _information(system: "AbstractFileSystem", key: str) -> dict[str, Any]:
    try:
        return dict(system.info(key))
    except FileNotFoundError:  # said when it is fetched
        return {}


def _named_as_files(objects: dict[str, Any], root: str) -> tuple[dict[str, str], list[Problem]]:
    """Name of a file below the folder -> key of its object; slashes that follow each other are one."""
    wanted: dict[str, str] = {}
    problems = []
    for key in sorted(objects):
        parts = [part for part in key[len(root.rstrip("/")) :].split("/") if part]
        name = "/".join(parts)
        if name in wanted:
            found = f"the same file name as that of {without_password(wanted[name])}"
            problems.append(Problem(name, without_password(key), "bad_name", found))
        elif not all(map(_is_name, parts)):
            problems.append(Problem(name, without_password(key), "bad_name", "no file can be called like that"))
        else:
            wanted[name] = key
    folders = {"/".join(parts[:i]) for parts in (n.split("/") for n in wanted) for i in range(1, len(parts))}
    for name in sorted(folders & wanted.keys()):
        found = "called like the folder of other objects"
        problems.append(Problem(name, without_password(wanted.pop(name)), "bad_name", found))
    return wanted, problems


def _held(listed: Path, place: Path, wanted: dict[str, str], objects: dict[str, Any]) -> set[str]:
    """Names of those that were fetched before and are here, byte by byte, as they are there."""
    rows: dict[str, Fetched] = {}
    check_size(listed)
    for line in content_of_file(listed).decode(errors="replace").splitlines() if listed.exists() else ():
        try:
            row = Fetched(**json.loads(line))
        except (ValueError, TypeError):  # the last one, where a kill cut it short
            continue
        rows[row.name] = row
    held = set()
    for name, key in tqdm(wanted.items(), "what was fetched before", mininterval=0.5, leave=False):
        was, file = rows.get(name), place / name if name else place
        there = without_password(key), objects[key].get("size"), _version(objects[key])
        # of what has no version nobody knows whether it was changed
        same = was and was.version and (was.key, was.size, was.version) == there and file.is_file()
        if same and was and sha256(file) == was.sha256:
            held.add(name)
    write_text(listed, "".join(_line(rows[name]) for name in sorted(held)))  # in the place of a link, too
    return held


def _line(row: Fetched) -> str:
    return json.dumps(asdict(row)) + "\n"


def _remove_others(place: Path, wanted: dict[str, str]) -> None:
    """Files that no object has now, and the folders that are empty then."""
    if place.is_file() and "" not in wanted:
        place.unlink()
    if not place.is_dir():
        return
    for file in sorted(place.rglob("*"), reverse=True):
        if file.is_dir() and not file.is_symlink():
            if not any(file.iterdir()):
                file.rmdir()
        elif file.relative_to(place).as_posix() not in wanted:
            file.unlink()
    if "" in wanted:  # one object now, and empty as a folder
        place.rmdir()


def _fetch_all(
    system: "AbstractFileSystem", url: str, listed: Path, place: Path, missing: dict[str, dict[str, Any]]
) -> list[Problem]:
    """Fetch the objects of this information, by the names of their files; a row for each that was changed."""
    problems: list[Problem] = []
    total = sum(info.get("size") or 0 for info in missing.values())
    listed.parent.mkdir(parents=True, exist_ok=True)
    pool = ThreadPoolExecutor(TOGETHER)
    try:
        with listed.open("a", encoding="utf-8") as rows, tqdm(
            desc=f"fetch {url}", total=total, unit="B", unit_scale=True, mininterval=0.5
        ) as bar:  # fmt: skip
            at_work = {pool.submit(_fetch_one, system, url, place, *row): row[0] for row in missing.items()}
            for future in as_completed(at_work):
                row = future.result()
                if isinstance(row, Fetched):
                    rows.write(_line(row))
                    rows.flush()
                    bar.update(row.size)
                else:
                    problems.append(row)
    finally:
        pool.shutdown(cancel_futures=True)
    return sorted(problems, key=lambda problem: problem.file)


def _fetch_one(
    system: "AbstractFileSystem", url: str, place: Path, name: str, info: dict[str, Any]
) -> Fetched | Problem:
    key, file = info["name"], place / name if name else place
    file.unlink(missing_ok=True)  # of an older version
    file.parent.mkdir(parents=True, exist_ok=True)
    said = without_password(key)  # over HTTP a URL itself
    try:
        with naming(file), own_place(file) as part:
            changed = _copy(system, info, part, said if said.startswith(url) else f"{url}: {said}")
    except _GoneError:
        changed = "gone since it was listed"
    if changed:
        file.unlink(missing_ok=True)
        return Problem(name or file.name, "", "changed_while_reading", changed)
    return Fetched(name, said, file.stat().st_size, _version(info), sha256(file))


def _copy(system: "AbstractFileSystem", info: dict[str, Any], file: Path, said: str) -> str:
    """Write the object to `file`; returns how it differs from the one that was listed, "" if it does not."""
    with _named(said, "cannot be read", file):  # a time is given another way in a list than of one object
        before = info if any(map(info.get, CODES)) else system.info(info["name"])
        system.get_file(info["name"], str(file))
        now = system.info(info["name"])
    size = file.stat().st_size
    if info.get("size") not in (None, size):
        return f"changed since it was listed: {info['size']} bytes then, {size} read"
    return _differs(before, now)


def _version(info: dict[str, Any]) -> str:
    return next((f"{key} {info[key]}" for key in VERSIONS if info.get(key)), "")


def _differs(listed: dict[str, Any], now: dict[str, Any]) -> str:
    """What is another, for people; "" if nothing is."""
    for key in ("size", *VERSIONS):
        if listed.get(key) and now.get(key):
            if listed[key] != now[key]:
                return f"changed since it was listed: {key} {listed[key]} then, {now[key]} now"
            if key != "size":
                break
    return ""


class _GoneError(Exception):
    """There is no such object, there."""


@contextmanager
def _named(what: str, how: str, file: Path | None = None) -> Iterator[None]:
    """Each file system raises its own: no rights, no network, no such bucket, a package that is not installed. What is
    wrong here, where `file` is written, is raised as it is.
    """
    try:
        yield
    except Exception as error:
        here = isinstance(error, OSError) and file and str(file) in (error.filename, error.filename2)
        if here or getattr(error, "errno", None) in WITHOUT_NAME:
            raise
        if isinstance(error, FileNotFoundError):
            raise _GoneError from None
        text = without_password(" ".join(str(error).split()))
        raise InputError(f"{what}: {how}: {type(error).__name__}: {text}") from None

"""Files that are either finished or not there: everything is written beside its place and moved in at the end."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`, on an error it is removed."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir()
    try:
        yield unfinished
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    shutil.rmtree(path, ignore_errors=True)
    unfinished.replace(path)


def write_text(path: Path | str, text: str) -> None:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(path)


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON that reads well and is the same bytes each time; NaN is refused (JSON has none)."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """Raises InputError naming the file and the line that is no JSON, or that the file is missing."""
    path = Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from None


def sha256(path: Path | str) -> str:
    """Of a file; of a folder that of a line `<hash>  <name>` for each file in it, as `sha256sum` writes them."""
    path = Path(path)
    if path.is_dir():
        lines = (f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path))
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """What dvc.lock says, or would say, of a file or folder: DVC's own hash, with ".dir" after a folder's."""
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    local = LocalFileSystem()
    # the database is never written to: a dry run only hashes
    nowhere = HashFileDB(local, os.devnull)
    return str(build(nowhere, str(path.absolute()), local, "md5", dry_run=True)[2].hash_info.value)


def size_bytes(path: Path | str) -> int:
    """Of a file, or of all files in a folder."""
    path = Path(path)
    return sum(file.stat().st_size for file in _files(path)) if path.is_dir() else path.stat().st_size


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def link_or_copy(source: Path | str, target: Path | str) -> None:
    """A hard link where the file system has them (no bytes moved), else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

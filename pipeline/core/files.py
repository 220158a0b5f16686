"""Files that are either finished or not there: everything is written beside its place and moved in at the end."""

import codecs
import hashlib
import json
import os
import stat
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from pathlib import Path
from typing import Any

from pipeline.core.boundary import FULL, ROOM, SHARED, WITHOUT_NAME
from pipeline.core.errors import InputError
from pipeline.core.sole import InTheWayError, put_back, remove, sole, swap, writing

LONGEST_NAME = 255  # bytes of a file's name, on the usual file systems
# UTF-32 begins like UTF-16
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


@contextmanager
def new_folder(path: Path | str) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it takes the place of `path`, on an error it is removed. Where
    `path` is a link, all of that happens where it leads. What a run that was killed has left beside `path` goes, or
    comes back, if it is the only one there is. Raises InputError while another process makes the same folder.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with new_folder(f"{folder}/model") as place:
    ...         write_text(place / "labels.txt", "cow")
    ...     [path.name for path in Path(folder, "model").iterdir()]
    ['labels.txt']
    """
    path = Path(os.path.realpath(path)) if Path(path).is_symlink() else Path(path)
    place = unfinished(path)
    old = place.with_suffix(".replaced")
    with naming(path), sole(place, path):
        put_back(old, path)
        remove(old)
        yield place
        swap(place, path, old)


@contextmanager
def naming(path: Path | str) -> Iterator[None]:
    """Have what is raised as `path` is written name it, not nothing, as a full disk has it, nor the hidden name in use.

    >>> try:
    ...     with naming("models/herd"):
    ...         raise OSError(28, "No space left on device")
    ... except OSError as error:
    ...     error.filename
    'models/herd'
    """
    try:
        yield
    except InputError as error:
        if not isinstance(error, InTheWayError):  # it is that name which is taken
            error.args = tuple(_shown(said, path) for said in error.args)
        raise
    except OSError as error:
        if error.filename is None and error.errno in WITHOUT_NAME:
            error.filename = str(path)
        for name in ("filename", "filename2"):  # one that is None by itself would be told once it is set
            if (found := getattr(error, name)) is not None:
                setattr(error, name, _shown(found, path))
        raise
    except Exception as error:  # a library's own
        if FULL.search(str(error)) and not SHARED.search(str(error)):
            raise InputError(f"{path}: {_shown(' '.join(str(error).split()), path)}; {ROOM}") from None
        raise


def _shown(said: Any, path: Path | str) -> Any:
    """A text, or a name, with `path` in place of the hidden one."""
    said = os.fsdecode(said) if isinstance(said, os.PathLike | bytes) else said
    return said.replace(str(unfinished(path)), str(path)) if isinstance(said, str) else said


def unfinished(path: Path | str) -> Path:
    """The hidden name beside `path` under which it is written until it is whole.

    >>> unfinished("drawings/walk.mp4").as_posix()
    'drawings/.walk.mp4.unfinished'
    """
    path = Path(path)
    name = f".{path.name}.unfinished"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.unfinished"
    return path.with_name(name)


@contextmanager
def new_file(path: Path | str) -> Iterator[Path]:
    """Yield a place beside `path` to write the file to; on success it is moved to `path`, on an error removed. Of
    several processes one writes it after the other.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with new_file(f"{folder}/deep/note.txt") as place:
    ...         size = place.write_text("two cows")
    ...     [path.name for path in Path(folder, "deep").iterdir()]
    ['note.txt']
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    place = unfinished(path)
    with naming(path), writing(place, path):
        try:
            yield place
            place.replace(path)
        except BaseException:
            place.unlink(missing_ok=True)
            raise


def write_text(path: Path | str, text: str) -> None:
    """Write UTF-8 text, its ends of lines as they are, and the folders above the file. What UTF-8 has no bytes for, as
    a file name that is not UTF-8 brings, is written as JSON escapes it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/reports/note.txt", "two cows")
    ...     Path(folder, "reports", "note.txt").read_text()
    'two cows'
    """
    with new_file(path) as place:
        place.write_text(text, encoding="utf-8", errors="backslashreplace", newline="")


def open_file(path: Path) -> BufferedReader:
    """A file opened to read its bytes. Raises InputError for a pipe, a device or a socket of that name: it would be
    waited for, or never end. What the shell itself names so below /dev is read. Raises OSError as `open` does.

    >>> open_file(Path("/dev/null"))
    Traceback (most recent call last):
    pipeline.core.errors.InputError: /dev/null: a pipe, a device or a socket; expected a file
    """
    try:
        mode = path.stat().st_mode
    except OSError:
        if not path.is_symlink():
            raise
        raise InputError(f"{path}: a link that leads to nothing; expected a file") from None
    of_the_shell = path == Path("/dev/stdin") or path.parent == Path("/dev/fd")
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or of_the_shell):
        raise InputError(f"{path}: a pipe, a device or a socket; expected a file")
    return path.open("rb")


def content_of_file(path: Path) -> bytes:
    """All that `open_file` opens. Raises as that does.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/note.txt", "two cows")
    ...     content_of_file(Path(folder, "note.txt"))
    b'two cows'
    """
    with open_file(path) as file:
        return file.read()


def read_text(path: Path | str) -> str:
    """The text of a file in UTF-8, or in UTF-16 or UTF-32 with a byte order mark; its lines end in "\\n". Raises
    InputError naming the file and the first byte that is not text.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "classes.txt").write_text("cow", encoding="utf-16")
    ...     read_text(f"{folder}/classes.txt")
    'cow'
    """
    path = Path(path)
    try:
        content = content_of_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file") from None
    mark, encoding = next((row for row in MARKS if content.startswith(row[0])), (b"", "utf-8"))
    wide = "" if encoding == "utf-8" else f", nor {encoding[:6].upper()} as its first bytes say"
    try:
        text = content[len(mark) :].decode(encoding)
    except UnicodeDecodeError as error:
        where = len(mark) + error.start
        raise InputError(f"{path}: not UTF-8 text{wide} (byte {where} is {content[where]:#04x})") from None
    if (place := text.find("\0")) >= 0:  # UTF-16 without its mark would pass as UTF-8
        where = len(mark) + len(text[:place].encode(encoding))
        raise InputError(f"{path}: not UTF-8 text{wide} (byte {where} is zero)")
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON that reads well and is the same bytes each time; NaN is refused (JSON has none).

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_json(f"{folder}/metrics.json", {"AP": 0.5})
    ...     print(Path(folder, "metrics.json").read_text(), end="")
    {
     "AP": 0.5
    }
    """
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path | str) -> Any:
    """The value in a JSON file. Raises InputError naming a file that is missing, the line that is not JSON, or a key
    that an object has twice: which of its values is meant nobody can say.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_json(f"{folder}/metrics.json", {"AP": 0.5})
    ...     read_json(f"{folder}/metrics.json")
    {'AP': 0.5}
    """
    path = Path(path)
    try:
        text = read_text(path)
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected a file of JSON") from None
    try:
        return json.loads(text, object_pairs_hook=each_key_once)
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except InputError as error:  # a key that stands twice
        raise InputError(f"{path}: {error}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; nested too deeply
        raise InputError(f"{path}: not JSON that can be read: {error}") from None


def each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of its `pairs`, as json's `object_pairs_hook`. Raises InputError for a key that stands twice.

    >>> json.loads('{"cows": 2}', object_pairs_hook=each_key_once)
    {'cows': 2}
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for key, times in Counter(key for key, _ in pairs).items() if times > 1)
        first = ", ".join(f"{key}: {json.dumps(value)[:30]}" for key, value in pairs[:2])
        raise InputError(f"an object has the key {twice!r} twice ({first}, ...); expected each key once")
    return found


def sha256(path: Path | str) -> str:
    """Of a file; of a folder that of a line `<hash>  <name>` for each file in it, as `sha256sum` writes them.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/weights", "hello")
    ...     sha256(f"{folder}/weights")[:16], sha256(folder)[:16]
    ('2cf24dba5fb0a30e', '5763548a9681d394')
    """
    path = Path(path)
    if path.is_dir():
        lines = (f"{sha256(file)}  {file.relative_to(path).as_posix()}\n" for file in _files(path))
        return hashlib.sha256("".join(lines).encode(errors="surrogatepass")).hexdigest()
    with open_file(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def md5_of(path: Path) -> str:
    """What dvc.lock says, or would say, of a file or folder: DVC's own hash, with ".dir" after a folder's.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_text(f"{folder}/weights", "hello")
    ...     md5_of(Path(folder, "weights")), md5_of(Path(folder))
    ('5d41402abc4b2a76b9719d911017c592', '36f18057fa276084c4fcb3d7679ece18.dir')
    """
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db import HashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    local = LocalFileSystem()
    # the database is never written to: a dry run only hashes
    nowhere = HashFileDB(local, os.devnull)
    return str(build(nowhere, str(path.absolute()), local, "md5", dry_run=True)[2].hash_info.value)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())

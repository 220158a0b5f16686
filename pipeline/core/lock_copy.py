"""The last whole dvc.lock, kept beside it: DVC writes its files in place, and a kill cuts them."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import platformdirs
from filelock import FileLock, Timeout

from pipeline.core.files import new_file
from pipeline.core.revision import git_has

COPY = ".dvc/tmp/pocketlens.lock"
MARK = ".dvc/tmp/pocketlens.repro"  # locked while `pocketlens repro` runs; one that was killed leaves it
DVC_WRITES = ".dvc/tmp/lock"  # locked by DVC, but for the time in which a stage's command runs
OWN_SETTINGS = ("config", "config.local")  # in .dvc
RWLOCK, RWLOCK_WRITTEN = ".dvc/tmp/rwlock", ".dvc/tmp/rwlock.lock"  # which process has which files; locked meanwhile
ENTRY = re.compile(rb"^  (\S.*):$", re.M)
OUT = re.compile(rb"^    (?:- path|  size):", re.M)
INSIDE = re.compile(rb"(?:^    - path: .*|^      hash: .*|:)\s*\Z", re.M)  # something follows it in every entry


@contextmanager
def repro_runs(project: Path) -> Iterator[bool]:
    """While this lasts, the project says that a repro runs; afterwards no more, unless Ctrl+C or a kill has ended it.
    Yields whether one before was ended so.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, ".dvc").mkdir()
    ...     with repro_runs(Path(folder)) as killed:
    ...         killed
    False
    """
    mark = project / MARK
    if not (project / ".dvc").is_dir():
        yield False
        return
    killed = mark.is_file()
    lock = FileLock(mark, mode=0o666)
    try:
        lock.acquire(blocking=False)
    except Timeout:  # another one runs
        yield False
        return
    try:
        yield killed
        mark.unlink(missing_ok=True)
    finally:
        lock.release()


def keep_lock(project: Path, killed: bool = False) -> str:
    """Keep dvc.lock as it is now; where a kill has cut it, put the last whole one back, and return a line that says
    so. Nothing is done while DVC writes it. A file that ends where an entry ends may be whole: only where a repro was
    `killed` is it compared with the one that was kept.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     lock, _ = Path(folder, "dvc.lock"), Path(folder, ".dvc").mkdir()
    ...     _ = lock.write_text("schema: '2.0'\\nstages:\\n  sample:\\n    cmd: a\\n  params:\\n    cmd: b\\n")
    ...     said = keep_lock(Path(folder))
    ...     _ = lock.write_text("schema: '2.0'\\nstages:\\n  sample:\\n    cmd: a\\n  par")
    ...     print(keep_lock(Path(folder)).replace(folder, "farm"))
    farm/dvc.lock: cut while it was written; the last whole one is back, with 2 stages in place of 1
    """
    with _unused(project, DVC_WRITES) as unused:
        return _keep(project, killed) if unused else ""


def _keep(project: Path, killed: bool) -> str:
    lock, copy = project / "dvc.lock", project / COPY
    if not lock.is_file():  # a person removed it: what comes is no part of the one before
        copy.unlink(missing_ok=True)
        return ""
    found, kept = lock.read_bytes(), copy.read_bytes() if copy.is_file() else b""
    if not is_cut(found, kept if killed else b"") or git_has(project, lock):
        if found != kept:
            with new_file(copy) as place:
                place.write_bytes(found)
        return ""
    if not kept:
        return ""
    copy.replace(lock)
    stages = f"{len(ENTRY.findall(kept))} stages in place of {len(ENTRY.findall(found))}"
    return f"{lock}: cut while it was written; the last whole one is back, with {stages}"


def drop_cut_rwlock(project: Path) -> str:
    """Remove DVC's list of who uses which files where a kill has cut it: DVC does nothing with such a list, and makes
    one where there is none. Returns a line that says so, or "".

    >>> drop_cut_rwlock(Path("no such project"))
    ''
    """
    path = project / RWLOCK
    with _unused(project, RWLOCK_WRITTEN) as unused:
        if not unused or not path.is_file():
            return ""
        try:
            json.loads(path.read_bytes())
        except ValueError:
            path.unlink()
            return f"{path}: cut while DVC wrote it, and removed: nobody has these files now"
    return ""


@contextmanager
def _unused(project: Path, name: str) -> Iterator[bool]:
    """Whether DVC does not have the lock `name`, which is ours meanwhile: it tries for three seconds. Never where DVC
    is told to lock by hard links, which nobody else can see in time.
    """
    if not (project / ".dvc").is_dir() or _hardlink_lock(project):
        yield False
        return
    lock = FileLock(project / name, mode=0o666)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _hardlink_lock(project: Path) -> bool:
    if not any("hardlink_lock" in text.lower() for text in _settings_of_dvc(project)):
        return False  # without DVC, whose import takes longer than some stages
    from dvc.config import Config, ConfigError

    try:
        return bool(Config(str(project / ".dvc"))["core"].get("hardlink_lock"))
    except (ConfigError, OSError):  # DVC says what is wrong with it
        return True


def _settings_of_dvc(project: Path) -> Iterator[str]:
    """The text of each file that DVC takes settings from: this project's, this user's, this machine's."""
    named = (
        os.environ.get("DVC_SYSTEM_CONFIG_DIR") or platformdirs.site_config_dir("dvc", "iterative"),
        os.environ.get("DVC_GLOBAL_CONFIG_DIR") or platformdirs.user_config_dir("dvc", "iterative"),
    )
    for file in (*(Path(folder, "config") for folder in named), *map((project / ".dvc").joinpath, OWN_SETTINGS)):
        try:
            yield file.read_text(encoding="utf-8", errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # what cannot be read may say it
            yield "hardlink_lock"


def is_cut(found: bytes, kept: bytes = b"") -> bool:
    """Whether a dvc.lock ends before its end, as far as it shows that, or the whole one that was `kept` does. DVC adds
    an entry at the end, or writes it where it was: a list of stages that is the beginning of another one was cut.

    >>> is_cut(b"stages:\\n  sample:\\n    cmd: a\\n"), is_cut(b"stages:\\n  sample:\\n    cm"), is_cut(b"")
    (False, True, True)
    """
    if not found.endswith(b"\n") or INSIDE.search(found):
        return True
    names, before = ENTRY.findall(found), ENTRY.findall(kept)
    if len(names) < len(before) and names == before[: len(names)]:
        return True
    return bool(names) and names[-1] in before and _outs(found, names[-1]) < _outs(kept, names[-1])


def _outs(text: bytes, name: bytes) -> int:
    """How many lines with a place or a size the outs of a stage have."""
    rest = text[text.index(b"\n  " + name + b":\n") + 1 :]
    end = ENTRY.search(rest, 1)
    return len(OUT.findall((rest[: end.start()] if end else rest).partition(b"\n    outs:\n")[2]))

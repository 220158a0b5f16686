"""The last whole dvc.lock, kept beside it: DVC writes its files in place, and a kill cuts them."""

import json
import re
from pathlib import Path

from pipeline.core.files import new_file
from pipeline.core.revision import git_has
from pipeline.core.sole import is_held

COPY = ".dvc/tmp/pocketlens.lock"
DVC_WRITES = ".dvc/tmp/lock"  # locked by DVC, but for the time in which a stage's command runs
RWLOCK, RWLOCK_WRITTEN = ".dvc/tmp/rwlock", ".dvc/tmp/rwlock.lock"  # which process has which files; locked meanwhile
ENTRY = re.compile(rb"^  (\S.*):$", re.M)
OUT = re.compile(rb"^    (?:- path|  size):", re.M)


def keep_lock(project: Path) -> str:
    """Keep dvc.lock as it is now; where a kill has cut it, put the last whole one back, and return a line that says
    so. Nothing is done while DVC writes it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     lock, _ = Path(folder, "dvc.lock"), Path(folder, ".dvc").mkdir()
    ...     _ = lock.write_text("schema: '2.0'\\nstages:\\n  sample:\\n    cmd: a\\n  params:\\n    cmd: b\\n")
    ...     said = keep_lock(Path(folder))
    ...     _ = lock.write_text("schema: '2.0'\\nstages:\\n  sample:\\n    cmd: a\\n  par")
    ...     print(keep_lock(Path(folder)).replace(folder, "farm"))
    farm/dvc.lock: cut while it was written; the last whole one is back, with 2 stages in place of 1
    """
    lock, copy = project / "dvc.lock", project / COPY
    if not (project / ".dvc").is_dir() or not lock.is_file() or is_held(project / DVC_WRITES):
        return ""
    found, kept = lock.read_bytes(), copy.read_bytes() if copy.is_file() else b""
    if not is_cut(found, kept) or git_has(project, lock):
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
    if not path.is_file() or is_held(project / RWLOCK_WRITTEN):
        return ""
    try:
        json.loads(path.read_bytes())
    except ValueError:
        path.unlink()
        return f"{path}: cut while DVC wrote it, and removed: nobody has these files now"
    return ""


def is_cut(found: bytes, kept: bytes = b"") -> bool:
    """Whether a dvc.lock ends before its end, as far as it shows that, or the whole one that was `kept` does. DVC adds
    an entry at the end, or writes it where it was: a list of stages that is the beginning of another one was cut.

    >>> is_cut(b"stages:\\n  sample:\\n    cmd: a\\n"), is_cut(b"stages:\\n  sample:\\n    cm"), is_cut(b"")
    (False, True, True)
    """
    if not found.endswith(b"\n") or found.rstrip().endswith(b":"):
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

"""What of a project's files is not what was written: files that the chain made, DVC's cache, databases, checkpoints.

A bit that rots changes no time and no size, so DVC does not see it, and brings a rotten file of its cache back.
"""

import hashlib
import json
import os
import re
import shlex
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pipeline.core.errors import InputError, shown
from pipeline.core.files import md5_of, read_text
from pipeline.core.sole import is_held
from pipeline.tracking.database import REBUILD
from pipeline.tracking.dvc_state import read_lock
from pipeline.tracking.places import dvc_cache, misplaced

TEXTS = ("params.yaml", "resolved.yaml", "dvc.yaml", "splits/*.csv", "labels/**/*.jsonl")
DATABASES = {"mlflow.db": REBUILD, ".features/*.sqlite": "delete it: it is computed anew"}
CHECKPOINTS = ".resume/*/*/last.ckpt"
# of runs that were killed; beside what they were to become
LEFT = (".*.unfinished", ".*.replaced")
PLACES = (".", "data/*", "models", "exports", "reports/*", "splits", ".dvc/tmp")
LOCKED = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
BARRED = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH)
WAIT_S = 5.0  # for another process that writes a database
NO_OUTS = (".venv", "params.yaml", "dvc.yaml", "dvc.lock", "data", "labels", "weights", "pipeline", "stages")
NOT_CACHED = re.compile(r"resolved\.yaml|splits/.+")  # as dvc.yaml says
ONE_STAGE = "dvc repro --force --single-item"
MAY_READ = "see who may read it: `ls -l`"


@dataclass(frozen=True, slots=True)
class Broken:
    """A file or folder, what is wrong with it, and what to do."""

    path: str
    found: str
    cure: str


@dataclass(frozen=True, slots=True)
class _Out:
    """What a stage made, as dvc.lock says."""

    stage: str
    path: str
    md5: str


def examine(project: Path) -> list[Broken]:
    """Hash all that dvc.lock has a hash of, and DVC's cache; have SQLite check its databases. Changes nothing. What may
    not be read is named.

    What was made by hand since is not what dvc.lock says either: its stage is named, and runs with the next repro.
    """
    found = [*(Broken(*row) for row in misplaced(project, (*TEXTS, *DATABASES, CHECKPOINTS))), *_texts(project)]
    try:
        all_outs = _outs(project)
    except InputError as error:
        return [*found, Broken("dvc.lock", str(error), "`pocketlens repro`, or `git checkout dvc.lock`")]
    outs = [out for out in all_outs if _is_inside(out.path)]
    found += [
        Broken(
            out.path,
            f"no place in the project for what a stage makes; {out.stage} is said to make it",
            "take it out of dvc.lock",
        )
        for out in all_outs
        if out not in outs
    ]
    try:
        cache = dvc_cache(project)
    except InputError as error:
        return [*found, Broken(".dvc/config", str(error), "mend it, or `git checkout .dvc/config`")]
    rotten, barred = _rotten_of(project, cache)
    wrong = dict[str, str]()
    for out in tqdm(outs, "outs", disable=None):
        try:
            if said := _differs(project, out, cache):
                wrong[out.path] = said
        except OSError as error:
            barred.append(_barred(out.path, error))
    for out in outs:
        if out.path in wrong:
            is_lost = not NOT_CACHED.fullmatch(out.path) and _is_lost(out, cache)
            lost = "; not all of it is in DVC's cache" if is_lost else ""
            found.append(Broken(out.path, f"{wrong[out.path]}{lost}", _cure(project, out, cache, rotten)))
    found += [_of_cache(project, cache, name, outs, wrong) for name in sorted(rotten)]
    return [*found, *barred, *_databases(project), *_checkpoints(project), *_left(project)]


def is_made(project: Path) -> bool:
    """Whether dvc.lock, or what of it can be read, knows a stage that has run."""
    return (project / "dvc.lock").exists() and bool(read_lock(project))


def _outs(project: Path) -> list[_Out]:
    """Of all stages, as dvc.lock says. Raises InputError if it does not have the form in which DVC writes it."""
    if not (project / "dvc.lock").exists():
        return []
    try:
        rows = [(stage, out) for stage, entry in read_lock(project).items() for out in entry.get("outs") or []]
        outs = [_Out(stage, out["path"], out["md5"]) for stage, out in rows if "md5" in out]
    except (KeyError, TypeError) as error:
        raise InputError(f"no outs as DVC writes them: {error!r}") from None
    if odd := [out for out in outs if not all(isinstance(word, str) for word in (out.stage, out.path, out.md5))]:
        raise InputError(f"{odd[0].stage}: expected words as path and md5, found {odd[0].path!r} and {odd[0].md5!r}")
    return outs


def _is_inside(path: str) -> bool:
    """Whether it names something below the project that a stage may make."""
    place = Path(path)
    if place.is_absolute() or not place.parts or ".." in place.parts:  # behind a link `..` is elsewhere
        return False
    return place.parts[0] not in (".git", ".dvc") and str(place) not in NO_OUTS


def _is_linked_out(project: Path, path: str) -> bool:
    return not (project / path).parent.resolve().is_relative_to(project.resolve())


def _barred(path: str, error: OSError) -> Broken:
    return Broken(path, f"not examined: {error.strerror}", MAY_READ)


def _told(command: str, *names: str) -> str:
    """A command on names that others gave, as one may paste it."""
    if any(shown(name) != name or name.startswith("-") or "`" in name for name in names):
        return f"{command} with its name, which cannot be pasted"
    return f"`{command} {shlex.join(names)}`"


def _texts(project: Path) -> Iterator[Broken]:
    for pattern in TEXTS:
        for path in _files(project, pattern):
            name = str(path.relative_to(project))
            try:
                read_text(path)
            except InputError as error:
                if path.exists():
                    said = str(error).removeprefix(f"{path}: ")
                    yield Broken(name, said, f"mend these bytes, or {_told('git checkout', name)}")
            except OSError as error:
                yield _barred(name, error)


def _files(project: Path, pattern: str) -> list[Path]:
    """Without pipes, which would wait for who writes."""
    return sorted(path for path in project.glob(pattern) if path.is_file())


def _rotten_of(project: Path, cache: Path | None) -> tuple[set[str], list[Broken]]:
    """The files of the cache whose bytes are not what their names say, and those that may not be read."""
    rotten, barred = set(), []
    for path in tqdm(sorted(cache.glob("??/*")) if cache else [], "cache", disable=None):
        try:
            if path.is_file() and _rotten(path):
                rotten.add(path.parent.name + path.name)
        except FileNotFoundError:  # another process took it away
            continue
        except OSError as error:
            barred.append(_barred(os.path.relpath(path, project), error))
    return rotten, barred


def _rotten(path: Path) -> bool:
    return _md5(path) != path.parent.name + path.stem


def _md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def _differs(project: Path, out: _Out, cache: Path | None) -> str:
    """How an out differs from dvc.lock; "" where it does not."""
    path = project / out.path
    if not path.exists():
        return f"missing; {out.stage} made it"
    if path.is_file():
        return "" if _md5(path) == out.md5 else f"other bytes than {out.stage} made"
    listed = _listed(cache, out.md5)
    if listed is None:
        return "" if md5_of(path) == out.md5 else f"other files than {out.stage} made"
    hashes = {file.relative_to(path).as_posix(): _md5(file) for file in path.rglob("*") if file.is_file()}
    wrong = sorted(name for name in hashes.keys() | listed.keys() if hashes.get(name) != listed.get(name))
    return f"other bytes than {out.stage} made: {_named(wrong)}" if wrong else ""


def _listed(cache: Path | None, md5: str) -> dict[str, str] | None:
    """The hashes of a folder's files, from its list in the cache, if that is there and whole."""
    path = cache / md5[:2] / md5[2:] if cache and md5.endswith(".dir") else None
    try:
        if path is None or not path.is_file() or _rotten(path):
            return None
        rows = json.loads(path.read_bytes())
        return {str(row["relpath"]): row["md5"] for row in rows if isinstance(row["md5"], str)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):  # not to be read, or none of DVC's
        return None


def _named(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _cure(project: Path, out: _Out, cache: Path | None, rotten: set[str]) -> str:
    again = f"{_told(ONE_STAGE, out.stage)} makes it anew"
    listed = _listed(cache, out.md5) if out.md5.endswith(".dir") else {out.path: out.md5}
    if not cache or listed is None:
        return again
    if rotten & {*listed.values()}:  # DVC keeps a file of the cache that is there, whatever its bytes are
        return "with that of its file in DVC's cache, below"
    if _is_linked_out(project, out.path):  # somebody else may have set the link: nothing is to be removed there unseen
        return f"a link leads to it, out of the project: see where to, then {again}"
    # DVC, which looks at times, takes what has rotted for up to date
    back = f"{_told('rm -rf', out.path)}, then {_told('dvc checkout', out.path)} brings it back"
    return again if _is_lost(out, cache) else back


def _is_lost(out: _Out, cache: Path | None) -> bool:
    """Whether DVC's cache has not got each of its files."""
    listed = _listed(cache, out.md5) if out.md5.endswith(".dir") else {out.path: out.md5}
    return not cache or listed is None or not all((cache / md5[:2] / md5[2:]).is_file() for md5 in listed.values())


def _of_cache(project: Path, cache: Path | None, name: str, outs: list[_Out], wrong: dict[str, str]) -> Broken:
    """A rotten file of the cache: it is taken away, and comes from the project's file where that is whole."""
    path = os.path.relpath(f"{cache}/{name[:2]}/{name[2:]}", project)
    found = "not what its name says: its bytes have rotted"
    users = [out for out in outs if name == out.md5 or name in (_listed(cache, out.md5) or {}).values()]
    if not users:
        return Broken(path, found, f"{_told('rm -f', path)}: of an earlier state, which `dvc fetch` may have")
    out = users[0]
    after = f"{_told('dvc commit --force', out.stage)} takes it from {out.path}, which is whole"
    if out.path in wrong:
        after = f"{_told(ONE_STAGE, out.stage)} makes both anew"
    return Broken(path, f"{found} ({out.path})", f"{_told('rm -f', path)}, then {after}")


def _databases(project: Path) -> Iterator[Broken]:
    for pattern, cure in DATABASES.items():
        for path in _files(project, pattern):
            name, uri = str(path.relative_to(project)), f"{path.absolute().as_uri()}?mode=ro"
            try:
                with closing(sqlite3.connect(uri, uri=True, timeout=WAIT_S)) as opened:
                    said = [str(row[0]) for row in opened.execute("PRAGMA integrity_check(3)")]
            except sqlite3.Error as error:
                code, said = getattr(error, "sqlite_errorcode", 0) & 0xFF, [str(error)]
                if code in LOCKED:
                    yield Broken(name, "not examined: another process writes it", "ask again when that has ended")
                    continue
                if code in BARRED:
                    yield Broken(name, f"not examined: {error}", MAY_READ)
                    continue
            if said != ["ok"]:
                yield Broken(name, " ".join("; ".join(said).split()), cure)


def _checkpoints(project: Path) -> Iterator[Broken]:
    for path in _files(project, CHECKPOINTS):
        from pipeline.training.checkpoint import read_checkpoint

        name = str(path.relative_to(project))
        try:
            read_checkpoint(path)
        except InputError as error:
            said = str(error).removeprefix(f"{path}: ")
            yield Broken(name, said, "nothing: training sets it aside and begins anew")
        except FileNotFoundError:  # its run has come to the end
            continue
        except OSError as error:
            yield _barred(name, error)


def _left(project: Path) -> Iterator[Broken]:
    for path in sorted(file for place in PLACES for left in LEFT for file in project.glob(f"{place}/{left}")):
        name = str(path.relative_to(project))
        if not is_held(path) and os.path.lexists(path):
            yield Broken(
                name, "a run that was killed has left it", f"{_told('rm -r', name)}; the same stage removes it too"
            )

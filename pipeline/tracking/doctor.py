"""What of a project's files is not what was written: files that the chain made, DVC's cache, databases, checkpoints.

A bit that rots changes no time and no size, so DVC does not see it, and brings a rotten file of its cache back.
"""

import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.files import md5_of, read_text
from pipeline.core.sole import is_held
from pipeline.tracking.database import REBUILD
from pipeline.tracking.dvc_state import read_lock

TEXTS = ("params.yaml", "resolved.yaml", "dvc.yaml", "splits/*.csv", "labels/**/*.jsonl")
DATABASES = {"mlflow.db": REBUILD, ".features/*.sqlite": "delete it: it is computed anew"}
CHECKPOINTS = ".resume/*/*/last.ckpt"
# of runs that were killed; beside what they were to become
LEFT = (".*.unfinished", ".*.replaced")
PLACES = (".", "data/*", "models", "exports", "reports/*", "splits", ".dvc/tmp")


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
    """Hash all that dvc.lock has a hash of, and DVC's cache; have SQLite check its databases. Changes nothing.

    What was made by hand since is not what dvc.lock says either: its stage is named, and runs with the next repro.
    """
    found = [*_texts(project)]
    try:
        outs = [
            _Out(stage, out["path"], out["md5"])
            for stage, entry in (read_lock(project) if (project / "dvc.lock").exists() else {}).items()
            for out in entry.get("outs", [])
            if "md5" in out
        ]
    except InputError as error:
        return [*found, Broken("dvc.lock", str(error), "`pocketlens repro`, or `git checkout dvc.lock`")]
    cache = _cache(project)
    rotten = {path.parent.name + path.name for path in tqdm(_objects(cache), "cache", disable=None) if _rotten(path)}
    wrong = {out.path: said for out in tqdm(outs, "outs", disable=None) if (said := _differs(project, out, cache))}
    found += [Broken(out.path, wrong[out.path], _cure(out, cache, rotten)) for out in outs if out.path in wrong]
    found += [_of_cache(project, cache, name, outs, wrong) for name in sorted(rotten)]
    return [*found, *_databases(project), *_checkpoints(project), *_left(project)]


def _texts(project: Path) -> Iterator[Broken]:
    for pattern in TEXTS:
        for path in sorted(project.glob(pattern)):
            try:
                read_text(path)
            except InputError as error:
                name = str(path.relative_to(project))
                yield Broken(name, str(error).partition(": ")[2], f"mend these bytes, or `git checkout {name}`")


def _cache(project: Path) -> Path | None:
    """The folder of DVC's cache, by its hashes; None where there is none."""
    if not (project / ".dvc").is_dir():
        return None
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        folder = Path(repo.cache.local.path)
    return folder if folder.is_dir() else None


def _objects(cache: Path | None) -> list[Path]:
    return sorted(path for path in cache.glob("??/*") if path.is_file()) if cache else []


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
    if path is None or not path.is_file() or _rotten(path):
        return None
    return {row["relpath"]: row["md5"] for row in json.loads(path.read_bytes())}


def _named(names: list[str], most: int = 5) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _cure(out: _Out, cache: Path | None, rotten: set[str]) -> str:
    again = f"`dvc repro --force --single-item {out.stage}` makes it anew"
    listed = _listed(cache, out.md5) if out.md5.endswith(".dir") else {out.path: out.md5}
    if not cache or listed is None:
        return again
    whole = all((cache / md5[:2] / md5[2:]).is_file() and md5 not in rotten for md5 in listed.values())
    # DVC, which looks at times, takes what has rotted for up to date
    return f"`rm -rf {out.path}`, then `dvc checkout {out.path}` brings it back" if whole else again


def _of_cache(project: Path, cache: Path | None, name: str, outs: list[_Out], wrong: dict[str, str]) -> Broken:
    """A rotten file of the cache: it is taken away, and comes from the project's file where that is whole."""
    path = os.path.relpath(f"{cache}/{name[:2]}/{name[2:]}", project)
    found = "not what its name says: its bytes have rotted"
    users = [out for out in outs if name == out.md5 or name in (_listed(cache, out.md5) or {}).values()]
    if not users:
        return Broken(path, found, f"`rm -f {path}`: of an earlier state, which `dvc fetch` may have")
    out = users[0]
    after = f"`dvc commit --force {out.stage}` takes it from {out.path}, which is whole"
    if out.path in wrong:
        after = f"`dvc fetch`, or `dvc repro --force --single-item {out.stage}`"
    return Broken(path, f"{found} ({out.path})", f"`rm -f {path}`, then {after}")


def _databases(project: Path) -> Iterator[Broken]:
    for pattern, cure in DATABASES.items():
        for path in sorted(project.glob(pattern)):
            try:
                with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as opened:
                    said = [str(row[0]) for row in opened.execute("PRAGMA integrity_check(3)")]
            except sqlite3.Error as error:
                said = [str(error)]
            if said != ["ok"]:
                yield Broken(str(path.relative_to(project)), " ".join("; ".join(said).split()), cure)


def _checkpoints(project: Path) -> Iterator[Broken]:
    for path in sorted(project.glob(CHECKPOINTS)):
        from pipeline.training.checkpoint import read_checkpoint

        try:
            read_checkpoint(path)
        except InputError as error:
            name = str(path.relative_to(project))
            yield Broken(name, str(error).partition(": ")[2], "nothing: training sets it aside and begins anew")


def _left(project: Path) -> Iterator[Broken]:
    for path in sorted(file for place in PLACES for left in LEFT for file in project.glob(f"{place}/{left}")):
        name = str(path.relative_to(project))
        if not is_held(path):
            yield Broken(name, "a run that was killed has left it", f"`rm -r {name}`; the same stage removes it too")

"""What of the chain is not made: the last line of a `make repro` that did not come to its end."""

import time
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from pipeline.core.boundary import LOG, logged_failure
from pipeline.core.errors import InputError

if TYPE_CHECKING:
    from dvc.repo import Repo

UNRESOLVED = (
    "missing: what params.yaml, weights or code have changed since the last run is not known before stage params has "
    "run; `make repro` does that and goes on from there, or says what is wrong in params.yaml"
)
NEVER = "nothing has run yet: `make repro` runs the chain, or says what is wrong in params.yaml"
NOTHING = "nothing is missing: every stage is up to date"
RUNNING = "not known yet: DVC runs in this project; `pocketlens missing` says it when that is over"
VIEWS = (
    "missing: inspect, the FiftyOne datasets of the runs and reports/inspect; every figure, export and MLflow run is "
    "made. Where the database does not start, read .fiftyone/log/mongo.log or set FIFTYONE_DATABASE_URI to a MongoDB "
    "of your own; then `make repro` makes them"
)


LONGEST = 300  # letters of an error


class Missing(NamedTuple):
    """A stage that DVC would run now and that waits for no other one of these: it has failed, or never begun."""

    name: str
    made: float  # when its oldest out was made, in seconds since 1970; 0 where one is not there
    waiting: dict[str, float]  # the same of those that wait for it


def missing_line(project: Path) -> str:
    """The stages of the project that DVC would run now, which of them failed and why, and what to do about it, in one
    line. What waits for one that failed and is made all the same, as `pocketlens repro` does, is not among them.

    Raises InputError if there is no params.yaml, or DVC cannot read dvc.yaml or what it names.
    """
    if not (project / "params.yaml").is_file():
        raise InputError(f"{project / 'params.yaml'}: no such file; run this in the project's folder")
    from dvc.exceptions import DvcException
    from dvc.lock import LockError
    from dvc.repo import Repo

    try:
        with Repo(str(project)) as repo:
            # from another folder DVC puts the way to dvc.yaml before the name
            names = [stage.rpartition(":")[2] for stage in repo.status()]
            first = _first(repo, names)
    except LockError:
        return RUNNING
    except DvcException as error:
        raise InputError(f"{project / 'dvc.yaml'}: {error}") from None
    if not names:
        return NOTHING
    if not (project / "dvc.lock").is_file():
        return NEVER
    if "params" in names:
        return UNRESOLVED
    if names == ["inspect"]:
        return VIEWS
    said = "; ".join(_said(project, stage) for stage in first)
    return f"missing: {said}. `make repro` makes them, or says with an error each why it cannot"


def _first(repo: "Repo", names: list[str]) -> list[Missing]:
    """Those of the stages that wait for no other one, each with those that wait for it and for none before it."""
    graph = repo.index.graph  # from a stage to those that it needs
    nodes = {stage.addressing.rpartition(":")[2]: stage for stage in graph}
    needed = {}
    for name in names:
        below, to_see = set(), [nodes[name]]
        while to_see:
            to_see += [stage for stage in graph[to_see.pop()] if stage not in below]
            below.update(to_see)
        needed[name] = {n for n in names if nodes[n] in below}
    outs = {name: [Path(out.fs_path) for out in nodes[name].outs] for name in names}
    made = {name: min((p.stat().st_mtime if p.exists() else 0.0 for p in outs[name]), default=0.0) for name in names}
    first, told = list[Missing](), set[str]()
    for name in names:
        if not needed[name]:
            waiting = {other: made[other] for other in names if name in needed[other] and other not in told}
            told |= waiting.keys()
            first.append(Missing(name, made[name], waiting))
    return first


def _said(project: Path, missing: Missing) -> str:
    stage, _, key = missing.name.partition("@")
    failed = logged_failure(project, stage, key)
    # the log's times have no parts of a second
    if failed is None or failed[0] + 1 < missing.made:  # it was made since
        return missing.name + (f" ({_wait(missing.waiting)})" if missing.waiting else "")
    why = failed[1] if len(failed[1]) <= LONGEST else f"{failed[1][:LONGEST]}..."
    waiting = [name for name, made in missing.waiting.items() if made < failed[0]]
    also = f"; {_wait(waiting)}" if waiting else ""
    when = time.strftime("%Y-%m-%d %H:%M", time.localtime(failed[0]))
    return f"{missing.name}, which failed at {when}: {why} ({LOG} has all of it){also}"


def _wait(names: Collection[str]) -> str:
    return f"{', '.join(names)} {'waits' if len(names) == 1 else 'wait'} for it"

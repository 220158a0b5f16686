"""What DVC knows of a run: which parameters and data made it, and whether its files are still those.

A run's lock state is the hash of what dvc.lock records for the stages behind it. DVC writes a stage's entry
right after the stage has run and before the next one starts, so a later stage of the same `dvc repro` reads it.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import content_of_file, md5_of
from pipeline.core.lock_copy import is_cut
from pipeline.core.params import flat
from pipeline.core.tables import told
from pipeline.core.yaml_text import yaml_value

OF_RUN = ("train", "evaluate", "export", "verify")
OF_DATASET = ("ingest", "augment")
TIMED = ("training.json", "verify.json")  # outs with what a clock says: no stage depends on one, no state has them
RECORDS = "splits/"  # which split each image is in says the data too; of images that are gone a state knows nothing
DRAWN = (
    "contact_sheet.jpg",
    "worst.jpg",
    "best.jpg",
    "plots",
    "batch.npz",
)  # of data that a state has: another colour is no other


@dataclass(frozen=True, slots=True)
class RunState:
    """`lock`: sha256 of the parameters and outs of all stages behind the run, but for TIMED and DRAWN ones. `data`:
    DVC's hash of the ingested dataset, `test` that of the split which `verify` judges on. `params`: flat, the run's by
    their own names, the dataset's after "dataset.".
    """

    run: str
    dataset: str
    lock: str
    data: str
    test: str
    params: dict[str, Any]


def read_state(project: Path, run: str, dataset: str) -> RunState:
    """Raises InputError naming the stage that dvc.lock has no entry for."""
    return state_of(read_lock(project), run, dataset, project / "dvc.lock")


def state_of(stages: dict[str, Any], run: str, dataset: str, lock_file: Path) -> RunState:
    """`stages`: the entries of `lock_file`, which errors name. Raises InputError as `read_state` does.

    Of a stage's dependencies the data are the outs of the stages before it; code counts by what it made, so that
    a comment in a module makes no new state: DVC does not run the later stages for it either. Seconds and latencies
    do not count: the same params on the same machine give the same state. Nor do sheets and plots: they show what
    counts already.
    """
    addresses = [f"{s}@{dataset}" for s in OF_DATASET] + [f"{s}@{run}" for s in OF_RUN]
    missing = [a for a in addresses if a not in stages]
    if missing:
        raise InputError(f"{lock_file}: no entry for {', '.join(missing)}; `dvc repro {missing[-1]}` first")
    made = {a: {"params": _params(stages[a]), "outs": _steady_outs(stages[a])} for a in addresses}
    ingested = f"data/ingested/{dataset}"
    data = made[f"ingest@{dataset}"]["outs"].get(ingested)
    if data is None:
        raise InputError(f"{lock_file}: ingest@{dataset} has no out {ingested}")
    test = _hashes(stages[f"verify@{run}"].get("deps", [])).get(f"{ingested}/test")
    if test is None:
        raise InputError(f"{lock_file}: verify@{run} has no dep {ingested}/test")
    params: dict[str, Any] = {}
    for address in addresses:
        for key, value in flat(made[address]["params"]).items():
            said = told(value) if isinstance(value, str) else value
            if key.startswith(f"runs.{run}."):
                params[key.removeprefix(f"runs.{run}.")] = said
            elif key.startswith(f"datasets.{dataset}."):
                params[f"dataset.{key.removeprefix(f'datasets.{dataset}.')}"] = said
    lock = hashlib.sha256(json.dumps(made, sort_keys=True).encode()).hexdigest()
    return RunState(run, dataset, lock, data, test, params)


def finished_runs(project: Path) -> list[str]:
    """The runs whose last stage before `track` is in dvc.lock, in the order of their names."""
    last = f"{OF_RUN[-1]}@"
    return sorted(address.removeprefix(last) for address in read_lock(project) if address.startswith(last))


def stale_files(project: Path, runs: Iterable[str]) -> dict[str, list[str]]:
    """Per run what on disk is not what dvc.lock says, as DVC sees it: "models/herd modified", "... deleted".

    An out of the run's stages must be there as recorded, but for the timed ones; so must what they were made from, if
    it is there at all.
    """
    from dvc.repo import Repo

    with Repo(str(project)) as repo:
        stages = {stage.name: stage for stage in repo.index.stages if hasattr(stage, "name")}
        made = {Path(out.fs_path) for stage in stages.values() for out in stage.outs}
        found: dict[str, list[str]] = {}
        for run in runs:
            problems = found.setdefault(run, [])
            for address in (f"{name}@{run}" for name in OF_RUN):
                if address not in stages:
                    problems.append(f"{address} is no longer in dvc.yaml")
                    continue
                for out in (o for o in stages[address].outs if not timed(o.def_path)):
                    seen = [f"{out.def_path} {how}" for how in out.workspace_status().values()]
                    # what rots keeps its time and size, which is what DVC looks at
                    if not seen and md5_of(Path(out.fs_path)) != out.hash_info.value:
                        seen = [f"{out.def_path} has rotted: `pocketlens doctor` says what to do"]
                    problems += seen
                for dep in stages[address].deps:
                    path = Path(dep.fs_path)
                    if made & {path, *path.parents} and "modified" in dep.workspace_status().values():
                        problems.append(f"{dep.def_path} is not what {address} was made from")
    return found


def read_lock(project: Path) -> dict[str, Any]:
    """The entries of dvc.lock by address ("train@herd"). Raises InputError if it is missing, cut, or no YAML of that
    form.
    """
    path = project / "dvc.lock"
    try:
        content = content_of_file(path)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `dvc repro` writes it") from None
    except IsADirectoryError:
        raise InputError(f"{path}: a folder; expected the file that DVC writes: remove it") from None
    if is_cut(content):
        raise InputError(f"{path}: cut while it was written; `pocketlens repro` puts the last whole one back")
    try:
        lock = yaml_value(content.decode("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML: not UTF-8: {error}") from None
    stages = lock.get("stages") or {} if isinstance(lock, dict) else lock
    if not isinstance(stages, dict) or not all(isinstance(entry, dict) for entry in stages.values()):
        raise InputError(f"{path}: expected `stages` with an entry each, as DVC writes it")
    return stages


def timed(path: str) -> bool:
    """Whether the out at `path` holds what a clock measures anew each time."""
    return path.rpartition("/")[2] in TIMED


def _steady_outs(entry: dict[str, Any]) -> dict[str, str]:
    outs = _hashes(entry.get("outs", []))
    steady = {path: md5 for path, md5 in outs.items() if not timed(path) and not path.startswith(RECORDS)}
    return {path: md5 for path, md5 in steady.items() if path.rpartition("/")[2] not in DRAWN}


def _params(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: value for file in entry.get("params", {}).values() for key, value in file.items()}


def _hashes(outs: list[dict[str, Any]]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in outs}

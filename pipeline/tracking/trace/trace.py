"""Where a file came from: the stage that made it, of what, with which parameters, and whether it still is that.

Everything is read from dvc.lock, git and the chain's own files; nothing is written. A file of another place, or a copy
under another name, is known by its content: among the files of the chain, then among those that DVC keeps of earlier
states.
"""

from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import md5_of, sha256
from pipeline.core.params import flat
from pipeline.tracking.dvc_state import OF_RUN, read_lock
from pipeline.tracking.run_record import git_tags
from pipeline.tracking.trace.image import image_of
from pipeline.tracking.trace.recorded import Stages, commits, listed, outs_with, recorded_json
from pipeline.tracking.trace.run import run_facts
from pipeline.tracking.trace.search import earlier, places_of

CODE = ("pipeline", "stages")
CURRENT, CHANGED, EARLIER = "current", "changed since", "of an earlier state"


def trace(file: Path, project: Path, uri: str | None = None) -> dict[str, Any]:
    """What is known of `file`, ready for JSON; `uri` is MLflow's, None the project's own.

    Keys: file, sha256, size_bytes, places (equal files of the chain), state (and `why`), stage, out, made_from, code,
    params, git; of a dataset's or run's file `dataset`; of a run's file run, target, lock, run_params, mlflow, verdict;
    of an image `picture`. Raises InputError if the file is not there, or is not the chain's: what was searched then.
    """
    if not file.is_file():
        raise InputError(f"{file}: {'a folder; expected a file in it' if file.is_dir() else 'no such file'}")
    stages = read_lock(project)
    found: dict[str, Any] = {"file": str(file), "sha256": sha256(file), "size_bytes": file.stat().st_size}
    places = places_of(file, project, stages)
    if places:
        place = places[0]
        found |= {"places": places, **_state(place, project, stages)}
    else:
        place, stages, commit = earlier(file, project, stages)
        found |= {"places": [], "state": EARLIER, "why": f"{place} of commit {commit[:8]}"}
    address, out = outs_with(place, stages)[0]
    entry = stages[address]
    found |= {"stage": address, "out": _hashed([out])[0], "made_from": _made_from(address, stages, set())}
    found["code"] = _hashed([dep for dep in entry.get("deps", []) if _is_code(dep)])
    found["params"] = _params(entry)
    found["git"] = {"recorded_in": next(reversed(commits(project, out["md5"])), None), **git_tags(project)}
    stage, _, name = address.partition("@")
    of_run = stage in (*OF_RUN, "report", "track")
    dataset = _params(stages[f"train@{name}"])[f"runs.{name}.dataset"] if of_run else name
    if dataset:
        found["dataset"] = _dataset(project, dataset, stages)
    if of_run:
        found |= {"run": name, **run_facts(project, name, dataset, stages, place, uri)}
    if dataset and (image := image_of(project, place, dataset, found["dataset"])):
        found["picture"] = image
    return found


def _state(place: str, project: Path, stages: Stages) -> dict[str, str]:
    """Whether the file is what dvc.lock says; where DVC's cache cannot tell, whether its folder as a whole is."""
    _, out = outs_with(place, stages)[0]
    known = {out["path"]: out["md5"]} if place == out["path"] else listed(project, out)
    if not known:
        same = md5_of(project / out["path"]) == out["md5"]
        return {"state": CURRENT} if same else {"state": CHANGED, "why": f"dvc.lock has another {out['path']}"}
    recorded = known.get(place)
    if recorded is None:
        return {"state": CHANGED, "why": f"dvc.lock's {out['path']} has no such file"}
    if recorded == md5_of(project / place):
        return {"state": CURRENT}
    return {"state": CHANGED, "why": f"by dvc.lock its md5 was {recorded}"}


def _made_from(address: str, stages: Stages, told: set[str]) -> list[dict[str, Any]]:
    """The data that a stage read, each with the stage that made it and what that one read; of a stage told of before
    only its name.
    """
    rows = []
    for dep in {d["path"]: d for d in stages[address].get("deps", []) if not _is_code(d)}.values():
        row = _hashed([dep])[0]
        if makers := outs_with(dep["path"], stages):
            row["by"] = makers[0][0]
            if row["by"] not in told:
                told.add(row["by"])
                row["made_from"] = _made_from(row["by"], stages, told)
        rows.append(row)
    return rows


def _is_code(dep: dict[str, Any]) -> bool:
    return dep["path"].split("/")[0] in CODE


def _hashed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"path": row["path"], "md5": row["md5"]} for row in rows]


def _params(entry: dict[str, Any]) -> dict[str, Any]:
    return flat({key: value for file in entry.get("params", {}).values() for key, value in file.items()})


def _dataset(project: Path, name: str, stages: Stages) -> dict[str, Any]:
    entry, start = stages[f"ingest@{name}"], f"datasets.{name}.ingest."
    params = {key.removeprefix(start): value for key, value in _params(entry).items()}
    ingested = next(out for out in entry["outs"] if out["path"] == f"data/ingested/{name}")
    told = recorded_json(project, ingested, "/dataset.json")
    source = [dep["md5"] for dep in entry.get("deps", []) if dep["path"] == params.get("path")]
    return {
        "name": name,
        **{key: params.get(key) for key in ("format", "path", "labels")},
        "options": {k.removeprefix("options."): v for k, v in params.items() if k.startswith("options.")},
        "source_md5": source[0] if source else None,
        "layers": {layer: params.get(f"layers_sha256.{layer}") for layer in params.get("layers", [])},
        "ingested_md5": ingested["md5"],
        "counts": told["counts"] if told else None,
    }

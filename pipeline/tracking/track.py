"""MLflow's runs: one per run and lock state, with the model that is registered where `verify` passed.

MLflow is a view of the chain's files: a run of it is found again by its tags `pocketlens.run` and `pocketlens.lock`,
and made from the files if it is missing or was left half-written. Where only its artifacts are gone, they are written
again and the run stays: its versions and aliases hang on it.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.files import naming, read_json
from pipeline.core.params import flat
from pipeline.core.spec import read_spec
from pipeline.tracking.database import alone, database_of, is_there, mend
from pipeline.tracking.dvc_state import RunState, finished_runs, read_state, stale_files
from pipeline.tracking.params import TrackParams
from pipeline.tracking.registry import PLACE, Servable, model_name, register, save, servable
from pipeline.tracking.run_record import final_figures, git_tags, history, legal_name, numbers, report_files
from pipeline.tracking.store import Store, UnansweredError, answering, open_store, whole_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

EXPERIMENT = TrackParams().experiment
UNSERVED = "verify did not pass, or none of its files runs in Python; aliases stay"
IN_A_BATCH = 100  # params or tags MLflow takes at once; of metrics it takes ten times that
LEFT_AFTER_H = 24  # after this long nobody still writes an unfinished run on a server: it takes minutes


@dataclass(frozen=True, slots=True)
class Tracked:
    """`mlflow_run` and `version` (of the registered model; None where there is none to register) are MLflow's ids;
    `new` says that the MLflow run was made now, `refilled` that only its files were, which were gone; `said` what
    became of the aliases.
    """

    run: str
    lock: str
    mlflow_run: str
    version: str | None
    new: bool
    refilled: bool = False
    said: str = ""


def track_run(run: str, project: Path, uri: str | None = None, experiment: str = EXPERIMENT) -> Tracked:
    """Make sure that MLflow has the run as it is on disk and in dvc.lock, and its model if `verify` passed.

    `uri` is a tracking server or a database, None takes `default_uri`; a relative SQLite path is one in the project.
    The files are taken as they are: DVC, which runs this stage, has seen to it that they are those of dvc.lock.
    Raises InputError if a file or an entry of dvc.lock is missing, or MLflow fails; UnansweredError if a server is
    silent.
    """
    model = read_spec(project / "models" / run / "model.json")
    state = read_state(project, run, model.dataset)
    served = servable(project, run)
    with open_store(project, uri, experiment) as store:
        found = _find(store, state)
        source = found or _log(store, project, state, model.trained, run, git_tags(project), served)
        refilled = found is not None and _refill(store.client, found, project, state, served)
        made = register(store.client, source, state, served) if served else None
    version, said = (made.version, made.said) if made else (None, UNSERVED)
    return Tracked(run, state.lock, source.info.run_id, version, found is None, refilled, said)


def track_compared(run: str, folder: Path, commit: str, uri: str, experiment: str) -> Tracked:
    """Make sure that MLflow has what a comparison made of the run with one backbone, under that backbone's name.

    `folder` holds its files and dvc.lock, which are those of git's `commit`. No model is registered. `experiment` has
    one MLflow run for a model: one of an earlier comparison is deleted. Raises InputError as `track_run` does.
    """
    model = read_spec(folder / "models" / run / "model.json")
    state, name = read_state(folder, run, model.dataset), model.backbone
    tags = {"pocketlens.model": name, "mlflow.source.git.commit": commit, "pocketlens.git.dirty": "false"}
    with open_store(folder, uri, experiment) as store:
        found = _find(store, state)
        source = found or _log(store, folder, state, model.trained, name, tags, None)
        refilled = found is not None and _refill(store.client, found, folder, state, None)
        _delete_others(store, run, name, source.info.run_id)
    return Tracked(run, state.lock, source.info.run_id, None, found is None, refilled)


def track_figures(
    run: str, name: str, params: dict[str, Any], figures: dict[str, Any], uri: str, experiment: str
) -> None:
    """The same for a model outside the chain: `figures` (nested, numbers count) and the `params` they came of."""
    from mlflow.entities import Metric, Param

    tags = {"pocketlens.run": run, "pocketlens.model": name}
    now = int(time.time() * 1000)
    metrics = [Metric(key, value, now, 0) for key, value in numbers(figures)]
    with open_store(Path(), uri, experiment) as store:
        run_id = store.client.create_run(store.experiment, tags=tags, run_name=name).info.run_id
        store.client.log_batch(run_id, metrics=metrics, params=[Param(k, str(v)) for k, v in flat(params).items()])
        store.client.set_terminated(run_id)
        _delete_others(store, run, name, run_id)


def track_all(project: Path, uri: str | None = None, experiment: str = EXPERIMENT) -> Iterator[str]:
    """Rebuild the view from DVC's state: `track_run` for each run whose files are those of dvc.lock.

    Yields a line per run as it goes; a run with files that are missing or changed is skipped and says which. A server
    that leaves one run unanswered is not asked for the others. Raises InputError at the end if a run was skipped, and
    at once if there is none or the project's database cannot be used.
    """
    runs = finished_runs(project)
    if not runs:
        raise InputError(f"{project / 'dvc.lock'}: no finished run; `dvc repro` makes them")
    database = database_of(whole_uri(project, uri))
    if database and is_there(database):
        with alone(database):
            mend(database)  # also where each run is skipped: `make ui` shows what is there
    stale, skipped, silent = stale_files(project, runs), [], ""
    for run in runs:
        why = f"`dvc repro track@{run}` or `dvc pull` first: {'; '.join(stale[run])}" if stale[run] else silent
        if not why:
            try:
                yield describe(track_run(run, project, uri, experiment))
                continue
            except InputError as error:
                why = str(error)
                silent = why if isinstance(error, UnansweredError) else ""
        skipped.append(run)
        yield f"{run}: skipped: {why}"
    if skipped:
        raise InputError(f"not tracked: {', '.join(skipped)}; the lines above say why")


def tracked_as(state: RunState, project: Path, uri: str | None = None) -> list[str]:
    """The ids of the finished MLflow runs of this state, in any experiment; [] where there is no store. Makes nothing.

    Raises InputError if a store that should be there does not answer.
    """
    query = f"tags.`pocketlens.run` = '{state.run}' AND tags.`pocketlens.lock` = '{state.lock}'"
    return [r.info.run_id for r in _finished(whole_uri(project, uri), query)]


def describe(tracked: Tracked) -> str:
    made = "tracked" if tracked.new else "was tracked already"
    made += ", its files are written again" if tracked.refilled else ""
    model = f"model {model_name(tracked.run)} version {tracked.version}" if tracked.version else "no model registered"
    return f"{tracked.run}: {made} as MLflow run {tracked.mlflow_run}, {model}: {tracked.said}"


def runs_table(project: Path, uri: str | None = None, experiment: str = EXPERIMENT) -> Any:
    """A pandas DataFrame of the experiment's finished runs, the newest first: run, lock, commit, started, then the
    params, then the final figures. A cell is empty (NaN) where a run has no such param or figure. Makes nothing: no
    rows where there is no store, or no such experiment.

    Raises InputError if a store that should be there does not answer.
    """
    import pandas as pd

    found = _finished(whole_uri(project, uri), "", experiment)
    rows = []
    for r in found:
        tags = r.data.tags
        lock, commit = tags.get("pocketlens.lock", ""), tags.get("mlflow.source.git.commit", "")
        started = pd.Timestamp(r.info.start_time, unit="ms")
        rows.append((tags.get("pocketlens.run", r.info.run_name), lock[:8], commit[:8], started))
    columns = pd.DataFrame(rows, columns=["run", "lock", "commit", "started"])
    params = pd.DataFrame([r.data.params for r in found])
    # those without a prefix are the last epoch's; training keeps the best epoch
    final = pd.DataFrame([{k: v for k, v in r.data.metrics.items() if "/" in k} for r in found])
    return pd.concat([columns, params, final], axis=1)


def _finished(uri: str, query: str, experiment: str | None = None) -> list["Run"]:
    """The finished MLflow runs that `query` finds in an experiment, or in any, as the store at a whole `uri` is now."""
    database = database_of(uri)
    if database and not is_there(database):
        return []
    query = " AND ".join(filter(None, (query, "attributes.status = 'FINISHED'")))
    found: list[Run] = []
    token: str | None = ""
    with answering(uri) as client:
        known = [client.get_experiment_by_name(experiment)] if experiment else client.search_experiments()
        experiments = [e.experiment_id for e in known if e]
        while experiments and token is not None:
            page = client.search_runs(experiments, query, page_token=token or None)
            found += page
            token = page.token or None
    return found


def _find(store: Store, state: RunState) -> "Run | None":
    """The finished MLflow run of this state, the one that was finished first. What was left half-written is deleted."""
    query = f"tags.`pocketlens.run` = '{state.run}' AND tags.`pocketlens.lock` = '{state.lock}'"
    runs = store.client.search_runs([store.experiment], query, order_by=["attributes.end_time ASC"])
    for left in (run for run in runs if _left(run, store)):
        store.client.delete_run(left.info.run_id)
    return next((run for run in runs if run.info.status == "FINISHED"), None)


def _left(run: "Run", store: Store) -> bool:
    """Whether an MLflow run is unfinished and nobody writes it any more: on a server another process may do so now."""
    if run.info.status not in ("RUNNING", "SCHEDULED"):
        return bool(run.info.status != "FINISHED")
    return store.alone or bool(run.info.start_time < (time.time() - LEFT_AFTER_H * 3600) * 1000)


def _delete_others(store: Store, run: str, name: str, run_id: str) -> None:
    query = f"tags.`pocketlens.run` = '{run}' AND tags.`pocketlens.model` = '{name}'"
    for found in store.client.search_runs([store.experiment], query):
        if found.info.run_id != run_id and (found.info.status == "FINISHED" or _left(found, store)):
            store.client.delete_run(found.info.run_id)


def _log(
    store: Store,
    project: Path,
    state: RunState,
    trained: dict[str, Any],
    name: str,
    more_tags: dict[str, str],
    served: Servable | None,
) -> "Run":
    """A new MLflow run with all that the files say, and the model to serve; it counts as finished only when everything
    is in.
    """
    from mlflow.entities import Metric, Param

    client, reports, run = store.client, project / "reports", state.run
    tags = {"pocketlens.run": run, "pocketlens.lock": state.lock, "pocketlens.data": state.data, **more_tags}
    made = client.create_run(store.experiment, tags=tags, run_name=name)
    run_id, now = made.info.run_id, int(time.time() * 1000)
    facts = {**state.params, **{f"trained.{k}": v for k, v in flat(trained).items()}}
    params = [Param(legal_name(k), v if isinstance(v, str) else json.dumps(v)) for k, v in facts.items()]
    figures = history(reports / "train" / run / "history.csv") + final_figures(project, run)
    metrics = [Metric(key, value, now, step) for key, value, step in figures]
    for i in range(0, len(params), IN_A_BATCH):
        client.log_batch(run_id, params=params[i : i + IN_A_BATCH])
    for i in range(0, len(metrics), IN_A_BATCH * 10):
        client.log_batch(run_id, metrics=metrics[i : i + IN_A_BATCH * 10])
    _log_data(client, run_id, project, state)
    _log_files(client, run_id, project, state, served)
    client.set_terminated(run_id)
    return made


def _refill(client: "MlflowClient", run: "Run", project: Path, state: RunState, served: Servable | None) -> bool:
    """Write the run's files again if they are gone; says whether they were. Its figures, versions and aliases stay."""
    run_id = run.info.run_id
    folders = "model", "exports", *([PLACE] if served else [])
    found = {folder: {Path(file.path).name for file in client.list_artifacts(run_id, folder)} for folder in folders}
    if all(found.values()) and found["exports"] >= {path.name for path in _verdicts(project, state.run)}:
        return False
    _log_files(client, run_id, project, state, served)
    return True


def _verdicts(project: Path, run: str) -> list[Path]:
    places = (project / "reports/verify" / run / name for name in ("verdict.json", "verify.json"))
    return [path for path in places if path.is_file()]


def _log_files(client: "MlflowClient", run_id: str, project: Path, state: RunState, served: Servable | None) -> None:
    reports, run = project / "reports", state.run
    for path, place in report_files(reports, state):
        client.log_artifact(run_id, str(path), place)
    client.log_artifacts(run_id, str(project / "models" / run), "model")
    client.log_artifacts(run_id, str(project / "exports" / run), "exports")
    if served:
        with tempfile.TemporaryDirectory() as scratch:
            with naming(scratch):
                save(served, Path(scratch, PLACE), run_id)
            client.log_artifacts(run_id, str(Path(scratch, PLACE)), PLACE)
    # whoever downloads the folder has the verdict on it too: it cannot lie in the folder that `verify` judges. It comes
    # last: where it is, all is there
    for path in _verdicts(project, run):
        client.log_artifact(run_id, str(path), "exports")


def _log_data(client: "MlflowClient", run_id: str, project: Path, state: RunState) -> None:
    from mlflow.entities import Dataset, DatasetInput

    folder = f"data/ingested/{state.dataset}"
    told = read_json(project / folder / "dataset.json")
    layers = {key: value for key, value in told.get("source", {}).items() if key == "layers"}
    source, counts = json.dumps({"path": folder, "md5": state.data, **layers}), json.dumps(told["counts"])
    data = Dataset(state.dataset, state.data, source_type="dvc", source=source, profile=counts)
    client.log_inputs(run_id, [DatasetInput(data)])

"""One run of MLflow: found by its tags, written whole from the chain's files, deleted."""

import json
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.files import read_json
from pipeline.core.params import flat
from pipeline.tracking.dvc_state import RunState
from pipeline.tracking.registry import PLACE, Servable, save
from pipeline.tracking.run_record import final_figures, history, legal_name, report_files

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

IN_A_BATCH = 100  # params or tags MLflow takes at once; of metrics it takes ten times that


def find_run(client: "MlflowClient", experiment_id: str, state: RunState, folders: list[str]) -> "Run | None":
    """The finished MLflow run of this state that still has its files: `folders` among them. What else has its tags is
    deleted: a kill left it half-written, or its files are gone.
    """
    query = f"tags.`pocketlens.run` = '{state.run}' AND tags.`pocketlens.lock` = '{state.lock}'"
    whole = None
    for found in client.search_runs([experiment_id], query, order_by=["attributes.start_time ASC"]):
        run_id, finished = found.info.run_id, found.info.status == "FINISHED"
        if whole is None and finished and all(client.list_artifacts(run_id, folder) for folder in folders):
            whole = found
        else:
            client.delete_run(run_id)
    return whole


def delete_others(client: "MlflowClient", experiment_id: str, run: str, name: str, run_id: str) -> None:
    """Delete the runs of this `run` and model `name` but for `run_id`."""
    query = f"tags.`pocketlens.run` = '{run}' AND tags.`pocketlens.model` = '{name}'"
    for found in client.search_runs([experiment_id], query):
        if found.info.run_id != run_id:
            client.delete_run(found.info.run_id)


def log_run(
    client: "MlflowClient",
    experiment_id: str,
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

    reports, run = project / "reports", state.run
    tags = {"pocketlens.run": run, "pocketlens.lock": state.lock, "pocketlens.data": state.data, **more_tags}
    made = client.create_run(experiment_id, tags=tags, run_name=name)
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
    for path, place in report_files(reports, state):
        client.log_artifact(run_id, str(path), place)
    client.log_artifacts(run_id, str(project / "models" / run), "model")
    client.log_artifacts(run_id, str(project / "exports" / run), "exports")
    if served:
        with tempfile.TemporaryDirectory() as scratch:
            save(served, Path(scratch, PLACE), run_id)
            client.log_artifacts(run_id, str(Path(scratch, PLACE)), PLACE)
    # whoever downloads the folder has the verdict on it too: it cannot lie in the folder that `verify` judges
    client.log_artifact(run_id, str(reports / "verify" / run / "verify.json"), "exports")
    client.set_terminated(run_id)
    return made


def _log_data(client: "MlflowClient", run_id: str, project: Path, state: RunState) -> None:
    from mlflow.entities import Dataset, DatasetInput

    folder = f"data/ingested/{state.dataset}"
    counts = read_json(project / folder / "dataset.json")["counts"]
    source = json.dumps({"path": folder, "md5": state.data})
    data = Dataset(state.dataset, state.data, source_type="dvc", source=source, profile=json.dumps(counts))
    client.log_inputs(run_id, [DatasetInput(data)])

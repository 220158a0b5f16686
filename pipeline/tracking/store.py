"""Where MLflow keeps its runs: a server, or a database file at the project's root."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import InputError, without_password

if TYPE_CHECKING:
    from mlflow import MlflowClient


def default_uri(project: Path) -> str:
    """The store of a project without a server: an SQLite file at its root."""
    return f"sqlite:///{project.resolve() / 'mlflow.db'}"


def whole_uri(project: Path, uri: str | None) -> str:
    """`uri`, or `default_uri` if it is None; a relative SQLite path is one in the project."""
    uri = uri or default_uri(project)
    if uri.startswith("sqlite:///") and not uri.startswith("sqlite:////"):
        return f"sqlite:///{project.resolve() / uri.removeprefix('sqlite:///')}"
    return uri


def quiet() -> None:
    """To call before MLflow is imported, which reads the environment: no calls home, no database steps in the log,
    and a server that is not there is an error now, not in minutes.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)


@contextmanager
def open_store(project: Path, uri: str | None, experiment: str) -> "Iterator[tuple[MlflowClient, str]]":
    """A client and the experiment's id; the experiment is made, or restored if someone deleted it in the UI.

    Raises InputError, now or while they are used, where MLflow or its place for files does not answer.
    """
    uri = whole_uri(project, uri)
    quiet()
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    try:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        yield client, _experiment(client, uri, experiment)
    except (MlflowException, OSError) as error:
        raise InputError(f"MLflow at {without_password(uri)}: {error}") from None


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, _artifacts_of(uri)))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if not uri.startswith("http") and str(found.artifact_location).startswith("mlflow-artifacts:"):
        raise InputError(
            f"MLflow at {without_password(uri)}: experiment {name!r} was made through a server and keeps its "
            "files there; set MLFLOW_TRACKING_URI to that server, or track.experiment to another name"
        )
    return str(found.experiment_id)


def _artifacts_of(uri: str) -> str | None:
    """Files lie beside an SQLite database, wherever the process was started; servers have a place of their own."""
    if not uri.startswith("sqlite:///"):
        return None
    return (Path(uri.removeprefix("sqlite:///")).parent / "mlartifacts").as_uri()

"""Where MLflow keeps its runs: a server, or a database file at the project's root."""

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from glob import escape
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.boundary import WITHOUT_NAME, known, known_of
from pipeline.core.errors import InputError, without_password
from pipeline.core.files import new_file
from pipeline.tracking.database import FILES, REBUILD, WRITTEN, alone, database_of, is_there, mend, uri_of

if TYPE_CHECKING:
    from mlflow import MlflowClient

TIMEOUT, RETRIES = "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
COPIES = (".dvc", "tmp", "exps")  # where DVC puts the copies of a project that experiments run in


class UnansweredError(InputError):
    """The server does not answer: who asks again waits as long again."""


@dataclass(frozen=True, slots=True)
class Store:
    """`experiment` is MLflow's id. `alone`: no other process tracks into it while it is open."""

    client: "MlflowClient"
    experiment: str
    alone: bool


def default_uri(project: Path) -> str:
    """The store of a project without a server: an SQLite file at its root."""
    return whole_uri(project, "sqlite:///mlflow.db")


def whole_uri(project: Path, uri: str | None) -> str:
    """`uri`, or `default_uri` if it is None; a relative SQLite path is one in the project.

    The copy of a project that `dvc exp run --temp` or `--queue` works in has the project's own store: DVC deletes it.
    """
    if not uri:
        return default_uri(project)
    database = database_of(uri)
    return uri if database is None else uri_of(_home(project.resolve()) / database) + "".join(uri.partition("?")[1:])


def quiet() -> None:
    """To call before MLflow is used, which reads the environment: no database steps in the log, and a server that is
    not there, or does not answer, is an error in half a minute, not in six.
    """
    os.environ.setdefault(TIMEOUT, "15")
    os.environ.setdefault(RETRIES, "1")
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # what fails is in the error


@contextmanager
def open_store(project: Path, uri: str | None, experiment: str) -> Iterator[Store]:
    """The store with an experiment, which is made, or restored if someone deleted it in the UI.

    A database is had by one process at a time, and names the files beside it (`mend`). Raises InputError, now or while
    it is used, where MLflow or a file fails; UnansweredError where a server does not answer.
    """
    uri = whole_uri(project, uri)
    database = database_of(uri)
    with alone(database) if database else nullcontext():
        if database:
            _make(database)
            mend(database)
        with answering(uri) as client:
            yield Store(client, _experiment(client, uri, experiment), alone=database is not None)


def _make(database: Path) -> None:
    """MLflow's tables, if there are none yet; moved in when all are there, as MLflow cannot go on with some of them."""
    if is_there(database):
        return
    quiet()
    from mlflow.store.db.utils import _initialize_tables, create_sqlalchemy_engine

    with new_file(database) as place, _telling(uri_of(database), database):
        for rest in (place, *place.parent.glob(f"{escape(place.name)}-*")):  # of one that was killed
            rest.unlink(missing_ok=True)
        engine = create_sqlalchemy_engine(uri_of(place))
        try:
            _initialize_tables(engine)
        finally:
            engine.dispose()


@contextmanager
def answering(uri: str) -> "Iterator[MlflowClient]":
    """A client of the store at a whole `uri`, to read from it as it is; raises as `open_store` does."""
    quiet()
    from mlflow import MlflowClient

    with _telling(uri, database_of(uri)):
        yield MlflowClient(tracking_uri=uri, registry_uri=uri)


@contextmanager
def _telling(uri: str, database: Path | None) -> Iterator[None]:
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise _told(uri, database, error) from None


def _told(uri: str, database: Path | None, error: Exception) -> InputError:
    """What names a file says that one, whose it may be; all else is MLflow's."""
    from requests import ConnectionError, Timeout

    causes = list(_causes(error))
    ours = next((cause for cause in causes if isinstance(cause, sqlite3.Error)), None)
    if database and ours:
        return InputError(known_of(database, ours, REBUILD))
    place = f"MLflow at {database or without_password(uri)}"
    lost = next((cause for cause in causes if isinstance(cause, ConnectionError | Timeout)), None)
    if lost:
        waited = f"{os.environ[TIMEOUT]} s at most, and {os.environ[RETRIES]} more times ({TIMEOUT}, {RETRIES})"
        return UnansweredError(f"{place} does not answer; waited for it {waited}: {without_password(str(lost))}")
    said = known(error)
    if isinstance(error, OSError) and error.filename:  # of the project, the temp folder or the place for files
        return InputError(said or f"{os.fsdecode(error.filename)}: {error.strerror}")
    if isinstance(error, OSError) and said:  # a copy into the place for files does not name what it writes
        return InputError(f"{place}: {said}" if error.errno in WITHOUT_NAME else said)
    return InputError(f"{place}: {error}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _home(project: Path) -> Path:
    """The same folder in the project of which DVC made this copy for an experiment; `project` itself if it is none."""
    parts = project.parts
    starts = [i for i in range(len(parts)) if parts[i : i + len(COPIES)] == COPIES]
    if not starts:
        return project
    copies = Path(*parts[: starts[-1] + len(COPIES)])
    folders = [folder for folder in (project, *project.parents) if copies in folder.parents]
    inside = [folder for folder in folders if (folder / ".dvc").is_dir()]
    # a repository of DVC may begin above the project
    return Path(*parts[: starts[-1]]) / project.relative_to(inside[-1]) if inside else project


def _experiment(client: "MlflowClient", uri: str, name: str) -> str:
    found = client.get_experiment_by_name(name)
    place = _artifacts_of(uri)
    if found is None:
        return str(client.create_experiment(name, place, {WRITTEN: place} if place else None))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if not uri.startswith("http") and str(found.artifact_location).startswith("mlflow-artifacts:"):
        raise InputError(
            f"MLflow at {without_password(uri)}: experiment {name!r} was made through a server and keeps its "
            "files there; set MLFLOW_TRACKING_URI to that server, or track.experiment to another name"
        )
    if place and found.artifact_location == place and WRITTEN not in found.tags:
        client.set_experiment_tag(found.experiment_id, WRITTEN, place)  # of one that was made before there was this tag
    return str(found.experiment_id)


def _artifacts_of(uri: str) -> str | None:
    """Files lie beside an SQLite database, wherever the process was started; servers have a place of their own."""
    database = database_of(uri)
    return (database.parent / FILES).as_uri() if database else None

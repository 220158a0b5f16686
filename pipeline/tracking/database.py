"""The SQLite file that is MLflow's store where there is no server: one writer at a time, in a folder that may move."""

import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote, unquote, urlsplit
from urllib.request import url2pathname

from filelock import FileLock, Timeout

from pipeline.core.boundary import known, known_of
from pipeline.core.errors import InputError

SCHEME = "sqlite:///"
FILES = "mlartifacts"  # the folder beside a database that has its runs' files
BUSY_S = 20  # how long a statement waits for another program's to end, as MLflow's own do
TURN_S = 600  # how long a process waits for the one that tracks a run now, which takes seconds
WRITTEN = "pocketlens.files"  # the tag of an experiment that holds the place that it was given, beside the database
# where MLflow writes down places of files; a table that this MLflow does not have is left out
PLACES = (
    ("experiments", "artifact_location"),
    ("experiment_tags", "value"),
    ("runs", "artifact_uri"),
    ("model_versions", "source"),
    ("model_versions", "storage_location"),
    ("logged_models", "artifact_location"),
    ("trace_tags", "value"),
)
REBUILD = "it is damaged: move it away and run `pocketlens track`, which makes a new one from the chain's files"
log = logging.getLogger(__name__)


def database_of(uri: str) -> Path | None:
    """The file that an SQLite address names; None for any other address."""
    return Path(unquote(uri.removeprefix(SCHEME).partition("?")[0])) if uri.startswith(SCHEME) else None


def uri_of(database: Path) -> str:
    """The address of an absolute path, whatever characters it has."""
    path = str(database)
    # A slash is quoted with the rest: MLflow makes the folder that the text names, before it reads it as an address.
    return SCHEME + (quote(path, safe="") if set("?%#") & set(path) else path)


@contextmanager
def alone(database: Path) -> Iterator[None]:
    """While this lasts, no other process of ours is in here. Raises InputError after TURN_S, or if the folder cannot be
    written to.
    """
    lock = FileLock(database.with_name(f"{database.name}.lock"))
    try:
        database.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log.warning("%s: another process tracks a run; waiting for it, %d s at most", database, TURN_S)
            lock.acquire(timeout=TURN_S)
    except Timeout:
        raise InputError(f"{database}: another process has tracked for {TURN_S} s; end it, then try again") from None
    except OSError as error:
        raise InputError(known(error) or f"{database}: {error}; make its folder writable") from None
    try:
        yield
    finally:
        lock.release()


def is_there(database: Path) -> bool:
    """Whether it holds anything: SQLite takes an empty file for one without tables."""
    return database.exists() and database.stat().st_size > 0


def mend(database: Path) -> None:
    """Have the database, if it is there, name the files beside it, where its folder was moved, renamed or copied.

    MLflow writes down absolute places. Only those move that the project itself gave, which the tag WRITTEN says; of an
    experiment without that tag, those whose runs have their files here. To be called `alone`. Raises InputError if the
    file is damaged, or kept locked.
    """
    if not is_there(database):
        return
    here = (database.parent / FILES).as_uri()
    try:
        with closing(sqlite3.connect(database, timeout=BUSY_S, isolation_level=None)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            if not tables >= {"experiments", "experiment_tags", "runs"}:
                return
            query = (
                "SELECT DISTINCT artifact_location, value FROM experiments LEFT JOIN experiment_tags "
                "ON experiment_tags.experiment_id = experiments.experiment_id AND key = ?"
            )
            found = connection.execute(query, (WRITTEN,)).fetchall()
            others = [(place, written) for place, written in found if place and place != here]
            formers = {
                place
                for place, written in others
                if written == place or (not written and _is_here(connection, place, database))
            }
            if formers:
                connection.execute("BEGIN IMMEDIATE")
                for former in formers:
                    for table, column in [(t, c) for t, c in PLACES if t in tables]:
                        _move(connection, table, column, former, here)
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        raise InputError(known_of(database, error, REBUILD)) from None


def _is_here(connection: sqlite3.Connection, place: str, database: Path) -> bool:
    """Whether this is the folder FILES of a project that was moved away, or copied, with its runs' files: it is gone,
    or beside a database, and files of its runs are beside this one.
    """
    if not place.startswith(("/", "file:")):
        return False
    path = Path(url2pathname(urlsplit(place).path) if place.startswith("file:") else place)
    if path.name != FILES or (path.exists() and not path.with_name(database.name).exists()):
        return False
    runs = connection.execute(
        "SELECT run_uuid FROM runs WHERE artifact_uri = ? || '/' || run_uuid || '/artifacts'", (place,)
    )
    return any((database.parent / FILES / run).is_dir() for (run,) in runs)


def _move(connection: sqlite3.Connection, table: str, column: str, former: str, here: str) -> None:
    connection.execute(
        f"UPDATE {table} SET {column} = :here || substr({column}, length(:former) + 1) "
        f"WHERE {column} = :former OR substr({column}, 1, length(:former) + 1) = :former || '/'",
        {"here": here, "former": former},
    )

"""FiftyOne's App on a run or a dataset, in the browser."""

import os
import socket
import sys
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.sample import read_dataset
from pipeline.inspection.database import at_work, close
from pipeline.inspection.dataset_view import DatasetFiles, name_of_dataset, open_dataset
from pipeline.inspection.opening import Opened, tags_in
from pipeline.inspection.run_view import RunFiles, name_of, open_run

SOURCE = Path(__file__).parents[2]  # the folder of `pipeline`
Say = Callable[[str], object]


def run_files(run: str, root: Path, by: str) -> RunFiles:
    """Of an evaluated run of the project in `root`. Raises InputError naming those that there are."""
    predictions = root / "reports" / "evaluate" / run / "predictions"
    if not (predictions / "dataset.json").is_file():
        evaluated = (root / "reports" / "evaluate").glob("[!.]*/predictions/dataset.json")
        known = ", ".join(sorted(path.parent.parent.name for path in evaluated)) or "none"
        raise InputError(
            f"{predictions}: not there; evaluated runs: {known}. `dvc repro evaluate@RUN` makes those of a run"
        )
    truth = root / "data" / "ingested" / read_dataset(predictions).name / "test"
    return RunFiles(run, truth, predictions, root / "reports" / "verify" / run / "predictions", root / "labels", by)


def inspect_run(files: RunFiles, database: Path, port: int, say: Say) -> None:
    """Show a run until the last tab of the App is closed (or Ctrl-C); `say` is told where."""
    _inspect(files.run, database, lambda: open_run(files, database), port, say)


def inspect_dataset(files: DatasetFiles, database: Path, port: int, say: Say) -> None:
    """Show a dataset as `inspect_run` does a run."""
    _inspect(files.name, database, lambda: open_dataset(files, database), port, say)


def tagged_ids(name: str, dataset: bool, tag: str, database: Path) -> list[str]:
    """The ids of the images that have `tag` in the FiftyOne dataset of the run `name`, or of the `dataset`; sorted."""
    found = _tags([name_of_dataset(name) if dataset else name_of(name)], database)
    return sorted(id for id, tags in found.items() if tag in tags)


def queued_ids(dataset: str, runs: Iterable[str], tag: str, database: Path) -> list[str]:
    """The ids of the images that have `tag` in the FiftyOne dataset of `dataset` or of one of its `runs`; sorted.
    Raises InputError if none has.
    """
    found = _tags([name_of_dataset(dataset), *map(name_of, runs)], database)
    ids = sorted(id for id, tags in found.items() if tag in tags)
    if not ids:
        known = ", ".join(sorted(set().union(*found.values()))) or "none"
        raise InputError(f"--tag {tag}: no image of {dataset} has it; tags that people gave in FiftyOne's App: {known}")
    return ids


def _tags(names: list[str], database: Path) -> dict[str, set[str]]:
    try:
        return tags_in(database, names)
    finally:
        close()


def _inspect(name: str, database: Path, opens: Callable[[], Opened], port: int, say: Say) -> None:
    try:
        with at_work(database):
            opened = opens()
        for line in opened.said:  # before anything that may fail: it is said once
            say(line)
        session = show(opened.dataset, port)
        say(f"{name} in a browser: http://localhost:{port}  (Ctrl+C ends it)")
        try:
            session.wait()
        finally:
            for line in opens().said:  # what was said there, while the database is still up
                say(line)
    finally:
        close()  # the App before the database: without that it hangs for half a minute


def show(dataset: Any, port: int, remote: bool = False) -> Any:
    """Open the App on 127.0.0.1:`port`, in a browser unless `remote`; returns its session. Its server is
    `app_server`.

    The session's `wait()` blocks until the last tab is closed. Raises InputError if the port is taken: FiftyOne
    would show what it finds there.
    """
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            raise InputError(f"port {port}: {error.strerror}; name another one") from None
    import fiftyone as fo
    from fiftyone.core import service
    from fiftyone.core.session import client

    client.print = _unsaid  # it asks a server that is still starting, and says that it could not
    service.ServerService = _server(service)
    return fo.launch_app(dataset, port=port, address="127.0.0.1", remote=remote)


def _unsaid(*_words: object, **_how: object) -> None:
    """In place of `print`."""


@cache  # the second App would get a class of ours made of ours
def _server(service: Any) -> type:
    """FiftyOne's service for the App's server, with ours in its place."""

    class Server(service.ServerService):
        @property
        def command(self) -> list[str]:
            return [sys.executable, "-m", "pipeline.inspection.app_server", str(self.port), self.address]

        @property
        def env(self) -> dict[str, str]:
            from fiftyone import config

            known = os.environ.get("PYTHONPATH")
            own = {"PYTHONPATH": os.pathsep.join([str(SOURCE), *([known] if known else [])])}
            return super().env | own | {"FIFTYONE_DATABASE_URI": config.database_uri}

    return Server

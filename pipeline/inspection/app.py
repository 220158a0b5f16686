"""FiftyOne's App on a run, in the browser."""

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.sample import read_dataset
from pipeline.inspection.database import close
from pipeline.inspection.view import open_run


def inspect_run(run: str, root: Path, database: Path, port: int, say: Callable[[str], object]) -> None:
    """Show a run of the project in `root` until the last tab of the App is closed (or Ctrl-C); `say` is told where,
    after FiftyOne's own words.
    """
    predictions = root / "reports" / "evaluate" / run / "predictions"
    if not (predictions / "dataset.json").is_file():
        evaluated = (root / "reports" / "evaluate").glob("[!.]*/predictions/dataset.json")
        known = ", ".join(sorted(path.parent.parent.name for path in evaluated)) or "none"
        raise InputError(
            f"{predictions}: not there; evaluated runs: {known}. `dvc repro evaluate@RUN` makes those of a run"
        )
    truth = root / "data" / "ingested" / read_dataset(predictions).name / "test"
    try:
        session = show(open_run(run, truth, predictions, database), port)
        say(f"{run} in a browser: http://localhost:{port}  (Ctrl+C ends it)")
        session.wait()
    finally:
        close()  # the App before the database: without that it hangs for half a minute


def show(dataset: Any, port: int, remote: bool = False) -> Any:
    """Open the App on 127.0.0.1:`port`, in a browser unless `remote`; returns its session.

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

    return fo.launch_app(dataset, port=port, address="127.0.0.1", remote=remote)

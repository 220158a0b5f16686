"""What several commands check and say."""

import json
import os
import sys
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError

DATABASE = Path(".fiftyone")
MADE = (  # by the chain: what dvc.yaml has as outs, and `make clean` removes
    *("data/sample", "data/ingested", "data/augmented", "models", "exports", "reports", "resolved.yaml", "splits"),
    *(".fetched", ".resume", ".features", ".fiftyone", ".pocketlens.log"),
    *("mlflow.db", "mlflow.db.lock", "mlruns", "mlartifacts"),
)


def json_text(value: Any) -> str:
    """With JSON's own escapes where stdout cannot take a character, as of a file name that is not UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def check_place(option: str, path: Path | None) -> None:
    """Raises InputError for a place in what the chain makes: DVC removes it before a stage runs again, and
    `make clean` all of it.
    """
    for made in MADE:
        if path is not None and path.resolve().is_relative_to(Path(made).resolve()):
            where = f"is {made}" if Path(made).suffix else f"lies in {made}/"
            raise InputError(f"{option} {path}: {where}, which the chain makes and removes; expected elsewhere")


def show(file: Path) -> None:
    """Open a file where a person sits before a display, and not for a program that reads what is printed."""
    has_display = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if has_display and sys.stdout.isatty():
        import webbrowser

        webbrowser.open(file.resolve().as_uri())


def say_written(place: Path, what: str) -> None:
    """To stderr: a program may read what is printed."""
    print(f"{place}: {what}", file=sys.stderr)


def check_made(run: str, where: str = "models", stage: str = "train") -> None:
    """Raises InputError for a run that params.yaml knows, but of which `stage` has made nothing in the folder `where`
    that is here, as on a fresh clone.
    """
    from pipeline.config.params import read_params

    folder = Path(where) / run
    if not folder.exists() and Path("params.yaml").is_file() and run in read_params().runs:
        raise InputError(
            f"{folder}: not here, though params.yaml has the run; `dvc pull` or `dvc checkout` brings it back, "
            f"`dvc repro {stage}@{run}` makes it"
        )


def check_ingested(dataset: str) -> None:
    """Raises InputError for a dataset of params.yaml that is not ingested yet."""
    folder = Path("data/ingested") / dataset
    if not (folder / "dataset.json").is_file():
        raise InputError(f"{folder}: not here; `dvc repro ingest@{dataset}` makes it")


def shown_block(run: str) -> dict[str, Any] | None:
    """What params.yaml says of the answers that are shown, with the score that was chosen on val where it says `auto`;
    None for a model that it does not know.
    """
    from pipeline.config.params import read_params
    from pipeline.metrics.chosen import settled

    params = read_params() if Path("params.yaml").is_file() else None
    if params is None or run not in params.runs:
        return None
    return settled(params.runs[run].predict.model_dump(), Path("reports/evaluate") / run / "metrics.json")

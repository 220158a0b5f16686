"""What FiftyOne finds in each run, beside our figures: what the stage `inspect` does."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, read_json, write_json
from pipeline.core.sample import read_dataset
from pipeline.inspection.database import at_work, close
from pipeline.inspection.run_view import RunFiles, open_run
from pipeline.metrics.metrics import main_metric


def inspect_runs(evaluated: Path, ingested: Path, labels: Path, database: Path, report: Path) -> str:
    """Bring the FiftyOne datasets of all runs up to date, in this process and one mongod; returns a line on it.

    The runs are the folders of `evaluated` with predictions, the test splits those of their datasets in `ingested`. A
    run whose dataset is not there has been taken out of params.yaml: it is left out, and the line says so. Writes
    `report`/<run>.json: `fiftyone` has FiftyOne's figures of the test split, `ours` our main metric, the rest is both
    side by side. A view in which a person has changed what no layer in `labels` has yet stays as it is, and the line
    names it. Raises InputError if there is no run, a file is missing or there is no database; nothing is written then.
    """
    found = sorted(path.parent.parent.name for path in evaluated.glob("[!.]*/predictions/dataset.json"))
    runs = [run for run in found if _truth(evaluated / run, ingested).is_dir()]
    if not runs:
        raise InputError(f"{evaluated}: no run with predictions; `dvc repro` makes them")
    said = []
    try:
        with new_folder(report) as folder, at_work(database):
            for run in runs:
                truth = _truth(evaluated / run, ingested)
                files = RunFiles(run, truth, evaluated / run / "predictions", None, labels)
                opened = open_run(files, database, edits=False)  # a stage writes nothing but its outs
                write_json(folder / f"{run}.json", _figures(evaluated / run, opened.info))
                said += opened.said
    finally:
        close()
    gone = [run for run in found if run not in runs]
    left_out = f"; left out, as their datasets are not in {ingested}: {', '.join(gone)}" if gone else ""
    taken = "".join(f"{line}\n" for line in said)
    return f"{taken}{report}: the FiftyOne datasets of {', '.join(runs)}; `pocketlens inspect RUN` shows one{left_out}"


def _truth(evaluated: Path, ingested: Path) -> Path:
    return ingested / read_dataset(evaluated / "predictions").name / "test"


def _figures(evaluated: Path, info: dict[str, Any]) -> dict[str, Any]:
    metrics = read_json(evaluated / "metrics.json")
    name = main_metric(metrics["task"])
    return {"fiftyone": info["figures"], "ours": {name: metrics[name]}, **info["beside"]}

"""python -m stages.track RUN: the run in MLflow, at MLFLOW_TRACKING_URI or in mlflow.db; reports/track/RUN.json."""

import os
from pathlib import Path

from pipeline.core.files import write_json
from pipeline.core.resolved import Resolved
from pipeline.tracking.params import TrackParams
from pipeline.tracking.registry import model_name
from pipeline.tracking.track import describe, track_run
from stages import run


def track(name: str) -> str:
    experiment = Resolved().block(TrackParams, "track").experiment
    tracked = track_run(name, Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"), experiment)
    # without MLflow's own ids: the file is the same wherever and whenever the run is tracked
    model = model_name(name) if tracked.version else None
    write_json(
        Path("reports/track") / f"{name}.json",
        {"run": name, "lock": tracked.lock, "experiment": experiment, "registered": model},
    )
    return describe(tracked)


if __name__ == "__main__":
    run(track)

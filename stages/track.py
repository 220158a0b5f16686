"""Track one run in MLflow, at MLFLOW_TRACKING_URI or in mlflow.db here. Usage: python -m stages.track RUN."""

import os
from pathlib import Path

from pipeline.config.params import Params
from pipeline.core.files import write_json
from pipeline.tracking.registry import model_name
from pipeline.tracking.track import describe, track_run
from stages import run


def track(params: Params, name: str) -> str:
    params.run(name)
    experiment = params.track.experiment
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

"""Reports as pandas tables, for notebooks."""

from pathlib import Path
from typing import Any

from pipeline.files import read_json


def verify_table(reports: Path) -> Any:
    """A pandas DataFrame of all runs' verify.json: a row per run and model, the float one first.

    `figure` is the run's main metric from 0 to 1, `drop` how far it fell from the float model's, `megabytes` 10^6
    bytes, `latency_ms` the median for one picture; a cell is empty (NaN) where the report has none.
    """
    import pandas as pd

    rows = []
    for path in sorted((reports / "verify").glob("*/verify.json")):
        verdict = read_json(path)
        metric = verdict["main_metric"]
        same = {"run": path.parent.name, "metric": metric}
        rows.append({**same, "model": "float", "figure": verdict["float"][metric]})
        for target, found in verdict["targets"].items():
            rows.append(
                {
                    **same,
                    "model": target,
                    "figure": found["metrics"][metric],
                    "drop": found["drop"],
                    "tolerance": found["tolerance"],
                    "megabytes": found["size_bytes"] / 1e6,
                    "latency_ms": found["latency_ms"]["median"],
                    "passed": found["passed"],
                }
            )
    columns = ["run", "metric", "model", "figure", "drop", "tolerance", "megabytes", "latency_ms", "passed"]
    return pd.DataFrame(rows, columns=columns)

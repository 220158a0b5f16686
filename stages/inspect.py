"""python -m stages.inspect: all runs' test predictions in FiftyOne, and its figures beside ours -> reports/inspect/."""

from pathlib import Path

from pipeline.inspection.figures import inspect_runs
from stages import run


def inspect(_: str) -> str:
    return inspect_runs(
        evaluated=Path("reports/evaluate"),
        ingested=Path("data/ingested"),
        labels=Path("labels"),
        database=Path(".fiftyone"),
        report=Path("reports/inspect"),
    )


if __name__ == "__main__":
    run(inspect)

"""Show all runs in FiftyOne, and write its figures beside ours. Usage: python -m stages.inspect."""

from pathlib import Path

from pipeline.config.params import Params
from pipeline.inspection.figures import inspect_runs
from stages import run


def inspect(_params: Params, _: str) -> str:
    return inspect_runs(
        evaluated=Path("reports/evaluate"),
        ingested=Path("data/ingested"),
        database=Path(".fiftyone"),
        report=Path("reports/inspect"),
    )


if __name__ == "__main__":
    run(inspect)

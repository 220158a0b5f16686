"""Evaluate one run on its dataset's test split. Usage: python -m stages.evaluate RUN."""

from pathlib import Path

from pipeline.config.params import Params
from pipeline.evaluation.evaluate import evaluate_run
from stages import run


def evaluate(params: Params, name: str) -> str:
    return evaluate_run(
        model=Path("models") / name,
        truth_folder=Path("data/ingested") / params.run(name).dataset / "test",
        history=Path("reports/train") / name / "history.csv",
        report=Path("reports/evaluate") / name,
    )


if __name__ == "__main__":
    run(evaluate)

"""python -m stages.evaluate RUN: the trained net on its dataset's test split -> reports/evaluate/RUN/."""

from pathlib import Path
from typing import Any

from pipeline.core.resolved import Resolved
from pipeline.core.spec import read_spec
from pipeline.evaluation.evaluate import evaluate_run
from stages import run


def evaluate(name: str) -> str:
    resolved, model = Resolved(), Path("models") / name
    predict = resolved.block(dict[str, Any], "runs", name, "predict")
    frozen_epochs = resolved.block(int, "runs", name, "train", "frozen_epochs")
    data = Path("data/ingested") / read_spec(model / "model.json").dataset
    return evaluate_run(
        model=model,
        truth_folder=data / "test",
        history=Path("reports/train") / name / "history.csv",
        report=Path("reports/evaluate") / name,
        predict=predict,
        val_folder=data / "val",
        batch=Path("reports/train") / name / "batch.npz",
        frozen_epochs=frozen_epochs,
    )


if __name__ == "__main__":
    run(evaluate)

"""python -m stages.export RUN: the trained net in the forms that ship -> exports/RUN/."""

from pathlib import Path
from typing import Any

from pipeline.core.resolved import Resolved
from pipeline.core.spec import read_spec
from pipeline.export.params import ExportParams
from pipeline.metrics.chosen import settled
from stages import run


def export(name: str) -> str:
    resolved, model, reports = Resolved(), Path("models") / name, Path("reports")
    predict = resolved.block(dict[str, Any], "runs", name, "predict")
    params = resolved.block(ExportParams, "runs", name, "export")
    from pipeline.export.export import export_run

    return export_run(
        model_folder=model,
        train_folder=Path("data/ingested") / read_spec(model / "model.json").dataset / "train",
        out=Path("exports") / name,
        params=params,
        predict=settled(predict, reports / "evaluate" / name / "metrics.json"),
        reports=reports,
    )


if __name__ == "__main__":
    run(export)

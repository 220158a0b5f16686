"""Export one run to its targets. Usage: python -m stages.export RUN."""

from pathlib import Path

from pipeline.config.params import Params
from pipeline.export.params import Learning
from stages import run


def export(params: Params, name: str) -> str:
    settings = params.run(name)
    from pipeline.export.export import export_run

    return export_run(
        model_folder=Path("models") / name,
        train_folder=Path("data/ingested") / settings.dataset / "train",
        out=Path("exports") / name,
        params=settings.export,
        reports=Path("reports"),
        learning=Learning(settings.batch_size, settings.seed, settings.class_weights),
    )


if __name__ == "__main__":
    run(export)

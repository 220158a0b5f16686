"""Train one run. Usage: python -m stages.train RUN."""

from pathlib import Path

from pipeline.config.params import Params
from pipeline.training.train import train_run
from stages import run


def train(params: Params, name: str) -> str:
    settings = params.run(name)
    data = settings.dataset
    return train_run(
        name,
        settings,
        train_folder=Path("data/augmented") / data,
        val_folder=Path("data/ingested") / data / "val",
        model_folder=Path("models") / name,
        report=Path("reports/train") / name,
        resume=Path(".resume"),  # outside DVC's outs: DVC removes those before a stage runs
        features=Path(".features"),
    )


if __name__ == "__main__":
    run(train)

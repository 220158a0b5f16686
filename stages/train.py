"""python -m stages.train RUN: augmented train and ingested val splits -> models/RUN/, reports/train/RUN/."""

from pathlib import Path

from pipeline.core.machine import MachineParams
from pipeline.core.resolved import Resolved
from pipeline.training.params import TRAINED_BY, AnyRun
from pipeline.training.train import train_run
from stages import run


def train(name: str) -> str:
    resolved = Resolved()
    params = resolved.blocks(AnyRun, "runs", name, only=TRAINED_BY)
    data = params.dataset
    # not among the stage's params: it changes no result
    machine = resolved.block(MachineParams, "machine", default=MachineParams())
    return train_run(
        name,
        params,
        train_folder=Path("data/augmented") / data,
        val_folder=Path("data/ingested") / data / "val",
        model_folder=Path("models") / name,
        report=Path("reports/train") / name,
        resume=Path(".resume"),  # outside DVC's outs: DVC removes those before a stage runs
        features=Path(".features"),
        parallel=machine.parallel,
        workers=machine.workers,
    )


if __name__ == "__main__":
    run(train)

"""Transfer with cached features against full training of the same model: wall time to the same accuracy on val.

    python -m benchmarks.transfer RUN [--epochs N] [--frozen-epochs N] [--repeats N]

RUN is a run of params.yaml with pretrained weights, its data ingested and augmented (`dvc repro augment@...`). Full
training is the run with all blocks learning for N epochs; transfer is its head alone on features of the frozen
backbone, once with an empty cache and once with a full one. The clock starts before the net is built and does not
count imports. The accuracy to reach is the lower one of the two bests on val; medians over the repeats.
"""

import argparse
import contextlib
import io
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, cast

from pipeline.config.params import ClassifyRun, changed, read_params
from pipeline.core.errors import InputError
from pipeline.training import loop
from pipeline.training.train import train_run

Curve = list[tuple[float, float]]  # seconds since the start, metric on val


def curve(name: str, run: ClassifyRun, scratch: Path, features: Path) -> Curve:
    """Train and note when each epoch's metric was known."""
    points: Curve = []
    validate, start = loop.validate, time.perf_counter()

    def clocked(*given: Any) -> dict[str, float]:
        row = validate(*given)
        points.append((time.perf_counter() - start, row["val_metric"]))
        return row

    loop.validate = clocked  # type: ignore[assignment]
    try:
        with tempfile.TemporaryDirectory(dir=scratch) as folder, contextlib.redirect_stdout(io.StringIO()):
            out = Path(folder)
            train, val = Path("data/augmented") / run.dataset, Path("data/ingested") / run.dataset / "val"
            train_run(name, run, train, val, out / "model", out / "report", out / "resume", features)
    finally:
        loop.validate = validate
    return points


def seconds_to(target: float, points: Curve) -> float:
    return next(seconds for seconds, metric in points if metric >= target)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--frozen-epochs", type=int, default=30)
    parser.add_argument("--repeats", type=int, default=3)
    asked = parser.parse_args()
    run = read_params().run(asked.run)
    if not isinstance(run, ClassifyRun):
        raise InputError(f"runs.{asked.run} is to {run.task}; expected classify")
    own = {"frozen_epochs": 0, "epochs": asked.epochs, "tuned_blocks": "all", "patience": asked.epochs}
    full = cast(ClassifyRun, changed(run, {f"train.{name}": value for name, value in own.items()}, "benchmark"))
    frozen = {"train.frozen_epochs": asked.frozen_epochs, "train.epochs": 0}
    head = cast(ClassifyRun, changed(run, frozen, "benchmark"))
    curves: dict[str, list[Curve]] = {"full training": [], "transfer, first run": [], "transfer, cached": []}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        for repeat in range(asked.repeats):
            cache = scratch / f"features{repeat}"
            runs = (full, head, head)
            for points, run in zip(curves.values(), runs, strict=True):
                points.append(curve(asked.run, run, scratch, cache))
    best = {kind: max(metric for points in kept for _, metric in points) for kind, kept in curves.items()}
    target = min(best.values())
    times = {kind: statistics.median(seconds_to(target, points) for points in kept) for kind, kept in curves.items()}
    print(f"{asked.run}: {full.model.backbone} at {full.model.size}, val metric {target:.4f}, {asked.repeats} repeats")
    for kind, seconds in times.items():
        total = statistics.median(points[-1][0] for points in curves[kind])
        print(
            f"  {kind:20} {seconds:7.2f} s to it, {total:7.2f} s in all, best {best[kind]:.4f}; "
            f"{times['full training'] / seconds:5.1f} x to it, {curves_total(curves) / total:5.1f} x in all"
        )


def curves_total(curves: dict[str, list[Curve]]) -> float:
    return statistics.median(points[-1][0] for points in curves["full training"])


if __name__ == "__main__":
    main()

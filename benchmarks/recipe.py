"""What fine-tuning buys over the frozen head, and both against a logistic regression on the same features.

    python -m benchmarks.recipe RUN ... [--splits N]

RUN is a classify run of params.yaml with pretrained weights and a pool head. Its dataset is ingested N times, with
splits.seed 0, 1, ...; each time three classifiers learn from train and are judged on test: the run as it is, its head
alone (train.epochs=0), and scikit-learn's logistic regression on the pooled features of the pretrained backbone, whose
C has the lowest log loss on val. Means over the splits with the 95 % interval (Student's t) of the difference from the
logistic regression, pair by pair. Seconds are medians, from the images of train and val to the weights: features are
computed anew for each of the three, under the same settings; test is answered after that.
"""

import argparse
import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
from scipy.stats import t as student
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

from pipeline.augment.offline import augment_dataset
from pipeline.config.params import ClassifyRun, changed, read_params
from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS, Sample, read_dataset, read_samples
from pipeline.core.spec import read_spec
from pipeline.datasets.ingest.ingest import ingest
from pipeline.metrics.metrics import score
from pipeline.models.backbones import read_pretrained
from pipeline.models.nets import build
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import open_runtime
from pipeline.training.devices import launch, together
from pipeline.training.features import Features
from pipeline.training.loading import ImageDataset
from pipeline.training.train import make_spec, train_run

STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0)  # C of the logistic regression
Figures = dict[str, float]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run", nargs="+")
    parser.add_argument("--splits", type=int, default=5)
    asked = parser.parse_args()
    if asked.splits < 2:
        parser.error(f"--splits {asked.splits}: expected 2 at least, as there is no interval of one")
    for name in asked.run:
        run = read_params().run(name)
        if not isinstance(run, ClassifyRun) or run.model.head.kind != "pool" or not run.model.pretrained:
            raise InputError(f"runs.{name}: expected one to classify, with a pool head and pretrained weights")
        _compare(name, run, asked.splits)


def _compare(name: str, run: ClassifyRun, splits: int) -> None:
    params = read_params()
    data = params.datasets[run.dataset]
    head = changed(run, {"train.epochs": 0}, "benchmark")
    assert isinstance(head, ClassifyRun)
    rows: dict[str, list[Figures]] = {"logistic regression": [], "frozen head": [], "as the run is": []}
    for seed in range(splits):
        with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stderr(io.StringIO()):
            folder, varied = Path(scratch, "ingested"), Path(scratch, "augmented")
            split = data.model_copy(update={"splits": data.splits.model_copy(update={"seed": seed})})
            ingest(run.dataset, split, folder, Path(scratch, "report"))
            augment_dataset(folder, varied, Path(scratch, "sheet"), data.augment)
            ways: list[Callable[[Path], Figures]] = [
                lambda cache: _regression(name, run, folder, cache),  # noqa: B023  called before the next split
                lambda cache: _trained(name, head, folder, varied, cache),  # noqa: B023
                lambda cache: _trained(name, run, folder, varied, cache),  # noqa: B023
            ]
            for number, (kept, judged) in enumerate(zip(rows.values(), ways, strict=True)):
                kept.append(judged(Path(scratch, f"features{number}")))
    print(f"{name}: {run.model.backbone} at {run.model.size}, {splits} splits, test")
    for way, kept in rows.items():
        print(f"  {way:20}" + "".join(_told(key, kept, rows["logistic regression"]) for key in kept[0]), flush=True)


def _told(key: str, found: list[Figures], held_against: list[Figures]) -> str:
    values = np.array([row[key] for row in found])
    if key == "seconds":
        return f"  {np.median(values):6.1f} s"
    apart = values - [row[key] for row in held_against]
    said = f"  {key} {values.mean():.4f}"
    if not apart.any():
        return f"{said}{'':17}"
    half = student.ppf(0.975, len(apart) - 1) * apart.std(ddof=1) / len(apart) ** 0.5
    return f"{said} ({apart.mean():+.4f} ± {half:.4f})"


def _regression(name: str, run: ClassifyRun, folder: Path, cache: Path) -> Figures:
    pretrained, dataset = read_pretrained(run.model.backbone, run.model.pretrained), read_dataset(folder)
    spec = make_spec(name, run, dataset, pretrained.mean, pretrained.std)
    net, fabric = build(spec, pretrained), launch(run.train.precision)
    labels = {split: [str(s.label) for s in read_samples(folder / split)] for split in SPLITS}

    def vectors(split: str) -> np.ndarray:
        maps = Features(ImageDataset(folder / split, read_samples(folder / split), spec), net, cache, fabric)
        return np.stack([maps[i][0][0].astype(np.float32).mean(axis=(1, 2)) for i in range(len(labels[split]))])

    with together(fabric):
        started = time.perf_counter()
        train, val = vectors("train"), vectors("val")
        fits = [LogisticRegression(C=c, max_iter=5000).fit(train, labels["train"]) for c in STRENGTHS]
        best = min(fits, key=lambda fit: log_loss(labels["val"], fit.predict_proba(val), labels=fit.classes_))
        seconds = time.perf_counter() - started
        shares = best.predict_proba(vectors("test"))
    answers = [dict(zip(map(str, best.classes_), map(float, row), strict=True)) for row in shares]
    found = [
        replace(s, label=max(scores, key=scores.__getitem__), scores=scores)
        for s, scores in zip(read_samples(folder / "test"), answers, strict=True)
    ]
    return {"seconds": seconds} | _figures(folder, found)


def _trained(name: str, run: ClassifyRun, folder: Path, varied: Path, cache: Path) -> Figures:
    with tempfile.TemporaryDirectory() as scratch:
        model, report, resume = (Path(scratch, part) for part in ("model", "report", "resume"))
        train_run(name, run, varied, folder / "val", model, report, resume, cache)
        seconds = float(json.loads((report / "training.json").read_text(encoding="utf-8"))["seconds"])
        found = predict_samples(
            open_runtime("torch", model),
            read_spec(model / "model.json"),
            folder / "test",
            read_samples(folder / "test"),
        )
    return {"seconds": seconds} | _figures(folder, found)


def _figures(folder: Path, found: list[Sample]) -> Figures:
    metrics = score("classify", read_samples(folder / "test"), found, read_dataset(folder))
    return {key: float(metrics[key]) for key in ("accuracy", "clip_accuracy") if metrics.get(key) is not None}


if __name__ == "__main__":
    main()

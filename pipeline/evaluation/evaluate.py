"""A trained run on the test split: predictions, metrics, plots and worst mistakes."""

import csv
import io
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.calibrated import calibrated
from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, write_json, write_text
from pipeline.core.lines import read_figures
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples, seen_from, write_dataset, write_samples
from pipeline.evaluation.batch import batch_sheet
from pipeline.evaluation.choosing import choose_on_val
from pipeline.evaluation.params import with_predict
from pipeline.metrics import coco_ap
from pipeline.metrics.bootstrap import intervals
from pipeline.metrics.calibration import calibration
from pipeline.metrics.matching import BACKGROUND, confusion
from pipeline.metrics.metrics import judged, main_metric, one_object, paired, score, shown
from pipeline.metrics.nothing import nothing_found
from pipeline.viz.mistakes import mistakes_sheet
from pipeline.viz.plots import plot_confusion, plot_history, plot_precision_recall, plot_reliability

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec


def evaluate_run(
    model: Path,
    truth_folder: Path,
    history: Path,
    report: Path,
    predict: Mapping[str, Any] | None = None,
    val_folder: Path | None = None,
    batch: Path | None = None,
    frozen_epochs: int = 0,
) -> str:
    """Predict the images of `truth_folder` with the model in folder `model`; returns a line that says how it went.

    `predict` is the run's block of that name: what of the answers is shown; AP is computed over all of them. Without it
    the defaults of the task hold; what it leaves to val is chosen by the images of `val_folder`. Writes `report` (see
    `write_report`), with plots/history.png, drawn from the training's `history` (history.csv), whose first
    `frozen_epochs` are the head's alone, and plots/batch.jpg, drawn from its first `batch` (batch.npz) where one is
    given. Raises InputError if something is missing or there is
    nothing to test on.
    """
    from pipeline.core.spec import read_spec
    from pipeline.runtimes.answers import predict_samples
    from pipeline.runtimes.on_torch import TorchRuntime

    truth = read_samples(truth_folder)
    spec = read_spec(model / "model.json")
    if not truth:
        raise InputError(f"{truth_folder}: no images to test on; raise datasets.{spec.dataset}.splits.test")
    rows = read_figures(history)
    runtime, decided = TorchRuntime(model, None), dict[str, Any]()
    if predict is not None:
        predict, decided = choose_on_val(runtime, spec, predict, val_folder)
    spec = with_predict(spec, predict)
    predicted = predict_samples(runtime, judged(spec), truth_folder, truth)
    with new_folder(report) as folder:
        metrics = write_report(folder, spec, truth_folder, truth, predicted, decided)
        name = main_metric(spec.task)
        if batch is not None:
            batch_sheet(batch, spec).save(folder / "plots" / "batch.jpg", quality=90)
        plot_history(rows, folder / "plots" / "history.png", spec.run, name, spec.trained, frozen_epochs)
    value = "undefined" if metrics[name] is None else f"{metrics[name]:.4f}"
    nothing = nothing_found(spec.task, *paired(truth, [shown(p, spec) for p in predicted]), spec.predict.get("score"))
    said = f"; {nothing}" if nothing else _no_better_than_always_one(metrics, truth)
    return f"{report}: {name} {value} on {len(truth)} images{said}"


def _no_better_than_always_one(metrics: dict[str, Any], truth: list[Sample]) -> str:
    """What is to be said of a classifier that has learned nothing that shows on the test split; else ""."""
    if metrics["task"] != "classify":
        return ""
    label, count = Counter(str(t.label) for t in truth).most_common(1)[0]
    share = count / len(truth)
    return f"; no better than to answer {label} always ({share:.4f})" if metrics["accuracy"] <= share else ""


def write_report(
    folder: Path,
    spec: "ModelSpec",
    truth_folder: Path,
    truth: list[Sample],
    predicted: list[Sample],
    decided: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Write metrics.json, predictions/, worst.jpg, best.jpg, and in plots/ confusion.csv, confusion.png, for classify
    and detect reliability.csv and reliability.png, for detect pr.csv and pr.png.

    Returns the metrics; `decided` is what val did, by names of its own among them. `predictions` is a dataset of its
    own: its file names lead to the true images, its dataset.json says from which score objects were kept (`score`) and
    from which they are shown (`shown`). Its scores are those that the net says, which all figures are of; the sheets
    and the errors of calibration have what they are worth, where the spec has a fit of that.
    """
    dataset = read_dataset(truth_folder.parent)
    truth, predicted = paired(truth, predicted)
    metrics = score(spec.task, truth, predicted, dataset)
    metrics |= intervals(spec.task, truth, predicted, dataset, metrics)
    visible = [shown(p, spec) for p in predicted]
    (folder / "plots").mkdir()
    if spec.task != "localize":
        metrics["calibration"] = _write_reliability(folder / "plots", spec, truth, visible)
    metrics |= decided or {}
    write_json(folder / "metrics.json", metrics)
    _write_predictions(folder / "predictions", spec, truth_folder, predicted, dataset)
    _write_confusion(folder / "plots", spec.task, truth, visible, dataset)
    if spec.task == "detect":
        _write_precision_recall(folder / "plots", truth, predicted, dataset)
    told = [calibrated(p, spec.predict) for p in visible]
    for name, best in (("worst.jpg", False), ("best.jpg", True)):
        mistakes_sheet(spec.task, truth_folder, truth, told, dataset, folder / name, best=best)
    return metrics


def _write_predictions(
    folder: Path, spec: "ModelSpec", truth_folder: Path, predicted: list[Sample], dataset: Dataset
) -> None:
    source = {
        "run": spec.run,
        "task": spec.task,
        "score": judged(spec).predict["score"],
        "shown": spec.predict["score"],
        "most": spec.predict.get("max_objects"),
    }
    folder.mkdir()
    write_dataset(folder, replace(dataset, source=source, counts={"test": len(predicted)}))
    # the way is the same when `folder` is moved to its place
    write_samples(folder, seen_from(folder, predicted, truth_folder))


def _write_confusion(folder: Path, task: str, truth: list[Sample], visible: list[Sample], dataset: Dataset) -> None:
    """confusion.csv has a row per image or object, (actual, predicted), as DVC's confusion template reads it."""
    if task == "classify":
        table = Counter((str(t.label), str(p.label)) for t, p in zip(truth, visible, strict=True))
    elif task == "detect":
        table = confusion(truth, visible)
    else:
        both = [(one_object(t), one_object(p)) for t, p in zip(truth, visible, strict=True)]
        table = Counter((t.label if t else BACKGROUND, p.label if p else BACKGROUND) for t, p in both)
    rows = [pair for pair, n in sorted(table.items()) for _ in range(n)]
    write_text(folder / "confusion.csv", _csv(("actual", "predicted"), rows))
    names = [*dataset.labels] if task == "classify" else [*dataset.labels, BACKGROUND]
    plot_confusion(table, names, names, folder / "confusion.png")


def _write_reliability(folder: Path, spec: "ModelSpec", truth: list[Sample], visible: list[Sample]) -> dict[str, Any]:
    """reliability.csv: a row per range of scores that has answers. Returns the errors."""
    fit = spec.predict.get("calibration")
    figures, rows = calibration(spec.task, truth, visible, spec.predict.get("score"), fit)
    rounded = [[round(value, 6) for value in row] for row in rows]
    write_text(folder / "reliability.csv", _csv(("from", "to", "answers", "score", "right"), rounded))
    plot_reliability(rows, folder / "reliability.png")
    return figures


def _write_precision_recall(folder: Path, truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> None:
    """pr.csv: recall, then precision at IoU 0.5 per label that the truth has, then their mean."""
    precision = coco_ap.evaluate(truth, predicted, dataset).precision[0]
    curves = {
        label: [round(float(v), 6) for v in precision[:, k]]
        for k, label in enumerate(dataset.labels)
        if precision[0, k] > -1
    }
    means = [round(sum(column) / len(column), 6) for column in zip(*curves.values(), strict=True)]
    recalls = [round(float(r), 2) for r in coco_ap.RECALLS]
    columns = [recalls, *curves.values(), means or [None] * len(recalls)]
    rows = list(zip(*columns, strict=True))
    write_text(folder / "pr.csv", _csv(("recall", *curves, "mean"), rows))
    plot_precision_recall(curves, recalls, folder / "pr.png")


def _csv(header: tuple[str, ...], rows: list[Any]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([header, *rows])
    return text.getvalue()

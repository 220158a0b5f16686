"""One run from its data to its weights: what the train stage does."""

import csv
import hashlib
import io
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import InputError
from pipeline.files import new_folder, write_json, write_text
from pipeline.params import ClassifyRun, DetectRun, LocalizeRun
from pipeline.sample import Dataset, Sample, read_dataset, read_samples

if TYPE_CHECKING:
    from pipeline.models import Net
    from pipeline.models.spec import ModelSpec

RunParams = ClassifyRun | LocalizeRun | DetectRun


def train_run(
    name: str, run: RunParams, train_folder: Path, val_folder: Path, model_folder: Path, report: Path, resume: Path
) -> str:
    """Train run `name` on `train_folder`, choose the best epoch on `val_folder`; returns a line that says how it went.

    Writes `model_folder`/{model.json, model.safetensors} and `report`/{history.csv, history.png, training.json}.
    Checkpoints live in `resume`/<fingerprint of params and data>, so that a killed run goes on, and only with what it
    began with.
    """
    dataset = read_dataset(train_folder)
    train, val = read_samples(train_folder), read_samples(val_folder)
    check_labels(name, run, dataset, train, val)

    import lightning.pytorch as pl

    from pipeline import fit, loading
    from pipeline.augment import augmenter
    from pipeline.models import build
    from pipeline.models.backbones import read_pretrained

    pretrained = read_pretrained(run.backbone, run.pretrained)
    spec = make_spec(name, run, dataset, pretrained.mean, pretrained.std)
    spec.trained = {"weights": pretrained.source}
    pl.seed_everything(run.seed, verbose=False)
    net = build(spec, pretrained)
    spec.outputs, spec.strides = list(net.outputs), list(net.strides)
    varied = loading.Pictures(train_folder, train, spec, augmenter(run.policy, dataset))
    plain = loading.Pictures(val_folder, val, spec)
    loaders = (
        loading.train_loader(varied, run.batch_size, run.workers, run.seed),
        loading.eval_loader(plain, run.batch_size),
    )
    checkpoints = resume / name / _fingerprint(run, train_folder, val_folder)
    resumed, started = (checkpoints / "last.ckpt").is_file(), time.perf_counter()
    net, rows = fit.fit(net, spec, run, dataset, loaders, checkpoints)
    write_model(net, spec, rows, model_folder, report)
    write_json(report / "training.json", timing(time.perf_counter() - started, len(train), spec.trained, resumed))
    shutil.rmtree(resume / name, ignore_errors=True)
    best = {k: v for k, v in spec.trained.items() if k.startswith("val_")}
    metric, value = next(iter(best.items()))
    return f"{model_folder}: best of {len(rows)} epochs is {spec.trained['best_epoch']}, {metric} {value:.4f}"


def make_spec(name: str, run: RunParams, dataset: Dataset, mean: list[float], std: list[float]) -> "ModelSpec":
    from pipeline.models.spec import ModelSpec

    points = run.task != "classify"
    return ModelSpec(
        run=name,
        dataset=run.dataset,
        task=run.task,
        labels=dataset.labels,
        landmarks=dataset.landmarks if points else [],
        pairs=dataset.pairs if points else [],
        skeleton=dataset.skeleton if points else [],
        backbone=run.backbone,
        head=run.head.model_dump(),
        size=run.size,
        resize=run.resize,
        mean=mean,
        std=std,
        predict=run.predict.model_dump(),
    )


def check_labels(name: str, run: RunParams, dataset: Dataset, train: list[Sample], val: list[Sample]) -> None:
    """Raises InputError if the data cannot teach the task: no pictures, one class only, a class absent from train."""
    for split, samples in (("train", train), ("val", val)):
        if not samples:
            raise InputError(f"runs.{name}: the {split} split of dataset {run.dataset!r} has no pictures")
    if run.task == "classify":
        seen = {str(s.label) for s in train if s.label is not None}
        unlabelled = [s.id for s in (*train, *val) if s.label is None]
        if unlabelled:
            raise InputError(
                f"runs.{name}: classify needs a label per picture; {len(unlabelled)} of dataset {run.dataset!r} "
                f"have none, first {unlabelled[0]}"
            )
        if len(dataset.labels) < 2:
            raise InputError(f"runs.{name}: dataset {run.dataset!r} has the one class {dataset.labels}; expected two")
    else:
        seen = {o.label for s in train for o in s.objects}
        if not seen:
            raise InputError(f"runs.{name}: {run.task} needs boxes; dataset {run.dataset!r} has none in train")
    absent = [label for label in dataset.labels if label not in seen]
    if absent:
        raise InputError(f"runs.{name}: no picture of {', '.join(absent)} in the train split of {run.dataset!r}")


def write_model(net: "Net", spec: "ModelSpec", rows: list[dict[str, float]], model_folder: Path, report: Path) -> None:
    from safetensors.torch import save_file

    from pipeline.models.spec import write_spec
    from pipeline.plots import plot_history

    with new_folder(model_folder) as folder:
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
        write_spec(folder / "model.json", spec)
    with new_folder(report) as folder:
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(folder / "history.csv", text.getvalue())
        plot_history(rows, folder / "history.png")


def timing(seconds: float, pictures: int, trained: dict[str, Any], resumed: bool) -> dict[str, Any]:
    """How long training took, from its start to its last epoch and with its looks at val; apart from model.json, which
    is the same for the same params. Of a resumed run `seconds` is the last process's alone: it has no rate.
    """
    import torch

    rate = None if resumed else round(pictures * trained["epochs"] / seconds, 2)
    return {
        "seconds": round(seconds, 2),
        "resumed": resumed,
        "epochs": trained["epochs"],
        "images_per_second": rate,
        "precision": trained["precision"],
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def _fingerprint(run: RunParams, *folders: Path) -> str:
    """Of everything that training depends on; files by name and size, which is quick and changes with the content."""
    files = [(p.name, p.stat().st_size) for folder in folders for p in sorted(folder.iterdir())]
    facts: dict[str, Any] = {"run": run.model_dump(exclude={"export"}), "files": files}
    facts["labels"] = [asdict(read_dataset(folder)) for folder in folders[:1]]
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

"""One run from its data to its weights: what the train stage does."""

import shutil
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, sha256, write_json
from pipeline.core.machine import PROCESSES
from pipeline.core.parallel import over
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples
from pipeline.core.sole import only
from pipeline.models.heads import HEADS
from pipeline.training.params import DetectRun, RunParams

if TYPE_CHECKING:
    from lightning_fabric import Fabric

    from pipeline.augment.policies import Augment
    from pipeline.core.spec import ModelSpec
    from pipeline.models.backbones import Pretrained
    from pipeline.models.nets import Net
    from pipeline.training.loading import ImageDataset, Loaders
    from pipeline.training.progress import SoFar


def train_run(
    name: str,
    run: RunParams,
    train_folder: Path,
    val_folder: Path,
    model_folder: Path,
    report: Path,
    resume: Path,
    features: Path,
    parallel: str = PROCESSES,
    workers: int | None = None,
) -> str:
    """Train run `name` on `train_folder`, choose the best epoch on `val_folder`; returns a line that says how it went.

    Writes `model_folder`/{model.json, model.safetensors} and `report`/{history.csv, training.json, batch.npz}.
    Checkpoints live in `resume`/<fingerprint of params, data and weights>, so that a killed run goes on, and only with
    what it began with. What a frozen backbone makes of images is kept in the folder `features`; one process on a CPU
    has it made as `parallel` says. `workers` processes load training images (None: `devices.loading_processes`); any
    number of them gives the same weights. Of several processes that torchrun started the first sums up data and writes.
    """
    dataset, train, val = read_dataset(train_folder), read_samples(train_folder), read_samples(val_folder)
    check_teaches(name, run, dataset, train, val)

    from pipeline.training import checkpoint, cost, devices, loading, policy_check
    from pipeline.training.progress import fine_tuned

    pretrained = pretrained_of(name, run)
    net, spec = starting_net(name, run, dataset, train, pretrained)
    fabric = devices.launch(run.train.precision)
    process = loading.Process(fabric.global_rank, fabric.world_size)
    varied = loading.ImageDataset(train_folder, train, spec, augment := _augment(run, dataset), process)
    policy_check.check_policy(name, run, augment, varied)
    plain = loading.ImageDataset(val_folder, val, spec)
    with ExitStack() as alone:
        with devices.together(fabric):
            if first := fabric.is_global_zero:
                alone.enter_context(only(resume / name, f"runs.{name}: another process trains it"))
            begun_with = checkpoint.fingerprint(run, pretrained, train_folder, val_folder) if first else ""
            checkpoints = resume / name / fabric.broadcast(begun_with)
            resumed, started = first and checkpoint.is_left(checkpoints / checkpoint.LAST), time.perf_counter()
            how = checkpoints, features, parallel, devices.loading_processes(fabric, workers)
            so_far, loaded = _fit_phases(fabric, net, spec, run, dataset, (varied, plain), *how)
        if first:
            seconds, images = time.perf_counter() - started, 0 if run.train.frozen_epochs else len(train)
            taken = cost.timing(seconds, images, spec.trained, resumed, fabric.world_size, *loaded)
            write_model(net, spec, so_far.rows, varied, run, taken, model_folder, report)
            shutil.rmtree(resume / name, ignore_errors=True)
    tuned = fine_tuned(so_far, run.train.frozen_epochs) if run.train.epochs else ""
    return f"{model_folder}: {_course(spec.trained)}{tuned}{pretrained.told()}"


def _augment(run: RunParams, dataset: Dataset) -> "Augment":
    """How training images are varied; a line says where none may be mirrored."""
    from tqdm import tqdm

    from pipeline.augment.policies import augmenter
    from pipeline.augment.policies.sides import unpaired

    policy = run.train.online.policy
    augment = augmenter(policy, dataset, objects=run.task != "classify")
    if policy != "none" and not augment.mirrors:
        tqdm.write(f"{run.dataset}: {unpaired(dataset)}")
    if run.train.epochs:
        augment.build()
    return augment


def _course(trained: dict[str, Any]) -> str:
    metric, value = next((k, v) for k, v in trained.items() if k.startswith("val_"))
    epochs = f"{trained['epochs']} of {trained['planned_epochs']} trained"
    return f"epoch {trained['best_epoch']} is kept, {epochs}; {metric} {value:.4f}"


def pretrained_of(name: str, run: RunParams) -> "Pretrained":
    """What the backbone starts from. Raises InputError for weights that do not fit, or are not the params'."""
    from pipeline.models.backbones import read_pretrained

    pretrained = read_pretrained(run.model.backbone, run.model.pretrained)
    expected, found = run.model.pretrained_sha256, str(pretrained.source.get("sha256"))
    if expected not in (None, found):
        raise InputError(
            f"{run.model.pretrained}: sha256 {found[:12]}...; resolved.yaml expects {expected[:12]}...; "
            f"`dvc repro --force params` takes the file as it is now"
        )
    if pretrained.state is None and run.train.backbone_norm == "frozen":
        raise InputError(f"runs.{name}.train.backbone_norm: frozen, but model.pretrained is false; expected batch")
    return pretrained


def starting_net(
    name: str, run: RunParams, dataset: Dataset, train: list[Sample], pretrained: "Pretrained"
) -> tuple["Net", "ModelSpec"]:
    """The net before its first step, and its spec. Raises InputError for knobs that do not fit."""
    import torch

    from pipeline.models.localizer import Localizer
    from pipeline.models.nets import build, take_over
    from pipeline.training.loading import box_sizes

    spec = make_spec(name, run, dataset, pretrained.mean, pretrained.std)
    if isinstance(run, DetectRun) and (head := HEADS[run.model.head.kind]).anchors:
        spec.head["anchors"] = head.find_anchors(box_sizes(train, spec), run.model.head.strides, spec.size)
    torch.manual_seed(run.train.seed)
    net = build(spec, pretrained)
    if isinstance(net, Localizer):
        net.start_from(train)
    take_over(net, spec, pretrained)
    spec.trained = {"weights": pretrained.source}
    spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    return net, spec


def _fit_phases(
    fabric: "Fabric",
    net: "Net",
    spec: "ModelSpec",
    run: RunParams,
    dataset: Dataset,
    datasets: tuple["ImageDataset", "ImageDataset"],
    checkpoints: Path,
    features: Path,
    parallel: str,
    workers: int,
) -> tuple["SoFar", tuple[int | None, float | None]]:
    """Train the head on frozen features, then the net, unless val has no mistake left; returns what the validations
    have shown, the `loaders_memory`, and the share of the epochs' time in which the net waited for images. The net
    ends with the weights of the best epoch of all, and `spec.trained` says which that was.
    """
    from pipeline.metrics.metrics import main_metric
    from pipeline.models.losses import label_weights
    from pipeline.training.cost import loaders_memory
    from pipeline.training.devices import choose_precision
    from pipeline.training.features import frozen_loaders
    from pipeline.training.loop import Phase, fit
    from pipeline.training.progress import SoFar
    from pipeline.training.statistics import dataset_normalization

    if run.model.normalization == "dataset":
        spec.mean, spec.std = dataset_normalization(datasets[0].folder, datasets[0].samples, spec, fabric)
    balanced = run.train.class_weights == "balanced"
    weights = label_weights(run.task, datasets[0].samples, dataset.labels) if balanced else None
    loading: tuple[int | None, float | None] = 0, None
    so_far = SoFar()
    if run.train.frozen_epochs:
        phase = Phase(True, run.train.frozen_epochs, run.train.learning_rate)
        with over(parallel if fabric.world_size == 1 and fabric.device.type == "cpu" else PROCESSES):
            loaders = frozen_loaders(datasets, net, features, run, fabric)
        so_far = fit(fabric, net, spec, run, dataset, phase, loaders, checkpoints, so_far, weights)
    if run.train.epochs and not so_far.perfect:
        phase = Phase(False, run.train.epochs, run.train.learning_rate, run.train.frozen_epochs)
        loaders = image_loaders(run, datasets, workers)
        so_far = fit(fabric, net, spec, run, dataset, phase, loaders, checkpoints, so_far, weights)
        loading = loaders_memory(), loaders.waits.share if loaders.waits else None
    spec.trained |= {
        "epochs": int(so_far.rows[-1]["epoch"]) + 1 - so_far.skipped,
        "planned_epochs": run.train.frozen_epochs + run.train.epochs,
        "best_epoch": int(so_far.top["epoch"]),
        f"val_{main_metric(spec.task)}": so_far.top["val_metric"],
        "precision": choose_precision(run.train.precision),
    }
    net.eval()
    return so_far, loading


def image_loaders(run: RunParams, datasets: tuple["ImageDataset", "ImageDataset"], workers: int) -> "Loaders":
    """Those of the epochs after the frozen ones; both splits keep in memory what may be kept."""
    from pipeline.training.loading import ImageDataset, Loaders, eval_loader, keep_canvases, plain_loader, train_loader
    from pipeline.training.shown import mosaics

    knobs = run.train
    keep_canvases(*datasets, workers)
    train = train_loader(datasets[0], knobs.batch_size, workers, knobs.seed, *mosaics(run))
    val = eval_loader(datasets[1], knobs.batch_size, datasets[0].process)
    # where others load train, their share of what may be kept is not this process's
    plain = ImageDataset(datasets[0].folder, datasets[0].samples, datasets[0].spec) if workers else datasets[0]
    return Loaders(train, val, plain_loader(plain, knobs.batch_size, knobs.seed), train.waits)


def make_spec(name: str, run: RunParams, dataset: Dataset, mean: list[float], std: list[float]) -> "ModelSpec":
    from pipeline.core.spec import ModelSpec

    points = run.task != "classify"
    return ModelSpec(
        run=name,
        dataset=run.dataset,
        task=run.task,
        labels=dataset.labels,
        landmarks=dataset.landmarks if points else [],
        pairs=dataset.pairs if points else [],
        skeleton=dataset.skeleton if points else [],
        backbone=run.model.backbone,
        head=run.model.head.model_dump(),
        size=run.model.size,
        resize=run.model.resize,
        mean=mean,
        std=std,
        preprocess=dataset.preprocess,
    )


def check_teaches(name: str, run: RunParams, dataset: Dataset, train: list[Sample], val: list[Sample]) -> None:
    """Raises InputError if the data cannot teach the task: no images, one class only, a class absent from train."""
    for split, samples in (("train", train), ("val", val)):
        if not samples:
            raise InputError(f"runs.{name}: the {split} split of dataset {run.dataset!r} has no images")
    if run.task == "classify":
        seen = {str(s.label) for s in train if s.label is not None}
        unlabelled = [s.id for s in (*train, *val) if s.label is None]
        if unlabelled:
            raise InputError(
                f"runs.{name}: classify needs a label per image; {len(unlabelled)} of dataset {run.dataset!r} "
                f"have none, first {unlabelled[0]}"
            )
        if len(dataset.labels) < 2:
            raise InputError(f"runs.{name}: dataset {run.dataset!r} has the one class {dataset.labels}; expected two")
    else:
        seen = {o.label for s in train for o in s.objects}
        for split, samples in (("train", train), ("val", val)):
            if not any(s.objects for s in samples):
                raise InputError(f"runs.{name}: {run.task} needs boxes; dataset {run.dataset!r} has none in {split}")
    absent = [label for label in dataset.labels if label not in seen]
    if absent:
        raise InputError(f"runs.{name}: no image of {', '.join(absent)} in the train split of {run.dataset!r}")


def write_weights(net: "Net", spec: "ModelSpec", folder: Path) -> None:
    """Write model.safetensors and, with its sha256, model.json into `folder`."""
    from safetensors.torch import save_file

    from pipeline.core.spec import write_spec

    weights = folder / "model.safetensors"
    save_file({k: v.contiguous() for k, v in net.state_dict().items()}, weights)
    write_spec(folder / "model.json", replace(spec, weights_sha256=sha256(weights)))


def write_model(
    net: "Net",
    spec: "ModelSpec",
    rows: list[dict[str, float]],
    varied: "ImageDataset",
    run: RunParams,
    taken: dict[str, Any],
    model_folder: Path,
    report: Path,
) -> None:
    from pipeline.training.report import write_report

    with new_folder(model_folder) as folder:
        write_weights(net, spec, folder)
    with new_folder(report) as folder:
        write_report(folder, rows, varied, run)
        write_json(folder / "training.json", taken)

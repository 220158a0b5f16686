"""How many epochs fit into so many minutes on this machine, measured on a part of the data."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.sample import read_dataset, read_samples
from pipeline.training.params import LocalizeRun, RunParams
from pipeline.training.train import check_teaches, image_loaders, pretrained_of, starting_net

if TYPE_CHECKING:
    from pipeline.training.loading import ImageDataset, Loaders

STEPS = 6  # that an epoch is told from; as many come before, in which memory fills


@dataclass(frozen=True, slots=True)
class Seconds:
    """What the parts of a training take on this machine."""

    start: float
    """With the reading of all data, by which a killed run is known again."""
    features: float
    """Of all images, once, before the frozen epochs."""
    frozen_epoch: float
    """With its validation."""
    epoch: float
    """With its checkpoint, after the first one."""
    validation: float
    """After the first one, batch norm's statistics with it."""
    decoding: float
    """What the first epoch and the first validation take longer: later ones find images in memory."""
    end: float
    """The kept weights' statistics from plain images, and their validation."""

    def of(self, frozen_epochs: int, epochs: int) -> float:
        """A whole training."""
        from pipeline.training.optimization import Phase, validation_interval

        frozen = self.features + frozen_epochs * self.frozen_epoch if frozen_epochs else 0.0
        if not epochs:
            return self.start + frozen
        validations = math.ceil(epochs / validation_interval(Phase(False, epochs, 0.0)))
        tuned = self.decoding + epochs * self.epoch + validations * self.validation + self.end
        return self.start + frozen + tuned


@dataclass(frozen=True, slots=True)
class _Measured:
    """Seconds of a phase on a part of the data: of epochs and validations in order, and of what is as long for all of
    the data: batch norm's statistics, a checkpoint, and those of `plain` images in the end.
    """

    epochs: list[float]
    validations: list[float]
    norms: float
    saving: float
    plain: float


def estimate(name: str, run: RunParams, train_folder: Path, val_folder: Path, workers: int | None) -> Seconds:
    """Train run `name` for short epochs of each kind that it has, and write nothing.

    Images are drawn evenly from both splits. Raises InputError as `train_run` does.
    """
    began = time.perf_counter()
    dataset = read_dataset(train_folder)
    train, val = read_samples(train_folder), read_samples(val_folder)
    check_teaches(name, run, dataset, train, val)

    from pipeline.training import checkpoint, devices, loading
    from pipeline.training.features import frozen_loaders
    from pipeline.training.optimization import Phase, last_epochs
    from pipeline.training.statistics import dataset_normalization

    pretrained = pretrained_of(name, run)
    net, spec = starting_net(name, run, dataset, train, pretrained)
    fabric = devices.launch(run.train.precision)
    checkpoint.fingerprint(run, pretrained, train_folder, val_folder)
    some, few = _drawn(train, STEPS * run.train.batch_size), _drawn(val, STEPS * run.train.batch_size)
    more, more_val = len(train) / len(some), len(val) / len(few)
    if run.model.normalization == "dataset":
        begun = time.perf_counter()
        spec.mean, spec.std = dataset_normalization(train_folder, some, spec, fabric)
        began -= (time.perf_counter() - begun) * (more - 1)  # of all images
    draw = partial(_datasets, run, dataset, spec, (train_folder, some), (val_folder, few))
    features = frozen = epoch = validation = decoding = end = 0.0
    with devices.together(fabric), tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter() - began
        if run.train.frozen_epochs:
            begun = time.perf_counter()
            cached = frozen_loaders(draw(), net, Path(scratch), run, fabric)
            features = (time.perf_counter() - begun) * (len(train) + len(val)) / (len(some) + len(few))
            phase = Phase(True, 3, run.train.learning_rate)
            found = _measured(fabric, net, spec, run, dataset, phase, cached, cached, None)
            frozen = found.epochs[-1] * more + found.norms + found.validations[-1] * more_val
        if run.train.epochs:
            share, workers = len(some) / len(train), devices.loading_processes(fabric, workers)
            warm, loaders = (_loaders(run, draw(), workers, share) for _ in range(2))
            # before the quiet epochs: until then images are shrunk or mixed
            epochs = 3 + last_epochs(run, Phase(False, run.train.epochs, 0.0))
            phase = Phase(False, epochs, run.train.learning_rate)
            found = _measured(fabric, net, spec, run, dataset, phase, warm, loaders, Path(scratch))
            first, later = found.epochs
            first_val, later_val = found.validations
            decoding = max(0.0, first - later) * more + max(0.0, first_val - later_val) * more_val
            epoch, validation = later * more + found.saving, found.norms + later_val * more_val
            end = found.plain * min(loading.PLAIN, len(train)) / min(loading.PLAIN, len(some)) + later_val * more_val
    return Seconds(start, features, frozen, epoch, validation, decoding, end)


def _datasets(
    run: RunParams, dataset: Any, spec: Any, train: tuple[Path, list[Any]], val: tuple[Path, list[Any]]
) -> tuple["ImageDataset", "ImageDataset"]:
    """Both parts, none of whose images is in memory yet."""
    from pipeline.augment.policies import augmenter
    from pipeline.training.loading import ImageDataset

    augment = augmenter(run.train.online.policy, dataset, run.task != "classify")
    return ImageDataset(*train, spec, augment), ImageDataset(*val, spec)


def _loaders(run: RunParams, parts: tuple["ImageDataset", "ImageDataset"], workers: int, share: float) -> "Loaders":
    from pipeline.training.loading import KEEP_BYTES, keep_canvases

    loaders = image_loaders(run, parts, workers)
    keep_canvases(*parts, workers, int(KEEP_BYTES * share))  # of what is kept in memory their share, as of the images
    return loaders


def _drawn(samples: Sequence[Any], count: int) -> list[Any]:
    """So many of them at most, evenly."""
    return [samples[i * len(samples) // count] for i in range(count)] if count < len(samples) else list(samples)


def _measured(
    fabric: Any,
    net: Any,
    spec: Any,
    run: RunParams,
    dataset: Any,
    phase: Any,
    warm: "Loaders",
    loaders: "Loaders",
    scratch: Path | None,
) -> _Measured:
    """Two epochs and validations of `loaders` after an epoch of `warm`; with `scratch`, a checkpoint there."""
    from tqdm import tqdm

    from pipeline.training.devices import to_device
    from pipeline.training.loop import learn_an_epoch, prepare, save
    from pipeline.training.progress import SoFar
    from pipeline.training.quick import measure_norms
    from pipeline.training.validation import validate

    t = prepare(fabric, net, spec, run, phase, len(loaders.train), None)
    epochs, validations, norms, saving = [], [], 0.0, 0.0
    with tqdm(total=3 * len(loaders.train), desc="measure", mininterval=0.5) as bar:
        learn_an_epoch(t, warm.train, 0, bar)
        for epoch in (1, 2):
            begun = time.perf_counter()
            _, recent = learn_an_epoch(t, loaders.train, epoch, bar)
            epochs.append(time.perf_counter() - begun)
            t.average.eval()
            begun = time.perf_counter()
            measure_norms(t.averaged_norms, t.average, recent)
            norms, begun = time.perf_counter() - begun, time.perf_counter()
            row = validate(fabric, t.average.module, spec, loaders.val, dataset, "measuring")
            validations.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    if scratch is not None:
        so_far = SoFar()
        so_far.take(row, t.whole.net)
        save(t, scratch, 0, so_far)
        saving = time.perf_counter() - begun
    begun = time.perf_counter()
    if loaders.plain is not None:
        measure_norms(t.averaged_norms, t.average, (to_device(fabric, batch)[0] for batch in loaders.plain))
    return _Measured(epochs, validations, norms, saving, time.perf_counter() - begun)


def fitting(name: str, run: RunParams, seconds: Seconds, minutes: float) -> dict[str, int]:
    """The knobs of `run` ("train.epochs"), with what they are in a training that takes `minutes` at most.

    None is more than it was. The frozen epochs, which cost little, stay as they are where one epoch after them fits;
    the quiet epochs keep their share. The schedule spans whatever epochs there are. Raises InputError if not even one
    epoch fits.
    """
    frozen, epochs = run.train.frozen_epochs, run.train.epochs
    tries = [(frozen, n) for n in range(epochs, 0, -1)] + [(n, min(1, epochs)) for n in range(frozen, 0, -1)]
    tries += [(n, 0) for n in range(frozen, 0, -1)]
    found = next((each for each in tries if seconds.of(*each) <= 60 * minutes), None)
    if found is None:
        least = math.ceil(min(seconds.of(*each) for each in tries) / 6) / 10
        raise InputError(f"--minutes {minutes:g}: an epoch of runs.{name} does not fit; expected {least:.1f} at least")
    knobs = {"train.frozen_epochs": found[0], "train.epochs": found[1]}
    if not isinstance(run, LocalizeRun) and 0 < found[1] < epochs and run.train.online.quiet_epochs:
        share = run.train.online.quiet_epochs * found[1] / epochs
        knobs["train.online.quiet_epochs"] = min(run.train.online.quiet_epochs, max(1, round(share)))
    return knobs

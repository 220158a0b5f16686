"""How many epochs fit into so many minutes on this machine, measured on a part of the data."""

import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.core.sample import read_dataset, read_samples
from pipeline.training.params import DetectRun, RunParams
from pipeline.training.train import check_labels, image_loaders, pretrained_of, starting_net

if TYPE_CHECKING:
    from pipeline.training.loading import Loaders

STEPS = 6  # that an epoch is told from; as many come before, in which memory and caches fill


@dataclass(frozen=True, slots=True)
class Seconds:
    """What the parts of a training take on this machine."""

    start: float
    features: float
    """Of all images, once, before the frozen epochs."""
    frozen_epoch: float
    """With its validation."""
    epoch: float
    validation: float

    def of(self, frozen_epochs: int, epochs: int) -> float:
        """A whole training."""
        from pipeline.training.optimization import Phase, validation_interval

        validations = math.ceil(epochs / validation_interval(Phase(False, epochs, 0.0)))
        frozen = self.features + frozen_epochs * self.frozen_epoch if frozen_epochs else 0.0
        return self.start + frozen + epochs * self.epoch + validations * self.validation


def estimate(name: str, run: RunParams, train_folder: Path, val_folder: Path, workers: int | None) -> Seconds:
    """Train run `name` for two short epochs of each kind that it has, the second one timed, and write nothing.

    Images are drawn evenly from both splits. Raises InputError as `train_run` does.
    """
    began = time.perf_counter()
    dataset = read_dataset(train_folder)
    train, val = read_samples(train_folder), read_samples(val_folder)
    check_labels(name, run, dataset, train, val)

    from pipeline.augment.policies import augmenter
    from pipeline.training import devices, loading
    from pipeline.training.features import frozen_loaders
    from pipeline.training.optimization import Phase

    net, spec = starting_net(name, run, dataset, train, pretrained_of(name, run))
    fabric = devices.launch(run.train.precision)
    some, few = _drawn(train, STEPS * run.train.batch_size), _drawn(val, STEPS * run.train.batch_size)
    varied = loading.ImageDataset(train_folder, some, spec, augmenter(run.train.online.policy, dataset))
    parts = varied, loading.ImageDataset(val_folder, few, spec)
    more, more_val = len(train) / len(some), len(val) / len(few)
    features, frozen, tuned = 0.0, (0.0, 0.0), (0.0, 0.0)
    with devices.together(fabric), tempfile.TemporaryDirectory() as scratch:
        start = time.perf_counter() - began
        if run.train.frozen_epochs:
            begun = time.perf_counter()
            loaders = frozen_loaders(parts, net, Path(scratch), run, fabric)
            features = (time.perf_counter() - begun) * (len(train) + len(val)) / (len(some) + len(few))
            frozen = _timed(fabric, net, spec, run, dataset, Phase(True, 2, run.train.learning_rate), loaders)
        if run.train.epochs:
            workers = devices.loading_processes(fabric, workers)
            loaders = image_loaders(run, parts, workers)
            # of what is kept in memory their share, as of the images
            loading.keep_canvases(*parts, workers, int(loading.KEEP_BYTES * len(some) / len(train)))
            # before the quiet epochs of a detector, which is shown shrunk images until then
            epochs = 2 + (run.train.online.quiet_epochs if isinstance(run, DetectRun) else 0)
            tuned = _timed(fabric, net, spec, run, dataset, Phase(False, epochs, run.train.learning_rate), loaders)
    return Seconds(start, features, frozen[0] * more + frozen[1] * more_val, tuned[0] * more, tuned[1] * more_val)


def _drawn(samples: Sequence[Any], count: int) -> list[Any]:
    """So many of them at most, evenly."""
    return [samples[i * len(samples) // count] for i in range(count)] if count < len(samples) else list(samples)


def _timed(
    fabric: Any, net: Any, spec: Any, run: RunParams, dataset: Any, phase: Any, loaders: "Loaders"
) -> tuple[float, float]:
    """Seconds of the second epoch of the phase, and of a validation."""
    from tqdm import tqdm

    from pipeline.training.loop import learn_an_epoch, prepare
    from pipeline.training.validation import validate

    train, val = loaders.train, loaders.val
    t = prepare(fabric, net, spec, run, phase, len(train), None)
    times = [time.perf_counter()]
    with tqdm(total=2 * len(train), desc="measure", mininterval=0.5) as bar:
        for epoch in range(2):
            learn_an_epoch(t, train, epoch, bar)
            times.append(time.perf_counter())
    t.average.eval()
    validate(fabric, t.average.module, spec, val, dataset, "measuring")
    return times[-1] - times[-2], time.perf_counter() - times[-1]


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
    if isinstance(run, DetectRun) and 0 < found[1] < epochs and run.train.online.quiet_epochs:
        share = run.train.online.quiet_epochs * found[1] / epochs
        knobs["train.online.quiet_epochs"] = min(run.train.online.quiet_epochs, max(1, round(share)))
    return knobs

"""Samples to batches. What an image becomes depends on (seed, epoch, index) alone, not on which worker draws it."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.sample import ABSENT, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.preprocess import Frame, frame_of, resize
from pipeline.ops.steps import apply_steps
from pipeline.training.mixing import mosaic
from pipeline.training.targets import Item, targets
from pipeline.training.waits import Waits

Augment = Callable[[NDArray[np.uint8], list[Object], int], tuple[NDArray[np.uint8], list[Object]]]
PLAIN = 512  # images that the statistics of batch norm come from at the end
KEEP_BYTES = 1 << 30  # canvases kept in memory by a training process and those that load for it, of both splits
NO_PIXELS = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True, slots=True)
class Process:
    """One of the `count` processes that train together."""

    rank: int
    count: int

    def owns(self, index: int) -> bool:
        """Whether that image, or batch of val, is this process's."""
        return index % self.count == self.rank


ALONE = Process(0, 1)


class Draw(NamedTuple):
    """An image as training sees it: varied by `seed`, and in one with those of `others`, if there are any."""

    image: int
    seed: int
    others: tuple[int, ...] = ()


class Loaders(NamedTuple):
    """Batches of a phase: `train` in an order of each epoch, `val`, and of `plain` train images, on which batch norm
    is measured at the end (None: it keeps what it has). `waits` is how long those of `train` were waited for.
    """

    train: DataLoader[Any]
    val: DataLoader[Any]
    plain: DataLoader[Any] | None = None
    waits: Waits | None = None


class ImageDataset(TorchDataset[Item]):
    """Samples of `folder` on the model's canvas: pixels uint8 [S, S, 3], the sample, where the image lies on the
    canvas, and its objects on the canvas. With `augment`, a `Draw` is varied by its seed. The model's own steps come
    last: on a phone too they meet images that light and camera have varied. After its first use a canvas, as it is
    before that, stays in memory while there is room: each process that loads has `room` bytes (0 until `keep_canvases`
    says more). A process keeps those of its own images, so that all processes together keep each once.
    """

    def __init__(
        self,
        folder: Path,
        samples: list[Sample],
        spec: ModelSpec,
        augment: Augment | None = None,
        process: Process = ALONE,
    ) -> None:
        self.folder, self.samples, self.spec, self.augment, self.process = folder, samples, spec, augment, process
        self.room = 0
        self._kept: dict[int, tuple[NDArray[np.uint8], Frame]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Item:
        item = self._plain(key if isinstance(key, int) else key.image)
        if isinstance(key, Draw) and key.others:
            item = mosaic([item, *map(self._plain, key.others)], key.seed)
        pixels, sample, frame, objects = item
        if isinstance(key, Draw) and self.augment is not None:
            pixels, objects = self.augment(pixels, objects, key.seed)
        return apply_steps(self.spec.preprocess, pixels), sample, frame, objects

    def _plain(self, index: int) -> Item:
        sample = self.samples[index]
        pixels, frame = self._canvas(index)
        objects = [o for o in map(_on_canvas, map(frame.to_canvas, sample.objects)) if o is not None]
        return pixels, sample, frame, objects

    def _canvas(self, index: int) -> tuple[NDArray[np.uint8], Frame]:
        if index in self._kept:
            return self._kept[index]
        image = open_image(self.folder / self.samples[index].file_name)
        canvas = resize(image, self.spec.size, self.spec.resize)
        if self.process.owns(index) and canvas[0].nbytes <= self.room:
            self.room -= canvas[0].nbytes
            self._kept[index] = canvas
        return canvas


def keep_canvases(train: ImageDataset, val: ImageDataset, workers: int, most: int = KEEP_BYTES) -> None:
    """Let both keep canvases, `most` bytes in all: `val` in this process, `train` in each of its `workers`, or in this
    process if there are none. Where not all fit, each has its share.
    """
    processes = max(1, workers)
    canvas = train.spec.size**2 * 3
    own = math.ceil(len(train) / train.process.count)  # a worker sees all of them sooner or later
    wanted = canvas * (len(val) + processes * own)
    share = min(1.0, most / wanted)
    val.room, train.room = int(canvas * len(val) * share), int(canvas * own * share)


class EpochSampler(Sampler[Draw]):
    """Every index once, in an order of its epoch, each with the number that its augmentation is drawn from. In epochs
    before `mixed_epochs`, a share `mosaic` of them has three others beside it.
    """

    def __init__(self, length: int, seed: int, mosaic: float = 0.0, mixed_epochs: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, 0
        self.mosaic, self.mixed_epochs = mosaic, mixed_epochs

    def begin(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Draw]:
        draw = np.random.default_rng((self.seed, self.epoch))
        order = draw.permutation(self.length).tolist()
        seeds = draw.integers(2**32, size=self.length).tolist()
        share = self.mosaic if self.epoch < self.mixed_epochs else 0.0
        joined = (draw.random(self.length) < share).tolist()
        others = draw.integers(self.length, size=(self.length, 3)).tolist()
        return iter(
            [Draw(i, s, tuple(o) if j else ()) for i, s, j, o in zip(order, seeds, joined, others, strict=True)]
        )


class TrainBatches(Sampler[list[Draw]]):
    """The draws of an epoch in batches of `batch_size`, of each of which `process` has its share, one image at least.

    The images that a process has kept the canvas of are its own as far as the shares come out even. A last batch of one
    image, or of fewer than there are processes, is left out of the epoch: batch norm has nothing to average over.
    """

    def __init__(self, draws: EpochSampler, batch_size: int, process: Process = ALONE) -> None:
        self.draws, self.batch_size, self.process = draws, batch_size, process
        if min(batch_size, len(draws)) < process.count:
            found = f"batches of {min(batch_size, len(draws))} images"
            raise InputError(f"{found} for {process.count} processes; expected an image for each at least")

    def begin(self, epoch: int) -> None:
        """Draw for `epoch` from now on."""
        self.draws.begin(epoch)

    def __len__(self) -> int:
        whole, rest = divmod(len(self.draws), self.batch_size)
        return whole + (rest >= max(2, self.process.count) or (rest > 0 and whole == 0))

    def __iter__(self) -> Iterator[list[Draw]]:
        drawn, rank, count = list(self.draws), self.process.rank, self.process.count
        for number in range(len(self)):
            batch = drawn[number * self.batch_size : (number + 1) * self.batch_size]
            batch.sort(key=lambda draw: draw.image % count)
            yield batch[len(batch) * rank // count : len(batch) * (rank + 1) // count]


def train_loader(
    dataset: ImageDataset, batch_size: int, workers: int, seed: int, mosaic: float = 0.0, mixed_epochs: int = 0
) -> "TrainLoader":
    """Batches (images uint8 [N, S, S, 3], target, items) in a new order and new variations every epoch; see
    `EpochSampler` for `mosaic` and `mixed_epochs`, `TrainBatches` for what several processes get of them.
    """
    draws = EpochSampler(len(dataset), seed, mosaic, mixed_epochs)
    return TrainLoader(
        _Answering(dataset),
        batch_sampler=TrainBatches(draws, batch_size, dataset.process),
        num_workers=workers,
        collate_fn=_Collate(dataset.spec),
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
        # torch's threads do not survive a fork: where several processes talk to each other a forked worker can hang.
        # With "forkserver" the workers of a killed process would stay.
        multiprocessing_context="spawn" if workers and dataset.process.count > 1 else None,
    )


class _Answering(TorchDataset[Any]):
    """Gives the InputError for an image in its place: torch would put a worker's traceback into the message of one that
    is raised. `TrainLoader` raises it.
    """

    def __init__(self, dataset: ImageDataset) -> None:
        self._dataset = dataset

    def __getitem__(self, key: Draw) -> Item | InputError:
        try:
            return self._dataset[key]
        except InputError as error:
            return error


class TrainLoader(DataLoader[Any]):
    """Raises the InputError that stands for a batch, and counts how long it is waited for batches."""

    def __iter__(self) -> Any:
        for batch in self.waits.timed(super().__iter__):
            if isinstance(batch, InputError):
                raise batch
            yield batch

    @cached_property
    def waits(self) -> Waits:
        return Waits()


def eval_loader(dataset: ImageDataset, batch_size: int, process: Process = ALONE) -> DataLoader[Any]:
    """The images in order, unvaried, as (images, target, items); of these batches those that are `process`'s."""
    batches = own_batches(len(dataset), batch_size, process)
    return DataLoader(dataset, batch_sampler=batches, collate_fn=_Collate(dataset.spec))


def plain_loader(dataset: ImageDataset, batch_size: int, seed: int) -> DataLoader[Any]:
    """At most `PLAIN` images, drawn by `seed` and unvaried, in whole batches as far as there are any. Every process
    has all of them.
    """
    drawn = np.random.default_rng(seed).permutation(len(dataset))[:PLAIN].tolist()
    whole = max(1, len(drawn) // batch_size)
    batches = [drawn[i * batch_size : (i + 1) * batch_size] for i in range(whole)]
    return DataLoader(dataset, batch_sampler=batches, collate_fn=_Collate(dataset.spec))


def own_batches(length: int, batch_size: int, process: Process) -> list[list[int]]:
    """Of the numbers below `length`, in order and in batches, those batches that are this process's."""
    starts = range(0, length, batch_size)
    return [list(range(at, min(at + batch_size, length))) for at in starts if process.owns(at // batch_size)]


def _on_canvas(o: Object) -> Object | None:
    """What the canvas shows of an object on it: None where a crop has cut it off."""
    x0, y0 = max(o.box[0], 0.0), max(o.box[1], 0.0)
    x1, y1 = min(o.box[0] + o.box[2], 1.0), min(o.box[1] + o.box[3], 1.0)
    if x1 <= x0 or y1 <= y0:
        return None
    inside = [0 <= p.x <= 1 and 0 <= p.y <= 1 for p in o.landmarks]
    points = [p if seen else replace(p, visibility=ABSENT) for p, seen in zip(o.landmarks, inside, strict=True)]
    return replace(o, box=(x0, y0, x1 - x0, y1 - y0), landmarks=points)


Batch = tuple[Tensor, dict[str, Tensor], list[Item]]


class _Collate:
    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def __call__(self, items: list[Any]) -> Batch | InputError:
        refused = [item for item in items if isinstance(item, InputError)]
        return refused[0] if refused else collated(items, self.spec)


def collated(items: list[Item], spec: ModelSpec) -> Batch:
    """Images uint8 [N, S, S, 3], what the net of `spec` should say of them, and the items without pixels."""
    images = torch.from_numpy(np.stack([item[0] for item in items]))
    # without the pixels: they are in `images`, and a worker would send them twice; a view would hold them in memory
    rest = [(NO_PIXELS, *item[1:]) for item in items]
    return images, targets(items, spec), rest


def box_sizes(samples: list[Sample], spec: ModelSpec) -> NDArray[np.float64]:
    """[M, 2]: width and height of all objects but crowds, in pixels of the canvas."""
    sizes = []
    for s in samples:
        frame = frame_of(s.width, s.height, spec.size, spec.resize)
        on_canvas = [_on_canvas(frame.to_canvas(o)) for o in s.objects if not o.crowd]
        sizes += [o.box[2:] for o in on_canvas if o is not None]
    return np.array(sizes, dtype=np.float64).reshape(-1, 2) * spec.size


def _one_thread(_worker: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)

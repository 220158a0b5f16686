"""Images per second from JPEG files to batches: a training's loader, and torchvision's with the same transforms.

    python -m benchmarks.loading [--policy NAME] [--images N] [--side PIXELS] [--workers 1,2] [--rounds N]

Drawn images with a few animals each, for a classifier at 224 pixels and a detector at 320, whose boxes move along; both
stretch an image to the net's square and vary it by the same transforms. torchvision's is how its `ImageFolder` reads,
and v2 transforms, in torch's loader. Every loader runs three epochs, in turns with the others: the first from the
files, with the start of its workers, and so are torchvision's later ones; ours keeps decoded images up to a bound.
Beside the wall time is the CPU time an image, of this process and its workers, and the most memory that a worker had,
and had alone. Medians.
"""

import argparse
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import psutil
import torch
from torch.utils.data import DataLoader, Dataset
from torchvision import tv_tensors
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from benchmarks.bare_policies import TORCHVISION
from pipeline.augment.policies import augmenter
from pipeline.core import sample as samples
from pipeline.core.image_file import open_image
from pipeline.core.memory import peak_memory
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.synthetic.coco import draw_herd
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.training import loading
from pipeline.training.params import ClassifyModel, ClassifyRun, DetectModel, DetectRun
from pipeline.training.train import make_spec

EPOCHS, BATCH = 3, 16
RUNS: dict[str, ClassifyRun | DetectRun] = {
    "classify": ClassifyRun(dataset="herd", task="classify", model=ClassifyModel(size=224, resize="stretch")),
    "detect": DetectRun(dataset="herd", task="detect", model=DetectModel(size=320, resize="stretch")),
}
Epoch = Callable[[int], Iterator[Any]]


class Drawn(NamedTuple):
    """Labelled images in a folder."""

    folder: Path
    samples: list[samples.Sample]
    dataset: samples.Dataset


class Taken(NamedTuple):
    """Of a loader: seconds of its first epoch and of a later one, CPU seconds of all, bytes of its largest worker."""

    first: float
    later: float
    cpu: float
    peak: int
    alone: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policy", default="alpaca_lab", choices=["alpaca_lab", "ucf101_torch"])
    parser.add_argument("--images", type=int, default=320)
    parser.add_argument("--side", type=int, default=416)
    parser.add_argument("--workers", type=lambda text: list(map(int, text.split(","))), default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    arms = {(task, workers, by): by_of for task in RUNS for workers in asked.workers for by, by_of in LOADERS.items()}
    taken: dict[tuple[str, int, str], list[Taken]] = {arm: [] for arm in arms}
    with TemporaryDirectory() as folder:
        drawn = draw(Path(folder), asked.images, asked.side)
        for _ in range(asked.rounds):
            for (task, workers, by), loader in arms.items():
                taken[task, workers, by].append(measured(loader(drawn, RUNS[task], asked.policy, workers)))
    print(
        f"{asked.images} JPEG files of {asked.side} pixels, {asked.policy}, batches of {BATCH}, {asked.rounds} rounds"
    )
    print(
        f"{'task':10}{'workers':>8}  {'':12}{'first':>9}{'later':>9}  images/s{'CPU ms':>9}{'worker MB':>11}{'own':>6}"
    )
    for (task, workers, by), found in taken.items():
        first, later = (asked.images / median(getattr(one, epoch) for one in found) for epoch in ("first", "later"))
        cpu = median(one.cpu for one in found) / asked.images / EPOCHS * 1000
        peak, alone = (max(getattr(one, kind) for one in found) / 1e6 for kind in ("peak", "alone"))
        print(f"{task:10}{workers:8}  {by:12}{first:9.1f}{later:9.1f}{cpu:19.2f}{peak:11.0f}{alone:6.0f}")


def draw(folder: Path, count: int, side: int) -> Drawn:
    """So many images as JPEG files; the label of an image is that of its first object."""
    draw_herd(folder, ImagesParams(images=max(10, count), side=side), 7)
    reading = FORMATS["coco"].read(folder, folder, FORMATS["coco"].Options())
    found = []
    for number, one in enumerate(reading.candidates[:count]):
        image, name = open_image(one.file), f"{number}.jpg"
        image.save(folder / name, quality=90)
        label = one.objects[0].label if one.objects else reading.labels[0]
        found.append(samples.Sample(str(number), name, *image.size, "train", label=label, objects=one.objects))
    return Drawn(folder, found, samples.Dataset("herd", reading.labels, reading.landmarks, reading.pairs))


def ours(drawn: Drawn, run: ClassifyRun | DetectRun, policy: str, workers: int) -> Epoch:
    """A training's own loader, which keeps what a training may keep."""
    spec = make_spec("benchmark", run, drawn.dataset, [0.5] * 3, [0.5] * 3)
    varied = loading.ImageDataset(drawn.folder, drawn.samples, spec, augmenter(policy, drawn.dataset))
    loading.keep_canvases(varied, loading.ImageDataset(drawn.folder, drawn.samples[:1], spec), workers)
    loader = loading.train_loader(varied, BATCH, workers, 0)
    batches: Any = loader.batch_sampler

    def epoch(number: int) -> Iterator[Any]:
        batches.begin(number)
        return iter(loader)

    return epoch


def torchvisions(drawn: Drawn, run: ClassifyRun | DetectRun, policy: str, workers: int) -> Epoch:
    """torch's loader over torchvision's reading and transforms."""
    pictures = Pictures(drawn, run.task == "detect", run.model.size, TORCHVISION[policy](run.model.size))
    loader = DataLoader(
        pictures, BATCH, shuffle=True, num_workers=workers, persistent_workers=workers > 0, collate_fn=_batch
    )
    return lambda _number: iter(loader)


LOADERS: dict[str, Callable[[Drawn, ClassifyRun | DetectRun, str, int], Epoch]] = {
    "ours": ours,
    "torchvision": torchvisions,
}


class Pictures(Dataset[Any]):
    """Images as torchvision has them, with their boxes where `boxed`, else with their label."""

    def __init__(self, drawn: Drawn, boxed: bool, size: int, transform: v2.Transform) -> None:
        self.drawn, self.boxed, side = drawn, boxed, (size, size)
        self.transform = v2.Compose([v2.Resize(side, antialias=True), transform])

    def __len__(self) -> int:
        return len(self.drawn.samples)

    def __getitem__(self, index: int) -> Any:
        sample = self.drawn.samples[index]
        image = v2.functional.to_image(default_loader(str(self.drawn.folder / sample.file_name)))
        labels = self.drawn.dataset.labels
        if not self.boxed:
            return self.transform(image), labels.index(str(sample.label))
        corners = [(o.box[0], o.box[1], o.box[0] + o.box[2], o.box[1] + o.box[3]) for o in sample.objects]
        pixels = np.array(corners, np.float32).reshape(-1, 4) * np.tile([sample.width, sample.height], 2)
        where: Any = (sample.height, sample.width)
        boxes = tv_tensors.BoundingBoxes(torch.from_numpy(pixels), format="XYXY", canvas_size=where)
        moved, held = self.transform(image, boxes)
        return moved, (held, torch.tensor([labels.index(o.label) for o in sample.objects]))


def _batch(items: list[Any]) -> Any:
    images, wanted = zip(*items, strict=True)
    return torch.stack(images), list(wanted)


def measured(epoch: Epoch) -> Taken:
    """Three epochs of a loader; its workers end with it."""
    before, seconds, peak, alone = _cpu(), list[float](), 0, 0
    others = {process.pid for process in multiprocessing.active_children()}  # what drew the images waits for more
    for number in range(EPOCHS):
        start = time.perf_counter()
        for _batch in epoch(number):
            pass
        seconds.append(time.perf_counter() - start)
        for pid in {process.pid for process in multiprocessing.active_children()} - others:
            peak = max(peak, peak_memory(pid) or 0)
            alone = max(alone, psutil.Process(pid).memory_full_info().uss)
    del epoch, _batch
    return Taken(seconds[0], min(seconds[1:]), _cpu() - before, peak, alone)


def _cpu() -> float:
    """CPU seconds of this process and of its workers that have ended."""
    kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return sum(sum(resource.getrusage(kind)[:2]) for kind in kinds)


if __name__ == "__main__":
    main()

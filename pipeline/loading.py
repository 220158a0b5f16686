"""Samples to batches. What a picture becomes depends on (seed, epoch, index) alone, not on which worker draws it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from pipeline.models.spec import ModelSpec
from pipeline.preprocess import Frame, open_image, resize
from pipeline.sample import ABSENT, Object, Sample

Augment = Callable[[NDArray[np.uint8], list[Object], int], tuple[NDArray[np.uint8], list[Object]]]
Item = tuple[NDArray[np.uint8], Sample, Frame, list[Object]]
KEEP_BYTES = 1 << 30  # canvases of sets up to this size are kept in memory after their first epoch


class Pictures(TorchDataset[Item]):
    """Samples of `folder` on the model's canvas: pixels uint8 [S, S, 3], the sample, where the image lies on the
    canvas, and its objects on the canvas. With `augment`, item (index, draw) is varied by `draw`.
    """

    def __init__(self, folder: Path, samples: list[Sample], spec: ModelSpec, augment: Augment | None = None) -> None:
        self.folder, self.samples, self.spec, self.augment = folder, samples, spec, augment
        self._keep = len(samples) * spec.size * spec.size * 3 <= KEEP_BYTES
        self._kept: dict[int, tuple[NDArray[np.uint8], Frame]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | tuple[int, int]) -> Item:
        index, draw = key if isinstance(key, tuple) else (key, None)
        sample = self.samples[index]
        pixels, frame = self._canvas(index)
        objects = [o for o in map(_on_canvas, map(frame.to_canvas, sample.objects)) if o is not None]
        if self.augment is not None and draw is not None:
            pixels, objects = self.augment(pixels, objects, draw)
        return pixels, sample, frame, objects

    def _canvas(self, index: int) -> tuple[NDArray[np.uint8], Frame]:
        if index in self._kept:
            return self._kept[index]
        image = open_image(self.folder / self.samples[index].file_name)
        canvas = resize(image, self.spec.size, self.spec.resize)
        if self._keep:
            self._kept[index] = canvas
        return canvas


class EpochSampler(Sampler[tuple[int, int]]):
    """Every index once, in an order of its epoch, each with the number that its augmentation is drawn from."""

    def __init__(self, length: int, seed: int) -> None:
        self.length, self.seed, self.epoch = length, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[tuple[int, int]]:
        draw = np.random.default_rng((self.seed, self.epoch))
        order = draw.permutation(self.length)
        seeds = draw.integers(2**32, size=self.length)
        return iter([(int(i), int(s)) for i, s in zip(order, seeds, strict=True)])


def train_loader(pictures: Pictures, batch_size: int, workers: int, seed: int) -> DataLoader[Any]:
    """Batches (images uint8 [N, S, S, 3], target, sample ids) in a new order and new variations every epoch.

    A last batch of one picture is left out of the epoch: batch norm has nothing to average over.
    """
    return DataLoader(
        pictures,
        batch_size=min(batch_size, len(pictures)),
        sampler=EpochSampler(len(pictures), seed),
        num_workers=workers,
        collate_fn=_Collate(pictures.spec),
        drop_last=len(pictures) % batch_size == 1 and len(pictures) > batch_size,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
    )


def eval_loader(pictures: Pictures, batch_size: int) -> DataLoader[Any]:
    """The pictures in order, unvaried, as (images, target, indices into `pictures`)."""
    return DataLoader(pictures, batch_size=batch_size, collate_fn=_Collate(pictures.spec))


def _on_canvas(o: Object) -> Object | None:
    """What the canvas shows of an object on it: None where a crop has cut it off."""
    x0, y0 = max(o.box[0], 0.0), max(o.box[1], 0.0)
    x1, y1 = min(o.box[0] + o.box[2], 1.0), min(o.box[1] + o.box[3], 1.0)
    if x1 <= x0 or y1 <= y0:
        return None
    inside = [0 <= p.x <= 1 and 0 <= p.y <= 1 for p in o.landmarks]
    points = [p if seen else replace(p, visibility=ABSENT) for p, seen in zip(o.landmarks, inside, strict=True)]
    return replace(o, box=(x0, y0, x1 - x0, y1 - y0), landmarks=points)


class _Collate:
    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def __call__(self, items: list[Item]) -> tuple[Tensor, dict[str, Tensor], list[Item]]:
        images = torch.from_numpy(np.stack([item[0] for item in items]))
        # without the pixels: they are in `images`, and would cross the process border twice
        rest = [(item[0][:0], *item[1:]) for item in items]
        return images, targets(items, self.spec), rest


def targets(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """What the net of `spec` should say of these pictures, as its loss takes it."""
    return {"classify": _labels, "localize": _one_object, "detect": _all_objects}[spec.task](items, spec)


def _labels(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    return {"label": torch.tensor([spec.labels.index(str(item[1].label)) for item in items])}


def _one_object(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """The largest object of each picture; rows of zeros where there is none."""
    count = len(items)
    presence, box, label = torch.zeros(count), torch.zeros(count, 4), torch.zeros(count, dtype=torch.int64)
    landmarks = torch.zeros(count, len(spec.landmarks), 3)
    for row, item in enumerate(items):
        objects = [o for o in item[3] if not o.crowd and min(o.box[2:]) > 0]  # a crop may have cut it off
        if not objects:
            continue
        largest = max(objects, key=lambda o: o.box[2] * o.box[3])
        presence[row], label[row], box[row] = 1, spec.labels.index(largest.label), torch.tensor(largest.box)
        for i, p in enumerate(largest.landmarks):
            landmarks[row, i] = torch.tensor([p.x, p.y, float(p.visibility > 0)])
    return {"presence": presence, "box": box, "label": label, "landmarks": landmarks}


def _all_objects(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """All objects of the batch in one list, boxes and landmarks in pixels of the canvas; crowds are left out."""
    rows = [(i, o) for i, item in enumerate(items) for o in item[3] if not o.crowd and min(o.box[2:]) > 0]
    corners = [(o.box[0], o.box[1], o.box[0] + o.box[2], o.box[1] + o.box[3]) for _, o in rows]
    count, points = len(rows), len(spec.landmarks)
    landmarks = torch.zeros(count, points, 3)
    for row, (_, o) in enumerate(rows):
        for i, p in enumerate(o.landmarks):
            landmarks[row, i] = torch.tensor([p.x * spec.size, p.y * spec.size, float(p.visibility)])
    return {
        "image": torch.tensor([i for i, _ in rows], dtype=torch.int64),
        "box": torch.tensor(corners, dtype=torch.float32).view(count, 4) * spec.size,
        "label": torch.tensor([spec.labels.index(o.label) for _, o in rows], dtype=torch.int64),
        "landmarks": landmarks,
    }


def _one_thread(_worker: int) -> None:
    import cv2

    torch.set_num_threads(1)
    cv2.setNumThreads(0)

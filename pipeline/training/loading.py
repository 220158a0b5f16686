"""Samples to batches. What an image becomes depends on (seed, epoch, index) alone, not on which worker draws it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from pipeline.core.image_file import open_image
from pipeline.core.sample import ABSENT, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.preprocess import FILL, Frame, frame_of, resize

Augment = Callable[[NDArray[np.uint8], list[Object], int], tuple[NDArray[np.uint8], list[Object]]]
Item = tuple[NDArray[np.uint8], Sample, Frame, list[Object]]
SHIFT = 0.15  # of the canvas: how far from its middle four images meet
KEEP_BYTES = 1 << 30  # canvases of sets up to this size are kept in memory after their first epoch


class Draw(NamedTuple):
    """An image as training sees it: varied by `seed`, and in one with those of `others`, if there are any."""

    image: int
    seed: int
    others: tuple[int, ...] = ()


class ImageDataset(TorchDataset[Item]):
    """Samples of `folder` on the model's canvas: pixels uint8 [S, S, 3], the sample, where the image lies on the
    canvas, and its objects on the canvas. With `augment`, a `Draw` is varied by its seed.
    """

    def __init__(self, folder: Path, samples: list[Sample], spec: ModelSpec, augment: Augment | None = None) -> None:
        self.folder, self.samples, self.spec, self.augment = folder, samples, spec, augment
        self._keep = len(samples) * spec.size * spec.size * 3 <= KEEP_BYTES
        self._kept: dict[int, tuple[NDArray[np.uint8], Frame]] = {}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, key: int | Draw) -> Item:
        if isinstance(key, int):
            return self._plain(key)
        item = self._plain(key.image)
        if key.others:
            item = mosaic([item, *map(self._plain, key.others)], key.seed)
        pixels, sample, frame, objects = item
        if self.augment is not None:
            pixels, objects = self.augment(pixels, objects, key.seed)
        return pixels, sample, frame, objects

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
        if self._keep:
            self._kept[index] = canvas
        return canvas


def mosaic(items: list[Item], seed: int) -> Item:
    """Four images in one (Bochkovskiy et al., YOLOv4, 2020), around a point near the middle of the canvas.

    Each is shrunk until it fits into its quarter, so that no object is cut off. The sample's id names all four.
    """
    size = items[0][0].shape[0]
    draw = np.random.default_rng(seed)
    middle_x, middle_y = (round(float(v) * size) for v in draw.uniform(0.5 - SHIFT, 0.5 + SHIFT, 2))
    canvas = np.full((size, size, 3), FILL, dtype=np.uint8)
    placed: list[Object] = []
    for corner, (pixels, _, frame, objects) in enumerate(items):
        right, low = corner % 2, corner // 2
        room = (size - middle_x if right else middle_x), (size - middle_y if low else middle_y)
        left, top, width, height = _seen(frame, size)
        ratio = min(room[0] / width, room[1] / height)
        w, h = max(1, int(width * ratio)), max(1, int(height * ratio))
        x, y = (middle_x if right else middle_x - w), (middle_y if low else middle_y - h)
        part = Image.fromarray(pixels[top : top + height, left : left + width])
        canvas[y : y + h, x : x + w] = np.asarray(part.resize((w, h), Image.Resampling.BILINEAR))
        back = Frame(width / size, height / size, left / size, top / size)
        quarter = Frame(w / size, h / size, x / size, y / size)
        placed += [quarter.to_canvas(back.to_image(o)) for o in objects]
    sample = replace(items[0][1], id=" + ".join(item[1].id for item in items))
    return canvas, sample, Frame(1, 1, 0, 0), placed


def _seen(frame: Frame, size: int) -> tuple[int, int, int, int]:
    """Left, top, width and height of what a canvas shows of its image, in pixels."""
    left, top, width, height = frame.pixels(size)
    x, y = max(0, left), max(0, top)
    return x, y, min(size, left + width) - x, min(size, top + height) - y


class EpochSampler(Sampler[Draw]):
    """Every index once, in an order of its epoch, each with the number that its augmentation is drawn from. In epochs
    before `mixed_epochs`, a share `mosaic` of them has three others beside it.
    """

    def __init__(self, length: int, seed: int, mosaic: float = 0.0, mixed_epochs: int = 0) -> None:
        self.length, self.seed, self.epoch = length, seed, 0
        self.mosaic, self.mixed_epochs = mosaic, mixed_epochs

    def set_epoch(self, epoch: int) -> None:
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


def train_loader(
    dataset: ImageDataset, batch_size: int, workers: int, seed: int, mosaic: float = 0.0, mixed_epochs: int = 0
) -> DataLoader[Any]:
    """Batches (images uint8 [N, S, S, 3], target, items) in a new order and new variations every epoch; see
    `EpochSampler` for `mosaic` and `mixed_epochs`.

    A last batch of one image is left out of the epoch: batch norm has nothing to average over.
    """
    return DataLoader(
        dataset,
        batch_size=min(batch_size, len(dataset)),
        sampler=EpochSampler(len(dataset), seed, mosaic, mixed_epochs),
        num_workers=workers,
        collate_fn=_Collate(dataset.spec),
        drop_last=len(dataset) % batch_size == 1 and len(dataset) > batch_size,
        persistent_workers=workers > 0,
        worker_init_fn=_one_thread,
    )


def eval_loader(dataset: ImageDataset, batch_size: int) -> DataLoader[Any]:
    """The images in order, unvaried, as (images, target, items)."""
    return DataLoader(dataset, batch_size=batch_size, collate_fn=_Collate(dataset.spec))


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
        # without the pixels: they are in `images`, and a worker would send them twice
        rest = [(item[0][:0], *item[1:]) for item in items]
        return images, targets(items, self.spec), rest


def targets(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """What the net of `spec` should say of these images, as its loss takes it."""
    return {"classify": _labels, "localize": _one_object, "detect": _all_objects}[spec.task](items, spec)


def box_sizes(samples: list[Sample], spec: ModelSpec) -> NDArray[np.float64]:
    """[M, 2]: width and height of all objects but crowds, in pixels of the canvas."""
    sizes = []
    for s in samples:
        frame = frame_of(s.width, s.height, spec.size, spec.resize)
        on_canvas = [_on_canvas(frame.to_canvas(o)) for o in s.objects if not o.crowd]
        sizes += [o.box[2:] for o in on_canvas if o is not None]
    return np.array(sizes, dtype=np.float64).reshape(-1, 2) * spec.size


def _labels(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    return {"label": torch.tensor([spec.labels.index(str(item[1].label)) for item in items])}


def _one_object(items: list[Item], spec: ModelSpec) -> dict[str, Tensor]:
    """The largest object of each image; rows of zeros where there is none."""
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

"""Mean and standard deviation of the pixels that a net learns from, in place of those of its pretrained weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.parallel import each
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.preprocess import prepare

if TYPE_CHECKING:
    from lightning_fabric import Fabric

FEW = 2000  # images that one process reads before others have imported their libraries


@dataclass(frozen=True, slots=True)
class Sums:
    """Of some pixels: how many there are, and per channel the sum of their values and of the squares. These are whole
    numbers of any size, so that neither the order nor the parts in which they were added leave a trace.
    """

    count: int
    values: tuple[int, ...]
    squares: tuple[int, ...]

    def __add__(self, other: "Sums") -> "Sums":
        values = (a + b for a, b in zip(self.values, other.values, strict=True))
        squares = (a + b for a, b in zip(self.squares, other.squares, strict=True))
        return Sums(self.count + other.count, tuple(values), tuple(squares))


NOTHING = Sums(0, (0, 0, 0), (0, 0, 0))


def sums_of(pixels: NDArray[np.uint8]) -> Sums:
    """Of an image, uint8 [H, W, C]."""
    flat = pixels.reshape(-1, pixels.shape[-1]).astype(np.uint64)
    return Sums(len(flat), tuple(flat.sum(axis=0).tolist()), tuple((flat**2).sum(axis=0).tolist()))


def mean_and_deviation(sums: Sums) -> tuple[list[float], list[float]]:
    """Per channel, of values from 0 to 1. The deviation is that of all pixels together, which is more than the mean of
    each image's own.
    """
    n = sums.count
    mean = [value / (255 * n) for value in sums.values]
    variances = (n * square - value**2 for value, square in zip(sums.values, sums.squares, strict=True))
    return mean, [sqrt(variance) / (255 * n) for variance in variances]


def dataset_normalization(
    folder: Path, samples: Sequence[Sample], spec: ModelSpec, fabric: "Fabric"
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of the images of `samples` in `folder` as the net of `spec` sees them, each pixel
    once, without the bars of a letterbox. A process holds one image at a time; of several that train together each
    reads its share. Raises InputError for a channel without any difference, which cannot be divided by.
    """
    share = samples[fabric.global_rank :: fabric.world_size]
    jobs = 1 if len(share) < FEW else None
    own = sum(each(partial(_sums, folder, spec), share, "mean and deviation", jobs), NOTHING)
    sums = sum((fabric.broadcast(own, rank) for rank in range(fabric.world_size)), NOTHING)
    mean, deviation = mean_and_deviation(sums)
    if min(deviation) == 0:
        channel = ("red", "green", "blue")[deviation.index(0)]
        raise InputError(
            f"{folder}: all pixels have the same {channel}: no deviation; expected model.normalization: pretrained"
        )
    return mean, deviation


def _sums(folder: Path, spec: ModelSpec, sample: Sample) -> Sums:
    canvas, frame = prepare(open_image(folder / sample.file_name), spec)
    if spec.resize == "letterbox":  # a crop's frame is larger than the canvas
        left, top, width, height = frame.pixels(spec.size)
        canvas = canvas[top : top + height, left : left + width]
    return sums_of(canvas)

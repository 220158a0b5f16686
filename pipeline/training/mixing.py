"""Images that a net sees otherwise than they are: several in one, or a batch at a smaller size."""

import math
import random
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from pipeline.core.sample import Object
from pipeline.ops.preprocess import FILL, Frame
from pipeline.training.targets import Item

if TYPE_CHECKING:
    from pipeline.training.params import ClassifyRun, DetectRun

SHIFT = 0.15  # of the canvas: how far from its middle four images meet
MIXUP, CUTMIX = 0.2, 1.0  # alpha of the share's beta distribution, as in torchvision's references


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


def mixed(
    images: Tensor, target: dict[str, Tensor], run: "ClassifyRun", labels: int, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """A batch [N, S, S, 3] of so many `labels` and its target: each image blended with another one (Zhang et al.,
    mixup, 2018), with a piece of another one (Yun et al., CutMix, 2019), or as it is, drawn by `seed`. The target of a
    mixed batch has the shares of the labels [N, `labels`].
    """
    from torchvision.transforms import v2

    online, drawn = run.train.online, random.Random(seed).random()
    if drawn >= online.mixup + online.cutmix:
        return images, target
    blends = drawn < online.mixup
    mix = v2.MixUp(alpha=MIXUP, num_classes=labels) if blends else v2.CutMix(alpha=CUTMIX, num_classes=labels)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        inputs, shares = mix(images.permute(0, 3, 1, 2).float(), target["label"])
    return inputs.permute(0, 2, 3, 1), target | {"label": shares}


def shrunk(images: Tensor, target: dict[str, Tensor], run: "DetectRun", seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """A batch [N, S, S, 3] and its target at a side of at most S, drawn by `seed`: multi-scale training."""
    size, step = run.model.size, run.model.head.strides[-1]
    least = math.ceil(run.train.online.smallest * size / step)
    side = step * random.Random(seed).randint(max(1, least), size // step)
    if side == size:
        return images, target
    ratio = side / size
    small = functional.interpolate(images.permute(0, 3, 1, 2).float(), (side, side), mode="bilinear", antialias=True)
    points = target["landmarks"] * target["landmarks"].new_tensor([ratio, ratio, 1])
    return small.permute(0, 2, 3, 1), target | {"box": target["box"] * ratio, "landmarks": points}

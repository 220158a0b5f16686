"""What the heads of the detector share: grids side by side, the objects of a batch as one table, and their losses."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models.losses import divisor

LANDMARK_SIGMA = 0.08  # OKS tolerance in shares of the object's size; COCO's lie between 0.025 and 0.107
RARE = 0.01  # the score that every cell starts with


def start_low(layer: nn.Conv2d) -> None:
    """Nearly all cells show nothing: a layer of logits that says so from the first step (Lin et al. 2017)."""
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.constant_(torch.as_tensor(layer.bias), -math.log(1 / RARE - 1))


def centres(level: Tensor, stride: int) -> Tensor:
    """[H * W, 2]: x, y of the middle of each cell of `level` [..., H, W], in pixels of the canvas, row by row."""
    y, x = torch.meshgrid(*(torch.arange(side, device=level.device) for side in level.shape[-2:]), indexing="ij")
    return (torch.stack([x, y], dim=-1).view(-1, 2).float() + 0.5) * stride


def by_kind(outputs: Sequence[Tensor], kinds: Sequence[str]) -> list[dict[str, Tensor]]:
    """The outputs of each level by their kind, float32."""
    count = len(kinds)
    levels = [outputs[i : i + count] for i in range(0, len(outputs), count)]
    return [{k: o.float() for k, o in zip(kinds, level, strict=True)} for level in levels]


@dataclass(slots=True)
class Truth:
    """The objects of a batch, a row of slots per image: boxes xyxy [N, M, 4] in pixels of the canvas, labels [N, M],
    landmarks [N, M, L, 3]; `real` [N, M] tells slots that hold an object.
    """

    boxes: Tensor
    labels: Tensor
    landmarks: Tensor
    real: Tensor


def table(target: dict[str, Tensor], images: int) -> Truth:
    """The batch's list of objects ("image" [P], "box" [P, 4], "label" [P], "landmarks" [P, L, 3]) as a table."""
    image = target["image"]
    counts = torch.bincount(image, minlength=images)
    slot = torch.arange(len(image), device=image.device) - (counts.cumsum(0) - counts)[image]  # rows come by image
    shape = (images, int(counts.max()) if len(image) else 0)
    made = Truth(
        target["box"].new_zeros(*shape, 4),
        target["label"].new_zeros(shape),
        target["landmarks"].new_zeros(*shape, *target["landmarks"].shape[1:]),
        torch.zeros(shape, dtype=torch.bool, device=image.device),
    )
    made.boxes[image, slot], made.labels[image, slot] = target["box"], target["label"]
    made.landmarks[image, slot], made.real[image, slot] = target["landmarks"], True
    return made


def landmark_loss(points: Tensor, truth: Tensor, boxes: Tensor, weight: Tensor, learning: bool) -> Tensor:
    """1 - OKS (the form of COCO's keypoint similarity) per labelled point, and its visibility.

    points [P, L, 3] (pixels; visibility logit), truth [P, L, 3] (COCO visibility), boxes xyxy [P, 4], weight [P];
    `learning` as in `losses.divisor`.
    """
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=1)[:, None]
    labelled = (truth[..., 2] > 0).float() * weight[:, None]
    squared = ((points[..., :2] - truth[..., :2]) ** 2).sum(-1)
    similarity = torch.exp(-squared / (2 * area * (2 * LANDMARK_SIGMA) ** 2))
    # far away the exponential has no gradient: a small linear term adds one
    far = squared.add(1e-6).sqrt() / area.sqrt()
    total = divisor(labelled.sum(), learning)
    seen = F.binary_cross_entropy_with_logits(points[..., 2], (truth[..., 2] > 1.5).float(), reduction="none")
    return (((1 - similarity) + far + 0.1 * seen) * labelled).sum() / total

"""SSDLite's head: per cell six default boxes, offsets from them and a softmax over the background and the labels (SSD,
Liu et al. 2016), from separable convolutions (MobileNetV2, Sandler et al. 2018). Default boxes, coding and matching are
torchvision's.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

# not public, but what torchvision's own SSD is made of
from torchvision.models.detection._utils import BoxCoder, SSDMatcher
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from pipeline.core.errors import InputError
from pipeline.models.blocks import Tower
from pipeline.models.cells import Truth, by_kind, centres, landmark_loss, table
from pipeline.models.losses import divisor
from pipeline.ops import boxes as algebra
from pipeline.ops.decode import OFFSET_WEIGHTS

RATIOS = [2, 3]  # of the sides, besides 1: with each a wide and a high default box
PER_LEVEL = 2 + 2 * len(RATIOS)  # default boxes of a cell
MIDDLE = (0.05, 0.95)  # of the training boxes' sizes: what lies outside is too rare for default boxes
# the IoU from which a default box answers for an object. With SSD's 0.5 three do, and the hardest negatives are those
# just below it, which a short training cannot tell from those just above
OVERLAP = 0.35
HARD = 3  # default boxes that are taken for background and hardest to tell from objects, for each that answers
SPREAD = 0.03  # of the last layers' first weights
LEAST = 1.0  # pixels: the offset of a box without width is not finite


class Ssdlite(nn.Module):
    """A level [N, C, H, W] -> scores [N, A K, H, W] and background [N, A, H, W], logits of one softmax; boxes
    [N, 4 A, H, W]: offsets of centre and sides from the default box; with landmarks [N, 3 A L, H, W]: x, y from the
    cell's centre in sides of the default box, visibility logit. A = 6 default boxes, each with its channels in a row.
    """

    def __init__(
        self,
        inputs: int,
        channels: int,
        labels: int,
        landmarks: int,
        strides: tuple[int, ...],
        anchors: list[list[list[float]]] | None,
    ) -> None:
        super().__init__()
        if anchors is None or [len(level) for level in anchors] != [PER_LEVEL] * len(strides):
            raise InputError(f"head ssdlite: anchors {anchors}; expected {PER_LEVEL} for each of the strides {strides}")
        self.kinds = ("scores", "boxes", "background", "landmarks")[: 4 if landmarks else 3]
        self.strides, self.anchors = strides, anchors
        self.classify = Tower(inputs, channels, len(strides))
        self.locate = Tower(inputs, channels, len(strides))
        self.scores = nn.Conv2d(channels, PER_LEVEL * labels, 1)
        self.boxes = nn.Conv2d(channels, PER_LEVEL * 4, 1)
        self.background = nn.Conv2d(channels, PER_LEVEL, 1)
        self.landmarks = nn.Conv2d(channels, PER_LEVEL * 3 * landmarks, 1) if landmarks else None
        for layer in (self.scores, self.boxes, self.background):
            nn.init.normal_(layer.weight, std=SPREAD)
            nn.init.zeros_(torch.as_tensor(layer.bias))

    def forward(self, features: Tensor, level: int) -> list[Tensor]:
        kind, place = self.classify(features, level), self.locate(features, level)
        found = [self.scores(kind), self.boxes(place), self.background(kind)]
        return found if self.landmarks is None else [*found, self.landmarks(place)]

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Cross entropy of the default boxes that answer and of the hardest background, smooth L1 on the offsets (SSD,
        equation 1), OKS on the landmarks. `target` as in `AnchorFree.loss`.
        """
        found = self._side_by_side(outputs)
        logits, defaults = torch.cat([found["background"], found["scores"]], dim=2), found["defaults"]
        truth = table(target, len(logits))
        slot = match(defaults, truth)
        answers = slot >= 0
        image, place = answers.nonzero(as_tuple=True)
        own = slot[image, place]
        wanted = torch.zeros_like(slot)
        wanted[image, place] = truth.labels[image, own] + 1  # 0 is the background
        weight = target.get("weight")
        weight = None if weight is None else torch.cat([weight.new_ones(1), weight])
        entropy = F.cross_entropy(logits.transpose(1, 2), wanted, weight, reduction="none")
        loss = entropy[answers | _hardest(entropy.detach(), answers)].sum()
        boxes = truth.boxes[image, own]
        boxes = torch.cat([boxes[:, :2], torch.maximum(boxes[:, 2:], boxes[:, :2] + LEAST)], dim=1)
        offsets = BoxCoder(OFFSET_WEIGHTS).encode_single(boxes, defaults[place])
        loss = loss + F.smooth_l1_loss(found["boxes"][image, place], offsets, reduction="sum")
        loss = loss / divisor(answers.sum(), self.training)
        if "landmarks" in found:
            spots = found["landmarks"][image, place].unflatten(1, (-1, 3))
            sides, middle = defaults[place, 2:] - defaults[place, :2], (defaults[place, 2:] + defaults[place, :2]) / 2
            spots = torch.cat([middle[:, None] + spots[..., :2] * sides[:, None], spots[..., 2:]], dim=-1)
            loss = loss + landmark_loss(
                spots, truth.landmarks[image, own], boxes, torch.ones_like(boxes[:, 0]), self.training
            )
        return loss

    def _side_by_side(self, outputs: tuple[Tensor, ...]) -> dict[str, Tensor]:
        """Each kind [N, P, ...] of the P default boxes of all levels, and these, `defaults` xyxy [P, 4] in pixels."""
        parts: dict[str, list[Tensor]] = {}
        for level, stride, anchors in zip(by_kind(outputs, self.kinds), self.strides, self.anchors, strict=True):
            for kind, o in level.items():
                rows = o.unflatten(1, (PER_LEVEL, -1)).permute(0, 3, 4, 1, 2).flatten(1, 3)
                parts.setdefault(kind, []).append(rows)
            middle = centres(level["scores"], stride)[:, None]
            half = middle.new_tensor(anchors)[None] / 2
            parts.setdefault("defaults", []).append(torch.cat([middle - half, middle + half], dim=2).flatten(0, 1))
        return {kind: torch.cat(part, dim=0 if kind == "defaults" else 1) for kind, part in parts.items()}


@torch.no_grad()
def match(defaults: Tensor, truth: Truth) -> Tensor:
    """[N, P]: the slot of the object that each of the P default boxes (xyxy) answers for in each of N images, -1 where
    it shows the background. Those with an IoU of `OVERLAP` or more do, and each object's best.
    """
    matcher = SSDMatcher(OVERLAP)
    found = truth.labels.new_full((len(truth.real), len(defaults)), -1)
    for i in range(len(found)):
        slots = truth.real[i].nonzero()[:, 0]
        if len(slots):
            one = matcher(algebra.iou(truth.boxes[i, slots], defaults))
            found[i] = torch.where(one >= 0, slots[one.clamp(min=0)], -1)
    return found


def _hardest(loss: Tensor, answers: Tensor) -> Tensor:
    """Of each image's default boxes that answer for nothing, the `HARD` times as many as answer whose loss [N, P] is
    highest; of an image without objects `HARD`.
    """
    count = HARD * answers.sum(1, keepdim=True).clamp(min=1)
    rank = loss.masked_fill(answers, -1.0).argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return (rank < count) & ~answers


def default_boxes(sizes: NDArray[np.float64], strides: Sequence[int], _side: int = 0) -> list[list[list[float]]]:
    """The default boxes (width, height in pixels of the canvas) of each stride: squares and boxes of `RATIOS`. Their
    sizes are evenly spaced, as SSD's, but from the small to the large of the training boxes [M, 2].

    Raises InputError where there are no sizes.
    """
    if not len(sizes):
        raise InputError("head ssdlite: no box in train to take default boxes from")
    small, large = np.quantile(np.sqrt(sizes.clip(min=LEAST).prod(axis=1)), MIDDLE)
    scales = np.linspace(small, large, len(strides) + 1).tolist()
    made = DefaultBoxGenerator([RATIOS] * len(strides), scales=scales, clip=False)
    # on one cell a stride, of an image of one pixel: what is left are their sides
    cell = torch.zeros(1, 1, 1, 1)
    (corners,) = made(ImageList(cell, [(1, 1)]), [cell] * len(strides))
    sides = (corners[:, 2:] - corners[:, :2]).double().numpy().round(2)
    levels: list[list[list[float]]] = sides.reshape(len(strides), PER_LEVEL, 2).tolist()
    return levels

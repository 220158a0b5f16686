"""The anchor-based head: per cell three boxes that start from anchors, with an objectness each (Redmon and Farhadi,
YOLOv3, 2018). Centres and sides as in YOLOv4 and later: bounded, so that a cell reaches no further than its neighbours
and an anchor grows to four times its side at most.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from pipeline.core.errors import InputError
from pipeline.models.blocks import Tower
from pipeline.models.cells import by_kind, landmark_loss, start_low, table
from pipeline.models.losses import divisor
from pipeline.ops import boxes as algebra

PER_LEVEL = 3  # anchors
RATIO = 4.0  # an anchor answers for objects whose sides are at most this many times larger or smaller
REACH = 0.5  # of a cell: neighbours this near to the object's centre answer too
BOX_WEIGHT = 2.0
LEAST = 0.05  # pixels, half a side
ROUNDS = 100  # at most, of k-means


class Yolov3(nn.Module):
    """A level [N, C, H, W] -> scores [N, A K, H, W] and objectness [N, A, H, W] logits; boxes [N, 4 A, H, W] logits
    of the centre in its cell and of the sides in anchors; with landmarks [N, 3 A L, H, W]: x, y from the cell's
    centre in sides of the anchor, visibility logit. A = 3 anchors, each with its channels in a row.
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
            raise InputError(f"head yolov3: anchors {anchors}; expected {PER_LEVEL} for each of the strides {strides}")
        self.kinds = ("scores", "boxes", "objectness", "landmarks")[: 4 if landmarks else 3]
        self.strides, self.anchors = strides, anchors
        self.tower = Tower(inputs, channels, len(strides))
        self.scores = nn.Conv2d(channels, PER_LEVEL * labels, 1)
        self.boxes = nn.Conv2d(channels, PER_LEVEL * 4, 1)
        self.objectness = nn.Conv2d(channels, PER_LEVEL, 1)
        self.landmarks = nn.Conv2d(channels, PER_LEVEL * 3 * landmarks, 1) if landmarks else None
        start_low(self.objectness)
        for layer in (self.scores, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(torch.as_tensor(layer.bias))

    def forward(self, features: Tensor, level: int) -> list[Tensor]:
        features = self.tower(features, level)
        found = [self.scores(features), self.boxes(features), self.objectness(features)]
        return found if self.landmarks is None else [*found, self.landmarks(features)]

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Complete IoU on the boxes of the anchors that answer, cross entropy on their labels, OKS on their landmarks,
        and on all objectness, whose target is the IoU. `target` as in `AnchorFree.loss`.
        """
        truth = table(target, len(outputs[0]))
        images, objects = truth.real.nonzero(as_tuple=True)
        boxes, labels = truth.boxes[images, objects], truth.labels[images, objects]
        points = truth.landmarks[images, objects]
        box_loss = label_loss = point_loss = object_loss = boxes.new_zeros(())
        answers = 0
        for level, stride, anchors in zip(by_kind(outputs, self.kinds), self.strides, self.anchors, strict=True):
            rows = {kind: o.unflatten(1, (PER_LEVEL, -1)).permute(0, 3, 4, 1, 2) for kind, o in level.items()}
            size = boxes.new_tensor(anchors)
            row, anchor, y, x = _answering(boxes, size, stride, *level["scores"].shape[-2:])
            at, corner = (images[row], y, x, anchor), torch.stack([x, y], dim=1)
            found = _boxes(rows["boxes"][at], corner, size[anchor], stride)
            box_loss = box_loss + complete_box_iou_loss(found, boxes[row], reduction="sum")
            # where several objects are assigned to one anchor, its objectness target is the highest IoU
            iou = algebra.iou(found.detach()[:, None], boxes[row][:, None])[:, 0, 0]
            wanted_objectness = torch.zeros(rows["objectness"].shape[:-1], device=boxes.device)
            flat = wanted_objectness.view(-1)
            place = torch.arange(flat.numel(), device=flat.device).view(wanted_objectness.shape)[at]
            flat.scatter_reduce_(0, place, iou, "amax")
            one_hot = F.one_hot(labels[row], rows["scores"].shape[-1]).float()
            label_loss = label_loss + F.binary_cross_entropy_with_logits(
                rows["scores"][at], one_hot, target.get("weight"), reduction="sum"
            )
            if "landmarks" in rows:
                spots = rows["landmarks"][at].unflatten(1, (-1, 3))
                middle = (corner[:, None] + 0.5) * stride
                placed = torch.cat([middle + spots[..., :2] * size[anchor][:, None], spots[..., 2:]], dim=-1)
                weight = torch.ones_like(iou)
                point_loss = point_loss + landmark_loss(placed, points[row], boxes[row], weight, self.training)
            answers += len(row)
            objectness = rows["objectness"][..., 0]
            focal = (wanted_objectness - objectness.sigmoid()).abs() ** 2
            entropy = F.binary_cross_entropy_with_logits(objectness, wanted_objectness, reduction="none")
            object_loss = object_loss + (entropy * focal).sum()
        loss = (BOX_WEIGHT * box_loss + label_loss + object_loss) / divisor(boxes.new_tensor(answers), self.training)
        return loss + point_loss / len(self.strides)


def _boxes(raw: Tensor, cell: Tensor, anchor: Tensor, stride: int) -> Tensor:
    """[P, 4] logits, x, y of their cells [P, 2], width and height of their anchors [P, 2] -> xyxy in pixels."""
    middle = (raw[:, :2].sigmoid() * 2 - 0.5 + cell) * stride
    # at least LEAST, since the aspect term of complete IoU is not defined for a box of width 0
    half = ((raw[:, 2:].sigmoid() * 2) ** 2 * anchor / 2).clamp(min=LEAST)
    return torch.cat([middle - half, middle + half], dim=1)


def _answering(
    boxes: Tensor, anchors: Tensor, stride: int, height: int, width: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which anchors of which cells of a level answer for which of the boxes (xyxy [M, 4] in pixels): rows of `boxes`,
    anchors, y, x; [P] each. Those of the cell that the box's centre lies in, and of the two nearest to it.
    """
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-3)
    ratio = sides[:, None] / anchors[None]
    row, anchor = (torch.maximum(ratio, 1 / ratio).amax(2) < RATIO).nonzero(as_tuple=True)
    middle = (boxes[row, :2] + boxes[row, 2:]) / 2 / stride
    base = middle.floor().long()
    away = middle - base
    side, none = torch.where(away < REACH, -1, 1), torch.zeros_like(base)
    steps = [none, torch.stack([side[:, 0], none[:, 0]], 1), torch.stack([none[:, 1], side[:, 1]], 1)]
    cells = torch.cat([base + step for step in steps])
    row, anchor = row.repeat(len(steps)), anchor.repeat(len(steps))
    on_grid = ((cells >= 0) & (cells < cells.new_tensor([width, height]))).all(1)
    return row[on_grid], anchor[on_grid], cells[on_grid, 1], cells[on_grid, 0]


def kmeans_anchors(sizes: NDArray[np.float64], strides: Sequence[int], _side: int = 0) -> list[list[list[float]]]:
    """Three anchors (width, height in pixels of the canvas) per stride, small ones first, from those of the training
    boxes [M, 2]: k-means by 1 - IoU of boxes with one corner in common (Redmon and Farhadi, YOLO9000, 2016).

    The same sizes give the same anchors, in any order. Raises InputError where there are no sizes.
    """
    if not len(sizes):
        raise InputError("head yolov3: no box in train to take anchors from")
    count = PER_LEVEL * len(strides)
    ordered = sizes[np.lexsort((sizes[:, 0], sizes.prod(axis=1)))]
    # the start is not random: boxes from small to large, so that every size has a mean near it
    means = ordered[np.linspace(0, len(ordered) - 1, count).round().astype(int)].astype(np.float64)
    for _ in range(ROUNDS):
        shared = np.minimum(ordered[:, None], means[None]).prod(axis=2)
        overlap = shared / (ordered.prod(axis=1)[:, None] + means.prod(axis=1)[None] - shared)
        nearest = overlap.argmax(axis=1)
        moved = np.array(
            [ordered[nearest == k].mean(axis=0) if (nearest == k).any() else means[k] for k in range(count)]
        )
        if np.allclose(moved, means):
            break
        means = moved
    means = means.round(2)
    means = means[np.argsort(means.prod(axis=1), kind="stable")]
    return [level.tolist() for level in means.reshape(len(strides), PER_LEVEL, 2)]

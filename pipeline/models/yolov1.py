"""YOLO's first form, the smallest head: one grid, and per cell [p_c, box, labels] of the one object whose centre lies
in it (Redmon et al., You Only Look Once, 2016). Kept for how easily it is understood.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.errors import InputError
from pipeline.models.blocks import Tower
from pipeline.models.cells import by_kind, landmark_loss, start_low
from pipeline.models.losses import divisor

BOX_WEIGHT = 5.0  # the paper's weights of the boxes, and of p_c where there is no object
EMPTY_WEIGHT = 0.5


class Yolov1(nn.Module):
    """The one level [N, C, H, W] -> scores [N, K, H, W] and objectness [N, 1, H, W] logits; boxes [N, 4, H, W] logits
    of the centre in its cell and of the square roots of the sides as shares of the canvas; with landmarks
    [N, 3 L, H, W]: x, y from the cell's centre in quarters of the canvas, visibility logit.
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
        if anchors is None or [len(level) for level in anchors] != [1] or len(strides) != 1:
            raise InputError(f"head yolov1: strides {strides}, anchors {anchors}; expected one of each")
        self.kinds = ("scores", "boxes", "objectness", "landmarks")[: 4 if landmarks else 3]
        self.strides, self.anchors = strides, anchors
        self.tower = Tower(inputs, channels, 1)
        self.scores = nn.Conv2d(channels, labels, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)
        self.objectness = nn.Conv2d(channels, 1, 1)
        self.landmarks = nn.Conv2d(channels, 3 * landmarks, 1) if landmarks else None
        start_low(self.objectness)
        for layer in (self.scores, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(torch.as_tensor(layer.bias))

    def forward(self, features: Tensor, level: int) -> list[Tensor]:
        features = self.tower(features, level)
        found = [self.scores(features), self.boxes(features), self.objectness(features)]
        return found if self.landmarks is None else [*found, self.landmarks(features)]

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Squared errors of the boxes, cross entropy of p_c and of the labels, OKS of the landmarks. `target` as in
        `AnchorFree.loss`.
        """
        (level,), (stride,), anchor = by_kind(outputs, self.kinds), self.strides, self.anchors[0][0]
        rows = {kind: o.permute(0, 2, 3, 1) for kind, o in level.items()}
        images, height, width, labels = rows["scores"].shape
        wanted, owner = target_tensor(target, (images, height, width, labels), stride, 4 * anchor[0])
        there = wanted[..., 0] > 0
        p_c = F.binary_cross_entropy_with_logits(rows["objectness"][..., 0], wanted[..., 0], reduction="none")
        loss = (p_c * torch.where(there, 1.0, EMPTY_WEIGHT)).sum()
        raw, box = rows["boxes"][there].sigmoid(), wanted[there][:, 1:5]
        loss = loss + BOX_WEIGHT * F.mse_loss(raw[:, :2] * 2 - 0.5, box[:, :2], reduction="sum")
        loss = loss + BOX_WEIGHT * F.mse_loss(raw[:, 2:], box[:, 2:].sqrt(), reduction="sum")
        loss = loss + F.binary_cross_entropy_with_logits(
            rows["scores"][there], wanted[there][:, 5:], target.get("weight"), reduction="sum"
        )
        loss = loss / divisor(there.sum(), self.training)
        if "landmarks" in rows:
            spots, mine = rows["landmarks"][there].unflatten(1, (-1, 3)), owner[there]
            _, y, x = there.nonzero(as_tuple=True)
            middle = (torch.stack([x, y], dim=1)[:, None] + 0.5) * stride
            placed = torch.cat([middle + spots[..., :2] * spots.new_tensor(anchor), spots[..., 2:]], dim=-1)
            points, boxes = target["landmarks"][mine], target["box"][mine]
            loss = loss + landmark_loss(placed, points, boxes, torch.ones_like(boxes[:, 0]), self.training)
        return loss


@torch.no_grad()
def target_tensor(
    target: dict[str, Tensor], shape: tuple[int, int, int, int], stride: int, side: float
) -> tuple[Tensor, Tensor]:
    """What a net of this head should say: [N, H, W, 5 + K], in each cell p_c, x, y of the centre in its cell (0 to 1),
    width and height as shares of the canvas, which has `side` pixels, and a 1 for the label; 0 where p_c is. And whose
    it is: the row of `target` [N, H, W], -1 for nobody's. `shape` is (N, H, W, K), `target` as in `AnchorFree.loss`.

    Of two objects with their centres in one cell the smaller is lost: later heads have more to choose from.
    """
    images, height, width, labels = shape
    box = target["box"]
    centre = (box[:, :2] + box[:, 2:]) / 2 / stride
    cell = torch.minimum(centre.long().clamp(min=0), box.new_tensor([width - 1, height - 1]).long())
    sides = box[:, 2:] - box[:, :2]
    place = (target["image"] * height + cell[:, 1]) * width + cell[:, 0]
    size_order = sides.prod(1).argsort(stable=True)
    owner = place.new_full((images * height * width,), -1)
    rank = torch.empty_like(size_order).scatter_(0, size_order, torch.arange(len(box), device=box.device))
    owner.scatter_reduce_(0, place, rank, "amax")
    taken = owner >= 0
    owner[taken] = size_order[owner[taken]]
    mine = owner[taken]
    wanted = box.new_zeros(len(owner), 5 + labels)
    wanted[taken] = torch.cat(
        [
            torch.ones_like(box[mine, :1]),
            (centre - cell)[mine],
            sides[mine] / side,
            F.one_hot(target["label"][mine], labels).to(box.dtype),
        ],
        dim=1,
    )
    return wanted.view(images, height, width, -1), owner.view(images, height, width)


def quarter_of_the_canvas(_sizes: NDArray[np.float64], _strides: Sequence[int], side: int) -> list[list[list[float]]]:
    """The one anchor: of a quarter of the canvas's `side`, since a side is (2 sigmoid(b))^2 anchors, sigmoid(b) is then
    the square root of its share of the canvas.
    """
    return [[[side / 4, side / 4]]]

"""The anchor-free head: task-aligned assignment (TOOD, Feng et al. 2021), quality focal loss on the scores (Li et al.
2020), complete IoU on the boxes, OKS on the landmarks.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from pipeline.models.blocks import Tower
from pipeline.models.cells import Truth, by_kind, centres, landmark_loss, start_low, table
from pipeline.models.losses import divisor
from pipeline.ops import boxes as algebra

CANDIDATES = 10  # cells per object
LEAST = 0.01  # side of a box, in strides: the aspect term of complete IoU is not defined for a width of 0
IOU_POWER = 6  # of the IoU, times the score: how well a cell fits an object
BOX_WEIGHT = 2.0


class AnchorFree(nn.Module):
    """A level [N, C, H, W] -> scores [N, K, H, W] logits; boxes [N, 4, H, W] distances from the cell's centre to left,
    top, right and bottom in strides; with landmarks [N, 3 L, H, W]: x, y from the centre in strides, visibility logit.
    """

    def __init__(self, inputs: int, channels: int, labels: int, landmarks: int, strides: tuple[int, ...]) -> None:
        super().__init__()
        self.kinds = ("scores", "boxes", "landmarks")[: 3 if landmarks else 2]
        self.strides = strides
        self.classify = Tower(inputs, channels, len(strides))
        self.locate = Tower(inputs, channels, len(strides))
        self.scores = nn.Conv2d(channels, labels, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)
        self.landmarks = nn.Conv2d(channels, 3 * landmarks, 1) if landmarks else None
        start_low(self.scores)
        nn.init.normal_(self.boxes.weight, std=0.01)
        nn.init.constant_(torch.as_tensor(self.boxes.bias), 3.0)  # a box of six strides

    def forward(self, features: Tensor, level: int) -> list[Tensor]:
        place = self.locate(features, level)
        found = [self.scores(self.classify(features, level)), F.relu(self.boxes(place))]
        return found if self.landmarks is None else [*found, self.landmarks(place)]

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """target: "image" int64 [P] (index in the batch, rising), "box" [P, 4] xyxy in pixels of the canvas, "label"
        int64 [P], "landmarks" [P, L, 3] (pixels, COCO visibility); "weight" of each label [K], or not there.
        """
        found = flatten(outputs, self.kinds, self.strides)
        scores, boxes = found["scores"], found["boxes"]
        truth = table(target, len(scores))
        image, cell, slot, quality = assign(scores.sigmoid(), boxes, found["centres"], truth)
        wanted = torch.zeros_like(scores)
        wanted[image, cell, truth.labels[image, slot]] = quality
        total = divisor(wanted.sum(), self.training)
        focal = (wanted - scores.sigmoid()).abs() ** 2
        cross_entropy = F.binary_cross_entropy_with_logits(scores, wanted, target.get("weight"), reduction="none")
        loss = (cross_entropy * focal).sum() / total
        wanted_boxes = truth.boxes[image, slot]
        overlap = complete_box_iou_loss(boxes[image, cell], wanted_boxes, reduction="none")
        loss = loss + BOX_WEIGHT * (overlap * quality).sum() / total
        if self.landmarks is not None:
            points = found["landmarks"][image, cell]
            loss = loss + landmark_loss(points, truth.landmarks[image, slot], wanted_boxes, quality, self.training)
        return loss


def flatten(outputs: tuple[Tensor, ...], kinds: tuple[str, ...], strides: tuple[int, ...]) -> dict[str, Tensor]:
    """The levels side by side: scores [N, A, K] (logits), boxes [N, A, 4] (xyxy in pixels of the canvas), landmarks
    [N, A, L, 3] (pixels; visibility logit), centres [A, 2]; A = cells of all levels.
    """
    parts: dict[str, list[Tensor]] = {}
    for level, stride in zip(by_kind(outputs, kinds), strides, strict=True):
        rows = {kind: o.flatten(2).transpose(1, 2) for kind, o in level.items()}
        middle = centres(level["scores"], stride)
        sides = rows["boxes"].clamp(min=LEAST) * stride
        rows["boxes"] = torch.cat([middle - sides[..., :2], middle + sides[..., 2:]], dim=-1)
        if "landmarks" in rows:
            points = rows["landmarks"].unflatten(2, (-1, 3))
            rows["landmarks"] = torch.cat([points[..., :2] * stride + middle[:, None], points[..., 2:]], dim=-1)
        for kind, o in {**rows, "centres": middle}.items():
            parts.setdefault(kind, []).append(o)
    return {kind: torch.cat(part, dim=0 if kind == "centres" else 1) for kind, part in parts.items()}


@torch.no_grad()
def assign(scores: Tensor, boxes: Tensor, middles: Tensor, truth: Truth) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Which cells answer for which object.

    scores [N, A, K] probabilities, boxes xyxy [N, A, 4] and middles of the cells [A, 2] in pixels. Returns for each
    cell that answers its image [P], its number [P], the slot of its object [P] and its target score [P]: the best
    cell's of an object is its IoU.
    """
    images, slots = truth.real.shape
    if not slots:
        empty = torch.zeros(0, dtype=torch.int64, device=scores.device)
        return empty, empty, empty, scores.new_zeros(0)
    iou = algebra.iou(truth.boxes, boxes)  # [N, M, A]
    own = truth.labels[..., None].expand(-1, -1, scores.shape[1])
    align = scores.transpose(1, 2).gather(1, own) * iou**IOU_POWER
    inside = ((middles > truth.boxes[..., None, :2]) & (middles < truth.boxes[..., None, 2:])).all(-1)
    # an object smaller than a cell has no centre inside: its nearest cell answers
    middle = (truth.boxes[..., :2] + truth.boxes[..., 2:]) / 2
    nearest = torch.cdist(middle, middles.expand(images, -1, -1)).argmin(2, keepdim=True)
    lost = ~inside.any(2, keepdim=True)
    inside = inside.scatter(2, nearest, inside.gather(2, nearest) | lost) & truth.real[..., None]
    align = (align + 1e-9) * inside
    top = align.topk(min(CANDIDATES, align.shape[2]), dim=2)
    chosen = torch.zeros_like(inside).scatter_(2, top.indices, True) & inside
    # a cell between two objects answers for the one that its box is nearer to
    owner = torch.where(chosen, iou + 1e-6, torch.zeros_like(iou)).max(1)
    image, cell = (owner.values > 0).nonzero(as_tuple=True)
    slot = owner.indices[image, cell]
    picked, overlap = align[image, slot, cell], iou[image, slot, cell]
    place = image * slots + slot
    best_align = scores.new_zeros(images * slots).scatter_reduce(0, place, picked, "amax")
    best_iou = scores.new_zeros(images * slots).scatter_reduce(0, place, overlap, "amax")
    return image, cell, slot, picked / best_align[place].clamp(min=1e-12) * best_iou[place]

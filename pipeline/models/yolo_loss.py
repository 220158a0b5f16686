"""What a cell of the detector should say: task-aligned assignment (TOOD, Feng et al. 2021), and its losses."""

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_iou, complete_box_iou_loss

CANDIDATES = 10  # cells per object
MARGIN = 0.01  # of a stride
SCORE_POWER, IOU_POWER = 1.0, 6.0
LANDMARK_SIGMA = 0.08  # OKS tolerance in shares of the object's size; COCO's lie between 0.025 and 0.107


def flatten(outputs: tuple[Tensor, ...], strides: tuple[int, ...]) -> dict[str, Tensor]:
    """The levels side by side: scores [N, A, K] (logits), boxes [N, A, 4] (xyxy in pixels of the canvas), landmarks
    [N, A, L, 3] (pixels; visibility logit), centres [A, 2], stride [A]; A = cells of all levels.
    """
    kinds = len(outputs) // len(strides)
    parts: dict[str, list[Tensor]] = {"scores": [], "boxes": [], "landmarks": [], "centres": [], "stride": []}
    for level, stride in enumerate(strides):
        scores, boxes, *landmarks = outputs[level * kinds : (level + 1) * kinds]
        n, _, h, w = scores.shape
        y, x = torch.meshgrid(
            torch.arange(h, device=scores.device), torch.arange(w, device=scores.device), indexing="ij"
        )
        centres = (torch.stack([x, y], dim=-1).view(-1, 2).float() + 0.5) * stride
        # never of no width: the aspect term of complete IoU has no value there
        sides = (boxes.float().flatten(2).transpose(1, 2) + MARGIN) * stride
        parts["scores"].append(scores.float().flatten(2).transpose(1, 2))
        parts["boxes"].append(torch.cat([centres - sides[..., :2], centres + sides[..., 2:]], dim=-1))
        parts["centres"].append(centres)
        parts["stride"].append(torch.full((h * w,), float(stride), device=scores.device))
        if landmarks:
            points = landmarks[0].float().flatten(2).transpose(1, 2).reshape(n, h * w, -1, 3)
            at = points[..., :2] * stride + centres[None, :, None]
            parts["landmarks"].append(torch.cat([at, points[..., 2:]], dim=-1))
    shared = {"centres", "stride"}
    return {k: torch.cat(v, dim=0 if k in shared else 1) for k, v in parts.items() if v}


@torch.no_grad()
def assign(
    scores: Tensor, boxes: Tensor, centres: Tensor, truth: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Which cells answer for which object, in one image.

    scores [A, K] probabilities, boxes and truth xyxy in pixels ([A, 4], [M, 4]), centres [A, 2], labels [M].
    Returns cells [P], their objects [P] and their target scores [P]: per object the best cell's is its IoU.
    """
    iou = box_iou(truth, boxes)  # [M, A]
    align = scores[:, labels].T ** SCORE_POWER * iou**IOU_POWER
    inside = ((centres[None] > truth[:, None, :2]) & (centres[None] < truth[:, None, 2:])).all(-1)
    # an object smaller than a cell has no centre inside: its nearest cell answers
    middle = (truth[:, :2] + truth[:, 2:]) / 2
    nearest = torch.cdist(middle, centres).argmin(1)
    lost = ~inside.any(1)
    inside[lost, nearest[lost]] = True
    align = (align + 1e-9) * inside
    top = align.topk(min(CANDIDATES, align.shape[1]), dim=1)
    chosen = torch.zeros_like(inside).scatter_(1, top.indices, True) & inside
    owner = torch.where(chosen, iou + 1e-6, torch.zeros_like(iou)).max(0)
    cells = (owner.values > 0).nonzero()[:, 0]
    objects = owner.indices[cells]
    picked = align[objects, cells]
    best_align = torch.zeros(len(truth), device=scores.device).scatter_reduce(0, objects, picked, "amax")
    best_iou = torch.zeros_like(best_align).scatter_reduce(0, objects, iou[objects, cells], "amax")
    quality = picked / best_align[objects].clamp(min=1e-12) * best_iou[objects]
    return cells, objects, quality


def yolo_loss(outputs: tuple[Tensor, ...], strides: tuple[int, ...], target: dict[str, Tensor]) -> Tensor:
    """Quality focal loss (Li et al. 2020) on the scores, complete IoU on the boxes, OKS on the landmarks.

    target: "image" int64 [M] (index in the batch), "box" [M, 4] xyxy in pixels of the canvas, "label" int64 [M],
    "landmarks" [M, L, 3] (pixels, COCO visibility); "weight" of each label [K], or not there.
    """
    found = flatten(outputs, strides)
    scores, boxes = found["scores"], found["boxes"]
    wanted = torch.zeros_like(scores)
    pieces: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    for image in range(len(scores)):
        rows = (target["image"] == image).nonzero()[:, 0]
        if not len(rows):
            continue
        labels = target["label"][rows]
        cells, objects, quality = assign(
            scores[image].sigmoid(), boxes[image], found["centres"], target["box"][rows], labels
        )
        wanted[image, cells, labels[objects]] = quality
        pieces.append((torch.full_like(cells, image), cells, rows[objects], quality))
    total = wanted.sum().clamp(min=1)
    focal = (wanted - scores.sigmoid()).abs() ** 2
    cross_entropy = F.binary_cross_entropy_with_logits(scores, wanted, target.get("weight"), reduction="none")
    loss = (cross_entropy * focal).sum() / total
    if not pieces:
        return loss + sum(o.sum() for o in outputs) * 0
    image_of, cell_of, object_of, weight = (torch.cat(p) for p in zip(*pieces, strict=True))
    truth = target["box"][object_of]
    overlap = complete_box_iou_loss(boxes[image_of, cell_of], truth, reduction="none")
    loss = loss + 2 * (overlap * weight).sum() / total
    if "landmarks" in found:
        points = found["landmarks"][image_of, cell_of]
        loss = loss + _landmark_loss(points, target["landmarks"][object_of], truth, weight)
    return loss


def _landmark_loss(points: Tensor, truth: Tensor, boxes: Tensor, weight: Tensor) -> Tensor:
    """1 - OKS (the form of COCO's keypoint similarity) per labelled point, and its visibility."""
    area = ((boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])).clamp(min=1)[:, None]
    labelled = (truth[..., 2] > 0).float() * weight[:, None]
    squared = ((points[..., :2] - truth[..., :2]) ** 2).sum(-1)
    similarity = torch.exp(-squared / (2 * area * (2 * LANDMARK_SIGMA) ** 2))
    # the exponential is flat far away: a small linear part still pulls
    far = squared.add(1e-6).sqrt() / area.sqrt()
    total = labelled.sum().clamp(min=1)
    seen = F.binary_cross_entropy_with_logits(points[..., 2], (truth[..., 2] > 1.5).float(), reduction="none")
    return (((1 - similarity) + far + 0.1 * seen) * labelled).sum() / total

"""Overlap of boxes, and non-maximum suppression.

The overlap is torchvision's, with the case defined that it leaves open: a box of no area overlaps nothing, not even
itself. A box of negative width or height is an error. NMS is in NumPy, so that it runs where torch is not installed.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SOFT_SIGMA = 0.5  # of the Gaussian decay (Bodla et al., Soft-NMS, ICCV 2017)
VOTES_OVER = 0.7  # IoU


def iou(a: "Tensor", b: "Tensor") -> "Tensor":
    """Intersection over union of xyxy boxes [..., M, 4] and [..., N, 4]: [..., M, N], from 0 to 1.

    Raises ValueError naming a box whose right or bottom lies before its left or top.

    >>> import torch
    >>> iou(torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[0.0, 0, 2, 1], [2.0, 2, 3, 3]])).tolist()
    [[0.5, 0.0]]
    """
    from torchvision.ops import box_iou

    _check(a, b)
    return box_iou(a, b).nan_to_num(0.0)


def nms(boxes: Any, scores: Any, labels: Any, iou: float, most: int | None = None) -> list[int]:
    """Greedy non-maximum suppression per label: indices of the boxes (xyxy [P, 4]) that stay, best first, `most` of
    them at most.

    Of two equal scores the first stays; boxes of no area suppress nothing and are not suppressed.

    >>> boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    >>> nms(boxes, scores=np.array([0.8, 0.9, 0.7]), labels=np.zeros(3), iou=0.5)
    [1, 2]
    """
    order = np.argsort(-scores, kind="stable")
    area = _area(boxes)
    kept: list[int] = []
    while len(order) and len(kept) != most:
        first, rest = order[0], order[1:]
        kept.append(int(first))
        shared = _shared(boxes[first], boxes[rest])
        same = (shared > iou * (area[first] + area[rest] - shared)) & (labels[rest] == labels[first])
        order = rest[~same]
    return kept


def soft_nms(
    boxes: Any, scores: Any, labels: Any, floor: float, most: int | None = None
) -> tuple[list[int], NDArray[np.float32]]:
    """Soft-NMS per label: instead of taking an overlapping box away, its score falls by exp(-IoU^2 / 0.5).

    Returns the indices of the boxes (xyxy [P, 4]) whose score stays at `floor` or above, best first, `most` of them at
    most, and their scores.
    """
    left, area = np.array(scores, dtype=np.float64), _area(boxes)
    free = np.ones(len(left), dtype=bool)
    kept: list[int] = []
    while free.any() and len(kept) != most:
        candidates = np.flatnonzero(free)
        best = int(candidates[np.argmax(left[candidates])])
        if left[best] < floor:
            break
        kept.append(best)
        free[best] = False
        rest = np.flatnonzero(free & (labels == labels[best]))
        shared = _shared(boxes[best], boxes[rest])
        union = area[best] + area[rest] - shared
        overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        left[rest] *= np.exp(-(overlap**2) / SOFT_SIGMA)
    return kept, left[kept].astype(np.float32)


def votes(kept: list[int], boxes: Any, scores: Any, labels: Any) -> NDArray[np.float64]:
    """Box voting (Gidaris and Komodakis, ICCV 2015): what share each of the boxes (xyxy [P, 4]) has in those that
    `kept` says, [K, P], each row summing to 1: the scores of those of its label that overlap it by `VOTES_OVER`.

    `votes(...) @ boxes` lie nearer to the objects than the boxes that stayed: each of them errs in another way.
    """
    area = _area(boxes)
    shared = _shared(boxes[kept, None], boxes)
    near = (shared >= VOTES_OVER * (area[kept, None] + area - shared)) & (shared > 0)
    near &= labels[kept, None] == labels
    near[np.arange(len(kept)), kept] = True
    shares = np.where(near, np.maximum(np.asarray(scores, np.float64), 1e-9), 0.0)
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _area(boxes: Any) -> NDArray[np.float64]:
    return _shared(boxes, boxes)


def _shared(a: Any, b: Any) -> NDArray[np.float64]:
    """The area that boxes [..., 4] have in common."""
    width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
    height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
    return np.asarray(np.maximum(width, 0) * np.maximum(height, 0), dtype=np.float64)


def _check(*groups: "Tensor") -> None:
    for boxes in groups:
        wrong = (~(boxes[..., 2:] - boxes[..., :2] >= 0)).any(-1).nonzero()
        if len(wrong):
            at = tuple(wrong[0].tolist())
            found = f"box {', '.join(map(str, at))} is {boxes[at].tolist()}"
            raise ValueError(f"{found}; expected left, top, right, bottom, with left <= right and top <= bottom")

"""Box algebra: what holds for any boxes, and the degenerate ones."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import batched_nms

from pipeline.ops.boxes import iou, nms, soft_nms, votes

seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int, count: int = 6, least: float = 0.5) -> Tensor:
    """[count, 4] xyxy in an image of 100 x 100 pixels, in float64."""
    draw = np.random.default_rng(seed)
    corner = draw.uniform(0, 60, (count, 2))
    return torch.from_numpy(np.concatenate([corner, corner + draw.uniform(least, 40, (count, 2))], axis=1))


def flipped(boxes: Tensor) -> Tensor:
    return torch.stack([100 - boxes[:, 2], boxes[:, 1], 100 - boxes[:, 0], boxes[:, 3]], dim=1)


@given(seeds)
def test_overlap_is_symmetric_and_bounded_and_one_with_itself(seed: int) -> None:
    a, b = drawn(seed), drawn(seed + 1)
    found = iou(a, b)
    torch.testing.assert_close(found, iou(b, a).T)
    assert (found <= 1).all()
    assert (found >= 0).all()
    torch.testing.assert_close(iou(a, a).diag(), torch.ones(len(a), dtype=a.dtype), atol=1e-6, rtol=0)


@given(seeds, st.floats(0.01, 100), st.floats(-50, 50))
def test_overlap_is_the_same_after_flip_scale_and_shift(seed: int, scale: float, shift: float) -> None:
    a, b = drawn(seed), drawn(seed + 1)
    found = iou(a, b)
    for moved in (iou(flipped(a), flipped(b)), iou(a * scale, b * scale)):
        torch.testing.assert_close(moved, found, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(iou(a + shift, b + shift), found, atol=1e-6, rtol=1e-6)


def test_overlap_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    assert iou(a, b).item() == pytest.approx(1 / 7)


def test_boxes_of_no_area_overlap_nothing() -> None:
    point, line = torch.tensor([[5.0, 5, 5, 5]]), torch.tensor([[0.0, 5, 10, 5]])
    around = torch.tensor([[0.0, 0, 10, 10]])
    for flat in (point, line):
        for other in (flat, around, point, line):
            assert iou(flat, other).item() == 0


@pytest.mark.parametrize("wrong", [[5.0, 5, 4, 6], [5.0, 5, 6, 4], [float("nan"), 0, 1, 1]])
def test_a_box_with_wrong_sides_is_named(wrong: list[float]) -> None:
    boxes = torch.tensor([[0.0, 0, 1, 1], wrong])
    with pytest.raises(ValueError, match=r"box 1 is \[.*expected left, top, right, bottom"):
        iou(boxes[:1], boxes)


@given(seeds, st.integers(0, 60))
def test_nms_is_torchvisions(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    boxes = drawn(seed, count).numpy().astype(np.float32)
    scores, labels = draw.permutation(count).astype(np.float32), draw.integers(0, 3, count)
    theirs = batched_nms(torch.tensor(boxes), torch.tensor(scores), torch.tensor(labels), 0.5)
    assert nms(boxes, scores, labels, 0.5) == theirs.tolist()
    assert nms(boxes, scores, labels, 0.5, 5) == theirs.tolist()[:5]


@given(seeds, st.integers(0, 30))
def test_soft_nms_lowers_scores_by_the_overlap_with_better_boxes(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    boxes, scores, labels = drawn(seed, count).numpy(), draw.uniform(0.1, 1, count), draw.integers(0, 2, count)
    kept, left = soft_nms(boxes, scores, labels, 0.0)
    assert sorted(kept) == list(range(count))
    assert soft_nms(boxes, scores, labels, 0.0, 4)[0] == kept[:4]
    assert (np.diff(left) <= 1e-7).all()
    overlap = iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    for place, (i, score) in enumerate(zip(kept, left, strict=True)):
        better = [j for j in kept[:place] if labels[j] == labels[i]]
        assert score == pytest.approx(scores[i] * np.exp(-2 * (overlap[i, better] ** 2).sum()), rel=1e-5)
    some, _ = soft_nms(boxes, scores, labels, 0.5)
    assert some == [i for i, score in zip(kept, left, strict=True) if score >= 0.5]


def test_soft_nms_keeps_a_neighbour_that_hard_nms_takes_away() -> None:
    boxes = np.array([[0.0, 0, 10, 10], [1, 0, 11, 10], [50, 50, 60, 60]])
    scores, labels = np.array([0.9, 0.8, 0.7]), np.zeros(3, dtype=int)
    assert nms(boxes, scores, labels, 0.5) == [0, 2]
    kept, left = soft_nms(boxes, scores, labels, 0.1)
    assert kept == [0, 2, 1]
    assert left[2] < 0.3


@given(seeds, st.integers(1, 40))
def test_votes_are_shares_of_boxes_that_overlap_and_have_the_label(seed: int, count: int) -> None:
    draw = np.random.default_rng(seed)
    boxes, scores, labels = drawn(seed, count).numpy(), draw.uniform(0, 1, count), draw.integers(0, 2, count)
    kept = nms(boxes, scores, labels, 0.5)
    shares = votes(kept, boxes, scores, labels)
    assert shares.sum(axis=1) == pytest.approx(np.ones(len(kept)))
    overlap = iou(torch.from_numpy(boxes[kept]), torch.from_numpy(boxes)).numpy()
    theirs = (overlap >= 0.7) & (labels == labels[kept][:, None])
    theirs[np.arange(len(kept)), kept] = True
    clear = np.abs(overlap - 0.7) > 1e-6
    assert ((shares > 0) == theirs)[clear].all()
    moved = shares @ boxes
    assert (moved[:, 2:] >= moved[:, :2]).all(), "still boxes"


def test_votes_bring_a_box_nearer_to_the_object() -> None:
    """Four of which each misses a side of the object by a tenth, one way or the other."""
    boxes = np.array([[1.0, 0, 10, 10], [-1, 0, 10, 10], [0, 0, 9, 10], [0, 0, 11, 10], [0, 0, 10, 4], [0, 0, 10, 10]])
    scores, labels = np.full(6, 0.9), np.array([0, 0, 0, 0, 0, 1])
    shares = votes([0], boxes, scores, labels)
    assert shares[0].tolist() == [0.25, 0.25, 0.25, 0.25, 0, 0]
    assert (shares @ boxes)[0].tolist() == [0, 0, 10, 10]
    assert votes([2], np.zeros((3, 4)), np.zeros(3), np.zeros(3)).tolist() == [[0, 0, 1]], "no area, no score"

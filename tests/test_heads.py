"""The heads with default boxes and with one grid: torchvision's SSD on the other side, and YOLO's target by hand."""

from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from heads import DETECTORS, head_of, with_head
from pydantic import TypeAdapter, ValidationError
from shipped import SIDE, spec_of
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.ssd import SSD

from pipeline.core.errors import InputError
from pipeline.models import losses
from pipeline.models.anchor_free import AnchorFree
from pipeline.models.cells import table
from pipeline.models.heads import HEADS, head_options
from pipeline.models.nets import build
from pipeline.models.ssdlite import Ssdlite, default_boxes, match
from pipeline.models.yolov1 import Yolov1, target_tensor
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame

BOXES = [[[4.0, 6, 20, 30], [30.0, 30, 62, 60], [3.0, 40, 9, 44]], [[10.0, 0, 60, 50]]]


def truth(images: list[list[list[float]]] = BOXES, landmarks: int = 0) -> dict[str, torch.Tensor]:
    """The objects of each of `images` (xyxy in pixels), of the labels 0, 1, 2, 0, ..."""
    boxes = torch.tensor([box for image in images for box in image]).view(-1, 4)
    image = torch.tensor([i for i, image in enumerate(images) for _ in image], dtype=torch.int64)
    points = torch.cat([boxes[:, None, :2].expand(-1, landmarks, -1), torch.full((len(boxes), landmarks, 1), 2.0)], 2)
    return {"image": image, "box": boxes, "label": torch.arange(len(boxes)) % 3, "landmarks": points}


def outputs_of(net: torch.nn.Module, images: int) -> tuple[torch.Tensor, ...]:
    draw = torch.Generator().manual_seed(1)
    with torch.no_grad():
        shapes = [o.shape[1:] for o in net.eval()(torch.zeros(1, 3, SIDE, SIDE))]
    return tuple(torch.randn(images, *shape, generator=draw) for shape in shapes)


# --- SSDLite


def ssd(landmarks: int = 0) -> tuple[Ssdlite, tuple[torch.Tensor, ...]]:
    head = head_of("ssdlite")
    net = Ssdlite(16, 16, 3, landmarks, tuple(head["strides"]), head["anchors"])
    levels = [torch.randn(2, 16, SIDE // s, SIDE // s, generator=torch.Generator().manual_seed(s)) for s in net.strides]
    return net, tuple(o for i, level in enumerate(levels) for o in net(level, i))


def test_its_loss_is_that_of_torchvision() -> None:
    net, outputs = ssd()
    found = net._side_by_side(outputs)
    target = truth()
    slots = match(found["defaults"], table(target, 2))
    theirs = SimpleNamespace(box_coder=BoxCoder((10.0, 10.0, 5.0, 5.0)), neg_to_pos_ratio=3)
    wanted: Any = [
        {"boxes": target["box"][target["image"] == i], "labels": target["label"][target["image"] == i] + 1}
        for i in range(2)
    ]
    logits = torch.cat([found["background"], found["scores"]], dim=2)
    said = {"bbox_regression": found["boxes"], "cls_logits": logits}
    parts = SSD.compute_loss(theirs, wanted, said, [found["defaults"]] * 2, list(slots))  # type: ignore[arg-type]
    torch.testing.assert_close(net.loss(outputs, target), sum(parts.values()))
    assert (slots >= 0).sum(1).tolist() > [3, 1], "more default boxes answer than there are objects"


def test_each_object_has_a_default_box_however_small() -> None:
    net, outputs = ssd()
    slots = match(net._side_by_side(outputs)["defaults"], table(truth([[[0.0, 0, 0.5, 0.5], [1.0, 1, 2, 63]], []]), 2))
    assert [sorted(set(row.tolist()) - {-1}) for row in slots] == [[0, 1], []]


def test_an_image_without_objects_teaches_the_background() -> None:
    net, outputs = ssd(landmarks=2)
    loss = net.loss(outputs, truth([[], []], landmarks=2))
    loss.backward()
    assert loss > 0
    assert net.background.weight.grad is not None
    assert net.background.bias.grad.sum() < 0, "a step makes the background more likely"  # type: ignore[union-attr]


def test_its_boxes_are_those_of_torchvisions_coder() -> None:
    spec = with_head("ssdlite", spec_of("detect"))
    spec.predict |= {"score": 0.0, "nms_iou": 1.0, "max_objects": 10**6}
    spec.landmarks = []
    net = build(spec)
    spec.outputs = list(net.outputs)
    outputs = outputs_of(net, 1)
    found = net.head._side_by_side(outputs)
    boxes = BoxCoder((10.0, 10.0, 5.0, 5.0)).decode_single(found["boxes"][0], found["defaults"])
    shares = torch.cat([found["background"], found["scores"]], dim=2)[0].softmax(1)
    best = shares[:, 1:].flatten().argsort(descending=True, stable=True)[:20].tolist()
    _, _, objects = decode([o[0].numpy() for o in outputs], spec, Frame(1, 1, 0, 0))
    for o, i in zip(objects, best, strict=False):
        x0, y0, x1, y1 = (boxes[i // 3] / SIDE).clamp(0, 1).tolist()
        assert o.label == spec.labels[i % 3]
        assert o.score == pytest.approx(shares[i // 3, 1 + i % 3].item(), abs=1e-5)
        assert o.box == pytest.approx((x0, y0, x1 - x0, y1 - y0), abs=1e-5)


def test_an_offset_beyond_all_bounds_gives_a_box() -> None:
    spec = with_head("ssdlite", spec_of("detect"))
    spec.predict["score"] = 0.2  # of four equal logits each has a quarter
    outputs = [np.full(o.shape[1:], 1e6, np.float32) for o in outputs_of(build(spec), 1)]
    _, _, objects = decode(outputs, spec, Frame(1, 1, 0, 0))
    assert objects
    assert all(np.isfinite(o.box).all() for o in objects)


def test_default_boxes_are_of_the_sizes_that_there_are() -> None:
    sizes = np.random.default_rng(0).uniform(10, 100, (200, 2))
    levels = np.array(default_boxes(sizes, (8, 16, 32)))
    assert levels.shape == (3, 6, 2)
    area = np.sqrt(levels.prod(axis=2))
    assert all((before.max() <= after.max()) for before, after in pairwise(area))
    assert area.min() == pytest.approx(np.quantile(np.sqrt(sizes.prod(1)), 0.05), rel=0.01)
    assert sorted((levels[0, :, 0] / levels[0, :, 1]).round(1)) == [0.3, 0.5, 1, 1, 2, 3]
    assert np.isfinite(default_boxes(np.zeros((3, 2)), (16, 32))).all()
    with pytest.raises(InputError, match="head ssdlite: no box in train to take default boxes from"):
        default_boxes(np.zeros((0, 2)), (8, 16, 32))


# --- YOLO's first form


def test_its_target_is_p_c_box_and_label_in_the_cell_of_the_centre() -> None:
    target = truth([[[4.0, 6, 20, 30], [30.0, 30, 62, 60]], []])
    wanted, owner = target_tensor(target, (2, 4, 4, 3), 16, SIDE)
    filled = wanted[..., 0].nonzero().tolist()
    assert filled == [[0, 1, 0], [0, 2, 2]], "image, row, column of the cells that the centres lie in"
    # (12, 18) is 12 pixels into its cell of 16 and 2 down; 16 x 24 pixels of 64
    assert wanted[0, 1, 0].tolist() == pytest.approx([1, 0.75, 0.125, 0.25, 0.375, 1, 0, 0])
    assert wanted[0, 2, 2].tolist() == pytest.approx([1, 0.875, 0.8125, 0.5, 0.46875, 0, 1, 0])
    assert (owner[0, 1, 0], owner[0, 2, 2], owner.flatten().sort()[0][0]) == (0, 1, -1)


def test_of_two_objects_in_a_cell_the_larger_is_learned_and_a_centre_on_the_edge_has_a_cell() -> None:
    small, large = [8.0, 8, 16, 16], [0.0, 0, 24, 24]
    for order in ([small, large], [large, small]):
        wanted, owner = target_tensor(truth([order]), (1, 4, 4, 3), 16, SIDE)
        assert wanted[0, 0, 0, 3] == 24 / SIDE
        assert owner[0, 0, 0] == order.index(large)
    wanted, _ = target_tensor(truth([[[60.0, 60, 68, 68]]]), (1, 4, 4, 3), 16, SIDE)
    assert wanted[0, 3, 3, :3].tolist() == [1, 1, 1]


def test_what_its_loss_calls_right_is_what_is_read_from_it() -> None:
    spec = with_head("yolov1", spec_of("detect"))
    net = build(spec)
    target = truth([[[4.0, 6, 20, 30], [30.0, 30, 62, 60]]], landmarks=2)
    wanted, _ = target_tensor(target, (1, 4, 4, 3), 16, SIDE)
    named = dict(zip(spec.outputs, outputs_of(net, 1), strict=True))
    share = torch.cat([(wanted[..., 1:3] + 0.5) / 2, wanted[..., 3:5].sqrt()], dim=-1)
    named["boxes_16"] = share.clamp(1e-4, 1 - 1e-4).logit().permute(0, 3, 1, 2)
    named["objectness_16"] = torch.where(wanted[..., 0] > 0, 9.0, -9.0)[:, None]
    named["scores_16"] = torch.where(wanted[..., 5:] > 0, 9.0, -9.0).permute(0, 3, 1, 2)
    named["landmarks_16"] = torch.zeros_like(named["landmarks_16"])
    _, _, objects = decode([o[0].numpy() for o in named.values()], spec, Frame(1, 1, 0, 0))
    found = {o.label: [v * SIDE for v in o.box] for o in objects}
    assert sorted(found) == ["circle", "cross"]
    assert found["circle"] == pytest.approx([4, 6, 16, 24], abs=0.02)
    assert found["cross"] == pytest.approx([30, 30, 32, 30], abs=0.02)
    at_best = net.loss(tuple(named.values()), target)
    for kind in ("boxes_16", "objectness_16", "scores_16"):
        assert net.loss(tuple(o + 1 if name == kind else o for name, o in named.items()), target) > at_best


def test_it_has_one_grid() -> None:
    head = TypeAdapter(head_options("detect"))
    assert head.validate_python({"kind": "yolov1"}).strides == [16]
    for strides in ([8, 16], [64], []):
        with pytest.raises(ValidationError, match=r"strides \[.*\]: expected one, of 4 to 32: \[16\]"):
            head.validate_python({"kind": "yolov1", "strides": strides})


# --- all heads


@pytest.mark.parametrize("kind", ["ssdlite", "yolov1"])
def test_anchors_of_another_head_are_refused(kind: str) -> None:
    with pytest.raises(InputError, match=f"head {kind}: .*anchors .*; expected"):
        {"ssdlite": Ssdlite, "yolov1": Yolov1}[kind](16, 16, 3, 0, (16,), head_of("yolov3")["anchors"])


@pytest.mark.parametrize("kind", DETECTORS)
def test_a_loss_is_the_sum_of_its_images(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """So several processes that learn from a part of the batch each, and divide by what all have, learn as one."""
    for module in {HEADS[k].module.partition(":")[0] for k in DETECTORS} | {"pipeline.models.cells"}:
        monkeypatch.setattr(f"{module}.divisor", lambda count, *_: torch.tensor(1.0))
    assert losses.divisor(torch.tensor(3), False) == 3
    net = build(with_head(kind, spec_of("detect")))
    outputs, target = outputs_of(net, 2), truth(landmarks=2)
    if isinstance(net.head, AnchorFree):
        outputs = tuple(o.abs() if "boxes" in n else o for n, o in zip(net.outputs, outputs, strict=True))
    apart = []
    for i, boxes in enumerate(BOXES):
        own = truth([boxes], landmarks=2) | {"label": target["label"][target["image"] == i]}
        apart.append(net.loss(tuple(o[i : i + 1] for o in outputs), own))
    torch.testing.assert_close(net.loss(outputs, target), sum(apart))

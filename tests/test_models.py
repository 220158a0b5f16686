"""Nets: shapes, weights from elsewhere, losses that can be learned."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from torch import nn

from pipeline.errors import InputError
from pipeline.models import Deployed, build, load_model
from pipeline.models.backbones import classifier, feature_maps, read_pretrained
from pipeline.models.classifier import Classifier
from pipeline.models.depthwise import DepthwiseConv2d, quicken
from pipeline.models.mobilenets import named, register
from pipeline.models.spec import ModelSpec, read_spec, write_spec
from pipeline.models.yolo_loss import assign, flatten, yolo_loss

HEADS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "pool", "dropout": 0.2},
    "localize": {"channels": 16, "dropout": 0.1},
    "detect": {"channels": 16},
}


def spec(task: str, size: int = 64, backbone: str = "mobilenetv2_035", **head: Any) -> ModelSpec:
    points = [] if task == "classify" else ["left_eye", "right_eye"]
    made = ModelSpec(
        run="r", dataset="d", task=task, labels=["cat", "dog", "fox"], landmarks=points, pairs=[], skeleton=[],
        backbone=backbone, head=head or HEADS[task], size=size, resize="letterbox", mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.3, 0.4], predict={"score": 0.3, "nms_iou": 0.6, "max_objects": 10},
    )  # fmt: skip
    net = build(made)
    made.outputs, made.strides = list(net.outputs), list(net.strides)
    return made


SHAPES = {
    "classify": {"logits": (2, 3)},
    "localize": {"presence": (2, 1), "box": (2, 4), "classes": (2, 3), "landmarks": (2, 4)},
    "detect": {
        f"{kind}_{s}": (2, channels, 64 // s, 64 // s)
        for s in (8, 16, 32)
        for kind, channels in (("scores", 3), ("boxes", 4), ("landmarks", 6))
    },
}


@pytest.mark.parametrize("task", SHAPES)
@pytest.mark.parametrize("backbone", ["mobilenetv2_035", "mobilenetv3_small_050", "resnet18"])
def test_output_shapes(task: str, backbone: str) -> None:
    made = spec(task, backbone=backbone)
    outputs = Deployed(build(made), made)(torch.zeros(2, 64, 64, 3, dtype=torch.uint8))
    assert {n: tuple(o.shape) for n, o in zip(made.outputs, outputs, strict=True)} == SHAPES[task]


@pytest.mark.parametrize(
    ("backbone", "body", "head"),
    [
        ("vgg16", 14714688, 6422784 + 771),
        # Keras counts the running means and variances of batch norm as parameters: 21888 and 34112 less here
        ("mobilenetv1_100", 3228864 - 21888, 12845312 + 771),
        ("mobilenetv2_100", 2257984 - 34112, 16056576 + 771),
    ],
)
def test_flatten_head_has_the_parameter_counts_of_keras(backbone: str, body: int, head: int) -> None:
    pretrained = read_pretrained(backbone, False)
    with torch.device("meta"):  # shapes alone: the nets are large
        net = Classifier(backbone, pretrained, 3, 224, "flatten", 0.5)
    assert sum(p.numel() for p in net.body.parameters()) == body
    assert sum(p.numel() for p in net.head.parameters()) == head


def test_deployed_normalizes_inside() -> None:
    made = spec("classify")
    net = build(made).eval()
    image = torch.randint(0, 256, (1, 64, 64, 3), dtype=torch.uint8)
    normal = (image.permute(0, 3, 1, 2) / 255 - torch.tensor(made.mean).view(3, 1, 1)) / torch.tensor(made.std).view(
        3, 1, 1
    )
    with torch.no_grad():
        torch.testing.assert_close(Deployed(net, made)(image)[0], net(normal)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("ours", "theirs"), [("mobilenetv2_100", "mobilenet_v2"), ("resnet18", "resnet18"), ("vgg11_bn", "vgg11_bn")]
)
def test_torchvisions_weights_give_torchvisions_features(tmp_path: Path, ours: str, theirs: str) -> None:
    torch.manual_seed(0)
    reference = getattr(torchvision.models, theirs)().eval()
    save_file(reference.state_dict(), tmp_path / "w.safetensors")
    pretrained = read_pretrained(ours, str(tmp_path / "w.safetensors"))
    body = timm.create_model(ours, num_classes=0, global_pool="").eval()
    assert pretrained.state is not None
    body.load_state_dict(pretrained.state, strict=False)
    features = (
        reference.features if hasattr(reference, "features") else torch.nn.Sequential(*list(reference.children())[:-2])
    )
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(body.forward_features(image), features(image))


@pytest.mark.parametrize("suffix", ["safetensors", "pth"])
def test_timms_weights_reach_the_feature_maps(tmp_path: Path, suffix: str) -> None:
    reference = timm.create_model("mobilenetv2_035")
    file = tmp_path / f"w.{suffix}"
    if suffix == "pth":
        torch.save({"state_dict": reference.state_dict()}, file)
    else:
        save_file(reference.state_dict(), file)
    body, channels = feature_maps("mobilenetv2_035", read_pretrained("mobilenetv2_035", str(file)), (8, 16, 32))
    assert channels == [16, 32, 112]
    torch.testing.assert_close(body.conv_stem.weight, reference.conv_stem.weight)


def save(path: Path, name: str, **options: Any) -> None:
    save_file(timm.create_model(name, **options).state_dict(), path)


@pytest.mark.parametrize(
    ("make", "backbone", "message"),
    [
        (
            lambda p: save(p, "mobilenetv2_050"),
            "mobilenetv2_035",
            "another architecture or width: .*mobilenetv2_035 has",
        ),
        (lambda p: save(p, "resnet18"), "mobilenetv2_035", "another architecture"),
        (lambda p: p.write_text("no weights"), "mobilenetv2_035", r"w\.safetensors: not a weights file"),
        (lambda p: None, "mobilenetv2_035", r"w\.safetensors: no such file"),
        (lambda p: save(p, "resnet18"), "mobilenetv2_35", "'mobilenetv2_35' is not in timm; nearest: mobilenetv2_035"),
    ],
)
def test_what_does_not_fit_is_named(tmp_path: Path, make: Any, backbone: str, message: str) -> None:
    file = tmp_path / "w.safetensors"
    make(file)
    with pytest.raises(InputError, match=message):
        read_pretrained(backbone, str(file))


def test_a_backbone_without_the_strides_is_named() -> None:
    with pytest.raises(InputError, match="vit_tiny_patch16_224"):
        feature_maps("vit_tiny_patch16_224", read_pretrained("vit_tiny_patch16_224", False), (8, 16, 32))


def test_model_and_spec_round_trip(tmp_path: Path) -> None:
    made = spec("detect")
    net = build(made).eval()
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    write_spec(tmp_path / "model.json", made)
    again, read = load_model(tmp_path)
    assert read == made == read_spec(tmp_path / "model.json")
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(again(image), net(image), rtol=0, atol=0)
    made.labels = ["cat"]
    write_spec(tmp_path / "model.json", made)
    with pytest.raises(InputError, match=r"model\.safetensors: not the weights"):
        load_model(tmp_path)


def test_cells_answer_for_the_object_they_lie_in() -> None:
    outputs = build(spec("detect")).eval()(torch.zeros(1, 3, 64, 64))
    flat = flatten(outputs, (8, 16, 32))
    truth = torch.tensor([[0.0, 0, 30, 30], [34, 34, 63, 63], [40, 2, 41, 3]])  # the last lies between the centres
    labels = torch.tensor([0, 1, 2])
    cells, objects, quality = assign(flat["scores"][0].sigmoid(), flat["boxes"][0], flat["centres"], truth, labels)
    assert set(objects.tolist()) == {0, 1, 2}
    assert ((quality >= 0) & (quality <= 1)).all()
    assert len(set(cells.tolist())) == len(cells)
    for cell, o in zip(cells.tolist(), objects.tolist(), strict=True):
        if o < 2:
            x, y = flat["centres"][cell].tolist()
            assert truth[o][0] < x < truth[o][2]
            assert truth[o][1] < y < truth[o][3]


def targets(task: str) -> dict[str, torch.Tensor]:
    """Of four pictures: a bright square in another corner each; the last has none."""
    boxes = torch.tensor([[0.0, 0, 0.5, 0.5], [0.5, 0, 0.5, 0.5], [0, 0.5, 0.5, 0.5]])
    label = torch.tensor([0, 1, 2])
    if task == "classify":
        return {"label": torch.tensor([0, 1, 2, 0])}
    points = torch.cat([boxes[:, None, :2] + 0.1, boxes[:, None, :2] + 0.3], dim=1)
    if task == "localize":
        marks = torch.cat([points, torch.ones(3, 2, 1)], dim=2)
        pad = lambda t: torch.cat([t, torch.zeros_like(t[:1])])  # noqa: E731
        return {
            "presence": torch.tensor([1.0, 1, 1, 0]),
            "box": pad(boxes),
            "label": pad(label),
            "landmarks": pad(marks),
        }
    corners = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1) * 64
    marks = torch.cat([points * 64, torch.full((3, 2, 1), 2.0)], dim=2)
    return {"image": torch.arange(3), "box": corners, "label": label, "landmarks": marks}


@pytest.mark.parametrize("task", SHAPES)
def test_a_net_learns_four_pictures(task: str) -> None:
    torch.manual_seed(0)
    net, target = build(spec(task)), targets(task)
    images = torch.rand(4, 3, 64, 64) * 0.2
    for i, (x, y) in enumerate([(0, 0), (32, 0), (0, 32)]):
        images[i, i, y + 4 : y + 28, x + 4 : x + 28] += 0.8
    images[3] = images[0] if task == "classify" else images[3]
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = net.loss(net(images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    floor = 0.22 if task == "classify" else 0.0  # label smoothing's
    assert losses[-1] - floor < 0.35 * (losses[0] - floor)


def test_boxes_of_no_size_have_a_loss_and_gradients() -> None:
    raw = torch.zeros(1, 4, 2, 2, requires_grad=True)
    target = {
        "image": torch.tensor([0]),
        "box": torch.tensor([[3.0, 3, 60, 40]]),
        "label": torch.tensor([0]),
        "landmarks": torch.zeros(1, 0, 3),
    }
    loss = yolo_loss((torch.zeros(1, 3, 2, 2), raw), (32,), target)
    loss.backward()
    assert torch.isfinite(loss)
    assert raw.grad is not None
    assert torch.isfinite(raw.grad).all()


def test_a_batch_without_objects_has_a_loss_and_gradients() -> None:
    for task, empty in (
        (
            "detect",
            {
                "image": torch.zeros(0, dtype=torch.int64),
                "box": torch.zeros(0, 4),
                "label": torch.zeros(0, dtype=torch.int64),
                "landmarks": torch.zeros(0, 2, 3),
            },
        ),
        (
            "localize",
            {
                "presence": torch.zeros(2),
                "box": torch.zeros(2, 4),
                "label": torch.zeros(2, dtype=torch.int64),
                "landmarks": torch.zeros(2, 2, 3),
            },
        ),
    ):
        net = build(spec(task))
        loss = net.loss(net(torch.rand(2, 3, 64, 64)), empty)
        loss.backward()
        assert torch.isfinite(loss)


@pytest.mark.real
def test_real_imagenet_weights_load() -> None:
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    folder = Path(os.environ["POCKETLENS_REAL_DATA"]) / "weights"
    for file, backbone in (
        ("mobilenet_v2_100.torchvision.fp16.safetensors", "mobilenetv2_100"),
        ("mobilenetv1_100.timm.fp16.safetensors", "mobilenetv1_100"),
        ("mobilenetv2_035.timm.fp16.safetensors", "mobilenetv2_035"),
    ):
        assert read_pretrained(backbone, str(folder / file)).state is not None


@pytest.mark.parametrize(("kernel", "stride"), [(5, 1), (3, 2), (3, 1)])
def test_quick_depthwise_gradients_are_those_of_float32(kernel: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, kernel, stride, kernel // 2, groups=16, bias=False)
    net = nn.Sequential(nn.Conv2d(3, 16, 1), conv, nn.Conv2d(16, 4, 1)).to(memory_format=torch.channels_last)
    names = list(net.state_dict())
    x = torch.rand(2, 3, 20, 20).to(memory_format=torch.channels_last)

    def gradients(half: bool) -> list[torch.Tensor]:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            net(x).float().square().mean().backward()
        return [torch.as_tensor(p.grad).clone() for p in net.parameters()]

    exact = gradients(half=False)
    quicken(net)
    assert list(net.state_dict()) == names
    assert isinstance(conv, DepthwiseConv2d) == (kernel > 3 or stride > 1)
    for ours, wanted in zip(gradients(half=True), exact, strict=True):
        assert (ours - wanted).norm() < 0.03 * wanted.norm()
    for ours, wanted in zip(gradients(half=False), exact, strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("width", [0.35, 0.6, 0.75, 1.0, 1.4])
def test_mobilenet_v2_of_any_width_is_torchvisions(width: float, tmp_path: Path) -> None:
    theirs = torchvision.models.mobilenet_v2(width_mult=width).eval()
    save_file(theirs.state_dict(), tmp_path / "weights.safetensors")
    name = named("mobilenetv2", width)
    pretrained = read_pretrained(name, str(tmp_path / "weights.safetensors"))
    ours = classifier(name, pretrained, num_classes=0).eval()
    x = torch.rand(2, 3, 96, 96)
    with torch.inference_mode():
        wanted = theirs.features(x).mean((2, 3))
        assert torch.allclose(ours(x), wanted, atol=1e-5 * float(wanted.abs().max()))


@pytest.mark.parametrize(
    ("ours", "theirs"), [("mobilenetv1_1000", "mobilenetv1_100"), ("mobilenetv2_0350", "mobilenetv2_035")]
)
def test_where_timm_has_a_net_ours_is_the_same(ours: str, theirs: str) -> None:
    assert register(ours)
    a, b = timm.create_model(ours).eval(), timm.create_model(theirs).eval()
    a.load_state_dict(b.state_dict())
    x = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        assert torch.equal(a(x), b(x))


@pytest.mark.parametrize("name", ["mobilenetv1_033", "mobilenetv1_100_shallow", "mobilenetv2_037_t4"])
@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_every_head_stands_on_mobilenets_of_our_own(name: str, task: str) -> None:
    net = build(replace(spec(task), backbone=name))
    assert len(net(torch.rand(2, 3, 64, 64))) == len(net.outputs)


@pytest.mark.parametrize(
    "name", ["mobilenetv1_000", "mobilenetv2_100_t0", "mobilenetv2_1", "mobilenetv1_100_t4", "mobilenetv3_099"]
)
def test_other_names_are_no_mobilenets(name: str) -> None:
    assert not register(name)


def test_the_shallow_net_lacks_five_layers_and_widths_round_to_eight() -> None:
    def blocks(name: str) -> int:
        assert register(name)
        return sum(len(stage) for stage in timm.create_model(name).blocks)

    assert blocks("mobilenetv1_1000") - blocks("mobilenetv1_100_shallow") == 5
    assert register("mobilenetv2_037")
    channels = timm.create_model("mobilenetv2_037", features_only=True).feature_info.channels()
    assert all(c % 8 == 0 for c in channels)

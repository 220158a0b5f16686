"""Nets: shapes, weights from elsewhere, losses that can be learned."""

import argparse
import copy
import io
import math
import os
import pickle
import re
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from heads import ON_STRIDES, head_of
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object, Sample
from pipeline.core.spec import ModelSpec, read_spec, write_spec
from pipeline.models.anchor_free import AnchorFree, assign, flatten
from pipeline.models.backbones import Pretrained, classifier, feature_maps, learning_order, read_pretrained
from pipeline.models.cells import table
from pipeline.models.localizer import Localizer
from pipeline.models.mobilenets import named, register, smallest_input
from pipeline.models.nets import Deployed, build, load_model, take_over
from pipeline.models.weights import read_weights
from pipeline.models.yolov3 import kmeans_anchors
from pipeline.ops.decode import FORMS, decode
from pipeline.ops.preprocess import Frame
from pipeline.training.quick import DepthwiseConv2d, join_frozen_norms, learning_norms, measure_norms, quicken
from pipeline.training.train import write_weights

HEADS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "pool", "dropout": 0.2},
    "localize": {"channels": 16, "dropout": 0.1},
    "detect": {"kind": "anchor_free", "strides": [8, 16, 32], "neck": 16, "channels": 16},
}


DETECT: dict[str, dict[str, Any]] = {
    "anchor_free": HEADS["detect"],
    "yolov3": HEADS["detect"]
    | {
        "kind": "yolov3",
        "anchors": [[[6, 6], [8, 16], [16, 8]], [[16, 16], [24, 28], [28, 24]], [[32, 32], [40, 60], [64, 50]]],
    },
    "ssdlite": head_of("ssdlite"),
    "yolov1": head_of("yolov1"),
}


def spec(task: str, size: int = 64, backbone: str = "mobilenetv2_035", **head: Any) -> ModelSpec:
    points = [] if task == "classify" else ["left_eye", "right_eye"]
    made = ModelSpec(
        run="r", dataset="d", task=task, labels=["cat", "dog", "fox"], landmarks=points, pairs=[], skeleton=[],
        backbone=backbone, head=head or HEADS[task], size=size, resize="letterbox", mean=[0.5, 0.4, 0.3],
        std=[0.2, 0.3, 0.4], predict={"score": 0.3, "nms": "hard", "nms_iou": 0.6, "max_objects": 10},
    )  # fmt: skip
    net = build(made)
    made.outputs, made.strides, made.boxes = list(net.outputs), list(net.strides), net.boxes
    return made


MORE_DETECTORS = ("yolov3", "ssdlite", "yolov1")
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
    ("backbone", "frozen", "learning"),
    [
        ("vgg16", 14_714_688, 6_422_784 + 771),
        ("mobilenetv1_100", 3_228_864, 12_845_312 + 771),
        ("mobilenetv2_100", 2_257_984, 16_056_576 + 771),
    ],
)
def test_flatten_heads_have_the_parameters_of_keras(backbone: str, frozen: int, learning: int) -> None:
    """The figures of Keras' model summaries, which count batch norm's statistics as parameters."""
    with torch.device("meta"):  # shapes without numbers
        net = build(spec("classify", 224, backbone, kind="flatten", dropout=0.5))
    statistics = [b for name, b in net.body.named_buffers() if not name.endswith("num_batches_tracked")]
    assert sum(t.numel() for t in [*net.body.parameters(), *statistics]) == frozen
    assert sum(p.numel() for p in net.head.parameters()) == learning


@pytest.mark.parametrize("backbone", ["mobilenetv2_035", "resnet18", "mobilenetv4_conv_small_035"])
@pytest.mark.parametrize("task", SHAPES)
def test_blocks_are_all_of_the_backbone_from_the_input_on(task: str, backbone: str) -> None:
    net = build(spec(task, backbone=backbone))
    blocks = learning_order(backbone, net.body)
    whole = [id(p) for block in blocks for p in block]
    assert len(set(whole)) == len(whole)
    assert set(whole) == {id(p) for p in net.backbone_parameters()}
    assert id(next(net.body.parameters())) == whole[0]
    assert len(blocks) > 5


def test_a_backbone_without_blocks_is_named() -> None:
    with pytest.raises(
        InputError, match="resnet18' has no blocks to tell apart; expected tuned_blocks: all and layer_decay: 1"
    ):
        learning_order("resnet18", torch.nn.Linear(3, 4))


def test_a_heavier_label_pulls_harder() -> None:
    target = {"label": torch.tensor([0, 1])}
    net = build(spec("classify"))
    logits = torch.zeros(2, 3, requires_grad=True)
    net.loss((logits,), target | {"weight": torch.tensor([3.0, 1.0, 1.0])}).backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad[0, 0] / logits.grad[1, 1], torch.tensor(3.0), rtol=0.1, atol=0)


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
    ("ours", "theirs"),
    [
        ("mobilenetv2_100", "mobilenet_v2"),
        ("resnet18", "resnet18"),
        pytest.param("vgg11_bn", "vgg11_bn", marks=pytest.mark.exhaustive),
    ],
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


@pytest.mark.parametrize("task", SHAPES)
def test_a_run_of_ours_gives_its_backbone_and_normalization(tmp_path: Path, task: str) -> None:
    made = spec(task)
    net = build(made)
    save_file(net.state_dict(), tmp_path / "model.safetensors")
    write_spec(tmp_path / "model.json", made)
    pretrained = read_pretrained("mobilenetv2_035", str(tmp_path / "model.safetensors"))
    assert (pretrained.mean, pretrained.std) == (made.mean, made.std)
    started = build(spec("classify"), pretrained)
    torch.testing.assert_close(started.body.blocks[5][0].conv_pw.weight, net.body.blocks[5][0].conv_pw.weight)
    with pytest.raises(InputError, match="weights of another architecture or width"):
        read_pretrained("mobilenetv2_050", str(tmp_path / "model.safetensors"))


STARTS: dict[str, tuple[str, dict[str, Any]]] = {
    "pool": ("classify", HEADS["classify"]),
    "flatten": ("classify", {"kind": "flatten", "dropout": 0.5}),
    "localize": ("localize", HEADS["localize"]),
    "anchor_free": ("detect", DETECT["anchor_free"]),
    **{kind: ("detect", DETECT[kind]) for kind in ("yolov3", "ssdlite", "yolov1")},
}


def learned(folder: Path, made: ModelSpec) -> nn.Module:
    """A net of `made` whose weights are none that a net begins with, and its files in `folder`."""
    torch.manual_seed(0)
    net = build(made).eval()
    for tensor in net.state_dict().values():
        if tensor.is_floating_point():
            nn.init.uniform_(tensor, 0.05, 0.2)
    folder.mkdir()
    save_file(net.state_dict(), folder / "model.safetensors")
    write_spec(folder / "model.json", made)
    return net


def begun(made: ModelSpec, file: Path) -> tuple[nn.Module, Pretrained]:
    start = read_pretrained(made.backbone, str(file))
    net = build(made, start)
    take_over(net, made, start)
    return net.eval(), start


def rows_of(output: torch.Tensor, names: list[str], wanted: list[str], kind: str, repeats: int) -> torch.Tensor:
    """Those of an output's rows, in a row of `names` each, that are of `wanted`."""
    if kind in ("boxes", "box", "presence", "objectness", "background"):
        return output
    return output.unflatten(1, (repeats, len(names), -1))[:, :, [names.index(name) for name in wanted]]


@pytest.mark.parametrize("kind", STARTS)
def test_a_whole_net_goes_on_with_the_labels_and_landmarks_that_both_have(tmp_path: Path, kind: str) -> None:
    """In another order, with new ones among them: what both know has the same answers as before."""
    task, head = STARTS[kind]
    old = spec(task, **head)
    before = learned(tmp_path / "old", old)
    new = replace(old, labels=["fox", "wolf", "cat", "bee"], landmarks=old.landmarks and ["right_eye", "nose"])
    after, start = begun(new, tmp_path / "old/model.safetensors")
    image, repeats = torch.rand(2, 3, 64, 64), len(head.get("anchors", [[0]])[0])
    with torch.no_grad():
        answers = zip(old.outputs, before(image), after(image), strict=True)
        for name, was, found in answers:
            output = name.split("_")[0]
            kinds = (old.landmarks, new.landmarks, ["right_eye"]) if output == "landmarks" else (
                old.labels, new.labels, ["cat", "fox"])  # fmt: skip
            torch.testing.assert_close(
                rows_of(found, kinds[1], kinds[2], output, repeats), rows_of(was, kinds[0], kinds[2], output, repeats)
            )
    assert (start.anew, start.source["anew"], start.source["labels"]) == ([], 0, 2)
    points = "landmarks by name: right_eye (at random: nose)" if new.landmarks else ""
    labels = ", labels by name: fox, cat (at random: wolf, bee)"
    taken = f"; beyond the backbone {start.source['taken']} tensors are from model.safetensors{labels}"
    assert start.told() == taken + (points and f", {points}")


def test_without_a_model_json_a_whole_net_is_taken_by_shape(tmp_path: Path) -> None:
    old = spec("detect")
    before = learned(tmp_path / "old", old).state_dict()
    (tmp_path / "old/model.json").unlink()
    new = replace(old, labels=["fox", "wolf", "bee"], landmarks=["nose"])
    after, start = begun(new, tmp_path / "old/model.safetensors")
    assert torch.equal(after.state_dict()["head.scores.weight"], before["head.scores.weight"])
    assert start.anew == ["head.landmarks.weight", "head.landmarks.bias"]
    assert "by name and shape, as there is no model.json beside it; 2 began at random, first head.land" in start.told()


@pytest.mark.parametrize(
    ("old", "change", "anew"),
    [
        (spec("detect"), {"head": HEADS["detect"] | {"channels": 24}}, "head.classify.convs.1.weight"),
        (spec("detect"), {"head": HEADS["detect"] | {"strides": [16, 32]}}, "neck.lateral.0.0.weight"),
        (spec("detect"), {"labels": ["wolf"]}, "head.scores.weight"),
        (spec("detect"), {"task": "localize", "head": HEADS["localize"]}, "shape"),
        (spec("classify"), {"task": "detect", "head": HEADS["detect"]}, "neck.lateral.0.0.weight"),
        (spec("localize"), {"size": 96}, "presence.weight"),
    ],
)
def test_what_a_whole_net_cannot_give_begins_anew_and_is_named(
    tmp_path: Path, old: ModelSpec, change: dict[str, Any], anew: str
) -> None:
    learned(tmp_path / "old", old)
    new = replace(old, **change)
    net, start = begun(new, tmp_path / "old/model.safetensors")
    assert anew in start.anew
    assert f"{start.source['anew']} began at random, first {start.anew[0]}" in start.told()
    assert all(tensor.isfinite().all() for tensor in net.state_dict().values())


def as_lightning_saves(net: nn.Module, prefix: str) -> dict[str, Any]:
    state = {f"{prefix}{name}": tensor for name, tensor in net.state_dict().items()}
    state |= {"criterion.weight": torch.ones(3)}
    best = {"best_model_score": torch.ones(())}
    return {"epoch": 1, "state_dict": state, "callbacks": {"ModelCheckpoint": best}, "hyper_parameters": {"lr": 0.1}}


def as_training_saves(net: nn.Module, **parts: Any) -> dict[str, Any]:
    """A training program's checkpoint: with its arguments and an optimizer that has taken a step."""
    optimizer = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)
    sum(p.sum() for p in net.parameters()).backward()
    kept = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    optimizer.step()
    net.load_state_dict(kept)
    arguments = argparse.Namespace(arch="mobilenet", lr=0.1, mean=(0.5, 0.5, 0.5), resume=None)
    return {**parts, "optimizer": optimizer.state_dict(), "epoch": 3, "args": arguments, "metric": 71.5}


def averaged(net: nn.Module) -> dict[str, Any]:
    return torch.optim.swa_utils.AveragedModel(net).state_dict()


def zeros(net: nn.Module) -> dict[str, Any]:
    """Weights that have not been averaged."""
    return {name: torch.zeros_like(tensor) for name, tensor in net.state_dict().items()}


MAKERS: dict[str, Callable[[nn.Module], Any]] = {
    "DataParallel": lambda net: nn.DataParallel(net).state_dict(),
    "torch.compile": lambda net: torch.compile(net).state_dict(),
    "compiled in parallel": lambda net: torch.compile(nn.DataParallel(net)).state_dict(),
    "Lightning, model": lambda net: as_lightning_saves(net, "model."),
    "Lightning, net": lambda net: as_lightning_saves(net, "net."),
    "Lightning, backbone": lambda net: as_lightning_saves(net, "model.backbone."),
    "model": lambda net: {"model": net.state_dict(), "epoch": torch.tensor(3)},
    "model_state_dict": lambda net: {"model_state_dict": net.state_dict()},
    "ema": lambda net: {"model": zeros(net), "ema": {"module": net.state_dict(), "updates": 7}},
    "timm": lambda net: as_training_saves(net, arch="m", state_dict=zeros(net), state_dict_ema=net.state_dict()),
    "torchvision": lambda net: as_training_saves(net, model=zeros(net), model_ema=averaged(net)),
    "torchvision, no average": lambda net: as_training_saves(net, model=net.state_dict(), lr_scheduler={"last": 1}),
}


# nets of the one makers in the other's names, where one of both holds how they are found
@pytest.mark.parametrize(
    ("maker", "names"),
    [
        pytest.param(maker, names, marks=[] if own else [pytest.mark.exhaustive])
        for i, maker in enumerate(MAKERS)
        for names in ("timm", "torchvision")
        for own in [(i % 2 == 0) == (names == "timm")]
    ],
)
def test_weights_of_other_makers_are_found_in_their_checkpoints(tmp_path: Path, maker: str, names: str) -> None:
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv2_035") if names == "timm" else torchvision.models.mobilenet_v2(width_mult=0.35)
    torch.save(net.state_dict(), tmp_path / "plain.pth")
    torch.save(MAKERS[maker](net), tmp_path / "w.pth")
    plain, found = (read_pretrained("mobilenetv2_035", str(tmp_path / name)) for name in ("plain.pth", "w.pth"))
    assert plain.state is not None and found.state is not None
    assert plain.source["names"] == found.source["names"] == names
    assert list(found.state) == list(plain.state)
    assert all(torch.equal(tensor, plain.state[name]) for name, tensor in found.state.items())
    assert found.source.get("not_in_file", []) == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            {"generator": {"first.weight": torch.ones(2), "second.weight": torch.ones(3)}, "epoch": 3},
            r"it holds generator, epoch; its tensors in \[.generator.\] begin with first\.weight, second\.weight, "
            r"timm's with conv_stem\.weight, .*\n    state = torch\.load\(.*\)\[.generator.\]\n    torch\.save",
        ),
        ([torch.ones(2)], r"w\.pth: expected names and their tensors; it holds a list"),
        ({"epoch": 3}, r"w\.pth: expected names and their tensors; it holds epoch; its tensors begin with nothing"),
        (
            {"model": nn.Linear(2, 2)},
            r"it holds a torch\.nn\.modules\.linear\.Linear, which loading would run\. To make it plain, .*:\n"
            r"    state = model\.state_dict\(\).*\n    torch\.save\(state, ",
        ),
    ],
)
def test_a_checkpoint_that_does_not_fit_says_what_it_holds(tmp_path: Path, content: Any, message: str) -> None:
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        read_pretrained("mobilenetv2_035", str(tmp_path / "w.pth"))


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_named(tmp_path: Path, number: float) -> None:
    """Of a pretrained file, and of a trained run."""
    state = timm.create_model("mobilenetv2_035").state_dict()
    state["blocks.1.0.bn1.weight"][1] = number
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(InputError, match=r"w\.safetensors: blocks\.1\.0\.bn1\.weight .* not finite"):
        read_pretrained("mobilenetv2_035", str(tmp_path / "w.safetensors"))
    made = spec("classify")
    state = build(made).state_dict()
    state["body.classifier.bias"][0] = number
    save_file(state, tmp_path / "model.safetensors")
    write_spec(tmp_path / "model.json", made)
    with pytest.raises(InputError, match=r"model\.safetensors: body\.classifier\.bias .* not finite"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda t: t["conv_stem.weight"].mul_(100).to(torch.int8), r"conv_stem\.weight has numbers of torch\.int8"),
        (lambda t: t["conv_stem.weight"].to(torch.complex64), r"conv_stem\.weight has numbers of torch\.complex64"),
        (lambda t: t["conv_stem.weight"].to_sparse(), r"conv_stem\.weight is torch\.sparse_coo"),
        (lambda t: t["conv_stem.weight"].to("meta"), r"conv_stem\.weight is empty"),
        (lambda t: t["bn1.running_var"].fill_(-1), r"bn1\.running_var has a variance below 0"),
        (lambda t: [tensor.zero_() for tensor in t.values()] and t["conv_stem.weight"], "all of its weights are 0"),
        (None, "not a weights file that is safe to load: it is empty"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_are_no_nets_weights_are_named(tmp_path: Path, spoil: Any, message: str) -> None:
    state = timm.create_model("mobilenetv2_035").state_dict()
    if spoil is None:
        (tmp_path / "w.pth").touch()
    else:
        name = "bn1.running_var" if "running_var" in message else "conv_stem.weight"
        state[name] = spoil(state)
        torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"w\.pth: {message}"):
        read_pretrained("mobilenetv2_035", str(tmp_path / "w.pth"))


class Asked:
    """What is pickled asks for more zeros than any machine has room for, with a name that torch allows."""

    def __reduce__(self) -> tuple[Any, tuple[int]]:
        return bytearray, (1 << 62,)


def compressed(path: Path) -> None:
    file = io.BytesIO()
    torch.save({"conv_stem.weight": torch.zeros(10_000_000)}, file)
    with zipfile.ZipFile(file) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in whole.namelist():
            packed.writestr(name, whole.read(name))


def listed_twice(path: Path) -> None:
    """Each of a hundred entries of the zip's list is the same part of the file."""
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("archive/data/0", bytes(100_000))
        for number in range(1, 100):
            info = copy.copy(packed.infolist()[0])
            info.filename = f"archive/data/{number}"
            packed.filelist.append(info)
        packed.writestr("archive/last", b"")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (compressed, "its parts are compressed; expected them as torch.save writes them"),
        (listed_twice, r"its parts have 10000000 bytes by their list, and the file 1\d{5}"),
        (
            lambda path: torch.save({"net": {"a": torch.zeros(1).as_strided((10**6, 10**7), (0, 0))}}, path),
            "a is 1000000 x 10000000, 40000000000000 bytes, of which the file has 4",
        ),
        (lambda path: torch.save({"a": Asked()}, path), "it asks for more memory than there is"),
    ],
)
def test_weights_that_stand_for_more_than_they_have_bytes_are_named(tmp_path: Path, make: Any, message: str) -> None:
    make(tmp_path / "w.pth")
    with pytest.raises(InputError, match=rf"w\.pth: not a weights file that is safe to load: {message}"):
        read_weights(tmp_path / "w.pth")


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (pickle.dumps({"a": 1}, 4), "149; expected what torch.save writes of a state_dict in its own protocol"),
        (b"\n<html>not found</html>", "a page of HTML; expected a .safetensors file, or what torch.save writes"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of git-lfs, `git lfs pull` brings the file; exp"),
        (b"", "it is empty; expected a .safetensors file"),
        (b"\x80\x02junkjunk", "it begins with b'\\x80\\x02junkjunk'; expected what torch.save writes"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_what_torch_cannot_load_is_said_without_its_advice(tmp_path: Path, data: bytes, found: str) -> None:
    """Which is to load it all the same, and so to run what it holds."""
    for name in ("w.pth", *(["w.safetensors"] if not data.startswith(b"\x80") else [])):
        (tmp_path / name).write_bytes(data)
        with pytest.raises(InputError, match=re.escape(found)) as caught:
            read_weights(tmp_path / name)
        assert "weights_only" not in str(caught.value)


def test_a_buffer_that_is_the_same_everywhere_is_as_good(tmp_path: Path) -> None:
    torch.save({"mask": torch.ones(1, 1, 1, 1).expand(1, 1, 1024, 1024)}, tmp_path / "w.pth")
    assert read_weights(tmp_path / "w.pth").content["mask"].shape == (1, 1, 1024, 1024)


def test_weights_with_another_byte_are_named(tmp_path: Path) -> None:
    """Also where all numbers stay finite; a model.json from before it had a sha256 is taken as it is."""
    made = spec("classify")
    write_weights(build(made), made, tmp_path)
    path = tmp_path / "model.safetensors"
    load_model(tmp_path)
    content = bytearray(path.read_bytes())
    content[-4] ^= 1  # the last bit of the last number
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"model\.safetensors: damaged, or of another training: .*model\.json expects"):
        load_model(tmp_path)
    write_spec(tmp_path / "model.json", made)
    load_model(tmp_path)


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
        (
            lambda p: save(p, "resnet18"),
            "mobilenetv2_35",
            "'mobilenetv2_35' is not in timm; did you mean 'mobilenetv2_035'",
        ),
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
    flat = flatten(outputs, ("scores", "boxes", "landmarks"), (8, 16, 32))
    truth = torch.tensor([[0.0, 0, 30, 30], [34, 34, 63, 63], [40, 2, 41, 3]])  # the last lies between the centres
    target = {
        "image": torch.zeros(3, dtype=torch.int64), "box": truth, "label": torch.arange(3),
        "landmarks": torch.zeros(3, 2, 3),
    }  # fmt: skip
    _, cells, objects, quality = assign(flat["scores"].sigmoid(), flat["boxes"], flat["centres"], table(target, 1))
    assert set(objects.tolist()) == {0, 1, 2}
    assert ((quality >= 0) & (quality <= 1)).all()
    assert len(set(cells.tolist())) == len(cells)
    for cell, o in zip(cells.tolist(), objects.tolist(), strict=True):
        if o < 2:
            x, y = flat["centres"][cell].tolist()
            assert truth[o][0] < x < truth[o][2]
            assert truth[o][1] < y < truth[o][3]


def scene(*boxes: list[float], pictures: int = 1) -> dict[str, torch.Tensor]:
    """All `boxes` (xyxy in pixels) in the first of `images`, of the labels 0, 1, 2, ..., two landmarks each."""
    count = len(boxes)
    return {
        "image": torch.zeros(count, dtype=torch.int64),
        "box": torch.tensor(boxes).view(count, 4),
        "label": torch.arange(count) % 3,
        "landmarks": torch.full((count, 2, 3), 2.0),
    }


def test_the_boxes_that_a_detector_learns_by_are_those_that_are_read_from_it() -> None:
    torch.manual_seed(0)
    made = spec("detect")
    made.predict = {"score": 0.0, "nms": "hard", "nms_iou": 1.0, "max_objects": 500}
    net = build(made).eval()
    made.outputs, made.strides, made.boxes = list(net.outputs), list(net.strides), net.boxes
    nn.init.constant_(net.head.boxes.bias, 1.0)  # small boxes, that lie in the image
    outputs = net(torch.rand(1, 3, 64, 64))
    learnt = flatten(outputs, net.head.kinds, net.strides)["boxes"][0].detach() / 64
    _, _, objects = decode([o[0].detach().numpy() for o in outputs], made, Frame(1, 1, 0, 0))
    inside = (learnt >= 0).all(1) & (learnt <= 1).all(1)  # the answers are cut off at the image's edge
    assert inside.sum() > 10
    found = torch.tensor([(x, y, x + w, y + h) for x, y, w, h in (o.box for o in objects)])
    for box in learnt[inside]:
        assert float((found - box).abs().amax(1).min()) < 1e-5, box


def test_cells_of_a_batch_are_assigned_as_in_pictures_of_their_own() -> None:
    torch.manual_seed(0)
    net = build(spec("detect")).eval()
    flat = flatten(net(torch.rand(2, 3, 64, 64)), net.head.kinds, (8, 16, 32))
    one, two = scene([3.0, 4, 40, 50]), scene([20.0, 20, 30, 60], [1, 1, 60, 30], [5, 30, 9, 33])
    both = {k: torch.cat([one[k], two[k] + 1 if k == "image" else two[k]]) for k in one}
    scores = flat["scores"].sigmoid()
    picture, cell, slot, quality = assign(scores, flat["boxes"], flat["centres"], table(both, 2))
    for i, alone in enumerate((one, two)):
        _, *wanted = assign(scores[[i]], flat["boxes"][[i]], flat["centres"], table(alone, 1))
        for found, expected in zip((cell, slot, quality), wanted, strict=True):
            torch.testing.assert_close(found[picture == i], expected)


def test_a_detectors_dropout_leaves_whole_channels_out_of_training_alone() -> None:
    torch.manual_seed(0)
    net = build(spec("detect", **HEADS["detect"], dropout=0.5))
    given = [torch.rand_like(f) + 0.1 for f in net.features(torch.rand(2, 3, 64, 64))]
    seen: list[torch.Tensor] = []
    net.neck.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0]))
    net.top(given)
    for before, after in zip(given, seen, strict=True):
        left_out = (after == 0).flatten(2).all(2)
        assert 0.2 < left_out.float().mean() < 0.8
        torch.testing.assert_close(after[~left_out], 2 * before[~left_out])
    seen.clear()
    net.eval().top(given)
    assert all(torch.equal(before, after) for before, after in zip(given, seen, strict=True))


def test_hundreds_of_objects_and_duplicates_have_a_loss() -> None:
    draw = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=draw) * 58
    boxes = torch.cat([corner, corner + 0.5 + 5 * torch.rand(300, 2, generator=draw)], dim=1)
    crowded = scene(*boxes.tolist(), *boxes[:5].tolist(), [0.0, 0, 64, 64])
    for head in DETECT.values():
        net = build(spec("detect", **head))
        loss = net.loss(net(torch.rand(2, 3, 64, 64)), crowded)
        loss.backward()
        assert torch.isfinite(loss)
        assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in net.head.parameters())


@pytest.mark.parametrize("strides", [[8, 16, 32], [4, 8, 16, 32], [8, 16, 32, 64], [16, 32]])
@pytest.mark.parametrize("kind", ON_STRIDES)
def test_heads_stand_on_any_strides(kind: str, strides: list[int]) -> None:
    made = spec("detect", 128, **head_of(kind, 60, strides))
    net = build(made).eval()
    with torch.no_grad():
        found = dict(zip(made.outputs, net(torch.rand(1, 3, 128, 128)), strict=True))
    assert list(net.strides) == strides
    for s in strides:
        assert found[f"scores_{s}"].shape[-2:] == (128 // s, 128 // s)
    assert {name.split("_")[0] for name in found} == set(FORMS[net.boxes].outputs)


def test_an_exact_answer_costs_nothing_in_boxes_and_decodes_to_the_objects() -> None:
    """What the loss of the anchors calls right is what `decode` reads: one truth, written into the raw outputs."""
    made = spec("detect", **DETECT["yolov3"])
    net = build(made)
    truth = scene([10.0, 12, 34, 40])
    raw = [torch.full_like(o, -9.0) for o in net(torch.zeros(1, 3, 64, 64))]
    named = dict(zip(made.outputs, raw, strict=True))
    stride, anchors = 16, torch.tensor(made.head["anchors"][1])
    sides, middle = torch.tensor([24.0, 28]), torch.tensor([22.0, 26])
    cell = (middle / stride).long()
    x, y = cell.tolist()
    offset = (middle / stride - cell + 0.5) / 2
    share = (sides / anchors[1]).sqrt() / 2
    named["boxes_16"][0, 4:8, y, x] = torch.cat([offset, share]).logit()
    named["objectness_16"][0, 1, y, x] = 9
    named["scores_16"][0, 3, y, x] = 9  # anchor 1 of label 0
    named["landmarks_16"][0, 6:12, y, x] = torch.tensor([0.5, 0.5, 9, -0.5, 0.25, 9])
    _, _, [found] = decode([o[0].numpy() for o in raw], made, Frame(1, 1, 0, 0))
    assert found.label == "cat"
    assert [v * 64 for v in found.box] == pytest.approx([10, 12, 24, 28], abs=1e-3)
    at = (cell + 0.5) * stride + torch.tensor([0.5, 0.5]) * anchors[1]
    assert (found.landmarks[0].x * 64, found.landmarks[0].y * 64) == pytest.approx(at.tolist(), abs=1e-3)
    off = {k: v.clone() for k, v in named.items()}
    off["boxes_16"][0, 4:8, y, x] += 0.5
    assert net.loss(tuple(off.values()), truth) > net.loss(tuple(raw), truth)


@given(st.integers(0, 2**32 - 1))
@example(5812)  # two anchors that rounding puts into another order
def test_anchors_are_small_first_in_any_order_of_the_boxes(seed: int) -> None:
    draw = np.random.default_rng(seed)
    sizes = draw.uniform(4, 300, (40, 2))
    anchors = np.array(kmeans_anchors(sizes, (8, 16, 32)))
    assert anchors.shape == (3, 3, 2)
    assert (np.diff(anchors.prod(axis=2).ravel()) >= 0).all()
    assert np.array_equal(anchors, np.array(kmeans_anchors(draw.permutation(sizes), (8, 16, 32))))
    assert (anchors >= sizes.min(axis=0) - 0.01).all()
    assert (anchors <= sizes.max(axis=0) + 0.01).all()


def test_anchors_find_the_sizes_that_there_are() -> None:
    kinds = np.array([[10, 10], [20, 40], [60, 30], [90, 90], [150, 60], [60, 150]], dtype=float)
    draw = np.random.default_rng(0)
    sizes = np.concatenate([kind * draw.uniform(0.97, 1.03, (30, 2)) for kind in kinds])
    anchors = np.array(kmeans_anchors(sizes, (16, 32))).reshape(-1, 2)
    for kind in kinds:
        assert np.abs(anchors / kind - 1).max(axis=1).min() < 0.03
    with pytest.raises(InputError, match="no box in train to take anchors from"):
        kmeans_anchors(np.zeros((0, 2)), (8, 16, 32))
    assert len(kmeans_anchors(kinds[:1], (8, 16, 32))) == 3  # of one size are all


def targets(task: str) -> dict[str, torch.Tensor]:
    """Of four images: a bright square in another corner each; the last has none."""
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


@pytest.mark.parametrize(
    ("task", "head"),
    [
        *(pytest.param(task, {}, id=task) for task in SHAPES),
        *(pytest.param("detect", DETECT[kind], id=kind, marks=pytest.mark.exhaustive) for kind in MORE_DETECTORS),
    ],
)
def test_a_net_learns_four_pictures(task: str, head: dict[str, Any]) -> None:
    torch.manual_seed(0)
    net, target = build(spec(task, **head)), targets(task)
    images = torch.rand(4, 3, 64, 64) * 0.2
    for i, (x, y) in enumerate([(0, 0), (32, 0), (0, 32)]):
        images[i, i, y + 4 : y + 28, x + 4 : x + 28] += 0.8
    images[3] = images[0] if task == "classify" else images[3]
    optimizer = torch.optim.AdamW(net.parameters(), 3e-3)
    losses = []
    for _ in range(100 if head else {"classify": 20, "localize": 60, "detect": 40}[task]):
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
    loss = AnchorFree(16, 16, 3, 0, (32,)).loss((torch.zeros(1, 3, 2, 2), raw), target)
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


def corner_target(points: list[list[float]]) -> dict[str, torch.Tensor]:
    """One object in the box (0.2, 0.2, 0.4, 0.4) with landmarks (x, y, seen)."""
    return {
        "presence": torch.ones(1),
        "box": torch.tensor([[0.2, 0.2, 0.4, 0.4]]),
        "label": torch.zeros(1, dtype=torch.int64),
        "landmarks": torch.tensor([points]),
    }


def localizer_loss(net: Localizer, points: torch.Tensor, target: dict[str, torch.Tensor]) -> torch.Tensor:
    return net.loss((torch.zeros(1, 1), target["box"].clone(), torch.zeros(1, 3), points), target)


def test_the_loss_pulls_landmarks_to_where_they_are_and_leaves_out_what_is_not_labelled() -> None:
    net = build(spec("localize"))
    assert isinstance(net, Localizer)
    target = corner_target([[0.3, 0.5, 1], [0.9, 0.1, 0]])
    points = torch.tensor([[0.35, 0.4, 0.5, 0.5]], requires_grad=True)
    localizer_loss(net, points, target).backward()
    assert points.grad is not None
    signs = points.grad.sign().tolist()[0]
    assert signs == [1, -1, 0, 0]  # too far right, too far up, and one that nobody labelled
    exact = localizer_loss(net, torch.tensor([[0.3, 0.5, 0.5, 0.5]]), target)
    assert exact < localizer_loss(net, points, target)
    unlabelled = corner_target([[0.3, 0.5, 0], [0.9, 0.1, 0]])
    assert torch.equal(localizer_loss(net, points, unlabelled), localizer_loss(net, points.detach() + 1, unlabelled))


def test_an_error_counts_by_the_size_of_the_object() -> None:
    net = build(spec("localize"))
    assert isinstance(net, Localizer)
    losses = []
    for side in (0.2, 0.4):  # the same image, half as large
        target = corner_target([[0.5, 0.5, 1], [0.5, 0.5, 1]]) | {"box": torch.tensor([[0.3, 0.3, side, side]])}
        nothing = localizer_loss(net, torch.full((1, 4), 0.5), target)
        losses.append(localizer_loss(net, torch.full((1, 4), 0.5 + side / 8), target) - nothing)
    torch.testing.assert_close(losses[0], losses[1])


def test_a_landmark_pulls_by_the_wing_loss() -> None:
    """Feng et al. 2018: the nearer, the steeper; from w on as steep as L1; no jump where the two meet. Here w is 20
    hundredths of the object's size, and the curvature 4.
    """
    net = build(spec("localize"))
    assert isinstance(net, Localizer)
    target = corner_target([[0.4, 0.4, 1], [0.9, 0.1, 0]])  # of an object whose size is 0.4

    def loss_and_slope(hundredths: float) -> tuple[float, float]:
        points = torch.tensor([[0.4 + 0.004 * hundredths, 0.4, 0.5, 0.5]], requires_grad=True)
        loss = localizer_loss(net, points, target)
        loss.backward()
        assert points.grad is not None
        return loss.item(), points.grad[0, 0].item()

    nothing, _ = loss_and_slope(0)
    (before, _), (after, steep), (_, far) = map(loss_and_slope, (20 - 1e-3, 20 + 1e-3, 60))
    assert far == pytest.approx(steep)
    for near in (1.0, 4.0, 12.0, 19.0):
        assert loss_and_slope(near)[1] / steep == pytest.approx(20 / (4 + near), rel=1e-3)
    assert after == pytest.approx(before, abs=1e-4)
    assert (before - nothing) / (steep * 0.004) == pytest.approx(20 * math.log(6), rel=1e-3)


def test_landmarks_start_at_their_mean_place_in_the_box_and_move_with_it() -> None:
    net = build(spec("localize"))
    assert isinstance(net, Localizer)
    first = Object("a", (0.0, 0.0, 0.5, 0.5), [Landmark(0.1, 0.2), Landmark(0.0, 0.0, 0)])
    second = Object("a", (0.2, 0.4, 0.4, 0.4), [Landmark(0.4, 0.6), Landmark(0.0, 0.0, 0)])
    samples = [Sample(n, n, 9, 9, objects=[o]) for n, o in (("a", first), ("b", second))]
    flat = Object("a", (0.5, 0.5, 0.0, 0.5), [Landmark(0.5, 0.5), Landmark(0.5, 0.5)])
    net.start_from([*samples, Sample("c", "c", 9, 9, objects=[flat])])
    torch.testing.assert_close(net.shape, torch.tensor([[0.35, 0.45], [0.5, 0.5]]))  # the second is never labelled
    torch.nn.init.normal_(net.box.weight)  # heads begin at zero: boxes that differ
    _, box, _, points = net.eval()(torch.rand(3, 3, 64, 64))
    expected = box[:, None, :2] + box[:, None, 2:] * net.shape
    torch.testing.assert_close(points.view(3, 2, 2), expected)


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


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "side"),
    [(3, 1, 1, 20), (3, 2, 1, 20), (5, 1, 2, 20), (5, 2, 2, 20), (5, 2, 2, 21), (7, 1, 3, 9), (3, 1, 0, 20),
     ((1, 5), (1, 2), (0, 1), 16), ((5, 1), 1, (2, 0), 16), (4, 1, 0, 17)],
)  # fmt: skip
def test_quick_depthwise_gradients_are_the_convolutions_own(kernel: Any, stride: Any, padding: Any, side: int) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(16, 16, kernel, stride, padding, groups=16)
    net = nn.Sequential(nn.Conv2d(3, 16, 1), conv, nn.Conv2d(16, 4, 1)).to(memory_format=torch.channels_last)
    names = list(net.state_dict())
    x = torch.rand(2, 3, side, side).to(memory_format=torch.channels_last)

    def gradients(half: bool) -> list[torch.Tensor]:
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            net(x).float().square().mean().backward()
        return [torch.as_tensor(p.grad).clone() for p in net.parameters()]

    exact = gradients(half=False)
    quicken(net)
    assert list(net.state_dict()) == names
    assert isinstance(conv, DepthwiseConv2d)
    for ours, wanted in zip(gradients(half=True), exact, strict=True):
        assert (ours - wanted).norm() < 0.03 * wanted.norm()
    for ours, wanted in zip(gradients(half=False), exact, strict=True):
        assert torch.allclose(ours, wanted, rtol=1e-4, atol=1e-6 * float(wanted.abs().max()))


@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("half", [False, True])
def test_a_relu6_keeps_its_result_alone_and_has_the_same_gradient(inplace: bool, half: bool) -> None:
    """To the bit; what is kept for the backward pass is counted in bytes."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), nn.BatchNorm2d(8), nn.ReLU6(inplace), nn.Conv2d(8, 8, 1, bias=False), nn.BatchNorm2d(8),
        nn.ReLU6(inplace), nn.Conv2d(8, 2, 1),
    )  # fmt: skip
    nn.init.constant_(net[1].weight, 4.0)
    x = torch.randn(4, 3, 16, 16)

    def step() -> tuple[list[torch.Tensor], int]:
        kept: dict[int, int] = {}

        def keep(tensor: torch.Tensor) -> torch.Tensor:
            if tensor.shape[1:] == (8, 16, 16):
                kept[tensor.data_ptr()] = tensor.nbytes
            return tensor

        net.zero_grad()
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                y = net(x)
            loss = y.float().square().mean()
        loss.backward()
        return [y.detach(), *(torch.as_tensor(p.grad).clone() for p in net.parameters())], sum(kept.values())

    wanted, usual = step()
    quicken(net)
    found, kept = step()
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))
    one = 4 * 8 * 16 * 16 * (2 if half else 4)
    assert (usual, kept) == (6 * one, 4 * one), "of each norm its input, and what the next convolution reads"


@pytest.mark.parametrize("change", [{"groups": 8}, {"dilation": 2}, {"padding": "same"}, {"padding_mode": "reflect"}])
def test_other_convolutions_stay_as_they_are(change: dict[str, Any]) -> None:
    conv = nn.Conv2d(16, 16, 3, **({"groups": 16, "padding": 1} | change))
    quicken(nn.Sequential(conv))
    assert type(conv) is nn.Conv2d


@pytest.mark.parametrize("backbone", ["mobilenetv2_035", "mobilenetv3_small_050", "resnet18", "mobilenetv1_025"])
def test_a_frozen_norm_in_its_convolution_computes_and_learns_the_same(backbone: str) -> None:
    torch.manual_seed(0)
    net, _ = feature_maps(backbone, read_pretrained(backbone, False), (8, 32))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # as of a net that has learned
            assert module.running_mean is not None
            assert module.running_var is not None
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
    joined = copy.deepcopy(net)
    x = torch.rand(2, 3, 64, 64)
    count = sum(isinstance(m, nn.BatchNorm2d) for m in net.modules())
    assert join_frozen_norms(joined, x) == count
    assert joined.state_dict().keys() == net.state_dict().keys()
    results = []
    for each in (net.eval(), joined.train()):  # in training mode the statistics are kept all the same
        loss = sum((m.square().mean() for m in each(x)), torch.zeros(()))
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in each.parameters())])
    for wanted, found in zip(*results, strict=True):
        assert wanted is not None
        assert (wanted - found).norm() <= 1e-3 * wanted.norm() + 1e-7
    for (name, wanted), found in zip(net.state_dict().items(), joined.state_dict().values(), strict=True):
        assert torch.equal(wanted, found), name


def test_measured_norms_have_the_statistics_of_the_batches_and_their_own_momentum() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4, momentum=0.01)
    net = nn.Sequential(conv, norm)
    batches = [torch.rand(8, 3, 5, 5) * (i + 1) for i in range(3)]
    assert learning_norms(net) == [norm]
    measure_norms([norm], net, batches)
    with torch.no_grad():
        seen = [conv(batch).transpose(0, 1).flatten(1) for batch in batches]
    torch.testing.assert_close(norm.running_mean, torch.stack([s.mean(1) for s in seen]).mean(0))
    torch.testing.assert_close(norm.running_var, torch.stack([s.var(1) for s in seen]).mean(0))
    assert (norm.momentum, norm.training) == (0.01, False)


class Twice(nn.Module):
    """Uses what its convolution gives, and that normalized: joining the two would change it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        nn.init.constant_(torch.as_tensor(self.norm.running_mean), 0.3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.conv(x)
        return y + self.norm(y)


def test_a_norm_that_does_not_go_into_its_convolution_stays() -> None:
    net, x = Twice().eval(), torch.rand(1, 3, 8, 8)
    wanted = net(x)
    assert join_frozen_norms(net, x) == 0
    assert torch.equal(net(x), wanted)
    assert type(net.norm) is nn.BatchNorm2d


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
    ("name", "least"),
    [
        ("mobilenetv1_025_short_valid", 59),
        ("mobilenetv1_050_shallow_valid", 155),
        ("mobilenetv1_025_conv_valid", 315),
        ("mobilenetv1_0250_valid", 315),
    ],
)
def test_a_net_without_padding_has_the_weights_of_the_padded_one_and_a_smallest_input(name: str, least: int) -> None:
    assert register(name)
    assert register(name.removesuffix("_valid"))
    net = timm.create_model(name, num_classes=0, global_pool="").eval()
    padded = timm.create_model(name.removesuffix("_valid"), num_classes=0, global_pool="")
    net.load_state_dict(padded.state_dict())
    assert smallest_input(name) == least
    assert net(torch.zeros(1, 3, least, least)).shape[2:] == (1, 1)
    with pytest.raises(RuntimeError):
        net(torch.zeros(1, 3, least - 1, least - 1))


def test_the_short_net_ends_at_stride_16() -> None:
    assert register("mobilenetv1_100_short")
    assert timm.create_model("mobilenetv1_100_short", num_classes=0, global_pool="")(
        torch.zeros(2, 3, 64, 64)
    ).shape == (2, 512, 4, 4)


@pytest.mark.parametrize("kind", ["pool", "flatten"])
def test_a_net_without_padding_classifies_and_needs_its_size(kind: str) -> None:
    made = spec("classify", 64, "mobilenetv1_025_short_valid", kind=kind, dropout=0.0)
    assert build(made)(torch.zeros(2, 3, 64, 64))[0].shape == (2, 3)
    with pytest.raises(InputError, match=r"size 32: .*_short_valid .* sees 59 pixels; expected 64 or more"):
        build(replace(made, size=32))


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_without_padding_there_are_no_feature_maps(task: str) -> None:
    with pytest.raises(InputError, match=r"no padding.* it is for classify, expected 'mobilenetv1_025_shallow'"):
        build(replace(spec(task), backbone="mobilenetv1_025_shallow_valid"))


@pytest.mark.parametrize(
    "name",
    [
        "mobilenetv1_000",
        "mobilenetv2_100_t0",
        "mobilenetv2_1",
        "mobilenetv1_100_t4",
        "mobilenetv3_099",
        "mobilenetv2_100_valid",
    ],
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

"""What the ways to int8 promise: the same function, smaller errors, bytes within the budget."""

import copy
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from pipeline.export.int8.budget import spare, within_budget
from pipeline.export.int8.equalize import equalize
from pipeline.export.int8.ranges import Histogram
from pipeline.export.targets import executorch
from pipeline.graph.folding import folded, outputs_of
from pipeline.runtimes.targets import TARGETS, open_runtime

SIDE = 32
UNEVEN = torch.logspace(-2, 0, 16)  # how much the channels differ


class Small(nn.Module):
    """An inverted residual in little, whose channels differ a hundredfold, and a first layer with wild weights."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, 16, 3, 2, 1)
        self.own = nn.Conv2d(16, 16, 3, padding=1, groups=16)
        self.last = nn.Conv2d(16, 16, 1)
        self.after = nn.Conv2d(16, 16, 3, 2, 1)
        self.head = nn.Linear(16, 4)
        self.clip = clip
        with torch.no_grad():
            self.first.weight *= UNEVEN.view(-1, 1, 1, 1)
            self.last.weight *= UNEVEN.view(-1, 1, 1, 1)
            self.after.weight /= UNEVEN.view(1, -1, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = self.clip(self.first(image.permute(0, 3, 1, 2).float() / 64 - 2))
        x = x + self.last(self.clip(self.own(x)))
        return (self.head(self.clip(self.after(x)).mean((2, 3))),)


class Spots(nn.Module):
    """Noise gives answers of about 0 in each cell, a white spot one of 50."""

    def __init__(self) -> None:
        super().__init__()
        self.look, self.say = nn.Conv2d(3, 2, 1), nn.Conv2d(2, 4, 1)
        with torch.no_grad():
            self.look.weight.copy_(torch.tensor([[1.0, 0, 0], [1, 1, 1]])[..., None, None])
            self.look.bias.copy_(torch.tensor([0.0, -2.0]))
            self.say.weight.copy_(torch.tensor([[0.5, 50.0]] * 4)[..., None, None])
            self.say.bias.zero_()

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.say(torch.relu(self.look(image.permute(0, 3, 1, 2).float() / 255))),)


class Cancelling(nn.Module):
    """Its `wide` layer takes large numbers from one another: what is left is less than a step of its int8 weights."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.wide, self.next = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 128, 1)
        self.head = nn.Linear(128, 4)
        with torch.no_grad():
            self.wide.weight[:, :, 0, 0] += 10
            self.wide.weight[:, :, 0, 1] -= 10

    def forward(self, image: Tensor) -> tuple[Tensor]:
        x = nn.functional.relu6(self.first(image.permute(0, 3, 1, 2).float() / 64 - 2))
        x = nn.functional.relu6(self.next(nn.functional.relu6(self.wide(x))))
        return (self.head(x.mean((2, 3))),)


@pytest.fixture
def images() -> list[np.ndarray]:
    """uint8 [1, S, S, 3] each: coarse patches of colour, so that the layers have something to see."""
    patches = np.random.default_rng(0).integers(0, 256, (12, 1, 4, 4, 3), dtype=np.uint8)
    return list(patches.repeat(SIDE // 4, 2).repeat(SIDE // 4, 3))


def answers(net: nn.Module, images: list[np.ndarray]) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate([net(torch.from_numpy(image))[0].numpy() for image in images])


def test_equalization_leaves_the_function_as_it_is(images: list[np.ndarray]) -> None:
    graph = folded(Small(nn.ReLU()).eval(), images)
    even = copy.deepcopy(graph)
    equalize(even, images)
    np.testing.assert_allclose(answers(even, images), answers(graph, images), rtol=1e-4, atol=1e-5)
    for layer in ("conv0_weight", "conv1_weight", "conv2_weight", "conv3_weight"):
        assert not torch.equal(even.get_buffer(layer), graph.get_buffer(layer))


class Odd(nn.Module):
    """Linear layers that are called twice, or that do not read the channels."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.first, self.second = nn.Conv2d(3, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, 1)
        self.twice, self.places, self.width = nn.Linear(8, 8), nn.Linear(256, 4), nn.Linear(16, 4)
        self.tokens = nn.Linear(8, 8)
        with torch.no_grad():
            for layer in (self.first, self.second):
                layer.weight *= torch.logspace(-1, 0, 8).view(-1, 1, 1, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        x = torch.relu(self.first(image.permute(0, 3, 1, 2).float() / 64 - 2))
        match self.kind:
            case "twice":
                return self.twice(x.mean((2, 3))), self.twice(torch.relu(self.second(x)).mean((2, 3)))
            case "in a row":
                return (self.twice(torch.relu(self.twice(x.mean((2, 3))))),)
            case "of places":
                return (self.places(x.flatten(2)),)
            case "of a side":
                return (self.width(x),)
            case "of tokens":
                return (self.twice(torch.relu(self.tokens(x.flatten(2).transpose(1, 2)))),)
        return (nn.functional.linear(x.mean((2, 3)), self.twice.weight.t()),)


@pytest.mark.parametrize("kind", ["twice", "in a row", "of places", "of a side", "of tokens", "of computed weights"])
def test_odd_linear_layers_are_the_same_function_and_the_net_stays_as_it_was(
    kind: str, images: list[np.ndarray]
) -> None:
    net = Odd(kind).eval()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    graph = folded(net, images)
    exact = outputs_of(graph, images)
    equalize(graph, images)
    for found, expected in zip(outputs_of(graph, images), exact, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    spare(graph, images, 1000)


def test_a_channel_that_relu6_clips_is_not_scaled(images: list[np.ndarray]) -> None:
    net = Small(nn.ReLU6()).eval()
    with torch.no_grad():
        net.first.weight *= 20
    graph = folded(net, images)
    even = copy.deepcopy(graph)
    equalize(even, images[:6])
    clipped = (net.first(torch.from_numpy(np.concatenate(images[:6])).permute(0, 3, 1, 2).float() / 64 - 2) > 6).amax(
        (0, 2, 3)
    )
    assert 0 < clipped.sum() < 16
    before, after = graph.get_buffer("conv0_weight"), even.get_buffer("conv0_weight")
    torch.testing.assert_close(after[clipped], before[clipped])
    np.testing.assert_allclose(answers(even, images[:6]), answers(graph, images[:6]), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("target", ["onnx_int8", pytest.param("executorch_int8", marks=pytest.mark.exhaustive)])
def test_equalized_channels_lose_less(tmp_path: Path, target: str, images: list[np.ndarray]) -> None:
    export, errors = TARGETS[target].export, []
    for done in (equalize, lambda graph, images: None):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sys.modules[export.__module__], "equalize", done)
            facts = export(Small(nn.ReLU()).eval(), images, tmp_path / TARGETS[target].file, ["logits"])
        errors.append(facts["relative_error"])
    assert errors[0] < errors[1] / 2


@pytest.mark.parametrize("target", ["onnx_int8", pytest.param("executorch_int8", marks=pytest.mark.exhaustive)])
def test_a_budget_buys_accuracy_and_is_not_overspent(tmp_path: Path, target: str) -> None:
    colours = np.random.default_rng(0).integers(0, 256, (12, 1, 1, 1, 3), dtype=np.uint8)
    plain = list(colours.repeat(SIDE, 2).repeat(SIDE, 3))
    net = Cancelling().eval()
    file, export = TARGETS[target].file, TARGETS[target].export
    assert TARGETS[target].budgeted
    alone = export(net, plain, tmp_path / f"alone-{file}", ["logits"])
    mixed = export(net, plain, tmp_path / f"mixed-{file}", ["logits"], budget=0.6)
    size, more = ((tmp_path / f"{kind}-{file}").stat().st_size for kind in ("alone", "mixed"))
    said = mixed["budget"]
    assert "budget" not in alone
    assert "wide" in said["float_layers"]
    assert said["kept"]
    assert said["allowed_bytes"] == int(0.6 * size)
    assert 0 < said["added_bytes"] == more - size <= said["allowed_bytes"]

    def error(kind: str) -> float:
        found = open_runtime(target, tmp_path / f"{kind}-{file}").run(np.concatenate(plain))[0]
        return float(np.sqrt(np.square(found - answers(net, plain)).mean()))

    assert error("mixed") < error("alone") / 2


def test_layers_that_did_not_help_are_int8_again(tmp_path: Path, images: list[np.ndarray]) -> None:
    file, asked = tmp_path / "file", []

    def quantize(spared: set[str]) -> dict[str, float]:
        asked.append(spared)
        file.write_bytes(b"float layers" if spared else b"all int8")
        return {"relative_error": 0.2 if spared else 0.1}

    graph = folded(Small(nn.ReLU()).eval(), images)
    facts = within_budget(quantize, graph, images, 10_000, file)
    assert file.read_bytes() == b"all int8"
    assert facts["relative_error"] == 0.1
    assert facts["budget"] == {
        "float_layers": ["first", "own", "last", "after", "head"],
        "kept": False,
        "allowed_bytes": 80_000,
        "added_bytes": 4,
        "relative_error": {"all int8": 0.1, "with float layers": 0.2},
    }
    assert not asked[0] and asked[1]


@pytest.mark.parametrize(
    ("narrow", "bits"),
    [
        *((0.1, "7-bit"), (0.18, "8-bit")),
        *(pytest.param(*more, marks=pytest.mark.exhaustive) for more in ((0.099, "7-bit"), (0.2, "8-bit"))),
    ],
)
def test_weights_have_seven_bits_where_that_comes_clearly_closer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[np.ndarray], narrow: float, bits: str
) -> None:
    """As on a CPU without VNNI, whose sums of 8-bit products saturate."""
    export = TARGETS["onnx_int8"].export
    errors = iter((0.185, narrow))
    monkeypatch.setattr(sys.modules[export.__module__], "relative_error", lambda found, exact: next(errors))
    facts = export(Small(nn.ReLU()).eval(), images, tmp_path / "model.onnx", ["logits"])
    assert bits in facts["settings"]
    model = onnx.load(tmp_path / "model.onnx")
    weights = [onnx.numpy_helper.to_array(c) for c in model.graph.initializer if c.data_type == onnx.TensorProto.INT8]
    assert max(int(np.abs(w.astype(int)).max()) for w in weights) == {"7-bit": 64, "8-bit": 127}[bits]


@pytest.mark.exhaustive
def test_xnnpacks_passes_that_are_left_out_change_no_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, images: list[np.ndarray]
) -> None:
    from executorch.backends.xnnpack._passes import XNNPACKPassManager

    manager = XNNPACKPassManager(None)
    assert set(executorch.ONLY_FOR) <= {one.__name__ for one in manager.passes}, "renamed, and no longer left out"
    files = []
    for name, only_for in (("less", executorch.ONLY_FOR), ("all", {})):
        monkeypatch.setattr(executorch, "ONLY_FOR", only_for)
        executorch.export_int8(Small(nn.ReLU6()).eval(), images, tmp_path / name, ["logits"])
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]


class Step(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.norm, self.same = nn.BatchNorm2d(3), nn.Conv2d(3, 3, 4, padding="same")
        self.line, self.slope = nn.Conv1d(3, 3, 3), nn.PReLU()
        self.attention = nn.MultiheadAttention(3, 1, batch_first=True)

    def forward(self, x: Tensor) -> Any:
        match self.kind:
            case "bilinear":
                return nn.functional.interpolate(x, scale_factor=2.0, mode="bilinear")
            case "attention":
                return self.attention(x.flatten(2).mT, x.flatten(2).mT, x.flatten(2).mT)[0]
            case "softmax":
                return x.softmax(1)
            case "norm":
                return self.norm(x)
            case "cat":
                return torch.cat([x] * 7, 1)
            case "stack":
                return torch.hstack([x] * 7)
            case "pad":
                return nn.functional.pad(x, (1, 1))
            case "same":
                return self.same(x)
            case "line":
                return self.line(x.flatten(2))
        return self.slope(x)


@pytest.mark.parametrize(
    ("kind", "needed"),
    [
        ("bilinear", {"ConvertToUpsampleBilinear2d"}),
        ("attention", {"ConvertToSDPAPass"}),
        ("softmax", {"ConvertToSDPAPass"}),
        ("norm", {"FuseBatchNormPass", "DecomposeBatchNorm"}),
        ("cat", {"DecomposeConcatenate"}),
        ("stack", {"DecomposeConcatenate"}),
        ("pad", {"InsertPadQDQPass"}),
        ("same", {"InsertPadQDQPass"}),
        ("line", {"Conv1dUnsqueezePass"}),
        ("slope", {"PReLUReshapePass"}),
    ],
)
def test_xnnpack_has_the_passes_that_a_step_needs(kind: str, needed: set[str]) -> None:
    program = torch.export.export(Step(kind).eval(), (torch.zeros(1, 3, 8, 8),))
    assert not needed & executorch.passes_in_vain(program)


def test_a_budget_that_buys_nothing_quantizes_once(tmp_path: Path, images: list[np.ndarray]) -> None:
    file, asked = tmp_path / "file", []

    def quantize(spared: set[str]) -> dict[str, float]:
        asked.append(spared)
        file.write_bytes(b"all int8")
        return {"relative_error": 0.1}

    facts = within_budget(quantize, folded(Small(nn.ReLU()).eval(), images), images, 1e-9, file)
    assert asked == [set()]
    assert (facts["budget"]["kept"], facts["budget"]["added_bytes"]) == (False, 0)


def test_without_bytes_nothing_is_spared(images: list[np.ndarray]) -> None:
    assert spare(folded(Small(nn.ReLU()).eval(), images), images, 0).layers == []


def test_with_all_bytes_every_layer_is_float(images: list[np.ndarray]) -> None:
    found = spare(folded(Small(nn.ReLU()).eval(), images), images, 10**6)
    assert found.layers == ["first", "own", "last", "after", "head"]


def test_a_range_leaves_the_rarest_values_out_but_of_an_answer() -> None:
    seen = Histogram()
    values = torch.randn(100_000, generator=torch.Generator().manual_seed(0))
    seen.add(values)
    seen.add(torch.tensor([40.0, 0.0]))
    assert seen.span(answer=True) == (float(values.min()), 40.0)
    least, most = seen.span()
    assert least == pytest.approx(float(values.quantile(5e-5)), abs=0.2)
    assert most == pytest.approx(float(values.quantile(1 - 5e-5)), abs=0.2)


@pytest.mark.parametrize("value", [0.0, 3.0, -3.0])
def test_a_constant_has_a_range_which_holds_zero(value: float) -> None:
    seen = Histogram()
    seen.add(torch.full((8, 8), value))
    for least, most in (seen.span(), seen.span(answer=True)):
        assert least <= value <= most
        assert least <= 0 <= most


@pytest.mark.parametrize("target", ["onnx_int8", pytest.param("executorch_int8", marks=pytest.mark.exhaustive)])
def test_one_picture_is_enough_to_export(images: list[np.ndarray], tmp_path: Path, target: str) -> None:
    file, export = TARGETS[target].file, TARGETS[target].export
    facts = export(Small(nn.ReLU6()).eval(), images[:1], tmp_path / file, ["logits"])
    assert np.isfinite(facts["relative_error"])


@pytest.mark.parametrize("target", ["onnx_int8", "executorch_int8"])
def test_a_rare_large_answer_is_not_cut_off(tmp_path: Path, target: str) -> None:
    """It is the object, or the label, that the image is about."""
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, (256, 120, 120), (1, 64, 64, 3), dtype=np.uint8) for _ in range(16)]
    pictures[5][0, 30, 30] = 255
    file, export = TARGETS[target].file, TARGETS[target].export
    export(Spots(), pictures, tmp_path / file, ["map"])
    (found,) = open_runtime(target, tmp_path / file).run(pictures[5])
    assert found[0, 0, 30, 30] == pytest.approx(50.5, rel=0.03)

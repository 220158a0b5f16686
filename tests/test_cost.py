"""Multiply-adds, parameters and memory: the published tables, and what torch counts by itself."""

import json
from dataclasses import replace

import pytest
import timm
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.spec import ModelSpec
from pipeline.experiments import budget
from pipeline.experiments.budget import Candidate, candidates, read_budget, weigh, write_plot
from pipeline.graph.cost import backbone_cost, cost
from pipeline.models.nets import build


def separable(inputs: int, outputs: int, padding: int = 1) -> nn.Module:
    depthwise = nn.Conv2d(inputs, inputs, 3, padding=padding, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.Conv2d(inputs, outputs, 1, bias=False))


@pytest.mark.parametrize(
    ("layer", "shape", "macs", "params"),
    [
        (nn.Conv2d(512, 512, 3, padding=1, bias=False), (512, 14, 14), "462", "2.36"),
        (separable(512, 512), (512, 14, 14), "52.3", "0.27"),
        (separable(384, 384), (384, 14, 14), "29.6", "0.15"),
        (separable(384, 384), (384, 10, 10), "15.1", "0.15"),
    ],
    ids=["plain", "separable", "width 0.75", "resolution 0.714"],
)
def test_table_3_of_the_mobilenet_paper(layer, shape, macs, params):
    found = cost(layer, shape)
    assert f"{found.macs / 1e6:.{len(macs.partition('.')[2])}f}" == macs
    assert f"{found.params / 1e6:.2f}" == params


@pytest.mark.parametrize(
    ("backbone", "size", "macs", "params"),
    [
        ("mobilenetv1_100", 224, 569, 4.2),
        pytest.param("mobilenetv1_075", 224, 325, 2.6, marks=pytest.mark.exhaustive),
        ("mobilenetv1_050", 224, 149, 1.3),
        ("mobilenetv1_025", 224, 41, 0.5),
        pytest.param("mobilenetv1_100", 192, 418, 4.2, marks=pytest.mark.exhaustive),
        pytest.param("mobilenetv1_100", 160, 290, 4.2, marks=pytest.mark.exhaustive),
        ("mobilenetv1_100", 128, 186, 4.2),
        ("mobilenetv1_100_conv", 224, 4866, 29.3),
    ],
)
def test_tables_4_6_and_7_of_the_mobilenet_paper(backbone, size, macs, params):
    found = backbone_cost(backbone, size)
    assert found.macs / 1e6 == pytest.approx(macs, abs=1.4)  # the table cuts some off and rounds others
    assert round(found.params / 1e6, 1) == params


def test_parameters_after_folding():
    assert backbone_cost("mobilenetv1_100", 224).params == 4_221_032
    assert backbone_cost("mobilenetv1_100", 32).params == 4_221_032


def test_mobilenet_v2():
    v2 = backbone_cost("mobilenetv2_100", 224)
    assert v2.macs / 1e6 == pytest.approx(300, abs=1)
    assert round(v2.weights / 1e6, 2) == 3.47  # the table leaves batch norm and biases out


@pytest.mark.exhaustive
def test_vgg():
    vgg = backbone_cost("vgg16", 224)
    convolutions = sum(layer.macs for layer in vgg.layers if layer.output[1:] != (1, 1) and layer.kind == "conv 3x3")
    assert convolutions / 1e6 == pytest.approx(15_300, abs=50)
    assert round(vgg.params / 1e6) == 138


def test_the_toy_layer_of_the_lecture():
    plain = cost(nn.Conv2d(3, 5, 3, bias=False), (3, 6, 6))
    split = cost(separable(3, 5, padding=0), (3, 6, 6))
    assert plain.macs == 2160
    assert [layer.macs for layer in split.layers] == [432, 240]
    assert [layer.kind for layer in split.layers] == ["depthwise 3x3", "conv 1x1"]
    assert split.macs / plain.macs == pytest.approx(1 / 5 + 1 / 3**2, abs=1e-12)  # 1/N + 1/K^2


@pytest.mark.parametrize(
    ("backbone", "attends"),
    [
        ("mobilenetv3_small_100", False),
        ("resnet18", False),
        pytest.param("densenet121", False, marks=pytest.mark.exhaustive),
        ("test_vit", True),
    ],
)
def test_the_sum_is_what_torch_counts_when_the_net_runs(backbone, attends):
    net = timm.create_model(backbone).eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        net(torch.zeros(1, 3, 160, 160))
    found = cost(net, (3, 160, 160))
    assert found.macs == sum(layer.macs for layer in found.layers) == counter.get_total_flops() // 2
    assert any(layer.kind == "other" and layer.macs > 0 for layer in found.layers) == attends
    params = sum(p.numel() for p in net.parameters())
    if attends:
        assert (found.params, found.layers[-1].kind) == (params, "other")
    if backbone == "densenet121":  # its norms stand before the convolutions: most do not fold
        assert 0.99 * params < found.params <= params


def test_memory_of_a_net_that_can_be_done_by_hand():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU6(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1))
    found = cost(net, (3, 16, 16))
    picture, wide, narrow, pooled = (4 * n for n in (3 * 256, 8 * 256, 4 * 256, 4))
    assert found.activation_bytes == picture + wide + narrow + pooled  # the activation works in place
    assert found.peak_bytes == wide + narrow

    class Shortcut(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(8, 8, 3, padding=1)

        def forward(self, x):
            return x + self.conv(self.conv(x))

    kept = cost(Shortcut(), (8, 16, 16))
    assert kept.peak_bytes == 3 * wide  # the input waits for the sum
    assert kept.params == 8 * 8 * 9 + 8  # one layer, called twice
    assert kept.macs == 2 * 256 * 8 * 8 * 9


def test_what_three_levels_share_counts_once_and_what_is_folded_for_each_counts_for_each():
    spec = ModelSpec(
        run="r", dataset="d", task="detect", labels=["a", "b"], landmarks=[], pairs=[], skeleton=[], resize="letterbox",
        backbone="mobilenetv2_035", size=64,
        head={"kind": "anchor_free", "strides": [8, 16, 32], "neck": 32, "channels": 32},
        mean=[0.5] * 3, std=[0.5] * 3, predict={},
    )  # fmt: skip
    net = build(spec)
    parameters = sum(p.numel() for p in net.parameters())
    norms = sum(m.weight.numel() for m in net.modules() if isinstance(m, nn.BatchNorm2d))
    # scale and shift of a norm become one bias; a tower's convolutions have a norm per level to go into each
    copies = 2 * sum(c.weight.numel() for tower in (net.head.classify, net.head.locate) for c in tower.convs)
    assert cost(net, (3, 64, 64)).params == parameters - norms + copies


def test_the_command_prints_it(capsys):
    main(["cost", "--backbone", "mobilenetv1", "--width", "0.5", "--resolution", "160", "--json"])
    shown = json.loads(capsys.readouterr().out)
    assert shown["name"] == "mobilenetv1_050"
    assert (
        shown["macs"] == sum(layer["macs"] for layer in shown["layers"]) == backbone_cost("mobilenetv1_050", 160).macs
    )
    main(["cost", "--backbone", "mobilenetv1"])
    assert "569 M multiply-adds" in capsys.readouterr().out.replace("568.7", "569")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--backbone", "mobilenetv1", "--resolution", "16"], "resolution 16: expected at least 32"),
        (["--backbone", "mobilenetv9"], "backbone 'mobilenetv9' is not in timm; did you mean 'mobilenet"),
        (["--backbone", "resnet18", "--width", "0.5"], "--width: resnet18 has its own"),
        (["--run", "nowhere"], "models/nowhere"),
    ],
)
def test_what_cannot_be_counted_is_named(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["cost", *arguments])
    assert stopped.value.code == 1
    assert message in capsys.readouterr().err


def test_zero_size_is_an_error():
    with pytest.raises(InputError):
        backbone_cost("mobilenetv2_100", 0)


@pytest.mark.exhaustive
def test_candidates_cost_what_is_published_and_what_is_counted():
    considered = candidates(1000)
    macs = {(c.backbone, c.size): c.macs for c in considered}
    published = {
        ("mobilenetv2_100", 128): 99, ("mobilenetv2_075", 224): 209, ("mobilenetv2_050", 160): 50,
        ("mobilenetv2_035", 96): 11, ("mobilenetv1_050", 160): 77, ("mobilenetv1_025", 128): 14,
    }  # fmt: skip
    for key, million in published.items():
        assert macs[key] / 1e6 == pytest.approx(million, abs=1.1), key
    assert macs["mobilenetv2_035", 96] == backbone_cost("mobilenetv2_035", 96).macs
    assert [c.top1 for c in considered] == sorted((c.top1 for c in considered), reverse=True)


def test_a_budget_lists_what_fits_best_first(capsys, tmp_path, monkeypatch):
    few = {"mobilenetv1": (0.25, 0.5)}  # to trace all ten widths takes seconds; the lesser one first
    table = {family: {width: budget.PUBLISHED[family][width] for width in widths} for family, widths in few.items()}
    monkeypatch.setattr(budget, "PUBLISHED", table)
    plot = tmp_path / "plot.png"
    limits = ["--budget", "macs=60M,size=0.7MB,ms=1000", "--best", "2", "--labels", "3"]
    main(["cost", *limits, "--plot", str(plot), "--json"])
    said, errors = capsys.readouterr()
    assert errors.endswith(f"{plot}: what was considered, drawn\n")
    rows = json.loads(said)
    assert len(rows) == 2
    assert rows[0]["top1"] >= rows[1]["top1"]
    for row in rows:
        assert row["macs"] <= 60e6
        assert row["file_bytes"] <= 0.7e6
        assert 0 < row["ms"] <= 1000
    assert Image.open(plot).size[0] > 400
    before = plot.read_bytes()
    for words, message in (
        ([*limits, "--plot", str(plot)], "plot.png: is there already"),
        ([*limits, "--plot", str(tmp_path / "plot.pdf")], "plot.pdf: expected a name that ends in .png"),
        (["--backbone", "mobilenetv2_035", "--plot", str(tmp_path / "other.png")], "is drawn of a --budget"),
    ):
        with pytest.raises(SystemExit):
            main(["cost", *words])
        assert message in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["plot.png"]
    assert plot.read_bytes() == before
    main(["cost", "--budget", "macs=1M", "--labels", "3"])
    assert "none of the considered MobileNets fits" in capsys.readouterr().out


def test_each_that_a_budget_leaves_out_has_a_reason_and_the_plot_says_it(tmp_path, monkeypatch):
    sizes = [(300, 3, 3), (100, 9, 3), (90, 3, 9), (80, 3, 3), (70, 3, 3), (60, 3, 3), (50, 3, 3), (40, 3, 3)]
    nets = [Candidate("net", i, 90 - i, m * 10**6, p * 10**6, b * 10**6) for i, (m, p, b) in enumerate(sizes)]
    measured = {3: {"ms": 9.0}, 4: {"ms": 1.0}, 5: {"ms": 1.0, "file_bytes": 4_100_000}, 6: {"ms": 1.0}}
    monkeypatch.setattr(budget, "_measured", lambda c, labels: replace(c, **measured[c.size]))
    limits = {"macs": 200e6, "params": 5e6, "size": 4e6, "ms": 5.0}
    weighed = weigh(nets, limits, 3, 2)
    assert [c.size for c in weighed.fit] == [4, 6]
    assert {why: [c.size for c in own] for why, own in weighed.left_out.items()} == {
        "too many multiply-adds": [0],
        "too many parameters": [1],
        "the file is too large": [2, 5],
        "too slow on this machine": [3],
        "the best 2 are found already": [7],
    }
    drawn = []
    monkeypatch.setattr("pipeline.viz.plots._save", lambda figure, _: drawn.append(figure.axes[0]))
    write_plot(weighed, limits, tmp_path / "plot.png")
    write_plot(weighed, {"ms": 5.0}, tmp_path / "plot.png")
    said, unlimited = ([text.get_text() for text in axes.get_legend().get_texts()] for axes in drawn)
    assert {f"left out: {why}" for why in weighed.left_out} < set(said)
    assert said[-1] == "budget: 200 million multiply-adds" and drawn[0].lines[-1].get_xdata()[0] == 200
    assert unlimited == said[:-1]


@pytest.mark.exhaustive
def test_the_size_of_a_file_is_known_before_it_is_made():
    candidate = next(c for c in candidates(3) if c.backbone == "mobilenetv2_050" and c.size == 96)
    made = weigh([candidate], {}, 3, 1).fit[0]
    assert candidate.file_bytes == pytest.approx(made.file_bytes, rel=0.15)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mac=1M", "--budget mac=1M: unknown limit; did you mean 'macs'"),
        ("macs=many", "--budget macs=many: expected a number"),
        ("size=1.2.3MB", "expected a number"),
        ("ms", "--budget ms: expected a number"),
    ],
)
def test_a_budget_that_is_none_is_named(text, message):
    with pytest.raises(InputError, match=message):
        read_budget(text)


def test_units_of_a_budget():
    assert read_budget("macs=150M, size=1.5MB,ms=5,params=700k") == {
        "macs": 150e6,
        "size": 1.5e6,
        "ms": 5,
        "params": 7e5,
    }

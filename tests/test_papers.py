"""Published tables of nets: what is counted here is what was printed, or the reason says why not."""

import json
from collections.abc import Iterator
from dataclasses import fields
from typing import Any

import pytest
import torch

from pipeline.cli import main
from pipeline.experiments import papers
from pipeline.experiments.paper_nets import Counted, counted, net_of
from pipeline.graph.cost import backbone_cost

Tables = dict[str, list[dict[str, Any]]]


@pytest.fixture(scope="module")
def found() -> Tables:
    return papers.tables()


def is_printed(printed: float | None, ours: float) -> bool:
    """Whether `ours` is the printed figure to one of its last digit: some tables cut off, others round."""
    if printed is None:
        return True
    last = 10.0 ** -len(f"{printed:g}".partition(".")[2])
    return abs(ours - printed) <= last * (100 if printed >= 600 else 1)  # thousands of millions: of two or three digits


def costs(found: Tables) -> Iterator[dict[str, Any]]:
    yield from (row for rows in found.values() for row in rows if "macs" in row)


def test_what_has_no_reason_is_as_printed(found: Tables) -> None:
    off = [
        (row["name"], row["macs"], row["our_macs"], row["params"], row["our_params"])
        for row in costs(found)
        if not row["why"]
        and not (is_printed(row["macs"], row["our_macs"]) and is_printed(row["params"], row["our_params"]))
    ]
    assert off == []
    assert sum(not row["why"] for row in costs(found)) == 20


def test_what_has_a_reason_is_not_as_printed(found: Tables) -> None:
    rows = {row["name"]: row for row in costs(found) if row["why"]}
    assert list(rows) == ["SSD300", "SSD512", "YOLOv2", "YOLOv2, its file for 20 labels", "GoogLeNet", "VGG 16"]
    extra = {side: rows[f"SSD{side}"]["macs"] - rows[f"SSD{side}"]["our_macs"] for side in (300, 512)}
    assert all(800 <= value < 850 for value in extra.values()), "as the reason says, of both"
    assert is_printed(36.1, rows["SSD512"]["our_params"])
    assert rows["SSD300"]["our_params"] < 34.4
    assert is_printed(17_500, rows["YOLOv2"]["our_macs"])
    assert is_printed(50.7, rows["YOLOv2, its file for 20 labels"]["our_params"])
    with_5x5 = sum(
        m.branch3[1].conv.weight.numel() * 16 / 9 for n, m in net_of("googlenet").named_children() if "inc" in n
    )
    assert rows["GoogLeNet"]["our_params"] + with_5x5 / 1e6 == pytest.approx(7.0, abs=0.01)
    assert with_5x5 / 1e6 == pytest.approx(0.38, abs=0.005)
    linear = 25_088 * 4096 + 4096 * 4096 + 4096 * 1000
    assert rows["VGG 16"]["our_macs"] - linear / 1e6 == pytest.approx(15_300, abs=50)


def test_a_count_on_the_meta_device_is_that_of_the_graph_that_ships() -> None:
    net = net_of("mobilenetv2_035")
    assert all(p.device == torch.device("meta") for p in net.parameters())
    quick, whole = counted(net, 96), backbone_cost("mobilenetv2_035", 96)
    assert (quick.macs, quick.folded, quick.weights) == (whole.macs, whole.params, whole.weights)
    assert quick.weights < quick.folded < quick.trained < quick.kept


def test_activations_are_counted_between_blocks(found: Tables) -> None:
    rows = [row for rows in found.values() for row in rows if "side" in row]
    ours = {(row["name"], row["side"]): row["our_channels"] for row in rows}
    assert {side: ours["mobilenetv1_100", side] for side in (112, 56, 28, 14, 7, 1)} == {
        112: 64, 56: 128, 28: 256, 14: 512, 7: 1024, 1: 1024,
    }  # fmt: skip
    assert [ours["mobilenetv2_100", side] for side in (112, 56, 28, 14, 7, 1)] == [16, 24, 32, 96, 320, 1280]
    for row in rows:
        if row["channels"] == row["our_channels"] and row["kb"] != 199:
            assert row["our_kb"] == pytest.approx(row["kb"], rel=0.03, abs=0.6)
    assert [ours["shufflenet_2x_g3", side] for side in (112, 56, 28, 14, 7, 1)] == [48, 48, 480, 960, 1920, 1920]


def test_shufflenet_costs_what_its_paper_says() -> None:
    """524 M multiply-adds with three groups at twice the width (Zhang et al. 2017, table 5)."""
    assert counted(net_of("shufflenet_2x_g3"), 224).macs / 1e6 == pytest.approx(524, abs=0.5)


def test_the_command_prints_them(
    found: Tables, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(papers, "tables", lambda: found)
    main(["cost", "--table", "seeds"])
    lines = capsys.readouterr().out.splitlines()
    (row,) = (line.split() for line in lines if line.startswith("  MNet V2"))
    assert row[-7:] == ["800", "788.8", "4.3", "4.31", "folded", "22.1", "mAP"]
    assert max(map(len, lines)) <= 110
    assert {line.split()[1] for line in lines if line.startswith("counted ")} == {
        f"{one.name}:" for one in fields(Counted) if one.name != "macs"
    }
    main(["cost", "--table", "seeds", "--json"])
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(found))

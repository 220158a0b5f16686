"""Reports and costs as tables."""

from pathlib import Path

import pytest

from pipeline.core.files import write_json
from pipeline.core.sample import Object
from pipeline.experiments.tables import comparison_table, cost_table, layer_table, target_table, verify_table


def test_a_row_per_run_and_model(tmp_path: Path) -> None:
    target = {"tolerance": 0.03, "size_bytes": 700_000, "latency_ms": {"median": 1.5, "p95": 2.0}, "passed": True}
    verdict = {
        "main_metric": "AP",
        "float": {"task": "detect", "AP": 0.5},
        "targets": {
            "onnx_float": {**target, "metrics": {"AP": 0.5}, "drop": 0.0, "size_bytes": 2_800_000},
            "onnx_int8": {**target, "metrics": {"AP": 0.48}, "drop": 0.02},
        },
    }
    for run in ("pose", "herd"):
        write_json(tmp_path / "verify" / run / "verify.json", verdict)
    table = verify_table(tmp_path)
    assert table["run"].tolist() == ["herd"] * 3 + ["pose"] * 3
    assert table["model"].tolist()[:3] == ["float", "onnx_float", "onnx_int8"]
    int8 = table.iloc[2]
    assert (int8["figure"], int8["drop"], int8["latency_ms"]) == (0.48, 0.02, 1.5)
    assert int8["megabytes"] == pytest.approx(0.7)
    assert table["latency_ms"].isna().tolist() == [True, False, False] * 2


def test_without_reports_it_is_empty(tmp_path: Path) -> None:
    assert verify_table(tmp_path).empty


def test_costs_of_nets_with_published_accuracy_and_without() -> None:
    table = cost_table([("mobilenetv1_050", 160), ("resnet18", 64)])
    assert table["backbone"].tolist() == ["mobilenetv1_050", "resnet18"]
    assert table["M_params"].round(2).tolist() == [1.33, 11.68]
    assert table["top1"].iloc[0] == 59.1
    assert table["top1"].isna().tolist() == [False, True]


def test_layers_add_up_to_the_net() -> None:
    layers, net = layer_table("mobilenetv1_025", 96), cost_table([("mobilenetv1_025", 96)])
    assert layers["macs"].sum() / 1e6 == pytest.approx(net["M_macs"].item())
    assert layers["output"].iloc[0] == (8, 48, 48)


def test_a_comparison_is_its_csv_or_empty(tmp_path: Path) -> None:
    assert comparison_table(tmp_path, "actions").empty
    (tmp_path / "compare").mkdir()
    (tmp_path / "compare/actions.csv").write_text("model,accuracy\nvgg16,0.5\n")
    assert comparison_table(tmp_path, "actions").to_dict("records") == [{"model": "vgg16", "accuracy": 0.5}]


def test_the_target_of_a_grid_has_a_row_per_cell() -> None:
    objects = [Object("dog", (0.05, 0.1, 0.5, 0.5)), Object("cat", (0.7, 0.75, 0.2, 0.125))]
    table = target_table(objects, ["cat", "dog"], 4)
    assert list(table.columns) == ["p_c", "x", "y", "w", "h", "cat", "dog"]
    assert len(table) == 16
    filled = table[table.p_c > 0]
    assert list(filled.index) == [(1, 1), (3, 3)]
    assert filled.loc[(1, 1)].tolist() == pytest.approx([1, 0.2, 0.4, 0.5, 0.5, 0, 1], abs=1e-5)
    assert target_table([], ["cat"], 2).to_numpy().sum() == 0

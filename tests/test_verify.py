"""Good files pass; a file that is wrong fails for its own reason, and the report says which pictures show it."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from shipped import LABELS, PARAMS, TARGETS, relist, shipped, spec_of

from pipeline.errors import InputError
from pipeline.files import read_json, write_json
from pipeline.sample import Object, Sample, read_samples
from pipeline.verify import agreement, verify_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


@pytest.fixture
def exports(run: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(run / "exports", tmp_path / "exports")
    return tmp_path / "exports"


def verify(run: Path, exports: Path, report: Path, targets: list[str], tolerance: float = 0.1) -> str:
    params = PARAMS.model_copy(update={"targets": targets, "tolerance": tolerance})
    return verify_run(exports, run / "evaluated", run / "data" / "test", report, params)


def test_good_files_pass(run: Path, tmp_path: Path) -> None:
    line = verify(run, run / "exports", tmp_path / "report", TARGETS)
    assert "passed" in line
    verdict = read_json(tmp_path / "report" / "verify.json")
    assert verdict["passed"] is True
    assert verdict["main_metric"] == "accuracy"
    assert verdict["float"] == read_json(run / "evaluated" / "metrics.json")
    assert list(verdict["targets"]) == TARGETS
    for target, row in verdict["targets"].items():
        assert row["passed"] is True
        assert row["reason"] == ""
        assert row["drop"] == pytest.approx(verdict["float"]["accuracy"] - row["metrics"]["accuracy"], abs=1e-6)
        assert set(row["drop_per_class"]) == set(LABELS)
        assert row["agreement"]["label"] > 0.85
        assert row["size_ratio"] <= (0.35 if "int8" in target else 1)
        assert row["size_ratio_to"] == target.replace("int8", "float")
        assert 0 < row["latency_ms"]["median"] <= row["latency_ms"]["p95"]
        assert {"runs", "threads"} <= set(row["latency_ms"])
    assert verdict["targets"]["onnx_float"]["golden_difference"] < 1e-3
    steady = read_json(tmp_path / "report" / "metrics.json")
    assert steady["float"] == {"accuracy": verdict["float"]["accuracy"]}
    assert set(steady) == {"float", "cost", *TARGETS}
    assert steady["cost"]["macs"] > steady["cost"]["params"] > 1000
    assert {p.name for p in (tmp_path / "report").iterdir()} == {"verify.json", "metrics.json"}


def test_a_file_with_spoilt_scales_fails_and_shows_where(run: Path, exports: Path, tmp_path: Path) -> None:
    spoil(exports / "model.int8.onnx", "scales")
    relist(exports, "onnx_int8")
    with pytest.raises(InputError) as caught:
        verify(run, exports, tmp_path / "report", ["onnx_float", "onnx_int8"])
    verdict = read_json(tmp_path / "report" / "verify.json")
    row = verdict["targets"]["onnx_int8"]
    assert (verdict["passed"], row["passed"], verdict["targets"]["onnx_float"]["passed"]) == (False, False, True)
    assert row["drop"] > 0.1
    worst = max(row["drop_per_class"], key=lambda label: row["drop_per_class"][label])
    ids = {s.id for s in read_samples(run / "data" / "test")}
    for message in (str(caught.value), row["reason"]):
        assert "accuracy falls by" in message
        assert repr(worst) in message
        assert any(i in message for i in ids)
    assert "onnx_int8: " in str(caught.value)
    assert (tmp_path / "report" / "worst_onnx_int8.jpg").is_file()
    assert not (tmp_path / "report" / "worst_onnx_float.jpg").exists()


def test_swapped_labels_fail(run: Path, exports: Path, tmp_path: Path) -> None:
    card = read_json(exports / "model.json")
    write_json(exports / "model.json", {**card, "labels": [*LABELS[1:], LABELS[0]]})
    with pytest.raises(InputError, match="accuracy falls by"):
        verify(run, exports, tmp_path / "report", ["onnx_float"])


def test_a_float_file_of_other_weights_fails_on_the_golden_inputs(run: Path, exports: Path, tmp_path: Path) -> None:
    spoil(exports / "model.onnx", "one bias")
    relist(exports, "onnx_float")
    with pytest.raises(InputError, match="from the trained net on the golden inputs"):
        verify(run, exports, tmp_path / "report", ["onnx_float"])


def test_an_int8_file_as_large_as_the_float_one_fails(run: Path, exports: Path, tmp_path: Path) -> None:
    shutil.copyfile(exports / "model.onnx", exports / "model.int8.onnx")
    relist(exports, "onnx_int8")
    with pytest.raises(InputError, match=r"1\.0 of the size of onnx_float, expected at most 0\.35"):
        verify(run, exports, tmp_path / "report", ["onnx_int8"])


def test_without_a_float_file_the_trained_weights_are_the_measure(run: Path, exports: Path, tmp_path: Path) -> None:
    facts = read_json(exports / "export.json")
    del facts["targets"]["onnx_float"]
    write_json(exports / "export.json", facts)
    verify(run, exports, tmp_path / "report", ["onnx_int8"])
    row = read_json(tmp_path / "report" / "verify.json")["targets"]["onnx_int8"]
    weights = (run / "models" / "shapes" / "model.safetensors").stat().st_size
    assert row["size_ratio_to"] == "model.safetensors"
    assert row["size_ratio"] == pytest.approx(row["size_bytes"] / weights, abs=1e-4)


def test_a_drop_of_the_tolerance_passes_and_one_above_fails(run: Path, tmp_path: Path) -> None:
    report = tmp_path / "report"
    verify(run, run / "exports", report, ["onnx_float"], 0.0)  # float falls by exactly 0
    verify(run, run / "exports", report, ["onnx_int8"], 1.0)
    drop = read_json(report / "verify.json")["targets"]["onnx_int8"]["drop"]
    if drop > 0:
        verify(run, run / "exports", report, ["onnx_int8"], drop)
        with pytest.raises(InputError, match="falls by"):
            verify(run, run / "exports", report, ["onnx_int8"], drop - 1e-4)


def spoil(path: Path, what: str) -> None:
    """Change the numbers of an ONNX file and leave its form alone."""
    model = onnx.load(path)
    for constant in model.graph.initializer:
        values = onnx.numpy_helper.to_array(constant)
        if what == "scales" and values.dtype == np.float32 and values.ndim == 1 and len(values) > 8:
            values = np.full_like(values, 1e-6)
        elif what == "one bias" and values.dtype == np.float32 and values.shape == (3,):
            values = values + np.array([0.01, 0, 0], np.float32)
        else:
            continue
        constant.CopyFrom(onnx.numpy_helper.from_array(values, constant.name))
    onnx.save(model, path)


def found(*objects: tuple[str, tuple[float, float, float, float], float]) -> Sample:
    return Sample("0", "0.jpg", 10, 10, objects=[Object(label, box, score=score) for label, box, score in objects])


BOX = (0.1, 0.1, 0.4, 0.4)


@pytest.mark.parametrize(
    ("exact", "close", "expected"),
    [
        (found(), found(), {"objects": None, "objects_iou90": None, "mean_iou": None}),
        (found(("circle", BOX, 0.9)), found(("circle", BOX, 0.8)), {"objects": 1, "objects_iou90": 1, "mean_iou": 1}),
        (
            found(("circle", BOX, 0.9)),
            found(("square", BOX, 0.8)),
            {"objects": 0, "objects_iou90": 0, "mean_iou": None},
        ),
        (
            found(("circle", BOX, 0.9)),
            found(("circle", BOX, 0.1)),
            {"objects": 0, "objects_iou90": 0, "mean_iou": None},
        ),
        (
            found(("circle", BOX, 0.9)),
            found(("circle", (0.1, 0.1, 0.4, 0.3), 0.8)),
            {"objects": 1, "objects_iou90": 0, "mean_iou": 0.75},
        ),
    ],
)
def test_agreement_counts_the_objects_that_are_shown(exact: Sample, close: Sample, expected: dict[str, Any]) -> None:
    assert agreement(spec_of("localize"), [exact], [close]) == pytest.approx(expected)

"""Good files pass; a file that is wrong fails for its own reason, and the report says which images show it."""

import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from broken import (
    add_to_one_bias,
    broken,
    leave_mean_and_deviation_out,
    leave_normalization_out,
    ruin_landmarks,
    shuffle_labels,
    swap_channels,
    zero_scales,
    zero_scales_of_the_eighth_layer,
)
from exported_nets import exported_net, shipped_localizer
from PIL import Image
from shipped import LABELS, SIDE, TARGETS, VERIFY, relist, shipped, spec_of
from tflite import write_litert

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.core.sample import Object, Sample, read_dataset, read_samples, write_samples
from pipeline.core.spec import read_spec, write_spec
from pipeline.evaluation.evaluate import write_report
from pipeline.export.targets import executorch
from pipeline.metrics.metrics import score
from pipeline.models.nets import Deployed, load_model
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.targets import EXECUTORCH
from pipeline.runtimes.targets import TARGETS as TABLE
from pipeline.verification.comparison import agreement
from pipeline.verification.gate import size_of, too_large
from pipeline.verification.layer_noise import APART, EXACT
from pipeline.verification.params import VerifyParams
from pipeline.verification.verify import verify_run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


@pytest.fixture
def exports(run: Path, tmp_path: Path) -> Path:
    """A copy to spoil."""
    shutil.copytree(run / "exports", tmp_path / "exports")
    return tmp_path / "exports"


def verify(run: Path, exports: Path, report: Path, targets: list[str], tolerance: float = 0.1, **more: Any) -> str:
    """As if `exports` held only `targets` and the float files that these are held against."""
    only = Path(tempfile.mkdtemp(dir=report.parent)) / "exports"
    shutil.copytree(exports, only)
    facts = read_json(only / "export.json")
    wanted = {*targets, EXACT, *(TABLE[target].held_against for target in targets)}
    facts["targets"] = {name: row for name, row in facts["targets"].items() if name in wanted}
    write_json(only / "export.json", facts)
    params = VERIFY.model_copy(update={"tolerance": tolerance, **more})
    return verify_run(only, run / "evaluated", run / "data" / "test", report, params)


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
        assert row["size_ratio"] <= (0.35 if TABLE[target].int8 else 1)
        assert row["size_ratio_to"] == (TABLE[target].held_against or target)
        assert 0 < row["latency_ms"]["median"] <= row["latency_ms"]["p95"]
        assert {"runs", "threads"} <= set(row["latency_ms"])
        threads = row["latency_ms_by_threads"]
        assert {n: found["threads"] for n, found in threads.items()} == {"1": 1, "2": 2}
        assert all(0 < found["median"] <= found["p95"] for found in threads.values())
        assert row["size_bytes"] < row["peak_memory_bytes"] < 200e6
        assert row["drops"]["accuracy"] == row["drop"]
        assert {"macro_f1", "accuracy"} == set(row["drops"])
        assert row["tolerances"] == {"macro_f1": 0.1, "accuracy": 0.1}
        low, high = row["drop_interval"]
        assert low < row["drop"] < high and high - low < 0.2
        assert row["too_small"] is None
        assert sum(row["operators"].values()) > 17
        assert (row["int8_layers"] > 0.5, row["int8_operators"] > 0.4) == ((TABLE[target].int8,) * 2)
        assert ((row["delegated_operators"] or 0) > 0.9) == (TABLE[target].engine is EXECUTORCH)
    assert verdict["targets"]["onnx_float"]["golden_difference"] < 1e-3
    steady = read_json(tmp_path / "report" / "metrics.json")
    assert steady["float"] == {"accuracy": verdict["float"]["accuracy"]}
    assert set(steady) == {"float", "cost", *TARGETS}
    assert steady["cost"]["macs"] > steady["cost"]["params"] > 1000
    judged = read_json(tmp_path / "report" / "verdict.json")
    for target, row in verdict["targets"].items():
        gone = set(row) - set(judged["targets"][target])
        assert gone == {"latency_ms", "latency_ms_by_threads", "peak_memory_bytes"}, "what differs from run to run"
        assert judged["targets"][target] == {key: value for key, value in row.items() if key not in gone}
    assert {**judged, "targets": verdict["targets"]} == verdict
    files = {"verify.json", "verdict.json", "metrics.json", "predictions"}
    assert {p.name for p in (tmp_path / "report").iterdir()} == files
    for target, row in verdict["targets"].items():
        predicted = read_samples(tmp_path / "report/predictions" / target)
        figures = score("classify", read_samples(run / "data/test"), predicted, read_dataset(run / "data"))
        assert figures == row["metrics"]
        assert all((tmp_path / "report/predictions" / target / p.file_name).is_file() for p in predicted)


@pytest.mark.parametrize(
    ("target", "how", "cause"),
    [
        ("onnx_int8", zero_scales, r"[1-9]\d* of its \d+ scales are 0; it answers the same whatever the image"),
        ("onnx_int8", swap_channels, "red and blue are swapped"),
        ("onnx_float", swap_channels, "red and blue are swapped"),
        ("onnx_int8", leave_normalization_out, "the normalization is left out"),
        ("onnx_float", leave_normalization_out, "the normalization is left out"),
        ("onnx_int8", leave_mean_and_deviation_out, "mean and standard deviation are left out of the normalization"),
        ("onnx_int8", shuffle_labels, "the labels are in another order: it says 'square' for 'circle', 'circle' for "),
        ("onnx_float", shuffle_labels, "the labels are in another order: it says 'square' for 'circle', 'circle' for "),
    ],
)
def test_a_broken_file_fails_and_its_mistake_is_named(
    run: Path, exports: Path, tmp_path: Path, target: str, how: Callable[[Any], None], cause: str
) -> None:
    broken(exported_file(exports, target), how)
    relist(exports, target)
    with pytest.raises(InputError, match=f"{target}: labels: accuracy falls by .*{cause}") as caught:
        verify(run, exports, tmp_path / "report", [target])
    assert "`runs.shapes.verify.tolerance` says how far" in str(caught.value)
    row = read_json(tmp_path / "report" / "verify.json")["targets"][target]
    assert row["passed"] is False
    assert len(row["causes"]) == cause.count("; ") + 1, "no other mistake is named"
    assert Image.open(tmp_path / "report" / f"worst_{target}.jpg").width > 1000


def test_a_file_that_falls_names_class_and_pictures_and_draws_them(run: Path, exports: Path, tmp_path: Path) -> None:
    broken(exports / "model.int8.onnx", zero_scales)
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
        assert repr(worst) in message
        assert any(i in message for i in ids)
    assert not (tmp_path / "report" / "worst_onnx_float.jpg").exists()


def test_the_first_layer_where_float_and_int8_part_is_found(run: Path, exports: Path, tmp_path: Path) -> None:
    zero_scales_of_the_eighth_layer(exported_file(exports, "onnx_int8"))
    relist(exports, "onnx_int8")
    with pytest.raises(InputError, match="accuracy falls by"):
        verify(run, exports, tmp_path / "report", ["onnx_int8"], -1.0)
    row = read_json(tmp_path / "report" / "verify.json")["targets"]["onnx_int8"]
    assert row["sqnr_of"] == "layers"
    assert len(row["sqnr_db"]) == 18, "MobileNetV1's convolutions, and its linear layer"
    assert row["first_layer_apart"]["name"] == list(row["sqnr_db"])[7]
    assert row["first_layer_apart"]["sqnr_db"] < 1
    assert min(list(row["sqnr_db"].values())[:7]) > APART
    assert Image.open(tmp_path / "report" / "sqnr_onnx_int8.png").width > 400


def test_swapped_labels_beside_a_good_file_fail(run: Path, exports: Path, tmp_path: Path) -> None:
    card = read_spec(exports / "model.json")
    write_spec(exports / "model.json", replace(card, labels=[*LABELS[1:], LABELS[0]]))
    with pytest.raises(InputError, match=r"accuracy falls by .*the labels are in another order"):
        verify(run, exports, tmp_path / "report", ["onnx_float"])


def test_a_float_file_of_other_weights_fails_on_the_golden_inputs(run: Path, exports: Path, tmp_path: Path) -> None:
    broken(exports / "model.onnx", add_to_one_bias)
    relist(exports, "onnx_float")
    with pytest.raises(InputError, match="from the trained net on the golden inputs"):
        verify(run, exports, tmp_path / "report", ["onnx_float"])


@pytest.mark.parametrize("kind", ["onnx", pytest.param("executorch", marks=pytest.mark.exhaustive)])
def test_a_float_file_by_the_name_of_an_int8_one_fails(run: Path, exports: Path, tmp_path: Path, kind: str) -> None:
    shutil.copyfile(exported_file(exports, f"{kind}_float"), exported_file(exports, f"{kind}_int8"))
    relist(exports, f"{kind}_int8")
    whole = exported_file(exports, f"{kind}_float").stat().st_size
    most = int(0.35 * whole) + 256 * 1024
    message = (
        f"none of its layers is in int8.*; {whole} bytes, expected at most {most}: "
        rf"verify\.size_ratio is 0\.35 of {kind}_float with {whole} bytes"
    )
    with pytest.raises(InputError, match=message):
        verify(run, exports, tmp_path / "report", [f"{kind}_int8"])
    with pytest.raises(InputError, match="none of its layers is in int8"):
        verify(run, exports, tmp_path / "report", [f"{kind}_int8"], size_ratio=1.0)


@pytest.mark.exhaustive
@pytest.mark.parametrize("engine", ["onnx", "executorch"])
def test_a_small_detector_is_not_too_large_for_what_is_no_weight(
    tmp_path_factory: pytest.TempPathFactory, engine: str
) -> None:
    """Its graph and its scales are a tenth of its bytes and more, and no smaller in int8."""
    sizes = {t: exported_net(tmp_path_factory, "anchor_free", t)[0].stat().st_size for t in TARGETS if engine in t}
    made = {"targets": {target: {"size_bytes": size} for target, size in sizes.items()}}
    target, usual = f"{engine}_int8", VerifyParams().size_ratio
    path, _ = exported_net(tmp_path_factory, "anchor_free", target)
    assert size_of(made, target, path)["size_ratio"] > usual
    assert too_large(made, target, sizes[target], usual) == []
    assert too_large(made, target, sizes[target.replace("int8", "float")], usual)


@pytest.mark.parametrize("whole", [78_000, 284_000, 2_000_000])
def test_a_float_file_by_an_int8_name_is_too_large_however_small(whole: int) -> None:
    made = {"targets": {"onnx_float": {"size_bytes": whole}, "onnx_int8": {"size_bytes": whole}}}
    assert too_large(made, "onnx_int8", whole, 0.35)
    assert too_large(made, "onnx_int8", int(whole * 0.4), 0.35) == []


@pytest.mark.parametrize("int8", [True, False])
def test_litert_is_held_to_layers_in_int8_whatever_its_name(
    run: Path, exports: Path, tmp_path: Path, int8: bool
) -> None:
    write_litert(exports / "model.int8.tflite", SIDE, len(LABELS), int8)
    facts = read_json(exports / "export.json")
    facts["targets"]["litert"] = {"file": "model.int8.tflite"}
    write_json(exports / "export.json", facts)
    relist(exports, "litert")
    if int8:
        assert "passed" in verify(run, exports, tmp_path / "report", ["litert"], 1.0)
    else:
        with pytest.raises(InputError, match="litert: none of its layers is in int8"):
            verify(run, exports, tmp_path / "report", ["litert"], 1.0)
    row = read_json(tmp_path / "report" / "verify.json")["targets"]["litert"]
    assert (row["int8_layers"], row["passed"]) == (int(int8), int8)


@pytest.mark.exhaustive
def test_an_executorch_file_that_takes_bgr_is_told(run: Path, exports: Path, tmp_path: Path) -> None:
    class Swapped(Deployed):
        def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return super().forward(image.flip(3))

    wrong = Swapped(*load_model(run / "models" / "shapes"))
    picture = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    executorch.export_float(wrong, [picture], exports / "model.pte", ["logits"])
    relist(exports, "executorch_float")
    with pytest.raises(InputError, match=r"executorch_float: labels: accuracy falls by .*red and blue are swapped"):
        verify(run, exports, tmp_path / "report", ["executorch_float"])
    row = read_json(tmp_path / "report" / "verify.json")["targets"]["executorch_float"]
    assert row["sqnr_of"] == "outputs", "ExecuTorch shows no layers"
    assert list(row["sqnr_db"]) == ["logits"] and row["sqnr_db"]["logits"] < APART


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
        verify(run, run / "exports", report, ["onnx_int8"], drop, tolerances={"macro_f1": 1.0})
        with pytest.raises(InputError, match="falls by"):
            verify(run, run / "exports", report, ["onnx_int8"], drop - 1e-4)


@pytest.fixture(scope="module")
def localizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped_localizer(tmp_path_factory)


def test_ruined_landmarks_fail_whatever_the_boxes(localizer: Path, tmp_path: Path) -> None:
    """The main metric, mean IoU, does not see them."""
    exports, report = tmp_path / "exports", tmp_path / "report"
    shutil.copytree(localizer / "exports", exports)
    assert "passed" in verify(localizer, exports, report, ["onnx_int8"], 0.2)
    good = read_json(report / "verify.json")["targets"]["onnx_int8"]
    assert set(good["tolerances"]) == {"mean_iou", "accuracy", "presence_accuracy", "nme", "pck"}
    broken(exports / "model.int8.onnx", ruin_landmarks)
    relist(exports, "onnx_int8")
    with pytest.raises(InputError, match=r"onnx_int8: landmarks: nme rises by .* from 0\.0") as caught:
        verify(localizer, exports, report, ["onnx_int8"], 0.2)
    assert "landmarks: pck falls by" in str(caught.value)
    assert "boxes" not in str(caught.value)
    row = read_json(report / "verify.json")["targets"]["onnx_int8"]
    assert row["drop"] == good["drop"]
    assert row["drops"]["pck"] > 0.2
    verify(localizer, exports, report, ["onnx_int8"], 0.2, tolerances={"pck": 1.0, "nme": 1.0})
    with pytest.raises(InputError, match=r"landmarks: pck falls by \d\.\d{4} from 1\.0000, tolerance 0\.05"):
        verify(localizer, exports, report, ["onnx_int8"], 1.0, tolerances={"pck": 0.05})


def test_where_the_float_model_finds_nothing_no_file_is_said_to_pass(localizer: Path, tmp_path: Path) -> None:
    exports, report, evaluated = (tmp_path / name for name in ("exports", "report", "evaluated"))
    shutil.copytree(localizer / "exports", exports)
    shutil.copytree(localizer / "data", tmp_path / "data")
    spec = read_spec(exports / "model.json")
    spec.predict["score"] = 1.0
    write_spec(exports / "model.json", spec)
    truth = read_samples(tmp_path / "data/test")
    evaluated.mkdir()
    write_report(evaluated, spec, tmp_path / "data/test", truth, [replace(s, objects=[]) for s in truth])
    nothing = "nothing is found: no object has a score of 1 or more"
    line = verify(tmp_path, exports, report, ["onnx_int8"], 0.2)
    assert f" images: nothing to lose, as {nothing}" in line and "passed" not in line
    for name in ("verify.json", "verdict.json"):
        verdict = read_json(report / name)
        row = verdict["targets"]["onnx_int8"]
        assert verdict["nothing"] == nothing and row["drop"] == 0
        assert (row["drop_interval"], row["too_small"]) == (None, None), "a fall that cannot be lies nowhere"
        assert row["drop_intervals"].keys() <= row["drops"].keys() and not any(row["drop_intervals"].values())


def test_a_tolerance_of_a_figure_that_the_split_does_not_give_is_an_error(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"verify\.tolerances\.clip_accuracy: .*did you mean 'accuracy'"):
        verify(run, run / "exports", tmp_path / "report", ["onnx_float"], tolerances={"clip_accuracy": 0.1})


def first_of(run: Path, number: int, folder: Path) -> Path:
    """A copy of `run` with so many test images."""
    shutil.copytree(run / "data", folder / "data")
    spec, test = read_spec(run / "exports" / "model.json"), folder / "data" / "test"
    samples, said = read_samples(test), read_samples(run / "evaluated" / "predictions")
    write_samples(test, samples[:number])
    (folder / "evaluated").mkdir()
    write_report(folder / "evaluated", spec, test, samples[:number], said[:number])
    return folder


def test_a_verdict_on_twelve_images_says_what_it_cannot_tell(run: Path, tmp_path: Path) -> None:
    few = first_of(run, 12, tmp_path / "few")
    told = r"12 images are too few to tell a fall of 0\.03; about \d+ can tell it"
    line = verify(few, run / "exports", tmp_path / "report", ["onnx_float"], 0.03)
    assert re.search(rf"on 12 images: passed; but the test split is small: onnx_float: {told}$", line)
    row = read_json(tmp_path / "report" / "verdict.json")["targets"]["onnx_float"]
    assert re.fullmatch(told, row["too_small"])
    assert row["drop_interval"][1] > 0.03, "though all twelve are answered alike"
    line = verify(few, run / "exports", tmp_path / "report", ["onnx_float"], 0.03, small_test="pass")
    assert line.endswith("on 12 images: passed")
    with pytest.raises(InputError, match=f"onnx_float: {told}"):
        verify(few, run / "exports", tmp_path / "report", ["onnx_float"], 0.03, small_test="fail")


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

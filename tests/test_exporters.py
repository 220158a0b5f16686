"""What the exported files promise: one input contract, the float net's answers, the same bytes, no local paths."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from exported_nets import exported_net, images_of_test, net_of, warmed
from PIL import Image
from shared import exported_here
from shipped import LABELS, PARAMS, SIDE, TARGETS, shipped, spec_of

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.core.sample import Object, Sample, read_samples, write_samples
from pipeline.core.spec import read_spec, write_spec
from pipeline.export.bundle import replay as bundled_replay
from pipeline.export.calibration import blank, choose, described
from pipeline.export.card.contract import preprocessing
from pipeline.export.export import export_run
from pipeline.graph.folding import folded
from pipeline.ops.preprocess import FILL, resize
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.targets import TARGETS as TABLE
from pipeline.runtimes.targets import open_runtime, target_row
from pipeline.verification import pte
from pipeline.verification.pte import read_pte


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """uint8 [48, S, S, 3]: the test split."""
    return images_of_test(tmp_path_factory)


@pytest.mark.parametrize("target", ["onnx_float", "executorch_float"])
def test_float_files_answer_as_the_net_does(run: Path, pictures: np.ndarray, target: str) -> None:
    expected = open_runtime("torch", run / "models" / "shapes").run(pictures)
    found = open_runtime(target, exported_file(run / "exports", target)).run(pictures)
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("target", ["onnx_int8", "executorch_int8"])
def test_int8_files_are_close_and_small(run: Path, pictures: np.ndarray, target: str) -> None:
    expected = open_runtime("torch", run / "models" / "shapes").run(pictures)[0]
    found = open_runtime(target, exported_file(run / "exports", target)).run(pictures)[0]
    assert (expected.argmax(1) == found.argmax(1)).mean() > 0.85
    assert np.sqrt(((expected - found) ** 2).mean()) < 0.4 * expected.std()
    whole = exported_file(run / "exports", str(TABLE[target].held_against)).stat().st_size
    assert exported_file(run / "exports", target).stat().st_size <= 0.35 * whole


@pytest.mark.parametrize("target", ["onnx_float", "onnx_int8"])
def test_onnx_takes_uint8_rgb_and_names_its_outputs(run: Path, target: str) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(exported_file(run / "exports", target))
    (image,) = session.get_inputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", [1, SIDE, SIDE, 3])
    assert [o.name for o in session.get_outputs()] == ["logits"]


@pytest.mark.parametrize("target", ["executorch_float", "executorch_int8"])
def test_executorch_takes_uint8_rgb(run: Path, target: str) -> None:
    from executorch.runtime import Runtime

    program = Runtime.get().load_program(exported_file(run / "exports", target))
    meta = program.metadata("forward")
    assert meta.num_inputs() == 1
    assert meta.input_tensor_meta(0).sizes() == (1, SIDE, SIDE, 3)
    assert meta.input_tensor_meta(0).dtype() == 0  # ExecuTorch's number of uint8
    assert meta.num_outputs() == 1
    facts = read_json(run / "exports" / "export.json")["targets"][target]
    assert facts["outside_backend"] in ([], ["as_strided_copy"])


def test_files_name_nothing_of_this_machine(run: Path) -> None:
    for target in TARGETS:
        content = exported_file(run / "exports", target).read_bytes()
        for word in (Path.cwd(), Path.home(), run, "site-packages", "stack_trace"):
            assert str(word).encode() not in content, f"{target} holds {word}"


def test_the_same_model_gives_the_same_bytes(run: Path, tmp_path: Path) -> None:
    params = PARAMS.model_copy(update={"targets": ["onnx_float", "onnx_int8"]})
    with exported_here():
        export_run(run / "models" / "shapes", run / "data" / "train", tmp_path / "again", params)
    for name in ("model.onnx", "model.int8.onnx", "golden/golden.npz", "golden/0.png", "labels.txt"):
        assert (tmp_path / "again" / name).read_bytes() == (run / "exports" / name).read_bytes(), name
    once, again = (read_json(folder / "preprocess.json") for folder in (run / "exports", tmp_path / "again"))
    assert again == {**once, "runtimes": {target: once["runtimes"][target] for target in params.targets}}


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_folding_keeps_the_function_and_shares_no_weights(pictures: np.ndarray, task: str) -> None:
    net = warmed(spec_of(task), pictures)
    graph = folded(net, [pictures[:1]])
    with torch.no_grad():
        for a, b in zip(net(torch.from_numpy(pictures[:1])), graph(torch.from_numpy(pictures[:1])), strict=True):
            torch.testing.assert_close(b, a, atol=1e-4, rtol=1e-4)
    targets = [str(node.target) for node in graph.graph.nodes]
    assert not any("batch_norm" in name for name in targets)
    weights = [str(node.args[1].target) for node in graph.graph.nodes if "conv2d" in str(node.target)]
    assert len(set(weights)) == len(weights)


class Pooled(torch.nn.Module):
    """Pads with minus infinity on one side before a max pooling, as timm does for nets that come from TensorFlow."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = torch.nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        x = self.conv(image.permute(0, 3, 1, 2).float() / 255) - 1  # below zero: a padding of zeros would win
        padded = torch.nn.functional.pad(x, (0, 1, 0, 1), value=float("-inf"))
        return (torch.nn.functional.max_pool2d(padded, 3, 2).mean((2, 3)),)


@pytest.mark.parametrize("target", ["onnx_float", "onnx_int8", "executorch_int8"])
def test_a_pooling_that_is_padded_with_infinity_ships(pictures: np.ndarray, tmp_path: Path, target: str) -> None:
    torch.manual_seed(0)
    net = Pooled().eval()
    file, export = target_row(target).file, target_row(target).export
    export(net, [p[None] for p in pictures[:4]], tmp_path / file, ["logits"])
    found = open_runtime(target, tmp_path / file).run(pictures[:4])[0]
    with torch.no_grad():
        expected = net(torch.from_numpy(pictures[:4]))[0].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5 if target == "onnx_float" else 0.05)


def test_a_detector_with_a_shared_head_holds_in_int8(
    pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Quantizers that meet one convolution three times must not leave two of them out or give up."""
    net, _ = net_of("anchor_free", pictures)
    path, _ = exported_net(tmp_path_factory, "anchor_free", "onnx_int8")
    found = open_runtime("onnx_int8", path).run(pictures[:1])
    assert [o.shape for o in found] == [tuple(o.shape) for o in net(torch.from_numpy(pictures[:1]))]
    floats = sum(p.numel() for p in net.parameters()) * 4
    assert path.stat().st_size < 0.45 * floats  # a net this narrow has many scales for its weights


class Constant(torch.nn.Module):
    """A layer in it gives all but the same for every image, with a hair of noise far from zero."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = torch.nn.Conv2d(3, 8, 3), torch.nn.Conv2d(8, 4, 1)
        torch.nn.init.normal_(self.conv.weight, std=1e-9)
        torch.nn.init.constant_(torch.as_tensor(self.conv.bias), 3.0)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor]:
        return (self.last(self.conv(image.permute(0, 3, 1, 2).float())).mean((2, 3)),)


def test_a_tensor_that_is_all_but_constant_ships(pictures: np.ndarray, tmp_path: Path) -> None:
    file, export = target_row("onnx_int8").file, target_row("onnx_int8").export
    net = Constant().eval()
    export(net, [p[None] for p in pictures[:4]], tmp_path / file, ["logits"])
    found = open_runtime("onnx_int8", tmp_path / file).run(pictures[:4])[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, net(torch.from_numpy(pictures[:4]))[0].numpy(), atol=0.1)


@pytest.mark.exhaustive  # the chain of the tests has one
@pytest.mark.parametrize("kind", ["anchor_free", "yolov3", "ssdlite"])
@pytest.mark.parametrize("target", ["executorch_float", "executorch_int8"])
def test_no_operator_of_a_detector_is_left_outside_the_delegate(
    tmp_path_factory: pytest.TempPathFactory, target: str, kind: str
) -> None:
    _, facts = exported_net(tmp_path_factory, kind, target)
    assert facts["outside_backend"] == []


@pytest.mark.parametrize("target", ["onnx_int8", pytest.param("executorch_int8", marks=pytest.mark.exhaustive)])
def test_landmarks_are_placed_in_their_box_in_float(
    pictures: np.ndarray, tmp_path_factory: pytest.TempPathFactory, target: str
) -> None:
    """The int8 file's landmarks lie in its own box exactly where its layers say: no rounding to 8 bits after them."""
    localizer = net_of("localize", pictures)[0].net
    path, _ = exported_net(tmp_path_factory, "localize", target)
    _, box, _, points = open_runtime(target, path).run(pictures[8:16])
    expected = box[:, None, :2] + box[:, None, 2:] * localizer.shape.numpy()
    np.testing.assert_allclose(points.reshape(8, 2, 2), expected, atol=1e-4)


def test_the_folder_says_what_an_app_needs(run: Path) -> None:
    exports = run / "exports"
    assert (exports / "labels.txt").read_text().split() == LABELS
    assert read_json(exports / "preprocess.json")["input"]["shape"] == [1, SIDE, SIDE, 3]
    facts = read_json(exports / "export.json")
    assert facts["calibration"]["split"] == "train"
    assert facts["calibration"]["asked"] == facts["calibration"]["used"] == 24
    trained_on = {s.id for s in read_samples(run / "data" / "train")}
    assert set(facts["calibration"]["ids"]) <= trained_on
    assert "reports/verify/shapes/verify.json" in (exports / "README.md").read_text()
    assert {p.relative_to(exports / "samples").parent.name for p in exports.glob("samples/*/*")} == {"android", "ios"}


def test_golden_pictures_resize_to_the_golden_inputs(run: Path) -> None:
    golden = run / "exports" / "golden"
    with np.load(golden / "golden.npz") as arrays:
        for picture, expected in zip(read_json(golden / "golden.json")["images"], arrays["image"], strict=True):
            found, _ = resize(Image.open(golden / picture), SIDE, "stretch")
            np.testing.assert_array_equal(found, expected)


def test_golden_answers_are_decoded(run: Path) -> None:
    golden = run / "exports" / "golden"
    with np.load(golden / "golden.npz") as arrays:
        best = [LABELS[i] for i in arrays["logits"].argmax(axis=1)]
    rows = read_json(golden / "decoded.json")
    assert [row["label"] for row in rows] == best
    assert [row["file_name"] for row in rows] == read_json(golden / "golden.json")["images"]
    assert {row["id"] for row in rows} <= {s.id for s in read_samples(run / "data" / "train")}


def replay(folder: Path) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-I", folder / "replay.py"], cwd=folder.parent, capture_output=True, text=True,
        check=False, env=stranger(folder.parent),
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def stranger(home: Path) -> dict[str, str]:
    """The environment of someone with a home of their own who has told no library anything."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
    return {**kept, "HOME": str(home / "home")}


def test_onnx_runtime_keeps_and_sends_nothing_of_the_machine(run: Path, tmp_path: Path) -> None:
    """Left alone it keeps a device's id in the home folder, and looks up a host to tell of it."""
    loads = "import sys; from pathlib import Path; from pipeline.runtimes.on_onnx import OnnxRuntime"
    code = f"{loads}; OnnxRuntime(Path(sys.argv[1]), 1)"
    command = [sys.executable, "-c", code, str(run / "exports/model.onnx")]
    subprocess.run(command, cwd=ROOT, check=True, env=stranger(tmp_path))
    assert not list(tmp_path.rglob("*onnxruntime*"))


def test_the_folder_proves_itself_without_this_project(run: Path, tmp_path: Path) -> None:
    whole = shutil.copytree(run / "exports", tmp_path / "whole")
    code, said = replay(whole)
    assert code == 0, said
    assert said.count("answers as it should") == len(TARGETS)
    assert "4 images: the resize gives the golden inputs" in said
    assert not list(tmp_path.rglob("home/**/*onnxruntime*"))
    source = (whole / "replay.py").read_text()
    used = {name.split(".")[0] for name in re.findall(r"^ *(?:import|from) ([\w.]+)", source, re.MULTILINE)}
    runtimes = {"onnxruntime", "executorch", "torch", "ai_edge_litert"}
    assert used - set(sys.stdlib_module_names) == {"numpy", "PIL", *runtimes}
    (whole / "golden" / "golden.npz").unlink()
    assert replay(whole)[0] == 1


@pytest.mark.parametrize("rule", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize("size", [(64, 64), (200, 33), (31, 190), (5, 7), (1, 300)])
def test_the_script_resizes_as_training_does(rule: str, size: tuple[int, int]) -> None:
    image = Image.effect_noise(size, 90).convert("RGB")
    contract = preprocessing(replace(spec_of("classify"), resize=rule))
    np.testing.assert_array_equal(bundled_replay.canvas(image, contract)[0], resize(image, SIDE, rule)[0])


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        ("picture", r"WRONG golden/0.png: up to \d+ of 255 from the golden input"),
        ("bytes", r"WRONG model.onnx: not the file that the golden answers are of"),
        ("gone", r"WRONG model.int8.onnx: not there"),
        ("cut short", r"WRONG .*: a file of the contract is missing, cut short or of another run"),
        ("another run", r"WRONG .*: a file of the contract is missing, cut short or of another run: KeyError"),
        ("answers", r"WRONG model.onnx: output logits is [\d.]+ of its range off, expected 0.001"),
    ],
)
def test_a_folder_that_was_harmed_does_not_prove_itself(
    run: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    harm: str,
    said: str,
) -> None:
    folder = shutil.copytree(run / "exports", tmp_path / "harmed")
    if harm == "picture":
        Image.new("RGB", (SIDE, SIDE)).save(folder / "golden" / "0.png")
    elif harm == "bytes":
        (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes() + b" ")
    elif harm == "cut short":
        golden = folder / "golden" / "golden.npz"
        golden.write_bytes(golden.read_bytes()[:5000])
    elif harm == "another run":
        np.savez(folder / "golden" / "onnx_float.npz", presence=np.zeros((4, 1), np.float32))
    elif harm == "gone":
        (folder / "model.int8.onnx").unlink()
    else:
        with np.load(folder / "golden" / "onnx_float.npz") as arrays:
            np.savez(folder / "golden" / "onnx_float.npz", logits=np.roll(arrays["logits"], 1, axis=1))
    monkeypatch.setattr(sys, "argv", ["replay.py", str(folder)])
    assert bundled_replay.main() == 1
    found = capsys.readouterr().out
    assert re.search(said, found), found


def test_a_runtime_that_is_not_installed_is_named(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "argv", ["replay.py", str(run / "exports")])
    assert bundled_replay.main() == 1
    said = capsys.readouterr().out
    assert "model.onnx: left out, onnxruntime is not installed" in said
    assert "nothing was run: install one of ai_edge_litert, executorch, onnxruntime" in said


def kind(name: str, label: str | None, objects: list[str] | None = None) -> Sample:
    found = [Object(o, (0.1, 0.1, 0.2 + 0.1 * i, 0.2)) for i, o in enumerate(objects or [])]
    return Sample(name, f"{name}.jpg", 10, 10, label=label, objects=found)


@pytest.mark.parametrize(
    ("samples", "count", "expected"),
    [
        ([kind(f"{i}", "a") for i in range(4)], 9, ["0", "1", "2", "3"]),
        ([kind(f"{i}", "a") for i in range(9)], 3, ["1", "4", "7"]),
        ([kind(f"{i}", "a") for i in range(8)] + [kind("x", "b")], 4, ["1", "4", "6", "x"]),
        ([kind(f"a{i}", "a") for i in range(6)] + [kind(f"b{i}", "b") for i in range(6)], 4, ["a1", "a4", "b1", "b4"]),
        ([kind("0", None), kind("1", None, ["a"]), kind("2", None, ["a", "b"])], 3, ["0", "1", "2"]),
    ],
)
def test_calibration_takes_every_label_evenly(samples: list[Sample], count: int, expected: list[str]) -> None:
    assert [s.id for s in choose(samples, count)] == expected
    assert [s.id for s in choose(samples[::-1], count)] == expected


@pytest.mark.parametrize(
    ("kept", "said"),
    [
        ([kind(f"{i}", "circle") for i in range(5)], "all calibration images are of 'circle'"),
        ([kind(f"{i}", LABELS[i % 3]) for i in range(4)], "5 calibration images were asked for, train has 4"),
    ],
)
def test_what_is_thin_of_calibration_is_told_apart(kept: list[Sample], said: str) -> None:
    (warning,) = described(kept, 5, spec_of("classify"))["warnings"]
    assert warning.startswith(said)


def test_calibration_that_is_thin_is_said(run: Path, tmp_path: Path) -> None:
    train = shutil.copytree(run / "data" / "train", tmp_path / "train")
    write_samples(train, [s for s in read_samples(train) if s.label == "circle"][:4])
    params = PARAMS.model_copy(update={"targets": ["onnx_float"], "calibration_images": 5})
    with exported_here():
        line = export_run(run / "models" / "shapes", train, tmp_path / "out", params)
    facts = read_json(tmp_path / "out" / "export.json")["calibration"]
    assert line.endswith("; ".join(facts["warnings"]))
    assert len(facts["warnings"]) == 2
    assert sum(facts["labels"].values()) == facts["used"] == 4


def test_calibration_that_shows_nothing_is_said() -> None:
    canvases = np.zeros((3, 1, 8, 8, 3), np.uint8)
    assert "all 3 calibration images are of one colour each" in blank(canvases)[0]
    canvases[..., 2] = 255
    canvases[:, 0, :2] = FILL  # an image that is wider than high, in a letterbox
    assert blank(canvases) != []
    canvases[2, 0, 4, 4] = 200
    assert blank(canvases) == []


@pytest.mark.parametrize("left", [10, 50, 79])
def test_an_executorch_program_that_is_cut_short_is_named(
    left: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.pte"
    whole = bytes(16) + (60).to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(48)  # a program, then segments
    program = {"segments": [{"offset": 0, "size": 16}]}
    monkeypatch.setattr(pte, "_in_words", lambda content, schema: program)
    path.write_bytes(whole)
    assert read_pte(path).segments == bytes(16)
    path.write_bytes(whole[:left])
    with pytest.raises(InputError, match=r"model.pte: not an ExecuTorch program, or one cut short: found \d+ bytes"):
        read_pte(path)


def test_an_empty_train_split_is_an_error_that_names_it(run: Path, tmp_path: Path) -> None:
    write_samples(tmp_path, [])
    with pytest.raises(InputError, match=str(tmp_path)):
        export_run(run / "models" / "shapes", tmp_path, tmp_path / "out", PARAMS)
    assert not (tmp_path / "out").exists()


def test_without_what_to_show_nothing_is_exported(run: Path, tmp_path: Path) -> None:
    model = shutil.copytree(run / "models" / "shapes", tmp_path / "model")
    write_spec(model / "model.json", replace(read_spec(model / "model.json"), predict={}))
    with pytest.raises(InputError, match=r"model\.json: no block 'predict'"):
        export_run(model, run / "data" / "train", tmp_path / "out", PARAMS)
    assert not (tmp_path / "out").exists()


def test_a_target_that_was_not_exported_is_an_error_that_names_it(run: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "export.json", {"targets": {"onnx_float": {"file": "model.onnx"}}, "not_made": {}})
    with pytest.raises(InputError, match="has no onnx_int8"):
        exported_file(tmp_path, "onnx_int8")

"""Targets by name: Core ML's program as far as it can be checked here, LiteRT in its own environment, ONNX on phones;
and what is said and kept where a target cannot be made, or its file is not the one that was.
"""

import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from exported_nets import exported_net, images_of_test, warmed
from onnxruntime.tools.mobile_helpers import usability_checker
from PIL import Image
from safetensors.torch import save_file
from shared import exported_here, made_once
from shipped import PARAMS, SIDE, VERIFY, shipped, spec_of

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.core.room import size_bytes
from pipeline.core.sample import read_samples
from pipeline.core.spec import write_spec
from pipeline.experiments.tables import verify_table
from pipeline.export.export import export_run
from pipeline.export.targets import litert
from pipeline.models.classifier import Classifier
from pipeline.models.nets import Deployed, build
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.on_coreml import inspect
from pipeline.runtimes.targets import COREML, ONNX, TARGETS, open_runtime, target_row
from pipeline.verification.gate import too_large
from pipeline.verification.verify import verify_run

NEEDS_LITERT = pytest.mark.skipif(
    not (litert.ENVIRONMENT / "ready").exists(), reason="LiteRT's converter is not installed: `make litert`"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


def export(run: Path, out: Path, *targets: str) -> Path:
    params = PARAMS.model_copy(update={"targets": list(targets), "calibration_images": 4})
    export_run(run / "models" / "shapes", run / "data" / "train", out, params)
    return out


def verify(run: Path, exports: Path, report: Path, *targets: str) -> str:
    """As if `exports` held only `targets`."""
    facts = read_json(exports / "export.json")
    facts["targets"] = {target: facts["targets"][target] for target in targets}
    only = shutil.copytree(exports, report.parent / "only")
    write_json(only / "export.json", facts)
    return verify_run(only, run / "evaluated", run / "data" / "test", report, VERIFY)


@pytest.fixture(scope="module")
def with_coreml(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("coreml") / "exports", "onnx_float", "coreml")


@pytest.fixture
def to_spoil(with_coreml: Path, tmp_path: Path) -> Path:
    return shutil.copytree(with_coreml, tmp_path / "exports")


def images(count: int) -> list[np.ndarray]:
    return list(np.random.default_rng(0).integers(0, 256, (count, 1, SIDE, SIDE, 3), dtype=np.uint8))


def test_core_ml_takes_a_picture_and_has_int8_weights(with_coreml: Path) -> None:
    row = read_json(with_coreml / "export.json")["targets"]["coreml"]
    found = inspect(exported_file(with_coreml, "coreml"))
    assert found["input"] == {"name": "image", "kind": "RGB image, 8 bits a channel", "width": SIDE, "height": SIDE}
    assert found["outputs"] == {"logits": [1, 3]}
    assert found["int8_weights"] > 0.98
    assert found["operators"]["constexpr_affine_dequantize"] == found["operators"]["conv"] + 1  # and the linear layer
    assert {key: row[key] for key in found} == found
    assert row["not_run"] == "not run: Core ML needs an Apple machine"


def test_core_ml_is_verified_as_far_as_its_program_goes(run: Path, with_coreml: Path, tmp_path: Path) -> None:
    report = tmp_path / "verify" / "shapes"
    line = verify(run, with_coreml, report, "onnx_float", "coreml")
    assert "coreml not run: Core ML needs an Apple machine" in line
    row = read_json(report / "verify.json")["targets"]["coreml"]
    assert (row["passed"], row["metrics"], row["drop"], row["latency_ms"]) == (True, None, None, None)
    assert row["reason"] == "not run: Core ML needs an Apple machine"
    assert row["checked"]["outputs"] == {"logits": [1, 3]}
    assert row["size_ratio"] <= 0.35
    assert read_json(report / "metrics.json")["coreml"] == {
        "accuracy": None, "drop": None, "size_ratio": row["size_ratio"],
    }  # fmt: skip
    assert verify_table(tmp_path)["figure"].isna().tolist() == [False, False, True]


def test_a_program_with_other_outputs_fails(run: Path, to_spoil: Path, tmp_path: Path) -> None:
    contract = read_json(to_spoil / "preprocess.json")
    contract["input"]["shape"] = [1, 2 * SIDE, 2 * SIDE, 3]
    write_json(to_spoil / "preprocess.json", contract)
    with np.load(to_spoil / "golden" / "golden.npz") as golden:
        wider = np.concatenate([golden["logits"]] * 2, axis=1)
        np.savez(to_spoil / "golden" / "golden.npz", image=golden["image"], logits=wider)
    with pytest.raises(InputError, match=r"64 x 64, expected 128 x 128; outputs .*\[1, 3\].*, expected .*\[1, 6\]"):
        verify(run, to_spoil, tmp_path / "report", "coreml")


@pytest.mark.exhaustive
def test_core_ml_keeps_a_detectors_outputs_apart_and_its_bytes(tmp_path: Path) -> None:
    spec = spec_of("detect")
    net = Deployed(build(spec), spec)
    for name in ("a", "b"):
        target_row("coreml").export(net, images(1), tmp_path / f"{name}.mlpackage", spec.outputs)
    found = inspect(tmp_path / "a.mlpackage")["outputs"]
    made = {"targets": {}, "float_weights_bytes": 4 * sum(value.numel() for value in net.state_dict().values())}
    size = size_bytes(tmp_path / "a.mlpackage")
    assert too_large(made, "coreml", size, VERIFY.size_ratio) == []
    with torch.no_grad():
        answers = net(torch.from_numpy(images(1)[0]))
    assert found == {name: list(answer.shape) for name, answer in zip(spec.outputs, answers, strict=True)}
    files = [p.relative_to(tmp_path / "a.mlpackage") for p in (tmp_path / "a.mlpackage").rglob("*") if p.is_file()]
    assert len(files) == 3
    for file in files:
        assert (tmp_path / "a.mlpackage" / file).read_bytes() == (tmp_path / "b.mlpackage" / file).read_bytes(), file


def test_core_ml_is_not_run_here(with_coreml: Path) -> None:
    with pytest.raises(InputError, match=r"model\.mlpackage: not run: Core ML needs an Apple machine"):
        open_runtime("coreml", with_coreml / "model.mlpackage")


@pytest.mark.parametrize("part", ["model.mlmodel", "weights/weight.bin"])
def test_a_file_cut_short_is_named_and_the_others_are_judged(
    run: Path, to_spoil: Path, tmp_path: Path, part: str
) -> None:
    path = to_spoil / "model.mlpackage" / "Data" / "com.apple.CoreML" / part
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"coreml: .*model\.mlpackage: damaged, or of another run: "):
        verify(run, to_spoil, tmp_path / "report", "onnx_float", "coreml")
    rows = read_json(tmp_path / "report" / "verify.json")["targets"]
    assert (rows["onnx_float"]["passed"], rows["coreml"]["passed"]) == (True, False)
    assert rows["coreml"]["metrics"] is None


@pytest.mark.parametrize("content", [b"", b"no program", None])
def test_a_package_that_is_none_is_named(to_spoil: Path, content: bytes | None) -> None:
    path = to_spoil / "model.mlpackage" / "Data" / "com.apple.CoreML" / "model.mlmodel"
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    with pytest.raises(InputError, match=r"model\.mlpackage: not (a Core ML package|an ML Program)"):
        inspect(to_spoil / "model.mlpackage")


def test_a_file_of_another_run_is_named(run: Path, to_spoil: Path) -> None:
    shutil.copyfile(run / "exports" / "model.int8.onnx", to_spoil / "model.onnx")
    with pytest.raises(InputError, match=r"model\.onnx: damaged, or of another run: .* export\.json expects"):
        exported_file(to_spoil, "onnx_float")
    (to_spoil / "model.onnx").unlink()
    with pytest.raises(InputError, match=r"model\.onnx: no such file"):
        exported_file(to_spoil, "onnx_float")


def determinant(self: Classifier, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """A classifier that ends in what ONNX has an operator for, and neither Core ML nor ExecuTorch."""
    return (torch.linalg.det(image[:, :, :4, :4]),)


def test_a_target_that_lacks_an_operator_is_named_and_the_others_are_made(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Classifier, "forward", determinant)
    out = tmp_path / "exports"
    with pytest.raises(InputError) as caught:
        export(run, out, "coreml", "onnx_float", "executorch_float")
    coreml_said, executorch_said, rest = str(caught.value).splitlines()
    assert re.match(r"coreml: not made: .*linalg_det", coreml_said)
    assert re.match(r"executorch_float: not made: .*linalg_det", executorch_said)
    assert rest == f"{out}: holds the others: onnx_float"
    made = read_json(out / "export.json")
    assert list(made["targets"]) == ["onnx_float"]
    assert list(made["not_made"]) == ["coreml", "executorch_float"]
    assert {p.name for p in out.glob("model.*")} == {"model.json", "model.onnx"}
    with pytest.raises(InputError, match=r"has no coreml, it could not be made: .*linalg_det"):
        exported_file(out, "coreml")


def test_where_nothing_could_be_made_nothing_is_written(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(litert, "ENVIRONMENT", tmp_path / "none")
    with pytest.raises(InputError, match=r"^litert: not made: LiteRT's converter is not installed: .*`make litert`"):
        export(run, tmp_path / "exports", "litert")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.exhaustive
def test_what_is_not_installed_is_named_with_the_way_to_install_it(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for package in ("coremltools", "onnxruntime"):
        monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.setattr(litert, "ENVIRONMENT", tmp_path / "none")
    with pytest.raises(InputError) as caught:
        export(run, tmp_path / "exports", "onnx_float", "coreml", "litert", "executorch_float")
    message = str(caught.value)
    assert "onnx_float: not made: model.onnx: the package of onnxruntime is not installed; `make setup`" in message
    assert "coreml: not made: the package of coremltools is not installed; `make setup`" in message
    assert "litert: not made: LiteRT's converter is not installed" in message
    assert "`make litert`" in message
    assert (tmp_path / "exports" / "model.pte").exists()
    assert not (tmp_path / "exports" / "model.onnx").exists()
    with pytest.raises(InputError, match=r"model\.onnx: the package of onnxruntime is not installed"):
        open_runtime("onnx_float", run / "exports" / "model.onnx")


@pytest.mark.parametrize(
    "name", ["classify", "localize", "anchor_free", pytest.param("ssdlite", marks=pytest.mark.exhaustive)]
)
def test_onnx_files_have_operators_and_shapes_for_phones(
    run: Path, tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    """By ONNX Runtime's own list for Android's NNAPI, and its list for Core ML for the float file."""
    for target in ("onnx_float", "onnx_int8"):
        path = exported_file(run / "exports", target)
        if name != "classify":
            path, _ = exported_net(tmp_path_factory, name, target)
        whole = onnx.shape_inference.infer_shapes(onnx.load(path), strict_mode=True)
        assert usability_checker.check_shapes(whole.graph) == ([], 0)
        checks = [usability_checker.check_nnapi_partitions(whole, False)]
        if target == "onnx_float":
            lists = "coreml_supported_mlprogram_ops.md"
            checks.append(usability_checker.check_coreml_partitions(whole, False, lists))
        for found in checks:
            # what torch makes of the global pooling's last step: it moves nothing, and stays on the CPU
            assert found.unsupported_ops <= ({"ai.onnx:Gather"} if name == "classify" else set())


@pytest.mark.parametrize(
    "name",
    [
        *("classify", "localize", "anchor_free"),
        *(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("yolov3", "ssdlite")),
    ],
)
@pytest.mark.parametrize("target", ["onnx_float", "onnx_int8"])
def test_an_onnx_file_asks_for_no_newer_runtime_than_its_steps_do(
    run: Path, tmp_path_factory: pytest.TempPathFactory, name: str, target: str
) -> None:
    path = exported_file(run / "exports", target)
    if name != "classify":
        path, _ = exported_net(tmp_path_factory, name, target)
    model = onnx.load(path)
    assert {node.domain for node in model.graph.node} == {""}
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    assert model.ir_version == 8


def version_of(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def oldest_onnxruntime(factory: pytest.TempPathFactory, asked: str) -> tuple[Path, str]:
    """A Python with the oldest ONNX Runtime of those that are `asked` for that the package index has for this Python,
    NumPy and Pillow, and nothing else; and which it is. Skips the test without an index, but in CI.
    """
    uv = [sys.executable, "-m", "uv"]
    packages = [f"onnxruntime{asked}", "numpy<2; python_version < '3.13'", "numpy; python_version >= '3.13'", "pillow"]

    def install(folder: Path) -> None:
        python = folder / "bin" / "python"
        chosen = ["--only-binary=:all:", "--resolution=lowest-direct", "--python", python]
        for command in (["venv", "--python", sys.executable, folder], ["pip", "install", *chosen, *packages]):
            done = subprocess.run([*uv, *command], capture_output=True, text=True, check=False)
            if done.returncode:
                reason = f"no ONNX Runtime to be had from a package index: {done.stderr[-500:]}"
                if os.environ.get("CI"):
                    pytest.fail(f"{reason}; in CI this test must run")
                pytest.skip(reason)

    python = made_once(factory, f"onnxruntime{asked}", install) / "bin" / "python"
    code = "from importlib.metadata import version; print(version('onnxruntime'))"
    return python, subprocess.check_output([python, "-I", "-c", code], text=True).strip()


@pytest.fixture(scope="module")
def detector(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export folder of a detector's ONNX files."""

    def ship(root: Path) -> None:
        spec, model = spec_of("detect"), root / "model"
        model.mkdir(parents=True)
        save_file(warmed(spec, images_of_test(tmp_path_factory)).net.state_dict(), model / "model.safetensors")
        write_spec(model / "model.json", spec)
        params = PARAMS.model_copy(update={"targets": ["onnx_float", "onnx_int8"]})
        with exported_here():
            export_run(model, run / "data" / "train", root / "exports", params)

    return made_once(tmp_path_factory, "shipped-detector", ship) / "exports"


@pytest.mark.parametrize("net", ["classifier", pytest.param("detector", marks=pytest.mark.exhaustive)])
def test_onnx_files_answer_alike_in_the_oldest_runtime_that_is_promised(
    run: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, net: str
) -> None:
    """By the folder's own replay.py, held to the answers of the newest one. Where the index has one that is older than
    what is promised, that one refuses the files: less could not be asked for.
    """
    folder = run / "exports" if net == "classifier" else request.getfixturevalue("detector")
    python, older = oldest_onnxruntime(tmp_path_factory, "")
    if version_of(older)[:2] < version_of(ONNX.oldest):
        said = subprocess.run([python, "-I", folder / "replay.py"], capture_output=True, text=True, check=False)
        assert "answers as it should" not in said.stdout, f"{ONNX.oldest} is promised, {older} is enough"
        python, older = oldest_onnxruntime(tmp_path_factory, f">={ONNX.oldest}")
    assert version_of(older)[:2] >= version_of(ONNX.oldest)
    said = subprocess.run([python, "-I", folder / "replay.py"], capture_output=True, text=True, check=False)
    for file in ("model.onnx", "model.int8.onnx"):
        assert f"{file}: answers as it should" in said.stdout, f"{older}\n{said.stdout}{said.stderr}"
    assert "WRONG" not in said.stdout


def test_the_card_and_the_contract_say_what_runs_each_file(run: Path, with_coreml: Path) -> None:
    """From the table of targets; where it states no version, the one here ran the file."""
    for folder in (run / "exports", with_coreml):
        facts, card = read_json(folder / "export.json"), (folder / "README.md").read_text()
        told = read_json(folder / "preprocess.json")["runtimes"]
        assert list(told) == list(facts["targets"])
        for target, row in told.items():
            engine = TARGETS[target].engine
            expected = engine.oldest or version(engine.package)
            assert row == {"runtime": engine.name, "oldest_version": expected}
            assert f"| {engine.name} | {expected} |" in card


def test_core_ml_is_made_for_the_systems_that_are_promised(with_coreml: Path) -> None:
    import coremltools
    from coremltools.models.utils import load_spec

    promised = [system.replace(" ", "") for system in COREML.oldest.split(", ")]
    found = load_spec(str(with_coreml / "model.mlpackage")).specificationVersion
    assert [getattr(coremltools.target, system).value for system in promised] == [found] * 2


NAMED = re.compile(r"(ONNX Runtime(?: Mobile| Web)?|onnxruntime[\w-]*|iOS|macOS)[ :=]+v?(\d+(?:\.\d+)*)")


def test_no_page_or_sample_names_an_older_runtime_than_the_table() -> None:
    known = {"ios": COREML.oldest.split(", ")[0], "macos": COREML.oldest.split(", ")[1]}
    root = Path(__file__).parents[1]
    code = [p for p in root.glob("pipeline/export/**/*") if p.suffix in (".py", ".js", ".kt", ".swift")]
    pages = [root / "README.md", *(root / f"docs/{name}.md" for name in ("app", "demo", "export")), *code]
    named = set()
    for page in pages:
        for name, found in NAMED.findall(page.read_text(encoding="utf-8")):
            least = known.get(name.lower(), ONNX.oldest).split()[-1]
            assert version_of(found) >= version_of(least), f"{page}: {name} {found}, the table has {least}"
            named.add(name)
    assert named == {"iOS", "macOS"}, "of ONNX Runtime they name the version that stands in preprocess.json"


@pytest.fixture(scope="module")
def with_litert(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(run, tmp_path_factory.mktemp("litert") / "exports", "litert")


@NEEDS_LITERT
def test_litert_answers_nearly_as_the_net_does(run: Path, with_litert: Path, tmp_path: Path) -> None:
    test = run / "data" / "test"
    pictures = np.stack([np.asarray(Image.open(test / s.file_name)) for s in read_samples(test)])
    expected = open_runtime("torch", run / "models" / "shapes").run(pictures)[0]
    path = exported_file(with_litert, "litert")
    found = open_runtime("litert", path).run(pictures)[0]
    assert (expected.argmax(1) == found.argmax(1)).mean() > 0.85
    assert np.sqrt(((expected - found) ** 2).mean()) < 0.4 * expected.std()
    # a net this narrow has many scales for its weights
    assert path.stat().st_size < 0.4 * (run / "models" / "shapes" / "model.safetensors").stat().st_size


@NEEDS_LITERT
def test_litert_names_its_input_and_outputs(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    spec = spec_of("localize")
    net = Deployed(build(spec), spec)
    for module in net.modules():
        if isinstance(module, torch.nn.Linear):  # some begin at zero, which has no scale
            torch.nn.init.normal_(module.weight, std=0.05)
    target_row("litert").export(net, images(4), tmp_path / "model.int8.tflite", spec.outputs)
    interpreter = Interpreter(str(tmp_path / "model.int8.tflite"))
    (image,) = interpreter.get_input_details()
    assert (image["dtype"], image["shape"].tolist()) == (np.uint8, [1, SIDE, SIDE, 3])
    assert {o["dtype"] for o in interpreter.get_output_details()} == {np.float32}
    assert list(interpreter.get_signature_runner().get_output_details()) == sorted(spec.outputs)
    assert list(interpreter.get_signature_runner().get_input_details()) == ["image"]
    with torch.no_grad():
        expected = net(torch.from_numpy(images(1)[0]))
    found = open_runtime("litert", tmp_path / "model.int8.tflite").run(images(1)[0])
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(b, a.numpy(), atol=0.15)


@NEEDS_LITERT
@pytest.mark.parametrize("size", [0, 1000, -1000])
def test_a_litert_file_cut_short_is_named(with_litert: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "cut.tflite"
    path.write_bytes((with_litert / "model.int8.tflite").read_bytes()[:size])
    with pytest.raises(InputError, match=r"cut\.tflite: not a LiteRT model, or one cut short"):
        open_runtime("litert", path)

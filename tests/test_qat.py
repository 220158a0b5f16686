"""What quantization-aware training promises: a better int8 file where rounding hurts, the same bytes again, no training
code without it, and a loss that is not finite stops it by name.
"""

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from shared import exported_here, made_once
from shipped import LABELS, PARAMS, SIDE, VERIFY, evaluate_shapes, shipped, spec_of, train_shapes

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import Dataset, Landmark, Object, Sample, read_samples, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.evaluation.evaluate import write_report
from pipeline.export import qat
from pipeline.export.export import export_run
from pipeline.export.int8.ranges import Histogram
from pipeline.export.params import ExportParams, Qat
from pipeline.models.nets import build
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import open_runtime
from pipeline.verification.verify import verify_run

INT8 = ["onnx_int8", "executorch_int8"]


def params(targets: Sequence[str] = ("onnx_int8",), **changes: Any) -> ExportParams:
    block = {"mode": "qat", "epochs": 3, "learning_rate": 1e-3, "batch_size": 16, "class_weights": "balanced"}
    return PARAMS.model_copy(update={"targets": list(targets), "quantize": Qat.model_validate(block | changes)})


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


@pytest.fixture(scope="module")
def lopsided(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained MobileNetV2, whose layers have channels of any size, with one that is 20 times as large as the others:
    their values fall into a dozen of 256 steps. In "model"; beside it its exports, tuned and not. Channels are not
    equalized in them and ranges hold all values, for either would undo a part of this.
    """

    def make(folder: Path) -> None:
        weights = folder / "model" / "model.safetensors"
        train_shapes(weights.parent, run / "data" / "train", spec_of("classify", backbone="mobilenetv2_035"))
        state = load_file(weights)
        for block in range(4):
            for name in ("weight", "bias"):
                state[f"body.blocks.3.{block}.bn3.{name}"][0] *= 20
        for block in ("3.1", "3.2", "3.3", "4.0"):
            state[f"body.blocks.{block}.conv_pw.weight"][:, 0] /= 20
        save_file(state, weights)
        plain = PARAMS.model_copy(update={"targets": ["onnx_int8"]})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.export.targets.onnx.equalize", lambda graph, images: None)
            patch.setattr(Histogram, "span", lambda seen, answer: (seen.least, seen.most))
            for name, settings in (("tuned", params(learning_rate=1e-4)), ("plain", plain)):
                with exported_here():
                    export_run(folder / "model", run / "data" / "train", folder / name, settings)

    return made_once(tmp_path_factory, "lopsided", make)


@pytest.fixture
def tuned(lopsided: Path) -> Path:
    return lopsided / "tuned"


def surprise(folder: Path, test: Path) -> float:
    """Mean cross-entropy of the answers of the int8 file in a folder of exports, or of the model in a folder of one."""
    truth = read_samples(test)
    if (folder / "export.json").exists():
        file = read_json(folder / "export.json")["targets"]["onnx_int8"]["file"]
        runtime = open_runtime("onnx_int8", folder / file)
    else:
        runtime = open_runtime("torch", folder)
    found = predict_samples(runtime, spec_of("classify"), test, truth)
    return float(np.mean([-np.log((b.scores or {})[str(a.label)]) for a, b in zip(truth, found, strict=True)]))


def test_a_net_that_rounding_hurts_learns_to_live_with_it(run: Path, lopsided: Path) -> None:
    test = run / "data" / "test"
    whole, plain, tuned = (surprise(lopsided / name, test) for name in ("model", "plain", "tuned"))
    assert plain > 1.1 * whole, "rounding does not hurt this net: nothing is proved"
    assert tuned < 0.9 * plain


def test_the_folder_says_how_it_was_tuned_and_verifies(run: Path, tuned: Path, tmp_path: Path) -> None:
    facts = read_json(tuned / "export.json")
    assert facts["quantize"]["mode"] == "qat"
    assert (facts["quantize"]["epochs"], facts["quantize"]["learning_rate"]) == (3, 1e-4)
    assert 0 < facts["quantize"]["loss"] < 2
    assert all("quantization-aware" in row["settings"] for row in facts["targets"].values())
    evaluate_shapes(tuned.parent / "model", run / "data" / "test", tmp_path / "evaluated")
    verify_run(tuned, tmp_path / "evaluated", run / "data" / "test", tmp_path / "report", VERIFY)
    assert read_json(tmp_path / "report" / "verify.json")["passed"] is True


@pytest.fixture(scope="module")
def boxed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of a bright rectangle, with its box and two landmarks; in the last one there is none."""
    folder = tmp_path_factory.mktemp("boxed")
    rng = np.random.default_rng(1)
    write_dataset(folder, Dataset("boxed", LABELS, landmarks=["top", "left"]))
    for split in ("train", "test"):
        (folder / split).mkdir()
        samples = []
        for i in range(9):
            pixels = rng.integers(0, 100, (SIDE, SIDE, 3), dtype=np.uint8)
            objects = []
            if i < 8:
                x, y, w, h = (int(v) for v in rng.integers((2, 2, 16, 16), (24, 24, 36, 36)))
                pixels[y : y + h, x : x + w] += 120
                top, left = Landmark((x + w / 2) / SIDE, y / SIDE), Landmark(x / SIDE, (y + h / 2) / SIDE)
                objects = [Object(LABELS[i % 3], (x / SIDE, y / SIDE, w / SIDE, h / SIDE), [top, left])]
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
            samples.append(Sample(f"{split}-{i}", f"{i}.png", SIDE, SIDE, split=split, objects=objects))
        write_samples(folder / split, samples)
    return folder


def small_spec(task: str) -> ModelSpec:
    """A detector reads two maps and not three: tuning and three converters take seconds for each layer."""
    spec = spec_of(task)
    if task == "detect":
        spec.head |= {"strides": [16, 32]}
        net = build(spec)
        spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    return spec


def random_net(folder: Path, task: str) -> Path:
    spec = small_spec(task)
    torch.manual_seed(0)
    folder.mkdir()
    save_file(build(spec).state_dict(), folder / "model.safetensors")
    write_spec(folder / "model.json", spec)
    return folder


@pytest.mark.exhaustive
def test_a_detector_exports_verifies_and_is_the_same_again(boxed: Path, tmp_path: Path) -> None:
    model, test = random_net(tmp_path / "model", "detect"), boxed / "test"
    settings = params([*INT8, "coreml"], epochs=1, batch_size=4, seed=3, class_weights="none")
    export_run(model, boxed / "train", tmp_path / "once", settings)
    only = settings.model_copy(update={"targets": ["onnx_int8"]})
    export_run(model, boxed / "train", tmp_path / "again", only)
    once, again = (read_json(tmp_path / name / "export.json") for name in ("once", "again"))
    assert once["quantize"] == again["quantize"]
    assert once["targets"]["onnx_int8"] == again["targets"]["onnx_int8"]  # its hash among it
    assert once["targets"]["executorch_int8"]["outside_backend"] == []
    spec = small_spec("detect")
    truth = read_samples(test)
    (tmp_path / "evaluated").mkdir()
    predicted = predict_samples(open_runtime("torch", model), spec, test, truth)
    write_report(tmp_path / "evaluated", spec, test, truth, predicted)
    assert "passed" in verify_run(tmp_path / "once", tmp_path / "evaluated", test, tmp_path / "report", VERIFY)


def test_a_localizer_learns(boxed: Path, tmp_path: Path) -> None:
    model, picture = random_net(tmp_path / "model", "localize"), np.zeros((1, SIDE, SIDE, 3), np.uint8)
    losses = []
    for epochs in (1, 25):
        settings = params(epochs=epochs, batch_size=4, class_weights="none").quantize
        facts = qat.tune(model, boxed / "train", [picture], settings, tmp_path / "tuned.pt")
        losses.append(facts["loss"])
    assert losses[1] < 0.9 * losses[0]


def test_a_loss_that_is_not_finite_names_the_pictures(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run / "models" / "shapes", tmp_path / "model")
    state = load_file(tmp_path / "model" / "model.safetensors")
    state["body.classifier.bias"][1] = torch.finfo(torch.float32).max  # finite, as weights have to be
    save_file(state, tmp_path / "model" / "model.safetensors")
    with pytest.raises(
        InputError, match=r"the loss is (nan|inf) in epoch 0 of quantization-aware.* images: .*train-0\d\d"
    ):
        export_run(tmp_path / "model", run / "data" / "train", tmp_path / "out", params())
    assert not (tmp_path / "out").exists()


@pytest.mark.exhaustive
def test_without_it_no_training_code_is_imported(boxed: Path, tmp_path: Path) -> None:
    model, out = random_net(tmp_path / "model", "classify"), tmp_path / "out"
    settings = PARAMS.model_copy(update={"targets": ["onnx_float"]})
    script = f"""
import sys
from pathlib import Path
from typing import Any
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams
settings = ExportParams.model_validate_json({settings.model_dump_json()!r})
export_run(Path({str(model)!r}), Path({str(boxed / "train")!r}), Path({str(out)!r}), settings)
print(*[name for name in ("pipeline.export.qat", "pipeline.training.loading", "torchao") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
    assert "quantize" not in read_json(out / "export.json")

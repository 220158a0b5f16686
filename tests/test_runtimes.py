"""Every runtime behind one call, and files that none of them can open."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from shipped import SIDE, TARGETS, shipped

from pipeline.core.errors import InputError
from pipeline.core.files import write_json
from pipeline.core.image_file import open_image
from pipeline.core.sample import Sample, read_samples
from pipeline.core.spec import read_spec
from pipeline.models.nets import Deployed
from pipeline.runtimes.answers import predict_image, predict_samples
from pipeline.runtimes.exported import exported_file
from pipeline.runtimes.runtime import latency
from pipeline.runtimes.targets import open_runtime


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shipped(tmp_path_factory)


def file_of(run: Path, target: str) -> Path:
    return run / "models" / "shapes" if target == "torch" else exported_file(run / "exports", target)


@pytest.mark.parametrize("target", ["torch", *TARGETS])
def test_pictures_together_give_what_each_gives_alone(run: Path, target: str) -> None:
    runtime = open_runtime(target, file_of(run, target))
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    together = runtime.run(images)
    alone = [runtime.run(images[i : i + 1]) for i in range(3)]
    assert [o.dtype for o in together] == [np.float32]
    assert [o.shape for o in together] == [(3, 3)]
    np.testing.assert_allclose(together[0], np.concatenate([o[0] for o in alone]), atol=1e-4)


@pytest.mark.parametrize("target", TARGETS)
def test_a_runtime_has_the_threads_that_were_asked_for_whatever_others_have(run: Path, target: str) -> None:
    """ExecuTorch has one pool for all: a file that was opened with another one still answers."""
    images = np.random.default_rng(0).integers(0, 256, (1, SIDE, SIDE, 3), dtype=np.uint8)
    runtimes = [open_runtime(target, file_of(run, target), threads) for threads in (1, 2, 1)]
    assert [runtime.threads for runtime in runtimes] == [1, 2, 1]
    answers = [runtime.run(images)[0] for runtime in (*runtimes, *runtimes)]
    for answer in answers[1:]:
        np.testing.assert_allclose(answer, answers[0], atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2, None])
def test_torch_runs_with_the_threads_that_it_says(
    run: Path, monkeypatch: pytest.MonkeyPatch, threads: int | None
) -> None:
    seen = []
    forward = Deployed.forward

    def watched(self: Deployed, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        seen.append(torch.get_num_threads())
        return forward(self, image)

    monkeypatch.setattr(Deployed, "forward", watched)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        runtime = open_runtime("torch", file_of(run, "torch"), threads)
        found = latency(runtime, np.zeros((1, SIDE, SIDE, 3), np.uint8))
        assert torch.get_num_threads() == 3, "the rest of the process keeps its own"
    finally:
        torch.set_num_threads(before)
    assert set(seen) == {found["threads"]} == {threads or 3}


@pytest.mark.parametrize("target", ["torch", "onnx_int8", "executorch_int8"])
def test_predictions_keep_the_samples_and_match_one_image_at_a_time(run: Path, target: str) -> None:
    spec = read_spec(run / "exports" / "model.json")
    test = run / "data" / "test"
    samples = read_samples(test)[:5]
    runtime = open_runtime(target, file_of(run, target))
    predicted = predict_samples(runtime, spec, test, samples)
    assert [p.id for p in predicted] == [s.id for s in samples]
    assert [p.file_name for p in predicted] == [s.file_name for s in samples]
    for s, p in zip(samples, predicted, strict=True):
        alone = predict_image(runtime, spec, open_image(test / s.file_name))
        assert (alone.label, alone.width, alone.height) == (p.label, s.width, s.height)
        assert p.scores is not None
        assert alone.scores == pytest.approx(p.scores, abs=1e-4)
        assert sum(p.scores.values()) == pytest.approx(1, abs=1e-4)


def test_an_answer_that_is_not_finite_is_an_error_that_names_run_and_picture(run: Path, tmp_path: Path) -> None:
    """Of the file that ships: its last bias holds a number that a float has and an answer has not."""
    spec, test = read_spec(run / "exports" / "model.json"), run / "data" / "test"
    model = onnx.load(file_of(run, "onnx_float"))
    bias = next(c for c in model.graph.initializer if c.data_type == onnx.TensorProto.FLOAT and list(c.dims) == [3])
    bias.CopyFrom(onnx.numpy_helper.from_array(np.array([0, np.nan, 0], np.float32), bias.name))
    onnx.save(model, tmp_path / "model.onnx")
    runtime, samples = open_runtime("onnx_float", tmp_path / "model.onnx"), read_samples(test)[:2]
    said = rf"run 'shapes', OnnxRuntime: the output logits is not finite for .*{samples[0].file_name}: the model file"
    with pytest.raises(InputError, match=said):
        predict_samples(runtime, spec, test, samples)
    with pytest.raises(InputError, match=r"not finite for an image of \d+ x \d+ pixels: the model file"):
        predict_image(runtime, spec, open_image(test / samples[0].file_name))


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("damage", ["empty", "cut short", "another kind", "missing"])
def test_a_broken_file_is_an_error_that_names_it(run: Path, tmp_path: Path, target: str, damage: str) -> None:
    path = tmp_path / "model.bin"
    content = file_of(run, target).read_bytes()
    other = "onnx_float" if target.startswith("executorch") else "executorch_float"
    if damage != "missing":
        path.write_bytes(
            {
                "empty": b"",
                "cut short": content[: len(content) * 2 // 3],
                "another kind": file_of(run, other).read_bytes(),
            }[damage]
        )
    with pytest.raises(InputError, match=r"model\.bin"):
        open_runtime(target, path)


def test_an_unknown_target_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no export target 'onnx_int4'; did you mean 'onnx_int8'"):
        open_runtime("onnx_int4", tmp_path)


@pytest.mark.parametrize("content", [[1, 2], None, {}, {"targets": [], "not_made": {}}])
def test_a_list_of_exports_that_is_none_is_named(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "export.json", content)
    with pytest.raises(InputError, match=r"export\.json: expected an object with targets and not_made; `dvc checkout`"):
        exported_file(tmp_path, "onnx_int8")


def test_broken_weights_are_an_error_that_names_them(run: Path, tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes((run / "models/shapes/model.json").read_bytes())
    with pytest.raises(InputError, match=r"model\.safetensors"):
        open_runtime("torch", tmp_path)
    (tmp_path / "model.safetensors").write_bytes((run / "models/shapes/model.safetensors").read_bytes()[:5000])
    with pytest.raises(InputError, match=r"model\.safetensors"):
        open_runtime("torch", tmp_path)


def test_a_picture_that_does_not_decode_is_an_error_that_names_it(run: Path, tmp_path: Path) -> None:
    spec = read_spec(run / "exports" / "model.json")
    runtime = open_runtime("onnx_float", file_of(run, "onnx_float"))
    Image.effect_noise((SIDE, SIDE), 60).convert("RGB").save(tmp_path / "cut.jpg")
    whole = (tmp_path / "cut.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut\.jpg"):
        predict_samples(runtime, spec, tmp_path, [Sample("cut", "cut.jpg", SIDE, SIDE)])


def test_opening_executorch_says_nothing(run: Path) -> None:
    """A fresh process, since the libraries speak once: their notes are not for people who run models."""
    code = (
        "import sys; from pathlib import Path; import numpy as np; from pipeline.runtimes.targets import open_runtime;"
        f"open_runtime('executorch_int8', Path(sys.argv[1])).run(np.zeros((1, {SIDE}, {SIDE}, 3), np.uint8));"
        "print('ran')"
    )
    command = [sys.executable, "-c", code, str(file_of(run, "executorch_int8"))]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=root, env=dict(os.environ))
    assert done.stdout == "ran\n"
    assert done.stderr == ""

"""A registered model away from home: in a process that knows only MLflow, and behind `mlflow models serve`."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import requests
import torch
from finished_project import commit, dvc, write_dvc, write_project
from PIL import Image
from safetensors.torch import save_file
from servers import PATIENCE, serving
from shared import exported_here
from shipped import spec_of

from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.sample import Sample, write_samples
from pipeline.core.spec import read_spec, write_spec
from pipeline.datasets.synthetic.coco import draw_herd
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams
from pipeline.inference.serving import Served
from pipeline.models.nets import build
from pipeline.runtimes.answers import predict_image
from pipeline.runtimes.runtime import Images, Outputs, Runtime
from pipeline.runtimes.targets import open_runtime
from pipeline.tracking.registry import servable
from pipeline.tracking.store import default_uri
from pipeline.tracking.track import track_run

RUNS = {"alpaca": "classify", "herd": "detect"}
FILES = {"onnx_int8": "model.int8.onnx", "onnx_float": "model.onnx"}
TARGETS = {"alpaca": ["onnx_float"], "herd": list(FILES)}  # the one that is served by default first
SIZE = 160


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Embedded images of animals."""
    folder = tmp_path_factory.mktemp("drawn")
    draw_herd(folder, ImagesParams(images=10, side=SIZE), seed=7)
    return folder / "images"


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A classifier and a detector that were exported for real and tracked; what they say matters to nobody."""
    root = tmp_path_factory.mktemp("served")
    write_project(root, RUNS)
    drawn = sorted(pictures.iterdir())
    samples = [Sample(p.stem, p.name, *Image.open(p).size) for p in drawn]
    write_samples(pictures, samples)
    for run in RUNS:
        params = ExportParams(targets=TARGETS[run], calibration_images=4)
        _write_model(root / "models" / run, run)
        shutil.rmtree(root / "exports" / run)
        with exported_here():
            export_run(root / "models" / run, pictures, root / "exports" / run, params)
        verdict = root / "reports/verify" / run / "verdict.json"
        judged = json.loads(verdict.read_text())
        judged["targets"] = dict.fromkeys(TARGETS[run], judged["targets"]["onnx_int8"])
        verdict.write_text(json.dumps(judged))
    write_dvc(root, RUNS)
    dvc(root, "init", "--no-scm", "--quiet")
    commit(root)
    for run in RUNS:
        track_run(run, root)
    assert "pocketlens_serving" not in sys.modules, "it was loaded from where it was made, which is gone"
    return root


def _write_model(folder: Path, run: str) -> None:
    """Random weights, and a threshold that lets their objects through."""
    spec = spec_of(RUNS[run])
    spec.dataset, spec.predict["score"] = run, 0.005
    torch.manual_seed(3)
    save_file(build(spec).state_dict(), folder / "model.safetensors")
    write_spec(folder / "model.json", spec)


def expected(project: Path, run: str, target: str, picture: Path) -> dict[str, Any]:
    """What our own runtime says of the image, as JSON has it."""
    exports = project / "exports" / run
    sample = predict_image(
        open_runtime(target, exports / FILES[target]), read_spec(exports / "model.json"), open_image(picture)
    )
    found = json.loads(json.dumps(sample.to_json()))
    assert found.get("scores") or found["objects"], "nothing to compare"
    return {key: found[key] for key in (("label", "scores") if RUNS[run] == "classify" else ("objects",))}


FOREIGN = """
import base64, json, sys
from pathlib import Path
sys.path.insert(0, str(Path.cwd()))
import pipeline
import mlflow.pyfunc, numpy, pandas
from PIL import Image
image, answers = Path(sys.argv[1]), {}
array = numpy.asarray(Image.open(image).convert("RGB"))
forms = [image, image.read_bytes(), base64.encodebytes(image.read_bytes()).decode(), array]
for run, targets in json.loads(sys.argv[2]).items():
    model = mlflow.pyfunc.load_model(f"models:/pocketlens-{run}@champion")
    by_name = [model.predict(pandas.DataFrame({"image": forms[:1]}), params={"target": t})[0] for t in targets]
    answers[run] = {"any form": model.predict(pandas.DataFrame({"image": forms})), "by name": by_name}
    assert len(model.predict(model.input_example)) == 1
heavy = sorted({"torch", "executorch", "onnx", "fiftyone"} & set(sys.modules))
print(json.dumps({"answers": answers, "heavy": heavy, "code": sys.modules["pocketlens_serving"].__file__}))
import pipeline
assert pipeline.WHOSE == "the user's own", pipeline
assert [name for name in sys.modules if name.startswith("pipeline")] == ["pipeline"]
"""


def test_a_model_brings_its_code_and_needs_no_torch(project: Path, pictures: Path, tmp_path: Path) -> None:
    """In a project that has a package `pipeline` of its own."""
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline/__init__.py").write_text('WHOSE = "the user\'s own"\n')
    picture = sorted(pictures.glob("*.jpg"))[0]
    done = subprocess.run(
        [sys.executable, "-I", "-c", FOREIGN, str(picture), json.dumps(TARGETS)],
        cwd=tmp_path, env={**os.environ, "MLFLOW_TRACKING_URI": default_uri(project)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    said = json.loads(done.stdout.splitlines()[-1])
    for run, targets in TARGETS.items():
        by_name = [expected(project, run, target, picture) for target in targets]
        assert said["answers"][run] == {"any form": by_name[:1] * 4, "by name": by_name}
    assert said["heavy"] == []
    assert Path(said["code"]).is_relative_to(project / "mlartifacts")


def test_mlflow_models_serve_answers_as_our_own_runtime(project: Path, pictures: Path, tmp_path: Path) -> None:
    first, second = sorted(pictures.glob("*.jpg"))[:2]
    rows = [[base64.b64encode(p.read_bytes()).decode()] for p in (first, second)]
    command = [sys.executable, "-m", "mlflow", "models", "serve", "-m", "models:/pocketlens-herd@champion"]
    command += ["--env-manager", "local"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {"MLFLOW_TRACKING_URI": default_uri(project)}
    environment |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    with serving(command, tmp_path, "ping", environment) as url:
        request: dict[str, Any] = {"dataframe_split": {"columns": ["image"], "data": rows}}
        answer = requests.post(f"{url}/invocations", json=request, timeout=PATIENCE)
        assert answer.json() == {
            "predictions": [expected(project, "herd", "onnx_int8", picture) for picture in (first, second)]
        }
        assert answer.json()["predictions"][0] != expected(project, "herd", "onnx_float", first)
        exact = requests.post(
            f"{url}/invocations", json={**request, "params": {"target": "onnx_float"}}, timeout=PATIENCE
        )
        assert exact.json()["predictions"][0] == expected(project, "herd", "onnx_float", first)
        mixed = {"dataframe_records": [{"image": str(first)}, {"image": rows[0][0]}, {"image": "bm8gaW1hZ2U="}]}
        answer = requests.post(f"{url}/invocations", json=mixed, timeout=PATIENCE)
        path, whole, spoilt = answer.json()["predictions"]
        assert path.keys() == {"error"}
        assert path["error"].startswith("image 0: not base64")
        assert whole == expected(project, "herd", "onnx_int8", first)
        assert spoilt["error"].startswith("image 2: not an image that decodes: ")
        refused = requests.post(f"{url}/invocations", json={**request, "params": {"target": "x"}}, timeout=PATIENCE)
        assert refused.status_code == 400
        assert "target 'x': expected one of onnx_" in refused.json()["stack_trace"]


@pytest.mark.parametrize(
    ("cell", "said"),
    [
        ("no base64!", "image 1: not base64"),
        (base64.b64encode(b"no image").decode(), "image 1: not an image that decodes"),
        (b"no image", "image 1: not an image that decodes"),
        (Path("missing.jpg"), r"image 1: missing\.jpg: no such file"),
        (np.zeros((4, 4), np.uint8), r"image 1: uint8 \[4, 4\], expected RGB as uint8 \[H, W, 3\]"),
        (np.zeros((5, 0, 3), np.uint8), r"image 1: uint8 \[5, 0, 3\], expected RGB as uint8 \[H, W, 3\]"),
        (np.zeros((4, 4, 3)), r"image 1: float64 \[4, 4, 3\], expected RGB as uint8"),
        (None, "image 1: NoneType, expected base64, bytes, a Path or an array"),
    ],
)
def test_what_is_no_picture_is_named_and_costs_the_others_nothing(project: Path, cell: object, said: str) -> None:
    served, whole = Served(project / "exports/herd", FILES), np.zeros((4, 4, 3), np.uint8)
    alone = served.predict({"image": [whole]}, {"target": "onnx_int8"})
    first, bad, last = served.predict({"image": [whole, cell, whole]}, {"target": "onnx_int8"})
    assert [first, last] == alone * 2
    assert bad.keys() == {"error"}
    assert re.match(said, bad["error"])


def test_an_answer_that_fails_is_that_rows_alone(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a runtime raises: here for the second row."""
    served, count = Served(project / "exports/herd", FILES), iter(range(9))

    def predict(*given: Any) -> Sample:
        if next(count) == 1:
            raise MemoryError("3 GB")
        return predict_image(*given)

    monkeypatch.setattr("pipeline.inference.serving.predict_image", predict)
    rows = served.predict({"image": [np.zeros((4, 4, 3), np.uint8)] * 3}, {"target": "onnx_int8"})
    assert rows[1] == {"error": "image 1: MemoryError: 3 GB"}
    assert rows[0] == rows[2] != rows[1]


def test_a_target_that_the_model_lacks(project: Path) -> None:
    with pytest.raises(InputError, match="target 'coreml': expected one of onnx_int8, onnx_float"):
        Served(project / "exports/herd", FILES).predict({"image": []}, {"target": "coreml"})


class Watched:
    """The runtime behind it, with a second call from another thread in the middle of the first."""

    def __init__(self, runtime: Runtime, call: Callable[[], object]) -> None:
        self.threads, self._runtime, self._call = runtime.threads, runtime, call
        self.entered, self.other = [threading.Event(), threading.Event()], threading.Thread(target=call)
        self.together = False

    def run(self, images: Images) -> Outputs:
        if self.entered[0].is_set():
            self.entered[1].set()
        else:
            self.entered[0].set()
            self.other.start()
            self.together = self.entered[1].wait(1)
        return self._runtime.run(images)


@pytest.mark.parametrize("concurrent", [True, False])
def test_a_runtime_runs_in_one_thread_unless_it_is_concurrent(
    project: Path, monkeypatch: pytest.MonkeyPatch, concurrent: bool
) -> None:
    request = {"image": [np.zeros((4, 4, 3), np.uint8)]}
    served = Served(project / "exports/herd", FILES)

    def ask() -> object:
        return served.predict(request, {"target": "onnx_float"})

    watched = Watched(open_runtime("onnx_float", project / "exports/herd" / FILES["onnx_float"]), ask)
    monkeypatch.setattr(watched, "concurrent", concurrent, raising=False)
    monkeypatch.setattr("pipeline.inference.serving.open_runtime", lambda *_: watched)
    ask()
    watched.other.join()
    assert watched.entered[1].is_set()
    assert watched.together == concurrent


@pytest.mark.parametrize(
    ("targets", "served"),
    [
        (["executorch_int8", "onnx_float", "onnx_int8"], ["onnx_int8", "onnx_float"]),
        (["onnx_float"], ["onnx_float"]),
        (["executorch_float", "executorch_int8"], ["executorch_int8", "executorch_float"]),
        (["coreml"], None),
    ],
)
def test_the_int8_file_comes_first_and_onnx_before_executorch(
    tmp_path: Path, targets: list[str], served: list[str] | None
) -> None:
    write_project(tmp_path, {"herd": "detect"})
    verdict, made = tmp_path / "reports/verify/herd/verdict.json", tmp_path / "exports/herd/export.json"
    row = json.loads(verdict.read_text())["targets"]["onnx_int8"]
    judged = {"passed": True, "main_metric": "AP", "targets": dict.fromkeys(targets, row)}
    verdict.write_text(json.dumps(judged))
    made.write_text(json.dumps({"targets": {target: {"file": target} for target in targets}, "not_made": {}}))
    found = servable(tmp_path, "herd")
    assert (list(found.files) if found else None) == served

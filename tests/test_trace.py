"""Where files came from, told of a project in the real DVC and git, and of a dataset that was really ingested."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from finished_project import commit, dvc, write_dvc, write_project
from PIL import Image

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.files import read_json, sha256, write_json
from pipeline.core.sample import read_samples, write_samples
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import DATASETS, SplitParams
from pipeline.tracking.trace.image import image_of
from pipeline.tracking.trace.text import trace_text
from pipeline.tracking.trace.trace import trace
from pipeline.tracking.track import track_run

RUNS = {"alpaca": "classify", "herd": "detect"}


def git(root: Path, *arguments: str) -> str:
    own = ["-c", "user.name=test", "-c", "user.email=test@localhost"]
    return subprocess.run(["git", *own, *arguments], cwd=root, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("traced")
    write_project(root, RUNS)
    write_dvc(root, RUNS)
    git(root, "init", "-q")
    dvc(root, "init", "--quiet")
    commit(root)
    git(root, "add", "dvc.lock", "dvc.yaml", "params.yaml")
    git(root, "commit", "-qm", "first")
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project"))


def test_an_exported_file_tells_all(project: Path) -> None:
    tracked = track_run("herd", project)
    found = trace(project / "exports/herd/herd.onnx", project)
    assert (found["state"], found["stage"], found["run"], found["target"]) == (
        "current", "export@herd", "herd", "onnx_int8"
    )  # fmt: skip
    assert found["sha256"] == sha256(project / "exports/herd/herd.onnx")
    model = found["made_from"][0]
    assert (model["path"], model["by"]) == ("models/herd", "train@herd")
    assert model["made_from"][0]["path"] == "data/ingested/herd/dataset.json"
    assert found["dataset"]["counts"] == {"train": 8, "val": 4, "test": 8}
    assert (found["dataset"]["format"], found["dataset"]["path"]) == ("folder", "data/mine")
    assert found["dataset"]["layers"] == {"round1": "7f" * 32}
    assert f"layer     round1, sha256 {'7f' * 6}\n" in trace_text(found)
    assert found["verdict"]["passed"] is True
    assert found["verdict"]["recorded"] is True
    assert found["verdict"]["targets"]["onnx_int8"]["AP"] == 0.8
    assert (found["lock"], found["mlflow"]) == (tracked.lock, [tracked.mlflow_run])
    assert found["run_params"]["head.dropout"] == 0.2
    assert found["git"]["recorded_in"] == git(project, "rev-parse", "HEAD").strip()
    json.dumps(found, allow_nan=False)


def test_without_a_store_nothing_is_made(project: Path) -> None:
    assert trace(project / "exports/herd/herd.onnx", project)["mlflow"] == []
    assert not (project / "mlflow.db").exists()
    away = trace(project / "exports/herd/herd.onnx", project, "http://127.0.0.1:9")  # the discard port
    assert "MLflow at http://127.0.0.1:9" in away["mlflow_error"]
    assert away["lock"]


def test_a_copy_is_known_by_its_content(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "desktop.bin"
    shutil.copy(project / "exports/herd/herd.onnx", copy)
    found = trace(copy, project)
    assert found["places"] == ["exports/herd/herd.onnx"]
    assert (found["state"], found["stage"]) == ("current", "export@herd")


def spoil_file(project: Path) -> None:
    (project / "exports/herd/herd.onnx").write_text("other weights")


def add_file(project: Path) -> None:
    (project / "exports/herd/new.onnx").write_text("more weights")


def spoil_without_cache(project: Path) -> None:
    spoil_file(project)
    shutil.rmtree(project / ".dvc/cache")


@pytest.mark.parametrize(
    ("change", "name", "state", "why"),
    [
        (spoil_file, "herd.onnx", "changed since", "by dvc.lock its md5 was"),
        (spoil_file, "export.json", "current", ""),
        (add_file, "new.onnx", "changed since", "has no such file"),
        (spoil_without_cache, "herd.onnx", "changed since", "dvc.lock has another exports/herd"),
    ],
)
def test_what_changed_since_is_told(
    project: Path, change: Callable[[Path], None], name: str, state: str, why: str
) -> None:
    change(project)
    found = trace(project / "exports/herd" / name, project)
    assert found["state"] == state
    assert why in found.get("why", "")


def test_a_file_of_an_earlier_state_is_found_in_history(project: Path, tmp_path: Path) -> None:
    old, first = tmp_path / "old.onnx", git(project, "rev-parse", "HEAD").strip()
    shutil.copy(project / "exports/herd/herd.onnx", old)
    lock = trace(old, project)["lock"]
    spoil_file(project)
    commit(project)
    git(project, "commit", "-qam", "second")
    found = trace(old, project)
    assert (found["places"], found["state"]) == ([], "of an earlier state")
    assert found["why"] == f"exports/herd/herd.onnx of commit {first[:8]}"
    assert (found["lock"], found["target"]) == (lock, "onnx_int8")
    assert found["verdict"]["recorded"] is True
    assert trace(project / "exports/herd/herd.onnx", project)["lock"] != lock


def test_a_verify_that_failed_is_not_of_the_lock(project: Path) -> None:
    """DVC keeps no entry of a stage that fails: the verdict is in the workspace only."""
    spoil_file(project)
    dvc(project, "commit", "--force", "--quiet", "export@herd")
    report = project / "reports/verify/herd/verdict.json"
    report.write_text(report.read_text().replace('"passed": true', '"passed": false'))
    verdict = trace(project / "exports/herd/herd.onnx", project)["verdict"]
    assert (verdict["passed"], verdict["recorded"]) == (False, False)


def test_a_file_that_could_not_be_judged_has_no_figures(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = project / "reports/verify/herd/verdict.json"
    verdict = read_json(report)
    unknown = dict.fromkeys(("metrics", "drop", "size_ratio"))
    verdict["targets"]["onnx_int8"] |= {**unknown, "reason": "herd.onnx: no such file"}
    write_json(report, verdict)
    dvc(project, "commit", "--force", "--quiet", "verify@herd")
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["trace", "exports/herd/herd.onnx"])
    assert "onnx_int8: AP undefined; herd.onnx: no such file" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("params.yaml", "not a file of this chain; looked for its content in .*exports/alpaca.*DVC's cache"),
        ("exports", "a folder; expected a file in it"),
        ("nothing.onnx", "no such file"),
    ],
)
def test_what_is_not_the_chains_is_an_error(project: Path, name: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        trace(project / name, project)


def test_without_a_lock(project: Path) -> None:
    (project / "dvc.lock").unlink()
    with pytest.raises(InputError, match=r"dvc\.lock: no such file"):
        trace(project / "params.yaml", project)


def test_the_command_prints_a_tree_or_json(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    main(["trace", "exports/herd/herd.onnx"])
    tree = capsys.readouterr().out
    for line in (
        "state    current: as dvc.lock says",
        "made by  export@herd",
        "onnx_int8: AP 0.8000, 0.0100 below float",
    ):
        assert line in tree
    main(["trace", "exports/herd/herd.onnx", "--json"])
    assert json.loads(capsys.readouterr().out)["run"] == "herd"


def test_a_picture_leads_back_to_the_owners(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for i in range(12):
        path = tmp_path / "mine" / ("cat", "dog")[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(path)
    params = DATASETS["folder"](
        format="folder", path=str(tmp_path / "mine"), labels=str(tmp_path / "mine"), options={},
        splits=SplitParams(val=0.2, test=0.2, seed=0), max_side=32, refuse_over=0.5,
    )  # fmt: skip
    ingest("pets", params, tmp_path / "data/ingested/pets", tmp_path / "reports/ingest/pets")
    dataset: dict[str, Any] = {"format": "folder", "path": "mine", "labels": "mine", "options": {}}
    original = read_samples(tmp_path / "data/ingested/pets/train")[0]
    copy, golden = tmp_path / "data/augmented/pets", tmp_path / "exports/pets/golden"
    row = {**original.to_json(), "id": f"{original.id}~1", "file_name": "copy.jpg"}
    write_samples(copy, [original.from_json(row)])
    write_json(golden / "decoded.json", [{**original.to_json(), "file_name": "0.png"}])
    own = f"data/ingested/pets/train/{original.file_name}"
    for place in (own, "data/augmented/pets/copy.jpg", "exports/pets/golden/0.png"):
        found = image_of(tmp_path, place, "pets", dataset)
        assert found is not None
        assert found["ingested"] == own
        assert (found["split"], found["labels"]) == ("train", [original.label])
        source = tmp_path / found["source"]
        assert source.is_file()
        assert source.parent.name == original.label
        assert np.asarray(Image.open(source)).shape == (40, 40, 3)
    assert image_of(tmp_path, "data/ingested/pets/dataset.json", "pets", dataset) is None
    shutil.rmtree(tmp_path / "mine")
    gone = image_of(tmp_path, "data/augmented/pets/copy.jpg", "pets", dataset)
    assert gone is not None
    assert gone["source"] is None
    assert "mine" in gone["why"]

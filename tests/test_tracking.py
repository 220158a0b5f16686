"""Against the real MLflow (an SQLite store, and a server), the real DVC, and Chromium."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.request import url2pathname

import pytest
from finished_project import RUNS, commit, write_finished
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait
from servers import PATIENCE, serving

from pipeline.core.errors import InputError
from pipeline.core.files import write_json
from pipeline.tracking.dvc_state import finished_runs, read_state
from pipeline.tracking.store import default_uri
from pipeline.tracking.track import runs_table, track_all, track_run

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with four finished runs."""
    root = tmp_path_factory.mktemp("template")
    write_finished(root, RUNS)
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "my project"))


@pytest.fixture
def server(project: Path) -> Iterator[str]:
    """`make ui`'s server on the project's database."""
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", "sqlite:///mlflow.db"]
    without_jobs = os.environ | {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with serving([*command, "--workers", "1"], project, "health", without_jobs) as url:
        yield url


def runs_in(uri: str) -> list[str]:
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("pocketlens")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    return sorted(r.info.run_name for r in found)


def versions_in(uri: str, run: str = "alpaca") -> list[str]:
    return [str(v.version) for v in MlflowClient(uri, uri).search_model_versions(f"name = 'pocketlens-{run}'")]


def candidate_in(uri: str) -> str:
    return str(MlflowClient(uri, uri).get_model_version_by_alias("pocketlens-alpaca", "candidate").version)


@pytest.fixture
def exported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """The model file that an app's build would fetch from a store."""

    def fetch(uri: str) -> str:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)  # for models:/ MLflow heeds nothing else
        (tmp_path / "app").mkdir()
        folder = download_artifacts("models:/pocketlens-alpaca@candidate", dst_path=str(tmp_path / "app"))
        return Path(folder, "data/model/alpaca.onnx").read_text()

    return fetch


def test_an_mlflow_run_holds_what_the_files_say(project: Path, caplog: pytest.LogCaptureFixture) -> None:
    tracked = track_run("alpaca", project)
    client = MlflowClient(default_uri(project))
    run = client.get_run(tracked.mlflow_run)
    assert run.info.status == "FINISHED"
    assert run.data.tags["pocketlens.lock"] == tracked.lock
    assert run.data.params.items() >= {
        "task": "classify", "head.dropout": "0.2", "dataset.ingest.max_side": "64", "trained.weights": "none"
    }.items()  # fmt: skip
    assert [(m.step, m.value) for m in client.get_metric_history(tracked.mlflow_run, "val_metric")] == [
        (0, 0.0), (1, 0.25), (2, 0.5)
    ]  # fmt: skip
    assert run.data.metrics.items() >= {
        "float/accuracy": 0.8, "onnx_int8/accuracy": 0.8, "onnx_int8/drop": 0.01, "onnx_int8/size_bytes": 700,
        "onnx_int8/latency_ms/median": 1.5, "float/per_class/not / 100_/f1": 0.5,
        "cost/macs": 1500, "cost/params": 40, "train/seconds": 12.5,
    }.items()  # fmt: skip
    assert "macro_f1" in caplog.text  # undefined: left out, and said
    (data,) = (i.dataset for i in run.inputs.dataset_inputs)
    assert data.digest == read_state(project, "alpaca", "alpaca").data
    assert json.loads(data.source) == {
        "path": "data/ingested/alpaca", "md5": data.digest, "layers": {"round1": "7f" * 6}
    }  # fmt: skip
    for path in (
        "exports/alpaca.onnx", "exports/verdict.json", "exports/verify.json", "model/model.json",
        "reports/ingest/contact_sheet.jpg", "reports/verify/verdict.json", "reports/verify/verify.json",
        "reports/evaluate/plots/pr.csv",
    ):  # fmt: skip
        assert Path(url2pathname(run.info.artifact_uri.removeprefix("file://")), path).is_file()


def test_the_registered_model_is_the_exported_files(project: Path, exported: Callable[[str], str]) -> None:
    track_run("alpaca", project)
    assert exported(default_uri(project)) == "the weights of alpaca"


def test_tracking_twice_leaves_one_run_and_one_version(project: Path) -> None:
    first, second = track_run("alpaca", project), track_run("alpaca", project)
    assert (first.new, second.new) == (True, False)
    assert (first.mlflow_run, first.version) == (second.mlflow_run, second.version)
    assert runs_in(default_uri(project)) == ["alpaca"]
    assert versions_in(default_uri(project)) == ["1"]


def test_another_lock_state_is_another_run_and_version_and_going_back_makes_none(project: Path) -> None:
    uri, history = default_uri(project), project / "reports/train/alpaca/history.csv"
    before, lock = history.read_text(), (project / "dvc.lock").read_text()
    first = track_run("alpaca", project)
    history.write_text(before + "3,0.2,0.2,0.8,0.001\n")
    commit(project)
    second = track_run("alpaca", project)
    assert runs_in(uri) == ["alpaca", "alpaca"]
    assert (second.version, candidate_in(uri)) == ("2", "2")
    history.write_text(before)
    (project / "dvc.lock").write_text(lock)
    third = track_run("alpaca", project)
    assert third.mlflow_run == first.mlflow_run != second.mlflow_run
    assert candidate_in(uri) == "1"


def test_what_did_not_verify_is_not_registered(project: Path) -> None:
    verdict = project / "reports/verify/alpaca/verdict.json"
    verdict.write_text(verdict.read_text().replace('"passed": true', '"passed": false'))
    commit(project)
    assert track_run("alpaca", project).version is None
    assert runs_in(default_uri(project)) == ["alpaca"]
    assert versions_in(default_uri(project)) == []


def test_without_the_timed_files_a_run_is_tracked_without_its_seconds_and_latencies(project: Path) -> None:
    (project / "reports/verify/alpaca/verify.json").unlink()
    (project / "reports/train/alpaca/training.json").unlink()
    lines = dict(line.split(": ", 1) for line in track_all(project))
    assert "tracked as" in lines["alpaca"]
    metrics = MlflowClient(default_uri(project)).get_run(runs_by_name(project)["alpaca"]).data.metrics
    assert metrics["onnx_int8/accuracy"] == 0.8
    assert [key for key in metrics if "latency" in key or key.startswith("train/")] == []


def runs_by_name(project: Path) -> dict[str, str]:
    client = MlflowClient(default_uri(project))
    experiment = client.get_experiment_by_name("pocketlens")
    assert experiment is not None
    return {r.info.run_name: r.info.run_id for r in client.search_runs([experiment.experiment_id])}


def test_a_half_written_run_is_made_again(project: Path) -> None:
    first = track_run("alpaca", project)
    client = MlflowClient(default_uri(project))
    client.update_run(first.mlflow_run, status="RUNNING")
    second = track_run("alpaca", project)
    assert second.new
    assert runs_in(default_uri(project)) == ["alpaca"]
    assert versions_in(default_uri(project)) == [second.version]


def test_an_emptied_store_is_rebuilt(project: Path, template: Path) -> None:
    assert len(list(track_all(project))) == 4
    shutil.rmtree(project / "mlartifacts")
    shutil.copy(template / "mlflow.db", project / "rebuilt.db")
    uri = "sqlite:///rebuilt.db"  # of the project, wherever the tests run
    lines = list(track_all(project, uri))
    assert runs_in(f"sqlite:///{project / 'rebuilt.db'}") == sorted(RUNS)
    assert all("tracked as" in line and "version 1" in line for line in lines)
    assert all("was tracked already" in line for line in track_all(project, uri))
    table = runs_table(project, uri)
    assert table.set_index("run").loc["herd", ["task", "float/AP", "onnx_int8/drop"]].tolist() == ["detect", 0.7, 0.02]


def test_only_runs_whose_files_are_those_of_the_lock_are_rebuilt(project: Path) -> None:
    (project / "models/alpaca/model.json").write_text("{}")
    shutil.rmtree(project / "exports/herd")
    (project / "data/ingested/pose/dataset.json").write_text("{}")
    told: list[str] = []
    with pytest.raises(InputError, match=r"^not tracked: alpaca, herd, pose; the lines above say why$"):
        told.extend(track_all(project))
    lines = dict(line.split(": ", 1) for line in told)
    assert "skipped" in lines["alpaca"]
    assert "models/alpaca modified" in lines["alpaca"]
    assert "exports/herd deleted" in lines["herd"]
    assert "not what train@pose was made from" in lines["pose"]
    assert runs_in(default_uri(project)) == ["actions"]


def test_a_run_without_a_whole_chain(project: Path) -> None:
    write_json(project / "dvc.lock", {"schema": "2.0", "stages": {"verify@alpaca": {"cmd": "echo"}}})
    assert finished_runs(project) == ["alpaca"]
    with pytest.raises(InputError, match=r"dvc\.lock: no entry for .*train@alpaca"):
        track_run("alpaca", project)
    (project / "dvc.lock").unlink()
    with pytest.raises(InputError, match=r"dvc\.lock: no such file"):
        track_run("alpaca", project)


@pytest.mark.exhaustive
def test_the_stage_writes_the_same_file_each_time(project: Path) -> None:
    shutil.copy(ROOT / "resolved.yaml", project)
    written = []
    for uri in ("sqlite:///mlflow.db", "sqlite:///other.db"):
        shutil.copy(project / "mlflow.db", project / "other.db")
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "MLFLOW_TRACKING_URI": uri}
        command = [sys.executable, "-m", "stages.track", "herd"]
        done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=True)
        assert "model pocketlens-herd version 1" in done.stdout
        written.append((project / "reports/track/herd.json").read_bytes())
    assert written[0] == written[1]
    lock = read_state(project, "herd", "herd").lock
    assert json.loads(written[0]) == {
        "run": "herd", "lock": lock, "experiment": "pocketlens", "registered": "pocketlens-herd"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("http://me:secret@127.0.0.1:9", "MLflow at http://127.0.0.1:9"),  # the discard port: nobody answers
        ("mlruns", "MLflow at mlruns"),  # the old store of files
    ],
)
def test_a_store_that_does_not_answer(project: Path, uri: str, said: str) -> None:
    with pytest.raises(InputError, match=said) as raised:
        track_run("alpaca", project, uri)
    assert "secret" not in str(raised.value).split(": ")[0]


@pytest.mark.exhaustive
def test_a_server_keeps_the_files_itself(project: Path, server: str, exported: Callable[[str], str]) -> None:
    first, second = track_run("alpaca", project, server), track_run("alpaca", project, server)
    assert first.mlflow_run == second.mlflow_run
    assert (runs_in(server), versions_in(server)) == (["alpaca"], ["1"])
    assert exported(server) == "the weights of alpaca"
    client, lock = MlflowClient(server), {"pocketlens.run": "alpaca", "pocketlens.lock": first.lock}
    place = client.get_run(first.mlflow_run).info.experiment_id
    others = client.create_run(place, tags=lock).info.run_id  # that a colleague writes at the moment
    client.create_run(place, tags=lock, start_time=1)  # that a kill left long ago
    assert track_run("alpaca", project, server).mlflow_run == first.mlflow_run
    assert {r.info.run_id for r in client.search_runs([place])} == {first.mlflow_run, others}
    with pytest.raises(InputError, match="was made through a server"):
        track_run("alpaca", project)


def test_the_ui_shows_the_runs_and_compares_them(
    project: Path, server: str, browser: WebDriver, tmp_path: Path
) -> None:
    list(track_all(project))
    client = MlflowClient(server)
    experiment = client.get_experiment_by_name("pocketlens").experiment_id
    ids = [r.info.run_id for r in client.search_runs([experiment])]
    training = "workflowType=machine_learning"  # else the UI shows its menu for chatbots
    shown = WebDriverWait(browser, PATIENCE)
    browser.get(f"{server}/#/experiments/{experiment}/runs?{training}")
    shown.until(lambda b: all(word in _text_of(b) for word in (*RUNS, "Model training")))
    assert browser.save_screenshot(str(tmp_path / "runs.png"))
    browser.get(f"{server}/#/compare-runs?runs={json.dumps(ids)}&experiments={json.dumps([experiment])}&{training}")
    shown.until(lambda b: all(word in _text_of(b) for word in (*RUNS, "float/AP", "0.7")))
    shown.until(lambda b: b.find_elements(By.CSS_SELECTOR, ".js-plotly-plot .main-svg"))
    assert browser.save_screenshot(str(tmp_path / "compare.png"))
    browser.get(f"{server}/#/models/pocketlens-herd")
    shown.until(lambda b: all(word in _text_of(b) for word in ("Version 1", "candidate", "champion", "AP 0.7")))
    assert browser.save_screenshot(str(tmp_path / "model.png"))


def _text_of(browser: WebDriver) -> str:
    return browser.find_element(By.TAG_NAME, "body").text

"""What dvc.lock says of a run, as DVC itself has written it."""

import json
from pathlib import Path

import pytest
from finished_project import commit, dvc, write_dvc, write_project

from pipeline.core.files import md5_of, write_json
from pipeline.tracking.dvc_state import read_lock, read_state, stale_files

RUNS = {"alpaca": "classify", "herd": "detect"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    write_project(tmp_path, RUNS)
    write_dvc(tmp_path, RUNS)
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    commit(tmp_path)
    return tmp_path


def test_code_that_makes_the_same_files_is_no_new_state(project: Path) -> None:
    before = read_state(project, "alpaca", "alpaca")
    (project / "train.py").write_text("the code, with a comment")
    commit(project)
    assert read_state(project, "alpaca", "alpaca") == before


def test_a_parameter_is_a_new_state_of_its_run_only(project: Path) -> None:
    before = {run: read_state(project, run, run).lock for run in RUNS}
    params = json.loads((project / "params.yaml").read_text())
    params["runs"]["herd"]["head"]["dropout"] = 0.3
    write_json(project / "params.yaml", params)
    commit(project)
    after = {run: read_state(project, run, run).lock for run in RUNS}
    assert [run for run in RUNS if before[run] != after[run]] == ["herd"]


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [("train/alpaca/training.json", "12.5", "13.5"), ("verify/alpaca/verify.json", "1.5", "1.6")],
)
def test_another_time_on_the_clock_is_no_new_state(project: Path, name: str, old: str, new: str) -> None:
    before, file = read_state(project, "alpaca", "alpaca"), project / "reports" / name
    text = file.read_text()
    assert text != text.replace(old, new)
    file.write_text(text.replace(old, new))
    assert stale_files(project, ["alpaca"]) == {"alpaca": []}
    commit(project)
    assert read_state(project, "alpaca", "alpaca") == before


@pytest.mark.parametrize("name", ["ingest/alpaca/contact_sheet.jpg", "evaluate/alpaca/plots/pr.csv"])
def test_another_picture_of_the_same_data_is_no_new_state(project: Path, name: str) -> None:
    before = read_state(project, "alpaca", "alpaca")
    (project / "reports" / name).write_bytes(b"in other colours")
    commit(project)
    assert read_state(project, "alpaca", "alpaca") == before


def test_other_figures_are_a_new_state(project: Path) -> None:
    before = read_state(project, "alpaca", "alpaca")
    (project / "reports/evaluate/alpaca/metrics.json").write_text("{}")
    commit(project)
    assert read_state(project, "alpaca", "alpaca").lock != before.lock


def test_a_run_that_params_no_longer_have(project: Path) -> None:
    write_dvc(project, {"alpaca": "classify"})
    assert stale_files(project, ["herd"])["herd"][0] == "train@herd is no longer in dvc.yaml"


def test_a_hash_is_the_one_that_dvc_records(project: Path) -> None:
    outs = [out for entry in read_lock(project).values() for out in entry.get("outs", [])]
    assert len(outs) == 20
    for out in outs:
        assert md5_of(project / out["path"]) == out["md5"], out["path"]

"""Versions and aliases of the registered model, in MLflow's own registry."""

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from finished_project import client, commit, write_finished

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.tracking.track import Tracked, describe, track_all, track_run

RUN, MODEL = "herd", "pocketlens-herd"
VERDICT = f"reports/verify/{RUN}/verdict.json"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one finished run, whose file has an AP of 0.9."""
    root = tmp_path_factory.mktemp("template")
    write_finished(root, {RUN: "detect"})
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project"))


def aliases(project: Path) -> dict[str, str]:
    return {k: str(v) for k, v in client(project).get_registered_model(MODEL).aliases.items()}


def versions(project: Path) -> list[str]:
    return sorted(str(v.version) for v in client(project).search_model_versions(f"name = '{MODEL}'"))


def verified(project: Path, figure: float = 0.9, **changes: Any) -> None:
    """The run as if it had been trained again: its file now has this figure, and another size."""
    verdict = read_json(project / VERDICT)
    judged = verdict["targets"]["onnx_int8"]
    judged["metrics"]["AP"] = figure
    judged["size_bytes"] += 1
    write_json(project / VERDICT, {**verdict, **changes})
    commit(project)


def again(project: Path, figure: float, **changes: Any) -> Tracked:
    verified(project, figure, **changes)
    return track_run(RUN, project)


def test_the_first_version_is_candidate_and_champion(project: Path) -> None:
    assert "version 1: candidate and champion, as there was none" in describe(track_run(RUN, project))
    assert aliases(project) == {"candidate": "1", "champion": "1"}
    assert "version 1: candidate and champion" in describe(track_run(RUN, project))


@pytest.mark.parametrize(
    ("figure", "champion", "said"),
    [
        (0.95, "2", "champion in place of version 1: AP 0.95, before 0.9"),
        (0.9, "2", "champion in place of version 1: AP 0.9, before 0.9"),
        (0.89, "1", "champion stays version 1: AP 0.9, this one's 0.89"),
    ],
)
def test_champion_moves_where_the_figure_is_not_worse(project: Path, figure: float, champion: str, said: str) -> None:
    track_run(RUN, project)
    assert said in describe(again(project, figure))
    assert aliases(project) == {"candidate": "2", "champion": champion}


def test_figures_on_other_test_data_are_not_compared(project: Path) -> None:
    track_run(RUN, project)
    (project / f"data/ingested/{RUN}/test/metadata.jsonl").write_text("other images")
    assert "champion stays version 1: judged on other test data" in describe(again(project, 0.99))
    assert aliases(project) == {"candidate": "2", "champion": "1"}


def test_a_failed_verify_leaves_both_aliases(project: Path) -> None:
    track_run(RUN, project)
    tracked = again(project, 0.99, passed=False)
    assert tracked.version is None
    assert "no model registered: verify did not pass" in describe(tracked)
    assert (aliases(project), versions(project)) == ({"candidate": "1", "champion": "1"}, ["1"])


def test_what_finds_nothing_is_candidate_and_no_champion(project: Path) -> None:
    verdict = project / f"reports/verify/{RUN}/verdict.json"
    told, nothing = json.loads(verdict.read_text()), "nothing is found: no object has a score of 0.4 or more"
    verdict.write_text(json.dumps({**told, "nothing": nothing}))
    commit(project)
    for _ in range(2):
        assert f"version 1: candidate; no champion: {nothing}" in describe(track_run(RUN, project))
        assert aliases(project) == {"candidate": "1"}
    verdict.write_text(json.dumps(told))
    commit(project)
    assert "version 2: candidate and champion, as there was none" in describe(track_run(RUN, project))
    verdict.write_text(json.dumps({**told, "nothing": f"{nothing} of all"}))
    commit(project)
    assert f"version 3: candidate; champion stays version 2: {nothing}" in describe(track_run(RUN, project))
    assert aliases(project) == {"candidate": "3", "champion": "2"}


def test_a_champion_chosen_by_hand_stays_until_something_new_is_tracked(project: Path) -> None:
    track_run(RUN, project)
    again(project, 0.95)
    client(project).set_registered_model_alias(MODEL, "champion", "1")
    assert "champion is version 1" in describe(track_run(RUN, project))
    assert aliases(project) == {"candidate": "2", "champion": "1"}
    again(project, 0.96)
    assert aliases(project) == {"candidate": "3", "champion": "3"}


def test_without_a_champion_the_next_is_it(project: Path) -> None:
    track_run(RUN, project)
    client(project).delete_registered_model_alias(MODEL, "champion")
    track_run(RUN, project)
    assert aliases(project) == {"candidate": "1", "champion": "1"}


def test_a_lost_database_is_rebuilt_with_its_aliases(project: Path, template: Path) -> None:
    before = list(track_all(project))
    shutil.copy(template / "mlflow.db", project / "mlflow.db")
    after = list(track_all(project))
    assert [line.split("model ")[1] for line in before] == [line.split("model ")[1] for line in after]
    assert aliases(project) == {"candidate": "1", "champion": "1"}


def test_lost_files_are_written_again_and_no_run_version_or_alias_is_lost(project: Path) -> None:
    first = track_run(RUN, project)
    shutil.rmtree(project / "mlartifacts")
    second = track_run(RUN, project)
    assert (second.mlflow_run, second.version) == (first.mlflow_run, "1")
    assert "was tracked already, its files are written again" in describe(second)
    assert (project / "mlartifacts" / first.mlflow_run / "artifacts/served/MLmodel").is_file()
    assert (aliases(project), versions(project)) == ({"candidate": "1", "champion": "1"}, ["1"])
    assert "its files are" not in describe(track_run(RUN, project))
    (project / "mlartifacts" / first.mlflow_run / "artifacts/exports/verdict.json").unlink()  # as a kill leaves it
    assert "its files are written again" in describe(track_run(RUN, project))


@pytest.mark.parametrize(("table", "made"), [("model_versions", []), ("registered_model_aliases", ["1"])])
def test_a_registry_that_fails_leaves_nothing_half_made(project: Path, table: str, made: list[str]) -> None:
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute(f"CREATE TRIGGER gone BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'is away'); END")
    with pytest.raises(InputError, match=r"project/mlflow\.db: (is away|Model Version creation error)"):
        track_run(RUN, project)
    assert versions(project) == made
    with sqlite3.connect(project / "mlflow.db") as database:
        database.execute("DROP TRIGGER gone")
    tracked = track_run(RUN, project)
    assert not tracked.new  # the MLflow run was whole
    assert (aliases(project), versions(project)) == ({"candidate": "1", "champion": "1"}, ["1"])


def test_a_place_for_files_out_of_reach_leaves_no_version(project: Path) -> None:
    (project / "mlartifacts").write_text("no folder")
    with pytest.raises(InputError, match=r"project/mlartifacts/.*: Not a directory"):
        track_run(RUN, project)
    assert client(project).search_registered_models() == []
    (project / "mlartifacts").unlink()
    tracked = track_run(RUN, project)
    assert (aliases(project), versions(project)) == ({"candidate": "1", "champion": "1"}, ["1"])
    experiment = client(project).get_experiment_by_name("pocketlens")
    assert [r.info.run_id for r in client(project).search_runs([experiment.experiment_id])] == [tracked.mlflow_run]


def test_a_run_without_a_file_that_runs_in_python_is_tracked_but_not_registered(project: Path) -> None:
    made = project / f"exports/{RUN}/export.json"
    facts = json.loads(made.read_text())
    write_json(made, {**facts, "targets": {"coreml": {"file": "model.mlpackage"}}})
    commit(project)
    assert track_run(RUN, project).version is None
    assert client(project).search_registered_models() == []

"""Where the store is and what it bears: moves and copies, DVC's experiments, silent servers, databases that fail."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, in_project
from finished_project import client, commit, write_finished
from mlflow.artifacts import download_artifacts
from servers import silent

from pipeline import cli
from pipeline.core.errors import InputError
from pipeline.core.files import write_json, write_text
from pipeline.tracking import database
from pipeline.tracking.store import default_uri, open_store
from pipeline.tracking.trace.trace import trace
from pipeline.tracking.track import runs_table, track_all, track_run

RUN, MODEL = "herd", "pocketlens-herd"
ODD = "50% of #2?x=1 für %20uns"


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with one finished run."""
    root = tmp_path_factory.mktemp("template")
    write_finished(root, {RUN: "detect"})
    return root


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project"))


def kept(project: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Runs, versions and aliases."""
    mlflow = client(project)
    runs = mlflow.search_runs([e.experiment_id for e in mlflow.search_experiments()])
    versions = mlflow.search_model_versions(f"name = '{MODEL}'")
    aliases = mlflow.get_registered_model(MODEL).aliases
    return sorted(r.info.run_id for r in runs), sorted(str(v.version) for v in versions), dict(aliases)


def files(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def train_again(project: Path) -> None:
    history = project / f"reports/train/{RUN}/history.csv"
    history.write_text(history.read_text() + "3,0.2,0.2,0.8,0.001\n")
    commit(project)


def served_by(project: Path, alias: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", default_uri(project))  # for models:/ MLflow heeds nothing else
    return Path(download_artifacts(f"models:/{MODEL}@{alias}"))


@pytest.mark.parametrize("name", ["renamed", ODD])
def test_a_project_that_is_moved_keeps_runs_versions_and_aliases(
    project: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = track_run(RUN, project)
    before = kept(project)
    (project.parent / "elsewhere").mkdir()
    moved = project.rename(project.parent / "elsewhere" / name)
    again = track_run(RUN, moved)
    assert (again.mlflow_run, again.version, again.new, again.refilled) == (first.mlflow_run, "1", False, False)
    assert kept(moved) == before
    assert (served_by(moved, "champion", monkeypatch) / f"data/model/{RUN}.onnx").is_file()
    train_again(moved)
    assert track_run(RUN, moved).version == "2"
    assert (served_by(moved, "candidate", monkeypatch) / f"data/model/{RUN}.onnx").is_file()
    assert not project.exists(), "nothing is written where it was"
    assert len(runs_table(moved)) == 2
    assert [path.name for path in moved.parent.iterdir()] == [name]


def test_a_copy_leaves_the_original_as_it_is(project: Path) -> None:
    track_run(RUN, project)
    before, held = files(project), kept(project)
    copy = Path(shutil.copytree(project, project.parent / "copy"))
    train_again(copy)
    assert track_run(RUN, copy).version == "2"
    served = [v.source for v in client(copy).search_model_versions(f"name = '{MODEL}'")]
    assert all(source.startswith((copy / "mlartifacts").as_uri()) for source in served)
    shutil.rmtree(copy / "mlartifacts")
    track_run(RUN, copy)
    assert (files(project), kept(project)) == (before, held)


def test_only_runs_that_are_skipped_are_found_in_a_moved_project_too(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    track_run(RUN, project)
    moved = project.rename(project.parent / "moved")
    shutil.rmtree(moved / f"exports/{RUN}")
    with pytest.raises(InputError, match=f"^not tracked: {RUN}; the lines above say why$"):
        list(track_all(moved))
    assert (served_by(moved, "champion", monkeypatch) / "MLmodel").is_file()


def test_places_of_others_stay(project: Path) -> None:
    disk = project.parent / "disk/mlartifacts"  # MLflow's own name for such a folder
    disk.mkdir(parents=True)
    others = {"mine": (project.parent / "shared/files").as_uri(), "on a disk": disk.as_uri()}
    for name, place in others.items():
        client(project).create_experiment(name, place)
    track_run(RUN, project)
    moved = project.rename(project.parent / "moved")
    track_run(RUN, moved)
    assert {name: places(moved)[name] for name in others} == others
    assert places(moved)["pocketlens"] == (moved / "mlartifacts").as_uri()


def places(project: Path) -> dict[str, str]:
    return {e.name: e.artifact_location for e in client(project).search_experiments()}


@pytest.mark.parametrize("moves", [False, True])
def test_a_folder_of_the_same_name_that_is_elsewhere_stays(project: Path, moves: bool) -> None:
    """As on a disk that is not mounted now, or beside another project's own database."""
    other = Path(shutil.copytree(project, project.parent / "other"))
    track_run(RUN, other)
    others = {
        "on a disk": (project.parent / "mnt/nas/team/mlartifacts").as_uri(),
        "of another": (other / "mlartifacts").as_uri(),
    }
    runs = {}
    for name, place in others.items():
        mlflow = client(project)
        runs[name] = mlflow.create_run(mlflow.create_experiment(name, place)).info
    track_run(RUN, project)
    project = project.rename(project.parent / "moved") if moves else project
    track_run(RUN, project)
    assert {name: places(project)[name] for name in others} == others
    for name, run in runs.items():
        assert client(project).get_run(run.run_id).info.artifact_uri == run.artifact_uri, name
    assert places(project)["pocketlens"] == (project / "mlartifacts").as_uri()


def test_a_project_that_was_tracked_before_its_place_was_written_down_can_move(project: Path) -> None:
    first = track_run(RUN, project)
    with closing(sqlite3.connect(project / "mlflow.db")) as connection, connection:
        connection.execute("DELETE FROM experiment_tags")
    copy = Path(shutil.copytree(project, project.parent / "copy"))
    moved = project.rename(project.parent / "moved")
    for there in (moved, copy):
        assert track_run(RUN, there).mlflow_run == first.mlflow_run
        assert places(there)["pocketlens"] == (there / "mlartifacts").as_uri()
        shutil.rmtree(there / "mlartifacts")
    again = moved.rename(project.parent / "again")
    assert track_run(RUN, again).refilled
    assert places(again)["pocketlens"] == (again / "mlartifacts").as_uri()


def test_a_project_without_a_run_in_its_store_can_move(project: Path) -> None:
    with open_store(project, None, "pocketlens"):
        pass
    moved = project.rename(project.parent / "moved")
    track_run(RUN, moved)
    assert places(moved)["pocketlens"] == (moved / "mlartifacts").as_uri()
    assert not project.exists()


@pytest.mark.exhaustive
def test_an_experiment_in_a_copy_by_dvc_is_in_the_projects_store(project: Path) -> None:
    write_text(project / ".gitignore", "/data\n/models\n/exports\n/reports\n/mlflow.db*\n/mlartifacts\n")
    shutil.copy(ROOT / "resolved.yaml", project)
    stages = json.loads((project / "dvc.yaml").read_text())["stages"]
    deps = [f"exports/{RUN}", f"reports/verify/{RUN}/verdict.json", f"reports/evaluate/{RUN}/metrics.json"]
    track = {"cmd": f"{sys.executable} -m stages.track {RUN}", "deps": deps, "outs": [f"reports/track/{RUN}.json"]}
    write_json(project / "dvc.yaml", {"stages": {**stages, "track": track}})
    shutil.rmtree(project / ".dvc")  # of a project without git
    in_project(project, "git", "init", "-q")
    in_project(project, "dvc", "init", "-q")
    in_project(project, "dvc", "commit", "--force", "--quiet", *(f"{s}@{RUN}" for s in stages))
    in_project(project, "git", "add", "-A")
    in_project(project, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "start")
    in_project(project, "dvc", "exp", "run", "--temp", "track", more={"PYTHONPATH": str(ROOT)})
    (run,) = runs_table(project)["run"]
    assert run == RUN
    assert list((project / "mlartifacts").glob("*/artifacts/exports/export.json"))


def test_a_silent_server_is_asked_once_and_the_error_names_it_and_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_finished(tmp_path / "two", {RUN: "detect", "alpaca": "classify"})
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lines: list[str] = []
    with silent() as server, pytest.raises(InputError, match=r"^not tracked: alpaca, herd; the lines above say why$"):
        lines.extend(track_all(tmp_path / "two", server))
    why = f"skipped: MLflow at {server} does not answer; waited for it 1 s at most, and 0 more times"
    assert [why in line for line in lines] == [True, True]
    assert lines[0].partition(": ")[2] == lines[1].partition(": ")[2], "the second was not asked for"


@pytest.mark.parametrize("what", ["skipped", "nothing"])
def test_the_command_fails_where_a_run_is_not_tracked(
    project: Path, what: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(ROOT / "params.yaml", project)
    if what == "skipped":
        shutil.rmtree(project / f"exports/{RUN}")
    else:
        write_json(project / "dvc.lock", {"schema": "2.0", "stages": {}})
    monkeypatch.chdir(project)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(SystemExit) as ended:
        cli.main(["track"])
    said = {"skipped": f"error: not tracked: {RUN}", "nothing": "dvc.lock: no finished run; `dvc repro` makes them"}
    assert ended.value.code == 1
    assert said[what] in capsys.readouterr().err


def test_who_only_reads_changes_nothing_and_waits_for_nobody(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also in a project that was moved, whose database is still to be mended."""
    first = track_run(RUN, project)
    moved = project.rename(project.parent / "moved")
    monkeypatch.setattr(database, "TURN_S", 0)
    with database.alone(moved / "mlflow.db"):
        before, held = files(moved), (moved / "mlflow.db").read_bytes()
        found = trace(moved / f"exports/{RUN}/{RUN}.onnx", moved)
        assert found["mlflow"] == [first.mlflow_run]
        assert len(runs_table(moved)) == 1
        assert runs_table(moved, experiment="another").empty
        with pytest.raises(InputError, match="another process has tracked for 0 s"):
            list(track_all(moved))
    assert (files(moved), (moved / "mlflow.db").read_bytes()) == (before, held)
    assert not project.exists()


def test_a_read_only_project_that_was_moved_is_read(project: Path, bound: tuple[str, ...]) -> None:
    first = track_run(RUN, project)
    moved = project.rename(project.parent / "moved")
    folders = [path for path in (moved, *moved.rglob("*")) if path.is_dir()]
    (moved / "mlflow.db").chmod(0o444)
    for folder in folders:
        folder.chmod(0o555)
    try:
        done = python(moved, "-m", "pipeline.cli", "trace", f"exports/{RUN}/{RUN}.onnx", "--json", before=bound)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["mlflow"] == [first.mlflow_run], done.stdout


def test_without_a_store_there_are_no_runs_and_none_is_made(project: Path) -> None:
    (project / "mlflow.db").unlink()
    before = files(project)
    assert runs_table(project).empty
    assert files(project) == before


def test_a_damaged_database_is_one_line_with_what_to_do(project: Path) -> None:
    (project / "mlflow.db").write_bytes(b"no database" * 1000)
    said = r"^\S*project/mlflow\.db: file is not a database; it is damaged: move it away and run `pocketlens track`"
    for ask in (lambda: track_run(RUN, project), lambda: list(track_all(project)), lambda: runs_table(project)):
        with pytest.raises(InputError, match=said) as raised:
            ask()
        assert "\n" not in str(raised.value)


def test_a_database_with_a_damaged_page_is_one_line_too(project: Path) -> None:
    track_run(RUN, project)
    path = project / "mlflow.db"
    with closing(sqlite3.connect(path)) as connection:
        (page,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'runs'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\xff" * size)
    with pytest.raises(
        InputError, match=r"^\S*mlflow\.db: database disk image is malformed; it is damaged: "
    ) as raised:
        track_run(RUN, project)
    assert "\n" not in str(raised.value)


def test_a_database_that_is_half_made_is_one_line_too(project: Path) -> None:
    """As by a server of MLflow that was killed while it made the tables."""
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        (table,) = connection.execute("SELECT sql FROM sqlite_master WHERE name = 'registered_models'").fetchone()
    (project / "mlflow.db").unlink()
    with closing(sqlite3.connect(project / "mlflow.db")) as connection:
        connection.execute(table)
    said = r"mlflow\.db: table \w+ already exists; it is damaged: move it away and run `pocketlens track`"
    for ask in (lambda: track_run(RUN, project), lambda: runs_table(project)):
        with pytest.raises(InputError, match=said) as raised:
            ask()
        assert "\n" not in str(raised.value)
    assert re.search(said, trace(project / f"models/{RUN}/model.json", project)["mlflow_error"])


MADE = """
import os, signal, sys
from pathlib import Path
import alembic.command
from pipeline.tracking.store import open_store

def killed(*arguments):
    os.kill(os.getpid(), signal.SIGKILL)

alembic.command.upgrade = killed  # the tables of the model registry are there by then, those of runs are not
with open_store(Path(sys.argv[1]), None, "x"):
    pass
"""


def test_killed_while_it_makes_a_database_the_next_one_makes_it(tmp_path: Path) -> None:
    killed = subprocess.run([sys.executable, "-c", MADE, str(tmp_path)], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "mlflow.db").exists()
    assert (tmp_path / ".mlflow.db.unfinished").stat().st_size
    (tmp_path / ".mlflow.db.unfinished-journal").write_text("of a statement that was cut")
    for _ in "ab":
        with open_store(tmp_path, None, "x") as store:
            assert store.client.get_experiment(store.experiment).name == "x"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["mlflow.db", "mlflow.db.lock"]


def test_an_empty_file_is_no_database_yet(project: Path) -> None:
    (project / "mlflow.db").write_bytes(b"")
    assert len(runs_table(project)) == 0
    assert (project / "mlflow.db").stat().st_size == 0
    assert track_run(RUN, project).new


def test_a_database_that_another_program_has_locked_is_waited_for_and_named(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_S", 0)
    with closing(sqlite3.connect(project / "mlflow.db", isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(InputError, match=r"mlflow\.db: database is locked; another program writes to it: "):
            track_run(RUN, project)
        other.execute("ROLLBACK")
    assert track_run(RUN, project).new


def test_a_folder_that_cannot_be_made_is_one_line(project: Path) -> None:
    (project / "file").touch()
    with pytest.raises(InputError, match=r"file/mlflow\.db: .*; make its folder writable$"):
        track_run(RUN, project, "sqlite:///file/mlflow.db")


TRACK = f"from pathlib import Path; from pipeline.tracking.track import track_run; track_run({RUN!r}, Path())"


def python(project: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, *arguments],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


def limited(size: int) -> tuple[str, ...]:
    """What a command begins with whose files are to have this many bytes at most, or half of them."""
    return ("sh", "-c", f'ulimit -f {size // 1024}; exec "$@"', "sh")  # of 512 or 1024 bytes


def test_a_disk_without_room_is_one_line_and_the_next_track_goes_on(project: Path) -> None:
    done = python(project, "-c", TRACK, before=limited((project / "mlflow.db").stat().st_size // 2))
    last = done.stderr.splitlines()[-1]
    assert "InputError: " in last, done.stderr
    assert "mlflow.db: disk I/O error; make room on the disk" in last
    assert track_run(RUN, project).version == "1"


@pytest.mark.exhaustive
def test_files_without_room_beside_the_database_are_named(project: Path) -> None:
    size = (project / "mlflow.db").stat().st_size * 8
    (project / f"exports/{RUN}/more.bin").write_bytes(b"0" * size)
    commit(project)
    done = python(project, "-c", TRACK, before=limited(size // 2))
    last = done.stderr.splitlines()[-1]
    assert re.search(r"InputError: \S+/mlartifacts/\S+/more\.bin: File too large; make room on the disk", last), last
    assert (track_run(RUN, project).version, len(kept(project)[0])) == ("1", 1)


@pytest.mark.parametrize("folder", [pytest.param("models", marks=pytest.mark.exhaustive), "exports"])
def test_a_file_of_the_project_that_cannot_be_read_is_not_mlflows(
    project: Path, folder: str, bound: tuple[str, ...]
) -> None:
    file = project / folder / RUN / "model.bin"
    file.write_bytes(b"weights")
    commit(project)
    file.chmod(0)
    last = python(project, "-c", TRACK, before=bound).stderr.splitlines()[-1]
    advice = "Permission denied; make it and its folder readable and writable"
    assert re.search(rf"InputError: (?!MLflow)\S*{folder}/{RUN}/model\.bin: {advice}$", last), last


def test_a_place_for_files_that_cannot_be_written_is_named(project: Path, bound: tuple[str, ...]) -> None:
    (project / "mlartifacts").mkdir(mode=0o555)
    last = python(project, "-c", TRACK, before=bound).stderr.splitlines()[-1]
    assert re.search(r"InputError: \S*/mlartifacts/\w+: Permission denied; make it and its folder readable", last), last


@pytest.mark.exhaustive
def test_two_at_once_make_one_run_where_there_is_no_database_yet(project: Path) -> None:
    (project / "mlflow.db").unlink()
    code = f"print(track_run({RUN!r}, Path()).version)"
    code = f"from pathlib import Path; from pipeline.tracking.track import track_run; {code}"
    command, environment = [sys.executable, "-c", code], {**os.environ, "PYTHONPATH": str(ROOT)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    started = [subprocess.Popen(command, cwd=project, env=environment, text=True, **pipes) for _ in range(2)]
    ended = [(*process.communicate(), process.returncode) for process in started]
    assert [(out, code) for out, _, code in ended] == [("1\n", 0)] * 2, ended
    assert len(kept(project)[0]) == 1

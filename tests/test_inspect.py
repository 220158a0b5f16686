"""The FiftyOne view of a run: what is in it, that its figures are ours, and that the App really shows it."""

import io
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import requests
from conftest import ROOT
from inspected import BODY, HERD, PICTURES, PREDICTED, SHOWN, TRUTH, draw_run, edit, opened_run
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait
from servers import PATIENCE

from pipeline.core.errors import InputError
from pipeline.core.files import write_json
from pipeline.core.layer import read_layer
from pipeline.core.sample import Sample, write_dataset, write_samples
from pipeline.inspection.app import run_files, show
from pipeline.inspection.database import _joined, _socket_for, close, connect
from pipeline.inspection.figures import inspect_runs
from pipeline.metrics.metrics import score

NOWHERE = "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"  # a port where nobody answers


def command_line(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.NoSuchProcess:  # it has ended
        return ""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A database folder; nothing that FiftyOne started for it lives on."""
    folder = tmp_path_factory.mktemp("fiftyone")
    yield folder
    close()
    assert [line for line in map(command_line, psutil.Process().children(recursive=True)) if str(folder) in line] == []


def test_detections_landmarks_and_the_same_map(tmp_path, database):
    test, predictions, truth, predicted = draw_run(tmp_path, "detect")
    view = opened_run("detect", test, predictions, database).dataset
    assert view.name == "pocketlens-run-detect" and view.persistent and len(view) == PICTURES
    assert view.values("filepath") == [str(test / t.file_name) for t in truth]
    assert view.count_sample_tags() == {"test": PICTURES}
    assert view.values("ground_truth.detections.label") == [[o.label for o in t.objects] for t in truth]
    boxes = [[list(o.box) for o in t.objects] for t in truth]
    assert view.values("ground_truth.detections.bounding_box") == boxes
    kept = [[o.score for o in p.objects if o.score >= SHOWN] for p in predicted]
    assert view.values("predictions.detections.confidence") == kept
    assert view.count("predictions_all.detections") == sum(len(p.objects) for p in predicted)
    skeleton = view.skeletons["ground_truth_landmarks"]
    assert skeleton.labels == HERD.landmarks and skeleton.edges == [[0, 1], [0, 2], [0, 3]]
    landmarks = view.skip(1).first().ground_truth_landmarks.keypoints[0].points
    assert np.isnan(landmarks[2]).all() and not np.isnan(landmarks[3]).any(), "absent ones are not drawn, hidden are"
    # no scores are equal here: with ties the two differ (FiftyOne puts the right ones first)
    ours = score("detect", truth, predicted, HERD)
    assert view.info["figures"]["mAP"] == pytest.approx(ours["AP"], abs=1e-6)
    assert 0 < ours["AP"] < 1
    assert "mistakes" in view.list_saved_views()


@pytest.mark.parametrize("task", ["classify", "localize"])
def test_the_other_tasks(task, tmp_path, database):
    test, predictions, truth, predicted = draw_run(tmp_path, task)
    view = opened_run(task, test, predictions, database).dataset
    ours = score(task, truth, predicted, HERD)
    if task == "classify":
        assert view.values("ground_truth.label") == [t.label for t in truth]
        assert view.values("predictions.confidence") == [0.75] * PICTURES
        assert view.values("clip") == [t.clip for t in truth]
        assert view.info["figures"]["accuracy"] == pytest.approx(ours["accuracy"], abs=1e-6)
        wrong = [t.id for t, p in zip(truth, predicted, strict=True) if t.label != p.label]
        assert view.load_saved_view("mistakes").values("name") == wrong
    else:
        assert view.count("ground_truth.detections") == view.count("predictions_landmarks.keypoints") == 3
        assert view.info["figures"]["recall"] == pytest.approx(ours["accuracy"], abs=1e-6)


def test_a_view_is_made_anew_when_its_files_change(tmp_path, database):
    test, predictions, _, predicted = draw_run(tmp_path, "classify")
    first = opened_run("fresh", test, predictions, database).dataset.created_at
    assert opened_run("fresh", test, predictions, database).dataset.created_at == first
    predicted[0].label = "horse"
    write_samples(predictions, predicted)
    view = opened_run("fresh", test, predictions, database).dataset
    assert view.created_at > first and view.first().predictions.label == "horse"


def test_the_app_shows_pictures_truth_and_predictions(tmp_path, database, browser):
    test, predictions, *_ = draw_run(tmp_path, "detect")
    view = opened_run("app", test, predictions, database).dataset
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    show(view, port, remote=True)
    browser.get(f"http://127.0.0.1:{port}/datasets/{view.name}")
    picture = tmp_path / "app.png"

    def painted(_) -> bool:
        if len(browser.find_elements(By.CSS_SELECTOR, "[data-cy=looker]")) < PICTURES:
            return False
        picture.write_bytes(browser.get_screenshot_as_png())
        return all(
            pixels_like(picture, colour) > least for colour, least in ((BODY, 5000), (TRUTH, 300), (PREDICTED, 300))
        )

    WebDriverWait(browser, 90, poll_frequency=1).until(painted, f"see {picture}")
    counts = browser.find_element(By.CSS_SELECTOR, "[data-cy=entry-counts]").get_attribute("textContent")
    said = [entry["message"] for entry in browser.get_log("browser")]  # its page asks for fonts of another host
    assert (
        [line for line in said if "https://" in line]
        == [line for line in said if "Content Security Policy" in line]
        != []
    )
    assert counts.startswith(f"{PICTURES} samples")
    with pytest.raises(InputError, match=f"port {port}: "):
        show(view, port, remote=True)


def test_the_app_hands_out_files_of_datasets_only_and_to_nobody_else(tmp_path, database, capsys):
    test, predictions, *_ = draw_run(tmp_path, "classify")
    from fiftyone.core.session import client

    view = opened_run("guarded", test, predictions, database).dataset
    (test / "secret.txt").write_text("a secret")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    show(view, port, remote=True)
    capsys.readouterr()
    client.print("Could not connect session, trying again in 10 seconds", flush=True)
    assert capsys.readouterr().out == "", "what FiftyOne says of a server that starts is not ours to show"
    url, mine = f"http://127.0.0.1:{port}", view.first().filepath

    def asked(path: str, **headers: str) -> int:
        return requests.get(f"{url}/media", {"filepath": path}, headers=headers, timeout=PATIENCE).status_code

    assert asked(mine) == asked(mine, Host=f"localhost:{port}") == 200
    around = f"{test}/../{test.name}/{Path(mine).name}"
    for path in ("/etc/passwd", str(test / "secret.txt"), around, f"{mine}/../secret.txt", "/proc/self/environ"):
        assert asked(path) == 404, path
    assert asked(mine, Host=f"evil.example:{port}") == asked(mine, Origin="http://evil.example") == 403
    graph = requests.post(f"{url}/graphql", json={"query": "{}"}, headers={"Origin": "null"}, timeout=PATIENCE)
    assert graph.status_code == 403
    assert requests.get(url, timeout=PATIENCE).headers["X-Content-Type-Options"] == "nosniff"


def pixels_like(picture: Path, colour: tuple[int, int, int]) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert("RGB")).astype(int)
    return int((np.abs(pixels - colour).max(axis=2) < 24).sum())


def in_a_process(code: str, *arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
    )


OPEN = """
import sys
from pathlib import Path
from pipeline.core.errors import InputError
from pipeline.inspection.database import close
from pipeline.inspection.run_view import RunFiles, open_run
run, test, predictions, *databases = sys.argv[1:]
view = None
for database in databases:
    try:
        view = open_run(RunFiles(run, Path(test), Path(predictions), None, Path("labels")), Path(database)).dataset
    except InputError as error:
        print(error)
if view is None:
    sys.exit(1)
print(f"\\n{len(view)}")
close()
"""


@pytest.mark.exhaustive
def test_who_started_the_database_leaves_it_to_the_others(tmp_path):
    test, predictions, *_ = draw_run(tmp_path, "classify")
    lingers = OPEN.replace("close()", 'print("open", flush=True)\nsys.stdin.read()\nview.reload()\nclose()')
    pair = []
    for run in ("one", "two"):
        pair.append(in_a_process(lingers, run, test, predictions, tmp_path / ".fiftyone"))
        assert any(line == "open\n" for line in pair[-1].stdout)
    for process in pair:
        process.stdin.close()
        # not communicate: the database, which lives on, has the pipes as well
        assert process.wait(60) == 0, process.stderr.read()


@pytest.mark.exhaustive
def test_two_processes_share_a_database(tmp_path):
    test, predictions, *_ = draw_run(tmp_path, "classify")
    pair = [in_a_process(OPEN, run, test, predictions, tmp_path / ".fiftyone") for run in ("one", "two")]
    for process in pair:
        process.wait(120)  # both, before the pipes are read: the database has them open until the last one is gone
    for process in pair:
        out, problems = process.communicate()
        assert process.returncode == 0, problems
        assert out.splitlines()[-1] == str(PICTURES)


def spoil_lock(database: Path) -> None:
    (database / "mongod.lock").mkdir(parents=True)  # mongod cannot write its lock file there


def spoil_folder(database: Path) -> None:
    database.write_text("no folder")


def test_a_database_that_does_not_start_is_an_input_error(tmp_path):
    test, predictions, *_ = draw_run(tmp_path, "classify")
    for name, spoil in (("lock", spoil_lock), ("folder", spoil_folder)):
        spoil(tmp_path / name)
    process = in_a_process(OPEN, "r", test, predictions, tmp_path / "lock", tmp_path / "folder")
    said, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    lock, folder = said.splitlines()[-2:]
    assert re.search(r"mongod does not start; its last words are in .*/log/mongo\.log", lock), lock
    assert f"{tmp_path}/folder: cannot keep FiftyOne's database here" in folder


def test_the_database_listens_on_a_socket_that_its_user_alone_may_open(tmp_path, database):
    """And on no port, nor does what ends it: FiftyOne's mongod has no login, and its own program unpickles."""
    test, predictions, *_ = draw_run(tmp_path, "classify")
    opened_run("private", test, predictions, database)
    socket_file = database / "mongod.sock"
    assert stat.S_ISSOCK(socket_file.lstat().st_mode)
    assert stat.S_IMODE(socket_file.lstat().st_mode) == 0o600
    own = [p for p in psutil.Process().children(recursive=True) if str(database) in command_line(p)]
    assert sorted(Path(command_line(p).split()[0]).name for p in own) == ["mongod", Path(sys.executable).name]
    assert [c for p in own for c in p.net_connections("inet")] == []


@pytest.mark.parametrize(
    "ended", [*(pytest.param(name, marks=pytest.mark.exhaustive) for name in ("who uses it", "its keeper")), "mongod"]
)
def test_what_is_killed_leaves_no_mongod_and_the_next_one_starts(tmp_path, ended):
    test, predictions, *_ = draw_run(tmp_path, "classify")
    lingers = OPEN.replace("close()", 'print("open", flush=True)\nsys.stdin.read()')
    process = in_a_process(lingers, "one", test, predictions, tmp_path / ".fiftyone")
    assert any(line == "open\n" for line in process.stdout)
    below = psutil.Process(process.pid).children(recursive=True)
    (mongod,) = [p for p in below if Path(command_line(p).split(" ")[0]).name == "mongod"]
    (keeper,) = [p for p in below if "keeper.py" in command_line(p)]
    {"who uses it": process, "its keeper": keeper, "mongod": mongod}[ended].kill()
    assert psutil.wait_procs([mongod], timeout=60)[1] == []
    process.kill()
    process.communicate()
    _, left = psutil.wait_procs(below, timeout=5)
    assert [p for p in left if p.status() != psutil.STATUS_ZOMBIE] == [], "what nobody has asked how it ended may stay"
    again = in_a_process(OPEN, "one", test, predictions, tmp_path / ".fiftyone")
    again.wait(120)
    assert again.communicate()[0].splitlines()[-1] == str(PICTURES)


def test_the_socket_of_a_long_path_is_in_a_folder_of_its_users(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    short, long = tmp_path / "short", tmp_path / ("d" * 200)
    for database in (short, long):
        database.mkdir()
        (database / "mongod.sock").touch()  # one that a kill has left
    inside, outside = Path(_socket_for(short)), Path(_socket_for(long))
    assert (inside.parent, inside.exists()) == (short, False)
    assert outside.parent == tmp_path / f"pocketlens-{os.getuid()}"
    assert stat.S_IMODE(outside.parent.stat().st_mode) == 0o700
    assert _socket_for(long) == str(outside) != _socket_for(tmp_path / ("e" * 200))


def test_a_copy_of_a_project_is_not_joined_to_the_database_of_the_other(tmp_path, database):
    test, predictions, *_ = draw_run(tmp_path, "classify")
    opened_run("copied", test, predictions, database)
    copy = tmp_path / "copy"
    copy.mkdir()
    shutil.copy(database / "mongod.place", copy)
    with (copy / "users").open("a") as users:
        assert _joined(copy, users) is None
        (copy / "mongod.place").write_bytes(b"\xff no path")
        assert _joined(copy, users) is None
        assert _joined(database, users).path == str(database / "mongod.sock")


@pytest.mark.parametrize("planted", ["open to others", "a link"])
def test_a_folder_that_others_may_enter_gets_no_socket(tmp_path, monkeypatch, planted):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    own = tmp_path / f"pocketlens-{os.getuid()}"
    if planted == "a link":
        own.symlink_to(tmp_path)
    else:
        own.mkdir()
        own.chmod(0o755)
    (tmp_path / ("d" * 200)).mkdir()
    with pytest.raises(InputError, match=f"{own}: expected a folder that this user alone may enter"):
        _socket_for(tmp_path / ("d" * 200))


@pytest.mark.exhaustive  # it waits for a database that does not come again
def test_a_mongod_that_is_killed_midway_is_one_line(tmp_path, monkeypatch):
    draw_project(tmp_path, {"faces": "classify", "flock": "detect"})
    from pipeline.inspection import figures

    opened = figures.open_run

    def killed(files, database, **more):
        if files.run == "flock":
            for process in psutil.Process().children(recursive=True):
                if str(database) in command_line(process):
                    process.kill()
        return opened(files, database, **more)

    monkeypatch.setattr(figures, "open_run", killed)
    database = tmp_path / ".fiftyone"
    close()  # of the others, which share one
    with pytest.raises(
        InputError, match=f"finds no database at {database}|{database}: FiftyOne's database does not answer"
    ):
        inspect_project(tmp_path, database)
    assert not (tmp_path / "reports/inspect").exists()
    process = in_a_process(STAGE, tmp_path, PYTHONPATH=str(ROOT))
    _, problems = process.communicate(timeout=240)
    assert process.returncode == 0, problems
    assert len(list((tmp_path / "reports/inspect").iterdir())) == 2


def draw_project(root: Path, runs: dict[str, str]) -> dict[str, tuple[list[Sample], list[Sample]]]:
    """A project with these runs by task, each on the test split of a dataset of its own name; truth and predictions."""
    drawn = {}
    for run, task in runs.items():
        _, _, truth, predicted = draw_run(root / run, task)
        for folder, drawn_as in (("data/ingested", "herd"), ("reports/evaluate", "r")):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / run / folder / drawn_as).rename(root / folder / run)
        dataset = replace(HERD, name=run)
        write_dataset(root / "data/ingested" / run, dataset)
        source = {"run": run, "task": task, "score": 0.01, "shown": SHOWN}
        write_dataset(root / f"reports/evaluate/{run}/predictions", replace(dataset, source=source))
        write_json(root / f"reports/evaluate/{run}/metrics.json", score(task, truth, predicted, dataset))
        drawn[run] = truth, predicted
    return drawn


def inspect_project(root: Path, database: Path) -> str:
    folders = (root / "reports/evaluate", root / "data/ingested", root / "labels")
    return inspect_runs(*folders, database, root / "reports/inspect")


# the stage, in a process and a database of its own
STAGE = "import runpy, os, sys; os.chdir(sys.argv.pop()); runpy.run_module('stages.inspect', run_name='__main__')"


def test_all_runs_are_brought_up_to_date_with_fiftyones_figures_beside_ours(tmp_path, database):
    drawn = draw_project(tmp_path, {"faces": "classify", "flock": "detect"})
    said = inspect_project(tmp_path, database)
    assert said.startswith(f"{tmp_path}/reports/inspect: the FiftyOne datasets of faces, flock; ")
    first = {path.name: path.read_bytes() for path in (tmp_path / "reports/inspect").iterdir()}
    assert sorted(first) == ["faces.json", "flock.json"]
    for run, task, name, theirs in (("faces", "classify", "accuracy", "accuracy"), ("flock", "detect", "AP", "mAP")):
        beside, ours = json.loads(first[f"{run}.json"]), score(task, *drawn[run], HERD)[name]
        assert beside["ours"] == {name: ours}
        assert beside["fiftyone"][theirs] == pytest.approx(ours, abs=1e-6)
    made = opened_run(*run_folders(tmp_path, "flock"), database).dataset.created_at
    close()
    inspect_project(tmp_path, database)
    assert {path.name: path.read_bytes() for path in (tmp_path / "reports/inspect").iterdir()} == first
    again = opened_run(*run_folders(tmp_path, "flock"), database).dataset
    assert again.created_at == made, "what is up to date is not made anew"


@pytest.mark.exhaustive
def test_the_stage_leaves_what_a_person_has_changed_to_the_command(tmp_path, database):
    _, predicted = draw_project(tmp_path, {"meadow": "detect"})["meadow"]
    inspect_project(tmp_path, database)
    figures, folders = tmp_path / "reports/inspect/meadow.json", run_folders(tmp_path, "meadow")
    before = json.loads(figures.read_text())
    view = opened_run(*folders, database).dataset
    box, made = edit(view, "img1"), view.created_at
    left = "pocketlens-run-meadow: stays as it is: what was changed of 1 images in FiftyOne's App is in no label layer"
    assert inspect_project(tmp_path, database).startswith(left)
    assert json.loads(figures.read_text()) == before
    for p in predicted:
        p.objects = []
    write_samples(folders[2], predicted)
    assert inspect_project(tmp_path, database).startswith(left)
    assert json.loads(figures.read_text())["fiftyone"]["mAP"] == 0 < before["fiftyone"]["mAP"], (
        "of the files as they are"
    )
    fo = connect(database)
    view = fo.load_dataset("pocketlens-run-meadow")
    assert view.created_at == made and not (tmp_path / "labels").exists()
    assert view.match({"name": "img1"}).first().ground_truth.detections[0].bounding_box == box
    assert not fo.dataset_exists("new-pocketlens-run-meadow")
    close()
    opened = opened_run(*folders, database)  # as the command does
    assert len(opened.said) == 1 and opened.dataset.created_at > made
    assert [s.id for file in (tmp_path / "labels/meadow").iterdir() for s in read_layer(file)] == ["img1"]
    close()
    assert inspect_project(tmp_path, database).startswith(f"{tmp_path}/reports/inspect: ")


@pytest.mark.exhaustive
def test_a_run_whose_dataset_is_gone_is_left_out_and_named(tmp_path):
    draw_project(tmp_path, {"faces": "classify", "flock": "detect"})
    shutil.rmtree(tmp_path / "data/ingested/flock")
    process = in_a_process(STAGE, tmp_path, PYTHONPATH=str(ROOT))
    said, problems = process.communicate(timeout=240)
    assert process.returncode == 0, problems
    assert said.splitlines()[-1].endswith("; left out, as their datasets are not in data/ingested: flock")
    assert [path.name for path in (tmp_path / "reports/inspect").iterdir()] == ["faces.json"]


def run_folders(root: Path, run: str) -> tuple[str, Path, Path]:
    return run, root / "data/ingested" / run / "test", root / "reports/evaluate" / run / "predictions"


def test_the_stage_without_a_database_says_so_and_writes_nothing(tmp_path):
    draw_project(tmp_path, {"faces": "classify"})
    shutil.copy(ROOT / "params.yaml", tmp_path)
    environment = {"FIFTYONE_DATABASE_URI": NOWHERE.replace("//", "//me:secret@"), "PYTHONPATH": str(ROOT)}
    process = in_a_process(STAGE, tmp_path, **environment)
    _, problems = process.communicate(timeout=120)
    assert process.returncode == 1 and "secret" not in problems
    assert problems.splitlines()[-1].startswith("error: FiftyOne finds no database at mongodb://127.0.0.1:1")
    assert not (tmp_path / "reports/inspect").exists()


def test_no_predictions_is_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"reports/evaluate: no run with predictions; `dvc repro`"):
        inspect_project(tmp_path, tmp_path / ".fiftyone")


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InputError, match=r"predictions: not there; evaluated runs: none. `dvc repro evaluate@RUN`"):
        run_files("r", tmp_path, "app")
    test, predictions, *_ = draw_run(tmp_path, "classify")
    (test / "metadata.jsonl").unlink()
    with pytest.raises(InputError, match=r"test/metadata.jsonl: no such file; `dvc repro`"):
        opened_run("r", test, predictions, tmp_path / ".fiftyone")

"""To a real Label Studio and back: through its API, and once through its editor in Chromium."""

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import servers
from conftest import ROOT, open_browser
from filelock import FileLock
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.expected_conditions import alert_is_present
from selenium.webdriver.support.ui import WebDriverWait
from studio import LEGACY, cow, draw_herd

from pipeline import cli
from pipeline.annotation.label_studio import LabelStudio
from pipeline.core.errors import InputError
from pipeline.core.layer import Statement, content_of, read_layer
from pipeline.core.sample import Sample

STUDIO = ROOT / ".venv-label-studio"
EMAIL, PASSWORD = "ann@example.com", "only-for-tests"
PATIENCE = 600  # seconds, on a busy machine: the first start makes a database by 300 migrations
QUIET = {"SENTRY_DSN": "", "FRONTEND_SENTRY_DSN": "", "COLLECT_ANALYTICS": "false", "LATEST_VERSION_CHECK": "false"}


@contextmanager
def started(data: Path, root: Path) -> Iterator[str]:
    """The address of a server that keeps its database in `data` and shows images below `root`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true", "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(root)}
    options = ["--data-dir", str(data), "--port", str(port), "--internal-host", "127.0.0.1", "--no-browser"]
    user = ["--username", EMAIL, "--password", PASSWORD, "--user-token", LEGACY, "--enable-legacy-api-token"]
    with (data / "server.log").open("w") as log:
        process = subprocess.Popen(
            [STUDIO / "bin/label-studio", "start", *options, *user],
            env=os.environ | where | QUIET, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    try:
        session = requests.Session()
        retry = requests.adapters.Retry(total=None, connect=PATIENCE * 2, backoff_factor=0.5, backoff_max=0.5)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        assert session.get(f"http://127.0.0.1:{port}/health", timeout=PATIENCE).ok
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A real server with an empty database, and the folder that it shows. The database is made once for a lock file."""
    if not (STUDIO / "ready").is_file():
        reason = f"no {STUDIO.name}; `make {STUDIO.name}/ready` makes it"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI this test must run")
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("studio")
    empty = STUDIO / f"empty-{int((STUDIO / 'ready').stat().st_mtime)}"
    with FileLock(STUDIO / "empty.lock"):
        if not (empty / "made").exists():
            shutil.rmtree(empty, ignore_errors=True)
            empty.mkdir()
            with started(empty, folder):
                (empty / "made").touch()
    shutil.copytree(empty, folder / "data")
    (folder / "images").mkdir()
    with started(folder / "data", folder / "images") as url:
        yield url, folder / "images"


@dataclass(slots=True)
class Herd:
    """A dataset `name`, whose images the server shows from below `root`; `truth` are its training labels."""

    client: LabelStudio
    name: str
    root: Path
    truth: list[Sample]

    def send(self, *more: str) -> None:
        cli._run(["annotate", self.name, "--to", "label-studio", "--images", str(self.root), *more])

    def fetch(self) -> dict[str, Statement]:
        cli._run(["annotated", self.name, "--name", "round1"])
        return {s.id: s for s in read_layer(f"labels/{self.name}/round1.jsonl")}

    def ledger(self) -> str:
        return Path(f"labels/{self.name}/round1.ledger.csv").read_text()

    def tasks(self) -> tuple[int, list[dict[str, Any]]]:
        """The number of the project, and its tasks."""
        found = self.client._json("GET", "/api/projects/?page_size=1000", dict[str, Any])["results"]
        number = next(row["id"] for row in found if row["title"].startswith(f"{self.name} "))
        return number, self.client.tasks(number)


@pytest.fixture
def herd(server, tmp_path, monkeypatch) -> Herd:
    """In a project of its own, in which the test runs."""
    url, root = server
    name = f"herd{len(list(root.iterdir()))}"
    truth = draw_herd(tmp_path, name)
    shutil.copytree(tmp_path / "data/ingested" / name, root / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LABEL_STUDIO_URL", url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", LEGACY)
    return Herd(LabelStudio(url, LEGACY), name, root, truth)


def submit(client: LabelStudio, task: dict[str, Any], **more: Any) -> None:
    predictions = client._json("GET", f"/api/tasks/{task['id']}/", dict[str, Any])["predictions"]
    said = {"result": predictions[-1]["result"], "lead_time": 3.5} | more
    client._json("POST", f"/api/tasks/{task['id']}/annotations/", dict[str, Any], json=said)


def test_a_herd_goes_out_and_comes_back_with_no_change(herd):
    client, truth = herd.client, herd.truth
    herd.send()
    _, tasks = herd.tasks()
    assert [t["data"]["pocketlens_id"] for t in tasks] == [s.id for s in truth]
    for task, sample in zip(tasks, truth, strict=True):
        shown = Path("data/ingested", herd.name, "train", sample.file_name)
        assert client.file(task["data"]["image"]) == shown.read_bytes()
        submit(client, task)
    found = herd.fetch()
    for sample in truth:
        assert found[sample.id].objects == sample.objects and found[sample.id].against == content_of(sample)
        assert (found[sample.id].by, found[sample.id].seconds) == (EMAIL, 3.5)
    assert not any(a["ground_truth"] for t in client.tasks(tasks[0]["project"]) for a in t["annotations"])


def test_a_second_run_sends_nothing_twice_and_states_are_told_apart(herd, capsys):
    client = herd.client
    herd.send()
    herd.send()
    assert "0 images sent, 5 were there" in capsys.readouterr().out
    number, tasks = herd.tasks()
    submit(client, tasks[1], was_cancelled=True)
    submit(client, tasks[2], result=[])
    client._json("POST", f"/api/tasks/{tasks[3]['id']}/drafts", dict[str, Any], json={"result": [], "lead_time": 1})
    found = herd.fetch()
    assert [found[f"train-{i}"].state for i in range(4)] == ["untouched", "skipped", "empty", "untouched"]
    assert "1 drafts were not submitted" in capsys.readouterr().out
    assert EMAIL in herd.ledger()
    with pytest.raises(InputError, match="1 predictions were sent, and 0 came into being"):
        label = {"x": 1, "y": 1, "width": 5, "height": 5, "rotation": 0, "rectanglelabels": ["zebra"]}
        region = {"id": "z", "from_name": "box", "to_name": "image", "type": "rectanglelabels", "value": label}
        client.add_predictions(number, [{"task": tasks[0]["id"], "model_version": "m", "result": [region]}])


def test_numbers_of_tasks_come_again_and_mislead_nobody(herd):
    client = herd.client
    herd.send("--split", "val")
    number, [task] = herd.tasks()
    client._done("DELETE", f"/api/tasks/{task['id']}/")
    client.add_tasks(number, [{"data": {"image": task["data"]["image"]}}])
    [other] = client.tasks(number)
    client._json("POST", f"/api/tasks/{other['id']}/annotations/", dict[str, Any], json={"result": []})
    assert other["id"] == task["id"], "SQLite gives a number again"
    assert herd.fetch() == {}
    assert "unknown_task" in herd.ledger()


def test_both_kinds_of_token(herd):
    client = herd.client
    client._json(
        "POST",
        "/api/jwt/settings",
        dict[str, Any],
        json={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True},
    )
    personal = client._json("POST", "/api/token/", dict[str, Any])["token"]
    assert LabelStudio(client.url, personal).people() == client.people() == {1: EMAIL}
    with pytest.raises(InputError, match="the token is not taken"):
        LabelStudio(client.url, "0" * 40).people()
    head, body, mark = personal.split(".")
    with pytest.raises(InputError, match="personal access token is not taken"):
        LabelStudio(client.url, f"{head}.{body}.{mark[::-1]}").people()


class Editor:
    """Label Studio's editor on the stream of a project's tasks, as a person uses it."""

    def __init__(self, window: webdriver.Chrome, url: str, project: int) -> None:
        self.window, self.wait = window, WebDriverWait(window, servers.PATIENCE, 0.2)
        window.get(f"{url}/user/login/")
        window.find_element(By.NAME, "email").send_keys(EMAIL)
        window.find_element(By.NAME, "password").send_keys(PASSWORD)
        window.find_element(By.CSS_SELECTOR, "button[type=submit]").click()
        self.until(lambda: "login" not in window.current_url)
        window.get(f"{url}/projects/{project}/data?labeling=1")
        self.until(self.is_ready)

    def until(self, holds: Callable[[], Any]) -> None:
        self.wait.until(lambda _: holds())

    def _asks(self, script: str) -> Any:
        return self.window.execute_script(f"try {{ return {script} }} catch {{ return null }}")

    def task(self) -> str | None:
        return self._asks("Htx.annotationStore.selected && Htx.task.dataObj.pocketlens_id")

    def is_ready(self) -> bool:
        """Whether the task's image is drawn: before that nothing can be drawn on it."""
        shown = "Htx.annotationStore.selected.objects.filter(o => o.type == 'image').every(o => o.imageIsLoaded)"
        return bool(self.task() and self._asks(shown) and self.window.find_elements(By.CSS_SELECTOR, "canvas"))

    def regions(self) -> list[dict[str, Any]]:
        return self._asks("Htx.annotationStore.selected.serializeAnnotation()") or []

    def keys(self, *keys: str) -> None:
        ActionChains(self.window).send_keys(*keys).perform()

    def draw(self, label: str, *places: tuple[float, float]) -> None:
        """Choose a label, and press, move and let go at places of the image."""
        count = len(self.regions())
        self.keys(Keys.ESCAPE)
        labels = self.window.find_elements(By.CSS_SELECTOR, ".lsf-label")
        next(e for e in labels if e.text.split()[0] == label).click()
        box = self.window.find_element(By.CSS_SELECTOR, "canvas").rect
        hand = ActionChains(self.window, duration=50)
        for i, (x, y) in enumerate(places):
            at = int(box["x"] + box["width"] * x), int(box["y"] + box["height"] * y)
            hand.w3c_actions.pointer_action.move_to_location(*at)
            if i == 0:
                hand.w3c_actions.pointer_action.pointer_down()
        hand.w3c_actions.pointer_action.pointer_up()
        hand.perform()
        self.until(lambda: len(self.regions()) > count)

    def row(self, label: str) -> Any:
        """The last row of the outliner with a label."""
        rows = self.window.find_elements(By.CSS_SELECTOR, "[class*=tree-node-content-wrapper]")
        return [r for r in rows if r.text.split()[-1] == label][-1]

    def drag(self, label: str, under: str) -> None:
        hand = ActionChains(self.window).click_and_hold(self.row(label)).move_to_element(self.row(under))
        hand.move_to_element_with_offset(self.row(under), 30, 4).release().perform()

    def done(self, button: str = "submit") -> None:
        """Press it, and have the next task, if there is one."""
        task = self.task()
        pressed = self.window.find_element(By.CSS_SELECTOR, f"[data-testid=bottombar-{button}-button]")
        self.window.execute_script("arguments[0].click()", pressed)  # a passing message may lie over it
        ended = "No More Tasks"
        body = self.window.find_element(By.TAG_NAME, "body")
        self.until(lambda: (self.task() != task and self.is_ready()) or ended in body.text)


def test_a_person_draws_drags_hides_submits_and_skips_in_the_editor(herd, tmp_path):
    client, truth = herd.client, herd.truth
    herd.send()
    number, _ = herd.tasks()
    with open_browser(tmp_path / "chromium", "window-size=1400,1100") as window:
        editor = Editor(window, client.url, number)
        assert editor.task() == "train-0"
        assert {r["origin"] for r in editor.regions()} == {"prediction"}
        editor.draw("tail", (0.9, 0.9))
        editor.row("tail").click()
        editor.keys("7")  # hidden
        editor.until(lambda: [r["type"] for r in editor.regions()].count("choices") == 2)
        editor.draw("horse", (0.7, 0.5), (0.8, 0.7), (0.95, 0.95))
        editor.drag("tail", "horse")
        horse, tail, tick = [r for r in editor.regions() if r["origin"] == "manual"]
        kinds = ["choices", "keypointlabels", "rectanglelabels"]
        tick, tail, horse = sorted((horse, tail, tick), key=lambda r: r["type"])
        assert [tick["type"], tail["type"], horse["type"]] == kinds
        assert tail["parentID"] == horse["id"] and tick["id"] == tail["id"], "a tick has the id of its point"
        editor.done()
        editor.row("horse").click()
        editor.window.find_elements(By.CSS_SELECTOR, ".lsf-label")[0].click()
        editor.until(lambda: editor.regions()[0]["value"]["rectanglelabels"] == ["cow"])
        assert editor.regions()[0]["origin"] == "prediction-changed"
        editor.done()
        ActionChains(window).key_down(Keys.CONTROL).send_keys(Keys.BACKSPACE).key_up(Keys.CONTROL).perform()
        editor.wait.until(alert_is_present()).accept()
        editor.until(lambda: editor.regions() == [])
        editor.done()
        editor.done("skip")
        editor.done()
    found = herd.fetch()
    assert [found[s.id].state for s in truth] == ["labelled", "labelled", "empty", "skipped", "empty"]
    before, horse = found["train-0"].objects
    assert before == truth[0].objects[0], "what was not touched has the very numbers that were sent"
    assert horse.label == "horse" and horse.box == pytest.approx((0.7, 0.5, 0.25, 0.45), abs=0.01)
    assert [p.visibility for p in horse.landmarks] == [0, 0, 0, 1]
    assert (horse.landmarks[3].x, horse.landmarks[3].y) == pytest.approx((0.9, 0.9), abs=0.01)
    assert found["train-1"].objects == [replace(truth[1].objects[0], label="cow")]


@pytest.mark.exhaustive
def test_the_editor_shows_the_second_model(herd, tmp_path, monkeypatch):
    client = herd.client
    for model, x in (("first", 0.1), ("second", 0.3)):
        said = [replace(cow(x), score=0.9)]

        def made(run: str, said: Any = said) -> Any:
            return run, lambda folder, samples: [(replace(s, objects=said), 0.75) for s in samples]

        monkeypatch.setattr("pipeline.commands.labels._model", made)
        run = f"runs:\n  {model}: {{dataset: {herd.name}, task: detect, model: {{pretrained: false}}}}\n"
        text = Path("params.yaml").read_text().partition("runs:")[0]
        Path("params.yaml").write_text(text + run)
        herd.send("--run", model)
    number, _ = herd.tasks()
    assert client._json("GET", f"/api/projects/{number}/", dict[str, Any])["model_version"] == "second"
    with open_browser(tmp_path / "chromium") as window:
        editor = Editor(window, client.url, number)
        assert editor.regions()[0]["value"]["x"] == pytest.approx(30)

"""Fixtures that several test files share."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from selenium import webdriver

ROOT = Path(__file__).parents[1]
RUNS = ("actions", "alpaca", "herd", "pose")
# begun first: a file is one worker's, and the others would wait for one that begins last
LONG = (
    *("test_chain", "test_exporters", "test_verify", "test_targets"),
    *("test_train", "test_qat", "test_web", "test_rerun"),
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONG.index(item.path.stem) if item.path.stem in LONG else len(LONG))


CHROMIUM, DRIVER = "chromium", "chromedriver"


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    with open_browser(tmp_path / "chromium") as window:
        yield window


@contextmanager
def open_browser(profile: Path, *more: str) -> Iterator[webdriver.Chrome]:
    """A headless Chromium of 1400 x 900 with a profile of its own, and `more` flags; skips the test where none is
    installed, but in CI.
    """
    chromium, driver = shutil.which(CHROMIUM), shutil.which(DRIVER)
    if not (chromium and driver):
        reason = f"{CHROMIUM} and {DRIVER} are not on PATH"
        if os.environ.get("CI"):
            pytest.fail(f"{reason}; in CI this test must run")
        pytest.skip(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",  # containers give /dev/shm 64 MB, too little for a canvas of images
        "disable-background-networking",
        "disable-component-update",
        "disable-sync",
        "window-size=1400,900",
        f"user-data-dir={profile}",
        *more,
    ):
        options.add_argument(f"--{flag}")
    window = webdriver.Chrome(options, webdriver.ChromeService(driver))
    try:
        yield window
    finally:
        window.quit()


SMALLEST = {
    "sample.actions": {"groups": 4, "clips": 1, "frames": 6, "side": 64},
    "sample.alpaca": {"images": 24, "side": 64},
    "sample.herd": {"images": 24, "side": 96},
    "sample.pose": {"images": 24, "side": 64},
    "datasets.actions.options.frames": 2,
    **{f"runs.{name}.model.size": 64 for name in RUNS},
    **{f"runs.{name}.train.epochs": 2 for name in RUNS},
    **{f"runs.{name}.export.calibration_images": 4 for name in RUNS},
    # nets that have learned next to nothing are not held to an accuracy
    **{f"runs.{name}.verify.tolerance": 1.0 for name in RUNS},
}


def set_params(project: Path, changes: dict[str, Any]) -> None:
    """Write `changes`, by dotted key, into the project's params.yaml."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    for key, value in changes.items():
        *path, last = key.split(".")
        block = params
        for step in path:
            block = block.setdefault(step, {})
        block[last] = value
    yaml.dump(params, project / "params.yaml")


def in_project(project: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command in the project as its users do, with one thread (tests share the cores)."""
    done = subprocess.run(
        command, cwd=project, env=project_environment(), capture_output=True, text=True, check=False, timeout=1500
    )
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def project_environment() -> dict[str, str]:
    bin_folder = Path(sys.executable).parent
    dropped = ("MLFLOW_TRACKING_URI", "PYTHONPATH")
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    return env | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "FIFTYONE_DO_NOT_TRACK": "1",
    }


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project in which `dvc repro` ran on the smallest params. Tests that use it share one worker."""
    folder = tmp_path_factory.mktemp("project")
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in listed.stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    set_params(folder, SMALLEST)
    in_project(folder, "git", "init", "-q")
    in_project(folder, "git", "add", "-A")
    in_project(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "start")
    done = in_project(folder, "dvc", "repro")
    (folder / "repro.log").write_text(done.stdout)
    return folder

"""Fixtures that several test files share."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from ruamel.yaml import YAML
from selenium import webdriver
from shared import made_once

ROOT = Path(__file__).parents[1]
RUNS = ("actions", "herd")  # of the default runs, what the chain of the tests has: clips, and boxes with keypoints
pytest_plugins = ("tiers",)

settings.register_profile("untimed", deadline=None)  # on a busy machine any test may take long
settings.load_profile("untimed")

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
    "sample.alpaca": {"images": 24, "side": 64},  # "own data" begins with it
    "sample.herd": {"images": 24, "side": 96},
    "sample.pose": {"images": 10, "side": 32},
    "datasets.actions.options.frames": 2,
    "runs.actions.model.size": 64,
    **{f"runs.{name}.train.epochs": 2 for name in RUNS},
    **{f"runs.{name}.export.calibration_images": 4 for name in RUNS},
    # few layers, so that an export takes seconds; the other run has the weights that come along
    "runs.herd.model": {"size": 64, "backbone": "mobilenetv1_050_shallow", "head": {"strides": [16, 32]}},
    "runs.actions.export.targets": ["onnx_float", "onnx_int8"],
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


def keep_runs(project: Path, names: tuple[str, ...]) -> None:
    """Take all other runs, the datasets of the same names, and a comparison of another run out of params.yaml."""
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    for section in ("datasets", "runs"):
        for name in [name for name in params[section] if name not in names]:
            del params[section][name]
    if params["compare"]["run"] not in names:
        del params["compare"]
    yaml.dump(params, project / "params.yaml")


def in_project(
    project: Path, *command: str, check: bool = True, more: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in the project as its users do, with one thread (tests share the cores)."""
    done = subprocess.run(
        command, cwd=project, env=project_environment() | (more or {}), capture_output=True, text=True, check=False,
        timeout=1500,
    )  # fmt: skip
    assert not check or done.returncode == 0, f"{command}\n{done.stdout[-4000:]}\n{done.stderr[-4000:]}"
    return done


def stages_run(output: str) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", output)


def project_environment() -> dict[str, str]:
    bin_folder = Path(sys.executable).parent
    dropped = ("MLFLOW_TRACKING_URI", "PYTHONPATH", "PYTHONDONTWRITEBYTECODE")  # the last makes each start slower
    env = {k: v for k, v in os.environ.items() if k not in dropped}
    return env | {
        "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
        "OMP_NUM_THREADS": "1",
        "DVC_NO_ANALYTICS": "1",
        "FIFTYONE_DO_NOT_TRACK": "1",
    }


@pytest.fixture
def bound() -> tuple[str, ...]:
    """What a command begins with that is to heed what a file's mode forbids, which root does not."""
    if os.geteuid():
        return ()
    setpriv = shutil.which("setpriv")
    if not setpriv:
        pytest.skip("tests run as root, and there is no setpriv to take root's rights away")
    return (setpriv, "--bounding-set=-all", "--inh-caps=-all")


@pytest.fixture(scope="session")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of this project in which `dvc repro` ran on the smallest params, for all workers: to be read only."""
    return made_once(tmp_path_factory, "chain", run_chain)


@pytest.fixture
def project(chain: Path, tmp_path: Path) -> Path:
    """A copy of `chain` to change, without FiftyOne's and MLflow's databases, which know the place where they were made
    and are made anew from the chain's files.
    """
    databases = shutil.ignore_patterns(".fiftyone", "mlflow.db", "mlruns", "mlartifacts")
    return shutil.copytree(chain, tmp_path / "project", symlinks=True, ignore=databases)


def run_chain(folder: Path) -> None:
    """First with a database that nobody finds, as on a machine where mongod does not start, then with it.

    Addresses off this machine are refused, and written into asked.log (tests/guard).
    """
    guard = guarded(folder / "asked.log")
    copy_project(folder)
    set_params(folder, SMALLEST)
    keep_runs(folder, RUNS)
    in_project(folder, "git", "init", "-q")
    in_project(folder, "git", "add", "-A")
    in_project(folder, "git", "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "start")
    done = in_project(folder, "dvc", "repro", "--keep-going", check=False, more=NO_DATABASE | guard)
    (folder / "without_database.log").write_text(done.stdout + done.stderr)
    done = in_project(folder, "dvc", "repro", more=guard)
    (folder / "with_database.log").write_text(done.stdout)


def guarded(log: Path) -> dict[str, str]:
    """An environment in which Python asks for no address off this machine, and writes into `log` what it wanted."""
    return {"PYTHONPATH": str(ROOT / "tests/guard"), "POCKETLENS_ASKED": str(log)}


def asked_for(log: Path) -> tuple[int, list[str]]:
    """How many processes were watched, and what they asked for."""
    lines = log.read_text().splitlines()
    asked = [line for line in lines if line.startswith("asked ")]
    return len(lines) - len(asked), asked


# a port where nobody answers
NO_DATABASE = {"FIFTYONE_DATABASE_URI": "mongodb://127.0.0.1:1/?serverSelectionTimeoutMS=200"}


def copy_project(folder: Path) -> None:
    """The files of this project as they are here, of which git knows or would know."""
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

"""A chain that does not come to its end, with the real DVC and make: what is made all the same, and what is said."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from dvc.repo import Repo
from finished_project import dvc
from ruamel.yaml import YAML

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.tracking.missing import NEVER, NOTHING, RUNNING, UNRESOLVED, VIEWS, missing_line

RUNS = ("alpaca", "herd")
STAGE = """
import sys
import time
from pathlib import Path
stage, name, *outs = sys.argv[1:]
with Path("began").open("a") as file:
    file.write(f"{stage}@{name}\\n")
if Path(f"{stage}@{name}.waits").exists():
    Path(f"{stage}@{name}.waits").read_text()
if Path(f"{stage}@{name}.broken").exists():
    sys.exit(f"error: {stage} of {name} is broken")
inside = ("dataset.json", "summary.json", "train/metadata.jsonl", "val/metadata.jsonl", "test/metadata.jsonl")
for path in map(Path, outs):
    for file in [path] if path.suffix else [path / name for name in inside]:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{stage} {name}")
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The chain of dvc.yaml, with its stages, data and outs as they are; each stage only writes its outs."""
    chain = YAML(typ="safe").load(ROOT / "dvc.yaml")
    for stage, block in chain["stages"].items():
        body = block.get("do", block)
        body.pop("params", None)
        data = [d for d in body["deps"] if d.split("/")[0] not in ("pipeline", "stages", "weights", "labels")]
        kinds = [body.pop(kind, []) for kind in ("outs", "metrics", "plots")]
        outs = [next(iter(out)) if isinstance(out, dict) else out for kind in kinds for out in kind]
        body |= {"deps": data, "outs": outs, "cmd": " ".join(["python stage.py", stage, "${key}", *outs])}
        if "do" not in block:
            body["cmd"] = body["cmd"].replace("${key}", "all")
    blocks = {run: {"dataset": run, "path": "data/sample/herd", "labels": "data/sample/herd"} for run in RUNS}
    write_text(tmp_path / "dvc.yaml", json.dumps(chain))
    write_text(tmp_path / "params.yaml", json.dumps({"datasets": blocks, "runs": blocks}))
    write_text(tmp_path / "stage.py", STAGE)
    for file in ("stages/__init__.py", "stages/params.py"):  # make's look at params.yaml
        write_text(tmp_path / file, "")
    shutil.copy(ROOT / "Makefile", tmp_path)
    programs = tmp_path / ".venv/bin"
    programs.mkdir(parents=True)
    for program, module in (("dvc", "dvc"), ("pocketlens", "pipeline.cli")):
        (programs / program).write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        (programs / program).chmod(0o755)
    (programs / "python").symlink_to(sys.executable)
    for file in ("requirements.lock", "pyproject.toml", ".venv/ready"):  # it is set up
        write_text(tmp_path / file, "")
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    return tmp_path


def make(project: Path) -> subprocess.CompletedProcess[str]:
    # a make that runs these tests says what it enters and leaves, as each make below it would
    own = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    environment = {**own, "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        ["make", "repro"], cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def ran(done: subprocess.CompletedProcess[str]) -> list[str]:
    return re.findall(r"Running stage '([^']+)'", done.stdout)


@pytest.mark.exhaustive
def test_views_that_cannot_be_made_cost_nothing_else_and_come_with_the_next_repro(project: Path) -> None:
    broken = project / "inspect@all.broken"
    broken.touch()
    done = make(project)
    assert done.returncode != 0
    assert done.stdout.splitlines()[-1] == VIEWS
    assert "error: inspect of all is broken" in done.stderr
    assert ran(done)[-1] == "inspect", "what fails comes last also where DVC stops at it"
    for run in RUNS:
        for made in (f"reports/evaluate/{run}/metrics.json", f"exports/{run}", f"reports/track/{run}.json"):
            assert (project / made).exists(), made
    assert ran(make(project)) == ["inspect"]
    broken.unlink()
    done = make(project)
    assert (done.returncode, ran(done)) == (0, ["inspect"]), done.stderr
    assert (project / "reports/inspect").exists()
    assert (make(project).returncode, ran(make(project))) == (0, [])
    assert missing_line(project) == NOTHING


@pytest.mark.parametrize("first", [pytest.param(RUNS[0], marks=pytest.mark.exhaustive), RUNS[1]])
def test_the_run_that_another_one_starts_from_is_trained_first(project: Path, first: str) -> None:
    """And params are resolved again before the other one is trained, which so has the hash of that model."""
    resolved = f"runs:\n  other:\n    model:\n      pretrained: models/{first}/model.safetensors\n"
    write_text(project / "resolved.yaml", resolved)
    look = """from pathlib import Path
with Path("looked").open("a") as file: file.write(f"{sorted(p.name for p in Path('models').glob('*'))}\\n")"""
    write_text(project / "stages/params.py", look)
    done = make(project)
    assert done.returncode == 0, done.stderr
    assert next(stage for stage in ran(done) if stage.startswith("train")) == f"train@{first}"
    assert (project / "looked").read_text().splitlines() == ["[]", f"['{first}']"]
    assert sorted(p.name for p in (project / "models").iterdir()) == sorted(RUNS)


@pytest.mark.exhaustive
def test_the_runs_of_a_way_are_trained_in_its_order(project: Path) -> None:
    way = {"alpaca": "herd", "other": "alpaca", "more": "alpaca"}
    runs = {run: {"model": {"pretrained": f"models/{first}/model.safetensors"}} for run, first in way.items()}
    write_text(project / "resolved.yaml", json.dumps({"runs": runs}))
    assert [stage for stage in ran(make(project)) if stage.startswith("train")] == ["train@herd", "train@alpaca"]


def test_ctrl_c_ends_it_and_no_other_stage_begins(project: Path) -> None:
    """The terminal sends it to all of its processes; the stage holds until then."""
    os.mkfifo(project / "train@alpaca.waits")
    own = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")}
    running = subprocess.Popen(
        ["env", "--default-signal=INT", "make", "repro"],  # a shell may have started the tests without
        cwd=project, env={**own, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    with (project / "train@alpaca.waits").open("w"):  # the stage has it open too now
        os.killpg(running.pid, signal.SIGINT)
        said, errors = running.communicate(timeout=120)
    assert running.returncode != 0
    assert (project / "began").read_text().splitlines()[-1] == "train@alpaca", said
    assert "interrupted" in errors.splitlines()
    with pytest.raises(ProcessLookupError):
        os.killpg(running.pid, 0)
    (project / "train@alpaca.waits").unlink()
    assert make(project).returncode == 0
    params = project / "params.yaml"
    params.write_text(params.read_text() + "\n")
    assert missing_line(project) == UNRESOLVED, "the change waits to be resolved"


def test_where_nothing_ever_ran_that_is_said(project: Path) -> None:
    assert missing_line(project) == NEVER


def test_a_run_that_fails_leaves_the_others_theirs(project: Path) -> None:
    (project / "train@alpaca.broken").touch()
    done = make(project)
    waiting = ", ".join(f"{stage}@alpaca" for stage in ("evaluate", "export", "verify", "report", "track"))
    said = f"missing: train@alpaca ({waiting}, inspect wait for it). `make repro` makes them"
    assert done.stdout.splitlines()[-1].startswith(said)
    assert (done.returncode != 0, (project / "reports/track/herd.json").exists()) == (True, True)


def test_what_has_failed_is_named_with_its_error_and_what_is_made_beside_it_is_not(project: Path) -> None:
    """As of a run whose files may not ship: its page and the view of all runs are made without DVC."""
    own = STAGE.replace(
        'sys.exit(f"error: {stage} of {name} is broken")', "broken = InputError(f'{name} falls by 0.2')"
    )
    failing = """
if "broken" in globals():
    sys.argv = [f"/farm/stages/{stage}.py", name]
    sys.exit(exit_code(lambda: throw(broken), logged=True))
"""
    head = """
from pipeline.core.boundary import exit_code
from pipeline.core.errors import InputError
def throw(error):
    raise error
"""
    write_text(project / "stage.py", head + own + failing)
    (project / "verify@alpaca.broken").touch()
    done = make(project)
    failed = "verify@alpaca, which failed at TIME: alpaca falls by 0.2 (.pocketlens.log has all of it)"
    assert without_time(done.stdout.splitlines()[-1]).startswith(
        f"missing: {failed}; report@alpaca, track@alpaca, inspect wait for it."
    )
    made = project / "reports/evaluate/alpaca/report.html", project / "reports/inspect"
    for path in made:
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if not path.suffix else path.touch()
    said = without_time(missing_line(project))
    assert said.startswith(f"missing: {failed}; track@alpaca waits for it. `make repro`")
    verdict = project / "reports/verify/alpaca/verdict.json"
    later = time.time() + 60
    for path in (*verdict.parent.iterdir(), verdict.parent):
        os.utime(path, (later, later))
    assert "failed" not in missing_line(project), "an error of before it was made anew is no cause"


def without_time(line: str) -> str:
    return re.sub(r"at \d{4}-\d\d-\d\d \d\d:\d\d:", "at TIME:", line)


def test_a_mistake_in_params_is_the_last_word_and_nothing_runs(project: Path) -> None:
    write_text(project / "stages/params.py", "import sys; sys.exit('error: params.yaml: epochz: unknown key')")
    done = make(project)
    assert (done.returncode != 0, ran(done)) == (True, [])
    assert done.stderr.splitlines()[0] == "error: params.yaml: epochz: unknown key"


def test_a_folder_that_is_no_project(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"params\.yaml: no such file; run this in the project's folder"):
        missing_line(tmp_path)


def test_beside_a_chain_that_runs_it_says_so(project: Path) -> None:
    with Repo(str(project)) as running, running.lock:
        assert missing_line(project) == RUNNING


def test_a_chain_that_dvc_cannot_read(project: Path) -> None:
    blocks: dict[str, Any] = {"datasets": {}}
    write_text(project / "params.yaml", json.dumps(blocks))
    with pytest.raises(InputError, match=r"dvc\.yaml: "):
        missing_line(project)

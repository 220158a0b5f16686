"""README's commands in a shell without an activated environment, where nothing but Debian's own programs is found."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, in_project, stages_run

pytestmark = pytest.mark.chain
# what other tests run: servers that a person ends, whole runs of the default chain, models of ten minutes
ELSEWHERE = (
    *("make repro", "make test", "make inspect", "make ui", "make demo", "pocketlens predict camera"),
    *("pocketlens add cells", "pocketlens slide crops", "pocketlens compare", "pocketlens cost --budget"),
)
# trainings and a table of their own: left to all tests; test_epochs.py, test_rerun.py, test_cost.py hold their essence
LONGEST = ("pocketlens epochs", "dvc exp run", "pocketlens cost")
# what the commands name that a user has of their own
OWN = {"~/pictures/birds": "alpaca", "photos": "alpaca/alpaca", "~/new": "alpaca/not alpaca", "~/bccd": "herd"}
SMALLER = "--backbone mobilenetv2_050 --set dataset.refuse_over=0.2 " + " ".join(
    f"--set {knob}"
    for knob in (
        *("model.size=64", "train.frozen_epochs=1", "train.epochs=1", "verify.tolerance=1.0"),
        "export.targets=[onnx_int8]",
    )
)


@pytest.fixture
def bare(project: Path, tmp_path: Path) -> dict[str, str]:
    """The environment of a new shell; the project has its .venv, the user's home the pictures that README names."""
    (project / ".venv").symlink_to(sys.prefix)
    for place, drawn in OWN.items():
        folder = tmp_path / place[2:] if place.startswith("~/") else project / place
        shutil.copytree(project / "data/sample" / drawn, folder)
    shutil.copy(next((project / "data/sample/actions").rglob("*.avi")), project / "clip.avi")
    weights = next((project / "weights").glob("mobilenetv2_050.*.safetensors"))
    shutil.copy(weights, project / "weights/mobilenetv2_050.safetensors")  # the network is never asked
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}


def shell(project: Path, environment: dict[str, str], line: str) -> subprocess.CompletedProcess[str]:
    command = ["/bin/sh", "-c", line]
    return subprocess.run(
        command, cwd=project, env=environment, capture_output=True, text=True, check=False, timeout=900
    )


def written() -> list[str]:
    """The lines of README's code blocks."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    commands = "".join(block for language, block in blocks if not language).replace("\\\n", " ")
    return [line.partition(" #")[0].strip() for line in commands.splitlines()]


def test_every_line_of_readme_that_is_left_to_others_is_there() -> None:
    lines = written()
    assert [start for start in (*ELSEWHERE, *LONGEST) if not any(line.startswith(start) for line in lines)] == []


def test_dvc_by_its_path_finds_the_projects_python(project: Path, bare: dict[str, str]) -> None:
    """Also where another program is called `python`, and in a copy of the project below .dvc/tmp."""
    other = project / "other"
    other.mkdir()
    (other / "python").write_text("#!/bin/sh\necho another python; exit 3\n")
    (other / "python").chmod(0o755)
    before = f"{other}:{bare['PATH']}"
    done = shell(project, bare | {"PATH": before}, ".venv/bin/dvc repro --force --single-item ingest@herd")
    assert done.returncode == 0, done.stderr[-2000:]
    assert (project / "data/ingested/herd/dataset.json").is_file()
    copied = project / ".dvc/tmp/exps/tmpcopy"
    shutil.copytree(project / "stages", copied / "stages")
    for path in (bare["PATH"], before):
        said = shell(copied, bare | {"PATH": path}, "sh stages/python.sh -c 'import dvc, sys; print(sys.prefix)'")
        assert Path(said.stdout.strip()).resolve() == Path(sys.prefix).resolve(), said.stderr


@pytest.mark.parametrize(
    "out",
    [pytest.param(LONGEST, id="but the longest"), pytest.param((), id="all", marks=pytest.mark.exhaustive)],
)
def test_the_commands_of_readme(project: Path, bare: dict[str, str], out: tuple[str, ...]) -> None:
    """In README's order, in one shell each that has run the line that README says once per shell."""
    lines = written()
    activate = next(line for line in lines if line.endswith(".venv/bin/activate"))
    left = [line for line in lines if line and line != activate and not line.startswith((*ELSEWHERE, *out))]
    assert len(left) > 5
    for own in ("user.name", "user.email"):
        in_project(project, "git", "config", own, "test@localhost")
    (Path(bare["HOME"]) / "pictures/birds/broken.jpg").write_bytes(b"\xff\xd8\xff no image")
    said = {}
    for line in left:
        smaller = f"{line} {SMALLER}" if line.startswith("pocketlens add") else line
        done = shell(project, bare, f"{activate} && {smaller.replace('clip.mp4', 'clip.avi')}")
        assert done.returncode == 0, f"{line}\n{done.stdout[-1500:]}\n{done.stderr[-1500:]}"
        said[line] = done.stdout
    stages = ("ingest", "augment", "train", "evaluate", "export", "verify", "report", "track")
    # DVC orders evaluate and export as it likes
    ran = stages_run(said["dvc repro track@birds"])
    assert sorted(ran) == sorted(["params", *(f"{stage}@birds" for stage in stages)])
    assert "broken.jpg" in (project / "reports/ingest/birds/ledger.csv").read_text()

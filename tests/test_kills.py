"""The benchmark that kills stages: of a stage that is right it says so, of another one what is wrong."""

import random
from pathlib import Path

import pytest

from benchmarks.kills import kill_often, main

RIGHT = """
import os
from pathlib import Path

if Path("out/made").exists():  # more to do than where there is no old one
    for number in range(10):
        Path(".note").write_text("old")
        Path(".note").unlink()
Path(".note").unlink(missing_ok=True)
Path("out").mkdir(exist_ok=True)
Path(".made").write_text("cow")
os.replace(".made", "out/made")
"""
LEAVES = f"""
import tempfile
{RIGHT}
open(tempfile.mkstemp()[0], "w").close()
"""
FAILS = "import os; os._exit(3)"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "project/stages").mkdir(parents=True)
    (tmp_path / "project/stages/__init__.py").touch()
    return tmp_path / "project"


def killed(project: Path, program: str) -> list[str]:
    (project / "stages/work.py").write_text(program)
    return kill_often(project, "work", ["out/made"], 8, random.Random(0), project.parent / "counted")


def test_a_stage_that_is_right_is_said_to_be(project: Path) -> None:
    assert killed(project, RIGHT) == []


def test_temporary_files_that_pile_up_are_named(project: Path) -> None:
    found = killed(project, LEAVES)
    assert found
    assert all("stays: temp/tmp" in line for line in found)


def test_a_stage_that_fails_is_named_also_where_it_says_nothing(project: Path) -> None:
    assert killed(project, FAILS) == ["it ends with 3 without a kill: "]


def test_a_stage_that_is_not_there_is_a_mistake_of_the_command(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (project / "dvc.lock").write_text("schema: '2.0'\nstages:\n  train@herd:\n    cmd: train\n")
    monkeypatch.setattr("sys.argv", ["kills", str(project), "--stages", "train@pose"])
    with pytest.raises(SystemExit):
        main()
    assert "--stages train@pose: not in dvc.lock; expected some of train@herd" in capsys.readouterr().err

"""Temporary files of a process, in a folder of its own that goes with it."""

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.core.boundary import exit_code
from pipeline.core.scratch import MARK, PREFIX, scratch, shared_folder

# a stage or command in the midst of its work, with a temporary file of its own
WORKS = """
import sys, tempfile
from pipeline.core.boundary import exit_code
def body():
    folder = tempfile.mkdtemp()
    open(folder + "/optimized.onnx", "w").close()
    print(folder, flush=True)
    sys.stdin.read()
exit_code(body)
"""


@pytest.fixture
def temp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def at_work(temp: Path) -> tuple[subprocess.Popen[str], Path]:
    """A process, and the folder that it has for its temporary files."""
    env = os.environ | {"TMPDIR": str(temp), "PYTHONPATH": str(Path(__file__).parents[1])}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", WORKS], env=env, text=True, stdin=pipe, stdout=pipe)
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip()).parent


def test_what_a_killed_process_has_left_goes_and_what_a_living_one_has_stays(temp: Path) -> None:
    killed, left = at_work(temp)
    living, used = at_work(temp)
    assert left != used
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert left.is_dir()
    assert exit_code(tempfile.mkdtemp) == 0
    assert list(temp.iterdir()) == [used]
    assert next(used.rglob("*.onnx")).is_file()
    living.communicate()
    assert list(temp.iterdir()) == []


def test_what_is_not_ours_stays(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other names, a file, a link of such a name, a folder without the mark, and another user's."""
    (temp / "tmpabcdefgh").mkdir()
    (temp / "pocketlens-datasets/cows").mkdir(parents=True)
    (temp / f"{PREFIX}notafile").touch()
    (temp / "victim/deep").mkdir(parents=True)
    (temp / f"{PREFIX}aaaaaaaa").symlink_to(temp / "victim")
    (temp / f"{PREFIX}cccccccc/mine").mkdir(parents=True)
    (temp / f"{PREFIX}bbbbbbbb").mkdir()
    (temp / f"{PREFIX}bbbbbbbb" / MARK).touch()
    names = {entry.name for entry in temp.iterdir()}
    with monkeypatch.context() as other:
        other.setattr("os.getuid", lambda: 1 + (temp / "victim").stat().st_uid)
        with scratch():
            pass
    assert {entry.name for entry in temp.iterdir()} == names
    with scratch():
        pass
    assert {entry.name for entry in temp.iterdir()} == names - {f"{PREFIX}bbbbbbbb"}
    assert (temp / "victim/deep").is_dir()


def test_what_a_library_takes_for_its_folder_stays(temp: Path) -> None:
    (temp / "elsewhere").mkdir()
    with scratch():
        tempfile.tempdir = str(temp / "elsewhere")
    assert [entry.name for entry in temp.iterdir()] == ["elsewhere"]
    assert tempfile.gettempdir() == str(temp)


def test_where_there_are_no_locks_nothing_is_removed(temp: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(handle: int, how: int) -> None:
        raise OSError(95, "Operation not supported")

    (temp / f"{PREFIX}aaaaaaaa").mkdir()
    monkeypatch.setattr("fcntl.flock", flock)
    with scratch():
        assert tempfile.gettempdir() == str(temp)
    assert [entry.name for entry in temp.iterdir()] == [f"{PREFIX}aaaaaaaa"]


def test_what_several_processes_share_is_not_in_it(temp: Path) -> None:
    with scratch(), scratch():  # a command that calls another one
        assert Path(tempfile.gettempdir()).parent == temp
        assert shared_folder() == temp
    assert shared_folder() == temp
    assert list(temp.iterdir()) == []

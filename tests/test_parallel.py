"""An ordered map over the cores."""

import contextlib
import os
import signal
import subprocess
import sys

import psutil
import pytest
import torch
from conftest import ROOT
from work import end_itself, halve

from pipeline.core.errors import InputError
from pipeline.core.image_file import ImageFileError, open_image
from pipeline.core.parallel import each, each_forked


@pytest.mark.parametrize("jobs", [1, 2, None])
def test_results_come_in_the_order_of_the_items(jobs):
    assert each(halve, range(50), "halve", jobs) == [n / 2 for n in range(50)]
    assert each(halve, [], "halve", jobs) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised_here(jobs):
    with pytest.raises(ValueError, match="-3 is below 0"):
        each(halve, [1, 2, -3], "halve", jobs)


def who(n):
    halve(n)
    return n, os.getpid(), torch.get_num_threads()


def test_forked_processes_keep_the_order_and_one_thread_each():
    rows = each_forked(who, range(9), "who")
    assert [n for n, _, _ in rows] == list(range(9))
    assert os.getpid() not in {pid for _, pid, _ in rows}
    assert {threads for _, _, threads in rows} == {1}
    assert each_forked(who, [], "who") == []
    with pytest.raises(ValueError, match="-3 is below 0"):
        each_forked(who, [1, -3], "who")


@pytest.mark.parametrize("over", [each, each_forked])
def test_the_error_of_an_image_comes_whole_from_another_process(tmp_path, over):
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(ImageFileError, match=r"a\.png: not an image that decodes: not one of") as raised:
        over(open_image, [tmp_path / "a.png"] * 4, "decode")
    assert raised.value.rule == "unreadable"


@pytest.mark.parametrize("over", [each, each_forked])
def test_a_process_that_was_ended_is_said_in_one_line(over):
    with pytest.raises(InputError, match=r"^halve: one of its processes was ended, as a system does"):
        over(end_itself, range(6), "halve")


def test_an_item_that_ends_its_process_is_told_from_the_rest():
    assert each(end_itself, range(40), "halve", 2, ended=lambda n: -n) == [-n if n == 2 else n for n in range(40)]


WAITING = """
import signal, sys
from functools import partial
from pathlib import Path
from pipeline.core import parallel
from pipeline.core.boundary import exit_code
def wait(pipe, _):
    with Path(pipe).open("w") as begun:
        begun.write("begun")
    signal.pause()
if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without
    over = getattr(parallel, sys.argv[1])
    sys.exit(exit_code(lambda: over(partial(wait, sys.argv[2]), range(4), "wait")))
"""


@pytest.mark.parametrize("over", ["each", "each_forked"])
def test_no_process_outlives_one_that_was_killed(tmp_path, over):
    (tmp_path / "wait.py").write_text(WAITING)
    os.mkfifo(tmp_path / "pipe")
    line = [sys.executable, str(tmp_path / "wait.py"), over, str(tmp_path / "pipe")]
    running = subprocess.Popen(line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, start_new_session=True)
    try:
        assert (tmp_path / "pipe").read_text().startswith("begun")
        below = psutil.Process(running.pid).children(recursive=True)
        assert below
        running.kill()
        assert psutil.wait_procs(below, 60)[1] == []
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@pytest.mark.parametrize("over", ["each", "each_forked"])
def test_ctrl_c_is_one_word_and_leaves_no_process(tmp_path, over):
    """As a terminal sends it: to all processes at once."""
    (tmp_path / "wait.py").write_text(WAITING)
    os.mkfifo(tmp_path / "pipe")
    line = [sys.executable, str(tmp_path / "wait.py"), over, str(tmp_path / "pipe")]
    with subprocess.Popen(
        line, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as running:  # fmt: skip
        assert (tmp_path / "pipe").read_text().startswith("begun")
        os.killpg(running.pid, signal.SIGINT)
        said = running.communicate(timeout=120)[1]  # ends when no process has it any more
    assert running.returncode == 130
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "interrupted"

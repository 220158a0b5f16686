"""`ingest` that is killed, at any moment, and run again gives the bytes of an unbroken run, and leaves no rest.

A moment is a share of what the run does: of the files and folders that it opens, makes and moves. POCKETLENS_KILLS is
how many are tried (default 3; of another number others):

    POCKETLENS_KILLS=20 python -m pytest tests/test_ingest_kills.py
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from test_ingest import coco, hashes, params, write_coco

from pipeline.core.files import new_folder
from pipeline.datasets.ingest.ingest import ingest

KILLS = int(os.environ.get("POCKETLENS_KILLS", "3"))
CHANCE = random.Random(KILLS)
SHARES = [0.9, 0.0, *(round(CHANCE.random(), 3) for _ in range(KILLS - 2))]  # as the old data goes; at once
COUNT = 14  # images
# a run that kills itself at an event, of which it says how many there are; with several processes one of those kills
# it, once there are so many images
PROGRAM = """
import os, signal, sys
from pathlib import Path
from test_ingest import params
from pipeline.core import parallel
from pipeline.datasets.ingest import ingest as module

source, out, last, jobs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
seen, take_all = 0, module.take_all

def event(name, arguments):
    global seen
    path = arguments[0] if arguments else ""
    here = isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith(str(out))
    if name in EVENTS and (here or (name in WITHIN and arguments[1] != -1)):  # as rmtree names what it removes
        seen += 1
        if seen == last:
            os.kill(os.getpid(), signal.SIGKILL)

def killing(candidates, folder, max_side):
    taken = take_all(candidates, folder, max_side)
    if len(list(folder.iterdir())) >= last:
        os.kill(os.getppid(), signal.SIGKILL)
    return taken

WITHIN = ("os.remove", "os.rmdir")
EVENTS = (*WITHIN, "open", "os.rename", "os.mkdir", "shutil.rmtree", "shutil.copyfile")
if jobs == "1":
    parallel.cpu_count = lambda: 1
    sys.addaudithook(event)
else:
    parallel.cpu_count = lambda: 2
    module.take_all = killing
module.ingest("set", params("coco", source), out / "data" / "set", out / "reports" / "set")
print(seen)
"""


@contextmanager
def run(source: Path, out: Path, last: int = 0, jobs: int = 1) -> Iterator[tuple[int, str]]:
    """Yield exit code and last line. What processes of it still do goes on until the end of the block."""
    command = [sys.executable, "-c", PROGRAM, str(source), str(out), str(last), str(jobs)]
    here = Path(__file__).parent
    env = os.environ | {"PYTHONPATH": f"{here.parent}{os.pathsep}{here}"}
    with tempfile.TemporaryFile("w+") as said:  # no pipe, which those processes would keep open
        process = subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait(timeout=120)
            said.seek(0)
            yield code, (said.read().splitlines() or [""])[-1]
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.fixture(scope="module")
def herd(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str], int]:
    """A source, a folder with the older data and reports of it, the hashes of what a run makes, and its events."""
    root = tmp_path_factory.mktemp("kills")
    images, rows = coco(root / "herd", COUNT)
    write_coco(root / "herd", images, rows)
    old = root / "old"
    ingest("set", params("coco", root / "herd", max_side=32), old / "data" / "set", old / "reports" / "set")
    shutil.copytree(old, root / "whole")
    with run(root / "herd", root / "whole") as (code, events):
        assert code == 0, events
    assert hashes(root / "whole" / "data") != hashes(old / "data")
    return root / "herd", old, hashes(root / "whole"), int(events)


def look(out: Path, old: Path, expected: dict[str, str]) -> None:
    """What a killed run has left is no half dataset: the old one, the new one, or none."""
    for name in ("data/set", "reports/set"):
        here = {f"{name}/{file}": value for file, value in hashes(out / name).items()}
        whole = [{file: value for file, value in of.items() if file.startswith(name)} for of in (hashes(old), expected)]
        assert here in ({}, *whole), name


def again(source: Path, out: Path, expected: dict[str, str]) -> None:
    ingest("set", params("coco", source), out / "data" / "set", out / "reports" / "set")
    assert hashes(out) == expected
    assert {path.name for place in ("data", "reports") for path in (out / place).iterdir()} == {"set"}


@pytest.mark.parametrize("share", SHARES)
def test_killed_at_any_moment_and_run_again(tmp_path, herd, share):
    source, old, expected, events = herd
    before = hashes(source)
    out = shutil.copytree(old, tmp_path / "out")
    with run(source, out, 1 + int(share * events)) as (code, said):
        assert code == -signal.SIGKILL, said
    look(out, old, expected)
    again(source, out, expected)
    assert hashes(source) == before


@pytest.mark.parametrize("share", SHARES[: -(-KILLS // 4)])
def test_killed_while_other_processes_work_for_it(tmp_path, herd, share):
    """They end what they do a moment later than it; the next run has begun by then."""
    source, old, expected, _ = herd
    out = shutil.copytree(old, tmp_path / "out")
    with run(source, out, 1 + int(share * (COUNT - 4)), jobs=2) as (code, said):
        assert code == -signal.SIGKILL, said
        look(out, old, expected)
        again(source, out, expected)


def test_a_second_one_of_the_same_dataset_is_refused_by_name(tmp_path, herd):
    source, old, expected, _ = herd
    out = shutil.copytree(old, tmp_path / "out")
    with pytest.raises(KeyError), new_folder(out / "data" / "set") as folder:  # as one that takes long, and fails
        (folder / "a").touch()
        with run(source, out) as (code, said):
            assert (code, "data/set: another process is making it; wait" in said) == (1, True)
        assert [path.name for path in folder.iterdir()] == ["a"]
        raise KeyError
    assert hashes(out) == hashes(old)
    again(source, out, expected)

"""Stages that are killed at random moments and run again: what is there meanwhile, what stays, and what comes of it.

    python -m benchmarks.kills PROJECT --kills 20 [--stages train@herd,export@herd] [--seed 1]

PROJECT is one whose chain has run, the smaller the better; it is copied, and the copy killed. A moment is an event at
which the stage asks the system to open a file for writing, to make, rename or remove something; all its processes end
at once. Then each file that the stage makes has the bytes of an unbroken run or is not there; the stage is run again,
all files are those of an unbroken run, and nothing else has stayed in the project or in its folder for temporary files.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.core.files import sha256
from pipeline.tracking.dvc_state import TIMED, read_lock

OWN = (".git", ".dvc", ".venv", ".features", ".fiftyone", "mlartifacts")  # not of the chain, or caches
MLFLOW = ("mlflow.db", "mlflow.db.lock")
STORE = ("mlflow.db", "mlartifacts")
DATABASES = (".fiftyone", *STORE)  # they know the place where they were made, and are made anew
TEMP = "temp"  # beside the copy
NOT_KILLED = ("inspect",)  # a database's server is at work for it
# runs stages.NAME, and ends all of its processes at the event of a number; writes how many there were
PROGRAM = """
import os, runpy, signal, sys
here, last, counted, stage = os.getcwd(), int(sys.argv.pop(1)), sys.argv.pop(1), sys.argv.pop(1)
seen, main = 0, os.getpid()

def event(name, arguments):
    global seen
    if name == "open":
        if isinstance(arguments[0], int) or not arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return
    elif name not in ("os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"):
        return
    path = os.path.abspath(os.fsdecode(arguments[0]))
    if os.getpid() == main and path.startswith(here) and "__pycache__" not in path:  # which the first run alone writes
        seen += 1
        if seen == last:
            os.killpg(0, signal.SIGKILL)

sys.addaudithook(event)
try:
    runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=False)
finally:
    if not last:
        with open(counted, "w") as file:
            file.write(str(seen))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("project", type=Path)
    parser.add_argument("--stages", help="default: all but inspect")
    parser.add_argument("--kills", type=int, default=20, help="per stage (default 20)")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    chance = random.Random(args.seed)
    lock = read_lock(args.project)
    stages = args.stages.split(",") if args.stages else [s for s in lock if s.split("@")[0] not in NOT_KILLED]
    if unknown := [stage for stage in stages if stage not in lock]:
        parser.error(f"--stages {','.join(unknown)}: not in dvc.lock; expected some of {', '.join(lock)}")
    wrong = 0
    with tempfile.TemporaryDirectory() as folder:
        unknown_there = shutil.ignore_patterns(*DATABASES)
        copy = shutil.copytree(args.project, Path(folder) / "project", symlinks=True, ignore=unknown_there)
        for stage in stages:
            outs = [out["path"] for out in lock[stage]["outs"]]
            found = kill_often(copy, stage, outs, args.kills, chance, Path(folder) / "counted")
            print(f"{stage}: {args.kills} kills: {'; '.join(found) or 'all made good'}", flush=True)
            wrong += len(found)
    sys.exit(1 if wrong else 0)


def kill_often(copy: Path, stage: str, outs: list[str], kills: int, chance: random.Random, counted: Path) -> list[str]:
    """What was wrong, after which kill."""
    run(copy, stage, 0, counted)  # the first one fills caches
    events = []
    for gone in (False, True):  # where old outs are there, a stage has more to do
        if gone:
            remove_outs(copy, stage, outs)
        if code := run(copy, stage, 0, counted):
            last = (copy.parent / "said.log").read_text(errors="replace").splitlines()[-1:]
            return [f"it ends with {code} without a kill: {''.join(last)}"]
        events.append(int(counted.read_text()))
    whole, names = hashes(copy, outs), entries(copy)
    found = []
    for number in range(kills):
        if gone := bool(number % 2):  # as DVC does it before a stage; at other times the old ones are there
            remove_outs(copy, stage, outs)
        moment, of_all = chance.randint(1, events[gone]), events[gone]
        if run(copy, stage, moment, counted) != -signal.SIGKILL:
            found.append(f"event {moment} of {of_all}: it was not killed")
        left = hashes(copy, outs)
        half = [name for name, digest in left.items() if whole.get(name) != digest]
        half += [out for out in outs if (copy / out).is_dir() and len(of(left, out)) != len(of(whole, out))]
        if half:
            found.append(f"event {moment} of {of_all}: half-written: {', '.join(half)}")
        if code := run(copy, stage, 0, counted):
            found.append(f"event {moment} of {of_all}: the next run ends with {code}")
        if hashes(copy, outs) != whole:
            found.append(f"event {moment} of {of_all}: other bytes after the next run")
        if more := sorted(entries(copy) - names):
            found.append(f"event {moment} of {of_all}: stays: {', '.join(more)}")
    return found


def remove_outs(copy: Path, stage: str, outs: list[str]) -> None:
    """And MLflow's store where `stage` has nothing to do while that has its run."""
    for out in (*outs, *(STORE if stage.startswith("track@") else ())):
        if (copy / out).is_dir():
            shutil.rmtree(copy / out)
        else:
            (copy / out).unlink(missing_ok=True)


def run(copy: Path, stage: str, last: int, counted: Path) -> int:
    """The exit code of a stage that is killed at event `last`, or of a whole one."""
    name, _, of_what = stage.partition("@")
    command = [sys.executable, "-c", PROGRAM, str(last), str(counted), name, *filter(None, [of_what])]
    temp = copy.parent / TEMP
    temp.mkdir(exist_ok=True)
    env = os.environ | {"PYTHONPATH": str(copy), "TMPDIR": str(temp)}
    with (copy.parent / "said.log").open("ab") as said:
        process = subprocess.Popen(command, cwd=copy, env=env, stdout=said, stderr=said, start_new_session=True)
        return process.wait()


def hashes(copy: Path, outs: list[str]) -> dict[str, str]:
    """Of each file of the outs; what a clock measures anew each time is there or not."""
    files = [file for out in outs for file in ([copy / out] if (copy / out).is_file() else (copy / out).rglob("*"))]
    files = [file for file in files if file.is_file()]
    return {str(f.relative_to(copy)): "timed" if f.name in TIMED else sha256(f) for f in files}


def of(found: dict[str, str], out: str) -> list[str]:
    return [name for name in found if name.startswith(f"{out}/")]


def entries(copy: Path) -> set[str]:
    """All names in the project, but for those of caches and of MLflow's files, whose runs have ids of their own; and
    those of temporary files.
    """
    names = (path.relative_to(copy) for path in copy.rglob("*"))
    found = {str(name) for name in names if name.parts[0] not in (*OWN, *MLFLOW) and "__pycache__" not in name.parts}
    return found | {str(path.relative_to(copy.parent)) for path in (copy.parent / TEMP).rglob("*")}


if __name__ == "__main__":
    main()

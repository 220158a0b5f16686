"""A Dask scheduler and two workers on loopback, in processes of their own, for tests of work on several machines."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {
    "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests"))),
    "OMP_NUM_THREADS": "1",
    "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0",  # 3 by default; each costs a worker's start
}


@contextmanager
def started(folder: Path, said: str, *command: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """`python -m distributed.cli.COMMAND` in `folder` until the block ends, once it has said that it is there."""
    line = [sys.executable, "-m", f"distributed.cli.{command[0]}", *command[1:], "--no-dashboard"]
    process = subprocess.Popen(
        line, cwd=folder, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        lines = []
        for row in process.stderr:
            lines.append(row)
            if said in row:
                break
        else:
            raise AssertionError("".join(lines))
        threading.Thread(target=process.stderr.read, daemon=True).start()  # else it would wait for who reads
        yield process, row
    finally:
        with ExitStack() as closing:
            closing.callback(process.wait, 30)
            closing.callback(os.killpg, process.pid, signal.SIGKILL)


@contextmanager
def scheduler(folder: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The process and its address, as machine.parallel has it."""
    command = "dask_scheduler", "--host", "127.0.0.1", "--port", "0"
    with started(folder, "Scheduler at:", *command) as (process, row):
        yield process, "dask://" + row.rpartition("//")[2].strip()


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[str]:
    """The address of a scheduler that has so many workers, started in `folder`; each comes again when it was ended."""
    with scheduler(folder) as (_, address):
        command = "dask_worker", address.replace("dask", "tcp"), "--nthreads", "1", "--host", "127.0.0.1"
        where = "--local-directory", str(folder)
        with started(folder, "Registered to:", *command, "--nworkers", str(workers), *where):
            yield address


# What the workers are asked to do. They import this module, which imports little.


def halve(n: int) -> float:
    if n % 40 == 39:
        raise ValueError(f"{n} ends in 39")
    return n / 2


def process_of(_: object) -> int:
    return os.getpid()


def fall(n: int) -> int:
    if n == 3:
        os._exit(1)
    return n


def place_of(n: int) -> Path:
    return Path(f"{n}.jpg")


def only_here(process: int) -> Path:
    """A file that one process finds and no other: /proc/self is another folder in each."""
    return Path(f"/proc/self/task/{process}/comm")


def fatal(candidates: list[Any], folder: Path, max_side: int) -> list[Any]:
    """As ingest's take_all, in which one picture ends its process."""
    from pipeline.datasets.ingest.take import take_all

    if candidates[0].name == "cow/07.jpg":
        os._exit(1)
    return take_all(candidates, folder, max_side)

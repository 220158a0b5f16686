"""`parallel.each` with the workers of a Dask scheduler, on this machine and others.

Items travel to the workers in batches, and what becomes of them travels back; images are read and written where the
worker is, in folders that all machines share. A worker is as good as this process: it runs the same Python, packages
and code, so that it makes the same bytes.
"""

import hashlib
import logging
import os
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from uuid import uuid4

from distributed import Client, Future, KilledWorker, get_worker, wait
from distributed.comm import CommClosedError
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.machine import DASK

BATCH = 256  # items at most that a worker takes at once
SHARES = 4  # batches at least that each thread of the workers has, where there are items enough
AHEAD = 2  # batches that wait at the scheduler or are worked on, for each thread
CONNECT_S, ANSWER_S = 20.0, 40.0  # until no scheduler is there; until what is there is taken for something else
ALONE_S = 60.0  # until a scheduler has no worker left
PACKAGES = (  # that make or read pixels and numbers, and what the machines talk with
    *("numpy", "pillow", "opencv-python-headless", "av", "albumentations", "imgaug", "scikit-image", "scipy"),
    *("torch", "torchvision", "timm", "onnxruntime", "executorch", "distributed"),
)
SHARED = "expected a shared folder, at the same path on all machines"
_one = threading.Lock()  # a worker's threads share one working folder, and libraries that draw from one generator


@dataclass(frozen=True, slots=True)
class Unseen:
    """In place of a result: the worker that does not find the file, and the file."""

    worker: str
    file: Path


@dataclass(frozen=True, slots=True)
class Job:
    """What is done with each item: see `parallel.each`. `marker` is a file in the folder that is written into."""

    function: Callable[[Any], Any]
    folder: str
    reads: Callable[[Any], Path] | None
    marker: Path | None
    versions: dict[str, str]

    def __call__(self, items: list[Any]) -> list[Any]:
        """The results of a batch, in a worker. Raises InputError if that is not as the process that asks."""
        worker = f"the Dask worker {get_worker().address}"
        theirs, ours = versions(), self.versions
        pairs = {name: (theirs.get(name, "none"), ours.get(name, "none")) for name in sorted(theirs | ours)}
        differ = [f"{name} {there}, here {here}" for name, (there, here) in pairs.items() if there != here]
        if differ:
            advice = "start all workers in the project as it is here, with `make setup` done"
            raise InputError(f"{worker} has {'; '.join(differ)}: {advice}")
        with _one:
            try:
                os.chdir(self.folder)
            except OSError as error:
                raise InputError(f"{self.folder}: {worker} has no such folder ({error.strerror}); {SHARED}") from None
            return [self._result(item, worker) for item in items]

    def _result(self, item: Any, worker: str) -> Any:
        if self.marker and not self.marker.exists():  # looked for again and again: who has asked may be gone
            raise InputError(f"{self.marker.parent}: {worker} does not find what is written there; {SHARED}")
        if self.reads and not (file := self.reads(item)).exists():
            return Unseen(worker, file)
        return self.function(item)


@lru_cache(maxsize=1)  # of the code as it was first used here, also where its files were changed since
def versions() -> dict[str, str]:
    """What decides which bytes this process makes: Python, packages, this project's code."""
    found = {"Python": ".".join(map(str, sys.version_info[:3]))}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    code = hashlib.sha256()
    root = Path(__file__).parents[1]
    for file in sorted(root.rglob("*.py")):
        code.update(file.relative_to(root).as_posix().encode() + b"\0" + file.read_bytes() + b"\0")
    return found | {"code": code.hexdigest()[:12]}


@contextmanager
def connected(parallel: str) -> Iterator["Cluster"]:
    """The workers of the scheduler at "dask://host:port". Raises InputError if none answers there."""
    address = f"tcp://{parallel.removeprefix(DASK)}"
    log = logging.getLogger("distributed")
    level = log.level
    log.setLevel(logging.CRITICAL)  # what is wrong is raised
    try:
        client = _client(parallel, address)
        try:
            yield Cluster(client, parallel)
        finally:
            client.close()
    finally:
        log.setLevel(level)


def _client(parallel: str, address: str) -> Client:
    found: list[Client | Exception] = []
    turn, too_late = threading.Lock(), threading.Event()

    def connect(again: bool = True) -> None:
        try:
            client = Client(address, timeout=CONNECT_S, name="pocketlens")
        except Exception as error:  # noqa: BLE001  said below
            # as where its own thread has not begun for 10 s, which it asserts without a word
            if again and isinstance(error, AssertionError) and not too_late.is_set():
                connect(again=False)
            else:
                found.append(error)
            return
        with turn:
            if not too_late.is_set():
                found.append(client)
                return
        client.close()

    # in a thread: the library waits for ever for a server that speaks something else, as that of Dask's dashboard
    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(ANSWER_S)
    with turn:
        too_late.set()
    if found and not isinstance(found[0], Exception):
        return found[0]
    why = f"what listens there did not answer for {ANSWER_S:g} s as a scheduler does"
    if found:
        why = str(found[0]) or f"{type(found[0]).__name__} in this process, as on a busy machine"
    raise InputError(
        f"machine.parallel: {parallel}: no Dask scheduler: {why}; "
        f"`dask scheduler --port {address.rpartition(':')[2]}` starts one, machine.parallel: processes needs none"
    )


class Cluster:
    """A Dask scheduler and its workers; `name` is what params.yaml says of it."""

    def __init__(self, client: Client, name: str) -> None:
        self._client, self._name = client, name

    def each(
        self,
        function: Callable[[Any], Any],
        items: list[Any],
        label: str,
        reads: Callable[[Any], Path] | None,
        writes: Path | None,
        ended: Callable[[Any], Any] | None,
    ) -> list[Any]:
        """See `parallel.each`."""
        with _marked(writes) as marker, self._said(), tqdm(items, label, mininterval=0.5) as bar:
            work = Work(self._client, Job(function, str(Path.cwd()), reads, marker, versions()), items, bar)
            for i in work.all_batches():
                work.results[i] = _of_ended(items[i], label, reads, ended)
        for i, result in enumerate(work.results):
            if isinstance(result, Unseen):
                if result.file.exists():
                    raise InputError(f"{result.file}: {result.worker} does not find it; {SHARED}")
                work.results[i] = function(items[i])
        return work.results

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except NoWorkerError:
            raise InputError(
                f"machine.parallel: {self._name}: the scheduler had no worker for {ALONE_S:g} s; "
                f"start some in this folder: `dask worker {self._name.removeprefix(DASK)} --nworkers 4 --nthreads 1`"
            ) from None
        except RuntimeError as error:
            if not isinstance(error.__cause__, ImportError):
                raise
            raise InputError(
                f"machine.parallel: {self._name}: the scheduler or a worker has not what is asked for "
                f"({error.__cause__}); start all of them with the project's own .venv"
            ) from None
        except (CancelledError, CommClosedError):
            raise InputError(
                f"machine.parallel: {self._name}: the scheduler has ended, or the network to it; run it again"
            ) from None


class NoWorkerError(Exception):
    """Nobody is there to do the work."""


class Work:
    """`items` on their way through the workers, and their `results`."""

    def __init__(self, client: Client, job: Job, items: list[Any], bar: "tqdm[Any]") -> None:
        self.results: list[Any] = [None] * len(items)
        self._client, self._job, self._items, self._bar = client, job, items, bar
        self._running: dict[Future, range] = {}
        self._failed: list[tuple[int, Exception]] = []
        self._alone: list[int] = []

    def all_batches(self) -> list[int]:
        """Fill `results`; returns the places of the items that have ended each worker that took them.

        A batch of which a worker was ended is done again by another one, as often as the scheduler's `allowed-failures`
        says; after that each of its items, one after the other when nothing else runs: so it is clear which one did it.
        Raises what `function` raised for the first item for which it did.
        """
        size = max(1, min(BATCH, -(-len(self._items) // (SHARES * self._threads()))))
        batches = iter([range(i, min(i + size, len(self._items))) for i in range(0, len(self._items), size)])
        while True:
            room = AHEAD * self._threads() - len(self._running)
            for _ in range(room if not self._failed else 0):
                if batch := next(batches, None):
                    self._start(batch)
            if not self._running:
                break
            self._take()
        if self._failed:
            raise min(self._failed, key=lambda row: row[0])[1]
        suspects, self._alone = sorted(self._alone), []
        for i in suspects:
            self._start(range(i, i + 1))
            while self._running:
                self._take()
            if self._failed:
                raise self._failed[0][1]
        return self._alone

    def _threads(self) -> int:
        return max(1, sum(self._client.nthreads().values()))

    def _start(self, batch: range) -> None:
        self._running[self._client.submit(self._job, [self._items[i] for i in batch], pure=False)] = batch

    def _take(self) -> None:
        """Wait for one batch at least."""
        try:
            done = wait(list(self._running), timeout=ALONE_S, return_when="FIRST_COMPLETED").done
        except TimeoutError:
            if not self._client.nthreads():
                raise NoWorkerError from None
            return  # a batch may take long
        for future in done:
            batch = self._running.pop(future)
            error = future.exception()
            if isinstance(error, KilledWorker):
                self._alone += batch
            elif error is not None:
                self._failed.append((batch[0], error))
            else:
                self.results[batch[0] : batch[-1] + 1] = future.result()
                self._bar.update(len(batch))


@contextmanager
def _marked(folder: Path | None) -> Iterator[Path | None]:
    """A file in `folder` by which a worker knows that it sees the same one, and that this process still waits."""
    if folder is None:
        yield None
        return
    marker = folder / f".{uuid4().hex}.running"
    marker.touch()
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)


def _of_ended(item: Any, label: str, reads: Callable[[Any], Path] | None, ended: Callable[[Any], Any] | None) -> Any:
    if ended:
        return ended(item)
    raise InputError(
        f"{reads(item) if reads else item}: {label}: each worker that took it was ended, as a system does that has no "
        f"memory left, or by a fault in what decodes it"
    )

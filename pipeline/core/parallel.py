"""Map a function over files, on this machine's cores or with the workers of a Dask scheduler."""

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

from joblib import Parallel, cpu_count, delayed
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.machine import PROCESSES

if TYPE_CHECKING:
    from pipeline.core.cluster import Cluster

Item = TypeVar("Item")
Result = TypeVar("Result")
LOOK_S = 2.0  # from one look for the parent of a process to the next
AHEAD = 8  # items, for each process, that may have been begun when one was ended
_CLUSTER: ContextVar["Cluster | None"] = ContextVar("cluster", default=None)


@contextmanager
def over(parallel: str) -> Iterator[None]:
    """Until the block ends, have `each` run where `machine.parallel` says: "processes" of this machine, or the workers
    of a Dask scheduler, "dask://host:port". Raises InputError if no scheduler answers there.

    >>> with over("processes"):
    ...     each(len, ["cow", "goat"], "count", jobs=1)
    [3, 4]
    """
    with _connected(parallel) as cluster:
        token = _CLUSTER.set(cluster)
        try:
            yield
        finally:
            _CLUSTER.reset(token)


def _connected(parallel: str) -> "AbstractContextManager[Cluster | None]":
    if parallel == PROCESSES:
        return nullcontext()
    try:
        from pipeline.core.cluster import connected
    except ImportError as error:
        why = f"machine.parallel: {parallel}: the package distributed is not here ({error})"
        raise InputError(f"{why}; `pip install 'pocketlens[dask]'` brings it") from None
    return connected(parallel)


def on_cluster() -> bool:
    """Whether `each` sends work to other machines just now.

    >>> on_cluster()
    False
    """
    return _CLUSTER.get() is not None


def each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    label: str,
    jobs: int | None = None,
    reads: Callable[[Item], Path] | None = None,
    writes: Path | None = None,
    ended: Callable[[Item], Result] | None = None,
) -> list[Result]:
    """`[function(item) for item in items]` in that order, under a progress bar named `label`.

    Runs in `jobs` processes (None: as many as this process may use cores), so `function`, items and results must
    pickle; one job, or one item, stays in this process. What `function` raises is raised here. Where a process was
    ended, the items that it may have had are tried again, each alone; one that ends its process then too has what
    `ended` makes of it. Without `ended` that is an InputError.

    In a block of `over` other machines do the work, unless `jobs` is 1. They find the file that an item is read from
    (`reads`) and the folder that `function` writes into (`writes`), or InputError says who does not.

    >>> each(len, ["cow", "goat"], "count", jobs=1)
    [3, 4]
    """
    items = list(items)
    if jobs != 1 and items and (cluster := _CLUSTER.get()):
        return cluster.each(function, items, label, reads, writes, ended)
    jobs = min(jobs or cpu_count(), max(1, len(items)))
    if jobs == 1:
        return [function(item) for item in tqdm(items, label, mininterval=0.5)]
    results: list[Result] = []
    with _whole(label), tqdm(total=len(items), desc=label, mininterval=0.5) as bar:
        while len(results) < len(items):
            try:
                for result in _in_processes(function, items[len(results) :], jobs):
                    results.append(result)
                    bar.update()
            except BrokenProcessPool:
                if ended is None:
                    raise
                suspects = items[len(results) :][: AHEAD * jobs]
                for result in _one_by_one(function, suspects, ended):
                    results.append(result)
                    bar.update()
    return results


def _in_processes(function: Callable[[Item], Result], items: list[Item], jobs: int) -> Iterator[Result]:
    folder = str(Path.cwd())
    # max_nbytes=None: arrays are pickled, because joblib's memory-mapped files stay on disk if the process is killed
    with _deaf():
        ready = Parallel(n_jobs=jobs, return_as="generator", max_nbytes=None)(
            delayed(_in_folder)(os.getpid(), folder, function, item) for item in items
        )
    yield from ready


def _one_by_one(
    function: Callable[[Item], Result], items: list[Item], ended: Callable[[Item], Result]
) -> Iterator[Result]:
    """The results in a process that has nothing else to do: where it is ended, it is clear by which item."""
    pool, folder = None, str(Path.cwd())
    try:
        for item in items:
            pool = pool or ProcessPoolExecutor(1, multiprocessing.get_context("spawn"))
            try:
                with _deaf():
                    future = pool.submit(_in_folder, os.getpid(), folder, function, item)
                yield future.result()
            except BrokenProcessPool:
                pool = None
                yield ended(item)
    finally:
        if pool:
            pool.shutdown(cancel_futures=True)


@contextmanager
def own_place(path: Path) -> Iterator[Path]:
    """Yield a place beside `path` that no other process writes to, to be moved there: of several machines two may do
    the same work, where one was taken for lost.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     with own_place(Path(folder, "note.txt")) as place:
    ...         size = place.write_text("two cows")
    ...     [path.name for path in Path(folder).iterdir()]
    ['note.txt']
    """
    place = path.with_name(f".{uuid4().hex}")
    try:
        yield place
        place.replace(path)
    except OSError as error:
        if str(error.filename) == str(place):
            error.filename = str(path)
        if str(error.filename2) == str(place):  # of a copy
            error.filename2 = str(path)
        raise
    finally:
        place.unlink(missing_ok=True)  # also where both are links to one file, which a move leaves as it is


def _in_folder(parent: int, folder: str, function: Callable[[Item], Result], item: Item) -> Result:
    _end_with(parent)
    os.chdir(folder)  # a worker that is used again was started where this process was then
    return function(item)


def each_forked(function: Callable[[Item], Result], items: Iterable[Item], label: str) -> list[Result]:
    """As `each`, in processes that are copies of this one where the system has that (Linux).

    joblib's processes, which `each` has, start empty and each import torch first, with which an export of three targets
    took 1.5 to 2 times as long; these have what is imported here. torch runs on one
    thread in them, because a copied process does not have the threads of its parent's pools.

    >>> each_forked(len, ["cow", "goat"], "count")
    [3, 4]
    """
    items = list(items)
    if not items:
        return []
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
    jobs = min(cpu_count(), len(items))
    before = set(multiprocessing.active_children())
    with _whole(label), ProcessPoolExecutor(jobs, context, _one_thread, (os.getpid(),)) as pool:
        # not pool.map, which cancels what is to come: where a process has ended, Python 3.11 does not bear it
        with _deaf():
            made = [pool.submit(function, item) for item in items]
        try:
            with tqdm(made, label, mininterval=0.5) as bar:
                return [future.result() for future in bar]
        except Exception:
            pool.shutdown(cancel_futures=True)
            raise
        except KeyboardInterrupt:
            for process in set(multiprocessing.active_children()) - before:
                process.terminate()  # the pool would wait for what they do now
            raise


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started here do not hear Ctrl+C, of which each would show a traceback: the one that started
    them ends them. It hears nothing either while this lasts, which is a moment; a mask of signals would not lose it,
    but joblib lifts that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _whole(label: str) -> Iterator[None]:
    try:
        yield
    except BrokenProcessPool:
        raise ended(label) from None


def ended(label: str) -> InputError:
    """What is raised where a process that works for this one was ended from outside.

    >>> str(ended("features"))[:48]
    'features: one of its processes was ended, as a s'
    """
    return InputError(
        f"{label}: one of its processes was ended, as a system does that has no memory left: "
        "end other programs, then run it again"
    )


@cache
def _end_with(parent: int) -> None:
    """Have this process end within seconds of the one that started it, also where that was killed: joblib's would wait
    for more work for minutes, forked ones for ever.
    """
    threading.Thread(target=_watch, args=(parent,), daemon=True).start()


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os._exit(1)


def _one_thread(parent: int) -> None:
    _end_with(parent)
    # it ends without a word; deaf, it would make the programs so that it starts, which nobody ends
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    import torch

    torch.set_num_threads(1)

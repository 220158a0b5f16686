"""Steps on a stream of things, each in a thread of its own: while one is drawn, the next is with the model.

Worth it where the steps let go of Python's lock while they compute, as PyAV, Pillow, ONNX Runtime and ExecuTorch do.
"""

from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any

Stream = Generator[Any, None, None]
END = object()


def overlapped(items: Stream, *steps: Callable[[Any], Any], ahead: int = 2) -> Stream:
    """Each of `items` after all `steps`, in their order, as one loop over the steps would give it.

    `items` is run in a thread too. No thread is more than `ahead` things before the one that takes them from it, so at
    most (ahead + 1) times the number of threads are held at once. What `items` or a step raises is raised here, after
    all that came before it; nothing after it is begun by that step or a later one. When the stream ends, fails or is
    closed, `items` is closed and no thread is left.
    """
    stream = _ahead(items, ahead)
    for step in steps:
        stream = _ahead(_mapped(step, stream), ahead)
    return stream


def _mapped(step: Callable[[Any], Any], items: Stream) -> Stream:
    with closing(items):
        for item in items:
            yield step(item)


def _ahead(items: Stream, ahead: int) -> Stream:
    """The same `items`, up to `ahead` of them made before they are asked for."""
    # exits run in reverse order: no new item starts, the thread ends, then `items`, which ran in it, is closed
    with closing(items), ThreadPoolExecutor(1, "overlapped") as thread:
        waiting: deque[Future[Any]] = deque(thread.submit(next, items, END) for _ in range(ahead))
        try:
            while (item := waiting.popleft().result()) is not END:
                waiting.append(thread.submit(next, items, END))
                yield item
        finally:
            for future in waiting:
                future.cancel()

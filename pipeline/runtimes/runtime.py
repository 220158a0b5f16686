"""What every runtime is: `run(images)`, with a number of threads that is true; how long it takes, how far it is off."""

import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.uint8]
Outputs = list[NDArray[np.float32]]
WARM_UP, TIMED = 5, 30  # runs of one image


class Runtime(Protocol):
    """`run`: uint8 RGB [N, S, S, 3] -> the graph's outputs in order, float32 [N, ...] each; with `threads` threads."""

    threads: int

    def run(self, images: Images) -> Outputs: ...


def latency(runtime: Runtime, canvas: Images) -> dict[str, Any]:
    """Milliseconds for one image that is already on the canvas (uint8 [1, S, S, 3]), on this machine."""
    times = []
    for _ in range(WARM_UP + TIMED):
        start = time.perf_counter()
        runtime.run(canvas)
        times.append((time.perf_counter() - start) * 1000)
    median, p95 = np.percentile(times[WARM_UP:], [50, 95])
    return {
        "median": round(float(median), 3),
        "p95": round(float(p95), 3),
        "runs": TIMED,
        "threads": runtime.threads,
    }


def relative_error(found: Outputs, expected: Outputs) -> float:
    """Root mean square difference over the spread of `expected`, averaged over the outputs: int8 has about 0.1."""
    errors = [
        float(np.sqrt(np.square(np.nan_to_num(a) - b).mean()) / max(float(b.std()), 1e-6))
        for a, b in zip(found, expected, strict=True)
    ]
    return float(np.mean(errors))


@contextmanager
def without_stderr_lines(*starts: bytes) -> Iterator[None]:
    """Lines that a C++ library writes to the process's stderr are held back if they begin with one of `starts`."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        stderr = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            held.seek(0)
            rest = [line for line in held if not line.startswith(starts)]
            os.close(stderr)
            sys.stderr.write(b"".join(rest).decode(errors="replace"))

"""Wall time of calls that compute on several threads."""

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

ROUNDS, WARM_UP, REPEATS = 5, 10, 20


def milliseconds(calls: Mapping[str, Callable[[], Any]]) -> dict[str, float]:
    """The median of each over `ROUNDS` in turns; in each turn a call is repeated in a row, as another runtime's
    threads wait busily for a while after it and would slow the next.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for repeat in range(WARM_UP + REPEATS):
                start = time.perf_counter()
                call()
                if repeat >= WARM_UP:
                    times[name].append((time.perf_counter() - start) * 1000)
    return {name: statistics.median(taken) for name, taken in times.items()}

"""How long training waits for its data."""

import time
from collections.abc import Callable, Iterator
from typing import Any


class Waits:
    """How long training `waited` for batches, and `worked` on them, in seconds: of the epochs that it is over with."""

    def __init__(self) -> None:
        self.waited = self.worked = 0.0

    def timed(self, batches: Callable[[], Iterator[Any]]) -> Iterator[Any]:
        """The batches of an epoch, as they come."""
        asked = time.perf_counter()
        for batch in batches():
            given = time.perf_counter()
            self.waited += given - asked
            yield batch
            asked = time.perf_counter()
            self.worked += asked - given
        self.waited += time.perf_counter() - asked

    @property
    def share(self) -> float | None:
        """Of all this time the part that was waited; None before the first epoch."""
        total = self.waited + self.worked
        return round(self.waited / total, 4) if total else None

"""What other processes are asked to do in tests of `each`: they import this module, which imports little."""

import os
import signal


def halve(n: int) -> float:
    if n < 0:
        raise ValueError(f"{n} is below 0")
    return n / 2


def end_itself(n: int) -> int:
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return n

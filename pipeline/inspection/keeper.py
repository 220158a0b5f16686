"""python keeper.py USERS MONGOD...: runs a mongod until the last process that uses it has ended.

Each of those holds a shared lock on the file USERS, which the system takes back however a process ends. FiftyOne has a
program for this that listens on a port and unpickles what anybody on the machine sends there.
"""

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

PR_SET_PDEATHSIG = 1  # of Linux: the signal that a process gets when the one that started it ends


def main(users: Path, command: list[str]) -> None:
    """Where mongod ends by itself, so does this process; where this one is killed, so is mongod, on Linux."""
    with users.open("a") as file:
        with_me = _ends_with_its_parent if sys.platform == "linux" else None
        database = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=with_me)  # noqa: PLW1509  no threads yet
        try:
            Thread(target=lambda: os._exit(database.wait()), daemon=True).start()
            fcntl.flock(file, fcntl.LOCK_EX)
        finally:
            database.terminate()
            database.wait()  # the lock is held until then: who comes now waits for it


def _ends_with_its_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

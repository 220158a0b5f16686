"""python -m pipeline.inspection.keeper USERS MONGOD...: runs a mongod until the last process that uses it has ended.

Each of those holds a shared lock on the file USERS, which the system takes back however a process ends. FiftyOne has a
program for this that listens on a port and unpickles what anybody on the machine sends there.
"""

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread


def main(users: Path, command: list[str]) -> None:
    """Where mongod ends by itself, so does this process."""
    none = subprocess.DEVNULL
    database = subprocess.Popen(command, stdin=none, stdout=none, stderr=none)
    Thread(target=lambda: os._exit(database.wait()), daemon=True).start()
    with users.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        database.terminate()
        database.wait()  # the lock is held until then: who comes now waits for it


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

"""How much memory a process has had at its highest."""

import re
import sys
from pathlib import Path


def peak_memory(process: int | None = None) -> int | None:
    """Bytes of memory that this process, or the one of that id, had at most so far; None where the system does not say:
    of others Linux does, of this one all but Windows do.

    >>> peak_memory() > 1_000_000
    True
    """
    # first, because on Linux ru_maxrss starts from the value of the parent process
    status = Path(f"/proc/{process or 'self'}/status")
    try:
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:  # another system, or a process that has ended
        found = None
    if found:
        return int(found[1]) * 1024
    if process is not None:
        return None
    try:
        import resource
    except ImportError:  # on Windows
        return None
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest if sys.platform == "darwin" else highest * 1024

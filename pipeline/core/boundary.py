"""Where what is raised becomes a message on stderr and an exit code: the same for the command and for every stage.

What the user can mend says what to do: one line, and more where it lists several things. What nobody has foreseen is
one line, and its traceback is in a log file.
"""

import errno
import gc
import io
import os
import re
import select
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.core.errors import InputError, without_password
from pipeline.core.scratch import scratch, shared_folder
from pipeline.core.sole import unlink_planted

if TYPE_CHECKING:
    import sqlite3

LOG = ".pocketlens.log"  # in a project; anywhere else, and where that cannot be written, a new file in the temp folder
LOG_TIME, ENTRY = "%Y-%m-%d %H:%M:%S", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  "  # which an entry begins with
LARGEST_LOG = 1 << 20  # bytes: a log that is larger begins anew
LARGEST_FILE = 1 << 30  # bytes that decoding the largest image takes, with its copies
GARBAGE = 10_000  # new objects that Python looks for garbage after; 700 is its own choice, an eighth of torch's import
LONGEST = 300  # characters of an unforeseen error's message
FAILED, INTERRUPTED, NOBODY_READS = 1, 130, 141  # as a shell has it of a program that SIGINT or SIGPIPE ended
ROOM = "make room on the disk"
MAKE_WRITABLE = "make it and its folder readable and writable"
ADVICE = {
    errno.ENOSPC: ROOM,
    errno.EDQUOT: f"{ROOM}, or have the quota raised",
    errno.EFBIG: f"{ROOM}, or raise the limit of a file's size (`ulimit -f`)",
    errno.EROFS: "its disk is read-only: work on a copy on another one, or make it writable",
    errno.EACCES: MAKE_WRITABLE,
    errno.EPERM: MAKE_WRITABLE,
    errno.ENOMEM: "make memory free: end other programs",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`)",
    errno.ENFILE: "end programs that hold many files open",
}
# SQLite's own words for the same, as it has no errno
SQLITE = {
    "locked": "another program writes to it: end that one, or wait for it",
    "readonly": MAKE_WRITABLE,
    "unable to open": MAKE_WRITABLE,
    "full": ROOM,
    "disk I/O": f"{ROOM}, or look whether the disk is sound",
}
# in SQLite's words; the last ones of a database whose making was cut
DAMAGED = re.compile("malformed|not a database|already exists|no such (table|column)")
# what says something without a file
WITHOUT_NAME = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM, errno.EMFILE, errno.ENFILE}
# libraries that do not raise OSError say it in their own words: safetensors, SQLite, FFmpeg
FULL = re.compile(
    r"no space left|os error (28|27|122)\b|code: (28|27|122)\b|file too large|disk is full|no usable temporary", re.I
)
NO_MEMORY = re.compile(r"DefaultCPUAllocator: can't allocate memory|CUDA out of memory")  # as torch says it
SHARED = re.compile(r"unable to (write to|open shared memory|allocate shared memory).*/torch_")  # between processes


def of_the_machine(error: BaseException) -> bool:
    """Whether an error that reading a file raised says nothing of the file: there are too many open ones, or there is
    too little memory. What asks for more than any good file needs is damaged: then the memory for such a one is there.

    >>> of_the_machine(OSError(errno.EMFILE, "too many open files")), of_the_machine(OSError(errno.EIO, "no sector"))
    (True, False)
    """
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, MemoryError) or number == errno.ENOMEM:
        return not _has_memory()
    return number in (errno.EMFILE, errno.ENFILE)


def _has_memory() -> bool:
    try:
        return len(bytearray(LARGEST_FILE)) > 0  # of zeros, which the system promises and gives only if they are used
    except MemoryError:
        return False


def exit_code(body: Callable[[], object], speaks: bool = True, logged: bool = False) -> int:
    """Call `body`, say on stderr what it raised, and return the exit code. Where it is `logged`, as of a stage, the log
    of the project gets all that is said of an error, for `pocketlens missing`.

    A process that does not speak, as of many that train together, leaves what the user can mend to the one that does.
    A character that the terminal's encoding does not have, as of a file name that is not UTF-8, is printed escaped. A
    SystemExit passes.

    >>> exit_code(lambda: print("two cows"))
    two cows
    0
    """
    gc.set_threshold(GARBAGE)
    _open_streams()
    try:
        folder = Path.cwd()
    except OSError as error:  # it was deleted
        said = f"the folder that this was started in: {error.strerror}; change into the project's"
        return _failed(said if speaks else "")
    log = folder if logged else None
    try:
        with scratch():
            body()
        sys.stdout.flush()  # here, where it can be said that it fails
    except InputError as error:
        return _failed(str(error) if speaks else "", log=log)
    except KeyboardInterrupt:
        return _failed("interrupted" if speaks else "", INTERRUPTED, "")
    except BrokenPipeError as error:
        # `| head` has read enough; of a broken pipe that is not stdout the user is to know
        return NOBODY_READS if _nobody_reads() else _failed(unforeseen(error, folder))
    except Exception as error:  # noqa: BLE001  whatever it is, it ends here
        said = known(error)
        return _failed(said or unforeseen(error, folder), log=log if said else None)
    finally:
        _flush()
    return 0


def known(error: BaseException) -> str:
    """What is wrong and what to do, in one line, of an error of the machine: a disk that is full or may not be written
    to, too little memory. "" for any other.

    >>> known(PermissionError(errno.EACCES, "Permission denied", "models/herd"))
    'models/herd: Permission denied; make it and its folder readable and writable'
    """
    if isinstance(error, OSError) and error.errno in (ADVICE if error.filename else WITHOUT_NAME):
        advice = ADVICE[error.errno or 0]
        copied = error.filename2 if error.errno in WITHOUT_NAME else None  # what is written lacks the room
        path = copied or error.filename
        named = f"{os.fsdecode(path)}: " if isinstance(path, str | bytes | os.PathLike) else ""
        return f"{named}{error.strerror or os.strerror(error.errno or 0)}; {advice}"
    if isinstance(error, MemoryError):
        return f"{_one_line(error) or 'out of memory'}; {ADVICE[errno.ENOMEM]}"
    if NO_MEMORY.search(str(error)):
        return f"{_one_line(error)[:LONGEST]}; {ADVICE[errno.ENOMEM]}, or take smaller batches or images"
    if SHARED.search(str(error)):
        return f"{_one_line(error)}; give /dev/shm more room (docker's --shm-size), or set machine.workers: 0"
    return f"{_one_line(error)}; {ROOM}" if FULL.search(str(error)) else ""


def known_of(database: Path, error: "sqlite3.Error", damaged: str) -> str:
    """The same of an SQLite file, with SQLite's own words; `damaged` says what to do about one that is.

    >>> import sqlite3
    >>> known_of(Path("mlflow.db"), sqlite3.DatabaseError("file is not a database"), "delete it")
    'mlflow.db: file is not a database; delete it'
    """
    said = str(error)
    advice = next((advice for word, advice in SQLITE.items() if word in said), "")
    if DAMAGED.search(said):
        advice = damaged
    return f"{database}: {said}{advice and '; '}{advice}"


def _failed(said: str, code: int = FAILED, kind: str = "error: ", log: Path | None = None) -> int:
    if said:
        if log:
            _add_to_log(_entry(f"{kind}{said}"), log)
        with suppress(OSError):  # stderr may be closed too
            sys.stderr.write(f"{kind}{said}\n")
            sys.stderr.flush()
    return code


def _open_streams() -> None:
    """Where the program was started with a stream closed, that leads nowhere: else the next file would get its number,
    and what C code writes.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # takes the lowest number that is free
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _flush() -> None:
    """Where stdout does not take what is still to be written, Python shall not try again, and complain, as it ends."""
    try:
        sys.stdout.flush()
    except OSError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _nobody_reads() -> bool:
    """Whether stdout is a pipe that was closed at its other end."""
    with suppress(OSError, AttributeError):  # Windows has no poll
        asked = select.poll()
        asked.register(sys.stdout.fileno(), select.POLLOUT)
        return any(state & (select.POLLERR | select.POLLHUP) for _, state in asked.poll(0))
    return False


def unforeseen(error: BaseException, folder: Path) -> str:
    """An error that nobody has foreseen in one line, with the log file that has its traceback now: that of the project
    in `folder`.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "params.yaml").touch()
    ...     unforeseen(KeyError("cow"), Path(folder)).replace(folder, "farm")
    "KeyError: 'cow'; the traceback is in farm/.pocketlens.log"
    """
    said = without_password(_one_line(error))
    if len(said) > LONGEST:
        said = f"{said[:LONGEST]}..."
    log = _write_log(error, folder)
    where = f"the traceback is in {log}" if log else "its traceback could not be written anywhere"
    return f"{type(error).__name__}{said and ': '}{said}; {where}"


def _one_line(error: BaseException) -> str:
    """Of a message that brings a traceback along, as from another process, the last line, which is the error."""
    lines = [" ".join(line.split()) for line in str(error).splitlines() if line.strip()]
    return lines[-1] if any(line.startswith("Traceback") for line in lines) else " ".join(lines)


def _write_log(error: BaseException, folder: Path) -> Path | None:
    """Add an error's traceback to the log of the project in `folder`, or to a new file in the temp folder; returns the
    file, as None where neither can be written.
    """
    data = _entry("".join(traceback.format_exception(error)))
    if log := _add_to_log(data, folder):
        return log
    with suppress(OSError):
        handle, name = tempfile.mkstemp(prefix="pocketlens-", suffix=".log", dir=shared_folder())  # it stays
        os.close(handle)
        Path(name).write_bytes(data)
        return Path(name)
    return None


def _entry(text: str) -> bytes:
    """What a log has of one error, below a line with the time and the program."""
    lines = f"{time.strftime(LOG_TIME)}  {' '.join(sys.argv)}\n{text.rstrip()}\n\n".split("\n")
    return "\n".join(map(without_password, lines)).encode(errors="backslashreplace")


def _add_to_log(data: bytes, folder: Path) -> Path | None:
    """The log of the project in `folder`, with an entry more; None where there is none, or it cannot be written."""
    if not (folder / "params.yaml").is_file():
        return None
    log = folder / LOG
    with suppress(OSError):
        unlink_planted(log)
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.unlink()
        with log.open("ab") as file:
            file.write(data)
        return log
    with suppress(OSError):  # a full disk takes the name and no content
        if not log.stat().st_size:
            log.unlink()
    return None


def logged_failure(folder: Path, stage: str, name: str) -> tuple[float, str] | None:
    """The last error of a stage that the log of the project in `folder` has: when, in seconds since 1970, and its first
    line, of a traceback the last one. None where there is none. `name` is that of its run or dataset, "" without one.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     entry = "2026-11-30 15:00:00  stages/train.py herd\\nerror: no images\\n\\n"
    ...     _ = Path(folder, LOG).write_text(entry, encoding="utf-8")
    ...     (logged_failure(Path(folder), "train", "herd") or (0.0, ""))[1]
    'no images'
    """
    log, found = folder / LOG, None
    if log.is_symlink() or not log.is_file():
        return None
    own = re.compile(rf"({ENTRY})(?:.*/)?stages/{re.escape(stage)}\.py{re.escape(f' {name}'.rstrip())}")
    for entry in re.split(f"(?m)^(?={ENTRY})", log.read_text("utf-8", "replace")):
        header, _, text = entry.strip().partition("\n")
        if match := own.fullmatch(header):
            lines = text.split("\n")
            said = next((line for line in lines if line.startswith("error: ")), lines[-1])
            with suppress(ValueError):  # no date, as of a log that was written in
                found = time.mktime(time.strptime(match[1].strip(), LOG_TIME)), said.removeprefix("error: ")
    return found

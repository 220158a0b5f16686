"""FiftyOne's database: a MongoDB whose files lie in a folder of the project, or the one of FIFTYONE_DATABASE_URI.

FiftyOne itself would join any mongod of the same user, also one that another project or a test has started, and would
wait half a minute for it when Python exits. Its own has a port and no login, and what ends that unpickles what anybody
on the machine sends; ours listens on a socket that this user alone may open, and a lock ends it (`keeper`).
"""

import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote_plus

from filelock import FileLock

from pipeline.core.errors import InputError, without_password
from pipeline.core.scratch import shared_folder

IDLE_IN = 10  # seconds in which it shuts down when nobody else uses it
LOST_AFTER = 15_000  # milliseconds that it may be silent
LOOKS_EVERY = 0.05  # seconds between two looks at whether it answers
PLACE = "mongod.place"  # where it listens


@dataclass(frozen=True, slots=True)
class _Use:
    """What this process holds while it uses a database: the socket, the shared lock, and the keeper, if it has started
    one.
    """

    path: str
    users: IO[str]
    keeper: "subprocess.Popen[bytes] | None"


_uses: dict[Path, _Use] = {}  # by the database's folder; one at most, as FiftyOne has one client


def connect(database: Path) -> Any:
    """The fiftyone module, connected to the MongoDB in the folder `database`; starts that if it does not run.

    Processes with the same folder share one mongod, which ends with the last of them. With FIFTYONE_DATABASE_URI set
    FiftyOne uses that server instead. Raises InputError if it can reach no database.
    """
    database = database.resolve()
    if _uses and database not in _uses:
        raise InputError(f"{database}: this process already uses the FiftyOne database in {next(iter(_uses))}")
    os.environ["FIFTYONE_DATABASE_DIR"] = str(database)  # FiftyOne knows no other way; its services see it too
    import fiftyone as fo

    if not _uses and fo.config.database_uri is None:
        fo.config.database_validation = False  # FiftyOne warns that the mongod of its own wheel is old
        _uses[database] = _start(database)
        fo.config.database_uri = _uri(_uses[database].path)
    try:
        fo.list_datasets()
    except Exception as error:  # pymongo's, mongoengine's and FiftyOne's own  # noqa: BLE001
        place = str(database) if _uses else without_password(str(fo.config.database_uri))
        why = str(error.__cause__ or error).split(", Timeout")[0]  # pymongo adds its view of all servers
        raise InputError(f"FiftyOne finds no database at {place}: {why}") from None
    return fo


@contextmanager
def at_work(database: Path) -> Iterator[None]:
    """Raises InputError where `database` ends or does not answer any more while this lasts: what is left out is made by
    the next run.
    """
    try:
        yield
    except Exception as error:  # pymongo's, or one of FiftyOne's that it is the cause of
        causes = (error, error.__cause__, error.__context__)
        if not any(type(cause).__module__.startswith("pymongo") for cause in causes):
            raise
        why = f"FiftyOne's database does not answer any more ({type(error).__name__}); run it again"
        raise InputError(f"{database}: {why}; mongod's last words are in {database / 'log' / 'mongo.log'}") from None


def close() -> None:
    """End the App and leave the database; its mongod ends with the last process that uses it."""
    import fiftyone as fo
    from fiftyone.core.odm import database as odm
    from fiftyone.factory import repo_factory

    fo.close_app()  # before the database: without that it hangs for half a minute
    odm._disconnect()  # so does Python's exit
    repo_factory._db = None  # what it keeps is of the connection that is closed
    repo_factory.RepositoryFactory.repos.clear()
    while _uses:
        _, use = _uses.popitem()
        fo.config.database_uri = None
        odm._connection_kwargs.pop("host", None)
        use.users.close()  # with it goes the lock
        if use.keeper:
            with suppress(subprocess.TimeoutExpired):  # others use it, and keep it alive
                use.keeper.wait(IDLE_IN)


def _start(database: Path) -> _Use:
    """Join the mongod of this folder if it runs, else start it."""
    from fiftyone.core.service import ServiceExecutableNotFound

    try:
        (database / "log").mkdir(parents=True, exist_ok=True)
        with FileLock(database / "start.lock"):  # until it answers: who waits for the lock finds it running
            users = (database / "users").open("a")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)  # of a database that is shutting down it waits for the end
                return _joined(database, users) or _kept(database, users)
            except BaseException:
                users.close()
                raise
    except ServiceExecutableNotFound:
        raise InputError(
            "FiftyOne's mongod is not installed: install fiftyone-db for this system, "
            "or set FIFTYONE_DATABASE_URI to a MongoDB of your own"
        ) from None
    except OSError as error:
        raise InputError(f"{database}: cannot keep FiftyOne's database here: {error}") from None


def _joined(database: Path, users: IO[str]) -> _Use | None:
    place = database / PLACE
    path = place.read_text(encoding="utf-8") if place.is_file() else ""
    return _Use(path, users, None) if path and _answers(path) else None


def _kept(database: Path, users: IO[str]) -> _Use:
    """A new mongod, with what ends it; waits until it answers."""
    from fiftyone.core.service import DatabaseService

    path, log = _socket_for(database), database / "log" / "mongo.log"
    lock = database / "mongod.lock"  # empty where the last one came to its end
    was_killed = lock.is_file() and lock.stat().st_size > 0
    (database / PLACE).write_text(path, encoding="utf-8")
    # a few thousand labels: without this the journal takes 300 MB of disk and the cache half the memory
    sizes = ["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)", "--wiredTigerCacheSizeGB", "0.5"]
    files = ["--dbpath", str(database), "--logpath", str(log), "--logappend"]
    alone = ["--nounixsocket", "--bind_ip", path, "--filePermissions", "0600"]  # no other socket, and no port
    command = [DatabaseService.find_mongod(), *files, *alone, *sizes]
    keeper = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("keeper.py")), str(database / "users"), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C is for who uses it
    )
    while keeper.poll() is None:
        if _answers(path):
            if was_killed:
                _count_again(path)
            return _Use(path, users, keeper)
        time.sleep(LOOKS_EVERY)
    raise InputError(f"{database}: mongod does not start; its last words are in {log}")


def _socket_for(database: Path) -> str:
    """Where a new mongod is to listen: in the folder of its files, else, as on a disk without sockets or where the path
    is too long for one, in a folder of this user alone. No mongod of this folder runs.
    """
    name = f"{hashlib.sha256(os.fsencode(database)).hexdigest()[:16]}.sock"
    why = ""
    for folder in (None, shared_folder(), Path("/tmp")):
        path = str(_own_folder(folder) / name if folder else database / "mongod.sock")
        try:
            Path(path).unlink(missing_ok=True)
            with socket.socket(socket.AF_UNIX) as tried:
                tried.bind(path)
            Path(path).unlink()
        except OSError as error:
            why = str(error)
        else:
            return path
    raise InputError(f"{database}: no place for the socket of FiftyOne's database: {why}")


def _own_folder(folder: Path) -> Path:
    """Raises InputError if it is there already and another user's, who could read and change what is said there."""
    own = folder / f"pocketlens-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InputError(f"{own}: expected a folder that this user alone may enter, for a socket; remove it")
    return own


def _answers(path: str) -> bool:
    """Whether a mongod is at work there: one that is about to fail listens too, for a moment."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    try:
        with socket.socket(socket.AF_UNIX) as tried:
            tried.connect(path)
        with MongoClient[dict[str, Any]](_uri(path), serverSelectionTimeoutMS=1000) as client:
            return bool(client.admin.command("ping")["ok"])
    except (OSError, PyMongoError):
        return False


def _count_again(path: str) -> None:
    """Of a mongod that was killed all documents are there, but not how many there are: FiftyOne, which asks for that,
    would show none.
    """
    from pymongo import MongoClient

    with MongoClient[dict[str, Any]](_uri(path)) as client:
        for name in set(client.list_database_names()) - {"admin", "config", "local"}:
            for collection in client[name].list_collection_names(filter={"type": "collection"}):
                client[name].command("validate", collection)


def _uri(path: str) -> str:
    return f"mongodb://{quote_plus(path)}/?serverSelectionTimeoutMS={LOST_AFTER}"

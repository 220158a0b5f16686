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
SOCKET, PLACE = "mongod.sock", "mongod.place"  # the latter says where it listens


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
        why = str(error.__cause__ or error).split(", Timeout")[0]  # pymongo adds its view of all servers
        raise InputError(f"FiftyOne finds no database at {_shown(database)}: {why}") from None
    return fo


@contextmanager
def at_work(database: Path) -> Iterator[None]:
    """Raises InputError where the database ends or does not answer any more while this lasts; the next run makes what
    is missing then.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        from pymongo.errors import ConnectionFailure

        if not any(isinstance(e, ConnectionFailure) for e in (error, error.__cause__, error.__context__)):
            raise
        log = f"; mongod's last words are in {database / 'log' / 'mongo.log'}" if _uses else ""
        why = f"FiftyOne's database does not answer any more ({type(error).__name__}); run it again"
        raise InputError(f"{_shown(database)}: {why}{log}") from None


def _shown(database: Path) -> str:
    import fiftyone as fo

    return str(database) if _uses else without_password(str(fo.config.database_uri))


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
    """None where no mongod of this folder runs, as in a copy of a project: what it says is of another one."""
    place = database / PLACE
    path = place.read_text(encoding="utf-8", errors="replace") if place.is_file() else ""
    until = time.monotonic() + LOST_AFTER / 1000
    while _is_of(path, database) and _listens(path):
        if _answers(path):
            return _Use(path, users, None)
        if time.monotonic() > until:
            raise InputError(f"{database}: its mongod listens at {path} and does not answer; try again, or end it")
        time.sleep(LOOKS_EVERY)
    return None


def _is_of(path: str, database: Path) -> bool:
    """Whether the mongod of this folder may listen there."""
    own, folder = Path(path), f"pocketlens-{os.getuid()}"
    if path == str(database / SOCKET):
        return True
    where = next((place for place in (shared_folder(), Path("/tmp")) if own.parent == place / folder), None)
    return own.name == _name_of(database) and where is not None and own.parent == _own_folder(where)


def _kept(database: Path, users: IO[str]) -> _Use:
    """A new mongod, with what ends it; waits until it answers."""
    from fiftyone.core.service import DatabaseService
    from pymongo.errors import PyMongoError

    path, log = _socket_for(database), database / "log" / "mongo.log"
    (database / PLACE).write_text(path, encoding="utf-8")
    lock, uncounted = database / "mongod.lock", database / "uncounted"
    if lock.is_file() and lock.stat().st_size > 0:  # empty where the last one came to its end
        uncounted.touch()
    # a few thousand labels: without this the journal takes 300 MB of disk and the cache half the memory
    sizes = ["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)", "--wiredTigerCacheSizeGB", "0.5"]
    files = ["--dbpath", str(database), "--logpath", str(log), "--logappend"]
    alone = ["--nounixsocket", "--bind_ip", path, "--filePermissions", "0600"]  # no other socket, and no port
    command = [DatabaseService.find_mongod(), *files, *alone, *sizes]
    own = [sys.executable, str(Path(__file__).with_name("keeper.py")), str(database / "users")]
    with log.open("ab") as said:  # what mongod says before it has its log
        keeper = subprocess.Popen(
            [*own, *command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            start_new_session=True,  # Ctrl+C is for who uses it
        )
    while keeper.poll() is None:
        if _answers(path):
            try:
                _count_again(path, uncounted)
            except PyMongoError as error:
                raise InputError(f"{database}: what is in it cannot be counted after a kill: {error}") from None
            return _Use(path, users, keeper)
        time.sleep(LOOKS_EVERY)
    raise InputError(f"{database}: mongod does not start; its last words are in {log}")


def _socket_for(database: Path) -> str:
    """Where a new mongod is to listen: in the folder of its files, else, as on a disk without sockets or where the path
    is too long for one, in a folder of this user alone. No mongod of this folder runs.
    """
    why = ""
    for folder in (None, shared_folder(), Path("/tmp")):
        path = str(_own_folder(folder) / _name_of(database) if folder else database / SOCKET)
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


def _name_of(database: Path) -> str:
    """Of its socket, where others' are too."""
    return f"{hashlib.sha256(os.fsencode(database)).hexdigest()[:16]}.sock"


def _own_folder(folder: Path) -> Path:
    """Raises InputError if it is there already and another user's, who could read and change what is said there."""
    own = folder / f"pocketlens-{os.getuid()}"
    own.mkdir(mode=0o700, exist_ok=True)
    found = own.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise InputError(f"{own}: expected a folder that this user alone may enter, for a socket; remove it")
    return own


def _listens(path: str) -> bool:
    with socket.socket(socket.AF_UNIX) as tried:
        return tried.connect_ex(path) == 0


def _answers(path: str) -> bool:
    """Whether a mongod is at work there: one that is about to fail listens too, for a moment."""
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    if not _listens(path):
        return False
    try:
        with MongoClient[dict[str, Any]](_uri(path, 1000)) as client:
            return bool(client.admin.command("ping")["ok"])
    except PyMongoError:
        return False


def _count_again(path: str, uncounted: Path) -> None:
    """Of a mongod that was killed all documents are there, but not how many there are: FiftyOne, which asks for that,
    would show none. While the file `uncounted` is there they are to be counted.
    """
    from pymongo import MongoClient

    if not uncounted.exists():
        return
    with MongoClient[dict[str, Any]](_uri(path)) as client:
        for name in set(client.list_database_names()) - {"admin", "config", "local"}:
            for collection in client[name].list_collection_names(filter={"type": "collection"}):
                client[name].command("validate", collection)
    uncounted.unlink()


def _uri(path: str, patience: int = LOST_AFTER) -> str:
    return f"mongodb://{quote_plus(path)}/?serverSelectionTimeoutMS={patience}"

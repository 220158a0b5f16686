"""FiftyOne's database: a MongoDB whose files lie in a folder of the project, or the one of FIFTYONE_DATABASE_URI.

FiftyOne itself would join any mongod of the same user, also one that another project or a test has started, and would
wait half a minute for it when Python exits. Its own has a port and no login; ours listens on a socket that this user
alone may open.
"""

import hashlib
import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

from filelock import FileLock

from pipeline.core.errors import InputError, without_password
from pipeline.core.scratch import shared_folder

LEAVES_IN = 60  # seconds that a database which is shutting down gets
STARTS_IN = 120  # and one that starts
IDLE_IN = 10  # seconds in which it shuts down when nobody else uses it
LOOKS_EVERY = 0.05  # seconds between two looks at whether it listens
BIND = "--bind_ip"  # mongod's word for where it listens

_services: dict[Path, Any] = {}  # database folder -> FiftyOne's service for it; one at most, as FiftyOne has one client


def connect(database: Path) -> Any:
    """The fiftyone module, connected to the MongoDB in the folder `database`; starts that if it does not run.

    Processes with the same folder share one mongod, which ends with the last of them. With FIFTYONE_DATABASE_URI set
    FiftyOne uses that server instead. Raises InputError if it can reach no database.
    """
    database = database.resolve()
    if _services and database not in _services:
        raise InputError(f"{database}: this process already uses the FiftyOne database in {next(iter(_services))}")
    os.environ["FIFTYONE_DATABASE_DIR"] = str(database)  # FiftyOne knows no other way; its services see it too
    import fiftyone as fo

    if not _services and fo.config.database_uri is None:
        fo.config.database_validation = False  # FiftyOne warns that the mongod of its own wheel is old
        _services[database], path = _start(database)
        fo.config.database_uri = _uri(path)
    try:
        fo.list_datasets()
    except Exception as error:  # pymongo's, mongoengine's and FiftyOne's own  # noqa: BLE001
        place = str(database) if _services else without_password(str(fo.config.database_uri))
        why = str(error.__cause__ or error).split(", Timeout")[0]  # pymongo adds its view of all servers
        raise InputError(f"FiftyOne finds no database at {place}: {why}") from None
    return fo


def close() -> None:
    """End the App and leave the database; its mongod ends with the last process that uses it."""
    import fiftyone as fo
    import psutil
    from fiftyone.core.odm import database as odm
    from fiftyone.factory import repo_factory

    fo.close_app()  # before the database: without that it hangs for half a minute
    odm._disconnect()  # so does Python's exit
    repo_factory._db = None  # what it keeps is of the connection that is closed
    repo_factory.RepositoryFactory.repos.clear()
    if _services:
        fo.config.database_uri = None
        odm._connection_kwargs.pop("host", None)
    while _services:
        _, service = _services.popitem()
        child, attached = service.child, service.attached
        service.stop()
        if not attached:
            psutil.wait_procs([child], timeout=IDLE_IN)  # longer only if others use it: they keep it alive


def _start(database: Path) -> tuple[Any, str]:
    """FiftyOne's service for this folder, and no other: joined if it runs, else started; and its mongod's socket."""
    from fiftyone.core.service import ServiceExecutableNotFound

    try:
        database.mkdir(parents=True, exist_ok=True)
        with FileLock(database / "start.lock"):  # until it listens: who waits for the lock finds it running
            service = _service(database)
            return service, _listens(service, database)
    except ServiceExecutableNotFound:
        raise InputError(
            "FiftyOne's mongod is not installed: install fiftyone-db for this system, "
            "or set FIFTYONE_DATABASE_URI to a MongoDB of your own"
        ) from None
    except OSError as error:
        raise InputError(f"{database}: cannot keep FiftyOne's database here: {error}") from None


def _service(database: Path) -> Any:
    import psutil
    from fiftyone.core import service as fos

    class Service(fos.DatabaseService):
        socket = ""

        @property
        def _service_args(self) -> list[str]:
            # FiftyOne finds a running service by these words; the folder among them keeps projects apart
            return ["--51-service", self.service_name, "--database", str(database), "--listens", "socket", "--multi"]

        @property
        def command(self) -> list[str]:
            # a few thousand labels: without this the journal takes 300 MB of disk and the cache half the memory
            journal = "log=(prealloc=false,file_max=16MB)"
            only = [BIND, self.socket, "--filePermissions", "0600"]
            return [
                *super().command, *only, "--wiredTigerEngineConfigString", journal, "--wiredTigerCacheSizeGB", "0.5"
            ]  # fmt: skip

        def start(self) -> None:
            for process in fos.fosu.find_processes_by_args(self._service_args):
                try:
                    self.attached = fos.fosu.send_ipc_message(process, ("register", os.getpid())) is True
                except (OSError, EOFError, psutil.Error):  # it ends just now
                    self.attached = False
                if self.attached:
                    self.child = process
                    return
                # its last user has left, and until it is gone it holds the lock on the files
                if psutil.wait_procs([process], timeout=LEAVES_IN)[1]:
                    raise InputError(f"{database}: its mongod neither answers nor ends; end process {process.pid}")
            self.socket = _socket_for(database)
            fos.Service.start(self)

    return Service()


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


def _listens(service: Any, database: Path) -> str:
    """The socket of the mongod of the service's process; waits until it answers there."""
    import psutil

    process, until = psutil.Process(service.child.pid), time.monotonic() + STARTS_IN
    with suppress(psutil.Error):  # it ends
        while process.is_running() and process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < until:
            words = process.cmdline()
            if BIND in words:  # a moment after it was started it has no words yet
                path = words[words.index(BIND) + 1]
                if _answers(path):
                    return path
            time.sleep(LOOKS_EVERY)
    raise InputError(f"{database}: mongod does not start; its last words are in {database / 'log' / 'mongo.log'}")


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


def _uri(path: str) -> str:
    return f"mongodb://{quote_plus(path)}"

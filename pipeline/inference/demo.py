"""The page of an export, `exports/<run>/web/`: served together with onnxruntime-web, or both in one folder."""

import os
import shutil
import socket
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any
from urllib.parse import unquote, urlsplit

from pipeline.core.boundary import unforeseen
from pipeline.core.errors import InputError
from pipeline.core.files import new_folder
from pipeline.core.hosts import by_name, own_names, stranger
from pipeline.core.links import is_within

# onnxruntime-web's build for WebAssembly, without WebGL and WebGPU; the page asks for them in ort/
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
ORT = "ort"
MOST = 32  # requests at once; others wait until one of them is answered
PATIENCE = 20  # seconds for a browser to ask, and between two parts that it takes of what it is sent
LONGEST = 300  # seconds for it to take that: the runtime, 14 MB, on a slow network
LOOK_S = 0.5
KNOB = "; `pocketlens demo --name HOST` answers to one more, as that of a proxy"
POLICY = (  # what the page needs: its own files, WebAssembly, pictures and the camera
    "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; connect-src 'self' blob: data:; "
    "img-src 'self' blob: data:; media-src 'self' blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}
TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".svg": "image/svg+xml"}


def page_folder(exports: Path, run: str) -> Path:
    """exports/<run>/web. Raises InputError if there is no such export, or one without onnx_int8.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as exports:
    ...     Path(exports, "herd", "web").mkdir(parents=True)
    ...     Path(exports, "herd", "export.json").touch()
    ...     page_folder(Path(exports), "herd").relative_to(exports).as_posix()
    'herd/web'
    """
    if not (exports / run / "export.json").is_file():
        known = ", ".join(sorted(p.parent.name for p in exports.glob("[!.]*/export.json"))) or "none"
        raise InputError(f"{exports / run}: no such export; exported runs: {known}")
    folder = exports / run / "web"
    if not folder.is_dir():
        raise InputError(f"{folder}: not there; it is made for runs with onnx_int8 among their export.targets")
    return folder


def runtime_folder(node_modules: Path, run: str) -> Path:
    """Where npm has put onnxruntime-web, for the page of `run`. Raises InputError if it has not.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as modules:
    ...     Path(modules, "onnxruntime-web", "dist").mkdir(parents=True)
    ...     for name in RUNTIME_FILES:
    ...         Path(modules, "onnxruntime-web", "dist", name).touch()
    ...     runtime_folder(Path(modules), "herd").relative_to(modules).as_posix()
    'onnxruntime-web/dist'
    """
    folder = node_modules / "onnxruntime-web" / "dist"
    missing = [name for name in RUNTIME_FILES if not (folder / name).is_file()]
    if missing:
        raise InputError(f"{folder}: {missing[0]} is not there; `make demo RUN={run}` installs it")
    return folder


def open_server(page: Path, runtime: Path, host: str, port: int, names: Iterable[str] = ()) -> ThreadingHTTPServer:
    """A server of `page`, with `runtime` as its ort/, which browsers may also find by `names`, as those of a proxy.
    Raises InputError if it cannot listen there (port 0: any).

    >>> with open_server(Path("web"), Path("dist"), "127.0.0.1", 0) as server:
    ...     server.server_port > 0
    True
    """
    try:
        own = own_names(host) | {name.lower() for name in names}
        return _Server((host, port), partial(_Handler, page=page, runtime=runtime, own=own))
    except (OSError, OverflowError) as error:
        raise InputError(f"host {host}, port {port}: {error}") from None


def addresses(server: ThreadingHTTPServer) -> list[str]:
    """Where a browser finds the server: on this machine, and on its network if it listens there.

    >>> with open_server(Path("web"), Path("dist"), "127.0.0.1", 0) as server:
    ...     addresses(server) == [f"http://127.0.0.1:{server.server_port}"]
    True
    """
    host, port = str(server.server_address[0]), server.server_port
    if host != "0.0.0.0":
        return [f"http://{host}:{port}"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks which way a packet would leave
        except OSError:
            return [f"http://127.0.0.1:{port}"]
        return [f"http://127.0.0.1:{port}", f"http://{probe.getsockname()[0]}:{port}"]


def write_site(page: Path, runtime: Path, out: Path) -> None:
    """The page with its runtime as one folder, for any static host. Raises InputError if `out` exists, or lies in one
    of the folders that it is made of, or if the page has a link that leads out of it.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     page, runtime, site = (Path(folder, name) for name in ("web", "dist", "site"))
    ...     page.mkdir()
    ...     runtime.mkdir()
    ...     for file in (page / "index.html", *(runtime / name for name in RUNTIME_FILES)):
    ...         file.touch()
    ...     write_site(page, runtime, site)
    ...     sorted(path.name for path in site.iterdir())
    ['index.html', 'ort']
    """
    if os.path.lexists(out):
        raise InputError(f"{out}: is there already; expected a new folder")
    for source in (page, runtime):
        if out.resolve().is_relative_to(source.resolve()):
            raise InputError(f"{out}: lies in {source}, which is read; expected a folder elsewhere")
    for file in page.rglob("*"):
        if not is_within(file, page.resolve()):
            raise InputError(f"{file}: a link that leads out of {page}; expected the page alone: `dvc checkout` it")
    with new_folder(out) as folder:
        shutil.copytree(page, folder, dirs_exist_ok=True)
        (folder / ORT).mkdir()
        for name in RUNTIME_FILES:
            shutil.copyfile(runtime / name, folder / ORT / name)


class _Server(ThreadingHTTPServer):
    request_queue_size = MOST

    def __init__(self, *given: Any) -> None:
        self._room = BoundedSemaphore(MOST)
        self._ends: dict[Any, float] = {}  # by time.monotonic(), of each request that is at work
        super().__init__(*given)

    def give(self, request: Any, seconds: float) -> None:
        """The time, from now on, after which the request is cut: one that brings or takes a byte now and then would
        keep its room for ever.
        """
        self._ends[request] = time.monotonic() + seconds

    def service_actions(self) -> None:
        for request, end in list(self._ends.items()):
            if time.monotonic() > end:
                with suppress(OSError):  # it has gone
                    request.shutdown(socket.SHUT_RDWR)

    def process_request(self, request: Any, client_address: Any) -> None:
        while not self._room.acquire(timeout=LOOK_S):
            self.service_actions()
        self.give(request, PATIENCE)
        try:
            super().process_request(request, client_address)
        except BaseException:  # no thread can be started
            self._let_go(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._let_go(request)

    def _let_go(self, request: Any) -> None:
        self._ends.pop(request, None)
        self._room.release()

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002
        """A browser that has gone is nothing to tell; whatever else, the others are served."""
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError | TimeoutError):
            sys.stderr.write(f"error: {unforeseen(error, Path.cwd())}\n")


class _Handler(SimpleHTTPRequestHandler):
    timeout = PATIENCE
    server: _Server

    def __init__(self, *connection: object, page: Path, runtime: Path, own: set[str]) -> None:
        self._runtime, self._page, self._own = runtime, Path(os.path.realpath(page)), own
        self.extensions_map = self.extensions_map | TYPES  # a machine's own table may have none or other ones
        super().__init__(*connection, directory=str(page))  # type: ignore[arg-type]

    def translate_path(self, path: str) -> str:
        folder, _, name = unquote(urlsplit(path).path).lstrip("/").rpartition("/")
        return str(self._runtime / name) if folder == ORT and name in RUNTIME_FILES else super().translate_path(path)

    def send_head(self) -> Any:
        self.server.give(self.request, LONGEST)
        if why := stranger(self.path, by_name(self.headers.items()), self._own, opens=True, knob=KNOB):
            self.send_error(HTTPStatus.FORBIDDEN, explain=why)
            return None
        with suppress(ValueError, OSError):  # a path that no file can have: a zero byte, too long a name
            asked = Path(self.translate_path(self.path))
            pages = (asked / name for name in ("index.html", "index.htm"))  # which a folder is answered by
            place = next(filter(Path.is_file, pages), asked)
            is_there = place.is_file() or place.is_dir()  # and no pipe, which would be waited for
            if is_there and self._is_served(os.path.realpath(place)):
                return super().send_head()
        self.send_error(HTTPStatus.NOT_FOUND)
        return None

    def _is_served(self, place: str) -> bool:
        """Not by way of a link that leads out of the page's folder."""
        return is_within(place, self._page) or Path(place).parent == Path(os.path.realpath(self._runtime))

    def list_directory(self, path: object) -> None:  # noqa: ARG002
        self.send_error(HTTPStatus.NOT_FOUND)

    def end_headers(self) -> None:
        self.send_header("Cache-Control", "no-cache")  # a reload shows a new export
        for header, value in HEADERS.items():
            self.send_header(header, value)
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quiet: who serves wants the addresses to stay in sight."""

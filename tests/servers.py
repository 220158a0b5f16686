"""Servers that a test starts for itself, on a free port of this machine, and ends again with all their processes."""

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import requests

PATIENCE = 90  # seconds for a server or a page on a busy machine


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address on loopback where `handler` answers until the block ends."""
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@contextmanager
def serving(command: list[str], folder: Path, health: str, environment: dict[str, str] | None = None) -> Iterator[str]:
    """Run `command --host 127.0.0.1 --port <free>` in `folder` until the block ends; yields its address once the page
    `health` answers.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [*command, "--host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
    try:
        session = requests.Session()
        retry = requests.adapters.Retry(total=None, connect=PATIENCE * 2, backoff_factor=0.5, backoff_max=0.5)
        session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
        url = f"http://127.0.0.1:{port}"
        assert session.get(f"{url}/{health}", timeout=PATIENCE).ok
        yield url
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(PATIENCE)


@contextmanager
def hub(files: dict[str, bytes]) -> Iterator[tuple[str, list[str]]]:
    """Plays the hub that weights are fetched from: `files` by "owner/repository/file". Yields its address and a list of
    what it was asked for.
    """
    asked: list[str] = []

    class Hub(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer()

        def do_GET(self) -> None:
            self.answer()

        def answer(self) -> None:
            owner, repository, *_, name = self.path.strip("/").split("/")
            asked.append(f"{self.command} {self.path}")
            content = files.get(f"{owner}/{repository}/{name}")
            self.send_response(404 if content is None else 200)
            if content is None:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", "0" * 40)
            self.send_header("ETag", f'"{"1" * 40}"')
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if self.command == "GET" and content:
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing into the tests' output."""

    with _serving(Hub) as url:
        yield url, asked


@contextmanager
def silent() -> Iterator[str]:
    """The address of a server that takes every call and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=16) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@dataclass
class Served:
    """A file of `files_served`, and how it is served: each connection of the first ones ends after so many bytes of
    `cuts`, each of the first answers has a status of `statuses` and, unless it is "", a Content-Range of `spans`.
    """

    content: bytes
    tag: str = '"1"'
    date: str = ""
    length: bool = True
    chunked: bool = False
    ranges: bool = True
    heeds_if_range: bool = True
    moved_to: str = ""
    cuts: list[int] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    spans: list[str] = field(default_factory=list)


@contextmanager
def files_served(files: dict[str, Served]) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """Serves `files` by path over HTTP/1.1. Yields its address and a list of what it was asked for: path and Range."""
    asked: list[tuple[str, str]] = []

    class Files(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            name = self.path.strip("/")
            asked.append((name, self.headers.get("Range", "")))
            file = files.get(name)
            status = 404 if file is None else file.statuses.pop(0) if file.statuses else 200
            if file is None or status != 200:
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if file.moved_to:
                self.send_response(302)
                self.send_header("Location", file.moved_to)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send(file)

        def send(self, file: Served) -> None:
            start, asked_for = 0, self.headers.get("If-Range", "")
            same = asked_for in ("", file.tag, file.date) and not asked_for.startswith("W/")
            if file.ranges and self.headers.get("Range") and (same or not file.heeds_if_range):
                start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
            past = start and start >= len(file.content)
            span = f"bytes {'*' if past else f'{start}-{len(file.content) - 1}'}/{len(file.content)}" if start else ""
            span = (file.spans.pop(0) if file.spans else "") or span
            self.send_response(416 if past else 206 if span else 200)
            body = b"" if past else file.content[start:]
            if span:
                self.send_header("Content-Range", span)
            for header, value in (("ETag", file.tag), ("Last-Modified", file.date)):
                if value:
                    self.send_header(header, value)
            if file.chunked:
                self.send_header("Transfer-Encoding", "chunked")
            elif file.length:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            cut = file.cuts.pop(0) if file.cuts else len(body)
            if file.chunked:
                self.wfile.write(b"%x\r\n%s" % (len(body), body[:cut]))
                self.wfile.write(b"\r\n0\r\n\r\n" if cut >= len(body) else b"")
            else:
                self.wfile.write(body[:cut])
            self.close_connection = cut < len(body) or not (file.length or file.chunked)

        def log_message(self, *_: object) -> None:
            """Nothing into the tests' output."""

    with _serving(Files) as url:
        yield url, asked


@contextmanager
def silent_after(content: bytes, sent: int) -> Iterator[str]:
    """The address of a server that sends so many bytes of `content` and then nothing, until the block ends."""
    ended = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("ETag", '"1"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[:sent])
            self.wfile.flush()
            ended.wait(PATIENCE)

        def log_message(self, *_: object) -> None:
            """Nothing into the tests' output."""

    with _serving(Slow) as address:
        try:
            yield address
        finally:
            ended.set()

"""Servers that a test starts for itself, on a free port of this machine, and ends again with all their processes."""

import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

PATIENCE = 90  # seconds for a server or a page on a busy machine


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

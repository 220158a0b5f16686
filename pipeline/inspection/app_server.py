"""python -m pipeline.inspection.app_server PORT ADDRESS: FiftyOne's App, for who opened it, with datasets' files only.

FiftyOne's own server hands any file of the disk to whoever asks, also to a page of another site under whose name this
machine is asked.
"""

import os
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from pipeline.core.hosts import by_name, own_names, stranger

MOST_BYTES = 64 << 20  # of what a request brings along
POLICY = (  # its page asks for fonts of another host: they are not fetched
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; object-src 'none'; base-uri 'self'; "
    "form-action 'none'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", POLICY.encode()),
    *((b"x-content-type-options", b"nosniff"), (b"referrer-policy", b"no-referrer"), (b"x-frame-options", b"DENY")),
]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class Guard:
    """An ASGI app before another one: it answers who asks by a name of this machine, and from its own pages."""

    def __init__(self, app: Any, own: set[str]) -> None:
        self._app, self._own = app, own

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):  # that the server starts and ends
            await self._app(scope, receive, send)
            return
        headers = by_name((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"])
        target = (scope.get("raw_path") or scope["path"].encode()).decode("latin-1")
        why = stranger(target, headers, self._own, opens=scope.get("method") == "GET")
        length = headers.get("content-length", "0")
        if why is None and (not length.isdecimal() or int(length) > MOST_BYTES):
            why = f"{length[:20]} bytes; at most {MOST_BYTES} are taken"
        if why is None:
            await self._app(scope, _bounded(receive) if scope["type"] == "http" else receive, _with_headers(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": why.encode("ascii", "replace")})


def _bounded(receive: Receive) -> Receive:
    """A body that comes in parts does not say its length before: one that is too long is cut off."""
    taken = 0

    async def received() -> Message:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        return message if taken <= MOST_BYTES else {"type": "http.disconnect"}

    return received


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *HEADERS]
        await send(message)

    return sent


def keep_to_datasets() -> None:
    """Have the App's server hand out no file but those of samples."""
    from fiftyone.server.routes.media import Media, _not_found_response
    from starlette.concurrency import run_in_threadpool

    whole = Media._file_response

    async def of_a_sample(self: Any, path: str) -> Any:
        return await whole(self, path) if await run_in_threadpool(_is_of_a_sample, path) else _not_found_response()

    Media._file_response = of_a_sample


def _is_of_a_sample(path: str) -> bool:
    from fiftyone.core.odm import get_db_conn

    database = get_db_conn()
    names = [row["sample_collection_name"] for row in database.datasets.find({}, {"sample_collection_name": 1})]
    return any(database[name].find_one({"filepath": path}, {"_id": 1}) for name in names)


def main(port: int, address: str) -> None:
    """Serve until the process is ended."""
    os.environ.pop("FIFTYONE_DISABLE_SERVICES", None)  # it is set for the programs that FiftyOne starts
    from fiftyone.server import main as server

    keep_to_datasets()
    server.app = Guard(server.app, own_names(address))
    server.start_server(port=port, address=address)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])

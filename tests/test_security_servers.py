"""The servers that are started here: who may ask them, what they hand out, and how much of the machine they take."""

import asyncio
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from pipeline.core.boundary import LOG
from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.hosts import own_names, stranger
from pipeline.inference import demo
from pipeline.inspection import app_server

STRANGERS = {
    "a name that leads here": {"Host": "evil.example:{port}"},
    "no name": {"Host": ""},
    "a page of another site": {"Origin": "http://evil.example"},
    "a page of another port": {"Origin": "http://localhost:1"},
    "a page without an origin": {"Origin": "null"},
    "an origin that cannot be read": {"Origin": "http://["},
    "a picture in a page of another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
    "a picture in another site's page": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
}
OWN: dict[str, dict[str, str]] = {
    "an address": {},
    "localhost": {"Host": "localhost:{port}", "Origin": "http://localhost:{port}", "Sec-Fetch-Site": "same-origin"},
    "IPv6": {"Host": "[::1]:{port}"},
    "a link on another page": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
}


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    write_text(tmp_path / "web/index.html", "the page")
    write_text(tmp_path / "secret.txt", "a secret")
    (tmp_path / "web/linked.txt").symlink_to(tmp_path / "secret.txt")
    (tmp_path / "web/above").symlink_to(tmp_path)
    (tmp_path / "dist").mkdir()
    with demo.open_server(tmp_path / "web", tmp_path / "dist", "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server.server_port
        server.shutdown()


def asked(port: int, path: str = "/", method: str = "GET", **headers: str) -> tuple[HTTPResponse, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, headers={name: value.format(port=port) for name, value in headers.items()})
    answer = connection.getresponse()
    return answer, answer.read().decode(errors="replace")


@pytest.mark.parametrize("who", STRANGERS)
def test_the_page_is_for_those_who_opened_it(who: str, port: int) -> None:
    answer, content = asked(port, **STRANGERS[who])
    assert answer.status == 403
    assert "the page" not in content


REQUESTS = {  # target, names of hosts -> whether they are of who opened the page
    "a name": ("/", ["localhost:{port}"], True),
    "in capitals": ("/", ["LOCALHOST:{port}"], True),
    "no port": ("/", ["localhost"], True),
    "the port of what forwards to it": ("/", ["localhost:1"], True),
    "IPv4": ("/", ["127.0.0.1:{port}"], True),
    "IPv6 address": ("/", ["[::1]:{port}"], True),
    "a dot at the end": ("/", ["localhost.:{port}"], False),
    "a short address": ("/", ["127.1:{port}"], False),
    "a hexadecimal address": ("/", ["0x7f.1:{port}"], False),
    "an address as a number": ("/", ["2130706433:{port}"], False),
    "IPv6 without brackets": ("/", ["::1"], False),
    "a name in brackets": ("/", ["[localhost]:{port}"], False),
    "a user before it": ("/", ["evil.example@localhost:{port}"], False),
    "a path behind it": ("/", ["localhost/evil.example"], False),
    "a name with a space": ("/", ["localhost evil.example"], False),
    "a list": ("/", ["localhost:{port}, evil.example"], False),
    "no number as a port": ("/", ["localhost:evil.example"], False),
    "an empty port": ("/", ["localhost:"], False),
    "none": ("/", [], False),
    "two": ("/", ["evil.example", "localhost:{port}"], False),
    "two, the own one first": ("/", ["localhost:{port}", "evil.example"], False),
    "the own one twice": ("/", ["localhost:{port}", "localhost:{port}"], False),
    "a target with a host": ("http://evil.example/", ["localhost:{port}"], False),
    "a target with the own host": ("http://localhost:{port}/", ["localhost:{port}"], False),
}


@pytest.mark.parametrize("what", REQUESTS)
def test_a_request_names_this_machine_once_and_in_one_form(what: str, port: int) -> None:
    target, hosts, own = REQUESTS[what]
    lines = [f"GET {target} HTTP/1.1", *(f"Host: {host}" for host in hosts), "Connection: close", "", ""]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as connection:
        connection.sendall("\r\n".join(lines).format(port=port).encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.split()[1] == (b"200" if own else b"403")
    assert answer.endswith(b"the page") == own


@pytest.mark.parametrize("what", REQUESTS)
def test_so_does_one_of_fiftyones_app(what: str) -> None:
    target, hosts, own = REQUESTS[what]
    said: list[Any] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})

    async def kept(message: Any) -> None:
        said.append(message.get("status"))

    headers = [(b"host", host.format(port=5151).encode()) for host in hosts]
    raw = target.format(port=5151).encode()
    scope = {"type": "http", "method": "GET", "path": target, "raw_path": raw, "headers": headers}
    asyncio.run(app_server.Guard(app, {"localhost"})(scope, pieces(), kept))
    assert said[0] == (200 if own else 403)


@pytest.mark.parametrize("who", OWN)
def test_they_may_call_the_machine_by_any_of_its_names(who: str, port: int) -> None:
    assert asked(port, **OWN[who])[1] == "the page"


def test_a_phone_finds_the_machine_by_name_only_where_phones_are_let_in() -> None:
    name = socket.gethostname().lower()
    headers = {"host": f"{name}:5151"}
    assert stranger("/", headers, own_names("0.0.0.0"), opens=True) is None
    assert name == "localhost" or stranger("/", headers, own_names("127.0.0.1"), opens=True)


def test_behind_a_proxy_the_server_has_the_names_that_it_is_given(tmp_path: Path) -> None:
    write_text(tmp_path / "index.html", "the page")
    with demo.open_server(tmp_path, tmp_path, "127.0.0.1", 0, ["Demo.farm.example"]) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        proxied = {"Host": "demo.farm.example", "Origin": "https://demo.farm.example"}
        assert asked(server.server_port, **proxied)[1] == "the page"
        answer, content = asked(server.server_port, Host="other.farm.example")
        server.shutdown()
    assert answer.status == 403 and "pocketlens demo --name HOST" in content


def test_a_browser_is_told_what_the_page_may_do(port: int) -> None:
    answer, _ = asked(port)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'self'" in answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/linked.txt", "/above/secret.txt", "/above/web/index.html/../../secret.txt"])
def test_links_out_of_the_folder_are_not_followed(path: str, port: int) -> None:
    answer, content = asked(port, path)
    assert answer.status == 404
    assert "a secret" not in content


def test_a_folders_page_that_is_a_link_out_of_it_and_a_pipe_are_not_sent(port: int, tmp_path: Path) -> None:
    write_text(tmp_path / "elsewhere.html", "a secret")
    for name in ("index.html", "index.htm"):
        (tmp_path / "web" / name.replace(".", "-")).mkdir()
        (tmp_path / "web" / name.replace(".", "-") / name).symlink_to(tmp_path / "elsewhere.html")
        answer, content = asked(port, f"/{name.replace('.', '-')}/")
        assert (answer.status, "a secret" in content) == (404, False)
    os.mkfifo(tmp_path / "web/p.js")
    assert asked(port, "/p.js")[0].status == 404


def test_what_dvc_has_linked_to_its_cache_is_served_and_written(port: int, tmp_path: Path) -> None:
    for link in ("linked.txt", "above"):
        (tmp_path / "web" / link).unlink()
    write_text(tmp_path / f"cache/files/md5/ab/{'0' * 30}", "by DVC")
    (tmp_path / "web/model.json").symlink_to(tmp_path / f"cache/files/md5/ab/{'0' * 30}")
    assert asked(port, "/model.json")[1] == "by DVC"
    for name in demo.RUNTIME_FILES:
        (tmp_path / "dist" / name).touch()
    demo.write_site(tmp_path / "web", tmp_path / "dist", tmp_path / "site")
    assert (tmp_path / "site/model.json").read_text() == "by DVC"
    assert not (tmp_path / "site/model.json").is_symlink()


@pytest.mark.parametrize("link", ["linked.txt", "above"])
def test_a_page_with_a_link_out_of_it_is_not_written(link: str, port: int, tmp_path: Path) -> None:
    (tmp_path / "web" / ("above" if link == "linked.txt" else "linked.txt")).unlink()
    for name in demo.RUNTIME_FILES:
        (tmp_path / "dist" / name).touch()
    with pytest.raises(InputError, match=f"{link}: a link that leads out of"):
        demo.write_site(tmp_path / "web", tmp_path / "dist", tmp_path / "site")
    assert not (tmp_path / "site").exists()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_nothing_is_taken_from_those_who_ask(method: str, port: int) -> None:
    assert asked(port, method=method)[0].status == 501


def test_those_who_ask_nothing_are_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With as many of them as are served at once, the next one is answered when their time is over."""
    write_text(tmp_path / "index.html", "the page")
    monkeypatch.setattr(demo, "MOST", 2)
    monkeypatch.setattr(demo._Handler, "timeout", 0.2)
    with demo.open_server(tmp_path, tmp_path, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        silent = [socket.create_connection(("127.0.0.1", server.server_port)) for _ in range(4)]
        try:
            assert asked(server.server_port)[1] == "the page"
        finally:
            for connection in silent:
                connection.close()
            server.shutdown()


@pytest.mark.parametrize("path", ["/%ed%a0%80", "http://[/", "/a%00", f"/{'a' * 5000}"])
def test_a_path_that_no_file_has_is_answered(
    path: str, port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write_text(tmp_path / "params.yaml", "")
    monkeypatch.chdir(tmp_path)
    assert asked(port, path, Host="localhost:{port}")[0].status == (404 if path.startswith("/") else 403)
    assert not (tmp_path / LOG).exists() and not capfd.readouterr().err


@pytest.mark.parametrize("kind", ["asks", "takes"])
def test_those_who_drip_are_let_go(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None of their steps takes long; all together do."""
    write_text(tmp_path / "index.html", "the page")
    write_text(tmp_path / "large.txt", "large" * 4_000_000)
    monkeypatch.setattr(demo, "MOST", 1)
    monkeypatch.setattr(demo, "LOOK_S", 0.02)
    over, asking, give = threading.Event(), list[Any](), demo._Server.give

    def give_the_first_little(server: Any, request: Any, seconds: float) -> None:
        asking.append(request)
        whole = request is not asking[0] or seconds != (demo.PATIENCE if kind == "asks" else demo.LONGEST)
        give(server, request, seconds if whole else 0.3)

    monkeypatch.setattr(demo._Server, "give", give_the_first_little)
    monkeypatch.setattr(demo._Handler, "timeout", 60)  # of a step
    with demo.open_server(tmp_path, tmp_path, "127.0.0.1", 0) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        dripping = socket.create_connection(("127.0.0.1", server.server_port))
        dripping.sendall(
            b"GET / HTTP/1.0\r\n" if kind == "asks" else b"GET /large.txt HTTP/1.0\r\nHost: localhost\r\n\r\n"
        )

        def drip() -> None:
            with suppress(OSError):
                while not over.wait(0.02):
                    dripping.sendall(b"x") if kind == "asks" else dripping.recv(1)

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert asked(server.server_port)[1] == "the page"
        finally:
            over.set()
            thread.join()
            dripping.close()
            server.shutdown()


def test_the_room_of_a_request_without_a_thread_is_free_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "index.html", "the page")
    write_text(tmp_path / "params.yaml", "")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demo, "MOST", 1)
    with demo.open_server(tmp_path, tmp_path, "127.0.0.1", 0) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        serving.start()
        start = threading.Thread.start

        def fails(thread: threading.Thread) -> None:
            monkeypatch.setattr(threading.Thread, "start", start)
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", fails)
        try:
            with pytest.raises(OSError, match=r"reset|closed|without response"):
                asked(server.server_port)
            assert asked(server.server_port)[1] == "the page"
        finally:
            server.shutdown()


def pieces(*sizes: int) -> Any:
    """What a server hands over of a body that comes in parts."""
    waiting = [{"type": "http.request", "body": b"x" * size, "more_body": True} for size in sizes]

    async def receive() -> Any:
        return waiting.pop(0) if waiting else {"type": "http.request", "body": b"", "more_body": False}

    return receive


@pytest.mark.parametrize(("parts", "taken"), [((4, 4), ["http.request"] * 2), ((4, 8, 8), ["http.request", "gone"])])
def test_a_body_that_comes_in_parts_is_no_larger_than_others(
    parts: tuple[int, ...], taken: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_server, "MOST_BYTES", 10)
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend([(await receive())["type"] for _ in range(2)])

    async def nowhere(message: Any) -> None:
        pass

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"host", b"localhost"), (b"transfer-encoding", b"chunked")],
    }
    asyncio.run(app_server.Guard(app, {"localhost"})(scope, pieces(*parts), nowhere))
    assert seen == [kind.replace("gone", "http.disconnect") for kind in taken]

"""What serves an export's page: the right files under the right types, and errors that say what is missing."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection, RemoteDisconnected
from pathlib import Path

import pytest
from conftest import ROOT, project_environment

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.inference.demo import RUNTIME_FILES, addresses, open_server, page_folder, runtime_folder, write_site


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """exports/herd with a page of two files, exports/float without one, a runtime of three, and a secret."""
    write_text(tmp_path / "exports/herd/export.json", "{}")
    write_text(tmp_path / "exports/float/export.json", "{}")
    write_text(tmp_path / "exports/herd/web/index.html", "the page")
    write_text(tmp_path / "exports/herd/web/app.js", "the code")
    for name in RUNTIME_FILES:
        write_text(tmp_path / "node_modules/onnxruntime-web/dist" / name, name)
    write_text(tmp_path / "node_modules/onnxruntime-web/dist/other.mjs", "not of the page")
    write_text(tmp_path / "secret.txt", "a secret")
    return tmp_path


@pytest.fixture
def port(project: Path) -> Iterator[int]:
    page, runtime = page_folder(project / "exports", "herd"), runtime_folder(project / "node_modules", "herd")
    with open_server(page, runtime, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        assert addresses(server) == [f"http://127.0.0.1:{server.server_port}"]
        yield server.server_port
        server.shutdown()
        thread.join()


def got(port: int, path: str) -> tuple[int, str, str]:
    connection = HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", path)  # as it is: a client that puts ../ right would hide what is asked here
    answer = connection.getresponse()
    found = answer.status, answer.headers["Content-Type"], answer.read().decode()
    connection.close()
    return found


def test_page_and_runtime_are_served_with_their_types(port: int) -> None:
    assert got(port, "/") == (200, "text/html", "the page")
    assert got(port, "/app.js?v=1") == (200, "text/javascript", "the code")
    types = {".mjs": "text/javascript", ".wasm": "application/wasm"}
    for name in RUNTIME_FILES:
        assert got(port, f"/ort/{name}") == (200, types[Path(name).suffix], name)


@pytest.mark.parametrize(
    "path",
    ["/ort/other.mjs", "/ort/", "/../../secret.txt", "/ort/../../../secret.txt", "/%2e%2e/%2e%2e/%2e%2e/secret.txt"],
)
def test_nothing_else_is(port: int, path: str) -> None:
    status, _, content = got(port, path)
    assert status == 404
    assert "secret" not in content.replace(path, "")


@pytest.mark.parametrize("path", ["/%00", "/a%00b.js", "/%ff%fe", "/" + "a" * 5000])
def test_a_path_that_no_file_can_have_is_not_found(port: int, capfd: pytest.CaptureFixture[str], path: str) -> None:
    assert got(port, path)[0] == 404
    assert capfd.readouterr().err == ""


def test_an_error_of_one_request_is_a_line_and_the_next_is_served(
    port: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr("http.server.SimpleHTTPRequestHandler.guess_type", lambda *_: {}["type"])
        with pytest.raises(RemoteDisconnected):
            got(port, "/app.js")
    assert got(port, "/") == (200, "text/html", "the page")
    said = capfd.readouterr().err
    assert said.startswith("error: KeyError: 'type'; the traceback is in ")
    assert said.count("\n") == 1


def test_a_network_is_told_where_to_look(project: Path) -> None:
    with open_server(project, project, "0.0.0.0", 0) as server:
        here, *others = addresses(server)
        assert here == f"http://127.0.0.1:{server.server_port}"
        assert all(other.endswith(f":{server.server_port}") for other in others)


def test_what_is_missing_is_named(project: Path, port: int) -> None:
    exports = project / "exports"
    with pytest.raises(InputError, match=r"exports/hird: no such export; exported runs: float, herd"):
        page_folder(exports, "hird")
    with pytest.raises(InputError, match=r"exports/float/web: not there; it is made for runs with onnx_int8"):
        page_folder(exports, "float")
    with pytest.raises(InputError, match=f"port {port}: "):
        open_server(exports, exports, "127.0.0.1", port)
    (project / "node_modules/onnxruntime-web/dist" / RUNTIME_FILES[2]).unlink()
    with pytest.raises(InputError, match=r"dist: ort-wasm.*\.wasm is not there; `make demo RUN=herd` installs it"):
        runtime_folder(project / "node_modules", "herd")


def test_a_site_has_all_in_one_folder_and_replaces_nothing(project: Path) -> None:
    page, runtime = page_folder(project / "exports", "herd"), runtime_folder(project / "node_modules", "herd")
    write_site(page, runtime, project / "site")
    found = {p.relative_to(project / "site").as_posix() for p in (project / "site").rglob("*") if p.is_file()}
    assert found == {"index.html", "app.js", *(f"ort/{name}" for name in RUNTIME_FILES)}
    with pytest.raises(InputError, match="site: is there already"):
        write_site(page, runtime, project / "site")
    for source in (page, runtime):
        with pytest.raises(InputError, match=r"site: lies in .*, which is read"):
            write_site(page, runtime, source / "deep/site")
        assert not (source / "deep").exists()


def test_the_command_serves_until_it_is_ended(project: Path) -> None:
    command = [sys.executable, "-m", "pipeline.cli", "demo", "herd", "--port", "0"]
    environment = project_environment() | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True) as serving:
        try:
            line = serving.stdout.readline()
            assert line.startswith("herd in a browser: http://127.0.0.1:")
            port = int(line.split(":")[3].split()[0])
            assert got(port, "/") == (200, "text/html", "the page")
        finally:
            serving.terminate()

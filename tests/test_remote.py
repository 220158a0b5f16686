"""Sources that lie elsewhere: in S3, as a real server on loopback plays it, and in fsspec's other file systems."""

import errno
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import fsspec
import pytest
import s3fs
from conftest import ROOT
from filelock import FileLock
from fsspec.implementations.memory import MemoryFileSystem
from moto.server import ThreadedMotoServer
from PIL import Image
from ruamel.yaml import YAML
from servers import Served, files_served

from pipeline import cli
from pipeline.core.errors import InputError
from pipeline.core.files import sha256
from pipeline.datasets import remote
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import DATASETS
from pipeline.datasets.remote import fetch, kept

ODD = ["cow/a b.jpg", "cow/c#1.jpg", "cow/d?e=f.jpg", "cow/50%20.jpg", "cow/[1]*.jpg", "goat//g.jpg", "goat/ü.jpg"]


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    moto = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    moto.start()
    host, port = moto.get_host_and_port()
    yield f"http://{host}:{port}"
    moto.stop()


@pytest.fixture
def s3(server: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[s3fs.S3FileSystem]:
    """As a user's shell has it; a bucket of its own for each test."""
    for name, value in {"ENDPOINT_URL": server, "ACCESS_KEY_ID": "a", "SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    yield s3fs.S3FileSystem(skip_instance_cache=True, use_listings_cache=False)
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def bucket(s3: s3fs.S3FileSystem) -> str:
    name = f"farm-{uuid4().hex}"
    s3.mkdir(name)
    return name


def jpeg(folder: Path, seed: int) -> bytes:
    file = folder / "drawn.jpg"
    Image.effect_mandelbrot((60, 40), (-2 + seed / 9, -1, 1, 1 + seed / 7), 20 + seed).save(file, quality=90)
    return file.read_bytes()


def contents(place: Path) -> dict[str, bytes]:
    return {f.relative_to(place).as_posix(): f.read_bytes() for f in place.rglob("*") if f.is_file()}


def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are fetched from now on."""
    names: list[str] = []

    def noted(*given: Any) -> Any:
        names.append(given[3])
        return fetch_one(*given)

    fetch_one = remote._fetch_one
    monkeypatch.setattr(remote, "_fetch_one", noted)
    return names


def test_objects_become_files_whatever_they_are_called(s3: Any, bucket: str, tmp_path: Path) -> None:
    for key in ODD:
        s3.pipe(f"{bucket}/set/{key}", key.encode())
    s3.pipe(f"{bucket}/setting/other.jpg", b"of another prefix")
    s3.pipe(f"{bucket}/set/empty/", b"")
    place, problems = fetch(f"s3://{bucket}/set", tmp_path)
    assert problems == []
    assert place.name == "set"
    assert contents(place) == {key.replace("//", "/"): key.encode() for key in ODD}


@pytest.mark.parametrize(
    ("key", "found"),
    [
        ("a/../../b.jpg", "no file can be called like that"),
        (f"{'x' * 300}.jpg", "no file can be called like that"),
        ("goat//1.jpg", r"the same file name as that of \S+/set/goat//?1\.jpg"),
        ("cow", "called like the folder of other objects"),
    ],
)
def test_an_object_that_can_be_no_file_is_a_row(s3: Any, bucket: str, tmp_path: Path, key: str, found: str) -> None:
    for good in ("cow/1.jpg", "goat/1.jpg"):
        s3.pipe(f"{bucket}/set/{good}", b"good")
    s3.call_s3("put_object", Bucket=bucket, Key=f"set/{key}", Body=b"bad")
    place, (problem,) = fetch(f"s3://{bucket}/set", tmp_path)
    assert (problem.rule, problem.done) == ("bad_name", "refused")
    assert re.fullmatch(found, problem.found)
    assert set(contents(place)) == {"cow/1.jpg", "goat/1.jpg"}
    assert not (tmp_path / "b.jpg").exists()


def test_only_what_was_changed_is_fetched_again(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcdefg":
        s3.pipe(f"{bucket}/set/{name}.txt", name.encode())
    url = f"s3://{bucket}/set"
    place, _ = fetch(url, tmp_path)
    names = asked(monkeypatch)
    fetch(url, tmp_path)
    assert names == []
    s3.pipe(f"{bucket}/set/a.txt", b"A")  # there, of the same size
    s3.rm(f"{bucket}/set/b.txt")
    (place / "c.txt").write_text("C")  # here
    (place / "d.txt").unlink()
    listed = Path(f"{place.parent}.jsonl")
    lines = listed.read_text().splitlines(keepends=True)
    last = lines[-1].split('"')[3]
    listed.write_bytes(b"\xff\n" + "".join(lines)[:-9].encode())  # as rot and a kill leave it
    fetch(url, tmp_path)
    assert set(names) == {"a.txt", "c.txt", "d.txt", last} - {"b.txt"}
    assert contents(place) == {"a.txt": b"A"} | {f"{name}.txt": name.encode() for name in "cdefg"}


def test_a_fetch_that_was_broken_off_goes_on(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abcd":
        s3.pipe(f"{bucket}/{name}", name.encode())
    with monkeypatch.context() as patch:
        patch.setattr(remote, "TOGETHER", 1)
        patch.setattr(s3fs.S3FileSystem, "get_file", refusing(s3fs.S3FileSystem.get_file, "c"))
        with pytest.raises(InputError, match=rf"^s3://{bucket}: {bucket}/c: cannot be read: PermissionError: no"):
            fetch(f"s3://{bucket}", tmp_path)
    names = asked(monkeypatch)
    place, _ = fetch(f"s3://{bucket}", tmp_path)
    assert {"c"} <= set(names) <= {"c", "d"}
    assert set(contents(place)) == set("abcd")


def refusing(get: Callable[..., None], end: str) -> Callable[..., None]:
    def body(system: Any, key: str, *more: Any) -> None:
        if key.endswith(end):
            raise PermissionError("no")
        get(system, key, *more)

    return body


def changing(get: Callable[..., None], change: Callable[[], None], end: str) -> Callable[..., None]:
    def body(system: Any, key: str, *more: Any) -> None:
        if key.endswith(end):
            change()
        get(system, key, *more)

    return body


@pytest.mark.parametrize(
    ("how", "found"),
    [("same size", "changed since it was listed: ETag "), ("longer", "changed since it was"), ("gone", "gone since")],
)
def test_an_object_that_changes_while_it_is_read_is_refused_by_name(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str, found: str
) -> None:
    for i, name in enumerate(("cow/1.jpg", "cow/2.jpg", "cow/3.jpg", "goat/4.jpg", "goat/5.jpg", "goat/6.jpg")):
        s3.pipe(f"{bucket}/set/{name}", jpeg(tmp_path, i))
    key = f"{bucket}/set/cow/1.jpg"
    other = {"same size": jpeg(tmp_path, 0)[::-1], "longer": b"x" * 9999}
    change = (lambda: s3.rm(key)) if how == "gone" else (lambda: s3.pipe(key, other[how]))
    monkeypatch.setattr(s3fs.S3FileSystem, "get_file", changing(s3fs.S3FileSystem.get_file, change, "cow/1.jpg"))
    url = f"s3://{bucket}/set"
    block = {"format": "folder", "path": url, "labels": url, "refuse_over": 1.0, "near_duplicates": "off"}
    monkeypatch.chdir(tmp_path)
    summary = ingest("farm", DATASETS["folder"].model_validate(block), Path("data"), Path("reports"))
    assert (summary["kept"], summary["refused"]) == (5, 1)
    (row,) = [r for r in (tmp_path / "reports/ledger.csv").read_text().splitlines() if "refused" in r]
    assert row.replace('"', "").startswith(f"cow/1.jpg,,changed_while_reading,{found}")
    assert "cow/1.jpg" not in contents(next((tmp_path / ".fetched").glob("*/set")))


@pytest.mark.parametrize("scheme", ["s3", "memory", "file"])
def test_what_is_made_is_that_of_a_copy_here(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"s3://{bucket}/set" if scheme == "s3" else f"{scheme}://{tmp_path}/away/{uuid4().hex}"
    system, root = fsspec.url_to_fs(url)
    for i, key in enumerate(ODD):
        image = jpeg(tmp_path, i)
        name = key if scheme == "s3" else key.replace("//", "/")
        system.makedirs(f"{root}/{Path(name).parent}", exist_ok=True)
        system.pipe_file(f"{root}/{name}", image)
        (tmp_path / "copy" / key).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "copy" / key).write_bytes(image)
    found = []
    for place in (url, "copy"):
        block = {"format": "folder", "path": place, "labels": place}
        summary = ingest("farm", DATASETS["folder"].model_validate(block), Path("data"), Path("reports"))
        found.append((summary["kept"], *(sha256(f"data/{split}") for split in ("train", "val", "test"))))
    assert found[0] == found[1]
    assert found[0][0] == len(ODD)


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("s3://BUCKET/nosuch", r"^s3://BUCKET/nosuch: nothing is there$"),
        ("s3://no-such-bucket-here/set", r"^s3://no-such-bucket-here/set: nothing is there$"),
        ("nosuch://farm/set", r"^nosuch://farm/set: cannot be listed: ValueError: Protocol not known: nosuch"),
        ("gs://farm/set", r"^gs://farm/set: cannot be listed: ImportError: .*gcsfs"),
        ("s3://me:secret@farm/set", r"^s3://farm/set: "),
    ],
)
def test_what_cannot_be_fetched_is_said(s3: Any, bucket: str, tmp_path: Path, url: str, found: str) -> None:
    with pytest.raises(InputError, match=found.replace("BUCKET", bucket)):
        fetch(url.replace("BUCKET", bucket), tmp_path)


def test_labels_may_be_one_object(s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://{bucket}/labels.json"
    s3.pipe(f"{bucket}/labels.json", b"{}")
    place, problems = fetch(url, tmp_path)
    assert (place.name, place.read_text(), problems) == ("labels.json", "{}", [])
    s3.pipe(f"{bucket}/labels.json", b'{"a": 1}')
    change = lambda: s3.pipe(f"{bucket}/labels.json", b'{"b": 2}')  # noqa: E731
    monkeypatch.setattr(s3fs.S3FileSystem, "get_file", changing(s3fs.S3FileSystem.get_file, change, "labels.json"))
    with pytest.raises(InputError, match=rf"^{url}: changed since it was listed: ETag .*; run it again$"):
        fetch(url, tmp_path)
    assert not place.exists(), "neither the old nor half of the new one"


def test_dvc_runs_ingest_again_when_an_object_was_changed(s3: Any, bucket: str, tmp_path: Path) -> None:
    """DVC lists the objects itself, with the same settings of the shell; the stage's own data are its other deps."""
    for i in range(6):
        s3.pipe(f"{bucket}/set/{('cow', 'goat')[i % 2]}/{i}.jpg", jpeg(tmp_path, i))
    project = tmp_path / "project"
    project.mkdir()
    url = f"s3://{bucket}/set"
    YAML().dump({"datasets": {"farm": {"format": "folder", "path": url, "labels": url}}}, project / "params.yaml")
    body = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]["ingest"]
    stage = body["do"]
    code = [dep for dep in stage["deps"] if "$" not in dep]
    stage |= {"cmd": f"{sys.executable} -m stages.ingest ${{key}}", "deps": [d for d in stage["deps"] if d not in code]}
    YAML().dump({"stages": {"ingest": body}}, project / "dvc.yaml")

    def said(*line: str) -> str:
        environment = os.environ | {"PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
        done = subprocess.run(
            [sys.executable, "-m", *line], check=False, cwd=project, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    said("stages.params")
    said("dvc", "init", "--no-scm", "--quiet")
    assert "data/ingested/farm: 6 of 6 images" in said("dvc", "repro")
    s3.pipe(f"{bucket}/set/cow/6.jpg", jpeg(tmp_path, 6))
    assert "data/ingested/farm: 7 of 7 images" in said("dvc", "repro")
    assert "didn't change, skipping" in said("dvc", "repro", "--dry")


def test_add_writes_the_url_and_recognizes_what_is_there(
    s3: Any, bucket: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(4):
        s3.pipe(f"{bucket}/set/{('cow', 'goat')[i % 2]}/{i}.jpg", jpeg(tmp_path, i))
    url = f"s3://{bucket}/set"
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text("datasets: {}\nruns: {}\n")
    cli.main(["add", "farm", "--data", url, "--task", "classify", "--from-scratch"])
    written = YAML(typ="safe").load(Path("params.yaml"))["datasets"]["farm"]
    assert written == {"format": "folder", "path": url, "labels": url}
    names = asked(monkeypatch)
    ingest("farm", DATASETS["folder"].model_validate(written), Path("data"), Path("reports"))
    assert names == [], "add has fetched it"


@pytest.fixture
def away() -> str:
    """A URL of fsspec's memory with the object "1.txt" below it."""
    url = f"memory://{uuid4().hex}/set"
    fsspec.filesystem("memory").pipe_file(f"{url}/1.txt", b"one")
    return url


def test_a_file_comes_over_http_and_its_secrets_are_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "labels.json?v=1&sig=s3cret"
    files = {name: Served(b"{}")}
    with files_served(files) as (address, _):
        url = f"{address.replace('//', '//me:s3cret@')}/{name}"
        place, problems = fetch(url, tmp_path)
        assert (place.name, place.read_bytes(), problems) == ("labels.json", b"{}", [])
        assert not any("s3cret" in file.read_text() for file in tmp_path.glob("*.jsonl"))
        names = asked(monkeypatch)
        fetch(url, tmp_path)
        assert names == []
        files[name] = Served(b"[]", tag='"2"')
        fetch(url, tmp_path)
        assert (names, place.read_bytes()) == ([""], b"[]")
        del files[name]
        with pytest.raises(
            InputError, match=r"^http://127\.0\.0\.1:\d+/labels\.json\?v=1&sig=\*\*\*: nothing is there$"
        ):
            fetch(url, tmp_path)


def test_secrets_are_in_no_row_and_no_message(away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = "http://me:s3cret@farm/set"
    keys = [f"{root}/{end}" for end in ("a/../b", "c//1", "c/1", "d", "d/1")]
    _, problems = remote._named_as_files({key: {} for key in keys}, root)
    assert len(problems) == 3
    assert "s3cret" not in str(problems)

    def refused(*_: object) -> None:
        raise ValueError(f"403, url='{root}/1.txt?X-Amz-Signature=s3cret'")

    monkeypatch.setattr(MemoryFileSystem, "get_file", refused)
    found = r"1\.txt: cannot be read: ValueError: 403, url='http://farm/set/1\.txt\?X-Amz-Signature=\*\*\*'$"
    with pytest.raises(InputError, match=found):
        fetch(away, tmp_path)


def test_what_goes_wrong_here_is_not_said_of_there(away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = kept(away, tmp_path) / "1.txt"

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def removed(_: object, key: str, to: str) -> None:
        shutil.rmtree(Path(to).parent)
        Path(to).write_bytes(b"one")

    for get_file, number in ((full, errno.ENOSPC), (removed, errno.ENOENT)):
        monkeypatch.setattr(MemoryFileSystem, "get_file", get_file)
        with pytest.raises(OSError, match=str(number)) as raised:
            fetch(away, tmp_path)
        assert (raised.value.errno, raised.value.filename) == (number, str(file))


def test_of_two_fetches_at_once_one_waits(away: str, tmp_path: Path) -> None:
    place = kept(away, tmp_path)
    place.mkdir(parents=True)
    (place / ".unfinished").touch()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(f"{place.parent}.lock"):
            waiting = pool.submit(fetch, away, tmp_path)
            with pytest.raises(TimeoutError):
                waiting.result(0.3)
            assert (place / ".unfinished").exists()
        assert waiting.result() == (place, [])
    assert contents(place) == {"1.txt": b"one"}


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("s3://farm/..", "all"),
        ("s3://farm/./", "all"),
        ("https://farm.example/labels.json?sig=a/b", "labels.json"),
        (f"s3://farm/{'x' * 300}", "all"),
    ],
)
def test_the_copy_of_a_url_stays_in_its_own_folder(tmp_path: Path, url: str, name: str) -> None:
    place = kept(url, tmp_path)
    assert (place.name, place.parent.parent) == (name, tmp_path)


def test_an_object_may_be_called_like_the_list(tmp_path: Path) -> None:
    url = f"memory://{uuid4().hex}/list.jsonl"
    fsspec.filesystem("memory").pipe_file(url, b"one")
    for _ in range(2):
        assert fetch(url, tmp_path)[0].read_bytes() == b"one"


def test_what_has_no_version_is_fetched_again(away: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "VERSIONS", ())
    fetch(away, tmp_path)
    fsspec.filesystem("memory").pipe_file(f"{away}/1.txt", b"two")
    place, _ = fetch(away, tmp_path)
    assert contents(place) == {"1.txt": b"two"}


def test_a_folder_may_become_an_object_and_again_a_folder(away: str, tmp_path: Path) -> None:
    system = fsspec.filesystem("memory")
    place, _ = fetch(away, tmp_path)
    assert contents(place) == {"1.txt": b"one"}
    system.rm(away, recursive=True)
    system.pipe_file(away, b"alone")
    assert fetch(away, tmp_path)[0].read_bytes() == b"alone"
    system.rm(away)
    system.pipe_file(f"{away}/2/3.txt", b"three")
    assert contents(fetch(away, tmp_path)[0]) == {"2/3.txt": b"three"}

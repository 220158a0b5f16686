"""Downloads that are cut, changed, wrong or endless: what came is gone on with, and nothing half is taken for whole."""

import errno
import hashlib
import io
import json
import multiprocessing
import random
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from PIL import Image
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.datasets.public import fetch
from pipeline.datasets.public.fetch import Downloads, RemoteFile
from tests.servers import PATIENCE, Served, files_served, silent, silent_after

CONTENT = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
DATE = "Sun, 01 Nov 2026 10:00:00 GMT"


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetch, "PAUSES", (0.0, 0.0))


@pytest.fixture
def served() -> Iterator[tuple[dict[str, Served], str, list[tuple[str, str]]]]:
    files: dict[str, Served] = {}
    with files_served(files) as (url, asked):
        yield files, url, asked


def downloads(folder: Path) -> Downloads:
    return Downloads(folder / "work", folder / "seen.json")


def checksum(content: bytes, kind: str = "sha256") -> str:
    return f"{kind}:{hashlib.new(kind, content).hexdigest()}"


@pytest.mark.parametrize("known", ["", checksum(CONTENT), checksum(CONTENT, "md5")])
def test_a_file_comes_whole_and_is_alone(tmp_path, served, known):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT)
    place = downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", known))
    assert place.read_bytes() == CONTENT
    assert asked == [("a.zip", "")]
    assert [file.name for file in (tmp_path / "work").iterdir()] == ["a.zip"]


@pytest.mark.parametrize(
    "how",
    [
        {},
        {"tag": "", "date": DATE},
        {"tag": 'W/"1"', "date": DATE},  # a weak tag says nothing of bytes
        {"chunked": True},
        {"tag": "", "known": checksum(CONTENT)},
    ],
)
def test_a_cut_connection_is_gone_on_with_at_its_byte(tmp_path, served, how):
    files, url, asked = served
    known = how.get("known", "")
    files["a.zip"] = Served(CONTENT, cuts=[100_001, 50_002], **{k: v for k, v in how.items() if k != "known"})
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", known)).read_bytes() == CONTENT
    assert [span for _, span in asked] == ["", "bytes=100001-", "bytes=150003-"]


def test_a_killed_download_is_gone_on_with_by_the_next_process(tmp_path, served):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT, cuts=[120_003, 0, 0, 0])
    with pytest.raises(InputError, match=r"a\.zip: .*; 120,003 bytes of it are kept: the same command goes on there"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    del files["a.zip"].cuts[:], asked[:]
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    assert asked == [("a.zip", "bytes=120003-")]


def fetched_without_end(folder: Path, url: str, came: Event) -> None:
    class Bar(tqdm):  # type: ignore[type-arg]
        def update(self, n: float | None = 1) -> None:
            super().update(n)
            if self.n >= 90_000:
                came.set()

    fetch.tqdm = Bar  # type: ignore[misc]
    downloads(folder).get(RemoteFile(url))


def test_kill_9_leaves_what_came(tmp_path, served):
    files, url, asked = served
    with silent_after(CONTENT, 90_000) as slow:
        context = multiprocessing.get_context("spawn")
        came = context.Event()
        process = context.Process(target=fetched_without_end, args=(tmp_path, f"{slow}/a.zip", came), daemon=True)
        process.start()
        assert came.wait(PATIENCE)
        process.kill()
        process.join()
    part = tmp_path / "work/a.zip.part"
    have = part.stat().st_size
    assert 0 < have <= 90_000  # but for what was not written out yet
    state = part.with_name("a.zip.part.json")
    assert json.loads(state.read_text())["total"] == len(CONTENT)
    # the port is another one now
    state.write_text(state.read_text().replace(slow, url))
    files["a.zip"] = Served(CONTENT)
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    assert asked == [("a.zip", f"bytes={have}-")]


def test_a_file_that_was_put_there_is_taken_or_refused_and_stays(tmp_path, served):
    _, url, asked = served
    place = tmp_path / "work/a.zip"
    place.parent.mkdir()
    place.write_bytes(CONTENT)
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", checksum(CONTENT))) == place
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")) == place
    with pytest.raises(InputError, match=r"work/a\.zip: sha256 .*; expected .*, as published\. It is kept: remove it"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", checksum(OTHER)))
    assert place.read_bytes() == CONTENT
    assert asked == []


def test_what_is_not_gone_on_with_is_not_said_to_be(tmp_path, served):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT, tag="", cuts=[100_000, 0, 0, 0])  # nothing tells a mixture of two versions
    files["small.jpg"] = Served(CONTENT, cuts=[100_000, 0, 0, 0])
    with pytest.raises(InputError, match=r"a\.zip: ((?!kept).)*$"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    with pytest.raises(InputError, match=r"small\.jpg: ((?!kept).)*$"):
        downloads(tmp_path).get_images({f"{url}/small.jpg": tmp_path / "small.jpg"})
    assert not (tmp_path / "small.jpg").exists()


@pytest.mark.parametrize(("span", "began"), [("bytes 5-9/10", False), ("lines 0-9/10", False), ("bytes 5-9/10", True)])
def test_a_part_that_was_not_asked_for_is_not_taken(tmp_path, served, span, began):
    files, url, asked = served
    if began:
        files["a.zip"] = Served(CONTENT, cuts=[100_000, 0, 0, 0])
        with pytest.raises(InputError, match="are kept"):
            downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    files["a.zip"] = Served(CONTENT, spans=[span] * 9)
    del asked[:]
    with pytest.raises(InputError, match=rf"a\.zip: the server answers with {span}, which was not asked for"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    assert len(asked) == 3 + began  # the first try and PAUSES


def test_a_server_that_cuts_and_never_goes_on_is_given_up(tmp_path, served):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT, cuts=[100_000, 0] * 50, spans=["", "bytes 5-9/10"] * 50)
    with pytest.raises(InputError, match=r"a\.zip: "):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    assert len(asked) < 10


def test_two_sets_remember_their_checksums(tmp_path, served):
    files, url, _ = served
    files |= {"a.zip": Served(CONTENT), "b.zip": Served(OTHER)}
    one, two = (Downloads(tmp_path / name, tmp_path / "seen.json") for name in ("one", "two"))
    one.get(RemoteFile(f"{url}/a.zip"))
    two.get(RemoteFile(f"{url}/b.zip"))
    one.remember()
    two.remember()
    assert json.loads((tmp_path / "seen.json").read_text()) == {
        f"{url}/a.zip": checksum(CONTENT), f"{url}/b.zip": checksum(OTHER)}  # fmt: skip


def test_remembering_has_a_lock_of_its_own(tmp_path, served, monkeypatch):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT)
    one = downloads(tmp_path)
    one.get(RemoteFile(f"{url}/a.zip"))
    (tmp_path / "seen.json").write_text("{}")

    def read(path: Path) -> dict[str, str]:
        with pytest.raises(Timeout):
            FileLock(tmp_path / "seen.json.lock").acquire(timeout=0)
        return json.loads(path.read_text())

    monkeypatch.setattr(fetch, "read_json", read)
    one.remember()
    assert json.loads((tmp_path / "seen.json").read_text()) == {f"{url}/a.zip": checksum(CONTENT)}


def test_what_is_whole_and_has_no_name_yet_is_not_fetched_again(tmp_path, served):
    _, url, asked = served
    work = tmp_path / "work"
    work.mkdir()
    (work / "a.zip.part").write_bytes(CONTENT)
    (work / "a.zip.part.json").write_text(json.dumps({"url": f"{url}/a.zip", "version": '"1"', "total": len(CONTENT)}))
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    assert asked == []


@pytest.mark.parametrize("heeds", [True, False])
def test_a_file_that_changed_between_two_tries_is_begun_anew(tmp_path, served, heeds):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT, cuts=[100_000, 0, 0, 0])
    with pytest.raises(InputError, match="are kept"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    files["a.zip"] = Served(OTHER, tag='"2"', heeds_if_range=heeds)
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == OTHER


def test_a_file_that_changed_and_nobody_says_so_is_told_by_its_checksum(tmp_path, served):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT, tag="", cuts=[100_000, 0, 0, 0])
    file = RemoteFile(f"{url}/a.zip", checksum(OTHER))
    with pytest.raises(InputError, match="are kept"):
        downloads(tmp_path).get(file)
    files["a.zip"] = Served(OTHER, tag="")
    del asked[:]
    assert downloads(tmp_path).get(file).read_bytes() == OTHER
    assert [span for _, span in asked] == ["bytes=100000-", ""]


def test_without_version_and_checksum_nothing_is_mixed(tmp_path, served):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT, tag="", cuts=[100_000])
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    assert [span for _, span in asked] == ["", ""]


def test_a_server_without_ranges_sends_all_again(tmp_path, served):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT, ranges=False, cuts=[100_000])
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    assert [span for _, span in asked] == ["", "bytes=100000-"]


def test_a_file_that_is_shorter_now_is_begun_anew(tmp_path, served):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT, cuts=[200_000, 0, 0, 0])
    with pytest.raises(InputError, match="are kept"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    files["a.zip"] = Served(OTHER[:100], heeds_if_range=False)  # the server answers 416
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == OTHER[:100]


@pytest.mark.parametrize("kind", ["sha256", "md5"])
def test_a_wrong_checksum_is_an_error_and_the_file_is_gone(tmp_path, served, kind):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT)
    digits = hashlib.new(kind, CONTENT).hexdigest()
    with pytest.raises(InputError, match=rf"a\.zip: {kind} {digits}; expected .*, as published\. What came is removed"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", checksum(OTHER, kind)))
    assert not list((tmp_path / "work").glob("*.zip*part"))
    assert not (tmp_path / "work/a.zip").exists()


def test_a_second_download_is_held_to_the_first(tmp_path, served):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT)
    one = downloads(tmp_path)
    one.get(RemoteFile(f"{url}/a.zip")).unlink()
    assert not (tmp_path / "seen.json").exists()  # it has proved nothing yet
    one.remember()
    assert json.loads((tmp_path / "seen.json").read_text()) == {f"{url}/a.zip": checksum(CONTENT)}
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    (tmp_path / "work/a.zip").unlink()
    files["a.zip"] = Served(OTHER)
    with pytest.raises(InputError, match=r"as it had at the first download, in .*seen\.json"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))


@pytest.mark.parametrize("status", [404, 403, 410])
def test_a_file_that_is_not_there_is_named(tmp_path, served, status):
    files, url, asked = served
    files["a.zip"] = Served(CONTENT, statuses=[status])
    with pytest.raises(InputError, match=rf"127\.0\.0\.1:\d+/a\.zip: the server answers {status} "):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    assert len(asked) == 1
    assert list((tmp_path / "work").iterdir()) == []


def test_a_busy_server_is_asked_again(tmp_path, served):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT, statuses=[503, 429])
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    files["b.zip"] = Served(CONTENT, statuses=[503, 503, 503, 503])
    with pytest.raises(InputError, match="the server answers 503 Service Unavailable"):
        downloads(tmp_path).get(RemoteFile(f"{url}/b.zip"))


def test_a_file_without_length_needs_a_checksum(tmp_path, served):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT, length=False)
    with pytest.raises(InputError, match="does not say how long the file is, and no checksum is known"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", checksum(CONTENT))).read_bytes() == CONTENT
    files["a.zip"] = Served(CONTENT, length=False, ranges=False, cuts=[1000] * 9)
    (tmp_path / "work/a.zip").unlink()
    with pytest.raises(InputError, match="sha256"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip", checksum(CONTENT)))


def test_a_chunked_file_without_its_end_is_not_whole(tmp_path, served):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT, chunked=True, ranges=False, cuts=[1000] * 9)
    with pytest.raises(InputError, match=r"a\.zip: "):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))
    assert not (tmp_path / "work/a.zip").exists()


def test_a_redirect_is_followed(tmp_path, served):
    files, url, asked = served
    files["a.zip"] = Served(b"", moved_to=f"{url}/signed/1f2e")
    files["signed/1f2e"] = Served(CONTENT, cuts=[100_000])
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT
    assert asked[-1] == ("signed/1f2e", "bytes=100000-")
    files["round"] = Served(b"", moved_to=f"{url}/round")
    with pytest.raises(InputError, match=r"round: .*redirects"):
        downloads(tmp_path).get(RemoteFile(f"{url}/round"))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_a_proxy_is_not_asked_for_this_machine(tmp_path, served, monkeypatch, name):
    files, url, _ = served
    monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    files["a.zip"] = Served(b"", moved_to=f"{url}/b.zip")
    files["b.zip"] = Served(CONTENT)
    assert downloads(tmp_path).get(RemoteFile(f"{url}/a.zip")).read_bytes() == CONTENT


def test_a_proxy_is_asked_for_others(tmp_path, served, monkeypatch):
    _, url, asked = served
    monkeypatch.setenv("http_proxy", url)
    monkeypatch.delenv("no_proxy", raising=False)
    with pytest.raises(InputError, match=r"pictures\.example/a\.zip: the server answers 404"):
        downloads(tmp_path).get(RemoteFile("http://pictures.example/a.zip"))
    assert asked == [("http://pictures.example/a.zip", "")]


def test_a_server_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(fetch, "ANSWERING", 0.1)
    with silent() as url, pytest.raises(InputError, match=r"a\.zip: no answer in 0\.1 seconds"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))


def test_a_machine_that_is_not_there_is_said_in_a_few_words(tmp_path):
    with pytest.raises(InputError, match=r"a\.zip: not reachable \(") as error:
        downloads(tmp_path).get(RemoteFile("http://127.0.0.1:9/a.zip"))
    assert len(str(error.value)) < 200


def test_a_password_in_an_address_is_not_shown(tmp_path):
    with pytest.raises(InputError) as error:
        downloads(tmp_path).get(RemoteFile("http://me:secret@127.0.0.1:9/a.zip"))
    assert "secret" not in str(error.value)


def test_a_full_disk_names_the_file_and_keeps_it(tmp_path, served, monkeypatch):
    files, url, _ = served
    files["a.zip"] = Served(CONTENT)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(fetch, "_bar", full)
    with pytest.raises(OSError, match=r"No space left.*a\.zip\.part"):
        downloads(tmp_path).get(RemoteFile(f"{url}/a.zip"))


def picture(i):
    out = io.BytesIO()
    Image.new("RGB", (64, 48), (i, 0, 0)).save(out, "BMP")
    return out.getvalue()


@pytest.mark.parametrize("content", [b"<html>log in</html>", b""])
def test_what_is_no_image_is_not_taken_for_one(tmp_path, served, content):
    files, url, _ = served
    files["1.jpg"] = Served(content)
    for _ in range(2):
        with pytest.raises(InputError, match=r"1\.jpg: what came is no image: "):
            downloads(tmp_path).get_images({f"{url}/1.jpg": tmp_path / "images/1.jpg"})
        assert not (tmp_path / "images").exists()
    files["1.jpg"] = Served(picture(1))
    downloads(tmp_path).get_images({f"{url}/1.jpg": tmp_path / "images/1.jpg"})
    assert (tmp_path / "images/1.jpg").read_bytes() == picture(1)


def test_images_come_at_once_and_once(tmp_path, served):
    files, url, asked = served
    for i in range(20):
        files[f"{i}.jpg"] = Served(picture(i), cuts=[500] if i == 3 else [], statuses=[403] if i == 9 else [])
    places = {f"{url}/{i}.jpg": tmp_path / f"images/{i}.jpg" for i in range(20)}
    with pytest.raises(InputError, match=r"9\.jpg: the server answers 403"):
        downloads(tmp_path).get_images(places)
    assert not (tmp_path / "images").exists()
    downloads(tmp_path).get_images(places)
    assert all(places[f"{url}/{i}.jpg"].read_bytes() == picture(i) for i in range(20))
    assert len(list((tmp_path / "images").iterdir())) == 20
    names = [name for name, span in asked if not span]
    assert sorted(names) == sorted([f"{i}.jpg" for i in range(20)] + ["9.jpg"])

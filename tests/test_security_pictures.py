"""What is given as a picture or a clip and is something else: no other program starts, no address is asked for, nothing
is waited for, and memory is bounded before anything is decoded.
"""

import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import EpsImagePlugin, Image

from pipeline.core.image_file import MOST_PIXELS, ImageFileError, decode_image, open_image, upright_size
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.datasets.video import ClipError, frames
from pipeline.inference import serving
from pipeline.inspection.dataset_view import _size

EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 32 32\n%%EndComments\n(planted) (w) file\nshowpage\n"
READERS: list[Callable[[Path], Any]] = [decode_image, open_image, upright_size]


@pytest.mark.parametrize("read", [*READERS, lambda file: open_image(file.read_bytes())])
def test_no_picture_starts_ghostscript(read: Callable[[Path], Any], tmp_path: Path, monkeypatch: Any) -> None:
    started: list[object] = []
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *given, **_: started.append(given))
    monkeypatch.setattr("subprocess.Popen", lambda *given, **_: started.append(given))
    (tmp_path / "photo.jpg").write_bytes(EPS)
    with pytest.raises(ImageFileError, match="not one of JPEG, PNG"):
        read(tmp_path / "photo.jpg")
    assert not started


def test_a_refused_file_of_a_dataset_is_looked_at_by_browsers_formats_only(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(EPS)
    Image.new("RGB", (4, 2)).save(tmp_path / "good.png")
    Image.new("RGB", (4, 2)).save(tmp_path / "odd.jpg", "TGA")
    assert [_size(tmp_path / name) for name in ("photo.jpg", "odd.jpg", "good.png")] == [None, None, (4, 2)]


@pytest.mark.parametrize("read", READERS)
def test_pipes_devices_and_sockets_are_no_pictures_and_not_waited_for(
    read: Callable[[Path], Any], tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "endless.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "s.jpg"))
        for name in ("pipe.jpg", "endless.jpg", "s.jpg"):
            with pytest.raises(ImageFileError) as said:
                read(tmp_path / name)
            assert said.value.rule == "missing_file"


@pytest.mark.parametrize("read", READERS)
@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_too_many_pixels_are_an_error_before_they_are_decoded(
    read: Callable[[Path], Any], kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side = int(MOST_PIXELS**0.5) + 2  # Pillow itself only warns of them
    Image.new("1", (side, side)).save(tmp_path / "a.jpg", kind, **({"compression": "group4"} if kind == "TIFF" else {}))
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", lambda _: pytest.fail("decoded"))
    with pytest.raises(ImageFileError, match="expected at most") as said:
        read(tmp_path / "a.jpg")
    assert said.value.rule == "too_large"


def test_large_pictures_of_requests_are_answered_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small ones are not held up by it, and a picture is let go of before the next one is decoded."""
    spec = ModelSpec(*("r", "d", "classify", ["a"], [], [], [], "b", {}, 8, "stretch", [0.5] * 3, [0.5] * 3))
    write_spec(tmp_path / "model.json", spec)
    monkeypatch.setattr(serving, "LARGE", 100)
    monkeypatch.setattr(serving, "open_runtime", lambda *_: SimpleNamespace(concurrent=True))
    at_once, most, small = set(), [0], threading.Event()

    def predict(_: Any, __: Any, image: Image.Image) -> Any:
        if image.width == 4:
            small.set()
        else:
            at_once.add(threading.get_ident())
            most[0] = max(most[0], len(at_once))
            assert small.wait(30), "a small picture waits for a large one"
            at_once.discard(threading.get_ident())
        return SimpleNamespace(to_json=lambda: {"label": "a", "scores": {}})

    monkeypatch.setattr(serving, "predict_image", predict)
    served = serving.Served(tmp_path, {"t": "f"})
    for side in (20, 4):
        Image.new("RGB", (side, side)).save(tmp_path / f"{side}.png")
    answers: list[Any] = []

    def ask(side: int) -> None:
        answers.append(
            served.predict(pd.DataFrame({"image": [(tmp_path / f"{side}.png").read_bytes()]}), {"target": "t"})
        )

    threads = [threading.Thread(target=ask, args=(side,)) for side in (20, 20, 20, 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [[{"label": "a", "scores": {}}]] * 4
    assert most == [1]


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4", "clip.webm"])
@pytest.mark.parametrize(
    "text",
    [
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
        "ffconcat version 1.0\nfile '{url}/a.mp4'\n",
        '<?xml version="1.0"?><MPD><Period><BaseURL>{url}/</BaseURL></Period></MPD>',
        "v=0\nc=IN IP4 127.0.0.1\nm=video {port} RTP/AVP 96\n",
    ],
)
def test_a_clip_that_is_a_list_of_addresses_asks_none(name: str, text: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (tmp_path / name).write_text(text.format(url=f"http://127.0.0.1:{port}", port=port))
        with pytest.raises(ClipError):
            list(frames(tmp_path / name, 2))
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_an_array_of_a_request_is_a_picture_as_it_is() -> None:
    assert np.asarray(serving._readable(np.full((2, 3, 3), 7, np.uint8))).tolist() == np.full((2, 3, 3), 7).tolist()

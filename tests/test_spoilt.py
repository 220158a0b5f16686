"""Pictures spoilt by a seed, sent to all that takes pictures: each is answered or refused by name, and memory stays.

POCKETLENS_SPOILT is how many pictures there are (default 300), POCKETLENS_SEED what they are drawn by:

    POCKETLENS_SPOILT=10000 POCKETLENS_SEED=1 python -m pytest tests/test_spoilt.py
"""

import io
import os
import random
import re
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from PIL import Image
from shipped import shipped

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.inference.demo import open_server
from pipeline.inference.predict import NAMED, predict_sources
from pipeline.inference.serving import Served

COUNT, SEED = int(os.environ.get("POCKETLENS_SPOILT", "300")), int(os.environ.get("POCKETLENS_SEED", "0"))
ROUND = 100
# bytes: an image of 90 million pixels, which is the largest, takes 270 MB, and twice that on its way from one mode to
# another; where a training ran in this process, the allocator keeps them
GROWTH = 1 << 30
SIDES = 48, 33
KINDS: dict[str, dict[str, Any]] = {
    "JPEG": {"progressive": True},
    "PNG": {},
    "WEBP": {},
    "AVIF": {},
    "PPM": {},
    "BMP": {},
    "TIFF": {"compression": "tiff_lzw"},
    "GIF": {"save_all": True},
}
MODES = {"JPEG": ("RGB", "L", "CMYK"), "PNG": ("RGB", "P", "RGBA", "I;16", "1"), "TIFF": ("RGB", "CMYK", "I;16", "L")}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained classifier, and what it was exported to."""
    return shipped(tmp_path_factory)


@pytest.fixture(scope="module")
def whole(folder: Path) -> list[tuple[str, bytes]]:
    """Small pictures of every kind: (kind, file)."""
    found = []
    for place, source in enumerate(sorted((folder / "data/test").glob("*.png"))[:3]):
        with Image.open(source) as opened:
            drawn = opened.convert("RGB").resize(SIDES)
        for kind, more in KINDS.items():
            for mode in MODES.get(kind, ("RGB",)):
                options = more if place % 2 else {}
                if "save_all" in options:
                    options = options | {"append_images": [drawn.rotate(180)]}
                image = drawn.convert("L").convert("I;16") if mode == "I;16" else drawn.convert(mode)
                file = io.BytesIO()
                image.save(file, kind, **options)
                found.append((kind, file.getvalue()))
    return found


# --- what spoils a file: (drawn by, the file, another one) -> the spoilt one


def flipped(draw: random.Random, data: bytes, _: bytes) -> bytes:
    spoilt = bytearray(data)
    for _i in range(draw.randint(1, 8)):
        spoilt[draw.randrange(len(spoilt) if draw.random() < 0.5 else 64)] ^= draw.randint(1, 255)
    return bytes(spoilt)


def cut(draw: random.Random, data: bytes, _: bytes) -> bytes:
    return data[: draw.randrange(len(data))]


def with_another_head(draw: random.Random, data: bytes, other: bytes) -> bytes:
    at = draw.randint(2, 64)
    return other[:at] + data[at:]


def huge(draw: random.Random, data: bytes, _: bytes) -> bytes:
    """One of the places that hold the width or the height says more; a PNG's checksum is right."""
    forms = [form for form in ("<H", ">H", "<I", ">I") if any(struct.pack(form, side) in data for side in SIDES)]
    if data[:2] in (b"P5", b"P6") or not forms:
        return data.replace(str(SIDES[0]).encode(), str(10 ** draw.randint(3, 12)).encode(), 1)
    form = draw.choice(forms)
    places = [found.start() for side in SIDES for found in re.finditer(re.escape(struct.pack(form, side)), data)]
    at, most = draw.choice(places), 256 ** struct.calcsize(form) - 1
    number = draw.choice([0, 9000, 20000, 60000, most, most // 2, most // 2 + 1])
    spoilt = bytearray(data)
    spoilt[at : at + struct.calcsize(form)] = struct.pack(form, min(number, most))
    if data[12:16] == b"IHDR":
        spoilt[29:33] = struct.pack(">I", zlib.crc32(spoilt[12:29]))
    return bytes(spoilt)


def zeroed(draw: random.Random, data: bytes, _: bytes) -> bytes:
    start = draw.randrange(len(data))
    stop = draw.randint(start, len(data)) if draw.random() < 0.9 else len(data)
    return data[:start] + bytes(stop - start) + data[stop:]


WAYS: tuple[Callable[[random.Random, bytes, bytes], bytes], ...] = (flipped, cut, with_another_head, huge, zeroed)


def spoilt_pictures(whole: list[tuple[str, bytes]], first: int, count: int) -> Iterator[tuple[str, bytes]]:
    """(name, content): the same of a number whatever others are made."""
    for number in range(first, first + count):
        draw = random.Random(f"{SEED} {number}")
        kind, data = draw.choice(whole)
        way = draw.choice(WAYS)
        yield f"{number:05}.{way.__name__}.{kind.lower()}", way(draw, data, draw.choice(whole)[1])


@pytest.mark.filterwarnings("ignore")
def test_each_is_answered_or_refused_by_name_and_memory_stays(
    folder: Path, whole: list[tuple[str, bytes]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    served = Served(folder / "exports", {"onnx_int8": "model.int8.onnx"})
    write_text(tmp_path / "page/index.html", "the page")
    process, sizes, answered = psutil.Process(), list[int](), 0
    with open_server(tmp_path / "page", tmp_path, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        for first in range(0, COUNT, ROUND):
            pictures = dict(spoilt_pictures(whole, first, min(ROUND, COUNT - first)))
            rows = served.predict({"image": list(pictures.values())}, {"target": "onnx_int8"})
            refused = [name for name, row in zip(pictures, rows, strict=True) if "error" in row]
            assert all(row.get("label") or named(row, place) for place, row in enumerate(rows))
            assert predicted(folder, tmp_path, pictures) == refused
            for name, data in pictures.items():
                assert sent(server.server_port, b"POST / HTTP/1.0\r\n\r\n" + data).startswith(b"HTTP/1.0 501 "), name
                assert not re.match(rb"HTTP/1.. [^4]", sent(server.server_port, data)), name
            assert sent(server.server_port, b"GET / HTTP/1.0\r\nHost: localhost\r\n\r\n").endswith(b"the page")
            answered += len(pictures) - len(refused)
            sizes.append(process.memory_info().rss)
        server.shutdown()
        thread.join()
    assert 0 < answered < COUNT
    if COUNT >= 10 * ROUND:  # of fewer, nothing can be told
        assert max(sizes[-3:]) - max(sizes[:2]) < GROWTH, sizes
    assert "error: " not in capfd.readouterr().err


def named(row: dict[str, str], place: int) -> bool:
    """Whether an error names its row, and is none of a kind that nobody has foreseen."""
    return row["error"].startswith(f"image {place}: not an image that decodes: ")


def predicted(folder: Path, tmp_path: Path, pictures: dict[str, bytes]) -> list[str]:
    """The names of those that `predict` has no answer for; its error has named the first of them, and the rest."""
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    names, answered = [str(tmp_path / name) for name in pictures], list[str]()
    refused: list[str] = []
    try:
        for sample in predict_sources(names, "shapes", "torch", folder / "models", folder / "exports"):
            answered.append(sample.id)
            assert sample.scores
    except InputError as error:
        refused = [name for name in names if name not in answered]
        said, more = str(error), len(refused) - NAMED
        assert re.findall(rf"{re.escape(str(tmp_path))}/(\S+): not an image", said) == [
            Path(name).name for name in refused[:NAMED]
        ]
        assert more <= 0 or said.endswith(f"; and {more} more")
    assert len(answered) + len(refused) == len(names)
    for name in names:
        Path(name).unlink()
    return [Path(name).name for name in refused]


def sent(port: int, data: bytes) -> bytes:
    """What the server answers to it."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        try:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: connection.recv(1 << 16), b""))
        except ConnectionError:  # it has not read all that it was sent
            return b""

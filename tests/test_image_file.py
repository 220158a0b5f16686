"""One decoder: what each kind of file becomes, and what is refused."""

import io
import random
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from pipeline.core.errors import InputError
from pipeline.core.image_data import PASSES
from pipeline.core.image_file import FORMATS, ORIENTATION, ImageFileError, decode_image, open_image, upright_size

RGB = np.random.default_rng(0).integers(0, 256, (12, 16, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
DEEP = np.random.default_rng(1).integers(0, 65536, (12, 16), dtype=np.uint16)
DEEP_RGB = np.random.default_rng(2).integers(0, 65536, (12, 16, 3), dtype=np.uint16)
TWELVE = DEEP >> 4
ALPHA = np.random.default_rng(3).integers(0, 256, (12, 16), dtype=np.uint8)
INK = np.random.default_rng(4).integers(0, 256, (12, 16, 4), dtype=np.uint8)
GREY_RGB = np.dstack([GREY] * 3)
PAPER = np.array(Image.fromarray(INK, "CMYK").convert("RGB"))


def saved(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def stating(most: int, count: int = 1) -> list[tuple[int, int, int, object, bool]]:
    """TIFF's MaxSampleValue, for tifffile."""
    return [(281, 3, count, most if count == 1 else (most,) * count, True)]


def packed_12(pixels: np.ndarray) -> bytes:
    """A little-endian TIFF whose BitsPerSample is 12, two pixels in three bytes (TIFF 6.0, section 8)."""
    a, b = pixels[:, 0::2].astype(int), pixels[:, 1::2].astype(int)
    data = np.stack([a >> 4, (a & 15) << 4 | b >> 8, b & 255], axis=-1).astype(np.uint8).tobytes()
    h, w = pixels.shape
    tags = {256: w, 257: h, 258: 12, 259: 1, 262: 1, 273: 8, 277: 1, 278: h, 279: len(data)}
    rows = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags.items())
    directory = struct.pack("<H", len(tags)) + rows + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory


def cv2_png(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", pixels)[1].tobytes())


def with_chunk(png: bytes, name: bytes, data: bytes) -> bytes:
    """A PNG with a chunk behind its IHDR."""
    chunk = struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    return png[:33] + chunk + png[33:]


def palette(**options: object) -> Image.Image:
    image = Image.fromarray(GREY % 4, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 8, 7])
    return image


COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [9, 8, 7]], np.uint8)[GREY % 4]


def upper(values: np.ndarray, bits: int = 16) -> np.ndarray:
    pixels = (values >> (bits - 8)).astype(np.uint8)
    return pixels if pixels.ndim == 3 else np.dstack([pixels] * 3)


def mpo() -> bytes:
    """Two images in one JPEG, as phones write them."""
    first, second = Image.fromarray(RGB), Image.new("RGB", (16, 12), "white")
    return saved(first, "MPO", save_all=True, append_images=[second], quality=95)


def read_jpeg(jpeg: bytes) -> np.ndarray:
    """Another decoder's opinion."""
    found = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    return found[:, :, ::-1]


DECODED: dict[str, tuple[bytes, np.ndarray]] = {
    "RGB PNG": (saved(RGB, "PNG"), RGB),
    "RGB BMP": (saved(RGB, "BMP"), RGB),
    "RGB TIFF": (saved(RGB, "TIFF"), RGB),
    "RGB PPM": (saved(RGB, "PPM"), RGB),
    "RGB WebP": (saved(RGB, "WEBP", lossless=True), RGB),
    "JPEG": (saved(RGB, "JPEG"), read_jpeg(saved(RGB, "JPEG"))),
    "progressive JPEG": (saved(RGB, "JPEG", progressive=True), read_jpeg(saved(RGB, "JPEG", progressive=True))),
    "grey JPEG": (saved(GREY, "JPEG"), read_jpeg(saved(GREY, "JPEG"))),
    "MPO": (mpo(), read_jpeg(mpo())),
    "grey PNG": (saved(GREY, "PNG"), GREY_RGB),
    "1 bit PNG": (saved(Image.fromarray(GREY > 99), "PNG"), np.dstack([np.where(GREY > 99, 255, 0)] * 3)),
    "1 bit TIFF": (tiff(GREY > 99, photometric="minisblack"), np.dstack([np.where(GREY > 99, 255, 0)] * 3)),
    "white is 0 TIFF": (tiff(GREY, photometric="miniswhite"), 255 - GREY_RGB),
    "palette PNG": (saved(palette(), "PNG"), COLOURS),
    "palette GIF": (saved(palette(), "GIF"), COLOURS),
    "palette PNG, one clear colour": (saved(palette(), "PNG", transparency=2), COLOURS),
    "palette PNG, an alpha a colour": (saved(palette(), "PNG", transparency=b"\0\x80\xff\xff"), COLOURS),
    "palette GIF, one clear colour": (saved(palette(), "GIF", transparency=2), COLOURS),
    "RGB PNG, one clear colour": (saved(RGB, "PNG", transparency=tuple(map(int, RGB[0, 0]))), RGB),
    "RGBA PNG": (saved(np.dstack([RGB, ALPHA]), "PNG"), RGB),
    "RGBA TIFF": (tiff(np.dstack([RGB, ALPHA]), photometric="rgb", extrasamples=["unassalpha"]), RGB),
    "LA PNG": (saved(Image.fromarray(np.dstack([GREY, ALPHA]), "LA"), "PNG"), GREY_RGB),
    "CMYK TIFF": (saved(Image.fromarray(INK, "CMYK"), "TIFF"), PAPER),
    "frames of a GIF": (saved(palette(), "GIF", save_all=True, append_images=[Image.new("L", (16, 12))]), COLOURS),
    "frames of a PNG": (saved(RGB, "PNG", save_all=True, append_images=[Image.new("RGB", (16, 12))]), RGB),
    "pages of a TIFF": (saved(RGB, "TIFF", save_all=True, append_images=[Image.new("RGB", (16, 12))]), RGB),
    "16 bit PNG": (saved(DEEP, "PNG"), upper(DEEP)),
    "16 bit PNG of OpenCV": (cv2_png(DEEP), upper(DEEP)),
    "16 bit TIFF": (tiff(DEEP), upper(DEEP)),
    "16 bit TIFF, big-endian": (tiff(DEEP, byteorder=">"), upper(DEEP)),
    "16 bit TIFF, deflated": (tiff(DEEP, compression="zlib", predictor=True), upper(DEEP)),
    "16 bit TIFF, deflated, big-endian": (tiff(DEEP, compression="zlib", byteorder=">"), upper(DEEP)),
    "16 bit TIFF, white is 0": (tiff(DEEP, photometric="miniswhite"), upper(65535 - DEEP)),
    "16 bit PGM": (b"P5 16 12 65535 " + DEEP.astype(">u2").tobytes(), upper(DEEP)),
    "16 bits in 32, TIFF": (tiff(DEEP.astype(np.int32)), upper(DEEP)),
    "16 bits with a sign, TIFF": (tiff((DEEP >> 1).astype(np.int16)), upper(DEEP >> 1, 15)),
    "dark 16 bit TIFF": (tiff(DEEP >> 6), upper(DEEP >> 6)),  # its brightest value is no reason to scale it
    "12 bit TIFF": (packed_12(TWELVE), upper(TWELVE, 12)),
    "12 of 16 bits TIFF": (tiff(TWELVE, extratags=stating(4095)), upper(TWELVE, 12)),
    "10 of 16 bits TIFF": (tiff(DEEP >> 6, extratags=stating(1023), byteorder=">"), upper(DEEP >> 6, 10)),
    "white is 0, 12 of 16 bits": (
        tiff(TWELVE, extratags=stating(4095), photometric="miniswhite"),
        upper(4095 - TWELVE, 12),
    ),
    "brightest value of a TIFF": (tiff(DEEP >> 4, extratags=stating(3021)), upper(DEEP >> 4)),
    "12 of 16 bits PNG": (with_chunk(saved(TWELVE << 4, "PNG"), b"sBIT", b"\x0c"), upper(TWELVE << 4)),
    "12 bit PGM": (
        b"P5 16 12 4095 " + TWELVE.astype(">u2").tobytes(),
        np.dstack([(np.round(TWELVE / 4095 * 65535) // 256).astype(np.uint8)] * 3),
    ),
    "16 bit RGB PNG": (cv2_png(DEEP_RGB[:, :, ::-1]), upper(DEEP_RGB)),
    "16 bit RGBA PNG": (cv2_png(np.dstack([DEEP_RGB[:, :, ::-1], DEEP])), upper(DEEP_RGB)),
    "16 bit RGB TIFF": (tiff(DEEP_RGB, photometric="rgb"), upper(DEEP_RGB)),
    "16 bit RGB TIFF, big-endian": (tiff(DEEP_RGB, photometric="rgb", byteorder=">"), upper(DEEP_RGB)),
    "16 bit RGB TIFF, deflated": (tiff(DEEP_RGB, photometric="rgb", compression="zlib"), upper(DEEP_RGB)),
    "16 bit RGB TIFF, stated": (tiff(DEEP_RGB, photometric="rgb", extratags=stating(65535, 3)), upper(DEEP_RGB)),
    "planes of an RGB TIFF": (tiff(np.moveaxis(RGB, -1, 0), photometric="rgb", planarconfig="separate"), RGB),
}


@pytest.mark.parametrize("kind", DECODED)
def test_a_file_becomes_these_pixels(tmp_path: Path, kind: str) -> None:
    data, expected = DECODED[kind]
    file = tmp_path / "image"
    file.write_bytes(data)
    image = open_image(file)
    assert image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(image), expected)
    assert upright_size(file) == image.size
    np.testing.assert_array_equal(np.asarray(open_image(data)), expected)


@pytest.mark.parametrize("adobe", [True, False])
def test_a_cmyk_jpeg_is_read_as_adobe_writes_it(adobe: bool) -> None:
    data = saved(Image.new("CMYK", (16, 12), (0, 200, 40, 51)), "JPEG", quality=95)
    start = data.index(b"\xff\xeeAdobe"[:2])
    if not adobe:
        data = data[:start] + data[start + 2 + int.from_bytes(data[start + 2 : start + 4], "big") :]
    expected = [round((255 - ink) * (255 - 51) / 255) for ink in (0, 200, 40)]
    assert np.abs(np.asarray(open_image(data)).astype(int) - expected).max() <= 2


def damaged(data: bytes, name: bytes) -> bytes:
    """16 wrong bytes behind `name`: AV1's headers are there. It has no checksum, and is not sure to notice others."""
    start = data.index(name) + len(name)
    return data[:start] + b"\xff" * 16 + data[start + 16 :]


NOISE = np.random.default_rng(5).integers(0, 256, (200, 200, 3), dtype=np.uint8)
BOMB = saved(Image.new("1", (10000, 9000)), "PNG")
PLANES = np.moveaxis(DEEP_RGB, -1, 0)
REFUSED: dict[str, tuple[bytes, str, str]] = {
    "nothing": (b"", "empty_file", "0 bytes"),
    "a page": (b"<html>404</html>", "unreadable", "not one of JPEG, PNG"),
    "EPS": (saved(RGB, "EPS"), "unreadable", "not one of JPEG, PNG"),  # would start Ghostscript
    "a bomb": (BOMB, "too_large", "10000.*9000|90000000"),
    "a large bomb": (saved(Image.new("1", (20000, 10000)), "PNG"), "too_large", "200000000"),
    **{
        f"cut {kind}": (saved(NOISE, kind)[:12000], "unreadable", "truncated|not create|not one of") for kind in FORMATS
    },
    "damaged AVIF": (damaged(saved(NOISE, "AVIF"), b"mdat"), "unreadable", "Failed to decode"),  # a RuntimeError
    "float TIFF": (tiff(DEEP.astype(np.float32)), "unreadable", "floating-point pixels; expected whole numbers"),
    "float TIFF in 0 to 1": (tiff((GREY / 255).astype(np.float32)), "unreadable", "floating-point pixels; expected"),
    "8 bits with a sign TIFF": (tiff(GREY.astype(np.int8)), "unreadable", "8 bits with a sign"),
    "double TIFF": (tiff(GREY.astype(np.float64)), "unreadable", "of a kind that is not read"),
    "negative TIFF": (tiff(-DEEP.astype(np.int32)), "unreadable", "pixel values from -.*; expected 0 to 65535"),
    "32 bit TIFF": (tiff(DEEP.astype(np.int32) * 2), "unreadable", "pixel values from .*; expected 0 to 65535"),
    "TIFF above its MaxSampleValue": (tiff(DEEP, extratags=stating(4095)), "unreadable", "expected 0 to 4095"),
    "16 bit planes": (tiff(PLANES, photometric="rgb", planarconfig="separate"), "unreadable", "expected them interl"),
    "12 of 16 bits RGB": (tiff(DEEP_RGB >> 4, photometric="rgb", extratags=stating(4095, 3)), "unreadable", "12 sig"),
}


def png(pixels: np.ndarray, rows: int, interlaced: bool = False) -> bytes:
    """A sound PNG of which the data has so many rows; of an interlaced one, of the last pass."""
    lines = [pixels[top::down, left::across] for top, left, down, across in PASSES] if interlaced else [pixels]
    lines[-1] = lines[-1][:rows]
    data = b"".join(b"\0" + row.tobytes() for part in lines for row in part)
    header = struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], 8, 2, 0, 0, interlaced)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b"")]
    chunks = (struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts)
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("missing", [1, 5])
def test_a_png_whose_rows_end_early_is_refused(interlaced: bool, missing: int) -> None:
    for pixels in (RGB, np.zeros_like(RGB)):
        rows = len(pixels) // 2 if interlaced else len(pixels)
        np.testing.assert_array_equal(np.asarray(open_image(png(pixels, rows, interlaced))), pixels)
        for max_side in (None, 8):
            with pytest.raises(ImageFileError, match=r"its pixel data ends after \d+ of \d+ bytes") as error:
                decode_image(png(pixels, rows - missing, interlaced), max_side)
            assert error.value.rule == "unreadable"


SPOILT: dict[str, Callable[[bytes], bytes]] = {
    "ends early": lambda data: data[: len(data) * 2 // 3] + b"\xff\xd9",
    "zeros": lambda data: data[: len(data) // 2] + bytes(300) + data[len(data) // 2 + 300 :],
    "a hole": lambda data: data[: len(data) // 2] + data[len(data) // 2 + 300 :],
}


@pytest.mark.parametrize("spoil", SPOILT)
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": "4:4:4"}, {"mode": "L"}])
def test_a_jpeg_with_spoilt_data_is_refused_where_images_are_met_first(options: dict[str, object], spoil: str) -> None:
    given = dict(options)
    image = Image.fromarray(RGB).resize((200, 150), Image.Resampling.BICUBIC).convert(str(given.pop("mode", "RGB")))
    exif = b"Exif\0\0II*\0\x08\0\0\0\x01\x00" + struct.pack("<HHII", 0x010F, 2, 4000, 500) + bytes(4)
    whole = saved(image, "JPEG", exif=exif, **given)
    assert decode_image(whole, whole=True).image.size == (200, 150)
    assert decode_image(whole + b"more", max_side=50, whole=True).image.size == (50, 38)
    with pytest.raises(ImageFileError, match="its pixel data is damaged") as error:
        decode_image(SPOILT[spoil](whole), whole=True)
    assert error.value.rule == "unreadable"


def test_a_jpeg_that_ffmpeg_may_not_read_is_not_held_against_it() -> None:
    for kind in ("MPO", "JPEG"):
        assert decode_image(saved(RGB, kind), whole=True).image.mode == "RGB"
    assert decode_image(saved(Image.fromarray(INK, "CMYK"), "JPEG"), whole=True).image.mode == "RGB"


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", REFUSED)
def test_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    data, rule, found = REFUSED[kind]
    file = tmp_path / "image.jpg"
    file.write_bytes(data)
    with pytest.raises(ImageFileError, match=found) as error:
        open_image(file)
    assert error.value.rule == rule
    assert str(error.value) == f"{file}: not an image that decodes: {error.value.found}"
    assert str(tmp_path) not in error.value.found
    with pytest.raises(ImageFileError, match=found) as error:
        open_image(data)
    assert error.value.rule == rule


@pytest.mark.parametrize(
    ("size", "options", "expected", "untouched"),
    [
        ((40, 30), {}, (40, 30), True),
        ((100, 50), {}, (100, 50), True),
        ((101, 50), {}, (100, 50), False),
        ((1000, 500), {}, (100, 50), False),
        ((500, 1000), {}, (50, 100), False),
        ((1000, 2), {}, (100, 1), False),
        ((40, 30), {"progressive": True}, (40, 30), False),
    ],
)
def test_an_image_is_scaled_down_and_never_up(
    size: tuple[int, int], options: dict[str, bool], expected: tuple[int, int], untouched: bool
) -> None:
    pixels = Image.fromarray(RGB).resize(size, Image.Resampling.BICUBIC)
    found = decode_image(saved(pixels, "JPEG", quality=95, **options), max_side=100)
    assert (found.image.size, found.size, found.untouched) == (expected, size, untouched)


@pytest.mark.parametrize("kind", [kind for kind in DECODED if kind != "JPEG"])
def test_only_a_baseline_jpeg_is_untouched(kind: str) -> None:
    assert not decode_image(DECODED[kind][0]).untouched


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    for path in (tmp_path / "gone.png", tmp_path):
        with pytest.raises(InputError, match=f"{path.name}: no such file") as error:
            open_image(str(path))
        assert error.value.rule == "missing_file"
        with pytest.raises(InputError, match="no such file"):
            upright_size(path)


def deep_tiff(orientation: int) -> bytes:
    return tiff(DEEP, extratags=[(ORIENTATION, 3, 1, orientation, True)])


def colour_tiff(orientation: int) -> bytes:
    return tiff(RGB, photometric="rgb", compression="zlib", extratags=[(ORIENTATION, 3, 1, orientation, True)])


def grey_tiff(orientation: int) -> bytes:
    return tiff(GREY, extratags=[(ORIENTATION, 3, 1, orientation, True)])


def by_exif(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> Callable[[int], bytes]:
    def make(orientation: int) -> bytes:
        exif = Image.Exif()
        exif[ORIENTATION] = orientation
        return saved(pixels, kind, exif=exif, **options)

    return make


TURNED = {
    "JPEG": by_exif(RGB, "JPEG"),
    "CMYK JPEG": by_exif(Image.fromarray(INK, "CMYK"), "JPEG"),
    "PNG": by_exif(RGB, "PNG"),
    "16 bit PNG": by_exif(DEEP, "PNG"),
    "palette PNG": by_exif(palette(), "PNG", transparency=1),
    "WebP": by_exif(RGB, "WEBP", lossless=True),
    "AVIF": by_exif(RGB, "AVIF"),
    "TIFF": colour_tiff,
    "grey TIFF": grey_tiff,
    "16 bit TIFF": deep_tiff,
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", TURNED)
def test_an_image_is_turned_upright_once(tmp_path: Path, kind: str, orientation: int) -> None:
    file = tmp_path / "image"
    file.write_bytes(TURNED[kind](1))
    flat = np.asarray(open_image(file))
    tagged = Image.fromarray(flat)
    tagged.getexif()[ORIENTATION] = orientation
    expected = ImageOps.exif_transpose(tagged)
    file.write_bytes(TURNED[kind](orientation))
    decoded = decode_image(file)
    np.testing.assert_array_equal(np.asarray(decoded.image), np.asarray(expected))
    assert (decoded.orientation, decoded.size, upright_size(file)) == (orientation, expected.size, expected.size)
    assert decoded.untouched == (kind == "JPEG" and orientation == 1)
    assert decode_image(file, max_side=8).image.size == ((8, 6) if orientation < 5 else (6, 8))


def odd_exif(body: bytes) -> bytes:
    """A good JPEG with this TIFF directory as its EXIF block."""
    return saved(RGB, "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0" + body)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "data",
    [
        odd_exif(b"\x01\0" + struct.pack("<HHII", 0x010F, 2, 4000, 500) + bytes(4)),  # a name past the end
        odd_exif(b"\x01\0" + struct.pack("<HHII", ORIENTATION, 3, 1, 77) + bytes(4)),
        odd_exif(b"\x01\0" + struct.pack("<HHII", ORIENTATION, 2, 3, 0x4142) + bytes(4)),  # a text
        odd_exif(b"\x03\0" + struct.pack("<HHI", ORIENTATION, 3, 1)),  # cut short
        odd_exif(b"\x01\0" + struct.pack("<HHII", 0x0110, 3, 2, 1) + bytes(4)),  # too many entries
    ],
)
def test_a_good_jpeg_with_odd_exif_is_kept(data: bytes) -> None:
    decoded = decode_image(data)
    assert (decoded.orientation, decoded.untouched) == (1, True)
    np.testing.assert_array_equal(np.asarray(decoded.image), read_jpeg(saved(RGB, "JPEG")))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_a_good_image_with_any_damaged_exif_is_kept(kind: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION], exif[0x010F], exif[0x011A] = 6, "a maker's name", 1.5
    exif.get_ifd(0x8769)[0x9003] = "2020:01:01"
    drawn, block = random.Random(kind), exif.tobytes()
    for _ in range(100):
        damaged = bytearray(block[: drawn.randrange(20, len(block))] if drawn.random() < 0.3 else block)
        for _ in range(drawn.randint(1, 12)):
            damaged[drawn.randrange(6, len(damaged))] = drawn.choice([0, 255, drawn.randrange(256)])
        assert decode_image(saved(RGB, kind, exif=bytes(damaged)), whole=True).image.mode == "RGB"


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_so_is_another_image_with_exif_that_is_none(kind: str) -> None:
    whole = with_chunk(saved(RGB, "PNG"), b"eXIf", b"garbage") if kind == "PNG" else saved(RGB, kind, exif=b"garbage")
    assert decode_image(whole).orientation == 1


def test_a_tiff_that_xmp_turns_has_the_size_that_is_seen(tmp_path: Path) -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a xmlns:tiff="t" tiff:Orientation="6"/></x:xmpmeta>'
    (tmp_path / "a.tif").write_bytes(tiff(RGB, photometric="rgb", extratags=[(700, 1, len(xmp), xmp, True)]))
    decoded = decode_image(tmp_path / "a.tif")
    assert decoded.image.size == decoded.size == upright_size(tmp_path / "a.tif") == RGB.shape[:2]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", FORMATS)
def test_whatever_is_damaged_is_one_kind_of_error(kind: str) -> None:
    drawn, whole = random.Random(kind), bytearray(saved(NOISE[:40, :40], kind))
    refused = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(drawn.randint(1, 8)):
            damaged[drawn.randrange(len(damaged) if drawn.random() < 0.5 else 64)] = drawn.randrange(256)
        try:
            assert open_image(bytes(damaged)).mode == "RGB"
        except ImageFileError as error:
            assert error.rule in ("unreadable", "too_large")
            refused += 1
    assert refused > 0


def test_decoding_in_threads_leaves_the_filter_of_warnings_alone() -> None:
    before = list(warnings.filters)
    threads = [threading.Thread(target=lambda: [open_image(DECODED["JPEG"][0]) for _ in range(50)]) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(warnings.filters) == before

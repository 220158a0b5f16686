"""The one decoder of image files: ingest, training, prediction, serving and every report read images by it.

An image is upright RGB of 8 bits a channel, whatever the file holds:

- the first frame of several; turned upright by its EXIF orientation; alpha and transparency are left out, so the
  colour below is seen; CMYK as Pillow converts it, with the inverted values that Adobe writes into a JPEG
- of more than 8 significant bits the upper 8. All 16 are significant unless a TIFF says otherwise, by a BitsPerSample
  of 12 or a MaxSampleValue of 2^n - 1 (another one is the brightest value of that image and says nothing of others).
  PNG's sBIT does not: by that standard values are scaled to the full range. The scale never
  depends on how bright the image is: each frame of a clip would have another.
- refused are floating-point pixels, which have no agreed range, and what Pillow would decode wrongly

Python's warnings are not made errors here: their filter belongs to the process, and images are decoded in threads.
Pillow's warnings are about metadata, or about the number of pixels, which is checked below.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, PHOTOMETRIC_INTERPRETATION, PLANAR_CONFIGURATION, TiffImageFile

from pipeline.core.boundary import of_the_machine
from pipeline.core.errors import InputError
from pipeline.core.image_data import jpeg_fault, png_fault

FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "AVIF", "PPM")  # no format that starts other programs
MOST_PIXELS = 1024**3 // 4 // 3  # what Pillow warns at; more is a decompression bomb
# one block of an image that is gone, at most 16 MB, is kept for the next: each page of a new one is a fault, which all
# take longer than decoding a frame. PILLOW_BLOCKS_MAX is Pillow's own word for it
if "PILLOW_BLOCKS_MAX" not in os.environ:
    Image.core.set_blocks_max(1)
ORIENTATION = 0x0112  # EXIF
MAX_SAMPLE_VALUE, SAMPLE_FORMAT, SIGNED = 281, 339, 2  # TIFF
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # what undoes an EXIF orientation


class ImageFileError(InputError):
    """A file that is not a usable image: `rule` is the ledger's (missing_file, empty_file, unreadable, too_large),
    `found` what was found without the file's name, which the message begins with.
    """

    def __init__(self, source: Path | str | bytes, rule: str, found: str):
        named = "" if isinstance(source, bytes) else f"{source}: "
        super().__init__(f"{named}{found if rule == 'missing_file' else f'not an image that decodes: {found}'}")
        self.rule, self.found, self._source = rule, found, source

    def __reduce__(self) -> tuple[type, tuple[Path | str | bytes, str, str]]:
        """As it passes from one process to another: an exception's own way keeps the message alone."""
        source = b"" if isinstance(self._source, bytes) else self._source
        return type(self), (source, self.rule, self.found)


@dataclass(slots=True)
class DecodedImage:
    """An upright RGB `image`; `size` (width, height) before it was scaled down, `orientation` the EXIF one, undone.

    `untouched`: the file holds just this image as a baseline JPEG, so its bytes can be taken.
    """

    image: Image.Image
    size: tuple[int, int]
    orientation: int
    untouched: bool


def open_image(source: Path | str | bytes) -> Image.Image:
    """The upright RGB image of a file, or of a file's bytes. Raises ImageFileError if it does not decode whole.

    >>> buffer = BytesIO()
    >>> Image.new("L", (4, 2), color=200).save(buffer, "PNG")
    >>> image = open_image(buffer.getvalue())
    >>> image.mode, image.size, image.getpixel((0, 0))
    ('RGB', (4, 2), (200, 200, 200))
    """
    return decode_image(source).image


def decode_image(source: Path | str | bytes, max_side: int | None = None, whole: bool = False) -> DecodedImage:
    """Decode the whole file, strictly; neither side is longer than `max_side` pixels then (None: as it is).

    With `whole`, a JPEG whose codes are damaged is no image either. That costs half as much again, and is for where
    images are met first: `ingest`. Raises ImageFileError.

    >>> buffer = BytesIO()
    >>> Image.new("RGB", (40, 20)).save(buffer, "JPEG")
    >>> decoded = decode_image(buffer.getvalue(), max_side=10)
    >>> decoded.image.size, decoded.size, decoded.untouched
    ((10, 5), (40, 20), False)
    """
    try:
        with _opened(source) as file, Image.open(file, formats=_formats()) as image:
            _check_pixels(image)
            fault = jpeg_fault if whole and image.format in ("JPEG", "MPO") else None
            if image.format == "PNG" and _ends_empty(image):
                fault = png_fault
            decoded = _decode(image, max_side)
            if fault:
                _check_data(file, fault)
            return decoded
    except Exception as error:  # a damaged file makes Pillow's decoders raise almost anything
        if of_the_machine(error):
            raise
        raise _refused(source, error) from None


def upright_size(file: Path | str) -> tuple[int, int]:
    """Width and height in pixels as the image is seen, from its header. Raises ImageFileError.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("L", (4, 2)).save(f"{folder}/image.png")
    ...     upright_size(f"{folder}/image.png")
    (4, 2)
    """
    try:
        with _opened(file) as opened, Image.open(opened, formats=_formats()) as image:
            _check_pixels(image)  # of a PNG the orientation may stand behind the pixels
            return _upright_size(image, _orientation(image))
    except Exception as error:  # as in decode_image
        if of_the_machine(error):
            raise
        raise _refused(file, error) from None


def stored_pixels(source: Path | str | bytes) -> int:
    """Width times height as the header states them, before anything is decoded. Raises ImageFileError.

    >>> buffer = BytesIO()
    >>> Image.new("L", (4, 2)).save(buffer, "PNG")
    >>> stored_pixels(buffer.getvalue())
    8
    """
    try:
        with _opened(source) as opened, Image.open(opened, formats=_formats()) as image:
            return image.width * image.height
    except Exception as error:  # as in decode_image
        if of_the_machine(error):
            raise
        raise _refused(source, error) from None


def _opened(source: Path | str | bytes) -> IO[bytes]:
    """Never a path: of a path Pillow maps some TIFFs into memory, and those that it also turns come out garbled."""
    if isinstance(source, bytes):
        empty = not source
    elif Path(source).is_file():
        empty = Path(source).stat().st_size == 0
    else:
        raise ImageFileError(source, "missing_file", "no such file")
    if empty:
        raise ImageFileError(source, "empty_file", "0 bytes")
    return BytesIO(source) if isinstance(source, bytes) else Path(source).open("rb")


def _formats() -> list[str]:
    Image.init()
    return [name for name in FORMATS if name in Image.OPEN]  # a Pillow may be built without AVIF or WebP


def _refused(source: Path | str | bytes, error: Exception) -> ImageFileError:
    if isinstance(error, ImageFileError):
        return error
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return ImageFileError(source, "too_large", str(error))
    if isinstance(error, UnidentifiedImageError):
        return ImageFileError(source, "unreadable", f"not one of {', '.join(FORMATS)}, or of a kind that is not read")
    found = str(error) or type(error).__name__
    if not isinstance(source, bytes):
        found = found.replace(str(source), Path(source).name)
    return ImageFileError(source, "unreadable", found)


def _check_pixels(image: Image.Image) -> None:
    if image.width * image.height > MOST_PIXELS:
        raise Image.DecompressionBombError(
            f"{image.width} x {image.height} pixels, could be a decompression bomb; expected at most {MOST_PIXELS}"
        )


def _check_data(file: IO[bytes], fault: Callable[[bytes], str | None]) -> None:
    file.seek(0)
    if found := fault(file.read()):
        raise ValueError(found)


def _decode(opened: Image.Image, max_side: int | None) -> DecodedImage:
    image, kind, stored = opened, opened.format, opened.size
    orientation = _orientation(image)
    size = _upright_size(image, orientation)
    plain = kind == "JPEG" and image.mode == "RGB" and not image.info.get("progressive")
    if image.mode not in ("RGB", "L") or kind == "TIFF":
        image = _rgb(image)
    if max_side is not None:
        # a large JPEG is decoded at a half, a quarter or an eighth of its size, which is much faster
        image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    image.load()
    scaled = image.size != stored
    if orientation in TURNS and kind != "TIFF":
        image = image.transpose(TURNS[orientation])
    return DecodedImage(image.convert("RGB"), size, orientation, plain and not scaled and orientation == 1)


def _ends_empty(image: Image.Image) -> bool:
    """Whether one of the last two rows is nothing but zeros, as they are too where the data ends before them: of an
    interlaced image every other one comes last.
    """
    rows = np.asarray(image.crop((0, max(0, image.height - 2), image.width, image.height)))
    return not rows.reshape(len(rows), -1).any(axis=1).all()


def _orientation(image: Image.Image) -> int:
    """1 to 8; 1 where the file has none, an unknown one, or EXIF that cannot be read."""
    if image.format == "PNG":
        image.load()  # as getexif does; damaged pixels are not to pass for damaged EXIF below
    try:
        found = image.getexif().get(ORIENTATION, 1)
        return int(found) if found in TURNS else 1
    except Exception:  # noqa: BLE001  a damaged block makes Pillow raise almost anything, and the image is good
        return 1


def _upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    """Pillow itself turns a TIFF, and gives the size after that where it is TIFF's own tag that says so (not XMP)."""
    given = isinstance(image, TiffImageFile) and image.tag_v2.get(ORIENTATION, 1) != 1
    turned = orientation >= 5 and not given
    return (image.height, image.width) if turned else (image.width, image.height)


def _rgb(image: Image.Image) -> Image.Image:
    """RGB of any mode."""
    if image.mode.startswith("I"):
        return _upper_bits(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels; expected whole numbers of 8 or 16 bits a channel")
    if isinstance(image, TiffImageFile):
        _check_channels(image)
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    return image.convert("RGB")


def _upper_bits(image: Image.Image) -> Image.Image:
    """The upper 8 of the significant bits of a grey image. Pillow's own conversion cuts values off at 255."""
    bits = _significant_bits(image)
    values, most = np.asarray(image), 2**bits - 1
    if values.min() < 0 or values.max() > most:
        raise ValueError(f"pixel values from {values.min()} to {values.max()}; expected 0 to {most}")
    if isinstance(image, TiffImageFile) and image.tag_v2.get(PHOTOMETRIC_INTERPRETATION) == 0:
        values = most - values  # 0 is white; Pillow heeds that for 8 bits only
    return Image.fromarray((values >> (bits - 8)).astype(np.uint8))


def _significant_bits(image: Image.Image) -> int:
    """Of a channel, 8 to 16, as the file states them."""
    if not isinstance(image, TiffImageFile):
        return 16
    stored = min(16, max(_numbers(image, BITSPERSAMPLE)))  # 32 are taken for a wide 16
    if stored == max(_numbers(image, BITSPERSAMPLE)) and SIGNED in _numbers(image, SAMPLE_FORMAT):
        stored -= 1
    stated = {2**n - 1: n for n in range(8, stored)}
    return max((stated.get(most, stored) for most in _numbers(image, MAX_SAMPLE_VALUE)), default=stored)


def _check_channels(image: TiffImageFile) -> None:
    """Raises ValueError for a TIFF of 16 bits a channel whose upper bytes are not the image, or of 8 with a sign."""
    if max(_numbers(image, BITSPERSAMPLE), default=1) <= 8:
        if SIGNED in _numbers(image, SAMPLE_FORMAT):
            raise ValueError("pixels of 8 bits with a sign; expected them without")
        return
    if image.tag_v2.get(PLANAR_CONFIGURATION) == 2:
        raise ValueError("16 bits a channel, each channel in a plane of its own; expected them interleaved")
    if (bits := _significant_bits(image)) < 16:
        raise ValueError(f"colour of {bits} significant bits in 16 (its MaxSampleValue); expected all 16")


def _numbers(image: TiffImageFile, tag: int) -> tuple[int, ...]:
    found = image.tag_v2.get(tag, ())
    return tuple(found) if isinstance(found, tuple) else (found,)

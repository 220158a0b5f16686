"""Whether the pixels of a PNG or JPEG file are all there, where Pillow fills in what is missing and says nothing."""

import struct
import zlib
from collections.abc import Iterator

CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by PNG's colour type
# first row and column, and the steps to the next, of the seven passes of an interlaced PNG
PASSES = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
START_OF_SCAN = 0xDA
FRAMES = (0xC0, 0xC1, 0xC2)  # JPEG's baseline, extended and progressive; FFmpeg does not read every other
TABLES = (0xC4, 0xC8, 0xCC)  # among the numbers of frames
ADOBE = 0xEE  # what the colours mean; other such segments are metadata


def png_fault(data: bytes) -> str | None:
    """What is wrong with the pixels of a PNG file whose chunks are sound: fewer rows than its header says.

    >>> import zlib
    >>> def chunk(name, content):
    ...     return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    >>> header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 8, 0, 0, 0, 0))
    >>> png_fault(bytes(8) + header + chunk(b"IDAT", zlib.compress(bytes(5))))
    'its pixel data ends after 5 of 10 bytes'
    """
    packed = []
    expected = 0
    for name, content in _chunks(data):
        if name == b"IHDR":
            width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", content[:13])
            passes = PASSES if interlaced else ((0, 0, 1, 1),)
            for top, left, down, across in passes:
                rows, columns = -(-(height - top) // down), -(-(width - left) // across)
                if rows > 0 and columns > 0:
                    expected += rows * (1 + (columns * depth * CHANNELS.get(colour, 1) + 7) // 8)
        elif name == b"IDAT":
            packed.append(content)
    found = len(zlib.decompressobj().decompress(b"".join(packed), expected or 1))
    return f"its pixel data ends after {found} of {expected} bytes" if found < expected else None


def jpeg_fault(data: bytes) -> str | None:
    """What is wrong with the pixels of a JPEG file: libjpeg, and so Pillow, takes any bytes for codes, and what it does
    not find for grey. FFmpeg does not; it is asked without the file's metadata, which may be damaged where the image is
    not.
    """
    image = _without_metadata(data)
    if image is None:
        return None
    import av  # where images were checked before, none is loaded

    codec = av.CodecContext.create("mjpeg", "r")
    assert isinstance(codec, av.VideoCodecContext)
    codec.options = {"err_detect": "explode", "lowres": "3"}  # an eighth of the size: all codes, and little else
    codec.thread_count = 1
    try:
        codec.decode(av.Packet(image))
    except av.error.InvalidDataError:
        return "its pixel data is damaged"
    except av.FFmpegError:  # of a kind that FFmpeg does not read
        return None
    return None


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    place = 8
    while place + 8 <= len(data):
        length, name = struct.unpack(">I4s", data[place : place + 8])
        yield name, data[place + 8 : place + 8 + length]
        place += 12 + length


def _without_metadata(data: bytes) -> bytes | None:
    """The first image of a JPEG file; None if it is of a kind that FFmpeg may not read, or has no scan."""
    kept = [data[:2]]
    place = 2
    while place + 4 <= len(data):
        if data[place] != 0xFF:
            return None
        marker = data[place + 1]
        if marker == 0xFF:  # a fill byte
            place += 1
            continue
        end = place + 2 + int.from_bytes(data[place + 2 : place + 4])
        if marker == START_OF_SCAN:
            return b"".join([*kept, data[place:]])
        of_frame = 0xC0 <= marker <= 0xCF and marker not in TABLES
        if of_frame and (marker not in FRAMES or data[place + 4] != 8):
            return None
        if marker < 0xE0 or marker == ADOBE:
            kept.append(data[place:end])
        place = end
    return None

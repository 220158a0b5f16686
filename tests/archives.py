"""Archives as tests need them: small, and with what an archive should not have in it."""

import binascii
import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

LINK = 0o120777 << 16


def zipped(path: Path, files: Mapping[str, bytes], links: tuple[str, ...] = ()) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for name, content in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = LINK if name in links else 0o644 << 16
            out.writestr(info, content)
    return path


def with_flags(path: Path, flags: int = 0, method: int | None = None) -> Path:
    """The zip at `path` with `flags` of its files set, and their `method` of compression another one."""
    content = bytearray(path.read_bytes())
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(mark)
        while start >= 0:
            content[start + at] |= flags
            if method is not None:
                content[start + at + 2] = method
            start = content.find(mark, start + 4)
    path.write_bytes(content)
    return path


def tarred(path: Path, files: Mapping[str, bytes], links: Mapping[str, str] | None = None, mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as out:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            out.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, target
            out.addfile(info)
    return path


def rarred(
    path: Path, files: Mapping[str, bytes], links: tuple[str, ...] = (), flags: int = 0, file_flags: int = 0
) -> Path:
    """RAR 4 with files stored as they are: the mark, an archive's header, a header and the bytes of each, an end."""
    parts = [b"Rar!\x1a\x07\x00", _header(0x73, flags, b"\0" * 6)]
    for name, content in files.items():
        fields = struct.pack(
            "<IIBIIBBHI",
            *(len(content), len(content), 3, binascii.crc32(content), 0x5A21_0000, 20, 0x30, len(name.encode())),
            LINK >> 16 if name in links else 0o100644,
        )
        parts += [_header(0x74, 0x8000 | file_flags, fields + name.encode()), content]
    path.write_bytes(b"".join([*parts, _header(0x7B, 0x4000, b"")]))
    return path


def _header(kind: int, flags: int, fields: bytes) -> bytes:
    body = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", binascii.crc32(body) & 0xFFFF) + body


def headed(path: Path, *headers: tuple[bytes, int, bytes]) -> Path:
    """A tar.gz of a header of each (type, size in bytes that it states, what follows it), and of a file 1.jpg."""
    with gzip.open(path, "wb") as out:
        for kind, size, content in (*headers, (tarfile.REGTYPE, 0, b"")):
            info = tarfile.TarInfo("1.jpg")
            info.type, info.size = kind, size
            out.write(info.tobuf(tarfile.GNU_FORMAT))
            out.write(content + bytes(-len(content) % tarfile.BLOCKSIZE))
        out.write(bytes(2 * tarfile.BLOCKSIZE))
    return path

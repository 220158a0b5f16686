"""ExecuTorch's files in words and back, by the schemas and the flatc that come with it.

A .pte: the program (a flatbuffer with an extended header at byte 8), then segments, among them what each delegate runs.
XNNPACK's: a header, the graph (a flatbuffer), constants. Floats that stand in words have six decimals.
"""

import json
import re
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

XNNPACK = "XnnpackBackend"
PROGRAM, GRAPH = "schema/program.fbs", "backends/xnnpack/serialization/schema.fbs"
ALIGNED = 16  # bytes
JsonObject = dict[str, Any]


class Pte(NamedTuple):
    program: JsonObject
    segments: bytes  # all, one after the other
    header_bytes: int  # of the extended header


def read_pte(path: Path) -> Pte:
    content = path.read_bytes()
    length, start = (int.from_bytes(content[i:j], "little") for i, j in ((12, 16), (24, 32)))
    return Pte(_in_words(content, PROGRAM), content[start:], length)


def write_pte(pte: Pte, path: Path) -> None:
    plain = _in_bytes(pte.program, PROGRAM)
    header = -(-pte.header_bytes // ALIGNED) * ALIGNED
    # the root's place is counted from the start of the file, which grows by the header
    root = (int.from_bytes(plain[:4], "little") + header).to_bytes(4, "little")
    size = len(plain) + header
    segments = -(-size // ALIGNED) * ALIGNED
    numbers = b"".join(n.to_bytes(8, "little") for n in (size, segments, len(pte.segments)))
    extended = b"eh00" + pte.header_bytes.to_bytes(4, "little") + numbers
    path.write_bytes(_padded(root + plain[4:8] + extended[: pte.header_bytes].ljust(header, b"\0") + plain[8:]))
    with path.open("ab") as file:
        file.write(pte.segments)


def read_graph(pte: Pte, delegate: JsonObject) -> JsonObject:
    """The graph of a `delegate` to XNNPACK."""
    part = _part(pte, delegate)
    start, length = _place(part)
    return _in_words(part[start : start + length], GRAPH)


def with_graph(pte: Pte, delegate: JsonObject, graph: JsonObject) -> Pte:
    """The same file with `graph` in place of what the `delegate` of its program runs, as a new last segment."""
    part = _part(pte, delegate)
    start, _ = _place(part)
    constants, count = int.from_bytes(part[18:22], "little"), int.from_bytes(part[22:30], "little")
    plain = _in_bytes(graph, GRAPH)
    place = start + len(_padded(plain))
    header = part[:14] + len(plain).to_bytes(4, "little") + place.to_bytes(4, "little") + part[22:start]
    new = header + _padded(plain) + part[constants : constants + count]
    before = _padded(pte.segments)
    pte.program["segments"][delegate["processed"]["index"]] |= {"offset": len(before), "size": len(new)}
    return pte._replace(segments=before + new)


def _part(pte: Pte, delegate: JsonObject) -> bytes:
    segment = pte.program["segments"][delegate["processed"]["index"]]
    return pte.segments[segment["offset"] : segment["offset"] + segment["size"]]


def _place(part: bytes) -> tuple[int, int]:
    """Where the graph starts and how long it is: after 4 zeros, "XH00" and the header's length in 2 bytes."""
    return int.from_bytes(part[10:14], "little"), int.from_bytes(part[14:18], "little")


def _padded(content: bytes) -> bytes:
    return content + b"\0" * (-len(content) % ALIGNED)


def _in_words(content: bytes, schema: str) -> JsonObject:
    text = _flatc(content, "one.bin", ["--json", "--strict-json", "--defaults-json", "--raw-binary"], schema)
    words: JsonObject = json.loads(re.sub(r": \+?(-?)inf\b", r": \1Infinity", text.decode()))
    return words


def _in_bytes(words: JsonObject, schema: str) -> bytes:
    text = re.sub(r": (-?)Infinity\b", r": \1inf", json.dumps(words))
    return _flatc(text.encode(), "one.json", ["--binary"], schema)


def _flatc(content: bytes, name: str, options: list[str], schema: str) -> bytes:
    root = files("executorch")
    with (
        as_file(root / "data" / "bin" / "flatc") as flatc,
        as_file(root / schema) as described,
        tempfile.TemporaryDirectory() as folder,
    ):
        (Path(folder) / name).write_bytes(content)
        separator = ["--"] if name.endswith(".bin") else []  # flatc takes the arguments after it as binary files
        command = [str(flatc), *options, "-o", f"{folder}/out", str(described), *separator, f"{folder}/{name}"]
        subprocess.run(command, check=True, capture_output=True)
        (made,) = Path(folder, "out").iterdir()
        return made.read_bytes()

"""ExecuTorch's files in words, by the schemas and the flatc that come with it.

A .pte: the program (a flatbuffer with an extended header at byte 8), then segments, among them what each delegate runs.
XNNPACK's: a header, the graph (a flatbuffer), constants.
"""

import json
import re
import subprocess
import tempfile
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.core.errors import InputError

XNNPACK = "XnnpackBackend"
PROGRAM, GRAPH = "schema/program.fbs", "backends/xnnpack/serialization/schema.fbs"
JsonObject = dict[str, Any]


class Pte(NamedTuple):
    program: JsonObject
    segments: bytes  # all, one after the other


def read_pte(path: Path) -> Pte:
    """Raises InputError if the file is cut short."""
    content = path.read_bytes()
    program, start = (int.from_bytes(content[i : i + 8], "little") for i in (16, 24))
    _check_whole(path, content, max(32, program))  # as long as its header says
    pte = Pte(_in_words(content, PROGRAM), content[start:])
    for segment in pte.program.get("segments", []):
        _check_whole(path, content, start + segment["offset"] + segment["size"])
    return pte


def _check_whole(path: Path, content: bytes, expected: int) -> None:
    if len(content) < expected:
        found = f"found {len(content)} bytes, expected {expected} or more"
        raise InputError(f"{path}: not an ExecuTorch program, or one cut short: {found}")


def read_graph(pte: Pte, delegate: JsonObject) -> JsonObject:
    """The graph of a `delegate` to XNNPACK."""
    segment = pte.program["segments"][delegate["processed"]["index"]]
    part = pte.segments[segment["offset"] : segment["offset"] + segment["size"]]
    # after 4 zeros, "XH00" and the header's length in 2 bytes: where the graph starts, how long it is
    start, length = int.from_bytes(part[10:14], "little"), int.from_bytes(part[14:18], "little")
    return _in_words(part[start : start + length], GRAPH)


def _in_words(content: bytes, schema: str) -> JsonObject:
    root = files("executorch")
    with (
        as_file(root / "data" / "bin" / "flatc") as flatc,
        as_file(root / schema) as described,
        tempfile.TemporaryDirectory() as folder,
    ):
        Path(folder, "one.bin").write_bytes(content)
        options = ["--json", "--strict-json", "--defaults-json", "--raw-binary", "-o", folder]
        command = [str(flatc), *options, str(described), "--", f"{folder}/one.bin"]
        subprocess.run(command, check=True, capture_output=True)
        text = Path(folder, "one.json").read_text()
    words: JsonObject = json.loads(re.sub(r": \+?(-?)inf\b", r": \1Infinity", text))
    return words

"""What a runtime makes of a model file: which operators it runs, in which numbers, and where."""

import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, NamedTuple

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Convert")  # compute nothing
LAYERS = ("Conv", "Gemm", "MatMul", "FullyConnected")  # parts of the names of what has weights
MOVES = ("MaxPool", "Resize", "Reshape", "Transpose", "Concat", "Split", "Gather", "Squeeze", "Unsqueeze", "Slice")
XNNPACK = "XnnpackBackend"


class Operator(NamedTuple):
    kind: str
    int8: bool  # computed in 8-bit numbers
    delegated: bool  # by ExecuTorch to XNNPACK


def operators(path: Path) -> dict[str, Any]:
    """How a file is run: `operators`, how many of each kind; and shares of them (conversions of numbers do not count).

    `int8_operators` of all, `int8_layers` of those with weights, `delegated_operators` of an ExecuTorch file's in
    XNNPACK; None where there is nothing to take a share of. Of ONNX these are ONNX Runtime's after its optimizations
    for this machine.
    """
    onnx = path.suffix == ".onnx"
    found = _onnx(path) if onnx else _executorch(path)
    working = [o for o in found if o.kind not in CONVERSIONS]
    layers = [o for o in working if any(name in o.kind for name in LAYERS)]
    return {
        "operators": dict(sorted(Counter(o.kind for o in found).items())),
        "int8_operators": _share(o.int8 for o in working),
        "int8_layers": _share(o.int8 for o in layers),
        "delegated_operators": None if onnx else _share(o.delegated for o in working),
    }


def _share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return round(sum(values) / len(values), 4) if values else None


def _onnx(path: Path) -> list[Operator]:
    import onnx
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
        onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    bytewise: set[str] = set()
    found = []
    for node in graph.node:
        moved = node.op_type in MOVES and node.input[0] in bytewise
        int8 = moved or node.op_type.startswith(("QLinear", "QGemm", "QuantizeLinear"))
        if int8:
            bytewise.update(node.output)
        found.append(Operator(node.op_type, int8, delegated=False))
    return found


def _executorch(path: Path) -> list[Operator]:
    """The program's own calls and, for a call of XNNPACK, what stands in XNNPACK's part of the file."""
    found = []
    for plan in read_program(path)["execution_plan"]:
        kernels = [str(row["name"]).split("::")[-1] for row in plan["operators"]]
        for step in (step for chain in plan["chains"] for step in chain["instructions"]):
            call = step["instr_args"]
            if step["instr_args_type"] == "KernelCall":
                found.append(Operator(kernels[call["op_index"]], int8=False, delegated=False))
            elif step["instr_args_type"] == "DelegateCall":
                delegate = plan["delegates"][call["delegate_index"]]
                found += _xnnpack(path, delegate) if delegate["id"] == XNNPACK else []
    return found


def _xnnpack(path: Path, delegate: dict[str, Any]) -> list[Operator]:
    graph = read_xnnpack(path, delegate)
    int8 = set()
    for value in graph["xvalues"]:
        one = value["xvalue_union"]
        base = one.get("tensor_value", one)  # what a quantized value has around it
        if "int8" in base["datatype"]:
            int8.add(base["id_out"])
    return [
        Operator(node["xnode_union_type"].removeprefix("XNN"), node["xnode_union"]["output_id"] in int8, delegated=True)
        for node in graph["xnodes"]
    ]


def read_program(path: Path) -> dict[str, Any]:
    """The program of a .pte by ExecuTorch's schema (program.fbs)."""
    return _flatbuffer(path.read_bytes(), "schema/program.fbs")


def read_xnnpack(path: Path, delegate: dict[str, Any]) -> dict[str, Any]:
    """XNNPACK's graph (schema.fbs of ExecuTorch's backend) of a `delegate` of the program at `path`."""
    content = path.read_bytes()
    # the extended header, at byte 8: "eh00", its length, the program's, and from where on segments lie
    base = int.from_bytes(content[24:32], "little")
    program = read_program(path)
    segment = program["segments"][delegate["processed"]["index"]]
    start = base + segment["offset"]
    blob = content[start : start + segment["size"]]
    # XNNPACK's header: 4 zeros, "XH00", its length (2 bytes), where the graph begins and how long it is (4 bytes each)
    begin, length = (int.from_bytes(blob[i : i + 4], "little") for i in (10, 14))
    return _flatbuffer(blob[begin : begin + length], "backends/xnnpack/serialization/schema.fbs")


def _flatbuffer(content: bytes, schema: str) -> dict[str, Any]:
    """`content` in words, by the flatc and the schema that come with ExecuTorch."""
    with (
        as_file(files("executorch") / "data" / "bin" / "flatc") as flatc,
        as_file(files("executorch") / schema) as described,
        tempfile.TemporaryDirectory() as folder,
    ):
        (Path(folder) / "one.bin").write_bytes(content)
        options = ["--json", "--strict-json", "--defaults-json", "--raw-binary", "-o", folder]
        command = [str(flatc), *options, str(described), "--", f"{folder}/one.bin"]
        subprocess.run(command, check=True, capture_output=True)
        text = (Path(folder) / "one.json").read_text()
    found: dict[str, Any] = json.loads(re.sub(r"(?<=: )([+-]?)inf\b", r"\1Infinity", text).replace(": +", ": "))
    return found

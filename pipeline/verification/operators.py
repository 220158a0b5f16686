"""What a runtime makes of a model file: which operators it runs, in which numbers, and where."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.verification.pte import XNNPACK, read_graph, read_pte

CONVERSIONS = ("QuantizeLinear", "DequantizeLinear", "ReorderInput", "ReorderOutput", "Convert")  # compute nothing
READ = (".onnx", ".pte")  # files whose operators can be looked at
LAYERS = ("Conv", "Gemm", "MatMul", "FullyConnected")  # parts of the names of what has weights
MOVES = ("MaxPool", "Resize", "Reshape", "Transpose", "Concat", "Split", "Gather", "Squeeze", "Unsqueeze", "Slice")


class Operator(NamedTuple):
    kind: str
    int8: bool  # computed in 8-bit numbers
    delegated: bool  # by ExecuTorch to XNNPACK


def operators(path: Path) -> dict[str, Any]:
    """How a file is run: `operators`, how many of each kind; and shares of them (conversions of numbers do not count).

    `int8_operators` of all, `int8_layers` of those with weights, `delegated_operators` of an ExecuTorch file's in
    XNNPACK; None where there is nothing to take a share of. Of ONNX these are ONNX Runtime's after its optimizations
    for this machine. All are None for a file of another kind.
    """
    if path.suffix not in READ:
        return dict.fromkeys(("operators", "int8_operators", "int8_layers", "delegated_operators"))
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
    pte = read_pte(path)
    found = []
    for plan in pte.program["execution_plan"]:
        kernels = [str(row["name"]).split("::")[-1] for row in plan["operators"]]
        for step in (step for chain in plan["chains"] for step in chain["instructions"]):
            call = step["instr_args"]
            if step["instr_args_type"] == "KernelCall":
                found.append(Operator(kernels[call["op_index"]], int8=False, delegated=False))
            elif step["instr_args_type"] == "DelegateCall":
                delegate = plan["delegates"][call["delegate_index"]]
                found += _xnnpack(read_graph(pte, delegate)) if delegate["id"] == XNNPACK else []
    return found


def _xnnpack(graph: dict[str, Any]) -> list[Operator]:
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

"""What a runtime makes of a model file: which operators it runs, in which numbers, and where."""

import tempfile
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pipeline.core.lazy import load
from pipeline.runtimes.targets import Engine
from pipeline.verification.pte import XNNPACK, read_graph, read_pte

CONVERSIONS = (
    "QuantizeLinear",
    "DequantizeLinear",
    "ReorderInput",
    "ReorderOutput",
    "Convert",
    "QUANTIZE",
    "DEQUANTIZE",
)  # compute nothing
LAYERS = (
    "Conv",
    "Gemm",
    "MatMul",
    "FullyConnected",
    "CONV_2D",
    "FULLY_CONNECTED",
)  # parts of the names of what has weights
MOVES = ("MaxPool", "Resize", "Reshape", "Transpose", "Concat", "Split", "Gather", "Squeeze", "Unsqueeze", "Slice")


class Operator(NamedTuple):
    kind: str
    int8: bool  # computed in 8-bit numbers
    delegated: bool | None = None  # by ExecuTorch to XNNPACK; None where nothing is delegated


def operators(engine: Engine, path: Path) -> dict[str, Any]:
    """How a file is run: `operators`, how many of each kind; and shares of them (conversions of numbers do not count).

    `int8_operators` of all, `int8_layers` of those with weights, `delegated_operators` of an ExecuTorch file's in
    XNNPACK; None where there is nothing to take a share of. Of ONNX these are ONNX Runtime's after its optimizations
    for this machine. All are None where the engine has no way to look at them.
    """
    if not engine.operators:
        return dict.fromkeys(("operators", "int8_operators", "int8_layers", "delegated_operators"))
    found: list[Operator] = load(engine.operators)(path)
    working = [o for o in found if o.kind not in CONVERSIONS]
    layers = [o for o in working if any(name in o.kind for name in LAYERS)]
    return {
        "operators": dict(sorted(Counter(o.kind for o in found).items())),
        "int8_operators": _share(o.int8 for o in working),
        "int8_layers": _share(o.int8 for o in layers),
        "delegated_operators": _share(o.delegated for o in working if o.delegated is not None),
    }


def _share(flags: Iterable[bool]) -> float | None:
    values = list(flags)
    return round(sum(values) / len(values), 4) if values else None


def onnx_operators(path: Path) -> list[Operator]:
    """ONNX Runtime's own, after its optimizations for this machine."""
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
        found.append(Operator(node.op_type, int8))
    return found


def executorch_operators(path: Path) -> list[Operator]:
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


def litert_operators(path: Path) -> list[Operator]:
    """The file's own, before LiteRT hands them to XNNPACK; in int8 where all that they compute with and give is."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    plain = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(str(path), experimental_op_resolver_type=plain)
    kinds = {tensor["index"]: tensor["dtype"] for tensor in interpreter.get_tensor_details()}
    found = []
    for operator in interpreter._get_ops_details():
        first, output = operator["inputs"][0], operator["outputs"][0]
        int8 = all(kinds[number] == np.int8 for number in (first, output))
        found.append(Operator(operator["op_name"], int8))
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

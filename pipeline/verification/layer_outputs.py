"""What the layers inside XNNPACK's part of an ExecuTorch file compute: a copy of it whose layers are outputs too."""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.verification.pte import ALIGNED, XNNPACK, read_graph, read_pte, with_graph, write_pte

LAYERS = ("XNNConv2d", "XNNDepthwiseConv2d", "XNNFullyConnected")
OUTPUT = 2  # XNN_VALUE_FLAG_EXTERNAL_OUTPUT

JsonObject = dict[str, Any]


def layer_values(path: Path, images: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
    """The values that each convolution and matrix product of XNNPACK's gives on, after its activation, in the file's
    order: [N, H, W, C] or [N, C], of `images` [N, S, S, 3].
    """
    from pipeline.runtimes.on_executorch import ExecutorchRuntime

    pte = read_pte(path)
    (plan,) = pte.program["execution_plan"]
    scales: list[tuple[int, float, float]] = []  # which output of the program, scale, zero
    for call in _calls(plan):
        delegate = plan["delegates"][call["delegate_index"]]
        graph = read_graph(pte, delegate)
        values = {_base(value)["id_out"]: value for value in (v["xvalue_union"] for v in graph["xvalues"])}
        for value in (values[number] for number in _layer_outputs(graph)):
            place = _output(plan, call, graph, _base(value))
            quantized = value.get("quant_params", {"scale": 1.0, "zero_point": 0})
            scales.append((place, quantized["scale"], quantized["zero_point"]))
        pte = with_graph(pte, delegate, graph)
    with tempfile.TemporaryDirectory() as folder:
        write_pte(pte, Path(folder) / "tapped.pte")
        found = ExecutorchRuntime(Path(folder) / "tapped.pte", None).run(images)
    return [(found[place].astype(np.float32) - zero) * scale for place, scale, zero in scales]


def _calls(plan: JsonObject) -> list[JsonObject]:
    """The calls of XNNPACK."""
    steps = [step["instr_args"] for chain in plan["chains"] for step in chain["instructions"]]
    calls = [step for step in steps if "delegate_index" in step]
    return [call for call in calls if plan["delegates"][call["delegate_index"]]["id"] == XNNPACK]


def _layer_outputs(graph: JsonObject) -> list[int]:
    """Numbers of the values that layers give on: of one that only a clamp reads, the clamp's."""
    readers: dict[int, list[JsonObject]] = {}
    for node in graph["xnodes"]:
        for key, number in node["xnode_union"].items():
            if key.startswith("input") and key.endswith("_id"):
                readers.setdefault(number, []).append(node)
    found = []
    for node in graph["xnodes"]:
        if node["xnode_union_type"] in LAYERS:
            number = node["xnode_union"]["output_id"]
            after = readers.get(number, [])
            if len(after) == 1 and after[0]["xnode_union_type"] == "XNNClamp":
                number = after[0]["xnode_union"]["output_id"]
            found.append(number)
    return found


def _output(plan: JsonObject, call: JsonObject, graph: JsonObject, value: JsonObject) -> int:
    """Make `value` of the graph an output of the program, unless it is one already; returns its place."""
    if value["flags"] & OUTPUT:
        outside = call["args"][len(graph["input_ids"]) + graph["output_ids"].index(value["id_out"])]
    else:
        value |= {"flags": OUTPUT, "external_id": graph["num_externs"]}
        graph["num_externs"] += 1
        graph["output_ids"].append(value["id_out"])
        outside = len(plan["values"])
        plan["values"].append({"val_type": "Tensor", "val": _tensor(plan, value)})
        call["args"].append(outside)
    if outside not in plan["outputs"]:
        plan["outputs"].append(outside)
    place: int = plan["outputs"].index(outside)
    return place


def _tensor(plan: JsonObject, value: JsonObject) -> JsonObject:
    """Like `value`, in memory of its own behind what the program has so far."""
    start = -(-plan["non_const_buffer_sizes"][1] // ALIGNED) * ALIGNED
    int8 = "int8" in value["datatype"]
    plan["non_const_buffer_sizes"][1] = start + int(np.prod(value["dims"])) * (1 if int8 else 4)
    return {
        "scalar_type": "CHAR" if int8 else "FLOAT",
        "sizes": value["dims"],
        "dim_order": list(range(len(value["dims"]))),
        "allocation_info": {"memory_id": 1, "memory_offset_low": start, "memory_offset_high": 0},
    }


def _base(value: JsonObject) -> JsonObject:
    """What a quantized value has its scale around."""
    base: JsonObject = value.get("tensor_value", value)
    return base

"""ONNX for ONNX Runtime: the float graph, and the same in static int8 (QDQ, a scale per output channel)."""

import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.export.int8.budget import within_budget
from pipeline.export.int8.equalize import equalize
from pipeline.export.int8.ranges import Histogram
from pipeline.graph.folding import Images, example, few, folded, outputs_of
from pipeline.runtimes.on_onnx import OnnxRuntime
from pipeline.runtimes.runtime import Outputs, relative_error

OPSET = 18  # the last one of IR version 8, on which `oldest` of `runtimes.targets.ONNX` rests
INPUT = "image"
LAYERS = ("Conv", "Gemm", "MatMul", "Relu", "Clip")
# Activations are unsigned: ONNX Runtime's guide has it so for x86, where it turns signed ones around one at a time and
# leaves every convolution in float that touches a residual connection; to ARM and NNAPI it is all the same. Weights of
# 7 bits are for x86 without VNNI, whose 16-bit sums saturate otherwise.
KINDS = ("8-bit weights", "7-bit weights")
CLEARLY = 1.05  # how much closer 7 bits have to come: less is rounding


def export_float(deployed: nn.Module, calibration: Images, path: Path, output_names: list[str]) -> dict[str, Any]:
    """Write a single-file ONNX graph; `calibration` only says how large the input is."""
    _save(_float_graph(folded(deployed, calibration), calibration, output_names), path)
    return {"opset": OPSET}


def export_int8(
    deployed: nn.Module, calibration: Images, path: Path, output_names: list[str], budget: float = 0.0
) -> dict[str, Any]:
    """Write the int8 graph (QDQ), with 7-bit weights where these come clearly closer to the float one.

    `budget` is the share of its bytes that may be added for layers that stay float.
    """
    from onnxruntime.quantization.shape_inference import quant_pre_process

    graph = folded(deployed, calibration)
    images = few(calibration)
    exact = outputs_of(graph, images)
    equalize(graph, images)
    answers: Any = graph.graph.output_node().args[0]
    named = dict(zip((n.name for n in answers), output_names, strict=True))
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole, prepared = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        _save(_float_graph(graph, calibration, output_names), whole)
        quant_pre_process(whole, prepared)
        case = _Case(prepared, _watched(prepared, calibration), np.concatenate(images), exact, output_names)

        def quantize(spared: set[str]) -> dict[str, Any]:
            return _quantize(case, {named.get(name, name) for name in spared}, path)

        facts = within_budget(quantize, graph, images, budget, path)
    return {**facts, "opset": OPSET}


class _Case(NamedTuple):
    """A float file that is ready for ONNX Runtime's quantizer, what was seen in it; images and the answers to them."""

    prepared: Path
    seen: dict[str, Histogram]
    images: NDArray[np.uint8]
    exact: Outputs
    output_names: list[str]


def _quantize(case: _Case, spared: set[str], path: Path) -> dict[str, Any]:
    """Write `path`, the steps that make one of `spared` left float; returns facts."""
    import onnx

    files = {kind: _quantized(case, spared, kind) for kind in KINDS}
    errors = {kind: relative_error(OnnxRuntime(files[kind], 1).run(case.images), case.exact) for kind in KINDS}
    wide, narrow = KINDS
    best = narrow if errors[narrow] * CLEARLY < errors[wide] else wide
    _save(_short_names(onnx.load(files[best])), path)
    return {"settings": f"static QDQ, U8S8, per channel, {best}", "relative_error": round(errors[best], 6)}


def _watched(prepared: Path, images: Images) -> dict[str, Histogram]:
    """Of every activation of the graph, by its name."""
    import onnx
    from onnxruntime import InferenceSession

    model = onnx.load(prepared)
    inside = [v for v in model.graph.value_info if v.type.tensor_type.elem_type == onnx.TensorProto.FLOAT]
    model.graph.output.extend(inside)
    session = InferenceSession(model.SerializeToString(), _one_thread(), providers=["CPUExecutionProvider"])
    seen = {output.name: Histogram() for output in session.get_outputs()}
    for image in images:
        for histogram, values in zip(seen.values(), session.run(list(seen), {INPUT: image}), strict=True):
            histogram.add(torch.from_numpy(values))
    return seen


def _quantized(case: _Case, spared: set[str], kind: str) -> Path:
    """A file beside the float one."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

    model = onnx.load(case.prepared)
    ends, answers = _edges(model, case.output_names)
    spans = {name: seen.span(name in answers) for name, seen in case.seen.items()}
    found = {name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in spans.items()}
    cache, path = (case.prepared.with_name(name) for name in ("ranges.json", f"{kind}.onnx"))
    left_float = [node.name for node in model.graph.node if set(node.output) & spared]
    save_tensors_data(TensorsData(CalibrationMethod.MinMax, found), cache)
    quantize_static(
        case.prepared,
        path,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        reduce_range="7-bit" in kind,
        nodes_to_exclude=[*ends, *left_float],
        calibration_cache_path=cache,
        extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
    )
    return path


def _float_graph(graph: nn.Module, images: Images, output_names: list[str]) -> Any:
    program = torch.onnx.export(
        torch.export.export(graph, example(images)),
        dynamo=True,
        input_names=[INPUT],
        output_names=output_names,
        opset_version=OPSET,
        verbose=False,
    )
    assert program is not None
    return program.model_proto


def _save(model: Any, path: Path) -> None:
    """Check `model` and write it without what only describes: stack traces with local paths, shapes in between.

    Constants that are the same are written once: a head shared by several levels is there several times otherwise. A
    runtime refuses a file of an IR version, or with an operator set, that it does not know, used or not: the file asks
    for those of its steps only.
    """
    import onnx
    from onnxscript import ir

    graph = model.graph
    del graph.value_info[:]
    for part in (model, graph, *graph.node, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    first: dict[tuple[Any, ...], str] = {}
    same: dict[str, str] = {}
    unique = []
    for constant in graph.initializer:
        values = (constant.data_type, *constant.dims, onnx.numpy_helper.to_array(constant).tobytes())
        same[constant.name] = first.setdefault(values, constant.name)
        if same[constant.name] == constant.name:
            unique.append(constant)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    del graph.initializer[:]
    graph.initializer.extend(unique)
    needed = ir.passes.common.RemoveUnusedOpsetsPass()(ir.from_proto(model)).model.opset_imports
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*one) for one in needed.items())
    model.ir_version = onnx.helper.find_min_ir_version_for(list(model.opset_import), ignore_unknown=True)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _edges(model: Any, output_names: list[str]) -> tuple[list[str], set[str]]:
    """The names of the steps that stay float, as in `folding.edges`; and of the values that the outputs are made of."""
    nodes = list(model.graph.node)
    first = next((i for i, node in enumerate(nodes) if node.op_type == "Conv"), 0)
    wanted = set(output_names)
    last = []
    for node in reversed(nodes[first:]):
        if node.op_type not in LAYERS and set(node.output) & wanted:
            last.append(node)
            wanted |= set(node.input)
    return [n.name for n in [*nodes[:first], *last]], wanted


def _short_names(model: Any) -> Any:
    """Steps without names and numbered values: in a small int8 file the names are a tenth."""
    graph = model.graph
    short = {part.name: part.name for part in (*graph.input, *graph.output)}
    for node in graph.node:
        node.ClearField("name")
        for names in (node.input, node.output):
            names[:] = [name and short.setdefault(name, f"{len(short):x}") for name in names]
    for constant in graph.initializer:
        constant.name = short.get(constant.name, constant.name)
    return model


def _one_thread() -> Any:
    """Other targets are exported at the same time."""
    from onnxruntime import SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return options

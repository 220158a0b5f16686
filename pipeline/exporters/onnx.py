"""ONNX for ONNX Runtime: the float graph, and the same in static int8 (QDQ, a scale per output channel)."""

import io
import tempfile
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from pipeline.exporters.folding import example, folded

OPSET = 18  # what ONNX Runtime Mobile has kernels for since 1.14
INPUT = "image"
# What is tried: which ranges, then, with the best of them, weights of 7 bits. Those keep the 16-bit sums of CPUs
# without VNNI from saturating; where nothing saturates, 8 bits are closer to the float model.
RANGES: dict[str, tuple[str, dict[str, float]]] = {
    "min-max": ("MinMax", {}),
    "99.999 %": ("Percentile", {"CalibPercentile": 99.999}),
    "99.99 %": ("Percentile", {"CalibPercentile": 99.99}),
}
LAYERS = ("Conv", "Gemm", "MatMul", "Relu", "Clip")
TRIED_ON = 16  # pictures that the settings are compared on

Images = Sequence[NDArray[np.uint8]]


def export_float(deployed: nn.Module, calibration: Images, path: Path, output_names: list[str]) -> dict[str, Any]:
    """Write a single-file ONNX graph; `calibration` only says how large the input is."""
    _save(_float_graph(deployed, calibration, output_names), path)
    return {"opset": OPSET}


def export_int8(deployed: nn.Module, calibration: Images, path: Path, output_names: list[str]) -> dict[str, Any]:
    """Write the int8 graph (QDQ, signed weights and activations) in the setting that comes closest to the float one."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as folder:
        whole, prepared = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        _save(_float_graph(deployed, calibration, output_names), whole)
        quant_pre_process(whole, prepared)
        tried: dict[str, tuple[float, Path]] = {}

        def attempt(ranges: str, seven_bits: bool) -> None:
            path = _quantized(prepared, calibration, output_names, ranges, seven_bits)
            name = f"{ranges} ranges, {7 if seven_bits else 8}-bit weights"
            tried[name] = _relative_error(whole, path, calibration[:TRIED_ON]), path

        impossible: dict[str, str] = {}
        for ranges, (method, _) in RANGES.items():
            try:
                attempt(ranges, seven_bits=False)
            except ValueError as error:  # NumPy makes no histogram of a tensor that is (nearly) constant
                if method == "MinMax":
                    raise
                impossible[ranges] = str(error)
        attempt(min(tried, key=lambda name: tried[name][0]).split(" ranges")[0], seven_bits=True)
        best = min(tried, key=lambda name: tried[name][0])
        _save(_short_names(onnx.load(tried[best][1])), path)
    return {
        "opset": OPSET,
        "settings": f"static QDQ, S8S8, per channel, {best}",
        "relative_error": {name: round(error, 6) for name, (error, _) in tried.items()},
        **({"not_possible": impossible} if impossible else {}),
    }


def _quantized(prepared: Path, images: Images, output_names: list[str], ranges: str, seven_bits: bool) -> Path:
    """A file beside `prepared`; ranges that were collected once are read from there again."""
    import onnx
    from onnxruntime.quantization import CalibrationMethod, quantize_static

    method, options = RANGES[ranges]
    path = prepared.with_name(f"{ranges} {seven_bits}.onnx")
    with redirect_stdout(io.StringIO()):  # it prints how far it is, for every picture
        quantize_static(
            prepared,
            path,
            _reader(images),
            per_channel=True,
            reduce_range=seven_bits,
            nodes_to_exclude=_edges(onnx.load(prepared), output_names),
            calibrate_method=CalibrationMethod[method],
            calibration_cache_path=prepared.with_name(f"{ranges}.json"),
            extra_options={
                "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
                "CalibStridedMinMax": 1,  # one picture at a time: its activations alone fill memory
                **options,
            },
        )
    return path


def _float_graph(deployed: nn.Module, images: Images, output_names: list[str]) -> Any:
    program = torch.onnx.export(
        torch.export.export(folded(deployed, images), example(images)),
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

    Constants that are the same are written once: a head shared by several levels is there several times otherwise.
    """
    import onnx

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
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _edges(model: Any, output_names: list[str]) -> list[str]:
    """The names of the steps that stay float, as in `folding.edges`."""
    nodes = list(model.graph.node)
    first = next((i for i, node in enumerate(nodes) if node.op_type == "Conv"), 0)
    wanted = set(output_names)
    last = []
    for node in reversed(nodes[first:]):
        if node.op_type not in LAYERS and set(node.output) & wanted:
            last.append(node)
            wanted |= set(node.input)
    return [n.name for n in [*nodes[:first], *last]]


def _reader(images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(images)

        def __len__(self) -> int:
            return len(images)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.images = iter(images[start_index:end_index])

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT: image}

    return Reader()


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


def _relative_error(whole: Path, quantized: Path, images: Images) -> float:
    """RMS difference of each output over the spread of the float one, averaged over the outputs."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads = 1  # other targets are exported at the same time
    exact, close = (InferenceSession(p, options, providers=["CPUExecutionProvider"]) for p in (whole, quantized))
    pairs = [(exact.run(None, {INPUT: image}), close.run(None, {INPUT: image})) for image in images]
    errors = []
    for outputs in zip(*[zip(a, b, strict=True) for a, b in pairs], strict=True):
        a, b = (np.concatenate([np.ravel(o[side]) for o in outputs]).astype(np.float64) for side in (0, 1))
        errors.append(np.sqrt(np.mean((a - b) ** 2)) / max(float(a.std()), 1e-6))
    return float(np.mean(errors))

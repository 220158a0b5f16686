"""ONNX for ONNX Runtime: the float graph, and the same in static int8 (QDQ, a scale per output channel)."""

import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

OPSET = 18  # what ONNX Runtime Mobile has kernels for since 1.14
INPUT = "image"
# What is tried, the first one kept on a tie. Weights of 7 bits keep the 16-bit sums of CPUs without VNNI from
# saturating; where nothing saturates, 8 bits are closer to the float model.
SETTINGS = {"S8S8": {"reduce_range": False}, "S8S8, 7-bit weights": {"reduce_range": True}}
TRIED_ON = 16  # pictures that the settings are compared on

Images = Sequence[NDArray[np.uint8]]


def export_float(deployed: nn.Module, calibration: Images, path: Path, output_names: list[str]) -> dict[str, Any]:
    """Write a single-file ONNX graph; `calibration` only says how large the input is."""
    _save(_float_graph(deployed, calibration[0], output_names), path)
    return {"opset": OPSET}


def export_int8(deployed: nn.Module, calibration: Images, path: Path, output_names: list[str]) -> dict[str, Any]:
    """Write the int8 graph, in the one of `SETTINGS` whose outputs are closest to the float graph's.

    Normalization and what follows the last layers (sigmoid, offsets) stay float: they cost nothing and their error
    would go straight into the answer.
    """
    import onnx
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # it advises to do the pre-processing that the line above does
    logging.getLogger("root").addFilter(_not_advice)
    with tempfile.TemporaryDirectory() as folder:
        whole, prepared = Path(folder) / "float.onnx", Path(folder) / "prepared.onnx"
        _save(_float_graph(deployed, calibration[0], output_names), whole)
        quant_pre_process(whole, prepared)
        kept_float = _edges(onnx.load(prepared), output_names)
        errors: dict[str, float] = {}
        for name, setting in SETTINGS.items():
            quantize_static(
                prepared,
                Path(folder) / f"{name}.onnx",
                _reader(calibration),
                per_channel=True,
                nodes_to_exclude=kept_float,
                extra_options={"OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"]},
                calibration_cache_path=Path(folder) / "ranges.json",
                **setting,
            )
            errors[name] = _relative_error(whole, Path(folder) / f"{name}.onnx", calibration[:TRIED_ON])
        best = min(errors, key=lambda name: errors[name])
        _save(onnx.load(Path(folder) / f"{best}.onnx"), path)
    return {
        "opset": OPSET,
        "settings": f"static QDQ, {best}, per channel, min-max ranges",
        "relative_error": {name: round(error, 6) for name, error in errors.items()},
    }


def _float_graph(deployed: nn.Module, image: NDArray[np.uint8], output_names: list[str]) -> Any:
    program = torch.onnx.export(
        deployed.eval(),
        (torch.from_numpy(image),),
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
    """The names of the nodes before the first convolution, and of those after the last layers."""
    nodes = list(model.graph.node)
    first = next((i for i, node in enumerate(nodes) if node.op_type == "Conv"), 0)
    layers = ("Conv", "Gemm", "MatMul", "Relu", "Clip")
    last = [n for n in nodes[first:] if n.op_type not in layers and set(n.output) & set(output_names)]
    return [n.name for n in [*nodes[:first], *last]]


def _reader(images: Images) -> Any:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
            image = next(self.images, None)
            return None if image is None else {INPUT: image}

    return Reader()


def _relative_error(whole: Path, quantized: Path, images: Images) -> float:
    """RMS difference of each output over the spread of the float one, averaged over the outputs."""
    from onnxruntime import InferenceSession

    exact, close = (InferenceSession(p, providers=["CPUExecutionProvider"]) for p in (whole, quantized))
    pairs = [(exact.run(None, {INPUT: image}), close.run(None, {INPUT: image})) for image in images]
    errors = []
    for outputs in zip(*[zip(a, b, strict=True) for a, b in pairs], strict=True):
        a, b = (np.concatenate([np.ravel(o[side]) for o in outputs]).astype(np.float64) for side in (0, 1))
        errors.append(np.sqrt(np.mean((a - b) ** 2)) / max(float(a.std()), 1e-6))
    return float(np.mean(errors))


def _not_advice(record: logging.LogRecord) -> bool:
    return "pre-processing before quantization" not in record.getMessage()

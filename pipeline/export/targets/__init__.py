"""The forms in which a model ships. A new one is a function here and a line in `runtimes.RUNTIMES`."""

from collections.abc import Callable
from typing import Any, NamedTuple

from pipeline.export.targets import coreml, executorch, litert, onnx

Export = Callable[..., dict[str, Any]]


class Exporter(NamedTuple):
    """`export(deployed, calibration, path, output_names)` writes `path` and returns facts about it.

    `deployed` takes uint8 RGB [1, S, S, 3] and returns a tuple of float tensors, named by `output_names`;
    `calibration` holds such pictures, from train, at least one. Where `budgeted`, it takes a `budget` as well: the
    share of an all-int8 file's bytes that may be added for layers that stay float.
    """

    file: str
    export: Export
    budgeted: bool = False


# the slowest first: they run side by side
EXPORTERS: dict[str, Exporter] = {
    "litert": Exporter("model.int8.tflite", litert.export_int8),
    "executorch_int8": Exporter("model.int8.pte", executorch.export_int8, budgeted=True),
    "executorch_float": Exporter("model.pte", executorch.export_float),
    "coreml": Exporter("model.mlpackage", coreml.export_int8),
    "onnx_int8": Exporter("model.int8.onnx", onnx.export_int8, budgeted=True),
    "onnx_float": Exporter("model.onnx", onnx.export_float),
}

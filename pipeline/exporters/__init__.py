"""The forms in which a model ships. A new one is a function here and a line in `runtimes.RUNTIMES`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import nn

from pipeline.exporters import coreml, executorch, litert, onnx

Export = Callable[[nn.Module, Sequence[NDArray[np.uint8]], Path, list[str]], dict[str, Any]]


class Exporter(NamedTuple):
    """`export(deployed, calibration, path, output_names)` writes `path` and returns facts about it.

    `deployed` takes uint8 RGB [1, S, S, 3] and returns a tuple of float tensors, named by `output_names`;
    `calibration` holds such pictures, from train, at least one.
    """

    file: str
    export: Export


# the slowest first: they run side by side
EXPORTERS: dict[str, Exporter] = {
    "litert": Exporter("model.int8.tflite", litert.export_int8),
    "executorch_int8": Exporter("model.int8.pte", executorch.export_int8),
    "executorch_float": Exporter("model.pte", executorch.export_float),
    "coreml": Exporter("model.mlpackage", coreml.export_int8),
    "onnx_int8": Exporter("model.int8.onnx", onnx.export_int8),
    "onnx_float": Exporter("model.onnx", onnx.export_float),
}

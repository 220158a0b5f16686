"""Core ML for Apple's devices: an ML Program with int8 weights that takes an RGB picture.

It runs there only. `inspect` says what can be said of it elsewhere.
"""

import io
import logging
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.graph.folding import fold

DATE = "com.github.apple.coremltools.conversion_date"
INT8_WEIGHTS = "constexpr_affine_dequantize"  # the operator that holds them


class _Picture(nn.Module):
    """`deployed` for floats [1, 3, S, S] from 0 to 255, which is what Core ML makes of a picture."""

    def __init__(self, deployed: nn.Module) -> None:
        super().__init__()
        self.deployed = deployed

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        answer: tuple[Tensor, ...] = self.deployed(image.permute(0, 2, 3, 1))
        return answer


def export_int8(
    deployed: nn.Module, calibration: Sequence[NDArray[np.uint8]], path: Path, output_names: list[str]
) -> dict[str, Any]:
    """Write the folder `path` (.mlpackage): weights int8 with a scale per output channel, computed in float16.

    `calibration` only says how large the input is: activations are not quantized. Needs iOS 16 or macOS 13.
    """
    with _calm():
        import coremltools as ct
        from coremltools.optimize import coreml as optimize

        side = calibration[0].shape[1]
        inputs = (torch.zeros(1, 3, side, side),)
        program = torch.export.export(fold(_Picture(deployed), inputs), inputs).run_decompositions({})
        model = ct.convert(
            program,
            inputs=[ct.ImageType("image", shape=(1, 3, side, side), color_layout=ct.colorlayout.RGB)],
            outputs=[ct.TensorType(name, dtype=np.float32) for name in output_names],
            minimum_deployment_target=ct.target.iOS16,
        )
        # its default leaves small layers float16: most depthwise ones
        how = optimize.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=0)
        optimize.linear_quantize_weights(model, optimize.OptimizationConfig(how)).save(str(path))
        _same_each_time(path)
    return {"settings": "int8 weights, per channel; float16 between", **inspect(path)}


def inspect(path: Path) -> dict[str, Any]:
    """What the program in the folder `path` says of itself.

    `input` (name, kind, width and height), `outputs` (shape by name), `operators` (count by kind), `int8_weights`, the
    share of all numbers in it. Raises InputError naming `path` if it is not a whole ML Program.
    """
    with _calm():
        from coremltools.models.utils import load_spec
        from google.protobuf.message import DecodeError

        try:
            spec = load_spec(str(path))
        except (DecodeError, OSError, RuntimeError) as error:
            raise InputError(f"{path}: not a Core ML package, or one cut short: {error}") from None
    if not spec.mlProgram.functions:
        raise InputError(f"{path}: not an ML Program")
    function = spec.mlProgram.functions["main"]
    operations = function.block_specializations[function.opset].operations
    image = spec.description.input[0]
    quantized = sum(_numbers(o.attributes["quantized_data"].type) for o in operations if o.type == INT8_WEIGHTS)
    floats = sum(_numbers(o.attributes["val"].type) for o in operations if o.type == "const")
    return {
        "input": {
            "name": image.name,
            "kind": "RGB picture, 8 bits a channel",
            "width": image.type.imageType.width,
            "height": image.type.imageType.height,
        },
        "outputs": {o.name: list(o.type.multiArrayType.shape) for o in spec.description.output},
        "operators": dict(sorted(Counter(o.type for o in operations if o.type != "const").items())),
        "int8_weights": round(quantized / max(1, quantized + floats), 4),
    }


def _numbers(value: Any) -> int:
    """How many int8 or float numbers a value of this type holds."""
    from coremltools.proto import MIL_pb2 as mil

    tensor = value.tensorType
    if tensor.dataType not in (mil.INT8, mil.FLOAT16, mil.FLOAT32):
        return 0
    return prod(d.constant.size for d in tensor.dimensions)


def _same_each_time(package: Path) -> None:
    """Replace the identifiers that are drawn anew each time, and leave out the date."""
    from coremltools.models.utils import load_spec

    manifest = read_json(package / "Manifest.json")
    entries = sorted(manifest["itemInfoEntries"].items(), key=lambda item: item[1]["path"])
    fixed = {old: str(uuid.uuid5(uuid.NAMESPACE_OID, entry["path"])) for old, entry in entries}
    manifest["itemInfoEntries"] = {fixed[old]: entry for old, entry in entries}
    manifest["rootModelIdentifier"] = fixed[manifest["rootModelIdentifier"]]
    write_json(package / "Manifest.json", manifest)
    spec = load_spec(str(package))
    spec.description.metadata.userDefined.pop(DATE)
    program = manifest["itemInfoEntries"][manifest["rootModelIdentifier"]]["path"]
    (package / "Data" / program).write_bytes(spec.SerializeToString(deterministic=True))


@contextmanager
def _calm() -> Iterator[None]:
    """No progress bars and no notes on what is missing off Apple's machines."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""Core ML's packages: nothing but an Apple machine runs them, so `inspect` says what can be said of one elsewhere."""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from math import prod
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError

INT8_WEIGHTS = "constexpr_affine_dequantize"  # the operator that holds them


def inspect(path: Path) -> dict[str, Any]:
    """What the program in the folder `path` says of itself.

    `input` (name, kind, width and height), `outputs` (shape by name), `operators` (count by kind), `int8_weights`, the
    share of all numbers in it. Raises InputError naming `path` if it is not a whole ML Program.
    """
    with calm():
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
            "kind": "RGB image, 8 bits a channel",
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


@contextmanager
def calm() -> Iterator[None]:
    """No progress bars and no notes on what is missing off Apple's machines."""
    logging.getLogger("coremltools").setLevel(logging.ERROR)
    with redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield

"""A LiteRT file written by hand, where its converter is not installed: one fully connected layer on the pixels."""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

UINT8, INT8, FLOAT, INT32 = (
    schema.TensorType.UINT8,
    schema.TensorType.INT8,
    schema.TensorType.FLOAT32,
    schema.TensorType.INT32,
)


class _Graph:
    def __init__(self) -> None:
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]

    def tensor(self, shape: list[int], kind: int, scale: float = 0.0, zero: int = 0, data: Any = None) -> int:
        tensor = schema.TensorT()
        tensor.shape, tensor.type, tensor.name = shape, kind, f"t{len(self.graph.tensors)}".encode()
        if scale:
            tensor.quantization = schema.QuantizationParametersT()
            tensor.quantization.scale, tensor.quantization.zeroPoint = [scale], [zero]
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            tensor.buffer = len(self.model.buffers)
            self.model.buffers.append(buffer)
        self.graph.tensors.append(tensor)
        return len(self.graph.tensors) - 1

    def step(self, kind: str, inputs: list[int], output: int, options: Any = None) -> None:
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, kind)
        code.version = 4 if kind == "FULLY_CONNECTED" else 1
        operator = schema.OperatorT()
        operator.opcodeIndex = len(self.model.operatorCodes)
        operator.inputs, operator.outputs = inputs, [output]
        if options is not None:
            operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
            operator.builtinOptions = options
        self.model.operatorCodes.append(code)
        self.graph.operators.append(operator)


def write_litert(path: Path, side: int, labels: int, int8: bool) -> None:
    """uint8 [1, side, side, 3] -> float32 [1, labels], whose layer computes in int8 or in float."""
    made = _Graph()
    shape, pixels = [1, side, side, 3], side * side * 3
    weights = np.random.default_rng(0).integers(-9, 10, (labels, pixels), dtype=np.int8)
    image = made.tensor(shape, UINT8, 1.0 if int8 else 0.0)
    answer = made.tensor([1, labels], FLOAT)
    if int8:
        even, rough = made.tensor(shape, INT8, 1.0, -128), made.tensor([1, labels], INT8, 800.0)
        made.step("QUANTIZE", [image], even)
        layer = [even, made.tensor([labels, pixels], INT8, 0.01, data=weights)]
        made.step("FULLY_CONNECTED", [*layer, -1], rough, schema.FullyConnectedOptionsT())
        made.step("DEQUANTIZE", [rough], answer)
    else:
        floats = made.tensor(shape, FLOAT)
        cast = schema.CastOptionsT()
        cast.inDataType, cast.outDataType = UINT8, FLOAT
        made.step("CAST", [image], floats, cast)
        layer = [floats, made.tensor([labels, pixels], FLOAT, data=weights.astype(np.float32) / 100)]
        made.step("FULLY_CONNECTED", [*layer, -1], answer, schema.FullyConnectedOptionsT())
    made.graph.inputs, made.graph.outputs = [image], [answer]
    builder = flatbuffers.Builder(1024)
    builder.Finish(made.model.Pack(builder), b"TFL3")
    path.write_bytes(bytes(builder.Output()))

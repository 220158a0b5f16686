"""Good files made bad: each a mistake that a converter, or a person, makes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper


def zero_scales(model: Any) -> None:
    """Of the weights: they have a scale per channel."""
    names = {node.input[1] for node in model.graph.node if node.op_type == "DequantizeLinear"}
    for constant in model.graph.initializer:
        if constant.name in names and constant.dims:
            _set(constant, np.zeros(constant.dims, np.float32))


def zero_scales_of_the_eighth_layer(path: Path) -> None:
    model = onnx.load(path)
    made = {name: node for node in model.graph.node for name in node.output}
    conv = [node for node in model.graph.node if node.op_type == "Conv"][7]
    weight = made[conv.input[1]]
    scales = next(constant for constant in model.graph.initializer if constant.name == weight.input[1])
    model.graph.initializer.append(numpy_helper.from_array(np.zeros(scales.dims, np.float32), "zeros"))
    weight.input[1] = "zeros"
    onnx.save(model, path)


def swap_channels(model: Any) -> None:
    """BGR is taken for RGB."""
    cast = next(node for node in model.graph.node if node.op_type == "Cast")
    _reorder(model, cast, [2, 1, 0], axis=3)


def shuffle_labels(model: Any) -> None:
    _reorder(model, next(node for node in model.graph.node if "logits" in node.output), [1, 2, 0], axis=1)


def leave_normalization_out(model: Any) -> None:
    _normalize(model, 1.0)


def leave_mean_and_deviation_out(model: Any) -> None:
    _normalize(model, 1 / 255)


def add_to_one_bias(model: Any) -> None:
    """Other weights, in the last layer."""
    for constant in model.graph.initializer:
        if constant.data_type == onnx.TensorProto.FLOAT and list(constant.dims) == [3]:
            _set(constant, numpy_helper.to_array(constant) + np.array([0.01, 0, 0], np.float32))


def ruin_landmarks(model: Any) -> None:
    """The scales of the weights that only the landmarks are made by, thirty times as large."""
    made = {name: node for node in model.graph.node for name in node.output}
    constants = {constant.name: constant for constant in model.graph.initializer}
    node = made["landmarks"]
    while node.op_type not in ("Gemm", "MatMul", "Conv"):
        node = next(made[name] for name in reversed(node.input) if name in made)
    scale = constants[made[node.input[1]].input[1]]
    _set(scale, 30 * numpy_helper.to_array(scale))


def broken(path: Path, how: Callable[[Any], None]) -> None:
    model = onnx.load(path)
    how(model)
    onnx.save(model, path)


def _normalize(model: Any, scale: float) -> None:
    """pixel * scale in place of what the graph does, which is its first multiplication and addition."""
    constants = {constant.name: constant for constant in model.graph.initializer}
    for kind, value in (("Mul", scale), ("Add", 0.0)):
        node = next(node for node in model.graph.node if node.op_type == kind)
        _set(constants[node.input[1]], np.full((1, 3, 1, 1), value, np.float32))


def _reorder(model: Any, node: Any, order: list[int], axis: int) -> None:
    """Put what `node` gives into another order along `axis`."""
    name = node.output[0]
    node.output[0] = "straight"
    model.graph.initializer.append(numpy_helper.from_array(np.array(order), "order"))
    place = list(model.graph.node).index(node) + 1
    model.graph.node.insert(place, helper.make_node("Gather", ["straight", "order"], [name], axis=axis))


def _set(constant: Any, values: Any) -> None:
    constant.CopyFrom(numpy_helper.from_array(values, constant.name))

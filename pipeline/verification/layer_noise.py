"""Where an int8 file parts from the float one: signal to quantization noise, layer by layer, in decibels.

10 log10 of the float values' power over that of the difference, as in Sheng et al. 2018, "A quantization-friendly
separable convolution for MobileNets" (arXiv 1803.08607). 10 dB: the noise has a tenth of the signal's power.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.lazy import load
from pipeline.runtimes.exported import read_made
from pipeline.runtimes.targets import TARGETS

EXACT = "onnx_float"  # the target whose layers others are held against: its graph has a name for each
APART = 10.0  # dB; layers of files that hold their accuracy have 13 or more
SAME = 100.0  # dB, where there is no difference
WEIGHTED = ("Conv", "Gemm", "MatMul")
BETWEEN = ("QuantizeLinear", "DequantizeLinear", "Clip", "Relu", "Identity")  # belong to the layer before them

Floats = NDArray[np.float32]


class Layer(NamedTuple):
    name: str
    sqnr_db: float


class _Tap(NamedTuple):
    """A value of an ONNX graph; bytes stand for (byte - zero) * scale."""

    name: str
    scale: Any = 1.0
    zero: Any = 0


def sqnr(exact: Floats, close: Floats) -> float:
    """Decibels of `exact` over its difference from `close`, of any shape."""
    difference = float(np.square(exact.astype(np.float64) - close).sum())
    power = float(np.square(exact.astype(np.float64)).sum())
    if not np.isfinite(difference):
        return -SAME
    if difference <= power * 10 ** (-SAME / 10):
        return SAME
    return round(10 * float(np.log10(max(power, 1e-30) / difference)), 2)


def first_apart(layers: Sequence[Layer]) -> Layer | None:
    """The first one below `APART`; where none is, the lowest."""
    low = [layer for layer in layers if layer.sqnr_db < APART]
    return low[0] if low else min(layers, key=lambda layer: layer.sqnr_db, default=None)


def layers_of(exports: Path, target: str, images: NDArray[np.uint8]) -> list[Layer]:
    """The layers of `target` against those of the file of `EXACT`, from the input on, over `images` [N, S, S, 3].
    Empty where that was not exported, the two have not the same layers, or those of the file cannot be looked at.
    """
    rows = read_made(exports)["targets"]
    compare = TARGETS[target].engine.layers
    if target == EXACT or EXACT not in rows or not compare:
        return []
    exact, close = (exports / rows[name]["file"] for name in (EXACT, target))
    layers: list[Layer] = load(compare)(exact, close, images)
    return layers


def onnx_layers(exact: Path, close: Path, images: NDArray[np.uint8]) -> list[Layer]:
    """Each layer of the float file `exact` that `close` has too, from the input on, over `images` [N, S, S, 3].

    The files need have no names in common but those of input and outputs. Compared is what a layer gives on, after
    its activation; of `close` as ONNX Runtime computes it, in int8 where it does.
    """
    import onnx

    models = [onnx.load(path) for path in (exact, close)]
    pairs = _pairs(*(model.graph for model in models))
    if not pairs:
        return []
    a = _values(models[0], [of_exact for _, of_exact, _ in pairs], images)
    b = _values(models[1], [of_close for _, _, of_close in pairs], images)
    both = [(np.moveaxis(x, 1, -1), np.moveaxis(y, 1, -1)) for x, y in zip(a, b, strict=True)]
    return [Layer(name, sqnr(x, _fitted(y, x))) for (name, _, _), (x, y) in zip(pairs, both, strict=True)]


def _fitted(close: Floats, exact: Floats) -> Floats:
    """`close` [..., C] with each channel scaled so that it comes nearest to `exact`: equalization has scaled channels,
    and the layers that read them undo it.
    """
    axes = tuple(range(close.ndim - 1))
    power = np.square(close.astype(np.float64)).sum(axes)
    scale = (close.astype(np.float64) * exact).sum(axes) / np.where(power > 0, power, 1)
    return np.asarray(close * scale, np.float32)


def _pairs(exact: Any, close: Any) -> list[tuple[str, _Tap, _Tap]]:
    """Layers of two graphs that belong together (name, its value in one and in the other), walking back from outputs
    of the same name through inputs of the same place.
    """
    makers = [{name: node for node in graph.node for name in node.output} for graph in (exact, close)]
    order = {node.output[0]: i for i, node in enumerate(exact.node)}
    found: dict[int, tuple[str, _Tap, _Tap]] = {}
    seen: set[tuple[str, str]] = set()
    names = {output.name for output in close.output}
    queue = [(output.name, output.name) for output in exact.output if output.name in names]
    while queue:
        ends = queue.pop()
        if ends in seen:
            continue
        seen.add(ends)
        a, b = (_maker(made, end) for made, end in zip(makers, ends, strict=True))
        if a is None or b is None or a.op_type != b.op_type:
            continue
        if a.op_type in WEIGHTED:
            place = order[a.output[0]]
            found.setdefault(place, (_name(exact, a), _Tap(ends[0]), _tap(close, makers[1], ends[1])))
        queue += zip(a.input, b.input, strict=False)
    return [found[place] for place in sorted(found)]


def _maker(made: dict[str, Any], name: str) -> Any:
    """The node that computes `name`, before activation and conversions; None for inputs and constants."""
    node = made.get(name)
    while node is not None and node.op_type in BETWEEN:
        node = made.get(node.input[0])
    return node


def _tap(graph: Any, made: dict[str, Any], name: str) -> _Tap:
    """Where to read `name`: of what is dequantized the bytes, for as a float it would keep the layers from int8."""
    from onnx.numpy_helper import to_array

    node = made.get(name)
    if node is None or node.op_type != "DequantizeLinear" or node.input[0] not in made:
        return _Tap(name)
    constants = {constant.name: constant for constant in graph.initializer}
    scale, zero = (to_array(constants[part]) for part in node.input[1:3])
    return _Tap(node.input[0], scale.astype(np.float32), zero.astype(np.float32))


def _name(graph: Any, node: Any) -> str:
    """conv2d_7 (3x3, 96): the step's name, the kernel, the output's channels."""
    shape = next((list(c.dims) for c in graph.initializer if c.name == node.input[1]), [])
    kernel = "x".join(map(str, shape[2:])) + ", " if len(shape) > 2 else ""
    return f"{node.name.removeprefix('node_')} ({kernel}{shape[0] if shape else '?'})"


def _values(model: Any, taps: list[_Tap], images: NDArray[np.uint8]) -> list[Floats]:
    """The values of `taps`, [N, ...] each."""
    import onnx
    import onnxruntime

    tapped = onnx.ModelProto()
    tapped.CopyFrom(model)
    present = {output.name for output in tapped.graph.output}
    names = [tap.name for tap in taps]
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in dict.fromkeys(names) if name not in present)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(tapped.SerializeToString(), options, providers=["CPUExecutionProvider"])
    each = [session.run(names, {"image": image[None]}) for image in images]
    whole = [np.concatenate(part).astype(np.float32) for part in zip(*each, strict=True)]
    return [(values - tap.zero) * tap.scale for values, tap in zip(whole, taps, strict=True)]

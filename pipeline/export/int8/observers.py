"""PT2E's observers with our ranges, and the int8 net as it would answer before anything is converted."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torchao.quantization.pt2e import ObserverBase
from torchao.quantization.pt2e.observer import UniformQuantizationObserverBase

from pipeline.export.int8.ranges import RANGES, Histogram
from pipeline.export.int8.simulate import ATEN, CLIPS


class RangeObserver(UniformQuantizationObserverBase):
    """Sees an activation; its scale is that of the range named `ranges`.

    An answer of the net (`answer`) keeps its whole range: cut off, the two best labels would be one.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.histogram = Histogram()
        self.ranges = RANGES[0]
        self.answer = False

    def forward(self, values: Tensor) -> Tensor:
        self.histogram.add(values)
        return values

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        least, most = self.histogram.span("min-max" if self.answer else self.ranges)
        found: tuple[Tensor, Tensor] = self._calculate_qparams(torch.tensor(least), torch.tensor(most))
        return found


class _Rounding(nn.Module):
    """What an observer has seen, rounded as the converted graph will."""

    def __init__(self, observer: Any) -> None:
        super().__init__()
        self.scale, zero = observer.calculate_qparams()
        self.zero = zero.to(torch.int32)
        self.least, self.most = observer.quant_min, observer.quant_max
        self.axis = getattr(observer, "ch_axis", 0)

    def forward(self, values: Tensor) -> Tensor:
        if len(self.scale) == 1:
            return torch.fake_quantize_per_tensor_affine(values, self.scale, self.zero, self.least, self.most)
        return torch.fake_quantize_per_channel_affine(values, self.scale, self.zero, self.axis, self.least, self.most)


def choose_ranges(prepared: fx.GraphModule, ranges: str) -> None:
    for module in prepared.modules():
        if isinstance(module, RangeObserver):
            module.ranges = ranges


def rounded_outputs(prepared: fx.GraphModule, images: Sequence[NDArray[np.uint8]]) -> list[list[NDArray[np.float32]]]:
    """What the int8 net answers to each of `images`, in the ranges that are chosen."""
    observers = {name: m for name, m in prepared.named_children() if isinstance(m, ObserverBase)}
    for name, observer in observers.items():
        setattr(prepared, name, _Rounding(observer))
    found = outputs(prepared, images)
    for name, observer in observers.items():
        setattr(prepared, name, observer)
    return found


def outputs(net: nn.Module, images: Sequence[NDArray[np.uint8]]) -> list[list[NDArray[np.float32]]]:
    """The arrays that `net` answers to each of `images`."""
    with torch.inference_mode():
        return [[o.numpy() for o in net(torch.from_numpy(image))] for image in images]


@contextmanager
def clips_as_relu(graph: fx.Graph) -> Iterator[None]:
    """Inside, a ReLU6 looks like a ReLU, the only one that XNNPACK's quantizer joins to the layer before it.

    Otherwise the 8 bits would span what comes out of that layer, most of which the ReLU6 cuts off.
    """
    clips = [(n, n.target, n.args) for n in graph.nodes if n.target in CLIPS]
    for node, _, _ in clips:
        node.target, node.args = ATEN.relu.default, node.args[:1]
    yield
    for node, target, args in clips:
        node.target, node.args = target, (node.args[0], *args[1:])


def mark_answers(prepared: fx.GraphModule, kept_float: set[str]) -> None:
    """Tell the observers of what goes to the net's outputs, by way of float steps at most."""
    for node in prepared.graph.nodes:
        module = getattr(prepared, str(node.target), None) if node.op == "call_module" else None
        if isinstance(module, RangeObserver):
            module.answer = all(user.op == "output" or user.name in kept_float for user in node.users)

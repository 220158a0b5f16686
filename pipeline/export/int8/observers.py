"""PT2E's observers with our ranges."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx
from torchao.quantization.pt2e.observer import UniformQuantizationObserverBase

from pipeline.export.int8.ranges import Histogram
from pipeline.graph.folding import ATEN, CLIPS


class RangeObserver(UniformQuantizationObserverBase):
    """Sees an activation; its scale is that of the range. `answer`: only the net's outputs read it, and the range keeps
    all values.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.histogram = Histogram()
        self.answer = False

    def forward(self, values: Tensor) -> Tensor:
        self.histogram.add(values)
        return values

    def calculate_qparams(self) -> tuple[Tensor, Tensor]:
        least, most = self.histogram.span(self.answer)
        found: tuple[Tensor, Tensor] = self._calculate_qparams(torch.tensor(least), torch.tensor(most))
        return found


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
    for node in prepared.graph.find_nodes(op="call_module"):
        observer = prepared.get_submodule(node.target)
        if isinstance(observer, RangeObserver):
            observer.answer = all(user.op == "output" or user.name in kept_float for user in node.users)

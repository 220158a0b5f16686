"""What a folded graph answers once its layers are int8: in torch, before any file is made."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx

from pipeline.export.int8.ranges import Histogram
from pipeline.graph.folding import CONV, LINEAR, edges

ATEN = torch.ops.aten
CLIPS = (ATEN.hardtanh.default, ATEN.hardtanh_.default, ATEN.relu6.default)
RELUS = (ATEN.relu.default, ATEN.relu_.default)
SUMS = (ATEN.add.Tensor, ATEN.add_.Tensor)
MADE_ANEW = (CONV, *CLIPS, *RELUS, *SUMS, ATEN.mul.Tensor, ATEN.cat.default, ATEN.adaptive_avg_pool2d.default)

TRIED_ON = 16  # images that ways to int8 are compared on

Images = Sequence[NDArray[np.uint8]]
Outputs = list[list[NDArray[np.float32]]]  # of each image


class Int8(fx.Interpreter):
    """`layers` are the steps with weights, `places` those whose output is kept in 8 bits; a ReLU is part of what is
    before it. `rounded` says which of both are int8 by now. Scales are as the runtimes have them: one for each output
    channel of a weight, and a range of least squares for each place, from the images of `watch`.
    """

    def __init__(self, graph_module: fx.GraphModule) -> None:
        super().__init__(graph_module, garbage_collect_values=False)
        kept_float = edges(graph_module)
        nodes = [n for n in graph_module.graph.nodes if n.op == "call_function"]
        self.layers = [n for n in nodes if n.target in (CONV, LINEAR)]
        inside = [n for n in nodes if n.name not in kept_float and n.target in MADE_ANEW and not _joined(n)]
        self.places = [self.layers[0].all_input_nodes[0], *inside]
        self.rounded: set[fx.Node] = set()
        self._seen = {n: Histogram() for n in self.places}
        self._steps: dict[fx.Node, tuple[float, int]] = {}
        self._watching = False

    def watch(self, images: Images) -> Outputs:
        """The float answers; the ranges are taken from what was seen on the way."""
        self._watching, self.rounded = True, set()
        found = self.answers(images)
        self._watching = False
        self._steps = {n: step_and_zero(*seen.span("least squares")) for n, seen in self._seen.items()}
        return found

    def all_rounded(self) -> set[fx.Node]:
        return {*self.layers, *self.places}

    def answers(self, images: Images) -> Outputs:
        with torch.inference_mode():
            return [[o.numpy() for o in self.run(torch.from_numpy(image))] for image in images]

    def run_node(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        if n in self.rounded and n.target in (CONV, LINEAR):
            args = (args[0], rounded_weights(args[1]), *args[2:])
        value = getattr(self, n.op)(n.target, args, kwargs)
        if n in self._seen:
            if self._watching:
                self._seen[n].add(value)
            elif n in self.rounded:
                return self.in_steps(n, value)
        return value

    def with_weight_rounded(self, layer: fx.Node, before: dict[fx.Node, Any]) -> Any:
        """The outputs when only that weight is int8; `before` holds the value of every step before the layer."""
        weight: Any = layer.args[1]
        return self.run(initial_env={**before, weight: rounded_weights(before[weight])})

    def in_steps(self, place: fx.Node, value: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(value, *self._steps[place], -128, 127)


def few(images: Images) -> Images:
    """At most TRIED_ON of `images`, evenly spaced."""
    return images[:: -(-len(images) // TRIED_ON)]


def step_and_zero(least: float, most: float) -> tuple[float, int]:
    """Scale and zero point of int8 for a range that holds zero."""
    step = max(most - least, 1e-6) / 255
    return step, max(-128, min(127, round(-128 - least / step)))


def rounded_weights(weight: Tensor) -> Tensor:
    """With 8 bits for each output channel, symmetric."""
    steps = weight.abs().flatten(1).amax(1).clamp(min=1e-9) / 127
    return torch.fake_quantize_per_channel_affine(
        weight, steps, torch.zeros(len(steps), dtype=torch.int32), 0, -127, 127
    )


def _joined(node: fx.Node) -> bool:
    """Whether the ReLU after a step is one with it."""
    return len(node.users) == 1 and next(iter(node.users)).target in (*CLIPS, *RELUS)

"""Which layers to leave in float: those that buy the most accuracy for their bytes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from pipeline.graph.folding import ATEN, CLIPS, CONV, LINEAR, RELUS, SUMS, Images, edges, tensor_of

Part = tuple[str, fx.Node]  # "weight" of a layer, or "activation" of a place

IMAGES = 4  # that the errors are measured on
FLOAT_BYTES = 3  # that a weight takes more than in int8
SEAM_BYTES = 512  # at most, of the steps to and from int8 around a layer
UNITS = (CONV, LINEAR, *SUMS, ATEN.mul.Tensor, ATEN.cat.default, ATEN.adaptive_avg_pool2d.default)
# steps whose output counts as kept in 8 bits; that of a linear layer does not: it is the answer of a classifier
MADE_ANEW = (*(step for step in UNITS if step is not LINEAR), *CLIPS, *RELUS)


class Spared(NamedTuple):
    """`units`: names of the steps of the folded graph that stay float; `layers`: where those with weights stand in the
    net.
    """

    units: set[str]
    layers: list[str]


def within_budget(
    quantize: Callable[[set[str]], dict[str, Any]], graph: fx.GraphModule, images: Images, budget: float, path: Path
) -> dict[str, Any]:
    """Facts about `path`, which `quantize` writes with the steps in float that it is given: none, or, for a `budget`
    above 0, those that are bought for that share of the bytes, if that lowers its `relative_error`.
    """
    facts = quantize(set())
    if budget <= 0:
        return facts
    all_int8 = path.read_bytes()
    allowed = int(budget * len(all_int8))
    spared = spare(graph, images, allowed)
    mixed = quantize(spared.units) if spared.units else facts
    kept = mixed["relative_error"] < facts["relative_error"]
    spent = {
        "float_layers": spared.layers,
        "kept": kept,
        "allowed_bytes": allowed,
        "added_bytes": path.stat().st_size - len(all_int8),
        "relative_error": {"all int8": facts["relative_error"], "with float layers": mixed["relative_error"]},
    }
    if not kept:
        path.write_bytes(all_int8)
    return {**(mixed if kept else facts), "budget": spent}


def spare(graph_module: fx.GraphModule, images: Images, allowed: int) -> Spared:
    """The layers to keep in float for at most `allowed` bytes more than all in int8.

    Each weight and each activation is rounded alone, and what that does to the outputs is measured; the squares of
    such errors add up, for they are independent. A weight's error goes when its layer is float, an activation's when
    all that make and read it are: so what is bought is a layer, or an activation with the steps around it. What
    takes away the most error per byte comes first.
    """
    int8 = _Int8(graph_module, images)
    harm = _harm(int8, images[:: -(-len(images) // IMAGES)])
    needs: dict[Part, set[fx.Node]] = {("weight", n): {n} for n in int8.layers}
    needs |= {("activation", n): _makers(n) | _readers(n) for n in int8.places}
    kept: set[fx.Node] = set()
    left = allowed
    while True:
        offers = []
        for move in needs.values():
            price = sum(_bytes(graph_module, n) for n in move - kept)
            gain = sum(harm[part] for part, units in needs.items() if units <= kept | move and not units <= kept)
            if gain > 0 and price <= left:
                offers.append((gain / max(price, 1), price, move))
        if not offers:
            break
        _, price, move = max(offers, key=lambda offer: offer[0])
        kept |= move
        left -= price
    layers = [str(list(n.meta["nn_module_stack"].values())[-1][0]) for n in int8.layers if n in kept]
    return Spared({n.name for n in kept}, layers)


class _Int8(fx.Interpreter):
    """Runs a folded graph, in which `layers` are the steps with weights and `places` those whose output is kept in 8
    bits in a file; a ReLU is part of what is before it. There is a scale for each output channel of a weight, and one
    for each place, from all its values in `images`. The ranges of the files leave the rarest values out; layers that
    were chosen by those ranges gained less.
    """

    def __init__(self, graph_module: fx.GraphModule, images: Images) -> None:
        super().__init__(graph_module, garbage_collect_values=False)
        kept_float = edges(graph_module)
        nodes = [n for n in graph_module.graph.nodes if n.op == "call_function"]
        self.layers = [n for n in nodes if n.target in (CONV, LINEAR)]
        inside = [n for n in nodes if n.name not in kept_float and n.target in MADE_ANEW and not _joined(n)]
        self.places = [self.layers[0].all_input_nodes[0], *inside]
        self._ends = dict.fromkeys(self.places, (0.0, 0.0))
        with torch.inference_mode():
            for image in images:
                self.run(torch.from_numpy(image))
        self._steps = {n: _step_and_zero(*ends) for n, ends in self._ends.items()}
        self._ends = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self._ends:
            least, most = self._ends[n]
            self._ends[n] = min(least, float(value.min())), max(most, float(value.max()))
        return value

    def with_weight_rounded(self, layer: fx.Node, before: dict[fx.Node, Any]) -> Any:
        """The outputs when only that weight is int8; `before` holds the value of every step before the layer."""
        weight: Any = layer.args[1]
        return self.run(initial_env={**before, weight: _rounded_weights(before[weight])})

    def in_steps(self, place: fx.Node, value: Tensor) -> Tensor:
        return torch.fake_quantize_per_tensor_affine(value, *self._steps[place], -128, 127)


def _step_and_zero(least: float, most: float) -> tuple[float, int]:
    """Scale and zero point of int8 for a range that holds zero."""
    step = max(most - least, 1e-6) / 255
    return step, max(-128, min(127, round(-128 - least / step)))


def _rounded_weights(weight: Tensor) -> Tensor:
    """With 8 bits for each output channel, symmetric."""
    steps = weight.abs().flatten(1).amax(1).clamp(min=1e-9) / 127
    zeros = torch.zeros(len(steps), dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, steps, zeros, 0, -127, 127)


def _joined(node: fx.Node) -> bool:
    """Whether the ReLU after a step is one with it."""
    return len(node.users) == 1 and next(iter(node.users)).target in (*CLIPS, *RELUS)


def _harm(int8: _Int8, images: Images) -> dict[Part, float]:
    """Mean square error of the outputs, each over its mean square, when one weight or activation alone is rounded."""
    harm: dict[Part, float] = {("weight", n): 0.0 for n in int8.layers}
    harm |= {("activation", n): 0.0 for n in int8.places}
    with torch.inference_mode():
        for image in images:
            exact = int8.run(torch.from_numpy(image))
            known = dict(int8.env)
            before: dict[fx.Node, Any] = {}
            for node, value in known.items():
                if ("weight", node) in harm:
                    harm["weight", node] += _error(exact, int8.with_weight_rounded(node, before))
                if ("activation", node) in harm:
                    changed = {**before, node: int8.in_steps(node, value)}
                    harm["activation", node] += _error(exact, int8.run(initial_env=changed))
                before[node] = value
    return harm


def _error(exact: tuple[Tensor, ...], close: tuple[Tensor, ...]) -> float:
    return sum(
        float((a - b).square().mean() / a.square().mean().clamp(min=1e-12)) for a, b in zip(exact, close, strict=True)
    )


def _makers(node: fx.Node) -> set[fx.Node]:
    """The step that makes an activation, if there is one in int8: a ReLU is one with what is before it."""
    if node.target in UNITS:
        return {node}
    return {n for n in node.all_input_nodes if n.target in UNITS} if node.target in (*CLIPS, *RELUS) else set()


def _readers(node: fx.Node) -> set[fx.Node]:
    found: set[fx.Node] = set()
    for user in node.users:
        found |= {user} if user.target in UNITS else _readers(user)
    return found


def _bytes(graph_module: fx.GraphModule, unit: fx.Node) -> int:
    if unit.target not in (CONV, LINEAR):
        return 0
    weight = tensor_of(graph_module, unit.args[1])
    return SEAM_BYTES + (0 if weight is None else FLOAT_BYTES * int(weight.numel()))

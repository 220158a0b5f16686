"""Which layers to leave in float: those that buy the most accuracy for their bytes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, fx

from pipeline.export.int8.simulate import ATEN, CLIPS, RELUS, SUMS, Images, Int8
from pipeline.graph.folding import CONV, LINEAR, tensor_of

Part = tuple[str, fx.Node]  # "weight" of a layer, or "activation" of a place

IMAGES = 4  # that the errors are measured on
FLOAT_BYTES = 3  # that a weight takes more than in int8
SEAM_BYTES = 512  # at most, of the steps to and from int8 around a layer
UNITS = (CONV, LINEAR, *SUMS, ATEN.mul.Tensor, ATEN.cat.default, ATEN.adaptive_avg_pool2d.default)


class Spared(NamedTuple):
    """`units`: names of the steps of the folded graph that stay float; `layers`: where those with weights stand in the
    net; `allowed`: bytes that they may take.
    """

    units: list[str]
    layers: list[str]
    allowed: int

    def facts(self, sizes: tuple[int, int], errors: tuple[float, float]) -> dict[str, Any]:
        """For export.json: `sizes` and `errors` of the file all in int8 and of the one with these layers in float.

        The second is kept if its error is the smaller one.
        """
        return {
            "float_layers": self.layers,
            "kept": errors[1] < errors[0],
            "allowed_bytes": self.allowed,
            "added_bytes": sizes[1] - sizes[0],
            "relative_error": {"all int8": round(errors[0], 6), "with float layers": round(errors[1], 6)},
        }


def spare(graph_module: fx.GraphModule, images: Images, allowed: int) -> Spared:
    """The layers to keep in float for at most `allowed` bytes more than all in int8.

    Each weight and each activation is rounded alone, and what that does to the outputs is measured; the squares of
    such errors add up, for they are independent. A weight's error goes when its layer is float, an activation's when
    all that make and read it are: so what is bought is a layer, or an activation with the steps around it. What
    takes away the most error per byte comes first.
    """
    int8 = Int8(graph_module)
    int8.watch(images)
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
    return Spared([n.name for n in graph_module.graph.nodes if n in kept], layers, allowed)


def _harm(int8: Int8, images: Images) -> dict[Part, float]:
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
    return FLOAT_BYTES * int(tensor_of(graph_module, unit.args[1]).numel()) + SEAM_BYTES

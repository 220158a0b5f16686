"""What a net costs before it is trained: multiply-adds, parameters and activation memory, per layer and in total.

Counted on the graph that ships: batch norm folded into the convolutions, one image at a time. Multiply-adds come from
torch's own FLOP formulas (a multiply-add is two of its operations); only convolutions and matrix products count, as in
the papers' tables.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import fx, nn
from torch.utils.flop_counter import FlopCounterMode, conv_flop_count, mm_flop

from pipeline.core.errors import InputError
from pipeline.graph.folding import CONV, fold

SMALLEST = 32  # pixels: below, the last feature map has no cell
LINEAR = torch.ops.aten.linear.default
_IN_PLACE = {"relu", "relu_", "hardtanh", "hardtanh_", "clamp", "hardswish_", "silu_", "dropout", "dropout_"}
_VIEWS = {"view", "reshape", "flatten", "permute", "squeeze", "unsqueeze", "contiguous", "alias", "expand"}


@dataclass(frozen=True, slots=True)
class Layer:
    """A convolution or a linear layer: `macs` multiply-adds, `params` weights and biases, `output` without batch.

    The last one may be of kind "other": what a net has besides (attention, norms that do not fold), in one sum.
    """

    name: str
    kind: str
    output: tuple[int, ...]
    macs: int
    params: int


@dataclass(frozen=True, slots=True)
class Cost:
    """`weights` are the parameters without biases; `peak_bytes` is the most memory that activations need at once."""

    macs: int
    params: int
    weights: int
    activation_bytes: int
    peak_bytes: int
    layers: list[Layer]


def cost(net: nn.Module, shape: tuple[int, int, int]) -> Cost:
    """The cost of `net` for one input of `shape` (channels, height, width), in float32.

    `activation_bytes` adds up every tensor that is written; `peak_bytes` lets go of each after its last use, as a
    runtime does, with activation functions in place. Weights are in neither.
    """
    inputs = (torch.zeros(1, *shape),)
    graph = fold(net, inputs)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        graph(*inputs)
    macs = counter.get_total_flops() // 2
    layers, weights = [], 0
    seen: set[str] = set()
    for node in graph.graph.nodes:
        kind = _kind(node)
        if kind is None:
            continue
        layer = str(node.meta.get("shared") or getattr(node.args[1], "target", node.name))
        own = [t.meta["val"].numel() for t in node.args[1:3] if isinstance(t, fx.Node)]
        if layer in seen:  # a head that several levels share: its parameters count once
            own = []
        seen.add(layer)
        weights += own[0] if own else 0
        output = tuple(node.meta["val"].shape[1:])
        layers.append(Layer(_name(node), kind, output, _macs(node, kind), sum(own)))
    left = Layer("", "other", (), macs - sum(x.macs for x in layers), _other_parameters(graph))
    if left.macs or left.params:
        layers.append(left)
    activation, peak = _memory(graph.graph)
    return Cost(macs, sum(x.params for x in layers), weights, activation, peak, layers)


def _other_parameters(graph: fx.GraphModule) -> int:
    """Of what is neither a convolution nor a linear layer: layer norms, position embeddings, norms before a layer."""
    named = dict(graph.named_parameters())
    used = {
        str(node.target)
        for node in graph.graph.nodes
        if node.op == "get_attr" and any(_kind(user) is None for user in node.users)
    }
    return sum(named[name].numel() for name in used if name in named)


@lru_cache(maxsize=128)  # a table of nets names some of them again
def backbone_cost(backbone: str, size: int, labels: int = 1000) -> Cost:
    """A classifier of `labels` classes on a timm or MobileNet name at `size` pixels; InputError if either is wrong."""
    from pipeline.models.backbones import check_size, classifier, read_pretrained

    if size < SMALLEST:
        raise InputError(f"resolution {size}: expected at least {SMALLEST} pixels")
    random = read_pretrained(backbone, False)
    check_size(backbone, size)
    return cost(classifier(backbone, random, num_classes=labels), (3, size, size))


def cost_text(name: str, size: int, found: Cost, layers: bool) -> str:
    """The cost of net `name` at `size` pixels for a terminal; with `layers` a line for each of them before it."""
    lines = []
    for layer in found.layers if layers else []:
        output = "x".join(map(str, layer.output))
        lines.append(f"{layer.name:32} {layer.kind:14} {output:>14} {layer.macs / 1e6:10.2f} M {layer.params:10,}")
    lines.append(
        f"{name} at {size}: {found.macs / 1e6:.4g} M multiply-adds, {found.params / 1e6:.3g} M parameters, "
        f"activations {found.activation_bytes / 1e6:.3g} MB, {found.peak_bytes / 1e6:.3g} MB of them at once (float32)"
    )
    return "\n".join(lines)


def _kind(node: fx.Node) -> str | None:
    if node.target is CONV:
        groups, channels = _groups(node), _shape(node.args[0])[1]
        kernel = "x".join(map(str, _shape(node.args[1])[2:]))
        return f"{'depthwise' if groups == channels > 1 else 'conv'} {kernel}"
    return "linear" if node.target is LINEAR else None


def _macs(node: fx.Node, kind: str) -> int:
    x, weight, out = _shape(node.args[0]), _shape(node.args[1]), list(node.meta["val"].shape)
    if kind == "linear":
        rows = int(torch.Size(x[:-1]).numel())
        return int(mm_flop((rows, x[-1]), (weight[1], weight[0]))) // 2
    return int(conv_flop_count(x, weight, out)) // 2


def _groups(node: fx.Node) -> int:
    groups = node.args[6] if len(node.args) > 6 else node.kwargs.get("groups", 1)
    return int(groups)  # type: ignore[arg-type]


def _memory(graph: fx.Graph) -> tuple[int, int]:
    """Bytes written in all, and the most that lives at once."""
    order = {node: i for i, node in enumerate(graph.nodes)}
    owner: dict[fx.Node, fx.Node] = {}  # the node whose memory holds this node's result
    last: dict[fx.Node, int] = {}
    size: dict[fx.Node, int] = {}
    constant = {node for node in graph.nodes if node.op == "get_attr"}
    for node in graph.nodes:
        if node.op in ("get_attr", "output") or not isinstance(node.meta.get("val"), torch.Tensor):
            continue
        inputs = [n for n in node.all_input_nodes if n not in constant]
        name = _op(node)
        alone = len(inputs) == 1 and len(inputs[0].users) == 1
        if inputs and (name in _VIEWS or (name in _IN_PLACE and alone)):
            owner[node] = owner[inputs[0]]
        else:
            owner[node] = node
            size[node] = node.meta["val"].numel() * node.meta["val"].element_size()
        last[owner[node]] = max([last.get(owner[node], 0), order[node], *(order[user] for user in node.users)])
    peak = max(sum(size[n] for n in size if order[n] <= i <= last[n]) for i in range(len(order)))
    return sum(size.values()), peak


def _op(node: fx.Node) -> str:
    return str(node.target).removeprefix("aten.").split(".")[0] if node.op == "call_function" else ""


def _shape(node: Any) -> list[int]:
    return list(node.meta["val"].shape)


def _name(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {}
    names = [path for path, _ in stack.values() if path]
    return str(names[-1]).removeprefix("L['self'].") if names else node.name

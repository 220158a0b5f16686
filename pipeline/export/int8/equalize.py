"""Cross-layer equalization: every channel of an activation fills its range, for the layers around it undo the scaling.

Nagel et al. 2019, "Data-Free Quantization Through Weight Equalization and Bias Correction". There it evens out weights
that share one scale. Weights have a scale per output channel here, so what it evens out is the activations: a channel c
is multiplied by s_c in the layers that make it and divided by s_c in those that read it, which is the same function
where nothing stands between but sums, poolings, padding and ReLU. A ReLU6 would cut off a channel earlier: a
channel grows there only where it stays below 6 by a margin on the calibration images; on others it may not.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, fx

from pipeline.graph.folding import ATEN, CLIPS, CONV, LINEAR, RELUS, SUMS, Images, own, tensor_of

# steps that give s x f(x) for s x x, s > 0, channel by channel
THROUGH = (
    *CLIPS, *RELUS, *SUMS, ATEN.pad.default, ATEN.max_pool2d.default, ATEN.avg_pool2d.default,
    ATEN.adaptive_avg_pool2d.default, ATEN.mean.dim, ATEN.flatten.using_ints, ATEN.dropout.default,
    ATEN.upsample_nearest2d.vec,
)  # fmt: skip
STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0)
MOST = 16.0  # a channel that is all but zero is left so
LIMIT = 6.0  # of a ReLU6
MARGIN = 1.25  # that a channel stays below it


@dataclass(eq=False)
class _Group:
    """Steps whose outputs have the same channels, scaled alike."""

    steps: list[fx.Node] = field(default_factory=list)
    makers: list[fx.Node] = field(default_factory=list)
    readers: list[fx.Node] = field(default_factory=list)
    free: bool = True  # nothing else reads or makes it


class _Channels(fx.Interpreter):
    """Runs a graph and keeps, of each step in `watched`, the smallest, largest and mean square value per channel."""

    def __init__(self, graph_module: fx.GraphModule, watched: set[fx.Node]) -> None:
        super().__init__(graph_module)
        self.watched = watched
        self.least: dict[fx.Node, Tensor] = {}
        self.most: dict[fx.Node, Tensor] = {}
        self.square: dict[fx.Node, Tensor] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if n in self.watched:
            channels = value.transpose(0, 1).flatten(1)
            least, most = channels.aminmax(dim=1)
            square = channels.square().mean(1)
            first = n not in self.least
            self.least[n] = least if first else torch.minimum(self.least[n], least)
            self.most[n] = most if first else torch.maximum(self.most[n], most)
            self.square[n] = square if first else self.square[n] + square
        return value


def equalize(graph_module: fx.GraphModule, images: Images) -> None:
    """Scale the channels of a folded graph in place by what they are for `images`.

    How far a channel goes towards the largest is what leaves the least error, of 8-bit activations and of the weights
    that read them, by a simple estimate.
    """
    for i, layer in enumerate(graph_module.graph.find_nodes(op="call_function", target=LINEAR)):
        weight, bias = (tensor_of(graph_module, a) for a in (*layer.args, None)[1:3])
        if weight is not None:  # the net's own, which others may read, stays as it is
            own(graph_module, layer, f"linear{i}", weight, bias)
    graph_module.recompile()
    groups = [g for g in _groups(graph_module.graph) if g.free and g.makers and g.readers]
    seen = _Channels(graph_module, {n for g in groups for n in g.steps})
    with torch.inference_mode():
        for image in images:
            seen.run(torch.from_numpy(image))
    with torch.no_grad():
        for group in groups:
            scale = _scale(graph_module, group, seen)
            if scale is not None:
                _apply(graph_module, group, scale)


def _groups(graph: fx.Graph) -> list[_Group]:
    group_of: dict[fx.Node, _Group] = {}

    for node in graph.nodes:
        if node.op in ("get_attr", "call_module"):
            continue
        inputs = [n for n in node.all_input_nodes if n in group_of]
        if node.target in THROUGH and inputs and len(inputs) == len(node.all_input_nodes):
            group = _merged(inputs, group_of)
            group.free &= _keeps_channels(node)
        elif node.target in (CONV, LINEAR) and _plain(node):
            if node.args[0] in group_of:
                group_of[node.args[0]].readers.append(node)
            group = _Group(makers=[node])
        else:
            for n in inputs:
                group_of[n].free = False
            group = _Group(free=False)
        if node.op != "output":
            group.steps.append(node)
            group_of[node] = group
    return list({id(g): g for g in group_of.values()}.values())


def _merged(nodes: list[fx.Node], group_of: dict[fx.Node, _Group]) -> _Group:
    """One group of those that `nodes` are in."""
    first, *others = {id(group_of[n]): group_of[n] for n in nodes}.values()
    for other in others:
        first.steps += other.steps
        first.makers += other.makers
        first.readers += other.readers
        first.free &= other.free
        group_of.update(dict.fromkeys(other.steps, first))
    return first


def _keeps_channels(node: fx.Node) -> bool:
    """Whether what a step of THROUGH does to a channel is the same for any scale, but for the limit of a ReLU6."""
    arguments: Any = node.args
    match node.target:
        case ATEN.pad.default:
            return len(arguments) < 4 or arguments[2] == "replicate" or not arguments[3]
        case ATEN.flatten.using_ints:
            return len(arguments) > 1 and arguments[1] == 1
        case ATEN.mean.dim:
            return sorted(d % 4 for d in arguments[1]) == [2, 3]
        case ATEN.hardtanh.default | ATEN.hardtanh_.default:
            return tuple(arguments[1:]) == (0.0, LIMIT)
        case ATEN.add.Tensor | ATEN.add_.Tensor:
            return len(arguments) == 2 and all(isinstance(a, fx.Node) for a in arguments)
    return True


def _plain(node: fx.Node) -> bool:
    """Whether every output channel of a layer reads all channels of its input, or its own one alone."""
    arguments: Any = node.args
    weight, read = arguments[1].meta.get("val"), arguments[0].meta.get("val")
    if weight is None or arguments[1].op != "get_attr" or (node.target is LINEAR and (read is None or read.ndim != 2)):
        return False
    groups = arguments[6] if node.target is CONV and len(arguments) > 6 else 1
    return bool(groups == 1 or (weight.shape[1] == 1 and groups == weight.shape[0]))


def _scale(graph_module: fx.GraphModule, group: _Group, seen: _Channels) -> Tensor | None:
    """What to multiply each channel by; None where nothing is gained or the channels are not told apart."""
    channels = len(seen.most[group.makers[0]])
    if any(len(seen.most[n]) != channels for n in group.steps):
        return None
    quantized = [n for n in group.steps if not any(u.target in (*CLIPS, *RELUS) for u in n.users)]
    least = torch.stack([seen.least[n] for n in quantized]).clamp(max=0)
    most = torch.stack([seen.most[n] for n in quantized]).clamp(min=0)
    square = torch.stack([seen.square[n] for n in quantized]).amax(0)
    reach = (most - least).amax(0).clamp(min=1e-6)
    room = torch.full((channels,), MOST)
    clips = [n for n in group.steps if n.target in CLIPS]
    if clips:
        highest = torch.stack([seen.most[n] for n in clips]).amax(0)
        room = (LIMIT / (MARGIN * highest.clamp(min=1e-3))).clamp(1, MOST)
    weights = [_by_input(tensor_of(graph_module, n.args[1]), channels) for n in group.readers]
    scales = [(reach.max() / reach).pow(strength).minimum(room) for strength in STRENGTHS]
    errors = [_error(s, (most * s).amax(1) - (least * s).amin(1), square, weights) for s in scales]
    best = errors.index(min(errors))
    return scales[best] if best else None


def _error(s: Tensor, spans: Tensor, square: Tensor, weights: list[tuple[Tensor, bool]]) -> float:
    """Twelve times the expected squared error of what the readers say when channels are scaled by `s`.

    `spans` are the ranges of the activations, `square` their mean squares per channel, before scaling; a weight with an
    output for each channel has a scale for each as well, so that it loses nothing.
    """
    error = 0.0
    for weight, alone in weights:
        scaled = weight / s[:, None]
        error += float((spans / 255).square().mean() * scaled.square().sum())
        if not alone:
            steps = scaled.abs().amax((1, 2)) / 127
            error += float(steps.square().sum() * (square * s.square()).sum() * weight.shape[2])
    return error


def _by_input(weight: Tensor, channels: int) -> tuple[Tensor, bool]:
    """[outputs, channels, taps] of a layer that reads `channels`; whether each output reads its own channel alone."""
    if weight.ndim == 4 and weight.shape[1] == 1 and weight.shape[0] == channels:
        return weight.reshape(1, channels, -1), True
    return weight.reshape(len(weight), channels, -1), False


def _apply(graph_module: fx.GraphModule, group: _Group, s: Tensor) -> None:
    for maker in group.makers:
        for argument in maker.args[1:3]:
            if isinstance(argument, fx.Node):
                tensor = tensor_of(graph_module, argument)
                tensor.mul_(s.view(-1, *[1] * (tensor.ndim - 1)))
    for reader in group.readers:
        tensor = tensor_of(graph_module, reader.args[1])
        tensor.copy_((_by_input(tensor, len(s))[0] / s[:, None]).reshape(tensor.shape))

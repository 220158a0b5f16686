"""The graph that every exporter starts from: batch norm folded into the convolutions, nothing shared; and what it
answers.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

ATEN = torch.ops.aten
CONV = ATEN.conv2d.default
BATCH_NORM = ATEN.batch_norm.default
PAD = ATEN.pad.default
MAX_POOL = ATEN.max_pool2d.default
LINEAR = ATEN.linear.default
LAYERS = (CONV, LINEAR, ATEN.relu.default)
CLIPS = (ATEN.hardtanh.default, ATEN.hardtanh_.default, ATEN.relu6.default)
RELUS = (ATEN.relu.default, ATEN.relu_.default)
SUMS = (ATEN.add.Tensor, ATEN.add_.Tensor)
FEW = 16  # images that int8 is equalized and judged on

Images = Sequence[NDArray[np.uint8]]  # [1, S, S, 3] each


def example(images: Images) -> tuple[Tensor]:
    """What to trace with: an input of the right shape, whatever the memory layout of `images`."""
    return (torch.zeros(images[0].shape, dtype=torch.uint8),)


def folded(deployed: nn.Module, images: Images) -> fx.GraphModule:
    """`deployed` traced for the shape of `images`, and folded."""
    return fold(deployed, example(images))


def few(images: Images) -> Images:
    """At most `FEW` of `images`, evenly spaced."""
    return images[:: -(-len(images) // FEW)]


def outputs_of(graph_module: fx.GraphModule, images: Images) -> list[NDArray[np.float32]]:
    """What the graph answers to N `images`: [N, ...] of each output."""
    with torch.inference_mode():
        each = [graph_module(torch.from_numpy(image)) for image in images]
    return [torch.cat(part).numpy() for part in zip(*each, strict=True)]


def fold(net: nn.Module, inputs: tuple[Tensor, ...], dynamic_shapes: Any = None) -> fx.GraphModule:
    """`net` traced with `inputs`, of which `dynamic_shapes` may vary: the same function in fewer steps.

    Each convolution gets weights of its own: where a head is shared by several levels, the quantizers leave all but
    one of them float or lose track of their batch norm. Files hold equal weights once all the same.
    """
    with torch.no_grad():
        graph_module: fx.GraphModule = torch.export.export(net.eval(), inputs, dynamic_shapes=dynamic_shapes).module()
        for i, conv in enumerate(graph_module.graph.find_nodes(op="call_function", target=CONV)):
            weight, bias = (tensor_of(graph_module, a) for a in (*conv.args, None)[1:3])
            # the same name for calls that share weights, so that `cost` counts these once
            conv.meta["shared"] = str(getattr(conv.args[1], "target", ""))
            after = next(iter(conv.users))
            if len(conv.users) == 1 and after.target is BATCH_NORM:
                gamma, beta, mean, variance = (tensor_of(graph_module, a) for a in after.args[1:5])
                epsilon: Any = after.args[7]
                conv.meta["shared"] += f" {getattr(after.args[1], 'target', '')}"
                weight, bias = fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, gamma, beta)
                after.replace_all_uses_with(conv)
                graph_module.graph.erase_node(after)
            own(graph_module, conv, f"conv{i}", weight, bias)
        _pad_with_numbers(graph_module)
        graph_module.graph.eliminate_dead_code()
        graph_module.delete_all_unused_submodules()
        graph_module.recompile()
    return graph_module


def _pad_with_numbers(graph_module: fx.GraphModule) -> None:
    """Pad with the nearest value instead of minus infinity before a max pooling, as in NASNet.

    The pooling's answer is the same, for a window that sees a copy of a border value sees that value too; and the
    quantizers find ranges that end.
    """
    for pad in graph_module.graph.find_nodes(op="call_function", target=PAD):
        infinite = len(pad.args) > 3 and pad.args[3] == float("-inf")
        if infinite and all(user.target is MAX_POOL for user in pad.users):
            pad.args = (*pad.args[:2], "replicate")


def edges(graph_module: fx.GraphModule) -> set[str]:
    """The names of the steps before the first convolution and of those after the last layer of an output (a sigmoid,
    landmarks placed in their box).

    They stay float in an int8 file: they cost nothing, and their error would go straight into the answer.
    """
    nodes = list(graph_module.graph.nodes)
    first = nodes.index(graph_module.graph.find_nodes(op="call_function", target=CONV)[0])
    found = {node.name for node in nodes[:first]}
    queue = list(graph_module.graph.output_node().all_input_nodes)
    while queue:
        node = queue.pop()
        if node.op == "call_function" and node.target not in LAYERS and node.name not in found:
            found.add(node.name)
            queue += node.all_input_nodes
    return found


def tensor_of(graph_module: fx.GraphModule, argument: Any) -> Any:
    """The constant that an argument of a step stands for; None if it stands for no constant."""
    if not isinstance(argument, fx.Node) or argument.op != "get_attr":
        return None
    value: Any = graph_module
    for name in str(argument.target).split("."):
        value = getattr(value, name)
    return value


def own(graph_module: fx.GraphModule, layer: fx.Node, name: str, weight: Tensor | None, bias: Tensor | None) -> None:
    """Give a layer copies of `weight` and `bias`, which no other step reads."""
    arguments: list[fx.Node | None] = []
    with graph_module.graph.inserting_before(layer):
        for kind, tensor in (("weight", weight), ("bias", bias)):
            if tensor is None:
                arguments.append(None)
                continue
            values = tensor.detach().clone()
            graph_module.register_buffer(f"{name}_{kind}", values)
            node = graph_module.graph.get_attr(f"{name}_{kind}")
            node.meta["val"] = values
            arguments.append(node)
    layer.args = (layer.args[0], *arguments, *layer.args[3:])

"""Layers that compute the same and train in less time on a CPU: `quicken` and `join_frozen_norms` put them in place."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

SAME = 1e-3  # of the largest value: more is no rounding
NORMS = (nn.BatchNorm2d, BatchNormAct2d)


class _FloatBackward(torch.autograd.Function):
    """A bfloat16 depthwise convolution with gradients in float32 (oneDNN has no fast ones in bfloat16 for these)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.conv = conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        c, (need_x, need_weight, need_bias, _) = ctx.conv, ctx.needs_input_grad
        settings = (c.stride, c.padding, c.dilation, False, (0, 0), c.groups)
        dx, dw, db = torch.ops.aten.convolution_backward(
            grads[0].float(), x.float(), weight.float(), [len(weight)], *settings, (need_x, need_weight, need_bias)
        )
        return *(None if d is None else d.to(x.dtype) for d in (dx, dw, db)), None


def _convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv` with another weight and bias, and gradients in float32 where those of bfloat16 would be slow."""
    half = x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()
    if not (half and _is_slow(conv)):
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    with torch.autocast("cpu", enabled=False):
        y: Tensor = _FloatBackward.apply(
            x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16(), conv
        )
    return y


def _is_slow(conv: nn.Conv2d) -> bool:
    """Whether its gradients in bfloat16 take long: depthwise with a stride or a kernel above 3."""
    wide = max(conv.kernel_size) > 3 or max(conv.stride) > 1
    return wide and conv.groups == conv.in_channels > 1 and not isinstance(conv.padding, str)


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` in all but the type of its gradients, and in that only under bfloat16 autocast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return _convolve(self, x, self.weight, self.bias)


def quicken(net: nn.Module) -> None:
    """Turn the convolutions of `net` whose gradients are slow in bfloat16 into `DepthwiseConv2d`.

    Their weights stay the same tensors under the same names.
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and _is_slow(module):
            module.__class__ = DepthwiseConv2d


class _NormedConv2d(nn.Conv2d):
    """A convolution and the frozen batch norm after it in one: no pass over the activations for the norm.

    All four of their tensors keep their names, and learn as they would apart.
    """

    norm: tuple[nn.BatchNorm2d]  # in a tuple: the module it belongs to has it already

    def forward(self, x: Tensor) -> Tensor:
        norm = self.norm[0]
        assert norm.running_var is not None
        assert norm.running_mean is not None
        scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
        return _convolve(self, x, self.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale)


class _Joined(nn.BatchNorm2d):
    """What is left of a batch norm that has gone into its convolution: nothing."""

    def forward(self, x: Tensor) -> Tensor:
        return x


class _JoinedAct(BatchNormAct2d):
    """The same of one that has an activation: that alone."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(x))
        return y


def learning_norms(net: nn.Module) -> list[nn.BatchNorm2d]:
    """The batch norms of `net` that take the statistics of what they are shown: in training mode, and not joined."""
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and type(m) in NORMS and m.training]


@torch.no_grad()
def measure_norms(norms: list[nn.BatchNorm2d], forward: Callable[[Any], Any], batches: Sequence[Any]) -> None:
    """Give `norms` the statistics of what `forward` shows them of `batches`, all counting the same."""
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = None  # the mean of all batches
    for batch in batches:
        forward(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval()
        norm.momentum = momentum


def join_frozen_norms(net: nn.Module, inputs: Tensor) -> int:
    """Join the batch norms of `net`, all of which keep their statistics from here on, to the convolutions before them.

    Returns how many could be joined; 0, and `net` is as it was, if `net(inputs)` does not stay the same (a convolution
    whose result is used elsewhere too).
    """
    was_training = net.training
    net.eval()
    pairs, wanted = _pairs(net, inputs)
    classes = [(conv.__class__, norm.__class__) for conv, norm in pairs]
    for conv, norm in pairs:
        conv.__class__, norm.__class__ = _NormedConv2d, (_Joined if type(norm) is nn.BatchNorm2d else _JoinedAct)
        conv.norm = (norm,)  # type: ignore[assignment]
    found = _run(net, inputs)
    if any(float((a - b).abs().max()) > SAME * float(b.abs().max()) for a, b in zip(found, wanted, strict=True)):
        for (conv, norm), (conv_class, norm_class) in zip(pairs, classes, strict=True):
            conv.__class__, norm.__class__ = conv_class, norm_class
            del conv.norm
        pairs = []
    net.train(was_training)
    return len(pairs)


def _pairs(net: nn.Module, inputs: Tensor) -> tuple[list[tuple[nn.Conv2d, nn.BatchNorm2d]], list[Tensor]]:
    """Each convolution without a bias whose very result is a batch norm's input, with that norm; and `net(inputs)`."""
    made: dict[int, tuple[nn.Conv2d, Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def remember(conv: nn.Module, _: Any, result: Tensor) -> None:
        assert isinstance(conv, nn.Conv2d)
        made[id(result)] = conv, result

    def meet(norm: nn.Module, given: tuple[Tensor, ...]) -> None:
        conv, _ = made.pop(id(given[0]), (None, None))
        if conv is not None and isinstance(norm, nn.BatchNorm2d):
            pairs.append((conv, norm))

    hooks = [
        m.register_forward_hook(remember)
        for m in net.modules()
        if type(m) in (nn.Conv2d, DepthwiseConv2d) and m.bias is None and m.padding_mode == "zeros"
    ]
    hooks += [m.register_forward_pre_hook(meet) for m in net.modules() if type(m) in NORMS and m.affine]
    try:
        results = _run(net, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return pairs, results


@torch.no_grad()
def _run(net: nn.Module, inputs: Tensor) -> list[Tensor]:
    results = net(inputs)
    return [results] if isinstance(results, Tensor) else list(results)

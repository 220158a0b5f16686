"""Layers that compute the same and train in less time and memory; `quicken` and `join_frozen_norms` put them in."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from torch.nn import functional as F

SAME = 1e-3  # of the largest value: a difference up to this is rounding
QUICK_COLUMNS = 3  # of a depthwise kernel: with more columns oneDNN's weight gradient is slow
NORMS = (nn.BatchNorm2d, BatchNormAct2d)


class _Depthwise(torch.autograd.Function):
    """A depthwise convolution whose gradients go the ways that oneDNN has fast kernels for."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, conv: nn.Conv2d) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.conv = conv
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        gradient = grads[0].contiguous(memory_format=torch.channels_last)
        need_x, need_weight, need_bias, _ = ctx.needs_input_grad
        return (
            _input_gradient(gradient, x, weight, ctx.conv) if need_x else None,
            _weight_gradient(gradient, x, weight, ctx.conv) if need_weight else None,
            gradient.sum((0, 2, 3)) if need_bias else None,
            None,
        )


def _input_gradient(gradient: Tensor, x: Tensor, weight: Tensor, conv: nn.Conv2d) -> Tensor:
    """Without a stride a convolution itself, with the kernel turned about; with one, bfloat16 has no fast kernel."""
    pad = _pad(conv)
    if max(conv.stride) == 1:
        rest = [side - 1 - p for side, p in zip(weight.shape[2:], pad, strict=True)]
        return F.conv2d(gradient, weight.flip(2, 3).contiguous(), None, 1, rest, 1, conv.groups)
    like = torch.empty_like(x, dtype=torch.float32)  # for its shape
    settings = (None, conv.stride, pad, conv.dilation, False, (0, 0), conv.groups)
    wanted = torch.ops.aten.convolution_backward(
        gradient.float(), like, weight.float(), *settings, (True, False, False)
    )
    dx: Tensor = wanted[0].to(x.dtype)
    return dx


def _weight_gradient(gradient: Tensor, x: Tensor, weight: Tensor, conv: nn.Conv2d) -> Tensor:
    """oneDNN's kernels for it are fast up to `QUICK_COLUMNS` columns of weights: of more, that many at a time."""
    (high, wide), (down, right) = weight.shape[2:], conv.stride
    rows, columns = _pad(conv)
    if wide > QUICK_COLUMNS:
        x, columns = F.pad(x, (columns, columns)), 0
    parts = []
    for first in range(0, wide, QUICK_COLUMNS):
        count = min(QUICK_COLUMNS, wide - first)
        seen = x if wide <= QUICK_COLUMNS else x[..., first : first + (gradient.shape[3] - 1) * right + count]
        some = torch.ops.aten.convolution_backward(
            gradient,
            seen.contiguous(memory_format=torch.channels_last),
            weight.new_empty(len(weight), 1, high, count),  # for its shape
            *(None, (down, right), (rows, columns), (1, 1), False, (0, 0), conv.groups),
            (False, True, False),
        )
        parts.append(some[1])
    return torch.cat(parts, dim=3)


def _convolve(conv: nn.Conv2d, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`conv` with another weight and bias, and with quick gradients where PyTorch's own take long."""
    half = torch.is_autocast_enabled("cpu")
    slow = half or weight.shape[3] > QUICK_COLUMNS
    if not (x.device.type == "cpu" and torch.is_grad_enabled() and slow and _is_depthwise(conv)):
        return F.conv2d(x, weight, bias, conv.stride, conv.padding, conv.dilation, conv.groups)
    if half:
        x, weight, bias = x.bfloat16(), weight.bfloat16(), None if bias is None else bias.bfloat16()
    with torch.autocast("cpu", enabled=False):
        y: Tensor = _Depthwise.apply(x, weight, bias, conv)
    return y


def _is_depthwise(conv: nn.Conv2d) -> bool:
    plain = max(conv.dilation) == 1 and not isinstance(conv.padding, str) and conv.padding_mode == "zeros"
    inside = plain and all(p < k for p, k in zip(_pad(conv), conv.kernel_size, strict=True))
    return inside and conv.groups == conv.in_channels == conv.out_channels > 1


def _pad(conv: nn.Conv2d) -> list[int]:
    assert not isinstance(conv.padding, str)
    return list(conv.padding)


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` in all but the way to its gradients, and in that only on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        return _convolve(self, x, self.weight, self.bias)


class _ReLU6(torch.autograd.Function):
    """ReLU6 whose gradient is told from its result, which the next layer keeps anyway.

    torch keeps the input as well: of a MobileNet a third of all that waits for the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, inplace: bool) -> Tensor:
        y = F.relu6(x, inplace)
        if inplace:
            ctx.mark_dirty(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (y,) = ctx.saved_tensors
        gradient: Tensor = torch.ops.aten.hardtanh_backward(grads[0], y, 0, 6)
        return gradient, None


class LeanReLU6(nn.ReLU6):
    """`nn.ReLU6` in all but what it keeps for its gradient."""

    def forward(self, x: Tensor) -> Tensor:
        if not (torch.is_grad_enabled() and x.requires_grad):
            return super().forward(x)
        y: Tensor = _ReLU6.apply(x, self.inplace)
        return y


def quicken(net: nn.Module) -> None:
    """Turn the depthwise convolutions of `net` into `DepthwiseConv2d`, and each ReLU6 into a `LeanReLU6`.

    Their weights stay the same tensors under the same names.
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and _is_depthwise(module):
            module.__class__ = DepthwiseConv2d
        elif type(module) is nn.ReLU6:
            module.__class__ = LeanReLU6


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
    joined = (_Joined, _JoinedAct)
    return [m for m in net.modules() if isinstance(m, nn.BatchNorm2d) and not isinstance(m, joined) and m.training]


@torch.no_grad()
def measure_norms(norms: list[nn.BatchNorm2d], forward: Callable[[Any], Any], batches: Iterable[Any]) -> None:
    """Give `norms` the statistics of what `forward` shows them of `batches`, one at least, all counting the same."""
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

"""Depthwise convolutions whose gradients in bfloat16 on a CPU do not take longer than the rest of the net."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _FloatBackward(torch.autograd.Function):
    """A bfloat16 depthwise convolution with gradients in float32 (oneDNN has no fast ones in bfloat16 for these)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, conv: "DepthwiseConv2d") -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.conv = conv
        return F.conv2d(x, weight, None, conv.stride, conv.padding, conv.dilation, conv.groups)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        c = ctx.conv
        settings = (c.stride, c.padding, c.dilation, False, (0, 0), c.groups)
        wanted = (ctx.needs_input_grad[0], ctx.needs_input_grad[1], False)
        dx, dw, _ = torch.ops.aten.convolution_backward(
            grads[0].float(), x.float(), weight.float(), None, *settings, wanted
        )
        return dx.to(x.dtype) if wanted[0] else None, dw.to(weight.dtype) if wanted[1] else None, None


class DepthwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` in all but the type of its gradients, and in that only under bfloat16 autocast on a CPU."""

    def forward(self, x: Tensor) -> Tensor:
        if not (x.device.type == "cpu" and torch.is_autocast_enabled("cpu") and torch.is_grad_enabled()):
            return super().forward(x)
        with torch.autocast("cpu", enabled=False):
            y: Tensor = _FloatBackward.apply(x.bfloat16(), self.weight.bfloat16(), self)
        return y


def quicken(net: nn.Module) -> None:
    """Turn the depthwise convolutions of `net` that have a stride or a kernel above 3 into `DepthwiseConv2d`.

    Their weights stay the same tensors under the same names. The others (3x3, stride 1) are fast as they are.
    """
    for module in net.modules():
        if type(module) is nn.Conv2d and module.groups == module.in_channels > 1 and module.bias is None:
            wide = max(module.kernel_size) > 3 or max(module.stride) > 1
            if wide and not isinstance(module.padding, str):
                module.__class__ = DepthwiseConv2d

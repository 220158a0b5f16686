"""Convolutions that the detector is made of, each with batch norm and ReLU6."""

from itertools import pairwise
from typing import Any

from torch import Tensor, nn

KERNEL = 5  # of depthwise convolutions
DEPTH = 2  # separable convolutions of a tower


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6())


def separable(inputs: int, outputs: int, kernel: int = KERNEL, stride: int = 1) -> nn.Sequential:
    """Depthwise, then pointwise."""
    depthwise = nn.Conv2d(inputs, inputs, kernel, stride, kernel // 2, groups=inputs, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(inputs), nn.ReLU6(), pointwise(inputs, outputs))


class Tower(nn.Module):
    """Separable convolutions one after the other, their weights shared by all levels, a batch norm for each.

    Maps of different strides have different statistics: while training each would be normalized by its own, and
    afterwards by a mixture of all that fits none (as in RTMDet, Lyu et al. 2022).
    """

    def __init__(self, inputs: int, channels: int, levels: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList()
        for before, after in pairwise([inputs, *[channels] * DEPTH]):
            self.convs.append(nn.Conv2d(before, before, KERNEL, padding=KERNEL // 2, groups=before, bias=False))
            self.convs.append(nn.Conv2d(before, after, 1, bias=False))
        widths = [conv.out_channels for conv in self.convs if isinstance(conv, nn.Conv2d)]
        self.norms = nn.ModuleList(nn.ModuleList(nn.BatchNorm2d(w) for w in widths) for _ in range(levels))
        self.act = nn.ReLU6()

    def forward(self, x: Tensor, level: int) -> Tensor:
        """`level` counts the strides from the finest, 0."""
        norms: Any = self.norms[level]
        for conv, norm in zip(self.convs, norms, strict=True):
            x = self.act(norm(conv(x)))
        return x

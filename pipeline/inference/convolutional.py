"""A classifier that answers for every window of a larger image in one pass.

Its linear layers become convolutions over the feature map, so windows that overlap share their features (Sermanet et
al. 2014, OverFeat, arXiv:1312.6229; Long et al. 2015, arXiv:1411.4038).
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.core.errors import InputError
from pipeline.models.classifier import Classifier

# What nets of layers that see only what is near are made of. Squeeze-and-excite, attention and "same" padding look at
# the whole image: their windows would not be those that the classifier was trained on.
_NETS = ("EfficientNet", "ResNet")
_BLOCKS = ("ConvBnAct", "DepthwiseSeparableConv", "InvertedResidual", "BasicBlock", "Bottleneck")
_TRAINED = ("DepthwiseConv2d", "LeanReLU6")
_LAYERS = ("Conv2d", "BatchNorm2d", "BatchNormAct2d", "ReLU", "ReLU6", "MaxPool2d", "Linear", *_TRAINED)
_AROUND = ("Sequential", "Identity", "Dropout", "Flatten", "SelectAdaptivePool2d", "AdaptiveAvgPool2d")
LOCAL = frozenset((*_NETS, *_BLOCKS, *_LAYERS, *_AROUND))


class FullyConvolutional(nn.Module):
    """float [N, 3, H, W], H and W at least `size` -> (logits [N, K, rows, columns],), in eval mode.

    The logits at row i, column j are the `classifier`'s of the window of `size` pixels a side whose upper left corner
    is at y = i * `stride`, x = j * `stride`. There are as many rows as windows lie in the image whole: (H - size) //
    stride + 1. On a backbone without padding they are equal up to rounding; on one with padding a window's border
    cells see the image around the window where a window cut out of it has zeros.

    `size` is the side of the images that the classifier was trained on. Its weights are shared, not copied. Raises
    InputError for a backbone that does not only look at what is near.
    """

    outputs = ("logits",)

    def __init__(self, classifier: Classifier, size: int) -> None:
        super().__init__()
        body: Any = classifier.body.eval()
        if other := sorted({type(m).__name__ for m in body.modules()} - LOCAL):
            raise InputError(
                f"{type(body).__name__} with {', '.join(other)}: layers that do not slide; expected a MobileNetV1, "
                f"MobileNetV2 or ResNet, without squeeze-and-excite"
            )
        with torch.no_grad():
            cells = int(body.forward_features(torch.zeros(1, 3, size, size)).shape[-1])
        self.size, self.stride = size, int(body.feature_info[-1]["reduction"])
        self.body: Any = body
        head: Any = classifier.head
        if isinstance(head, nn.Identity):
            self.head = nn.Sequential(nn.AvgPool2d(cells, stride=1), _AsConvolution(body.get_classifier(), 1))
        else:
            hidden, last = (m for m in head if isinstance(m, nn.Linear))
            self.head = nn.Sequential(_AsConvolution(hidden, cells), nn.ReLU6(), _AsConvolution(last, 1))

    def forward(self, images: Tensor) -> tuple[Tensor]:
        rows, columns = ((side - self.size) // self.stride + 1 for side in images.shape[2:])
        if min(rows, columns) < 1:
            raise ValueError(f"image of {tuple(images.shape[2:])} pixels; expected {self.size} or more a side")
        logits: Tensor = self.head(self.body.forward_features(images))
        return (logits[..., :rows, :columns],)  # a cell more may fit in than whole windows


class _AsConvolution(nn.Module):
    """A linear layer over the features [C, k, k] of a window, for every k x k window of a map: [N, C, h, w] ->
    [N, K, h - k + 1, w - k + 1]."""

    def __init__(self, linear: nn.Linear, cells: int) -> None:
        super().__init__()
        self.linear, self.cells = linear, cells

    def forward(self, features: Tensor) -> Tensor:
        weight = self.linear.weight.view(len(self.linear.weight), -1, self.cells, self.cells)
        return F.conv2d(features, weight, self.linear.bias)

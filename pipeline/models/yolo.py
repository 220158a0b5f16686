"""MobileNet-YOLO: backbone features at strides 8, 16 and 32, a depthwise-separable neck that passes them down and
up again (PANet, Liu et al. 2018), and one anchor-free decoupled head for all levels. ReLU6 throughout.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models import backbones
from pipeline.models.backbones import Pretrained
from pipeline.models.yolo_loss import yolo_loss

STRIDES = (8, 16, 32)


def pointwise(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU6())


def separable(channels: int, kernel: int = 5, stride: int = 1) -> nn.Sequential:
    """Depthwise then pointwise convolution, each with batch norm and ReLU6."""
    depthwise = nn.Conv2d(channels, channels, kernel, stride, kernel // 2, groups=channels, bias=False)
    return nn.Sequential(depthwise, nn.BatchNorm2d(channels), nn.ReLU6(), pointwise(channels, channels))


class Neck(nn.Module):
    def __init__(self, inputs: list[int], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(pointwise(c, channels) for c in inputs)
        self.down = nn.ModuleList(separable(channels) for _ in inputs[1:])
        self.shrink = nn.ModuleList(separable(channels, stride=2) for _ in inputs[1:])
        self.up = nn.ModuleList(separable(channels) for _ in inputs[1:])

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        for i in range(len(maps) - 2, -1, -1):
            maps[i] = self.down[i](maps[i] + F.interpolate(maps[i + 1], scale_factor=2.0, mode="nearest"))
        for i in range(1, len(maps)):
            maps[i] = self.up[i - 1](maps[i] + self.shrink[i - 1](maps[i - 1]))
        return maps


class Yolo(nn.Module):
    """float [N, 3, S, S] -> per stride s of 8, 16, 32, on a grid of S/s x S/s cells:

    scores_s [N, K, H, W] logits; boxes_s [N, 4, H, W] distances from the cell's centre to left, top, right and
    bottom in strides; with landmarks, landmarks_s [N, 3 L, H, W]: x, y from the centre in strides, visibility logit.
    """

    strides = STRIDES

    def __init__(self, backbone: str, pretrained: Pretrained, labels: int, landmarks: int, channels: int) -> None:
        super().__init__()
        kinds = ("scores", "boxes", "landmarks")[: 3 if landmarks else 2]
        self.outputs = tuple(f"{kind}_{s}" for s in STRIDES for kind in kinds)
        self.body, body_channels = backbones.feature_maps(backbone, pretrained, STRIDES)
        self.neck = Neck(body_channels, channels)
        self.classify = nn.Sequential(separable(channels), separable(channels))
        self.locate = nn.Sequential(separable(channels), separable(channels))
        self.scores = nn.Conv2d(channels, labels, 1)
        self.boxes = nn.Conv2d(channels, 4, 1)
        self.landmarks = nn.Conv2d(channels, 3 * landmarks, 1) if landmarks else None
        # every cell starts at a score of 0.01 and a box of six strides
        for layer, bias in ((self.scores, -math.log(99)), (self.boxes, 3.0)):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.constant_(torch.as_tensor(layer.bias), bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.top(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps at strides 8, 16 and 32: what does not change while the backbone is frozen."""
        return list(self.body(images))

    def top(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """The rest of the net, from what `features` gives."""
        found: list[Tensor] = []
        for level in self.neck(features):
            place = self.locate(level)
            found += [self.scores(self.classify(level)), F.relu(self.boxes(place))]
            if self.landmarks is not None:
                found.append(self.landmarks(place))
        return tuple(found)

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        return yolo_loss(outputs, STRIDES, target)

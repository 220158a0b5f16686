"""MobileNet-YOLO: a backbone's features, a depthwise-separable neck that passes them down and up again (PANet, Liu et
al. 2018), and one decoupled head for all levels. ReLU6 throughout.
"""

from collections.abc import Sequence
from typing import Protocol

from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models import backbones
from pipeline.models.backbones import Pretrained
from pipeline.models.blocks import pointwise, separable
from pipeline.models.heads import head_row

COARSEST = 32  # of the strides that backbones have; the neck makes the next


class Head(Protocol):
    """What a head of the detector is, besides an nn.Module."""

    kinds: tuple[str, ...]
    """Its outputs of each level, by the names in `ops.decode.FORMS`."""
    scores: nn.Module
    """The layer whose channels are the labels, in their order; of a head with anchors once for each."""
    landmarks: nn.Module | None
    """The same of the landmarks."""

    def __call__(self, features: Tensor, level: int) -> list[Tensor]:
        """The neck's map [N, C, S/s, S/s] of a level, counted from the finest, to an output for each of `kinds`."""
        ...

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Of all levels' outputs; `target` as in `AnchorFree.loss`."""
        ...


class Neck(nn.Module):
    """Maps of `inputs` channels, each half the size of the one before, to as many of `channels`, and `extra`
    coarser ones.
    """

    def __init__(self, inputs: list[int], channels: int, extra: int) -> None:
        super().__init__()
        levels = len(inputs) + extra
        self.lateral = nn.ModuleList(pointwise(c, channels) for c in inputs)
        self.extra = nn.ModuleList(separable(channels, channels, stride=2) for _ in range(extra))
        self.down = nn.ModuleList(separable(channels, channels) for _ in range(levels - 1))
        self.shrink = nn.ModuleList(separable(channels, channels, stride=2) for _ in range(levels - 1))
        self.up = nn.ModuleList(separable(channels, channels) for _ in range(levels - 1))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        maps = [lateral(f) for lateral, f in zip(self.lateral, features, strict=True)]
        for shrink in self.extra:
            maps.append(shrink(maps[-1]))
        for i in range(len(maps) - 2, -1, -1):
            # bilinear, the only upsampling that XNNPACK has
            larger = F.interpolate(maps[i + 1], scale_factor=2.0, mode="bilinear", align_corners=False)
            maps[i] = self.down[i](maps[i] + larger)
        for i in range(1, len(maps)):
            maps[i] = self.up[i - 1](maps[i] + self.shrink[i - 1](maps[i - 1]))
        return maps


class Yolo(nn.Module):
    """float [N, 3, S, S] -> what its head says of each stride s, on a grid of S/s x S/s cells, named <kind>_<s>; what
    each means is in `ops.decode.FORMS`, under `boxes`. `anchors` are for the heads that have some.
    """

    def __init__(
        self,
        backbone: str,
        pretrained: Pretrained,
        labels: int,
        landmarks: int,
        kind: str,
        strides: Sequence[int],
        neck: int,
        channels: int,
        dropout: float = 0.0,
        anchors: list[list[list[float]]] | None = None,
    ) -> None:
        super().__init__()
        self.strides = tuple(strides)
        own = tuple(s for s in strides if s <= COARSEST)
        self.body, body_channels = backbones.feature_maps(backbone, pretrained, own)
        self.dropout = dropout
        self.neck = Neck(body_channels, neck, len(self.strides) - len(own))
        row = head_row(kind, "detect")
        more = {"anchors": anchors} if row.anchors else {}
        self.head: Head = row.module_class(neck, channels, labels, landmarks, self.strides, **more)
        self.boxes = row.boxes
        self.outputs = tuple(f"{kind}_{s}" for s in strides for kind in self.head.kinds)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.top(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """The backbone's maps: what does not change while it is frozen."""
        return list(self.body(images))

    def top(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """The rest of the net, from what `features` gives."""
        if self.training and self.dropout:  # of whole channels: neighbours have nearly the same value (Tompson 2015)
            features = [F.dropout2d(f, self.dropout) for f in features]
        maps = self.neck(features)
        return tuple(output for level, features_of in enumerate(maps) for output in self.head(features_of, level))

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        return self.head.loss(outputs, target)

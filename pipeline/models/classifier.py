"""Image classifier: one label per image."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models import backbones
from pipeline.models.backbones import Pretrained
from pipeline.models.losses import LEAST_WEIGHT, divisor


class Classifier(nn.Module):
    """float [N, 3, S, S] -> (logits [N, K],).

    `kind`: timm's own pooling and linear layer on the last feature map, or flatten-256-dropout on it.
    """

    outputs = ("logits",)
    strides: tuple[int, ...] = ()
    boxes = ""

    def __init__(
        self, backbone: str, pretrained: Pretrained, labels: int, size: int, kind: str, dropout: float
    ) -> None:
        super().__init__()
        self.body: Any
        backbones.check_size(backbone, size)
        if kind == "pool":
            self.body = backbones.classifier(backbone, pretrained, num_classes=labels, drop_rate=dropout)
            # timm initializes this layer for 1,000 classes; with few classes its logits would start at ten and more
            nn.init.normal_(self.body.get_classifier().weight, std=0.01)
            nn.init.zeros_(self.body.get_classifier().bias)
            self.head: nn.Module = nn.Identity()
        else:
            self.body, shape = backbones.last_map(backbone, pretrained, size)
            self.head = nn.Sequential(
                nn.Flatten(),
                nn.Linear(shape.numel(), 256),
                nn.ReLU6(),
                nn.Dropout(dropout),
                nn.Linear(256, labels),
            )

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return self.top(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """The last feature map: what does not change while the backbone is frozen."""
        return [self.body.forward_features(images)]

    def top(self, features: list[Tensor]) -> tuple[Tensor]:
        """The rest of the net, from what `features` gives."""
        if isinstance(self.head, nn.Identity):
            return (self.body.forward_head(features[0]),)
        return (self.head(features[0]),)

    def backbone_parameters(self) -> list[nn.Parameter]:
        last = self.body.get_classifier() if isinstance(self.head, nn.Identity) else nn.Identity()
        head = {id(p) for p in last.parameters()}
        return [p for p in self.body.parameters() if id(p) not in head]

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Cross entropy with 5 % label smoothing; target["label"]: int64 [N], or of mixed images the labels' shares
        [N, K]; target["weight"]: of each label [K].
        """
        labels, weight = target["label"], target.get("weight")
        summed = F.cross_entropy(outputs[0].float(), labels, weight, reduction="sum", label_smoothing=0.05)
        if weight is None:
            counted = torch.ones(len(labels), device=labels.device)
        else:
            counted = labels @ weight if labels.is_floating_point() else weight[labels]
        return summed / divisor(counted.sum(), self.training, LEAST_WEIGHT)

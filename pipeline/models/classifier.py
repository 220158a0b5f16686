"""Image classifier: one label per image."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline.models import backbones
from pipeline.models.backbones import Pretrained


class Classifier(nn.Module):
    """float [N, 3, S, S] -> (logits [N, K],). `kind`: timm's own pooling and linear layer, or flatten-256-dropout."""

    outputs = ("logits",)
    strides: tuple[int, ...] = ()

    def __init__(
        self, backbone: str, pretrained: Pretrained, labels: int, size: int, kind: str, dropout: float
    ) -> None:
        super().__init__()
        if kind == "pool":
            self.body = backbones.classifier(backbone, pretrained, num_classes=labels, drop_rate=dropout)
            # timm draws this layer for a thousand classes; for a few, its logits would start at ten and more
            last: Any = self.body
            nn.init.normal_(last.get_classifier().weight, std=0.01)
            nn.init.zeros_(last.get_classifier().bias)
            self.head: nn.Module = nn.Identity()
        else:
            self.body = backbones.features(backbone, pretrained)
            with torch.no_grad():
                features = self.body.eval()(torch.zeros(1, 3, size, size)).numel()
            self.head = nn.Sequential(
                nn.Flatten(),
                nn.Linear(features, 256),
                nn.ReLU6(),
                nn.Dropout(dropout),
                nn.Linear(256, labels),
            )

    def forward(self, images: Tensor) -> tuple[Tensor]:
        return (self.head(self.body(images)),)

    def backbone_parameters(self) -> list[nn.Parameter]:
        if isinstance(self.head, nn.Identity):
            body: Any = self.body
            last = {id(p) for p in body.get_classifier().parameters()}
            return [p for p in self.body.parameters() if id(p) not in last]
        return list(self.body.parameters())

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Cross entropy with 5 % label smoothing; target["label"]: int64 [N]."""
        return F.cross_entropy(outputs[0].float(), target["label"], label_smoothing=0.05)

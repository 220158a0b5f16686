"""Classification with localization: [p_c, box, classes, landmarks] of one object from one forward pass."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from pipeline.models import backbones
from pipeline.models.backbones import Pretrained


class Localizer(nn.Module):
    """float [N, 3, S, S] -> presence logit [N, 1], box [N, 4] (x, y, w, h on the canvas, 0 to 1), class logits
    [N, K] and, with landmarks, their x, y on the canvas [N, 2 L].
    """

    strides: tuple[int, ...] = ()

    def __init__(
        self,
        backbone: str,
        pretrained: Pretrained,
        labels: int,
        landmarks: int,
        size: int,
        channels: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.outputs = ("presence", "box", "classes", "landmarks")[: 4 if landmarks else 3]
        self.body, body_channels = backbones.feature_maps(backbone, pretrained, (32,))
        cells = (size // 32) ** 2
        # flattened, not pooled: where the features lie is the answer
        self.neck = nn.Sequential(
            nn.Conv2d(body_channels[0], channels, 1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(),
            nn.Flatten(),
            nn.Dropout(dropout),
        )
        self.presence = nn.Linear(channels * cells, 1)
        self.box = nn.Linear(channels * cells, 4)
        self.classes = nn.Linear(channels * cells, labels)
        self.landmarks = nn.Linear(channels * cells, 2 * landmarks) if landmarks else None

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.top(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """The map at stride 32: what does not change while the backbone is frozen."""
        return list(self.body(images))

    def top(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """The rest of the net, from what `features` gives."""
        flat = self.neck(features[0])
        found = (self.presence(flat), self.box(flat).sigmoid(), self.classes(flat))
        return found if self.landmarks is None else (*found, self.landmarks(flat) + 0.5)

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Where p_c is 0 only the presence counts.

        target: "presence" float [N]; "box" [N, 4] xywh; "label" int64 [N]; "landmarks" [N, L, 3] (x, y, 1 where
        labelled); "weight" of each label [K], or not there. Landmarks by the wing loss (Feng et al. 2018), in
        hundredths of the canvas.
        """
        presence, box, classes = (o.float() for o in outputs[:3])
        there = target["presence"] > 0.5
        loss = F.binary_cross_entropy_with_logits(presence[:, 0], target["presence"])
        if not there.any():
            return loss
        loss = loss + F.cross_entropy(classes[there], target["label"][there], target.get("weight"))
        predicted, truth = _corners(box[there]), _corners(target["box"][there])
        loss = loss + 2 * complete_box_iou_loss(predicted, truth, reduction="mean")
        loss = loss + 5 * F.smooth_l1_loss(box[there], target["box"][there], beta=0.05)
        if len(outputs) > 3:
            points, seen = target["landmarks"][there, :, :2], target["landmarks"][there, :, 2:]
            distance = (outputs[3][there].float().view_as(points) - points).abs() * 100
            loss = loss + (_wing(distance) * seen).sum() / seen.sum().clamp(min=1) / 20
        return loss


def _wing(x: Tensor, width: float = 10.0, curvature: float = 2.0) -> Tensor:
    """w ln(1 + x / eps) below w, x - C above (Feng et al. 2018, equation 5), for x >= 0."""
    offset = width - width * torch.log1p(torch.tensor(width / curvature))
    return torch.where(x < width, width * torch.log1p(x / curvature), x - offset)


def _corners(box: Tensor) -> Tensor:
    return torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1)

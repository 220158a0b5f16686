"""Classification with localization: [p_c, box, classes, landmarks] of one object from one forward pass."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from pipeline.core.sample import Sample
from pipeline.models import backbones
from pipeline.models.backbones import Pretrained
from pipeline.models.losses import LEAST_WEIGHT, divisor

# One optimizer step moves the output of a linear layer over thousands of features by whole units. These factors make
# that a small step for the box's logits and for the landmarks, which are in sides of the box.
BOX_STEP, LANDMARK_STEP = 0.2, 0.1
SMALLEST = 0.1  # of the canvas: a smaller object does not count more for being small


class Localizer(nn.Module):
    """float [N, 3, S, S] -> presence logit [N, 1], box [N, 4] (x, y, w, h on the canvas, 0 to 1), class logits
    [N, K] and, with landmarks, their x, y on the canvas [N, 2 L].
    """

    strides: tuple[int, ...] = ()
    boxes = ""

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
        # flattened, not pooled: pooling would lose where in the image a feature is
        cells = (size // 32) ** 2
        self.body, maps = backbones.feature_maps(backbone, pretrained, (16, 32) if landmarks else (32,))
        self.neck = _flat(maps[-1], channels, dropout)
        self.presence = nn.Linear(channels * cells, 1)
        self.box = nn.Linear(channels * cells, 4)
        self.classes = nn.Linear(channels * cells, labels)
        self.landmarks: nn.Linear | None = None
        if landmarks:
            # landmarks need a finer map: four times the cells, a quarter of the channels
            fine = max(1, channels // 4)
            self.fine = _flat(maps[0], fine, dropout)
            self.landmarks = nn.Linear((channels + 4 * fine) * cells, 2 * landmarks)
            self.register_buffer("shape", torch.full((landmarks, 2), 0.5))
            self.shape: Tensor
        for head in (self.presence, self.box, self.classes, self.landmarks):
            if head is not None:
                nn.init.zeros_(head.weight)
                nn.init.zeros_(head.bias)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        return self.top(self.features(images))

    def features(self, images: Tensor) -> list[Tensor]:
        """The maps at stride 32, with landmarks at 16 before it: what does not change while the backbone is frozen."""
        return list(self.body(images))

    def top(self, features: list[Tensor]) -> tuple[Tensor, ...]:
        """The rest of the net, from what `features` gives."""
        flat = self.neck(features[-1])
        box = (BOX_STEP * self.box(flat)).sigmoid()
        found = (self.presence(flat), box, self.classes(flat))
        if self.landmarks is None:
            return found
        # relative to the box, so that only the box has to learn where the object is
        moved = self.landmarks(torch.cat([flat, self.fine(features[0])], dim=1)).unflatten(1, (-1, 2))
        in_box = self.shape + LANDMARK_STEP * moved
        return (*found, (box[:, None, :2] + box[:, None, 2:] * in_box).flatten(1))

    def start_from(self, samples: list[Sample]) -> None:
        """Begin with the landmarks where they lie on average in the boxes of `samples`, instead of in the middle."""
        if self.landmarks is None:
            return
        total, count = torch.zeros_like(self.shape), torch.zeros(len(self.shape), 1)
        for o in (o for s in samples for o in s.objects if min(o.box[2:]) > 0):
            x, y, w, h = o.box
            for i, p in enumerate(o.landmarks):
                if p.visibility:
                    total[i] += torch.tensor([(p.x - x) / w, (p.y - y) / h])
                    count[i] += 1
        self.shape.copy_(torch.where(count > 0, total / count.clamp(min=1), self.shape))

    def backbone_parameters(self) -> list[nn.Parameter]:
        return list(self.body.parameters())

    def loss(self, outputs: tuple[Tensor, ...], target: dict[str, Tensor]) -> Tensor:
        """Where p_c is 0 only the presence counts.

        target: "presence" float [N]; "box" [N, 4] xywh; "label" int64 [N]; "landmarks" [N, L, 3] (x, y, 1 where
        labelled); "weight" of each label [K], or not there. Landmarks by the wing loss, in hundredths of sqrt(w h) of
        the true box, which is what their error is measured in.
        """
        presence, box, classes = (o.float() for o in outputs[:3])
        there, weight = target["presence"] > 0.5, target.get("weight")
        labels, count = target["label"][there], divisor(there.sum(), self.training)
        loss = F.binary_cross_entropy_with_logits(presence[:, 0], target["presence"], reduction="sum")
        loss = loss / divisor(torch.ones_like(there).sum(), self.training)
        named = F.cross_entropy(classes[there], labels, weight, reduction="sum")
        loss = loss + named / (count if weight is None else divisor(weight[labels].sum(), self.training, LEAST_WEIGHT))
        predicted, truth = _corners(box[there]), _corners(target["box"][there])
        loss = loss + 2 * complete_box_iou_loss(predicted, truth, reduction="sum") / count
        loss = loss + 5 * F.smooth_l1_loss(box[there], target["box"][there], beta=0.05, reduction="sum") / (4 * count)
        if len(outputs) > 3:
            points, seen = target["landmarks"][there, :, :2], target["landmarks"][there, :, 2:]
            size = target["box"][there, 2:].prod(1).sqrt().clamp(min=SMALLEST)[:, None, None]
            distance = (outputs[3][there].float().view_as(points) - points).abs() / size * 100
            loss = loss + (_wing(distance) * seen).sum() / divisor(seen.sum(), self.training) / 30
        return loss


def _flat(inputs: int, channels: int, dropout: float) -> nn.Sequential:
    """[N, inputs, H, W] -> [N, channels H W]."""
    squeeze = nn.Conv2d(inputs, channels, 1, bias=False)
    return nn.Sequential(squeeze, nn.BatchNorm2d(channels), nn.ReLU6(), nn.Flatten(), nn.Dropout(dropout))


def _wing(x: Tensor, width: float = 20.0, curvature: float = 4.0) -> Tensor:
    """w ln(1 + x / eps) below w, x - C above (Feng et al. 2018, equation 5), for x >= 0. Their w of 10 and eps of 2 are
    pixels of a face crop of 64, near enough these hundredths of the object.
    """
    offset = width - width * torch.log1p(torch.tensor(width / curvature))
    return torch.where(x < width, width * torch.log1p(x / curvature), x - offset)


def _corners(box: Tensor) -> Tensor:
    return torch.cat([box[:, :2], box[:, :2] + box[:, 2:]], dim=1)

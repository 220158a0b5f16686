"""Build a model from its spec, load a trained one, and the form of it that ships."""

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.core.errors import InputError
from pipeline.core.files import sha256
from pipeline.core.spec import ModelSpec, read_spec
from pipeline.models.backbones import Pretrained
from pipeline.models.classifier import Classifier
from pipeline.models.heads import head_row
from pipeline.models.localizer import Localizer
from pipeline.models.weights import check_finite
from pipeline.models.yolo import Yolo

Net = Classifier | Localizer | Yolo


def build(spec: ModelSpec, pretrained: Pretrained | None = None) -> Net:
    """The net that `spec` describes, with random weights or the `pretrained` ones in its backbone."""
    start = pretrained or Pretrained(None, spec.mean, spec.std, {})
    kind = spec.head.get("kind", spec.task)  # a localizer's has none: there is one
    head_row(kind, spec.task)
    head: dict[str, Any] = dict(spec.head)
    labels, landmarks = len(spec.labels), len(spec.landmarks)
    match spec.task:
        case "classify":
            return Classifier(spec.backbone, start, labels, spec.size, **head)
        case "localize":
            return Localizer(spec.backbone, start, labels, landmarks, spec.size, **head)
        case _:  # detect: there is no head of another task
            return Yolo(spec.backbone, start, labels, landmarks, **head)


def load_model(folder: Path | str) -> tuple[Net, ModelSpec]:
    """The trained net of `folder` (model.json and model.safetensors) in eval mode, and its spec.

    Raises InputError for weights that are not those of the spec, of which a byte is another one than when they were
    written, or that are not finite: it names the first tensor.
    """
    spec = read_spec(Path(folder) / "model.json")
    path = Path(folder) / "model.safetensors"
    net = build(spec)
    try:
        found = sha256(path) if spec.weights_sha256 else ""
        state = load_file(path)
        net.load_state_dict(state)
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights that {folder}/model.json describes: {error}") from None
    if found != spec.weights_sha256:
        raise InputError(
            f"{path}: damaged, or of another training: sha256 {found[:12]}..., {folder}/model.json expects "
            f"{spec.weights_sha256[:12]}..."
        )
    check_finite(path, state)
    return net.eval(), spec


class Deployed(nn.Module):
    """What ships: uint8 RGB [N, S, S, 3] in, normalization inside, the net's outputs in `spec.outputs`' order."""

    def __init__(self, net: nn.Module, spec: ModelSpec) -> None:
        super().__init__()
        self.net = net.eval()
        mean, std = torch.tensor(spec.mean), torch.tensor(spec.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))
        self.scale: Tensor
        self.shift: Tensor

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        # to float before the permutation: XNNPACK permutes floats, but not bytes
        pixels = image.to(torch.float32).permute(0, 3, 1, 2)
        return tuple(self.net(pixels * self.scale + self.shift))

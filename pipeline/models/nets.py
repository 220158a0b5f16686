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
from pipeline.models.backbones import NAMED_ROWS, OURS, Pretrained
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


def take_over(net: Net, spec: ModelSpec, start: Pretrained) -> None:
    """Give `net`, which has its backbone already, the rest of the whole net of ours in `start`.

    That is each tensor of the same name and shape. Where its rows are labels or landmarks, they are taken by name, so
    that those that both nets have keep what they know; without a model.json beside the file only the shape is known.
    Maps of other strides mean something else: nothing is taken then. All else stays as it is, at random.
    `start` is told what was taken, and what of the backbone the file lacks.
    """
    if missing := start.source.get("not_in_file"):
        own = {name.replace("_", ".") for name in net.state_dict()}  # timm's feature maps have names of both kinds
        # of feature maps alone the last layers are no part
        start.source["not_in_file"] = [name for name in missing if f"{OURS}.{name}".replace("_", ".") in own]
    if not start.rest:
        return
    was, rows = start.spec, _named_rows(net)
    rest = start.rest if was is None or was.strides == list(net.strides) else {}
    names = {kind: (getattr(was, kind), getattr(spec, kind)) for kind in NAMED_ROWS} if was else {}
    used: set[str] = set()
    taken, anew = 0, []
    for name, tensor in net.state_dict().items():
        if name.startswith(f"{OURS}.") and name not in rows:
            continue
        found, (kind, repeats) = rest.get(name), rows.get(name, ("", 1))
        if found is None or found.shape[1:] != tensor.shape[1:]:
            fits = False
        elif kind in names:
            fits = _copy_rows(tensor, found, *names[kind], repeats)
            used |= {kind} if fits else set()
        elif fits := found.shape == tensor.shape:
            tensor.copy_(found)
        taken += fits
        anew += [] if fits else [name]
    start.source |= {"taken": taken, "anew": len(anew)}
    start.anew = anew
    for kind in sorted(used):
        old, new = names[kind]
        start.by_name[kind] = [n for n in new if n in old], [n for n in new if n not in old]
        start.source |= {kind: len(start.by_name[kind][0])}


def _named_rows(net: Net) -> dict[str, tuple[str, int]]:
    """The tensors of `net` whose rows are labels or landmarks: which of both, and how often they come in a row."""
    labels: Any
    landmarks: Any = None
    match net:
        case Classifier():
            labels = net.head[-1] if isinstance(net.head, nn.Sequential) else net.body.get_classifier()
        case Localizer():
            labels, landmarks = net.classes, net.landmarks
        case _:
            labels, landmarks = net.head.scores, net.head.landmarks
    # a head with anchors has its channels once for each
    anchors = getattr(net.head, "anchors", None) if isinstance(net, Yolo) else None
    repeats = len(anchors[0]) if anchors else 1
    rows: dict[str, tuple[str, int]] = {}
    for name, module in net.named_modules():
        for kind, layer in zip(NAMED_ROWS, (labels, landmarks), strict=True):
            if module is layer:
                rows |= {f"{name}.{own}": (kind, repeats) for own, _ in module.named_parameters(recurse=False)}
    return rows | ({"shape": ("landmarks", 1)} if isinstance(net, Localizer) and landmarks is not None else {})


def _copy_rows(tensor: Tensor, found: Tensor, old: list[str], new: list[str], repeats: int) -> bool:
    """Copy the rows of the names that are in both; whether there are any, and both have as many rows for each."""
    each, rest = divmod(len(tensor), repeats * len(new))
    both = [name for name in new if name in old]
    if rest or not both or len(found) != repeats * len(old) * each:
        return False
    by_name, from_name = (t.view(repeats, len(names), each, -1) for t, names in ((tensor, new), (found, old)))
    by_name[:, [new.index(n) for n in both]] = from_name[:, [old.index(n) for n in both]].to(by_name.dtype)
    return True


def load_model(folder: Path | str) -> tuple[Net, ModelSpec]:
    """The trained net of `folder` (model.json and model.safetensors) in eval mode, and its spec.

    Raises InputError for weights that are not those of the spec, of which a byte is another one than when they were
    written, or that are not finite: it names the first tensor.
    """
    spec = read_spec(Path(folder) / "model.json")
    path = Path(folder) / "model.safetensors"
    net = build(spec)
    try:
        found = sha256(path)
        state = load_file(path)
        net.load_state_dict(state)
    except (FileNotFoundError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path}: not the weights that {folder}/model.json describes: {error}") from None
    if spec.weights_sha256 not in ("", found):
        raise InputError(
            f"{path}: damaged, or of another training: sha256 {found[:12]}..., {folder}/model.json expects "
            f"{spec.weights_sha256[:12]}...; `pocketlens doctor` says what to do"
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

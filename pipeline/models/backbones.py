"""Any timm backbone by name, with weights from timm's hub or from a local file in timm's or torchvision's names."""

import difflib
import logging
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.files import sha256
from pipeline.models.mobilenets import register

# it warns of the head's tensors, which a backbone has no use for; what matters is checked below
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]
_HEADS = ("classifier.", "fc.", "head.fc.", "heads.")
_KINDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(slots=True)
class Pretrained:
    """Weights to start from: `state` in timm's names (None: random), the normalization they want, their origin."""

    state: dict[str, Tensor] | None
    mean: list[float]
    std: list[float]
    source: dict[str, Any]


def read_pretrained(backbone: str, pretrained: bool | str) -> Pretrained:
    """`pretrained`: true takes timm's hub, false random weights, a string is a file.

    Raises InputError for an unknown backbone, a file that is no weights, or weights of another architecture or
    width: it names the first tensor that differs and both shapes.
    """
    if not register(backbone):
        near = difflib.get_close_matches(backbone, timm.list_models(), n=3, cutoff=0.4)
        raise InputError(f"backbone {backbone!r} is not in timm; nearest: {', '.join(near) or 'none'}")
    config = timm.get_pretrained_cfg(backbone)
    mean, std = (list(config.mean), list(config.std)) if config else (IMAGENET_MEAN, IMAGENET_STD)
    if pretrained is False:
        return Pretrained(None, mean, std, {"kind": "random"})
    if pretrained is True:
        model = timm.create_model(backbone, pretrained=True)
        return Pretrained(model.state_dict(), mean, std, {"kind": "timm", "tag": config.tag if config else ""})
    path = Path(pretrained)
    state = {name: tensor.float() for name, tensor in _read_weights(path).items()}
    wanted = timm.create_model(backbone).state_dict()
    source = {"kind": "file", "file": path.name, "sha256": sha256(path)}
    missing = sorted(n for n in set(_body(wanted)) - set(state) if not n.endswith("num_batches_tracked"))
    if len(missing) > len(_body(wanted)) / 2:
        state = _renamed(_body(state), _body(wanted), path, backbone)
        # the weights come from another library; torchvision's are all trained with these
        return Pretrained(state, IMAGENET_MEAN, IMAGENET_STD, source | {"names": "torchvision"})
    for name, tensor in _body(wanted).items():
        if name in state and state[name].shape != tensor.shape:
            raise InputError(_differs(path, backbone, name, name, state[name], tensor))
    # a file of feature maps ends before the last layers of a classifier: those start at random
    return Pretrained(_body(state), mean, std, source | {"names": "timm", "not_in_file": missing})


def classifier(backbone: str, pretrained: Pretrained, **options: Any) -> nn.Module:
    """timm's own model (features, pooling, linear layer); `options` go to `timm.create_model`."""
    register(backbone)
    model = timm.create_model(backbone, **options)
    if pretrained.state is not None:
        _load_body(model, pretrained.state)
    return model


def features(backbone: str, pretrained: Pretrained) -> nn.Module:
    """The last feature map [N, C, H, W] of timm's model, without its pooling, hidden layers (VGG) and linear layer."""
    model: Any = classifier(backbone, pretrained, num_classes=0, global_pool="")
    if isinstance(getattr(model, "pre_logits", None), nn.Module):
        model.pre_logits = nn.Identity()
    return model


def feature_maps(backbone: str, pretrained: Pretrained, strides: tuple[int, ...]) -> tuple[nn.Module, list[int]]:
    """A module that gives the last feature map at each of `strides`, and their channel counts.

    Raises InputError if the backbone has no feature map at one of the strides.
    """
    register(backbone)
    weights: dict[str, Any] = {}
    if pretrained.state is not None:
        weights = {"pretrained": True, "pretrained_cfg_overlay": {"state_dict": dict(pretrained.state)}}
    try:
        info: Any = timm.create_model(backbone, features_only=True).feature_info
    except (RuntimeError, AttributeError) as error:
        raise InputError(f"backbone {backbone!r} gives no feature maps: {error}") from None
    have = info.reduction()
    missing = [s for s in strides if s not in have]
    if missing:
        raise InputError(f"backbone {backbone!r} has strides {have}; {missing} are needed")
    indices = tuple(len(have) - 1 - have[::-1].index(s) for s in strides)
    body: Any = timm.create_model(backbone, features_only=True, out_indices=indices, **weights)
    return body, body.feature_info.channels()


def _load_body(model: nn.Module, state: dict[str, Tensor]) -> None:
    body = _body(model.state_dict())
    model.load_state_dict({name: state[name] for name in body if name in state}, strict=False)


def _body(state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in state.items() if not name.startswith(_HEADS)}


def _read_weights(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise InputError(f"pretrained: {path}: no such file")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, LookupError) as error:
        why = str(error).splitlines()[0]
        raise InputError(f"pretrained: {path}: not a weights file that is safe to load: {why}") from None
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise InputError(f"pretrained: {path}: expected a state dict (names to tensors), found {type(state)}")
    return state


def _renamed(state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path, backbone: str) -> dict[str, Tensor]:
    """The same net under other names: its layers in their numbered order, matched one by one by shape."""
    found = [name for name in sorted(state, key=_natural) if not name.endswith("num_batches_tracked")]
    # timm keeps VGG's hidden layers apart from its classifier; torchvision has them in it
    names = [n for n in wanted if not n.endswith("num_batches_tracked") and not n.startswith("pre_logits.")]
    renamed: dict[str, Tensor] = {}
    for ours, theirs in zip(names, found, strict=False):
        same_kind = ours.rsplit(".", 1)[-1] == theirs.rsplit(".", 1)[-1]
        if not same_kind or state[theirs].shape != wanted[ours].shape:
            raise InputError(_differs(path, backbone, theirs, ours, state[theirs], wanted[ours]))
        renamed[ours] = state[theirs]
    if len(names) != len(found):
        raise InputError(
            f"pretrained: {path}: {len(found)} tensors, {backbone} has {len(names)}: weights of another architecture"
        )
    return renamed


def _differs(path: Path, backbone: str, theirs: str, ours: str, found: Tensor, wanted: Tensor) -> str:
    return (
        f"pretrained: {path}: weights of another architecture or width: {theirs} is {tuple(found.shape)}, "
        f"{backbone} has {tuple(wanted.shape)} ({ours})"
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Sort key: numbers by value, and a layer's tensors in the order that PyTorch lists them."""
    *path, kind = name.split(".")
    key = [(0, int(s), "") if s.isdigit() else (1, 0, s) for s in re.split(r"\.", ".".join(path))]
    return [*key, (0, _KINDS.index(kind) if kind in _KINDS else 9, kind)]

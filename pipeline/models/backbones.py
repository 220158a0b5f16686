"""Any timm backbone by name, with weights from timm's hub or from a local file in timm's or torchvision's names."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import group_parameters
from torch import Tensor, nn

from pipeline.core.errors import InputError
from pipeline.core.params import nearest
from pipeline.core.spec import ModelSpec, read_spec
from pipeline.models.mobilenets import VALID, register, smallest_input
from pipeline.models.weights import check_finite, check_usable, most_alike, read_weights, some

# it warns that a file lacks the classifier's tensors, which a backbone does not use; the others are checked below
logging.getLogger("timm.models._builder").setLevel(logging.ERROR)

IMAGENET_MEAN = [0.485, 0.456, 0.406]
IMAGENET_STD = [0.229, 0.224, 0.225]
OURS = "body"  # the module of each of our nets that is the backbone
NAMED_ROWS = ("labels", "landmarks")  # what some layers have a row of for each
_HEADS = ("classifier.", "fc.", "head.fc.", "heads.")
_KINDS = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


@dataclass(slots=True)
class Pretrained:
    """Weights to start from: `state` in timm's names (None: random), the normalization they want, their origin.

    Of a whole net of ours `rest` is what is not its backbone, in its own names, and `spec` its model.json, if any. Once
    a net was made of it, `anew` has the tensors beyond the backbone that began at random, and `by_name` the labels
    and the landmarks whose rows were taken, and those that began at random.
    """

    state: dict[str, Tensor] | None
    mean: list[float]
    std: list[float]
    source: dict[str, Any]
    rest: dict[str, Tensor] = field(default_factory=dict)
    spec: ModelSpec | None = None
    anew: list[str] = field(default_factory=list)
    by_name: dict[str, tuple[list[str], list[str]]] = field(default_factory=dict)

    def told(self) -> str:
        """What of a file is in the net and what began at random, for the end of a line; "" where that is plain."""
        file, missing, said = self.source.get("file"), self.source.get("not_in_file"), ""
        if missing:
            said = f"; of the backbone {len(missing)} tensors were not in {file} and began at random, first "
            said += missing[0]
        if not self.rest:
            return said
        said += f"; beyond the backbone {self.source['taken']} tensors are from {file}"
        if self.spec is None:
            said += " by name and shape, as there is no model.json beside it"
        for kind, (kept, new) in self.by_name.items():
            said += f", {kind} by name: {some(kept)}" + (f" (at random: {some(new)})" if new else "")
        return said + (f"; {len(self.anew)} began at random, first {self.anew[0]}" if self.anew else "")


def read_pretrained(backbone: str, pretrained: bool | str) -> Pretrained:
    """`pretrained`: true takes timm's hub, false random weights, a string is a file: in timm's or torchvision's names,
    or the model.safetensors of a run of ours.

    Raises InputError for an unknown backbone, a file without weights, or weights of another architecture or
    width: it names the first tensor that differs and both shapes.
    """
    check_known(backbone)
    config = timm.get_pretrained_cfg(backbone)
    mean, std = (list(config.mean), list(config.std)) if config else (IMAGENET_MEAN, IMAGENET_STD)
    if pretrained is False:
        return Pretrained(None, mean, std, {"kind": "random"})
    if pretrained is True:
        from pipeline.models.hub import hub_weights  # serving does without the hub's client

        return Pretrained(hub_weights(backbone), mean, std, {"kind": "timm", "tag": config.tag if config else ""})
    file = read_weights(Path(pretrained))
    path, nets = file.path, file.nets()
    wanted = _body(timm.create_model(backbone).state_dict())
    if not nets:
        raise InputError(f"pretrained: {path}: expected names and their tensors; {file.told(wanted)}")
    source = {"kind": "file", "file": path.name, "sha256": file.sha256}
    trained = read_spec(path.with_name("model.json")) if path.with_name("model.json").is_file() else None
    if trained:
        mean, std, source["run"] = trained.mean, trained.std, trained.run
    place, found = most_alike(nets, wanted)
    check_usable(path, found)
    source |= {"part": place} if place else {}
    try:
        state, names = _fitted({n: tensor.float() for n, tensor in _body(found).items()}, wanted, path, backbone)
    except InputError as error:
        if len(wanted.keys() & found.keys()) > len(wanted) / 2:  # other names would not make it fit
            raise InputError(f"{error}; expected weights of {backbone}") from None
        raise InputError(f"{error}; {file.told(wanted)}") from None
    check_finite(path, state)
    if names["names"] == "torchvision":  # all of its weights are trained with this normalization
        mean, std = IMAGENET_MEAN, IMAGENET_STD
    own = {f"{OURS}.{name}" for name in state}
    rest = {name: tensor for name, tensor in nets[0][1].items() if name not in own} if place == OURS else {}
    check_finite(path, rest)
    return Pretrained(state, mean, std, source | names, rest, trained)


def check_known(backbone: str) -> None:
    """Raises InputError that names the nearest one if timm has no such backbone and it is none of ours. Of any other
    name, as of "hf-hub:someone/net" in a model.json, `timm.create_model` would fetch what that says.
    """
    if not register(backbone):
        raise InputError(f"backbone {backbone!r} is not in timm{nearest(backbone, timm.list_models())}")


def holds_all(backbone: str, path: Path) -> bool:
    """Whether the file has weights for the whole of the backbone, but for what classifies."""
    try:
        return not read_pretrained(backbone, str(path)).source.get("not_in_file")
    except InputError:
        return False


def check_size(backbone: str, size: int) -> None:
    """Raises InputError if a net without padding gives nothing for images of `size` pixels a side."""
    check_known(backbone)
    least = smallest_input(backbone)
    if size < least:
        fits = -(-least // 32) * 32
        raise InputError(f"size {size}: {backbone} has no padding and sees {least} pixels; expected {fits} or more")


def classifier(backbone: str, pretrained: Pretrained, **options: Any) -> nn.Module:
    """timm's own model (features, pooling, linear layer); `options` go to `timm.create_model`."""
    check_known(backbone)
    model = timm.create_model(backbone, **options)
    if pretrained.state is not None:
        _load_body(model, pretrained.state)
    return model


def last_map(backbone: str, pretrained: Pretrained, size: int) -> tuple[nn.Module, torch.Size]:
    """A timm model whose `forward_features` gives its last map, without the layers that come after it, and the
    shape of that map for a `size` x `size` image (without the batch).
    """
    body: Any = classifier(backbone, pretrained, num_classes=0).eval()
    blank = torch.zeros(1, 3, size, size)
    with torch.no_grad():
        shape = body.forward_features(blank).shape[1:]
        used = used_modules(body, lambda: body.forward_features(blank))
    for name, module in list(body.named_modules()):
        if name and module not in used and any(True for _ in module.parameters(recurse=False)):
            body.set_submodule(name, nn.Identity())
    return body.train(), shape


def used_modules(net: nn.Module, forward: Callable[[], Any]) -> list[nn.Module]:
    """The modules of `net` that `forward()` calls, in their order in the net."""
    called: set[nn.Module] = set()
    hooks = [m.register_forward_hook(lambda m, *_: called.add(m)) for m in net.modules()]
    try:
        forward()
    finally:
        for hook in hooks:
            hook.remove()
    return [m for m in net.modules() if m in called]


def thaw_last(backbone: str, body: nn.Module, count: int) -> None:
    """Let the last `count` blocks of `body` learn. Raises InputError as `learning_order` does."""
    for block in learning_order(backbone, body)[-count:] if count else []:
        for parameter in block:
            parameter.requires_grad_(True)


def learning_order(backbone: str, body: nn.Module) -> list[list[nn.Parameter]]:
    """The parameters of `body` block by block (stem, blocks, what comes after), the first at the input.

    `body` may be a whole timm model or its feature maps, which are the first part of it under other names. The
    blocks are those by which timm's optimizers grade learning rates. Raises InputError if timm names none.
    """
    check_known(backbone)
    with torch.device("meta"):
        whole: Any = timm.create_model(backbone, num_classes=0)
    names = [name for name, _ in whole.named_parameters()]
    shapes = [p.shape for p in whole.parameters()]
    own = list(body.parameters())
    if not hasattr(whole, "group_matcher") or [p.shape for p in own[: len(shapes)]] != shapes[: len(own)]:
        raise InputError(
            f"backbone {backbone!r} has no blocks to tell apart; expected tuned_blocks: all and layer_decay: 1"
        )
    block_of = group_parameters(whole, whole.group_matcher(coarse=False), reverse=True)
    blocks: dict[int, list[nn.Parameter]] = {}
    for name, parameter in zip(names, own, strict=False):
        blocks.setdefault(int(block_of[name]), []).append(parameter)
    return [blocks[number] for number in sorted(blocks)]


def feature_maps(backbone: str, pretrained: Pretrained, strides: tuple[int, ...]) -> tuple[nn.Module, list[int]]:
    """A module that gives the last feature map at each of `strides`, and their channel counts.

    Raises InputError if the backbone has no feature map at one of the strides, or if its maps do not cover the image.
    """
    check_known(backbone)
    if smallest_input(backbone) > 1:
        raise InputError(
            f"backbone {backbone!r} has no padding: its feature maps end inside the image; it is for classify, "
            f"expected {backbone.removesuffix(VALID)!r}"
        )
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


def _fitted(
    state: dict[str, Tensor], wanted: dict[str, Tensor], path: Path, backbone: str
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """`state` in timm's names, and whose names it had."""
    missing = sorted(n for n in set(wanted) - set(state) if not n.endswith("num_batches_tracked"))
    if len(missing) > len(wanted) / 2:
        return _renamed(state, wanted, path, backbone), {"names": "torchvision"}
    for name, tensor in wanted.items():
        if name in state and state[name].shape != tensor.shape:
            raise InputError(_differs(path, backbone, name, name, state[name], tensor))
    # a file of feature maps lacks the last layers of a classifier: those start at random
    return state, {"names": "timm", "not_in_file": missing}


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

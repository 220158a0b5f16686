"""MobileNetV1 (Howard et al. 2017) and V2 (Sandler et al. 2018) of any width, in timm's registry.

    mobilenetv1_075            width 0.75: two digits after the first are hundredths, three are thousandths
    mobilenetv1_100_shallow    without five of the layers of 14x14x512
    mobilenetv1_100_short      the shallow one without its last two layers: stride 16, and half the channels at the end
    mobilenetv1_100_conv       plain 3x3 convolutions where the net has separable ones, for comparison
    mobilenetv1_100_valid      no padding, also after one of the above: mobilenetv1_025_short_valid
    mobilenetv2_037_t4         width 0.37, expansion factor 4 instead of 6

Without padding a cell sees the same whether its window is cut out of an image or not: what a sliding window needs. The
input then has at least as many pixels a side as a cell sees: 59 (_short), 155 (_shallow), 315 (all layers). V2 would
have to cut its shortcuts. The weights have the same names and shapes with and without padding.

The resolution multiplier is the resolution itself, `size` of a run. Channels are rounded to a multiple of 8, never
down by more than a tenth, as the papers' code does. The nets are timm's `EfficientNet`, built from block strings.
"""

import re
from collections.abc import Iterable
from typing import Any

import timm
from timm.layers import make_divisible
from timm.models import build_model_with_cfg, register_model

# not public, but the only way to the block strings that timm's own nets are written in
from timm.models._efficientnet_builder import decode_arch_def
from timm.models.efficientnet import EfficientNet, EfficientNetFeatures
from torch import nn

FAMILIES = ("mobilenetv1", "mobilenetv2")
VALID = "_valid"
NAME = re.compile(r"mobilenetv(?:1_(\d{3,4})(_shallow|_short|_conv)?(_valid)?|2_(\d{3,4})(?:_t(\d{1,2}))?)")


def register(name: str) -> bool:
    """Whether `name` is a model that timm can create from now on: one of its own, or one of ours."""
    if timm.is_model(name):
        return True
    found = NAME.fullmatch(name)
    if found is None or _width(found[1] or found[4]) == 0 or found[5] == "0":
        return False

    def create(pretrained: bool = False, **options: Any) -> nn.Module:
        if found[1]:
            options |= {"pad_type": "valid"} if found[3] else {}
            return _create(name, v1_blocks(found[2] or ""), _width(found[1]), 0, pretrained, options)
        return _create(name, v2_blocks(int(found[5] or 6)), _width(found[4]), 1280, pretrained, options)

    create.__name__ = name
    register_model(create)
    return True


def named(family: str, width: float) -> str:
    """The name of a width: ("mobilenetv1", 0.5) -> mobilenetv1_050."""
    digits = f"{round(width * 1000):04d}"
    return f"{family}_{digits.removesuffix('0') if digits.endswith('0') else digits}"


def nearest_width(name: str, known: Iterable[str]) -> str:
    """Of the MobileNets in `known`, the one of the family of `name` whose width is nearest to its own; "" if there is
    none, or `name` is no MobileNet of ours.
    """
    found = NAME.fullmatch(name)
    if found is None:
        return ""
    widths = {
        other: abs(_width(match[1] or match[4]) - _width(found[1] or found[4]))
        for other in known
        if (match := NAME.fullmatch(other)) and bool(match[1]) == bool(found[1])
    }
    return min(widths, key=lambda other: widths[other], default="")


def smallest_input(name: str) -> int:
    """The side in pixels from which an input gives one cell or more: of a `_valid` net what a cell sees, else 1."""
    found = NAME.fullmatch(name)
    if found is None or not found[3]:
        return 1
    side, stride = 3, 2  # of the first convolution; each layer's 3x3 then sees one cell of its input more on each side
    for repeats, step, _ in _v1_stages(found[2] or ""):
        for layer in range(repeats):
            side += 2 * stride
            stride *= step if layer == 0 else 1
    return side


def v1_blocks(variant: str = "") -> list[list[str]]:
    """Stages of MobileNetV1 after its first convolution, as timm's block strings."""
    kind = "cn" if variant == "_conv" else "dsa"
    return [[f"{kind}_r{repeats}_k3_s{stride}_c{channels}"] for repeats, stride, channels in _v1_stages(variant)]


def _v1_stages(variant: str) -> tuple[tuple[int, int, int], ...]:
    """(layers, stride of the first, channels) of each stage."""
    few = variant in ("_shallow", "_short")
    stages = ((1, 1, 64), (2, 2, 128), (2, 2, 256), (1 if few else 6, 2, 512), (2, 2, 1024))
    return stages[:-1] if variant == "_short" else stages


def v2_blocks(expansion: int = 6) -> list[list[str]]:
    """Stages of MobileNetV2 between its first and its last convolution (Table 2)."""
    stages = ((2, 2, 24), (3, 2, 32), (4, 2, 64), (3, 1, 96), (3, 2, 160), (1, 1, 320))
    return [["ds_r1_k3_s1_c16"], *([f"ir_r{n}_k3_s{s}_e{expansion}_c{c}"] for n, s, c in stages)]


def _width(digits: str) -> float:
    return int(digits) / 10 ** (len(digits) - 1)


def _create(
    name: str, blocks: list[list[str]], width: float, features: int, pretrained: bool, options: dict[str, Any]
) -> nn.Module:
    """timm's `EfficientNet` of `blocks`, its last convolution `features` wide (0: it has none); with the option
    `features_only` its maps alone.
    """

    def channels(count: int) -> int:
        return int(make_divisible(count * width, 8, round_limit=0.9))

    maps = options.pop("features_only", False)
    if not maps:
        options["num_features"] = features and max(features, channels(features))
    net: nn.Module = build_model_with_cfg(
        EfficientNetFeatures if maps else EfficientNet,
        name,
        pretrained,
        # a file of a whole classifier has tensors that feature maps lack
        pretrained_strict=not maps,
        kwargs_filter=("num_classes", "global_pool") if maps else None,  # type: ignore[arg-type]  # says one, takes any
        block_args=decode_arch_def(blocks),
        stem_size=32,
        round_chs_fn=channels,
        norm_layer=nn.BatchNorm2d,
        act_layer=nn.ReLU6,
        **options,
    )
    return net

"""A policy that params.yaml itself writes down: a list of albumentations' transforms, by name and arguments.

    policy:
    - {transform: HorizontalFlip, p: 0.5}
    - {transform: Rotate, limit: [-15, 15], p: 0.7}
    - {transform: OneOf, p: 0.3, transforms: [{transform: GaussNoise, std_range: [0.01, 0.05]}, {transform: Blur}]}

Only transforms that labels can follow are taken. Those that move are drawn before those that change the look.
"""

import warnings
from inspect import signature
from typing import Any

from pydantic import ValidationError

from pipeline.augment.policies.limits import check_numbers, check_result
from pipeline.augment.policies.policy import BORDER, Policy
from pipeline.core.errors import InputError
from pipeline.core.params import nearest

FLIPS = ("HorizontalFlip", "VerticalFlip")
WARPS = ("Affine", "Rotate", "SafeRotate")
LOOKS = (
    *("AdditiveNoise", "AutoContrast", "CLAHE", "ChannelDropout", "ChannelShuffle", "ColorJitter", "Downscale"),
    *("Emboss", "Equalize", "FancyPCA", "GaussNoise", "HueSaturationValue", "ISONoise", "Illumination"),
    *("ImageCompression", "InvertImg", "MultiplicativeNoise", "PlanckianJitter", "Posterize", "RGBShift"),
    *("RandomBrightnessContrast", "RandomFog", "RandomGamma", "RandomRain", "RandomShadow", "RandomSnow"),
    *("RandomSunFlare", "RandomToneCurve", "RingingOvershoot", "SaltAndPepper", "Sharpen", "ShotNoise", "Solarize"),
    *("Spatter", "ToGray", "ToSepia", "UnsharpMask", "AdvancedBlur", "Blur", "Defocus", "GaussianBlur", "MedianBlur"),
    *("MotionBlur", "ZoomBlur", "CoarseDropout", "GridDropout", "PixelDropout"),
)
BLOCKS = ("OneOf", "SomeOf", "Sequential")  # of transforms of their own
KNOWN = (*FLIPS, *WARPS, *LOOKS, *BLOCKS)
INSTEAD = {  # of transforms that are asked for and not known: why, and what there is
    "CopyPaste": "objects here are boxes and landmarks, and to paste one takes its mask; `online.mosaic` mixes images",
    "MixUp": "`online.mixup` of a classifier is a knob of its own",
    "Mosaic": "`online.mosaic` of a detector is a knob of its own",
    "Perspective": "a corner can get behind the camera; policy ucf101_torch has a perspective that cannot, Affine none",
}
BORDERS = ("constant", "replicate", "reflect", "reflect_101", "wrap")
PLAIN = "constant"
OWN = ("transform", "p")
FIXED = ("crop_border", "fit_output", "strict")  # arguments that are not one's own to state: an image keeps its size
CHANCE = 0.5  # albumentations' p
DEEPEST = 4  # of blocks in each other


def checked(steps: list[Any]) -> list[dict[str, Any]]:
    """The list as it is kept: each step with its `p`. Raises InputError for what is not there, or would not be right:
    a transform, an argument or a border, with the nearest one that would be.
    """
    if not steps:
        raise InputError("an empty list; expected transforms, or the policy none")
    kept = [_step(str(number), step) for number, step in enumerate(steps)]
    if sum(map(_most_warps, kept)) > 1:
        names = [name for step in kept for name in _names(step) if name in WARPS]
        raise InputError(
            f"{' and '.join(names)}: the second would bring back what the first has cut off, as labels without pixels; "
            f"expected one of {', '.join(WARPS)}; Affine turns, shifts and scales at once"
        )
    return kept


def build(steps: list[dict[str, Any]]) -> Policy:
    """The policy of a list that is `checked`."""
    from pipeline.augment.policies.albumentations_policies import Geometry, Look

    moves = [_transform(step) for step in steps if _moves(step)]
    looks = [_transform(step) for step in steps if not _moves(step)]
    return Policy(Geometry(moves) if moves else None, Look(looks) if looks else None)


def _hint(name: str) -> str:
    """The nearest name, unless this one is no slip but another transform of albumentations'."""
    if name in INSTEAD:
        return f": {INSTEAD[name]}"
    from pipeline.augment.policies.bare_albumentations import A

    close = "" if hasattr(A, name) else nearest(name, KNOWN)
    return close or f"; expected one of {', '.join(KNOWN)}"


def _step(place: str, step: Any) -> dict[str, Any]:
    if not (isinstance(step, dict) and isinstance(step.get("transform"), str)):
        raise InputError(f"{place}: expected {{transform: NAME, p: 0.5, ...}}, found {step!r}")
    name = step["transform"]
    where = f"{place}: {name}"
    if name not in KNOWN:
        raise InputError(f"{where}: no transform of that name that labels can follow{_hint(name)}")
    kept = {"transform": name, "p": CHANCE, **step}
    arguments = _arguments(name)
    for key in kept:
        if key not in (*OWN, *arguments):
            raise InputError(f"{where}.{key}: no such argument{nearest(key, (*OWN, *arguments))}")
    check_numbers(name, where, {key: value for key, value in kept.items() if key != "transforms"})
    border = kept.get("border_mode", PLAIN)
    if border not in (PLAIN, 0):
        hint = "" if border in BORDERS else nearest(str(border), BORDERS)
        said = f"found {border!r}{hint}; expected {PLAIN}: another border shows objects that have no label"
        raise InputError(f"{where}.border_mode: {said}")
    if name in BLOCKS:
        return _block(where, kept)
    try:
        check_result(_transform(kept | {"p": 1.0}))
    except (TypeError, ValueError, Warning) as error:
        raise InputError(f"{where}: {_reason(error)}") from None
    return kept


def _block(where: str, block: dict[str, Any]) -> dict[str, Any]:
    """A block whose transforms are checked, as steps of a list are."""
    if where.count(":") > DEEPEST:
        raise InputError(f"{where}: more than {DEEPEST} blocks in each other")
    inner = block.get("transforms")
    if not (isinstance(inner, list) and inner):
        raise InputError(f"{where}.transforms: expected a list of transforms, found {inner!r}")
    kept = block | {"transforms": [_step(f"{where}.{number}", step) for number, step in enumerate(inner)]}
    if len({_moves(step) for step in kept["transforms"]}) > 1:
        raise InputError(
            f"{where}: {', '.join(_names(kept))}; expected transforms that move, or such that change the look: all "
            f"moves come first"
        )
    if block["transform"] == "OneOf" and not any(step["p"] for step in kept["transforms"]):
        raise InputError(f"{where}: p of each is 0; expected more for one at least: it is its weight")
    if block["transform"] == "SomeOf":
        n, replace = block.get("n", 1), block.get("replace", False)
        if type(n) is not int or not 1 <= n <= len(inner):
            raise InputError(f"{where}.n: found {n!r}; expected how many of its {len(inner)} are drawn")
        if type(replace) is not bool:
            raise InputError(f"{where}.replace: found {replace!r}; expected true or false")
    return kept


def _moves(step: dict[str, Any]) -> bool:
    """Whether it is one of those that move; of a block all are, or none."""
    return _names(step)[0] not in LOOKS


def _names(step: dict[str, Any]) -> list[str]:
    """The transform's, or of a block those of what is in it."""
    if step["transform"] not in BLOCKS:
        return [step["transform"]]
    return [name for inner in step["transforms"] for name in _names(inner)]


def _most_warps(step: dict[str, Any]) -> int:
    """How many a draw can have."""
    if step["transform"] not in BLOCKS:
        return step["transform"] in WARPS
    counts = [_most_warps(inner) for inner in step["transforms"]]
    if step["transform"] != "SomeOf":
        return max(counts) if step["transform"] == "OneOf" else sum(counts)
    drawn = step.get("n", 1)
    return drawn * max(counts) if step.get("replace") else sum(sorted(counts)[-drawn:])


def _arguments(name: str) -> list[str]:
    """Those that a step may state."""
    found = signature(_library().__dict__[name].__init__).parameters
    return [key for key in found if key not in ("self", "p", *FIXED) and "mask" not in key]


def _transform(step: dict[str, Any]) -> Any:
    """The library's transform; what moves leaves the letterbox's grey behind."""
    arguments = {key: value for key, value in step.items() if key not in ("transform", "border_mode")}
    if step["transform"] in BLOCKS:
        arguments["transforms"] = [_transform(inner) for inner in step["transforms"]]
    if step["transform"] in WARPS:
        arguments = {"fill": BORDER, **arguments}
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it only warns of some arguments, and takes its own defaults
        return getattr(_library(), step["transform"])(**arguments)


def _library() -> Any:
    from pipeline.augment.policies import albumentations_policies

    return albumentations_policies.A


def _reason(error: Exception) -> str:
    """The first thing that albumentations finds wrong, in a line."""
    if isinstance(error.__cause__, ValidationError):
        problem = error.__cause__.errors()[0]
        message = problem["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        # without a place it is about several arguments, and what was found are all of them
        return f"{problem['loc'][0]}: {message}, found {problem['input']!r}" if problem["loc"] else message
    return str(error)

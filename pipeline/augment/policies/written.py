"""A policy that params.yaml itself writes down: a list of albumentations' transforms, by name and arguments.

    policy:
    - {transform: HorizontalFlip, p: 0.5}
    - {transform: Rotate, limit: [-15, 15], p: 0.7}
    - {transform: GaussNoise, std_range: [0.01, 0.05], p: 0.2}

Only transforms that labels can follow are taken. Those that move are drawn before those that change the look.
"""

import warnings
from inspect import signature
from typing import Any

import numpy as np
from pydantic import ValidationError

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
KNOWN = (*FLIPS, *WARPS, *LOOKS)
BORDERS = ("constant", "replicate", "reflect", "reflect_101", "wrap")
PLAIN = "constant"
OWN = ("transform", "p")
FIXED = ("crop_border", "strict")  # arguments that are not one's own to state: an image keeps its size
CHANCE = 0.5  # albumentations' p
TRIED = ((127, 95), (96, 128), (65, 64))  # height and width of the images that a transform is tried on
LONGEST = 200  # letters of a library's error


def checked(steps: list[Any]) -> list[dict[str, Any]]:
    """The list as it is kept: each step with its `p`. Raises InputError for what is not there, or would not be right:
    a transform, an argument or a border, with the nearest one that would be.
    """
    if not steps:
        raise InputError("an empty list; expected transforms, or the policy none")
    kept = [_step(number, step) for number, step in enumerate(steps)]
    warps = [step["transform"] for step in kept if step["transform"] in WARPS]
    if len(warps) > 1:
        raise InputError(
            f"{' and '.join(warps)}: the second would bring back what the first has cut off, as labels without pixels; "
            f"expected one of {', '.join(WARPS)}; Affine turns, shifts and scales at once"
        )
    return kept


def build(steps: list[dict[str, Any]]) -> Policy:
    """The policy of a list that is `checked`."""
    from pipeline.augment.policies.albumentations_policies import Geometry, Look

    moves = [_transform(step) for step in steps if step["transform"] not in LOOKS]
    looks = [_transform(step) for step in steps if step["transform"] in LOOKS]
    return Policy(Geometry(moves) if moves else None, Look(looks) if looks else None)


def _step(number: int, step: Any) -> dict[str, Any]:
    if not (isinstance(step, dict) and isinstance(step.get("transform"), str)):
        raise InputError(f"{number}: expected {{transform: NAME, p: 0.5, ...}}, found {step!r}")
    name = step["transform"]
    where = f"{number}: {name}"
    if name not in KNOWN:
        raise InputError(f"{where}: no transform of that name that labels can follow{nearest(name, KNOWN)}")
    kept = {"transform": name, "p": CHANCE, **step}
    arguments = _arguments(name)
    for key in kept:
        if key not in (*OWN, *arguments):
            raise InputError(f"{where}.{key}: no such argument{nearest(key, (*OWN, *arguments))}")
    border = kept.get("border_mode", PLAIN)
    if border not in (PLAIN, 0):
        hint = "" if border in BORDERS else nearest(str(border), BORDERS)
        said = f"found {border!r}{hint}; expected {PLAIN}: another border shows objects that have no label"
        raise InputError(f"{where}.border_mode: {said}")
    try:
        _transform(kept)
    except (TypeError, ValueError, Warning) as error:
        raise InputError(f"{where}: {_reason(error)}") from None
    _try(_transform(kept | {"p": 1.0}), where)
    return kept


def _try(transform: Any, where: str) -> None:
    """Raise InputError if the transform fails on an image, or does not make an image of the same size of it: the
    library checks arguments in part only, and the rest would end a training.
    """
    library = _library()
    for seed, (height, width) in enumerate(TRIED):
        pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
        compose = library.Compose([transform], seed=seed)
        try:
            found = compose(image=pixels)["image"]
        except Exception as error:  # noqa: BLE001  a library's own, of any kind
            said = " ".join(str(error).split())[:LONGEST]
            raise InputError(f"{where}: fails on an image of {width} x {height} pixels: {said}") from None
        if found.shape != pixels.shape or found.dtype != pixels.dtype:
            made = f"{' x '.join(map(str, found.shape))} of {found.dtype}"
            expected = f"{height} x {width} x 3 of uint8"
            raise InputError(f"{where}: makes {made} of an image of {expected}; expected the same again")


def _arguments(name: str) -> list[str]:
    """Those that a step may state."""
    found = signature(_library().__dict__[name].__init__).parameters
    return [key for key in found if key not in ("self", "p", *FIXED) and "mask" not in key]


def _transform(step: dict[str, Any]) -> Any:
    """The library's transform; what moves leaves the letterbox's grey behind."""
    arguments = {key: value for key, value in step.items() if key not in ("transform", "border_mode")}
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
        place = ".".join(str(key) for key in problem["loc"][:1])
        message = problem["msg"].removeprefix("Value error, ")
        return f"{place}: {message[0].lower()}{message[1:]}, found {problem['input']!r}"
    return str(error)

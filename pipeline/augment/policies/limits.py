"""What numbers a written transform takes, and whether it keeps an image's size, channels and type.

albumentations bounds few of its arguments: NaN passes most of its checks, and some numbers take hours or break a
training in the middle.
"""

from collections.abc import Iterator
from typing import Any

from pipeline.augment.policies.failing import told
from pipeline.core.errors import InputError

MOST = 20_000  # of any number: a temperature in kelvin is the largest that means something
# of an argument, by its name, or by its transform's too: where less than that takes long or fails on an image
LIMITS: dict[str, tuple[float, float]] = {
    "p": (0, 1),
    "fill": (0, 255),
    "drop_value": (0, 255),
    "Affine.scale": (0.1, 10),
    "Affine.shear": (-80, 80),
    "Affine.translate_percent": (-1, 1),
    "blur_limit": (0, 101),
    "sigma_limit": (0, 50),
    "gauss_sigma": (0, 50),
    "kernel_size": (3, 101),
    "sigma": (0, 50),
    "radius": (1, 50),
    "max_factor": (1, 3),
    "step_factor": (0.005, 1),
    "tile_grid_size": (1, 32),
    "channel_drop_range": (1, 2),
    "Downscale.scale_range": (0.05, 1),
    "ShotNoise.scale_range": (0.001, 10),
    "num_holes_range": (1, 500),
    "holes_number_xy": (1, 50),
    "drop_length": (1, 90),
    "drop_width": (1, 20),
    "blur_value": (3, 51),
    "num_shadows_limit": (1, 100),
    "shadow_dimension": (3, 100),
    "src_radius": (2, 1000),
    "num_flare_circles_range": (0, 100),
}
TRIED = ((96, 128), (97, 131))  # height and width in pixels, of images that a transform is tried on
DRAWS = 3  # on each


def check_numbers(name: str, where: str, arguments: dict[str, Any]) -> None:
    """Raises InputError for an argument of the transform `name` that is NaN, a word for a number, or out of bounds."""
    chance = arguments["p"]
    if isinstance(chance, bool) or not isinstance(chance, int | float):
        raise InputError(f"{where}.p: found {chance!r}; expected a number from 0 to 1")
    for key, value in arguments.items():
        least, most = LIMITS.get(f"{name}.{key}", LIMITS.get(key, (-MOST, MOST)))
        for number in _numbers(value):
            if isinstance(number, str) or not least <= number <= most:
                raise InputError(f"{where}.{key}: found {number!r}; expected a number from {least:g} to {most:g}")


def check_result(transform: Any) -> None:
    """Raises ValueError for one of albumentations' transforms that fails on an image, or changes its form."""
    import numpy as np

    for height, width in TRIED:
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        for seed in range(DRAWS):
            transform.set_random_seed(seed)
            on = f"on an image of {width} x {height} pixels"
            try:
                made = transform(image=pixels)["image"]
            except Exception as error:  # any: of NumPy, of OpenCV or its own
                raise ValueError(f"{on}: {told(error)}") from error
            if made.shape != pixels.shape or made.dtype != pixels.dtype:
                raise ValueError(
                    f"{on}: found {made.dtype} {list(made.shape)}; expected its size and channels to stay, "
                    f"{pixels.dtype} {list(pixels.shape)}"
                )


def _numbers(value: Any) -> Iterator[Any]:
    """All numbers in it; also those that are written as words, as `nan` is."""
    if isinstance(value, dict | list | tuple):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _numbers(part)
    elif isinstance(value, int | float) or (isinstance(value, str) and _is_number(value)):
        yield value


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True

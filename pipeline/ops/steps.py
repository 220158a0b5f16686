"""Steps between the resize and the net: what `datasets.<name>.preprocess` asks for before training and on the phone.

All are in whole numbers of NumPy, so that a phone, a browser or `replay.py` gets the same bytes; a step's rounding is
part of it. Beyond the canvas the pixels of its edge are repeated. The grey bars of a letterbox are pixels like others.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.errors import InputError
from pipeline.core.params import nearest

Pixels = NDArray[np.uint8]
LUMA = (19595, 38470, 7471)  # of red, green and blue, in 65536ths (ITU-R BT.601); Pillow's mode L has the same
BINOMIAL = {3: (1, 2, 1), 5: (1, 4, 6, 4, 1)}  # by a kernel's side


def gray(pixels: Pixels) -> Pixels:
    """uint8 RGB [H, W, 3] -> the luma of each pixel in all three channels."""
    red, green, blue = (pixels[..., i].astype(np.uint32) * weight for i, weight in enumerate(LUMA))
    luma = ((red + green + blue + 0x8000) >> 16).astype(np.uint8)
    return np.repeat(luma[..., None], 3, axis=-1)


def gaussian(pixels: Pixels, side: int) -> Pixels:
    """uint8 [H, W, 3] -> blurred by the binomial kernel of `side` x `side` pixels, rounded once, halves up."""
    weights = BINOMIAL[side]
    padded = _padded(pixels, side // 2)
    height, width = pixels.shape[:2]
    total = sum(weights) ** 2
    down = np.zeros((height, *padded.shape[1:]), np.uint16)
    blurred = np.full(pixels.shape, total // 2, np.uint16)  # 255 * 16 * 16 + 128 fits
    for i, weight in enumerate(weights):
        down += np.uint16(weight) * padded[i : i + height]
    for i, weight in enumerate(weights):
        blurred += np.uint16(weight) * down[:, i : i + width]
    return (blurred // total).astype(np.uint8)


def median(pixels: Pixels) -> Pixels:
    """uint8 [H, W, 3] -> per channel the median of each pixel and its eight neighbours."""
    padded = _padded(pixels, 1)
    height, width = pixels.shape[:2]
    low, middle, high = _sorted(*(padded[i : i + height] for i in range(3)))
    lows, middles, highs = ([part[:, i : i + width] for i in range(3)] for part in (low, middle, high))
    # of nine numbers in sorted columns: the median of the largest low, the middle of the middles, the smallest high
    three = np.maximum.reduce(lows), _sorted(*middles)[1], np.minimum.reduce(highs)
    return _sorted(*three)[1]


STEPS: dict[str, Callable[..., Pixels]] = {"gray": gray, "gaussian": gaussian, "median": median}


def apply_steps(steps: Sequence[Mapping[str, Any]], pixels: Pixels) -> Pixels:
    """`pixels`, uint8 RGB [H, W, 3], after each of `steps` (a name and its arguments, as in model.json), in order.

    Raises InputError for a step that is not in `STEPS`.

    >>> image = np.zeros((1, 2, 3), np.uint8)
    >>> image[0, 0] = 255, 0, 0
    >>> apply_steps([{"step": "gray"}, {"step": "gaussian", "side": 3}], image).tolist()
    [[[57, 57, 57], [19, 19, 19]]]
    """
    check_steps(steps)
    for step in steps:
        arguments = {key: value for key, value in step.items() if key != "step"}
        pixels = STEPS[step["step"]](pixels, **arguments)
    return pixels


def check_steps(steps: Sequence[Mapping[str, Any]]) -> None:
    """Raises InputError for a step that no phone has.

    >>> check_steps([{"step": "gray"}])
    """
    for step in steps:
        if (name := step.get("step")) not in STEPS:
            raise InputError(f"preprocess: no phone has the step {name!r}{nearest(str(name), STEPS)}")


def _padded(pixels: Pixels, by: int) -> Pixels:
    return np.pad(pixels, ((by, by), (by, by), (0, 0)), mode="edge")


def _sorted(a: Pixels, b: Pixels, c: Pixels) -> tuple[Pixels, Pixels, Pixels]:
    """The smallest, the middle and the largest of three, pixel by pixel."""
    low, high = np.minimum(a, b), np.maximum(a, b)
    return np.minimum(low, c), np.maximum(low, np.minimum(high, c)), np.maximum(high, c)

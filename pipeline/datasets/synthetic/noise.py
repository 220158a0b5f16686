"""Smooth noise, for clouds, ground, fleece and patches."""

import math
from functools import cache

import cv2
import numpy as np

CLOUDS, CURLS, PATCHES = (8, 32, 128, 512), (96, 192), (12, 40)  # grains of noise along 512 cells


@cache
def tile(grains: tuple[int, ...]) -> np.ndarray:
    """Smooth noise [512,512] from 0 to 1; the same for every image, each cuts its own part."""
    rng = np.random.default_rng(0)
    total = np.zeros((512, 512), np.float32)
    for octave, grain in enumerate(grains):
        grid = rng.random((grain, grain), dtype=np.float32)
        total += 0.75**octave * cv2.resize(grid, (512, 512), interpolation=cv2.INTER_CUBIC)
    return (total - total.min()) / (total.max() - total.min())


def noise(
    height: int, width: int, cell: float, rng: np.random.Generator, grains: tuple[int, ...] = CLOUDS
) -> np.ndarray:
    """Noise [height,width] from 0 to 1, a cell `cell` pixels wide."""
    h, w = (min(512, math.ceil(side / cell) + 1) for side in (height, width))
    y, x = rng.integers(0, 513 - h), rng.integers(0, 513 - w)
    return cv2.resize(tile(grains)[y : y + h, x : x + w], (width, height), interpolation=cv2.INTER_LINEAR)

"""Histograms of oriented gradients. Apart from what uses them: the processes that compute them start without torch.

N. Dalal and B. Triggs, Histograms of oriented gradients for human detection, CVPR 2005.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.image_file import open_image
from pipeline.core.spec import ModelSpec
from pipeline.ops.preprocess import prepare

SETTINGS: dict[str, Any] = {
    "orientations": 9,
    "pixels_per_cell": (8, 8),
    "cells_per_block": (2, 2),
    "block_norm": "L2-Hys",
}


def histograms(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The HOG of an RGB image [S, S, 3] in grey, as one row of numbers."""
    from skimage.color import rgb2gray
    from skimage.feature import hog

    return np.asarray(hog(rgb2gray(image), **SETTINGS), dtype=np.float32)


def features(spec: ModelSpec, path: Path) -> NDArray[np.float32]:
    """The same of a file, as the model of `spec` takes it."""
    return histograms(prepare(open_image(path), spec)[0])

"""What a policy is: how it moves an image, and how it changes the image's look."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.ops.preprocess import FILL

Pixels = NDArray[np.uint8]  # [H, W, 3] RGB
Points = NDArray[np.float64]  # [N, 2] x, y relative to the image, as in pipeline.core.sample

# Uncovered borders get the letterbox's grey. Mirrored or wrapped ones would show objects that have no label.
BORDER = FILL


@dataclass(frozen=True)
class Policy:
    """Two steps, each drawn from an int alone; None where a policy has no such step.

    `geometry(pixels, points, seed)` moves both alike and keeps the image's size. `look(pixels, seed)` leaves
    everything where it is. They are apart so that a draw that loses an object costs no blurring and no noise.
    Where `drawn` is there, each image has the steps of the policy that it returns of a seed from 0 to 2^64 - 1.
    """

    geometry: Callable[[Pixels, Points, int], tuple[Pixels, Points]] | None = None
    look: Callable[[Pixels, int], Pixels] | None = None
    drawn: "Callable[[int], Policy] | None" = None

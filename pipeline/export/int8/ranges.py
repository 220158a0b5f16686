"""What the 256 steps of an int8 activation span, from a histogram of it over the calibration images."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

BINS = 2048
LEFT_OUT = 1e-4  # by "99.99 %", half of it on each side
CUTS = 100  # how finely the search of "least squares" cuts a range, on each side
RANGES = ("least squares", "99.99 %", "min-max")  # the first wins a draw


class Histogram:
    """Of all values that were added, without the zeros: int8 has a step that is exactly zero."""

    def __init__(self) -> None:
        self.least, self.most = 0.0, 0.0
        self.counts = torch.zeros(BINS, dtype=torch.float64)

    def add(self, values: Tensor) -> None:
        values = values.detach()
        least, most = (float(v) for v in values.aminmax())
        if least < self.least or most > self.most:
            self._widen(min(least, self.least), max(most, self.most))
        if self.most > self.least:
            self.counts += torch.histc(values.float(), BINS, self.least, self.most)
            zero = min(int(-self.least / (self.most - self.least) * BINS), BINS - 1)
            self.counts[zero] -= values.numel() - int(values.count_nonzero())

    def span(self, kind: str) -> tuple[float, float]:
        """The range, zero included, by one of RANGES: of every value, all but a few, or the least squared error."""
        if kind == "min-max" or self.counts.sum() <= 0:
            return self.least, self.most
        if kind == "99.99 %":
            share = self.counts.cumsum(0) / self.counts.sum()
            low, high = torch.searchsorted(share, torch.tensor([LEFT_OUT / 2, 1 - LEFT_OUT / 2], dtype=share.dtype))
            edges = torch.linspace(self.least, self.most, BINS + 1, dtype=torch.float64)
            return min(float(edges[low]), 0.0), max(float(edges[min(int(high) + 1, BINS)]), 0.0)
        return self._least_squares()

    def _least_squares(self) -> tuple[float, float]:
        """Rounding errors are spread evenly within a step, so their mean square is a twelfth of its square; a value
        beyond the range is off by its distance from it.
        """
        centres, counts = self._centres(), self.counts
        shares = torch.linspace(0, 1, CUTS + 1, dtype=torch.float64)[1:]
        cut = []
        for end, beyond in ((self.most, centres > 0), (self.least, centres < 0)):
            ends = end * shares if end else torch.zeros(1, dtype=torch.float64)
            far = (centres.abs()[None] - ends.abs()[:, None]).clamp(min=0) * beyond
            cut.append((ends, (counts * far.square()).sum(1)))
        (tops, above), (bottoms, below) = cut
        steps = (tops[None] - bottoms[:, None]) / 255
        errors = counts.sum() * steps.square() / 12 + above[None] + below[:, None]
        row, column = divmod(int(errors.argmin()), len(tops))
        return float(bottoms[row]), float(tops[column])

    def _centres(self) -> Tensor:
        width = (self.most - self.least) / BINS
        return self.least + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)

    def _widen(self, least: float, most: float) -> None:
        place = (self._centres() - least) / (most - least) * BINS
        moved = torch.zeros_like(self.counts)
        moved.index_add_(0, place.long().clamp(0, BINS - 1), self.counts)
        self.least, self.most, self.counts = least, most, moved


def relative_error(
    exact: Sequence[Sequence[NDArray[np.float32]]], close: Sequence[Sequence[NDArray[np.float32]]]
) -> float:
    """RMS difference of each output over the spread of the exact one, averaged over the outputs.

    Both hold the outputs of each image.
    """
    errors = []
    for outputs in zip(*[zip(a, b, strict=True) for a, b in zip(exact, close, strict=True)], strict=True):
        a, b = (np.concatenate([np.ravel(o[side]) for o in outputs]).astype(np.float64) for side in (0, 1))
        errors.append(np.sqrt(np.mean((a - b) ** 2)) / max(float(a.std()), 1e-6))
    return float(np.mean(errors))

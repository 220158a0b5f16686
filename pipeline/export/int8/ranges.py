"""What the 256 steps of an int8 activation span, from a histogram of it over the calibration images."""

import torch
from torch import Tensor

BINS = 2048
LEFT_OUT = 1e-4  # of the values, half of it on each side


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

    def span(self, answer: bool = False) -> tuple[float, float]:
        """From where to where 99.99 % of the values lie, zero included.

        An `answer` of the net keeps all: cut off, the two best labels would be one.
        """
        if answer or self.counts.sum() <= 0:
            return self.least, self.most
        share = self.counts.cumsum(0) / self.counts.sum()
        low, high = torch.searchsorted(share, torch.tensor([LEFT_OUT / 2, 1 - LEFT_OUT / 2], dtype=share.dtype))
        edges = torch.linspace(self.least, self.most, BINS + 1, dtype=torch.float64)
        return min(float(edges[low]), 0.0), max(float(edges[min(int(high) + 1, BINS)]), 0.0)

    def _widen(self, least: float, most: float) -> None:
        width = (self.most - self.least) / BINS
        centres = self.least + width * (torch.arange(BINS, dtype=torch.float64) + 0.5)
        moved = torch.zeros_like(self.counts)
        moved.index_add_(0, ((centres - least) / (most - least) * BINS).long().clamp(0, BINS - 1), self.counts)
        self.least, self.most, self.counts = least, most, moved

"""Models of a comparison on the same test images: which differences are more than chance."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.bootstrap import draws, half_width, resampled
from pipeline.metrics.metrics import DIGITS, main_metric, paired


class Behind(NamedTuple):
    """How far a figure is below that of the `best` model, and where that lies with 95 % confidence on other images."""

    best: str
    by: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether there is a difference."""
        return not self.low <= 0 <= self.high


class Paired:
    """Models that are judged on the images `truth`, drawn anew for all of them together; each is resampled once.

    A model may have been trained several times: what is compared is then the mean of its trainings.
    """

    def __init__(self, task: str, truth: Sequence[Sample], data: Dataset) -> None:
        self._task, self._data, self._ids = task, data, {s.id for s in truth}
        self._gold = paired([*truth], [*truth])[0]
        self._drawn = draws(self._gold)
        self._samples: dict[tuple[str, int], NDArray[np.float64]] = {}

    def behind_best(
        self, answers: Mapping[str, Sequence[Sequence[Sample]]], figures: Mapping[str, float]
    ) -> dict[str, Behind]:
        """Of each model but the best, how far its main metric of `figures` is behind; `answers` are what each of its
        trainings predicts, always the same of a training. Models that were judged on other images are left out, as the
        best, too.
        """
        same = [model for model, tries in answers.items() if model in figures and tries and self._are_of(tries)]
        if len(same) < 2:
            return {}
        samples = {model: self._samples_of(model, answers[model]) for model in same}
        best = max(same, key=lambda model: figures[model])
        found = {}
        for model in same:
            by = round(figures[best] - figures[model], DIGITS)
            half = half_width(samples[best] - samples[model], self._drawn.groups)
            if model != best:
                found[model] = Behind(best, by, round(by - half, DIGITS), round(by + half, DIGITS))
        return found

    def _are_of(self, tries: Sequence[Sequence[Sample]]) -> bool:
        return all({s.id for s in said} == self._ids for said in tries)

    def _samples_of(self, model: str, tries: Sequence[Sequence[Sample]]) -> NDArray[np.float64]:
        for number, said in enumerate(tries):
            if (model, number) not in self._samples:
                figures = resampled(self._task, *paired(self._gold, [*said]), self._data, self._drawn.weights)
                self._samples[model, number] = figures[main_metric(self._task)]
        return np.mean([self._samples[model, number] for number in range(len(tries))], axis=0)

"""Models of a comparison on the same test images: which differences are more than chance."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.bootstrap import draws, half_width, resampled
from pipeline.metrics.metrics import DIGITS, main_metric, paired


class Behind(NamedTuple):
    """How far a figure is below the best one, and where that lies with 95 % confidence on other images."""

    by: float
    low: float
    high: float

    @property
    def told(self) -> bool:
        """Whether there is a difference."""
        return not self.low <= 0 <= self.high


def behind_best(
    task: str,
    truth: Sequence[Sample],
    answers: Mapping[str, Sequence[Sample]],
    figures: Mapping[str, float],
    data: Dataset,
) -> dict[str, Behind]:
    """Of each model but the best, how far its main metric of `figures` is behind; `answers` are what each one predicts.

    The images are drawn anew for all models together. Models that were judged on other images than `truth` are left
    out.
    """
    ids = {s.id for s in truth}
    same = [model for model, said in answers.items() if model in figures and {s.id for s in said} == ids]
    if len(same) < 2:
        return {}
    gold = paired([*truth], [*truth])[0]
    drawn = draws(gold)
    samples = {
        model: resampled(task, *paired(gold, [*answers[model]]), data, drawn.weights)[main_metric(task)]
        for model in same
    }
    best = max(same, key=lambda model: figures[model])
    found = {}
    for model in same:
        by = round(figures[best] - figures[model], DIGITS)
        half = half_width(samples[best] - samples[model], drawn.groups)
        if model != best:
            found[model] = Behind(by, round(by - half, DIGITS), round(by + half, DIGITS))
    return found

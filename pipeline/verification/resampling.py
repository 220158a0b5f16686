"""Whether the test split is large enough to tell a fall: what the fall would be on other images of the same kind."""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.coco_ap import resampled_ap
from pipeline.metrics.metrics import accuracy, mean_iou

RESAMPLES = 1000
AP_RESAMPLES = 100  # each accumulates all detections anew; of a standard error 100 tell all but a tenth
SEED = 0
WITHIN_95 = 1.96  # standard errors
DIGITS = 2  # of the number of images that would be enough


def resampled(task: str, truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> NDArray[np.float64]:
    """[R] the main metric on each of R samples of the images, drawn with replacement: the same ones for all
    predictions of a split. Frames of a clip are drawn together, as they are alike. NaN where it is not defined.
    """
    if task == "detect":
        return np.array(resampled_ap(truth, predicted, dataset, _draws(truth, AP_RESAMPLES)))
    figure = {"classify": accuracy, "localize": mean_iou}[task]
    each = [figure([t], [p]) for t, p in zip(truth, predicted, strict=True)]
    values = np.array([math.nan if value is None else value for value in each])
    return np.array([_mean(values[drawn]) for drawn in _draws(truth, RESAMPLES)])


def certainty(
    truth: list[Sample],
    drop: float | None,
    resamples: tuple[NDArray[np.float64], NDArray[np.float64]],
    tolerance: float,
) -> dict[str, Any]:
    """How sure a `drop` of the main metric is, for verify.json; `resamples` (of `resampled`): the float model's, the
    file's. `drop_interval`: where it lies with 95 % confidence. `too_small`: a sentence, where that is further to
    either side than the tolerance; else None. A tolerance of 0 asks for no fall on these images, which they tell.

    To the variance of the samples comes that of one image lost and one gained (as Bonett and Price, 2012, count them):
    where both models answer a dozen images alike all samples are alike too, and yet a dozen says little.
    """
    counted = sum(s.label is not None or any(not o.crowd for o in s.objects) for s in truth)
    apart = resamples[0] - resamples[1]
    if drop is None or np.isnan(apart).all():
        return {"drop_interval": None, "too_small": None}
    variance = float(np.nanvar(apart))
    half = WITHIN_95 * math.sqrt(variance + 2 / (counted + 2) ** 2)
    small = None
    if 0 < tolerance < half:
        wanted = (tolerance / WITHIN_95) ** 2  # variance, which falls with the number of images
        each = variance * counted
        enough = _rounded_up((each + math.sqrt(each**2 + 8 * wanted)) / (2 * wanted))
        what = "images" if truth[0].label is not None else "images with an object"
        small = f"{counted} {what} cannot tell a fall of {tolerance:g}; about {enough} can"
    interval = [round(max(-1.0, drop - half), 6), round(min(1.0, drop + half), 6)]
    return {"drop_interval": interval, "too_small": small}


def _draws(truth: list[Sample], count: int) -> Iterator[NDArray[np.int64]]:
    """Indices of images, `count` times."""
    groups: dict[Any, list[int]] = {}
    for i, sample in enumerate(truth):
        groups.setdefault(("clip", sample.clip) if sample.clip is not None else i, []).append(i)
    members = [np.array(group) for group in groups.values()]
    random = np.random.default_rng(SEED)
    for _ in range(count):
        drawn = random.integers(0, len(members), len(members))
        yield drawn if len(members) == len(truth) else np.concatenate([members[i] for i in drawn])


def _mean(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else math.nan


def _rounded_up(number: float) -> int:
    step = 10 ** max(0, math.floor(math.log10(number)) + 1 - DIGITS)
    return math.ceil(number / step) * step

"""Whether the test split is large enough to tell a fall: what the fall would be on other images of the same kind."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Sample
from pipeline.metrics.bootstrap import WITHIN_95, drawn_with, half_width, interval
from pipeline.verification.comparison import ERRORS

DIGITS = 2  # of the number that would be enough


def drop_intervals(
    drops: Mapping[str, float | None],
    resamples: tuple[Mapping[str, NDArray[np.float64]], Mapping[str, NDArray[np.float64]]],
    groups: int,
) -> dict[str, list[float] | None]:
    """Where the drop of each figure lies with 95 % confidence, by both models' figures on the same samples of the
    images: [0, 0] where they answer alike. `drops` as in verify.json: of an error the rise.
    """
    exact, close = resamples
    apart = {
        name: close[name] - exact[name] if name in ERRORS else exact[name] - close[name]
        for name in exact
        if name in close and drops.get(name) is not None
    }
    return {name: interval(float(drops[name] or 0.0), samples, groups) for name, samples in apart.items()}


def certainty(
    truth: list[Sample],
    drop: float | None,
    resamples: tuple[NDArray[np.float64], NDArray[np.float64]],
    tolerance: float,
) -> dict[str, Any]:
    """How sure a `drop` of the main metric is, for verify.json; `resamples`: the float model's figure on samples of
    the images, and the file's on the same. `drop_interval`: where it lies with 95 % confidence. `too_small`: a
    sentence, where that is further to either side than the tolerance; else None. A tolerance of 0 asks for no fall on
    these images, which they tell. Images of a group count as one: they are drawn together.
    """
    telling = [s for s in truth if s.label is not None or any(not o.crowd for o in s.objects)]
    counted = len({drawn_with(s) for s in telling})
    apart = resamples[0] - resamples[1]
    if drop is None or np.isnan(apart).all():
        return {"drop_interval": None, "too_small": None}
    variance = float(np.nanvar(apart))
    half = half_width(apart, counted)
    small = None
    if 0 < tolerance < half:
        wanted = (tolerance / WITHIN_95) ** 2  # variance, which falls with the number of images or groups
        each = variance * counted
        enough = _rounded_up((each + math.sqrt(each**2 + 8 * wanted)) / (2 * wanted))
        small = _too_small(truth, telling, counted, f"{tolerance:g}", enough, half)
    within = [round(max(-1.0, drop - half), 6), round(min(1.0, drop + half), 6)]
    return {"drop_interval": within, "too_small": small}


def _too_small(truth: list[Sample], telling: list[Sample], counted: int, fall: str, enough: int, half: float) -> str:
    """What is counted, of the images of the test split those that are `telling`, and how many of that are enough."""
    few = f"too few to tell a fall of {fall}; about {enough}"
    some = f"{len(telling)} of the {len(truth)} test images have an object"
    all_tell = len(telling) == len(truth)
    if any(drawn_with(s)[0] for s in telling):
        which = f"the {len(truth)} test images are" if all_tell else f"{some} and are"
        why = f"images of a group are alike and count as one; the drop is known to {half:.2f} either way"
        return f"{which} {counted} groups, {few} groups can tell it ({why})"
    return f"{counted} images are {few} can tell it" if all_tell else f"{some}, {few} such images can tell it"


def _rounded_up(number: float) -> int:
    step = 10 ** max(0, math.floor(math.log10(number)) + 1 - DIGITS)
    return math.ceil(number / step) * step

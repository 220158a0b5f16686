"""What a score is worth: the calibration that a model.json may have under `predict`, applied to what the model says."""

import math
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pipeline.core.sample import Sample

LEAST = 1e-6  # a score is taken as no nearer to 0 and 1 than this: its odds have to be finite
MOST_LOG_ODDS = 60.0
DIGITS = 6


def worth(score: float, fit: Mapping[str, Any]) -> float:
    """How often an answer with that score is right, by a `fit`: of Platt (1999) `slope` and `offset` of a line over the
    score's log-odds; of an isotonic one the knots `scores` and `right`, with straight lines between them.

    >>> worth(0.9, {"by": "platt", "slope": 0.5, "offset": 0.0})
    0.75
    >>> worth(0.7, {"by": "isotonic", "scores": [0.5, 0.9], "right": [0.2, 0.8]})
    0.5
    """
    if fit["by"] == "platt":
        near = min(max(score, LEAST), 1 - LEAST)
        odds = fit["slope"] * math.log(near / (1 - near)) + fit["offset"]
        return round(1 / (1 + math.exp(-min(max(odds, -MOST_LOG_ODDS), MOST_LOG_ODDS))), DIGITS)
    scores, right = fit["scores"], fit["right"]
    above = bisect_right(scores, score)
    if above in (0, len(scores)):
        return float(right[max(above - 1, 0)])
    share = (score - scores[above - 1]) / (scores[above] - scores[above - 1])
    return round(right[above - 1] + share * (right[above] - right[above - 1]), DIGITS)


def calibrated(sample: Sample, predict: Mapping[str, Any]) -> Sample:
    """The sample with calibrated scores, where the block `predict` of its model.json has a `calibration`.

    Labels, objects and their order stay. Of a classifier the label that is answered gets what its score is worth; the
    others share the rest as they did, each up to that score: the answer stays the first, and the sum may be under 1.

    >>> said = Sample("1", "1.jpg", 64, 48, label="cow", scores={"cow": 0.9, "goat": 0.08, "pig": 0.02})
    >>> calibrated(said, {"calibration": {"by": "platt", "slope": 0.5, "offset": 0.0}}).scores
    {'cow': 0.75, 'goat': 0.2, 'pig': 0.05}
    """
    fit = predict.get("calibration")
    if fit is None:
        return sample
    objects = [o if o.score is None else replace(o, score=worth(o.score, fit)) for o in sample.objects]
    scores = sample.scores and _shared(str(sample.label), sample.scores, fit)
    return replace(sample, objects=objects, scores=scores)


def _shared(label: str, scores: Mapping[str, float], fit: Mapping[str, Any]) -> dict[str, float]:
    sure = worth(scores[label], fit)
    others = sum(score for name, score in scores.items() if name != label)
    return {
        name: sure
        if name == label
        else round(min(sure, (1 - sure) * (score / others if others > 0 else 1 / (len(scores) - 1))), DIGITS)
        for name, score in scores.items()
    }

"""How often an answer with a score is right, learned from answers of which that is known."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.calibrated import DIGITS, LEAST
from pipeline.core.errors import InputError
from pipeline.metrics.calibration import Scored

Floats = NDArray[np.float64]


def fitted(how: str, answers: Scored) -> dict[str, Any]:
    """The fit of `core.calibrated.worth` that `answers` ask for, `how`: "platt" or "isotonic". A higher score is never
    worth less. Raises ValueError without any answer.

    >>> answers = Scored(["cow"] * 4, np.array([0.6, 0.6, 0.9, 0.9]), np.array([0.0, 1.0, 1.0, 1.0]))
    >>> fitted("isotonic", answers)
    {'by': 'isotonic', 'scores': [0.6, 0.9], 'right': [0.5, 1.0]}
    """
    if not len(answers.score):
        raise InputError("no answer to calibrate by")
    fit = {"platt": _platt, "isotonic": _isotonic}[how]
    return {"by": how, **fit(answers.score, answers.right > 0)}


def _platt(score: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    """A line over the log-odds by maximum likelihood, against Platt's targets (1999): a little away from 0 and 1, so
    that few answers are not taken for certain."""
    from sklearn.linear_model import LogisticRegression

    near = np.clip(score, LEAST, 1 - LEAST)
    odds, hits = np.log(near / (1 - near)), int(right.sum())
    target = np.where(right, (hits + 1) / (hits + 2), 1 / (len(right) - hits + 2))
    both, weight = np.tile(odds, 2)[:, None], np.concatenate([target, 1 - target])
    model = LogisticRegression(C=np.inf, tol=1e-8, max_iter=1000)
    model.fit(both, np.repeat([1, 0], len(odds)), sample_weight=weight)
    slope, offset = float(model.coef_[0, 0]), float(model.intercept_[0])
    if slope < 0:
        slope, offset = 0.0, float(np.log(target.mean() / (1 - target.mean())))
    return {"slope": round(slope, DIGITS), "offset": round(offset, DIGITS)}


def _isotonic(score: Floats, right: NDArray[np.bool_]) -> dict[str, Any]:
    """Knots of the least-squares step function that only rises (Zadrozny and Elkan, 2002)."""
    from sklearn.isotonic import IsotonicRegression

    model = IsotonicRegression(y_min=0, y_max=1).fit(score, right.astype(np.float64))
    knots = {"scores": model.X_thresholds_, "right": model.y_thresholds_}
    return {name: [round(float(value), DIGITS) for value in values] for name, values in knots.items()}

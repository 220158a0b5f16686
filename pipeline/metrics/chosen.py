"""What a validation split decides: the score from which objects are shown, and what scores are worth."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.params import AUTO, HOW, NONE
from pipeline.core.sample import Sample
from pipeline.metrics.calibration import scored
from pipeline.metrics.metrics import DIGITS, FOR_AP, one_object


def choose_score(
    task: str, truth: list[Sample], predicted: list[Sample], costs: tuple[float, float] | None = None
) -> dict[str, Any]:
    """The `score` from which objects are shown, with what it reaches: the highest F1 over all labels together, or with
    `costs`, of a miss and of a false alarm, the lowest sum of them. Both lists are in one order, of a localizer's
    objects the presence alone counts. It lies in the middle between two scores, the higher one of equal worth. Raises
    ValueError where `truth` has no object.

    >>> from pipeline.core.sample import Object
    >>> truth = [Sample(i, "a.jpg", 8, 8, objects=[Object("cow", (0, 0, 1, 1))][: i != "c"]) for i in "abc"]
    >>> rows = zip("abc", (0.9, 0.6, 0.4))
    >>> found = [Sample(i, "a.jpg", 8, 8, objects=[Object("cow", (0, 0, 1, 1), score=score)]) for i, score in rows]
    >>> choose_score("localize", truth, found)
    {'score': 0.5, 'by': 'F1', 'F1': 1.0}
    """
    there = [[one_object(s)] if task == "localize" else s.objects for s in truth]
    positives = sum(o is not None and not o.crowd for objects in there for o in objects)
    if not positives:
        raise InputError("no object to choose a score by")
    answers = scored(task, truth, predicted)
    order = np.argsort(-answers.score, kind="stable")
    score, right = answers.score[order], np.concatenate([[0], np.cumsum(answers.right[order] > 0)])
    shown, floor = np.arange(len(right)), FOR_AP["score"] if task == "detect" else 0.0
    above, below = np.concatenate([[1.0], score]), np.concatenate([score, [floor]])
    miss, alarm = costs or (0.0, 0.0)
    price = miss * (positives - right) + alarm * (shown - right)
    worth = -price if costs else 2 * right / (shown + positives)
    best = int(np.argmax(np.where(above > below, worth, -np.inf)))
    chosen = {"score": _between(float(below[best]), float(above[best]))}
    if costs:
        return chosen | {
            "by": "cost",
            "miss_cost": miss,
            "alarm_cost": alarm,
            "cost": round(float(price[best]), DIGITS),
        }
    return chosen | {"by": "F1", "F1": round(float(worth[best]), DIGITS)}


def _between(below: float, above: float) -> float:
    """The middle, with as few digits as lie above `below` and not above `above`."""
    middle = (below + above) / 2
    short = (round(middle, digits) for digits in range(2, 18))
    return next((number for number in short if below < number <= above), above)


def settled(predict: Mapping[str, Any], metrics: Path) -> dict[str, Any]:
    """The block `predict` of a run as its model needs it: without what is left to val and how, and with what val
    decided, which the run's metrics.json (`metrics`) says: `score`, and the `calibration` where there is one. Raises
    InputError if it does not.

    >>> settled({"score": 0.5, "miss_cost": None, "alarm_cost": None, "calibrate": "none"}, Path("nosuch/metrics.json"))
    {'score': 0.5}
    """
    block, how = {key: value for key, value in predict.items() if key not in HOW}, predict.get("calibrate", NONE)
    if block["score"] == AUTO:
        block["score"] = _decided(metrics, "chosen", "score", "predict.score is auto, so `dvc repro` of stage evaluate")
    if how != NONE:
        why = f"predict.calibrate is {how}, so `dvc repro` of stage evaluate"
        block["calibration"] = fit = _decided(metrics, "calibrated", "fit", why)
        if fit["by"] != how:
            raise InputError(f"{metrics}: has a fit by {fit['by']}; {why} makes one")
    return block


def _decided(metrics: Path, part: str, key: str, why: str) -> Any:
    found = read_json(metrics).get(part, {}) if metrics.is_file() else {}
    if key not in found:
        lacks = f"has no {key} that was chosen" if metrics.is_file() else "no such file"
        raise InputError(f"{metrics}: {lacks}; {why} chooses one")
    return found[key]

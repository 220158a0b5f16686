"""Calibration errors against what is known of made scores, and against the definitions written out."""

import numpy as np
import pytest

from pipeline.core.sample import Object, Sample
from pipeline.metrics.calibration import BINS, Scored, binned_error, calibration, reliability


def classified(n: int, sure: float, seed: int = 0) -> tuple[list[Sample], list[Sample]]:
    """Images whose answer is right as often as its score says, told with the odds to the power of `sure`."""
    random = np.random.default_rng(seed)
    truth, predicted = [], []
    for i, chance in enumerate(random.uniform(0.5, 0.99, n)):
        told = chance**sure / (chance**sure + (1 - chance) ** sure)
        truth.append(Sample(str(i), "a.jpg", 8, 8, label="cow" if random.random() < chance else "goat"))
        scores = {"cow": float(told), "goat": float(1 - told)}
        predicted.append(Sample(str(i), "a.jpg", 8, 8, label="cow", scores=scores))
    return truth, predicted


def test_scores_that_are_right_as_often_as_they_say_have_no_error() -> None:
    honest, _ = calibration("classify", *classified(20_000, 1), None)
    boastful, rows = calibration("classify", *classified(20_000, 3), None)
    assert honest["ECE"] < 0.015 < 0.1 < boastful["ECE"]
    middle = [row for row in rows if 0.6 < row[0] < 0.95]
    assert middle and all(right < score for *_, score, right in middle), "less often right than it says"
    assert sum(row[2] for row in rows) == boastful["answers"] == 20_000


def test_the_error_is_that_of_its_definition() -> None:
    random = np.random.default_rng(1)
    answers = Scored(["cow"] * 500, random.random(500).round(2), random.integers(0, 2, 500).astype(float))
    total = 0.0
    for b in range(10):
        own = [i for i, s in enumerate(answers.score) if b / 10 <= s < (b + 1) / 10 or (b == 9 and s == 1)]
        total += abs(sum(answers.score[own]) - sum(answers.right[own])) / 500
    assert binned_error(answers, 10) == pytest.approx(total)
    assert binned_error(Scored([], np.array([]), np.array([])), 10) is None


@pytest.mark.parametrize("score", [0.0, 0.5, 1.0])
def test_every_score_has_its_range(score: float) -> None:
    [(low, high, n, mean, right)] = reliability(Scored(["cow"], np.array([score]), np.array([1.0])), 25)
    assert low <= score <= high and (n, mean, right) == (1, score, 1.0)


def test_a_detector_is_as_right_as_its_boxes_fit() -> None:
    """Written out: of cows one fits by half, one is beside; the goat fits by 0.25, too little to be found."""
    half, quarter, beside = (0, 0, 0.5, 0.25), (0.5, 0.5, 0.25, 0.25), (0, 0.9, 0.1, 0.1)
    cow, goat = Object("cow", (0, 0, 0.5, 0.5)), Object("goat", (0.5, 0.5, 0.5, 0.5))
    crowd = Object("cow", (0.6, 0, 0.4, 0.4), crowd=True)
    truth = Sample("a", "a.jpg", 80, 80, objects=[cow, goat, crowd])
    boxes = (("cow", half, 0.9), ("goat", quarter, 0.6), ("cow", beside, 0.4), ("cow", (0.7, 0, 0.1, 0.1), 0.8))
    found = Sample("a", "a.jpg", 80, 80, objects=[Object(label, box, score=s) for label, box, s in boxes])
    figures, rows = calibration("detect", [truth], [found], 0.3)
    assert figures["score"] == 0.3 and figures["answers"] == 3, "what lies in the crowd is left out"
    assert figures["D_ECE"] == pytest.approx((0.1 + 0.6 + 0.4) / 3, abs=1e-6)
    fits = ((0.4 + 0.4) / 2 + 0.35) / 2
    assert figures["LaECE"] == figures["LaACE"] == pytest.approx(fits, abs=1e-6), "each is in a range of its own"
    assert [row[4] for row in rows] == [0, 0, 1] and figures["bins"] == BINS["detect"]


def test_a_detector_that_finds_nothing_has_no_errors() -> None:
    nothing = Sample("a", "a.jpg", 80, 80)
    figures, rows = calibration("detect", [nothing], [nothing], 0.3)
    assert (figures["D_ECE"], figures["LaECE"], figures["LaACE"], rows) == (None, None, None, [])

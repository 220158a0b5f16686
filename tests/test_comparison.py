"""How far one model's answers fall from another's."""

import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import replace
from types import FrameType
from typing import Any

import numpy as np
import pytest

from pipeline.core.sample import Dataset, Landmark, Object, Sample
from pipeline.metrics.bootstrap import draws, interval, resampled
from pipeline.metrics.metrics import main_metric, score
from pipeline.verification.comparison import MOST_LABELS, drop, drop_per_class, drops, reported
from pipeline.verification.gate import falls, tolerances
from pipeline.verification.params import FIGURES, VerifyParams
from pipeline.verification.resampling import certainty, drop_intervals


def answers(task: str, labels: list[str], count: int, seed: int) -> list[Sample]:
    """Images of one label or object each, drawn by `seed`; in some of a localizer's there is nothing."""
    draw = random.Random(seed)
    made = []
    for i in range(count):
        label = draw.choice(labels)
        if task == "classify":
            made.append(Sample(str(i), f"{i}.jpg", 10, 10, label=label))
            continue
        box = (draw.uniform(0, 0.4), draw.uniform(0, 0.4), draw.uniform(0.1, 0.6), draw.uniform(0.1, 0.6))
        objects = [Object(label, box, score=1.0)] if draw.random() < 0.8 else []
        made.append(Sample(str(i), f"{i}.jpg", 10, 10, objects=objects))
    return made


def defined(task: str, truth: list[Sample], predicted: list[Sample], dataset: Dataset, label: str) -> float | None:
    """The main metric over the images that have the label."""
    own = [i for i, t in enumerate(truth) if t.label == label or any(o.label == label for o in t.objects)]
    if not own:
        return None
    figures = score(task, [truth[i] for i in own], [predicted[i] for i in own], dataset)
    return figures[main_metric(task)]


@pytest.mark.parametrize("task", ["classify", "localize"])
@pytest.mark.parametrize("seed", range(20))
def test_the_drop_of_a_label_is_that_of_the_images_that_have_it(task: str, seed: int) -> None:
    dataset = Dataset("d", [f"l{i}" for i in range(6)])
    used = dataset.labels[:-1]  # of the last label there is no image
    truth, exact, close = (answers(task, used, 25, 3 * seed + i) for i in range(3))
    found = drop_per_class(task, truth, (exact, close), ({}, {}), dataset)
    assert found == {
        label: drop(*(defined(task, truth, predicted, dataset, label) for predicted in (exact, close)))
        for label in dataset.labels
    }
    assert found[dataset.labels[-1]] is None


def calls(function: Callable[[], Any]) -> int:
    """How many Python functions and steps of generators run: the same on any machine, unlike time."""
    count = 0

    def note(_frame: FrameType, event: str, _argument: Any) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        function()
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("task", ["classify", "localize"])
def test_work_grows_with_images_and_labels_not_with_their_product(task: str) -> None:
    def work(labels: int) -> int:
        dataset = Dataset("d", [f"l{i}" for i in range(labels)])
        truth, exact, close = (answers(task, dataset.labels, 4 * labels, seed) for seed in range(3))
        return calls(lambda: drop_per_class(task, truth, (exact, close), ({}, {}), dataset))

    assert work(80) < 3 * work(40)


def test_the_figures_of_many_labels_take_work_for_each_once() -> None:
    def work(labels: int) -> int:
        dataset = Dataset("d", [f"l{i}" for i in range(labels)])
        truth, predicted = (answers("classify", dataset.labels, 4 * labels, seed) for seed in range(2))
        return calls(lambda: score("classify", truth, predicted, dataset))

    assert work(80) < 3 * work(40)


def test_a_verdict_of_many_labels_is_short() -> None:
    few, many = (Dataset("d", [f"l{i}" for i in range(n)]) for n in (MOST_LABELS, MOST_LABELS + 1))
    for dataset, whole in ((few, True), (many, False)):
        truth, predicted = (answers("classify", dataset.labels, 100, seed) for seed in range(2))
        metrics = score("classify", truth, predicted, dataset)
        told = reported(metrics)
        assert ("confusion" in told) is whole
        assert {**told, "confusion": metrics["confusion"]} == metrics
        assert whole or len(json.dumps(told, indent=1).splitlines()) < 10 * len(dataset.labels)


LANDMARKS = Dataset("d", ["l0", "l1"], landmarks=["top", "left"])


def with_landmarks(task: str, seed: int) -> list[Sample]:
    """Clips of five frames, or objects with landmarks."""
    made = answers(task, LANDMARKS.labels, 40, seed)
    if task == "classify":
        return [replace(s, clip=str(i // 5), label=made[i // 5].label) for i, s in enumerate(made)]
    points = [Landmark(0.2 + 0.1 * seed, 0.2), Landmark(0.4, 0.3)]
    return [replace(s, objects=[replace(o, landmarks=points) for o in s.objects]) for s in made]


def judged(
    task: str, close: list[Sample], params: VerifyParams, exact: list[Sample] | None = None
) -> tuple[dict[str, Any], list[str]]:
    """The fall of each figure that is held, and the reasons against a file that answers `close`; the float model
    makes no mistake.
    """
    truth = with_landmarks(task, 0)
    exact = exact or truth
    metrics = [score(task, truth, predicted, LANDMARKS) for predicted in (exact, close)]
    row = {
        "metrics": metrics[1],
        "drops": drops(*metrics),
        "tolerances": tolerances(metrics[0], params),
        "drop_per_class": drop_per_class(task, truth, (exact, close), (metrics[0], metrics[1]), LANDMARKS),
    }
    return row["tolerances"], falls(row, metrics[0], params.per_class)


@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_a_file_that_falls_in_all_is_told_every_figure(task: str) -> None:
    held, reasons = judged(task, with_landmarks(task, 1), VerifyParams())
    expected = set(FIGURES[task]) - {"AP75", "AR", "AP_small", "AP_medium", "AP_large", "nme_interocular"}
    assert set(held) == expected
    told = {reason.split()[1] for reason in reasons}
    assert told == expected
    assert all(reason.startswith(f"{FIGURES[task][reason.split()[1]]}: ") for reason in reasons)
    assert judged(task, with_landmarks(task, 0), VerifyParams(tolerance=0.0, per_class=True))[1] == []


def test_a_figure_that_is_named_alone_is_held_too() -> None:
    held, reasons = judged("detect", with_landmarks("detect", 1), VerifyParams(tolerance=1.0, tolerances={"AR": 0.1}))
    assert held["AR"] == 0.1
    assert len(reasons) == 1 and reasons[0].startswith("boxes: AR falls by ")


def test_where_nothing_is_found_any_more_the_error_of_landmarks_is_no_excuse() -> None:
    nothing = [replace(s, objects=[]) for s in with_landmarks("detect", 0)]
    _, reasons = judged("detect", nothing, VerifyParams())
    assert "landmarks: nme was 0.0000 and is not defined any more: nothing is found" in reasons
    assert "landmarks: pck falls by 1.0000 from 1.0000, tolerance 0.03" in reasons


def test_of_few_images_a_fall_is_counted() -> None:
    truth = with_landmarks("classify", 0)
    other = next(label for label in LANDMARKS.labels if label != truth[0].label)
    close = [replace(truth[0], label=other), *truth[1:]]
    _, reasons = judged("classify", close, VerifyParams(tolerance=0.02))
    assert reasons[0].startswith("labels: accuracy falls by 0.0250 from 1.0000 (1 of 40 images), tolerance 0.02")


def test_a_label_is_held_by_choice() -> None:
    truth = with_landmarks("classify", 0)
    close = [*truth]
    rare = next(i for i, s in enumerate(truth) if s.label == "l0")
    close[rare] = replace(truth[rare], label="l1")
    params = VerifyParams(tolerance=0.04, tolerances={"macro_f1": 1.0})
    assert judged("classify", close, params)[1] == []
    _, (reason,) = judged("classify", close, params.model_copy(update={"per_class": True}))
    share = 1 / sum(s.label == "l0" for s in truth)
    assert reason == f"labels: accuracy falls in 'l0' by {share:.4f}, tolerance 0.04 for each"


def test_one_clip_may_be_lost_where_they_are_few() -> None:
    truth = with_landmarks("classify", 0)
    flipped = {"l0": "l1", "l1": "l0"}

    def lose(clips: int, **more: Any) -> list[str]:
        close = [replace(s, label=flipped[str(s.label)]) if int(str(s.clip)) < clips else s for s in truth]
        params = VerifyParams(tolerance=0.03, tolerances={"accuracy": 1.0, "macro_f1": 1.0, **more})
        return judged("classify", close, params)[1]

    assert lose(1) == []
    assert lose(2)[0].startswith("clips: clip_accuracy falls by 0.2500 from 1.0000")
    assert lose(1, clip_accuracy=0.03)[0].startswith("clips: clip_accuracy falls by 0.1250 from 1.0000")


def fallen(images: int, wrong: int, tolerance: float, clips: int = 0) -> dict[str, Any]:
    truth = [Sample(str(i), "", 8, 8, clip=str(i % clips) if clips else None, label="l0") for i in range(images)]
    close = [replace(s, label="l1") if i < wrong else s for i, s in enumerate(truth)]
    drawn = draws(truth)
    both = [resampled("classify", truth, said, LANDMARKS, drawn.weights)["accuracy"] for said in (truth, close)]
    return certainty(truth, wrong / images, (both[0], both[1]), tolerance)


def test_an_interval_is_that_of_paired_shares() -> None:
    """sqrt(p (1 - p) / n) at 95 %, and a little for what was not seen."""
    low, high = fallen(1000, 100, 0.05)["drop_interval"]
    assert (low, high) == pytest.approx((0.1 - 0.0188, 0.1 + 0.0188), abs=0.002)


@pytest.mark.parametrize(("images", "wrong"), [(12, 0), (40, 0), (40, 3), (200, 20)])
def test_the_number_of_images_that_is_said_to_be_enough_is(images: int, wrong: int) -> None:
    told = fallen(images, wrong, 0.03)["too_small"]
    assert told is not None and told.startswith(f"{images} images are too few to tell a fall of 0.03; about ")
    enough = int(told.split()[-4])
    assert fallen(enough, round(wrong * enough / images), 0.031)["too_small"] is None
    assert fallen(enough * 2 // 3, round(wrong * enough * 2 / 3 / images), 0.03)["too_small"] is not None


def test_images_of_a_group_say_no_more_than_one() -> None:
    """Five clips of 20 frames each: what they can tell is counted in clips, and so is what would be enough."""
    alone, grouped = fallen(100, 0, 0.03), fallen(100, 0, 0.03, clips=5)
    assert alone["too_small"] is None
    told = grouped["too_small"]
    said = r"the 100 test images are 5 groups, too few to tell a fall of 0\.03; about (\d+) groups can tell it "
    found = re.fullmatch(said + r"\(images of a group .+; the drop is known to (0\.\d\d) either way\)", told)
    assert found and float(found[2]) == pytest.approx(grouped["drop_interval"][1], abs=0.005)
    enough = int(found[1])
    assert fallen(20 * enough, 0, 0.031, clips=enough)["too_small"] is None
    assert fallen(10 * enough, 0, 0.03, clips=enough // 2)["too_small"] is not None
    assert grouped["drop_interval"][1] > 5 * alone["drop_interval"][1]


def test_images_that_can_tell_are_counted_among_all() -> None:
    """An image without an object says nothing of a mean IoU; whose number is meant is said."""
    zeros, cow = np.zeros(1000), Object("l0", (0, 0, 1, 1))
    few = r"too few to tell a fall of 0\.03; about \d+"
    for groups, said in (
        (0, rf"12 of the 40 test images have an object, {few} such images can tell it"),
        (6, rf"12 of the 40 test images have an object and are 6 groups, {few} groups can tell it \(.+\)"),
    ):
        truth = [
            Sample(f"{i}", "", 8, 8, group=f"{i % groups}" if groups else None, objects=[cow] if i < 12 else [])
            for i in range(40)
        ]
        told = certainty(truth, 0.0, (zeros + 0.5, zeros + 0.5), 0.03)["too_small"]
        assert re.fullmatch(said, told), told


def test_a_tolerance_of_nothing_is_told_by_any_split() -> None:
    assert fallen(12, 0, 0.0)["too_small"] is None


def test_where_nothing_is_to_be_found_there_is_no_interval() -> None:
    none = np.full(1000, np.nan)
    truth = [Sample(str(i), "", 8, 8) for i in range(4)]
    assert certainty(truth, None, (none, none), 0.03) == {"drop_interval": None, "too_small": None}
    found = resampled("localize", truth, truth, LANDMARKS, draws(truth).weights)
    assert {name for name, values in found.items() if not np.isnan(values).any()} == {"presence_accuracy"}
    assert drop_intervals({"mean_iou": None}, (found, found), 4) == {}


@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_two_models_that_answer_alike_differ_by_nothing_for_certain(task: str) -> None:
    truth, predicted, other = (with_landmarks(task, seed) for seed in range(3))
    figures = [score(task, truth, said, LANDMARKS) for said in (predicted, other)]
    drawn = draws(truth)
    found = [resampled(task, truth, said, LANDMARKS, drawn.weights) for said in (predicted, other)]
    same = drop_intervals(drops(figures[0], figures[0]), (found[0], found[0]), drawn.groups)
    assert set(same) == set(found[0]) and all(value == [0, 0] for value in same.values())
    fallen = drops(*figures)
    for name, (low, high) in drop_intervals(fallen, (found[0], found[1]), drawn.groups).items():
        assert low < fallen[name] < high


def test_of_two_models_on_the_same_images_the_difference_is_surer_than_each_figure() -> None:
    truth = [Sample(f"{i:03}", "", 8, 8, label="l0") for i in range(200)]
    wrong = [[replace(s, label="l1") if i % 2 or i < extra else s for i, s in enumerate(truth)] for extra in (0, 20)]
    drawn = draws(truth)
    found = [resampled("classify", truth, said, LANDMARKS, drawn.weights) for said in wrong]
    low, high = drop_intervals({"accuracy": 0.05}, (found[0], found[1]), drawn.groups)["accuracy"]
    alone = interval(0.5, found[0]["accuracy"], drawn.groups)
    assert 0 < low < 0.05 < high
    assert high - low < (alone[1] - alone[0]) / 2

"""How far one model's answers fall from another's."""

import random
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest

from pipeline.core.sample import Dataset, Object, Sample
from pipeline.metrics.metrics import main_metric, score
from pipeline.verification.comparison import drop, drop_per_class


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

"""Where figures lie on other images of the same kind."""

import tracemalloc
from dataclasses import replace

import numpy as np
import pytest

from pipeline.core.sample import Dataset, Landmark, Object, Sample
from pipeline.metrics import bootstrap
from pipeline.metrics.bootstrap import draws, interval, intervals, resampled
from pipeline.metrics.metrics import main_metric, score

ANIMALS = Dataset("animals", ["cow", "goat"], landmarks=["nose", "tail"])
OF_TASK = {
    "classify": {"accuracy", "macro_f1"},
    "detect": {"AP", "AP50", "landmark_AP", "nme"},
    "localize": {"mean_iou", "presence_accuracy", "nme"},
}


def answers(task: str, count: int, seed: int, wrong: float) -> tuple[list[Sample], list[Sample]]:
    """Images and what a model says of them, of which so many are `wrong`."""
    random = np.random.default_rng(seed)
    truth, predicted = [], []
    for i in range(count):
        place = (f"{i:05}", "a.jpg", 100, 80)
        label, off = (str(random.choice(ANIMALS.labels)) for _ in range(2))
        said = off if random.random() < wrong else label
        if task == "classify":
            truth.append(Sample(*place, label=label))
            predicted.append(Sample(*place, label=said))
            continue
        x, y = (float(at) for at in random.uniform(0, 0.5, 2))
        by = float(random.normal(0, 0.05))
        points = [[Landmark(x + d + 0.1 * n, y + 0.1) for n in range(2)] for d in (0.0, by)]
        there, found = random.random() < 0.9, random.random() > wrong
        objects = [Object(label, (x, y, 0.4, 0.4), points[0])]
        moved = [Object(said, (x + by, y, 0.4, 0.4), points[1], score=round(float(random.random()), 1))]
        truth.append(Sample(*place, objects=objects if there else []))
        predicted.append(Sample(*place, objects=moved if found else []))
    return truth, predicted


@pytest.mark.parametrize("task", OF_TASK)
def test_a_sample_has_the_figures_of_the_images_that_are_really_copied(task: str) -> None:
    truth, predicted = answers(task, 25, 0, 0.3)
    drawn = draws(truth)
    found = resampled(task, truth, predicted, ANIMALS, drawn.weights)
    assert set(found) == OF_TASK[task]
    for r in range(10):
        times = drawn.weights[:, r]
        assert times.sum() == 25
        copied = [
            [replace(s, id=f"{s.id} {n}") for s, t in zip(samples, times, strict=True) for n in range(t)]
            for samples in (truth, predicted)
        ]
        figures = score(task, *copied, ANIMALS)
        assert {name: values[r] for name, values in found.items()} == pytest.approx(
            {name: figures[name] for name in found}, abs=1e-6
        )


@pytest.mark.parametrize("task", OF_TASK)
def test_a_figure_lies_within_its_interval_which_is_always_the_same(task: str) -> None:
    truth, predicted = answers(task, 120, 0, 0.3)
    figures = score(task, truth, predicted, ANIMALS)
    found = intervals(task, truth, predicted, ANIMALS, figures)
    assert found == intervals(task, truth, predicted, ANIMALS, figures)
    assert set(found["intervals"]) == OF_TASK[task]
    for name, (low, high) in found["intervals"].items():
        assert 0 <= low < figures[name] < high
    assert found["bootstrap"] == {
        "replicates": 1000, "unit": "image", "groups": 120, "level": 0.95, "seed": 0, "lacking_a_label": 0
    }  # fmt: skip


def test_images_of_a_group_or_clip_are_drawn_together() -> None:
    """Twenty images that are one group's say as little as one."""
    truth = [Sample(str(i), "", 8, 8, label="cow") for i in range(100)]
    said = [replace(s, label="goat") if i < 20 else s for i, s in enumerate(truth)]
    widths = {}
    for unit in (None, "clip", "group"):
        grouped = [replace(s, **{unit: str(i // 20)}) if unit else s for i, s in enumerate(truth)]
        found = intervals("classify", grouped, said, ANIMALS, {"accuracy": 0.8})
        low, high = found["intervals"]["accuracy"]
        widths[unit] = high - low
        assert found["bootstrap"]["groups"] == (5 if unit else 100)
        assert found["bootstrap"]["unit"] == ("group" if unit else "image")
    assert widths["clip"] == widths["group"] > 2.5 * widths[None]


def drawn_at_once(truth: list[Sample], replicates: int) -> np.ndarray:
    """What `draws` says, by the definition: groups of all samples in one table."""
    names = [s.group or s.clip or s.id for s in truth]
    known = list(dict.fromkeys(names))
    drawn = np.random.default_rng(0).integers(0, len(known), (replicates, len(known)))
    times = np.array([np.bincount(row, minlength=len(known)) for row in drawn])
    return times[:, [known.index(name) for name in names]].T


@pytest.mark.parametrize("unit", [None, "clip"])
@pytest.mark.parametrize("at_once", [1, 100, 1_000_000])
def test_drawing_in_parts_changes_nothing(monkeypatch: pytest.MonkeyPatch, at_once: int, unit: str | None) -> None:
    monkeypatch.setattr(bootstrap, "AT_ONCE", at_once)
    truth, predicted = answers("detect", 33, 0, 0.3)
    truth = [replace(s, **{unit: str(i // 3)}) if unit else s for i, s in enumerate(truth)]
    drawn = draws(truth, 50)
    assert np.array_equal(drawn.weights, drawn_at_once(truth, 50))
    found = resampled("detect", truth, predicted, ANIMALS, drawn.weights)
    monkeypatch.setattr(bootstrap, "AT_ONCE", 1_000_000)
    whole = resampled("detect", truth, predicted, ANIMALS, drawn.weights)
    assert all(np.allclose(found[name], whole[name], rtol=0, atol=1e-12, equal_nan=True) for name in whole)


def test_many_images_take_a_byte_a_sample_and_little_more() -> None:
    """One table of 64-bit numbers would be 80 MB."""
    truth = [Sample(str(i), "", 8, 8, label="cow") for i in range(10_000)]
    said = [replace(s, label="goat") if i % 9 == 0 else s for i, s in enumerate(truth)]
    tracemalloc.start()
    try:
        found = intervals("classify", truth, said, ANIMALS, {"accuracy": 0.8888})
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found["intervals"]["accuracy"] == pytest.approx([0.8826, 0.8949], abs=0.001)
    assert peak < 60_000_000


def test_one_group_tells_nothing_of_others() -> None:
    truth = [Sample(str(i), "", 8, 8, group="a", label="cow") for i in range(9)]
    assert intervals("classify", truth, truth, ANIMALS, {"accuracy": 1.0})["intervals"] == {"accuracy": None}


def test_that_all_is_right_on_a_few_images_is_not_certain() -> None:
    truth = [Sample(str(i), "", 8, 8, label="cow") for i in range(12)]
    wrong = [replace(s, label="goat") for s in truth]
    assert intervals("classify", truth, truth, ANIMALS, {"accuracy": 1.0})["intervals"]["accuracy"] == [0.735352, 1.0]
    assert intervals("classify", truth, wrong, ANIMALS, {"accuracy": 0.0})["intervals"]["accuracy"] == [0.0, 0.264648]


def test_samples_without_a_label_are_counted_and_their_mean_is_of_the_others() -> None:
    """Goats are in 2 of 200 images: (1 - 2 / 200) ** 200, 13 in 100 samples, have none."""
    cow, goat = (Object(label, (0, 0, 0.5, 0.5), score=0.5) for label in ANIMALS.labels)
    truth = [Sample(f"{i:03}", "", 80, 80, objects=[goat if i < 2 else cow]) for i in range(200)]
    said = [replace(s, objects=s.objects if i < 2 else s.objects[: i % 2]) for i, s in enumerate(truth)]
    dataset = replace(ANIMALS, landmarks=[])
    found = intervals("detect", truth, said, dataset, score("detect", truth, said, dataset))
    assert found["bootstrap"]["lacking_a_label"] == pytest.approx(134, abs=40)
    values = resampled("detect", truth, said, dataset, draws(truth).weights)["AP"]
    lacking = draws(truth).weights[:2].sum(axis=0) == 0
    assert values[lacking].max() < 0.65 < values[~lacking].min(), "cows alone, and with goats"


@pytest.mark.parametrize("task", ["classify", "localize"])
def test_an_interval_holds_in_about_95_of_100_sets(task: str) -> None:
    """Of what a very large set says; with 300 sets and 60 images each 0.95 is known to 0.025."""
    truth, predicted = answers(task, 20000, 1, 0.3)
    expected, held = score(task, truth, predicted, ANIMALS)[main_metric(task)], 0
    for i in range(300):
        part = slice(60 * i, 60 * (i + 1))
        drawn = draws(truth[part], 300)
        weights = np.column_stack([drawn.weights, np.ones(60, np.int32)])
        found = resampled(task, truth[part], predicted[part], ANIMALS, weights)[main_metric(task)]
        low, high = interval(found[-1], found[:-1], 60)
        held += low <= expected <= high
    assert 0.91 <= held / 300 <= 0.98

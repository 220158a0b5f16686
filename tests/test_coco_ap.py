"""COCO's figures, to the last digit those of pycocotools, of whole sets and of resampled ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.core.sample import Dataset, Object, Sample
from pipeline.metrics.coco_ap import evaluate, resampled_ap
from pipeline.metrics.coco_match import AREAS, matches
from tests.coco import pycocotools, scenes

HERD = Dataset("herd", ["cow", "horse", "goat"], landmarks=[f"p{i}" for i in range(11)])
CORNERS = {"bbox": -1, "keypoints": 0}  # of COCO's numbers of objects: 1, 10, 100 or 20


@pytest.mark.parametrize("kind", ["bbox", "keypoints"])
@settings(max_examples=100)
@given(scene=scenes(HERD))
def test_precision_and_recall_are_those_of_pycocotools_to_the_last_digit(kind: str, scene) -> None:
    truth, predicted = scene
    run, ours = pycocotools(truth, predicted, HERD, kind), evaluate(truth, predicted, HERD, kind)
    assert np.array_equal(ours.precision, run.eval["precision"][..., 0, -1])
    assert np.array_equal(ours.recall, run.eval["recall"][..., 0, -1])
    assert (-1 if ours.ap() is None else ours.ap()) == run.stats[0]
    assert (-1 if ours.ap(iou=0) is None else ours.ap(iou=0)) == run.stats[1]
    if kind == "bbox":
        for place, size in enumerate(AREAS, 1):
            of_size = evaluate(truth, predicted, HERD, size=size)
            assert np.array_equal(of_size.precision, run.eval["precision"][..., place, -1]), size
            assert np.array_equal(of_size.recall, run.eval["recall"][..., place, -1]), size
            assert (-1 if of_size.ap() is None else of_size.ap()) == run.stats[2 + place]


@pytest.mark.parametrize("kind", ["bbox", "keypoints"])
def test_no_images_have_nothing_to_find(kind: str) -> None:
    for found in (*matches([], [], HERD, kind), *matches([], [], Dataset("none", []), kind)):
        assert (found.right.shape, found.positives.shape) == ((10, 0), (0,))
    assert len(matches([], [], HERD, kind)) == len(HERD.labels)


@pytest.mark.parametrize("kind", ["bbox", "keypoints"])
def test_only_so_many_objects_of_an_image_count(kind: str) -> None:
    """120 cows in a row, each found, the surest of the predictions at the end; all scores are equal in pairs."""
    row = [Object("cow", (i / 121, 0, 1 / 121, 0.5)) for i in range(120)]
    truth = [Sample("a", "a.jpg", 640, 64, objects=row)]
    found = [Sample("a", "a.jpg", 640, 64, objects=[replace(o, score=(i // 2) / 60) for i, o in enumerate(row)])]
    run, ours = pycocotools(truth, found, HERD, kind), evaluate(truth, found, HERD, kind)
    assert np.array_equal(ours.precision, run.eval["precision"][..., 0, -1])
    assert np.array_equal(ours.recall, run.eval["recall"][..., 0, -1])


@pytest.mark.parametrize("kind", ["bbox", "keypoints"])
@settings(max_examples=100)
@given(scene=scenes(HERD), data=st.data())
def test_a_resampled_set_has_the_ap_of_pycocotools_on_images_that_are_really_copied(kind: str, scene, data) -> None:
    truth, predicted = scene
    times = data.draw(st.lists(st.integers(0, 3), min_size=len(truth), max_size=len(truth)))
    weights = np.array([[1] * len(truth), times]).T
    found = resampled_ap(matches(truth, predicted, HERD, kind), weights)
    copied = [
        [replace(s, id=f"{s.id} {c}") for s, n in zip(samples, times, strict=True) for c in range(n)]
        for samples in (truth, predicted)
    ]
    for r, (t, p) in enumerate([(truth, predicted), copied]):
        precision = pycocotools(t, p, HERD, kind).eval["precision"][..., 0, -1] if t else -np.ones((10, 101, 3))
        theirs = np.where((precision > -1).all(1), precision.mean(1), np.nan)
        assert np.allclose(found[..., r], theirs, rtol=0, atol=1e-12, equal_nan=True)

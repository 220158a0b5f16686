"""Labels that are broken are told from those that are only unusual."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pipeline.core.image_file import ORIENTATION, DecodedImage
from pipeline.core.sample import ABSENT, HIDDEN, VISIBLE, Landmark, Object, Sample
from pipeline.datasets.formats.reading import Candidate
from pipeline.datasets.ingest.checks import LabelledSizeError, check_objects, conflicting, fit_labels, turn


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_turn_with_the_picture(orientation):
    stored = np.zeros((40, 60), np.uint8)
    stored[4:10, 12:30] = 255  # the box
    stored[5, 14] = 100  # the landmark
    image = Image.fromarray(stored)
    image.getexif()[ORIENTATION] = orientation
    upright = np.asarray(ImageOps.exif_transpose(image))
    h, w = upright.shape
    o = Object("a", (12 / 60, 4 / 40, 18 / 60, 6 / 40), [Landmark(14.5 / 60, 5.5 / 40), Landmark(0, 0, ABSENT)])
    found = turn(o, orientation)
    ys, xs = np.nonzero(upright)
    box = (xs.min() / w, ys.min() / h, (xs.max() + 1 - xs.min()) / w, (ys.max() + 1 - ys.min()) / h)
    assert found.box == pytest.approx(box)
    ((y, x),) = np.argwhere(upright == 100)
    assert (found.landmarks[0].x, found.landmarks[0].y) == pytest.approx(((x + 0.5) / w, (y + 0.5) / h))
    assert found.landmarks[1] == Landmark(0, 0, ABSENT)


@pytest.mark.parametrize(
    ("labelled", "picture", "orientation", "expected"),
    [
        (None, (60, 40), 1, "same"),
        ((60, 40), (60, 40), 1, "same"),
        ((600, 400), (60, 40), 1, "same"),  # scaled since
        ((600, 398), (60, 40), 1, "same"),
        ((40, 60), (60, 40), 6, "turned"),  # labelled as stored
        ((60, 40), (60, 40), 6, "same"),  # labelled as seen
        ((40, 60), (60, 40), 1, "size_mismatch"),
        ((60, 60), (60, 40), 1, "size_mismatch"),
    ],
)
def test_labels_fit_the_picture(tmp_path, labelled, picture, orientation, expected):
    o = Object("a", (0.1, 0.2, 0.3, 0.4))
    candidate = Candidate(tmp_path / "p.jpg", "p.jpg", objects=[o], keys=["1"], size=labelled)
    shown = DecodedImage(Image.new("RGB", picture), picture, orientation, False)
    if expected == "size_mismatch":
        with pytest.raises(LabelledSizeError, match="pixels, labelled as"):
            fit_labels(candidate, [o], shown)
    else:
        assert fit_labels(candidate, [o], shown) == [o if expected == "same" else turn(o, orientation)]


NAN = math.nan


@pytest.mark.parametrize(
    ("box", "expected", "rule"),
    [
        ((0.1, 0.2, 0.3, 0.4), (0.1, 0.2, 0.3, 0.4), None),
        ((0, 0, 1, 1), (0, 0, 1, 1), None),
        ((-0.005, 0.2, 0.3, 0.4), (0, 0.2, 0.295, 0.4), None),  # half a pixel of 100
        ((0.5, 0.5, 0.505, 0.5), (0.5, 0.5, 0.5, 0.5), None),
        ((-0.1, 0.2, 0.3, 0.4), (0, 0.2, 0.2, 0.4), "box_clipped"),
        ((0.9, 0.9, 0.5, 0.5), (0.9, 0.9, 0.1, 0.1), "box_clipped"),
        ((-1, -1, 3, 3), (0, 0, 1, 1), "box_clipped"),
        ((0.1, 0.2, 0, 0.4), None, "box_zero_area"),
        ((0.1, 0.2, 0.3, -0.4), None, "box_zero_area"),
        ((1.0, 0.2, 0.3, 0.4), None, "box_outside"),
        ((-0.3, 0.2, 0.3, 0.4), None, "box_outside"),
        ((12, 30, 100, 40), None, "box_outside"),  # pixels
        ((NAN, 0.2, 0.3, 0.4), None, "box_not_finite"),
        ((0.1, 0.2, math.inf, 0.4), None, "box_not_finite"),
    ],
)
def test_boxes(box, expected, rule):
    kept, problems, clipped_silently = check_objects("p.jpg", [Object("a", box)], ["line 3"], (100, 100))
    assert [o.box for o in kept] == ([pytest.approx(expected)] if expected else [])
    assert [(p.file, p.key, p.rule, p.done) for p in problems] == (
        [("p.jpg", "line 3", rule, "clipped" if rule == "box_clipped" else "dropped")] if rule else []
    )
    assert clipped_silently == (rule is None and expected != box)


@given(st.lists(st.tuples(*[st.floats(-2, 3)] * 4), max_size=6))
def test_what_is_kept_lies_inside(boxes):
    objects = [Object("a", box, [Landmark(box[0], box[1])]) for box in boxes]
    kept, problems, _ = check_objects("p.jpg", objects, [str(i) for i in range(len(boxes))], (640, 480))
    for o in kept:
        x, y, w, h = o.box
        assert min(x, y) >= 0 < min(w, h)
        assert max(x + w, y + h) <= 1 + 1e-9
        assert all(0 <= v <= 1 for p in o.landmarks for v in (p.x, p.y))
    assert len(kept) + sum(p.done == "dropped" for p in problems) == len(boxes)
    again, none, _ = check_objects("p.jpg", kept, [""] * len(kept), (640, 480))
    assert not [p for p in none if p.rule != "box_duplicate"]
    assert len(again) + len(none) == len(kept)


def test_a_box_that_stands_twice_is_dropped_once():
    box = (0.1, 0.2, 0.3, 0.4)
    objects = [Object("a", box), Object("b", box), Object("a", box), Object("a", (0.1, 0.2, 0.3, 0.41))]
    kept, problems, _ = check_objects("p.jpg", objects, list("1234"), (100, 100))
    assert [o.label for o in kept] == ["a", "b", "a"]
    assert [(p.key, p.rule) for p in problems] == [("3", "box_duplicate")]


@pytest.mark.parametrize(
    ("point", "expected", "rule"),
    [
        (Landmark(0.5, 0.5, HIDDEN), Landmark(0.5, 0.5, HIDDEN), None),
        (Landmark(1.005, 0.5, VISIBLE), Landmark(1.0, 0.5, VISIBLE), None),
        (Landmark(1.5, 0.5, VISIBLE), Landmark(0, 0, ABSENT), "landmark_outside"),
        (Landmark(NAN, 0.5, VISIBLE), Landmark(0, 0, ABSENT), "landmark_not_finite"),
        (Landmark(0, 0, ABSENT), Landmark(0, 0, ABSENT), None),
    ],
)
def test_landmarks(point, expected, rule):
    kept, problems, _ = check_objects("p.jpg", [Object("a", (0, 0, 1, 1), [point])], ["1"], (100, 100))
    assert kept[0].landmarks == [expected]
    assert [(p.rule, p.done) for p in problems] == ([(rule, "hidden")] if rule else [])


def test_one_picture_with_two_truths_is_refused():
    labels = ["cat", "dog", "cat", "cat", None, None]
    samples = [Sample(str(i), f"{i}.jpg", 1, 1, label=label) for i, label in enumerate(labels)]
    samples[4].objects = [Object("a", (0.1, 0.1, 0.5, 0.5))]
    samples[5].objects = [Object("a", (0.1, 0.1, 0.501, 0.5))]
    found = conflicting(samples, ["x", "x", "y", "y", "z", "z"], [f"{i}.png" for i in range(6)])
    assert set(found) == {"0", "1"}
    assert found["0"].found == "the same image as 1.png, labelled cat and dog"

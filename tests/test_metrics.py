"""The figures that the project reports, against pycocotools and scikit-learn, and against values worked out by hand."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

from pipeline.core import face68
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Landmark, Object, Sample
from pipeline.metrics.matching import BACKGROUND, confusion, interocular_error, landmark_errors, match
from pipeline.metrics.metrics import main_metric, rank, score
from tests.coco import pycocotools, scenes

HERD = Dataset("herd", ["cow", "horse", "goat"], landmarks=["nose", "left_ear", "right_ear"])


def image(name: str, *objects: Object, label: str | None = None, **more) -> Sample:
    return Sample(name, f"{name}.jpg", 200, 100, label=label, objects=list(objects), **more)


def thing(x, y, w, h, label="cow", score=None, crowd=False, landmarks=()) -> Object:
    return Object(label, (x, y, w, h), [Landmark(*p) for p in landmarks], crowd, score)


# --- COCO AP against pycocotools


def same(ours: float | None, theirs: float) -> bool:
    return theirs == -1 if ours is None else abs(ours - theirs) <= 5.1e-7  # ours is rounded to 6 digits


@settings(max_examples=150)
@given(scenes(HERD))
def test_ap_equals_pycocotools(scene):
    truth, predicted = scene
    ours = score("detect", truth, predicted, HERD)
    run = pycocotools(truth, predicted, HERD)
    stats = run.stats
    sizes = {f"AP_{size}": stats[3 + i] for i, size in enumerate(("small", "medium", "large"))}
    for key, value in {"AP": stats[0], "AP50": stats[1], "AP75": stats[2], "AR": stats[8], **sizes}.items():
        assert same(ours[key], value), (key, ours[key], value)
    for k, label in enumerate(HERD.labels):
        known = run.eval["precision"][:, :, k, 0, 2]
        known = known[known > -1]
        assert same(ours["per_class"][label]["AP"], known.mean() if known.size else -1)
    stats = pycocotools(truth, predicted, HERD, "keypoints").stats
    assert same(ours["landmark_AP"], stats[0]), (ours["landmark_AP"], stats[0])
    json.dumps(ours, allow_nan=False)
    quick = score("detect", truth, predicted, HERD, whole=False)
    assert quick == {key: ours[key] for key in quick}
    assert ours.keys() - quick.keys() >= {*sizes, "landmark_AP", "nme"}


@settings(max_examples=25)
@given(scenes(HERD), st.randoms())
def test_order_of_the_lists_does_not_matter(scene, random):
    truth, predicted = scene
    first = score("detect", truth, predicted, HERD)
    random.shuffle(truth)
    random.shuffle(predicted)
    assert score("detect", truth, predicted, HERD) == first


@settings(max_examples=25)
@given(scenes(HERD))
def test_predicting_the_truth_is_perfect(scene):
    single = [[o for o in t.objects if not o.crowd and min(o.box[2:]) > 1e-4] for t in scene[0]]
    truth = [replace(t, objects=objects) for t, objects in zip(scene[0], single, strict=True)]
    perfect = [replace(t, objects=[replace(o, score=1.0) for o in t.objects]) for t in truth]
    figures = score("detect", truth, perfect, HERD)
    assert figures["AP"] == figures["AR"] == (1.0 if any(single) else None)
    assert figures["nme"] in (0.0, None) and figures["pck"] in (1.0, None) and figures["nme_missed"] == 0


def test_nothing_to_find_is_undefined_and_nothing_found_is_zero():
    figures = score("detect", [image("a")], [image("a", thing(0, 0, 1, 1, score=0.9))], HERD)
    assert figures["AP"] is None and figures["AR"] is None and figures["pck"] is None
    assert figures["per_class"]["cow"] == {"AP": None, "AP50": None, "n": 0}
    figures = score("detect", [image("a", thing(0, 0, 1, 1))], [image("a")], HERD)
    assert figures["AP"] == figures["AP50"] == figures["AR"] == 0.0
    assert figures["per_class"]["horse"]["AP"] is None


# --- landmarks


def points(dx: float, visibility: int = 2) -> list[tuple[float, float, int]]:
    return [(0.1 + dx, 0.1, visibility), (0.2 + dx, 0.2, visibility), (0.3 + dx, 0.3, 0)]


BOX = (0.0, 0.0, 0.5, 0.8)  # 100 x 80 pixels; the third landmark is absent
LANDMARKS = [
    pytest.param(points(0), 0.0, 1.0, id="in place"),
    pytest.param(points(0.049), 9.8 / math.sqrt(8000), 1.0, id="9.8 pixels off, PCK allows 10"),
    pytest.param(points(0.06), 12 / math.sqrt(8000), 0.0, id="12 pixels off"),
    pytest.param([(0.1, 0.1, 2), (0.2, 0.4, 2), (9, 9, 2)], 10 / math.sqrt(8000), 0.5, id="one of two off by 20"),
]


@pytest.mark.parametrize(("found", "nme", "pck"), LANDMARKS)
@pytest.mark.parametrize("seen", [1, 2], ids=["hidden", "visible"])
def test_landmark_errors(found, nme, pck, seen):
    truth, prediction = thing(*BOX, landmarks=points(0, seen)), thing(*BOX, landmarks=found, score=0.9)
    errors = landmark_errors([(truth, prediction, 200, 100)])
    assert (errors.nme, errors.pck) == (pytest.approx(nme), pytest.approx(pck))
    missed = landmark_errors([(truth, prediction, 200, 100), (truth, None, 200, 100)])
    assert (missed.nme, missed.pck) == (pytest.approx(nme), pytest.approx(pck / 2)), "a miss is wrong for PCK only"
    assert (missed.matched, missed.missed) == (1, 1)


def face(*moved, absent=()):
    """68 points in pixels of an image of 200 x 100; the outer eye corners are 50 apart. `moved`: (index, dx, dy)."""
    spots = [[40.0 + i, 30.0] for i in range(68)]
    spots[36], spots[45] = [50.0, 40.0], [80.0, 80.0]
    for i, dx, dy in moved:
        spots[i] = [spots[i][0] + dx, spots[i][1] + dy]
    return thing(
        *(0.1, 0.2, 0.5, 0.7),
        landmarks=[(x / 200, y / 100, 0 if i in absent else 2) for i, (x, y) in enumerate(spots)],
        score=0.9,
    )


@pytest.mark.parametrize(
    ("truth", "found", "expected"),
    [
        (face(), face(), 0),
        (face(), face((0, 3, 4)), 5 / 68 / 50),
        (face(), face(*((i, 0, -10) for i in range(68))), 10 / 50),
        (face(absent=range(30)), face((0, 3, 4), (67, 6, 8)), 10 / 38 / 50),
        (face(absent=[36]), face(), None),
        (face(absent=[45]), face(), None),
        (face((45, -30, -40)), face(), None),  # both corners on one spot
        (face(), None, None),
    ],
)
def test_interocular_error(truth, found, expected):
    error = interocular_error([(truth, found, 200, 100)])
    assert error == (None if expected is None else pytest.approx(expected))
    both = interocular_error([(truth, found, 200, 100), (face(), face((9, 50, 0)), 200, 100)])
    assert both == pytest.approx(1 / 68 if expected is None else (expected + 1 / 68) / 2)


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_only_faces_of_68_points_have_an_interocular_error(task):
    truth = [image("a", face())]
    predicted = [image("a", face((0, 3, 4)))]
    names = [f"point_{i:02d}" for i in range(68)]
    faces = score(task, truth, predicted, Dataset("d", ["cow"], names, face68.PAIRS))
    assert faces["nme_interocular"] == round(5 / 68 / 50, 6)
    assert faces["nme"] == round(5 / 68 / math.sqrt(100 * 70), 6)
    others = score(task, truth, predicted, Dataset("d", ["cow"], names, [(0, 1)]))
    assert "nme_interocular" not in others
    assert others == {k: v for k, v in faces.items() if k != "nme_interocular"}


def test_a_prediction_belongs_to_one_object():
    near = [thing(0, 0, 0.5, 0.5), thing(0.05, 0, 0.5, 0.5), thing(0, 0, 0.5, 0.5, crowd=True)]
    assert match(near, [thing(0.04, 0, 0.5, 0.5, score=0.5)]) == {1: 0}
    assert match(near, [thing(0, 0, 0.5, 0.5, score=0.2), thing(0, 0, 0.5, 0.5, score=0.9)]) == {0: 1, 1: 0}
    assert match(near, [thing(0, 0, 0.5, 0.5, label="goat", score=0.9)]) == {}
    assert match([], [thing(0, 0, 1, 1, score=0.9)]) == {}


def test_confusion_with_background():
    truth = image("a", thing(0, 0, 0.2, 0.2), thing(0.5, 0.5, 0.2, 0.2, "goat"), thing(0, 0.6, 0.3, 0.3, crowd=True))
    found = [
        thing(0, 0, 0.2, 0.2, "horse", 0.9),
        thing(0.8, 0, 0.2, 0.2, "horse", 0.8),
        thing(0.05, 0.65, 0.1, 0.1, "cow", 0.7),  # in the crowd
    ]
    counts = confusion([truth], [image("a", *found)])
    assert counts == {("cow", "horse"): 1, ("goat", BACKGROUND): 1, (BACKGROUND, "horse"): 1}


# --- classify


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(HERD.labels), st.sampled_from(HERD.labels)), min_size=1, max_size=30))
def test_classification_equals_scikit_learn(labels):
    actual, found = zip(*labels, strict=True)
    truth = [image(f"i{i}", label=label) for i, label in enumerate(actual)]
    predicted = [image(f"i{i}", label=label) for i, label in enumerate(found)]
    ours = score("classify", truth, predicted, HERD)
    assert ours["accuracy"] == pytest.approx(accuracy_score(actual, found), abs=1e-6)
    assert ours["confusion"]["matrix"] == confusion_matrix(actual, found, labels=HERD.labels).tolist()
    macro = precision_recall_fscore_support(actual, found, average="macro", zero_division=0)
    assert ours["macro_f1"] == pytest.approx(macro[2], abs=1e-6)
    each = precision_recall_fscore_support(actual, found, labels=HERD.labels, zero_division=np.nan)
    for k, label in enumerate(HERD.labels):
        row = ours["per_class"][label]
        for key, values in zip(("precision", "recall"), each[:2], strict=True):
            assert (row[key] is None and np.isnan(values[k])) or row[key] == pytest.approx(values[k], abs=1e-6)
        assert row["support"] == each[3][k]


def test_a_clip_is_what_its_frames_say_on_average():
    says = [("cow", {"cow": 0.55, "goat": 0.45}), ("cow", {"cow": 0.55, "goat": 0.45}), ("goat", {"cow": 0, "goat": 1})]
    truth = [image(f"f{i}", label="goat", clip="v1") for i in range(3)] + [image("x", label="cow", clip="v2")]
    predicted = [image(f"f{i}", label=label, scores=scores) for i, (label, scores) in enumerate(says)]
    predicted.append(image("x", label="goat", scores={"cow": 0.4, "goat": 0.6}))
    figures = score("classify", truth, predicted, HERD)
    assert (figures["accuracy"], figures["clip_accuracy"], figures["n_clips"]) == (0.25, 0.5, 2)
    assert "clip_accuracy" not in score("classify", [image("a", label="cow")], [image("a", label="cow")], HERD)


# --- localize


def test_localize():
    truth = [image("hit", thing(0, 0, 0.5, 0.5)), image("far", thing(0, 0, 0.5, 0.5)), image("none"), image("extra")]
    truth.append(image("missed", thing(0, 0, 0.5, 0.5), thing(0.8, 0.8, 0.1, 0.1, "goat")))
    predicted = [
        image("hit", thing(0, 0, 0.5, 0.25, score=0.9)),
        image("far", thing(0.5, 0.5, 0.5, 0.5, "goat", score=0.9)),
        image("none"),
        image("extra", thing(0, 0, 0.5, 0.5, score=0.9)),
        image("missed"),
    ]
    figures = score("localize", truth, predicted, Dataset("d", ["cow", "goat"]))
    assert figures == {
        "task": "localize",
        "n_images": 5,
        "presence_accuracy": 0.6,
        "accuracy": round(1 / 3, 6),
        "mean_iou": round(0.5 / 3, 6),
    }


# --- what does not belong together

A, B = image("a", label="cow"), image("b", label="cow")
WRONG = [
    pytest.param(
        "classify", [A, B], [A], "predictions: no sample for 1 ids that the other side has: 'b'", id="missing"
    ),
    pytest.param("classify", [A], [A, B], "truth: no sample for 1 ids that the other side has: 'b'", id="too many"),
    pytest.param("classify", [A, A], [A], "truth: these ids stand more than once: 'a'", id="twice"),
    pytest.param("classify", [image("a")], [A], "truth: sample 'a' has the label None", id="unlabelled"),
    pytest.param("classify", [A], [image("a", label="cwo")], "sample 'a' has the label 'cwo'; expected", id="label"),
    pytest.param("detect", [A], [image("a", thing(0, 0, 1, 1))], "'a' has an object without a score", id="score"),
]


@pytest.mark.parametrize(("task", "truth", "predicted", "message"), WRONG)
def test_input_errors_name_the_sample(task, truth, predicted, message):
    with pytest.raises(InputError, match=message.replace("(", r"\(")):
        score(task, truth, predicted, HERD)


def test_main_metrics_are_reported():
    both = [image("a", thing(0, 0, 1, 1, score=1.0), label="cow")]
    for task in ("classify", "detect", "localize"):
        assert score(task, both, both, HERD)[main_metric(task)] == 1.0


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"task": "classify", "accuracy": 0.7}, 0.7),
        ({"task": "detect", "AP": 0.6, "nme": 0.2}, 0.6),
        ({"task": "detect", "AP": None}, 0.0),
        ({"task": "localize", "mean_iou": 0.8}, 0.8),
        ({"task": "localize", "mean_iou": 0.8, "nme": 0.1}, 0.85),
        ({"task": "localize", "mean_iou": 0.8, "nme": 1.5}, 0.4),
        ({"task": "localize", "mean_iou": 0.8, "nme": None}, 0.4),
    ],
)
def test_what_training_keeps_the_best_of(metrics, expected):
    assert rank(metrics) == pytest.approx(expected)

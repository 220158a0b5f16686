"""A run in FiftyOne: what is wrong with each image, the files that ship beside the net, and why FiftyOne's figures
differ from ours where they do.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from inspected import HERD, SHOWN, draw_run, opened_run

from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.inspection.database import close
from pipeline.inspection.evaluation import highest
from pipeline.inspection.judging import differ, gap, judged, uncertainty
from pipeline.metrics import coco_ap
from pipeline.metrics.metrics import score

BOX = (0.1, 0.1, 0.4, 0.4)
LOOSE = (0.3, 0.1, 0.4, 0.4)  # IoU 1/3 with BOX


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield tmp_path_factory.mktemp("fiftyone")
    close()


def image(*objects: Object, name: str = "a") -> Sample:
    return Sample(name, f"{name}.jpg", 100, 100, objects=list(objects))


def found(label: str, box: tuple[float, ...], score: float = 0.9) -> Object:
    return Object(label, box, score=score)


COW = Object("cow", BOX)


@pytest.mark.parametrize(
    ("truth", "shown", "wrong"),
    [
        ([COW], [found("cow", BOX)], {}),
        ([COW], [], {"missed": 1}),
        ([], [found("cow", BOX)], {"false_positives": 1}),
        ([COW], [found("horse", BOX)], {"wrong_label": True, "confused_with": ["cow as horse"]}),
        ([COW], [found("cow", LOOSE)], {"missed": 1, "false_positives": 1, "localization_only": True}),
        ([COW], [found("horse", LOOSE)], {"missed": 1, "false_positives": 1}),
        ([COW, Object("cow", (0.6, 0.6, 0.3, 0.3))], [found("cow", LOOSE)], {"missed": 2, "false_positives": 1}),
        ([replace(COW, crowd=True)], [found("cow", BOX)], {}),
    ],
)
def test_what_is_wrong_with_an_image(truth, shown, wrong):
    right = {"wrong_label": False, "confused_with": [], "missed": 0, "false_positives": 0, "localization_only": False}
    assert judged("detect", image(*truth), image(*shown)) == right | wrong


def test_the_gap_between_two_models():
    exact, close = Sample("a", "a.jpg", 8, 8, label="cow"), Sample("a", "a.jpg", 8, 8, label="horse")
    exact.scores, close.scores = {"cow": 0.75, "horse": 0.25}, {"cow": 0.25, "horse": 0.75}
    assert (gap("classify", exact, close), differ("classify", exact, close)) == (0.5, True)
    assert uncertainty("classify", replace(exact, scores={"cow": 0.5, "horse": 0.5})) == pytest.approx(1)
    one, both = image(found("cow", BOX)), image(found("cow", BOX), found("cow", (0.6, 0.6, 0.3, 0.3)))
    assert (gap("detect", one, one), differ("detect", one, one)) == (pytest.approx(0), False)
    assert (gap("detect", one, both), differ("detect", one, both)) == (pytest.approx(1 / 3), True)
    assert gap("detect", image(), image()) == 0
    assert uncertainty("detect", image(found("cow", BOX, 0.5), found("cow", BOX, 0.99))) == pytest.approx(1)


def test_the_files_that_ship_stand_beside_the_net(tmp_path, database):
    test, predictions, _, predicted = draw_run(tmp_path, "detect")
    files = tmp_path / "reports/verify/r/predictions"
    write_samples(files / "onnx_float", predicted)
    worse = [replace(p, objects=[] if i in (2, 5) else p.objects) for i, p in enumerate(predicted)]
    write_samples(files / "onnx_int8", worse)
    alone = opened_run("beside", test, predictions, database).dataset.created_at
    view = opened_run("beside", test, predictions, database, files).dataset
    assert view.created_at > alone
    assert view.values("onnx_float.detections.label") == view.values("predictions.detections.label")
    assert view.count("onnx_int8_landmarks.keypoints") < view.count("onnx_float_landmarks.keypoints")
    lost = [f"img{i}" for i in (2, 5) if any(o.score >= SHOWN for o in predicted[i].objects)]
    assert view.load_saved_view("int8 and float differ").values("name") == lost
    rows = dict(zip(view.values("name"), zip(*view.values(["onnx_int8_gap", "gap"]), strict=True), strict=True))
    assert rows == {name: (1.0, 1.0) if name in lost else (pytest.approx(0), pytest.approx(0)) for name in rows}
    again = opened_run("beside", test, predictions, database).dataset
    assert again.created_at == view.created_at, "who asks for the net alone takes what has more"
    assert view.load_saved_view("most uncertain").values("uncertainty_rank") == [1, 2, 3, 4, 5, 6]
    groups = {group.name: group.paths for group in view.app_config.sidebar_groups}
    assert groups["float and files"] == ["differs", "gap", "onnx_float_gap", "onnx_int8_gap"]


def draw_ties(root: Path, scores: list[float]) -> tuple[Path, Path, list[Sample], list[Sample]]:
    """Twenty images with a cow or two, a crowd in some, and boxes that are right, loose or of nothing."""
    random = Random(2)
    test, predictions, *_ = draw_run(root, "detect")
    truth, predicted = [], []
    for i in range(20):
        t = Sample(f"img{i}", f"img{i % 6}.jpg", 256, 192, "test", clip=f"clip{i // 5}")
        p = replace(t, objects=[])
        for k in range(1 + i % 2):
            box = (0.05 + 0.5 * k, random.uniform(0, 0.3), random.uniform(0.1, 0.4), random.uniform(0.2, 0.6))
            t.objects.append(Object("cow", box, crowd=i % 7 == 3 and k == 1))
            for _ in range(random.randint(0, 2)):
                by = random.choice((0.0, 0.03, 0.2))
                p.objects.append(Object("cow", (box[0] + by, *box[1:]), score=random.choice(scores)))
        p.objects.sort(key=lambda o: -(o.score or 0))
        truth.append(t)
        predicted.append(p)
    write_samples(test, truth)
    write_dataset(test.parent, replace(HERD, landmarks=[], pairs=[], skeleton=[]))
    write_samples(predictions, predicted)
    return test, predictions, truth, predicted


@pytest.mark.parametrize("scores", [[0.5], [0.4, 0.6, 0.8], [0.3 + i / 1000 for i in range(600)]])
def test_fiftyones_map_lies_where_ties_allow_it(scores, tmp_path, database):
    test, predictions, truth, predicted = draw_ties(tmp_path, scores)
    info = opened_run(f"ties-{len(scores)}", test, predictions, database).dataset.info
    theirs, beside = info["figures"]["mAP"], info["beside"]
    ours = score("detect", truth, predicted, Dataset("herd", HERD.labels))
    assert beside["AP"]["ours"] == ours["AP"]
    assert ours["AP"] - 1e-6 <= theirs <= beside["AP"]["highest"] + 1e-6
    assert beside["crowds"] == sum(o.crowd for t in truth for o in t.objects) > 0
    if len(scores) == 1:
        assert theirs > ours["AP"] + 0.01 and beside["ties"] == sum(len(p.objects) for p in predicted)
    assert beside["per_class"]["AP"]["cow"] == {
        "fiftyone": pytest.approx(theirs),
        "ours": ours["per_class"]["cow"]["AP"],
    }


def test_crowds_are_counted_alike_by_size_and_group(tmp_path, database):
    test, predictions, truth, _ = draw_ties(tmp_path, [0.3 + i / 1000 for i in range(600)])
    beside = opened_run("crowds", test, predictions, database).dataset.info["beside"]
    tables = [*beside["per_size"].values(), *beside["per_group"].values()]
    assert set(beside["per_group"]) == {"clip0", "clip1", "clip2", "clip3"} and len(beside["per_size"]) > 1
    for table in tables:
        for name in ("recall", "precision"):
            assert table[name]["fiftyone"] == table[name]["ours"]
    single = sum(not o.crowd for t in truth for o in t.objects)
    assert sum(table["objects"] for table in beside["per_size"].values()) == single


def test_the_highest_ap_breaks_ties_for_what_is_right():
    truth = [image(), image(COW, name="b")]
    predicted = [image(found("cow", BOX, 0.5)), image(found("cow", BOX, 0.5), name="b")]
    dataset = Dataset("herd", ["cow"])
    assert coco_ap.evaluate(truth, predicted, dataset).ap() == pytest.approx(0.5)
    assert highest(truth, predicted, dataset) == pytest.approx(1)


@pytest.mark.exhaustive
def test_fiftyones_landmarks_are_ours_measured_its_way(tmp_path, database):
    """Its areas are the extents of the points in an image of side 1; all else is COCO's."""
    test, predictions, truth, predicted = draw_run(tmp_path, "localize")
    random = Random(4)
    for t, p in zip(truth, predicted, strict=True):
        for o, said in zip(t.objects, p.objects, strict=True):
            said.label, said.box = o.label, o.box
            by = random.uniform(0, 0.03)
            said.landmarks = [Landmark(mark.x + by, mark.y, mark.visibility) for mark in o.landmarks]
    write_samples(predictions, predicted)
    files = tmp_path / "none"
    landmarks = opened_run("marks", test, predictions, database, files).dataset.info["landmarks"]
    assert 0 < landmarks["fiftyone"] < 1 and landmarks["ours"] > landmarks["fiftyone"]
    assert landmarks["fiftyone"] == pytest.approx(landmarks["their_way"], abs=1e-6)

"""Label Studio's JSON export: what its users draw, and what is read."""

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import boxes, make, notes, read, rows

from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import label_text

P = (100, 50)
WIDE = {"original_width": 100, "original_height": 50, "image_rotation": 0, "to_name": "image", "from_name": "x"}


def region(kind: str, id: str = "r", labels: Any = ("cow",), more: dict[str, Any] | None = None, **value: Any) -> Any:
    return WIDE | {"id": id, "type": kind, "value": value | {kind: list(labels)}} | (more or {})


def box(x: Any = 10, y: Any = 10, w: Any = 50, h: Any = 40, label: str = "cow", id: str = "r", **more: Any) -> Any:
    value = {"x": x, "y": y, "width": w, "height": h, "rotation": 0} | more
    return region("rectanglelabels", id, (label,), **value)


def keypoint(x: float, y: float, label: str, id: str = "k", parent: Any = None) -> Any:
    return region("keypointlabels", id, (label,), {"parentID": parent} if parent else None, x=x, y=y, width=0.5)


def choice(*labels: str, id: str = "c") -> Any:
    return region("choices", id, labels)


def annotation(*result: Any, **more: Any) -> dict[str, Any]:
    return {"id": 1, "completed_by": 1, "was_cancelled": False, "result": list(result)} | more


def task(*result: Any, image: Any = "a.jpg", **more: Any) -> dict[str, Any]:
    return {"id": 1, "data": {"image": image}, "annotations": [annotation(*result)], "predictions": []} | more


def set_of(root: Path, *tasks: Any, images: str = "a", **files: Any) -> Path:
    return make(root, {f"{n}.jpg": P for n in images} | {"tasks.json": list(tasks)} | files)


def test_boxes_are_percent_and_a_side_may_be_negative(tmp_path: Path) -> None:
    drawn = box(), box(60, 50, -50, -40, id="s", label="dog"), box(0, 0, 200 / 3, 100, id="t")
    set_of(tmp_path, task(*drawn), task(image="b.jpg"), images="ab")
    assert detect_format(tmp_path)[0] == "label_studio"
    reading = read("label_studio", tmp_path)
    assert boxes(reading) == {
        "a.jpg": [("cow", 0.1, 0.1, 0.5, 0.4), ("dog", 0.1, 0.1, 0.5, 0.4), ("cow", 0.0, 0.0, 0.666667, 1.0)],
        "b.jpg": [],
    }
    assert reading.candidates[0].size == (100, 50)
    assert (rows(reading), reading.labels) == ([], ["cow", "dog"])


def around(x: float, y: float, w: float, h: float, degrees: float, size: tuple[int, int]) -> tuple[float, ...]:
    """x, y, w, h in shares, by the corners of the rectangle that is turned about the first of them."""
    wide, high = size
    x, y, w, h = x * wide / 100, y * high / 100, w * wide / 100, h * high / 100
    turn = math.radians(degrees)
    corners = [(0.0, 0.0), (w, 0.0), (w, h), (0.0, h)]
    cos, sin = math.cos(turn), math.sin(turn)
    places = [(x + a * cos - b * sin, y + a * sin + b * cos) for a, b in corners]
    left, top = (min(p[i] for p in places) for i in (0, 1))
    right, bottom = (max(p[i] for p in places) for i in (0, 1))
    return left / wide, top / high, (right - left) / wide, (bottom - top) / high


@pytest.mark.parametrize("size", [(1000, 500), (500, 1000), (640, 640)])
@pytest.mark.parametrize(
    "drawn", [(40, 20, 20, 30, 30), (40, 20, 20, 30, -90.5), (50, 50, -20, -30, 200), (60, 10, 4, 40, 45)]
)
def test_a_box_is_turned_about_its_corner_in_pixels(tmp_path: Path, drawn: Any, size: tuple[int, int]) -> None:
    x, y, w, h, degrees = drawn
    turned = box(x, y, w, h, rotation=degrees) | {"original_width": size[0], "original_height": size[1]}
    reading = read("label_studio", make(tmp_path, {"a.jpg": size, "a.json": [task(turned)]}))
    assert reading.candidates[0].objects[0].box == pytest.approx(around(*drawn, size), abs=1e-5)
    assert notes(reading)["box_turned"].startswith("1 boxes are turned")


def test_a_box_that_is_turned_by_90_degrees_equals_the_upright_one(tmp_path: Path) -> None:
    """in an image of 1000 x 500: 200 x 100 pixels from (300, 100), and 100 x 200 turned about its new corner"""
    sizes = {"original_width": 1000, "original_height": 500}
    upright = box(30, 20, 20, 20) | sizes
    turned = box(50, 20, 10, 40, rotation=90) | sizes
    back = box(30, 40, 10, 40, rotation=-90) | sizes
    reading = read("label_studio", make(tmp_path, {"a.jpg": (1000, 500), "a.json": [task(upright, turned, back)]}))
    assert boxes(reading)["a.jpg"] == [("cow", 0.3, 0.2, 0.2, 0.2)] * 3


def test_keypoints_belong_to_their_parent_or_the_only_box_around_them(tmp_path: Path) -> None:
    result = [
        keypoint(20, 20, "nose", "k1", parent="r"),
        box(),
        box(50, 10, 40, 80, "dog", "s"),
        keypoint(95, 4, "nose", "k2", parent="s"),
        keypoint(80, 80, "left_ear", "k3"),
        keypoint(55, 40, "left_ear", "k4"),  # in both boxes
        keypoint(80, 60, "right_ear", "k5", parent="gone"),
        keypoint(70, 60, "left_ear", "k6", parent="s"),
        region("choices", "k3", ("Hidden",)),
    ]
    reading = read("label_studio", set_of(tmp_path, task(*result)))
    absent = Landmark(0, 0, 0)
    assert (reading.landmarks, reading.pairs) == (["left_ear", "nose", "right_ear"], [(0, 2)])
    assert [(o.label, o.landmarks) for o in reading.candidates[0].objects] == [
        ("cow", [absent, Landmark(0.2, 0.2), absent]),
        ("dog", [Landmark(0.8, 0.8, 1), Landmark(0.95, 0.04), absent]),
    ]
    assert [(p.key, p.rule) for p in reading.problems if p.file] == [
        ("region k4", "loose_point"),
        ("region k5", "loose_point"),
        ("region k6", "landmark_twice"),
    ]


def test_a_choice_for_a_region_is_no_label_of_the_image(tmp_path: Path) -> None:
    result = [
        region("polygonlabels", "p", points=[[1, 2]]),
        choice("broken", id="p"),
        choice("cat"),
        choice("cat", id=""),
    ]
    reading = read("label_studio", set_of(tmp_path, task(*result)))
    assert [c.label for c in reading.candidates] == ["cat"]


def test_choices_are_labels_where_no_box_is_drawn(tmp_path: Path) -> None:
    tasks = [task(choice("cat")), task(choice("dog"), image="b.jpg"), task(choice("cat", "dog"), image="c.jpg")]
    reading = read("label_studio", set_of(tmp_path, *tasks, task(image="d.jpg"), images="abcd"))
    assert [(c.name, c.label) for c in reading.candidates] == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert rows(reading) == [("c.jpg", "several_labels", "refused")]
    assert notes(reading) == {"no_label": "1 images without a label; left out"}


@pytest.mark.parametrize(
    ("said", "file"),
    [
        ("/data/local-files/?d=herd/a%20b%2B1.jpg", "herd/a b+1.jpg"),
        ("/data/local-files/?d=home/me/herd/a+b.jpg", "herd/a+b.jpg"),
        ("http://localhost:8080/data/local-files/?d=herd/a.jpg", "herd/a.jpg"),
        ("/data/upload/12/0a1b2c3d-a.jpg", "a.jpg"),
        ("/data/upload/12/0a1b2c3d-a.jpg", "upload/0a1b2c3d-a.jpg"),
        ("upload/0a1b2c3d-a.jpg", "images/a.jpg"),
        ("0a1b2c3d-a.jpg", "a.jpg"),
        ("s3://bucket/herd/a.jpg", "herd/a.jpg"),
        ("gs://bucket/%C3%A4.jpg", "ä.jpg"),
        ("https://host/herd/a.jpg?X-Amz-Signature=1#x", "herd/a.jpg"),
        ("a%41.jpg", "a%41.jpg"),
        ("C:\\herd\\a.jpg", "a.jpg"),
    ],
)
def test_what_an_image_is_called(tmp_path: Path, said: str, file: str) -> None:
    reading = read("label_studio", make(tmp_path, {file: P, "other.jpg": P, "tasks.json": [task(box(), image=said)]}))
    assert [c.name for c in reading.candidates] == [file], rows(reading)


def test_an_image_under_another_key(tmp_path: Path) -> None:
    data = {"note": "x", "photo": "/data/upload/1/0a1b2c3d-a.jpg"}
    assert list(boxes(read("label_studio", set_of(tmp_path, task(box()) | {"data": data})))) == ["a.jpg"]


def test_tasks_that_nobody_did_are_left_out_and_predictions_are_no_truth(tmp_path: Path) -> None:
    tasks = [
        task(box()),
        task(image="b.jpg") | {"annotations": [annotation(box(), was_cancelled=True)]},
        task(image="c.jpg") | {"annotations": [], "predictions": [{"result": [box()]}]},
        task(image="d.jpg"),
    ]
    reading = read("label_studio", set_of(tmp_path, *tasks, images="abcd"))
    assert {name: len(found) for name, found in boxes(reading).items()} == {"a.jpg": 1, "d.jpg": 0}
    said = [p.found for p in reading.problems]
    assert "1 tasks that were skipped; left out" in said
    alone = "1 tasks with predictions and no annotation; left out; in Label Studio's Data Manager choose Create"
    assert any(found.startswith(alone) for found in said)


@pytest.mark.parametrize(
    "annotations",
    [[{"result": {"a": 1}}], [{"result": None}], ["x"], "x", [{"id": 3, "result": "text"}], [{}]],
)
def test_an_annotation_without_a_list_of_regions_is_a_row(tmp_path: Path, annotations: Any) -> None:
    tasks = task(box()), task(image="b.jpg") | {"annotations": annotations}
    reading = read("label_studio", set_of(tmp_path, *tasks, images="ab"))
    assert list(boxes(reading)) == ["a.jpg"]
    (row,) = [p for p in reading.problems if p.rule == "bad_row"]
    assert (row.done, row.found.endswith("; expected one with a list `result`")) == ("refused", True)
    assert not [p for p in reading.problems if "skipped" in p.found]


@pytest.mark.parametrize("own", [{"annotations": []}, {}])
def test_predictions_alone_are_refused_with_what_is_to_be_done_in_label_studio(tmp_path: Path, own: dict) -> None:
    tasks = [{"id": i, "data": {"image": f"{i}.jpg"}, "predictions": [{"result": [box()]}], **own} for i in "ab"]
    said = r"2 tasks with predictions and none with an annotation; in Label Studio's Data Manager .*, then export again"
    with pytest.raises(InputError, match=said):
        read("label_studio", set_of(tmp_path, *tasks, images="ab"))


def test_a_folder_of_json_min_is_said_to_be_that(tmp_path: Path) -> None:
    row = {"image": "a.jpg", "id": 1, "annotator": 1, "annotation_id": 2, "lead_time": 3.2}
    with pytest.raises(InputError, match=r"no JSON of Label Studio .*min\.json looks like JSON-MIN of Label Studio"):
        read("label_studio", make(tmp_path, {"a.jpg": P, "min.json": [row]}))


TWO = [
    annotation(
        box(label="late"), completed_by={"id": 5, "email": "b@x.org", "first_name": "Bo"}, created_at="2026-02-01"
    ),
    annotation(box(label="early"), completed_by=7, created_at="2026-01-01T08:00:00.5Z"),
    annotation(box(label="skipped"), completed_by=9, created_at="2025-01-01", was_cancelled=True),
]


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize(
    ("annotator", "label"),
    [("first", "early"), ("7", "early"), ("b@x.org", "late"), ("5", "late"), ("Bo", "late"), ("9", None)],
)
def test_one_annotator_is_taken(tmp_path: Path, annotator: str, label: str | None, order: int) -> None:
    root = set_of(tmp_path, task() | {"annotations": TWO[::order]})
    reading = read("label_studio", root, annotator=annotator)
    assert reading.labels == ([label] if label else [])
    assert ("several_annotators" in notes(reading)) == (annotator == "first")


def test_labels_of_their_own_go_to_the_shape_of_the_same_id(tmp_path: Path) -> None:
    place = {"x": 10, "y": 10, "width": 50, "height": 40}
    result = [
        WIDE | {"id": "r", "type": "rectangle", "value": place},
        region("labels", "r", ("cow",), **place),
        region("labels", "s", ("dog",), **place),
        WIDE | {"id": "t", "type": "rectangle", "value": place},
    ]
    reading = read("label_studio", set_of(tmp_path, task(*result)))
    assert [o.label for o in reading.candidates[0].objects] == ["cow", "dog"]
    assert rows(reading) == [("a.jpg", "unknown_class", "dropped")]


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (region("polygonlabels", points=[[1, 2]]), "other_shape"),
        (region("brushlabels", format="rle", rle=[1]), "other_shape"),
        (region("ellipselabels", x=1, y=2, radiusX=3, radiusY=4), "other_shape"),
        ({"id": "x"}, "other_shape"),
        (box() | {"item_index": 1}, "other_shape"),
        (box("x"), "bad_box"),
        (box(float("inf")), "bad_box"),
        (box(w=None), "bad_box"),
        (box(rotation=[1]), "bad_box"),
        (region("rectanglelabels", labels=(), x=1, y=2, width=3, height=4), "unknown_class"),
        (region("rectanglelabels", labels=("a", "b"), x=1, y=2, width=3, height=4), "unknown_class"),
        (region("rectanglelabels", labels=(3,), x=1, y=2, width=3, height=4), "unknown_class"),
        (region("rectanglelabels", labels=("cow", None), x=1, y=2, width=3, height=4), "unknown_class"),
        (box("1_0"), "bad_box"),
        (keypoint(None, 2, "nose"), "bad_landmarks"),  # type: ignore[arg-type]
        ("x", "bad_row"),
    ],
)
def test_what_is_not_read_is_a_row(tmp_path: Path, wrong: Any, rule: str) -> None:
    reading = read("label_studio", set_of(tmp_path, task(wrong, box(id="good"))))
    assert rows(reading) == [("a.jpg", rule, "dropped")]
    assert len(reading.candidates[0].objects) == 1


@pytest.mark.parametrize("said", [[3], [None], "field", {"field": True}, [""]])
def test_a_choice_that_is_no_text_is_a_row_where_choices_count(tmp_path: Path, said: Any) -> None:
    odd = WIDE | {"id": "c", "type": "choices", "value": {"choices": said}}
    reading = read("label_studio", set_of(tmp_path / "alone", task(odd)))
    (row,) = [p for p in reading.problems if p.done == "dropped"]
    assert (row.file, row.rule) == ("a.jpg", "bad_row")
    assert row.found == f"choices {said!r}; expected a list of names of classes, as text"
    assert reading.candidates == []
    for drawn in (box(), keypoint(20, 20, "nose")):
        beside = read("label_studio", set_of(tmp_path / drawn["type"], task(odd, drawn)))
        assert ([len(c.objects) for c in beside.candidates], rows(beside)) == ([1], [])


def test_a_turned_view_does_not_turn_the_boxes(tmp_path: Path) -> None:
    reading = read("label_studio", set_of(tmp_path, task(box() | {"image_rotation": 90})))
    assert boxes(reading)["a.jpg"] == [("cow", 0.1, 0.1, 0.5, 0.4)]
    assert notes(reading)["view_turned"].startswith("1 regions")


def test_an_image_in_two_tasks(tmp_path: Path) -> None:
    tasks = [
        task(box()),
        task(box(), image="/data/upload/1/0a1b2c3d-a.jpg"),
        task(box(), image="b.jpg"),
        task(image="b.jpg"),
    ]
    reading = read("label_studio", set_of(tmp_path, *tasks, images="ab"))
    assert list(boxes(reading)) == ["a.jpg"]
    assert rows(reading) == [("a.jpg", "listed_twice", "noted"), ("b.jpg", "listed_twice", "refused")]


def test_tasks_of_version_0_and_odd_ones(tmp_path: Path) -> None:
    old = task(box())
    old["completions"] = old.pop("annotations")
    reading = read("label_studio", set_of(tmp_path, old, "x", {"id": 3}, task(box(), image=None)))
    assert list(boxes(reading)) == ["a.jpg"]
    assert [r[1:] for r in rows(reading)] == [
        ("bad_row", "refused"),
        ("bad_row", "refused"),
        ("missing_file", "refused"),
    ]


def test_several_files_are_splits(tmp_path: Path) -> None:
    files = {"train.json": [task(box())], "val.json": [task(box(), image="b.jpg")], "a.jpg": P, "b.jpg": P}
    assert [c.split for c in read("label_studio", make(tmp_path, files)).candidates] == ["train", "val"]


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ([{"image": "a.jpg", "id": 1, "label": [], "annotator": 1, "annotation_id": 1}], "JSON-MIN, which has lost"),
        ({"images": []}, "no JSON of Label Studio"),
        ([], "no JSON of Label Studio"),
        ('[{"data": {}, "annotations": [', r"tasks\.json:1: not JSON"),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, content: Any, error: str) -> None:
    root = make(tmp_path, {"a.jpg": P, "tasks.json": content})
    with pytest.raises(InputError, match=error):
        read("label_studio", root, root / "tasks.json")


def test_a_first_task_that_is_longer_than_what_is_looked_at(tmp_path: Path) -> None:
    long = task(*[box(id=str(i)) for i in range(6000)])
    assert detect_format(set_of(tmp_path, long))[0] == "label_studio"


@given(st.text(min_size=1))
def test_labels_are_kept_but_for_their_form(tmp_path_factory: pytest.TempPathFactory, label: str) -> None:
    root = set_of(tmp_path_factory.mktemp("labels"), task(box(label=label)))
    assert read("label_studio", root).labels == [label_text(label)]


def test_coco_beside_it_stays_coco(tmp_path: Path) -> None:
    coco = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cow"}]}
    assert detect_format(set_of(tmp_path, task(box()), **{"result.json": coco}))[0] == "coco"

"""LabelMe JSON: what its users draw, and what is read."""

import json
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
CORNERS = [[10, 5], [60, 25]]


def shape(points: Any = CORNERS, label: Any = "cow", kind: Any = "rectangle", group: Any = None) -> dict[str, Any]:
    return {"label": label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}


def point(x: Any, y: Any, label: str, group: Any = None) -> dict[str, Any]:
    return shape([[x, y]], label, "point", group)


def labelme(*shapes: Any, **more: Any) -> dict[str, Any]:
    head = {"version": "5.4.1", "flags": {}, "shapes": list(shapes)}
    return head | {"imagePath": "a.jpg", "imageData": None, "imageHeight": 50, "imageWidth": 100} | more


@pytest.mark.parametrize(
    "points",
    [
        [[10, 5], [60, 25]],
        [[60, 25], [10, 5]],
        [[10, 25], [60, 5]],
        [[60, 5], [10, 25]],
        [[10, 5], [60, 5], [60, 25], [10, 25]],
        [["10", 5], [60.0, 25]],
        [["10\N{NO-BREAK SPACE}", "\N{IDEOGRAPHIC SPACE}5"], [60, " 25\n"]],  # as spreadsheets write them
    ],
)
def test_a_rectangle_is_any_two_opposite_corners_or_four(tmp_path: Path, points: Any) -> None:
    reading = read("labelme", make(tmp_path, {"a.json": labelme(shape(points)), "a.jpg": P}))
    assert boxes(reading) == {"a.jpg": [("cow", 0.1, 0.1, 0.5, 0.4)]}
    assert (rows(reading), reading.labels) == ([], ["cow"])


@pytest.mark.parametrize(
    "more",
    [
        {"imageData": None},
        {"imageData": "/9j/4AAQSk"},  # that of a picture that was cut off
        {"imageData": 7},
        {"imageHeight": None},
        {"imageHeight": "50", "imageWidth": -1},
        {"imagePath": "..\\images\\a.jpg"},
        {"imagePath": "../images/a.jpg"},
        {"imagePath": "C:\\Users\\me\\images\\a.jpg"},
        {"imagePath": "renamed.jpg"},
        {"imagePath": 3},
        {"flags": None, "version": None},
    ],
)
def test_what_else_a_file_holds(tmp_path: Path, more: dict[str, Any]) -> None:
    reading = read("labelme", make(tmp_path, {"labels/a.json": labelme(shape(), **more), "images/a.jpg": P}))
    assert boxes(reading) == {"images/a.jpg": [("cow", 0.1, 0.1, 0.5, 0.4)]}
    assert rows(reading) == []


def test_files_of_old_versions_lack_keys(tmp_path: Path) -> None:
    """before 3.5 there was no shape_type, and all was a polygon; sizes came with 4"""
    old = {"lineColor": [0, 255, 0, 128], "shapes": [{"label": "cow", "points": [[1, 1], [5, 1], [5, 5]]}]}
    files = {"a.json": old, "b.json": {"shapes": [shape()], "imageData": "x"}, "a.jpg": P, "b.jpg": P}
    reading = read("labelme", make(tmp_path, files))
    assert boxes(reading) == {"a.jpg": [], "b.jpg": [("cow", 0.1, 0.1, 0.5, 0.4)]}
    assert rows(reading) == [("a.jpg", "other_shape", "dropped")]


def test_an_image_is_the_one_in_the_files_own_folder(tmp_path: Path) -> None:
    other = labelme(shape([[0, 0], [50, 25]]))
    files = {"a.json": labelme(shape()), "cam2/a.json": other, "a.jpg": P, "cam2/a.jpg": P}
    assert boxes(read("labelme", make(tmp_path, files))) == {
        "a.jpg": [("cow", 0.1, 0.1, 0.5, 0.4)],
        "cam2/a.jpg": [("cow", 0.0, 0.0, 0.5, 0.5)],
    }


def test_points_belong_to_the_box_of_their_group_or_the_only_one_around_them(tmp_path: Path) -> None:
    shapes = [
        point(20, 10, "nose", 1),
        shape(group=1),
        shape([[50, 5], [90, 45]], "dog", group=2),
        point(95, 2, "nose", 2),
        point(80, 40, "left_ear"),
        point(55, 20, "left_ear"),  # in both boxes
        point(80, 30, "right_ear", "2"),  # the same group as the number
        point(70, 30, "left_ear", 2.0),
        point(15, 10, "left_ear", True),  # is no id
    ]
    reading = read("labelme", make(tmp_path, {"a.json": labelme(*shapes), "a.jpg": P}))
    assert (reading.landmarks, reading.pairs) == (["left_ear", "nose", "right_ear"], [(0, 2)])
    absent = Landmark(0, 0, 0)
    assert [(o.label, o.landmarks) for o in reading.candidates[0].objects] == [
        ("cow", [absent, Landmark(0.2, 0.2), absent]),
        ("dog", [Landmark(0.8, 0.8), Landmark(0.95, 0.04), Landmark(0.8, 0.6)]),
    ]
    assert [(p.key, p.rule) for p in reading.problems if p.file] == [
        ("shape 6", "loose_point"),
        ("shape 8", "landmark_twice"),
        ("shape 9", "loose_point"),
    ]
    assert notes(reading)["tied_by_place"].startswith("1 points that say no box")


@pytest.mark.parametrize(
    ("wrong", "rule"),
    [
        (shape(kind="circle"), "other_shape"),
        (shape([[1, 1], [5, 1], [5, 5]], kind="polygon"), "other_shape"),
        (shape(kind=["rectangle"]), "other_shape"),
        (shape([[1, 1], [5, 1], [5, 5]]), "bad_box"),
        (shape([[1, 1]]), "bad_box"),
        (shape(None), "bad_box"),
        (shape([[1, 1], [5]]), "bad_box"),
        (shape([[1, 1], [float("nan"), 5]]), "bad_box"),
        (shape([[1, 1], [10**400, 5]]), "bad_box"),
        (shape([[1, 1], [True, 5]]), "bad_box"),
        (point("x", 3, "nose"), "bad_landmarks"),
        (shape(label=None), "unknown_class"),
        (shape(label=" "), "unknown_class"),
        (shape(label=""), "unknown_class"),
        (shape(label=3), "unknown_class"),
        (shape([["1_0", 1], [5, 5]]), "bad_box"),
        ("cow", "bad_row"),
    ],
)
def test_what_is_not_read_is_a_row(tmp_path: Path, wrong: Any, rule: str) -> None:
    reading = read("labelme", make(tmp_path, {"a.json": labelme(wrong, shape()), "a.jpg": P}))
    assert rows(reading) == [("a.jpg", rule, "dropped")]
    assert len(reading.candidates[0].objects) == 1


def test_images_with_nothing_on_them_are_background_and_those_without_a_file_are_left_out(tmp_path: Path) -> None:
    files = {"a.json": labelme(shape()), "b.json": labelme(imagePath="b.jpg"), "a.jpg": P, "b.jpg": P, "c.jpg": P}
    reading = read("labelme", make(tmp_path, files))
    assert [(c.name, len(c.objects)) for c in reading.candidates] == [("a.jpg", 1), ("b.jpg", 0)]
    assert notes(reading) == {
        "no_label": "1 images without an object; taken as background",
        "not_listed": "1 images that no label file names; left out",
    }


def test_a_broken_file_is_a_row_and_the_rest_goes_on(tmp_path: Path) -> None:
    files = {"a.json": labelme(shape()), "b.json": json.dumps(labelme())[:50], "c.json": labelme(imagePath="c.jpg")}
    reading = read("labelme", make(tmp_path, files | {"about.json": {"by": "me"}, "a.jpg": P, "b.jpg": P}))
    assert list(boxes(reading)) == ["a.jpg"]
    assert rows(reading) == [("b.json", "bad_json", "refused"), ("c.jpg", "missing_file", "refused")]
    assert notes(reading)["not_labelme"] == "1 other JSON files"


def test_two_files_for_one_image(tmp_path: Path) -> None:
    files = {"a.json": labelme(shape()), "copy.json": labelme(shape(label="dog")), "b.json": labelme(imagePath="b.jpg")}
    reading = read("labelme", make(tmp_path, files | {"a.jpg": P, "b.jpg": P}))
    assert list(boxes(reading)) == ["b.jpg"]
    assert rows(reading) == [("a.jpg", "listed_twice", "refused")]


def test_flags_are_labels_where_no_box_is_drawn(tmp_path: Path) -> None:
    files = {f"{n}.json": labelme(imagePath=f"{n}.jpg", flags={"cat": n == "a", "dog": n == "b"}) for n in "abc"}
    reading = read("labelme", make(tmp_path, files | {f"{n}.jpg": P for n in "abc"}))
    assert [(c.name, c.label) for c in reading.candidates] == [("a.jpg", "cat"), ("b.jpg", "dog")]
    assert reading.labels == ["cat", "dog"]


@pytest.mark.parametrize("said", [1, "true", "True"])
def test_a_flag_may_be_text_or_a_number(tmp_path: Path, said: Any) -> None:
    flags = {"cat": said, "dog": "false", "cow": 0, "pig": None}
    reading = read("labelme", make(tmp_path, {"a.json": labelme(flags=flags), "a.jpg": P}))
    assert ([c.label for c in reading.candidates], rows(reading)) == (["cat"], [])


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ({"cat": "yes"}, "flags: 'cat': 'yes', expected true or false"),
        ({"cat": 2}, "flags: 'cat': 2, expected true or false"),
        (["cat"], "flags: ['cat'], expected an object of true and false"),
    ],
)
def test_a_flag_that_is_neither_true_nor_false_is_a_row(tmp_path: Path, flags: Any, found: str) -> None:
    """where flags are the labels of images; beside boxes nobody reads them"""
    reading = read("labelme", make(tmp_path / "flags", {"a.json": labelme(flags=flags), "a.jpg": P}))
    assert [(p.file, p.rule, p.found) for p in reading.problems if p.done == "dropped"] == [("a.jpg", "bad_row", found)]
    assert reading.candidates == []
    reading = read("labelme", make(tmp_path / "boxes", {"a.json": labelme(shape(), flags=flags), "a.jpg": P}))
    assert (len(reading.candidates[0].objects), rows(reading)) == (1, [])


@pytest.mark.parametrize("flags", [{"note": "blurry"}, {"blurry": 1}, {"blurry": "true"}, ["blurry"]])
@pytest.mark.parametrize("drawn", [point(20, 20, "nose"), shape()])
def test_a_flag_that_is_not_true_makes_no_classes_of_what_is_drawn(tmp_path: Path, flags: Any, drawn: Any) -> None:
    files = {f"{n}.json": labelme(drawn, imagePath=f"{n}.jpg", flags=flags if n == "a" else {}) for n in "ab"}
    reading = read("labelme", make(tmp_path, files | {"a.jpg": P, "b.jpg": P}))
    assert [(c.label, len(c.objects)) for c in reading.candidates] == [(None, 1), (None, 1)]
    assert reading.landmarks == (["nose"] if drawn["shape_type"] == "point" else [])
    beside = "points" if reading.landmarks else "boxes"
    found = f"1 labels of images beside {beside}; options.image_labels takes them instead"
    assert found in [p.found for p in reading.problems]
    assert rows(reading) == []


def test_where_flags_that_are_true_count_others_beside_what_is_drawn_do_not(tmp_path: Path) -> None:
    flags = {"a": {"cat": True, "blurry": 1}, "b": {"dog": 1}}
    files = {f"{n}.json": labelme(point(20, 20, "nose"), imagePath=f"{n}.jpg", flags=flags[n]) for n in "ab"}
    root = make(tmp_path, files | {"a.jpg": P, "b.jpg": P})
    assert [c.label for c in read("labelme", root).candidates] == ["cat"]
    found = "2 labels of images that are set, but not by true, beside points; options.image_labels takes them too"
    assert found in [p.found for p in read("labelme", root).problems]
    files["b.json"] = labelme(shape(), imagePath="b.jpg", flags=flags["b"])
    root = make(tmp_path / "asked", files | {"a.jpg": P, "b.jpg": P})
    asked = read("labelme", root, image_labels=True)
    assert [c.label for c in asked.candidates] == ["dog"]
    assert ("a.jpg", "several_labels", "refused") in rows(asked)


def test_folders_give_the_splits(tmp_path: Path) -> None:
    files = {f"{s}/{s}.json": labelme(shape(), imagePath=f"{s}.jpg") for s in ("train", "val", "test")}
    reading = read("labelme", make(tmp_path, files | {f"{s}/{s}.jpg": P for s in ("train", "val", "test")}))
    assert [c.split for c in reading.candidates] == ["test", "train", "val"]


@given(st.text(min_size=1).filter(str.strip))
def test_labels_are_kept_but_for_their_form(tmp_path_factory: pytest.TempPathFactory, label: str) -> None:
    root = make(tmp_path_factory.mktemp("labels"), {"a.json": labelme(shape(label=label)), "a.jpg": P})
    assert read("labelme", root).labels == [label_text(label)]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"a.json": labelme(shape())}, "labelme"),
        ({"labels/a.json": labelme(shape()), "labels/b.json": labelme(), "about.json": {}}, "labelme"),
        # made of LabelMe's files, and left beside them
        (
            {
                "a.json": labelme(shape()),
                "coco.json": {"images": [], "annotations": [], "categories": [{"id": 1, "name": "cow"}]},
            },
            "coco",
        ),
        ({"a.json": {"shapes": []}, "cat/1.jpg": P, "dog/1.jpg": P}, "folder"),
    ],
)
def test_which_folders_are_labelmes(tmp_path: Path, files: dict[str, Any], expected: str) -> None:
    assert detect_format(make(tmp_path, files | {"a.jpg": P}))[0] == expected


def test_a_folder_without_any(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no LabelMe JSON \(an object with shapes\); 1 JSON files looked at"):
        read("labelme", make(tmp_path, {"a.jpg": P, "b.json": {}}))


def test_the_image_of_a_damaged_file_is_refused_once_by_name(tmp_path: Path) -> None:
    files = {"a.json": "{", "a.jpg": P, "b.json": labelme(shape(), imagePath="b.jpg"), "b.jpg": P}
    reading = read("labelme", make(tmp_path, files))
    assert [(p.file, p.rule, p.done, p.found.partition("; ")[2]) for p in reading.problems] == [
        ("a.json", "bad_json", "refused", "the image is a.jpg")
    ]

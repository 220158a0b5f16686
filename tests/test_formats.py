"""Each format: tables of what its owner has and what is read, or what is said against it."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from PIL import Image

from pipeline.core import face68
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.formats import FORMATS, detect_format
from pipeline.datasets.formats.reading import Candidate, give_ids, left_right_pairs, split_of

CLIP_SUFFIXES = SimpleNamespace(split=1, frames=4, classes=[])


def make(root: Path, files: dict) -> Path:
    """Write files: a size makes an image, a string text, anything else JSON."""
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            Image.new("RGB", content).save(path, "JPEG")
        elif isinstance(content, str):
            path.write_bytes(content.encode())
        else:
            path.write_text(json.dumps(content))
    return root


def read(form, root, labels=None, options=None):
    before = {f: f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()}
    reading = FORMATS[form].read(root, labels or root, options)
    assert {f: f.read_bytes() for f in sorted(root.rglob("*")) if f.is_file()} == before
    assert all(len(c.objects) == len(c.keys) and c.file.is_absolute() for c in reading.candidates)
    assert len({c.id for c in reading.candidates}) == len(reading.candidates)
    return reading


def rules(reading):
    return [(p.file, p.rule, p.done) for p in reading.problems]


# --- class folders

P = (20, 10)


@pytest.mark.parametrize(
    ("files", "labels", "splits", "problems"),
    [
        ({"cat/1.jpg": P, "dog/1.jpg": P}, {"cat-1": "cat", "dog-1": "dog"}, {None}, []),
        (
            {"cat/a/1.jpg": P, "not a cat/b/c/1.PNG": P},
            {"cat-a-1": "cat", "not_a_cat-b-c-1": "not a cat"},
            {None},
            [],
        ),
        (
            {"train/cat/1.jpg": P, "valid/cat/1.jpg": P, "test/dog/1.jpg": P},
            {"train-cat-1": "cat", "valid-cat-1": "cat", "test-dog-1": "dog"},
            {"train", "val", "test"},
            [],
        ),
        (
            {"cat/1.jpg": P, "dog/1.jpg": P, "3.jpg": P, "dog/note.txt": "", ".git/x.jpg": P, "cow/.keep": ""},
            {"cat-1": "cat", "dog-1": "dog"},
            {None},
            [
                ("3.jpg", "no_class", "refused"),
                ("cow", "empty_folder", "noted"),
                ("dog/note.txt", "not_an_image", "noted"),
            ],
        ),
    ],
)
def test_folder(tmp_path, files, labels, splits, problems):
    reading = read("folder", make(tmp_path, files))
    assert {c.id: c.label for c in reading.candidates} == labels
    assert reading.labels == sorted(set(labels.values()))
    assert {c.split for c in reading.candidates} == splits
    assert rules(reading) == problems


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"note.txt": ""}, "no images in it or below"),
        ({"cat/1.jpg": P}, "class folders with images: cat; expected two or more"),
        ({"1.jpg": P}, "class folders with images: none"),
    ],
)
def test_folder_errors(tmp_path, files, error):
    with pytest.raises(InputError, match=error) as caught:
        read("folder", make(tmp_path, files))
    assert str(tmp_path) in str(caught.value)


# --- COCO


def coco(images=("a.jpg",), annotations=(), categories=None):
    rows = [
        {"id": i, "file_name": image, "width": 100, "height": 50} if isinstance(image, str) else image
        for i, image in enumerate(images, 1)
    ]
    boxes = [{"id": i, "image_id": 1, "category_id": 1} | a for i, a in enumerate(annotations, 1)]
    return {"images": rows, "annotations": boxes, "categories": categories or [{"id": 1, "name": "cow"}]}


POINTS = {"keypoints": ["nose", "left_eye", "right_eye"], "skeleton": [[1, 2], [1, 3]]}
BOX = {"bbox": [10, 5, 50, 20]}


def test_coco_boxes_and_landmarks(tmp_path):
    categories = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cow"} | POINTS]
    annotations = [
        BOX | {"category_id": 3, "keypoints": [20, 10, 2, 0, 0, 0, 30.0, 15.0, 1.0], "iscrowd": 0},
        BOX | {"category_id": 7, "iscrowd": 1, "segmentation": [[1, 2, 3, 4, 5, 6]]},
    ]
    make(tmp_path, {"a.jpg": (100, 50), "x.json": coco(annotations=annotations, categories=categories)})
    reading = read("coco", tmp_path)
    assert (reading.labels, reading.landmarks) == (["cow", "dog"], POINTS["keypoints"])
    assert (reading.pairs, reading.skeleton) == ([(1, 2)], [(0, 1), (0, 2)])
    cow, dog = reading.candidates[0].objects
    assert (cow.label, cow.box, cow.crowd) == ("cow", (0.1, 0.1, 0.5, 0.4), False)
    assert cow.landmarks == [Landmark(0.2, 0.2, 2), Landmark(0, 0, 0), Landmark(0.3, 0.3, 1)]
    assert (dog.label, dog.crowd, [p.visibility for p in dog.landmarks]) == ("dog", True, [0, 0, 0])
    assert reading.candidates[0].keys == ["annotation 1", "annotation 2"]
    assert reading.problems == []


@pytest.mark.parametrize(
    ("files", "splits"),
    [
        ({"instances_train2017.json": "a", "instances_val2017.json": "b"}, {"a": "train", "b": "val"}),
        ({"annotations/person_keypoints_train.json": "a", "annotations/test.json": "b"}, {"a": "train", "b": "test"}),
        ({"train/_annotations.coco.json": "a", "valid/_annotations.coco.json": "b"}, {"a": "train", "b": "val"}),
        ({"test_animals.json": "a"}, {"a": None}),  # a single file is the whole
        ({"one.json": "a", "other.json": "b"}, {"a": None, "b": None}),
    ],
)
def test_coco_splits(tmp_path, files, splits):
    make(tmp_path, {name: coco([f"{stem}.jpg"]) for name, stem in files.items()})
    make(tmp_path, {f"images/{stem}.jpg": (100, 50) for stem in files.values()})
    make(tmp_path, {"annotations/results.json": [{"image_id": 1}], "annotations/captions.json": {"images": []}})
    assert {c.file.stem: c.split for c in read("coco", tmp_path).candidates} == splits


@pytest.mark.parametrize(
    ("image", "picture", "found"),
    [
        ("a.jpg", "a.jpg", True),
        ("a.jpg", "images/a.jpg", True),
        ("a.jpg", "deep/down/a.jpg", True),
        ("sub/a.jpg", "images/sub/a.jpg", True),
        ("sub\\a.jpg", "sub/a.jpg", True),
        ("/home/me/data/a.jpg", "images/a.jpg", True),
        ("../../a.jpg", "a.jpg", True),
        ("b.jpg", "a.jpg", False),
    ],
)
def test_coco_finds_pictures(tmp_path, image, picture, found):
    make(tmp_path, {picture: (100, 50), "x.json": coco([image])})
    reading = read("coco", tmp_path)
    assert [c.name for c in reading.candidates] == ([picture] if found else [])
    assert rules(reading) == ([] if found else [(image, "missing_file", "refused"), ("", "not_listed", "noted")])


def test_coco_numbered_landmarks_and_a_skeleton_from_0(tmp_path):
    numbered = coco(
        annotations=[BOX | {"keypoints": [1, 1, 1] * 68}], categories=[{"id": 1, "name": "face", "keypoints": []}]
    )
    reading = read("coco", make(tmp_path / "face", {"a.jpg": (100, 50), "x.json": numbered}))
    assert (len(reading.landmarks), reading.landmarks[7]) == (68, "point_07")
    assert (reading.pairs, reading.skeleton) == (face68.PAIRS, face68.SKELETON)  # what 68 unnamed points are
    numbered["annotations"][0]["keypoints"] = [1, 1, 1] * 21
    reading = read("coco", make(tmp_path / "hand", {"a.jpg": (100, 50), "x.json": numbered}))
    assert (len(reading.landmarks), reading.pairs, reading.skeleton) == (21, [], [])
    from_0 = coco(categories=[{"id": 1, "name": "cow"} | POINTS | {"skeleton": [[0, 1], [1, 2], [2, 3]]}])
    reading = read("coco", make(tmp_path / "cow", {"a.jpg": (100, 50), "x.json": from_0}))
    assert reading.skeleton == [(0, 1), (1, 2)]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (coco(annotations=[{"bbox": None}]), [("a.jpg", "bad_box", "dropped")]),
        (coco(annotations=[{"bbox": [1, 2, 3]}]), [("a.jpg", "bad_box", "dropped")]),
        (coco(annotations=[{"bbox": [1, 2, 3, 10**400]}]), [("a.jpg", "bad_box", "dropped")]),
        (coco(annotations=[{"bbox": ["x", 2, 3, 4]}]), [("a.jpg", "bad_box", "dropped")]),
        (coco(annotations=[{"bbox": [True, 2, 3, 4]}]), [("a.jpg", "bad_box", "dropped")]),
        (coco(annotations=[{"bbox": "1234"}]), [("a.jpg", "bad_box", "dropped")]),
        (coco(annotations=[{"bbox": {"1": 1, "2": 2, "3": 3, "4": 4}}]), [("a.jpg", "bad_box", "dropped")]),
        *(
            (coco(annotations=[BOX | {"iscrowd": v}]), [("a.jpg", "bad_row", "dropped")])
            for v in (2, -1, 0.5, "yes", [1])
        ),
        (coco(annotations=[{"keypoints": []}]), [("a.jpg", "bad_box", "dropped")]),
        *(
            (
                coco(annotations=[BOX | {"keypoints": v}], categories=[{"id": 1, "name": "cow"} | POINTS]),
                [("a.jpg", "bad_landmarks", "dropped")],
            )
            for v in ({}, "", 0, [True] * 9, ["1_0"] * 9)
        ),
        (coco(annotations=[BOX | {"category_id": 9}]), [("a.jpg", "unknown_class", "dropped")]),
        (coco(annotations=[BOX | {"image_id": 9}]), [("x.json", "unknown_image", "dropped")]),
        (
            coco(annotations=[BOX | {"keypoints": [1, 2, 3]}], categories=[{"id": 1, "name": "cow"} | POINTS]),
            [("a.jpg", "bad_landmarks", "dropped")],
        ),
        (
            coco(annotations=[BOX | {"keypoints": ["x"] * 9}], categories=[{"id": 1, "name": "cow"} | POINTS]),
            [("a.jpg", "bad_landmarks", "dropped")],
        ),
        (coco(images=["a.jpg", {"id": 2}]), [("x.json", "bad_row", "refused")]),
        (coco(images=["a.jpg"]) | {"annotations": ["?"]}, [("x.json", "bad_row", "dropped")]),
    ],
)
def test_coco_bad_rows(tmp_path, content, expected):
    reading = read("coco", make(tmp_path, {"a.jpg": (100, 50), "x.json": content}))
    assert rules(reading) == expected
    assert [c.objects for c in reading.candidates] == [[]]


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"a.jpg": P}, "no COCO JSON"),
        ({"a.jpg": P, "x.json": "{"}, "x.json:1: not JSON"),
        ({"x.json": coco()}, "no images in it or below"),
        ({"a.jpg": P, "x.json": coco(categories=[{"id": 1}])}, "categories: expected objects with id and name"),
        ({"a.jpg": P, "x.json": coco(), "y.json": coco()}, "y.json: lists a.jpg, as .*x.json does"),
        (
            {
                "a.jpg": P,
                "x.json": coco(
                    categories=[{"id": 1, "name": "a"} | POINTS, {"id": 2, "name": "b", "keypoints": ["q"]}]
                ),
            },
            "'b' has 1 keypoints",
        ),
        (
            {"a.jpg": P, "x.json": coco(annotations=[BOX | {"keypoints": [1, 1, 2] * n} for n in (5, 5, 4)])},
            r"x.json: annotations with \[4, 5\] keypoints; expected the same in all",
        ),
    ],
)
def test_coco_errors(tmp_path, files, error):
    with pytest.raises(InputError, match=error):
        read("coco", make(tmp_path, files))


@pytest.mark.parametrize(
    ("said", "crowd"), [(True, True), ("1", True), (1.0, True), ("true", True), (None, False), ("0", False)]
)
def test_coco_a_crowd_is_1_or_true(tmp_path, said, crowd):
    content = coco(annotations=[BOX | {"iscrowd": said}])
    reading = read("coco", make(tmp_path, {"a.jpg": (100, 50), "x.json": content}))
    assert [o.crowd for o in reading.candidates[0].objects] == [crowd]
    assert reading.problems == []


def test_coco_an_odd_visibility_is_said(tmp_path):
    row = BOX | {"keypoints": [20, 10, 0.37, 20, 10, 2.0, 20, 10, 3]}
    content = coco(annotations=[row], categories=[{"id": 1, "name": "cow"} | POINTS])
    reading = read("coco", make(tmp_path, {"a.jpg": (100, 50), "x.json": content}))
    assert [p.visibility for p in reading.candidates[0].objects[0].landmarks] == [0, 2, 2]
    (problem,) = reading.problems
    assert (problem.file, problem.key, problem.rule, problem.done) == ("x.json", "keypoints", "odd_visibility", "noted")
    assert problem.found.startswith("2 keypoints with a visibility as 0.37, expected 0, 1 or 2")


def test_coco_a_picture_in_two_splits_is_held_out(tmp_path):
    make(tmp_path, {"a.jpg": (100, 50), "train.json": coco(annotations=[BOX]), "test.json": coco()})
    reading = read("coco", tmp_path)
    assert [(c.split, c.objects) for c in reading.candidates] == [("test", [])]
    assert rules(reading) == [("a.jpg", "listed_twice", "noted")]


def test_coco_without_sizes_takes_the_picture_s(tmp_path):
    content = coco([{"id": 1, "file_name": "a.jpg"}], [BOX])
    reading = read("coco", make(tmp_path, {"a.jpg": (200, 100), "x.json": content}))
    assert reading.candidates[0].size == (200, 100)
    assert reading.candidates[0].objects[0].box == (0.05, 0.05, 0.25, 0.2)


def test_coco_a_landmark_count_that_differs_is_named(tmp_path):
    rows = ([20, 10, 2] * 3, [20, 10, 2] * 2, [20, 10, 2] * 4, [20, 10, 2, None, None, 0, 1, 1, 2], {"a": 1})
    annotations = [BOX | {"keypoints": row} for row in rows]
    content = coco(annotations=annotations, categories=[{"id": 1, "name": "cow"} | POINTS])
    reading = read("coco", make(tmp_path, {"a.jpg": (100, 50), "x.json": content}))
    assert [(p.file, p.key, p.rule, p.found, p.done) for p in reading.problems] == [
        ("a.jpg", "annotation 2", "bad_landmarks", "6 keypoint values, expected 9 numbers", "dropped"),
        ("a.jpg", "annotation 3", "bad_landmarks", "12 keypoint values, expected 9 numbers", "dropped"),
        ("a.jpg", "annotation 4", "bad_landmarks", "keypoint value 3 is None, expected 9 numbers", "dropped"),
        ("a.jpg", "annotation 5", "bad_landmarks", "keypoints {'a': 1}, expected 9 numbers", "dropped"),
    ]
    assert reading.candidates[0].keys == ["annotation 1"]


# --- YOLO

LINE = "0 0.5 0.4 0.2 0.1\n"
YAML = "names: [cow, dog]\n"


@pytest.mark.parametrize(
    ("picture", "text", "labels"),
    [
        ("a.jpg", "a.txt", None),
        ("images/a.jpg", "labels/a.txt", None),
        ("images/train/a.jpg", "labels/train/a.txt", None),
        ("train/images/a.jpg", "train/labels/a.txt", None),
        ("sub/a.jpg", "elsewhere/a.txt", "elsewhere"),
        ("sub/a.jpg", "elsewhere/sub/a.txt", "elsewhere"),
    ],
)
@pytest.mark.parametrize("names", [("classes.txt", "cow\r\ndog\r\n"), ("data.yaml", YAML), ("obj.names", "cow\ndog")])
def test_yolo_layouts(tmp_path, picture, text, labels, names):
    root = make(tmp_path, {picture: P, text: LINE, f"{labels or '.'}/{names[0]}": names[1]})
    reading = read("yolo", root, root / labels if labels else None)
    (candidate,) = reading.candidates
    assert (candidate.name, reading.labels) == (picture, ["cow", "dog"])
    assert candidate.split == ("train" if "train" in picture else None)
    assert candidate.objects[0].label == "cow"
    assert candidate.objects[0].box == pytest.approx((0.4, 0.35, 0.2, 0.1))
    assert candidate.keys[0].endswith("a.txt:1")
    assert rules(reading) == []


@pytest.mark.parametrize(
    ("yaml", "picture", "split", "missing"),
    [
        ("names: {0: cow, 1: dog}\ntrain: images/one\nval: images/two\n", "images/two/a.jpg", "val", "images/one"),
        (
            "names: [cow]\ntrain: ../train/images\nval: ../valid/images\n",
            "valid/images/a.jpg",
            "val",
            "../train/images",
        ),
        ("names: [cow]\npath: ../sets\ntest: [images/x, images/y]\n", "images/y/a.jpg", "test", "images/x"),
        ("names: [cow]\ntrain: https://host/a.zip\nval: images/y\n", "images/y/a.jpg", "val", "https://host/a.zip"),
        ("names: [cow]\ntrain: [a, lists/b.txt]\nval: images/y\n", "images/y/a.jpg", "val", "a, lists/b.txt"),
        ("names: [cow]\ntrain: train.txt\nval: val.txt\n", "images/a.jpg", "val", None),
        ("names: [cow]\n", "images/a.jpg", None, None),
        ("names: [cow]\n", "images/validation/a.jpg", "val", None),
    ],
)
def test_yolo_splits(tmp_path, yaml, picture, split, missing):
    files = {picture: P, "data.yaml": yaml}
    if "train.txt" in yaml:
        files |= {"images/b.jpg": P, "train.txt": "./images/b.jpg\n", "val.txt": "./images/a.jpg\n"}
    reading = read("yolo", make(tmp_path, files))
    assert {c.name: c.split for c in reading.candidates}[picture] == split
    said = [f"{missing}: no such list, nor such a folder of images"] if missing else []
    assert [p.found for p in reading.problems if p.rule == "not_here"] == said
    assert [row for row in rules(reading) if row[1] != "not_here"] == [("", "no_label", "noted")]


@pytest.mark.parametrize(
    ("yaml", "line", "landmarks", "pairs"),
    [
        (
            "kpt_shape: [2, 3]\nflip_idx: [1, 0]\n",
            "0 .5 .5 .2 .2 .1 .2 2 .3 .4 0",
            [Landmark(0.1, 0.2, 2), Landmark(0, 0, 0)],
            [(0, 1)],
        ),
        ("kpt_shape: [2, 2]\n", "0 .5 .5 .2 .2 .1 .2 0 0", [Landmark(0.1, 0.2, 2), Landmark(0, 0, 0)], []),
        (
            "kpt_shape: [2, 3]\nkpt_names: {0: [left_eye, right_eye]}\n",
            "1 .5 .5 .2 .2 .1 .2 1.0 .3 .4 2",
            [Landmark(0.1, 0.2, 1), Landmark(0.3, 0.4, 2)],
            [(0, 1)],
        ),
    ],
)
def test_yolo_pose(tmp_path, yaml, line, landmarks, pairs):
    reading = read("yolo", make(tmp_path, {"a.jpg": P, "a.txt": line, "data.yaml": YAML + yaml}))
    assert reading.candidates[0].objects[0].landmarks == landmarks
    assert (len(reading.landmarks), reading.pairs) == (2, pairs)


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("0 0.5 0.5 0.2", "bad_line"),
        ("0 0.5 0.5 0.2 0.2 0.9", "bad_line"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.1 0.3", "bad_line"),  # a polygon is no box
        ("cow 0.5 0.5 0.2 0.2", "bad_line"),
        ("2 0.5 0.5 0.2 0.2", "unknown_class"),
        ("-1 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0.5 0.5 0.5 0.2 0.2", "unknown_class"),
        ("nan 0.5 0.5 0.2 0.2", "unknown_class"),
        ("0x0 0.5 0.5 0.2 0.2", "bad_line"),
        ("0_1 0.5 0.5 0.2 0.2", "bad_line"),
        ("\N{ARABIC-INDIC DIGIT ONE} 0.5 0.5 0.2 0.2", "bad_line"),
    ],
)
def test_yolo_bad_lines(tmp_path, line, rule):
    files = {"a.jpg": P, "a.txt": f"{LINE}\n{line}\n", "classes.txt": "cow\ndog\n", "lost.txt": LINE}
    reading = read("yolo", make(tmp_path, files))
    assert [(p.file, p.key, p.rule) for p in reading.problems] == [
        ("a.jpg", "a.txt:3", rule),
        ("lost.txt", "", "no_image"),
    ]
    assert len(reading.candidates[0].objects) == 1


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"a.jpg": P, "a.txt": LINE}, "no class names; expected data.yaml, classes.txt"),
        ({"a.jpg": P, "data.yaml": "names: {1: cow}"}, "expected 0, 1, 2 and so on"),
        ({"a.jpg": P, "data.yaml": "names: 3"}, "expected a list of class names"),
        ({"a.jpg": P, "data.yaml": "names: ["}, "not YAML"),
        ({"a.jpg": P, "data.yaml": YAML + "kpt_shape: [17]"}, r"expected \[points, 2 or 3\]"),
        ({"classes.txt": "cow"}, "no images in it or below"),
    ],
)
def test_yolo_errors(tmp_path, files, error):
    with pytest.raises(InputError, match=error):
        read("yolo", make(tmp_path, files))


def test_yolo_numbered_faces_are_known(tmp_path):
    reading = read("yolo", make(tmp_path, {"a.jpg": P, "data.yaml": YAML + "kpt_shape: [68, 2]\n"}))
    assert (reading.pairs, reading.skeleton) == (face68.PAIRS, face68.SKELETON)


# --- Pascal VOC


def voc(*boxes, size=(100, 50), name="a.jpg"):
    things = "".join(
        f"<object><name>{label}</name><difficult>1</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for label, a, b, c, d in boxes
    )
    measured = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    return f"<annotation><filename>{name}</filename>{measured}{things}</annotation>"


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        (("cow", 11, 6, 60, 25), (0.1, 0.1, 0.5, 0.4)),
        (("cow", 1, 1, 100, 50), (0, 0, 1, 1)),
        (("cow", 0, 5, 60, 25), (0, 0.1, 0.6, 0.4)),  # counted from 0
        (("cow", 11, 6, 11, 25), (0.1, 0.1, 0, 0.4)),  # of no width: for the checks to name
        (("cow", 30, 6, 11, 25), (0.29, 0.1, -0.19, 0.4)),
    ],
)
@pytest.mark.parametrize("size", [(100, 50), (0, 0), None])
def test_voc_boxes(tmp_path, box, expected, size):
    make(tmp_path, {"JPEGImages/a.jpg": (100, 50), "Annotations/a.xml": voc(box, size=size)})
    reading = read("voc", tmp_path)
    (o,) = reading.candidates[0].objects
    assert (o.label, o.box, o.crowd) == ("cow", pytest.approx(expected), False)
    assert (reading.labels, reading.candidates[0].keys, rules(reading)) == (["cow"], ["object 1"], [])


def test_voc_lists_give_the_splits(tmp_path):
    make(
        tmp_path,
        {f"JPEGImages/{n}.jpg": P for n in "abcd"}
        | {f"Annotations/{n}.xml": voc(name=f"{n}.jpg", size=P) for n in "abcd"},
    )
    make(tmp_path, {"ImageSets/Main/train.txt": "a\r\nc\r\n", "ImageSets/Main/test.txt": "b\nc\nx\ny\n"})
    reading = read("voc", tmp_path)
    assert [c.split for c in reading.candidates] == ["train", "test", "test", None]
    assert [p.found for p in reading.problems] == [
        "2 images are on the list and not here",
        "listed for train and for test; taken as test",
        "1 of 4 files are of no split, while others are; taken as train",
    ]


BOMB = '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><annotation><filename>&b;</filename></annotation>'


@pytest.mark.parametrize(
    ("xml", "expected"),
    [
        ("<annotation>", [("a.xml", "bad_xml", "refused")]),
        ("<annotation><size/><size/></annotation>", [("a.xml", "bad_row", "refused")]),
        (BOMB, [("a.xml", "bad_xml", "refused")]),
        ("<other/>", [("a.xml", "not_voc", "noted"), ("a.jpg", "no_label", "refused")]),
        (voc(("cow", "x", 1, 2, 3)), [("a.jpg", "bad_box", "dropped")]),
        (voc(("", 1, 1, 2, 3)), [("a.jpg", "unknown_class", "dropped")]),
        (
            voc(("cow", 1, 1, 2, 3)).replace("bndbox", "polygon"),
            [("a.jpg", "bad_box", "dropped")],
        ),
    ],
)
def test_voc_problems(tmp_path, xml, expected):
    assert rules(read("voc", make(tmp_path, {"a.jpg": (100, 50), "a.xml": xml}))) == expected


def test_an_image_of_a_damaged_xml_is_refused_once_by_name(tmp_path):
    files = {"JPEGImages/a.jpg": P, "Annotations/a.xml": "<annotation>", "Annotations/b.xml": "<annotation>"}
    reading = read("voc", make(tmp_path, files))
    assert [(p.file, p.rule, p.found.partition("; ")[2]) for p in reading.problems] == [
        ("Annotations/a.xml", "bad_xml", "the image is JPEGImages/a.jpg"),
        ("Annotations/b.xml", "bad_xml", ""),
    ]


def test_voc_picture_names(tmp_path):
    files = {"a.jpg": P, "b.jpg": P, "a.xml": voc(name="b.jpg", size=P), "1.xml": voc(name="b.jpg", size=P)}
    reading = read("voc", make(tmp_path, files | {"2.xml": voc(name="b.jpg"), "3.xml": voc(name="c.jpg")}))
    assert [c.name for c in reading.candidates] == ["a.jpg", "b.jpg"]
    assert rules(reading) == [
        ("2.xml", "listed_twice", "refused"),
        ("3.xml", "missing_file", "refused"),
        ("", "other_name", "noted"),
    ]
    found = "1 XML files whose <filename> is another image that is here, as a.xml: "
    assert reading.problems[2].found == f"{found}taken for a.jpg, which is called like it, and not for b.jpg"
    more = {"old/a.xml": voc(name="a.jpg", size=P), "new/a.xml": voc(name="a.jpg", size=P), "a.jpg": P}
    reading = read("voc", make(tmp_path / "two", more))
    assert [(p.file, p.found) for p in reading.problems] == [("old/a.xml", "labels for a.jpg, as in new/a.xml")]
    with pytest.raises(InputError, match=r"no \.xml files"):
        read("voc", make(tmp_path / "none", {"a.jpg": P}))


# --- .pts

FACE = SimpleNamespace(label="face", pairs=[])
THREE = [(11, 6), (21, 11), (61, 26)]  # from pixel 1 on; in an image of 100 x 50


def pts(*points, said=None, head="version: 1\n"):
    lines = "\n".join(f"{x} {y}" for x, y in points)
    return f"{head}n_points:  {len(points) if said is None else said}\n{{\n{lines}\n}}\n"


@pytest.mark.parametrize(
    ("picture", "file", "labels", "split"),
    [
        ("a.jpg", "a.pts", None, None),
        ("train/a.jpg", "train/a.pts", None, "train"),
        ("images/a.jpg", "points/a.pts", "points", None),
        ("testing/test/a.png", "testing/test/a.pts", None, "test"),
    ],
)
@pytest.mark.parametrize(
    "text", [pts(*THREE), pts(*THREE, head=""), "\ufeff" + pts(*THREE).replace("\n", "\r\n"), pts(*THREE).upper()]
)
def test_pts(tmp_path, picture, file, labels, split, text):
    root = make(tmp_path, {picture: (100, 50), file: text})
    reading = read("pts", root, root / labels if labels else None, FACE)
    (candidate,) = reading.candidates
    (o,) = candidate.objects
    assert (candidate.name, candidate.split, candidate.size, o.label) == (picture, split, (100, 50), "face")
    assert o.landmarks == [Landmark(0.1, 0.1), Landmark(0.2, 0.2), Landmark(0.6, 0.5)]
    assert o.box == pytest.approx((0.1, 0.1, 0.5, 0.4))  # the smallest that holds them
    assert (reading.labels, reading.landmarks) == (["face"], ["point_0", "point_1", "point_2"])
    assert (reading.pairs, rules(reading)) == ([], [])


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (pts(*THREE[:2]), ("c.jpg", "c.pts", "bad_landmarks", "2 landmarks, expected 3 as in most files")),
        (pts(*THREE, said=4), ("c.pts", "", "bad_pts", "3 lines of points, expected 4 as n_points says")),
        (pts((1, 2), (3, "x")), ("c.pts", "", "bad_pts", "point 2: '3 x', expected x y")),
        (pts((1, 2), (3, "4 5")), ("c.pts", "", "bad_pts", "point 2: '3 4 5', expected x y")),
        ("1 2\n3 4\n", ("c.pts", "", "bad_pts", "not of the form: version: 1, n_points: N, { lines of x y }")),
        ("", ("c.pts", "", "bad_pts", "not of the form: version: 1, n_points: N, { lines of x y }")),
    ],
)
def test_pts_problems(tmp_path, text, problem):
    files = {f"{n}.jpg": (100, 50) for n in "abcd"} | {"a.pts": pts(*THREE), "b.pts": pts(*THREE), "c.pts": text}
    reading = read("pts", make(tmp_path, files | {"lost.pts": pts(*THREE)}), options=FACE)
    assert [c.name for c in reading.candidates] == ["a.jpg", "b.jpg"]
    assert sorted((p.file, p.key, p.rule, p.found) for p in reading.problems) == sorted(
        [
            problem,
            ("d.jpg", "", "no_label", "an image without a .pts file"),
            ("lost.pts", "", "missing_file", "no image named lost"),
        ]
    )
    assert {p.done for p in reading.problems} == {"refused"}


def test_pts_two_files_for_one_picture(tmp_path):
    root = make(tmp_path, {"a.jpg": P, "one/a.pts": pts(*THREE), "two/a.pts": pts(*THREE)})
    reading = read("pts", root, options=FACE)
    assert (len(reading.candidates), rules(reading)) == (1, [("two/a.pts", "listed_twice", "refused")])


@pytest.mark.parametrize(
    ("files", "pairs", "error"),
    [
        ({"a.jpg": P}, [], r"no \.pts files; expected one per image"),
        ({"a.pts": pts(*THREE)}, [], "no images in it or below"),
        ({"a.jpg": P, "a.pts": "{"}, [], r"none of 1 \.pts files can be read; first a\.pts: not of the form"),
        ({"a.jpg": P, "a.pts": pts(*THREE)}, [[0, 3]], r"options\.pairs: \[0, 3\]; expected two .*, from 0 to 2"),
        ({"a.jpg": P, "a.pts": pts(*THREE)}, [[0]], r"options\.pairs: \[0\]; expected two landmarks"),
    ],
)
def test_pts_errors(tmp_path, files, pairs, error):
    with pytest.raises(InputError, match=error):
        read("pts", make(tmp_path, files), options=SimpleNamespace(label="face", pairs=pairs))


# --- CSV of landmarks

ROW = "a.jpg,10,5,20,10,60,25\n"


@pytest.mark.parametrize(
    ("header", "names", "pairs"),
    [
        ("", ["point_0", "point_1", "point_2"], []),
        (",0,1,2,3,4,5\n", ["point_0", "point_1", "point_2"], []),
        ("file,x0,y0,x1,y1,x2,y2\n", ["point_0", "point_1", "point_2"], []),
        ("image,x_1,y_1,x_2,y_2,x_3,y_3\n", ["point_0", "point_1", "point_2"], []),
        ("name,nose_x,nose_y,left_eye_x,left_eye_y,right_eye_x,right_eye_y\n", None, [(1, 2)]),
        ("name,noseX,noseY,leftEyeX,leftEyeY,rightEyeX,rightEyeY\n", ["nose", "leftEye", "rightEye"], [(1, 2)]),
        ("name,x nose,y nose,x left_eye,y left_eye,x right_eye,y right_eye\n", None, [(1, 2)]),
        ('"name", nose.x, nose.y, "left_eye.x", left_eye.y, right_eye.x, right_eye.y\n\n', None, [(1, 2)]),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_csv_headers(tmp_path, header, names, pairs, ends, mark):
    text = mark + (header + ROW).replace("\n", ends)
    reading = read("landmarks_csv", make(tmp_path, {"in/a.jpg": (100, 50), "points.csv": text}), options=FACE)
    (candidate,) = reading.candidates
    (o,) = candidate.objects
    assert (candidate.name, candidate.split, o.label, reading.labels) == ("in/a.jpg", None, "face", ["face"])
    assert o.landmarks == [Landmark(0.1, 0.1), Landmark(0.2, 0.2), Landmark(0.6, 0.5)]
    assert o.box == pytest.approx((0.1, 0.1, 0.5, 0.4))
    assert reading.landmarks == (names or ["nose", "left_eye", "right_eye"])
    assert (reading.pairs, rules(reading)) == (pairs, [])


def test_csv_of_68_points_and_of_pairs_that_the_user_knows(tmp_path):
    faces = make(tmp_path / "68", {"a.jpg": (100, 50), "x.csv": "a.jpg" + ",1,2" * 68})
    reading = read("landmarks_csv", faces, options=FACE)
    assert (reading.pairs, reading.skeleton) == (face68.PAIRS, face68.SKELETON)
    three = make(tmp_path / "3", {"a.jpg": (100, 50), "x.csv": ROW})
    reading = read("landmarks_csv", three, options=SimpleNamespace(label="face", pairs=[[0, 2]]))
    assert (reading.pairs, reading.skeleton) == ([(0, 2)], [])


def test_csv_splits_and_the_same_name_in_both(tmp_path):
    files = {"training/a.jpg": (100, 50), "training/b.jpg": (100, 50), "test/a.jpg": (200, 50)}
    tables = {"training_points.csv": ROW + ROW.replace("a.", "b."), "test_points.csv": ROW, "notes.csv": "k,v\n"}
    root = make(tmp_path, files | tables)
    reading = read("landmarks_csv", root, options=FACE)
    assert {c.name: (c.split, c.size) for c in reading.candidates} == {
        "training/a.jpg": ("train", (100, 50)),
        "training/b.jpg": ("train", (100, 50)),
        "test/a.jpg": ("test", (200, 50)),
    }
    assert rules(reading) == []
    alone = read("landmarks_csv", root, root / "test_points.csv", FACE)  # a single file is the whole
    assert [(c.name, c.split) for c in alone.candidates] == [("test/a.jpg", None)]
    assert rules(alone) == [("", "not_listed", "noted")]


def test_csv_what_a_test_file_has_is_not_trained_on(tmp_path):
    root = make(tmp_path, {"a.jpg": (100, 50), "train.csv": ROW, "test.csv": ROW})
    reading = read("landmarks_csv", root, options=FACE)
    assert [(c.name, c.split) for c in reading.candidates] == [("a.jpg", "test")]
    assert [(p.file, p.key, p.rule, p.done) for p in reading.problems] == [
        ("a.jpg", "train.csv:1", "listed_twice", "dropped")
    ]


def test_csv_what_is_not_labelled(tmp_path):
    text = "name,x0,y0,x1,y1,x2,y2\na.jpg,10,5,,,60,25\nb.jpg,,,,,,\n"
    root = make(tmp_path, {"a.jpg": (100, 50), "b.jpg": (100, 50), "x.csv": text})
    reading = read("landmarks_csv", root, options=FACE)
    assert [len(c.objects) for c in reading.candidates] == [1, 0]  # b has no object, which is a label too
    (o,) = reading.candidates[0].objects
    assert [p.visibility for p in o.landmarks] == [2, 0, 2]
    assert o.box == pytest.approx((0.1, 0.1, 0.5, 0.4))
    assert rules(reading) == []


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("b.jpg,1,2,3,4", ("b.jpg", "x.csv:3", "bad_landmarks", "4 numbers, expected 6 for 3 landmarks", "refused")),
        ("b.jpg,1,2,3,4,5,6,7,8", ("b.jpg", "x.csv:3", "bad_landmarks", "8 numbers, expected 6", "refused")),
        ("b.jpg", ("b.jpg", "x.csv:3", "bad_landmarks", "0 numbers, expected 6 for 3 landmarks", "refused")),
        ("b.jpg,1,2,3,x,5,6", ("b.jpg", "x.csv:3", "bad_row", "columns 4 and 5: '3', 'x'; expected two", "refused")),
        ("b.jpg,1,2,3,,5,6", ("b.jpg", "x.csv:3", "bad_row", "columns 4 and 5: '3', ''; expected two", "refused")),
        ("c.jpg,1,2,3,4,5,6", ("c.jpg", "x.csv:3", "missing_file", "no such image", "refused")),
        (",1,2,3,4,5,6", ("x.csv", "x.csv:3", "bad_row", "no file name", "refused")),
        (ROW.strip(), ("a.jpg", "x.csv:3", "listed_twice", "there already, in x.csv:2", "dropped")),
        ("d.jpg,1,2,3,4,5,6", ("d.jpg", "x.csv:3", "ambiguous_file", "2 images of that name", "refused")),
        ("e.jpg,1,2,3,4,5,6", ("e.jpg", "size", "unreadable", "", "refused")),
    ],
)
@pytest.mark.parametrize("header", ["name,x0,y0,x1,y1,x2,y2\n", ROW.replace("a.", "f.")])
def test_csv_bad_rows(tmp_path, row, problem, header):
    files = dict.fromkeys(("a.jpg", "b.jpg", "f.jpg", "1/d.jpg", "2/d.jpg"), (100, 50)) | {"e.jpg": "no image"}
    reading = read("landmarks_csv", make(tmp_path, files | {"x.csv": header + ROW + row + "\n"}), options=FACE)
    (found,) = [p for p in reading.problems if p.rule != "not_listed"]
    assert (found.file, found.key, found.rule, found.done) == (*problem[:3], problem[4])
    assert found.found.startswith(problem[3])
    assert [c.name for c in reading.candidates][-1:] == ["a.jpg"]


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"note.csv": "a,b\n1,2\n"}, "no .csv of landmarks; expected rows of an image's name and x, y"),
        ({"x.csv": "name,x0,y0,x1\n" + ROW}, "x.csv: the header has 3 columns after the first; expected x, y"),
        ({"x.csv": "name,y0,x0,y1,x1\n" + ROW}, "x.csv: columns 2 and 3 are 'y0' and 'x0'; expected x and y of one"),
        ({"x.csv": "name,x0,x1,y0,y1\n" + ROW}, "x.csv: columns 2 and 3 are 'x0' and 'x1'"),
        ({"x.csv": "name,width,height,x0,y0\n" + ROW}, "x.csv: columns 2 and 3 are 'width' and 'height'"),
        ({"x.csv": "name,x_min,y_min,x_max,y_max\n" + ROW}, "x.csv: columns 2 and 3 are 'x_min' and 'y_min'"),
        ({"x.csv": "name,x0,y0,x0,y0\n" + ROW}, "x.csv: the header has '0' twice; expected each landmark once"),
        (
            {"x.csv": "name,a_x,a_y\n" + ROW, "y.csv": "name,b_x,b_y\n" + ROW},
            r"y.csv: 1 landmarks \(b\), .*x.csv: 1 \(a\); expected the same in all files",
        ),
        ({"x.csv": "name,0,1\n" + ROW, "y.csv": ",0,1,2,3\n" + ROW}, r"y.csv: 2 landmarks .*x.csv: 1 \(no names\)"),
    ],
)
def test_csv_errors(tmp_path, files, error):
    with pytest.raises(InputError, match=error):
        read("landmarks_csv", make(tmp_path, {"a.jpg": P} | files), options=FACE)


@pytest.mark.parametrize(
    ("header", "second", "noted"),
    [("x1,y1,x2,y2", "3,4,9,9", True), ("x1,y1,x2,y2", "3,9,9,4", False), ("a_x,a_y,b_x,b_y", "3,4,9,9", False)],
)
def test_csv_whose_landmarks_may_be_corners_of_boxes(tmp_path, header, second, noted):
    root = make(tmp_path, {"a.jpg": P, "b.jpg": P, "x.csv": f"filename,{header}\na.jpg,1,2,8,9\nb.jpg,{second}\n"})
    reading = read("landmarks_csv", root, None, SimpleNamespace(label="face", pairs=[]))
    assert [p.rule for p in reading.problems] == ["maybe_boxes"] * noted


@pytest.mark.parametrize("header", ["", "image,a_x,a_y\n", "image,a_x,a_y,\n", "image,a_x,a_y,,\n"])
@pytest.mark.parametrize("commas", [",", ",,", ", ,,"])
def test_csv_with_commas_at_the_end_of_each_line(tmp_path, header, commas):
    root = make(tmp_path, {"a.jpg": P, "b.jpg": P, "x.csv": f"{header}a.jpg,1,2{commas}\nb.jpg,3,4{commas}\n"})
    reading = read("landmarks_csv", root, None, SimpleNamespace(label="face", pairs=[]))
    assert [len(c.objects[0].landmarks) for c in reading.candidates] == [1, 1]
    assert reading.problems == []


@pytest.mark.parametrize("text", ["", "\n", "name,x0,y0\n"])
def test_csv_without_rows(tmp_path, text):
    root = make(tmp_path, {"a.jpg": P, "x.csv": text})
    with pytest.raises(InputError, match=r"x\.csv: no rows; expected one per image"):
        read("landmarks_csv", root, root / "x.csv", FACE)


def test_the_68_points_of_a_face():
    twice = [i for pair in face68.PAIRS for i in pair]
    assert len(set(twice)) == len(twice) == 58
    assert set(range(68)) - set(twice) == {8, 27, 28, 29, 30, 33, 51, 57, 62, 66}  # those in the middle
    pairs = dict([*face68.PAIRS, *((b, a) for a, b in face68.PAIRS)])
    bones = {frozenset(bone) for bone in face68.SKELETON}
    assert {frozenset(pairs.get(i, i) for i in bone) for bone in bones} == bones  # its mirror image is itself
    assert {i for bone in bones for i in bone} == set(range(68))


# --- UCF101

CLIP = "videos/Run/v_Run_g01_c01.avi"


def clips(*names):
    return {f"videos/{name.split('_')[1]}/{name}.avi": "" for name in names}


def test_ucf101_lists_and_groups(tmp_path):
    make(tmp_path, clips("v_Run_g01_c01", "v_Run_g01_c02", "v_Run_g02_c01", "v_Hop_g01_c01", "v_Hop_g03_c01"))
    train = (
        "Run/v_Run_g02_c01.avi 2\r\nHop/v_Hop_g01_c01.avi 1\r\nHop/v_Hop_g09_c01.avi 1\r\nSit/v_Sit_g01_c01.avi 3\r\n"
    )
    make(tmp_path, {"ucfTrainTestlist/trainlist01.txt": train})
    make(tmp_path, {"ucfTrainTestlist/testlist01.txt": "Run/v_Run_g01_c01.avi\nRun/v_Run_g01_c02.avi\n"})
    reading = read("ucf101", tmp_path, options=CLIP_SUFFIXES)
    found = [(c.id, c.label, c.split, c.group, c.clip, c.frames) for c in reading.candidates]
    assert found == [
        ("v_Hop_g01_c01", "Hop", "train", "g01", "v_Hop_g01_c01", 4),
        ("v_Run_g01_c01", "Run", "test", "g01", "v_Run_g01_c01", 4),
        ("v_Run_g01_c02", "Run", "test", "g01", "v_Run_g01_c02", 4),
        ("v_Run_g02_c01", "Run", "train", "g02", "v_Run_g02_c01", 4),
    ]
    assert rules(reading) == [
        ("ucfTrainTestlist/trainlist01.txt", "not_here", "noted"),
        ("videos/Hop/v_Hop_g03_c01.avi", "not_listed", "refused"),
    ]
    assert reading.problems[0].found.startswith("1 clips")


def test_ucf101_without_lists_and_with_own_names(tmp_path):
    make(tmp_path, {"Run/one.mp4": "", "Run/two.mov": "", "Hop/one.mp4": "", "stray.avi": ""})
    reading = read("ucf101", tmp_path, options=CLIP_SUFFIXES)
    assert [(c.label, c.split, c.group) for c in reading.candidates] == [
        ("Hop", None, "Hop/one"),
        ("Run", None, "Run/one"),
        ("Run", None, "Run/two"),
    ]
    assert len({c.clip for c in reading.candidates}) == 3
    assert rules(reading) == [("ucfTrainTestlist", "no_lists", "noted")]


@pytest.mark.parametrize(
    ("options", "files", "error"),
    [
        ({"classes": ["Rum", "Hop"]}, {}, "no class folder 'Rum'; did you mean 'Run'"),
        ({"classes": ["Run"]}, {}, "classes Run; expected two or more"),
        ({"split": 2}, {"ucfTrainTestlist/trainlist01.txt": ""}, "trainlist02.txt: no such file; options.split is 2"),
    ],
)
def test_ucf101_errors(tmp_path, options, files, error):
    make(tmp_path, clips("v_Run_g01_c01", "v_Hop_g01_c01") | files)
    with pytest.raises(InputError, match=error):
        read("ucf101", tmp_path, options=SimpleNamespace(**vars(CLIP_SUFFIXES) | options))
    with pytest.raises(InputError, match="no clips in class folders"):
        read("ucf101", make(tmp_path / "none", {"a.avi": ""}), options=CLIP_SUFFIXES)


# --- what they share


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (clips("v_Run_g01_c01", "v_Hop_g01_c01"), "ucf101"),
        ({"images/a.jpg": P, "annotations/x.json": coco()}, "coco"),
        ({"JPEGImages/a.jpg": P, "Annotations/a.xml": voc()}, "voc"),
        ({"images/a.jpg": P, "labels/a.txt": LINE, "data.yaml": YAML}, "yolo"),
        ({"a.jpg": P, "a.pts": pts(*THREE)}, "pts"),
        ({"a.jpg": P, "a.csv": ROW}, "landmarks_csv"),
        ({"train/a.jpg": P, "test/a.jpg": P, "train.csv": ROW, "test.csv": ROW}, "landmarks_csv"),
        ({"cat/1.jpg": P, "dog/1.jpg": P, "labels.csv": "file,class\n1.jpg,0\n"}, "folder"),
        ({"cat/1.jpg": P, "dog/1.jpg": P}, "folder"),
        ({"train/cat/1.jpg": P, "test/dog/1.jpg": P, "about.json": {}}, "folder"),
        ({"1.jpg": P}, InputError),
        ({"cat/1.jpg": P, "about.txt": "x"}, InputError),
        ({}, InputError),
    ],
)
def test_the_format_is_recognized(tmp_path, files, expected):
    make(tmp_path, files)
    if expected is InputError:
        with pytest.raises(InputError, match=r"no known format.*; looked for"):
            detect_format(tmp_path)
    else:
        found, reason = detect_format(tmp_path)
        assert found == expected
        assert reason


def test_the_format_of_no_folder(tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        detect_format(tmp_path / "nowhere")
    with pytest.raises(InputError, match="not a folder"):
        detect_format(make(tmp_path, {"a.jpg": P}) / "a.jpg")


def test_a_link_to_a_folder_above_is_no_trap(tmp_path):
    make(tmp_path, {"cat/1.jpg": P, "dog/1.jpg": P})
    (tmp_path / "dog" / "up").symlink_to(tmp_path)
    assert [c.id for c in read("folder", tmp_path).candidates] == ["cat-1", "dog-1"]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a/b.jpg", "a-b.jpg"], None),  # alike, so both get a hash
        (["A.jpg", "a.jpg"], None),
        (["x y/ü (1).jpg", "名前.jpg"], ["x_y-ü_1", "名前"]),
        (["../.hidden.jpg"], ["hidden"]),
        (["???.jpg"], ["picture"]),
        (["a~1.jpg"], ["a_1"]),  # ~ numbers the copies of augmentation
    ],
)
def test_ids_are_safe_and_do_not_depend_on_the_order(names, expected):
    def ids(order):
        candidates = [Candidate(Path(name), name) for name in order]
        give_ids(candidates, [name.removesuffix(".jpg") for name in order])
        return {c.name: c.id for c in candidates}

    found = ids(names)
    assert found == ids(names[::-1])
    assert len({i.casefold() for i in found.values()}) == len(names)
    assert expected is None or list(found.values()) == expected


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["nose", "left_eye", "right_eye"], [(1, 2)]),
        (["R_Eye", "L_Eye", "Tail"], [(1, 0)]),
        (["eyeLeft", "eyeRight"], [(0, 1)]),
        (["left eye", "right ear"], []),
        (["point_0", "point_1"], []),
    ],
)
def test_left_right_pairs(names, pairs):
    assert left_right_pairs(names) == pairs


@pytest.mark.parametrize(
    ("name", "split"),
    [("instances_val2017", "val"), ("Valid", "val"), ("contest", None), ("train_val", None), ("trainval", None)],
)
def test_split_names(name, split):
    assert split_of(name) == split


REAL = [
    ("folder", "alpaca", "alpaca", 385, ["alpaca", "not alpaca"]),
    ("yolo", "alpaca/alpaca", "alpaca-labels", 230, ["alpaca"]),
    ("voc", "bccd", "bccd", 200, ["Platelets", "RBC", "WBC"]),
    ("ucf101", "ucf101", "ucf101", 36, ["Basketball", "JumpingJack", "WalkingWithDog"]),
    ("ucf24", "ucf101", "ucf101/ucf24_boxes.json", 24, ["object"]),
    ("coco", "keypoints-coco/coco", "keypoints-coco/coco/test_coco.json", 4, ["person"]),
    ("coco", "keypoints-coco/wflw", "keypoints-coco/wflw", 2, ["face"]),
    ("coco", "keypoints-coco/300w", "keypoints-coco/300w", 2, ["face"]),
    ("landmarks_csv", "faces68", "faces68", 120, ["object"]),
]


@pytest.mark.real
@pytest.mark.parametrize(("form", "path", "labels", "count", "names"), REAL)
def test_real_sets(form, path, labels, count, names):
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    root = Path(os.environ["POCKETLENS_REAL_DATA"])
    assert detect_format(root / path, root / labels)[0] == form
    options = SimpleNamespace(**vars(CLIP_SUFFIXES), label="object", pairs=[])
    reading = FORMATS[form].read(root / path, root / labels, options)
    assert (len(reading.candidates), reading.labels) == (count, names)
    assert {p.done for p in reading.problems} <= {"noted"}


# --- crops of an ingested dataset

CROPPED = SimpleNamespace(margin=0.25, min_side=10, backgrounds=6, max_iou=0.4, seed=0)


def ingested(root: Path, objects: list[Object], labels: tuple[str, ...] = ("cow", "dog"), group: str | None = None):
    """Images of 100 x 80 with the same objects, one or more a split, as `ingest` writes them."""
    for split, count in (("train", 3), ("val", 1), ("test", 1)):
        (root / split).mkdir(parents=True)
        names = [f"{split}{i}" for i in range(count)]
        for name in names:
            Image.new("RGB", (100, 80)).save(root / split / f"{name}.jpg")
        write_samples(root / split, [Sample(n, f"{n}.jpg", 100, 80, split, group, objects=objects) for n in names])
    write_dataset(root, Dataset("herd", list(labels)))
    return root


COW = Object("cow", (0.4, 0.25, 0.2, 0.5))  # 40, 20 to 60, 60 in pixels; the square: 20, 10 to 80, 70
DOG = Object("dog", (0.9, 0.5, 0.1, 0.25))  # 90, 40 to 100, 60 in pixels; the square: 80, 35 to 110, 65


def test_crops_of_objects_are_squares_that_know_the_box(tmp_path):
    tiny, crowd = Object("dog", (0.5, 0.5, 0.05, 0.05)), Object("dog", (0.0, 0.0, 0.2, 0.2), crowd=True)
    reading = read("crops", ingested(tmp_path, [COW, tiny, DOG, crowd]), options=CROPPED)
    assert reading.labels == ["cow", "dog", "background"]
    of_one = [c for c in reading.candidates if c.name.startswith("train/train1.jpg#")]
    cow, dog, *nothing = of_one
    assert (cow.label, cow.crop, cow.id, cow.name) == ("cow", (20, 10, 60), "train1-0", "train/train1.jpg#0")
    assert cow.objects[0].box == pytest.approx((20 / 60, 10 / 60, 20 / 60, 40 / 60))
    assert (dog.label, dog.crop) == ("dog", (80, 35, 30))
    assert dog.objects[0].box == pytest.approx((10 / 30, 5 / 30, 10 / 30, 20 / 30))
    assert [(c.label, c.objects) for c in nothing] == [("background", [])] * 6
    assert {c.split for c in of_one} == {"train"}
    assert {c.group for c in of_one} == {"train1"}
    assert rules(reading) == [("", "small_object", "noted")]
    assert reading.problems[0].found.startswith("5 objects below options.min_side 10")


def test_crops_keep_the_split_and_group_of_their_picture(tmp_path):
    reading = read("crops", ingested(tmp_path, [COW], group="g07"), options=CROPPED)
    assert {(c.name.split("/")[0], c.split, c.group) for c in reading.candidates} == {
        (split, split, "g07") for split in ("train", "val", "test")
    }


def overlap(a, b):
    """IoU of two squares (left, top, side), by counting pixels."""
    cells = [{(x, y) for x in range(s[0], s[0] + s[2]) for y in range(s[1], s[1] + s[2])} for s in (a, b)]
    return len(cells[0] & cells[1]) / len(cells[0] | cells[1])


@pytest.mark.parametrize("max_iou", [0.1, 0.5])
def test_crops_of_nothing_overlap_no_object_much_and_some_lie_near_one(tmp_path, max_iou):
    crowd = Object("dog", (0.0, 0.0, 0.2, 0.2), crowd=True)
    options = SimpleNamespace(**{**vars(CROPPED), "max_iou": max_iou, "backgrounds": 20})
    reading = read("crops", ingested(tmp_path, [COW, DOG, crowd]), options=options)
    squares = [c.crop for c in reading.candidates if c.label == "background"]
    assert len(squares) == 100
    most = [max(overlap(s, (20, 10, 60)), overlap(s, (80, 35, 30))) for s in squares]
    assert max(most) < max_iou
    assert max(most) > 0.6 * max_iou
    assert all(left >= 20 or top >= 16 for left, top, _ in squares)  # none reaches into the crowd
    assert len({s[2] for s in squares}) > 20


def test_crops_of_nothing_depend_on_the_seed_and_the_picture_alone(tmp_path):
    def squares(folder, objects, seed):
        options = SimpleNamespace(**{**vars(CROPPED), "seed": seed})
        reading = read("crops", ingested(tmp_path / folder, objects), options=options)
        return {c.name: c.crop for c in reading.candidates if c.label == "background"}

    first = squares("a", [COW], 0)
    assert squares("b", [COW], 0) == first
    assert squares("c", [COW], 1) != first
    by_picture = {tuple(v for k, v in first.items() if k.startswith(f"train/train{i}.")) for i in range(3)}
    assert len(by_picture) == 3


def test_a_picture_without_room_gives_fewer_crops_of_nothing(tmp_path):
    root = ingested(tmp_path, [COW, Object("cow", (0.0, 0.0, 1.0, 1.0), crowd=True)])
    reading = read("crops", root, options=CROPPED)
    assert [c.label for c in reading.candidates] == ["cow"] * 5


@pytest.mark.parametrize(
    ("objects", "labels", "error"),
    [
        ([], ("cow",), "no boxes of 10 pixels or more to crop"),
        ([COW], ("cow", "background"), "has a label 'background'"),
    ],
)
def test_crops_errors(tmp_path, objects, labels, error):
    root = ingested(tmp_path / "x", objects, labels)
    with pytest.raises(InputError, match=error) as caught:
        read("crops", root, options=CROPPED)
    assert str(root) in str(caught.value)
    with pytest.raises(InputError, match=r"no dataset\.json; expected a dataset that was ingested"):
        read("crops", make(tmp_path / "y", {"a.jpg": P}), options=CROPPED)


def test_coco_lines_to_keypoints_that_are_not_there_are_noted(tmp_path):
    categories = [{"id": 3, "name": "cow"} | POINTS | {"skeleton": [[1, 2], [1, 3], [2, 99]]}]
    annotations = [BOX | {"category_id": 3, "keypoints": [20, 10, 2, 0, 0, 0, 30, 15, 1]}]
    make(tmp_path, {"a.jpg": (100, 50), "x.json": coco(annotations=annotations, categories=categories)})
    reading = read("coco", tmp_path)
    assert reading.skeleton == [(0, 1), (0, 2)]
    assert [(p.file, p.key, p.found, p.done) for p in reading.problems] == [
        ("x.json", "skeleton", "1 lines to keypoints that are not there, such as [2, 99] of 3; left out", "noted")
    ]

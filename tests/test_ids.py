"""Keys that a source has twice, in two types or of a wrong one: an error or a row of the ledger, never a merge."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, write_dataset, write_samples
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.points import LandmarkOptions
from pipeline.datasets.formats.reading import Reading

NO_IDS = [[1], {"a": 1}, None, True, float("nan"), float("inf")]
P = (40, 30)


def make(root: Path, files: dict[str, Any]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, tuple):
            Image.new("RGB", content).save(path, "JPEG")
        else:
            path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return root


def read(form: str, root: Path, **options: Any) -> Reading:
    return FORMATS[form].read(root, root, FORMATS[form].Options(**options))


def rows(reading: Reading) -> list[tuple[str, str, str]]:
    return [(p.rule, p.done, p.found) for p in reading.problems]


# --- COCO


def coco(images: list[Any], annotations: list[Any], categories: list[Any] | None = None) -> dict[str, Any]:
    return {"images": images, "annotations": annotations, "categories": categories or [{"id": 1, "name": "cow"}]}


def image(key: Any, name: str) -> dict[str, Any]:
    return {"id": key, "file_name": name, "width": 40, "height": 30}


def box(key: Any, of: Any, category: Any = 1) -> dict[str, Any]:
    return {"id": key, "image_id": of, "category_id": category, "bbox": [4, 3, 20, 15]}


def read_coco(root: Path, *content: Any) -> Reading:
    return read("coco", make(root, {"a.jpg": P, "b.jpg": P, "x.json": coco(*content)}))


def labels_of(reading: Reading) -> dict[str, list[str]]:
    return {c.name: [o.label for o in c.objects] for c in reading.candidates}


@pytest.mark.parametrize("ids", [(1, 1), (1, "1"), ("1", 1.0), ("x", "x")])
def test_coco_image_ids_that_stand_twice(ids, tmp_path):
    with pytest.raises(InputError, match=r"x\.json: image id \w is a\.jpg and b\.jpg"):
        read_coco(tmp_path, [image(ids[0], "a.jpg"), image(ids[1], "b.jpg")], [box(1, 1)])


def test_coco_an_image_row_that_stands_twice_is_one(tmp_path):
    reading = read_coco(tmp_path, [image(1, "a.jpg"), image(1, "a.jpg"), image(2, "b.jpg")], [box(1, 1)])
    assert labels_of(reading) == {"a.jpg": ["cow"], "b.jpg": []}
    assert rows(reading) == [("duplicate_id", "noted", "the row stands there twice")]


@pytest.mark.parametrize("names", [("a.jpg", "a.jpg"), ("a.jpg", "./a.jpg"), ("a.jpg", "A.JPG")])
def test_coco_a_file_of_two_images(names, tmp_path):
    with pytest.raises(InputError, match=r"images 1 and 2 are both a\.jpg"):
        read_coco(tmp_path, [image(1, names[0]), image(2, names[1])], [box(1, 1), box(2, 2)])


@pytest.mark.parametrize("key", NO_IDS)
def test_coco_what_is_no_id(key, tmp_path):
    images = [image(1, "a.jpg"), image(key, "b.jpg")]
    reading = read_coco(tmp_path, images, [box(1, 1), box(2, key), box(3, 1, key), box(key, 1)])
    assert labels_of(reading) == {"a.jpg": ["cow", "cow"]}
    bad = [(done, found.split()[0]) for rule, done, found in rows(reading) if rule == "bad_row"]
    assert bad == [("refused", "id"), ("dropped", "image_id"), ("dropped", "category_id"), ("noted", "1")]
    with pytest.raises(InputError, match="categories: expected objects with id and name"):
        read_coco(tmp_path, [image(1, "a.jpg")], [], [{"id": key, "name": "cow"}])


@pytest.mark.parametrize("name", [["a.jpg"], 1, None, "", {}])
def test_coco_what_is_no_file_name(name, tmp_path):
    reading = read_coco(tmp_path, [image(1, "a.jpg"), image(2, name)], [box(1, 1), box(2, 2)])
    assert labels_of(reading) == {"a.jpg": ["cow"]}
    assert ("bad_row", "refused") in [(rule, done) for rule, done, _ in rows(reading)]


@pytest.mark.parametrize(
    ("images", "of"), [((1, 2), ("1", "2")), (("1", "2"), (1, 2)), ((1, 2), (1, "2")), ((1, 2), (1.0, 2.0))]
)
def test_coco_ids_as_number_and_as_text_are_equal(images, of, tmp_path):
    reading = read_coco(
        tmp_path, [image(images[0], "a.jpg"), image(images[1], "b.jpg")], [box(1, of[0]), box(2, of[1])]
    )
    assert labels_of(reading) == {"a.jpg": ["cow"], "b.jpg": ["cow"]}
    differ = sum(isinstance(a, str) != isinstance(b, str) for a, b in zip(images, of, strict=True))
    noted = f"{differ} annotations have text for a number, or a number for text; taken as equal"
    assert rows(reading) == ([("id_type", "noted", noted)] if differ else [])


def test_coco_category_ids_as_number_and_as_text_are_equal(tmp_path):
    reading = read_coco(tmp_path, [image(1, "a.jpg")], [box(1, 1, "1")])
    assert labels_of(reading) == {"a.jpg": ["cow"]}
    assert [(p.key, p.rule) for p in reading.problems] == [("category_id", "id_type"), ("", "not_listed")]


def test_coco_annotation_ids_that_stand_twice_are_noted(tmp_path):
    reading = read_coco(tmp_path, [image(1, "a.jpg"), image(2, "b.jpg")], [box(7, 1), box("7", 2)])
    assert labels_of(reading) == {"a.jpg": ["cow"], "b.jpg": ["cow"]}
    found = "1 annotation ids stand there more than once; all objects are kept"
    assert rows(reading) == [("duplicate_id", "noted", found)]


@pytest.mark.parametrize(
    ("categories", "error"),
    [
        ([{"id": 1, "name": "cow"}, {"id": 1, "name": "dog"}], "id 1 is 'cow' and 'dog'; expected each id once"),
        ([{"id": 1, "name": "cow"}, {"id": "1", "name": "dog"}], "id 1 is 'cow' and 'dog'; expected each id once"),
        ([{"id": 1, "name": "cow"}, {"id": 2, "name": "cow"}], "'cow' is category 1 and 2; expected one category"),
        ([{"id": 1, "name": "M\u00fcll"}, {"id": 2, "name": "Mu\u0308ll"}], "is category 1 and 2"),
        ([{"id": 1, "name": 1}, {"id": 2, "name": "1"}], "'1' is category 1 and 2"),
        ([{"id": 1, "name": ["cow"]}], r"id 1: name: found \['cow'\]; expected the name of a class"),
        ([{"id": 1, "name": None}], "id 1: name: found None"),
        ([{"id": 1, "name": " "}], "id 1: name: found ' '"),
        (["cow"], "expected objects with id and name"),
        ([{"id": 1, "name": "cow", "keypoints": ["eye", "eye"]}], "'cow' has 'eye' twice; expected each keypoint once"),
        ([{"id": 1, "name": "cow", "keypoints": 3}], "keypoints: found 3; expected a list"),
        ([{"id": 1, "name": "cow", "keypoints": ["a", "b"], "skeleton": [["x", 1]]}], "expected pairs of keypoints"),
    ],
)
def test_coco_categories_that_make_no_sense(categories, error, tmp_path):
    with pytest.raises(InputError, match=error):
        read_coco(tmp_path, [image(1, "a.jpg")], [box(1, 1, 1), box(2, 1, 2)], categories)


def test_coco_a_name_of_two_categories_of_which_one_is_used(tmp_path):
    categories = [{"id": 0, "name": "cow"}, {"id": 1, "name": "cow"}, {"id": 1, "name": "cow"}]
    reading = read_coco(tmp_path, [image(1, "a.jpg")], [box(1, 1, 1)], categories)
    assert (reading.labels, labels_of(reading)) == (["cow"], {"a.jpg": ["cow"]})
    assert [found for rule, _, found in rows(reading) if rule == "duplicate_id"] == [
        "1 categories stand there twice, with the same id and name",
        "'cow' is category 0 and 1; no object has category 0",
    ]


@pytest.mark.parametrize("number", [pytest.param(10**400, id="huge"), "1e999", [], {}, True])
def test_coco_numbers_that_are_none(number, tmp_path):
    row = image(1, "a.jpg") | {"width": number}
    reading = read_coco(tmp_path, [row], [box(1, 1) | {"bbox": [number] * 4, "iscrowd": "0"}, box(2, 1)])
    assert [o.crowd for c in reading.candidates for o in c.objects][-1] is False


# --- objects with a key twice, in every format that is JSON

TWICE = '"images": [], "images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [], "categories": [{"id": 1}]'


@pytest.mark.parametrize(
    ("form", "text", "key"),
    [
        ("coco", f"{{{TWICE}}}", "images"),
        ("coco", json.dumps(coco([image(1, "a.jpg")], [])).replace('"width"', '"id"'), "id"),
        ("ucf24", '{"v_Run_g01_c01": {"tracks": []}, "v_Run_g01_c01": {"tracks": []}}', "v_Run_g01_c01"),
    ],
)
def test_an_object_with_a_key_twice(form, text, key, tmp_path):
    root = make(tmp_path, {"a.jpg": P, "x.json": text, "Run/v_Run_g01_c01.avi": "", "Jump/v_Jump_g01_c01.avi": ""})
    with pytest.raises(InputError, match=rf"x\.json: an object has the key '{key}' twice"):
        read(form, root)


@pytest.mark.parametrize("text", ["[" * 100_000, "9" * 5000])
def test_json_that_python_does_not_take(text, tmp_path):
    with pytest.raises(InputError, match=r"x\.json: "):
        read_json(make(tmp_path, {"x.json": text}) / "x.json")


# --- VOC

COW = "<name>cow</name><bndbox><xmin>5</xmin><ymin>4</ymin><xmax>24</xmax><ymax>18</ymax></bndbox>"


@pytest.mark.parametrize(
    ("inside", "found"),
    [
        ("<name>dog</name>", "2 <name>, expected one"),
        ("<bndbox><xmin>1</xmin></bndbox>", "2 <bndbox>, expected one"),
    ],
)
def test_voc_an_object_that_says_it_twice(inside, found, tmp_path):
    xml = f"<annotation><object>{COW}{inside}</object><object>{COW}</object></annotation>"
    reading = read("voc", make(tmp_path, {"a.jpg": P, "a.xml": xml}))
    assert labels_of(reading) == {"a.jpg": ["cow"]}
    assert rows(reading) == [("bad_row", "dropped", found)]


def test_voc_a_file_that_says_its_image_twice(tmp_path):
    twice = "<filename>a.jpg</filename>" * 2
    xml = {"a.xml": f"<annotation>{twice}</annotation>", "b.xml": f"<annotation><object>{COW}</object></annotation>"}
    reading = read("voc", make(tmp_path, {"a.jpg": P, "b.jpg": P, **xml}))
    assert labels_of(reading) == {"b.jpg": ["cow"]}
    assert ("bad_row", "refused", "2 <filename>, expected one; the image is a.jpg") in rows(reading)


def test_voc_names_in_two_forms_are_one(tmp_path):
    xml = f"<annotation><object>{COW}</object></annotation>"
    files = {f"{i}.xml": xml.replace("cow", name) for i, name in enumerate(("M\u00fcll", "Mu\u0308ll"))}
    reading = read("voc", make(tmp_path, {"0.jpg": P, "1.jpg": P, **files}))
    assert reading.labels == ["M\u00fcll"]


# --- YOLO

LINES = "0 0.5 0.5 0.5 0.5\n1 0.5 0.5 0.2 0.2\n"


@pytest.mark.parametrize(
    ("file", "text", "error"),
    [
        ("data.yaml", "names: [cow, cow]", "'cow' is class 0 and 1; expected one class for each name"),
        ("classes.txt", "cow\ncow\n", "'cow' is class 0 and 1"),
        ("classes.txt", "M\u00fcll\nMu\u0308ll\n", "is class 0 and 1"),
        ("classes.txt", "cow\n\ndog\n", "class 1: found ''; expected the name of a class"),
        ("data.yaml", "names: [1, '1']", "'1' is class 0 and 1"),
        ("data.yaml", "names: {0: cow, '0': dog}", "expected 0, 1, 2 and so on, each once"),
        ("data.yaml", "names: {0: cow, a: dog}", "expected 0, 1, 2 and so on, each once"),
        ("data.yaml", "names: {0: cow, 0: dog}", "not YAML"),
        ("data.yaml", "names: [cow, null]", "names: class 1: found None; expected the name of a class"),
        ("data.yaml", "names: [cow, [dog]]", "names: class 1: found"),
        ("data.yaml", "names: [cow, {1: dog}]", "names: class 1: found"),
        ("data.yaml", "names: [cow, true]", "names: class 1: found True"),
        ("data.yaml", "names: [a, b]\nkpt_shape: 3", "kpt_shape: found 3"),
        ("data.yaml", "names: [a, b]\nkpt_shape: ['2', 3]", "kpt_shape: found"),
        ("data.yaml", "names: [a, b]\nkpt_shape: [2, 3]\nkpt_names: {0: [eye, eye]}", "kpt_names has 'eye' twice"),
        ("data.yaml", "names: [a, b]\nkpt_shape: [2, 3]\nflip_idx: [1, 1]", "flip_idx: found"),
        ("data.yaml", "names: [a, b]\nkpt_shape: [2, 3]\nflip_idx: [1, 5]", "flip_idx: found"),
        ("data.yaml", "names: [a, b]\nkpt_shape: [2, 3]\nflip_idx: ['1', 0]", "flip_idx: found"),
        ("data.yaml", "names: [a, b]\nkpt_shape: [2, 3]\nflip_idx: 4", "flip_idx: found"),
    ],
)
def test_yolo_names_that_make_no_sense(file, text, error, tmp_path):
    with pytest.raises(InputError, match=error):
        read("yolo", make(tmp_path, {"a.jpg": P, "a.txt": LINES, file: text}))


def test_yolo_a_name_of_two_classes_of_which_one_is_used(tmp_path):
    reading = read("yolo", make(tmp_path, {"a.jpg": P, "a.txt": LINES, "classes.txt": "cow\ndog\ncow\n"}))
    assert (reading.labels, labels_of(reading)) == (["cow", "dog"], {"a.jpg": ["cow", "dog"]})
    assert rows(reading) == [("duplicate_id", "noted", "'cow' is class 0 and 2; no object has class 2")]


def test_yolo_keys_that_are_text_are_numbers(tmp_path):
    files = {"a.jpg": P, "a.txt": LINES, "data.yaml": "names: {'0': cow, '1': dog}"}
    assert labels_of(read("yolo", make(tmp_path, files))) == {"a.jpg": ["cow", "dog"]}


# --- landmarks


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("image,nose_x,nose_y,nose_x,nose_y", "the header has 'nose' twice; expected each landmark once"),
        ("image,\u00fc_x,\u00fc_y,u\u0308_x,u\u0308_y", "the header has '\u00fc' twice"),
        ("image,0,1,1,2", "the header has '1' twice; expected each column once"),
    ],
)
def test_csv_headers_with_a_name_twice(header, found, tmp_path):
    with pytest.raises(InputError, match=found):
        read("landmarks_csv", make(tmp_path, {"a.jpg": P, "x.csv": f"{header}\na.jpg,1,2,3,4\n"}))


def test_csv_rows_of_one_image_under_two_names(tmp_path):
    reading = read("landmarks_csv", make(tmp_path, {"in/a.jpg": P, "x.csv": "a.jpg,1,2,3,4\nin\\A.JPG,5,6,7,8\n"}))
    assert [len(c.objects) for c in reading.candidates] == [1]
    assert rows(reading) == [("listed_twice", "dropped", "there already, in x.csv:1")]


def test_pts_files_of_one_image(tmp_path):
    pts = "version: 1\nn_points: 2\n{\n5 4\n21 16\n}\n"
    files = {"in/a.jpg": P, "in/a.pts": pts, "in/A.PTS": pts}
    reading = FORMATS["pts"].read(make(tmp_path, files), tmp_path, LandmarkOptions(label="cow"))
    assert len(reading.candidates) == 1
    assert [rule for rule, _, _ in rows(reading)] == ["listed_twice"]


# --- tracks


def tracks(*boxes: list[float], start: Any = 0, end: Any = None) -> dict[str, Any]:
    return {"tracks": [{"start_frame": start, "end_frame": len(boxes) if end is None else end, "boxes_xywh": boxes}]}


ONE = tracks([1, 2, 30, 20])


@pytest.mark.parametrize("key", ["v1", "Run/v1", "v1.avi", "UCF\\Run\\v1.avi"])
def test_ucf24_forms_of_a_clips_name(key, tmp_path):
    root = make(tmp_path, {"Run/v1.avi": "", "Jump/v2.avi": "", "x.json": {key: ONE}})
    reading = read("ucf24", root)
    assert [(c.name, sorted(c.marks)) for c in reading.candidates] == [("Run/v1.avi", [0])]


@pytest.mark.parametrize(
    ("content", "kept", "rule"),
    [
        ({"v1": ONE, "v2": ONE}, ["Jump/v2.avi"], "ambiguous_file"),
        ({"Run/v1": ONE, "v2": ONE}, ["Run/v1.avi", "Jump/v2.avi"], "no_label"),
        ({"v1": ONE, "Run/v1": ONE, "v2": ONE}, ["Jump/v2.avi"], "duplicate_id"),
        ({"v1.avi": ONE, "v1": ONE, "v2": ONE}, ["Jump/v2.avi"], "duplicate_id"),
    ],
)
def test_ucf24_clips_of_one_name(content, kept, rule, tmp_path):
    root = make(tmp_path, {"Run/v1.avi": "", "Jump/v1.avi": "", "Jump/v2.avi": "", "x.json": content})
    reading = read("ucf24", root)
    assert sorted(c.name for c in reading.candidates) == sorted(kept)
    assert rule in [rule for rule, done, _ in rows(reading) if done == "refused"]


TRACK = {"start_frame": 0, "end_frame": 2, "boxes_xywh": [[1, 2, 30, 20], [1, 2, 30, 20]]}
FOUR = "expected [x, y, w, h]"


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ({"tracks": 3}, "tracks: 3, expected a list"),
        ({"tracks": None}, "tracks: None, expected a list"),
        ({"tracks": [3]}, "3; expected an object with start_frame, end_frame and boxes_xywh"),
        ({"tracks": [{"start_frame": 0}]}, "no end_frame, boxes_xywh"),
        (tracks([1, 2, 30, 20], start=0.5), "start_frame 0.5; expected the number of a frame"),
        (tracks([1, 2, 30, 20], start=True, end=2), "start_frame True; expected the number of a frame"),
        (tracks([1, 2, 30, 20], start=-1, end=0), "start_frame -1; expected the number of a frame"),
        (tracks([1, 2, 30, 20], end=float("inf")), "end_frame inf; expected the number of a frame"),
        (tracks([1, 2, 30, 20], end=5), "1 boxes for frames 0 to 5; expected one a frame"),
        (tracks([10**400, 2, 30, 20]), f"box 0 is [{'1' + '0' * 35}...; {FOUR}"),
        ({"tracks": [TRACK | {"boxes_xywh": None}]}, "boxes_xywh None; expected a list of boxes"),
        ({"tracks": [TRACK | {"boxes_xywh": {"a": 1}}]}, "boxes_xywh {'a': 1}; expected a list of boxes"),
        ({"tracks": [TRACK | {"boxes_xywh": [[5, 5, 20, 20], None]}]}, f"box 1 is None; {FOUR}"),
        ({"tracks": [TRACK | {"boxes_xywh": [[5, 5, 20], None]}]}, f"box 0 is [5, 5, 20]; {FOUR}"),
        ({"tracks": [TRACK | {"boxes_xywh": [[5, 5, 20, None], "1234"]}]}, f"box 0 is [5, 5, 20, None]; {FOUR}"),
        ({"tracks": [TRACK | {"boxes_xywh": ["1234", "1234"]}]}, f"box 0 is '1234'; {FOUR}"),
    ],
)
def test_ucf24_tracks_that_make_no_sense(entry, found, tmp_path):
    root = make(tmp_path, {"Run/v1.avi": "", "Jump/v2.avi": "", "x.json": {"v1": entry, "v2": ONE}})
    reading = read("ucf24", root)
    assert [c.name for c in reading.candidates] == ["Jump/v2.avi"]
    said = [(p.done, p.found) for p in reading.problems if p.rule in ("bad_row", "bad_box")]
    assert said == [("dropped", found)]


# --- our own form


def test_crops_of_a_dataset_with_an_id_twice(tmp_path):
    write_dataset(tmp_path, Dataset("herd", ["cow"]))
    for split in SPLITS:
        sample = Sample("same", "1.jpg", 100, 80, split, objects=[Object("cow", (0.4, 0.25, 0.2, 0.5))])
        write_samples(tmp_path / split, [sample])
    with pytest.raises(InputError, match=r"metadata\.jsonl has 'same' twice; expected each id once"):
        read("crops", tmp_path)

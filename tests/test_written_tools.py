"""VOC, CVAT, Label Studio and imagefolder as they are written: what their tools ask for, and what they cannot hold."""

import csv
import json
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, parse

import pandas as pd
import pyarrow as pa
import pyarrow.json
import pytest
from globox import AnnotationSet
from ruamel.yaml import YAML

from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.convert.convert import convert
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import label_text
from tests.label_files import make, notes, read, rows

POINTS = ["tail", "left_eye", "right_eye"]
LANDMARKS = [Landmark(0.1, 0.2, 2), Landmark(1 / 3, 2 / 3, 1), Landmark(0.0, 0.0, 0)]
THIRDS = (1 / 3, 1 / 7, 0.5, 2 / 3)


def ours(
    folder: Path, images: dict[str, list[Object]], *of: str, points: int = 0, size: tuple[int, int] = (70, 30)
) -> Path:
    """A set as `ingest` writes it; the split of an image is its first folder."""
    samples = []
    for number, (name, things) in enumerate(images.items()):
        make(folder, {name: size})
        top = name.split("/")[0]
        split = top if top in ("train", "val", "test") else None
        samples.append(Sample(f"i{number}", name, *size, split, objects=things))
    write_dataset(folder, Dataset("herd", list(of or ("goat", "cow")), POINTS[:points], [], [(0, 1)][: points // 3]))
    write_samples(folder, samples)
    return folder


def herd(folder: Path, points: int = 0) -> Path:
    things = [Object("cow", THIRDS, LANDMARKS[:points]), Object("goat", (0.0, 0.0, 1.0, 1.0))]
    for thing in things:
        thing.landmarks = thing.landmarks or [Landmark(0.0, 0.0, 0)] * points
    return ours(folder, {"train/1.jpg": things, "train/2.jpg": [], "val/3.jpg": []}, points=points)


def to(form: str, source: Path, out: Path) -> dict[str, Any]:
    return convert(source, out, form, "imagefolder")


def ledger(out: Path) -> dict[tuple[str, str], str]:
    with (out / "export_ledger.csv").open(encoding="utf-8", newline="") as file:
        return {(row["rule"], row["key"]): row["found"] for row in csv.DictReader(file)}


def root_of(file: Path) -> Element:
    return parse(file).getroot()


def said(element: Element, *paths: str) -> list[str]:
    return [str(element.findtext(path)) for path in paths]


def as_pixels(thing: Object, width: int = 70, height: int = 30) -> list[float]:
    x, y, w, h = thing.box
    return [x * width, y * height, (x + w) * width, (y + h) * height]


@pytest.mark.parametrize("form", ["voc", "cvat"])
def test_globox_reads_the_boxes(tmp_path: Path, form: str) -> None:
    source = herd(tmp_path / "herd")
    to(form, source, tmp_path / "out")
    expected = {c.name: c.objects for c in read("imagefolder", source).candidates}
    if form == "voc":
        expected = {Path(name).name: things for name, things in expected.items()}
        found, near = AnnotationSet.from_pascal_voc(tmp_path / "out/Annotations"), 0.5 + 1e-9
    else:
        found, near = AnnotationSet.from_cvat(tmp_path / "out/annotations.xml"), 1e-9
    assert found.image_ids == expected.keys()
    for name, things in expected.items():
        assert found[name].image_size == (70, 30)
        for box, thing in zip(found[name].boxes, things, strict=True):
            corners = [box.xmin - (form == "voc"), box.ymin - (form == "voc"), box.xmax, box.ymax]
            assert (box.label, corners) == (thing.label, pytest.approx(as_pixels(thing), abs=near))


@pytest.mark.parametrize("form", ["voc", "cvat", "label_studio", "imagefolder"])
def test_what_is_written_is_recognized(tmp_path: Path, form: str) -> None:
    to(form, herd(tmp_path / "herd", points=3), tmp_path / "out")
    assert detect_format(tmp_path / "out")[0] == form


def test_voc_is_laid_out_as_its_devkit(tmp_path: Path) -> None:
    to("voc", herd(tmp_path / "herd"), tmp_path / "out")
    lists = {file.name: file.read_bytes() for file in (tmp_path / "out/ImageSets/Main").iterdir()}
    assert lists == {"train.txt": b"1\n2\n", "val.txt": b"3\n"}
    root = root_of(tmp_path / "out/Annotations/1.xml")
    assert said(root, "folder", "filename", "size/width", "size/height") == ["JPEGImages", "1.jpg", "70", "30"]
    corners = [f"bndbox/{corner}" for corner in ("xmin", "ymin", "xmax", "ymax")]
    things = [said(thing, "name", "difficult", *corners) for thing in root.iter("object")]
    assert things == [["cow", "0", "24", "5", "58", "24"], ["goat", "0", "1", "1", "70", "30"]]
    assert root_of(tmp_path / "out/Annotations/2.xml").find("object") is None


def test_voc_lists_its_classes_as_cvat_and_datumaro_do(tmp_path: Path) -> None:
    to("voc", herd(tmp_path / "herd"), tmp_path / "out")
    listed = tmp_path / "out/labelmap.txt"
    assert listed.read_text() == "# label:color_rgb:parts:actions\ngoat:::\ncow:::\n"
    exported = (
        "# label:color_rgb:parts:actions\r\nbackground:0,0,0::\r\nsheep: black:9,9,9:head,leg:\r\ncow:0,0,9::\r\n"
    )
    listed.write_text(exported, newline="")
    assert read("voc", tmp_path / "out").labels == ["sheep: black", "cow", "goat"]
    listed.unlink()
    assert read("voc", tmp_path / "out").labels == ["cow", "goat"]


def test_voc_names_what_whole_pixels_lose(tmp_path: Path) -> None:
    thin, near = Object("cow", (0.5, 0.1, 0.001, 0.5)), Object("goat", (0.1001, 0.1, 0.5, 0.5))
    edge = Object("cow", (0.999, 0.999, 0.001, 0.001))
    source = ours(tmp_path / "herd", {"1.jpg": [thin, edge, Object("goat", (0.1, 0.1, 0.5, 0.5)), near]})
    summary = to("voc", source, tmp_path / "out")
    assert summary["objects"] == {"in": 4, "out": 3, "dropped": 1}
    lost = ledger(tmp_path / "out")
    assert lost["not_kept", "object 4"] == "goat: in whole pixels it is the box of another one"
    assert lost["box_widened", ""].endswith(": 2, the first in JPEGImages/1.jpg")
    reading = read("voc", tmp_path / "out")
    assert [as_pixels(o) for o in reading.candidates[0].objects] == [
        pytest.approx(corners) for corners in ([34, 3, 36, 18], [68, 28, 70, 30], [7, 3, 42, 18])
    ]
    dot = ours(tmp_path / "dot", {"1.jpg": [Object("cow", (0.0, 0.0, 1.0, 1.0))], "2.jpg": []}, size=(1, 1))
    assert to("voc", dot, tmp_path / "none")["objects"] == {"in": 1, "out": 0, "dropped": 1}
    assert ledger(tmp_path / "none")["not_kept", "object 1"] == "cow: an image of one pixel has no box in VOC"


def test_voc_tells_images_of_one_name_apart_by_their_folders(tmp_path: Path) -> None:
    """As labels by the file's name, and as lines of a list, where `1` is an end of `a/1` and that one of `b/a/1`."""
    images = (
        "train/1.jpg",
        "train/a/1.jpg",
        "val/b/a/1.jpg",
        "val/1.jpg.png",
        "train/ x .jpg",
        'val/"y".jpg',
        "val/x y.PNG",
        "train/x%20y.png",
    )
    boxes = {name: Object("cow", (0.06 * number, 0.0, 0.5, 0.5)) for number, name in enumerate(images)}
    to("voc", ours(tmp_path / "herd", {name: [box] for name, box in boxes.items()}), tmp_path / "out")
    back = {c.name: c for c in read("voc", tmp_path / "out").candidates}
    for name, box in boxes.items():
        split, rest = name.split("/", 1)
        found = back.pop(f"JPEGImages/{rest}")
        assert (found.split, found.objects[0].box[0]) == (split, pytest.approx(box.box[0], abs=0.5 / 70))
    assert not back


def test_a_class_of_voc_keeps_blanks_that_are_its_own(tmp_path: Path) -> None:
    box = Object(" cow ", (0.0, 0.0, 0.5, 0.5))
    to("voc", ours(tmp_path / "herd", {"1.jpg": [box]}, " cow ", "cow"), tmp_path / "out")
    assert read("voc", tmp_path / "out").labels == [" cow ", "cow"]
    (tmp_path / "out/labelmap.txt").unlink()
    assert read("voc", tmp_path / "out").labels == [" cow "]
    file = tmp_path / "out/Annotations/1.xml"
    file.write_text(file.read_text().replace(' xml:space="preserve"', ""))
    assert read("voc", tmp_path / "out").labels == ["cow"]


def test_cvat_has_all_that_its_loader_asks_for(tmp_path: Path) -> None:
    to("cvat", herd(tmp_path / "herd", points=3), tmp_path / "out")
    root = root_of(tmp_path / "out/annotations.xml")
    labels = [said(label, "name", "type", "parent") for label in root.iterfind("meta/task/labels/label")]
    points = [[name, "points", skeleton] for skeleton in ("goat_points", "cow_points") for name in POINTS]
    assert labels == [
        *(["goat", "any", "None"], ["cow", "any", "None"]),
        *(["goat_points", "skeleton", "None"], *points[:3], ["cow_points", "skeleton", "None"], *points[3:]),
    ]
    images = [image.attrib for image in root.iter("image")]
    size = {"width": "70", "height": "30"}
    assert images == [
        {"id": str(number), "name": f"{split}/{number + 1}.jpg", "subset": split, **size}
        for number, split in enumerate(("train", "train", "val"))
    ]
    cow, goat = root.iter("box")
    assert [cow.get(key) for key in ("label", "occluded", "group_id")] == ["cow", "0", "1"]
    assert goat.get("group_id") is None
    [skeleton] = root.iter("skeleton")
    assert skeleton.attrib == {"label": "cow_points", "source": "file", "z_order": "0", "group_id": "1"}
    flags = [(p.get("label"), p.get("outside"), p.get("occluded")) for p in skeleton]
    assert flags == [("tail", "0", "0"), ("left_eye", "0", "1"), ("right_eye", "1", "0")]
    assert next(p.get("points") for p in skeleton) == "7,6"


def test_no_class_of_cvat_is_called_like_a_skeleton(tmp_path: Path) -> None:
    things = [Object(label, THIRDS, LANDMARKS) for label in ("cow", "cow_points")]
    source = ours(tmp_path / "herd", {"train/1.jpg": things}, "cow", "cow_points", "cow_points_", points=3)
    to("cvat", source, tmp_path / "out")
    reading = read("cvat", tmp_path / "out")
    assert reading.labels == ["cow", "cow_points", "cow_points_"]
    assert [(o.label, [p.visibility for p in o.landmarks]) for o in reading.candidates[0].objects] == [
        ("cow", [2, 1, 0]),
        ("cow_points", [2, 1, 0]),
    ]
    assert (reading.landmarks, reading.skeleton) == (POINTS, [(0, 1)])
    assert rows(reading) == []


def test_label_studio_can_import_the_tasks(tmp_path: Path) -> None:
    to("label_studio", herd(tmp_path / "herd", points=3), tmp_path / "out")
    tasks = json.loads((tmp_path / "out/tasks.json").read_text(encoding="utf-8"))
    assert [task["data"] for task in tasks] == [
        {"image": f"/data/local-files/?d=images/{split}/{number}.jpg", "split": split}
        for number, split in ((1, "train"), (2, "train"), (3, "val"))
    ]
    assert [len(task["annotations"]) for task in tasks] == [1, 1, 1]
    assert tasks[1]["annotations"][0] == {"result": []}
    config = root_of(tmp_path / "out/label_config.xml")
    assert [(e.get("value"), e.get("model_index")) for e in config.iterfind("KeyPointLabels/Label")] == [
        *(("tail", "0"), ("left_eye", "1"), ("right_eye", "2")),
    ]
    controls = {element.get("name"): element for element in config if element.tag != "Image"}
    for region in tasks[0]["annotations"][0]["result"]:
        control = controls[region["from_name"]]
        assert control.tag.lower() == region["type"]
        assert set(region["value"][region["type"]]) <= {element.get("value") for element in control}
        assert (region["original_width"], region["original_height"], region["to_name"]) == (70, 30, "image")
        assert region["value"].keys() >= {"x", "y", "width"}
    box, first, second, hidden, _ = tasks[0]["annotations"][0]["result"]
    assert [first["parentID"], second["parentID"]] == [box["id"]] * 2
    assert (hidden["id"], hidden["value"]["choices"]) == (second["id"], ["hidden"])
    assert (first["value"]["x"], first["value"]["y"]) == (10, 20)


def test_label_studio_gives_the_names_in_their_order_where_the_interface_is_there(tmp_path: Path) -> None:
    to("label_studio", herd(tmp_path / "herd", points=3), tmp_path / "out")
    reading = read("label_studio", tmp_path / "out")
    assert (reading.labels, reading.landmarks) == (["goat", "cow"], POINTS)
    config = tmp_path / "out/label_config.xml"
    config.write_text("<View><RectangleLabels><Label value='cow'/></View>")
    with pytest.raises(InputError, match=r"label_config.xml: not XML: mismatched tag"):
        read("label_studio", tmp_path / "out")
    config.unlink()
    reading = read("label_studio", tmp_path / "out")
    assert (reading.labels, reading.landmarks) == (["cow", "goat"], ["left_eye", "tail"])


def test_choices_that_say_something_else_are_no_classes_of_boxes(tmp_path: Path) -> None:
    to("label_studio", herd(tmp_path / "herd"), tmp_path / "out")
    config = tmp_path / "out/label_config.xml"
    config.write_text(
        config.read_text().replace("</View>", '<Choices name="q"><Choice value="blurred"/></Choices></View>')
    )
    assert read("label_studio", tmp_path / "out").labels == ["goat", "cow"]


@pytest.mark.parametrize("form", ["cvat", "label_studio", "imagefolder"])
def test_classes_of_images_are_written(tmp_path: Path, form: str) -> None:
    birds = {
        f"{split}/{kind}/{n}.jpg": (9, 9) for split in ("train", "test") for kind in ("wren", "robin") for n in "12"
    }
    summary = convert(make(tmp_path / "birds", birds), tmp_path / "out", form)
    assert summary["images"] == {"in": 8, "out": 8, "refused": 0}
    reading = read(form, tmp_path / "out")
    assert sorted((str(c.split), str(c.label), c.name.rpartition("/")[2]) for c in reading.candidates) == sorted(
        (split, kind, f"{n}.jpg") for split, kind, n in (Path(name).with_suffix("").parts for name in birds)
    )
    assert "other_unit" not in notes(reading)


def arrow(feature: dict[str, Any]) -> pa.DataType:
    """The type that a feature of a README.md stands for; classes as they are written."""
    if "struct" in feature:
        return pa.struct([(field["name"], arrow(field)) for field in feature["struct"]])
    kind: Any = feature.get("list", feature.get("dtype"))
    if isinstance(kind, dict):
        kind = pa.string() if "class_label" in kind else arrow(kind)
    else:
        kind = {"float64": pa.float64(), "int64": pa.int64(), "string": pa.string()}[kind]
    return pa.list_(kind) if "list" in feature else kind


def head_of(folder: Path) -> dict[str, Any]:
    text = (folder / "README.md").read_text(encoding="utf-8")
    return dict(YAML(typ="safe").load(text.split("---\n")[1])["configs"][0])


def schema_of(out: Path) -> pa.Schema:
    image, *features = head_of(out)["features"]
    assert image == {"name": "image", "dtype": "image"}
    return pa.schema([("file_name", pa.string()), *((feature["name"], arrow(feature)) for feature in features)])


@pytest.mark.parametrize("points", [0, 3])
def test_all_splits_of_an_imagefolder_have_one_schema(tmp_path: Path, points: int) -> None:
    """`datasets` infers it of the rows of each split, and refuses a folder where it is not one."""
    whole = Object("cow", (0.0, 0.0, 1.0, 1.0), LANDMARKS[:points])  # whole numbers alone are still floats
    images = {"train/1.jpg": [Object("cow", THIRDS, LANDMARKS[:points])], "train/2.jpg": [], "val/3.jpg": [whole]}
    to("imagefolder", ours(tmp_path / "herd", images, points=points), tmp_path / "out")
    assert head_of(tmp_path / "out")["data_files"] == [
        {"split": "train", "path": "train/**"},
        {"split": "validation", "path": "val/**"},
    ]
    for split in ("train", "val"):
        table = pyarrow.json.read_json(tmp_path / f"out/{split}/metadata.jsonl")
        assert table.schema == schema_of(tmp_path / "out")
    assert not [rule for rule, _ in ledger(tmp_path / "out") if rule == "untyped"]


@pytest.mark.parametrize("points", [0, 3])
def test_a_split_without_objects_has_the_features_of_the_readme_and_is_named(tmp_path: Path, points: int) -> None:
    to("imagefolder", herd(tmp_path / "herd", points), tmp_path / "out")
    schema = schema_of(tmp_path / "out")
    strict = pyarrow.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="error")
    files = [tmp_path / f"out/{split}/metadata.jsonl" for split in ("train", "val")]
    tables = [pyarrow.json.read_json(file, parse_options=strict) for file in files]
    assert [table.schema for table in tables] == [schema, schema]
    found = pa.concat_tables(tables).to_pylist()
    assert [row["file_name"] for row in found] == ["1.jpg", "2.jpg", "3.jpg"]
    keys = ["bbox", "categories", "iscrowd", *(["keypoints"] if points else [])]
    assert all(list(row["objects"]) == keys and None not in row["objects"].values() for row in found)
    assert pyarrow.json.read_json(files[1]).schema != schema
    assert ledger(tmp_path / "out")["untyped", "objects"].startswith("validation: none there")


def test_pandas_reads_an_imagefolder(tmp_path: Path) -> None:
    source = herd(tmp_path / "herd", points=3)
    to("imagefolder", source, tmp_path / "out")
    table = pd.read_json(tmp_path / "out/train/metadata.jsonl", lines=True)
    assert list(table.columns) == ["file_name", "id", "width", "height", "objects"]
    objects = table.objects[0]
    expected = [(x, y, right - x, bottom - y) for x, y, right, bottom in map(as_pixels, (Object("", THIRDS),))]
    assert objects["bbox"] == [pytest.approx(expected[0]), [0, 0, 70, 30]]
    assert (objects["categories"], objects["iscrowd"]) == (["cow", "goat"], [0, 0])
    assert objects["keypoints"][0] == [[7, 6, 2], [pytest.approx(70 / 3), pytest.approx(20), 1], [0, 0, 0]]


def test_an_imagefolder_has_only_columns_that_say_something(tmp_path: Path) -> None:
    to("imagefolder", herd(tmp_path / "herd"), tmp_path / "boxes")
    convert(
        make(tmp_path / "birds", {"wren/1.jpg": (9, 9), "robin/1.jpg": (9, 9)}), tmp_path / "classes", "imagefolder"
    )
    for out, table, columns in (
        ("boxes", "train", ["image", "id", "width", "height", "objects"]),
        ("classes", "images", ["image", "id", "width", "height", "label"]),
    ):
        features = head_of(tmp_path / out)["features"]
        assert [feature["name"] for feature in features] == columns
        lines = (tmp_path / out / table / "metadata.jsonl").read_text().splitlines()
        assert all(list(json.loads(line)) == ["file_name", *columns[1:]] for line in lines)


def test_an_imagefolder_without_what_is_ours_is_read_by_its_readme(tmp_path: Path) -> None:
    to("imagefolder", herd(tmp_path / "herd", points=3), tmp_path / "out")
    whole = read("imagefolder", tmp_path / "out")
    (tmp_path / "out/dataset.json").unlink()
    reading = read("imagefolder", tmp_path / "out")
    assert reading.labels == whole.labels == ["goat", "cow"]
    assert (whole.landmarks, reading.landmarks) == (POINTS, ["point_0", "point_1", "point_2"])
    assert [c.objects for c in reading.candidates] == [c.objects for c in whole.candidates]


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("keypoints", [[[1, 2]], [[0, 0, 0]] * 3], "bad_landmarks"),
        ("keypoints", [[[1, 2, "x"]] * 3, [[0, 0, 0]] * 3], "bad_landmarks"),
        ("keypoints", [[[1, 2, 3]] * 3, [[0, 0, 0]] * 3], "bad_landmarks"),
        ("keypoints", [[[1, 2, 2]], [[0, 0, 0]] * 3], "bad_landmarks"),
        ("categories", ["sheep", "goat"], "unknown_class"),
        ("bbox", [[1, 2, 3], [0, 0, 70, 30]], "bad_box"),
    ],
)
def test_a_row_of_an_imagefolder_that_somebody_has_changed(tmp_path: Path, key: str, value: Any, rule: str) -> None:
    to("imagefolder", herd(tmp_path / "herd", points=3), tmp_path / "out")
    table = tmp_path / "out/train/metadata.jsonl"
    first, second = map(json.loads, table.read_text().splitlines())
    first["objects"][key] = value
    table.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    reading = read("imagefolder", tmp_path / "out")
    assert rows(reading) == [("train/1.jpg", rule, "dropped")]
    assert [[o.label for o in c.objects] for c in reading.candidates] == [["goat"], [], []]


@pytest.mark.parametrize("form", ["voc", "cvat", "label_studio"])
def test_a_character_that_no_xml_holds_is_refused_by_name(tmp_path: Path, form: str) -> None:
    for character, said in (
        ("\uffff", r"^herd: class 'cow\\uffff' has U\+FFFF, which no XML can hold; rename it$"),
        ("\x0b", r"dataset\.json: label 'cow\\x0b': expected a name on one line, without control characters$"),
    ):
        source = ours(tmp_path / "herd", {"1.jpg": [Object(f"cow{character}", THIRDS)]}, f"cow{character}")
        with pytest.raises(InputError, match=said):
            to(form, source, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    make(source, {"1\uffff.jpg": (70, 30)})
    (source / "1.jpg").unlink()
    write_dataset(source, Dataset("herd", ["cow"]))
    write_samples(source, [Sample("i", "1\uffff.jpg", 70, 30, objects=[Object("cow", (0.0, 0.0, 0.5, 0.5))])])
    to(form, source, tmp_path / "out")
    assert [len(c.objects) for c in read(form, tmp_path / "out").candidates] == [1]
    assert ledger(tmp_path / "out")["renamed", ""].endswith("1_.jpg: the name cannot be written as it is")


@pytest.mark.parametrize("form", ["voc", "cvat", "label_studio", "imagefolder"])
def test_text_that_is_markup_elsewhere_is_a_name_like_others(tmp_path: Path, form: str) -> None:
    of = ['<b>&"cow"</b>', "]]>", "'", "--- a: b", "{x: [1]}", "null", "0"]
    things = [Object(label, (0.1 * n, 0.0, 0.25, 0.5)) for n, label in enumerate(of)]
    source = ours(tmp_path / "herd", {"train/<a>&b#%20?.jpg": things, "train/c;d=e.jpg": []}, *of)
    labels = of if form == "imagefolder" else list(map(label_text, of))
    to(form, source, tmp_path / "out")
    back = read(form, tmp_path / "out").candidates
    assert {c.name.rpartition("/")[2]: [o.label for o in c.objects] for c in back} == {
        "<a>&b#%20?.jpg": labels,
        "c;d=e.jpg": [],
    }

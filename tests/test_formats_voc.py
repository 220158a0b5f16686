"""A VOCdevkit as it is unpacked: years with the same names, masks beside the images, parts of objects."""

from pathlib import Path

import pytest
from test_formats import make, read, rules, voc

from pipeline.datasets.formats.format import NoOptions
from pipeline.datasets.formats.reading import Reading

P = (100, 50)


def read_voc(root: Path, labels: Path | None = None) -> Reading:
    return read("voc", root, labels, NoOptions())


def devkit(root: Path, first_pixel: int = 1) -> Path:
    """Two years with the same four names: in 2007 cows, in 2012 dogs; the last one of 2007 has lost its image."""
    for year, label, split in (("VOC2007", "cow", "test"), ("VOC2012", "dog", "val")):
        names = ["000001", "000002", "000003", "000004"]
        box = (label, 11, 6, 60, 25) if year == "VOC2007" else (label, first_pixel, 6, 60, 25)
        make(root / year / "Annotations", {f"{name}.xml": voc(box, name=f"{name}.jpg") for name in names})
        images = names[:3] if year == "VOC2007" else names
        make(root / year / "JPEGImages", {f"{name}.jpg": P for name in images})
        lists = {"train.txt": "000001\n000002\n", f"{split}.txt": "000003\r\n000004\r\n", "trainval.txt": "000001\n"}
        make(root / year / "ImageSets/Main", {**lists, f"{label}_train.txt": "000003  1\n"})
    return root


@pytest.mark.parametrize("top", ["", "VOCdevkit"])
def test_each_year_has_its_own_images_and_lists(tmp_path: Path, top: str) -> None:
    devkit(tmp_path / top)
    reading = read_voc(tmp_path)
    prefix = f"{top}/" if top else ""
    assert {c.name.removeprefix(prefix): (c.objects[0].label, c.split) for c in reading.candidates} == {
        **{f"VOC2007/JPEGImages/00000{i}.jpg": ("cow", "train" if i < 3 else "test") for i in (1, 2, 3)},
        **{f"VOC2012/JPEGImages/00000{i}.jpg": ("dog", "train" if i < 3 else "val") for i in (1, 2, 3, 4)},
    }
    assert rules(reading) == [
        (f"{prefix}VOC2007/Annotations/000004.xml", "missing_file", "refused"),
        (f"{prefix}VOC2007/ImageSets/Main/test.txt", "not_here", "noted"),
    ]


def test_a_year_alone_and_the_first_pixel_of_each(tmp_path: Path) -> None:
    reading = read_voc(devkit(tmp_path, first_pixel=0))
    boxes = {c.name[:7]: c.objects[0].box for c in reading.candidates}
    assert boxes == {
        "VOC2007": pytest.approx((0.1, 0.1, 0.5, 0.4)),  # from 1
        "VOC2012": pytest.approx((0, 0.12, 0.6, 0.38)),  # from 0, as one of its corners is 0
    }
    alone = read_voc(tmp_path / "VOC2012")
    assert [c.split for c in alone.candidates] == ["train", "train", "val", "val"]


def test_masks_are_no_images_without_a_label(tmp_path: Path) -> None:
    files = {f"{folder}/2007_000032.png": P for folder in ("SegmentationClass", "SegmentationObject")}
    root = make(tmp_path, {"JPEGImages/2007_000032.jpg": P, "Annotations/2007_000032.xml": voc(), **files})
    reading = read_voc(root)
    assert [c.name for c in reading.candidates] == ["JPEGImages/2007_000032.jpg"]
    assert [(p.rule, p.found) for p in reading.problems] == [
        ("not_read", "2 masks, as SegmentationClass/2007_000032.png; not read")
    ]


def test_corners_and_sizes_as_floats_and_parts_of_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>0</xmin><ymin>2</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part>"
    xml = voc(("cow", "11.5", "6.25", "60.75", "25.0"), size=("100.0", "50.0")).replace("</object>", f"{part}</object>")
    (candidate,) = read_voc(make(tmp_path, {"a.jpg": P, "a.xml": xml})).candidates
    (o,) = candidate.objects
    assert (o.label, candidate.size) == ("cow", P)
    assert o.box == pytest.approx((0.115, 0.125, 0.4925, 0.375))  # from 0, as a part of it begins there


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ("cam1/1.jpg", None),  # which did not arrive
        ("cam2/1.jpg", "images/cam2/1.jpg"),
        ("cam2\\1.jpg", "images/cam2/1.jpg"),
        ("1.jpg", "images/cam2/1.jpg"),
        ("/home/anna/cam1/1.jpg", "images/cam2/1.jpg"),  # of another machine: the XML's own name
        ("cam1/2.jpg", "images/cam2/1.jpg"),  # a template that nobody changed
    ],
)
def test_an_xml_beside_no_image_means_the_folder_that_it_says(tmp_path: Path, said: str, found: str | None) -> None:
    box = "<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox>"
    xml = f"<annotation><filename>{said}</filename><object><name>cow</name>{box}</object></annotation>"
    root = make(tmp_path, {"images/cam1/3.jpg": (60, 40), "images/cam2/1.jpg": (60, 40), "1.xml": xml})
    reading = read_voc(root)
    assert [c.name for c in reading.candidates] == ([found] if found else [])
    assert ("1.xml", "missing_file", "refused") in rules(reading) or found


def test_objects_that_lie_elsewhere_in_the_xml_are_no_background(tmp_path: Path) -> None:
    whole = voc(("cow", 11, 6, 60, 25), name="a.jpg")
    nested = whole.replace("<object>", "<objects><object>").replace("</object>", "</object></objects>")
    large = whole.replace("object>", "Object>")
    both = whole.replace("</annotation>", "<more><object/></more></annotation>")
    texts = {"a": whole, "b": nested, "c": large, "d": both}
    texts = {name: text.replace("a.jpg", f"{name}.jpg") for name, text in texts.items()}
    reading = read_voc(make(tmp_path, {**{f"{n}.jpg": P for n in texts}, **{f"{n}.xml": t for n, t in texts.items()}}))
    assert {c.name: len(c.objects) for c in reading.candidates} == {"a.jpg": 1, "d.jpg": 1}
    assert [(p.file, p.rule, p.done) for p in reading.problems if p.rule == "bad_row"] == [
        ("b.jpg", "bad_row", "refused"),
        ("c.jpg", "bad_row", "refused"),
        ("d.jpg", "bad_row", "dropped"),
    ]
    assert reading.lost == 3


def test_a_list_of_a_split_in_capitals_is_one(tmp_path: Path) -> None:
    root = make(tmp_path, {f"{n}.jpg": P for n in "ab"})
    make(root, {f"{n}.xml": voc(("cow", 11, 6, 60, 25), name=f"{n}.jpg") for n in "ab"})
    make(root / "ImageSets/Main", {"train.txt": "a\n", "VAL.TXT": "b\n"})
    assert {c.name: c.split for c in read_voc(root).candidates} == {"a.jpg": "train", "b.jpg": "val"}


@pytest.mark.parametrize("target", ["nowhere.xml", "a.xml"])
def test_an_xml_that_is_a_link_to_nothing_has_a_row(tmp_path: Path, target: str) -> None:
    root = make(tmp_path, {"a.jpg": P, "b.jpg": P, "b.xml": voc(("cow", 11, 6, 60, 25), name="b.jpg")})
    (root / "a.xml").symlink_to(target)
    reading = read_voc(root)
    assert [(p.file, p.rule, p.found) for p in reading.problems if p.file == "a.xml"] == [
        ("a.xml", "bad_xml", "a link that leads to nothing; expected a file; the image is a.jpg")
    ]


def test_an_xml_that_says_the_image_of_another_folder_is_noted(tmp_path: Path) -> None:
    files = {f"cam{i}/1.jpg": P for i in (1, 2)} | {"cam2/1.xml": voc(("cow", 1, 1, 9, 9), name="cam1/1.jpg", size=P)}
    reading = read_voc(make(tmp_path, files))
    assert [c.name for c in reading.candidates] == ["cam2/1.jpg"]
    (row,) = [p for p in reading.problems if p.rule == "other_name"]
    assert row.found.endswith("as cam2/1.xml: taken for cam2/1.jpg, which is called like it, and not for cam1/1.jpg")

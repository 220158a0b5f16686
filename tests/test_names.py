"""A name in a label and a file on disk: what parts them and what does not, in each format; odd names."""

import csv
import json
import os
import random
import re
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import pytest
from PIL import Image
from pydantic import TypeAdapter

from pipeline.config.adding import add
from pipeline.core.errors import InputError, shown
from pipeline.core.sample import read_dataset, read_samples
from pipeline.datasets.formats import FORMATS, detect_format, image_index
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.points import LandmarkOptions
from pipeline.datasets.formats.reading import Candidate, Reading, give_ids
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import AnyDataset, DatasetParams
from stages import params as params_stage

NAMED = ("coco", "landmarks_csv")  # a label names its image; in the others a label file is called as its image is
FORMS = (*NAMED, "voc", "pts", "yolo")
COMPOSED, DECOMPOSED = (normalize(form, "Häuser 1.jpg") for form in ("NFC", "NFD"))


def picture(file: Path, seed: int | str = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    grid = Image.frombytes("L", (8, 6), random.Random(ascii(seed)).randbytes(48))
    grid.resize((40, 30)).convert("RGB").save(file, "JPEG")


def text(file: Path, content: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(content.encode())


def source(form: str, root: Path, pictures: list[str], labels: list[str]) -> Path:
    """`pictures` below images/, and an object for each of the names in `labels`."""
    for name in pictures:
        picture(root / "images" / name, name)
    if form == "coco":
        images = [{"id": i, "file_name": name, "width": 40, "height": 30} for i, name in enumerate(labels)]
        boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [4, 3, 20, 15]} for i in range(len(labels))]
        content = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cow"}]}
        text(root / "annotations/instances.json", json.dumps(content))
    elif form == "landmarks_csv":
        text(root / "points.csv", "".join(f'"{name}",4,3,20,15\n' for name in labels))
    elif form == "yolo":
        text(root / "classes.txt", "cow\n")
    for name in labels if form not in NAMED else ():
        stem = PurePosixPath(name).with_suffix("").as_posix()
        if form == "voc":
            box = "<xmin>5</xmin><ymin>4</ymin><xmax>24</xmax><ymax>18</ymax>"
            cow = f"<annotation><object><name>cow</name><bndbox>{box}</bndbox></object></annotation>"
            text(root / f"Annotations/{stem}.xml", cow)
        elif form == "pts":
            text(root / f"points/{stem}.pts", "version: 1\nn_points: 2\n{\n5 4\n21 16\n}\n")
        else:
            text(root / f"labels/{stem}.txt", "0 0.5 0.5 0.5 0.5\n")
    return root


def read(form: str, root: Path) -> Reading:
    options = LandmarkOptions(label="cow") if form in ("pts", "landmarks_csv") else None
    return FORMATS[form].read(root, root, options)


def labelled(reading: Reading) -> list[str]:
    return sorted(c.name for c in reading.candidates if c.objects)


def refused(reading: Reading) -> list[tuple[str, str]]:
    return [(p.rule, p.found) for p in reading.problems if p.done == "refused" and p.rule != "no_label"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("cam2", ["cam2/2.jpg", "cam2/deeper/2.jpg", "2.jpg"])
def test_another_folders_picture_is_another_picture(form, cam2, tmp_path):
    pictures = ["cam1/1.jpg", "cam2/1.jpg", cam2]
    reading = read(form, source(form, tmp_path, pictures, ["cam1/1.jpg", "cam1/2.jpg"]))
    assert labelled(reading) == ["images/cam1/1.jpg"]
    (rule, found) = refused(reading)[0]
    assert rule == ("no_image" if form == "yolo" else "missing_file")
    assert f"images/{cam2} has its name in another folder" in found


@pytest.mark.parametrize("form", FORMS)
def test_a_folder_that_did_not_arrive(form, tmp_path):
    reading = read(form, source(form, tmp_path, ["cam2/1.jpg", "cam3/2.jpg"], ["cam3/2.jpg", "cam1/1.jpg"]))
    assert labelled(reading) == ["images/cam3/2.jpg"]
    assert len(refused(reading)) == 1


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("on_disk", "label"),
    [
        (DECOMPOSED, COMPOSED),
        (COMPOSED, DECOMPOSED),
        (f"Zürich/{DECOMPOSED}", normalize("NFD", f"Zürich/{COMPOSED}")),
        ("IMG_1.JPG", "img_1.jpg"),
        ("a b.jpg", "a%20b.jpg"),
        ("a%20b.jpg", "a b.jpg"),
        ("50%.jpg", "50%.jpg"),
        ("100%25.jpg", "100%25.jpg"),
        ("ﬁsh.jpg", "fish.jpg"),
        ("a#1?.jpg", "a#1?.jpg"),
        (" a .b.jpg", " a .b.jpg"),
        ("v1.2.jpg", "v1.2.jpg"),
    ],
)
def test_one_text_in_another_form(form, on_disk, label, tmp_path):
    reading = read(form, source(form, tmp_path, [on_disk, "other.jpg"], [label]))
    assert labelled(reading) == [f"images/{on_disk}"]
    assert refused(reading) == []


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    "pair", [(COMPOSED, DECOMPOSED), ("a%20b.jpg", "a b.jpg"), ("A.jpg", "a.jpg"), ("x/%41.jpg", "x/A.jpg")]
)
def test_where_both_are_there_each_label_has_its_own(form, pair, tmp_path):
    root = source(form, tmp_path, list(pair), [pair[1]])
    assert labelled(read(form, root)) == [f"images/{pair[1]}"]
    both = read(form, source(form, root, list(pair), list(pair)))
    assert labelled(both) == sorted(f"images/{name}" for name in pair)


@pytest.mark.parametrize("form", FORMS)
def test_a_form_that_fits_two_pictures_is_unclear(form, tmp_path):
    reading = read(form, source(form, tmp_path, ["img.jpg", "IMG.jpg", "b.jpg"], ["b.jpg", "Img.jpg"]))
    assert labelled(reading) == (["images/b.jpg"])
    assert [rule for rule, _ in refused(reading)] == (["ambiguous_file"] * (2 if form == "yolo" else 1))


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize(
    ("on_disk", "label"),
    [
        ("cam1/1.jpg", "cam1\\1.jpg"),
        ("cam1/1.jpg", "./images/cam1/1.jpg"),
        ("cam1/1.jpg", "../images/cam1/1.jpg"),
        ("cam1/1.jpg", "C:\\herd\\images\\cam1\\1.jpg"),
        ("cam1/1.jpg", "/home/anna/herd/cam1/1.jpg"),
        ("cam1/1.jpg", "file:///home/anna/herd/images/cam1/1.jpg"),
        ("cam1/a b.jpg", "https://host:8080/upload/cam1/a%20b.jpg?size=full#top"),
        ("cam1/a b.jpg", "s3://bucket/cam1%2Fa%20b.jpg"),
        ("1.jpg", "/home/anna/herd/1.jpg"),
        ("train/1.jpg", "/home/anna/herd/1.jpg"),
        ("train/1.jpg", "img/1.jpg"),
        ("cam1/1.jpg", "1.jpg"),
        ("cam1/1.jpg", "1"),
        ("cam1/img.001.jpg", "cam1/img.001"),
        ("cam_01/1.jpg", "cam01/1.jpg"),
    ],
)
def test_a_path_of_another_machine(form, on_disk, label, tmp_path):
    reading = read(form, source(form, tmp_path, [on_disk, str(PurePosixPath(on_disk).with_name("other.jpg"))], [label]))
    assert labelled(reading) == [f"images/{on_disk}"]


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize("label", ["/home/anna/cam3/1.jpg", "val/1.jpg", "siteb/cam1/1.jpg", "cam2/cam1.jpg"])
def test_a_path_that_does_not_fit(form, label, tmp_path):
    pictures = ["train/1.jpg", "sitea/cam1/1.jpg", "cam1.jpg", "cam2/1.jpg", "a.jpg"]
    assert labelled(read(form, source(form, tmp_path, pictures, ["a.jpg", label]))) == ["images/a.jpg"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("there", "why"),
    [("b.heic", ".heic is not read"), ("b.CR2", ".cr2 is not read"), ("b.jpg.txt", ".txt is not read")],
)
def test_a_suffix_that_is_not_read_is_the_reason(form, there, why, tmp_path):
    root = source(form, tmp_path, ["a.jpg"], ["a.jpg", "b.jpg"])
    text(root / "images" / there, "")
    assert any(f"images/{there} is there, but {why}" in found for _, found in refused(read(form, root)))


@pytest.mark.parametrize("form", NAMED)
def test_another_suffix_is_said(form, tmp_path):
    reading = read(form, source(form, tmp_path, ["a.jpg", "b.png"], ["a.jpg", "b.jpg"]))
    assert refused(reading) == [("missing_file", "no such image; images/b.png has its name with another suffix")]


@pytest.mark.parametrize("form", NAMED)
def test_pictures_below_the_label_files_own_folder_come_first(form, tmp_path):
    for site, names in (("site_a", ["1.jpg", "2.jpg"]), ("site_b", ["1.jpg"])):
        source(form, tmp_path / site, names, ["1.jpg", "images/2.jpg"])
    reading = read(form, tmp_path)
    assert labelled(reading) == ["site_a/images/1.jpg", "site_a/images/2.jpg", "site_b/images/1.jpg"]
    assert [rule for rule, _ in refused(reading)] == ["missing_file"]


@pytest.mark.parametrize("form", NAMED)
@pytest.mark.parametrize(
    ("files", "folders"),
    [
        (("train", "val"), ("train", "val")),
        (("instances_train2017", "instances_val2017"), ("train2017", "val2017")),
        (("cam1", "cam2"), ("cam1", "cam2")),
        (("train", "validation"), ("images/train", "images/val")),
    ],
)
def test_a_bare_name_stays_in_the_folder_that_its_label_file_is_called_like(form, files, folders, tmp_path):
    source(form, tmp_path, [], ["1.jpg", "2.jpg"])
    labels = next(f for f in tmp_path.rglob("*") if f.is_file())
    for name in files:
        text(labels.with_name(f"{name}{labels.suffix}"), labels.read_text())
    labels.unlink()
    for name in (f"{folders[0]}/1.jpg", f"{folders[0]}/2.jpg", f"{folders[1]}/1.jpg"):
        picture(tmp_path / name, name)
    reading = read(form, tmp_path)
    assert labelled(reading) == sorted(f"{folders[i]}/{n}.jpg" for i, n in ((0, 1), (0, 2), (1, 1)))
    assert [rule for rule, _ in refused(reading)] == ["missing_file"]


@pytest.mark.parametrize("form", NAMED)
def test_pictures_of_all_splits_in_one_folder(form, tmp_path):
    """As where test has no labels: val is a part of the folder train."""
    source(form, tmp_path, [], ["1.jpg"])
    labels = next(f for f in tmp_path.rglob("*") if f.is_file())
    text(labels.with_name(f"val{labels.suffix}"), labels.read_text().replace("1.jpg", "2.jpg"))
    labels.rename(labels.with_name(f"train{labels.suffix}"))
    for name in ("train/1.jpg", "train/2.jpg", "test/3.jpg"):
        picture(tmp_path / name, name)
    reading = read(form, tmp_path)
    assert {c.name: c.split for c in reading.candidates} == {"train/1.jpg": "train", "train/2.jpg": "val"}


@pytest.mark.parametrize("form", NAMED)
def test_a_picture_among_the_annotations_says_nothing(form, tmp_path):
    root = source(form, tmp_path, ["1.jpg"], ["1.jpg"])
    labels = next(f for f in root.rglob("*") if f.is_file() and f.suffix != ".jpg")
    text(root / "annotations" / labels.name, labels.read_text())
    if labels.parent.name != "annotations":
        labels.unlink()
    picture(root / "annotations/preview.jpg")
    assert labelled(read(form, root)) == ["images/1.jpg"]


@pytest.mark.parametrize(
    ("label", "folder"), [("/x/C{}/frame.jpg", ""), ("/x/D{}/frame.jpg", ""), ("FRAME.jpg", "c{}"), ("FRAME", "")]
)
def test_a_name_that_many_folders_have_costs_as_much_per_label(label, folder, tmp_path, monkeypatch):
    asked = []
    form = image_index.one_form
    monkeypatch.setattr(image_index, "one_form", lambda name: asked.append(name) or form(name))
    costs = []
    for count in (50, 100):
        for i in range(count):
            text(tmp_path / f"c{i}/frame.jpg", "")
        asked.clear()
        images = ImageIndex(tmp_path)
        for i in range(count):
            found = images.find(label.format(i), folder.format(i))
            assert len(found) == (1 if "C" in label or folder else 0 if "D" in label else count)
            images.fault(label.format(i), found)
        costs.append(len(asked))
    assert costs[1] < 2.2 * costs[0]


def test_one_label_file_for_two_pictures(tmp_path):
    reading = read("yolo", source("yolo", tmp_path, ["a.jpg", "a.png", "b.jpg"], ["a.jpg", "b.jpg"]))
    assert labelled(reading) == ["images/b.jpg"]
    assert refused(reading) == [("ambiguous_file", "labels/a.txt fits 2 images; expected one")] * 2


# --- classes


def test_class_folders_in_two_forms_are_one_class(tmp_path):
    for split, form in (("train", "NFC"), ("test", "NFD")):
        for label in ("Müll", "Grün"):
            picture(tmp_path / split / normalize(form, label) / "1.jpg")
    reading = FORMATS["folder"].read(tmp_path, tmp_path, None)
    assert reading.labels == ["Grün", "Müll"]
    assert {c.label for c in reading.candidates} == {"Grün", "Müll"}


def test_class_folders_of_clips_in_two_forms_are_one_class(tmp_path):
    for name in (normalize("NFC", "Wählen/a.avi"), normalize("NFD", "Wählen/b.avi"), "Run/c.avi"):
        text(tmp_path / name, "")
    text(tmp_path / "ucfTrainTestlist/trainlist01.txt", normalize("NFC", "Wählen/a.avi 1\nWählen/b.avi 1\n"))
    text(tmp_path / "ucfTrainTestlist/testlist01.txt", "Run/c.avi\n")
    options = FORMATS["ucf101"].Options(frames=2)
    reading = FORMATS["ucf101"].read(tmp_path, tmp_path, options)
    assert reading.labels == ["Run", "Wählen"]
    assert [(c.label, c.split) for c in reading.candidates] == [("Run", "test"), *[("Wählen", "train")] * 2]


def block(path: Path, form: str = "folder") -> DatasetParams:
    return TypeAdapter(AnyDataset).validate_python({"format": form, "path": str(path), "labels": str(path)})


def ledger(folder: Path) -> list[dict[str, str]]:
    with (folder / "ledger.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_classes_that_differ_in_case_or_blanks_are_noted(tmp_path):
    for i, label in enumerate(("cat", "Cat", "polar bear", "PolarBear", "dog")):
        for n in range(3):
            picture(tmp_path / "in" / label / f"{n}.jpg", 10 * i + n)
    ingest("pets", block(tmp_path / "in"), tmp_path / "data", tmp_path / "reports")
    rows = [row["found"] for row in ledger(tmp_path / "reports") if row["rule"] == "alike_classes"]
    assert rows == [
        "'Cat' and 'cat' differ only in case or blanks; kept apart",
        "'PolarBear' and 'polar bear' differ only in case or blanks; kept apart",
    ]


# --- names that are not UTF-8, and others that nobody expects


@pytest.fixture
def latin1(tmp_path):
    """Two class folders, one of which has a name that is not UTF-8, as has a picture of the other."""
    for folder, names in ((b"caf\xe9", [b"%d.jpg" % i for i in range(6)]), (b"bar", [b"\xfc.jpg", b"1.jpg", b"2.jpg"])):
        for i, name in enumerate(names):
            picture(tmp_path / "in" / os.fsdecode(folder) / os.fsdecode(name), i + len(names))
    return tmp_path / "in"


def test_names_that_are_not_utf8_are_named_and_the_rest_goes_on(latin1, tmp_path):
    summary = ingest("places", block(latin1), tmp_path / "data", tmp_path / "reports")
    assert summary["kept"] == 9
    assert read_dataset(tmp_path / "data").labels == ["bar", "caf\\xe9"]
    rows = [(row["file"], row["found"]) for row in ledger(tmp_path / "reports") if row["rule"] == "bad_name"]
    advice = "the name is not UTF-8, and DVC cannot track it: rename it"
    assert rows == [("bar/\\xfc.jpg", f"{advice} (images: 1)"), ("caf\\xe9", f"{advice} (images: 6)")]


def test_add_and_the_chain_name_what_dvc_cannot_track(latin1, tmp_path, monkeypatch, capsys):
    project = tmp_path / "params.yaml"
    project.write_text("datasets: {}\nruns: {}\n")
    with pytest.raises(InputError, match=r"caf\\xe9 and 1 more|bar/\\xfc.jpg and 1 more"):
        add(project, "places", latin1, "classify", None, None, None, None, [], from_scratch=True)
    assert project.read_text() == "datasets: {}\nruns: {}\n"
    project.write_text(f"datasets:\n  places: {{format: folder, path: {latin1}, labels: {latin1}}}\nruns: {{}}\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match="rename it"):
        params_stage.params("")


@pytest.mark.parametrize("form", FORMS)
def test_names_that_are_not_utf8_in_each_format(form, tmp_path):
    name = os.fsdecode(b"caf\xe9.jpg")
    root = source(form, tmp_path / "in", [name, *(f"{i}.jpg" for i in range(9))], [f"{i}.jpg" for i in range(9)])
    assert detect_format(root)[0] == form
    for problem in read(form, root).problems:
        shown(problem.file + problem.found).encode()


ODD = [
    *("two\nlines", "tab\there", 'quo"te', "it's", " leading", "trailing.", "trailing ", "a,b", "a;b", "-x", "=1+1"),
    *("#hash", "50%", "why?", "*", "[a]", "{b}", "a&b", "日" * 80, "x" * 251, "👩‍🌾", "\u202e", "con", "a.b.c"),
]


def test_odd_names_reach_the_other_end(tmp_path):
    for i, name in enumerate(ODD):
        picture(tmp_path / "in" / ("cat" if i % 2 else "dog") / f"{name}.jpg", i)
    summary = ingest("odd", block(tmp_path / "in"), tmp_path / "data", tmp_path / "reports")
    assert (summary["kept"], summary["by_rule"].get("unreadable")) == (len(ODD), None)
    ids = [s.id for split in ("train", "val", "test") for s in read_samples(tmp_path / "data" / split)]
    assert len(set(ids)) == len(ODD)
    assert all(re.fullmatch(r"[\w.-]+", i) and len(i.encode()) < 120 for i in ids)


@pytest.mark.parametrize("form", NAMED)
def test_odd_names_in_labels(form, tmp_path):
    names = [f"{name}.jpg" for name in ODD if not set(name) & set('"\n\t')]
    reading = read(form, source(form, tmp_path, names, names))
    assert len(labelled(reading)) == len(names)


def test_ids_of_names_in_other_scripts_are_names_of_files(tmp_path):
    names = ["日" * 60 + "/" + "本" * 60, "日" * 60 + "/" + "本" * 61]
    candidates = [Candidate(tmp_path, name) for name in names]
    give_ids(candidates, names)
    assert len({c.id for c in candidates}) == 2
    for candidate in candidates:
        (tmp_path / f"{candidate.id}-00012.jpg").touch()


def test_a_class_with_a_line_break_stays_on_one_line(tmp_path):
    for name in ("two\nlines/1.jpg", "one/1.jpg"):
        picture(tmp_path / name)
    assert FORMATS["folder"].read(tmp_path, tmp_path, None).labels == ["one", "two\\nlines"]


def test_test_dev_is_one_split(tmp_path):
    """Its images are those of a label file of the test split, not of one called val and test."""
    for folder in ("train2017", "test-dev2017"):
        picture(tmp_path / folder / "1.jpg", folder)
    index = ImageIndex(tmp_path)
    assert index.find("1.jpg", called="image_info_test2017") == ["test-dev2017/1.jpg"]
    assert index.find("1.jpg", called="image_info_test-dev2017") == ["test-dev2017/1.jpg"]
    assert index.find("test-dev2017/1.jpg") == ["test-dev2017/1.jpg"]

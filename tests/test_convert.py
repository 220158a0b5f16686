"""`pocketlens convert`: what is copied, what is refused, what the ledger says of both."""

import csv
import errno
import json
import os
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from joblib import cpu_count
from PIL import Image
from test_ingest import params

from pipeline import cli
from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.convert.convert import convert
from pipeline.datasets.convert.copying import in_threads
from pipeline.datasets.formats import detect_format
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.video_write import ClipWriter
from tests.label_files import make, read

COWS = {
    "data.yaml": "names: [cow, goat]\n",
    "images/train/1.jpg": (40, 20),
    "images/train/field/2.png": (40, 20),
    "images/val/1.jpg": (40, 20),
    "labels/train/1.txt": "0 0.5 0.5 0.2 0.4\n1 0.25 0.25 0.5 0.5\n",
    "labels/train/field/2.txt": "0 0.5 0.5 0.2 0.4\n0 0.5 0.5 0 0.4\n",
}


def ledger(folder: Path) -> list[dict[str, str]]:
    with (folder / "export_ledger.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_set_is_written_with_its_images_as_they_are(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", COWS)
    before = contents(herd)
    summary = convert(herd, tmp_path / "out", "coco")
    assert contents(herd) == before
    assert contents(tmp_path / "out").keys() == {
        *("annotations/instances_train.json", "annotations/instances_val.json", "export_ledger.csv"),
        *("train/1.jpg", "train/field/2.png", "val/1.jpg"),
    }
    for name in ("train/1.jpg", "train/field/2.png", "val/1.jpg"):
        assert (tmp_path / "out" / name).read_bytes() == before[f"images/{name}"]
    assert summary["images"] == {"in": 3, "out": 3, "refused": 0}
    assert summary["objects"] == {"in": 4, "out": 3, "dropped": 1}
    assert summary["splits"] == {"train": 2, "val": 1}
    assert [row for row in ledger(tmp_path / "out") if row["rule"] == "box_zero_area"] == [
        {
            "file": "images/train/field/2.png",
            "key": "labels/train/field/2.txt:2",
            "rule": "box_zero_area",
            "found": "width 0, height 0.4 of the image's",
            "done": "dropped",
        }
    ]


def test_broken_images_are_refused_and_counted(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", {**COWS, "images/train/3.jpg": "no image", "labels/train/3.txt": "0 0.5 0.5 1 1"})
    summary = convert(herd, tmp_path / "out", "coco")
    assert summary["images"] == {"in": 4, "out": 3, "refused": 1}
    assert summary["objects"] == {"in": 5, "out": 3, "dropped": 2}
    assert summary["by_rule"]["unreadable"] == 1
    assert not (tmp_path / "out/train/3.jpg").exists()


def odd_voc(root: Path) -> Path:
    """Two images, one that is broken, one that is missing, one in a file that no format reads; a box in each."""
    box = "<object><name>cow</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>"
    label = f"<annotation><size><width>40</width><height>20</height></size>{box}</annotation>"
    make(root, {f"{i}.xml": label for i in range(5)} | {"0.jpg": (40, 20), "1.jpg": (40, 20), "2.jpg": "no image"})
    return make(root, {"4.heic": "no image"})


def odd_folder(root: Path) -> Path:
    """Images that are there, and rows of some that are not, in two splits; of three boxes one is twice, one flat."""
    make(root, {"train/1.jpg": (60, 40), "val/2.jpg": (40, 20), "val/notes.md": "of last summer"})
    things = {"bbox": [[1, 1, 9, 9], [1, 1, 9, 9], [1, 1, 9, 0]], "categories": ["cow"] * 3}
    rows = "".join(json.dumps({"file_name": f"{i}.jpg", "objects": things}) + "\n" for i in (1, 2, 2))
    return make(root, {f"{split}/metadata.jsonl": rows for split in ("train", "val")})


@pytest.mark.parametrize(("form", "odd"), [("voc", odd_voc), ("imagefolder", odd_folder)])
def test_it_counts_and_tells_what_ingest_does(tmp_path: Path, form: str, odd: Callable[[Path], Path]) -> None:
    herd = odd(tmp_path / "herd")
    summary = convert(herd, tmp_path / "out", "coco", form)
    block = params(form, herd, refuse_over=1.0, near_duplicates="off", other_units="note")
    try:
        ingest("herd", block, tmp_path / "data", tmp_path / "reports")
    except InputError as error:  # of so few nothing can be learnt; the reports are there
        assert "no image in train" in str(error)
    known = read_json(tmp_path / "reports/summary.json")
    assert (summary["images"]["in"], summary["objects"]["in"]) == (known["seen"], known["objects"]["seen"])
    assert summary["objects"] == dict(zip(("in", "out", "dropped"), known["objects"].values(), strict=True))
    own = ("empty_split", "few_images", "unused_label")
    assert {rule: n for rule, n in known["by_rule"].items() if rule not in own}.items() <= summary["by_rule"].items()


def test_the_command_says_it_in_a_line_and_in_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    herd = make(tmp_path / "herd", COWS)
    cli.main(["convert", str(herd), str(tmp_path / "out"), "--to", "coco"])
    assert capsys.readouterr().out == (
        f"{herd} (yolo) -> {tmp_path / 'out'} (coco): images 3 = 3 + 0 refused, objects 4 = 3 + 1 dropped; "
        f"train 2, val 1; {len(ledger(tmp_path / 'out'))} rows in export_ledger.csv\n"
    )
    cli.main(["convert", str(herd), str(tmp_path / "again"), "--to", "coco", "--json"])
    assert json.loads(capsys.readouterr().out)["images"] == {"in": 3, "out": 3, "refused": 0}
    assert contents(tmp_path / "out") == contents(tmp_path / "again")


@pytest.mark.parametrize(
    ("out", "found"),
    [
        ("herd/out", "out: it and "),
        (".", "lie in each other"),
        ("full", "full: not empty (note.txt is in it); expected a new or empty folder"),
        ("note", "note: a file; expected a new or empty folder"),
    ],
)
def test_a_place_that_will_not_do_is_refused_before_anything_is_written(tmp_path: Path, out: str, found: str) -> None:
    herd = make(tmp_path / "herd", COWS)
    make(tmp_path, {"full/note.txt": "mine", "note": "mine"})
    before = contents(tmp_path)
    with pytest.raises(InputError) as error:
        convert(herd, tmp_path / out, "coco")
    assert found in str(error.value)
    assert contents(tmp_path) == before


def test_the_folder_that_it_runs_in_is_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    herd = make(tmp_path / "herd", COWS)
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for out in (".", "../here"):
        with pytest.raises(InputError, match="the folder that this runs in"):
            convert(herd, Path(out), "coco")


def test_an_empty_folder_is_filled_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", {**COWS, "images/train/1.jpg": "", "images/train/field/2.png": ""})
    (tmp_path / "out").mkdir()
    (herd / "images/val/1.jpg").write_bytes(b"")
    said = r"nothing usable in it: 3 empty_file; the first empty_file: images/train/1\.jpg: "
    with pytest.raises(InputError, match=said):
        convert(herd, tmp_path / "out", "coco")
    assert list((tmp_path / "out").iterdir()) == []
    Image.new("RGB", (40, 20)).save(herd / "images/val/1.jpg")
    convert(herd, tmp_path / "out", "coco")
    assert (tmp_path / "out/val/1.jpg").is_file()
    assert {p.name for p in tmp_path.iterdir()} == {"herd", "out"}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ({"to": "cocoo"}, "--to cocoo: no such format; did you mean 'coco'?"),
        ({"to": "folder"}, "--to folder: folder is only read"),
        ({"to": "coco", "format": "yollo"}, "--format yollo: no such format; did you mean 'yolo'?"),
        ({"to": "coco", "options": {"frames": 3}}, "options.frames: yolo has no such option"),
    ],
)
def test_what_is_not_there_is_named(tmp_path: Path, arguments: dict[str, Any], found: str) -> None:
    herd = make(tmp_path / "herd", COWS)
    with pytest.raises(InputError) as error:
        convert(herd, tmp_path / "out", **arguments)
    assert found in str(error.value)


def test_classes_of_images_are_no_boxes(tmp_path: Path) -> None:
    birds = make(tmp_path / "birds", {"robin/1.jpg": (9, 9), "wren/1.jpg": (9, 9)})
    with pytest.raises(InputError, match="birds: has classes of images, but coco holds boxes and landmarks"):
        convert(birds, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()


def test_names_that_would_be_one_are_told_apart(tmp_path: Path) -> None:
    files = {"a/1.jpg": (9, 9), "b/1.jpg": (9, 9), "b/1.png": (9, 9), "b/test/2.jpg": (9, 9), "B/1.jpg": (9, 9)}
    images = [{"id": i, "file_name": name, "width": 9, "height": 9} for i, name in enumerate(files)]
    objects = [{"id": i, "image_id": i, "category_id": 1, "bbox": [i, 1, 2, 3]} for i in range(len(files))]
    coco = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cow"}]}
    herd = make(tmp_path / "herd", {**files, "cows.json": coco})
    convert(herd, tmp_path / "out", "coco")
    written = {row["file"]: row["found"].split(": ")[0] for row in ledger(tmp_path / "out") if row["rule"] == "renamed"}
    back = {c.name: c.objects[0].box for c in read("coco", tmp_path / "out").candidates}
    assert len(back) == len(files)
    for name, (x, *_) in ((c.name, c.objects[0].box) for c in read("coco", herd).candidates):
        place = written.get(name, f"written as images/{name}").removeprefix("written as ")
        assert back[place][0] == pytest.approx(x, abs=1e-9), name
    assert len({name.casefold() for name in back}) == len(back)


def test_what_the_target_has_no_place_for_is_in_the_ledger(tmp_path: Path) -> None:
    points = [Landmark(0.5, 0.5, 1), Landmark(0.25, 0.5, 2)]
    samples = [
        Sample("one", "train/1.png", 40, 20, "train", "g1", "walk", "field", objects=[
            Object("cow", (0.0, 0.0, 0.5, 0.5), points),
            Object("cow", (0.0, 0.0, 1.0, 1.0), points, crowd=True),
        ]),
        Sample("two", "val/2.png", 40, 20, "val", None, None, "field"),
    ]  # fmt: skip
    source = tmp_path / "herd"
    make(source, {sample.file_name: (40, 20) for sample in samples})
    write_dataset(source, Dataset("herd", ["cow", "field"], ["head", "tail"], [(0, 1)], [(0, 1)]))
    write_samples(source, samples)
    convert(source, tmp_path / "out", "yolo")
    said = {(row["key"], row["rule"]): row["found"] for row in ledger(tmp_path / "out")}
    assert said == {
        ("image_labels", "not_kept"): "classes of images: 2, the first in train/1.png",
        ("crowds", "not_kept"): "marks of a crowd: 1, the first in train/1.png",
        ("groups", "not_kept"): "groups of images: 1, the first in train/1.png",
        ("clips", "not_kept"): "clips of images: 1, the first in train/1.png",
        ("ids", "not_kept"): "ids of images: 2, the first in train/1.png",
        ("skeleton", "not_kept"): "lines between landmarks: head and tail",
    }
    convert(source, tmp_path / "coco", "coco")
    found = {row["key"]: row["found"] for row in ledger(tmp_path / "coco")}
    assert found.keys() == {"image_labels", "groups", "clips", "ids", "pairs"}
    assert found["pairs"] == "left-right pairs of landmarks that their names do not say: head and tail"
    convert(source, tmp_path / "voc", "voc")  # which has no landmarks, whatever their names say
    found = {row["key"]: row["found"] for row in ledger(tmp_path / "voc")}
    assert found["pairs"] == "left-right pairs of landmarks: head and tail"


def test_frames_of_clips_are_written_as_images(tmp_path: Path) -> None:
    clip = tmp_path / "people/run/v_run_g01_c01.avi"
    clip.parent.mkdir(parents=True)
    writer = ClipWriter(clip, Fraction(10))
    for _ in range(12):
        writer.add(Image.new("RGB", (64, 48), (200, 90, 30)))
    writer.close()
    boxes = [[8, 0, 16, 24]] * 14  # of two frames that are not there
    track = {"start_frame": 0, "end_frame": 14, "boxes_xywh": boxes}
    make(tmp_path, {"people/jump/v_jump_g02_c01.avi": "no clip", "boxes.json": {
        "v_run_g01_c01": {"tracks": [track]}, "v_jump_g02_c01": {"tracks": [track]},
    }})  # fmt: skip
    source, labels = tmp_path / "people", tmp_path / "boxes.json"
    summary = convert(source, tmp_path / "out", "coco", "ucf24", labels, {"frames": 3})
    assert summary["images"] == {"in": 4, "out": 3, "refused": 1}
    assert summary["objects"] == {"in": 6, "out": 3, "dropped": 3}, "of three frames of the clip that does not decode"
    back = read("coco", tmp_path / "out").candidates
    assert [c.name for c in back] == [f"images/run/v_run_g01_c01-{place:05d}.jpg" for place in (2, 6, 10)]
    assert [c.objects[0].box for c in back] == [(0.125, 0.0, 0.25, 0.5)] * 3
    with Image.open(back[0].file) as image:
        assert image.size == (64, 48)
    assert [row["found"] for row in ledger(tmp_path / "out") if row["rule"] == "written_anew"] == [
        "frames of clips, written as JPEG: 3, the first in run/v_run_g01_c01.avi"
    ]
    said = [row["found"] for row in ledger(tmp_path / "out") if row["rule"] == "damaged_clip"]
    assert said == ["2 labelled frames, from 12 on, are behind its end"]


def test_an_image_that_exif_turns_keeps_its_bytes_and_its_labels_are_of_the_upright_one(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", {"data.yaml": "names: [cow]", "1.txt": "0 0.25 0.5 0.5 1", "2.txt": ""})
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20)).save(herd / "1.jpg", exif=exif)
    Image.new("RGB", (40, 20)).save(herd / "2.jpg")
    convert(herd, tmp_path / "out", "coco")
    assert (tmp_path / "out/images/1.jpg").read_bytes() == (herd / "1.jpg").read_bytes()
    rows = json.loads((tmp_path / "out/annotations/instances.json").read_text())
    assert [(i["width"], i["height"]) for i in rows["images"]] == [(20, 40), (40, 20)]
    assert rows["annotations"][0]["bbox"] == [0, 0, 10, 40]
    assert "turned_by_exif" in {row["rule"] for row in ledger(tmp_path / "out")}


def test_images_that_the_target_cannot_name_are_written_as_png(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", {"data.yaml": "names: [cow]", "1.txt": "0 0.25 0.5 0.5 1", "1.gif": ""})
    Image.new("RGB", (40, 20), (200, 0, 0)).save(herd / "1.gif")
    summary = convert(herd, tmp_path / "out", "yolo")
    assert summary["by_rule"]["written_anew"] == 1
    with Image.open(tmp_path / "out/images/1.png") as image:
        assert (image.format, image.size, image.getpixel((0, 0))) == ("PNG", (40, 20), (200, 0, 0))
    convert(herd, tmp_path / "coco", "coco")
    assert (tmp_path / "coco/images/1.gif").read_bytes() == (herd / "1.gif").read_bytes()


def test_crops_are_written_as_images(tmp_path: Path) -> None:
    source = tmp_path / "herd"
    for split in ("train", "val", "test"):
        make(source, {f"{split}/1.png": (80, 60)})
        cow = Object("cow", (0, 0, 0.5, 1))
        write_samples(source / split, [Sample(f"{split}1", "1.png", 80, 60, split, objects=[cow])])
    write_dataset(source, Dataset("herd", ["cow"]))
    summary = convert(source, tmp_path / "out", "coco", "crops", options={"backgrounds": 1})
    assert summary["splits"] == {"train": 2, "val": 2, "test": 2}
    found = {c.name: c for c in read("coco", tmp_path / "out").candidates}
    crop = found["train/train1-0.jpg"]
    assert crop.size == (72, 72)
    assert crop.objects[0].label == "cow"


@pytest.mark.parametrize("to", ["coco", "yolo"])
def test_names_that_are_not_utf8_are_written_as_what_is(tmp_path: Path, to: str) -> None:
    herd = make(tmp_path / "herd", {"data.yaml": "names: [cow]", "1.jpg": (9, 9), "1.txt": "0 0.5 0.5 1 1"})
    for suffix in (".jpg", ".txt"):
        (herd / f"1{suffix}").rename(herd / (os.fsdecode(b"caf\xe9") + suffix))
    convert(herd, tmp_path / "out", to)
    assert (tmp_path / "out/images/caf_.jpg").is_file()
    assert ("caf\\xe9.jpg", "renamed") in {(row["file"], row["rule"]) for row in ledger(tmp_path / "out")}
    assert [len(c.objects) for c in read(to, tmp_path / "out").candidates] == [1]


def test_images_without_a_split_beside_others_are_train_as_for_ingest(tmp_path: Path) -> None:
    samples = [Sample("a", "1.png", 9, 9, "val"), Sample("b", "2.png", 9, 9, objects=[Object("cow", (0, 0, 1, 1))])]
    herd = make(tmp_path / "herd", {sample.file_name: (9, 9) for sample in samples})
    write_dataset(herd, Dataset("herd", ["cow"]))
    write_samples(herd, samples)
    assert convert(herd, tmp_path / "out", "coco")["splits"] == {"train": 1, "val": 1}
    assert "no_split" in {row["rule"] for row in ledger(tmp_path / "out")}


def test_labels_in_another_unit_are_said_in_the_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    boxes = [{"id": i, "image_id": 1, "category_id": 1, "bbox": [0.1, 0.1, 0.2, 0.1 * i]} for i in (1, 2)]
    coco = {"images": [{"id": 1, "file_name": "1.jpg"}], "annotations": boxes, "categories": [{"id": 1, "name": "cow"}]}
    herd = make(tmp_path / "herd", {"1.jpg": (40, 20), "cows.json": coco})
    cli.main(["convert", str(herd), str(tmp_path / "out"), "--to", "yolo"])
    assert "; all 2 boxes are below two pixels, such as" in capsys.readouterr().out
    assert "other_unit" in {row["rule"] for row in ledger(tmp_path / "out")}


def test_what_is_written_is_recognized(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", COWS)
    for to in ("coco", "yolo"):
        convert(herd, tmp_path / to, to)
        assert detect_format(tmp_path / to)[0] == to


def test_pairs_that_share_a_landmark_are_no_flip(tmp_path: Path) -> None:
    points = [Landmark(0.5, 0.5)] * 3
    samples = [Sample("a", "1.png", 9, 9, objects=[Object("cow", (0, 0, 1, 1), points)])]
    herd = make(tmp_path / "herd", {"1.png": (9, 9)})
    write_dataset(herd, Dataset("herd", ["cow"], ["a", "b", "c"], [(0, 1), (0, 2)]))
    write_samples(herd, samples)
    convert(herd, tmp_path / "out", "yolo")
    assert read("yolo", tmp_path / "out").pairs == [(0, 1)]
    assert ("pairs", "not_kept") in {(row["key"], row["rule"]) for row in ledger(tmp_path / "out")}


def test_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    herd = make(tmp_path / "herd", COWS)
    copy = shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if source.name == "2.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        copy(source, target)

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(SystemExit):
        cli.main(["convert", str(herd), str(tmp_path / "out"), "--to", "coco"])
    assert f"error: {tmp_path / 'out'}: No space left on device" in capsys.readouterr().err
    assert {p.name for p in tmp_path.iterdir()} == {"herd"}


def test_only_a_few_images_are_decoded_ahead() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        return number

    many = in_threads(work, range(10_000))
    assert next(many) == 0
    assert len(begun) <= 2 * cpu_count() + 1
    many.close()
    assert len(begun) <= 2 * cpu_count() + 1


def test_of_one_split_alone_a_bare_name_is_the_image_in_its_folder(tmp_path: Path) -> None:
    names = ("1.png", "1.jpg", "a/1.png")
    samples = [Sample(f"i{i}", f"train/{name}", 9, 9, "train") for i, name in enumerate(names)]
    samples[0].objects = [Object("cow", (0, 0, 1, 1))]
    herd = make(tmp_path / "herd", {sample.file_name: (9, 9) for sample in samples})
    write_dataset(herd, Dataset("herd", ["cow"]))
    write_samples(herd, samples)
    convert(herd, tmp_path / "out", "coco")
    back = {c.name: len(c.objects) for c in read("coco", tmp_path / "out").candidates}
    assert back == {"train/1.png": 1, "train/1.jpg": 0, "train/a/1.png": 0}

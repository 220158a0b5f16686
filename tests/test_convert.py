"""`pocketlens convert`: what is copied, what is refused, what the ledger says of both."""

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipeline import cli
from pipeline.core.errors import InputError
from pipeline.datasets.convert.convert import convert
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


def test_an_empty_folder_is_filled_and_a_failure_leaves_nothing(tmp_path: Path) -> None:
    herd = make(tmp_path / "herd", {**COWS, "images/train/1.jpg": "", "images/train/field/2.png": ""})
    (tmp_path / "out").mkdir()
    (herd / "images/val/1.jpg").write_bytes(b"")
    with pytest.raises(InputError, match="nothing usable in it: 3 empty_file"):
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

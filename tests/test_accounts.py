"""Counts add up in every format: what goes in comes out, or is refused or dropped; no file is passed over."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_ingest import clip, params, picture, rows_of, run

from pipeline.datasets.convert.convert import LEDGER, convert
from pipeline.datasets.formats import FORMATS, detect_format
from pipeline.datasets.formats.beside import other_labels
from pipeline.datasets.formats.reading import files_under, relative
from pipeline.datasets.ingest.accounts import TEXTS

COUNT = 12  # images, two objects each; the last one is spoilt
BOXES = [(6, 4, 20, 16), (30, 10, 20, 20)]  # x, y, w, h of 60 x 40 pixels
FLAT = (40, 20, 0, 10)  # no area: dropped


def boxes(i: int) -> list[tuple[int, int, int, int]]:
    return [*BOXES, *([FLAT] if i == 0 else [])]


def images(root: Path, count: int = COUNT) -> list[str]:
    for i in range(count):
        picture(root / f"{i:02d}.jpg", i)
    (root / f"{count - 1:02d}.jpg").write_bytes((root / "01.jpg").read_bytes()[:200])
    return [f"{i:02d}.jpg" for i in range(count)]


def coco(root: Path) -> None:
    rows = [{"id": i, "file_name": name, "width": 60, "height": 40} for i, name in enumerate(images(root))]
    things = [{"image_id": i, "category_id": 1, "bbox": box} for i in range(COUNT) for box in boxes(i)]
    content = {"images": rows, "annotations": things, "categories": [{"id": 1, "name": "cow"}]}
    (root / "all.json").write_text(json.dumps(content))


def yolo(root: Path) -> None:
    for i, name in enumerate(images(root)):
        lines = [f"0 {(x + w / 2) / 60} {(y + h / 2) / 40} {w / 60} {h / 40}" for x, y, w, h in boxes(i)]
        (root / name).with_suffix(".txt").write_text("\n".join(lines))
    (root / "classes.txt").write_text("cow")


def voc(root: Path) -> None:
    corner = "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox>"
    for i, name in enumerate(images(root)):
        things = [corner.format(x, y, x + w - (w > 0), y + h - 1) for x, y, w, h in boxes(i)]
        things[-1] = things[-1].replace("<xmax>40", "<xmax>39")
        found = "".join(f"<object><name>cow</name>{box}</object>" for box in things)
        size = "<size><width>60</width><height>40</height></size>"
        (root / name).with_suffix(".xml").write_text(f"<annotation>{size}{found}</annotation>")


def cvat(root: Path) -> None:
    rows = [
        f'<image name="{name}" width="60" height="40">'
        + "".join(f'<box label="cow" xtl="{x}" ytl="{y}" xbr="{x + w}" ybr="{y + h}"/>' for x, y, w, h in boxes(i))
        + "</image>"
        for i, name in enumerate(images(root))
    ]
    (root / "annotations.xml").write_text(f"<annotations>{''.join(rows)}</annotations>")


def labelme(root: Path) -> None:
    for i, name in enumerate(images(root)):
        shapes = [
            {"label": "cow", "shape_type": "rectangle", "points": [[x, y], [x + w, y + h]]} for x, y, w, h in boxes(i)
        ]
        content = {"shapes": shapes, "imagePath": name, "imageWidth": 60, "imageHeight": 40}
        (root / name).with_suffix(".json").write_text(json.dumps(content))


def label_studio(root: Path) -> None:
    def region(x: float, y: float, w: float, h: float) -> dict[str, Any]:
        value = {"x": x / 0.6, "y": y / 0.4, "width": w / 0.6, "height": h / 0.4, "rectanglelabels": ["cow"]}
        return {"type": "rectanglelabels", "original_width": 60, "original_height": 40, "value": value}

    tasks = [
        {"id": i, "data": {"image": name}, "annotations": [{"id": i, "result": [region(*box) for box in boxes(i)]}]}
        for i, name in enumerate(images(root))
    ]
    (root / "tasks.json").write_text(json.dumps(tasks))


def open_images(root: Path) -> None:
    lines = ["ImageID,LabelName,XMin,XMax,YMin,YMax"]
    for i, name in enumerate(images(root)):
        lines += [f"{name[:2]},/m/cow,{x / 60},{(x + w) / 60},{y / 40},{(y + h) / 40}" for x, y, w, h in boxes(i)]
    (root / "boxes.csv").write_text("\n".join(lines))


def imagefolder(root: Path) -> None:
    rows = [
        {"file_name": name, "objects": {"bbox": boxes(i), "categories": ["cow"] * len(boxes(i))}}
        for i, name in enumerate(images(root))
    ]
    (root / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))


def landmarks_csv(root: Path) -> None:
    lines = ["name,nose_x,nose_y,ear_x,ear_y", *(f"{name},10,10,30,{20 + i}" for i, name in enumerate(images(root)))]
    lines[1] = "00.jpg,10,10,10,20"  # no area
    (root / "points.csv").write_text("\n".join(lines))


def pts(root: Path) -> None:
    for i, name in enumerate(images(root)):
        places = "11 11\n11 21" if i == 0 else "11 11\n31 21"
        (root / name).with_suffix(".pts").write_text(f"version: 1\nn_points: 2\n{{\n{places}\n}}\n")


def deeplabcut(root: Path) -> None:
    folder = root / "labeled-data" / "walk"
    rows = [f"labeled-data/walk/{name},10,10,30,{20 + i}" for i, name in enumerate(images(folder))]
    rows[0] = "labeled-data/walk/00.jpg,10,10,10,20"
    head = ["scorer,anna,anna,anna,anna", "bodyparts,nose,nose,ear,ear", "coords,x,y,x,y"]
    (folder / "CollectedData_anna.csv").write_text("\n".join([*head, *rows]))


def folder(root: Path) -> None:
    for label, first in (("cat", 0), ("dog", 50)):
        for i in range(6):
            picture(root / label / f"{i}.jpg", first + i)
    (root / "dog" / "5.jpg").write_bytes(b"")


def clips(root: Path) -> Path:
    for seed, name in enumerate(f"v_{label}_g{g:02d}_c01" for label in ("Run", "Hop") for g in range(1, 7)):
        clip(root / "videos" / name.split("_")[1] / f"{name}.avi", seed, count=4)
    (root / "videos" / "Hop" / "v_Hop_g06_c01.avi").write_bytes(b"RIFF")
    return root / "videos"


def tracks(root: Path) -> None:
    track = [(12, 10, 30, 40)] * 4, [(50, 10, 30, 40), (50, 10, 0, 40), *[(50, 10, 30, 40)] * 2]
    content = {
        f.stem: {"tracks": [{"start_frame": 0, "end_frame": 4, "boxes_xywh": t} for t in track]}
        for f in sorted(clips(root).glob("*/*.avi"))
    }
    (root / "boxes.json").write_text(json.dumps(content))


# of 12 images, two objects each and one more, the last two are lost with their image
BOXED = {"seen": 25, "kept": 22, "dropped": 3}
POINTED = {"seen": 12, "kept": 10, "dropped": 2}
NONE = {"seen": 0, "kept": 0, "dropped": 0}
SETS: dict[str, tuple[Any, dict[str, int]]] = {
    **{f.__name__: (f, BOXED) for f in (coco, yolo, voc, cvat, labelme, label_studio, open_images, imagefolder)},
    **{f.__name__: (f, POINTED) for f in (landmarks_csv, pts, deeplabcut)},
    "folder": (folder, NONE),
    "ucf101": (clips, NONE),
    # two frames of four, two boxes each; of every clip one is flat in the frame that is taken
    "ucf24": (tracks, {"seen": 12 * 4, "kept": 11 * 3, "dropped": 11 + 4}),
}


@pytest.mark.parametrize("form", SETS)
def test_what_is_in_the_files_comes_out_or_is_said_to_be_lost(tmp_path: Path, form: str) -> None:
    root = tmp_path / "source"
    root.mkdir()
    make, objects = SETS[form]
    make(root)
    (root / "notes.md").write_text("of last summer")
    of_clips = form in ("ucf101", "ucf24")
    place = root / "videos" if of_clips else root
    options = {"frames": 2} if of_clips else None
    labels = root / "boxes.json" if form == "ucf24" else place
    summary, _ = run(tmp_path, params(form, place, labels, options=options, refuse_over=0.5, other_units="note"))
    per_clip = 2 if of_clips else 1
    assert (summary["seen"], summary["kept"], summary["refused"]) == (11 * per_clip + 1, 11 * per_clip, 1)
    assert summary["objects"] == objects
    clip_counts = {"seen": 12, "kept": 11, "refused": 1} if of_clips else {"seen": 0, "kept": 0, "refused": 0}
    assert summary["clips"] == clip_counts
    if not of_clips:
        assert [r for r in rows_of(tmp_path) if "notes.md" in r["file"] + r["found"]], "it is named"


def test_every_format_is_counted() -> None:
    assert set(SETS) == set(FORMATS) - {"crops"}, "whose images are those of another one: tests/test_ingest.py"


def beside(form: str, root: Path) -> list[str]:
    """What is said of labels in `root` that the format does not read."""
    reading = FORMATS[form].read(root, root, FORMATS[form].Options())
    return [row.found for row in other_labels(form, reading, root, root)]


LABELS = [form for form in SETS if form not in ("folder", "ucf101", "ucf24")]


@pytest.mark.parametrize("form", LABELS)
def test_labels_of_another_format_in_the_folder_are_named_with_it(tmp_path: Path, form: str) -> None:
    SETS[form][0](tmp_path)
    assert beside(form, tmp_path) == [], "its own labels are read"
    other = "coco" if form == "imagefolder" else "imagefolder"
    SETS[other][0](tmp_path)
    (found,) = beside(other, tmp_path)
    assert f"which look like {form}; format {form} reads those" in found
    assert found.startswith(f"{COUNT if form in ('yolo', 'voc', 'labelme', 'pts') else 1} files such as ")


def half_coco(root: Path, left: str) -> None:
    """The first six images are COCO's, the last six are in labels of YOLO; `left`: these are out, or empty in COCO."""
    coco(root)
    content = json.loads((root / "all.json").read_text())
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] < 6]
    if left == "left out":
        content["images"] = content["images"][:6]
    (root / "all.json").write_text(json.dumps(content))
    for i in range(6, COUNT):
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{i:02d}.txt").write_text("0 0.5 0.5 0.2 0.4")
    (root / "classes.txt").write_text("cow")


@pytest.mark.parametrize("left", ["left out", "taken as background"])
def test_images_whose_only_labels_are_of_another_format_are_counted(tmp_path: Path, left: str) -> None:
    half_coco(root := tmp_path / "source", left)
    found = "6 files such as labels/06.txt, which look like yolo; format yolo reads those"
    found += f"; 6 images that have no other labels are {left}"
    run(tmp_path, params("coco", root, root, refuse_over=1.0, other_units="note"))
    assert [r["found"] for r in rows_of(tmp_path) if r["rule"] == "not_read"] == [found]
    convert(root, tmp_path / "out", "coco")
    assert found in (tmp_path / "out" / LEDGER).read_text()


def test_files_called_like_images_of_no_known_format_are_counted(tmp_path: Path) -> None:
    coco(tmp_path)
    for name, text in (("00.txt", "two cows"), ("01.txt", "a cow"), ("02.json", '{"camera": 3}')):
        (tmp_path / name).write_text(text)
    assert beside("coco", tmp_path) == ["3 files such as 00.txt, called like images, of no known format"]


def test_class_folders_of_which_another_format_takes_few_are_named(tmp_path: Path) -> None:
    folder(tmp_path)
    shape = {"label": "cow", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
    (tmp_path / "cat" / "0.json").write_text(json.dumps({"shapes": [shape], "imagePath": "0.jpg", "version": "5"}))
    lie = "11 images that are left out lie in folders that may be classes"
    assert beside("labelme", tmp_path) == [f"{lie} (cat, dog); format folder reads those"]
    assert beside("folder", tmp_path) == [
        "1 files such as cat/0.json, which look like labelme; format labelme reads those"
    ]


def test_class_folders_are_named_beside_what_no_format_reads(tmp_path: Path) -> None:
    folder(tmp_path)
    shape = {"label": "cow", "shape_type": "rectangle", "points": [[1, 1], [9, 9]]}
    (tmp_path / "cat" / "0.json").write_text(json.dumps({"shapes": [shape], "imagePath": "0.jpg", "version": "5"}))
    (tmp_path / "cat" / "1.xml").write_text("<camera/>")
    (tmp_path / "boxes.csv").write_text("filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,20,10,cow,1,1,9,9\n")
    unknown, foreign, folders = beside("labelme", tmp_path)
    assert unknown.startswith("1 files such as cat/1.xml, called like images, of no known format")
    assert foreign.startswith("1 files such as boxes.csv, which look like CSV of boxes as of TensorFlow or RetinaNet")
    lie = "11 images that are left out lie in folders that may be classes"
    assert folders == f"{lie} (cat, dog); format folder reads those"


def test_what_usually_lies_beside_labels_is_not_taken_for_others(tmp_path: Path) -> None:
    coco(tmp_path)
    texts = {
        "README.md": "# Cows",
        "classes.txt": "cow",
        "train.txt": "00.jpg\n01.jpg",
        "results.csv": "epoch,loss\n0,0.7",
        "results.json": json.dumps([{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}]),
        "captions.json": json.dumps({"images": [{"id": 1, "file_name": "00.jpg"}], "annotations": [{"image_id": 1}]}),
        "package.json": '{"name": "herd", "dependencies": {}}',
        "pom.xml": "<project/>",
        "ingest_ledger.csv": "file,key,rule,found,done\n00.jpg,,unreadable,cut,refused",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    os.mkfifo(tmp_path / "pipe.xml")
    assert beside("coco", tmp_path) == []


REAL = {
    **{name: name for name in ("alpaca", "bccd", "faces68", "landmarks-pts", "ucf101")},
    "alpaca/alpaca": "alpaca-labels",
    **{f"keypoints-coco/{name}": f"keypoints-coco/{name}" for name in ("onehand10k", "wflw", "animalpose", "horse10")},
}


@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_every_file_of_real_data_is_accounted_for(tmp_path: Path, name: str) -> None:
    """It is an image or clip that is kept or has a row, a text of the format's, or counted in a row."""
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    root = Path(os.environ["POCKETLENS_REAL_DATA"])
    path, labels = root / name, root / REAL[name]
    form, _ = detect_format(path, labels)
    block = params(form, path, labels, refuse_over=1.0, other_units="note")
    run(tmp_path, block)
    known = {c.file for c in FORMATS[form].read(path, labels, block.options).candidates}
    rows = rows_of(tmp_path)
    named = {row["file"] for row in rows}
    files = [f for root in dict.fromkeys((path, labels)) for f in files_under(root, None)]
    left = [f for f in files if f not in known and relative(f, path, labels) not in named]
    rows = [r for r in rows if r["rule"] in ("not_read", "not_listed") and " format " not in r["found"]]  # texts
    counted = sum(int(row["found"].split()[0]) for row in rows)
    assert len([f for f in left if f.suffix.lower() not in TEXTS]) == counted

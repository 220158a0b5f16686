"""Counts add up in every format: what goes in comes out, or is refused or dropped; no file is passed over."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from test_ingest import clip, params, picture, rows_of, run

from pipeline.datasets.formats import FORMATS, detect_format
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
    counted = sum(int(row["found"].split()[0]) for row in rows if row["rule"] in ("not_read", "not_listed"))
    assert len([f for f in left if f.suffix.lower() not in TEXTS]) == counted

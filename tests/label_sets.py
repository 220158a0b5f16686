"""One set of labelled images in every format: what tests write that look at the same thing in all of them."""

import csv
import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

BOX = (6.0, 4.0, 36.0, 24.0)  # left, top, right, bottom of an image of 60 x 40
SIZE = (60, 40)


@dataclass
class Row:
    """An image by the name that a label has for it, the size that labels are for, and its boxes in pixels, each as
    left, top, right, bottom. In formats of landmarks two of these are the corners of the first box, two the other
    corners of a good one; where the box has no width, all are there.
    """

    name: str
    size: tuple[int, int] = SIZE
    boxes: list[tuple[Any, ...]] = field(default_factory=lambda: [BOX])
    label: str = "cow"


Files = dict[str, Any]
STEM: Callable[[str], str] = lambda name: name.rpartition(".")[0]  # noqa: E731


def coco(rows: list[Row]) -> Files:
    images = [{"id": i, "file_name": r.name, "width": r.size[0], "height": r.size[1]} for i, r in enumerate(rows)]
    labels = sorted({r.label for r in rows})
    boxes = [
        {"image_id": i, "category_id": labels.index(r.label), "bbox": [x0, y0, x1 - x0, y1 - y0]}
        for i, r in enumerate(rows)
        for x0, y0, x1, y1 in r.boxes
    ]
    annotations = [{"id": i, **box} for i, box in enumerate(boxes)]
    categories = [{"id": i, "name": label} for i, label in enumerate(labels) if label]
    return {"labels/herd.json": {"images": images, "annotations": annotations, "categories": categories}}


def voc(rows: list[Row]) -> Files:
    files = {}
    for r in rows:
        things = ""
        for x0, y0, x1, y1 in r.boxes:
            corners = f"<xmin>{x0 + 1}</xmin><ymin>{y0 + 1}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"  # from 1
            things += f"<object><name>{escape(r.label)}</name><bndbox>{corners}</bndbox></object>"
        size = f"<size><width>{r.size[0]}</width><height>{r.size[1]}</height></size>"
        head = f"<annotation><filename>{escape(r.name)}</filename>{size}"
        files[f"{STEM(r.name)}.xml"] = f"{head}{things}</annotation>"
    return files


def yolo(rows: list[Row]) -> Files:
    files: Files = {"classes.txt": "cow"}
    for r in rows:
        lines = []
        for x0, y0, x1, y1 in r.boxes:
            (w, h), number = r.size, 0 if r.label == "cow" else 9
            lines.append(f"{number} {(x0 + x1) / 2 / w} {(y0 + y1) / 2 / h} {(x1 - x0) / w} {(y1 - y0) / h}")
        files[f"{STEM(r.name)}.txt"] = "\n".join(lines)
    return files


def cvat(rows: list[Row]) -> Files:
    images = []
    for i, r in enumerate(rows):
        sides = (dict(zip(("xtl", "ytl", "xbr", "ybr"), box, strict=True)) for box in r.boxes)
        shapes = ("".join(f' {key}="{value}"' for key, value in side.items()) for side in sides)
        boxes = "".join(f'<box label={quoteattr(r.label)} occluded="0"{shape}/>' for shape in shapes)
        head = f'<image id="{i}" name={quoteattr(r.name)} width="{r.size[0]}" height="{r.size[1]}">'
        images.append(f"{head}{boxes}</image>")
    return {"annotations.xml": f"<annotations><version>1.1</version>{''.join(images)}</annotations>"}


def labelme(rows: list[Row]) -> Files:
    files = {}
    for r in rows:
        shapes = [
            {"label": r.label, "shape_type": "rectangle", "points": [[x0, y0], [x1, y1]]} for x0, y0, x1, y1 in r.boxes
        ]
        size = {"imageHeight": r.size[1], "imageWidth": r.size[0]}
        files[f"{STEM(r.name)}.json"] = {"version": "5.4.1", "imagePath": r.name, "shapes": shapes, **size}
    return files


def label_studio(rows: list[Row]) -> Files:
    tasks = []
    for i, r in enumerate(rows):
        (w, h), result = r.size, []
        for x0, y0, x1, y1 in r.boxes:
            value = {"x": 100 * x0 / w, "y": 100 * y0 / h, "width": 100 * (x1 - x0) / w, "height": 100 * (y1 - y0) / h}
            value |= {"rotation": 0, "rectanglelabels": [r.label]}
            result.append({"type": "rectanglelabels", "value": value, "original_width": w, "original_height": h})
        data = {"image": f"/data/local-files/?d={quote(r.name)}"}
        tasks.append({"id": i, "data": data, "annotations": [{"id": i, "result": result}]})
    return {"tasks.json": tasks}


def table(rows: list[list[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def open_images(rows: list[Row]) -> Files:
    lines: list[list[Any]] = [["ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax"]]
    for r in rows:
        w, h = r.size
        lines += [
            [STEM(r.name), r.label and f"/m/{r.label}", x0 / w, x1 / w, y0 / h, y1 / h] for x0, y0, x1, y1 in r.boxes
        ]
    images = [["ImageID"], *([STEM(r.name)] for r in rows)]
    return {"boxes.csv": table(lines), "names.csv": "/m/cow,cow\n", "images.csv": table(images)}


def imagefolder(rows: list[Row]) -> Files:
    lines = []
    for r in rows:
        boxes = [[x0, y0, x1 - x0, y1 - y0] for x0, y0, x1, y1 in r.boxes]
        objects = {"bbox": boxes, "categories": [r.label] * len(boxes)}
        lines.append(json.dumps({"file_name": r.name, "objects": objects}))
    return {"metadata.jsonl": "\n".join(lines)}


def landmarks(r: Row) -> list[Any]:
    x0, y0, x1, y1 = r.boxes[0]
    w, h = r.size
    return [x0, y0, x1, y1, *((x0, y0) * 2 if x0 == x1 else (0.1 * w, 0.6 * h, 0.6 * w, 0.1 * h))]


def pts(rows: list[Row]) -> Files:
    files = {}
    for r in rows:
        values = iter(landmarks(r))
        points = "\n".join(f"{x + 1} {y + 1}" for x, y in zip(values, values, strict=True))  # they count from 1
        files[f"{STEM(r.name)}.pts"] = f"version: 1\nn_points: 4\n{{\n{points}\n}}"
    return files


def landmarks_csv(rows: list[Row]) -> Files:
    header = [f"{point}_{axis}" for point in "abcd" for axis in "xy"]
    return {"points.csv": table([["image", *header], *([r.name, *landmarks(r)] for r in rows)])}


def deeplabcut(rows: list[Row]) -> Files:
    header = [["scorer", *["anna"] * 8], ["bodyparts", *"aabbccdd"], ["coords", *["x", "y"] * 4]]
    return {"CollectedData_anna.csv": table([*header, *([r.name, *landmarks(r)] for r in rows)])}


BOXES = {f.__name__: f for f in (coco, voc, yolo, cvat, labelme, label_studio, open_images, imagefolder)}
POINTS = {f.__name__: f for f in (pts, landmarks_csv, deeplabcut)}
SETS = BOXES | POINTS
# formats that say for what size of an image their labels were made
SIZED = {"coco", "voc", "cvat", "labelme", "label_studio"}


def write_files(root: Path, files: Files) -> None:
    """A text as it is, anything else as JSON."""
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (root / name).write_text(text, encoding="utf-8")

"""Small datasets of every format, drawn from the paths of their images or clips."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.reading import Reading

BY_CLASS = ("folder", "ucf101")
BY_LABEL = ("coco", "yolo", "voc", "pts", "landmarks_csv")
SIZE = (20, 10)
VOC = (
    "<annotation><size><width>20</width><height>10</height></size><object><name>cow</name><bndbox>"
    "<xmin>3</xmin><ymin>2</ymin><xmax>10</xmax><ymax>8</ymax></bndbox></object></annotation>"
)
PTS = "version: 1\nn_points: 2\n{\n3 4\n5 6\n}\n"


def write(root: Path, name: str, text: str | bytes) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text.encode() if isinstance(text, str) else text)


def coco(names: Iterable[str]) -> str:
    rows = [{"id": i, "file_name": name, "width": 20, "height": 10} for i, name in enumerate(names)]
    boxes = [{"id": row["id"], "image_id": row["id"], "category_id": 1, "bbox": [2, 1, 8, 7]} for row in rows]
    return json.dumps({"images": rows, "annotations": boxes, "categories": [{"id": 1, "name": "cow"}]})


def csv(names: Iterable[str]) -> str:
    return "image,a_x,a_y,b_x,b_y\n" + "".join(f"{name},2,3,4,5\n" for name in names)


def draw(form: str, root: Path, names: list[str]) -> Path:
    """Images, or empty files for clips, of the paths `names` without suffix, with the labels of the format `form`."""
    for name in names:
        if form == "ucf101":
            write(root, f"{name}.avi", "")
            continue
        image = root / f"{name}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", SIZE).save(image)
        beside = {"yolo": ("txt", "0 .5 .5 .2 .2\n"), "voc": ("xml", VOC), "pts": ("pts", PTS)}.get(form)
        if beside:
            write(root, f"{name}.{beside[0]}", beside[1])
    if form == "yolo":
        write(root, "classes.txt", "cow\n")
    if form == "coco":
        write(root, "all.json", coco(f"{name}.jpg" for name in names))
    if form == "landmarks_csv":
        write(root, "all.csv", csv(f"{name}.jpg" for name in names))
    return root


def read(form: str, root: Path, labels: Path | None = None, **options: Any) -> Reading:
    row = FORMATS[form]
    return row.read(root, labels or root, row.Options(**options))


def splits(reading: Reading) -> dict[str, str | None]:
    """Image or clip -> its split, without suffix."""
    return {candidate.name.rpartition(".")[0]: candidate.split for candidate in reading.candidates}


def rows(reading: Reading, *rules: str) -> list[tuple[str, str]]:
    """(file, what was found) of the ledger's rows of `rules`."""
    return [(p.file, p.found) for p in reading.problems if p.rule in rules]

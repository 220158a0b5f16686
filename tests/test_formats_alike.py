"""One set of boxes, landmarks and background in each form that annotation tools write: ingest makes the same of it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_files import make
from PIL import Image
from pydantic import TypeAdapter

from pipeline.core.sample import SPLITS, read_dataset, read_samples
from pipeline.datasets.formats import detect_format
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import AnyDataset

WIDTH, HEIGHT = 60, 40
# image -> objects: label, left, top, right, bottom, and the nose; all in pixels
HERD: dict[str, list[tuple[str, int, int, int, int, tuple[int, int] | None]]] = {
    f"{i:02}.png": [("cow", 6, 4, 30 + i, 20, (12 + i, 8)), ("goat", 33 + i, 22, 57, 36, None)][: i % 3]
    for i in range(18)
}


def cvat() -> dict[str, Any]:
    images = []
    for n, (name, things) in enumerate(HERD.items()):
        shapes = ""
        for g, (label, x0, y0, x1, y1, nose) in enumerate(things, 1):
            shapes += f'<box label="{label}" occluded="0" xtl="{x0}" ytl="{y0}" xbr="{x1}" ybr="{y1}" group_id="{g}"/>'
            if nose:
                point = f'<points label="nose" outside="0" occluded="0" points="{nose[0]},{nose[1]}"/>'
                shapes += f'<skeleton label="{label}_points" group_id="{g}">{point}</skeleton>'
        images.append(f'<image id="{n}" name="{name}" width="{WIDTH}" height="{HEIGHT}">{shapes}</image>')
    return {"annotations.xml": f"<annotations><version>1.1</version>{''.join(images)}</annotations>"}


def labelme() -> dict[str, Any]:
    files = {}
    for name, things in HERD.items():
        shapes = []
        for g, (label, x0, y0, x1, y1, nose) in enumerate(things, 1):
            corners = [[x1, y0], [x0, y1]]
            shapes.append({"label": label, "points": corners, "group_id": g, "shape_type": "rectangle"})
            if nose:
                shapes.append({"label": "nose", "points": [list(nose)], "group_id": g, "shape_type": "point"})
        head = {"version": "5.4.1", "flags": {}, "imagePath": name, "imageData": None}
        files[Path(name).stem + ".json"] = head | {"shapes": shapes, "imageHeight": HEIGHT, "imageWidth": WIDTH}
    return files


def label_studio() -> dict[str, Any]:
    tasks = []
    for n, (name, things) in enumerate(HERD.items()):
        result: list[dict[str, Any]] = []
        for g, (label, x0, y0, x1, y1, nose) in enumerate(things, 1):
            box = {"x": 100 * x0 / WIDTH, "y": 100 * y0 / HEIGHT, "rotation": 0, "rectanglelabels": [label]}
            box |= {"width": 100 * (x1 - x0) / WIDTH, "height": 100 * (y1 - y0) / HEIGHT}
            result.append({"id": f"b{g}", "type": "rectanglelabels", "value": box})
            if nose:
                value = {"x": 100 * nose[0] / WIDTH, "y": 100 * nose[1] / HEIGHT, "keypointlabels": ["nose"]}
                result.append({"id": f"k{g}", "type": "keypointlabels", "parentID": f"b{g}", "value": value})
        sized = [r | {"original_width": WIDTH, "original_height": HEIGHT} for r in result]
        data = {"image": f"/data/upload/1/0a1b2c3d-{name}"}
        tasks.append({"id": n, "data": data, "annotations": [{"id": n, "result": sized}]})
    return {"tasks.json": tasks}


def open_images() -> dict[str, Any]:
    lines = ["ImageID,LabelName,XMin,XMax,YMin,YMax,IsGroupOf"]
    for name, things in HERD.items():
        for label, x0, y0, x1, y1, _ in things:
            sides = f"{x0 / WIDTH!r},{x1 / WIDTH!r},{y0 / HEIGHT!r},{y1 / HEIGHT!r}"
            lines.append(f"{Path(name).stem},/m/0{label},{sides},0")
    return {
        "boxes.csv": "\n".join(lines),
        "names.csv": "/m/0cow,cow\n/m/0goat,goat\n",
        "images.csv": "\n".join(["ImageID", *(Path(name).stem for name in HERD)]),
    }


@pytest.mark.parametrize("files", [cvat, labelme, label_studio, open_images], ids=lambda files: files.__name__)
def test_ingest_makes_the_same_of_it(tmp_path: Path, files: Any) -> None:
    root = make(tmp_path / "herd", files())
    for i, name in enumerate(HERD):
        small = np.random.default_rng(i).integers(0, 256, (8, 9, 3), dtype=np.uint8)
        Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(root / name)
    form = detect_format(root)[0]
    assert form == files.__name__
    block = {"format": form, "path": str(root), "labels": str(root), "max_side": 60}
    summary = ingest("herd", TypeAdapter(AnyDataset).validate_python(block), tmp_path / "data", tmp_path / "reports")
    assert (summary["seen"], summary["kept"]) == (18, 18)
    dataset = read_dataset(tmp_path / "data")
    landmarks = [] if form == "open_images" else ["nose"]
    assert (dataset.labels, dataset.landmarks) == (["cow", "goat"], landmarks)
    samples = {s.id: s for split in SPLITS for s in read_samples(tmp_path / "data" / split)}
    for name, things in HERD.items():
        found = samples[Path(name).stem].objects
        assert [o.label for o in found] == [label for label, *_ in things]
        for o, (_, x0, y0, x1, y1, nose) in zip(found, things, strict=True):
            x, y, w, h = o.box
            sides = (x * WIDTH, y * HEIGHT, (x + w) * WIDTH, (y + h) * HEIGHT)
            assert sides == pytest.approx((x0, y0, x1, y1), abs=1e-9)
            if landmarks:
                (point,) = o.landmarks
                place = (point.x * WIDTH, point.y * HEIGHT, point.visibility)
                assert place == pytest.approx((*nose, 2) if nose else (0, 0, 0), abs=1e-9)

"""One set of boxes, landmarks and background in each form that annotation tools write: ingest makes the same of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_files import make
from label_sets import SETS, Row, write_files
from PIL import Image
from pydantic import TypeAdapter

from pipeline.core.sample import SPLITS, read_dataset, read_samples
from pipeline.datasets.formats import FORMATS, detect_format
from pipeline.datasets.formats.reading import Reading
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


def one_each(form: str, said: list[str], label: str) -> dict[str, Any]:
    """The label files of `form` in which each of the images `said` has one thing, called `label`."""
    if form == "cvat":
        box = f'<box label="{label}" xtl="6" ytl="4" xbr="30" ybr="20"/>'
        images = "".join(
            f'<image id="{i}" name="{name}" width="60" height="40">{box}</image>' for i, name in enumerate(said)
        )
        return {"all.xml": f"<annotations><version>1.1</version>{images}</annotations>"}
    if form == "labelme":
        shape = {"label": label, "points": [[6, 4], [30, 20]], "shape_type": "rectangle"}
        return {
            f"label_{i}.json": {"version": "5", "imagePath": name, "shapes": [shape]} for i, name in enumerate(said)
        }
    if form == "label_studio":
        value = {"x": 10, "y": 10, "width": 40, "height": 40, "rectanglelabels": [label]}
        result = [{"id": "b", "type": "rectanglelabels", "value": value, "original_width": 60, "original_height": 40}]
        return {"all.json": [{"data": {"image": name}, "annotations": [{"result": result}]} for name in said]}
    if form == "open_images":
        rows = "".join(f'"{name}",/m/01,.1,.5,.1,.5\n' for name in said)
        return {"boxes.csv": f"ImageID,LabelName,XMin,XMax,YMin,YMax\n{rows}", "names.csv": f"/m/01,{label}\n"}
    if form == "deeplabcut":
        rows = "".join(f'"{name}",6,4\n' for name in said)
        return {"CollectedData_a.csv": f"scorer,a,a\nbodyparts,{label},{label}\ncoords,x,y\n{rows}"}
    objects = {"bbox": [[6, 4, 24, 16]], "categories": [label]}
    return {"metadata.jsonl": "\n".join(json.dumps({"file_name": name, "objects": objects}) for name in said)}


TOOLS = ("cvat", "labelme", "label_studio", "open_images", "deeplabcut", "imagefolder")


def read_one(form: str, root: Path, on_disk: list[str], said: list[str], label: str = "cow") -> Reading:
    make(root, dict.fromkeys(on_disk, (60, 40)) | one_each(form, said, label))
    return FORMATS[form].read(root, root, FORMATS[form].Options())


@pytest.mark.parametrize("form", TOOLS)
@pytest.mark.parametrize(
    ("on_disk", "said"),
    [
        ("cam1/Ha\u0308user 1.jpg", "cam1/H\u00e4user 1.jpg"),
        ("Zu\u0308rich/1.jpg", "Z\u00fcrich/1.jpg"),
        ("cam1/IMG_1.JPG", "cam1/img_1.jpg"),
        ("cam1/a b.jpg", "cam1/a%20b.jpg"),
    ],
)
def test_a_name_in_another_form_is_the_same_picture(tmp_path: Path, form: str, on_disk: str, said: str) -> None:
    reading = read_one(form, tmp_path, [on_disk, "cam2/2.jpg"], [said])
    assert [c.name for c in reading.candidates if c.objects] == [on_disk]
    assert [p.rule for p in reading.problems if p.done == "refused"] == []


@pytest.mark.parametrize("form", TOOLS)
def test_another_folders_picture_is_another_picture(tmp_path: Path, form: str) -> None:
    reading = read_one(form, tmp_path, ["cam1/1.jpg", "cam2/1.jpg", "cam2/2.jpg"], ["cam1/1.jpg", "cam1/2.jpg"])
    assert [c.name for c in reading.candidates if c.objects] == ["cam1/1.jpg"]
    assert "missing_file" in {p.rule for p in reading.problems} or form == "open_images"


@pytest.mark.parametrize("form", TOOLS)
def test_names_of_classes_and_landmarks_are_composed(tmp_path: Path, form: str) -> None:
    reading = read_one(form, tmp_path, ["a.jpg"], ["a.jpg"], "Mu\u0308ll")
    assert (reading.landmarks if form == "deeplabcut" else reading.labels) == ["M\u00fcll"]


@pytest.mark.parametrize("form", ["coco", "cvat", "label_studio", "open_images", "landmarks_csv"])
def test_of_several_files_each_means_the_folder_that_it_is_called_like(tmp_path: Path, form: str) -> None:
    """As exports of several cameras beside each other have bare names."""
    make(tmp_path, {f"{name}.jpg": (60, 40) for name in ("cam1/1", "cam2/1", "cam2/2")})
    for called, left in (("cam1", 6.0), ("cam2", 12.0)):
        rows = [Row(name, boxes=[(left, 4.0, 36.0, 24.0)]) for name in ("1.jpg", "2.jpg")]
        names = ("names.csv", "images.csv")
        files = {name: content for name, content in SETS[form](rows).items() if name not in names}
        write_files(tmp_path, {f"labels/{called}{Path(name).suffix}": content for name, content in files.items()})
    reading = FORMATS[form].read(tmp_path, tmp_path, FORMATS[form].Options())
    corners = {c.name: [o.landmarks[0].x if o.landmarks else o.box[0] for o in c.objects] for c in reading.candidates}
    assert corners == {
        f"{name}.jpg": [pytest.approx(x)] for name, x in (("cam1/1", 0.1), ("cam2/1", 0.2), ("cam2/2", 0.2))
    }
    assert ("missing_file" in {p.rule for p in reading.problems}) == (form != "open_images")


@pytest.mark.parametrize(("where", "said"), [("labels/cam1/2.json", "2.jpg"), ("2.json", "cam1/2.jpg")])
def test_a_label_file_stays_in_the_folder_that_it_names(tmp_path: Path, where: str, said: str) -> None:
    (label,) = one_each("labelme", [said], "cow").values()
    root = make(tmp_path, {"images/cam1/1.jpg": (60, 40), "images/cam2/2.jpg": (60, 40), where: label})
    reading = FORMATS["labelme"].read(root, root, FORMATS["labelme"].Options())
    assert reading.candidates == []
    assert [p.rule for p in reading.problems if p.done == "refused"] == ["missing_file"]


def only_points(form: str, twice: bool) -> dict[str, Any]:
    """Two images with a nose and a tail, or two noses, and no box."""
    files: dict[str, Any] = {}
    names = ("nose", "nose" if twice else "tail")
    for image in ("a", "b"):
        places = list(zip(names, ((6, 4), (36, 24)), strict=True))
        if form == "labelme":
            shapes = [{"label": name, "points": [list(p)], "shape_type": "point"} for name, p in places]
            files[f"{image}.json"] = {"version": "5", "imagePath": f"{image}.jpg", "shapes": shapes}
        elif form == "label_studio":
            result = [
                {"id": f"k{i}", "type": "keypointlabels", "original_width": WIDTH, "original_height": HEIGHT}
                | {"value": {"x": x / WIDTH * 100, "y": y / HEIGHT * 100, "keypointlabels": [name]}}
                for i, (name, (x, y)) in enumerate(places)
            ]
            task = {"data": {"image": f"{image}.jpg"}, "annotations": [{"result": result}]}
            files["all.json"] = [*files.get("all.json", []), task]
        else:
            points = "".join(f'<points label="{name}" points="{x},{y}"/>' for name, (x, y) in places)
            image_of = f'<image id="1" name="{image}.jpg" width="60" height="40">{points}</image>'
            before = files.get("all.xml", "<annotations><version>1.1</version></annotations>")
            files["all.xml"] = before.replace("</annotations>", f"{image_of}</annotations>")
    return files


@pytest.mark.parametrize("form", ["cvat", "labelme", "label_studio"])
def test_points_without_any_box_are_one_object_an_image(tmp_path: Path, form: str) -> None:
    root = make(tmp_path, {"a.jpg": (60, 40), "b.jpg": (60, 40)} | only_points(form, False))
    reading = FORMATS[form].read(root, root, FORMATS[form].Options())
    assert (reading.labels, reading.landmarks) == (["object"], ["nose", "tail"])
    for candidate in reading.candidates:
        (o,) = candidate.objects
        assert o.box == pytest.approx((0.1, 0.1, 0.5, 0.5))
        assert [(p.x, p.y) for p in o.landmarks] == [pytest.approx(p) for p in ((0.1, 0.1), (0.6, 0.6))]
        assert candidate.unsized == (form == "labelme")
    assert [p.rule for p in reading.problems] == ["box_made"]


@pytest.mark.parametrize("form", ["cvat", "labelme", "label_studio"])
def test_points_of_several_objects_without_boxes_say_what_to_do(tmp_path: Path, form: str) -> None:
    root = make(tmp_path, {"a.jpg": (60, 40), "b.jpg": (60, 40)} | only_points(form, True))
    reading = FORMATS[form].read(root, root, FORMATS[form].Options())
    loose = [p for p in reading.problems if p.rule == "loose_point"]
    assert len(loose) == 4
    assert all("draw a box around each object" in p.found for p in loose)

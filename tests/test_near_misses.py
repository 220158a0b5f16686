"""Data that are nearly of a format: the error says which one, and what is against it."""

import json
from pathlib import Path
from typing import Any

import pytest
from drawn import SIZE, VOC, coco, draw, write
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json
from pipeline.datasets.formats import FORMATS, detect_format, nearest_of
from pipeline.datasets.formats import coco as coco_format
from pipeline.datasets.formats.beside import other_labels
from pipeline.datasets.formats.format import NoOptions
from pipeline.datasets.ingest.accounts import unread

LINE = "0 .5 .5 .2 .2\n"
ROWS = json.loads(coco(["a.jpg"]))
CUT = coco(["a.jpg"])[:-20]


@pytest.mark.parametrize(
    ("files", "form", "against"),
    [
        (
            {"labels/a.txt": LINE},
            "yolo",
            r"labels/a\.txt: lines of class and box, but no class names; expected",
        ),
        ({"classes.txt": "cow\n"}, "yolo", r"classes\.txt: class names, but no text files of class and box"),
        ({"data.yaml": b"names: ['\xdf']\n", "a.txt": LINE}, "yolo", r"data\.yaml: not UTF-8 text \(byte 9 is 0xdf\)"),
        ({"data.yaml": "names: [", "a.txt": LINE}, "yolo", r"data\.yaml: not YAML"),
        ({"data.yaml": "names: 3", "a.txt": LINE}, "yolo", r"data\.yaml: names: found 3; expected a list"),
        (
            {"x.json": json.dumps(ROWS | {"categories": []})},
            "coco",
            r"x\.json: JSON with .*, but no list of cat",
        ),
        (
            {"x.json": json.dumps({"images": ROWS["images"], "categories": ROWS["categories"]})},
            "coco",
            r"x\.json: JSON with categories, images, but no list of annotations",
        ),
        ({"x.json": CUT}, "coco", r"x\.json:1: not JSON"),
        ({"x.json": b"{\xff"}, "coco", r"x\.json: not UTF-8 text"),
        ({"a.xml": VOC.replace("annotation", "image")}, "voc", r"a\.xml: XML, but no <annotation> in it"),
        ({"a.pts": "3 4\n5 6\n"}, "pts", r"a\.pts: no `n_points:` in it; expected version: 1"),
        (
            {"x.csv": "x0,y0,image\n1,2,a.jpg\n"},
            "landmarks_csv",
            r"x\.csv: CSV, but no images and landmarks in its first",
        ),
        ({"x.csv": "image,w,h\na.jpg,2,3\n"}, "landmarks_csv", r"x\.csv: columns 2 and 3 are 'w' and 'h'"),
        ({"x.csv": "image,x_a,x_b\na.jpg,2,3\n"}, "landmarks_csv", r"x\.csv: columns 2 and 3 are 'x_a' and 'x_b'"),
        ({"x.csv": b"image,\xe4_x,\xe4_y\na.jpg,2,3\n"}, "landmarks_csv", r"x\.csv: not UTF-8 text \(byte 6 is 0xe4\)"),
        (
            {"metadata.csv": "file_name,label\na.jpg,cow\n", "metadata.jsonl": "{}"},
            "imagefolder",
            r"metadata\.csv: metadata\.jsonl is beside it; expected one of the two",
        ),
        ({}, "folder", "class folders with images: none; expected two or more"),
        ({"cat/b.jpg": SIZE}, "folder", "class folders with images: cat; expected two or more"),
        ({"cat/b.avi": ""}, "ucf101", "1 clips, class folders cat; expected two or more"),
        ({"b.avi": ""}, "ucf101", "1 clips, class folders none; expected two or more"),
        ({"cat/b.jpg": SIZE, "test/c.jpg": SIZE}, "folder", "folder test is called like a split, cat beside it like"),
    ],
)
def test_what_is_against_the_nearest_format(tmp_path: Path, files: dict, form: str, against: str) -> None:
    for name, content in ({"a.jpg": SIZE} | files).items():
        if isinstance(content, tuple):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            Image.new("RGB", content).save(tmp_path / name)
        else:
            write(tmp_path, name, content)
    with pytest.raises(InputError, match=rf"(?s)no known format; nearest: .*{form}, but .*{against}.*; looked for "):
        detect_format(tmp_path)


def test_a_json_file_that_is_no_ucf24(tmp_path: Path) -> None:
    root = draw("ucf101", tmp_path, ["a/1"])
    write(root, "boxes.json", '{"v_a_g01_c01": {"boxes": []}}')
    with pytest.raises(InputError, match=r"ucf24, but .*boxes\.json: no JSON of clips with tracks"):
        detect_format(root, root / "boxes.json")


def test_tracks_in_the_folder_of_the_clips_are_to_be_named_as_labels(tmp_path: Path) -> None:
    root = draw("ucf101", tmp_path, ["a/1", "b/2"])
    assert nearest_of("detect", root) == ""
    write(root, "notes.json", CUT)
    write(root, "tracks.json", '{"v_a_g01_c01": {"tracks": []}}')
    assert detect_format(root)[0] == "ucf101"
    file = root / "tracks.json"
    said = f"; nearest: ucf24, but {file}: tracks of clips; missing is --labels {file}; "
    assert nearest_of("detect", root).startswith(said)


VIA = {"filename": "a.jpg", "size": 9, "regions": [{"shape_attributes": {"name": "rect", "x": 1}}]}
REGION = {"type": "rectangle", "tags": ["cow"], "boundingBox": {"left": 1, "top": 1, "width": 5, "height": 5}}
ITEM = {"label": "cow", "coordinates": {"x": 5, "y": 5, "width": 4, "height": 4}}
FIGURE = {"classTitle": "cow", "geometryType": "rectangle", "points": {"exterior": [[1, 1], [9, 9]]}}
MIN = {"image": "a.jpg", "id": 1, "label": [], "annotator": 1, "annotation_id": 1, "lead_time": 3.2}
TASK = {"id": 1, "data": {"image": "a.jpg"}, "predictions": [{"result": []}]}
BOXES = "CSV of boxes as of TensorFlow or RetinaNet"
WRITE = "write it as coco, voc or yolo"
# what lies beside labels or alone -> what it is said to be, and what is to be done
FOREIGN = [
    ("x.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\na.jpg,20,10,cow,1,1,9,9\n", BOXES, WRITE),
    ("x.csv", "path,x1,y1,x2,y2,class\na.jpg,1,1,9,9,cow\n", BOXES, WRITE),
    ("x.csv", "a.jpg,1,1,9,9,cow\nb.jpg,1,1,9,9,cow\n", BOXES, WRITE),
    ("x.csv", "filename,file_size,region_shape_attributes\n", "CSV of VIA", "export it from VIA as COCO"),
    ("x.json", {"a.jpg9": VIA}, "JSON of VIA", "export it from VIA as COCO"),
    ("x.json", {"_via_img_metadata": {"a.jpg9": VIA}}, "JSON of VIA", "export it from VIA as COCO"),
    ("a.jpg.json", {"tags": [], "objects": [FIGURE]}, "JSON of Supervisely", "export it from Supervisely as COCO"),
    ("x.json", {"asset": {"name": "a.jpg"}, "regions": [REGION]}, "JSON of VoTT", "export it from VoTT as Pascal VOC"),
    ("x.json", [{"image": "a.jpg", "annotations": [ITEM]}], "JSON of CreateML", WRITE),
    ("x.json", [MIN], "JSON-MIN of Label Studio", "export it from Label Studio as JSON"),
    ("x.json", [TASK], "Label Studio's tasks with predictions alone", "submit them in Label Studio"),
    ("x.xml", "<dataset><images><image file='a.jpg'/></images></dataset>", "XML of dlib", WRITE),
    ("x.xml", "<doc><path>a.jpg</path><outputs><object/></outputs></doc>", "XML of Colabeler", "export it from"),
    ("x.mat", "MATLAB 5.0", "MATLAB's data", WRITE),
    ("x.tfrecord", "x", "TFRecord", WRITE),
]


@pytest.mark.parametrize(("name", "content", "words", "instead"), FOREIGN)
def test_labels_that_no_format_reads_are_named(
    tmp_path: Path, name: str, content: Any, words: str, instead: str
) -> None:
    (tmp_path / "alone").mkdir()
    for root in (tmp_path / "alone", draw("coco", tmp_path / "beside", ["b"])):
        Image.new("RGB", SIZE).save(root / "a.jpg")
        write(root, name, content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError, match=rf"no known format; .*{name} looks like {words}, which nothing.*: {instead}"):
        detect_format(tmp_path / "alone")
    reading = FORMATS["coco"].read(root, root, NoOptions())
    rows = [row.found for row in [*other_labels("coco", reading, root, root), *unread(reading, root, root)]]
    (found,) = rows
    assert found.startswith("1 ")
    assert name in found
    assert words in found


def test_a_table_of_boxes_beside_landmarks_stops_nothing(tmp_path: Path) -> None:
    root = draw("landmarks_csv", tmp_path, ["1", "2"])
    for name, text in (("boxes.csv", FOREIGN[0][1]), ("retina.csv", FOREIGN[2][1].replace("a.jpg", "1.jpg"))):
        write(root, name, str(text))
    assert detect_format(root)[0] == "landmarks_csv"
    assert len(FORMATS["landmarks_csv"].read(root, root, FORMATS["landmarks_csv"].Options()).candidates) == 2
    with pytest.raises(InputError, match=r"boxes\.csv: a table of boxes; expected rows of an image's name and x, y"):
        FORMATS["landmarks_csv"].read(root, root / "boxes.csv", FORMATS["landmarks_csv"].Options())


def test_landmarks_that_are_numbered_are_no_boxes(tmp_path: Path) -> None:
    write(tmp_path, "x.csv", "image,x1,y1,x2,y2\na.jpg,1,2,3,4\n")
    Image.new("RGB", SIZE).save(tmp_path / "a.jpg")
    assert detect_format(tmp_path)[0] == "landmarks_csv"


@pytest.mark.parametrize("form", ["coco", "yolo", "voc", "pts", "landmarks_csv"])
def test_a_format_that_nearly_fits_is_no_hindrance_to_one_that_does(tmp_path: Path, form: str) -> None:
    root = draw(form, tmp_path, ["1", "2"])
    others = {"notes.json": CUT, "other.xml": "<x/>", "other.csv": "k,v\n1,2\n", "note.pts": "3 4\n"}
    own = {"coco": ".json", "voc": ".xml", "pts": ".pts", "landmarks_csv": ".csv"}.get(form, "-")
    for name, text in others.items():
        if not name.endswith(own):
            write(root, name, text)
    assert detect_format(root)[0] == form


def test_a_folder_without_anything_has_no_nearest(tmp_path: Path) -> None:
    write(tmp_path, "about.txt", "nothing here\n")
    first = "no known format; nearest: .*no images in it or below.*; looked for a JSON file of tracks"
    with pytest.raises(InputError, match=first):
        detect_format(tmp_path)


def test_a_folder_that_the_task_cannot_learn_from_names_the_nearest_that_it_can(tmp_path: Path) -> None:
    root = draw("folder", tmp_path, ["cam1/1", "cam2/2"])
    assert nearest_of("detect", root) == ""
    write(root, "labels/1.txt", LINE)
    assert detect_format(root)[0] == "folder"
    assert "; nearest: yolo, but" in nearest_of("detect", root)


def test_of_a_folder_full_of_json_only_the_largest_are_read(tmp_path, monkeypatch):
    """To find out the format: those of a whole set are larger than those of an image."""
    categories = [{"id": 1, "name": "cow"}]
    images = [{"id": i, "file_name": f"{i}.jpg"} for i in range(50)]
    write_json(tmp_path / "b.json", {"images": images, "annotations": [], "categories": categories})
    for i in range(100):
        write_json(tmp_path / "frames" / f"{i}.json", {"frame": i})
    read = []
    monkeypatch.setattr(coco_format, "read_json", lambda file: read.append(file) or read_json(file))
    assert coco_format.recognize(tmp_path, tmp_path) == "COCO annotations in b.json"
    assert len(read) == coco_format.LOOKED_AT

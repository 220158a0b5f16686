"""Label files of which some bytes are others: each reader gives a reading, with rows of the ledger, or an InputError.

POCKETLENS_MANGLED is how many files a reader gets (default 30; the same ones each time, of another number others):

    POCKETLENS_MANGLED=5000 python -m pytest tests/test_mangled.py
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from label_files import make
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.ingest.checks import check_objects
from pipeline.datasets.ingest.report import ledger_text

USUAL = 30
COUNT = int(os.environ.get("POCKETLENS_MANGLED", USUAL))
SIZE = (100, 50)
THREE = "scorer,a,a,a,a\nbodyparts,l_ear,l_ear,r_ear,r_ear\ncoords,x,y,x,y\n"
XML = """<annotation><folder>x</folder><filename>a.png</filename><size><width>100</width><height>50</height></size>
<object><name>cow</name><difficult>1</difficult><bndbox><xmin>11</xmin><ymin>6.5</ymin><xmax>60</xmax><ymax>25</ymax>
</bndbox><part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></part></object>
</annotation>"""
COCO = {
    "images": [{"id": i, "file_name": f"{n}.png", "width": 100, "height": 50} for i, n in enumerate("ab")],
    "annotations": [
        {
            "id": 1,
            "image_id": 0,
            "category_id": 7,
            "bbox": [10, 5, 50, 20],
            "keypoints": [1, 2, 2, 0, 0, 0],
            "iscrowd": 0,
        }
    ],
    "categories": [{"id": 7, "name": "cow", "keypoints": ["left", "right"], "skeleton": [[1, 2]]}],
}
ROWS = [
    {"file_name": "a.png", "label": 1, "objects": {"bbox": [[10, 5, 50, 20]], "categories": [0], "iscrowd": [0]}},
    {"file_name": "b.png", "label": "cat", "objects": [{"bbox": [1, 2, 3, 4], "category": "cow"}], "text": "x"},
]
TRACK = {"start_frame": 0, "end_frame": 2, "boxes_xywh": [[1, 2, 3, 4], [2.5, 3, 4, 5]]}
POSE = "path: ..\ntrain: [images]\nval: val.txt\nnames: {0: cow, 1: dog}\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n"
README = "---\ndataset_info:\n  features:\n  - name: label\n    dtype: {class_label: {names: {'0': a, '1': b}}}\n---\n"
OWN = Sample(
    "a",
    "a.png",
    *SIZE,
    "train",
    "g",
    "c",
    "day",
    objects=[Object("cow", (0.1, 0.2, 0.5, 0.4), [Landmark(0.2, 0.2, 1)])],
)
COLUMNS = {
    **{"file_name": "a.png", "id": "a", "width": 100, "height": 50, "group": "g", "label": "day"},
    "objects": {"bbox": [[10.0, 5, 50, 20]], "categories": ["cow"], "iscrowd": [1], "keypoints": [[[1.5, 2, 2]]]},
}
LINES = "0 0.5 0.4 0.2 0.1 0.4 0.4 2 0 0 0\n1 0.5 0.5 0.2 0.2 .1 .1 1 .2 .2 2\n"
CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>cow</name><type>any</type></label><label><name>cow_points</name><type>skeleton</type>
<svg>&lt;line data-node-from="1" data-node-to="2"/&gt;&lt;circle data-node-id="1" data-label-name="nose"/&gt;
&lt;circle data-node-id="2" data-label-name="tail"/&gt;</svg></label>
<label><name>nose</name><parent>cow_points</parent></label><label><name>tail</name><parent>cow_points</parent></label>
</labels></task></meta><image id="0" name="a.png" subset="Train" width="40" height="20">
<box label="cow" occluded="0" xtl="1.00" ytl="2.00" xbr="30.00" ybr="14.00" rotation="30.00" z_order="0" group_id="7"/>
<skeleton label="cow_points" group_id="7"><points label="nose" outside="0" occluded="1" points="10.00,5.00"/>
<points label="tail" outside="1" occluded="0" points="3.00,5.00"/></skeleton>
<polygon label="cow" points="1,1;2,2;3,1"/><tag label="cow"/></image></annotations>"""
CVAT_VIDEO = """<annotations><version>1.1</version><meta><task><start_frame>0</start_frame><stop_frame>1</stop_frame>
<original_size><width>40</width><height>20</height></original_size></task></meta><track id="0" label="cow">
<box frame="0" outside="0" occluded="0" keyframe="1" xtl="1.0" ytl="2.0" xbr="30.0" ybr="14.0"/>
<box frame="1" outside="1" occluded="0" keyframe="1" xtl="1.0" ytl="2.0" xbr="30.0" ybr="14.0"/></track>
</annotations>"""
LABELME = {
    "version": "5.2.1",
    "flags": {"day": True},
    "shapes": [
        {"label": "cow", "points": [[30.5, 14.0], [1.0, 2.0]], "group_id": 1, "shape_type": "rectangle", "flags": {}},
        {"label": "nose", "points": [[10.0, 5.0]], "group_id": 1, "shape_type": "point", "flags": {}},
        {"label": "cow", "points": [[1, 1], [2, 2], [3, 1]], "group_id": None, "shape_type": "polygon"},
    ],
    "imagePath": "..\\pictures\\a.png",
    "imageData": None,
    "imageHeight": 20,
    "imageWidth": 40,
}
WIDE = {"original_width": 40, "original_height": 20, "image_rotation": 0, "to_name": "image"}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/local-files/?d=herd/a.png"},
        "annotations": [
            {
                "id": 3,
                "completed_by": {"id": 1, "email": "a@b.c"},
                "was_cancelled": False,
                "created_at": "2026-01-02T03:04:05.678901Z",
                "result": [
                    WIDE
                    | {
                        "id": "r1",
                        "type": "rectanglelabels",
                        "value": {
                            "x": 5.5,
                            "y": 10,
                            "width": 50,
                            "height": -40,
                            "rotation": 30,
                            "rectanglelabels": ["cow"],
                        },
                    },
                    WIDE
                    | {
                        "id": "k1",
                        "type": "keypointlabels",
                        "parentID": "r1",
                        "value": {"x": 20, "y": 12, "width": 0.5, "keypointlabels": ["nose"]},
                    },
                    {"id": "c1", "type": "choices", "value": {"choices": ["day"]}},
                ],
            }
        ],
        "predictions": [],
    }
]
CONFIG = """<View><RectangleLabels name="box"><Label value="cow"/></RectangleLabels>
<KeyPointLabels name="landmark"><Label value="nose" model_index="0"/></KeyPointLabels>
<Choices name="hidden" perRegion="true"><Choice value="hidden"/></Choices>
<Choices name="label"><Choice value="day"/></Choices></View>"""
CLASSES = "LabelName,DisplayName\n/m/0cmf2,Bird\n"
OPEN_IMAGES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction
a,xclick,/m/01xq0k1,1,0.012,0.195,0.148,0.587,0,1,0,0
a,xclick,/m/0cmf2,1,0.5,0.75,0.148,0.587,-1,-1,1,-1
b,xclick,/m/0cmf2,1,0.5,0.75,0.148,0.587,0,0,0,1
"""
# the reader's case: the format, the file that is mangled, its content, and what else lies there
CASES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "coco": ("coco", "instances.json", json.dumps(COCO), {}),
    "voc": ("voc", "a.xml", XML, {"b.xml": XML}),
    "voc_labelmap": ("voc", "labelmap.txt", "# label:color_rgb:parts:actions\ncow:::\n", {"a.xml": XML, "b.xml": XML}),
    "voc_list": ("voc", "ImageSets/Main/train.txt", "a\nb\n", {"a.xml": XML, "b.xml": XML}),
    "yolo": ("yolo", "a.txt", LINES, {"data.yaml": POSE, "val.txt": "b.png\n"}),
    "yolo_yaml": ("yolo", "data.yaml", POSE, {"a.txt": LINES, "val.txt": "b.png\n"}),
    "yolo_names": ("yolo", "classes.txt", "cow\ndog\n", {"a.txt": "0 .5 .5 .2 .2\n"}),
    "pts": (
        "pts",
        "a.pts",
        "version: 1\nn_points: 2\n{\n11 6\n21.5 11\n}\n",
        {"b.pts": "n_points: 2\n{\n1 2\n3 4\n}\n"},
    ),
    "landmarks_csv": ("landmarks_csv", "x.csv", 'file,l_x,l_y,r_x,r_y\na.png,1,2,3,4\n"b.png",,,3,4.5\n', {}),
    "deeplabcut": ("deeplabcut", "CollectedData_a.csv", THREE + "labeled-data\\m\\a.png,1,2,3,4\nb.png,,,3,4\n", {}),
    "imagefolder": (
        "imagefolder",
        "metadata.jsonl",
        "".join(json.dumps(row) + "\n" for row in ROWS),
        {"README.md": README},
    ),
    "imagefolder_csv": (
        "imagefolder",
        "metadata.csv",
        'file_name,label,objects\na.png,x,"{""bbox"": [[1, 2, 3, 4]], ""categories"": [""cow""]}"\nb.png,y,\n',
        {},
    ),
    "imagefolder_readme": ("imagefolder", "README.md", README, {"metadata.jsonl": json.dumps(ROWS[0])}),
    "imagefolder_own": ("imagefolder", "train/metadata.jsonl", OWN.to_line(), {}),
    "imagefolder_own_columns": ("imagefolder", "train/metadata.jsonl", json.dumps(COLUMNS), {}),
    "imagefolder_columns": ("imagefolder", "train/metadata.jsonl", json.dumps(COLUMNS), {}),
    "imagefolder_dataset": ("imagefolder", "dataset.json", "", {"train/metadata.jsonl": OWN.to_line()}),
    "crops": ("crops", "train/metadata.jsonl", OWN.to_line(), {f"{s}/metadata.jsonl": "" for s in ("val", "test")}),
    "ucf24": ("ucf24", "boxes.json", json.dumps({"v_Run_g01_c01": {"tracks": [TRACK]}}), {}),
    "cvat": ("cvat", "annotations.xml", CVAT_IMAGES, {}),
    "cvat_video": ("cvat", "annotations.xml", CVAT_VIDEO, {f"frame_00000{i}.jpg": SIZE for i in range(2)}),
    "labelme": ("labelme", "a.json", json.dumps(LABELME), {"b.json": LABELME | {"imagePath": "b.png"}}),
    "label_studio": ("label_studio", "tasks.json", json.dumps(LABEL_STUDIO), {}),
    "label_studio_config": ("label_studio", "label_config.xml", CONFIG, {"tasks.json": LABEL_STUDIO}),
    "open_images": ("open_images", "train-annotations-bbox.csv", OPEN_IMAGES, {"classes.csv": "/m/0cmf2,Bird"}),
    "open_images_names": ("open_images", "class-descriptions.csv", CLASSES, {"boxes.csv": OPEN_IMAGES}),
    "ucf101_list": (
        "ucf101",
        "ucfTrainTestlist/trainlist01.txt",
        "Run/v_Run_g01_c01.avi 1\n",
        {"ucfTrainTestlist/testlist01.txt": "Hop/v_Hop_g02_c01.avi\n"},
    ),
}
# what stands in label files, or is never expected there
TOKENS = [
    *(b"NaN", b"nan", b"-1", b"0", b"1e999", b"-0.0", b"9" * 400, b"9" * 5000, b"null", b"true", b"[]", b"{}", b'""'),
    *(b'"', b"'", b",", b":", b"\n", b"\r", b"\t", b" ", b"\\", b"/", b"<", b">", b"&a;", b"[" * 3000, b'{"a":' * 3000),
    *(
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        "\u2028".encode(),
        "\u00df\u0130".encode(),
        b"\\ud800",
    ),
    *(
        b"../",
        b"..",
        b"a.png",
        b"1",
        b"2",
        b"3.5",
        b"cow",
        b"id",
        b"*a",
        b"&a ",
        b"!!python/object:os.system",
        b"2001-99-99",
        b"&b [*b]",
        b'<!DOCTYPE a [<!ENTITY a "aa">]>',
    ),
]
edits = st.lists(
    st.tuples(
        st.sampled_from(["put", "over", "cut", "drop", "twice", "flip"]),
        st.floats(0, 1),
        st.integers(1, 30),
        st.sampled_from(TOKENS) | st.binary(min_size=1, max_size=4),
    ),
    min_size=1,
    max_size=4,
)


def mangled(data: bytes, changes: list[tuple[str, float, int, bytes]]) -> bytes:
    for way, share, length, token in changes:
        at = round(share * len(data))
        end = at + length
        if way == "put":
            data = data[:at] + token + data[at:]
        elif way == "over":
            data = data[:at] + token + data[at + len(token) :]
        elif way == "cut":
            data = data[:at]
        elif way == "drop":
            data = data[:at] + data[end:]
        elif way == "twice":
            data = data[:end] + data[at:end] + data[end:]
        else:
            data = data[:at] + bytes(byte ^ (1 << length % 8) for byte in data[at : at + 1]) + data[at + 1 :]
    return data


@pytest.fixture(scope="module")
def place(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path, bytes]:
    """(format, folder, file to mangle, its content) of a case: small and right."""
    form, name, content, others = CASES[request.param]
    root = tmp_path_factory.mktemp(request.param)
    for other in ("", "train/"):
        for image in "ab":
            (root / other).mkdir(exist_ok=True)
            Image.new("RGB", SIZE).save(root / other / f"{image}.png")
    for clip in ("Run/v_Run_g01_c01.avi", "Hop/v_Hop_g02_c01.avi"):
        write_text(root / clip, "")
    if form == "crops" or "own" in request.param or "dataset" in request.param:
        write_dataset(root, Dataset("herd", ["cow", "day"], ["nose"]))
    make(root, others)
    if content:
        write_text(root / name, content)
    return form, root, root / name, (root / name).read_bytes()


@pytest.mark.parametrize("place", CASES, indirect=True)
def test_a_whole_file_is_read(place: tuple[str, Path, Path, bytes]) -> None:
    form, root, file, content = place
    file.write_bytes(content)
    labels = file if form == "ucf24" else root
    reading = FORMATS[form].read(root, labels, FORMATS[form].Options())
    assert reading.candidates
    assert {p.rule for p in reading.problems if p.done == "dropped"} <= {"other_shape"}, "a polygon lies in two of them"


@pytest.mark.parametrize("place", CASES, indirect=True)
@settings(
    max_examples=COUNT,
    derandomize=COUNT == USUAL,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(changes=edits)
def test_a_mangled_file_is_read_or_refused_by_name(place: tuple[str, Path, Path, bytes], changes: Any) -> None:
    form, root, file, content = place
    file.write_bytes(mangled(content, changes))
    labels, row = file if form == "ucf24" else root, FORMATS[form]
    if row.recognize:
        try:
            row.recognize(root, labels)
        except InputError as error:
            assert str(root) in str(error)
    try:
        reading = row.read(root, labels, row.Options())
    except InputError as error:
        assert str(root) in str(error)
        return
    assert len({c.id.casefold() for c in reading.candidates}) == len(reading.candidates)
    for candidate in reading.candidates:
        assert len(candidate.objects) == len(candidate.keys) or candidate.marks
        check_objects(candidate.name, candidate.objects, candidate.keys, candidate.size or SIZE)
        assert {o.label for o in candidate.objects} <= set(reading.labels)
        assert candidate.label is None or candidate.label in reading.labels
    ledger_text(reading.problems).encode(errors="backslashreplace")

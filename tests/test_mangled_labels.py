"""A good file of labels with mangled bytes gives an InputError or rows in the ledger, never another exception.

POCKETLENS_MANGLED is how many files of each format there are (default 300); more are other ones each time:

    POCKETLENS_MANGLED=50000 python -m pytest tests/test_mangled_labels.py
"""

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import make, mangled

from pipeline.core.errors import InputError
from pipeline.core.sample import Sample
from pipeline.datasets.formats import FORMATS, detect_format
from pipeline.datasets.ingest.checks import check_objects

USUAL = 300
COUNT = int(os.environ.get("POCKETLENS_MANGLED", USUAL))
SIZE = (40, 20)

CVAT_IMAGES = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version><meta><task><labels>
<label><name>cow</name><type>any</type></label><label><name>cow_points</name><type>skeleton</type>
<svg>&lt;line data-node-from="1" data-node-to="2"/&gt;&lt;circle data-node-id="1" data-label-name="nose"/&gt;
&lt;circle data-node-id="2" data-label-name="tail"/&gt;</svg></label>
<label><name>nose</name><parent>cow_points</parent></label><label><name>tail</name><parent>cow_points</parent></label>
</labels></task></meta><image id="0" name="a.jpg" subset="Train" width="40" height="20">
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
    "imagePath": "..\\pictures\\a.jpg",
    "imageData": None,
    "imageHeight": 20,
    "imageWidth": 40,
}
WIDE = {"original_width": 40, "original_height": 20, "image_rotation": 0, "to_name": "image"}
LABEL_STUDIO = [
    {
        "id": 1,
        "data": {"image": "/data/local-files/?d=herd/a.jpg"},
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
OPEN_IMAGES = """ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction
a,xclick,/m/01xq0k1,1,0.012,0.195,0.148,0.587,0,1,0,0
a,xclick,/m/0cmf2,1,0.5,0.75,0.148,0.587,-1,-1,1,-1
b,xclick,/m/0cmf2,1,0.5,0.75,0.148,0.587,0,0,0,1
"""

# format -> files beside two images a.jpg and b.jpg, of which the first one is mangled
GOOD: dict[str, tuple[str, dict[str, Any]]] = {
    "cvat of images": ("cvat", {"annotations.xml": CVAT_IMAGES}),
    "cvat of a video": ("cvat", {"annotations.xml": CVAT_VIDEO, "frame_000000.jpg": SIZE, "frame_000001.jpg": SIZE}),
    "labelme": ("labelme", {"a.json": LABELME, "b.json": LABELME | {"imagePath": "b.jpg"}}),
    "label_studio": ("label_studio", {"tasks.json": LABEL_STUDIO}),
    "open_images": (
        "open_images",
        {"train-annotations-bbox.csv": OPEN_IMAGES, "classes.csv": "/m/0cmf2,Bird"},
    ),
    "names of open_images": (
        "open_images",
        {"class-descriptions.csv": "LabelName,DisplayName\n/m/0cmf2,Bird\n", "boxes.csv": OPEN_IMAGES},
    ),
}


@pytest.fixture(params=GOOD)
def good(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path, Path]:
    """Format, folder and the file that is to be mangled."""
    form, files = GOOD[request.param]
    root = make(tmp_path_factory.mktemp("good"), {"a.jpg": SIZE, "b.jpg": SIZE} | files)
    return form, root, root / next(iter(files))


def test_the_whole_files_are_recognized_and_read(good: tuple[str, Path, Path]) -> None:
    form, root, _ = good
    assert detect_format(root)[0] == form
    assert looked_at(form, root) > 0


def test_each_mangled_file_is_read_or_refused_by_name(good: tuple[str, Path, Path]) -> None:
    form, root, file = good
    whole = file.read_bytes()

    @settings(max_examples=COUNT, derandomize=COUNT == USUAL, database=None)
    @given(st.data())
    def each(data: st.DataObject) -> None:
        file.write_bytes(data.draw(mangled(whole)))
        for labels in (root, file):
            try:
                looked_at(form, root, labels)
            except InputError as error:
                assert str(root) in str(error)
        try:
            detect_format(root)
        except InputError as error:
            assert str(root) in str(error)

    each()


def looked_at(form: str, root: Path, labels: Path | None = None) -> int:
    """Read it, and do with each image what `ingest` does; how many objects are kept."""
    row = FORMATS[form]
    reading = row.read(root, labels or root, row.Options())
    count = 0
    for c in reading.candidates:
        kept, _, _ = check_objects(c.name, c.objects, c.keys, SIZE)
        assert {o.label for o in kept} <= set(reading.labels)
        Sample(c.id, c.file.name, *SIZE, c.split, c.group, c.clip, c.label, objects=kept).to_line()
        count += len(kept)
    for problem in reading.problems:
        assert all(isinstance(text, str) for text in (problem.file, problem.key, problem.rule, problem.found))
    return count

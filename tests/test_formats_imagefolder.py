"""Hugging Face's imagefolder, and what ingest writes, which is one."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from test_formats import make, read, rules

from pipeline.core.errors import InputError
from pipeline.core.lines import BEYOND
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.imagefolder import Options
from pipeline.datasets.formats.reading import Reading

P = (100, 50)
COW = {"bbox": [[10, 5, 50, 20]], "categories": ["cow"]}


def read_folder(root: Path, labels: Path | None = None, **options: str) -> Reading:
    return read("imagefolder", root, labels, Options(**options))


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("files", "labels", "splits"),
    [
        (
            {"metadata.jsonl": lines({"file_name": "a.jpg", "label": "cat"}, {"file_name": "b/c.jpg", "label": "dog"})},
            {"a.jpg": "cat", "b/c.jpg": "dog"},
            {None},
        ),
        (
            {"metadata.csv": 'file_name,label\ntrain/a.jpg,cat\ntest/c.jpg,"dog, big"\n'},
            {"train/a.jpg": "cat", "test/c.jpg": "dog, big"},
            {"train", "test"},
        ),
        (
            {
                "train/metadata.csv": "\ufefflabel,file_name\r\n0,x\\a.jpg\r\n",
                "validation/metadata.jsonl": lines({"file_name": "./c.jpg", "label": 10}) + "\n",
            },
            {"train/x/a.jpg": "0", "validation/c.jpg": "10"},
            {"train", "val"},
        ),
        # the column counts and not the folder, as for Hugging Face
        (
            {
                "metadata.jsonl": lines(
                    {"file_name": "cat/a.jpg", "label": "dog"}, {"file_name": "dog/c.jpg", "label": "cat"}
                )
            },
            {"cat/a.jpg": "dog", "dog/c.jpg": "cat"},
            {None},
        ),
    ],
)
def test_labels_of_images(
    tmp_path: Path, files: dict[str, str], labels: dict[str, str], splits: set[str | None]
) -> None:
    root = make(tmp_path, {**files, **dict.fromkeys(labels, P)})
    assert detect_format(root)[0] == "imagefolder"
    reading = read_folder(root)
    assert {c.name: c.label for c in reading.candidates} == labels
    assert reading.labels == sorted(labels.values())
    assert ({c.split for c in reading.candidates}, rules(reading)) == (splits, [])


README = """---
license: mit
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': zebra
          '1': ant
  - name: objects
    sequence:
    - name: bbox
      sequence: float32
      length: 4
    - name: categories
      dtype:
        class_label:
          names: [head, hand]
---
# Things
"""


def test_numbers_have_the_names_of_the_readme(tmp_path: Path) -> None:
    rows = lines(
        {
            "file_name": "a.jpg",
            "label": 1,
            "objects": {"bbox": [[10, 5, 50, 20], [0, 0, 10, 10]], "categories": [1, 0]},
        },
        {"file_name": "b.jpg", "label": "zebra", "objects": [{"bbox": [1.5, 2, 3, 4], "category": 9}]},
        {"file_name": "c.jpg", "label": 2, "objects": []},
    )
    root = make(tmp_path, {"README.md": README, "metadata.jsonl": rows, "a.jpg": P, "b.jpg": P, "c.jpg": P})
    reading = read_folder(root)
    assert [c.label for c in reading.candidates] == ["ant", "zebra"]
    assert reading.labels == ["zebra", "ant", "head", "hand"]
    assert [(o.label, o.box) for o in reading.candidates[0].objects] == [
        ("hand", (0.1, 0.1, 0.5, 0.4)),
        ("head", (0.0, 0.0, 0.1, 0.2)),
    ]
    assert [(p.file, p.rule, p.found) for p in reading.problems] == [
        ("b.jpg", "unknown_class", "class 9, expected 0 to 1 as README.md has names"),
        ("c.jpg", "bad_row", "class 2, expected 0 to 1 as README.md has names"),
    ]


def test_boxes_in_a_csv_and_columns_of_other_names(tmp_path: Path) -> None:
    cell = json.dumps(COW | {"iscrowd": [1], "area": [1000]}).replace('"', '""')
    text = f'file_name,faces,kind,text\na.jpg,"{cell}",x,hello\nb.jpg,"{{""bbox"": [], ""categories"": []}}",y,\n'
    root = make(tmp_path, {"a.jpg": P, "b.jpg": P, "metadata.csv": text})
    reading = read_folder(root, label="kind", objects="faces")
    a, b = reading.candidates
    assert [(a.label, o.label, o.box, o.crowd) for o in a.objects] == [("x", "cow", (0.1, 0.1, 0.5, 0.4), True)]
    assert (a.keys, b.label, b.objects) == (["metadata.csv:2 object 0"], "y", [])
    assert [p.found for p in reading.problems] == ["columns text; not read"]


def test_a_row_of_a_csv_with_a_cell_too_many_is_said(tmp_path: Path) -> None:
    text = "file_name,label\na.jpg,cow\nb.jpg,cow, brown\nc.jpg,goat,,\n"
    reading = read_folder(make(tmp_path, {"a.jpg": P, "b.jpg": P, "c.jpg": P, "metadata.csv": text}))
    assert {c.name: c.label for c in reading.candidates} == {"a.jpg": "cow", "c.jpg": "goat"}
    found = "3 cells, expected 2 as in the header; a cell with a comma is put into quotes"
    assert [(p.key, p.rule, p.found, p.done) for p in reading.problems] == [
        ("metadata.csv:3", "bad_row", found, "refused"),
        ("", "not_listed", "1 images that no row which was read names", "noted"),
    ]


def test_a_key_of_json_is_never_taken_for_what_stands_beyond_a_header(tmp_path: Path) -> None:
    rows = lines({"file_name": "a.jpg", "label": "cow", BEYOND: [1]})
    reading = read_folder(make(tmp_path, {"a.jpg": P, "metadata.jsonl": rows}))
    assert [(c.name, c.label) for c in reading.candidates] == [("a.jpg", "cow")]
    assert [p.rule for p in reading.problems] == ["not_read"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"label": "x"}, ("metadata.jsonl", "bad_row", "file_name is None; expected a path")),
        ({"file_name": ["b.jpg"]}, ("metadata.jsonl", "bad_row", "file_name is ['b.jpg']")),
        ({"file_name": "c.jpg", "label": "x"}, ("c.jpg", "missing_file", "no such image")),
        ({"file_name": "../a.jpg", "label": "x"}, ("../a.jpg", "missing_file", "no such image")),
        ({"file_name": "a.jpg", "label": "x"}, ("a.jpg", "listed_twice", "there already, in metadata.jsonl:1")),
        ({"file_name": "b.jpg"}, ("b.jpg", "bad_row", "neither label nor objects")),
        ({"file_name": "b.jpg", "label": ["x"]}, ("b.jpg", "bad_row", "class ['x']; expected a name or a number")),
        ({"file_name": "b.jpg", "objects": 3}, ("b.jpg", "bad_row", "objects 3; expected lists of bbox")),
        ({"file_name": "b.jpg", "objects": "[1"}, ("b.jpg", "bad_row", "objects: not JSON")),
        (
            {"file_name": "b.jpg", "objects": COW | {"categories": []}},
            ("b.jpg", "bad_row", "1 of bbox, 0 of categories"),
        ),
        (
            {"file_name": "b.jpg", "objects": COW | {"bbox": [[1, 2, 3]]}},
            ("b.jpg", "bad_box", "bbox [1, 2, 3]; expected"),
        ),
        (
            {"file_name": "b.jpg", "objects": COW | {"bbox": [[1, 2, 3, 10**400]]}},
            ("b.jpg", "bad_box", "bbox [1, 2, 3, 1000"),
        ),
        (
            {"file_name": "b.jpg", "objects": COW | {"bbox": [[1, 2, True, 4]]}},
            ("b.jpg", "bad_box", "bbox [1, 2, True, 4]; expected [x, y, w, h]"),
        ),
        ({"file_name": "b.jpg", "objects": None}, ("b.jpg", "bad_row", "neither label nor objects")),
        ({"file_name": "b.jpg", "objects": {}}, ("b.jpg", "bad_row", "objects {}; expected a list bbox, empty where")),
        (
            {"file_name": "b.jpg", "objects": {"boxes": [[1, 2, 3, 4]]}},
            ("b.jpg", "bad_row", "objects {'boxes': [[1, 2, 3, 4]]}; expected a list bbox"),
        ),
        ({"file_name": "b.jpg", "objects": COW | {"bbox": None}}, ("b.jpg", "bad_row", "objects {'bbox': None, ")),
        (
            {"file_name": "b.jpg", "label": "x", "objects": {"boxes": [[1, 2, 3, 4]]}},
            ("b.jpg", "bad_row", "objects {'boxes': [[1, 2, 3, 4]]}; expected a list bbox"),
        ),
        (
            {"file_name": "b.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "category": "x"}},
            ("b.jpg", "bad_row", "objects {'bbox': [[1, 2, 3, 4]], 'category': ...; expected a list category, empty"),
        ),
        (
            {"file_name": "b.jpg", "objects": {"bbox": [[1, 2, 3, 4]], "iscrowd": 1}},
            ("b.jpg", "bad_row", "objects {'bbox': [[1, 2, 3, 4]], 'iscrowd': 1}; expected a list iscrowd, empty"),
        ),
        *(
            (
                {"file_name": "b.jpg", "objects": COW | {"iscrowd": [v]}},
                ("b.jpg", "bad_row", f"iscrowd: {v!r}, expected"),
            )
            for v in (2, "no", 0.5)
        ),
        (
            {"file_name": "b.jpg", "objects": {"bbox": [[1, 2, 3, 4]]}},
            ("b.jpg", "unknown_class", "class None; expected"),
        ),
        ("b.jpg", ("metadata.jsonl", "bad_row", '"b.jpg": not an object')),
        ({"file_name": "d.jpg", "objects": COW}, ("d.jpg", "unreadable", "")),
    ],
)
def test_bad_rows(tmp_path: Path, row: Any, problem: tuple[str, str, str]) -> None:
    text = lines({"file_name": "a.jpg", "label": "x"}, row) + "{\n"
    root = make(tmp_path, {"a.jpg": P, "b.jpg": P, "d.jpg": "no image", "metadata.jsonl": text})
    found = [p for p in read_folder(root).problems if p.rule != "not_listed"]
    assert [(p.file, p.rule) for p in found] == [problem[:2], ("metadata.jsonl", "bad_row")]
    assert found[0].found.startswith(problem[2])
    assert found[1].key == "metadata.jsonl:3"


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({}, r"no metadata\.jsonl or metadata\.csv"),
        ({"metadata.csv": "", "metadata.jsonl": ""}, r"metadata\.csv: metadata\.jsonl is beside it; expected one of"),
        ({"metadata.csv": "file_name,label,label\na.jpg,x,y\n"}, "column 'label' twice"),
        ({"metadata.jsonl": "{}", "README.md": "---\nclass_label: [\n---\n"}, r"README\.md: its head: not YAML"),
        (
            {"metadata.jsonl": lines({"file_name": "a.jpg", "label": "x"}), "dataset.json": {}},
            r"dataset\.json: not a dataset: no name, labels, pairs, skeleton; expected name",
        ),
    ],
)
def test_errors(tmp_path: Path, files: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        read_folder(make(tmp_path, {"a.jpg": P, **files}))


@pytest.mark.parametrize("objects", [[], {"bbox": []}, {"bbox": [], "categories": []}, {"bbox": [], "iscrowd": None}])
def test_an_empty_list_says_that_nothing_is_there(tmp_path: Path, objects: Any) -> None:
    reading = read_folder(
        make(tmp_path, {"a.jpg": P, "metadata.jsonl": lines({"file_name": "a.jpg", "objects": objects})})
    )
    assert [c.objects for c in reading.candidates] == [[]]
    assert reading.problems == []


@pytest.mark.parametrize(
    "objects",
    [{}, {"boxes": []}, {"bbox": None, "categories": None}, {"bbox": None, "categories": []}, {"bbox": []}, None, []],
)
@pytest.mark.parametrize("written", [False, True])
def test_objects_that_say_nothing_are_no_fault_beside_a_label(tmp_path: Path, objects: Any, written: bool) -> None:
    own = {"id": "a", "width": 100, "height": 50} if written and objects and "bbox" in objects else {}
    text = lines({"file_name": "a.jpg", "label": "cow", "objects": objects, **own})
    reading = read_folder(make(tmp_path, {"a.jpg": P, "metadata.jsonl": text}))
    assert [(c.label, c.objects) for c in reading.candidates] == [("cow", [])]
    assert reading.problems == []


@pytest.mark.parametrize(
    "more",
    [{"label": "x"}, {"category": 3}, {"categories": None, "category": ["cow"]}, {"iscrowd": [0], "crowd": False}],
)
def test_a_key_that_nothing_uses_needs_no_list(tmp_path: Path, more: dict[str, Any]) -> None:
    text = lines({"file_name": "a.jpg", "objects": COW | more})
    reading = read_folder(make(tmp_path, {"a.jpg": P, "metadata.jsonl": text}))
    assert [o.label for o in reading.candidates[0].objects] == ["cow"]
    assert reading.problems == []


def test_where_no_box_is_no_key_needs_a_list(tmp_path: Path) -> None:
    text = lines({"file_name": "a.jpg", "objects": {"bbox": [], "categories": "cow", "iscrowd": 0}})
    reading = read_folder(make(tmp_path, {"a.jpg": P, "metadata.jsonl": text}))
    assert ([c.objects for c in reading.candidates], reading.problems) == ([[]], [])


@pytest.mark.parametrize(("said", "crowd"), [("false", False), ("0", False), ("1", True), (None, False), (1.0, True)])
def test_a_flag_may_be_text(tmp_path: Path, said: Any, crowd: bool) -> None:
    row = {"file_name": "a.jpg", "objects": COW | {"iscrowd": [said]}}
    reading = read_folder(make(tmp_path, {"a.jpg": P, "metadata.jsonl": lines(row)}))
    assert [o.crowd for o in reading.candidates[0].objects] == [crowd]


def test_a_class_that_is_once_a_number_and_once_a_text_is_said(tmp_path: Path) -> None:
    rows = lines({"file_name": "a.jpg", "label": 1}, {"file_name": "b.jpg", "label": "1"})
    reading = read_folder(make(tmp_path, {"a.jpg": P, "b.jpg": P, "metadata.jsonl": rows}))
    assert (reading.labels, [p.key for p in reading.problems]) == (["1"], ["1"])


def test_captions_leave_the_classes_to_the_folders(tmp_path: Path) -> None:
    rows = lines({"file_name": "cat/a.jpg", "text": "a cat"}, {"file_name": "dog/b.jpg", "text": "a dog"})
    assert detect_format(make(tmp_path, {"cat/a.jpg": P, "dog/b.jpg": P, "metadata.jsonl": rows}))[0] == "folder"


# --- what ingest writes


def ingested(root: Path) -> list[Sample]:
    points = [Landmark(0.25, 1 / 3, 2), Landmark(0.0, 0.0, 0), Landmark(0.5, 0.125, 1)]
    objects = [
        Object("cow", (0.1, 0.2, 1 / 3, 0.4), points),
        Object("goat", (0.0, 0.0, 1.0, 1.0), [Landmark(0, 0, 0)] * 3, True),
    ]
    long = f"{'x' * 100}-0a1b2c3d"
    samples = [
        Sample(long, f"{long}.jpg", *P, "train", "herd 7", "clip-1", "day", objects=objects),
        Sample("名前", "名前.jpg", *P, "train", "herd 7", objects=[]),
        Sample("b", "b.jpg", *P, "test", label="night", objects=objects[:1]),
    ]
    write_dataset(
        root, Dataset("herd", ["goat", "cow", "night", "day"], ["nose", "l_eye", "r_eye"], [(1, 2)], [(0, 1)])
    )
    for split in ("train", "val", "test"):
        write_samples(root / split, [s for s in samples if s.split == split])
    for sample in samples:
        Image.new("RGB", P).save(root / str(sample.split) / sample.file_name)
    return samples


def test_what_ingest_has_written_reads_back_as_it_was(tmp_path: Path) -> None:
    samples = ingested(tmp_path)
    assert detect_format(tmp_path)[0] == "imagefolder"
    reading = read_folder(tmp_path)
    assert (reading.labels, reading.landmarks) == (["goat", "cow", "night", "day"], ["nose", "l_eye", "r_eye"])
    assert (reading.pairs, reading.skeleton, reading.problems) == ([(1, 2)], [(0, 1)], [])
    found = {
        c.id: Sample(c.id, c.file.name, *(c.size or P), c.split, c.group, c.clip, c.label, objects=c.objects)
        for c in reading.candidates
    }
    assert found == {s.id: s for s in samples}
    # a folder of a split alone has no names of landmarks
    alone = read_folder(tmp_path / "train")
    assert (alone.labels, alone.landmarks) == (["cow", "day", "goat"], ["point_0", "point_1", "point_2"])
    assert [c.split for c in alone.candidates] == ["train", "train"]


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        ({"id": ""}, "bad_row"),
        ({"id": 3}, "bad_row"),
        ({"width": "9"}, "bad_row"),
        ({"split": "dev"}, "bad_row"),
        ({"group": [1]}, "bad_row"),
        ({"label": "cat"}, "bad_row"),
        ({"objects": [{"label": "cow"}]}, "bad_row"),
        ({"objects": {"box": 1}}, "bad_row"),
        ({"objects": {}}, "bad_row"),
        ({"objects": ""}, "bad_row"),
        ({"objects": [{"label": "cow", "box": [0, 0, 1, 1, 9]}]}, "bad_row"),
        ({"objects": [{"label": "cat", "box": [0, 0, 1, 1]}]}, "unknown_class"),
        ({"objects": [{"label": "cow", "box": [0, 0, 1, "1"]}]}, "bad_box"),
        ({"objects": [{"label": "cow", "box": [0, 0, 1, 1], "landmarks": [[0, 0, 2]]}]}, "bad_landmarks"),
        ({"objects": [{"label": "cow", "box": [0, 0, 1, 1], "landmarks": [[0, 0, 3]] * 3}]}, "bad_landmarks"),
    ],
)
def test_a_row_of_ours_that_somebody_has_changed(tmp_path: Path, change: dict[str, Any], rule: str) -> None:
    row = ingested(tmp_path)[2].to_json()
    (tmp_path / "test/metadata.jsonl").write_text(json.dumps(row | change), encoding="utf-8")
    assert [(p.file, p.rule) for p in read_folder(tmp_path).problems] == [("test/b.jpg", rule)]


def test_predictions_are_no_truth(tmp_path: Path) -> None:
    row = ingested(tmp_path)[2].to_json()
    (tmp_path / "test/metadata.jsonl").write_text(json.dumps(row | {"scores": {"cow": 0.9}}), encoding="utf-8")
    with pytest.raises(InputError, match=r"test/metadata\.jsonl:1: a prediction, by its scores"):
        read_folder(tmp_path)


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"objects": {"bbox": [[10, 5, 50, 20], [1, 1, 5, 5]], "categories": ["cow", "goat"]}},
         ("unknown_class", "dropped")),
        ({"objects": [{"bbox": [10, 5, 50, 20], "category": "cow"}, {"bbox": [1, 1, 5, 5], "category": "goat"}]},
         ("unknown_class", "dropped")),
        ({"label": "goat", "objects": COW}, ("bad_row", "refused")),
    ],
)  # fmt: skip
def test_rows_of_another_maker_have_the_classes_of_dataset_json_alone(
    tmp_path: Path, row: dict[str, Any], said: tuple[str, str]
) -> None:
    make(tmp_path, {"a.jpg": P, "metadata.jsonl": lines({"file_name": "a.jpg", **row})})
    write_dataset(tmp_path, Dataset("farm", ["cow", "horse"]))
    reading = read_folder(tmp_path)
    (problem,) = (p for p in reading.problems if p.rule != "not_read")
    assert ((problem.rule, problem.done), problem.found) == (said, "label 'goat', which dataset.json does not list")
    assert reading.labels == ["cow", "horse"]
    assert [o.label for c in reading.candidates for o in c.objects] == (["cow"] if said[1] == "dropped" else [])

"""What pycocotools, faster-coco-eval and globox make of what is written, and what users of the formats trip over."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import faster_coco_eval
import numpy as np
import pytest
from globox import AnnotationSet
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from ruamel.yaml import YAML

from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.convert.convert import convert
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.naming import placed
from pipeline.datasets.formats.reading import Candidate, Reading
from pipeline.datasets.formats.writing import Writer
from tests.label_files import make

ROOT = Path(__file__).parents[1]
WRITERS = [name for name, row in FORMATS.items() if row.write]
LIBRARIES: dict[str, Any] = {
    "pycocotools": (COCO, COCOeval),
    "faster-coco-eval": (faster_coco_eval.COCO, faster_coco_eval.COCOeval_faster),
}
POINTS = ["nose", "left_eye", "right_eye"]


def things(number: int, points: int) -> list[Object]:
    """Objects that touch the edges, in thirds that no decimal says; every second image has none."""
    landmarks = [Landmark(0.1, 0.2, 2), Landmark(1 / 3, 2 / 3, 1), Landmark(0.0, 0.0, 0)][:points]
    if number % 2:
        return []
    return [
        Object("cow", (0.0, 0.0, 1 / 3, 2 / 3), landmarks),
        Object("goat, kid", (2 / 3, 1 / 7, 1 / 3, 6 / 7), landmarks),
        Object("cow", (0.25, 0.5, 0.5, 0.25), landmarks, crowd=number == 2),
    ]


def herd(folder: Path, points: int = 0, suffix: str = ".jpg") -> Path:
    """Images of three splits, in the form of `ingest`."""
    samples = []
    for number, split in enumerate(("train", "train", "train", "val", "val", "test")):
        name = f"{split}/{number}{suffix}"
        make(folder, {name: (70, 30)})
        samples.append(Sample(f"i{number}", name, 70, 30, split, objects=things(number, points)))
    write_dataset(folder, Dataset("herd", ["goat, kid", "cow", "ü unused"], POINTS[:points], [(1, 2)][: points // 3]))
    write_samples(folder, samples)
    return folder


def read(form: str, folder: Path) -> Reading:
    row = FORMATS[form]
    return row.read(folder, folder, row.Options())


def lines_of(folder: Path) -> dict[str, list[list[str]]]:
    files = sorted((folder / "labels").rglob("*.txt"))
    return {f.relative_to(folder).as_posix(): [line.split(" ") for line in f.read_text().splitlines()] for f in files}


@pytest.mark.parametrize(("points", "kind"), [(0, "bbox"), (3, "bbox"), (3, "keypoints")])
@pytest.mark.parametrize("library", LIBRARIES)
def test_coco_against_itself_is_perfect(tmp_path: Path, points: int, kind: str, library: str) -> None:
    convert(herd(tmp_path / "herd", points), tmp_path / "out", "coco", "imagefolder")
    load, evaluation = LIBRARIES[library]
    for split in ("train", "val"):
        truth = load(str(tmp_path / f"out/annotations/instances_{split}.json"))
        rows = [{**row, "score": 0.9} for row in truth.dataset["annotations"] if not row["iscrowd"]]
        found = truth.loadRes(rows)
        judge = evaluation(truth, found, kind)
        if kind == "keypoints":
            judge.params.kpt_oks_sigmas = np.full(points, 0.05)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert judge.stats[0] == pytest.approx(1)


def test_coco_rows_have_what_tools_ask_for(tmp_path: Path) -> None:
    convert(herd(tmp_path / "herd", 3), tmp_path / "out", "coco", "imagefolder")
    files = [json.loads(f.read_bytes()) for f in sorted((tmp_path / "out/annotations").iterdir())]
    assert len(files) == 3
    for key in ("images", "annotations"):
        ids = [row["id"] for file in files for row in file[key]]
        assert ids and len(set(ids)) == len(ids) and min(ids) == 1
    bones = {"keypoints": POINTS, "skeleton": []}
    names = ["goat, kid", "cow", "ü unused"]
    assert all(f["categories"] == [{"id": i, "name": n, **bones} for i, n in enumerate(names, 1)] for f in files)
    rows = [row for file in files for row in file["annotations"]]
    assert [row["iscrowd"] for row in rows] == [0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert {row["num_keypoints"] for row in rows} == {2}
    assert rows[0]["bbox"] == [0, 0, 70 / 3, 20]  # whole pixels are whole
    assert all(row["area"] == row["bbox"][2] * row["bbox"][3] for row in rows)
    assert sorted(i["file_name"] for f in files for i in f["images"]) == [f"{n}.jpg" for n in range(6)]


def test_yolo_is_as_ultralytics_wants_it(tmp_path: Path) -> None:
    convert(herd(tmp_path / "herd", 3), tmp_path / "out", "yolo", "imagefolder")
    said = YAML(typ="safe").load((tmp_path / "out/data.yaml").read_text(encoding="utf-8"))
    assert said == {
        **{split: f"images/{split}" for split in ("train", "val", "test")},
        "nc": 3,
        "names": {0: "goat, kid", 1: "cow", 2: "ü unused"},
        "kpt_shape": [3, 3],
        "flip_idx": [0, 2, 1],
        "kpt_names": dict.fromkeys(range(3), POINTS),
    }
    lines = lines_of(tmp_path / "out")
    assert {name: len(rows) for name, rows in lines.items()} == {
        f"labels/{split}/{n}.txt": 0 if n % 2 else 3
        for n, split in enumerate(("train", "train", "train", "val", "val", "test"))
    }
    for words in (row for rows in lines.values() for row in rows):
        assert len(words) == 5 + 3 * 3
        assert all(0 <= float(word) <= 1 for word in words[1:7])
        assert all(repr(float(word)) == word for word in words[1:5])
    # as Ultralytics has it: what is right of an image's last /images/ is right of /labels/ in its label's
    for image in (tmp_path / "out/images").rglob("*.jpg"):
        before, after = str(image).rsplit("/images/", 1)
        assert Path(f"{before}/labels/{after}").with_suffix(".txt").is_file()


def test_a_folder_called_images_leads_to_the_labels_that_ultralytics_looks_for(tmp_path: Path) -> None:
    source = herd(tmp_path / "herd")
    make(source, {"train/cam/images/9.jpg": (70, 30)})
    with (source / "metadata.jsonl").open("a", encoding="utf-8") as file:
        file.write(Sample("i9", "train/cam/images/9.jpg", 70, 30, "train", objects=things(0, 0)).to_line())
    convert(source, tmp_path / "out", "yolo", "imagefolder")
    assert len((tmp_path / "out/images/train/cam/labels/9.txt").read_text().splitlines()) == 3
    assert [len(c.objects) for c in read("yolo", tmp_path / "out").candidates if c.name.endswith("9.jpg")] == [3]


def test_globox_reads_the_same_boxes(tmp_path: Path) -> None:
    source = herd(tmp_path / "herd")
    convert(source, tmp_path / "coco", "coco", "imagefolder")
    convert(source, tmp_path / "yolo", "yolo", "imagefolder")
    for split in ("train", "val", "test"):
        coco = AnnotationSet.from_coco(tmp_path / f"coco/annotations/instances_{split}.json")
        yolo = AnnotationSet.from_yolo_v5(
            tmp_path / f"yolo/labels/{split}", image_folder=tmp_path / f"yolo/images/{split}"
        )
        names = {"0": "goat, kid", "1": "cow"}
        ours = {c.name.rpartition("/")[2]: c for c in read("imagefolder", source).candidates if c.split == split}
        assert coco.image_ids == yolo.image_ids == ours.keys()
        for name, candidate in ours.items():
            expected = [(o.label, *_corners(o.box)) for o in candidate.objects]
            for found in (coco[name], yolo[name]):
                assert found.image_size == (70, 30)
                boxes = [(names.get(b.label, b.label), b.xmin, b.ymin, b.xmax, b.ymax) for b in found.boxes]
                for box, (label, *corners) in zip(boxes, expected, strict=True):
                    assert box == (label, *(pytest.approx(corner, abs=1e-9) for corner in corners))


def _corners(box: tuple[float, float, float, float]) -> tuple[float, ...]:
    x, y, w, h = box
    return x * 70, y * 30, (x + w) * 70, (y + h) * 30


@pytest.mark.parametrize("form", WRITERS)
def test_images_without_objects_are_written(tmp_path: Path, form: str) -> None:
    convert(herd(tmp_path / "herd"), tmp_path / "out", form, "imagefolder")
    back = read(form, tmp_path / "out")
    assert sorted(len(c.objects) for c in back.candidates) == [0, 0, 0, 3, 3, 3]


def test_text_is_utf8_with_plain_ends_of_lines_on_any_system(tmp_path: Path) -> None:
    source, outs = herd(tmp_path / "herd"), {form: tmp_path / form for form in WRITERS}
    told = ["--format", "imagefolder"]
    commands = [["convert", str(source), str(out), "--to", form, *told] for form, out in outs.items()]
    # an open() that leaves the encoding to the system is an error here
    program = (
        "import warnings; warnings.filterwarnings('error', category=EncodingWarning, module=r'pipeline\\.')\n"
        f"from pipeline import cli\nfor command in {commands!r}: cli.main(command)"
    )
    line = [sys.executable, "-X", "warn_default_encoding", "-c", program]
    done = subprocess.run(line, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    for form, out in outs.items():
        for file in (f for f in out.rglob("*") if f.is_file() and f.suffix not in (".jpg", ".png")):
            text = file.read_bytes().decode()
            assert "\r" not in text
            assert not text or text.endswith("\n") or file.suffix == ".xml", file
        assert [len(c.objects) for c in read(form, out).candidates].count(3) == 3


parts = st.text(st.sampled_from("aAb1.- _%\\é\u0301"), min_size=1, max_size=3).filter(lambda p: not p.startswith("."))
paths = st.builds(
    lambda folders, base, suffix: "/".join((*folders, base + suffix)),
    st.lists(st.one_of(parts, st.sampled_from(("train", "images", "x" * 250))), max_size=2),
    st.one_of(parts, st.just("y" * 240)),
    st.sampled_from((".png", ".jpg", ".PNG", ".gif")),
)


@given(st.lists(st.tuples(paths, st.sampled_from((None, "train", "val"))), unique=True, max_size=8), st.booleans())
def test_names_are_injective(named: list[tuple[str, str | None]], stems: bool) -> None:
    def place(split: str | None, name: str) -> str:
        return f"{split}/{name}" if split else name

    writer = Writer(place, lambda *_: None, frozenset(), stems=stems, suffixes=frozenset({".png", ".jpg"}))
    candidates = [Candidate(Path(name), name, split=split) for name, split in named]
    found, rows = placed(candidates, writer)
    keys = {re.sub(r"\.[^./]*$", "", name) if stems else name for name in map(str.casefold, found)}
    assert len(found) == len(candidates) == len(keys)
    assert all(len(part.encode()) <= 250 for name in found for part in name.split("/"))
    assert not any("\\" in name for name in found)
    assert len(rows) <= len(candidates)


def test_folders_that_only_say_that_images_lie_there_go() -> None:
    folders = ("JPEGImages", "Images", "imgs/train", "val_images", "VOC2007/JPEGImages")
    writer = Writer(lambda _, name: name, lambda *_: None, frozenset(), stems=False)
    for folder in (*folders, "cam1", "JPEGs of cows"):
        found, rows = placed([Candidate(Path("a.jpg"), f"{folder}/a.jpg")], writer)
        assert (found, rows) == (["a.jpg" if folder in folders else f"{folder}/a.jpg"], []), folder

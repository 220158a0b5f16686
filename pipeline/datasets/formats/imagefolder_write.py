"""Hugging Face's imagefolder, written: `train/metadata.jsonl` beside the images, `README.md` with features and splits.

A class stands by its name, for people and for pandas; README.md makes a `class_label` of it. Every row has all columns,
and `objects` all of its keys. What Hugging Face has no place for is in `dataset.json`, as `ingest` writes it: landmarks
by name, their pairs and skeleton.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pipeline.core.files import new_file, write_text
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, write_dataset
from pipeline.datasets.formats.reading import Problem
from pipeline.datasets.formats.writing import Lost, Writer, in_pixels
from pipeline.datasets.formats.yaml_text import quoted, yaml_text

IMAGES, TABLE = "images", "metadata.jsonl"
# what Hugging Face calls a split, and what is of none
KNOWN_AS = {None: "train", "train": "train", "val": "validation", "test": "test"}
MAYBE = ("group", "clip", "label")  # columns that are there if a row has something in them


def _place(split: str | None, name: str) -> str:
    return f"{split or IMAGES}/{name}"


@dataclass(slots=True)
class _Seen:
    """How many rows each split has, and how many of them have something in a column: (split, column)."""

    splits: Counter[str | None] = field(default_factory=Counter)
    filled: Counter[tuple[str | None, str]] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        self.splits[sample.split] += 1
        there = [column for column in MAYBE if getattr(sample, column) is not None]
        self.filled.update((sample.split, column) for column in (*there, *(["objects"] if sample.objects else [])))

    def rows_with(self, column: str) -> int:
        return sum(self.filled[split, column] for split in self.splits)

    def left_out(self) -> set[str]:
        """The columns that say nothing."""
        gone = {column for column in MAYBE if not self.rows_with(column)}
        unlabelled = self.splits.total() - self.rows_with("label")
        return gone if unlabelled or self.rows_with("objects") else {*gone, "objects"}

    def untyped(self) -> Iterator[Problem]:
        """Rows for columns of which some splits have nothing, and JSON does not say what it would be."""
        for column in (*MAYBE, "objects"):
            bare = [KNOWN_AS[split] for split in self.splits if not self.filled[split, column]]
            if 0 < len(bare) < len(self.splits):
                found = f"{', '.join(bare)}: none there, and `datasets` refuses splits whose rows show other types"
                yield Problem("", column, "untyped", found, "noted")


def _write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:
    seen = _Seen()
    with ExitStack() as stack:
        tables: dict[str | None, IO[str]] = {}
        for sample in samples:
            if sample.split not in tables:
                file = folder / _place(sample.split, TABLE)
                tables[sample.split] = stack.enter_context(file.open("w", encoding="utf-8", newline="\n"))
            tables[sample.split].write(_line(_row(sample, len(dataset.landmarks))))
            seen.add(sample)
    for split in seen.splits:
        _leave_out(seen.left_out(), folder / _place(split, TABLE))
    lost.problems += seen.untyped()
    write_dataset(folder, dataset)
    write_text(folder / "README.md", _readme(dataset, seen))


def _row(sample: Sample, landmarks: int) -> dict[str, Any]:
    row: dict[str, Any] = {"file_name": sample.file_name.removeprefix(_place(sample.split, ""))}
    row |= {"id": sample.id, "width": sample.width, "height": sample.height}
    row |= {column: getattr(sample, column) for column in MAYBE}
    boxes = [_pixels(o.box, sample) for o in sample.objects]
    objects = {"bbox": boxes, "categories": [o.label for o in sample.objects]}
    row["objects"] = objects | {"iscrowd": [int(o.crowd) for o in sample.objects]}
    if landmarks:
        row["objects"]["keypoints"] = [_points(o, landmarks, sample) for o in sample.objects]
    return row


def _pixels(shares: Iterable[float], sample: Sample) -> list[float]:
    """Always with a decimal point: a column of whole numbers would be one of integers to a reader of JSON."""
    sides = (sample.width, sample.height) * 2
    return [float(in_pixels(share, side)) for share, side in zip(shares, sides, strict=False)]


def _points(o: Object, landmarks: int, sample: Sample) -> list[list[float]]:
    points = [[*_pixels((p.x, p.y), sample), float(p.visibility)] for p in o.landmarks]
    return points or [[0.0, 0.0, 0.0]] * landmarks


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _leave_out(columns: set[str], table: Path) -> None:
    with (
        new_file(table) as place,
        place.open("w", encoding="utf-8", newline="\n") as after,
        table.open(encoding="utf-8", newline="\n") as before,
    ):
        for line in before:
            after.write(_line({key: value for key, value in json.loads(line).items() if key not in columns}))


def _readme(dataset: Dataset, seen: _Seen) -> str:
    splits = sorted(seen.splits, key=lambda split: -1 if split is None else SPLITS.index(split))
    files = [{"split": KNOWN_AS[split], "path": f"{_place(split, '')}**"} for split in splits]
    # `datasets` asks here, and not in dataset_info, for the features of a folder of images
    config = {"config_name": "default", "data_files": files, "features": _features(dataset, seen.left_out())}
    counts = ", ".join(f"{KNOWN_AS[split]} {seen.splits[split]}" for split in splits)
    text = "Boxes are x, y, width and height in pixels of the upright image, keypoints x, y and COCO's visibility."
    return f"---\n{yaml_text({'configs': [config]})}---\n\n# {dataset.name}\n\nImages: {counts}. {text}\n"


def _features(dataset: Dataset, left_out: set[str]) -> list[dict[str, Any]]:
    numbers = quoted([str(number) for number, _ in enumerate(dataset.labels)])
    classes = {"class_label": {"names": dict(zip(numbers, quoted(dataset.labels), strict=True))}}
    objects: list[dict[str, Any]] = [
        {"name": "bbox", "list": {"list": "float64"}},
        {"name": "categories", "list": classes},
        {"name": "iscrowd", "list": "int64"},
    ]
    if dataset.landmarks:
        objects.append({"name": "keypoints", "list": {"list": {"list": "float64"}}})
    texts = [{"name": column, "dtype": "string"} for column in ("group", "clip")]
    columns: list[dict[str, Any]] = [
        {"name": "image", "dtype": "image"},
        {"name": "id", "dtype": "string"},
        {"name": "width", "dtype": "int64"},
        {"name": "height", "dtype": "int64"},
        *texts,
        {"name": "label", "dtype": classes},
        {"name": "objects", "struct": objects},
    ]
    return [column for column in columns if column["name"] not in left_out]


WRITER = Writer(
    place=_place,
    write=_write,
    keeps=frozenset(
        {
            *("image_labels", "boxes", "crowds", "landmarks", "hidden", "splits", "groups", "clips", "ids"),
            *("both", "lone_split", "classes", "pairs", "skeleton"),
        }
    ),
)

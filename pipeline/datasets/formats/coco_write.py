"""COCO, written: `train/...` with `annotations/instances_train.json`; without splits `images/...`, `instances.json`.

Category ids count from 1 in the order of the classes, those of images and annotations over all files. Boxes are in
pixels of the upright image. There is no segmentation: none is invented.
"""

import json
import shutil
from collections.abc import Iterable
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from pipeline.core.sample import Dataset, Object, Sample
from pipeline.datasets.formats.writing import Lost, Writer, in_pixels

IMAGES = "images"


def _place(split: str | None, name: str) -> str:
    return f"{split or IMAGES}/{name}"


def _write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:  # noqa: ARG001
    numbers = {label: number for number, label in enumerate(dataset.labels, 1)}
    ids = count(1)
    with ExitStack() as stack:
        files: dict[str | None, _Split] = {}
        for number, sample in enumerate(samples, 1):
            if sample.split not in files:
                files[sample.split] = stack.enter_context(_Split(folder, sample.split, dataset))
            rows = [_row(next(ids), number, o, sample, numbers) for o in sample.objects]
            files[sample.split].add(sample, number, rows)


class _Split:
    """The file of one split: the rows of images go into it as they come, those of annotations beside it until then."""

    def __init__(self, folder: Path, split: str | None, dataset: Dataset) -> None:
        file = folder / "annotations" / (f"instances_{split}.json" if split else "instances.json")
        file.parent.mkdir(exist_ok=True)
        self.first, self.root = {"images": True, "annotations": True}, split or IMAGES
        self.dataset = dataset
        self.annotations: IO[bytes] = TemporaryFile(dir=folder)  # noqa: SIM115 (closed by __exit__)
        try:
            self.images: IO[bytes] = file.open("wb")
        except BaseException:
            self.annotations.close()
            raise

    def __enter__(self) -> "_Split":
        self.images.write(b'{"images": [')
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.images, self.annotations:
            if kind:
                return
            self.images.write(b'\n],\n"annotations": [')
            self.annotations.seek(0)
            shutil.copyfileobj(self.annotations, self.images)
            self.images.write(b'\n],\n"categories": [')
            for number, row in enumerate(_categories(self.dataset)):
                self.images.write(_line(row, number == 0))
            self.images.write(b"\n]}\n")

    def add(self, sample: Sample, number: int, rows: list[dict[str, Any]]) -> None:
        name = sample.file_name.removeprefix(f"{self.root}/")
        row = {"id": number, "file_name": name, "width": sample.width, "height": sample.height}
        self.images.write(_line(row, self.first["images"]))
        self.first["images"] = False
        for annotation in rows:
            self.annotations.write(_line(annotation, self.first["annotations"]))
            self.first["annotations"] = False


def _line(row: dict[str, Any], first: bool) -> bytes:
    return (("\n" if first else ",\n") + json.dumps(row, ensure_ascii=False, allow_nan=False)).encode()


def _row(number: int, image: int, o: Object, sample: Sample, categories: dict[str, int]) -> dict[str, Any]:
    sides = (sample.width, sample.height)
    x, y, w, h = (in_pixels(value, side) for value, side in zip(o.box, sides * 2, strict=True))
    row = {"id": number, "image_id": image, "category_id": categories[o.label], "bbox": [x, y, w, h]}
    row |= {"area": w * h, "iscrowd": int(o.crowd), "num_keypoints": sum(p.visibility > 0 for p in o.landmarks)}
    if o.landmarks:
        points = [(in_pixels(p.x, sides[0]), in_pixels(p.y, sides[1]), p.visibility) for p in o.landmarks]
        row["keypoints"] = [value for point in points for value in point]
    return row


def _categories(dataset: Dataset) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = [{"id": i, "name": label} for i, label in enumerate(dataset.labels, 1)]
    if dataset.landmarks:
        bones = [[a + 1, b + 1] for a, b in dataset.skeleton]
        rows = [{**row, "keypoints": dataset.landmarks, "skeleton": bones} for row in rows]
    return rows


WRITER = Writer(
    place=_place,
    write=_write,
    keeps=frozenset({"boxes", "crowds", "landmarks", "hidden", "splits", "classes", "skeleton"}),
)

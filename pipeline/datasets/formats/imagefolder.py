"""Hugging Face's imagefolder: `metadata.jsonl` or `metadata.csv` at or above the images, a row each.

    {"file_name": "0001.jpg", "label": "cat"}
    {"file_name": "0002.jpg", "objects": {"bbox": [[302, 109, 73, 52]], "categories": [0]}}

Boxes are x, y, width and height in pixels from 0. Numbers of classes have names where README.md's `dataset_info` has
them. What `ingest` writes is an imagefolder too, with more in it: `dataset.json`, and `Sample`s as rows.
"""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.files import each_key_once
from pipeline.core.lines import BEYOND, read_rows, rows_by_column
from pipeline.core.params import Block
from pipeline.core.sample import Object, Sample
from pipeline.datasets.formats import class_names, samples, signs
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.imagefolder_write import WRITER
from pipeline.datasets.formats.keys import brief
from pipeline.datasets.formats.reading import (
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    relative,
    upright_size,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import place
from pipeline.datasets.formats.values import flag, four

TABLES = ("metadata.jsonl", "metadata.csv")
NAME = "file_name"
CLASSES = ("categories", "category", "category_id", "labels", "label", "classes", "class")
CROWDS = ("iscrowd", "is_crowd", "crowd")
OWN = {f.name for f in fields(Sample)}
FIRST = 20  # tables that are opened to recognize the format


class Options(Block):
    label: Annotated[str, Field(min_length=1)] = "label"
    """The column with the class of an image."""
    objects: Annotated[str, Field(min_length=1)] = "objects"
    """The column with the boxes in an image and their classes."""


@dataclass(slots=True)
class Work:
    """What the rows share while they are read."""

    options: Options
    images: ImageIndex
    reading: Reading
    names: class_names.Names
    own: bool = False  # a dataset.json says what classes and landmarks there are
    taken: dict[str, str] = field(default_factory=dict)  # image -> its row
    unread: dict[str, None] = field(default_factory=dict)  # columns

    def problem(self, file: str, key: str, rule: str, found: str, done: str = "refused") -> None:
        self.reading.problems.append(Problem(file, key, rule, found, done))


def read(path: Path, labels: Path, options: Options) -> Reading:
    """`labels` is one table or a folder with some. Raises InputError if there is none, or one is of predictions.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> row = {"file_name": "a.png", "objects": {"bbox": [[10, 5, 50, 20]], "categories": ["cow"]}}
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (100, 50)).save(Path(folder, "a.png"))
    ...     _ = Path(folder, "metadata.jsonl").write_text(json.dumps(row))
    ...     reading = read(Path(folder), Path(folder), Options())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('cow', (0.1, 0.1, 0.5, 0.4))]
    """
    tables = _tables(labels)
    if not tables:
        raise InputError(f"{labels}: no {' or '.join(TABLES)}; expected a row per image with its {NAME}")
    images = ImageIndex(path)
    reading = Reading([], [])
    root = labels if labels.is_dir() else labels.parent
    names = class_names.of_readme(root, options.label, options.objects)
    work = Work(options, images, reading, names, samples.dataset_of(root, reading))
    names.only = reading.labels if work.own else None
    for table in tables:
        where = relative(table, labels, path)
        for line, row in _rows(table, reading, where):
            _take(row, table, f"{where}:{line}", path, work)
    place(reading, path, images.names, [])
    known = [candidate.id for candidate in reading.candidates]
    if not samples.are_ids(known):
        give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    if not work.own:
        seen = {o.label for c in reading.candidates for o in c.objects}
        reading.labels = names.in_order(seen | {c.label for c in reading.candidates if c.label})
    for name in names.said_twice():
        work.problem("", name, "bad_row", f"class {name} stands as a number and as a text; taken as one", "noted")
    if work.unread:
        work.problem("", "", "not_read", f"columns {', '.join(work.unread)}; not read", "noted")
    if rest := len(images.files) - len(work.taken):
        work.problem("", "", "not_listed", f"{rest} images that no row which was read names", "noted")
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    """A table of captions does not count: its images may be in class folders."""
    for table in _tables(labels)[:FIRST]:
        row = next((row for _, row in _rows(table, Reading([], []), "")), {})
        if NAME in row and {"label", "objects"} & row.keys():
            return f"rows of {NAME} and {'label' if 'label' in row else 'objects'} in {relative(table, labels)}"
    return None


def _tables(labels: Path) -> list[Path]:
    if labels.is_file():
        return [labels] if labels.suffix.lower() in (".jsonl", ".csv") else []
    found = sorted(file for file in files_under(labels, {".jsonl", ".csv"}) if file.name in TABLES)
    for file in found:
        if file.name == TABLES[1] and file.with_name(TABLES[0]) in found:
            raise InputError(f"{file}: {TABLES[0]} is beside it; expected one of the two, or `labels` that names it")
    return found


def _rows(table: Path, reading: Reading, where: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The rows with their lines; one that is no JSON object, or has cells beyond the header, is a problem."""
    if table.suffix.lower() == ".csv":
        for line, cells in rows_by_column(table):
            if BEYOND in cells:
                reading.problems.append(Problem(where, f"{where}:{line}", "bad_row", cells[BEYOND]))
            else:
                yield line, cells
        return
    for line, content in enumerate(read_rows(table).split("\n"), 1):  # not splitlines: a JSON string may hold U+2028
        if not content.strip():
            continue
        try:
            row = json.loads(content, object_pairs_hook=each_key_once)
        except (ValueError, RecursionError) as error:
            reading.problems.append(Problem(where, f"{where}:{line}", "bad_row", f"not JSON: {error}"))
            continue
        if isinstance(row, dict):
            yield line, row
        else:
            reading.problems.append(Problem(where, f"{where}:{line}", "bad_row", f"{content[:40]}: not an object"))


def _take(row: dict[str, Any], table: Path, key: str, path: Path, work: Work) -> None:
    """Add the image that the row names, with its labels."""
    said = row.get(NAME)
    if not isinstance(said, str) or not said.strip():
        work.problem(key.rpartition(":")[0], key, "bad_row", f"{NAME} is {said!r:.40}; expected a path")
        return
    file = Path(os.path.normpath(table.parent / said.replace("\\", "/")))
    name = file.relative_to(path).as_posix() if file.is_relative_to(path) else said
    if name not in work.images.names:
        below = file.is_relative_to(table.parent)
        meant = work.images.find(name) if below else []
        found = [other for other in meant if work.images.names[other].is_relative_to(table.parent)]
        if len(found) != 1:
            missing = "no such image at or below the folder of its table"
            work.problem(name, key, *work.images.fault(name, found, missing))
            return
        name = found[0]
    if name in work.taken:
        work.problem(name, key, "listed_twice", f"there already, in {work.taken[name]}", "dropped")
        return
    work.taken[name] = key
    candidate = Candidate(work.images.names[name], name)
    try:
        if _is_written(row):
            samples.fill(candidate, {**row, "objects": []}, key, work.own, work.reading)
            for number, thing in enumerate(_things(row["objects"], candidate.label is not None, "keypoints")):
                _add(candidate, thing, f"{key} object {number}", work, written=True)
        elif {"id", "width", "height"} <= row.keys() <= OWN:
            samples.fill(candidate, row, key, work.own, work.reading)
        else:
            if row.get(work.options.objects):
                candidate.size, candidate.unsized = _size(candidate, work), True
                if candidate.size is None:
                    _fill(candidate, row, key, work)
                    work.reading.lost += len(candidate.objects)
                    return
            _fill(candidate, row, key, work)
    except InputError:
        raise
    except ValueError as error:
        work.problem(name, key, "bad_row", str(error))
        return
    work.reading.candidates.append(candidate)


def _is_written(row: dict[str, Any]) -> bool:
    """Whether `convert` wrote the row: a `Sample` but for its objects, which are lists by key in pixels."""
    texts = isinstance(row.get("id"), str) and isinstance(row.get("label"), str | None)
    lists = isinstance(row.get("objects"), dict) and "bbox" in row["objects"]
    return texts and lists and {"id", "width", "height"} <= row.keys() <= OWN


def _size(candidate: Candidate, work: Work) -> tuple[int, int] | None:
    try:
        return upright_size(candidate.file)
    except ValueError as error:
        work.problem(candidate.name, "size", "unreadable", str(error))
        return None


def _fill(candidate: Candidate, row: dict[str, Any], key: str, work: Work) -> None:
    """Set the label and objects of a row as Hugging Face has it. Raises ValueError saying what is wrong."""
    read_too = {NAME, work.options.label, work.options.objects, "width", "height"}
    work.unread |= dict.fromkeys(column for column in row if column not in read_too)
    label = row.get(work.options.label)
    if label not in (None, ""):
        candidate.label = work.names.label(label)
    objects = row.get(work.options.objects)
    if isinstance(objects, str):  # a cell of a CSV
        try:
            objects = json.loads(objects, object_pairs_hook=each_key_once) if objects.strip() else None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{work.options.objects}: not JSON: {error}") from None
    if objects is not None:
        for number, thing in enumerate(_things(objects, candidate.label is not None)):
            _add(candidate, thing, f"{key} object {number}", work)
    elif candidate.label is None:
        raise ValueError(f"neither {work.options.label} nor {work.options.objects}")


def _things(objects: Any, labelled: bool, *more: str) -> list[dict[str, Any]]:
    """A dict for each object, of a list of such, or of lists by key, with `more` keys than usual. Raises ValueError.

    Of an image that is `labelled`, objects that say nothing are none. A key that others of its meaning replace, or that
    no box needs, may be anything.
    """
    if isinstance(objects, dict):
        if labelled and objects.get("bbox") is None and all(v in (None, []) for v in objects.values()):
            return []
        said = [[k for k in keys if objects.get(k) is not None] for keys in (("bbox",), CLASSES, CROWDS, more)]
        known = {k: objects[k] for k in chain(*said) if isinstance(objects[k], list)}
        wrong = ["bbox"] if "bbox" not in known else [k[0] for k in said if k and known.keys().isdisjoint(k)]
        if wrong and known.get("bbox") != []:
            raise ValueError(f"objects {brief(objects)}; expected a list {wrong[0]}, empty where there is nothing")
        boxes = known["bbox"]
        if wrong := [k for k, v in known.items() if len(v) != len(boxes)]:
            raise ValueError(f"{len(boxes)} of bbox, {len(known[wrong[0]])} of {wrong[0]}; expected as many")
        return [{k: v[i] for k, v in known.items()} for i in range(len(boxes))]
    if not isinstance(objects, list) or not all(isinstance(thing, dict) for thing in objects):
        raise ValueError(f"objects {objects!r:.40}; expected lists of bbox and categories, or a list of objects")
    return objects


def _add(candidate: Candidate, thing: dict[str, Any], key: str, work: Work, written: bool = False) -> None:
    """Add an object; of one that `convert` wrote the landmarks too."""
    wide, high = candidate.size or (1, 1)
    said: Any = next((thing[name] for name in CLASSES if thing.get(name) is not None), None)
    rule = "bad_box"
    try:
        x, y, w, h = four(thing.get("bbox"), "bbox")
        rule = "unknown_class"
        label = said if written and work.own else work.names.label(said, of_objects=True)
        rule = "bad_row"
        crowd = any(flag(thing.get(name), name) for name in CROWDS)
    except ValueError as error:
        work.problem(candidate.name, key, rule, str(error), "dropped")
        return
    found = Object(label, (x / wide, y / high, w / wide, h / high), crowd=crowd)
    rule, fault = "", ""
    if written:
        rule, fault = samples.place_points(found, thing.get("keypoints"), (wide, high), work.own, work.reading)
    if rule:
        work.problem(candidate.name, key, rule, fault, "dropped")
        return
    candidate.objects.append(found)
    candidate.keys.append(key)


FORMAT = Format(
    name="imagefolder",
    tasks=("classify", "localize", "detect"),
    Options=Options,
    read=read,
    looks_for="metadata.jsonl or metadata.csv with a file_name and its label or objects",
    recognize=recognize,
    rank=25,  # a file's name and a column's that stand together in no other
    write=WRITER,
    sign=signs.IMAGEFOLDER,
)

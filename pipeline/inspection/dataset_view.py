"""A whole dataset in FiftyOne: its splits, where each image comes from, what the ledger says, what was refused."""

import csv
import io
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.lines import read_rows
from pipeline.core.sample import SPLITS, Dataset, Sample, read_dataset, read_samples
from pipeline.core.tables import of_cell
from pipeline.inspection.edits import Labels
from pipeline.inspection.embedding import add_map
from pipeline.inspection.images import image_of
from pipeline.inspection.labels import TRUTH, classification, declare, offer, with_objects
from pipeline.inspection.opening import PREFIX, Opened, View, fingerprint, opened
from pipeline.inspection.saved import save_views
from pipeline.inspection.sidebar import set_up

DRAWN = ("JPEG", "PNG", "GIF", "WEBP", "BMP")  # what a browser shows


@dataclass(frozen=True, slots=True)
class Ledger:
    """What ingest noted, as texts: of images by their file in the source, and of the files that it refused."""

    problems: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    refused: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class DatasetFiles:
    """What a view of dataset `name` is made of: its folder in data/ingested, `ledger` and `mistakes` (suspicions with
    their scores; it need not be there), and where its source lies, if that is a folder. `sources` has the source file
    of each id. `twins` gives the ids of near-duplicates in other splits, `vectors` a row per image for the map, made by
    `backbone`. Labels that a person changes go to the folder `labels`.
    """

    name: str
    ingested: Path
    ledger: Path
    mistakes: Path
    labels: Path
    source: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    twins: Callable[[], Mapping[str, list[str]]] = dict
    vectors: Callable[[list[Sample]], NDArray[np.float32]] | None = None
    backbone: str = ""
    by: str = "app"


def name_of_dataset(dataset: str) -> str:
    return f"{PREFIX}-dataset-{dataset}"


def open_dataset(files: DatasetFiles, database: Path, today: date | None = None) -> Opened:
    """The dataset's FiftyOne dataset: the one in the database if it was made from these files, else made anew.

    The splits are tags. Fields: `ground_truth` (the one that may be changed in the App), `name`, `file`, `group`,
    `clip`, `frame`, `problems` of the ledger, `near_duplicates` in other splits, `mistake_rank` where label mistakes
    were looked for; with `vectors` a map, similarity and `uniqueness`. Refused files that can be shown have the tag
    `refused`, others stand in `info["refused"]`. Raises InputError if a file is missing or there is no database.
    """
    folder = files.ingested.resolve()
    made_of = [folder / "dataset.json", *(folder / split / "metadata.jsonl" for split in SPLITS), files.ledger]
    for split in SPLITS:
        made_of += [folder / split / s.file_name for s in read_samples(folder / split)]
    made_of += [files.mistakes] if files.mistakes.is_file() else []
    made_from = fingerprint(str(folder), str(files.source), files.backbone, *made_of)
    labels = Labels(files.labels, files.name, files.by)
    name = name_of_dataset(files.name)
    return opened(
        database, View(name, made_from, lambda fo, view: _build(fo, view, files), labels), today or date.today()
    )


def _build(fo: Any, view: Any, files: DatasetFiles) -> None:
    folder, ledger = files.ingested.resolve(), read_ledger(files.ledger)
    info = read_dataset(folder)
    samples = [(split, s) for split in SPLITS for s in read_samples(folder / split)]
    for split, s in samples:
        s.split = split
    view.add_samples(_samples(fo, files, info, samples, ledger))
    declare(fo, view)
    if samples:
        offer(view, info.labels)
    if files.vectors and samples:
        for split, s in samples:
            s.file_name = f"{split}/{s.file_name}"
        ordered = [s for _, s in samples]
        add_map(view, ordered, files.vectors(ordered))
    hidden = _add_refused(fo, view, ledger, files.source)
    saved = save_views(fo, view)
    set_up(fo, view, info, [])
    view.info = {"open": [TRUTH], "refused": hidden, "saved": saved}


def _samples(
    fo: Any, files: DatasetFiles, info: Dataset, samples: list[tuple[str, Sample]], ledger: Ledger
) -> list[Any]:
    """What FiftyOne shows; it reads those that are kept from the database again at each change of a field."""
    classes = not info.landmarks and not any(s.objects for _, s in samples)
    mistakes, twins = read_mistakes(files.mistakes), files.twins()
    folder, made = files.ingested.resolve(), []
    for split, s in samples:
        sample = image_of(fo, folder / split / s.file_name, s)
        for path, value in _labels(fo, s, info, classes).items():
            sample[path] = value
        source = files.sources.get(s.id)
        known = {"file": source, "problems": ledger.problems.get(source or "", []), **mistakes.get(s.id, {})}
        known["near_duplicates"] = sorted(twins.get(s.id, []))
        for path, value in known.items():
            if value is not None:
                sample[path] = value
        made.append(sample)
    return made


def _labels(fo: Any, sample: Sample, info: Dataset, classes: bool) -> dict[str, Any]:
    if classes:
        return {TRUTH: classification(fo, sample)}
    made = with_objects(fo, TRUTH, sample.objects, bool(info.landmarks))
    return made if sample.label is None else {**made, "label": sample.label}


def _add_refused(fo: Any, view: Any, ledger: Ledger, source: Path | None) -> dict[str, str]:
    """Add the refused files that a browser can show; returns the others, each with the reason."""
    shown, hidden = [], {}
    for file, why in sorted(ledger.refused.items()):
        size = _size(source / file) if source else None
        if size is None:
            hidden[file] = "; ".join(why)
            continue
        sample = fo.Sample((source or Path()).resolve() / file, tags=["refused"], name=file, file=file)
        sample["problems"], sample["refused"] = why, True
        sample.metadata = fo.ImageMetadata(width=size[0], height=size[1])
        shown.append(sample)
    if shown:
        view.add_samples(shown)
    return hidden


def _size(file: Path) -> tuple[int, int] | None:
    """Of an image that a browser shows; None for any other file."""
    try:
        with Image.open(file, formats=sorted(DRAWN)) as image:  # no format that starts other programs
            return image.size
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def read_ledger(file: Path) -> Ledger:
    """The rows of a ledger.csv by their file. Raises InputError if there is none, or a column is missing."""
    found = Ledger()
    for row in _rows(file, ("file", "key", "rule", "found", "done")):
        if row["file"]:
            key = f" of {row['key']}" if row["key"] else ""
            text = f"{row['rule']}{key}: {row['found']} ({row['done']})"
            whole = row["done"] == "refused" and not row["key"]
            (found.refused if whole else found.problems)[of_cell(row["file"])].append(text)
    return found


def read_mistakes(file: Path) -> dict[str, dict[str, Any]]:
    """id -> `mistake_score`, `mistake_kind` and `mistake_rank` of the most suspicious thing in the image, which is the
    first in the file: scores of two kinds are not to be compared. Empty without the file.
    """
    first: dict[str, dict[str, Any]] = {}
    for row in _rows(file, ("id", "score", "kind")) if file.is_file() else []:
        try:
            score = float(row["score"])
        except ValueError:
            raise InputError(f"{file}: {row['id']}: score {row['score']!r}; expected a number") from None
        if row["id"] not in first:
            first[row["id"]] = {"mistake_score": score, "mistake_kind": row["kind"], "mistake_rank": len(first) + 1}
    return first


def _rows(file: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    reader = csv.DictReader(io.StringIO(read_rows(file), newline=""))
    rows = list(reader)
    if missing := [name for name in columns if name not in (reader.fieldnames or ())]:
        raise InputError(f"{file}: no column {missing[0]}; expected {','.join(columns)}")
    return rows

"""A dataset as its owner has it -> the one form, split, with a ledger of what was refused and why."""

import shutil
from collections import defaultdict
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline.core.errors import InputError, without_password
from pipeline.core.files import new_folder, write_json, write_text
from pipeline.core.parallel import each
from pipeline.core.room import least_of_image, need_room
from pipeline.core.sample import SPLITS, Dataset, Sample, write_dataset, write_samples
from pipeline.datasets.formats.reading import Problem, Reading
from pipeline.datasets.ingest.divide import divide
from pipeline.datasets.ingest.gate import check_learnable, emptied, judge
from pipeline.datasets.ingest.layers import hashes, lay, read_layers
from pipeline.datasets.ingest.record import Record, read_record, write_record
from pipeline.datasets.ingest.report import labels_sheet, ledger_text, summary_of
from pipeline.datasets.ingest.sources import nothing_usable, read_source
from pipeline.datasets.ingest.splits import labels_of
from pipeline.datasets.ingest.take import Taken, by_file, ended, names_of, source, take_all
from pipeline.datasets.ingest.units import doubts, notes
from pipeline.datasets.params import DatasetParams


def ingest(
    name: str,
    params: DatasetParams,
    data_folder: Path,
    report_folder: Path,
    record_file: Path | None = None,
    labels: Path = Path("labels"),
) -> dict[str, Any]:
    """Read, check, scale and split a dataset, and lay the layers in the folder `labels` over it; returns the summary.

    What lies elsewhere is fetched into .fetched/. Writes `data_folder`/{dataset.json,train,val,test},
    `report_folder`/{summary.json,ledger.csv,contact_sheet.jpg} and `record_file`, where each image keeps the split that
    it has there. Raises InputError naming the path or class when nothing sensible can be made of it, and when a larger
    share than `refuse_over` is lost; the ledger is there then, the data is not.
    """
    layers = read_layers(name, params, labels)
    reading = _read(name, params, report_folder)
    need_room(data_folder, _least(reading, params.max_side))
    with new_folder(data_folder) as folder:
        # here, and written here: a second run at the same time is refused
        record = read_record(record_file, params.splits) if record_file else Record()
        images = folder / f".{uuid4().hex}"  # a name that the processes of a run which was killed do not know
        images.mkdir()
        taken = _take(name, params, reading, images)
        try:
            divided = divide(reading, taken, params, record)
            # after the split, which knows the source's labels only, so that no label moves an image
            laid = lay(layers, reading, divided.samples, names_of(reading.candidates, taken), images)
        except InputError as error:
            found = [*reading.problems, *(p for t in taken for p in t.problems)]
            raise _stopped(name, error, found, report_folder) from None
        problems, doubtful = divided.problems, doubts(reading, taken)
        problems += notes(reading, taken) + emptied(reading, taken) + _doubts(doubtful)
        dataset = _dataset(name, params, reading, laid.samples, problems)
        dataset.source |= hashes(layers)
        _write(folder, images, laid.samples, dataset)
        summary = summary_of(params, reading, taken, laid, divided.pairs, problems)
        summary["recorded"] = divided.record.counts(c.name for c in reading.candidates)
        with new_folder(report_folder) as reports:
            write_json(reports / "summary.json", summary)
            write_text(reports / "ledger.csv", ledger_text([*problems, *laid.problems]))
            labels_sheet(folder, laid.samples, dataset).save(reports / "contact_sheet.jpg", quality=90)
        try:
            judge(params, reading, taken, divided.samples, problems, divided.crowd, doubtful)
            check_learnable(laid.samples)
        except InputError as error:
            raise InputError(f"datasets.{name}: {error}; see {report_folder / 'ledger.csv'}") from None
        if record_file:
            write_record(record_file, divided.record)
    return summary


def _doubts(doubtful: list[str]) -> list[Problem]:
    return [Problem("", "", "other_unit", doubt, "noted") for doubt in doubtful]


def _least(reading: Reading, max_side: int) -> int:
    """The bytes that its images and frames take at least; of the crops of one file as of one."""
    frames = {candidate.file: candidate.frames or 1 for candidate in reading.candidates}
    return sum(least_of_image(file, count * max_side**2) for file, count in frames.items())


def _write(folder: Path, images: Path, samples: list[Sample], dataset: Dataset) -> None:
    """The dataset, with its images from `images`, which goes, and what is of no sample with it."""
    for split in SPLITS:
        (folder / split).mkdir()
    for s in samples:
        (images / s.file_name).replace(folder / str(s.split) / s.file_name)
    shutil.rmtree(images)
    for split in SPLITS:
        write_samples(folder / split, [s for s in samples if s.split == split])
    write_dataset(folder, dataset)


def _take(name: str, params: DatasetParams, reading: Reading, images: Path) -> list[Taken]:
    """What comes of each candidate, with its images in the folder `images`."""
    work = partial(take_all, folder=images, max_side=params.max_side)
    rows = each(work, by_file(reading.candidates), f"ingest {name}", reads=source, writes=images, ended=ended)
    return [one for row in rows for one in row]


def _stopped(name: str, why: object, problems: list[Problem], report_folder: Path) -> InputError:
    """The error for a dataset of which there is nothing but its ledger, which is written here."""
    with new_folder(report_folder) as reports:
        write_text(reports / "ledger.csv", ledger_text(problems))
    return InputError(f"datasets.{name}: {why}; see {report_folder / 'ledger.csv'}")


def _read(name: str, params: DatasetParams, report_folder: Path) -> Reading:
    reading = read_source(name, params)
    if not reading.candidates:
        raise _stopped(name, nothing_usable(params, reading), reading.problems, report_folder)
    return reading


def _dataset(
    name: str,
    params: DatasetParams,
    reading: Reading,
    samples: list[Sample],
    problems: list[Problem],
) -> Dataset:
    """What the samples share; labels without an image are left out, with a row in the ledger, as of empty splits."""
    counts = {split: sum(s.split == split for s in samples) for split in SPLITS}
    if empty := [split for split in SPLITS if not counts[split]]:
        problems.append(Problem("", "", "empty_split", f"no image in {' and '.join(empty)}", "noted"))
    used: dict[str, list[Sample]] = defaultdict(list)
    for s in samples:
        for label in labels_of(s):
            used[label].append(s)
    if unused := [label for label in reading.labels if label not in used]:
        problems.append(Problem("", "", "unused_label", f"no image has {', '.join(unused)}", "noted"))
    for label in reading.labels:
        found_in = {s.split for s in used.get(label, [])}
        if found_in and len(found_in) < len(SPLITS):
            groups = len({s.group or s.id for s in used[label]})
            missing = " and ".join(split for split in SPLITS if split not in found_in)
            found = f"images or groups with it: {groups}; none in {missing}"
            problems.append(Problem("", label, "few_images", found, "noted"))
    places = without_password(params.path), without_password(params.labels)
    source = {"format": params.format, "path": places[0], "labels": places[1]}
    labels = [label for label in reading.labels if label in used]
    return Dataset(name, labels, reading.landmarks, reading.pairs, reading.skeleton, source, counts)

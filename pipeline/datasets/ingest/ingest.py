"""A dataset as its owner has it -> the one form, split, with a ledger of what was refused and why."""

import hashlib
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, write_json, write_text
from pipeline.core.image_file import ImageFileError, decode_image
from pipeline.core.parallel import each
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, write_dataset, write_samples
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.reading import Candidate, Problem, Reading, said_of_names
from pipeline.datasets.ingest.checks import LabelledSizeError, check_objects, conflicting, fit_labels
from pipeline.datasets.ingest.report import file_count, labels_sheet, ledger_text, summary_of
from pipeline.datasets.ingest.splits import assign, joined, labels_of, near_duplicates, thumbnail
from pipeline.datasets.params import DatasetParams
from pipeline.datasets.video import ClipError, frames
from pipeline.ops.preprocess import FILL

QUALITY = 95


@dataclass(slots=True)
class Taken:
    """What came of one image or clip; `seen` images were in it. The three lists go together."""

    samples: list[Sample] = field(default_factory=list)
    thumbnails: list[Any] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    clipped_silently: int = 0
    seen: int = 1


def ingest(name: str, params: DatasetParams, data_folder: Path, report_folder: Path) -> dict[str, Any]:
    """Read, check, scale and split a dataset; returns the summary.

    Writes `data_folder`/{dataset.json,train,val,test} and `report_folder`/{summary.json,ledger.csv,contact_sheet.jpg}.
    Raises InputError naming the path or class when nothing sensible can be made of it, and when more than
    `refuse_over` of the files have problems; the report is there then, the data is not.
    """
    reading = _read(name, params)
    with new_folder(data_folder) as folder:
        images = folder / ".images"
        images.mkdir()
        work = partial(take, folder=images, max_side=params.max_side)
        taken = each(work, reading.candidates, f"ingest {name}")
        samples, pairs, problems = _split(name, reading, taken, params)
        for split in SPLITS:
            (folder / split).mkdir()
        for s in samples:
            (images / s.file_name).replace(folder / str(s.split) / s.file_name)
        shutil.rmtree(images)
        dataset = _dataset(name, params, reading, samples, problems)
        for split in SPLITS:
            write_samples(folder / split, [s for s in samples if s.split == split])
        write_dataset(folder, dataset)
        summary = summary_of(
            params,
            reading,
            samples,
            pairs,
            problems,
            sum(t.seen for t in taken),
            sum(t.clipped_silently for t in taken),
        )
        with new_folder(report_folder) as reports:
            write_json(reports / "summary.json", summary)
            write_text(reports / "ledger.csv", ledger_text(problems))
            labels_sheet(folder, samples, dataset).save(reports / "contact_sheet.jpg", quality=90)
        _judge(name, params, reading, problems, samples, report_folder)
    return summary


def take(candidate: Candidate, folder: Path, max_side: int) -> Taken:
    """Decode an image or clip, check its labels, write it into `folder`; nothing is raised for what is broken."""
    if candidate.frames is not None:
        return _take_clip(candidate, folder, max_side)
    taken = Taken()
    try:
        decoded = decode_image(candidate.file, None if candidate.crop else max_side)
        objects = fit_labels(candidate, decoded)
    except ImageFileError as error:
        taken.problems.append(Problem(candidate.name, "", error.rule, error.found))
        return taken
    except LabelledSizeError as error:
        taken.problems.append(Problem(candidate.name, "", "size_mismatch", str(error)))
        return taken
    objects, problems, taken.clipped_silently = check_objects(candidate.name, objects, candidate.keys, decoded.size)
    taken.problems += problems
    if candidate.crop:
        decoded.image, decoded.untouched = _cut(decoded.image, candidate.crop, max_side), False
    source = candidate.file if decoded.untouched else None
    exact = candidate.crop is None and decoded.image.size == decoded.size
    _write(taken, decoded.image, candidate, candidate.id, folder, source, exact)
    taken.samples[0].objects = objects
    return taken


def _take_clip(candidate: Candidate, folder: Path, max_side: int) -> Taken:
    taken = Taken()
    try:
        for place, _, image in frames(candidate.file, candidate.frames or 1, candidate.marks):
            size = image.size
            image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
            _write(taken, image, candidate, f"{candidate.id}-{place:05d}", folder)
            if candidate.marks is not None:
                marks = [_relative(o, size) for o in candidate.marks[place]]
                keys = [f"frame {place}, box {i}" for i in range(len(marks))]
                taken.samples[-1].objects, problems, clipped_silently = check_objects(candidate.name, marks, keys, size)
                taken.problems += problems
                taken.clipped_silently += clipped_silently
    except ClipError as error:
        return Taken(problems=[Problem(candidate.name, "", "unreadable_clip", str(error))])
    taken.seen = len(taken.samples)
    return taken


def _relative(o: Object, size: tuple[int, int]) -> Object:
    (x, y, w, h), (width, height) = o.box, size
    return replace(o, box=(x / width, y / height, w / width, h / height))


def _cut(image: Image.Image, crop: tuple[int, int, int], max_side: int) -> Image.Image:
    """The square (left, top, side) of the image, grey where it reaches over the edge."""
    left, top, side = crop
    square = Image.new("RGB", (side, side), (FILL, FILL, FILL))
    square.paste(image, (-left, -top))
    square.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
    return square


def _write(
    taken: Taken,
    image: Image.Image,
    candidate: Candidate,
    name: str,
    folder: Path,
    source: Path | None = None,
    exact: bool = False,
) -> None:
    """Save `image` as <name>.jpg, or copy the `source` that already is just that.

    `exact`: as <name>.png. An image that was not scaled is trained on as `predict` sees it in its own file.
    """
    file = folder / f"{name}{'.png' if exact and not source else '.jpg'}"
    if source:
        shutil.copyfile(source, file)  # no hard link: whoever edits the copy must not edit the source
    elif exact:
        image.save(file, "PNG", compress_level=1)  # half the time of the usual 6, for 4 % more bytes
    else:
        image.save(file, "JPEG", quality=QUALITY)
    c = candidate
    taken.samples.append(Sample(name, file.name, *image.size, c.split, c.group, c.clip, c.label))
    taken.thumbnails.append(thumbnail(image))
    taken.digests.append(hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest())


def _read(name: str, params: DatasetParams) -> Reading:
    path, labels = Path(params.path), Path(params.labels)
    if not path.is_dir():
        what = "not a folder" if path.exists() else "no such folder"
        raise InputError(f"datasets.{name}.path: {path}: {what}")
    if not labels.exists():
        raise InputError(f"datasets.{name}.labels: {labels}: no such file or folder")
    reading = FORMATS[params.format].read(path.resolve(), labels.resolve(), params.options)
    reading.problems += said_of_names(reading)
    if not reading.candidates:
        raise InputError(f"datasets.{name}: nothing usable in {path}: {_counted(reading.problems) or 'no images'}")
    return reading


def _split(
    name: str, reading: Reading, taken: list[Taken], params: DatasetParams
) -> tuple[list[Sample], list[tuple[str, str]], list[Problem]]:
    """The samples that stay, each with its split, in the order of their ids; near-duplicate ids; all problems."""
    problems = [*reading.problems, *(p for t in taken for p in t.problems)]
    samples = [s for t in taken for s in t.samples]
    names = [c.name for c, t in zip(reading.candidates, taken, strict=True) for _ in t.samples]
    digests = [d for t in taken for d in t.digests]
    gone = conflicting(samples, digests, names)
    stay = [i for i, s in enumerate(samples) if s.id not in gone]
    thumbnails = [x for t in taken for x in t.thumbnails]
    found = near_duplicates(
        np.array([thumbnails[i] for i in stay]), [digests[i] for i in stay], [samples[i].group for i in stay]
    )
    pairs = [(samples[stay[a]].id, samples[stay[b]].id) for a, b in found]
    try:
        splits, leaks = assign([samples[i] for i in stay], pairs, params.splits)
    except InputError as error:
        raise InputError(f"datasets.{name}: {error}") from None
    groups = joined([samples[i] for i in stay], pairs)
    for i in stay:
        s = samples[i]
        s.split, s.group = splits[s.id], s.group or groups.get(s.id)
        if s.id in leaks:
            gone[s.id] = Problem(names[i], s.id if s.clip else "", "leak", leaks[s.id])
    kept = sorted((s for s in samples if s.id not in gone), key=lambda s: s.id)
    return kept, pairs, [*problems, *gone.values()]


def _dataset(
    name: str,
    params: DatasetParams,
    reading: Reading,
    samples: list[Sample],
    problems: list[Problem],
) -> Dataset:
    """What the samples share; labels that no image has are left out, with a row in the ledger."""
    counts = {split: sum(s.split == split for s in samples) for split in SPLITS}
    used = {label for s in samples for label in labels_of(s)}
    if unused := [label for label in reading.labels if label not in used]:
        problems.append(Problem("", "", "unused_label", f"no image has {', '.join(unused)}", "noted"))
    for label in reading.labels:
        found_in = {s.split for s in samples if label in labels_of(s)}
        if found_in and len(found_in) < len(SPLITS):
            groups = len({s.group or s.id for s in samples if label in labels_of(s)})
            missing = " and ".join(split for split in SPLITS if split not in found_in)
            found = f"images or groups with it: {groups}; none in {missing}"
            problems.append(Problem("", label, "few_images", found, "noted"))
    source = {"format": params.format, "path": params.path, "labels": params.labels}
    labels = [label for label in reading.labels if label in used]
    return Dataset(name, labels, reading.landmarks, reading.pairs, reading.skeleton, source, counts)


def _counted(problems: list[Problem]) -> str:
    rules = Counter(p.rule for p in problems if p.done in ("refused", "dropped"))
    return ", ".join(f"{count} {rule}" for rule, count in rules.most_common(4))


def _judge(
    name: str,
    params: DatasetParams,
    reading: Reading,
    problems: list[Problem],
    samples: list[Sample],
    report_folder: Path,
) -> None:
    """Raise InputError for too many problems, and for a label that could not be learnt."""
    bad = {p.file for p in problems if p.done in ("refused", "dropped")}
    files = max(file_count(reading), len(bad))
    ledger = f"see {report_folder / 'ledger.csv'}"
    if not samples or len(bad) > params.refuse_over * files:
        raise InputError(
            f"datasets.{name}: {len(bad)} of {files} files have problems ({_counted(problems)}), "
            f"refuse_over allows {params.refuse_over:.0%}; {ledger}"
        )
    trained = {label for s in samples if s.split == "train" for label in labels_of(s)}
    if missing := sorted({label for s in samples for label in labels_of(s)} - trained):
        raise InputError(f"datasets.{name}: no image in train has {', '.join(missing)}; {ledger}")
    if not trained:
        raise InputError(f"datasets.{name}: no image in train has a label or object; {ledger}")

"""Rows that `ingest` has written, read back as they were: ids, splits, groups, labels, boxes and landmarks."""

import re
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.sample import ABSENT, SPLITS, VISIBLE, Dataset, Landmark, Object, Sample, read_dataset
from pipeline.datasets.formats.class_names import unlisted
from pipeline.datasets.formats.keys import MOST_NAMES
from pipeline.datasets.formats.reading import Candidate, Problem, Reading, point_names
from pipeline.datasets.formats.values import number, whole

MOST = 1 << 1000
SIDES = 1 << 24  # pixels; a longer side is a mistake
ID = re.compile(r"[^\W_][\w.~-]{0,199}")  # a file name on every system


def dataset_of(folder: Path, reading: Reading) -> bool:
    """Whether `folder` has a dataset.json, whose labels, landmarks, pairs and skeleton the reading gets then.

    Raises InputError if it is not as `ingest` writes it.
    """
    file = folder / "dataset.json"
    if not file.is_file():
        return False
    dataset = read_dataset(folder)
    if found := _fault_of_dataset(dataset):
        raise InputError(f"{file}: not as ingest writes it: {found}")
    reading.labels, reading.landmarks = dataset.labels, dataset.landmarks
    reading.pairs, reading.skeleton = dataset.pairs, dataset.skeleton
    return True


def _fault_of_dataset(dataset: Dataset) -> str:
    for key, names in (("labels", dataset.labels), ("landmarks", dataset.landmarks)):
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            return f"{key} {names!r:.40}; expected a list of names"
        most = MOST_NAMES["classes" if key == "labels" else key]
        if len(names) > most:
            return f"{len(names)} {key}; expected at most {most}"
        if len(set(names)) < len(names):
            return f"{key} {names!r:.40}; expected each once"
    for two in (*dataset.pairs, *dataset.skeleton):
        if len(two) != 2 or not all(type(i) is int and 0 <= i < len(dataset.landmarks) for i in two):
            return f"pairs or skeleton {two!r:.40}; expected two numbers of landmarks, from 0"
    return ""


def are_ids(ids: list[str]) -> bool:
    """Whether they can be the names of files, each of another one."""
    return all(map(ID.fullmatch, ids)) and len({i.casefold() for i in ids}) == len(ids)


def is_number(value: Any) -> bool:
    """Whether a value of JSON is a number that a float can hold; true and false are none."""
    return isinstance(value, float) or (type(value) is int and abs(value) < MOST)


def fault(sample: Sample) -> str:
    """What is wrong with a sample beside its objects; "" for nothing."""
    if not (isinstance(sample.id, str) and sample.id):
        return f"id {sample.id!r:.40}; expected a text"
    if not all(type(side) is int and 0 < side < SIDES for side in (sample.width, sample.height)):
        return f"size {sample.width!r:.20} x {sample.height!r:.20}; expected pixels"
    texts = {name: getattr(sample, name) for name in ("group", "clip", "label")}
    if wrong := {name: said for name, said in texts.items() if not isinstance(said, str | None)}:
        return f"{wrong!r:.60}; expected a text"
    if sample.split not in (None, *SPLITS):
        return f"split {sample.split!r:.40}; expected one of {', '.join(SPLITS)}"
    return ""


def fill(candidate: Candidate, row: dict[str, Any], key: str, own: bool, reading: Reading) -> None:
    """Set what the row of a `Sample` says; `own`: its classes are those of dataset.json alone.

    Raises ValueError saying what is wrong, and InputError for a prediction.
    """
    sample = Sample.from_json(row)
    if sample.scores is not None or any(o.score is not None for o in sample.objects):
        raise InputError(f"{key}: a prediction, by its scores; expected labels")
    if found := fault(sample):
        raise ValueError(found)
    if own and sample.label is not None and sample.label not in reading.labels:
        raise ValueError(unlisted(sample.label))
    candidate.id, candidate.size = sample.id, (sample.width, sample.height)
    candidate.split = sample.split or candidate.split
    candidate.group, candidate.clip, candidate.label = sample.group, sample.clip, sample.label
    for place, thing in enumerate(sample.objects):
        rule, found = fault_of_object(thing, own, reading)
        if rule:
            reading.problems.append(Problem(candidate.name, f"{key} object {place}", rule, found, "dropped"))
            continue
        reading.unseen += sum(not p.visibility and bool(p.x or p.y) for p in thing.landmarks)
        absent = [Landmark(0.0, 0.0, ABSENT) for _ in reading.landmarks]
        thing.landmarks = [p if p.visibility else Landmark(0.0, 0.0, ABSENT) for p in thing.landmarks] or absent
        candidate.objects.append(thing)
        candidate.keys.append(f"{key} object {place}")


def fault_of_object(thing: Object, own: bool, reading: Reading) -> tuple[str, str]:
    """The rule that an object breaks, and what was found; two empty texts for none."""
    if not isinstance(thing.label, str) or (own and thing.label not in reading.labels):
        return "unknown_class", unlisted(thing.label)
    if not all(map(is_number, thing.box)) or not isinstance(thing.crowd, bool):
        return "bad_box", f"box {thing.box!r:.60}, crowd {thing.crowd!r:.20}; expected four numbers, and true or false"
    if len(thing.landmarks) > MOST_NAMES["landmarks"]:
        return "bad_landmarks", f"{len(thing.landmarks)} landmarks, expected at most {MOST_NAMES['landmarks']}"
    if thing.landmarks and not reading.landmarks and not own:
        reading.landmarks = point_names(len(thing.landmarks))
    if thing.landmarks and len(thing.landmarks) != len(reading.landmarks):
        return "bad_landmarks", f"{len(thing.landmarks)} landmarks, expected {len(reading.landmarks)}"
    for p in thing.landmarks:
        if not (is_number(p.x) and is_number(p.y) and type(p.visibility) is int and 0 <= p.visibility <= VISIBLE):
            return "bad_landmarks", f"{p.x!r:.20}, {p.y!r:.20}, {p.visibility!r:.20}; expected x, y and 0, 1 or 2"
    return "", ""


def place_points(thing: Object, points: Any, size: tuple[int, int], own: bool, reading: Reading) -> tuple[str, str]:
    """Give an object its landmarks, `points` of x, y in pixels and visibility, None for none; as `fault_of_object`."""
    try:
        found = [(number(x, finite=False), number(y, finite=False), whole(seen)) for x, y, seen in points or []]
    except (TypeError, ValueError):
        return "bad_landmarks", f"{points!r:.60}; expected a list of x, y and visibility"
    thing.landmarks = [Landmark(x / size[0], y / size[1], seen) for x, y, seen in found]
    rule, fault = fault_of_object(thing, own, reading)
    absent = [Landmark(0.0, 0.0, ABSENT) for _ in reading.landmarks]
    thing.landmarks = [p if p.visibility else Landmark(0.0, 0.0, ABSENT) for p in thing.landmarks] or absent
    return rule, fault

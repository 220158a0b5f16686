"""Whether what is left of a dataset is what its owner meant: how much was lost, and what near-duplicates leave."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.core.errors import InputError
from pipeline.core.sample import Sample
from pipeline.datasets.formats.reading import Candidate, Problem, Reading
from pipeline.datasets.ingest.accounts import images_seen, objects_read
from pipeline.datasets.ingest.report import file_count
from pipeline.datasets.ingest.splits import labels_of
from pipeline.datasets.ingest.take import Taken
from pipeline.datasets.params import DatasetParams

REPEATED = ("box_duplicate", "listed_twice")  # what these rows drop is there once more
CROWD, FEWEST = 3, 5  # a group of a third of the images, and of so many, is not one that a split can be made of
SHOWN = 4  # rules, and classes, that an error names


@dataclass(slots=True)
class Crowd:
    """The largest set of near-duplicates that has to be on one side: so many of `total` images, the first by name; and
    the splits that would have images if there were no near-duplicates, and have none.
    """

    count: int
    total: int
    first: str
    emptied: list[str]


def judge(
    params: DatasetParams,
    reading: Reading,
    taken: list[Taken],
    samples: list[Sample],
    problems: list[Problem],
    crowd: Crowd | None,
    doubtful: list[str],
) -> None:
    """Raise InputError, without the dataset's name: for what is `doubtful` about units, for near-duplicates that leave
    no splits, and for too much that is lost on the way to `samples`.
    """
    if doubtful and params.other_units == "stop":
        raise InputError(f"{'; '.join(doubtful)} If it is all as it should be, set other_units: note")
    if crowd and (crowd.emptied or crowd.count >= max(FEWEST, crowd.total / CROWD)):
        raise InputError(_crowded(crowd, params))
    if lost := _losses(params.refuse_over, reading, taken, samples, problems):
        first = first_of(problems, "dropped", "refused")
        end = f"refuse_over allows {params.refuse_over:.0%}" if params.refuse_over < 1 else "nothing is left of these"
        raise InputError(f"{'; '.join(lost)}; {end}{first}")


def check_learnable(samples: Sequence[Sample]) -> None:
    """Raise InputError, without the dataset's name, for a label that no image in train has.

    >>> check_learnable([Sample(split, "1.jpg", 64, 48, split, label="cow") for split in ("train", "test")])
    """
    trained = {label for s in samples if s.split == "train" for label in labels_of(s)}
    if missing := sorted({label for s in samples for label in labels_of(s)} - trained):
        raise InputError(f"no image in train has {', '.join(missing)}")
    if not trained:
        raise InputError("no image in train has a label or object")


def emptied(reading: Reading, taken: list[Taken]) -> list[Problem]:
    """A row for the labelled images that are left without objects, as their labels are all dropped: they are background
    then.
    """
    dropped = Counter(p.file for p in reading.problems if p.done == "dropped" and p.rule not in REPEATED)
    pairs = zip(reading.candidates, taken, strict=True)
    names = [c.name for c, t in pairs for gone in _emptied(c, t, dropped) if gone]
    if not names or any(c.label is not None for c in reading.candidates):
        return []
    found = f"{len(names)} labelled images are left without objects, as {names[0]}; taken as background"
    return [Problem("", "", "left_empty", found, "noted")]


def counted(problems: Iterable[Problem], *done: str) -> str:
    """The most frequent rules of these rows, each with its number.

    >>> counted([Problem("a.jpg", "", "unreadable", ""), Problem("b.jpg", "", "unreadable", "")], "refused")
    '2 unreadable'
    """
    rules = Counter(p.rule for p in problems if p.done in done)
    return ", ".join(f"{count} {rule}" for rule, count in rules.most_common(SHOWN))


def first_of(problems: Iterable[Problem], *done: str) -> str:
    """The end of an error: the first of these rows that has the most frequent rule of them; "" if there is none.

    >>> first_of([Problem("a.jpg", "line 2", "bad_line", "3 numbers", "dropped")], "dropped")
    '; the first bad_line: a.jpg, line 2: 3 numbers'
    """
    rows = [p for p in problems if p.done in done]
    if not rows:
        return ""
    rule = Counter(p.rule for p in rows).most_common(1)[0][0]
    row = next(p for p in rows if p.rule == rule)
    return f"; the first {rule}: {', '.join(filter(None, (row.file, row.key)))}: {row.found}"


def _crowded(crowd: Crowd, params: DatasetParams) -> str:
    said = (
        f"{crowd.count} of {crowd.total} images are near-duplicates of {crowd.first}, one group that stays in one split"
    )
    left = f", so that {' and '.join(crowd.emptied)} would be empty" if crowd.emptied else ""
    knob = "near_duplicates: off"
    if params.near_duplicates == "similar":
        knob = f"near_duplicates: identical (or off), or near_duplicate_bits below {params.near_duplicate_bits}"
    return f"{said}{left}; if they are to be told apart, as frames of a fixed camera, set {knob}"


def _losses(
    allowed: float, reading: Reading, taken: list[Taken], samples: list[Sample], problems: list[Problem]
) -> list[str]:
    """A sentence for each share that is lost and larger than `allowed`. An image that is refused as a copy of another
    is a lost image; its objects are still there.
    """
    kept = {s.id for s in samples}
    dropped = Counter(p.file for p in reading.problems if p.done == "dropped" and p.rule not in REPEATED)
    rules, of_objects = counted(problems, "refused"), counted(problems, "dropped", "refused")
    refused = (
        sum(not any(s.id in kept for s in t.samples) for t in taken)
        + file_count(reading)
        - len({c.name for c in reading.candidates})
    )
    seen = images_seen(reading, taken)
    emptied = [_emptied(c, t, dropped) for c, t in zip(reading.candidates, taken, strict=True)]
    objects = sum(_objects(c, t) for c, t in zip(reading.candidates, taken, strict=True)) + dropped.total()
    there = sum(len(s.objects) for t in taken for s in t.samples)
    shares = [
        (refused, file_count(reading), "files have problems", rules),
        (seen - len(samples), seen, "images are lost", rules),
        (sum(map(sum, emptied)), sum(map(len, emptied)), "labelled images are left without objects", of_objects),
        (objects - there, objects, "objects are lost", of_objects),
    ]
    if shares[1][:2] == shares[0][:2]:  # not clips
        shares = shares[:1] + shares[2:]
    said = [
        f"{lost} of {of} {what} ({why})" for lost, of, what, why in shares if of and (lost > allowed * of or lost == of)
    ]
    return said + _classes(allowed, reading, taken, samples)


def _classes(allowed: float, reading: Reading, taken: list[Taken], samples: list[Sample]) -> list[str]:
    there: Counter[str] = Counter()
    for c, t in zip(reading.candidates, taken, strict=True):
        there.update([c.label] if c.label is not None else [o.label for o in c.objects])
        if c.marks and not t.samples:
            there.update(o.label for marks in c.marks.values() for o in marks)
    left = {label for s in samples for label in labels_of(s)}
    gone = [label for label in there if label not in left]
    if allowed >= 1 or not gone or not samples:
        return []
    named = ", ".join(f"{label} ({there[label]})" for label in gone[:SHOWN])
    return [f"{len(gone)} of {len(there)} classes are lost with all they had: {named}"]


def _objects(candidate: Candidate, taken: Taken) -> int:
    """How many objects the image or the frames that were taken had when they were read."""
    if taken.samples:
        dropped = sum(p.done == "dropped" and p.rule not in REPEATED for p in taken.problems)
        return dropped + sum(len(s.objects) for s in taken.samples)
    return objects_read(candidate)


def _emptied(candidate: Candidate, taken: Taken, dropped: Counter[str]) -> list[bool]:
    """For each image that decodes and had objects, whether it has none now, and would be background."""
    if candidate.marks is None and not candidate.objects and not dropped[candidate.name]:
        return []
    return [not s.objects for s in taken.samples]

"""Whether what goes in comes out or is refused: images, clips and objects counted, and files that no format reads."""

from collections import Counter
from pathlib import Path

from pipeline.datasets.formats.reading import (
    CLIP_SUFFIXES,
    IMAGE_SUFFIXES,
    Candidate,
    Problem,
    Reading,
    files_under,
)
from pipeline.datasets.formats.signs import BINARY
from pipeline.datasets.ingest.take import Taken

TEXTS = {".csv", ".data", ".json", ".jsonl", ".names", ".pts", ".txt", ".xml", ".yaml", ".yml"}  # labels, names, lists
SHOWN = 6  # suffixes that a row names


def clip_counts(reading: Reading, taken: list[Taken], kept: set[str]) -> dict[str, int]:
    """`seen` clips, with those that were refused on reading, are `kept` and `refused` ones; ids of images `kept`."""
    clips = [(c, t) for c, t in zip(reading.candidates, taken, strict=True) if c.frames is not None]
    there = {c.name for c, _ in clips}
    lost = {p.file for p in reading.problems if p.done == "refused"} - there if clips else set()
    seen, stay = len(there) + len(lost), {c.name for c, t in clips if any(s.id in kept for s in t.samples)}
    return {"seen": seen, "kept": len(stay), "refused": seen - len(stay)}


def images_seen(reading: Reading, taken: list[Taken]) -> int:
    """How many images the source has, with those that were refused on reading; of clips, the frames that were taken.

    >>> images_seen(Reading([], [], problems=[Problem("a.xml", "", "missing_file", "a.jpg")]), [Taken(), Taken(seen=3)])
    5
    """
    return sum(t.seen for t in taken) + sum(p.done == "refused" for p in reading.problems)


def object_counts(
    reading: Reading, taken: list[Taken], stay: set[str], kept: int, problems: list[Problem]
) -> dict[str, int]:
    """`seen` objects in images and clips that are there are `kept`, in images of the ids that `stay`, and `dropped`
    ones: a row of labels that was dropped is one, and so is each object that was read of an image that was refused.

    >>> object_counts(Reading([], ["cow"], lost=2), [], set(), 5, [Problem("a.jpg", "", "bad_line", "x", "dropped")])
    {'seen': 8, 'kept': 5, 'dropped': 3}
    """
    lost = sum(_lost(c, t, stay) for c, t in zip(reading.candidates, taken, strict=True))
    dropped = reading.lost + lost + sum(p.done == "dropped" for p in problems)
    return {"seen": kept + dropped, "kept": kept, "dropped": dropped}


def _lost(candidate: Candidate, taken: Taken, kept: set[str]) -> int:
    if taken.samples:
        return sum(len(s.objects) for s in taken.samples if s.id not in kept)
    return objects_read(candidate)


def objects_read(candidate: Candidate) -> int:
    """How many objects an image has, or the frames that would have been taken of a clip."""
    if not candidate.marks:
        return len(candidate.objects)
    share = min(1.0, (candidate.frames or 1) / len(candidate.marks))
    return round(share * sum(map(len, candidate.marks.values())))


def unread(reading: Reading, path: Path, labels: Path) -> list[Problem]:
    """A row for each of the two folders with files that are no image, clip or text of labels, and that no other row
    names: how many of each suffix. Images beside clips, and clips beside images, are such files too.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "notes.md").touch()
    ...     [row.found for row in unread(Reading([], []), Path(folder), Path(folder))]
    ['1 other files (1 .md), such as notes.md']
    """
    passed = TEXTS | (CLIP_SUFFIXES if any(c.frames is not None for c in reading.candidates) else IMAGE_SUFFIXES)
    known = {c.file for c in reading.candidates}
    named = {p.file for p in reading.problems}
    rows = []
    apart = labels.is_dir() and not labels.is_relative_to(path)
    for root in (path, labels) if apart else (path,):
        others = [f for f in files_under(root, None) if f.suffix.lower() not in passed and f not in known]
        others = [f for f in others if f.relative_to(root).as_posix() not in named]
        if others:
            count = Counter(file.suffix.lower() or "no suffix" for file in others)
            said = ", ".join(
                f"{number} {suffix}{f': {BINARY[suffix]}' if suffix in BINARY else ''}"
                for suffix, number in count.most_common(SHOWN)
            )
            found = f"{len(others)} other files ({said}), such as {min(others).relative_to(root).as_posix()}"
            rows.append(Problem("", "", "not_read", found, "noted"))
    return rows

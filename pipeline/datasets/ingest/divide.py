"""Images that were taken -> train, val and test: what contradicts another one or would leak is left out."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from pipeline.core.sample import SPLITS, Sample
from pipeline.datasets.formats.reading import Problem, Reading
from pipeline.datasets.ingest.checks import conflicting
from pipeline.datasets.ingest.gate import Crowd
from pipeline.datasets.ingest.record import Record
from pipeline.datasets.ingest.similar import NearDuplicates, near_duplicates
from pipeline.datasets.ingest.splits import assign, given_splits, joined, leak_report, said_leak
from pipeline.datasets.ingest.take import Taken
from pipeline.datasets.params import DatasetParams


@dataclass(slots=True)
class Divided:
    """`samples` that stay, each with its split, by id; the ids of near-duplicates; all problems; see gate.Crowd; the
    splits as they are recorded from now on.
    """

    samples: list[Sample]
    pairs: list[tuple[str, str]]
    problems: list[Problem]
    crowd: Crowd | None
    record: Record


def divide(reading: Reading, taken: list[Taken], params: DatasetParams, record: Record) -> Divided:
    """Raises InputError when nothing is left for train."""
    problems = [*reading.problems, *(p for t in taken for p in t.problems)]
    samples = [s for t in taken for s in t.samples]
    all_names = [c.name for c, t in zip(reading.candidates, taken, strict=True) for _ in t.samples]
    digests = [d for t in taken for d in t.digests]
    thumbnails = [x for t in taken for x in t.thumbnails]
    gone = conflicting(samples, digests, all_names)
    stay = sorted((i for i, s in enumerate(samples) if s.id not in gone), key=lambda i: samples[i].id)
    there, names = [samples[i] for i in stay], [all_names[i] for i in stay]
    found = near_duplicates(
        np.array([thumbnails[i] for i in stay]),
        [digests[i] for i in stay],
        [s.group for s in there],
        params.near_duplicates,
        params.near_duplicate_bits,
    )
    pairs = _ids(there, found.pairs())
    pixels = _pixels(names, [digests[i] for i in stay])
    given, recorded = given_splits(there), record.of(there, names, pixels)
    splits, leaks = assign(there, pairs, params.splits, recorded)
    problems += _part_rows(there, names, found, splits, given, set(recorded.images), leaks)
    crowd = _crowd(there, names, found, given, {split for i, split in splits.items() if i not in leaks})
    if crowd and crowd.emptied:
        alone = set(assign(there, [], params.splits, recorded)[0].values())
        crowd.emptied = [split for split in crowd.emptied if split in alone]
    record = record.extended(_drawn(there, names, splits, given, leaks), pixels, params.splits)
    # two that were recorded apart may be in one set by an image that is left out
    pairs = _ids(there, [(a, b) for a, b in found.pairs() if _beside(there, a, b, splits) or found.alike(a, b)])
    groups = joined(there, pairs)
    for name, s in zip(names, there, strict=True):
        s.split, s.group = splits[s.id], s.group or groups.get(s.id)
        if s.id in leaks:
            gone[s.id] = Problem(name, s.id if s.clip else "", "leak", leaks[s.id])
    kept = [s for s in there if s.id not in gone]
    return Divided(kept, pairs, [*problems, *record.notes(), *_still(kept, pairs), *gone.values()], crowd, record)


def _pixels(names: list[str], digests: list[str]) -> dict[str, str]:
    """What tells the content of each file from others: of the digests of its images, in order."""
    of_file: dict[str, list[str]] = defaultdict(list)
    for name, digest in zip(names, digests, strict=True):
        of_file[name].append(digest)
    return {name: hashlib.sha256("".join(found).encode()).hexdigest()[:16] for name, found in of_file.items()}


def _drawn(
    samples: list[Sample], names: list[str], splits: dict[str, str], given: dict[str, str], leaks: dict[str, str]
) -> dict[str, tuple[str, str]]:
    """File -> (group, split) of images that stay, where the split is not the source's word."""
    said = set(given.values())
    if said == set(SPLITS):
        return {}
    return {
        name: (s.group or "", splits[s.id])
        for name, s in zip(names, samples, strict=True)
        if s.id not in leaks and splits[s.id] not in said - {"train"}
    }


def _ids(samples: list[Sample], pairs: list[tuple[int, int]]) -> list[tuple[str, str]]:
    return [(samples[a].id, samples[b].id) for a, b in pairs]


def _beside(samples: list[Sample], a: int, b: int, splits: dict[str, str]) -> bool:
    return splits[samples[a].id] == splits[samples[b].id]


def _part_rows(
    samples: list[Sample],
    names: list[str],
    found: NearDuplicates,
    splits: dict[str, str],
    given: dict[str, str],
    recorded: set[str],
    leaks: dict[str, str],
) -> list[Problem]:
    """Of two neighbours in a long row that the source itself has parted, that nearer to training is added to `leaks`,
    unless it is recorded; the others that are in two splits are counted.
    """
    apart = found.apart([SPLITS.index(splits[s.id]) for s in samples])
    for a, b in apart.items():
        itself, twin = samples[a].id, samples[b].id
        if itself not in given or twin not in given or given[itself] == given[twin]:
            continue
        if itself in recorded:
            itself, twin = twin, itself
        if itself not in recorded:
            leaks.setdefault(itself, said_leak("near-duplicate", twin, itself, splits))
    if not (own := [a for a, b in apart.items() if samples[a].id not in leaks and samples[b].id not in leaks]):
        return []
    what = (
        f"{len(own)} images are near-duplicates of one in val or test; all stay: they are of a long row in which each "
        f"is like the next, as of a moving camera, and which is not of one split"
    )
    return [Problem(names[own[0]], "", "near_duplicates_apart", what, "noted")]


def _still(kept: list[Sample], pairs: list[tuple[str, str]]) -> list[Problem]:
    """A row if images that were recorded in two splits have since turned out to belong together."""
    counts = leak_report(kept, pairs)
    if not any(counts.values()):
        return []
    found = f"{counts['groups']} groups and {counts['near_duplicates']} near-duplicates are recorded in two splits"
    return [Problem("", "", "recorded_apart", f"{found}, and stay there", "noted")]


def _crowd(
    samples: list[Sample], names: list[str], found: NearDuplicates, given: dict[str, str], sides: set[str]
) -> Crowd | None:
    """The largest of the sets of near-duplicates, without those that the source itself puts on one side."""
    placed = [(s.split or "train") if given else None for s in samples]
    free = [members for members in found.sets if placed[members[0]] is None or len({placed[i] for i in members}) > 1]
    largest = max(free, key=len, default=[])
    if not largest:
        return None
    return Crowd(len(largest), len(samples), names[largest[0]], [split for split in SPLITS if split not in sides])

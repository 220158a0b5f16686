"""What a person reads of an ingested dataset: its summary, the ledger of problems, a sheet of images."""

import csv
import io
from collections import Counter, defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.core.errors import InputError, shown
from pipeline.core.image_file import open_image
from pipeline.core.lines import read_table
from pipeline.core.sample import SPLITS, Dataset, Sample
from pipeline.core.tables import cell, of_cell
from pipeline.datasets.formats.reading import Problem, Reading
from pipeline.datasets.ingest.accounts import clip_counts, images_seen, object_counts
from pipeline.datasets.ingest.layers import Laid
from pipeline.datasets.ingest.splits import labels_of, leak_report
from pipeline.datasets.ingest.take import Taken
from pipeline.datasets.params import DatasetParams
from pipeline.viz.sheets import contact_sheet, draw

COLUMNS = ["file", "key", "rule", "found", "done"]  # of ledger.csv
DONE = ["refused", "dropped", "clipped", "hidden", "noted"]
TILES = 24  # images on the contact sheet
EMPTY = "no objects"  # so that nobody takes it for one whose labels were lost


def summary_of(
    params: DatasetParams,
    reading: Reading,
    taken: list[Taken],
    laid: Laid,
    pairs: list[tuple[str, str]],
    problems: list[Problem],
) -> dict[str, Any]:
    """summary.json: what came in, what stays, and all rows by rule; `laid` has the samples that stay, `pairs` are the
    ids of near-duplicates. Objects are those of the source, labels those that there are now.
    """
    samples = laid.samples
    seen = images_seen(reading, taken)
    labels: dict[str, Counter[str]] = {split: Counter() for split in SPLITS}
    for s in samples:
        labels[str(s.split)].update([s.label] if s.label is not None else [o.label for o in s.objects])
    kept = {s.id for s in samples}
    objects = sum(len(s.objects) for t in taken for s in t.samples if s.id in kept)
    summary = {
        "format": params.format,
        "files": file_count(reading),
        "seen": seen,
        "kept": len(samples),
        "refused": seen - len(samples),
        "clips": clip_counts(reading, taken, kept),
        "objects": object_counts(reading, taken, kept, objects, problems),
        "by_rule": dict(sorted(Counter(p.rule for p in [*problems, *laid.problems]).items())),
        "clipped_within_a_pixel": sum(t.clipped_silently for t in taken),
        "splits": {split: sum(s.split == split for s in samples) for split in SPLITS},
        "labels": {split: dict(sorted(count.items())) for split, count in labels.items()},
        "near_duplicate_pairs": sum(a in kept and b in kept for a, b in pairs),
        "leaks": leak_report(samples, pairs),
    }
    return summary | {"layers": laid.counts} if laid.counts else summary


def file_count(reading: Reading) -> int:
    """How many images and clips the source has, with those that were refused on reading: each row of a label file
    that names none which is there counts for one.
    """
    names = {c.name for c in reading.candidates}
    refused = {(p.file, p.key) for p in reading.problems if p.done == "refused" and p.file not in names}
    return len(names) + len(refused)


def ledger_text(problems: list[Problem]) -> str:
    r"""ledger.csv: a row per problem, by file.

    >>> print(ledger_text([Problem("a.jpg", "line 2", "bad_line", "3 numbers", "dropped")]), end="")
    file,key,rule,found,done
    a.jpg,line 2,bad_line,3 numbers,dropped
    """
    text = io.StringIO()
    table = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    table.writeheader()
    for problem in sorted(problems, key=lambda p: p.file):
        table.writerow({key: cell(text) for key, text in asdict(problem).items()})
    return text.getvalue()


def by_rule(path: Path) -> list[dict[str, Any]]:
    """What a ledger.csv says, a row for each rule and what was done: how many rows, and the first of them; what was
    refused comes first. Raises InputError for a file that is missing or no ledger.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     ledger = Path(folder, "ledger.csv")
    ...     _ = ledger.write_text(ledger_text([Problem("a.jpg", "line 2", "bad_line", "3 numbers", "dropped")]))
    ...     print(by_rule_text(Path("ledger.csv"), by_rule(ledger)))
    ledger.csv: 1 rows
    dropped       1  bad_line: a.jpg line 2: 3 numbers
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; `dvc repro ingest@{path.parent.name}` makes it")
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for number, cells in enumerate(read_table(path)):
        if len(cells) != len(COLUMNS) or (not number and cells != COLUMNS):
            raise InputError(f"{path}: row {number + 1}: {', '.join(cells)[:80]}; expected {', '.join(COLUMNS)}")
        if number:
            file, key, rule, found, done = (shown(of_cell(text)) for text in cells)
            first = {"done": done, "rule": rule, "rows": 0, "file": file, "key": key, "found": found}
            rows.setdefault((done, rule), first)["rows"] += 1
    return sorted(rows.values(), key=lambda row: (DONE.index(row["done"]) if row["done"] in DONE else 9, -row["rows"]))


def by_rule_text(path: Path, rows: list[dict[str, Any]]) -> str:
    """The rows of `by_rule`, a line each.

    >>> by_rule_text(Path("ledger.csv"), [])
    'ledger.csv: 0 rows'
    """
    lines = [f"{path}: {sum(row['rows'] for row in rows)} rows"]
    for row in rows:
        place = " ".join(filter(None, (row["file"], row["key"])))
        lines.append(f"{row['done']:8} {row['rows']:6}  {row['rule']}: {f'{place}: ' if place else ''}{row['found']}")
    return "\n".join(lines)


def labels_sheet(folder: Path, samples: list[Sample], dataset: Dataset) -> Image.Image:
    """Images from all splits and labels in turn, evenly taken from each."""
    kinds: dict[tuple[str, str], list[Sample]] = defaultdict(list)
    for s in samples:
        kinds[str(s.split), min(labels_of(s), default="")].append(s)
    order = sorted(kinds.items(), key=lambda item: (SPLITS.index(item[0][0]), item[0][1]))
    step = max(1, len(order) // TILES)
    order = order[::step]
    rounds = -(-TILES // max(1, len(order)))
    turns = [(i, s) for _, members in order for i, s in enumerate(_evenly(members, rounds))]
    chosen = [s for _, s in sorted(turns, key=lambda turn: turn[0])][:TILES]
    tiles = []
    for s in chosen:
        image = open_image(folder / str(s.split) / s.file_name)
        empty = "" if s.objects or s.label is not None else f"\n{EMPTY}"
        tiles.append((draw(image, s, dataset), f"{s.split}: {s.id}{empty}"))
    return contact_sheet(tiles, 6, 320)


def _evenly(members: list[Sample], count: int) -> list[Sample]:
    count = min(count, len(members))
    return [members[(2 * i + 1) * len(members) // (2 * count)] for i in range(count)]

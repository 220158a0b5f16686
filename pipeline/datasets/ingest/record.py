"""Which split each image of a dataset was assigned to, kept as a file so that it stays there when images are added."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from pydantic import ValidationError

from pipeline.core.errors import InputError, shown
from pipeline.core.files import write_text
from pipeline.core.lines import read_rows
from pipeline.core.sample import SPLITS, Sample
from pipeline.datasets.formats.reading import Problem
from pipeline.datasets.ingest.settled import Recorded
from pipeline.datasets.params import SplitParams


@dataclass(slots=True)
class Row:
    """An image or clip by its `file` relative to the source, and the source's `group` for it, if any. `pixels` tells it
    from others, under whatever name. `before` is the split that it had before other `splits` in params.yaml drew all
    anew; `val`, `test` and `seed` are those of now.
    """

    file: str
    group: str
    pixels: str
    split: str
    before: str
    val: float
    test: float
    seed: int


HEADER = [f.name for f in fields(Row)]


@dataclass(slots=True)
class Record:
    """The rows of a record by file. `before`, of one that other params made, are the splits that no longer hold."""

    rows: dict[str, Row] = field(default_factory=dict)
    before: dict[str, str] = field(default_factory=dict)

    def of(self, samples: Iterable[Sample], names: Iterable[str], pixels: Mapping[str, str]) -> Recorded:
        """What it says of `samples`, which are of the files of these `names`; `pixels` of each name. A file that it
        does not know, with the pixels of one that is gone, is that one: moved, say to the folder of another class.
        """
        gone = self._gone(pixels)
        splits_of: dict[str, set[str]] = defaultdict(set)
        for recorded in self.rows.values():
            splits_of[recorded.group].add(recorded.split)
        found = Recorded()
        for s, name in zip(samples, names, strict=True):
            if row := self.rows.get(_written(name)) or gone.get(pixels[name]):
                found.images[s.id] = row.split
            if s.group and _written(s.group) in splits_of:
                found.groups[s.group] = splits_of[_written(s.group)]
        return found

    def _gone(self, names: Iterable[str]) -> dict[str, Row]:
        """The rows by pixels of files that are not among the `names`; without those of which there are two splits."""
        rows: dict[str, Row] = {}
        here, unclear = {_written(name) for name in names}, {""}
        for row in self.rows.values():
            if row.file not in here and rows.setdefault(row.pixels, row).split != row.split:
                unclear.add(row.pixels)
        return {pixels: row for pixels, row in rows.items() if pixels not in unclear}

    def extended(self, drawn: dict[str, tuple[str, str]], pixels: Mapping[str, str], params: SplitParams) -> "Record":
        """The record from now on: of `drawn`, file -> (group, split), and as it was of files that are not there any
        more, which are those without `pixels`.
        """
        here = {_written(name) for name in pixels}
        rows = {file: row for file, row in self.rows.items() if file not in here}
        drawn_with = params.val, params.test, params.seed
        for name, (group, split) in drawn.items():
            file = _written(name)
            old = self.rows[file].before if file in self.rows else self.before.get(file, "")
            rows[file] = Row(file, _written(group), pixels[name], split, old, *drawn_with)
        return Record(rows)

    def counts(self, names: Iterable[str]) -> dict[str, int]:
        """How many files it has, how many of them are not among the source's `names`, and of how many other params
        have changed the split.
        """
        gone = self.rows.keys() - {_written(name) for name in names}
        return {"files": len(self.rows), "gone": len(gone), "moved": len(self._moved())}

    def notes(self) -> list[Problem]:
        """A row for the ledger if other params have drawn the splits anew."""
        before = sum(row.before != "" for row in self.rows.values())
        if not before:
            return []
        found = f"other val, test or seed in splits: {before} files were drawn anew, {len(self._moved())} have moved"
        return [Problem("", "", "drawn_anew", found, "noted")]

    def _moved(self) -> list[Row]:
        return [row for row in self.rows.values() if row.before not in ("", row.split)]


def _written(name: str) -> str:
    """The name on one line, as no other name is written."""
    return shown(name.replace("\\", "\\\\"))


def read_record(path: Path, params: SplitParams) -> Record:
    """The record at `path`, an empty one if there is none. Raises InputError naming the line that is not one of a
    record.
    """
    if not path.exists():
        return Record()
    table = csv.reader(io.StringIO(read_rows(path)), strict=True)
    try:
        rows = _rows(table)
    except (ValueError, csv.Error) as error:
        advice = "bring it back from git; without it all images are drawn anew"
        raise InputError(f"{path}:{max(1, table.line_num)}: {error}; {advice}") from None
    if any((row.val, row.test, row.seed) != (params.val, params.test, params.seed) for row in rows.values()):
        return Record(before={file: row.split for file, row in rows.items()})
    return Record(rows)


def write_record(path: Path, record: Record) -> None:
    text = io.StringIO()
    table = csv.DictWriter(text, HEADER, lineterminator="\n")
    table.writeheader()
    table.writerows(asdict(row) for _, row in sorted(record.rows.items()))
    write_text(path, text.getvalue())


def _rows(table: Iterable[list[str]]) -> dict[str, Row]:
    """The rows by file. Raises ValueError saying what is wrong with the last one that was read."""
    lines = iter(table)
    if (header := next(lines, [])) != HEADER:
        raise ValueError(f"found {','.join(header)!r:.80}; expected {','.join(HEADER)!r}")
    rows: dict[str, Row] = {}
    for cells in lines:
        row = _row(cells)
        first = next(iter(rows.values()), row)
        if row.file in rows:
            raise ValueError(f"{row.file!r} is there twice; expected each file once")
        if (row.val, row.test, row.seed) != (first.val, first.test, first.seed):
            raise ValueError(f"val, test and seed are not those of the first row: {','.join(cells)!r:.80}")
        rows[row.file] = row
    return rows


def _row(cells: list[str]) -> Row:
    if cells and cells[0].startswith(("<<<<<<< ", "=======", ">>>>>>> ")):
        raise ValueError(f"a mark of a merge, {','.join(cells)!r:.40}")
    if len(cells) != len(HEADER):
        raise ValueError(f"found {len(cells)} cells; expected {len(HEADER)}: {','.join(HEADER)}")
    file, group, pixels, split, before, *drawn = cells
    if not file:
        raise ValueError("no file; expected the name of an image or clip")
    if split not in SPLITS or before not in ("", *SPLITS):
        raise ValueError(f"split {split!r}, before {before!r}; expected {', '.join(SPLITS)}")
    try:
        params = SplitParams(val=float(drawn[0]), test=float(drawn[1]), seed=int(drawn[2]))
    except (ValueError, ValidationError):
        raise ValueError(f"val, test, seed: {','.join(drawn)!r}; expected numbers as in params.yaml") from None
    return Row(file, group, pixels, split, before, params.val, params.test, params.seed)

"""Labelled images or clips in one format -> the same in another, with a ledger of what did not go over."""

from collections import Counter
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, write_text
from pipeline.core.params import nearest
from pipeline.core.sample import SPLITS, Dataset
from pipeline.datasets.convert.copying import Copying
from pipeline.datasets.formats import FORMATS, detect_format
from pipeline.datasets.formats.beside import other_labels
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.links import links_out, without
from pipeline.datasets.formats.naming import placed
from pipeline.datasets.formats.reading import Problem, Reading, said_of_names
from pipeline.datasets.formats.writing import KINDS, SET_KINDS, Lost, Writer, held_set, kept
from pipeline.datasets.ingest.accounts import images_seen, object_counts, unread
from pipeline.datasets.ingest.gate import counted, first_of
from pipeline.datasets.ingest.report import ledger_text
from pipeline.datasets.ingest.units import doubts, notes

LEDGER = "export_ledger.csv"


def convert(
    source: Path,
    out: Path,
    to: str,
    format: str | None = None,
    labels: Path | None = None,
    options: Mapping[str, Any] | None = None,
    follow_links: bool = False,
) -> dict[str, Any]:
    """Write the dataset in `source` (its labels elsewhere: `labels`) into the new or empty folder `out` in the format
    `to`; returns the counts that `summary_line` tells.

    Its own format is recognized, if none is given; `options` are those of it. Images are copied as they are, where the
    target has names for such; labels pass the checks of `ingest`; of links that lead out of the source nothing is read,
    unless `follow_links`. `out` is there whole, or not at all.

    Raises InputError for folders, formats and options that are not as expected, a source without anything usable, and
    a target without a place for what that is about.

    >>> from tempfile import TemporaryDirectory
    >>> import json
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     (herd := Path(folder, "herd")).mkdir()
    ...     Image.new("RGB", (20, 10)).save(herd / "1.png")
    ...     _ = Path(herd, "classes.txt").write_text("cow"), Path(herd, "1.txt").write_text("0 0.5 0.5 0.2 0.4")
    ...     convert(herd, Path(folder, "out"), "coco")["images"]
    ...     json.loads(Path(folder, "out/annotations/instances.json").read_text())["annotations"][0]["bbox"]
    {'in': 1, 'out': 1, 'refused': 0}
    [8, 3, 4, 4]
    """
    writer = _writer(to)
    _check_places(source, labels or source, out)
    row, reading = _read(source, labels or source, format, options or {}, follow_links)
    kinds = _kinds(source, reading, to, writer)
    names, renamed = placed(reading.candidates, writer)
    dataset = Dataset(source.resolve().name, reading.labels, reading.landmarks, reading.pairs, reading.skeleton)
    with new_folder(out.resolve()) as folder:
        copying = Copying(reading.candidates, names, folder, kinds | _made_here(row), lost := Lost(renamed))
        with closing(copying.samples()) as samples:  # its threads end before the folder is moved or removed
            writer.write(folder, held_set(dataset, kinds), samples, lost)
        problems = [*reading.problems, *(p for taken in copying.taken for p in taken.problems)]
        if not any(taken.samples for taken in copying.taken):
            raise _nothing(source, problems)
        doubtful = doubts(reading, copying.taken)
        problems += [Problem("", "", "other_unit", doubt, "noted") for doubt in doubtful]
        problems += [*notes(reading, copying.taken), *_of_set(dataset, kinds, copying), *lost.rows()]
        write_text(folder / LEDGER, ledger_text(problems))
    summary = {"source": str(source), "format": row.name, "out": str(out), "to": to, "doubts": doubtful}
    return summary | _counts(reading, copying, problems)


def summary_line(summary: dict[str, Any]) -> str:
    """What `convert` returned, for people.

    >>> images, objects = {"in": 3, "out": 2, "refused": 1}, {"in": 5, "out": 4, "dropped": 1}
    >>> counts = {"splits": {"train": 2}, "images": images, "objects": objects, "rows": 2, "doubts": []}
    >>> summary_line({"source": "a", "format": "voc", "out": "b", "to": "coco", **counts})
    'a (voc) -> b (coco): images 3 = 2 + 1 refused, objects 5 = 4 + 1 dropped; train 2; 2 rows in export_ledger.csv'
    """
    images, objects, splits = summary["images"], summary["objects"], summary["splits"]
    divided = f"; {', '.join(f'{split} {number}' for split, number in splits.items())}" if splits else ""
    return (
        f"{summary['source']} ({summary['format']}) -> {summary['out']} ({summary['to']}): "
        f"images {images['in']} = {images['out']} + {images['refused']} refused, "
        f"objects {objects['in']} = {objects['out']} + {objects['dropped']} dropped{divided}; "
        f"{summary['rows']} rows in {LEDGER}{''.join(f'; {doubt}' for doubt in summary['doubts'])}"
    )


def _writer(to: str) -> Writer:
    written = [name for name, row in FORMATS.items() if row.write]
    writer = FORMATS[to].write if to in FORMATS else None
    if writer is None:
        only_read = f"{to} is only read" if to in FORMATS else "no such format"
        raise InputError(f"--to {to}: {only_read}{nearest(to, written)}")
    return writer


def _check_places(source: Path, labels: Path, out: Path) -> None:
    """Raises InputError before anything is read."""
    for place in dict.fromkeys((source, labels)):
        if not place.exists():
            raise InputError(f"{place}: no such file or folder")
        if out.resolve().is_relative_to(place.resolve()) or place.resolve().is_relative_to(out.resolve()):
            raise InputError(f"{out}: it and {place} lie in each other; expected a folder elsewhere")
    if not source.is_dir():
        raise InputError(f"{source}: not a folder; expected one of images or clips")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: a file; expected a new or empty folder")
    if Path.cwd().is_relative_to(out.resolve()):
        raise InputError(f"{out}: the folder that this runs in, which is replaced; expected another one")
    if out.is_dir() and (there := next(out.iterdir(), None)):
        raise InputError(f"{out}: not empty ({there.name} is in it); expected a new or empty folder")


def _read(
    source: Path, labels: Path, format: str | None, options: Mapping[str, Any], follow_links: bool
) -> tuple[Format, Reading]:
    name = format or detect_format(source, labels)[0]
    if name not in FORMATS:
        raise InputError(f"--format {name}: no such format{nearest(name, FORMATS)}")
    row = FORMATS[name]
    places, how = (source.resolve(), labels.resolve()), "--follow-links"
    links = set() if follow_links else links_out(*places, how)
    reading = row.read(*places, _options(row, options))
    without(reading, links, how)
    if not reading.candidates:
        raise _nothing(source, reading.problems)
    reading.problems += said_of_names(reading) + unread(reading, *places) + other_labels(name, reading, *places)
    if any(c.split for c in reading.candidates):
        for c in reading.candidates:
            c.split = c.split or "train"  # as in ingest; the ledger says so
    return row, reading


def _nothing(source: Path, problems: list[Problem]) -> InputError:
    why = counted(problems, "refused", "dropped") or "no images"
    return InputError(f"{source}: nothing usable in it: {why}{first_of(problems, 'refused', 'dropped')}")


def _options(row: Format, said: Mapping[str, Any]) -> Any:
    known = row.Options.model_fields
    if unknown := [key for key in said if key not in known]:
        has = nearest(unknown[0], known) if known else " and no other"
        raise InputError(f"options.{unknown[0]}: {row.name} has no such option{has}")
    try:
        return row.Options(**said)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise InputError(f"options.{key}: {first['msg']}, found {first['input']!r}") from None


def _kinds(source: Path, reading: Reading, to: str, writer: Writer) -> frozenset[str]:
    """What the target keeps of this set. Raises InputError if that is nothing of what the set is about."""
    boxes = any(c.objects or c.marks for c in reading.candidates)
    about = "boxes" if boxes else "image_labels" if any(c.label is not None for c in reading.candidates) else ""
    kinds = kept(writer, boxes)
    if about and about not in kinds:
        others = [name for name, row in FORMATS.items() if row.write and about in row.write.keeps]
        holds = [KINDS[name].words for name in ("image_labels", "boxes", "landmarks") if name in writer.keeps]
        raise InputError(
            f"{source}: has {KINDS[about].words}, but {to} holds {' and '.join(holds)}"
            f"{'; expected --to ' + ' or '.join(others) if others else ''}"
        )
    return kinds


def _made_here(row: Format) -> frozenset[str]:
    """The kinds that samples read from such a source have from us, so that they are no loss: ids made of names."""
    return frozenset() if row.write and "ids" in row.write.keeps else frozenset({"ids"})


def _of_set(dataset: Dataset, kinds: frozenset[str], copying: Copying) -> list[Problem]:
    """Rows for what the set has as a whole, and the target has no place for."""
    without = held_set(dataset, kinds)
    listed = "classes" in kinds or dataset.labels == sorted(copying.used)
    classes = f"{', '.join(dataset.labels[:20])}: only those that images have are there, without an order"
    splits = sorted({c.split or "" for c in copying.candidates})
    alone = "" if len(splits) > 1 else splits[0]
    gone = {
        "lone_split": f"{alone}; read again, it is the whole set" if alone and "lone_split" not in kinds else "",
        "classes": "" if listed else classes,
        "pairs": _gone(dataset.pairs, without.pairs, dataset.landmarks),
        "skeleton": _gone(dataset.skeleton, without.skeleton, dataset.landmarks),
    }
    words = SET_KINDS if "landmarks" in kinds else {**SET_KINDS, "pairs": "left-right pairs of landmarks"}
    rows = [(key, f"{words[key]}: {found}") for key, found in gone.items() if found]
    return [Problem("", key, "not_kept", found, "dropped") for key, found in rows]


def _gone(before: list[tuple[int, int]], after: list[tuple[int, int]], names: list[str]) -> str:
    there = {tuple(sorted(pair)) for pair in after}
    lost = [pair for pair in before if tuple(sorted(pair)) not in there]
    return ", ".join(f"{names[a]} and {names[b]}" for a, b in lost)


def _counts(reading: Reading, copying: Copying, problems: list[Problem]) -> dict[str, Any]:
    """Images and objects that were found in the source, and what became of them; by_rule counts rows of the ledger."""
    seen, there = images_seen(reading, copying.taken), [s for taken in copying.taken for s in taken.samples]
    said = [*reading.problems, *(p for taken in copying.taken for p in taken.problems), *copying.lost.problems]
    kept = copying.objects - sum(p.done == "dropped" for p in copying.lost.problems)
    objects = object_counts(reading, copying.taken, {s.id for s in there}, kept, said)
    splits = Counter(s.split for s in there)
    return {
        "images": {"in": seen, "out": len(there), "refused": seen - len(there)},
        "objects": {"in": objects["seen"], "out": objects["kept"], "dropped": objects["dropped"]},
        "splits": {split: splits[split] for split in SPLITS if split in splits},
        "rows": len(problems),
        "by_rule": dict(sorted(Counter(p.rule for p in problems).items())),
    }

"""Open Images' CSV (https://storage.googleapis.com/openimages/web/download_v7.html): a row per box, places as shares.

    ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside
    000a1249af2bc5f0,xclick,/m/0cmf2,1,0.012,0.195,0.148,0.587,0,1,0,0,0

Columns are found by their names. Classes are codes, whose names are in `class-descriptions-boxable.csv`. A list of
images (a CSV with ImageID and no LabelName) says which ones without a box have been looked at. The files' lists of
classes that are verified to be there or not, per image, are not read.
"""

from collections import Counter
from itertools import islice
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.lines import BEYOND
from pipeline.core.params import Block
from pipeline.core.sample import SPLITS, Object
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.open_images_tables import BOX, Tables, header_of, rows_of, tables_of
from pipeline.datasets.formats.reading import (
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    label_text,
    relative,
    split_of,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import place, split_lists
from pipeline.datasets.formats.values import flag, number

FLAGS = {"isgroupof": "IsGroupOf", "isdepiction": "IsDepiction"}
LOOKED_AT = 100  # files of a folder that may be full of other CSV
UNKNOWN = ("-1", "-1.0")  # as a program writes whole numbers, or a column with gaps


class Options(Block):
    depictions: bool = True
    """Whether a drawing or figure of a thing (IsDepiction) is one of its class; otherwise its box is left out."""


def read(path: Path, labels: Path, options: Options) -> Reading:
    """`labels` is a CSV of boxes, or a folder with some. Raises InputError if there is none, or none of their images.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "0a.jpg").touch()
    ...     _ = Path(folder, "boxes.csv").write_text("ImageID,LabelName,XMin,XMax,YMin,YMax\\n0a,/m/01xq0k1,0,.5,.25,1")
    ...     _ = Path(folder, "class-descriptions.csv").write_text("/m/01xq0k1,Cattle\\n")
    ...     reading = read(Path(folder), Path(folder), Options())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('Cattle', (0.0, 0.25, 0.5, 0.75))]
    """
    tables = tables_of(labels)
    if not tables.boxes:
        raise InputError(f"{labels}: no CSV of boxes; expected the columns ImageID, LabelName, XMin, XMax, YMin, YMax")
    return _Set(path, labels, tables, options.depictions).read()


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    files = [labels] if labels.is_file() else islice(files_under(labels, {".csv"}), LOOKED_AT)
    found = next((file for file in files if {"imageid", "labelname", *BOX} <= set(header_of(file))), None)
    return f"boxes of Open Images in {relative(found, labels)}" if found else None


def _flag(cell: str | None, column: str) -> bool:
    """Whether it is set; -1, which the format has for unknown, is not."""
    try:
        return (cell or "").strip() not in UNKNOWN and flag(cell)
    except ValueError:
        raise ValueError(f"{column}: {cell!r:.40}, expected 0, 1, or -1 for unknown") from None


class _Set:
    def __init__(self, path: Path, labels: Path, tables: Tables, depictions: bool):
        self.path, self.labels, self.tables, self.depictions = path, labels, tables, depictions
        self.reading = Reading([], [])
        self.images = ImageIndex(path)
        self.notes: Counter[tuple[str, str]] = Counter()
        self.by_name: dict[str, Candidate] = {}
        several = len(tables.boxes) > 1
        self.splits = {file: split_of(*self._places(file)) for file in (*tables.boxes, *tables.images) if several}
        self.known: dict[tuple[str, str | None, Path], str | None] = {}  # id, split, file -> image

    def read(self) -> Reading:
        names = self._names()
        # what is held out comes first: an image that a training file names again is not trained on
        for file in sorted(self.tables.boxes, key=lambda f: -SPLITS.index(self._split(f, None) or "train")):
            for line, row in rows_of(file):
                self._box(file, line, row, names)
        self._empty_ones()
        if not self.by_name:
            raise InputError(
                f"{self.path}: none of the {self._missing()} images that {self.labels} names is here; "
                f"expected files called by their ImageID"
            )
        reading = self.reading
        reading.candidates = [candidate for _, candidate in sorted(self.by_name.items())]
        if not any(c.split for c in reading.candidates):
            place(reading, self.path, self.images.names, split_lists(reading, self.path, self.labels), alone=False)
        give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
        used = {o.label for c in reading.candidates for o in c.objects}
        reading.labels = [*dict.fromkeys(n for n in names.values() if n in used), *sorted(used - set(names.values()))]
        self._said()
        return reading

    def _said(self) -> None:
        """The rows about the whole set."""
        notes = self.notes
        notes["not_here", "images of the files are not here"] = self._missing()
        notes["not_listed", "images that no file names; left out"] = len(self.images.files) - len(self.by_name)
        empty = sum(not c.objects for c in self.reading.candidates)
        notes["no_label", "images without a box; taken as background"] = empty
        words = "files of verified labels of images; a class that nobody looked for counts as not there"
        notes["not_read", words] = len(self.tables.verified)
        for (rule, words), count in sorted(notes.items()):
            if count:
                self._problem("", "", rule, f"{count} {words}", "noted")

    def _missing(self) -> int:
        """How many images no file finds here."""
        every = {(said, split) for said, split, _ in self.known}
        return len(every - {(said, split) for (said, split, _), name in self.known.items() if name})

    def _problem(self, file: str, key: str, rule: str, found: str, done: str = "dropped") -> None:
        self.reading.problems.append(Problem(file, key, rule, found, done))

    def _names(self) -> dict[str, str]:
        """Code -> name. Two codes of one name keep the code beside it. Raises InputError for a code of two names."""
        names: dict[str, str] = {}
        for file in self.tables.names:
            header = None if "labelname" in header_of(file) else ["labelname", "displayname"]
            for line, row in rows_of(file, header):
                code, name = row.get("labelname", "").strip(), label_text(row.get("displayname", ""))
                if BEYOND in row or not code or not name.strip():
                    found = row.get(BEYOND, "no code and name")
                    self._problem(relative(file, self.labels), f"line {line}", "bad_row", found, "noted")
                elif names.setdefault(code, name) != name:
                    raise InputError(
                        f"{file}:{line}: {code} is {name!r}, and {names[code]!r} before; expected one name"
                    )
        count = Counter(names.values())
        return {code: name if count[name] == 1 else f"{name} ({code})" for code, name in names.items()}

    def _split(self, file: Path, row: dict[str, str] | None) -> str | None:
        """What a row says, else the file's name or folders; a single file is the whole set."""
        said = split_of(row["subset"]) if row and row.get("subset") else None
        return said or self.splits.get(file)

    def _image(self, said: str, split: str | None, file: Path) -> str | None:
        """The image of an id, in the split's folder if others have one of that name. Asked for once."""
        key = (said := said.strip(), split, file)
        if key not in self.known:
            folders = [name for name in ("train", "validation", "val", "test") if split_of(name) == split]
            near = (*folders, *(f"{name}/data" for name in folders), *(f"images/{name}" for name in folders))
            called = file.stem if len(self.tables.boxes) > 1 and split is None else ""
            found = self.images.find(said, self.images.folder_of(file, self.labels), near, called) if said else []
            if len(found) > 1:
                self._problem(said, relative(file, self.labels), *self.images.fault(said, found), "refused")
            self.known[key] = found[0] if len(found) == 1 else None
        return self.known[key]

    def _candidate(self, name: str, split: str | None) -> Candidate | None:
        """The image's candidate; None where it is further from training in another file."""
        known = self.by_name.setdefault(name, Candidate(self.images.names[name], name, split=split))
        if known.split == split:
            return known
        self.notes["listed_twice", f"rows of images that are {known.split or 'of no split'} in other files"] += 1
        return None

    def _box(self, file: Path, line: int, row: dict[str, str], names: dict[str, str]) -> None:
        split = self._split(file, row)
        name = self._image(row.get("imageid", ""), split, file)
        candidate = self._candidate(name, split) if name else None
        if candidate is None or name is None:
            return
        key, code = f"{relative(file, self.labels, self.path)}:{line}", row.get("labelname", "").strip()
        if BEYOND in row:
            self._problem(name, key, "bad_row", row[BEYOND])
            return
        try:
            left, right, top, bottom = (number(row.get(column), name_) for column, name_ in BOX.items())
            sure = number(row.get("confidence") or -1, "Confidence")
        except ValueError as error:
            self._problem(name, key, "bad_box", str(error))
            return
        try:
            flags = {column: _flag(row.get(column), name_) for column, name_ in FLAGS.items()}
        except ValueError as error:
            self._problem(name, key, "bad_row", str(error))
            return
        if not code:
            self._problem(name, key, "unknown_class", "no LabelName")
        elif sure == 0:
            self._problem(name, key, "unverified", f"{names.get(code, code)}: confidence 0 says that it is not there")
        elif flags["isdepiction"] and not self.depictions:
            self.notes["depiction", "boxes of depictions; left out, as options.depictions says"] += 1
        else:
            if names and code not in names:
                self.notes["no_name", f"boxes of {code}, which has no name in the files"] += 1
            box = (left, top, right - left, bottom - top)
            candidate.objects.append(Object(names.get(code, label_text(code)), box, crowd=flags["isgroupof"]))
            candidate.keys.append(key)

    def _empty_ones(self) -> None:
        """Images that a list names and that have no box were looked at, and show nothing of the classes: those of
        splits whose boxes are here."""
        boxed = {split_of(*self._places(file)) for file in self.tables.boxes}
        for file in self.tables.images:
            of_file = split_of(*self._places(file))
            for _, row in rows_of(file):
                if None not in boxed and (split_of(row.get("subset", "")) or of_file) not in {*boxed, None}:
                    continue
                split = self._split(file, row)
                name = self._image(row.get("imageid", ""), split, file)
                if name and name not in self.by_name:
                    self._candidate(name, split)

    def _places(self, file: Path) -> list[str]:
        """What may say the split: the file's name and the folders of the set that it lies in, the nearest first."""
        folders = PurePosixPath(relative(file, self.labels, self.path)).parent.parts
        return [file.stem, *reversed(folders)]


FORMAT = Format(
    name="open_images",
    tasks=("localize", "detect"),
    Options=Options,
    read=read,
    looks_for="CSV with the columns ImageID, LabelName, XMin, XMax, YMin and YMax",
    recognize=recognize,
    rank=38,  # columns that no other CSV has
    sign=signs.OPEN_IMAGES,
)

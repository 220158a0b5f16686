"""A CSV of landmarks: a row per image, its file name first, then x, y of each landmark in pixels from (0, 0).

    ,0,1,2,3                             or    image,left_eye_x,left_eye_y,nose_x,nose_y
    training/a.jpg,27.0,59.0,28.0,64.0         a.jpg,27.0,59.0,,

Two empty cells are a landmark that is not labelled. With several files, the split is in the file's or folder's name; a
single one is the whole set, with the splits that lists or the folders of its images say.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.lines import read_rows
from pipeline.core.sample import SPLITS, VISIBLE
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.deeplabcut import is_deeplabcut
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import refuse_many, refuse_twice
from pipeline.datasets.formats.points import LandmarkOptions, Point, is_labelled, name_points, object_of, usual
from pipeline.datasets.formats.reading import (
    IMAGE_SUFFIXES,
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    label_text,
    relative,
    split_of,
    upright_size,
    without_suffix,
)
from pipeline.datasets.formats.split_folders import file_splits, folders_of
from pipeline.datasets.formats.split_lists import place, split_lists, val_is_train
from pipeline.datasets.formats.values import number

# x_nose, nose-y, noseX, x0: an axis, and the landmark that it belongs to
AXIS_FIRST = re.compile(r"([xyXY])(?:[\s_.-]+(?=.)|(?=\d))(.+)")
AXIS_LAST = re.compile(r"(.+?)(?:[\s_.-]+(?=[xyXY]$)|(?=[XY]$))(.)")
BOX = {"min", "max"}  # of x_min, y_min, x_max, y_max


@dataclass(slots=True)
class Table:
    """A file's rows, each with the number of its line; the landmarks' `names` and `count` where a header says."""

    file: Path
    names: list[str]
    count: int | None
    rows: list[tuple[int, list[str]]]


def read(path: Path, labels: Path, options: LandmarkOptions) -> Reading:
    """`labels` is one CSV or a folder with some; `options` has `label` and `pairs`.

    Raises InputError if there is none, if a header is not of this form, or if two headers differ. A row that makes no
    sense is a problem, with its line.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (100, 50)).save(Path(folder, "a.png"))
    ...     _ = Path(folder, "faces.csv").write_text("image,nose_x,nose_y,chin_x,chin_y\\na.png,10,5,50,25")
    ...     reading = read(Path(folder), Path(folder), LandmarkOptions(label="face"))
    >>> reading.landmarks, [(p.x, p.y) for p in reading.candidates[0].objects[0].landmarks]
    (['nose', 'chin'], [(0.1, 0.1), (0.5, 0.5)])
    """
    images = ImageIndex(path)
    tables = _tables(labels, images)
    if not tables:
        raise InputError(f"{labels}: no .csv of landmarks; expected rows of an image's name and x, y of each landmark")
    reading = Reading([], [options.label])
    first = _one_header(tables)
    counts = [first.count or 0] if first else [len(row) // 2 for t in tables for _, row in t.rows]
    refuse_many(usual(counts), f"{tables[0].file}: most rows", "landmarks")
    name_points(reading, usual(counts), first.names if first else [], options.pairs)
    # what is held out comes first: an image that a training file names again is not trained on
    splits = file_splits([relative(t.file, labels, path) for t in tables], labels, reading)
    tables.sort(key=lambda t: -SPLITS.index(splits[relative(t.file, labels, path)] or "train"))
    found: list[tuple[Candidate, str, list[str]]] = []
    for table in tables:
        where = relative(table.file, labels, path)
        split = splits[where]
        lies = images.folder_of(table.file, labels), table.file.stem if len(tables) > 1 else ""
        near = (*folders_of(split_of(table.file.stem), images.names), "images")
        for line, row in table.rows:
            name = _image_of(row[0], f"{where}:{line}", lies, near, images, reading)
            if name is not None:
                found.append((Candidate(images.names[name], name, split=split), f"{where}:{line}", row[1:]))
    taken: dict[str, str] = {}  # image -> file and line
    same = val_is_train((c for c, *_ in found), splits, reading)
    for candidate, key, cells in found:
        if not (same and candidate.split == "val"):
            _take(reading, candidate, taken, key, cells)
    if not any(splits.values()):
        place(reading, path, images.names, split_lists(reading, path, labels), alone=False)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    _say_corners(first, reading)
    if rest := len(images.files) - len(taken):
        reading.problems.append(Problem("", "", "not_listed", f"{rest} images that no row names", "noted"))
    return reading


def _say_corners(header: Table | None, reading: Reading) -> None:
    """A row where the two landmarks of all objects may be the corners of their boxes."""
    pairs = [o.landmarks for c in reading.candidates for o in c.objects]
    numbered = header is not None and header.count == 2 and not header.names and len(pairs) > 1
    if numbered and all(VISIBLE == a.visibility == b.visibility and a.x < b.x and a.y < b.y for a, b in pairs):
        found = (
            "two numbered landmarks, the second always right of the first and below; corners of boxes? No format reads"
        )
        reading.problems.append(
            Problem("", "", "maybe_boxes", f"{found} these: write them as coco, voc or yolo", "noted")
        )


def recognize(path: Path, labels: Path) -> str | None:
    files = [labels] if labels.is_file() else list(files_under(labels, {".csv"}))
    if not files:
        return None
    if tables := _tables(labels, ImageIndex(path)):
        return f"landmarks in {', '.join(relative(t.file, labels) for t in tables[:3])}"
    raise InputError(f"{files[0]}: CSV, but no images and landmarks in its first rows; expected name, x, y, x, y, ...")


def _tables(labels: Path, images: ImageIndex) -> list[Table]:
    """The CSV files that hold landmarks; others that lie about are passed over. Raises InputError as `read` does."""
    if labels.is_file():
        rows = _rows(labels)
        if is_deeplabcut([row for _, row in rows[:4]]):
            raise InputError(f"{labels}: the header of DeepLabCut; expected format `deeplabcut` for it")
        if signs.of_boxes([row for _, row in rows[:4]]):
            raise InputError(f"{labels}: a table of boxes; expected rows of an image's name and x, y of each landmark")
        return [_table(labels, rows, images)]
    tables = []
    for file in sorted(files_under(labels, {".csv"})):
        rows = _rows(file)
        first = [row for _, row in rows[:4]]
        if is_deeplabcut(first) or signs.of_boxes(first):
            continue
        if any(_is_image(row[0], images) and len(row) > 2 for row in first[:2]):
            tables.append(_table(file, rows, images))
    return tables


def _rows(file: Path) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(read_rows(file), newline=""), skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{file}:{reader.line_num}: not CSV: {error}") from None
    # without what is empty in each of them, as commas at the ends of lines leave it
    width = max((place for _, row in rows for place, cell in enumerate(row, 1) if cell), default=0)
    return [(line, row[:width]) for line, row in rows]


def _is_image(cell: str, images: ImageIndex) -> bool:
    return Path(cell).suffix.lower() in IMAGE_SUFFIXES or bool(cell and images.find(cell))


def _table(file: Path, rows: list[tuple[int, list[str]]], images: ImageIndex) -> Table:
    if rows and not _is_image(rows[0][1][0], images):
        header, *rows = rows
        names, count = _header(file, header[1][1:])
        table = Table(file, names, count, rows)
    else:
        table = Table(file, [], None, rows)
    if not rows:
        raise InputError(f"{file}: no rows; expected one per image: its name and x, y of each landmark")
    return table


def _header(file: Path, columns: list[str]) -> tuple[list[str], int]:
    """Names and number of the landmarks; no names where the header only counts."""
    if not columns or len(columns) % 2:
        raise InputError(f"{file}: the header has {len(columns)} columns after the first; expected x, y per landmark")
    refuse_many(len(columns) // 2, f"{file}: the header", "landmarks")
    axes = [_axis(column) for column in columns]
    if not any(axes) and all(not column or column.isdigit() for column in columns):
        refuse_twice(filter(None, columns), f"{file}: the header", "column")
        return [], len(columns) // 2
    names = []
    for i in range(0, len(columns), 2):
        x, y = axes[i : i + 2]
        if (
            x is None
            or y is None
            or (x[0], y[0]) != ("x", "y")
            or label_text(x[1]) != label_text(y[1])
            or x[1].lower() in BOX
        ):
            raise InputError(
                f"{file}: columns {i + 2} and {i + 3} are {columns[i]!r} and {columns[i + 1]!r}; "
                f"expected x and y of one landmark, such as nose_x and nose_y"
            )
        names.append(x[1])
    refuse_twice(names, f"{file}: the header", "landmark")
    return ([] if all(name.isdigit() for name in names) else names), len(names)


def _axis(column: str) -> tuple[str, str] | None:
    """("x" or "y", the landmark) of a column's name."""
    column = label_text(column)
    if found := AXIS_FIRST.fullmatch(column):
        return found[1].lower(), found[2]
    if found := AXIS_LAST.fullmatch(column):
        return found[2].lower(), found[1]
    return None


def _one_header(tables: list[Table]) -> Table | None:
    """The first file with a header. Raises InputError where another one's says something else."""
    said = [t for t in tables if t.count is not None]
    for table in said[1:]:
        if (table.count, table.names) != (said[0].count, said[0].names):
            raise InputError(
                f"{table.file}: {table.count} landmarks ({', '.join(table.names[:3]) or 'no names'}), {said[0].file}: "
                f"{said[0].count} ({', '.join(said[0].names[:3]) or 'no names'}); expected the same in all files"
            )
    return said[0] if said else None


def _image_of(
    cell: str, key: str, lies: tuple[str, str], near: tuple[str, ...], images: ImageIndex, reading: Reading
) -> str | None:
    """The name of the image that a row's first cell means, looked for in the folders `near` first.

    `lies` are the file's folder and name, as `find` takes them.
    """
    if not cell:
        reading.problems.append(Problem(key.rpartition(":")[0], key, "bad_row", "no file name"))
        return None
    found = images.find(cell, lies[0], near, lies[1])
    if len(found) == 1:
        return found[0]
    reading.problems.append(Problem(cell, key, *images.fault(cell, found)))
    return None


def _take(reading: Reading, candidate: Candidate, taken: dict[str, str], key: str, cells: list[str]) -> None:
    """Add the candidate with the landmarks in `cells`; a row without any says that nothing is there."""
    file, name = candidate.file, candidate.name
    if name in taken:
        reading.problems.append(Problem(name, key, "listed_twice", f"there already, in {taken[name]}", "dropped"))
        return
    taken[name] = key
    expected = len(reading.landmarks)
    if len(cells) != 2 * expected:
        found = f"{len(cells)} numbers, expected {2 * expected} for {expected} landmarks"
        reading.problems.append(Problem(name, key, "bad_landmarks", found))
        return
    try:
        points = _points(cells)
    except ValueError as error:
        reading.problems.append(Problem(name, key, "bad_row", str(error)))
        return
    try:
        candidate.size, candidate.unsized = upright_size(file), True
    except ValueError as error:
        reading.problems.append(Problem(name, "size", "unreadable", str(error)))
        reading.lost += any(map(is_labelled, points))
        return
    if any(map(is_labelled, points)):
        candidate.objects.append(object_of(points, reading.labels[0], candidate.size))
        candidate.keys.append(key)
    reading.candidates.append(candidate)


def _points(cells: list[str]) -> list[Point]:
    """Raises ValueError that names the column."""
    points: list[Point] = []
    for i in range(0, len(cells), 2):
        pair = cells[i : i + 2]
        try:
            points.append(None if pair == ["", ""] else (number(pair[0], finite=False), number(pair[1], finite=False)))
        except ValueError:
            found = ", ".join(map(repr, pair))
            raise ValueError(f"columns {i + 2} and {i + 3}: {found}; expected two numbers") from None
    return points


FORMAT = Format(
    name="landmarks_csv",
    tasks=("localize", "detect"),
    Options=LandmarkOptions,
    read=read,
    looks_for="CSV of images and their landmarks",
    recognize=recognize,
    rank=70,  # other datasets have CSV files that begin with the name of an image
    sign=signs.LANDMARKS_CSV,
)

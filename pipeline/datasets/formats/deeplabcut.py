"""DeepLabCut's labels: `labeled-data/<video>/CollectedData_<scorer>.csv`, beside the frames of that video.

    scorer,anna,anna,anna,anna
    bodyparts,left_paw,left_paw,nose,nose
    coords,x,y,x,y
    labeled-data/mouse1/img001.png,31,42.5,50,61

Projects of several animals have a row `individuals` below the scorer. The name of a frame takes one column, or, as
newer versions write it, three: labeled-data, video, picture. Pixels count from 0. The same labels lie beside as `.h5`.
"""

import csv
import io
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.lines import beyond, first_bytes, read_rows
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex, one_form
from pipeline.datasets.formats.keys import refuse_many
from pipeline.datasets.formats.points import LandmarkOptions, Point, name_points, object_of
from pipeline.datasets.formats.reading import (
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    label_text,
    relative,
    upright_size,
    without_suffix,
)
from pipeline.datasets.formats.signs import Sign, rows_of
from pipeline.datasets.formats.values import number

LABELS, COPIES = "collecteddata_", "training-datasets"
HEAD = 4096  # bytes in which the header's words stand
SINGLE = "single"  # whom DeepLabCut gives the points that belong to no animal
LOST = "landmark_not_finite"
LEAST = 3  # videos, for each split to have one


@dataclass(slots=True)
class Table:
    """A file's rows by line. `places` has the columns of each point: individual -> body part -> x and y; `header` has
    what the columns are.
    """

    file: Path
    header: list[str]
    places: dict[str, dict[str, tuple[int, int]]]
    index: int
    likelihood: bool
    rows: list[tuple[int, list[str]]]

    def parts(self) -> list[str]:
        """Body parts of animals, in order; in a table of one kind of points also those of nobody's."""
        animals = {name: parts for name, parts in self.places.items() if name != SINGLE} or self.places
        return list(dict.fromkeys(part for parts in animals.values() for part in parts))


def read(path: Path, labels: Path, options: LandmarkOptions) -> Reading:
    """`labels` is one such CSV, or a folder with some; `options` has `label` and `pairs`.

    Raises InputError if there is none, or if a header is not of this form. With three videos or more, each is a group.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> header = "scorer,anna,anna,anna,anna\\nbodyparts,L_paw,L_paw,R_paw,R_paw\\ncoords,x,y,x,y\\n"
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (100, 50)).save(Path(folder, "1.png"))
    ...     _ = Path(folder, "CollectedData_anna.csv").write_text(header + "labeled-data\\\\mouse\\\\1.png,10,5,,")
    ...     reading = read(Path(folder), Path(folder), LandmarkOptions(label="mouse"))
    >>> reading.landmarks, reading.pairs, [p.visibility for p in reading.candidates[0].objects[0].landmarks]
    (['L_paw', 'R_paw'], [(0, 1)], [2, 0])
    """
    reading = Reading([], [options.label])
    tables = _tables(path, labels, reading)
    images = ImageIndex(path)
    names = _names_of(tables)
    name_points(reading, len(names), [] if all(map(str.isdigit, names)) else names, options.pairs)
    taken: dict[str, str] = {}  # image -> file and line
    bare = 0
    for table in tables:
        where = relative(table.file, labels, path)
        for line, row in table.rows:
            key = f"{where}:{line}"
            name = _image_of(row[: table.index], table, path, images, key, reading)
            if name is not None and name in taken:
                found = f"there already, in {taken[name]}"
                reading.problems.append(Problem(name, key, "listed_twice", found, "dropped"))
            elif name is not None:
                taken[name] = key
                bare += _take(reading, Candidate(images.names[name], name), table, key, row, names)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    _group(reading)
    if bare:
        found = f"{bare} rows without a number; taken as images with nothing to find"
        reading.problems.append(Problem("", "", "no_label", found, "noted"))
    if rest := len(images.files) - len(taken):
        reading.problems.append(Problem("", "", "not_listed", f"{rest} images that no row names", "noted"))
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    found = _files(labels)
    shown = ", ".join(relative(f, labels) for f in found[:3])
    return f"DeepLabCut's labels in {shown}{', ...' if len(found) > 3 else ''}" if found else None


def is_deeplabcut(rows: list[list[str]]) -> bool:
    """Whether the first rows of a table are the header that DeepLabCut writes."""
    heads = [row[0].strip().lower() for row in rows[:4] if row]
    return heads[:1] == ["scorer"] and "bodyparts" in heads


def _files(labels: Path) -> list[Path]:
    """Tables of labels by a person. A video's predictions have the same header, a likelihood, and another name."""
    if labels.is_file():
        return [labels] if "scorer" in _head(labels) else []
    found = {file: head for file in files_under(labels, {".csv"}) if (head := _head(file)).startswith("scorer")}
    # `training-datasets` holds all of them once more, in one table
    found = {f: h for f, h in found.items() if COPIES not in f.relative_to(labels).parts} or found
    named = [file for file in found if file.name.lower().startswith(LABELS)]
    return sorted(named or [file for file, head in found.items() if "likelihood" not in head])


def _head(file: Path) -> str:
    return first_bytes(file, HEAD).replace(b"\0", b"").lstrip(b'\xef\xbb\xbf\xff\xfe"').decode("latin-1").lower()


def _tables(path: Path, labels: Path, reading: Reading) -> list[Table]:
    tables = [_table(file) for file in _files(labels)]
    if not tables:
        beside = sorted(files_under(labels, {".h5"})) if labels.is_dir() else []
        found = f"; found {relative(beside[0], labels)}, whose labels the .csv beside it has too" if beside else ""
        raise InputError(f"{labels}: no CollectedData_<scorer>.csv with rows scorer, bodyparts, coords{found}")
    for table in tables:
        where = relative(table.file, labels, path)
        if table.likelihood and not table.file.name.lower().startswith(LABELS):
            raise InputError(f"{table.file}: predictions, by their likelihood; expected labels: CollectedData_...")
        if table.file.with_suffix(".h5").is_file():
            found = "the same labels as .h5; the .csv is read"
            reading.problems.append(Problem(str(Path(where).with_suffix(".h5")), "", "not_read", found, "noted"))
        if table.likelihood:
            found = "a column likelihood; not read"
            reading.problems.append(Problem(where, "", "not_read", found, "noted"))
        unread = [part for part in table.places.get(SINGLE, {}) if part not in table.parts()]
        if unread:
            found = f"{len(unread)} points of no animal ({', '.join(unread[:4])}); not read"
            reading.problems.append(Problem(where, "", "not_read", found, "noted"))
    return tables


def _table(file: Path) -> Table:
    reader = csv.reader(io.StringIO(read_rows(file), newline=""), skipinitialspace=True)
    try:
        rows = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{file}:{reader.line_num}: not CSV: {error}") from None
    if not is_deeplabcut([row for _, row in rows]):
        heads = ", ".join(row[0] for _, row in rows[:4]) or "nothing"
        raise InputError(f"{file}: its first rows begin with {heads}; expected scorer, bodyparts, coords")
    header: dict[str, list[str]] = {}
    while rows and rows[0][1][0].lower() in ("scorer", "individuals", "bodyparts", "coords"):
        _, row = rows.pop(0)
        header[row[0].lower()] = [label_text(cell) for cell in row]
    index = 1 if any(header["scorer"][1:3]) else 3
    if "coords" not in header:
        raise InputError(f"{file}: no row that begins with coords; expected scorer, bodyparts, coords")
    table = Table(file, header["coords"], {}, index, "likelihood" in header["coords"], rows)
    columns = len(header["coords"])
    individuals = header.get("individuals", [""] * columns)
    if {len(individuals), len(header["bodyparts"])} != {columns}:
        raise InputError(f"{file}: header rows of {len(header['bodyparts'])} and {columns} columns; expected as many")
    refuse_many(len(set(header["bodyparts"][index:])), f"{file}: bodyparts", "landmarks")
    refuse_many(len(set(individuals[index:])), f"{file}: individuals", "individuals")
    for place in range(index, columns):
        axis, part = header["coords"][place].lower(), header["bodyparts"][place]
        if axis == "x":
            points = table.places.setdefault(individuals[place], {})
            after = header["coords"][place + 1 : place + 2], header["bodyparts"][place + 1 : place + 2]
            if after != (["y"], [part]) or not part:
                raise InputError(f"{file}: column {place + 1} is x of {part!r}; expected y of it in the next one")
            if part in points:
                raise InputError(f"{file}: bodyparts: {part!r} twice; expected each once for an individual")
            points[part] = (place, place + 1)
    if not table.parts():
        raise InputError(f"{file}: coords: no x and y; expected them for each body part")
    return table


def _names_of(tables: list[Table]) -> list[str]:
    """The body parts of all tables: a table may lack some."""
    first = tables[0]
    for table in tables[1:]:
        if all(map(str.isdigit, table.parts())) != all(map(str.isdigit, first.parts())):
            raise InputError(
                f"{table.file}: bodyparts {', '.join(table.parts()[:3])}, {first.file}: "
                f"{', '.join(first.parts()[:3])}; expected names in all files, or numbers in all"
            )
    names = list(dict.fromkeys(part for table in tables for part in table.parts()))
    refuse_many(len(names), f"{tables[-1].file}: bodyparts, with those of the other files", "landmarks")
    return names


def _image_of(cells: list[str], table: Table, path: Path, images: ImageIndex, key: str, reading: Reading) -> str | None:
    """The name of the frame, in the folder of its video: every video has an img001.png."""
    said = PurePosixPath("/".join(cell for cell in cells if cell).replace("\\", "/"))
    video, beside = said.parent.name, table.file.parent
    places = [said]
    if beside.is_relative_to(path) and (video in ("", beside.name) or beside == path):
        places.append(PurePosixPath(relative(beside / said.name, path)))
    places += [PurePosixPath(video, said.name), PurePosixPath("labeled-data", video, said.name)]
    if video == path.name:
        places.append(PurePosixPath(said.name))
    name = next((p.as_posix() for p in places if p.as_posix() in images.names), None)
    meant = [name] if name else images.find(str(said), images.folder_of(table.file, path)) if said.name else []
    found = [n for n in meant if name or not video or one_form(PurePosixPath(n).parent.name) == one_form(video)]
    if len(found) == 1:
        return found[0]
    fault = images.fault(str(said), found) if said.name else ("bad_row", "no file name")
    reading.problems.append(Problem(str(said) if said.name else key, key, *fault))
    return None


def _take(reading: Reading, candidate: Candidate, table: Table, key: str, row: list[str], names: list[str]) -> bool:
    """Add the candidate with its animals; whether its row has no number at all."""
    if surplus := beyond(table.header, row):
        reading.problems.append(Problem(candidate.name, key, "bad_row", surplus))
        return False
    found: dict[str, list[Point]] = {}
    problems: list[Problem] = []
    for individual, columns in table.places.items():
        try:
            points = [_point(row, columns[name]) if name in columns else None for name in names]
        except ValueError as error:
            reading.problems.append(Problem(candidate.name, key, "bad_row", str(error)))
            return False
        for place, point in enumerate(points):
            if point and math.isnan(point[0]) != math.isnan(point[1]):
                what = f"{names[place]}: {point[0]:g}, {point[1]:g}"
                problems.append(Problem(candidate.name, f"{key} {individual}".rstrip(), LOST, what, "hidden"))
        points = [p if p and not any(map(math.isnan, p)) else None for p in points]
        if any(points):
            found[individual] = points
    try:
        candidate.size, candidate.unsized = upright_size(candidate.file), True
    except ValueError as error:
        reading.problems.append(Problem(candidate.name, "size", "unreadable", str(error)))
        reading.lost += len(found)
        return False
    for individual, points in found.items():
        candidate.objects.append(object_of(points, reading.labels[0], candidate.size))
        candidate.keys.append(f"{key} {individual}".rstrip())
    reading.problems += problems
    reading.candidates.append(candidate)
    return not found


def _point(row: list[str], places: tuple[int, int]) -> tuple[float, float]:
    """NaN where a cell is empty. Raises ValueError that names the columns."""
    cells = [row[place] if place < len(row) else "" for place in places]
    try:
        x, y = (number(cell or "nan", finite=False) for cell in cells)
    except ValueError:
        found = ", ".join(map(repr, cells))
        raise ValueError(f"columns {places[0] + 1} and {places[1] + 1}: {found}; expected two numbers") from None
    return x, y


def _group(reading: Reading) -> None:
    """Keep the frames of a video on one side of a split, where there are videos enough."""
    videos = Counter(PurePosixPath(c.name).parent.as_posix() for c in reading.candidates)
    if len(videos) >= LEAST:
        for candidate in reading.candidates:
            candidate.group = PurePosixPath(candidate.name).parent.as_posix()
    else:
        found = f"{len(videos)} videos, {LEAST} are needed to split by video: frames are split one by one"
        reading.problems.append(Problem("", "", "few_videos", found, "noted"))


FORMAT = Format(
    name="deeplabcut",
    tasks=("localize", "detect"),
    Options=LandmarkOptions,
    read=read,
    looks_for="CollectedData_<scorer>.csv as DeepLabCut writes it",
    recognize=recognize,
    rank=35,  # three rows of a header that no other table has
    sign=Sign((".csv",), lambda name, said: name.startswith("CollectedData") and is_deeplabcut(rows_of(said))),
)

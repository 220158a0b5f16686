"""The CSV files of a folder of Open Images: which holds what, and their rows."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.lines import by_column, check_lines, first_bytes
from pipeline.datasets.formats.reading import files_under

BOX = {"xmin": "XMin", "xmax": "XMax", "ymin": "YMin", "ymax": "YMax"}
HEAD = 4096  # bytes


@dataclass(slots=True)
class Tables:
    """A folder's CSV files: of boxes, of images, of names of classes, and of labels of whole images."""

    boxes: list[Path] = field(default_factory=list)
    images: list[Path] = field(default_factory=list)
    names: list[Path] = field(default_factory=list)
    verified: list[Path] = field(default_factory=list)


def tables_of(labels: Path) -> Tables:
    """Of a single file the names of classes are looked for beside it."""
    tables = Tables()
    folder = labels.parent if labels.is_file() else labels
    for file in sorted(files_under(folder, {".csv"})):
        header = header_of(file)
        if "labelname" in header and "imageid" not in header:
            tables.names.append(file)
        elif "imageid" not in header:
            if header[:1] and header[0].startswith(("/m/", "/g/")) and _in_pairs(file):
                tables.names.append(file)
        elif {"labelname", *BOX} <= set(header):
            tables.boxes.append(file)
        elif "labelname" in header:
            tables.verified.append(file)
        else:
            tables.images.append(file)
    if labels.is_file():
        tables.boxes, tables.images = [file for file in tables.boxes if file == labels], []
    return tables


def header_of(file: Path) -> list[str]:
    """The cells of the first line, in small letters; [] of what is no CSV."""
    line = first_bytes(file, HEAD).partition(b"\n")[0].decode("utf-8-sig", errors="replace")
    try:
        return [cell.strip().lower() for cell in next(csv.reader([line]), [])]
    except csv.Error:
        return []


def _in_pairs(file: Path) -> bool:
    """Whether most of a table's first rows have two cells: of one, a name may have a comma that is not quoted."""
    head = first_bytes(file, HEAD)
    lines = head.decode("utf-8-sig", errors="replace").splitlines()
    try:
        counts = [len(row) for row in csv.reader(lines[:-1] if len(head) == HEAD else lines) if row]
    except csv.Error:
        return False
    return 2 * counts.count(2) > len(counts)


def rows_of(file: Path, header: list[str] | None = None) -> Iterator[tuple[int, dict[str, str]]]:
    """Line and cells by column. Raises InputError naming the line that is not CSV, or not UTF-8."""
    line = 0
    check_lines(file)
    try:
        with file.open(encoding="utf-8-sig", newline="") as opened:
            reader = csv.reader(opened)
            columns = header or [cell.strip().lower() for cell in next(reader)]
            for row in reader:
                line = reader.line_num
                if row:
                    yield line, by_column(columns, row)
    except csv.Error as error:
        raise InputError(f"{file}:{line + 1}: not CSV: {error}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 text, after line {line}: {error.reason}") from None

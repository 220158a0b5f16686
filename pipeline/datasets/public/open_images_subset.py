"""A class of Open Images, and as many other images, in class folders and with boxes: only these images are fetched."""

import csv
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import new_file, write_text
from pipeline.core.lines import check_lines
from pipeline.datasets.public.fetch import Downloads, RemoteFile
from pipeline.datasets.public.layouts import Bring
from pipeline.datasets.public.unpack import set_aside

SPLITS = {"train": "train", "validation": "val", "test": "test"}
ID = re.compile("[0-9a-f]+")
MOST_OTHERS = 20_000  # images without the class that are kept in mind while the file is read


def open_images(label: str, name: str, boxes: Mapping[str, RemoteFile], images: str) -> Bring:
    """images/<split>/{name, not name}/<id>.jpg, and boxes/ with the rows of that class in Open Images' own form.

    `label` is the class's id (/m/...), `boxes` the CSV of each split, `images` the address of an image with its
    {split} and {id}. Of `most`, so many images of the class and so many others in each split.
    """

    def bring(downloads: Downloads, folder: Path, most: int | None) -> None:
        places: dict[str, Path] = {}
        for split, file in boxes.items():
            rows, others = _rows(downloads.get(file), label, most)
            with new_file(folder / f"boxes/{split}-annotations-bbox.csv") as place, place.open("w", newline="") as out:
                csv.writer(out).writerows(rows)
            of_class = list(dict.fromkeys(row[0] for row in rows[1:]))
            write_text(folder / f"boxes/{split}-images.csv", "\n".join(["ImageID", *of_class, *others, ""]))
            for ids, kind in ((of_class, name), (others, f"not {name}")):
                for image in ids:
                    at = folder / "images" / SPLITS[split] / kind / f"{image}.jpg"
                    places[images.format(split=split, id=image)] = at
        write_text(folder / "boxes/class-descriptions-boxable.csv", f"{label},{name.capitalize()}\n")
        downloads.get_images(places)

    return bring


def _rows(file: Path, label: str, most: int | None) -> tuple[list[list[str]], list[str]]:
    """The header and the rows of `most` images with the class, and as many ids of images without it, in the order of
    the file, which has the rows of an image together. Raises InputError for a file or row that is not one of boxes.
    """
    check_lines(file)
    with file.open(encoding="utf-8", errors="replace", newline="") as text:
        reader = csv.reader(text)
        header = next(reader, [])
        if not {"ImageID", "LabelName"} <= set(header):
            raise InputError(
                f"{file}: begins with {','.join(header)[:60]!r}; expected ImageID, LabelName and the sides of boxes. "
                f"It {set_aside(file)}"
            )
        at, of = header.index("ImageID"), header.index("LabelName")
        full = most or MOST_OTHERS
        rows, count = [header], 0
        others: list[str] = []
        for image, group in groupby(_whole(file, reader, len(header), at), lambda row: row[at]):
            found = [row for row in group if row[of] == label]
            if found and count != most:
                rows += found
                count += 1
            elif not found and len(others) < full:
                others.append(image)
            if count == most and len(others) == full:
                break
    return rows, others[:count]


def _whole(file: Path, reader: Iterator[list[str]], cells: int, at: int) -> Iterator[list[str]]:
    """The rows without blank ones, each with all its cells and, `at` its place, the id of an image."""
    for number, row in enumerate(reader, 2):
        if not row:
            continue
        if len(row) != cells:
            raise InputError(f"{file}:{number}: {len(row)} cells; expected the {cells} of the header")
        if not ID.fullmatch(row[at]):  # it becomes part of a path and of an address
            raise InputError(f"{file}:{number}: {row[at][:40]!r}; expected ImageID in hexadecimal digits")
        yield row

"""Of which format a file of labels seems to be, by its beginning and end alone: none is read whole, however large.

What tells the files of most formats is here, side by side; a format's row names its own.
"""

import csv
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.datasets.formats.reading import IMAGE_SUFFIXES

PART = 64 << 10  # bytes
ROWS = 4
LABELME_KEYS = ("imagePath", "imageData", "imageHeight")
COCO_CLASSES = ("categories", "category_id", "supercategory")  # captions and results have none of them


@dataclass(frozen=True, slots=True)
class Sign:
    """What tells a file of labels of a format: one of `suffixes`, and what `fits` says of the file's name and of its
    beginning and end. The format's reader takes or names every file of the suffix `named`, and counts those of the
    suffix `counted` that are of another kind.
    """

    suffixes: tuple[str, ...]
    fits: Callable[[str, str], bool]
    named: str = ""
    counted: str = ""


def format_of(file: Path, own: str, signs: Mapping[str, Sign]) -> str | None:
    """The format that `file` seems to be of: `own` if it may be that, else another one of `signs`; None if none fits.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     file = Path(folder, "21.txt")
    ...     _ = file.write_text("0 0.5 0.5 0.2 0.4")
    ...     format_of(file, "coco", {"coco": COCO, "yolo": YOLO})
    'yolo'
    """
    suffix = file.suffix.lower()
    fitting = [form for form, sign in signs.items() if suffix in sign.suffixes]
    if not fitting or not file.is_file():  # a pipe is none, and would be waited for
        return None
    try:
        said = _ends_of(file)
    except OSError:  # nobody else needs it, and it stops nothing
        return None
    return next((form for form in sorted(fitting, key=lambda f: f != own) if signs[form].fits(file.name, said)), None)


def _ends_of(file: Path) -> str:
    with file.open("rb") as opened:
        head = opened.read(PART)
        if len(head) == PART:
            opened.seek(max(PART, os.fstat(opened.fileno()).st_size - PART))
            head += b"\n" + opened.read(PART)
    return head.replace(b"\0", b"").decode(errors="replace").lstrip("\ufeff\ufffd \r\n\t")  # of UTF-16 too


def _has(said: str, *keys: str) -> int:
    return sum(f'"{key}"' in said for key in keys)


def _coco(name: str, said: str) -> bool:  # noqa: ARG001 (every sign is called alike)
    both = _has(said, *COCO_CLASSES), _has(said, "images", "annotations", "file_name", "image_id", "bbox")
    return said.startswith("{") and all(both) and sum(both) > 2


def _labelme(name: str, said: str) -> bool:  # noqa: ARG001
    return said.startswith("{") and _has(said, "shapes", *LABELME_KEYS) > 1


def _label_studio(name: str, said: str) -> bool:  # noqa: ARG001
    return said.startswith("[") and bool(_has(said, "data")) and bool(_has(said, "annotations", "completions"))


def _voc(name: str, said: str) -> bool:  # noqa: ARG001
    return re.search(r"<annotation[\s>]", said[:2000]) is not None


def _cvat(name: str, said: str) -> bool:  # noqa: ARG001
    return (
        re.search(r"<annotations[\s>]", said[:2000]) is not None and re.search("<(image|track)[ >]", said) is not None
    )


def _yolo(name: str, said: str) -> bool:  # noqa: ARG001
    words = said.split("\n", 1)[0].split()
    return len(words) >= 5 and words[0].isdigit() and _numbers(words)


def _pts(name: str, said: str) -> bool:  # noqa: ARG001
    return "n_points" in said.lower()


def rows_of(said: str) -> list[list[str]]:
    """The first rows of what a CSV begins with.

    >>> rows_of("a.jpg,1,2")
    [['a.jpg', '1', '2']]
    """
    try:
        return list(csv.reader(said.splitlines()[:ROWS]))
    except csv.Error:
        return []


def _open_images(name: str, said: str) -> bool:  # noqa: ARG001
    header = {cell.strip().lower() for row in rows_of(said)[:1] for cell in row}
    return {"imageid", "labelname", "xmin"} <= header


def _landmarks_csv(name: str, said: str) -> bool:  # noqa: ARG001
    """A row of an image's name and pairs of numbers, of which some may be empty."""
    for row in rows_of(said)[:2]:
        cells = [cell for cell in row[1:] if cell.strip()]
        if len(row) > 2 and len(row) % 2 and Path(row[0].strip()).suffix.lower() in IMAGE_SUFFIXES and _numbers(cells):
            return True
    return False


def _imagefolder(name: str, said: str) -> bool:
    return (
        name in ("metadata.jsonl", "metadata.csv")
        and "file_name" in said
        and re.search("label|objects", said) is not None
    )


def _numbers(words: list[str]) -> bool:
    try:
        return bool([float(word) for word in words])
    except ValueError:
        return False


LABELME = Sign((".json",), _labelme, counted=".json")
LABEL_STUDIO = Sign((".json",), _label_studio)
COCO = Sign((".json",), _coco)
VOC = Sign((".xml",), _voc, named=".xml")
CVAT = Sign((".xml",), _cvat, counted=".xml")
YOLO = Sign((".txt",), _yolo, named=".txt")
PTS = Sign((".pts",), _pts, named=".pts")
IMAGEFOLDER = Sign((".jsonl", ".csv"), _imagefolder)
OPEN_IMAGES = Sign((".csv",), _open_images)
LANDMARKS_CSV = Sign((".csv",), _landmarks_csv)

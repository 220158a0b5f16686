"""Of which format a file of labels seems to be, by its beginning and end alone: none is read whole, however large.

What tells the files of most formats is here, side by side; a format's row names its own. FOREIGN has what nothing here
reads, and what to do with it.
"""

import csv
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, files_under

LOOKED_AT = 200  # files of a folder
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


# columns of TensorFlow's and RetinaNet's tables; x1 without a class may be of a landmark
BOX_COLUMNS = ({"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2", "class"}, {"x1", "y1", "x2", "y2", "label"})


def of_boxes(rows: list[list[str]]) -> bool:
    """Whether the first rows of a CSV are of boxes, as TensorFlow's and RetinaNet's: no landmarks.

    >>> of_boxes([["a.jpg", "1", "2", "8", "9", "cow"]]), of_boxes([["a.jpg", "1", "2", "8", "9"]])
    (True, False)
    """
    header = {cell.strip().lower() for row in rows[:1] for cell in row}
    return any(columns <= header for columns in BOX_COLUMNS) or any(map(_is_box, rows[:2]))


def _is_box(row: list[str]) -> bool:
    """An image, the corners of a box and its class: RetinaNet's tables have no header."""
    if len(row) != 6:
        return False
    image, *corners, label = (cell.strip() for cell in row)
    is_image = Path(image).suffix.lower() in IMAGE_SUFFIXES
    return is_image and _numbers(corners) and bool(label) and not _numbers([label])


def _boxes_csv(name: str, said: str) -> bool:
    return of_boxes(rows_of(said)) and not _open_images(name, said)


def _via_csv(name: str, said: str) -> bool:  # noqa: ARG001
    return "region_shape_attributes" in {cell for row in rows_of(said)[:1] for cell in row}


def _keys(start: str, *keys: str) -> Callable[[str, str], bool]:
    """Of JSON that begins with `start` and has all of these keys; `a|b` is one of two."""
    return lambda _, said: said.startswith(start) and all(_has(said, *key.split("|")) for key in keys)


def _json_min(name: str, said: str) -> bool:  # noqa: ARG001
    return said.startswith("[") and not _has(said, "data") and _has(said, "annotation_id", "annotator", "lead_time") > 1


def _predictions_only(name: str, said: str) -> bool:  # noqa: ARG001
    return said.startswith("[") and _has(said, "data", "predictions", "result") == 3


def _tags(first: str, then: str) -> Callable[[str, str], bool]:
    return lambda _, said: re.search(f"<{first}[\\s>][^\0]*<{then}[\\s>]", said[:4000]) is not None


def _any(name: str, said: str) -> bool:  # noqa: ARG001
    return True


def foreign_in(labels: Path) -> str:
    """What the first label file in `labels` is that no format reads, to be put into an error; "" if there is none.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     _ = Path(folder, "boxes.csv").write_text("filename,width,height,class,xmin,ymin,xmax,ymax")
    ...     foreign_in(Path(folder)).replace(folder, "herd").split(",")[0]
    '; herd/boxes.csv looks like CSV of boxes as of TensorFlow or RetinaNet'
    """
    suffixes = {suffix for sign, _ in FOREIGN.values() for suffix in sign.suffixes}
    signs = {words: sign for words, (sign, _) in FOREIGN.items()}
    for file in islice(files_under(labels, suffixes) if labels.is_dir() else [labels], LOOKED_AT):
        if words := format_of(file, "", signs):
            return f"; {file} looks like {words}, which nothing here reads: {FOREIGN[words][1]}"
    return ""


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
_WRITE = "write it as coco, voc or yolo"
FOREIGN: dict[str, tuple[Sign, str]] = {
    "CSV of boxes as of TensorFlow or RetinaNet": (Sign((".csv",), _boxes_csv), _WRITE),
    "CSV of VIA": (Sign((".csv",), _via_csv), "export it from VIA as COCO"),
    "JSON of VIA": (Sign((".json",), _keys("{", "shape_attributes")), "export it from VIA as COCO"),
    "JSON of Supervisely": (
        Sign((".json",), _keys("{", "objects|projectType", "classTitle|projectType", "tags")),
        "export it from Supervisely as COCO or Pascal VOC",
    ),
    "JSON of VoTT": (Sign((".json",), _keys("{", "asset|assets", "regions")), "export it from VoTT as Pascal VOC"),
    "JSON of CreateML": (Sign((".json",), _keys("[", "annotation|annotations", "coordinates", "label")), _WRITE),
    "JSON-MIN of Label Studio": (Sign((".json",), _json_min), "export it from Label Studio as JSON"),
    "Label Studio's tasks with predictions alone": (
        Sign((".json",), _predictions_only),
        "submit them in Label Studio, and export it as JSON",
    ),
    "XML of dlib": (Sign((".xml",), _tags("dataset", "images")), _WRITE),
    "XML of Colabeler": (Sign((".xml",), _tags("doc", "outputs")), "export it from Colabeler as Pascal VOC"),
    "TFRecord": (Sign((".tfrecord", ".tfrecords", ".record"), _any), _WRITE),
    "MATLAB's data": (Sign((".mat",), _any), _WRITE),
}
BINARY = {suffix: words for words in ("TFRecord", "MATLAB's data") for suffix in FOREIGN[words][0].suffixes}

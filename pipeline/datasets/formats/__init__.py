"""Labelled data as its owner has it: one module per format, each with `read(path, labels, options) -> Reading`.

A source is only read, never written to. To add a format: one module here and one line in SOURCES.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.datasets.formats import coco, crops, folder, landmarks_csv, pts, ucf24, ucf101, voc, yolo
from pipeline.datasets.formats.reading import Reading

SOURCES: dict[str, Callable[[Path, Path, Any], Reading]] = {
    "ucf24": ucf24.read,
    "ucf101": ucf101.read,
    "folder": folder.read,
    "coco": coco.read,
    "yolo": yolo.read,
    "voc": voc.read,
    "crops": crops.read,
    "pts": pts.read,
    "landmarks_csv": landmarks_csv.read,
}

# what each looks for, the most telling first: class folders of pictures are in nearly every dataset
RECOGNIZE: dict[str, Callable[[Path, Path], str | None]] = {
    "ucf24": ucf24.recognize,
    "ucf101": ucf101.recognize,
    "coco": coco.recognize,
    "voc": voc.recognize,
    "yolo": yolo.recognize,
    "pts": pts.recognize,
    "landmarks_csv": landmarks_csv.recognize,
    "folder": folder.recognize,
}


def detect_format(path: Path | str, labels: Path | str | None = None) -> tuple[str, str]:
    """The format of the data at `path` (labels elsewhere: `labels`) and, for people, what it was recognized by.

    Raises InputError naming `path` and what was looked for when no format fits.
    """
    path = Path(path)
    place = Path(labels) if labels else path
    if not path.is_dir():
        raise InputError(f"{path}: {'not a folder' if path.exists() else 'no such folder'}")
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    for name, recognize in RECOGNIZE.items():
        if reason := recognize(path, place):
            return name, reason
    raise InputError(
        f"{path}: no known format; looked for folders of clips by class (ucf101), JSON with images and annotations "
        f"(coco), XML with <annotation> (voc), text files of class and box beside pictures (yolo), .pts files (pts), "
        f"CSV of pictures and their landmarks (landmarks_csv), and two or more folders of pictures by class (folder)"
    )

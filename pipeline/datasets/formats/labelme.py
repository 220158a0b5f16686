"""LabelMe JSON (https://github.com/wkentaro/labelme): a file per image with the shapes that were drawn on it.

A rectangle is any two opposite corners, in the order in which they were drawn, or all four. A point belongs to the
rectangle of its `group_id`, else to the only one that it lies in; its label is the landmark's name. `flags` that are
true are labels of the image.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.lines import first_bytes
from pipeline.core.params import Block
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.drawn import Box, Drawing, Point
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex, one_form
from pipeline.datasets.formats.keys import brief, id_text
from pipeline.datasets.formats.reading import Problem, Reading, files_under, relative
from pipeline.datasets.formats.shapes import Drawings
from pipeline.datasets.formats.values import flag, number

LOOKED_AT = 20  # files of a folder that has one per image
HEAD = 64 << 10  # bytes of a file in which one of its keys stands, if it is LabelMe's
LARGEST = 64 << 20  # bytes, with the image in it; what is larger is not looked at to find out the format
KEYS = {"imagePath", "imageData", "imageHeight", "version", "flags", "lineColor"}
WHOLE_SETS = ("coco", "instances", "annotations", "keypoints")  # names that files of other formats have


class Options(Block):
    image_labels: bool = False
    """Take the flags of images and not the boxes; without a box in the whole set they are taken anyway."""


def read(path: Path, labels: Path, options: Options) -> Reading:
    """Every LabelMe file under `labels` with its image under `path`. Raises InputError if there is none.

    >>> import json
    >>> from tempfile import TemporaryDirectory
    >>> shape = {"label": "cow", "shape_type": "rectangle", "points": [[60, 25], [10, 5]]}
    >>> file = {"shapes": [shape], "imagePath": "a.jpg", "imageHeight": 50, "imageWidth": 100}
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     _ = Path(folder, "a.json").write_text(json.dumps(file))
    ...     reading = read(Path(folder), Path(folder), Options())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('cow', (0.1, 0.1, 0.5, 0.4))]
    """
    files = [labels] if labels.is_file() else sorted(files_under(labels, {".json"}))
    reading = Reading([], [])
    drawings = Drawings(reading, ImageIndex(path), labels)
    read_any = False
    for file in files:
        where = relative(file, labels, path)
        try:
            content = read_json(file)
        except InputError as error:
            found = str(error).removeprefix(f"{file}: ")
            own = drawings.images.find(file.stem, drawings.images.folder_of(file, labels), ("images",))
            if len(own) == 1:
                drawings.named.add(own[0])
                found = f"{found}; the image is {own[0]}"
            reading.problems.append(Problem(where, "", "bad_json", found))
            continue
        if not _is_labelme(content):
            drawings.notes["not_labelme", "other JSON files"] += 1
            continue
        read_any = True
        _File(content, file, where, drawings).read()
    if not read_any:
        raise InputError(f"{labels}: no LabelMe JSON (an object with shapes); {len(files)} JSON files looked at")
    drawn = drawings.by_name.values()
    drawings.finish(sorted({p.name for d in drawn for p in d.points}), options.image_labels)
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    """Most of the files looked at are LabelMe's, and none of those named like a whole set's is another's."""
    if labels.is_file():
        return f"LabelMe's {labels.name}" if _looks(labels) else None
    first: list[Path] = []
    for file in files_under(labels, {".json"}):
        if any(word in file.name.lower() for word in WHOLE_SETS) and not _looks(file):
            return None
        if len(first) < LOOKED_AT:
            first.append(file)
    found = [file for file in first if _looks(file)]
    shown = f"LabelMe files such as {relative(found[0], labels)}" if found else ""
    return shown if 2 * len(found) > len(first) else None


def _looks(file: Path) -> bool:
    """Whether it is LabelMe's; a large file of another kind, such as a whole set's, is not read to its end."""
    head = first_bytes(file, HEAD)
    begun = any(f'"{key}"'.encode() in head for key in ("shapes", "imagePath", "imageData"))
    if (len(head) == HEAD and not begun) or head.lstrip().startswith(b"[") or file.stat().st_size > LARGEST:
        return False
    try:
        return _is_labelme(read_json(file))
    except InputError:
        return False


def _is_labelme(content: Any) -> bool:
    return isinstance(content, dict) and isinstance(content.get("shapes"), list) and bool(KEYS & content.keys())


class _File:
    def __init__(self, content: dict[str, Any], file: Path, where: str, drawings: Drawings):
        self.content, self.file, self.where, self.drawings = content, file, where, drawings

    def read(self) -> None:
        name = self._image()
        if name is None:
            return
        size = self.drawings.size(name, self.content.get("imageWidth"), self.content.get("imageHeight"))
        if size is None:
            return
        drawing = Drawing(name, size, self.where)
        self._flags(self.content.get("flags"), drawing)
        points: list[tuple[Point, Any]] = []
        for place, shape in enumerate(self.content["shapes"], 1):
            self._shape(shape, f"shape {place}", drawing, points)
        for point, group in points:
            own = id_text(group)
            ties = [i for i, box in enumerate(drawing.boxes) if own is not None and id_text(box.tie) == own]
            point.ties = None if group is None else ties
            drawing.points.append(point)
        self.drawings.add(drawing)

    @staticmethod
    def _flags(said: Any, drawing: Drawing) -> None:
        """Take the flags of the image that are set as its labels; others than true and false are kept to be said.

        A flag of 1 alone does not say that the set is one of images with labels where something is drawn.
        """
        if said is not None and not isinstance(said, dict):
            drawing.odd_labels.append(f"flags: {brief(said)}, expected an object of true and false")
            return
        for name, value in (said or {}).items():
            try:
                if flag(value, f"flags: {name!r:.60}"):
                    (drawing.labels if value is True else drawing.loose_labels).append(name)
            except ValueError as error:
                drawing.odd_labels.append(f"{str(error).removesuffix('0 or 1')}true or false")

    def _image(self) -> str | None:
        """The image that the file says, seen from the file's folder; else the one of the file's own name."""
        said = self.content.get("imagePath")
        said = said.replace("\\", "/") if isinstance(said, str) else ""
        folder = self.drawings.images.folder_of(self.file, self.drawings.labels)
        names = [said if "/" in said else PurePosixPath(folder, said).as_posix()] if said else []
        if one_form(PurePosixPath(said).stem) != one_form(self.file.stem):  # else it says the folder too
            names.append(PurePosixPath(folder, self.file.stem).as_posix())
        return self.drawings.find(names, self.file, ("images",), self.where)

    def _shape(self, shape: Any, key: str, drawing: Drawing, points: list[tuple[Point, Any]]) -> None:
        name, problem = drawing.name, self.drawings.problem
        if not isinstance(shape, dict):
            problem(name, key, "bad_row", f"{shape!r:.40}; expected an object")
            return
        label, kind = shape.get("label"), shape.get("shape_type") or "polygon"  # what files without it mean
        if not isinstance(label, str) or not label.strip():
            problem(name, key, "unknown_class", f"label {brief(label)}; expected the name of a class, as text")
        elif kind == "rectangle":
            try:
                drawing.boxes.append(Box(key, label, _box(shape.get("points")), shape.get("group_id")))
            except ValueError as error:
                problem(name, key, "bad_box", str(error))
        elif kind == "point":
            try:
                ((x, y),) = _pairs(shape.get("points"))
                points.append((Point(key, label, x, y), shape.get("group_id")))
            except ValueError:
                found = f"points {shape.get('points')!r:.60}; expected [[x, y]]"
                problem(name, key, "bad_landmarks", found)
        else:
            problem(name, key, "other_shape", f"{kind!r:.40} {label!r:.60}; expected rectangle or point")


def _pairs(points: Any) -> list[tuple[float, float]]:
    """Raises ValueError for what is no list of x, y."""
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise ValueError(f"points {points!r:.60}; expected pairs of x, y")
    return [(number(x, "points: x"), number(y, "points: y")) for x, y in points]


def _box(points: Any) -> tuple[float, float, float, float]:
    pairs = _pairs(points)
    if len(pairs) not in (2, 4):
        raise ValueError(f"{len(pairs)} points; expected two opposite corners, or four")
    left, top = min(x for x, _ in pairs), min(y for _, y in pairs)
    right, bottom = max(x for x, _ in pairs), max(y for _, y in pairs)
    return left, top, right - left, bottom - top


FORMAT = Format(
    name="labelme",
    tasks=("classify", "localize", "detect"),
    Options=Options,
    read=read,
    looks_for="JSON files of shapes, one per image",
    recognize=recognize,
    rank=28,  # before formats that would read all of its many files to find out that they are not theirs
    sign=signs.LABELME,
)

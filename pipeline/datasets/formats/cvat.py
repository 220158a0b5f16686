"""CVAT's own XML, version 1.1 (https://docs.cvat.ai/docs/dataset_management/formats/format-cvat/), in both forms.

"CVAT for images" has an <image> with its shapes, "CVAT for video" a <track> with a shape for each frame, whose images
are named by the number of the frame (`frame_000012.PNG`). Pixels are continuous, from (0, 0) at the corner. A box that
is turned (`rotation`, about its middle) becomes the box around it. A point of a skeleton with outside="1" is
not there, with occluded="1" hidden; a tracked shape with outside="1" is no object.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import iterparse

from pipeline.core.errors import InputError
from pipeline.core.files import open_file
from pipeline.core.params import Block
from pipeline.core.sample import SPLITS
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.cvat_shapes import BROKEN_XML, Shapes, bones, rotation_of
from pipeline.datasets.formats.cvat_write import WRITER
from pipeline.datasets.formats.drawn import Drawing
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.reading import Reading, files_under, relative, split_of
from pipeline.datasets.formats.shapes import Drawings
from pipeline.datasets.formats.split_folders import file_splits
from pipeline.datasets.formats.values import flag, whole

LOOKED_AT = 20  # files of a folder that may be full of other XML
FIRST = {"version", "meta", "image", "track"}  # what CVAT's root begins with
MOST_FRAMES = 1_000_000  # of a task, nine hours; what says more is not believed
NO_CLASS = ("points", "skeleton")  # types of labels
FRAME = re.compile(r"(.*?)(\d+)$", re.DOTALL)


class Options(Block):
    image_labels: bool = False
    """Take the tags of images and not the boxes; without a box in the whole set they are taken anyway."""


@dataclass(slots=True)
class Meta:
    """What the files' <meta> say: classes with their type, landmarks in order, the lines between them by name."""

    labels: dict[str, str] = field(default_factory=dict)
    landmarks: dict[str, None] = field(default_factory=dict)
    bones: dict[tuple[str, str], None] = field(default_factory=dict)


def read(path: Path, labels: Path, options: Options) -> Reading:
    """`labels` is one XML file or a folder with some. Raises InputError for a file that cannot be read to its end.

    >>> from tempfile import TemporaryDirectory
    >>> box = '<box label="cow" xtl="10" ytl="5" xbr="60" ybr="25" occluded="0"/>'
    >>> image = f'<image id="0" name="a.jpg" width="100" height="50">{box}</image>'
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     _ = Path(folder, "a.xml").write_text(f"<annotations><version>1.1</version>{image}</annotations>")
    ...     reading = read(Path(folder), Path(folder), Options())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('cow', (0.1, 0.1, 0.5, 0.4))]
    """
    every = [labels] if labels.is_file() else sorted(files_under(labels, {".xml"}))
    files = [file for file in every if _root_of(file) == "annotations"]
    if not files:
        raise InputError(f"{labels}: no XML of CVAT (root <annotations>)")
    reading, meta = Reading([], []), Meta()
    drawings = Drawings(reading, ImageIndex(path), labels, files)
    splits = file_splits([relative(file, labels, path) for file in files], labels, reading)
    for file in files:
        where = relative(file, labels, path)
        _File(file, path, where, splits[where], meta, drawings).read()
    drawings.notes["not_cvat", "other XML files"] = len(every) - len(files)
    drawn = drawings.by_name.values()
    landmarks = list(meta.landmarks | dict.fromkeys(sorted({p.name for d in drawn for p in d.points})))
    if len({d.group for d in drawn} - {None}) < len(SPLITS):  # too few videos to have one in each split
        for drawing in drawn:
            drawing.group = None
    known = [name for name, kind in meta.labels.items() if kind not in NO_CLASS]
    drawings.finish(landmarks, options.image_labels, known)
    place = {name: i for i, name in enumerate(reading.landmarks)}
    reading.skeleton = [(place[a], place[b]) for a, b in meta.bones if a in place and b in place]
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    """A folder that has VOC's XML too is VOC's, which has a file per image."""
    found = None
    for count, file in enumerate([labels] if labels.is_file() else files_under(labels, {".xml"})):
        if count >= LOOKED_AT:
            break
        root = _root_of(file)
        if root == "annotation":
            return None
        found = found or (file if root == "annotations" else None)
    return f"CVAT annotations in {relative(found, labels)}" if found else None


def _root_of(file: Path) -> str | None:
    """The root of an XML file, from its beginning; None if that cannot be told, or begins as no file of CVAT does."""
    root = None
    # `read` says what is wrong with a file that begins as CVAT's
    with suppress(*BROKEN_XML), open_file(file) as stream:
        for _, element in iterparse(stream, events=("start",), forbid_dtd=True):
            if root is not None:
                return root if element.tag in FIRST else None
            root = str(element.tag)
            if root != "annotations":
                return root
    return root


class _File:
    """One XML file, read from beginning to end; an image or track is forgotten as soon as it is taken."""

    def __init__(self, file: Path, path: Path, where: str, split: str | None, meta: Meta, drawings: Drawings):
        self.file, self.path, self.where, self.split = file, path, where, split
        self.meta, self.drawings = meta, drawings
        self.labels: set[str] = set()
        self.frames: dict[int, Shapes] = defaultdict(Shapes)
        self.expected: range | None = None  # the frames that were to be labelled
        self.size: tuple[Any, Any] = (None, None)
        self.tasks: set[str | None] = set()
        self.splits: set[str | None] = set()

    def read(self) -> None:
        depth, root = 0, None
        try:
            with open_file(self.file) as stream:
                for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                    depth += 1 if event == "start" else -1
                    root = element if root is None else root
                    if event == "end" and depth == 1:
                        self._part(element)
                        root.clear()
        except InputError:
            raise
        except BROKEN_XML as error:
            raise InputError(f"{self.file}: not XML of CVAT to its end: {error}") from None
        if self.tasks:
            self._take_frames()

    def _part(self, element: Element) -> None:
        if element.tag == "meta":
            self._read_meta(element)
        elif element.tag == "image":
            self._image(element)
        elif element.tag == "track":
            self._track(element)
        elif element.tag != "version":
            self.drawings.notes["not_read", f"<{element.tag}> in {self.where}"] += 1

    def _read_meta(self, meta: Element) -> None:
        for label in meta.iter("label"):
            name, parent = label.findtext("name") or "", label.findtext("parent")
            if name and parent is None:
                self.labels.add(name)
                self.meta.labels.setdefault(name, label.findtext("type") or "any")
                self.meta.bones |= dict.fromkeys(bones(label.findtext("svg") or ""))
            elif name:
                self.meta.landmarks.setdefault(name)
            if label.find("attributes/attribute") is not None:
                self.drawings.notes["not_read", f"labels with attributes in {self.where}"] += 1
        self.size = meta.findtext(".//original_size/width"), meta.findtext(".//original_size/height")
        self.expected = _expected(meta)

    def _image(self, image: Element) -> None:
        said, subset, place = image.get("name") or "", image.get("subset") or "", image.get("id") or "?"
        where = f"{self.where}: image {place}"
        near = (f"images/{subset}", "images", subset) if subset else ("images",)
        name = self.drawings.find([said], self.file, near, where)
        size = self.drawings.size(name, image.get("width"), image.get("height")) if name else None
        if not name or not size:
            return
        shapes = Shapes()
        for count, shape in enumerate(image, 1):
            self._shape(shapes, shape, name, f"{shape.tag} {count}", shape.get("label"), shape.get("group_id"))
        split = split_of(subset) or self.split
        self._add(shapes, Drawing(name, size, where, split))

    def _track(self, track: Element) -> None:
        self.tasks.add(track.get("task_id"))
        self.splits.add(split_of(track.get("subset") or "") or self.split)
        if len(self.tasks) > 1:
            raise InputError(
                f"{self.file}: tracks of several tasks, whose frames are numbered through and cannot be told apart; "
                f"expected an export of each task"
            )
        key, label, group = f"track {track.get('id') or '?'}", track.get("label"), track.get("group_id")
        for shape in track:
            try:
                frame = whole(shape.get("frame"), "frame")
            except ValueError as error:
                self.drawings.problem(self.where, key, "bad_row", str(error))
                continue
            self._shape(self.frames[frame], shape, f"{self.where}: frame {frame}", key, label, group)

    def _shape(self, shapes: Shapes, shape: Element, name: str, key: str, label: str | None, group: str | None) -> None:
        """Take one shape; `name` is its image in the ledger."""
        try:
            if flag(shape.get("outside"), "outside"):
                return
        except ValueError as error:
            self.drawings.problem(name, key, "bad_row", str(error))
            return
        if not label or (self.labels and label not in self.labels):
            found = f"label {label!r:.60}, not among those in <meta>" if label else "no label"
            self.drawings.problem(name, key, "unknown_class", found)
            return
        try:
            if not shapes.take(shape, key, label, None if group in ("", "0") else group):
                self.drawings.problem(name, key, "other_shape", f"{shape.tag} {label!r:.60}; expected box or points")
            elif shape.tag == "box" and rotation_of(shape):
                self.drawings.notes["box_turned", "boxes are turned; of each the box around it is taken"] += 1
        except ValueError as error:
            self.drawings.problem(name, key, "bad_box" if shape.tag == "box" else "bad_landmarks", str(error))

    def _add(self, shapes: Shapes, drawing: Drawing) -> None:
        self.drawings.add(shapes.drawn(drawing, self.drawings))
        classes = [name for name, kind in self.meta.labels.items() if kind not in NO_CLASS]
        for box, label in shapes.tied:
            if not label.startswith(drawing.boxes[box].label) and any(map(label.startswith, classes)):
                self.drawings.notes["class_unlike", "skeletons of another class than their box, which counts"] += 1

    def _take_frames(self) -> None:
        expected = set(self.expected or ())
        if not self.frames.keys() <= expected:  # frames are numbered otherwise than <meta> says, or it says nothing
            expected = set()
        split = self.splits.pop() if len(self.splits) == 1 else self.split
        for frame, found in self._images_of(self.frames.keys() | expected):
            where = f"{self.where}: frame {frame}"
            if len(found) == 1:
                if size := self.drawings.size(found[0], *self.size):
                    self._add(self.frames[frame], Drawing(found[0], size, where, split, group=self.where))
            elif found:
                self.drawings.problem(where, "", "ambiguous_file", f"{len(found)} images of that number", "refused")
            elif frame in self.frames:
                self.drawings.problem(where, "", "missing_file", "no image of that number", "refused")

    def _images_of(self, frames: set[int]) -> Iterator[tuple[int, list[str]]]:
        """The images whose names end in each number: below the XML's folder those named `frame_`, where there are."""
        names = list(self.drawings.images.names)
        if self.file.is_relative_to(self.path) and self.file.parent != self.path:
            folder = self.file.parent.relative_to(self.path).as_posix()
            names = [name for name in names if name.startswith(f"{folder}/")] or names
        ends = [(name, end) for name in names if (end := FRAME.match(PurePosixPath(name).stem))]
        own = [(name, end) for name, end in ends if end[1].lower().endswith("frame_")]
        by_number: dict[int, list[str]] = defaultdict(list)
        for name, end in own or ends:
            by_number[int(end[2][-18:])].append(name)
        for frame in sorted(frames):
            yield frame, by_number.get(frame, [])


def _expected(meta: Element) -> range | None:
    """The frames of the one task or job, as its start, stop and step say."""
    tasks = [*meta.iter("task"), *meta.iter("job")]
    if len(tasks) != 1:
        return None
    step = re.search("step=([0-9]{1,6})", tasks[0].findtext("frame_filter") or "")
    try:
        start, stop = (whole(tasks[0].findtext(key)) for key in ("start_frame", "stop_frame"))
        found = range(start, stop + 1, int(step[1]) if step else 1)
    except ValueError:
        return None
    return found if stop - start < MOST_FRAMES else None


FORMAT = Format(
    name="cvat",
    tasks=("classify", "localize", "detect"),
    Options=Options,
    read=read,
    looks_for="XML files with annotations as their root",
    recognize=recognize,
    rank=36,  # a root element that other XML does not have; it begins like VOC's
    write=WRITER,
    sign=signs.CVAT,
)

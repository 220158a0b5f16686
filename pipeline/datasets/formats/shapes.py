"""What the files of annotation tools share: a set of drawings, found on disk and made into a reading."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.sample import SPLITS
from pipeline.datasets.formats.drawn import Box, Drawing, Drawn
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import refuse_many
from pipeline.datasets.formats.points import object_of, scheme_of
from pipeline.datasets.formats.reading import (
    Candidate,
    Reading,
    give_ids,
    label_text,
    upright_size,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import place, split_lists
from pipeline.datasets.formats.values import number

OBJECT = "object"  # what an object is called that only points show
LONGEST = 1 << 20  # pixels; a side that is said to be longer is not one


class Drawings(Drawn):
    """The drawings of a set, an image once.

    Of several `files`, each of many images, the name of one may say in which folder its images lie.
    """

    def __init__(self, reading: Reading, images: ImageIndex, labels: Path, files: Sequence[Path] = ()):
        super().__init__(reading)
        self.images, self.labels = images, labels
        self.by_name: dict[str, Drawing] = {}
        self.named: set[str] = set()  # images of which a label file speaks
        self._called = {file: file.stem for file in files} if len(files) > 1 else {}
        self._refused: set[str] = set()
        self._unsized: set[str] = set()  # images of which no label says the size

    def find(self, wanted: Iterable[str], file: Path, near: tuple[str, ...], key: str) -> str | None:
        """The one image that the first of the names `wanted`, seen from the label file's folder, means; if there is
        none, the ledger says why."""
        names = [name for name in dict.fromkeys(wanted) if name] or [""]
        folder = self.images.folder_of(file, self.labels)
        for name in names:
            found = self.images.find(name, folder, near, self._called.get(file, "")) if name else []
            if len(found) == 1:
                self.named.add(found[0])
                return found[0]
            if found:
                break
        else:
            name, found = names[0], []
        self.problem(name, key, *self.images.fault(name, found), "refused")
        return None

    def size(self, name: str, width: Any, height: Any) -> tuple[int, int] | None:
        """The size that the labels were made for, else the image's; None, and a row, where there is neither."""
        try:
            said = (int(number(width)), int(number(height)))
        except ValueError:
            said = (0, 0)
        if all(0 < side <= LONGEST for side in said):
            return said
        self._unsized.add(name)
        try:
            return upright_size(self.images.names[name])
        except ValueError as error:
            self.problem(name, "size", "unreadable", str(error), "refused")
            return None

    def add(self, drawing: Drawing) -> None:
        """Of an image that is there twice, two like drawings are one, and unlike ones are both refused."""
        name, before = drawing.name, self.by_name.setdefault(drawing.name, drawing)
        if before is drawing or name in self._refused:
            return
        if before.content() != drawing.content():
            self._refused.add(name)
            found = f"in {before.where} and, with other labels, in {drawing.where}"
            self.problem(name, "", "listed_twice", found, "refused")
            return
        before.split, loser = sorted((before.split, drawing.split), key=_from_training, reverse=True)
        found = f"in {before.where} and {drawing.where}, with the same labels"
        if loser != before.split:
            found += f"; listed for {loser or 'no split'} and for {before.split}; taken as {before.split}"
        self.problem(name, "", "listed_twice", found, "noted")

    def finish(self, landmarks: list[str], image_labels: bool, known: Sequence[str] = ()) -> None:
        """Make the reading's candidates, and its labels: those `known`, in this order, before others.

        Where no box is drawn in the whole set, or `image_labels` is set, the images' own labels are taken; an image
        without one is left out, one with several is refused. Without those too, an image's points are one object.
        Labels that are loose or odd count where nothing at all is drawn, or `image_labels` is set.
        """
        refuse_many(len(landmarks), str(self.labels), "landmarks")
        refuse_many(len(known), str(self.labels), "classes")
        landmarks, known = (list(dict.fromkeys(map(label_text, names))) for names in (landmarks, known))
        drawings = [d for name, d in sorted(self.by_name.items()) if name not in self._refused]
        boxes, points = sum(len(d.boxes) for d in drawings), sum(len(d.points) for d in drawings)
        labels = sum(len(d.labels) for d in drawings)
        unsure = sum(len(d.loose_labels) + len(d.odd_labels) for d in drawings)
        if image_labels or (labels and not boxes) or (unsure and not boxes and not points):
            self._classify(drawings, image_labels or not points)
            self._note(boxes, "not_read", "boxes beside labels of images")
            self._note(points, "not_read", "points beside labels of images")
        else:
            beside = f"labels of images beside {'boxes' if boxes else 'points'}"
            self._note(labels + unsure, "not_read", f"{beside}; options.image_labels takes them instead")
            self.reading.landmarks = landmarks
            self.reading.pairs, self.reading.skeleton = scheme_of(landmarks)
            if not boxes:
                self._around_points([d for d in drawings if d.points])
            for drawing in drawings:
                self.reading.candidates.append(self._with_objects(drawing))
            empty = sum(not c.objects for c in self.reading.candidates)
            self._note(empty, "no_label", "images without an object; taken as background")
        if not any(d.split for d in drawings):
            lists = split_lists(self.reading, self.images.root, self.labels)
            place(self.reading, self.images.root, self.images.names, lists, alone=False)
        used = {o.label for c in self.reading.candidates for o in c.objects}
        used |= {c.label for c in self.reading.candidates if c.label is not None}
        self.reading.labels = [*known, *sorted(used - set(known))]
        give_ids(self.reading.candidates, [without_suffix(c.name) for c in self.reading.candidates])
        rest = len(self.images.files) - len(self.named | self.by_name.keys())
        self._note(rest, "not_listed", "images that no label file names; left out")
        for (rule, words), count in sorted(self.notes.items()):
            if count:
                self.problem("", "", rule, f"{count} {words}", "noted")

    def _note(self, count: int, rule: str, words: str) -> None:
        if count > 0:
            self.notes[rule, words] += count

    def _around_points(self, drawings: list[Drawing]) -> None:
        """One object of the points of each image, if no name stands twice in any: else nobody says whose they are."""
        if any(len({p.name for p in d.points}) < len(d.points) for d in drawings):
            self._loose = (
                "no box is drawn in the whole set, and an image has two points of a name: draw a box around each object"
            )
            return
        for drawing in drawings:
            (x, y, w, h), (wide, high) = (
                object_of([(p.x, p.y) for p in drawing.points], "", drawing.size).box,
                drawing.size,
            )
            drawing.boxes.append(Box("points", OBJECT, (x * wide, y * high, w * wide, h * high)))
            for point in drawing.points:
                point.ties = [0]
        words = (
            f"images have points, and no box is drawn in the whole set; their points are one object, called {OBJECT}"
        )
        self._note(len(drawings), "box_made", words)

    def _candidate(self, drawing: Drawing) -> Candidate:
        file, unsized = self.images.names[drawing.name], drawing.name in self._unsized
        return Candidate(
            file, drawing.name, split=drawing.split, group=drawing.group, size=drawing.size, unsized=unsized
        )

    def _classify(self, drawings: list[Drawing], loose: bool) -> None:
        """Take the images' labels, with `loose` also those that are not set by true."""
        words = "labels of images that are set, but not by true, beside points; options.image_labels takes them too"
        for drawing in drawings:
            for found in drawing.odd_labels:
                self.problem(drawing.name, "", "bad_row", found)
            self._note(0 if loose else len(drawing.loose_labels), "not_read", words)
            labels = sorted(set(map(label_text, drawing.labels + drawing.loose_labels * loose)))
            if len(labels) > 1:
                self.problem(drawing.name, "", "several_labels", f"{', '.join(labels)}; expected one", "refused")
            elif labels:
                candidate = self._candidate(drawing)
                candidate.label = labels[0]
                self.reading.candidates.append(candidate)
            else:
                self.notes["no_label", "images without a label; left out"] += 1

    def _with_objects(self, drawing: Drawing) -> Candidate:
        candidate = self._candidate(drawing)
        candidate.objects = self.objects_of(drawing)
        candidate.keys = [box.key for box in drawing.boxes]
        return candidate


def _from_training(split: str | None) -> int:
    return -1 if split is None else SPLITS.index(split)


def turned(cx: float, cy: float, w: float, h: float, degrees: float) -> tuple[float, float, float, float]:
    """The box (x, y, w, h) around a rectangle about (cx, cy) that is turned by `degrees`.

    >>> turned(50, 50, 40, 20, 0), turned(50, 50, 40, 20, 90)
    ((30.0, 40.0, 40.0, 20.0), (40.0, 30.0, 20.0, 40.0))
    """
    turn = math.radians(degrees % 180)
    # exact where the rectangle is upright: cos(90 degrees) is not quite 0
    upright = {0.0: (1.0, 0.0), 90.0: (0.0, 1.0)}
    cos, sin = upright.get(degrees % 180, (math.cos(turn), math.sin(turn)))
    half_w, half_h = (abs(w * cos) + abs(h * sin)) / 2, (abs(w * sin) + abs(h * cos)) / 2
    return cx - half_w, cy - half_h, 2 * half_w, 2 * half_h

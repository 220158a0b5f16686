"""CVAT both ways by its XML 1.1: a folder to make a task of, and what people did in it as statements about the images.

An image is known again by its name alone, which is its id: CVAT numbers images anew, and rounds to hundredths of a
pixel. The `source` of a shape tells who drew it: `file` and `auto` nobody, `manual` and `semi-auto` a person.
"""

import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from urllib.parse import quote
from xml.etree.ElementTree import Element

from defusedxml.ElementTree import iterparse

from pipeline.annotation.fetched import Fetched, drop_strange, not_there, unknown_class
from pipeline.annotation.outgoing import clipped
from pipeline.annotation.project import KEY, Project
from pipeline.annotation.sent import Sent, read_sent, write_sent
from pipeline.annotation.snap import snap
from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, open_file, write_json
from pipeline.core.layer import Statement
from pipeline.core.sample import Object, Sample
from pipeline.datasets.formats.cvat_shapes import BROKEN_XML, Shapes, rotation_of
from pipeline.datasets.formats.cvat_write import labels_of_task, skeletons_of, write_xml
from pipeline.datasets.formats.drawn import Box, Drawing, Drawn
from pipeline.datasets.formats.reading import Problem, Reading, label_text
from pipeline.metrics.matching import iou

NEAR = 0.02  # pixels; CVAT writes hundredths
BY_PEOPLE = ("manual", "semi-auto")
NOBODY = ("file", "auto")


def listed(project: Project, task: str) -> Path:
    """The file that says what was sent to CVAT in the folder called `task`."""
    return project.listed.with_name(f"cvat-{task}.jsonl")


def list_of(project: Project, task: str) -> Path:
    """The file that says what was sent by the API in the task with this name."""
    return listed(project, f"{project.key}-{quote(task[-KEY:], safe='')}")


def send(folder: Path, project: Project, rows: list[Sent]) -> str:
    """Make `folder`, of which a task is made by hand: `images/`, `labels.json` and `annotations.xml`; returns words on
    it. What was sent is listed for each folder apart, before it is there. Raises InputError if the folder is there
    already, or another task has its name.
    """
    if folder.exists():
        raise InputError(f"{folder}: is there already; expected a new folder")
    file = listed(project, folder.name)
    known, now = (
        {i: r.to_json() for i, r in some.items()} for some in (read_sent(file), {r.sample.id: r for r in rows})
    )
    if known not in ({}, now):
        raise InputError(f"{folder}: {file} lists another task of this name; expected another --out")
    with new_folder(folder) as place:
        (place / "images").mkdir()
        for row in rows:
            # no link: in there people may edit
            shutil.copyfile(project.image(row.sample), place / "images" / name_of(row))
        write_xml(place / "annotations.xml", project.dataset, [plain(row) for row in rows])
        write_json(place / "labels.json", labels_of_task(project.dataset))
        write_sent(file, rows)
    blind = sum(not row.shown for row in rows)
    return f"{folder}: {len(rows)} images" + (f", {blind} of them blind" if blind else "")


def name_of(row: Sent) -> str:
    """What its image is called in CVAT.

    >>> name_of(Sent(Sample("a-1", "herd/1.jpg", 8, 8), "", "", ""))
    'a-1.jpg'
    """
    return row.sample.id + PurePosixPath(row.sample.file_name).suffix


def plain(row: Sent) -> Sample:
    """In a task there are no splits, and boxes lie within the image."""
    return replace(clipped(row.sample), split=None, file_name=name_of(row))


def fetch(
    file: Path, project: Project, empty_is_background: bool = False, by: str = "", task: str | None = None
) -> Fetched:
    """A statement about each image that was sent and is in `file`, an export as "CVAT for images 1.1".

    XML does not say whether an image without shapes was looked at: it is untouched, unless `empty_is_background`. Nor
    does it say who drew: `by`, else the task's assignee or owner. Nor which folder its task was made of: `task`, else
    any. Raises InputError for a file that is not such an export, where nothing is known of what was sent, or if an
    image of it was sent in two tasks and not alike.
    """
    sent, unlike = _sent(project, task)
    found = Fetched()
    taking = Taking(project, {name_of(row): row for row in sent.values()}, empty_is_background, by, found)
    depth = 0
    try:
        with open_file(file) as stream:
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                depth += 1 if event == "start" else -1
                if depth == 1 and event == "start" and element.tag != "annotations":
                    break
                if event == "end" and depth == 1:
                    _part(element, taking, file)
                    element.clear()
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}") from None
    except InputError:
        raise
    except BROKEN_XML as error:
        raise InputError(f"{file}: not XML of CVAT to its end: {error}") from None
    if not taking.seen:
        raise InputError(f"{file}: no images of CVAT in it; expected an export as 'CVAT for images 1.1'")
    if both := sorted(i for i in unlike if name_of(sent[i]) in taking.seen):
        tasks = " or ".join(f"--task {name}" for name in unlike[both[0]])
        raise InputError(f"{file}: {both[0]!r} was sent in two tasks, and not alike; expected {tasks}")
    taking.finish(sent)
    return found


def _sent(project: Project, task: str | None) -> tuple[dict[str, Sent], dict[str, list[str]]]:
    """What was sent in `task`, else in any; and of each image that was sent in two, and not alike, their names."""
    files = sorted(project.listed.parent.glob("cvat-*.jsonl")) if task is None else [listed(project, task)]
    sent, where, unlike = dict[str, Sent](), dict[str, list[str]](), dict[str, list[str]]()
    for file in files:
        for i, row in read_sent(file).items():
            where.setdefault(i, []).append(file.stem.removeprefix("cvat-"))
            if sent.setdefault(i, row) != row:
                unlike[i] = where[i]
    if not sent:
        wanted = listed(project, "*" if task is None else task)
        raise InputError(f"{wanted}: nothing is listed as sent; expected it beside the layers, from the sender")
    return sent, unlike


def _part(element: Element, taking: "Taking", file: Path) -> None:
    if element.tag == "meta":
        taking.by = taking.by or next(
            (who for role in ("assignee", "owner") if (who := element.findtext(f".//{role}/username"))), "cvat"
        )
    elif element.tag == "image":
        taking.image(element)
    elif element.tag == "track":
        raise InputError(f"{file}: has tracks; expected an export as 'CVAT for images 1.1', as images were sent")


class Taking:
    """One file, or one job, that is fetched: `sent` by the name of the image. Takes images, then is to `finish`."""

    def __init__(self, project: Project, sent: dict[str, Sent], empty: bool, by: str, found: Fetched) -> None:
        self.project, self.sent, self.empty, self.by, self.found = project, sent, empty, by, found
        self.seen: Counter[str] = Counter()
        self.classes = {skeleton: label for label, skeleton in skeletons_of(project.dataset).items()}
        self.said: dict[str, Statement] = {}

    def image(self, image: Element) -> None:
        """Take what is said of one image, as its element in the XML."""
        name = PurePosixPath((image.get("name") or "").replace("\\", "/")).name
        self.seen[name] += 1
        row = self.sent.get(name)
        if row is None:
            self._row(name, "unknown_image", f"not among the {len(self.sent)} that were sent")
        elif (image.get("width"), image.get("height")) != (str(row.sample.width), str(row.sample.height)):
            size = f"{row.sample.width} x {row.sample.height} were sent"
            self._row(name, "other_size", f"{image.get('width')} x {image.get('height')} pixels; {size}")
        elif self.seen[name] > 1:
            self.said.pop(row.sample.id, None)
            self._row(name, "listed_twice", "in the file twice; which one counts nobody can say")
        else:
            self.said[row.sample.id] = self._statement(image, row)

    def finish(self, sent: dict[str, Sent]) -> None:
        """A statement for each image of the file that was sent."""
        there = {i: row for i, row in sorted(sent.items()) if name_of(row) in self.seen}
        self.found.rows += not_there(len(sent) - len(there), "the file")
        self.found.statements += [self.said.get(i) or untouched(row) for i, row in there.items()]

    def _statement(self, image: Element, row: Sent) -> Statement:
        if len(image) == 0:
            return self._of_empty(row)
        labels, objects, kept = self._answer(image, row)
        if strange := unknown_class(row.sample.id, "", labels, objects, self.project):
            self.found.rows.append(strange)
            return untouched(row)
        if len(labels) > 1:
            self._row(row.sample.id, "several_labels", f"{', '.join(labels)}; expected one")
            return untouched(row)
        by_people = any(part.get("source") in BY_PEOPLE for part in image.iter())
        by_nobody = all(shape.get("source") in NOBODY for shape in image)  # older versions of CVAT do not say
        as_sent = labels == [row.sample.label] if self.project.classify else kept == len(row.sample.objects)
        more = len(objects) - kept
        if not by_people and as_sent and (not more or by_nobody):
            if more:
                self._row(row.sample.id, "not_by_people", f"{more} objects that nobody has touched", "dropped")
            return untouched(row)
        if not labels and not objects:
            return untouched(row)
        return self._by_person(row, "labelled", labels[0] if labels else None, objects, kept)

    def _by_person(
        self, row: Sent, state: str, label: str | None = None, objects: Sequence[Object] = (), kept: int = 0
    ) -> Statement:
        person = self.found.people[self.by]
        person.images += 1
        person.objects += len(row.sample.objects)
        person.kept += kept
        return replace(untouched(row), state=state, by=self.by, label=label, objects=list(objects))

    def _of_empty(self, row: Sent) -> Statement:
        if self.empty and not self.project.classify:
            return self._by_person(row, "empty")
        if row.shown and (row.sample.objects or row.sample.label is not None):
            self._row(row.sample.id, "no_shapes", "had some; CVAT does not say whether on purpose", "noted")
        return untouched(row)

    def _answer(self, image: Element, row: Sent) -> tuple[list[str], list[Object], int]:
        """The labels of the image, else its objects, and how many of these are as they were sent."""
        drawn, sample = Drawn(Reading([], [], self.project.dataset.landmarks)), row.sample
        size = sample.width, sample.height
        shapes = self._shapes(image, drawn, sample.id)
        drawing = shapes.drawn(Drawing(sample.id, size, ""), drawn)
        for place, label in shapes.tied:
            if label != drawing.boxes[place].label:
                _settle(drawing.boxes[place], label, sample, drawn)
        drop_strange(drawing, drawn, self.project)
        labels, objects, kept = sorted(set(map(label_text, drawing.labels))), list[Object](), 0
        if self.project.classify:
            drawn.notes["not_read", "boxes beside the label of the image"] += len(drawing.boxes)
        else:
            drawn.notes["not_read", "labels of the image beside its objects"] += len(labels)
            near = NEAR / size[0], NEAR / size[1]
            labels = []
            objects, kept = snap(drawn.objects_of(drawing), clipped(sample).objects, sample.objects, near)
        self.found.rows += drawn.reading.problems
        notes = [(rule, f"{count} {words}") for (rule, words), count in drawn.notes.items() if count]
        self.found.rows += [Problem(sample.id, "", *note, "noted") for note in notes]
        return labels, objects, kept

    def _shapes(self, image: Element, drawn: Drawn, name: str) -> Shapes:
        shapes = Shapes()
        for count, shape in enumerate(image, 1):
            key, label, group = f"{shape.tag} {count}", shape.get("label") or "", shape.get("group_id")
            label = self.classes.get(label, label) if shape.tag == "skeleton" else label
            try:
                if not shapes.take(shape, key, label, None if group in ("", "0") else group):
                    drawn.problem(name, key, "other_shape", f"{shape.tag} {label!r:.60}; expected box or points")
                elif shape.tag == "box" and (degrees := rotation_of(shape)):
                    drawn.problem(name, key, "box_turned", f"by {degrees:g}; the box around it is taken", "noted")
            except ValueError as error:
                drawn.problem(name, key, "bad_box" if shape.tag == "box" else "bad_landmarks", str(error))
        return shapes

    def _row(self, name: str, rule: str, what: str, done: str = "refused") -> None:
        self.found.rows.append(Problem(name, "", rule, what, done))


def _settle(box: Box, other: str, sample: Sample, drawn: Drawn) -> None:
    """Of a box and its skeleton, which are of two classes, the one that is not what was sent was changed, and counts.
    Where neither is, the box's does, with a row.
    """
    (x, y, w, h), (width, height) = box.box, (sample.width, sample.height)
    here = Object(box.label, (x / width, y / height, w / width, h / height))
    fits = iou([here], sample.objects)[0]
    was = sample.objects[int(fits.argmax())].label if fits.any() else None
    if was == box.label:
        box.label = other
    elif was != other:
        said = f"{box.label}, its skeleton {other}; the box's is taken"
        drawn.problem(sample.id, box.key, "class_unlike", said, "noted")


def untouched(row: Sent) -> Statement:
    """That nobody has said anything of it."""
    return Statement(row.sample.id, row.pixels, row.look, "untouched", row.against, "", row.shown)

"""Images to a project of Label Studio: every one once, however often the way there is cut."""

import hashlib
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from pipeline.annotation.label_studio import LabelStudio, Task
from pipeline.annotation.outgoing import clipped
from pipeline.annotation.project import Project
from pipeline.annotation.sent import Sent, changed_words, new_words, read_sent, write_sent
from pipeline.annotation.server import BusyError
from pipeline.core.errors import InputError
from pipeline.datasets.formats.label_studio_write import place_of, regions_of

BATCH = 500  # of tasks in a call: SQLite is locked while they are written
ID, PIXELS = "pocketlens_id", "pixels"  # keys of a task's data, which tell whose it is


@dataclass(frozen=True, slots=True)
class Wishes:
    """How a project works. `root` is what the folder of ingested data is called where the server runs, which shows
    images from below it; `annotators` people label each image; `unsure_first`: in the order of the model's doubt, else
    as they were sent.
    """

    root: str
    annotators: int = 1
    unsure_first: bool = False


def send(server: LabelStudio, project: Project, rows: list[Sent], sure: dict[str, float], wishes: Wishes) -> str:
    """Have each image of `rows` in the project, once; returns words on what was done. `sure` is the score of what the
    model says of an image, by id.

    What is there already stays as it is; if nobody has answered it, the labels of another model come beside, and those
    that the dataset has now in place of its older ones. What is new is listed before it goes out, what is shown anew
    once it is there: a run that was cut does that again. Raises InputError if the server does not show the images, or
    they are not all there in the end.
    """
    number = server.project(project.title) or server.new_project(
        project.title, project.config, enable_empty_annotation=True, show_skip_button=True, show_collab_predictions=True
    )
    _serve(server, number, project, rows[0], wishes.root)
    there = {str(task.data.get(ID)): task for task in server.whole_tasks(number)}
    before = read_sent(project.listed)
    sorted_out = _sorted_out(rows, there, before)
    new, again = sorted_out.new, sorted_out.again
    listed = before | {row.sample.id: row for row in new}
    write_sent(project.listed, listed.values())
    task_of = _Tasks(project, sure)
    _add_all(server, number, [task_of(row) for row in new])
    for batch in _batches(again):
        tasks = [there[row.sample.id].id for row in batch]
        for task, row in zip(tasks, batch, strict=True):
            server.remove_predictions(task, row.shown if row.sample.id in before else None)
        pairs = zip(tasks, batch, strict=True)
        if shown_on := [task_of.prediction(row) | {"task": task} for task, row in pairs if row.shown]:
            server.add_predictions(number, shown_on)
        listed |= {row.sample.id: row for row in batch}
        write_sent(project.listed, listed.values())
    shown = next((row.shown for row in (*new, *again) if row.shown), None)
    server.change(
        number,
        maximum_annotations=wishes.annotators,
        sampling="Uncertainty sampling" if wishes.unsure_first else "Sequential sampling",
        **({"model_version": shown} if shown else {}),  # of the labels in a project, only this one's are shown
    )
    _check_all(server, number, rows)
    where = f"{server.url}/projects/{number} ({project.title})"
    return _words(where, rows, sorted_out) + _of_unlisted(sorted_out.unlisted, project)


@dataclass(slots=True)
class _Sorted:
    """Those that are not there; those that nobody has begun, and that show something else now; those that are there
    with another image; and those that are begun, though nothing says what was sent.
    """

    new: list[Sent] = field(default_factory=list)
    again: list[Sent] = field(default_factory=list)
    changed: list[Sent] = field(default_factory=list)
    unlisted: list[Sent] = field(default_factory=list)


def _sorted_out(rows: list[Sent], there: dict[str, Task], before: dict[str, Sent]) -> _Sorted:
    found = _Sorted()
    for row in rows:
        task, listed = there.get(row.sample.id), before.get(row.sample.id)
        begun = task is not None and bool(task.annotations or task.drafts)
        if task is None:
            found.new.append(row)
        elif task.data.get(PIXELS) != row.pixels:
            found.changed.append(row)
        elif listed is None:
            (found.unlisted if begun else found.again).append(row)
        elif (
            not begun and (listed.shown, listed.against) != (row.shown, row.against) and (row.shown or not listed.shown)
        ):
            found.again.append(row)
    return found


def _of_unlisted(rows: list[Sent], project: Project) -> str:
    if not rows:
        return ""
    return (
        f"; {len(rows)} are there and begun (first: {rows[0].sample.id}), but {project.listed} does not say what was "
        "sent: get that file from the sender, else nothing of them can be fetched"
    )


def _words(where: str, rows: list[Sent], found: _Sorted) -> str:
    again = [row for row in found.again if row.shown]
    said = f"{where}: {new_words(found.new, rows)}"
    if again:
        said += f"; {len(again)} of these now show {again[0].shown}"
    return said + changed_words([row.sample.id for row in found.changed], "as they looked before", "label-studio")


class _Tasks:
    """A row -> its task."""

    def __init__(self, project: Project, sure: dict[str, float]):
        self.name, self.landmarks, self.sure = project.name, project.dataset.landmarks, sure

    def __call__(self, row: Sent) -> dict[str, Any]:
        s = row.sample
        data = {"image": _place(self.name, row), ID: s.id, PIXELS: row.pixels, "split": s.split}
        return {"data": data, "predictions": [self.prediction(row)] if row.shown else []}

    def prediction(self, row: Sent) -> dict[str, Any]:
        score = {"score": self.sure[row.sample.id]} if row.sample.id in self.sure else {}
        result = regions_of(clipped(row.sample), self.landmarks)
        return {"model_version": row.shown, "result": result} | score


def _place(name: str, row: Sent) -> str:
    return place_of(f"{name}/{row.sample.split}/{row.sample.file_name}")


def _serve(server: LabelStudio, number: int, project: Project, first: Sent, root: str) -> None:
    """Raises InputError with the cure unless the server shows the first image, byte by byte."""
    cure = (
        f"expected a server with LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true and "
        f"LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT={root}, as `make label-studio` starts one; --images says what "
        f"{project.folder.parent} is called where the server runs"
    )
    try:
        server.serve_folder(number, f"{root.rstrip('/')}/{project.name}")
    except BusyError:
        raise
    except InputError as error:
        raise InputError(f"{error}; {cure}") from None
    place = _place(project.name, first)
    found = server.file(place)
    if found is None:
        raise InputError(f"{server.url}{place}: the server does not show this image; {cure}")
    content = project.image(first.sample).read_bytes()
    if hashlib.sha256(found).digest() != hashlib.sha256(content).digest():
        raise InputError(f"{server.url}{place}: the server shows another file than {project.folder} has; {cure}")


def _add_all(server: LabelStudio, project: int, tasks: list[dict[str, Any]]) -> None:
    def add(tried: int) -> None:
        there = {str(task.data.get(ID)) for task in server.whole_tasks(project)} if tried else set()
        for batch in _batches([task for task in tasks if task["data"][ID] not in there]):
            server.add_tasks(project, batch)

    server.insist(add)


def _check_all(server: LabelStudio, project: int, rows: list[Sent]) -> None:
    times = Counter(str(task.data.get(ID)) for task in server.whole_tasks(project))
    wrong = [row.sample.id for row in rows if times[row.sample.id] != 1]
    if wrong:
        raise InputError(
            f"{server.url}/projects/{project}: {len(wrong)} of {len(rows)} images are not there once "
            f"({wrong[0]}: {times[wrong[0]]} times); does another one write to this project?"
        )


def _batches(rows: list[Any]) -> list[list[Any]]:
    return [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]

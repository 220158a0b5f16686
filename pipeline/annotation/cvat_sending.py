"""Images to a project of CVAT by its API: every one once, and nothing into a task in which people have worked."""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any
from xml.etree.ElementTree import Element

from pipeline.annotation.cvat import list_of, listed, name_of, plain
from pipeline.annotation.cvat_answers import Annotations, Job
from pipeline.annotation.cvat_server import Cvat
from pipeline.annotation.project import KEY, Project
from pipeline.annotation.sent import Sent, changed_words, new_words, read_sent, write_sent
from pipeline.annotation.server import BusyError
from pipeline.core.errors import InputError
from pipeline.core.layer import content_of
from pipeline.core.turns import turn
from pipeline.datasets.formats.cvat_write import image_element, labels_of_task, skeletons_of

BATCH = 500  # images in a task


@dataclass(slots=True)
class _Task:
    id: int
    name: str
    names: list[str]  # of its images, by frame


@dataclass(slots=True)
class _Left:
    """Tasks with images that were asked for and that are left as they are."""

    begun: list[str] = field(default_factory=list)
    unlisted: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)  # ids


def send(server: Cvat, project: Project, rows: list[Sent]) -> str:
    """Have each image of `rows` in a task of the project, once; returns words on what was done.

    Images that are there stay. What was to be shown with them is added where a run was cut before that, and only into a
    task without annotations whose jobs are all new. What is new is listed before it goes out. Raises InputError if the
    project has other labels, a task does not have what was sent in the end, or another process sends from here.
    """
    with turn(listed(project, project.key), wait_s=0):
        return _sent(server, project, rows)


def _sent(server: Cvat, project: Project, rows: list[Sent]) -> str:
    number = server.project(project.title) or server.new_project(project.title, labels_of_task(project.dataset))
    ids = server.label_ids(number, project)
    there = _there(server, number, project)
    known = {name for task in there for name in task.names}
    new = [row for row in rows if name_of(row) not in known]
    made = [_made(server, number, project, new[start : start + BATCH]) for start in range(0, len(new), BATCH)]
    asked, left = {name_of(row): row for row in rows}, _Left()
    for task in there + made:
        if not asked.keys().isdisjoint(task.names):
            _show(server, project, task, ids, asked, left)
    where = f"{server.url}/projects/{number} ({project.title})"
    return _words(where, rows, new, len(made), left)


def _there(server: Cvat, number: int, project: Project) -> list[_Task]:
    """The tasks with images. Of those that are listed here, one that was cut before it had any is removed, with its
    list: nobody can have worked in it.
    """
    found = []
    for task in server.tasks(number):
        if not task.size:
            server.settle(task.id)
    for task in server.tasks(number):
        if task.size:
            names = [frame.name for frame in server.frames(task.id)[0]]
            found.append(_Task(task.id, task.name, names))
        elif (file := list_of(project, task.name)).exists():
            server.remove_task(task.id)
            file.unlink()
    return found


def _made(server: Cvat, number: int, project: Project, rows: list[Sent]) -> _Task:
    content = json.dumps([row.to_json() for row in rows])
    name = f"{project.title} {hashlib.sha256(content.encode()).hexdigest()[:KEY]}"
    id = _uploaded(server, number, project, name, rows)
    frames, _ = server.frames(id)
    wanted = [(name_of(row), row.sample.width, row.sample.height) for row in rows]
    came = [(frame.name, frame.width, frame.height) for frame in frames]
    if sorted(came) != sorted(wanted):
        odd = next(iter(sorted(set(wanted) - set(came)) or sorted(set(came) - set(wanted))), came[0])
        said = f"{len(wanted)} images were sent, and {len(came)} came into being; the first that differs: {odd}"
        raise InputError(f"{server.url}/tasks/{id} ({name}): {said}; delete that task, and run this again")
    return _Task(id, name, [frame.name for frame in frames])


def _uploaded(server: Cvat, number: int, project: Project, name: str, rows: list[Sent]) -> int:
    """The number of the task with this name, once it has the images. Of one that the server refuses nothing is left."""
    images = {name_of(row): project.image(row.sample) for row in rows}

    def there() -> list[int]:
        return [task.id for task in _there(server, number, project) if task.name == name]

    def upload(tried: int) -> int:
        if tried and (made := there()):
            return made[0]
        write_sent(list_of(project, name), rows)
        task = server.new_task(number, name)
        server.upload(task, images)
        return task

    try:
        return server.insist(upload)
    except BusyError:
        raise  # whether the task is there nobody knows
    except InputError:
        with suppress(InputError):  # what was refused first is to be said
            if not there():
                list_of(project, name).unlink(missing_ok=True)
        raise


def _show(
    server: Cvat, project: Project, task: _Task, ids: dict[tuple[str, str], int], asked: dict[str, Sent], left: _Left
) -> None:
    """Add what is to be shown in a task, where nobody has begun and nothing is there."""
    sent = {name_of(row): row for row in read_sent(list_of(project, task.name)).values()}
    if not sent:
        left.unlisted.append(task.name)
        return
    both = [(asked[name], row) for name, row in sent.items() if name in asked]
    left.changed += [now.sample.id for now, was in both if _as_it_goes_out(now) != _as_it_goes_out(was)]
    tags, shapes = _annotations(project, task, sent, ids)

    def show(_: int) -> None:
        there = server.annotations(task.id)
        if _begun(there, server.jobs(task.id)):
            left.begun.append(task.name)
        elif not (there.tags or there.shapes or there.tracks) and (tags or shapes):
            server.add_annotations(task.id, tags, shapes)

    server.insist(show)


def _as_it_goes_out(row: Sent) -> tuple[str, ...]:
    return row.pixels, row.against, row.shown, content_of(row.sample)


def _begun(there: Annotations, jobs: list[Job]) -> bool:
    """Whether people have worked in a task: a job is not new, or an annotation is not what was sent."""
    ours = all(row.source == "file" for row in (*there.tags, *there.shapes, *there.tracks))
    return not ours or any(job.state != "new" for job in jobs)


def _annotations(
    project: Project, task: _Task, sent: dict[str, Sent], ids: dict[tuple[str, str], int]
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    skeletons = skeletons_of(project.dataset)
    tags, shapes = list[dict[str, Any]](), list[dict[str, Any]]()
    for frame, name in enumerate(task.names):
        if name in sent:
            for element in image_element(plain(sent[name]), frame, project.dataset, skeletons):
                (tags if element.tag == "tag" else shapes).append(_shape(element, frame, ids))
    return tags, shapes


def _shape(element: Element, frame: int, ids: dict[tuple[str, str], int], skeleton: str = "") -> dict[str, Any]:
    label = str(element.get("label"))
    said = {"frame": frame, "label_id": ids[skeleton, label], "source": "file", "attributes": []}
    if element.tag == "tag":
        return said | {"group": 0}
    flags = {flag: element.get(flag) == "1" for flag in ("occluded", "outside")}
    said |= {"group": int(element.get("group_id") or 0), "z_order": 0, "rotation": 0.0, **flags}
    if element.tag == "skeleton":
        return said | {"type": "skeleton", "points": [], "elements": [_shape(p, frame, ids, label) for p in element]}
    if element.tag == "box":
        points = [float(element.get(side) or 0) for side in ("xtl", "ytl", "xbr", "ybr")]
        return said | {"type": "rectangle", "points": points}
    return said | {"type": "points", "points": [float(v) for v in str(element.get("points")).split(",")]}


def _words(where: str, rows: list[Sent], new: list[Sent], tasks: int, left: _Left) -> str:
    said = f"{where}: {new_words(new, rows, tasks)}"
    if left.begun:
        said += f"; people have worked in {', '.join(left.begun)}: left as they left it"
    said += changed_words(left.changed, "with the image, labels or predictions of before", "cvat")
    if left.unlisted:
        said += (
            f"; what was sent in {', '.join(left.unlisted)} is not listed here: get the files of labels/*/.sent from "
            "the sender, else nothing of it can be fetched"
        )
    return said

"""What people did in CVAT, asked of its API, as a label layer: of the jobs that they have completed."""

from collections import defaultdict
from dataclasses import dataclass
from itertools import zip_longest
from xml.etree.ElementTree import Element, SubElement

from pipeline.annotation.cvat import Taking, list_of, listed, name_of, untouched
from pipeline.annotation.cvat_answers import Annotation, Annotations, Drawn, Frame, Job, Labelled, Shape, Task, User
from pipeline.annotation.cvat_server import Cvat
from pipeline.annotation.fetched import Fetched, not_there
from pipeline.annotation.project import Project
from pipeline.annotation.sent import Sent, read_sent
from pipeline.core.errors import InputError
from pipeline.datasets.formats.cvat_shapes import CORNERS
from pipeline.datasets.formats.reading import Problem

COMPLETED = "completed"
Label = tuple[str, str]  # the skeleton, of its points only; and the name


def fetch(server: Cvat, number: int, project: Project, by: str = "") -> Fetched:
    """A statement about each image that was sent to the project with this `number` and is there. Who has completed a
    job answers for all images in it, as `by`, else as the job's assignee, else as the task's owner; what is in another
    job is a draft. Of an image in two tasks a completed job counts.

    Raises InputError if nothing is known of what was sent.
    """
    all_sent: dict[str, Sent] = {}
    for file in sorted(project.listed.parent.glob(f"cvat-{project.key}-*.jsonl")):
        all_sent |= read_sent(file)
    if not all_sent:
        wanted = listed(project, f"{project.key}-*")
        raise InputError(f"{wanted}: nothing is listed as sent; expected it beside the layers, from the sender")
    fetching = _Fetching(server, number, project, by)
    for task in server.tasks(number):
        fetching.read(task)
    fetching.take()
    fetching.found.rows += not_there(len(all_sent.keys() - fetching.seen), "the project: were their tasks deleted?")
    return fetching.found


@dataclass(slots=True)
class _Shown:
    """An image in a task. `draft` says why nothing is taken of it, "" for one that is completed."""

    row: Sent
    task: str
    job: int
    by: str
    draft: str
    frame: Frame
    shapes: list[Annotation]


class _Fetching:
    """All that is in a project: to `read` each task of, then to `take`. `seen` are the ids of images in tasks."""

    def __init__(self, server: Cvat, number: int, project: Project, by: str) -> None:
        self.server, self.project, self.by = server, project, by
        self.labels = {id: label for label, id in server.label_ids(number, project).items()}
        self.images: dict[str, list[_Shown]] = defaultdict(list)
        self.seen: set[str] = set()
        self.found = Fetched()

    def read(self, task: Task) -> None:
        """One task. Its jobs are asked for before and after what is drawn: one that was completed, or opened again,
        in between has been changed, nobody knows when.
        """
        rows = read_sent(list_of(self.project, task.name))
        if not rows:
            self._row(task.name, "unknown_task", "not sent from here, or renamed", "refused")
            return
        if not task.size:
            self._missing(task, set(rows), "it has no images yet")
            return
        (frames, deleted), before = self.server.frames(task.id), self.server.jobs(task.id)
        said, jobs = self.server.annotations(task.id), self.server.jobs(task.id)
        if tracks := len(said.tracks):
            self._row(task.name, "other_shape", f"{tracks} tracks in a task of images", "dropped")
        drafts = {job.id: _draft(job, before) for job in jobs}
        jobs = sorted(jobs, key=lambda job: not drafts[job.id])  # of an image in two a completed one counts
        job_of = {i: job for job in jobs for i in range(job.start_frame, min(job.stop_frame + 1, len(frames)))}
        on = self._drawn(task, said, job_of)
        sent = {name_of(row): row for row in rows.values()}
        for place, job in job_of.items():
            row = sent.pop(frames[place].name, None)
            if row is None:
                what = f"frame {place} of {task.name}, not sent in it or there twice"
                self._row(frames[place].name, "unknown_image", what, "refused")
            elif place in deleted:
                self._row(row.sample.id, "deleted_there", f"the image, in {task.name}", "not taken")
            else:
                who = self.by or _name(job.assignee) or _name(task.owner) or "cvat"
                shown = _Shown(row, task.name, job.id, who, drafts[job.id], frames[place], on[place])
                self.images[row.sample.id].append(shown)
        self.seen |= rows.keys()
        self._missing(task, {row.sample.id for row in sent.values()}, f"none of its {len(jobs)} jobs has them")

    def _drawn(self, task: Task, said: Annotations, jobs: dict[int, Job]) -> dict[int, list[Annotation]]:
        """What is drawn, by frame; a row for what is on none of these jobs'."""
        on = defaultdict[int, list[Annotation]](list)
        for shape in (*said.shapes, *said.tags):
            if shape.frame in jobs:
                on[shape.frame].append(shape)
            else:
                what = f"{shape.type if isinstance(shape, Shape) else 'tag'} {shape.id} is on frame {shape.frame}"
                self._row(task.name, "unknown_image", f"{what}, which is in no job of the task", "dropped")
        return on

    def _missing(self, task: Task, ids: set[str], why: str) -> None:
        """A row on images that were sent in a task and are not in it."""
        self.seen |= ids
        if ids:
            what = f"{len(ids)} images that were sent in it are not there (first: {min(ids)}): {why}"
            self._row(task.name, "not_there", what, "noted")

    def take(self) -> None:
        """A statement for each image that was read, by job."""
        jobs = defaultdict[int, list[_Shown]](list)
        for id, shown in self.images.items():
            first, *others = sorted(shown, key=lambda one: bool(one.draft))
            jobs[first.job].append(first)
            for other in others:
                self._row(id, "listed_twice", f"in {first.task}, which is taken, and in {other.task}", "refused")
        for images in jobs.values():
            if images[0].draft:
                for one in images:
                    self._leave(one)
            else:
                self._complete(images)

    def _leave(self, one: _Shown) -> None:
        self.found.statements.append(untouched(one.row))
        if any(shape.source != "file" for shape in one.shapes):
            self.found.drafts += 1
            self.found.rows.append(Problem(one.row.sample.id, one.by, "draft", one.draft, "not taken"))

    def _complete(self, images: list[_Shown]) -> None:
        rows = {name_of(one.row): one.row for one in images}
        taking = Taking(self.project, rows, empty=True, by=images[0].by, found=self.found)
        for one in images:
            taking.image(_image(one.frame, one.shapes, self.labels))
        taking.finish({one.row.sample.id: one.row for one in images})

    def _row(self, name: str, rule: str, what: str, done: str) -> None:
        self.found.rows.append(Problem(name, "", rule, what, done))


def _draft(job: Job, before: list[Job]) -> str:
    """Why a job is not to be taken, "" for one that is and was completed, and has not been changed since `before`."""
    if job.state != COMPLETED:
        return f"job {job.id} is {job.state!r}; expected {COMPLETED!r}"
    was = next((row for row in before if row.id == job.id), None)
    if was is None or (was.state, was.updated_date) != (job.state, job.updated_date):
        return f"job {job.id} was changed while it was fetched; fetch again"
    return ""


def _name(user: User | None) -> str:
    return "" if user is None else user.username


def _image(frame: Frame, shapes: list[Annotation], labels: dict[int, Label]) -> Element:
    """As CVAT's XML has it. A person stands behind all that is in a completed job."""
    image = Element("image", {"name": frame.name, "width": str(frame.width), "height": str(frame.height)})
    for shape in shapes:
        if isinstance(shape, Shape):
            element = _add(image, shape, shape.type, labels)
            for point in shape.elements:
                _add(element, point, point.type, labels)
        else:
            SubElement(image, "tag", _said(shape, labels))
    return image


def _add(parent: Element, shape: Drawn, kind: str, labels: dict[int, Label]) -> Element:
    points, said = shape.points or [], _said(shape, labels)
    said |= {"occluded": str(int(shape.occluded)), "outside": str(int(shape.outside))}
    if kind == "rectangle":
        said |= dict(zip(CORNERS, map(str, points), strict=True)) if len(points) == len(CORNERS) else {}
        return SubElement(parent, "box", said | {"rotation": str(shape.rotation)})
    said["points"] = ";".join(f"{x},{y}" for x, y in zip_longest(points[::2], points[1::2]))
    return SubElement(parent, kind, said)


def _said(shape: Labelled, labels: dict[int, Label]) -> dict[str, str]:
    _, label = labels.get(shape.label_id, ("", f"label_id {shape.label_id}"))
    group = {"group_id": str(shape.group)} if shape.group else {}
    return {"label": label, "source": "manual"} | group

"""What people did in CVAT, asked of its API, as a label layer: of the jobs that they have completed."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from pipeline.annotation.cvat import Taking, list_of, listed, name_of, untouched
from pipeline.annotation.cvat_server import Cvat
from pipeline.annotation.fetched import Fetched, not_there
from pipeline.annotation.project import Project
from pipeline.annotation.sent import Sent, read_sent
from pipeline.core.errors import InputError
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
    frame: dict[str, Any]
    shapes: list[dict[str, Any]]


class _Fetching:
    """All that is in a project: to `read` each task of, then to `take`. `seen` are the ids of images in tasks."""

    def __init__(self, server: Cvat, number: int, project: Project, by: str) -> None:
        self.server, self.project, self.by = server, project, by
        self.labels = {id: label for label, id in server.label_ids(number, project).items()}
        self.images: dict[str, list[_Shown]] = defaultdict(list)
        self.seen: set[str] = set()
        self.found = Fetched()

    def read(self, task: dict[str, Any]) -> None:
        """One task. Its jobs are asked for before and after what is drawn: one that was completed, or opened again,
        in between has been changed, nobody knows when.
        """
        listed_rows = read_sent(list_of(self.project, task["name"]))
        if not listed_rows:
            self._row(task["name"], "unknown_task", "not sent from here, or renamed", "refused")
        if not listed_rows or not task["size"]:
            return
        sent = {name_of(row): row for row in listed_rows.values()}
        (frames, deleted), before = self.server.frames(task["id"]), self.server.jobs(task["id"])
        said, jobs = self.server.annotations(task["id"]), self.server.jobs(task["id"])
        if tracks := len(said["tracks"]):
            self._row(task["name"], "other_shape", f"{tracks} tracks in a task of images", "dropped")
        on = defaultdict[int, list[dict[str, Any]]](list)
        for shape in said["shapes"] + said["tags"]:
            on[shape["frame"]].append(shape)
        for job in jobs:
            who = self.by or _name(job.get("assignee")) or _name(task.get("owner")) or "cvat"
            draft = _draft(job, before)
            for place in range(job["start_frame"], min(job["stop_frame"] + 1, len(frames))):
                frame = frames[place]
                row = sent.get(frame["name"])
                if row is None:
                    continue
                self.seen.add(row.sample.id)
                if place in deleted:
                    self._row(row.sample.id, "deleted_there", f"the image, in {task['name']}", "not taken")
                else:
                    shown = _Shown(row, task["name"], job["id"], who, draft, frame, on[place])
                    self.images[row.sample.id].append(shown)

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
        if any(shape.get("source") != "file" for shape in one.shapes):
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


def _draft(job: dict[str, Any], before: list[dict[str, Any]]) -> str:
    """Why a job is not to be taken, "" for one that is and was completed, and has not been changed since `before`."""
    if job["state"] != COMPLETED:
        return f"job {job['id']} is {job['state']!r}; expected {COMPLETED!r}"
    was = next((row for row in before if row["id"] == job["id"]), None)
    if was is None or (was["state"], was["updated_date"]) != (job["state"], job["updated_date"]):
        return f"job {job['id']} was changed while it was fetched; fetch again"
    return ""


def _name(user: Any) -> str:
    return str(user.get("username") or "") if isinstance(user, dict) else ""


def _image(frame: dict[str, Any], shapes: list[dict[str, Any]], labels: dict[int, Label]) -> Element:
    """As CVAT's XML has it. A person stands behind all that is in a completed job."""
    image = Element("image", {key: str(frame[key]) for key in ("name", "width", "height")})
    for shape in shapes:
        _add(image, shape, labels)
    return image


def _add(parent: Element, shape: dict[str, Any], labels: dict[int, Label]) -> None:
    kind, points = shape.get("type", "tag"), shape.get("points") or []
    said = {"label": labels.get(shape["label_id"], ("", ""))[1], "source": "manual"}
    said |= {"group_id": str(shape["group"])} if shape.get("group") else {}
    said |= {flag: str(int(bool(shape.get(flag)))) for flag in ("occluded", "outside")}
    if kind == "rectangle":
        said |= {side: str(v) for side, v in zip(("xtl", "ytl", "xbr", "ybr"), points, strict=False)}
        said["rotation"] = str(shape.get("rotation") or 0)
    else:
        said["points"] = ";".join(f"{x},{y}" for x, y in zip(points[::2], points[1::2], strict=False))
    element = SubElement(parent, "box" if kind == "rectangle" else kind, said)
    for part in shape.get("elements") or []:
        _add(element, part, labels)

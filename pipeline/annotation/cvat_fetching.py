"""What people did in CVAT, asked of its API, as a label layer: of the jobs that they have completed."""

from collections import defaultdict
from typing import Any
from xml.etree.ElementTree import Element, SubElement

from pipeline.annotation.cvat import Taking, name_of, untouched
from pipeline.annotation.cvat_sending import label_ids, list_of
from pipeline.annotation.cvat_server import Cvat
from pipeline.annotation.fetched import Fetched, not_there
from pipeline.annotation.project import Project
from pipeline.annotation.sent import Sent, read_sent
from pipeline.core.errors import InputError
from pipeline.datasets.formats.reading import Problem

COMPLETED = "completed"
Label = tuple[str, str]  # the skeleton, of its points only; and the name


def fetch(server: Cvat, project: Project, by: str = "") -> Fetched:
    """A statement about each image that was sent and is there. Who has completed a job answers for all images in it, as
    `by`, else as the job's assignee, else as the task's owner; what is in another job is a draft.

    Raises InputError if the project is not there, or nothing is known of what was sent.
    """
    number = server.project(project.title)
    if number is None:
        raise InputError(
            f"{server.url}: no project {project.title!r}; `pocketlens annotate` makes it, --project N names another one"
        )
    all_sent: dict[str, Sent] = {}
    for file in sorted(project.listed.parent.glob(f"cvat-{project.key}-*.jsonl")):
        all_sent |= read_sent(file)
    if not all_sent:
        wanted = project.listed.with_name(f"cvat-{project.key}-*.jsonl")
        raise InputError(f"{wanted}: nothing is listed as sent; expected it beside the layers, from the sender")
    labels = {id: label for label, id in label_ids(server, number, project).items()}
    found, seen = Fetched(), set[str]()
    for task in server.tasks(number):
        sent = read_sent(list_of(project, task["name"]))
        if not sent:
            found.rows.append(Problem(task["name"], "", "unknown_task", "not sent from here, or renamed", "refused"))
        elif task["size"]:
            _take(server, project, task, {name_of(row): row for row in sent.values()}, labels, by, found, seen)
    found.rows += not_there(len(all_sent) - len(seen), "the project: were their tasks deleted?")
    return found


def _take(
    server: Cvat,
    project: Project,
    task: dict[str, Any],
    sent: dict[str, Sent],
    labels: dict[int, Label],
    by: str,
    found: Fetched,
    seen: set[str],
) -> None:
    """One task."""
    (frames, deleted), said = server.frames(task["id"]), server.annotations(task["id"])
    on = defaultdict[int, list[dict[str, Any]]](list)
    for shape in said["shapes"] + said["tags"]:
        on[shape["frame"]].append(shape)
    if tracks := len(said["tracks"]):
        found.rows.append(Problem(task["name"], "", "other_shape", f"{tracks} tracks in a task of images", "dropped"))
    for job in server.jobs(task["id"]):
        who = by or _name(job.get("assignee")) or _name(task.get("owner")) or "cvat"
        rows = dict[str, Sent]()
        taking = Taking(project, sent, empty=True, by=who, found=found)
        for place in range(job["start_frame"], job["stop_frame"] + 1):
            frame = frames[place] if place < len(frames) and place not in deleted else None
            row = sent.get(frame["name"]) if frame else None
            if frame is None or row is None:
                continue
            if row.sample.id in seen:
                found.rows.append(Problem(row.sample.id, "", "listed_twice", f"in {task['name']} too", "refused"))
                continue
            seen.add(row.sample.id)
            if job["state"] == COMPLETED:
                rows[row.sample.id] = row
                taking.image(_image(frame, on[place], labels))
                continue
            found.statements.append(untouched(row))
            if any(shape.get("source") != "file" for shape in on[place]):
                found.drafts += 1
                what = f"job {job['id']} is {job['state']!r}; expected {COMPLETED!r}"
                found.rows.append(Problem(row.sample.id, who, "draft", what, "not taken"))
        taking.finish(rows)


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

"""The calls that this project makes of a CVAT server, as version 2.80 documents them (/api/docs there)."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from pipeline.annotation.cvat_answers import (
    Added,
    Annotations,
    Frame,
    Frames,
    Job,
    Label,
    Made,
    Named,
    Queued,
    Request,
    Status,
    Task,
)
from pipeline.annotation.project import Project
from pipeline.annotation.server import Server
from pipeline.core.errors import InputError
from pipeline.datasets.formats.cvat_write import labels_of_task

UPLOAD = 64 * 2**20  # bytes of images in a call
JOB = 50  # images; of a job that is not completed nothing is taken
WAITS = 120  # times that a request is asked after
QUALITY = 95  # of the JPEGs that the editor shows


class Cvat(Server):
    """A server of CVAT. An access token goes out as it is, and so does a key of older versions, of 40 hex digits."""

    tool, tokens, start = "CVAT", "the profile there makes access tokens", "--url is its address"

    def __init__(self, url: str, token: str, wait: float = 1.0):
        super().__init__(url, token, wait)
        self._proof = f"{'Token' if re.fullmatch('[0-9a-f]{40}', self._token) else 'Bearer'} {self._token}"
        self._session.headers["Accept"] = "application/vnd.cvat+json"

    def project(self, title: str) -> int | None:
        found = self._pages(f"/api/projects?{urlencode({'name': title, 'page_size': 100})}", Named)
        return max((row.id for row in found if row.name == title), default=None)

    def title(self, project: int) -> str:
        return self._json("GET", f"/api/projects/{project}", Named).name

    def new_project(self, title: str, labels: list[dict[str, Any]]) -> int:
        return self._json("POST", "/api/projects", Named, tries=1, json={"name": title, "labels": labels}).id

    def label_ids(self, number: int, project: Project) -> dict[tuple[str, str], int]:
        """The ids of the labels of the project with this number by ("", name), of the points of a skeleton by (its
        name, name). Raises InputError if one of the dataset's is not there.
        """
        found = dict[tuple[str, str], int]()
        for label in self._pages(f"/api/labels?project_id={number}&page_size=100", Label):
            if not label.has_parent:
                found["", label.name] = label.id
            found |= {(label.name, part.name): part.id for part in label.sublabels or []}
        for made in labels_of_task(project.dataset):
            wanted = [("", made["name"]), *((made["name"], part["name"]) for part in made.get("sublabels", []))]
            if missing := [name for skeleton, name in wanted if (skeleton, name) not in found]:
                where = f"{self.url}/projects/{number}"
                raise InputError(f"{where}: no label {missing[0]!r}; expected {project.title!r} as it was made")
        return found

    def tasks(self, project: int) -> list[Task]:
        return self._pages(f"/api/tasks?project_id={project}&page_size=100", Task)

    def new_task(self, project: int, name: str) -> int:
        task = {"name": name, "project_id": project, "segment_size": JOB, "overlap": 0}
        return self._json("POST", "/api/tasks", Made, tries=1, json=task).id

    def remove_task(self, task: int) -> None:
        self._done("DELETE", f"/api/tasks/{task}")

    def upload(self, task: int, images: dict[str, Path]) -> None:
        """Give an empty task its images, by name, in this order, and wait until it has them. A call that fails is not
        made again: what the task has then nobody knows.
        """
        path = f"/api/tasks/{task}/data/"
        self._done("POST", path, tries=1, headers={"Upload-Start": ""})
        for batch in _batches(images):
            parts = {f"client_files[{i}]": (name, images[name].read_bytes()) for i, name in enumerate(batch)}
            headers, said = {"Upload-Multiple": ""}, {"image_quality": QUALITY}
            self._done("POST", path, tries=1, headers=headers, data=said, files=parts)
        order = {"sorting_method": "predefined", "upload_file_order": list(images), "image_quality": QUALITY}
        self._wait(self._json("POST", path, Queued, tries=1, headers={"Upload-Finish": ""}, json=order).rq_id)

    def settle(self, task: int) -> None:
        """Wait until the server has nothing to do for this task."""
        for row in self._pages(f"/api/requests?task_id={task}&page_size=100", Request):
            if row.status not in ("finished", "failed"):
                self._wait(row.id, fails=False)

    def _wait(self, request: str, fails: bool = True) -> None:
        path = f"/api/requests/{request}"
        for tried in range(WAITS):
            answer = self._json("GET", path, Status)
            if answer.status == "failed" and fails:
                raise InputError(f"{self.url}: images are not taken: {' '.join((answer.message or '').split())[:500]}")
            if answer.status in ("finished", "failed"):
                return
            self.pause(min(tried + 1, 4))
        raise InputError(
            f"{self.url}: {path} is {answer.status!r} still; run this again when the server has less to do"
        )

    def frames(self, task: int) -> tuple[list[Frame], set[int]]:
        """The images of a task in their order, and the numbers of those that were deleted there."""
        answer = self._json("GET", f"/api/tasks/{task}/data/meta", Frames)
        return answer.frames, set(answer.deleted_frames or [])

    def jobs(self, task: int) -> list[Job]:
        """Those in which a task is annotated."""
        rows = self._pages(f"/api/jobs?task_id={task}&page_size=100", Job)
        return [row for row in rows if row.type == "annotation"]

    def annotations(self, task: int) -> Annotations:
        return self._json("GET", f"/api/tasks/{task}/annotations/", Annotations)

    def add_annotations(self, task: int, tags: list[dict[str, Any]], shapes: list[dict[str, Any]]) -> None:
        """Beside what is there. Raises InputError if fewer came into being than were sent. A call that fails is not
        made again.
        """
        body = {"version": 0, "tags": tags, "shapes": shapes, "tracks": []}
        answer = self._json("PATCH", f"/api/tasks/{task}/annotations/?action=create", Added, tries=1, json=body)
        self._counted("tags", len(answer.tags), len(tags))
        self._counted("shapes", len(answer.shapes), len(shapes))


def _batches(images: dict[str, Path]) -> Iterator[Sequence[str]]:
    batch, size = list[str](), 0
    for name, path in images.items():
        more = path.stat().st_size
        if batch and size + more > UPLOAD:
            yield batch
            batch, size = [], 0
        batch.append(name)
        size += more
    yield batch

"""The calls that this project makes of a CVAT server, as version 2.80 documents them (/api/docs there)."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

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
        found = self._pages(f"/api/projects?{urlencode({'name': title, 'page_size': 100})}", "id", "name")
        return max((row["id"] for row in found if row["name"] == title), default=None)

    def title(self, project: int) -> str:
        path = f"/api/projects/{project}"
        return str(self._value(self._json("GET", path), "name", path))

    def new_project(self, title: str, labels: list[dict[str, Any]]) -> int:
        answer = self._json("POST", "/api/projects", tries=1, json={"name": title, "labels": labels})
        return int(self._value(answer, "id", "/api/projects"))

    def label_ids(self, number: int, project: Project) -> dict[tuple[str, str], int]:
        """The ids of the labels of the project with this number by ("", name), of the points of a skeleton by (its
        name, name). Raises InputError if one of the dataset's is not there.
        """
        found = dict[tuple[str, str], int]()
        for label in self._pages(f"/api/labels?project_id={number}&page_size=100", "id", "name"):
            if not label.get("has_parent"):
                found["", label["name"]] = label["id"]
            found |= {(label["name"], part["name"]): part["id"] for part in label.get("sublabels") or []}
        for label in labels_of_task(project.dataset):
            wanted = [("", label["name"]), *((label["name"], part["name"]) for part in label.get("sublabels", []))]
            if missing := [name for skeleton, name in wanted if (skeleton, name) not in found]:
                where = f"{self.url}/projects/{number}"
                raise InputError(f"{where}: no label {missing[0]!r}; expected {project.title!r} as it was made")
        return found

    def tasks(self, project: int) -> list[dict[str, Any]]:
        return self._pages(f"/api/tasks?project_id={project}&page_size=100", "id", "name", "size")

    def new_task(self, project: int, name: str) -> int:
        task = {"name": name, "project_id": project, "segment_size": JOB, "overlap": 0}
        return int(self._value(self._json("POST", "/api/tasks", tries=1, json=task), "id", "/api/tasks"))

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
        answer = self._json("POST", path, tries=1, headers={"Upload-Finish": ""}, json=order)
        self._wait(str(self._value(answer, "rq_id", path)))

    def settle(self, task: int) -> None:
        """Wait until the server has nothing to do for this task."""
        for row in self._pages(f"/api/requests?task_id={task}&page_size=100", "id", "status"):
            if row["status"] not in ("finished", "failed"):
                self._wait(row["id"], fails=False)

    def _wait(self, request: str, fails: bool = True) -> None:
        path = f"/api/requests/{request}"
        for tried in range(WAITS):
            answer = self._json("GET", path)
            status = self._value(answer, "status", path)
            if status == "failed" and fails:
                raise InputError(
                    f"{self.url}: images are not taken: {' '.join(str(answer.get('message')).split())[:500]}"
                )
            if status in ("finished", "failed"):
                return
            self.pause(min(tried + 1, 4))
        raise InputError(f"{self.url}: {path} is {status!r} still; run this again when the server has less to do")

    def frames(self, task: int) -> tuple[list[dict[str, Any]], set[int]]:
        """The images of a task in their order, and the numbers of those that were deleted there."""
        path = f"/api/tasks/{task}/data/meta"
        answer = self._json("GET", path)
        frames = self._rows(self._value(answer, "frames", path), path, "name", "width", "height")
        return frames, set(answer.get("deleted_frames") or [])

    def jobs(self, task: int) -> list[dict[str, Any]]:
        """Those in which a task is annotated."""
        keys = "id", "state", "start_frame", "stop_frame", "updated_date"
        rows = self._pages(f"/api/jobs?task_id={task}&page_size=100", *keys)
        return [row for row in rows if row.get("type", "annotation") == "annotation"]

    def annotations(self, task: int) -> dict[str, list[dict[str, Any]]]:
        """The `tags`, `shapes` and `tracks` of a task."""
        path = f"/api/tasks/{task}/annotations/"
        answer = self._json("GET", path)
        return {
            kind: self._rows(self._value(answer, kind, path), path, "frame", "label_id")
            for kind in ("tags", "shapes", "tracks")
        }

    def add_annotations(self, task: int, tags: list[dict[str, Any]], shapes: list[dict[str, Any]]) -> None:
        """Beside what is there. Raises InputError if fewer came into being than were sent. A call that fails is not
        made again.
        """
        body = {"version": 0, "tags": tags, "shapes": shapes, "tracks": []}
        answer = self._json("PATCH", f"/api/tasks/{task}/annotations/?action=create", tries=1, json=body)
        for kind, sent in (("tags", tags), ("shapes", shapes)):
            self._counted(kind, len(answer.get(kind) or []), len(sent))


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

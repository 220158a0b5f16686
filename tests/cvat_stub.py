"""A stub of CVAT on loopback that has the calls which this project makes, as the API of 2.80 is documented."""

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from PIL import Image
from servers import _serving

TOKEN = "Ab12Cd34.0123456789abcdefABCDEF"
PAGE = 2  # rows, however many are asked for
KINDS = ("tags", "shapes", "tracks")


@dataclass
class Known:
    """What the stub knows. A call on a path that `fails` has next answers with its status: "before" it did its work, or
    "after". `dropped` shapes of each call are lost; a failed request says `broken`.
    """

    projects: list[dict[str, Any]] = field(default_factory=list)
    labels: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[int, dict[str, Any]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    fails: list[tuple[str, int, str]] = field(default_factory=list)
    dropped: int = 0
    broken: str = ""
    made: int = 0

    def number(self) -> int:
        self.made += 1
        return self.made

    def now(self) -> str:
        return f"2026-11-30T00:00:{self.number():09.6f}Z"

    def shown(self, task: int, name: str) -> list[dict[str, Any]]:
        """The shapes on the image with this name."""
        frame = next(i for i, f in enumerate(self.tasks[task]["frames"]) if f["name"] == name)
        return [s for s in self.tasks[task]["shapes"] if s["frame"] == frame]

    def complete(self, *tasks: int, user: str = "ann", places: Any = None) -> None:
        for task in tasks or self.tasks:
            for i, job in enumerate(self.tasks[task]["jobs"]):
                if places is None or i in places:
                    job |= {"state": "completed", "assignee": {"username": user}, "updated_date": self.now()}

    def answer(self, method: str, path: str, query: dict[str, str], headers: Any, body: Any) -> tuple[int, Any]:
        if path == "/api/projects" and method == "POST":
            project = {"id": self.number(), "name": body["name"]}
            self.projects.append(project)
            for label in body["labels"]:
                parts = [part | {"id": self.number()} for part in label.get("sublabels", [])]
                self.labels.append(label | {"id": self.number(), "project": project["id"], "sublabels": parts})
            return 201, project
        if path == "/api/projects":
            return 200, [p for p in self.projects if query["name"] in p["name"]]
        if one := re.fullmatch(r"/api/projects/(\d+)", path):
            return 200, next(p for p in self.projects if p["id"] == int(one[1]))
        if path == "/api/labels":
            return 200, [label for label in self.labels if label["project"] == int(query["project_id"])]
        if path == "/api/tasks" and method == "POST":
            new = {"id": self.number(), "size": 0, "files": {}, "frames": [], "jobs": [], "deleted": [], "status": ""}
            self.tasks[new["id"]] = body | new | {kind: [] for kind in KINDS} | {"owner": {"username": "boss"}}
            return 201, {"id": new["id"]}
        if path == "/api/tasks":
            rows = [t for t in self.tasks.values() if t["project_id"] == int(query["project_id"])]
            return 200, [{key: row[key] for key in ("id", "name", "size", "owner")} for row in rows]
        if path == "/api/jobs":
            return 200, self.tasks[int(query["task_id"])]["jobs"]
        if path == "/api/requests":
            task = self.tasks[int(query["task_id"])]
            return 200, [{"id": f"t:{task['id']}", "status": task["status"]}] if task["status"] else []
        if one := re.fullmatch(r"/api/requests/t:(\d+)", path):
            return 200, self.process(self.tasks[int(one[1])])
        number, call = re.fullmatch(r"/api/tasks/(\d+)(.*)", path).groups()
        return self.of_task(self.tasks[int(number)], method, call, headers, body)

    def process(self, task: dict[str, Any]) -> dict[str, Any]:
        """One step: from queued to started, then to finished, with frames and jobs."""
        if task["status"] == "queued":
            task["status"] = "started"
        elif self.broken:
            task["status"] = "failed"
        elif task["status"] == "started":
            for name in task["order"]:
                width, height = Image.open(io.BytesIO(task["files"][name])).size
                task["frames"].append({"name": name, "width": width, "height": height})
            task["size"], task["status"] = len(task["frames"]), "finished"
            starts = range(0, task["size"], task["segment_size"])
            task["jobs"] = [
                {"id": self.number(), "state": "new", "type": "annotation", "assignee": None, "start_frame": start,
                 "stop_frame": min(start + task["segment_size"], task["size"]) - 1, "updated_date": self.now()}
                for start in starts
            ]  # fmt: skip
        return {"status": task["status"], "message": self.broken}

    def of_task(self, task: dict[str, Any], method: str, call: str, headers: Any, body: Any) -> tuple[int, Any]:
        if call == "" and method == "DELETE":
            del self.tasks[task["id"]]
            return 204, b""
        if call == "/data/" and task["status"]:
            return 400, {"detail": "Once data is attached to a task, it cannot be detached or replaced"}
        if call == "/data/" and headers.get("Upload-Multiple") is not None:
            task["files"] |= {
                part.get_filename(): part.get_payload(decode=True) for part in body if part.get_filename()
            }
            return 200, b""
        if call == "/data/" and headers.get("Upload-Finish") is not None:
            task |= {"order": body["upload_file_order"], "status": "queued"}
            return 202, {"rq_id": f"t:{task['id']}"}
        if call == "/data/":
            return 202, b""
        if call == "/data/meta":
            return 200, {"frames": task["frames"], "deleted_frames": task["deleted"]}
        if method == "PATCH":
            for kind in KINDS:
                task[kind] += [self.kept(row) for row in body[kind]]
            return 200, {k: body[k][self.dropped if k == "shapes" else 0 :] for k in KINDS}
        return 200, {k: task[k] for k in KINDS}

    def kept(self, row: dict[str, Any]) -> dict[str, Any]:
        ids = {label["id"] for label in self.labels} | {p["id"] for label in self.labels for p in label["sublabels"]}
        assert {row["label_id"], *(part["label_id"] for part in row.get("elements", []))} <= ids
        return row | {"id": self.number()}


@contextmanager
def cvat_served() -> Iterator[tuple[str, Known]]:
    """The address, and what the stub knows."""
    known = Known()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            self.reply()

        def do_PATCH(self) -> None:
            self.reply()

        def do_DELETE(self) -> None:
            self.reply()

        def reply(self) -> None:
            place = urlsplit(self.path)
            query = {key: rows[0] for key, rows in parse_qs(place.query).items()}
            known.asked.append(f"{self.command} {place.path}")
            status, said = 401, {"detail": "Invalid token."}
            body = self.body()
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                status, said = self.answer(place.path, query, body)
            if isinstance(said, list):
                page = int(query.get("page", 1))
                after = f"http://inside{place.path}?{urlencode(query | {'page': page + 1})}"
                more = len(said) > page * PAGE
                said = {"results": said[(page - 1) * PAGE : page * PAGE], "next": after if more else None}
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def answer(self, path: str, query: dict[str, str], body: Any) -> tuple[int, Any]:
            fault = next((f for f in known.fails if re.fullmatch(f[0], f"{self.command} {path}")), None)
            if fault:
                known.fails.remove(fault)
                if fault[2] == "before":
                    return fault[1], {"detail": "busy"}
            found = known.answer(self.command, path, query, self.headers, body)
            return (fault[1], {"detail": "gateway timeout"}) if fault else found

        def body(self) -> Any:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = self.headers.get("Content-Type") or ""
            if kind.startswith("multipart/"):
                return message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode() + content).get_payload()
            return json.loads(content) if content else None

        def log_message(self, *_: object) -> None:
            """Nothing into the tests' output."""

    with _serving(Handler) as url:
        yield url, known

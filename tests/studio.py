"""A small herd, ingested, and a stub of Label Studio on loopback that has the calls which this project makes."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from PIL import Image, ImageDraw
from servers import _serving

from pipeline.core.sample import SPLITS, Dataset, Landmark, Object, Sample, write_dataset, write_samples

HERD = Dataset("herd", ["cow", "horse"], ["nose", "left_ear", "right_ear", "tail"], [(1, 2)])
NAMES = ("cow 1.jpg", "a#b+c.jpg", "ä%41.jpg", "two.jpg", "none.jpg")
WIDE, HIGH = 160, 120
LEGACY = "0123456789abcdef0123456789abcdef01234567"
PERSONAL = ".".join(
    base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
    for part in ({"alg": "HS256"}, {"token_type": "refresh"}, {})
)


def cow(x: float, label: str = "cow") -> Object:
    """One landmark absent, one hidden."""
    points = [Landmark(x + 0.1 / 3, 0.3), Landmark(x + 0.2, 0.35, 1), Landmark(0.0, 0.0, 0), Landmark(x + 1 / 7, 0.4)]
    return Object(label, (x, 0.25, 0.3, 1 / 3), points)


def draw_herd(root: Path, name: str = "herd") -> list[Sample]:
    """An ingested dataset in `root`, with its params.yaml; returns the training images' labels."""
    made = []
    for split in SPLITS:
        folder = root / "data/ingested" / name / split
        folder.mkdir(parents=True)
        rows = []
        for i, file in enumerate(NAMES if split == "train" else NAMES[:1]):
            objects = [[cow(0.1)], [cow(i / 13, "horse")], [cow(0.6)], [cow(0.01), cow(0.65, "horse")], []][i]
            image = Image.new("RGB", (WIDE, HIGH), (90, 140, 60 + 40 * i))
            for x, y, w, h in (o.box for o in objects):
                ImageDraw.Draw(image).ellipse((x * WIDE, y * HIGH, (x + w) * WIDE, (y + h) * HIGH), (200, 60, 40))
            image.save(folder / file, quality=95)
            rows.append(Sample(f"{split}-{i}", file, WIDE, HIGH, split, objects=objects))
        write_samples(folder, rows)
        made += rows if split == "train" else []
    write_dataset(root / "data/ingested" / name, HERD)
    (root / "params.yaml").write_text(f"datasets:\n  {name}: {{format: coco, path: x, labels: x}}\n")
    return made


@dataclass
class Studio:
    """What the stub knows. Each import answers with a status of `fails`, if one is left: "before" it did its work, or
    "after". An access token is good for so many calls of `access`; `dropped` predictions of each import are lost.
    """

    root: Path
    projects: dict[int, dict[str, Any]] = field(default_factory=dict)
    tasks: list[dict[str, Any]] = field(default_factory=list)
    storages: list[dict[str, Any]] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    fails: list[tuple[int, str]] = field(default_factory=list)
    access: int = 1000
    left: int = 0
    refreshed: int = 0
    personal: str = PERSONAL
    dropped: int = 0
    predictions: int = 0
    instead: dict[str, list[tuple[int, Any]]] = field(default_factory=dict)  # answers to a path, before the true ones

    def annotate(self, task: int, result: list[Any], user: int = 1, **more: Any) -> None:
        number = sum(len(t["annotations"]) for t in self.tasks) + 1
        when = f"2026-01-01T00:00:{number:02}Z"
        said = {"id": number, "unique_id": f"u{number}", "completed_by": user, "was_cancelled": False}
        said |= {"ground_truth": False, "updated_at": when, "lead_time": 4.0, "result": result}
        self.tasks[task]["annotations"].append(said | more)

    def shown(self, task: int) -> list[Any]:
        return json.loads(json.dumps(self.tasks[task]["predictions"][-1]["result"]))

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Any) -> tuple[int, Any]:
        if path == "/data/local-files/":
            file = self.root / query["d"][0]
            return (200, file.read_bytes()) if self.storages and file.is_file() else (404, b"")
        if path == "/api/projects/" and method == "GET":
            return 200, {"results": list(self.projects.values()), "next": None}
        if path == "/api/projects/":
            number = len(self.projects) + 1
            self.projects[number] = {"id": number} | body
            return 201, self.projects[number]
        if path == "/api/storages/localfiles":
            if method == "GET":
                return 200, self.storages
            if not body["path"].startswith(f"{self.root}/"):
                return 400, {"non_field_errors": ["must be a subdirectory of LOCAL_FILES_DOCUMENT_ROOT"]}
            self.storages.append(body)
            return 201, body
        if path == "/api/users/":
            return 200, [{"id": 1, "email": "ann@example.com"}, {"id": 2, "email": "bob@example.com"}]
        if path == "/api/predictions/":
            number = int(query["task"][0])
            return 200, next(t["predictions"] for t in self.tasks if t["id"] == number)
        if one := re.fullmatch(r"/api/predictions/(\d+)/", path):
            for task in self.tasks:
                task["predictions"] = [p for p in task["predictions"] if p["id"] != int(one[1])]
            return 204, b""
        number, call = re.fullmatch(r"/api/projects/(\d+)/(.*)", path).groups()
        if call == "export":
            return 200, [t | {"predictions": []} for t in self.tasks if t["project"] == int(number)]
        if call.startswith("import"):
            return self.take(int(number), call, body)
        self.projects[int(number)] |= body or {}
        return 200, self.projects[int(number)]

    def take(self, project: int, call: str, body: Any) -> tuple[int, Any]:
        status, when = self.fails.pop(0) if self.fails else (0, "")
        if when == "before":
            return status, {"detail": "database is locked"}
        self.batches.append(len(body))
        if call == "import/predictions":
            for p in body:
                next(t for t in self.tasks if t["id"] == p["task"])["predictions"].append(self.numbered(p))
            if when == "after":
                return status, {"detail": "gateway timeout"}
            return 201, {"created": len(body) - self.dropped}
        for task in body:
            new = {"id": len(self.tasks) + 1, "project": project, "annotations": [], "drafts": []}
            self.tasks.append(task | new | {"predictions": [self.numbered(p) for p in task["predictions"]]})
        if when == "after":
            return status, {"detail": "gateway timeout"}
        made = sum(len(t["predictions"]) for t in body) - self.dropped
        return 201, {"task_count": len(body), "prediction_count": made}

    def numbered(self, prediction: dict[str, Any]) -> dict[str, Any]:
        self.predictions += 1
        return prediction | {"id": self.predictions}

    def allowed(self, header: str, path: str) -> bool:
        if header == f"Token {LEGACY}":
            return True
        self.left -= 1
        return header == f"Bearer access-{self.refreshed}" and self.left >= 0


@contextmanager
def studio(root: Path) -> Iterator[tuple[str, Studio]]:
    known = Studio(root)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply("GET")

        def do_POST(self) -> None:
            self.reply("POST")

        def do_DELETE(self) -> None:
            self.reply("DELETE")

        def do_PATCH(self) -> None:
            self.reply("PATCH")

        def reply(self, method: str) -> None:
            place = urlsplit(self.path)
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length)) if length else None
            known.asked.append(f"{method} {place.path}")
            if known.instead.get(place.path):
                status, said = known.instead[place.path].pop(0)
            elif place.path == "/api/token/refresh/":
                good = body["refresh"] == known.personal
                known.refreshed, known.left = known.refreshed + good, known.access
                status, said = (200, {"access": f"access-{known.refreshed}"}) if good else (401, {"detail": "revoked"})
            elif not known.allowed(self.headers.get("Authorization", ""), place.path):
                status, said = 401, {"detail": "Invalid token."}
            else:
                status, said = known.answer(method, unquote(place.path), parse_qs(place.query), body)
            content = said if isinstance(said, bytes) else json.dumps(said).encode()
            self.send_response(status)
            if status == 301:
                self.send_header("Location", said["location"])
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            """Nothing into the tests' output."""

    with _serving(Handler) as url:
        yield url, known

"""What a server of an annotation tool may answer, and how a cut connection is told from one that nobody answers."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from servers import _serving

from pipeline.annotation import server
from pipeline.annotation.cvat_server import Cvat
from pipeline.annotation.label_studio import LabelStudio
from pipeline.annotation.project import Project
from pipeline.annotation.server import TRIES, BusyError
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset


class Answers(BaseHTTPRequestHandler):
    """What each call gets: JSON; "cut" in mid-answer, before it, or nothing at all; a redirect to nowhere."""

    answer: Any = None
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.answer == "late":
            self.rfile.read(1)  # until the other side has had enough
        if self.answer in ("late", "closed"):
            return
        content = json.dumps(self.answer).encode() if self.answer != "deep" else b"[" * 100_000
        self.send_response(301 if self.answer == "moved" else 200)
        self.send_header("Content-Length", str(len(content) + (100 if self.answer == "cut" else 0)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Nothing into the tests' output."""


@pytest.fixture
def cvat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Cvat]:
    monkeypatch.setattr(Cvat, "pause", lambda *_: None)
    monkeypatch.setattr(Answers, "asked", 0)
    with _serving(Answers) as url, Cvat(url, "a.b") as over:
        yield over


@pytest.fixture
def label_studio() -> Iterator[LabelStudio]:
    with _serving(Answers) as url, LabelStudio(url, "0" * 40) as over:
        yield over


@pytest.mark.parametrize("after", [5, ["/api/tasks"], "http://[bad"])
def test_a_next_page_that_is_no_address_is_an_error(cvat, monkeypatch, after):
    monkeypatch.setattr(Answers, "answer", {"results": [], "next": after})
    with pytest.raises(InputError, match=r"has the next page .*; expected the address of a CVAT server"):
        cvat.tasks(1)


SHAPE = {"id": 7, "type": "points", "frame": 0, "label_id": 1, "points": [1, 2.5], "group": None}
JOB = {"id": 1, "state": "new", "start_frame": 0, "stop_frame": 4, "updated_date": "", "assignee": None}
FRAME = {"name": "a.jpg", "width": 8, "height": 8}


def page(row: dict[str, Any]) -> dict[str, Any]:
    return {"results": [row], "next": None}


def drawn(change: dict[str, Any], kind: str = "shapes") -> dict[str, Any]:
    return {"tags": [], "shapes": [], "tracks": []} | {kind: [SHAPE | change]}


def element(change: dict[str, Any]) -> dict[str, Any]:
    return drawn({"type": "skeleton", "elements": [{"type": "points", "label_id": 2, "points": [1, 2]} | change]})


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != key}


@pytest.mark.parametrize(
    ("call", "answer", "said"),
    [
        *[("annotations", drawn({"frame": it}), "shapes.0.frame is") for it in ([0], "0", None, 0.5)],
        ("annotations", drawn({"label_id": [1]}, "tags"), r"tags.0.label_id is \[1\], not a valid integer"),
        ("annotations", drawn({"elements": "abc"}), "shapes.0.elements is 'abc'"),
        ("annotations", drawn({"elements": [1]}), "shapes.0.elements.0 is 1"),
        ("annotations", drawn({"elements": [{}]}), "has no 'shapes.0.elements.0.label_id'"),
        ("annotations", element({"type": "polygon"}), "shapes.0.elements.0.type is 'polygon', not 'points'"),
        ("annotations", drawn({"points": 7}), "shapes.0.points is 7, not a valid list"),
        ("annotations", drawn({"points": ["1", 2]}), "shapes.0.points.0 is '1', not a valid number"),
        ("annotations", drawn({"rotation": None}), "shapes.0.rotation is None"),
        ("annotations", {"tags": []}, "has no 'shapes'"),
        ("jobs", page(JOB | {"stop_frame": None}), "results.0.stop_frame is None, not a valid integer"),
        ("jobs", page(JOB | {"start_frame": "0"}), "results.0.start_frame is '0'"),
        ("jobs", page(JOB | {"start_frame": -1}), "results.0.start_frame is -1, not greater than or equal to 0"),
        ("jobs", page(JOB | {"assignee": "ann"}), "results.0.assignee is 'ann'"),
        ("frames", {"frames": [FRAME], "deleted_frames": 5}, "deleted_frames is 5, not a valid list"),
        ("frames", {"frames": [FRAME], "deleted_frames": [[0]]}, r"deleted_frames.0 is \[0\]"),
        ("frames", {"frames": [FRAME | {"name": [1]}]}, r"/api/tasks/1/data/meta: frames.0.name is \[1\]"),
        ("tasks", page({"id": 1, "name": None, "size": 5}), "results.0.name is None, not a valid string"),
        ("tasks", page({"id": 1, "name": 5, "size": 5}), "results.0.name is 5"),
        ("tasks", page({"id": 1, "name": "a", "size": "5"}), "results.0.size is '5'"),
        ("settle", page({"id": [1], "status": "queued"}), r"results.0.id is \[1\]"),
        ("title", {"id": 1, "name": 5}, "/api/projects/1: name is 5"),
    ],
)
def test_an_answer_in_another_form_is_named(cvat, monkeypatch, call, answer, said):
    monkeypatch.setattr(Answers, "answer", answer)
    with pytest.raises(InputError, match=f"{said}.*; expected the address of a CVAT server"):
        getattr(cvat, call)(1)


@pytest.mark.parametrize("change", [{"sublabels": "abc"}, {"sublabels": [1]}, {"id": [1]}, {"name": None}])
def test_labels_in_another_form_are_named(cvat, monkeypatch, change):
    monkeypatch.setattr(Answers, "answer", page({"id": 1, "name": "cow"} | change))
    with pytest.raises(InputError, match=r"/api/labels.*results.0.\w+.* is .*, not a"):
        cvat.label_ids(1, Project("herd", Path("herd"), Dataset("herd", ["cow"]), False, "", "0" * 8, Path("sent")))


@pytest.mark.parametrize(
    ("call", "answer", "said"),
    [
        ("people", [{"id": [1]}], r"/api/users/: 0.id is \[1\], not a valid integer"),
        ("people", [{"id": 1, "email": 5}], "0.email is 5"),
        ("whole_tasks", [{"id": 1, "data": 5, "annotations": []}], "0.data is 5"),
        ("whole_tasks", [{"id": "1", "data": {}, "annotations": []}], "0.id is '1'"),
        ("whole_tasks", [{"id": 1, "data": {}}], "has no '0.annotations'"),
        ("title", {"id": 1, "title": ["herd"]}, r"title is \['herd'\]"),
        ("project", page({"id": "1", "title": 1}), "results.0.id is '1'"),
    ],
)
def test_an_answer_of_label_studio_in_another_form_is_named(label_studio, monkeypatch, call, answer, said):
    monkeypatch.setattr(Answers, "answer", answer)
    with pytest.raises(InputError, match=f"{said}.*; expected the address of a Label Studio server"):
        getattr(label_studio, call)(*([1] if call != "people" else []))


def test_what_the_server_may_leave_out_is_not_missed(cvat, monkeypatch):
    """A task has no size before it has images, an annotation no points where its kind has none."""
    monkeypatch.setattr(Answers, "answer", page({"id": 1, "name": "a", "more": {}}))
    assert [(task.size, task.owner) for task in cvat.tasks(1)] == [(None, None)]
    monkeypatch.setattr(Answers, "answer", drawn({}) | {"tags": [without(without(SHAPE, "type"), "points")]})
    said = cvat.annotations(1)
    assert (said.shapes[0].points, said.shapes[0].elements, said.tags[0].frame) == ([1, 2.5], [], 0)
    monkeypatch.setattr(Answers, "answer", page(JOB))
    assert [job.type for job in cvat.jobs(1)] == ["annotation"]


def test_a_redirect_to_nowhere_is_named(cvat, monkeypatch):
    monkeypatch.setattr(Answers, "answer", "moved")
    with pytest.raises(InputError, match=r"GET /api/tasks/1/annotations/: 301: moved"):
        cvat.annotations(1)


def test_json_that_is_nested_too_deeply_is_no_answer(cvat, monkeypatch):
    monkeypatch.setattr(Answers, "answer", "deep")
    with pytest.raises(InputError, match="is not a JSON object"):
        cvat.title(1)


@pytest.mark.parametrize(
    ("answer", "said"),
    [("cut", "the connection was cut"), ("closed", "the connection was cut"), ("late", "no answer for 0.05 s")],
)
def test_of_a_call_that_was_cut_nobody_knows_what_it_did(cvat, monkeypatch, answer, said):
    monkeypatch.setattr(Answers, "answer", answer)
    monkeypatch.setattr(server, "TIMEOUT_S", 0.05)
    with pytest.raises(BusyError, match=said):
        cvat.insist(lambda _: cvat.title(1))
    assert Answers.asked == TRIES


def test_what_was_tried_is_told_how_often():
    tried = []

    def do(before: int) -> str:
        tried.append(before)
        if before < 2:
            raise BusyError("busy")
        return "done"

    assert Cvat("http://127.0.0.1:1", "a.b", wait=0).insist(do) == "done" and tried == [0, 1, 2]

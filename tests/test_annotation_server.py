"""What a server of an annotation tool may answer, and how a cut connection is told from one that nobody answers."""

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from servers import _serving

from pipeline.annotation import server
from pipeline.annotation.cvat_server import Cvat
from pipeline.annotation.server import TRIES, BusyError
from pipeline.core.errors import InputError


class Answers(BaseHTTPRequestHandler):
    """What each call gets: JSON; "cut" in mid-answer, before it, or nothing at all."""

    answer: Any = None
    asked = 0

    def do_GET(self) -> None:
        type(self).asked += 1
        if self.answer == "late":
            self.rfile.read(1)  # until the other side has had enough
        if self.answer in ("late", "closed"):
            return
        content = json.dumps(self.answer).encode() if self.answer != "deep" else b"[" * 100_000
        self.send_response(200)
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


@pytest.mark.parametrize("after", [5, ["/api/tasks"], "http://[bad"])
def test_a_next_page_that_is_no_address_is_an_error(cvat, monkeypatch, after):
    monkeypatch.setattr(Answers, "answer", {"results": [], "next": after})
    with pytest.raises(InputError, match=r"has the next page .*; expected the address of a CVAT server"):
        cvat.tasks(1)


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

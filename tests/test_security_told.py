"""What goes out with a model and what people open: no place of this machine, no name of its user, no formula."""

import csv
import io
from email import message_from_string
from pathlib import Path

import pytest

from pipeline.annotation.mistakes import Suspect, write_mistakes
from pipeline.core.spec import ModelSpec
from pipeline.core.tables import cell, of_cell, told
from pipeline.datasets.formats.reading import Problem
from pipeline.datasets.ingest.report import ledger_text
from pipeline.export.card.sbom import sbom
from pipeline.inspection.dataset_view import read_ledger
from pipeline.tracking.dvc_state import state_of

HOME = "/home/ann.secret/photos/herd"
FORMULAS = [
    '=HYPERLINK("http://evil.example")',
    "+1+1",
    "-2",
    "@SUM(A1)",
    "'=1",
    " =1+1",
    "\u00a0=1",
    "' =1",
    "\uff1d1+1",
]


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_is_a_formula(text: str, tmp_path: Path) -> None:
    assert cell(text)[0] == "'" and of_cell(cell(text)) == text
    written = ledger_text([Problem(text, text, "bad_line", text)])
    (tmp_path / "ledger.csv").write_text(written)
    [row] = csv.DictReader(io.StringIO(written))
    assert not [value for value in row.values() if value.strip()[0] in "=+-@\uff1d"]
    assert list(read_ledger(tmp_path / "ledger.csv").problems) == [text], "the file is found by its own name"
    write_mistakes(tmp_path / "mistakes.csv", [Suspect("1", None, 0.5, "swapped", text, text)])
    [row] = csv.DictReader((tmp_path / "mistakes.csv").open(newline=""))
    assert row["given"] == row["likelier"] == cell(text)


@pytest.mark.parametrize("text", ["cow", "a = b", "1-2", "", "'cow'"])
def test_another_cell_stays_as_it_is(text: str) -> None:
    assert cell(text) == of_cell(text) == text


def test_params_that_are_tracked_name_no_place_of_this_machine() -> None:
    ingest = {"datasets.herd.ingest": {"path": HOME, "labels": "~/labels", "max_side": 64}}
    train = {"runs.herd.model": {"pretrained": "/home/ann.secret/w.pth"}, "runs.herd.train": {"epochs": 2}}
    outs = [{"path": "data/ingested/herd", "md5": "1.dir"}]
    stages: dict[str, dict[str, object]] = {
        f"{stage}@herd": {} for stage in ("augment", "train", "evaluate", "export", "verify")
    }
    stages["ingest@herd"] = {"params": {"resolved.yaml": ingest}, "outs": outs}
    stages["train@herd"] = {"params": {"resolved.yaml": train}}
    stages["verify@herd"] = {"deps": [{"path": "data/ingested/herd/test", "md5": "2.dir"}]}
    params = state_of(stages, "herd", "herd", Path("dvc.lock")).params
    assert params["dataset.ingest.path"] == "herd" and params["dataset.ingest.labels"] == "labels"
    assert params["model.pretrained"] == "w.pth" and params["train.epochs"] == 2
    assert "ann.secret" not in repr(params)


def test_the_list_of_parts_is_of_a_known_form(tmp_path: Path) -> None:
    spec = ModelSpec(
        *("herd", "herd", "classify", ["cow"], [], [], [], "mobilenetv2_050", {"kind": "pool"}),
        *(96, "letterbox", [0.5] * 3, [0.5] * 3),
    )
    (tmp_path / "model.onnx").write_bytes(b"onnx")
    (tmp_path / ".aside").mkdir()
    (tmp_path / ".aside/calibration.npy").touch()  # gone when the folder is done
    listed = sbom(tmp_path, spec, {"pillow": "12.0.0"})
    assert (listed["bomFormat"], listed["specVersion"]) == ("CycloneDX", "1.6")
    assert [part["name"] for part in listed["components"]] == ["model.onnx", "pillow"]
    assert len(listed["components"][0]["hashes"][0]["content"]) == 64
    assert listed["components"][1]["licenses"] and listed["components"][1]["purl"] == "pkg:pypi/pillow@12.0.0"
    assert sbom(tmp_path, spec, {"pillow": "12.0.0"}) == listed, "the same bytes each time"


def test_libraries_are_named_and_licensed_as_the_standards_have_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stated = {"Vision_Kit": "License-Expression: MIT OR Apache-2.0", "torch": "Classifier: License :: BSD License"}
    monkeypatch.setattr("pipeline.export.card.sbom.metadata", lambda name: message_from_string(stated[name]))
    spec = ModelSpec(*("herd", "herd", "classify", ["cow"], [], [], [], "n", {}), *(96, "letterbox", [0.5], [0.5]))
    torch, kit = sbom(tmp_path, spec, {"torch": "2.9.0+cpu", "Vision_Kit": "1!2.0"})["components"][::-1]
    assert (torch["purl"], torch["licenses"]) == ("pkg:pypi/torch@2.9.0%2Bcpu", [{"license": {"name": "BSD License"}}])
    assert (kit["purl"], kit["licenses"]) == ("pkg:pypi/vision-kit@1%212.0", [{"expression": "MIT OR Apache-2.0"}])
    assert (kit["name"], kit["bom-ref"]) == ("Vision_Kit", kit["purl"])


@pytest.mark.parametrize(
    "place",
    [HOME, "~/herd", f"file://{HOME}", f"zip://a::FILE://{HOME}", "C:\\Users\\ann.secret\\herd", "D:/ann.secret/herd"],
)
def test_of_a_place_the_last_name_is_told(place: str) -> None:
    assert told(place) == "herd"


@pytest.mark.parametrize("place", ["data/herd", "s3://herds/2026", "https://farm.example/herd"])
def test_what_is_no_place_of_this_machine_is_told(place: str) -> None:
    assert told(place) == place

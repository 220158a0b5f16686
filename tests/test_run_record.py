"""The names and figures that a tracker is given."""

from pathlib import Path

import pytest
from finished_project import write_project

from pipeline.core.files import read_json, write_json, write_text
from pipeline.tracking.dvc_state import RunState
from pipeline.tracking.run_record import final_figures, history, legal_name, report_files


@pytest.mark.parametrize(
    ("key", "legal"),
    [
        ("float/per_class/köter & co/f1", "float/per_class/köter _ co/f1"),
        ("a//b", "a/b"),
        ("a/../b", "a/_../b"),
        ("x" * 300, "x" * 250),
    ],
)
def test_legal_names(key: str, legal: str) -> None:
    assert legal_name(key) == legal


def test_what_is_undefined_is_said_but_what_a_file_cannot_have(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_project(tmp_path, {"herd": "detect"})
    report = tmp_path / "reports/verify/herd/verify.json"
    verdict = read_json(report)
    verdict["targets"]["onnx_int8"] |= {"delegated_operators": None, "agreement": None}
    for file in (report, report.with_name("verdict.json")):
        write_json(file, verdict)
    names = {name for name, _, _ in final_figures(tmp_path, "herd")}
    assert not names & {"onnx_int8/delegated_operators", "onnx_int8/agreement"}
    assert "onnx_int8/agreement" in caplog.text
    assert "delegated_operators" not in caplog.text


def test_a_history_that_is_no_table_of_numbers_is_named(tmp_path: Path) -> None:
    file = tmp_path / "history.csv"
    with pytest.raises(ValueError, match=r"history\.csv: no such file; `dvc repro` makes it"):
        history(file)
    file.write_text("epoch,train_loss\n0,low\n")
    with pytest.raises(ValueError, match=r"history\.csv: expected a number in each cell: .*low"):
        history(file)


def test_the_page_of_the_run_is_among_the_artifacts(tmp_path: Path) -> None:
    write_project(tmp_path, {"herd": "detect"})
    page = tmp_path / "reports/evaluate/herd/report.html"
    write_text(page, "<!DOCTYPE html>")
    found = dict(report_files(tmp_path / "reports", RunState("herd", "herd", "", "", "", {})))
    assert found[page] == "reports/evaluate"

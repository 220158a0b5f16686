"""Tables in the docs are what the code says."""

from pathlib import Path

import pytest

from pipeline.config.doc_tables import TABLES, filled, table, write_tables
from pipeline.core.errors import InputError

ROOT = Path(__file__).parents[1]
BEGIN, END = "<!-- heads: begin -->\n", "<!-- heads: end -->"
HEADS = {"heads": lambda: table(["head"], [["pool"]])}
TABLE = "| head |\n|---|\n| pool |"


@pytest.mark.parametrize("file", TABLES)
def test_no_table_is_stale(file: str) -> None:
    text = (ROOT / file).read_text(encoding="utf-8")
    assert filled(text, TABLES[file], file) == text, f"{file} is stale: run make docs"


@pytest.mark.parametrize("before", ["", "\n| head |\n|---|\n| old |\n\n", "no table at all\n"])
def test_a_table_replaces_what_stood_in_its_place(before: str) -> None:
    text = f"# Heads\n{BEGIN}{before}{END}\n\nThe end, `{{}}` \\1.\n"
    new = filled(text, HEADS, "docs/x.md")
    assert new == f"# Heads\n{BEGIN}\n{TABLE}\n\n{END}\n\nThe end, `{{}}` \\1.\n"
    assert filled(new, HEADS, "docs/x.md") == new


@pytest.mark.parametrize("text", ["", BEGIN, END, END + "\n" + BEGIN, 2 * (BEGIN + END + "\n")])
def test_a_table_without_one_place_is_named(text: str) -> None:
    with pytest.raises(InputError, match=r"docs/x\.md: no place for the table heads; expected one line <!-- heads: be"):
        filled(text, HEADS, "docs/x.md")


def test_only_stale_files_are_written(tmp_path: Path) -> None:
    for file in TABLES:
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes((ROOT / file).read_bytes())
    assert write_tables(tmp_path) == []
    stale = tmp_path / "docs/datasets.md"
    stale.write_text(stale.read_text(encoding="utf-8").replace("| `voc` |", "| `foc` |"), encoding="utf-8")
    assert write_tables(tmp_path) == ["docs/datasets.md"]
    assert stale.read_bytes() == (ROOT / "docs/datasets.md").read_bytes()

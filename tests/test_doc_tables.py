"""Tables in the docs are what the code says."""

from pathlib import Path

import pytest
from test_house import ORDER

from pipeline.config.doc_knobs import run_knobs_table
from pipeline.config.doc_tables import PACKAGES, TABLES, filled, packages_tree, stages_table, write_tables
from pipeline.core.errors import InputError
from pipeline.core.markdown import table

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


def test_a_knob_of_some_tasks_has_a_row_with_their_defaults() -> None:
    rows = run_knobs_table().splitlines()
    epochs = "| `train.epochs` | classify `15`, localize `40`, detect `60` | "
    assert [row.startswith(epochs) for row in rows if "`train.epochs`" in row] == [True]
    assert [row for row in rows if row.startswith("| `train.online.mosaic` | detect `0.5` | ")]
    assert [row for row in rows if row.startswith('| `export.quantize.mode` | `"ptq"` | ')]
    assert [row for row in rows if row.startswith("| `export.quantize.epochs`, with `mode: qat` | `2` | ")]


def test_every_package_is_in_the_tree_once() -> None:
    packages = [file.parent.name for file in (ROOT / "pipeline").glob("**/__init__.py")]
    names = [line.split()[0] for line in packages_tree().splitlines()[1:-1]]
    assert sorted(names) == sorted(f"{name}/" for name in packages)


def test_the_tree_is_in_the_order_of_the_imports() -> None:
    assert [name for name in ORDER if name not in ("cli", "stages")] == list(PACKAGES)


def test_every_stage_is_in_the_table_with_its_blocks() -> None:
    assert "| `train` | run | augmented train and ingested val splits → " in stages_table()
    assert "| `dataset`, `task`, `model`, `train` |" in stages_table()

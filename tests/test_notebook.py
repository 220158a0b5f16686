"""The notebook, executed on a project whose chain has run."""

import ast
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    cells: list[dict[str, Any]] = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return cells


def code(notebook: Path) -> ast.Module:
    sources = ("".join(cell["source"]) for cell in cells_of(notebook) if cell["cell_type"] == "code")
    return ast.parse("\n".join(sources))


def imports(notebook: Path) -> set[str]:
    found = set()
    for node in ast.walk(code(notebook)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add(node.module or "")
    return {name.split(".")[0] for name in found}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_imports_only_the_library_and_pythons_own(notebook: Path) -> None:
    assert imports(notebook) <= {"pipeline", *sys.stdlib_module_names}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_it_imports_is_there(notebook: Path) -> None:
    tree = ast.walk(code(notebook))
    names = [(n.module or "", a.name) for n in tree if isinstance(n, ast.ImportFrom) for a in n.names]
    assert [(module, name) for module, name in names if not hasattr(importlib.import_module(module), name)] == []


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_is_kept_without_outputs(notebook: Path) -> None:
    for cell in cells_of(notebook):
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None

"""The examples in docstrings run, and say what the code says."""

import ast
import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
# of these packages functions are called from all others, and from notebooks
PACKAGES = ("core", "ops", "metrics")
FILES = sorted(file for package in PACKAGES for file in (ROOT / "pipeline" / package).glob("*.py"))


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("name", [module_of(file) for file in FILES if ">>>" in file.read_text(encoding="utf-8")])
def test_the_examples_of_a_module(name: str) -> None:
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted
    assert not result.failed


def called_elsewhere() -> list[str]:
    """The functions of `pipeline.metrics` that other packages import by name, or call on the module."""
    functions = {
        f"{module_of(file)}.{node.name}": node
        for file in (ROOT / "pipeline/metrics").glob("*.py")
        for node in ast.parse(file.read_text(encoding="utf-8")).body
        if isinstance(node, ast.FunctionDef)
    }
    used = set[str]()
    for file in ROOT.glob("pipeline/**/*.py"):
        if file.parent.name == "metrics":
            continue
        tree = ast.parse(file.read_text(encoding="utf-8"))
        modules: dict[str, str] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and str(node.module).startswith("pipeline.metrics"):
                used.update(f"{node.module}.{alias.name}" for alias in node.names)
                modules |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
                used.add(f"{modules[node.value.id]}.{node.attr}")
    return sorted(used & functions.keys())


@pytest.mark.parametrize("name", called_elsewhere())
def test_a_metric_that_others_call_has_an_example(name: str) -> None:
    module, _, function = name.rpartition(".")
    assert ">>>" in str(getattr(importlib.import_module(module), function).__doc__)

"""The examples in docstrings: each is run, and what other packages call has one."""

import ast
import doctest
import importlib
import inspect
import io
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from pipeline.datasets.formats import FORMATS

ROOT = Path(__file__).parents[1]
FILES = sorted(ROOT.glob("pipeline/**/*.py"))

# packages whose public functions must have an example: those that a notebook would call too
HELD = ("core", "ops", "metrics", "datasets", "inference")

# functions that people call and no other package does: the table has them, or only ingest puts them together
ALSO = {
    *(f"pipeline.datasets.formats.{name}.read" for name in FORMATS),
    "pipeline.datasets.ingest.splits.assign",
    "pipeline.datasets.ingest.splits.leak_report",
    "pipeline.datasets.ingest.similar.near_duplicates",
}
# functions that no example can run: name -> why
WITHOUT = {
    "pipeline.datasets.video.camera": "it needs a camera",
    "pipeline.inference.sliding.slide_run": "it needs a trained classifier, its crops and a dataset with boxes",
}


def module_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(file: Path) -> Iterator[str]:
    """Dotted names of what the file imports from pipeline, and of what it takes from a module that it imports."""
    nodes = list(ast.walk(ast.parse(file.read_text(encoding="utf-8"))))
    names: dict[str, str] = {}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "pipeline":
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    yield from names.values()
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in names:
            yield f"{names[node.value.id]}.{node.attr}"


@cache
def called_from_elsewhere() -> set[str]:
    """Functions of the packages in HELD that a module in another folder imports."""
    modules = {module_of(file): file for file in FILES}
    found = set()
    for file in FILES:
        for name in imported(file):
            home = modules.get(name.rpartition(".")[0])
            if home and home.relative_to(ROOT).parts[1] in HELD and home.parent != file.parent and is_function(name):
                found.add(name)
    return found


def is_function(name: str) -> bool:
    return inspect.isfunction(value_of(name)) and not name.rpartition(".")[2].startswith("_")


def value_of(name: str) -> Any:
    module, _, function = name.rpartition(".")
    return getattr(importlib.import_module(module), function, None)


def examples(value: Callable[..., Any]) -> list[doctest.Example]:
    return doctest.DocTestParser().get_examples(inspect.getdoc(value) or "")


@pytest.mark.parametrize("module", [module_of(f) for f in FILES if re.search(r"^ *>>> ", f.read_text(), re.MULTILINE)])
def test_the_examples_of_a_module_hold(module: str) -> None:
    runner, said = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS), io.StringIO()
    for test in doctest.DocTestFinder().find(importlib.import_module(module)):
        runner.run(test, out=said.write)
    assert runner.summarize(verbose=False).failed == 0, said.getvalue()
    assert runner.tries > 0


@pytest.mark.parametrize("name", sorted((called_from_elsewhere() | ALSO) - WITHOUT.keys()))
def test_what_others_call_has_an_example(name: str) -> None:
    assert is_function(name), f"{name}: no such function"
    assert examples(value_of(name)), f"{name}: other packages call it, and its docstring has no example (>>> ...)"


@pytest.mark.parametrize("name", WITHOUT)
def test_what_has_no_example_is_still_called(name: str) -> None:
    assert name in called_from_elsewhere()
    assert not examples(value_of(name)), f"{name} has an example now"

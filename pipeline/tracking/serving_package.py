"""`pocketlens_serving`: the code that a registered model carries, made of this project's own modules as it is saved.

A model is loaded in somebody else's process, which may have a package `pipeline` of its own, so ours travels under a
name that nobody else has. It is not a second copy to keep in step: what `pipeline.inference.serving` needs is found by
its imports, and written with the name of the package replaced, nothing else.

What is needed: what a module imports when it is imported itself, and the runtimes, which tables name by their place
("pipeline.runtimes.on_onnx:OnnxRuntime") to import them later. Imports inside functions are not followed: those of
our own modules are what serving does without, the trained net and so torch.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

NAME = "pocketlens_serving"
SOURCE = Path(__file__).parents[1]  # the folder of `pipeline`
ENTRY = "inference.serving"
LOADER = f"{NAME}.{ENTRY}"  # the module that MLflow loads
RUNTIME_PLACE = re.compile(r"pipeline\.(runtimes(?:\.\w+)+):\w+")
OWN_NAME = re.compile(r"\bpipeline(?=\.\w| import\b)")  # in imports and places


def write_package(folder: Path, source: Path = SOURCE, entry: str = ENTRY) -> Path:
    """Write the package into `folder`, with all that module `entry` of `source` needs; returns its own folder."""
    for file in closure(source, entry):
        target = folder / NAME / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(OWN_NAME.sub(NAME, file.read_text(encoding="utf-8")), encoding="utf-8")
    return folder / NAME


def closure(source: Path, entry: str) -> list[Path]:
    """The files of the package in folder `source` that its module `entry` needs, its own among them."""
    found: set[Path] = set()
    waiting = [entry]
    while waiting:
        parts = waiting.pop().split(".")
        for i in range(len(parts) + 1):  # a module's packages are imported before it
            file = _module(source, parts[:i])
            if file is not None and file not in found:
                found.add(file)
                waiting += _needed(ast.parse(file.read_text(encoding="utf-8")))
    return sorted(found)


def _module(source: Path, parts: list[str]) -> Path | None:
    """The file of a module; None if there is none, as for a name that is imported from a module."""
    path = source.joinpath(*parts)
    return next((file for file in (path / "__init__.py", path.with_name(f"{path.name}.py")) if file.is_file()), None)


def _needed(tree: ast.Module) -> Iterator[str]:
    """Modules of the package, without its name, that a module needs; names imported from modules are among them."""
    for node in _when_imported(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.split(".")[0] == "pipeline")
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            place = RUNTIME_PLACE.fullmatch(node.value)
            if place:
                yield place[1]


def _when_imported(node: ast.AST) -> Iterator[ast.AST]:
    """All below `node` that runs when the module is imported: not what functions and `if TYPE_CHECKING` hold."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(child, ast.If) and isinstance(child.test, ast.Name) and child.test.id == "TYPE_CHECKING":
            continue
        yield child
        yield from _when_imported(child)

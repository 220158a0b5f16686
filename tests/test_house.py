"""The layout of the code: what may import what, who owns which library, and how long files and functions get."""

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from pipeline.core.telemetry import OFF
from pipeline.datasets.formats import FORMATS

ROOT = Path(__file__).parents[1]
# from the bottom up: a package imports itself and those before it
ORDER = (
    *("core", "ops", "metrics", "models", "viz", "datasets", "augment", "training", "runtimes", "graph"),
    *(
        "evaluation",
        "inspection",
        "export",
        "verification",
        "report",
        "inference",
        "tracking",
        "experiments",
        "annotation",
    ),
    *("config", "commands", "cli", "stages"),
)
CORE_ONLY = ("ops", "metrics")
# what a change of must not rerun the stage, which DVC decides by the files that the stage imports
NOT_IN_CLOSURE = {
    "stages.train": ("viz", "graph", "runtimes", "export", "verification", "evaluation", "inspection", "tracking"),
    "stages.export": ("verification",),
}
# exporters write the files of a library, verification reads them, runtimes run them
OWNERS = {
    "fiftyone": ("inspection",),
    "mlflow": ("tracking",),
    "imgaug": ("augment",),
    "lightning_fabric": ("training",),
    "onnx": ("export", "verification"),
    "executorch": ("export", "runtimes", "verification"),
    "distributed": ("core",),
    "fsspec": ("datasets",),
}
TABLES = ("pipeline.augment.policies", "pipeline.datasets.formats", "pipeline.export.targets")
# what no module names, though it is used: name -> how
FOUND_OTHERWISE = {
    f"pipeline.datasets.formats.{name}.FORMAT": "the table of formats looks for it in each module" for name in FORMATS
}
FIRST = "pipeline", "pipeline.core.telemetry"  # which imports nothing of ours, and is to be there before all else
FILE_LINES, FUNCTION_LINES = 300, 50


class Import(NamedTuple):
    """One import statement's module, as far as it is a module of `root`; `typing`: only type checkers see it."""

    importer: str
    imported: str
    typing: bool


class House:
    """The modules of `root`/pipeline and `root`/stages by dotted name, and what they import."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = [*root.glob("pipeline/**/*.py"), *root.glob("stages/*.py")]
        self.files = {_module(file.relative_to(root)): file for file in sorted(files)}
        self.trees = {name: ast.parse(file.read_text(encoding="utf-8")) for name, file in self.files.items()}
        self.imports = [found for name in self.trees for found in self._imports_of(name)]

    def _imports_of(self, name: str) -> list[Import]:
        tree = self.trees[name]
        guarded = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.If) and ast.unparse(node.test).removeprefix("typing.") == "TYPE_CHECKING"
            for statement in node.body
            for inner in ast.walk(statement)
        }
        found = []
        for node in ast.walk(tree):
            modules: list[str] = []
            if isinstance(node, ast.Import):
                modules = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0 and node.module, f"{self.place(name)}: relative import"
                inner = [f"{node.module}.{alias.name}" for alias in node.names]
                modules = [module if module in self.files else node.module for module in inner]
            found += [Import(name, module, id(node) in guarded) for module in dict.fromkeys(modules)]
        return found

    def place(self, module: str) -> str:
        return self.files[module].relative_to(self.root).as_posix()

    def upward(self) -> list[str]:
        """Imports of what is above the importer, those for type checkers included."""
        own = [i for i in self.imports if i.imported in self.files]
        return sorted(
            f"{self.place(i.importer)}: imports {i.imported}, which is above it"
            for i in own
            if _floor(i.imported) > _floor(i.importer) and (i.importer, i.imported) != FIRST
        )

    def beside_core(self) -> list[str]:
        return sorted(
            f"{self.place(i.importer)}: imports {i.imported}; {_package(i.importer)} imports core only"
            for i in self.imports
            if _package(i.importer) in CORE_ONLY
            and i.imported in self.files
            and _package(i.imported) not in ("core", _package(i.importer))
        )

    def closure(self, module: str) -> dict[str, str]:
        """Every module that importing `module` and calling its functions may load -> the module that imports it."""
        found, queue = {module: ""}, [module]
        while queue:
            importer = queue.pop()
            direct = [i.imported for i in self.imports if i.importer == importer and not i.typing]
            parents = [
                ".".join(name.split(".")[:n]) for name in (*direct, importer) for n in range(1, name.count(".") + 1)
            ]
            for name in (*direct, *parents):
                if name in self.files and name not in found:
                    found[name] = importer
                    queue.append(name)
        return found

    def in_closure(self, stage: str, banned: tuple[str, ...]) -> list[str]:
        return sorted(
            f"{self.place(importer)}: imports {name}, which must not be in the closure of {stage}"
            for name, importer in self.closure(stage).items()
            if _package(name) in banned
            and _package(importer) not in banned
            and Import(importer, name, False) in self.imports  # a package comes with any of its modules
        )

    def circles(self) -> list[str]:
        """Each set of modules that import each other; packages' `__init__` count where they are imported by name."""
        to: dict[str, set[str]] = {name: set() for name in self.files}
        for i in self.imports:
            if i.imported in self.files and not i.typing:
                to[i.importer].add(i.imported)
        reach = {name: _reachable(to, name) for name in to}
        rings = {frozenset(b for b in reach[a] if a in reach[b]) for a in to if a in reach[a]}
        return sorted(f"{self.place(min(ring))}: in a circle of imports: {', '.join(sorted(ring))}" for ring in rings)

    def not_owned(self) -> list[str]:
        found = []
        for i in self.imports:
            owners = OWNERS.get(i.imported.split(".")[0])
            if owners and _package(i.importer) not in owners:
                found.append(f"{self.place(i.importer)}: imports {i.imported}, which belongs to {', '.join(owners)}")
        return sorted(found)

    def more_than_a_docstring(self) -> list[str]:
        return sorted(
            f"{self.place(name)}: has code; the __init__ of a package that is no table holds a docstring only"
            for name, file in self.files.items()
            if file.name == "__init__.py" and name.count(".") and name not in TABLES
            if len(self.trees[name].body) > 1 or not ast.get_docstring(self.trees[name])
        )

    def too_long(self) -> list[str]:
        found = []
        for name, tree in self.trees.items():
            place, lines = self.place(name), len(self.files[name].read_text(encoding="utf-8").splitlines())
            if lines > FILE_LINES:
                found.append(f"{place}: more than {FILE_LINES} lines")
            for node in ast.walk(tree):
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    lines = (node.end_lineno or node.lineno) - node.lineno + 1
                    if lines > FUNCTION_LINES:
                        found.append(f"{place}: {node.name} has more than {FUNCTION_LINES} lines")
        return sorted(found)


def without_use(root: Path) -> list[str]:
    """Public functions, classes and constants at the top of pipeline's modules that only tests use, or nobody.

    A use is a name in its own module beside its definition, an import or attribute of the module anywhere in pipeline,
    stages, benchmarks and the notebooks' code, or a place in a table ("package.module:name").
    """
    files = {_module(file.relative_to(root)): file for file in root.glob("pipeline/**/*.py")}
    others = [*root.glob("stages/*.py"), *root.glob("benchmarks/*.py")]
    own = {module: ast.parse(file.read_text(encoding="utf-8")) for module, file in files.items()}
    trees = [*own.values(), *(ast.parse(file.read_text(encoding="utf-8")) for file in others)]
    for notebook in root.glob("notebooks/*.ipynb"):
        cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
        trees += [ast.parse("".join(cell["source"])) for cell in cells if cell["cell_type"] == "code"]
    used = set().union(*map(_used_elsewhere, trees))
    found = []
    for module, tree in own.items():
        loaded = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
        for name in _defined(tree):
            if not name.startswith("_") and name not in loaded and f"{module}.{name}" not in used:
                found.append(f"{module}.{name}")
    return sorted(found)


def _defined(tree: ast.Module) -> Iterator[str]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign):
            yield from (n.id for t in node.targets for n in ast.walk(t) if isinstance(n, ast.Name))
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            yield node.target.id


def _dotted(node: ast.expr) -> str:
    """The node as text if it is a name or names with dots between, else ""."""
    if isinstance(node, ast.Name):
        return node.id
    inner = _dotted(node.value) if isinstance(node, ast.Attribute) else ""
    return f"{inner}.{node.attr}" if isinstance(node, ast.Attribute) and inner else ""


def _used_elsewhere(tree: ast.Module) -> set[str]:
    """Dotted names that a module imports, takes from what it imports, or has as places."""
    names = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    found = set(names.values())
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            value = _dotted(node.value)
            found.add(f"{names.get(value, value)}.{node.attr}")
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value.replace(":", "."))
    return found


def _module(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def _package(module: str) -> str:
    """core for pipeline.core.files, stages for stages.train; pipeline for the top itself."""
    first, _, rest = module.partition(".")
    return rest.split(".")[0] if first == "pipeline" and rest else first


def _floor(module: str) -> int:
    package = _package(module)
    return -1 if package == "pipeline" else ORDER.index(package)


def _reachable(to: dict[str, set[str]], start: str) -> set[str]:
    found, queue = set[str](), list(to[start])
    while queue:
        name = queue.pop()
        if name not in found:
            found.add(name)
            queue += to[name]
    return found


@pytest.fixture(scope="module")
def house() -> House:
    return House(ROOT)


def test_every_package_has_its_place_in_the_order(house: House) -> None:
    assert {_package(name) for name in house.files} - {"pipeline"} <= set(ORDER)


def test_nothing_imports_what_is_above_it(house: House) -> None:
    assert house.upward() == []


def test_there_is_no_circle_of_imports(house: House) -> None:
    assert house.circles() == []


def test_metrics_and_ops_import_core_only(house: House) -> None:
    assert house.beside_core() == []


@pytest.mark.parametrize("stage", NOT_IN_CLOSURE)
def test_a_stage_does_not_load_what_must_not_rerun_it(house: House, stage: str) -> None:
    assert house.in_closure(stage, NOT_IN_CLOSURE[stage]) == []


def test_a_library_is_imported_by_its_owners_only(house: House) -> None:
    assert house.not_owned() == []


def test_the_init_of_a_package_is_a_docstring_or_its_table(house: House) -> None:
    assert house.more_than_a_docstring() == []


def test_what_tells_its_makers_is_told_not_to(tmp_path: Path) -> None:
    """As the libraries themselves understand it, in a process that imports one of our modules before them."""
    asked = """
import os, pipeline.core.files
from dvc.analytics import is_enabled
from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY
from mlflow.environment_variables import MLFLOW_DISABLE_TELEMETRY
print(HF_HUB_DISABLE_TELEMETRY, MLFLOW_DISABLE_TELEMETRY.get(), is_enabled(), os.environ["ORT_DISABLE_TELEMETRY"])
"""
    environment = {name: value for name, value in os.environ.items() if name not in (*OFF, "DVC_TEST")}
    done = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path, env=environment | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == ["True", "True", "False", "1"]


def test_files_and_functions_are_short(house: House) -> None:
    assert house.too_long() == []


def test_nothing_public_is_there_for_tests_alone() -> None:
    assert without_use(ROOT) == sorted(FOUND_OTHERWISE)


def made(root: Path, files: dict[str, str]) -> House:
    """A tree of `files`: "ops/boxes" is pipeline/ops/boxes.py, with its source."""
    for name, source in files.items():
        file = root / "pipeline" / f"{name}.py"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(source)
    return House(root)


def test_an_import_from_below_is_found_wherever_it_stands(tmp_path: Path) -> None:
    made(tmp_path, {"viz/plots": "", "export/card": "", "core/files": ""})
    late = "def f() -> None:\n    from pipeline.viz import plots\n"
    typed = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pipeline.export.card\n"
    house = made(
        tmp_path, {"ops/boxes": late, "metrics/score": typed, "models/nets": "from pipeline.core.files import x"}
    )
    assert house.upward() == [
        "pipeline/metrics/score.py: imports pipeline.export.card, which is above it",
        "pipeline/ops/boxes.py: imports pipeline.viz.plots, which is above it",
    ]


def test_a_circle_is_found(tmp_path: Path) -> None:
    house = made(
        tmp_path,
        {
            "core/a": "from pipeline.core.b import x",
            "core/b": "def f() -> None:\n    import pipeline.core.c\n",
            "core/c": "from pipeline.core import a",
            "core/d": "from pipeline.core import a",
        },
    )
    assert house.circles() == [
        "pipeline/core/a.py: in a circle of imports: pipeline.core.a, pipeline.core.b, pipeline.core.c"
    ]


def test_a_banned_module_is_found_behind_others(tmp_path: Path) -> None:
    house = made(
        tmp_path,
        {
            "training/train": "from pipeline.models.nets import build",
            "models/nets": "from pipeline.viz.plots import plot",
            "viz/plots": "import pipeline.viz.sheets",
            "viz/sheets": "",
        },
    )
    assert house.in_closure("pipeline.training.train", ("viz",)) == [
        "pipeline/models/nets.py: imports pipeline.viz.plots, which must not be in the closure of "
        "pipeline.training.train"
    ]


def test_metrics_that_import_ops_are_found(tmp_path: Path) -> None:
    house = made(
        tmp_path, {"metrics/score": "import pipeline.ops.boxes\nimport pipeline.core.a", "ops/boxes": "", "core/a": ""}
    )
    assert house.beside_core() == ["pipeline/metrics/score.py: imports pipeline.ops.boxes; metrics imports core only"]


def test_a_library_out_of_place_is_found(tmp_path: Path) -> None:
    house = made(
        tmp_path, {"evaluation/evaluate": "def f() -> None:\n    import fiftyone.core.odm\n", "viz/a": "import onnx_ir"}
    )
    assert house.not_owned() == [
        "pipeline/evaluation/evaluate.py: imports fiftyone.core.odm, which belongs to inspection"
    ]


def test_code_in_an_init_is_found(tmp_path: Path) -> None:
    house = made(
        tmp_path, {"core/__init__": '"""Errors."""\nX = 1', "ops/__init__": '"""Boxes."""', "viz/__init__": ""}
    )
    assert [v.split(":")[0] for v in house.more_than_a_docstring()] == [
        "pipeline/core/__init__.py",
        "pipeline/viz/__init__.py",
    ]


def test_what_is_too_long_is_found(tmp_path: Path) -> None:
    house = made(tmp_path, {"core/a": "x = 1\n" * 301, "core/b": "def f() -> None:\n" + "    print()\n" * 50})
    assert house.too_long() == [
        "pipeline/core/a.py: more than 300 lines",
        "pipeline/core/b.py: f has more than 50 lines",
    ]


def test_what_only_tests_use_is_found(tmp_path: Path) -> None:
    made(
        tmp_path,
        {
            "core/a": "LIMIT = 3\nUNUSED = 4\ndef f(): return LIMIT\ndef g(): pass\ndef h(): pass\ndef _i(): pass\n",
            "ops/b": "from pipeline.core import a\na.f()\n",
            "ops/c": "ROWS = {'g': 'pipeline.core.a:g'}\nprint(ROWS)\n",
        },
    )
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("from pipeline.core.a import UNUSED, h\n")
    assert without_use(tmp_path) == ["pipeline.core.a.UNUSED", "pipeline.core.a.h"]

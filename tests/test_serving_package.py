"""What a registered model carries: serving and all that it needs, under another name, and nothing else."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.tracking.serving_package import LOADER, NAME, SOURCE, closure, write_package

FILES = {
    "__init__.py": "",
    "entry.py": "import json\nimport pipeline.alone\nfrom pipeline import named\nfrom pipeline.deep import inner\n",
    "alone.py": "",
    "named.py": "TABLE = {'a': 'pipeline.runtimes.on_a:Runtime', 'b': 'pipeline.heavy:export'}\n",
    "deep/__init__.py": "from pipeline.deep.first import first\n",
    "deep/first.py": "first = 1\n",
    "deep/inner.py": (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import pipeline.heavy\n"
        "class Thing:\n    def later(self):\n        import pipeline.heavy\n"
        "try:\n    from pipeline import optional\nexcept ImportError:\n    pass\n"
        "thing = Thing()\n"
    ),
    "optional.py": "",
    "runtimes/__init__.py": "",
    "runtimes/on_a.py": "from pipeline.runtimes.shared import Runtime\n",
    "runtimes/shared.py": "class Runtime: pass\n",
    "runtimes/on_b.py": "",
    "heavy.py": "import torch\n",
    "idle.py": "",
}
LEFT = {"heavy.py", "idle.py", "runtimes/on_b.py"}


@pytest.fixture
def package(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        file = tmp_path / "pipeline" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path / "pipeline"


def test_the_closure_follows_imports_and_runtimes_but_no_function(package: Path) -> None:
    found = {f.relative_to(package).as_posix() for f in closure(package, "entry")}
    assert found == set(FILES) - LEFT


def test_the_package_is_the_same_code_under_its_own_name(package: Path, tmp_path: Path) -> None:
    written = write_package(tmp_path / "new", package, "entry")
    assert {f.relative_to(written).as_posix() for f in written.rglob("*.py")} == set(FILES) - LEFT
    code = f"import {NAME}.entry as e, {NAME}.runtimes.on_a, sys; print(e.named.TABLE['a'], 'pipeline' in sys.modules)"
    said = subprocess.check_output([sys.executable, "-I", "-c", _with(tmp_path / "new", code)], text=True)
    assert said.split() == [f"{NAME}.runtimes.on_a:Runtime", "False"]


def _with(folder: Path, code: str) -> str:
    return f"import sys; sys.path.insert(0, {str(folder)!r}); {code}"


def test_ours_loads_without_torch_and_without_pipeline(tmp_path: Path) -> None:
    write_package(tmp_path)
    code = f"import {LOADER}; print(sorted({{m.split('.')[0] for m in sys.modules}}))"
    said = subprocess.check_output([sys.executable, "-I", "-c", _with(tmp_path, code)], text=True)
    loaded = set(ast.literal_eval(said))
    assert NAME in loaded
    assert not loaded & {"pipeline", "torch", "onnx", "onnxruntime", "executorch", "mlflow", "cv2", "fiftyone"}


def test_ours_imports_nothing_of_pipeline_even_later(tmp_path: Path) -> None:
    for file in write_package(tmp_path).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            assert not [name for name in names if name.split(".")[0] == "pipeline"], file


def test_ours_is_what_serving_needs() -> None:
    found = {f.relative_to(SOURCE).parts[0] for f in closure(SOURCE, "inference.serving")}
    assert found == {"__init__.py", "core", "ops", "runtimes", "inference"}

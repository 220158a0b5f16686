"""dvc.yaml against the code: a stage depends on everything that its script imports, and reads every knob."""

import ast
import re
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from pipeline.tracking.dvc_state import TIMED, timed

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def body(stage: str) -> dict[str, Any]:
    return STAGES[stage].get("do", STAGES[stage])


def file_of(module: str) -> str | None:
    path = ROOT.joinpath(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate.relative_to(ROOT).as_posix()
    return None


def imports(path: str) -> set[str]:
    """Project modules that a file imports anywhere, but for those that only type checkers see."""
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            node.body = [ast.Pass()]
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    packages = {".".join(name.split(".")[:i]) for name in found for i in range(1, name.count(".") + 2)}
    return {name for name in packages if name.split(".")[0] in ("pipeline", "stages")}


def closure(stage: str) -> set[str]:
    files, queue = set[str](), [f"stages/{stage}.py"]
    while queue:
        path = queue.pop()
        if path not in files:
            files.add(path)
            queue += [file for module in imports(path) if (file := file_of(module))]
    return files


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_closure_of_the_imports(stage: str) -> None:
    deps = [d for d in body(stage)["deps"] if d.split("/")[0] in ("pipeline", "stages")]
    wanted = closure(stage)
    missing = sorted(f for f in wanted if not any(f == d or f.startswith(f"{d}/") for d in deps))
    assert not missing, f"{stage}: add to deps: {missing}"
    needless = sorted(d for d in deps if not any(f == d or f.startswith(f"{d}/") for f in wanted))
    assert not needless, f"{stage}: no import leads to {needless}"


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_runs_the_script_of_that_name(stage: str) -> None:
    assert body(stage)["cmd"].split()[:3] == ["python", "-m", f"stages.{stage}"]


def test_no_stage_depends_on_what_a_clock_measures() -> None:
    """Seconds and latencies differ each time: what depended on them would never be up to date."""
    measured = {any_name(out) for stage in STAGES for out in outs_of(stage) if timed(out)}
    assert {out.rpartition("/")[2] for out in measured} == set(TIMED)
    for stage in STAGES:
        deps = {any_name(d) for d in body(stage)["deps"]}
        read = sorted(d for d in deps for out in measured if out == d or out.startswith(f"{d}/"))
        assert not read, f"{stage} depends on {read}"


@pytest.mark.parametrize(
    ("package", "stages"),
    [
        ("viz", {"ingest", "augment", "evaluate", "verify"}),  # a plot's colour is no input of training and export
        ("inspection", {"inspect"}),  # no figure waits for a database
    ],
)
def test_views_are_no_input_of_what_does_not_show_them(package: str, stages: set[str]) -> None:
    assert {s for s in STAGES if any(f.startswith(f"pipeline/{package}/") for f in closure(s))} == stages


def any_name(path: str) -> str:
    return re.sub(r"\$\{.*?\}", "*", path)


def outs_of(stage: str) -> list[str]:
    listed = [out for kind in ("outs", "metrics", "plots") for out in body(stage).get(kind, [])]
    return [next(iter(out)) if isinstance(out, dict) else out for out in listed]


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [path]


def test_every_knob_reruns_some_stage() -> None:
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    watched = {
        path.replace("${key}", name)
        for stage in STAGES
        for path in body(stage).get("params", [])
        for name in (*params["datasets"], *params["runs"])
    }
    unwatched = [
        ".".join(leaf)
        for leaf in leaves(params)
        if leaf[0] != "compare"  # no stage's: `pocketlens compare` sets these knobs in experiments
        and not any(".".join(leaf[:i]) in watched for i in range(1, len(leaf) + 1))
    ]
    assert not unwatched, f"no stage's params has {unwatched}"


def test_every_knob_is_read() -> None:
    read: set[str] = set()
    for path in [*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("stages/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute):
                read.add(node.attr)
            elif isinstance(node, ast.arg):  # a head's knobs are its constructor's arguments
                read.add(node.arg)
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                read.add(str(node.slice.value))
    fields = [
        statement.target.id
        for path in ROOT.glob("pipeline/**/params.py")
        for node in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(node, ast.ClassDef)
        for statement in node.body
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
    ]
    assert len(fields) > 40
    assert [f for f in fields if f not in read] == []


@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_script_is_short(stage: str) -> None:
    assert len((ROOT / f"stages/{stage}.py").read_text(encoding="utf-8").splitlines()) <= 40

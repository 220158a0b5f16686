"""dvc.yaml against the code: a stage depends on the packages that its script imports, and on no others."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from ruamel.yaml import YAML

from pipeline.augment.params import AugmentParams
from pipeline.augment.steps import STEPS
from pipeline.commands.common import MADE
from pipeline.datasets.params import DatasetParams, SplitParams
from pipeline.evaluation.params import DetectPredict, LocalizePredict
from pipeline.export.params import ExportParams, Ptq, Qat
from pipeline.models.heads import (
    AnchorFreeHead,
    FlattenHead,
    LocalizeHead,
    PoolHead,
    SsdliteHead,
    Yolov1Head,
    Yolov3Head,
)
from pipeline.tracking import serving_package
from pipeline.tracking.dvc_state import TIMED, timed
from pipeline.tracking.params import TrackParams
from pipeline.training.params import (
    ClassifyModel,
    ClassifyTrain,
    DetectModel,
    DetectOnline,
    DetectTrain,
    LocalizeModel,
    LocalizeTrain,
)
from pipeline.verification.params import VerifyParams

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


@cache
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
        elif isinstance(node, ast.Constant) and re.fullmatch(r"pipeline(\.\w+)+:\w+", str(node.value)):
            place = str(node.value).partition(":")[0]
            # imported when it is used; what lies above the table is used by those only who import it themselves
            found |= {place} if place.split(".")[1] == path.split("/")[1] else set()
    packages = {".".join(name.split(".")[:i]) for name in found for i in range(1, name.count(".") + 2)}
    return {name for name in packages if name.split(".")[0] in ("pipeline", "stages")}


@cache
def is_code(path: str) -> bool:
    """Not a package's __init__ that says in a docstring what is in it, and nothing else; nor that of all, which turns
    off what libraries tell, by `core`.
    """
    if path == "pipeline/__init__.py":
        own = "pipeline.core.telemetry"
        return imports(path) != {"pipeline", "pipeline.core", own, f"{own}.turn_off"}
    statements = ast.parse((ROOT / path).read_text(encoding="utf-8")).body
    return not (len(statements) == 1 and isinstance(statements[0], ast.Expr))


def closure(stage: str) -> set[str]:
    files, queue = set[str](), [f"stages/{stage}.py"]
    while queue:
        path = queue.pop()
        if path not in files:
            files.add(path)
            queue += [file for module in imports(path) if (file := file_of(module))]
            if path == "pipeline/datasets/formats/__init__.py":  # imports what is in its folder
                queue += [p.relative_to(ROOT).as_posix() for p in (ROOT / path).parent.glob("*.py")]
            if path == "pipeline/tracking/serving_package.py":  # writes these into a registered model
                carried = serving_package.closure(serving_package.SOURCE, serving_package.ENTRY)
                queue += [p.relative_to(ROOT).as_posix() for p in carried]
    return {path for path in files if is_code(path)}


@pytest.mark.parametrize("stage", STAGES)
def test_deps_are_the_closure_of_the_imports(stage: str) -> None:
    deps = [d for d in body(stage)["deps"] if d.split("/")[0] in ("pipeline", "stages")]
    wanted = closure(stage)
    missing = sorted(f for f in wanted if not any(f == d or f.startswith(f"{d}/") for d in deps))
    assert not missing, f"{stage}: add to deps: {missing}"
    needless = sorted(d for d in deps if not any(f == d or f.startswith(f"{d}/") for f in wanted))
    assert not needless, f"{stage}: no import leads to {needless}"


@pytest.mark.parametrize("stage", STAGES)
def test_deps_of_code_are_few_folders(stage: str) -> None:
    deps = [d for d in body(stage)["deps"] if d.startswith("pipeline")]
    assert len(deps) <= 8
    assert all((ROOT / d).is_dir() for d in deps)


def test_the_chain_is_short_to_read() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 170
    assert len((ROOT / "params.yaml").read_text(encoding="utf-8").splitlines()) < 80


@pytest.mark.parametrize("stage", STAGES)
def test_the_command_runs_the_script_of_that_name(stage: str) -> None:
    assert body(stage)["cmd"].split()[:4] == ["sh", "stages/python.sh", "-m", f"stages.{stage}"]


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
        (
            "viz",
            {"ingest", "augment", "evaluate", "verify", "report"},
        ),  # a plot's colour is no input of training and export
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


def test_a_command_writes_to_no_place_that_is_made_and_removed() -> None:
    """Those are the outs of dvc.yaml, and what `make clean` removes."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    cleaned = re.findall(r"^clean:.*\n\trm -rf (.*)$", makefile, re.MULTILINE)[0].split()
    outs = {out for stage in STAGES for out in outs_of(stage)}
    assert [out for out in outs if not any(out == made or out.startswith(f"{made}/") for made in MADE)] == []
    assert {*MADE} == {*cleaned, "resolved.yaml", "splits"}, "which are committed"


def watched(stage: str) -> list[str]:
    return [key for block in body(stage).get("params", []) for key in block["resolved.yaml"]]


def leaves(value: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if isinstance(value, dict) and value:
        return [leaf for key, inner in value.items() for leaf in leaves(inner, (*path, key))]
    return [path]


def test_every_knob_reruns_some_stage() -> None:
    resolved = YAML(typ="safe").load(ROOT / "resolved.yaml")
    keys = {
        key.replace("${key}", name)
        for stage in STAGES
        for key in watched(stage)
        for name in (*resolved["datasets"], *resolved["runs"])
    }
    unwatched = [
        ".".join(leaf)
        for leaf in leaves(resolved)
        if leaf[0] != "machine"  # changes no result
        and not any(".".join(leaf[:i]) in keys for i in range(1, len(leaf) + 1))
    ]
    assert not unwatched, f"no stage's params has {unwatched}"


def names_in(folders: tuple[str, ...]) -> Iterator[str]:
    """What the code of these packages reads: attributes, keys, and arguments of functions."""
    for path in [path for folder in folders for path in ROOT.glob(f"{folder}/**/*.py") if path.name != "params.py"]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                yield node.attr
            elif isinstance(node, ast.arg):  # a head's knobs are its constructor's arguments
                yield node.arg
            elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
                yield str(node.slice.value)


@pytest.mark.parametrize(
    ("folders", "schemas"),
    [
        (("pipeline/datasets/ingest",), (DatasetParams, SplitParams)),
        (("pipeline/augment",), (AugmentParams,)),
        (("pipeline/augment", "pipeline/ops"), tuple(STEPS.values())),
        (
            ("pipeline/models",),
            (PoolHead, FlattenHead, LocalizeHead, AnchorFreeHead, Yolov3Head, SsdliteHead, Yolov1Head),
        ),
        (("pipeline/training",), (ClassifyTrain, LocalizeTrain, DetectTrain, DetectOnline)),
        (("pipeline/training",), (ClassifyModel, LocalizeModel, DetectModel)),
        (("pipeline/ops", "pipeline/evaluation"), (LocalizePredict, DetectPredict)),
        (("pipeline/export",), (ExportParams, Ptq, Qat)),
        (("pipeline/verification",), (VerifyParams,)),
        (("stages",), (TrackParams,)),
    ],
)
def test_every_knob_is_read(folders: tuple[str, ...], schemas: tuple[type[BaseModel], ...]) -> None:
    """By the package beside whose code its schema lies."""
    read = set(names_in(folders))
    unread = [f"{s.__name__}.{name}" for s in schemas for name in s.model_fields if name not in read | {"kind", "mode"}]
    assert unread == []

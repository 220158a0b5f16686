"""The docs' tables of knobs: their defaults by task, what a pretrained backbone changes of them, heads and policies."""

import ast
import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from pipeline.augment.params import AugmentParams
from pipeline.augment.policies import POLICIES
from pipeline.augment.steps import STEPS, Step
from pipeline.config.params import PREPROCESS, AnyRun
from pipeline.core.machine import MachineParams
from pipeline.core.markdown import table
from pipeline.core.params import TASKS, Block
from pipeline.datasets.params import DATASETS
from pipeline.datasets.synthetic.params import SampleParams
from pipeline.models.heads import HEADS
from pipeline.ops.steps import STEPS as ON_PHONE
from pipeline.tracking.params import TrackParams

HEAD = "model.head."  # of a run: these have a table of their own
OTHER_BACKBONE = "resnet18"  # any that is no MobileNet
QUANTIZE = "export.quantize."
NONE = "–"
STATED = ("dataset", "task", "format", "path", "labels")  # have no default
QAT = {"export": {"quantize": {"mode": "qat"}}}


class Knob(NamedTuple):
    key: str
    default: str
    meaning: str


def run_knobs_table() -> str:
    """A row per knob of a run, or several where its meaning differs by task."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    for task in TASKS:
        plain = [knob for knob in _knobs(_run(task)) if not knob.key.startswith(HEAD)]
        known = {knob.key for knob in plain}
        for knob in [*plain, *(k for k in _knobs(_run(task, QAT)) if k.key.startswith(QUANTIZE))]:
            remark = "" if knob.key in known else ", with `mode: qat`"
            found.setdefault((f"`{knob.key}`{remark}", knob.meaning), {}).setdefault(task, knob.default)
    blocks = list(dict.fromkeys(_block(key) for key, _ in found))
    keys = list(dict.fromkeys(key for key, _ in found))
    rows = sorted(found, key=lambda row: (blocks.index(_block(row[0])), keys.index(row[0])))
    return table(["key", "default", "meaning"], [[row[0], _by_task(found[row]), row[1]] for row in rows])


def _block(key: str) -> str:
    return key.rpartition(".")[0]


def _by_task(defaults: Mapping[str, str]) -> str:
    """The default alone where all tasks have the same."""
    if len(defaults) == len(TASKS) and len(set(defaults.values())) == 1:
        return next(iter(defaults.values()))
    return ", ".join(task if value == NONE else f"{task} {value}" for task, value in defaults.items())


def pretrained_table() -> str:
    """The knobs whose default depends on whether the backbone is pretrained."""
    rows = []
    for task in TASKS:
        plain = _defaults(_run(task))
        mobilenet = _defaults(_run(task, {"model": {"pretrained": True}}))
        other = _defaults(_run(task, {"model": {"pretrained": True, "backbone": OTHER_BACKBONE}}))
        for key, value in plain.items():
            if key.startswith("train.") and {mobilenet[key], other[key]} != {value}:
                rows.append([task, f"`{key}`", value, mobilenet[key], other[key]])
    return table(["task", "key", "random weights", "pretrained MobileNet", "another pretrained backbone"], rows)


def dataset_knobs_table() -> str:
    """The knobs that a dataset of any format has."""
    dataset = DATASETS["folder"].model_validate({"format": "folder", "path": ".", "labels": "."})
    found = [*_knobs(dataset), *_knobs(AugmentParams(), "augment."), Knob("preprocess", "`[]`", PREPROCESS)]
    return table(["key", "default", "meaning"], [[f"`{k.key}`", k.default, k.meaning] for k in found])


def other_knobs_table() -> str:
    """The knobs of no dataset and no run."""
    blocks = {"machine.": MachineParams(), "track.": TrackParams(), "sample.": SampleParams()}
    found = [knob for prefix, block in blocks.items() for knob in _knobs(block, prefix)]
    return table(["key", "default", "meaning"], [[f"`{k.key}`", k.default, k.meaning] for k in found])


def heads_table() -> str:
    """The heads, and their options; an option that several heads of a task have stands once."""
    rows: dict[tuple[str, str, str, str], list[str]] = {}
    for name, row in HEADS.items():
        for knob in _knobs(row.options()):
            option = ("", "") if knob.key == "kind" else (f"`{knob.key}`", knob.default)
            kind = f"`{name}`" if "kind" in row.options.model_fields else ""
            rows.setdefault((row.task, *option, knob.meaning), []).append(kind)
    found = sorted(rows.items(), key=lambda item: (TASKS.index(item[0][0]), bool(item[0][1])))
    return table(
        ["task", "`kind`", "option", "default", "meaning"],
        [[task, ", ".join(kinds), option, default, meaning] for (task, option, default, meaning), kinds in found],
    )


def steps_table() -> str:
    """The steps of preprocessing with their arguments, and whether a phone has them."""
    rows = []
    for name, step in STEPS.items():
        does = step.model_fields["step"].description or ""
        rows.append([f"`{name}`", "yes" if name in ON_PHONE else "no", "", "", does])
        for argument, field in step.model_fields.items():
            if argument not in Step.model_fields:
                rows.append(["", "", f"`{argument}`", f"`{json.dumps(field.default)}`", field.description or ""])
    return table(["step", "on a phone", "argument", "default", "what it does"], rows)


def policies_table() -> str:
    """The policies, each with the first sentence of the function that builds it."""
    rows = []
    for name, row in POLICIES.items():
        module, _, function = row.build.partition(":")
        spec = find_spec(module)
        assert spec is not None and spec.origin is not None
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))  # read, as the libraries take long to import
        found = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == function]
        text = ast.get_docstring(found[0]) if found else None
        does = first_line(text) if text else "Images stay as they are."
        rows.append([f"`{name}`", does, ", ".join(row.tasks)])
    return table(["policy", "what it does", "tasks"], rows)


def first_line(text: str) -> str:
    """The first paragraph of a docstring, in one line.

    >>> first_line("One,\\ntwo.\\n\\nMore.")
    'One, two.'
    """
    return " ".join(text.strip().split("\n\n")[0].split())


def _run(task: str, stated: Mapping[str, Any] | None = None) -> Block:
    run: Block = TypeAdapter(AnyRun).validate_python({"dataset": "a", "task": task, **(stated or {})})
    return run


def _defaults(block: Block) -> dict[str, str]:
    return {knob.key: knob.default for knob in _knobs(block)}


def _knobs(block: Block, prefix: str = "") -> Iterator[Knob]:
    for name, field in type(block).model_fields.items():
        value, key = getattr(block, name), f"{prefix}{name}"
        if isinstance(value, Block) and type(value).model_fields:
            yield from _knobs(value, f"{key}.")
            continue
        default = NONE if key in STATED else f"`{json.dumps(_plain(value), ensure_ascii=False)}`"
        yield Knob(key, default, " ".join((field.description or "").split()))


def _plain(value: Any) -> Any:
    return value.model_dump() if isinstance(value, Block) else value

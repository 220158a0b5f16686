"""Own data in five minutes: a look at a folder becomes a dataset and a run block in params.yaml."""

import copy
import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config.params import parse_params, read_params
from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.params import nearest
from pipeline.datasets.formats import FORMATS, detect_format

_ONLINE: dict[str, dict[str, Any]] = {
    "classify": {"policy": "photo_geometry"},
    "localize": {"policy": "photo_geometry"},
    "detect": {"policy": "photo_zoom", "mosaic": 0.5, "smallest": 0.6, "quiet_epochs": 10},
}
_HEADS: dict[str, dict[str, Any]] = {
    "classify": {"kind": "pool", "dropout": 0.2},
    "localize": {"channels": 128, "dropout": 0.1},
    "detect": {"kind": "anchor_free", "strides": [8, 16, 32], "neck": 96, "channels": 96, "dropout": 0.2},
}


def add(
    params: Path,
    name: str,
    data: Path,
    task: str,
    format: str | None,
    labels: Path | None,
    backbone: str | None,
    pretrained: Path | None,
    settings: list[str],
) -> str:
    """Write blocks datasets.`name` and runs.`name` into the file `params`, keeping the rest of its text.

    `settings` are "key=value": a knob of the run (epochs=5, export.tolerance=0.05), or of the dataset with
    "dataset." before it. Returns what was found and what comes next. Raises InputError, and writes nothing, if the
    name is taken, the folder fits no format or not the task, or a setting is none.
    """
    if not re.fullmatch(r"[A-Za-z0-9_-]+", name):
        raise InputError(f"name {name!r}: expected letters, digits, _ and - only (it becomes a file name)")
    read_params(params)
    for option, path in (("--data", data), ("--labels", labels), ("--pretrained", pretrained)):
        if path is not None and not path.exists():
            raise InputError(f"{option} {path}: no such file or folder")
    if format is None:
        format, reason = detect_format(data, labels)
    else:
        reason = "as given"
    if format not in FORMATS:
        raise InputError(f"format {format!r}{nearest(format, FORMATS)}")
    learnt_from = [name for name, row in FORMATS.items() if task in row.tasks]
    if format not in learnt_from:
        raise InputError(
            f"{data}: found {format} ({reason}), "
            f"but {task} learns from {', '.join(learnt_from)}; give --task or --format"
        )
    blocks = {
        "dataset": _dataset_block(format, _as_written(data, params), _as_written(labels or data, params)),
        "run": _run_block(name, task, backbone, _as_written(pretrained, params) if pretrained else None),
    }
    for setting in settings:
        _apply(blocks, setting)
    text = params.read_text(encoding="utf-8")
    for section, block in (("datasets", blocks["dataset"]), ("runs", blocks["run"])):
        text = _insert(text, section, name, block, params)
    parse_params(text, params)
    write_text(params, text)
    return (
        f"{data}: {format} ({reason})\n{params}: datasets.{name} and runs.{name} written\nnext: dvc repro track@{name}"
    )


def _dataset_block(format: str, path: str, labels: str) -> dict[str, Any]:
    return {
        "format": format,
        "path": path,
        "labels": labels,
        "options": FORMATS[format].Options().model_dump(),
        "splits": {"val": 0.15, "test": 0.2, "seed": 0},
        "max_side": 640,
        "refuse_over": 0.1,
        "augment": {"policy": "none", "copies": 0, "seed": 0},
    }


def _run_block(name: str, task: str, backbone: str | None, pretrained: str | None) -> dict[str, Any]:
    classify, named = task == "classify", backbone or "mobilenetv2_100"
    return {
        "dataset": name,
        "task": task,
        "backbone": named,
        "pretrained": pretrained or False,
        "size": 224 if classify else 320 if task == "detect" else 192,
        "resize": "letterbox",
        "head": copy.deepcopy(_HEADS[task]),
        "frozen_epochs": {"classify": 30, "localize": 2, "detect": 0}[task] if pretrained else 0,
        "epochs": {"classify": 15, "localize": 40, "detect": 60}[task],
        # few pictures do not better the first layers, and two fifths of a step's time would go there
        "tuned_blocks": 12 if pretrained and task == "detect" and named.startswith("mobilenetv") else "all",
        "backbone_norm": "frozen" if pretrained and task == "detect" else "batch",
        "class_weights": "none",
        "patience": {"classify": 8, "localize": 15, "detect": 30}[task],
        "batch_size": 8 if task == "detect" else 32 if classify else 16,
        "learning_rate": {"classify": 0.002, "localize": 0.003, "detect": 0.002}[task],
        # pretrained features know what, and nearly right: they move slowly, or are lost. Of where they know little
        "backbone_rate": {"classify": 0.1, "localize": 1.0, "detect": 0.1}[task] if pretrained else 1.0,
        # of few pictures a detector learns too much by heart
        "weight_decay": 0.3 if task == "detect" else 0.02,
        "online": dict(_ONLINE[task]),
        "precision": "auto",
        "workers": 1,
        "seed": 0,
        "predict": {
            **({"nms": "vote"} if task == "detect" else {}),
            "score": 0.5 if task == "localize" else 0.3,
            "nms_iou": 0.3
            if classify
            else 0.6,  # the boxes that a sliding classifier gives of one object lie far apart
            "max_objects": 100,
        },
        "export": {
            "targets": ["onnx_float", "onnx_int8", "executorch_int8"],
            "calibration_images": 100,
            "quantize": {"mode": "ptq", "epochs": 2, "learning_rate": 0.0002, "budget": 0.0},
            "tolerance": 0.03,
            "size_ratio": 0.35,
        },
    }


def _apply(blocks: dict[str, dict[str, Any]], setting: str) -> None:
    key, equals, value = setting.partition("=")
    if not equals:
        raise InputError(f"--set {setting}: expected key=value")
    first, _, rest = key.partition(".")
    block, path = (blocks[first], rest) if first in blocks and rest else (blocks["run"], key)
    *parents, last = path.split(".")
    for step in parents:
        if not isinstance(block.get(step), dict):
            raise InputError(f"--set {setting}: no block {step!r}{nearest(step, block)}")
        block = block[step]
    if last not in block:
        raise InputError(f"--set {setting}: unknown key{nearest(last, block)}")
    try:
        block[last] = YAML(typ="safe").load(value)
    except YAMLError as error:
        raise InputError(f"--set {setting}: the value is not YAML: {error}") from None


def _insert(text: str, section: str, name: str, block: dict[str, Any], params: Path) -> str:
    """Put `name: block` at the end of the top-level `section`, touching no other line."""
    if name in (YAML(typ="safe").load(text).get(section) or {}):
        raise InputError(f"{params}: {section}.{name} is there already; choose another name")
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(rf"{section}:\s*(#.*)?$", line)), None)
    if start is None:
        raise InputError(f"{params}: no block {section}: found; expected it at the start of a line")
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    # blank lines and comments just before the next section belong to that one
    while end > start + 1 and (not lines[end - 1].strip() or re.match("#", lines[end - 1])):
        end -= 1
    yaml = YAML()
    out = io.StringIO()
    yaml.dump({name: block}, out)
    added = [f"  {line}" for line in out.getvalue().splitlines()]
    return "\n".join([*lines[:end], *added, *lines[end:]]) + "\n"


def _as_written(path: Path, params: Path) -> str:
    """Relative to the project where the path lies in it (a project can move), else absolute."""
    root = params.resolve().parent
    path = path.resolve()
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()

"""Own data in five minutes: a folder, recognized, becomes a dataset and a run block in params.yaml."""

import io
import re
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.params import (
    RunParams,
    line_end,
    parse_params,
    put,
    read_params,
    read_settings,
    read_text,
    rewrite,
)
from pipeline.config.starting import starting_weights
from pipeline.core.errors import InputError, shown, without_password
from pipeline.core.names import check_name
from pipeline.core.params import nearest
from pipeline.core.turns import turn
from pipeline.datasets.formats import FORMATS, detect_format, nearest_of
from pipeline.datasets.formats.links import links_out
from pipeline.datasets.formats.reading import refuse_names
from pipeline.datasets.remote import FETCHED, fetch


def add(
    params: Path,
    name: str,
    data: Path | str,
    task: str,
    format: str | None,
    labels: Path | str | None,
    backbone: str | None,
    pretrained: Path | None,
    settings: list[str],
    from_scratch: bool = False,
) -> str:
    """Write blocks datasets.`name` and runs.`name` into the file `params`, keeping the rest of its text.

    `data` and `labels` are paths, or URLs, of which a copy is fetched into the project.

    `settings` are "key=value": a knob of the run (train.epochs=5, verify.tolerance=0.05), or of the dataset with
    "dataset." before it. What is not set stays a default of the schemas, but for the weights that the run starts from:
    without `pretrained`, a setting of model.pretrained and `from_scratch`, they are those of `starting_weights`, which
    may fetch a file into the project. Returns what was found and what comes next.

    Raises InputError, and writes nothing, if the name is taken, the folder fits no format or not the task, there is
    no such knob, a file of labels is a link that leads out of the data, there are no weights to start from, or those
    that are named do not fit the backbone.
    """
    check_name(name, "name")
    read_params(params)
    if pretrained is not None and not pretrained.is_file():
        what = "not a file; expected one of weights" if pretrained.exists() else "no such file or folder"
        raise InputError(f"--pretrained {pretrained}: {what}")
    found = _found("--data", data, params)
    found_labels = None if labels is None else found if labels == data else _found("--labels", labels, params)
    format, reason = _format_of(found, found_labels, format, task)
    paths = {"path": _as_written(data, params), "labels": _as_written(labels or data, params)}
    dataset: dict[str, Any] = {"format": format, **paths}
    net = {"backbone": backbone, "pretrained": _as_written(pretrained, params) if pretrained else None}
    run: dict[str, Any] = {"dataset": name, "task": task}
    for key, value in ({f"model.{k}": v for k, v in net.items() if v} | read_settings(settings)).items():
        _set(dataset, run, key, value)
    links = _links(found, found_labels or found, name, dataset)
    said = _started(params, name, dataset, run, from_scratch) + links
    with turn(params):
        rewrite(params, _written(params, name, dataset, run)[0])
    return (
        f"{without_password(str(data))}: {format} ({reason})\n{said}\n"
        f"{params}: datasets.{name} and runs.{name} written\n"
        f"next: dvc repro track@{name} (`pocketlens params {name}` lists its knobs)"
    )


def _links(data: Path, labels: Path, name: str, dataset: dict[str, Any]) -> str:
    """A line on images that `ingest` would refuse as links that lead out. Raises InputError for other such files."""
    if dataset.get("links_out") == "follow" or not data.is_dir():
        return ""
    how = f"--set dataset.links_out=follow, or datasets.{name}.links_out: follow"
    found = sorted(links_out(data.resolve(), labels.resolve(), how))
    if not found:
        return ""
    many = (
        f"{len(found)} images or clips are links that lead"
        if len(found) > 1
        else "1 image or clip is a link that leads"
    )
    return f"\nwarning: {many} out of {data}, as {shown(found[0].name)}: not taken, unless {how}"


def _found(option: str, place: Path | str, params: Path) -> Path:
    """The path, or what was fetched from the URL."""
    path = place if isinstance(place, Path) else fetch(place, params.parent / FETCHED)[0]
    if not path.exists():
        raise InputError(f"{option} {path}: no such file or folder")
    refuse_names(path)
    return path


def _started(params: Path, name: str, dataset: dict[str, Any], run: dict[str, Any], from_scratch: bool) -> str:
    """Give `run` the weights that it starts from; returns words on these. What is wrong with the blocks is raised."""
    made = _written(params, name, dataset, run)[1]
    if "backbone" in made.model.model_fields_set:
        from pipeline.models.backbones import check_known

        check_known(made.model.backbone)
    stated = made.model.pretrained if "pretrained" in made.model.model_fields_set else None
    if from_scratch and stated:
        raise InputError(f"--from-scratch, but model.pretrained is {stated}; expected one of them")
    if stated is None and not from_scratch:
        weights, said = starting_weights(params.parent, made.model.backbone)
        put(run, "model.pretrained", _as_written(weights, params))
        return said
    # that of another run may not be made yet
    if isinstance(stated, str) and (lies := params.parent / stated).is_file():
        from pipeline.models.backbones import read_pretrained

        read_pretrained(made.model.backbone, str(lies))
    if stated is True:
        return "the run starts from timm's weights, which `train` fetches from its hub"
    return f"{stated}: the run starts from these weights" if stated else "the run starts from random weights"


def _written(params: Path, name: str, dataset: dict[str, Any], run: dict[str, Any]) -> tuple[str, RunParams]:
    """The text of `params` with both blocks, and the run as it then is."""
    text = read_text(params)
    for section, block in (("datasets", dataset), ("runs", run)):
        text = _insert(text, section, name, block, params)
    return text, parse_params(text, params).run(name)


def _format_of(data: Path, labels: Path | None, format: str | None, task: str) -> tuple[str, str]:
    """The format and how it is known. Raises InputError if there is none, or the task cannot learn from it."""
    against = ""
    if format is None:
        format, reason = detect_format(data, labels)
        against = "" if task in FORMATS[format].tasks else nearest_of(task, data, labels)
    else:
        reason = "as given"
    if format not in FORMATS:
        raise InputError(f"format {format!r}{nearest(format, FORMATS)}")
    learnt_from = [name for name, row in FORMATS.items() if task in row.tasks]
    if format not in learnt_from:
        raise InputError(
            f"{data}: found {format} ({reason}), "
            f"but {task} learns from {', '.join(learnt_from)}; "
            f"give --task {' or '.join(FORMATS[format].tasks)}, or another --format{against}"
        )
    return format, reason


def _set(dataset: dict[str, Any], run: dict[str, Any], key: str, value: Any) -> None:
    """A knob of the run, unless "dataset." stands before it."""
    first, _, rest = key.partition(".")
    if rest and first == "dataset":
        put(dataset, rest, value)
    else:
        put(run, key, value)


def _insert(text: str, section: str, name: str, block: dict[str, Any], params: Path) -> str:
    """Put `name: block` at the end of the top-level `section`, touching no other line."""
    if name in ((YAML(typ="safe").load(text) or {}).get(section) or {}):
        raise InputError(
            f"{params}: {section}.{name} is there already; choose another name, or remove both of its blocks"
        )
    lines, ending = text.splitlines(keepends=True), line_end(text)
    if lines and lines[-1] == lines[-1].rstrip("\r\n"):
        lines[-1] += ending
    heading = re.compile(rf"{section}:\s*({{\s*}})?\s*(#.*)?$")
    start = next((i for i, line in enumerate(lines) if heading.match(line)), None)
    if start is None:
        if section in (YAML(typ="safe").load(text) or {}):
            raise InputError(f"{params}: {section}: expected it at the start of a line, and its entries below")
        lines, start = [*lines, f"{section}:{ending}"], len(lines)
    lines[start] = re.sub(r"\s*{\s*}", "", lines[start], count=1)
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"[^\s#]", lines[i])), len(lines))
    # blank lines and comments just before the next section belong to that one
    while end > start + 1 and (not lines[end - 1].strip() or re.match("#", lines[end - 1])):
        end -= 1
    yaml = YAML()
    out = io.StringIO()
    yaml.dump({name: block}, out)
    added = [f"  {line}{ending}" for line in out.getvalue().splitlines()]
    return "".join([*lines[:end], *added, *lines[end:]])


def _as_written(path: Path | str, params: Path) -> str:
    """Relative to the project where the path lies in it (a project can move), else absolute. A URL as it is."""
    if isinstance(path, str):
        return path
    root = params.parent.resolve()
    path = path.resolve()
    written = path.relative_to(root).as_posix() if path.is_relative_to(root) else path.as_posix()
    try:
        written.encode()
    except UnicodeEncodeError:
        raise InputError(f"{path}: its name is not UTF-8, and {params} is: rename it") from None
    return written

"""params.yaml with every default filled in: what the stages read, and what `pocketlens params` explains."""

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from pipeline.config.params import Params, RunParams, parse_params, parse_yaml, read_text
from pipeline.config.problems import fields_at
from pipeline.core.errors import InputError
from pipeline.core.files import sha256
from pipeline.core.params import Block, nearest
from pipeline.export.params import Qat

HEADING = (
    "# Written by the stage `params` from params.yaml, where knobs are changed; `pocketlens params` explains them.\n"
)
INGEST = "ingest"
LABELS = "labels"
SAMPLE = Path("data/sample")
MODEL = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Knob:
    """One value of the chain: its dotted key, whether params.yaml states it, and what it means."""

    key: str
    value: Any
    stated: bool
    meaning: str


def resolve(path: Path | str = "params.yaml") -> dict[str, Any]:
    """Every knob of every dataset and run of the file `path`, in blocks by stage; paths in it are its folder's.

    Raises InputError for a wrong key, or a weights file or a label layer that is missing.
    """
    path = Path(path)
    params = parse_params(read_text(path), path)
    return {
        "sample": params.sample.model_dump(),
        "datasets": {name: _dataset(path, name, dataset.model_dump()) for name, dataset in params.datasets.items()},
        "runs": {name: _run(path, name, params.runs) for name in params.runs},
        "machine": params.machine.model_dump(),
        "track": params.track.model_dump(),
    }


def resolved_text(resolved: dict[str, Any]) -> str:
    """The same bytes for the same knobs."""
    yaml, out = YAML(typ="rt"), io.StringIO()
    yaml.width = 120
    yaml.dump(resolved, out)
    return HEADING + out.getvalue()


def knobs(path: Path | str, name: str | None = None) -> list[Knob]:
    """The knobs of the run `name` and of its dataset, or of the dataset `name`, with their meanings; without one all.
    To those of a synthetic dataset belongs the block of `sample` that it is drawn by.

    Raises InputError as `resolve` does, and if there is no run or dataset of that name.
    """
    path = Path(path)
    text, resolved = read_text(path), resolve(path)
    params, raw = parse_params(text, path), parse_yaml(text, path)
    filled = params.model_dump()
    found = []
    for keys in _places(params, name):
        whole = resolved
        for key in keys:
            whole = whole[key]
        if keys[0] == "datasets":
            whole = whole[INGEST] | {key: block for key, block in whole.items() if key != INGEST}
        found += list(_knobs(keys, whole, filled, raw))
    return found


def _places(params: Params, name: str | None) -> list[list[str]]:
    """The blocks that are asked for, by their keys."""
    if name is None:
        datasets, runs = [["datasets", name] for name in params.datasets], [["runs", name] for name in params.runs]
        return [["sample"], *datasets, *runs, ["machine"], ["track"]]
    if name in params.runs:
        return [*_of_dataset(params, params.runs[name].dataset), ["runs", name]]
    if name in params.datasets:
        return _of_dataset(params, name)
    known = dict.fromkeys([*params.runs, *params.datasets])
    raise InputError(f"no run or dataset {name!r} in params.yaml{nearest(name, known)}")


def _of_dataset(params: Params, name: str) -> list[list[str]]:
    place = Path(params.datasets[name].path)
    drawn = place.parent == SAMPLE and isinstance(getattr(params.sample, place.name, None), Block)
    return [["datasets", name], *([["sample", place.name]] if drawn else [])]


def knobs_text(found: Sequence[Knob]) -> str:
    """For a terminal: a line per knob."""
    width = max((len(knob.key) for knob in found), default=0)
    said = {True: "stated", False: "default"}
    return "\n".join(
        f"{knob.key:{width}}  {json.dumps(knob.value, ensure_ascii=False):24} {said[knob.stated]:8} {knob.meaning}"
        for knob in found
    )


def _knobs(keys: list[str], block: dict[str, Any], filled: dict[str, Any], raw: Any) -> Iterator[Knob]:
    stated: Any = raw
    for key in keys:
        stated = stated.get(key) if isinstance(stated, dict) else None
    fields = fields_at(Params, filled, keys)
    for name, value in block.items():
        if isinstance(value, dict) and value:
            yield from _knobs([*keys, name], value, filled, raw)
        else:
            meaning = (fields[name].description or "") if name in fields else ""
            yield Knob(".".join([*keys, name]), value, isinstance(stated, dict) and name in stated, meaning)


def _is_there(params: Path, name: str, runs: Mapping[str, RunParams]) -> bool:
    """Whether the weights file that a run starts from is there: the model of a run is not before that was trained.

    Raises InputError if it is missing, or the run starts from its own model.
    """
    weights = str(runs[name].model.pretrained)
    where = f"{params}: runs.{name}.model.pretrained: {weights}"
    way: list[str] = []
    first = source = run_of(params.parent, weights)
    while source in runs and source not in way:
        way.append(source)
        source = run_of(params.parent, str(runs[source].model.pretrained))
    if name in way:
        raise InputError(f"{where}: the run starts from itself, by {' and '.join(way)}; expected another one's model")
    if first and first not in runs:
        raise InputError(
            f"{where}: no run of that name{nearest(first, runs)}; a model of a run that is gone goes to weights/"
        )
    if (params.parent / weights).is_file():
        return True
    if not way:
        raise InputError(f"{where}: no such file")
    return False


def run_of(project: Path, weights: str) -> str:
    """The run whose model a path is, however it is written: models/<run>/model.safetensors of the project; "" if it is
    none of this one.
    """
    path = Path(os.path.normpath(project.absolute() / weights))
    of_model = path.name == MODEL and path.parent.parent.resolve() == (project / "models").resolve()
    return path.parent.name if of_model else ""


def _dataset(params: Path, name: str, block: dict[str, Any]) -> dict[str, Any]:
    """What `ingest` reads, and the two blocks that `augment` does."""
    for layer in block["layers"]:
        from pipeline.core.layer import layer_file, read_layer  # with Pillow, which other params are read without

        file, where = layer_file(LABELS, name, layer), f"{params}: datasets.{name}.layers"
        if not (params.parent / file).is_file():
            raise InputError(f"{where}: {layer}: no such file: {file}")
        read_layer(params.parent / file)  # now: DVC takes away what ingest made before it runs ingest
        stated, found = block["layers_sha256"].get(layer), sha256(params.parent / file)
        if stated not in (None, found):
            raise InputError(f"{where}_sha256.{layer}: found {stated}; that of {file} is {found}")
        block["layers_sha256"][layer] = found
    own = {key: block.pop(key) for key in ("augment", "preprocess")}
    return {INGEST: block, **own}


def _run(params: Path, name: str, runs: Mapping[str, RunParams]) -> dict[str, Any]:
    run = runs[name]
    block = run.model_dump()
    weights = block["model"]["pretrained"]
    if isinstance(weights, str) and (of := run_of(params.parent, weights)):
        block["model"]["pretrained"] = f"models/{of}/{MODEL}"
    if isinstance(weights, str) and _is_there(params, name, runs):
        stated, found = run.model.pretrained_sha256, sha256(params.parent / weights)
        if stated not in (None, found):
            where = f"{params}: runs.{name}.model.pretrained_sha256"
            raise InputError(f"{where}: found {stated}; that of {weights} is {found}")
        block["model"]["pretrained_sha256"] = found
    elif not isinstance(weights, str) and run.model.pretrained_sha256 is not None:
        where = f"{params}: runs.{name}.model.pretrained_sha256"
        raise InputError(
            f"{where}: found {run.model.pretrained_sha256}; it goes with the path of a file in `pretrained`"
        )
    quantize = run.export.quantize
    if isinstance(quantize, Qat):
        unstated = set(Qat.FROM_TRAIN) - quantize.model_fields_set
        block["export"]["quantize"] |= {key: block["train"][key] for key in sorted(unstated)}
    return block

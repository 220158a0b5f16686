"""`pocketlens epochs`: the epochs of a run that fit into so many minutes, written into params.yaml."""

import json
import re
from pathlib import Path

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap
from ruamel.yaml.events import AliasEvent

from pipeline.config.estimate import Seconds, estimate, fitting
from pipeline.config.params import RunParams, line_end, parse_params, parse_yaml, put, read_text, rewrite
from pipeline.core.errors import InputError
from pipeline.core.turns import turn
from pipeline.training.cost import duration

PROPERTIES = r"(?:[&!]\S*\s+)*"  # what YAML has before a value: an anchor, a tag


def fit_epochs(params: Path, name: str, minutes: float) -> str:
    """Measure run `name` of the file `params` on its data, and write the epochs that fit into `minutes` of training.

    What the chain makes depends on the epochs that are written, not on the clock. Returns what was found and written.
    Raises InputError, and writes nothing, if the run's data are not made yet or not even one epoch fits.
    """
    known = parse_params(read_text(params), params)
    run = known.run(name)
    root = params.parent
    folders = root / "data/augmented" / run.dataset, root / "data/ingested" / run.dataset / "val"
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"{folder}: not here; `dvc repro augment@{run.dataset}` makes what is measured")
    seconds = estimate(name, run, *folders, known.machine.workers)
    return write_epochs(params, name, run, seconds, minutes)


def write_epochs(params: Path, name: str, run: RunParams, seconds: Seconds, minutes: float) -> str:
    """Write what fits by the measured `seconds`; lines that say nothing of it stay as they are."""
    knobs = fitting(name, run, seconds, minutes)
    stated = {"train.frozen_epochs": run.train.frozen_epochs, "train.epochs": run.train.epochs}
    taken = duration(seconds.of(knobs["train.frozen_epochs"], knobs["train.epochs"]))
    said = f"on this machine an epoch takes {duration(seconds.epoch + seconds.validation)}"
    if run.train.epochs:
        said += f", the first one {duration(seconds.decoding)} longer"
    if run.train.frozen_epochs:
        said += f", a frozen one {duration(seconds.frozen_epoch)} after {duration(seconds.features)} for features"
    if all(knobs[key] == value for key, value in stated.items()):
        return f"{said}\nruns.{name} trains in about {taken}; {params} stays as it is"
    changed = {key: value for key, value in knobs.items() if stated.get(key) != value}
    with turn(params):
        rewrite(params, _changed(read_text(params), name, changed, params))
    written = ", ".join(f"{key} {value}" for key, value in changed.items())
    return f"{said}\n{params}: runs.{name}: {written}; it trains in about {taken}\nnext: dvc repro track@{name}"


def _changed(text: str, name: str, changed: dict[str, int], params: Path) -> str:
    """`text` with those knobs of run `name`, and all else as it was. Raises InputError where that cannot be written, as
    where YAML's aliases share a block between runs.
    """
    wanted = json.loads(json.dumps(parse_yaml(text, params)))  # what an alias shares is apart
    try:
        for key, value in changed.items():
            put(wanted["runs"][name], key, value)
            text = _with(text, ["runs", name, *key.split(".")], value)
        done = parse_yaml(text, params) == wanted
    except (KeyError, TypeError, InputError):
        done = False
    if not done:
        by_hand = ", ".join(f"runs.{name}.{key}: {value}" for key, value in changed.items())
        shared = any(isinstance(event, AliasEvent) for event in YAML().parse(text))
        why = (
            "aliases of YAML share what is to change" if shared else "what is to change is no plain block with a number"
        )
        raise InputError(f"{params}: {why}; write by hand {by_hand}")
    parse_params(text, params)
    return text


def _with(text: str, path: list[str], value: int) -> str:
    """The YAML `text` with a number at that place, where another one was or none."""
    node, rest = YAML().load(text), list(path)
    while len(rest) > 1 and isinstance(node.get(rest[0]), CommentedMap):
        node = node[rest.pop(0)]
    lines = text.splitlines(keepends=True)
    if len(rest) == 1 and rest[0] in node:
        line, column = node.lc.value(rest[0])
        lines[line] = lines[line][:column] + re.sub(
            rf"^({PROPERTIES})[^\s,}}]+", rf"\g<1>{value}", lines[line][column:], count=1
        )
        return "".join(lines)
    said = f"{rest[-1]}: {value}"
    for key in reversed(rest[:-1]):
        said = f"{key}: {{{said}}}"
    if not node or node.fa.flow_style():
        line, column = node.lc.line, node.lc.col
        before = re.match(PROPERTIES + "{", lines[line][column:])
        column += before.end() if before else 0  # behind the brace
        lines[line] = lines[line][:column] + said + (", " if node else "") + lines[line][column:]
    else:
        line, column = node.lc.key(next(iter(node)))
        lines.insert(line, " " * column + said + line_end(text))
    return "".join(lines)

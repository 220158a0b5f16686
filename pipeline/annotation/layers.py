"""A fetched layer, written beside the source: the statements, what was not taken, and how far people agree."""

import csv
import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple
from pathlib import Path
from statistics import median

from pipeline.annotation.agreement import ceilings
from pipeline.annotation.fetched import Fetched
from pipeline.annotation.project import Project
from pipeline.core.errors import InputError
from pipeline.core.files import write_json, write_text
from pipeline.core.layer import STATES, Statement, layer_file, read_layer, write_layer
from pipeline.core.tables import cell
from pipeline.metrics.metrics import main_metric

HEADER = "file", "key", "rule", "found", "done"  # as the ledger of `ingest`


def write_fetched(labels: Path, layer: str, project: Project, fetched: Fetched, layers: Sequence[str]) -> list[str]:
    """Write `labels`/<dataset>/<layer>.jsonl, .ledger.csv, and .agreement.json where two people have answered the same
    images; returns lines that say what was done, and what is next: the dataset has `layers` already. Raises InputError
    if answers that are in the layer would be lost.
    """
    path = layer_file(labels, project.name, layer)
    _keep(path, fetched)
    ceiling = ceilings(fetched.answers, project.dataset, project.classify)
    write_layer(path, fetched.statements)
    write_text(path.with_suffix(".ledger.csv"), _ledger(fetched))
    if ceiling:
        write_json(path.with_suffix(".agreement.json"), ceiling)
    else:
        path.with_suffix(".agreement.json").unlink(missing_ok=True)
    states = Counter(s.state for s in fetched.statements)
    lines = [f"{path}: {', '.join(f'{states[state]} {state}' for state in STATES if states[state]) or 'no images'}"]
    lines += _of_people(fetched)
    if fetched.drafts:
        lines.append(f"{fetched.drafts} drafts were not submitted, and are not taken")
    rules = Counter(row.rule for row in fetched.rows if row.rule != "draft")
    if rules:
        said = ", ".join(f"{n} {rule}" for rule, n in sorted(rules.items()))
        lines.append(f"{path.with_suffix('.ledger.csv')}: {said}")
    name = main_metric("classify" if project.classify else "detect")
    for row in ceiling:
        value = row["figures"][name]
        said = "undefined" if value is None else f"{value:.4f}"
        lines.append(f"{row['judged']} judged against {row['truth']} on {row['images']} images: {name} {said}")
    if not any(states[state] for state in STATES if state != "untouched"):
        lines.append("nothing to lay over: nobody has answered yet")
        return lines
    now = ", ".join([*layers, layer])
    added = "" if layer in layers else f"`layers: [{now}]` under datasets.{project.name} in params.yaml, then "
    lines.append(f"next: {added}`make repro`")
    return lines


def _keep(path: Path, fetched: Fetched) -> None:
    """Raise InputError if something that the layer says is neither in what was fetched nor renewed by who said it."""
    if not path.exists():
        return
    now = {s.id: s for s in fetched.statements}
    lost = [s.id for s in read_layer(path) if s.state != "untouched" and _is_lost(s, now.get(s.id), fetched)]
    if lost:
        raise InputError(
            f"{path}: has {len(lost)} answers that the project does not (first: {lost[0]}); "
            "expected another --name, or remove the file"
        )


def _is_lost(before: Statement, now: Statement | None, fetched: Fetched) -> bool:
    if now is None or now.state == "untouched" or before.state == "excluded":
        return True
    renewed = now.by == before.by or before.id in fetched.answers.get(before.by, {})
    same = (now.state, now.label, now.objects) == (before.state, before.label, before.objects)
    return not (renewed or same or before.state == "skipped")


def _ledger(fetched: Fetched) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows([cell(str(value)) for value in astuple(row)] for row in fetched.rows)
    return text.getvalue()


def _of_people(fetched: Fetched) -> list[str]:
    lines = []
    for by, person in sorted(fetched.people.items()):
        said = f"{by}: {person.images} images"
        if person.objects:
            said += f", {person.kept} of {person.objects} objects left as they were shown"
        if person.seconds:
            said += f", {median(person.seconds):.0f} s an image"
        lines.append(said)
    return lines

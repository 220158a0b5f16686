"""What a person says of images in FiftyOne's App: labels that they change and tags, as statements of a label layer."""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.core.image_file import open_image
from pipeline.core.layer import Statement, is_of, layer_file, look_of, pixels_of, read_layer, write_layer
from pipeline.core.sample import SPLITS, Object
from pipeline.inspection.labels import TRUTH, hash_of, labels_in

EXCLUDE = "exclude"
OURS = {*SPLITS, "refused"}  # tags that we set


@dataclass(frozen=True, slots=True)
class Labels:
    """Where statements about the images of `dataset` go: layers in the folder `labels`; `by` whom they are, and the run
    whose predictions were `shown`.
    """

    folder: Path
    dataset: str
    by: str = "app"
    shown: str = ""


@dataclass(slots=True)
class Taken:
    """`statements` that are new, in the layer `path`, None without any; `lost` counts images with a changed label that
    cannot be said of the image as it is now: it is another one, or gone.
    """

    path: Path | None = None
    statements: list[Statement] = field(default_factory=list)
    lost: int = 0


def user_tags(dataset: Any) -> dict[str, set[str]]:
    """id -> the tags that a person gave to the image, or to an object in it."""
    found = [set(own or ()) for own in dataset.values("tags")]
    for name in dataset.get_field_schema():
        for path in (f"{name}.detections.tags", f"{name}.keypoints.tags", f"{name}.tags"):
            if dataset.get_field(path) is not None:
                for tags, own in zip(found, dataset.values(path, unwind=False), strict=True):
                    nested = own or ()
                    tags |= {tag for each in nested for tag in ([each] if isinstance(each, str) else each or ())}
    rows = zip(dataset.values("name"), found, strict=True)
    return {id: tags - OURS for id, tags in rows if tags - OURS}


def take_edits(dataset: Any, labels: Labels, today: date) -> Taken:
    """Write what a person has changed since the last time into labels/<dataset>/app-<date>.jsonl, and take note of it
    in the FiftyOne dataset, so that it is said once.

    An image whose labels differ from what was written is labelled or empty; one with the tag `exclude` is excluded,
    whatever its labels are. What a statement is about is the image that was shown: a file with other content is
    counted as lost.
    """
    taken, noted = _found(dataset, labels)
    if taken.statements:
        taken.path = _write(labels, today, taken.statements)
        _note(dataset, noted)
    return taken


def untaken(dataset: Any, labels: Labels) -> int:
    """Of how many images `take_edits` would take something, or count it as lost. Nothing is written."""
    found, _ = _found(dataset, labels)
    return len(found.statements) + found.lost


def _found(dataset: Any, labels: Labels) -> tuple[Taken, dict[str, str]]:
    """What is new, and the hashes of the labels that are to be noted in the FiftyOne dataset once it is written."""
    taken = Taken()
    excluded = {id for id, tags in user_tags(dataset).items() if EXCLUDE in tags}
    heard = _excluded(labels) if excluded else {}
    columns = dataset.values(["id", "name", "filepath", "against", "written", "image"])
    now = labels_in(dataset, _landmarks(dataset))
    noted: dict[str, str] = {}
    for sample, id, name, against, written, image, (label, objects) in zip(*columns, *[now], strict=True):
        found, file = hash_of(label, objects), Path(name)
        if found == written and id not in excluded:
            continue
        if written is None:  # a refused image: it has no place in the dataset that a layer could speak of
            continue
        same = file.is_file() and hash_of_file(file) == image
        if id in excluded and any(_holds(said, against, file if same else None) for said in heard.get(id, ())):
            continue
        if not same:
            taken.lost += 1
            continue
        state = "excluded" if id in excluded else "labelled" if objects or label is not None else "empty"
        taken.statements.append(_statement(id, file, state, against, labels, (label, objects)))
        if state != "excluded":  # else its labels count again when the tag is taken off
            noted[sample] = found
    return taken, noted


def remember(dataset: Any) -> None:
    """Note of each image what its labels are, to tell later what a person has changed. They are read back: what the
    database makes of a number or an absent point is then no change.
    """
    known = dataset.values("against")
    rows = zip(known, labels_in(dataset, _landmarks(dataset)), strict=True)
    dataset.set_values("written", [None if against is None else hash_of(*said) for against, said in rows])


def _statement(
    id: str, file: Path, state: str, against: str, labels: Labels, said: tuple[str | None, list[Object]]
) -> Statement:
    pixels = open_image(file)
    label, objects = said if state == "labelled" else (None, [])
    looks = pixels_of(pixels), look_of(pixels)
    return Statement(id, *looks, state, against, labels.by, labels.shown, label=label, objects=objects)


def _write(labels: Labels, today: date, statements: list[Statement]) -> Path:
    """Into today's layer, in place of what it says of the same images; returns its file. Once ingest has laid it, the
    labels are others than those that its line is against: what is said then goes into another layer, to come after it.
    """
    path, number = layer_file(labels.folder, labels.dataset, f"app-{today.isoformat()}"), 1
    while (later := path.with_stem(f"app-{today.isoformat()}-{number + 1}")).is_file():
        path, number = later, number + 1
    before = {s.id: s for s in read_layer(path)} if path.is_file() else {}
    if any(s.id in before and before[s.id].against != s.against for s in statements):
        path, before = later, {}
    write_layer(path, (before | {s.id: s for s in statements}).values())
    return path


def _excluded(labels: Labels) -> dict[str, list[Statement]]:
    """Of each id the statements of the App's layers that exclude it."""
    found = defaultdict(list)
    for file in sorted((labels.folder / labels.dataset).glob("app-*.jsonl")):
        for said in read_layer(file):
            if said.state == "excluded":
                found[said.id].append(said)
    return found


def _holds(said: Statement, against: str, file: Path | None) -> bool:
    """Whether ingest would take it, of an image with these labels; without its file, as far as is known."""
    return said.against == against and (file is None or is_of(said, open_image(file)))


def _note(dataset: Any, noted: dict[str, str]) -> None:
    written = dataset.get_field("written")
    written.read_only = False
    written.save()
    dataset.set_values("written", noted, key_field="id")
    written.read_only = True
    written.save()


def _landmarks(dataset: Any) -> int:
    return len(dataset.skeletons[f"{TRUTH}_landmarks"].labels) if dataset.get_field(f"{TRUTH}_landmarks") else 0


def hash_of_file(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]

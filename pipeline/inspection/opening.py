"""How a FiftyOne dataset keeps in step with the files it is made of, and loses nothing that a person did in it."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.core.errors import InputError
from pipeline.inspection.database import connect
from pipeline.inspection.edits import Labels, remember, take_edits, untaken, user_tags

LAYOUT = 3  # of the fields; another number makes every dataset stale
PREFIX = "pocketlens"


@dataclass(slots=True)
class View:
    """What a FiftyOne dataset is to be: its `name`, a hash of what it is `made_from`, what `build` adds to a new one,
    and where `labels` that a person changes in it go. `core` is the hash of a part of it: who asks for that alone
    takes this one, too.
    """

    name: str
    made_from: str
    build: Callable[[Any, Any], None]
    labels: Labels
    core: str = ""


@dataclass(slots=True)
class Opened:
    """A FiftyOne dataset, lines on what was taken over from the one before it, and the `info` of one that was made from
    the files as they are.
    """

    dataset: Any
    said: list[str] = field(default_factory=list)
    info: dict[str, Any] = field(default_factory=dict)


def fingerprint(*things: str | Path) -> str:
    """A hash of texts and of the contents of files. Raises InputError for a file that is not there."""
    digest = hashlib.sha256(str(LAYOUT).encode())
    for thing in things:
        if isinstance(thing, str):
            digest.update(hashlib.sha256(thing.encode(errors="surrogatepass")).digest())
        elif thing.is_file():
            digest.update(hashlib.sha256(thing.read_bytes()).digest())
        else:
            raise InputError(
                f"{thing}: no such file; `dvc repro` makes it, `dvc checkout` or `dvc pull` brings it back"
            )
    return digest.hexdigest()


def opened(database: Path, view: View, today: date, edits: bool = True) -> Opened:
    """The dataset of that name if it was made from these files, else made anew.

    Before that, labels that a person has changed in it go into a label layer and tags into the new one. What cannot be
    taken over, as fields and saved views of theirs, or labels of an image that is another one now, stays in the old
    dataset, which gets another name. `today` names the layer. Until the new one is finished, the old one stays
    as it is. Without `edits` no layer is written: a dataset in which a person has changed something stays as it is.
    """
    fo = connect(database)
    with FileLock(database.resolve() / f"{view.name}.lock"):
        name, found, kept, old = f"new-{view.name}", Opened(None), "", None
        if fo.dataset_exists(name) and not fo.dataset_exists(view.name):  # what was cut short between two names
            fo.load_dataset(name).name = view.name
        tags: dict[str, set[str]] = {}
        if fo.dataset_exists(view.name):
            old = found.dataset = fo.load_dataset(view.name)
            if "made_from" in old.info:  # else its making was cut short, and no person has seen it
                waiting = 0 if edits else untaken(old, view.labels)
                lost = _taken(old, view, found, today) if edits else 0
                if waiting:
                    found.said.append(_left(view, waiting))
                if view.made_from in old.info["made_from"]:
                    found.info = old.info
                    return found
                if waiting:
                    found.info = _info_alone(fo, name, view)
                    return found
                tags = user_tags(old)
                kept = _why_kept(old, lost)
        found.dataset = _made(fo, name, view, tags, found)
        if old and kept:
            found.said.append(_kept(fo, old, kept))
        elif old:
            old.delete()
        found.dataset.name, found.info = view.name, found.dataset.info
    return found


def _info_alone(fo: Any, name: str, view: View) -> dict[str, Any]:
    """What a dataset that is made from the files as they are says of them; it is deleted again."""
    dataset = _made(fo, name, view, {}, Opened(None))
    info = dict(dataset.info)
    dataset.delete()
    return info


def _left(view: View, count: int) -> str:
    shown = view.labels.shown or view.labels.dataset
    return (
        f"{view.name}: stays as it is: what was changed of {count} images in FiftyOne's App is in no label layer yet; "
        f"`pocketlens inspect {shown}` takes it and makes the view anew"
    )


def _made(fo: Any, name: str, view: View, tags: Mapping[str, Iterable[str]], found: Opened) -> Any:
    dataset = fo.Dataset(name, persistent=True, overwrite=True)
    dataset.add_sample_field("written", fo.StringField)  # by `remember`; the sidebar is to know of it before
    view.build(fo, dataset)
    remember(dataset)
    _protect(dataset)
    gone = _tag(dataset, tags)
    if gone:
        found.said.append(f"{view.name}: tags of images that are not in it any more: {', '.join(gone)}")
    # written last: a dataset that was cut short has none and is made anew
    ours = {"fields": sorted(dataset.get_field_schema()), "views": sorted(dataset.list_saved_views())}
    dataset.info = {**dataset.info, "made_from": [view.core, view.made_from], **ours}
    dataset.save()
    return dataset


def tags_in(database: Path, names: Sequence[str]) -> dict[str, set[str]]:
    """id -> the tags that a person gave to the image, or to an object in it, in those of these FiftyOne datasets that
    are there. Raises InputError if none is.
    """
    fo = connect(database)
    there = [name for name in names if fo.dataset_exists(name)]
    if not there:
        raise InputError(f"{database}: no FiftyOne dataset {' or '.join(names)}; `pocketlens inspect` makes it")
    found: dict[str, set[str]] = {}
    for name in there:
        for id, tags in user_tags(fo.load_dataset(name)).items():
            found.setdefault(id, set()).update(tags)
    return found


def _taken(old: Any, view: View, found: Opened, today: date) -> int:
    taken = take_edits(old, view.labels, today)
    if taken.statements:
        found.said.append(f"{taken.path}: what was said of {len(taken.statements)} images in FiftyOne's App")
    return taken.lost


def _foreign(dataset: Any) -> list[str]:
    """Fields with something in them, and saved views, that are not ours."""
    fields = set(dataset.get_field_schema()) - set(dataset.info["fields"])
    views = set(dataset.list_saved_views()) - set(dataset.info["views"])
    spaces = set(dataset.list_workspaces())
    return sorted({name for name in fields if dataset.count(name)} | views | spaces)


def _why_kept(old: Any, lost: int) -> str:
    """What of the old dataset has no place in a new one, "" if nothing."""
    theirs = _foreign(old)
    why = [f"{', '.join(theirs)} of it"] if theirs else []
    return " and ".join([*why, *([f"labels of {lost} images that have changed since"] if lost else [])])


def _kept(fo: Any, old: Any, why: str) -> str:
    number, was = 1, old.name
    while fo.dataset_exists(name := f"{was}-kept-{number}"):
        number += 1
    old.name = name
    return f"{was}: kept as {name} for {why}"


def _protect(dataset: Any) -> None:
    """What we write is read-only in the App, but what `info["open"]` names: labels that are there to be mended."""
    free = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", *dataset.info.get("open", ())}
    fields = [field for field in dataset._doc.sample_fields if field.name not in free]
    while fields:  # FiftyOne's own way reads and writes the whole dataset's description for each field
        field = fields.pop()
        field.read_only = True
        fields += field.fields
    dataset.save()
    dataset.reload()


def _tag(dataset: Any, tags: Mapping[str, Iterable[str]]) -> list[str]:
    """Put a person's tags back; returns the ids that are gone, with their tags."""
    if not tags:
        return []
    places = dict(zip(dataset.values("name"), dataset.values("id"), strict=True))
    for tag in sorted({tag for own in tags.values() for tag in own}):
        ids = [places[id] for id, own in tags.items() if tag in own and id in places]
        dataset.select(ids).tag_samples(tag)
    return [f"{id} ({', '.join(sorted(own))})" for id, own in sorted(tags.items()) if id not in places]

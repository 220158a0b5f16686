"""Two versions of an ingested dataset compared, image by image: what came, went, moved or has other labels."""

import math
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from pipeline.core.errors import InputError, shown
from pipeline.core.image_file import open_image
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, read_dataset, read_samples
from pipeline.metrics.matching import MATCH_IOU, iou

SAME = 1e-6  # of a side of the image: what moved by less has not moved
LISTED = 20  # images that the text names of each kind
SHARED = ("labels", "landmarks", "pairs", "skeleton")  # of dataset.json
INGESTED = Path("data/ingested")


@dataclass(slots=True)
class Version:
    """A dataset as `ingest` wrote it into `folder`; `images` by id, each with its split."""

    name: str
    folder: Path
    dataset: Dataset
    images: dict[str, Sample]

    def file(self, i: str) -> Path:
        s = self.images[i]
        return self.folder / str(s.split) / s.file_name


@dataclass(slots=True)
class Change:
    """What is different in one image. `label` and `split` are those before and now; an object is told by its label:
    `relabelled` ones as (before, now), moved boxes as (label, IoU, how far the middle moved), moved landmarks as
    (label, how many, how far the one that moved most), in shares of the image's sides.
    """

    id: str
    split: tuple[str, str] | None = None
    label: tuple[str | None, str | None] | None = None
    pixels: bool = False
    relabelled: list[tuple[str, str]] = field(default_factory=list)
    objects_added: list[str] = field(default_factory=list)
    objects_removed: list[str] = field(default_factory=list)
    boxes_moved: list[tuple[str, float, float]] = field(default_factory=list)
    landmarks_moved: list[tuple[str, int, float]] = field(default_factory=list)

    def kinds(self) -> dict[str, str]:
        """Kind of change -> what is said of it."""
        moved = self.landmarks_moved
        said = {
            "split": " -> ".join(self.split) if self.split else "",
            "label": " -> ".join(str(label) for label in self.label) if self.label else "",
            "pixels": "other pixels" if self.pixels else "",
            "relabelled": ", ".join(f"{a} -> {b}" for a, b in self.relabelled),
            "objects_added": ", ".join(f"+ {label}" for label in self.objects_added),
            "objects_removed": ", ".join(f"- {label}" for label in self.objects_removed),
            "boxes_moved": ", ".join(f"{label} box IoU {overlap:.2f}" for label, overlap, _ in self.boxes_moved),
            "landmarks_moved": ", ".join(f"{label} {count} points by {far:.3f}" for label, count, far in moved),
        }
        return {kind: text for kind, text in said.items() if text}


@dataclass(slots=True)
class Difference:
    """Ids of images that only one version has, and what has changed in those that both have."""

    before: Version
    now: Version
    added: list[str]
    removed: list[str]
    changed: list[Change]

    def of_set(self) -> dict[str, tuple[list[Any], list[Any]]]:
        """What the images share and is different, before and now."""
        sets = self.before.dataset, self.now.dataset
        both = {key: (getattr(sets[0], key), getattr(sets[1], key)) for key in SHARED}
        both["layers"] = _layers(sets[0]), _layers(sets[1])
        return {key: (old, new) for key, (old, new) in both.items() if old != new}

    def counts(self) -> dict[str, int]:
        kinds = Counter(kind for change in self.changed for kind in change.kinds())
        both = len(self.now.images) - len(self.added)
        there = {"added": len(self.added), "removed": len(self.removed), "unchanged": both - len(self.changed)}
        return there | {kind: kinds[kind] for kind in Change("").__slots__ if kind != "id"}

    def to_json(self) -> dict[str, Any]:
        empty = Change("")
        changed = [
            {key: value for key, value in asdict(c).items() if value != getattr(empty, key)} for c in self.changed
        ]
        names = {"before": self.before.name, "now": self.now.name, "counts": self.counts()}
        shared = {key: {"before": old, "now": new} for key, (old, new) in self.of_set().items()}
        return {**names, "added": self.added, "removed": self.removed, "changed": changed, "dataset": shared}


def _layers(dataset: Dataset) -> list[str]:
    return [f"{name} ({sha256})" for name, sha256 in dataset.source.get("layers", {}).items()]


@contextmanager
def open_version(name: str, project: Path) -> Iterator[Version]:
    """A folder of ingested data, a dataset of the project by its name, or NAME@REV, as it was at a revision of git.

    Raises InputError if there is no such thing, or if DVC does not have the data of that revision.
    """
    place, at, rev = name.rpartition("@")
    if not at or Path(name).exists():
        yield _read(name, Path(name) if (Path(name) / "dataset.json").exists() else project / INGESTED / name)
        return
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    from pipeline.experiments.dvc_experiments import fetch

    with TemporaryDirectory() as folder:
        try:
            fetch(project, rev, [(INGESTED / place).as_posix()], Path(folder))
        except (DvcException, SCMError, FileNotFoundError) as error:
            if lack := _lack(project, rev, place):
                raise InputError(f"{name}: {lack}") from None
            why = getattr(error, "msg", None) or getattr(error, "strerror", None) or str(error)
            advice = "commit dvc.lock after `dvc repro`, and keep its data in DVC's cache or remote"
            raise InputError(f"{name}: DVC has no such data of {rev} ({why}); {advice}") from None
        yield _read(name, Path(folder) / INGESTED / place)


def _lack(project: Path, rev: str, dataset: str) -> str:
    """What dvc.lock at `rev` lacks to have `dataset`; "" where it lacks nothing, or `rev` cannot be read."""
    from dvc.exceptions import DvcException
    from scmrepo.exceptions import SCMError

    from pipeline.experiments.dvc_experiments import locked_stages

    try:
        stages = locked_stages(project, rev)
    except (DvcException, SCMError):
        return ""
    if stages is None:
        return f"{rev} has no dvc.lock: commit it after `make repro`"
    names = [stage.removeprefix("ingest@") for stage in stages if stage.startswith("ingest@")]
    known = f"; it has {', '.join(names) or 'none'}"
    return "" if dataset in names else f"dvc.lock of {rev} has no dataset {dataset!r}{known}"


def _read(name: str, folder: Path) -> Version:
    if not (folder / "dataset.json").is_file():
        raise InputError(f"{name}: no ingested data in {folder}; expected its folder, a dataset's name or NAME@REV")
    dataset, images = read_dataset(folder), {}
    for split in SPLITS:
        for s in read_samples(folder / split):
            s.split = split
            images[s.id] = s
    return Version(name, folder, dataset, images)


def difference(before: Version, now: Version) -> Difference:
    """What has changed, by id. Files of the same bytes are the same image; others are decoded and compared.

    Raises InputError for an image that does not decode.
    """
    both = sorted(before.images.keys() & now.images.keys())
    changes = (_change(i, before, now) for i in both)
    return Difference(
        before,
        now,
        sorted(now.images.keys() - before.images.keys()),
        sorted(before.images.keys() - now.images.keys()),
        [change for change in changes if change.kinds()],
    )


def _change(i: str, before: Version, now: Version) -> Change:
    a, b = before.images[i], now.images[i]
    change = Change(i, pixels=_other_pixels(before.file(i), now.file(i)))
    if a.split != b.split:
        change.split = str(a.split), str(b.split)
    if a.label != b.label:
        change.label = a.label, b.label
    if a.objects != b.objects:
        compare_objects(a.objects, b.objects, change)
    return change


def _other_pixels(one: Path, other: Path) -> bool:
    try:
        if os.path.samestat(one.stat(), other.stat()) or one.read_bytes() == other.read_bytes():
            return False
    except FileNotFoundError as error:
        raise InputError(f"{error.filename}: no such file, though metadata.jsonl beside it names it") from None
    a, b = open_image(one), open_image(other)
    return a.size != b.size or not np.array_equal(np.asarray(a), np.asarray(b))


def compare_objects(before: list[Object], now: list[Object], change: Change) -> None:
    """Pair the objects, each once: of one label those that overlap most or are next to each other, then of any label
    those that overlap by half.
    """
    free: tuple[list[Object], list[Object]] = [], list(now)
    for o in before:
        if o in free[1]:
            free[1].remove(o)
        else:
            free[0].append(o)
    for a, b in _pairs(*free, by_label=True):
        far = math.dist(_middle(a), _middle(b))
        if any(abs(x - y) > SAME for x, y in zip(a.box, b.box, strict=True)):
            change.boxes_moved.append((a.label, float(iou([b], [a])[0, 0]), far))
        _compare_landmarks(a, b, change)
        if a.crowd != b.crowd:
            change.relabelled.append(tuple(f"{o.label} (crowd)" if o.crowd else o.label for o in (a, b)))  # type: ignore[arg-type]
    for a, b in _pairs(*free, by_label=False):
        change.relabelled.append((a.label, b.label))
        _compare_landmarks(a, b, change)
    change.objects_removed, change.objects_added = ([o.label for o in rest] for rest in free)


def _compare_landmarks(a: Object, b: Object, change: Change) -> None:
    if len(a.landmarks) != len(b.landmarks):
        change.landmarks_moved.append((b.label, abs(len(a.landmarks) - len(b.landmarks)), 0.0))
        return
    moved = [
        math.dist((p.x, p.y), (q.x, q.y)) if p.visibility and q.visibility else 0.0
        for p, q in zip(a.landmarks, b.landmarks, strict=True)
        if p.visibility != q.visibility or max(abs(p.x - q.x), abs(p.y - q.y)) > SAME
    ]
    if moved:
        change.landmarks_moved.append((b.label, len(moved), max(moved)))


def _pairs(before: list[Object], now: list[Object], by_label: bool) -> list[tuple[Object, Object]]:
    """The pairs that go best together; they are taken out of the two lists."""
    overlap = iou(now, before)
    ways = []
    for i, a in enumerate(before):
        for j, b in enumerate(now):
            far = math.dist(_middle(a), _middle(b))
            near = by_label and a.label == b.label and (overlap[j, i] > 0 or far <= max(*a.box[2:], *b.box[2:]))
            if near or (not by_label and overlap[j, i] >= MATCH_IOU):
                ways.append((-overlap[j, i], far, i, j))
    found: dict[int, int] = {}
    taken: set[int] = set()
    for _, _, i, j in sorted(ways):
        if i not in found and j not in taken:
            found[i] = j
            taken.add(j)
    pairs = [(before[i], now[j]) for i, j in sorted(found.items())]
    before[:] = [o for i, o in enumerate(before) if i not in found]
    now[:] = [o for j, o in enumerate(now) if j not in taken]
    return pairs


def _middle(o: Object) -> tuple[float, float]:
    x, y, w, h = o.box
    return x + w / 2, y + h / 2


def difference_text(found: Difference) -> str:
    """What changed, for a person: counts, then images by kind, `LISTED` of each."""
    counts = found.counts()
    before, now = (f"{v.name}: {len(v.images)} images" for v in (found.before, found.now))
    lines = [f"{before} -> {now}", "  ".join(f"{kind} {count}" for kind, count in counts.items() if count)]
    for key, both in found.of_set().items():
        old, new = (", ".join(i if isinstance(i, str) else f"{i[0]}-{i[1]}" for i in of) or "none" for of in both)
        lines.append(f"{key}: {shown(old)} -> {shown(new)}")
    for kind, ids in (("added", found.added), ("removed", found.removed)):
        lines += _listed(kind, [shown(i) for i in ids])
    lines += _listed("changed", [f"{shown(c.id)}: {'; '.join(c.kinds().values())}" for c in found.changed])
    return "\n".join(line for line in lines if line)


def _listed(what: str, lines: list[str]) -> list[str]:
    more = [f"  and {len(lines) - LISTED} more"] if len(lines) > LISTED else []
    return [f"{what}:", *(f"  {line}" for line in lines[:LISTED]), *more] if lines else []

"""COCO JSON: boxes in pixels `[x, y, w, h]`, keypoints `[x, y, v, ...]` (https://cocodataset.org/#format-data).

Found in `annotations/*.json`, beside the images, or one folder a split as annotation tools export it. The split is
in the file's or folder's name (`instances_val2017.json`, `valid/_annotations.coco.json`), else in lists or the folders
of images. Segmentations are not read.
"""

import re
from collections.abc import Iterable
from heapq import nlargest
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import SPLITS
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.coco_rows import CocoRows
from pipeline.datasets.formats.coco_write import WRITER
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import brief, class_name, id_text, one_key_each, refuse_many, refuse_twice
from pipeline.datasets.formats.points import scheme_of
from pipeline.datasets.formats.reading import (
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    known_scheme,
    label_text,
    point_names,
    relative,
    without_suffix,
)
from pipeline.datasets.formats.split_folders import file_splits
from pipeline.datasets.formats.split_lists import place, split_lists, val_is_train
from pipeline.datasets.formats.values import whole

LOOKED_AT = 20  # files of a folder that may be full of other JSON: those of a whole set are the largest
DEEP = 3
KEYS = ("images", "annotations", "categories")


def read(path: Path, labels: Path, options: NoOptions) -> Reading:  # noqa: ARG001 (every format is called alike)
    """`labels` is one JSON file or a folder with them. Raises InputError when they contradict each other.

    A file with image or annotation rows that make no sense gives problems, each with the row's id.

    >>> from tempfile import TemporaryDirectory
    >>> import json
    >>> rows = {
    ...     "images": [{"id": 1, "file_name": "a.jpg", "width": 100, "height": 50}],
    ...     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [10, 5, 50, 20]}],
    ...     "categories": [{"id": 7, "name": "cow"}],
    ... }
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     _ = Path(folder, "cows.json").write_text(json.dumps(rows))
    ...     reading = read(Path(folder), Path(folder), NoOptions())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('cow', (0.1, 0.1, 0.5, 0.4))]
    """
    files = _annotation_files(labels)
    if not files:
        raise InputError(f"{labels}: no COCO JSON (an object with images, annotations and categories)")
    images = ImageIndex(path)
    reading = Reading([], [])
    taken: dict[str, tuple[Candidate, Path]] = {}
    found: list[tuple[Candidate, Path]] = []
    splits = file_splits([relative(file, labels, path) for file in files], labels, reading)
    for file, content in files.items():
        where = relative(file, labels, path)
        names = _schema(reading, file, content)
        place_of = images.folder_of(file, labels), file.stem if len(files) > 1 else ""
        rows = CocoRows(file, content, where, place_of, names, reading, images, splits[where])
        found += ((candidate, file) for candidate in rows.candidates())
    same = val_is_train((c for c, _ in found), splits, reading)
    for candidate, file in found:
        if not (same and candidate.split == "val"):
            _take(taken, candidate, file, reading)
    reading.candidates = [candidate for candidate, _ in taken.values()]
    if not any(splits.values()):
        place(reading, path, images.names, split_lists(reading, path, labels), alone=False)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    if rest := len(images.files) - len(taken):
        reading.problems.append(Problem("", "", "not_listed", f"{rest} images that no annotation file lists", "noted"))
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    misses: list[str] = []
    if files := _annotation_files(labels, misses, LOOKED_AT):
        return f"COCO annotations in {', '.join(relative(f, labels) for f in list(files)[:3])}"
    if misses:
        raise InputError(misses[0])
    return None


def _annotation_files(
    labels: Path, misses: list[str] | None = None, most: int | None = None
) -> dict[Path, dict[str, Any]]:
    """The files that hold COCO annotations; other JSON (results, captions) is passed over.

    `misses` gets what is against those that nearly do; without it a file that is no JSON is an InputError. With `most`
    only so many are read, the largest.
    """
    found = {}
    every: Iterable[Path] = [labels]
    if not labels.is_file():
        every = (f for f in files_under(labels, {".json"}) if len(f.relative_to(labels).parts) <= DEEP)
    files = (
        every if most is None else nlargest(most, every, key=lambda file: file.stat().st_size if file.exists() else 0)
    )
    for file in sorted(files):
        try:
            content = read_json(file)
        except InputError as error:
            if misses is None:
                raise
            misses.append(str(error))
            continue
        if _is_coco(content):
            found[file] = content
        elif misses is not None and isinstance(content, dict) and (keys := content.keys() & KEYS):
            lack = ", ".join(key for key in KEYS if not (isinstance(content.get(key), list) and content[key]))
            misses.append(f"{file}: JSON with {', '.join(sorted(keys))}, but no list of {lack}")
    return found


def _is_coco(content: Any) -> bool:
    return isinstance(content, dict) and all(isinstance(content.get(k), list) for k in KEYS) and content["categories"]


def _take(taken: dict[str, tuple[Candidate, Path]], candidate: Candidate, file: Path, reading: Reading) -> None:
    """Keep an image once: where two files give it different splits, the one further from training wins."""
    before, first = taken.get(candidate.name, (None, file))
    if before is None:
        taken[candidate.name] = (candidate, file)
        return
    if None in (before.split, candidate.split) or before.split == candidate.split:
        raise InputError(
            f"{file}: lists {candidate.name}, as {first} does; expected each image in one file: "
            f"set `labels` to the file that is meant"
        )
    winner, loser = sorted((before, candidate), key=lambda c: SPLITS.index(c.split or "train"), reverse=True)
    taken[candidate.name] = (winner, file if winner is candidate else first)
    found = f"listed for {loser.split} and for {winner.split}; taken as {winner.split}"
    reading.problems.append(Problem(candidate.name, "", "listed_twice", found, "noted"))


def _names(file: Path, content: dict[str, Any]) -> tuple[dict[str, str], list[str]]:
    """Category id as text -> label, in the order of the ids; and what is to be noted of them."""
    names: dict[str, str] = {}
    notes = []
    where = f"{file}: categories"
    rows = content["categories"]
    if wrong := [r for r in rows if not isinstance(r, dict) or "name" not in r or id_text(r.get("id")) is None]:
        found = f"found {brief(wrong[0])}; an id is a number or text"
        raise InputError(f"{where}: expected objects with id and name; {found}")
    refuse_many(len(rows), where, "classes")
    for row in sorted(rows, key=lambda c: _order(c["id"])):
        key, label = str(id_text(row["id"])), class_name(row["name"], f"{where}: id {row['id']}: name")
        if names.setdefault(key, label) != label:
            raise InputError(f"{where}: id {key} is {names[key]!r} and {label!r}; expected each id once")
    if len(rows) > len(names):
        notes.append(f"{len(rows) - len(names)} categories stand there twice, with the same id and name")
    used = {id_text(a.get("category_id")) for a in content["annotations"] if isinstance(a, dict)}
    return names, [*notes, *one_key_each(list(names.items()), used, where, "category")]


def _order(key: Any) -> tuple[bool, int, str]:
    """Ids by their number, then those that are words."""
    text = str(id_text(key))
    return (False, int(text), "") if re.fullmatch("[0-9]{1,18}", text) else (True, 0, text)


def _schema(reading: Reading, file: Path, content: dict[str, Any]) -> dict[str, str]:
    """Category id as text -> label; adds labels, landmark names, pairs and skeleton to the reading."""
    names, notes = _names(file, content)
    reading.problems += [Problem(file.name, "categories", "duplicate_id", note, "noted") for note in notes]
    known = set(reading.labels)
    reading.labels += [n for n in dict.fromkeys(names.values()) if n not in known]
    categories = sorted(content["categories"], key=lambda c: _order(c["id"]))
    skeleton: Any = []
    for category in categories:
        points = category.get("keypoints") or []
        if not points:
            continue
        where = f"{file}: category {category['name']!r}"
        if not isinstance(points, list):
            raise InputError(f"{where}: keypoints: found {brief(points)}; expected a list of names")
        refuse_many(len(points), where, "landmarks")
        points = [label_text(p) for p in points]
        refuse_twice(points, where, "keypoint")
        if reading.landmarks and points != reading.landmarks:
            raise InputError(
                f"{file}: category {category['name']!r} has {len(points)} keypoints ({', '.join(points[:4])}, ...), "
                f"an earlier one {len(reading.landmarks)} ({', '.join(reading.landmarks[:4])}, ...); "
                f"expected the same in all categories that have any"
            )
        reading.landmarks = points
        skeleton = skeleton or category.get("skeleton") or []
    if not reading.landmarks:  # numbered points, as face sets have them
        numbers = (a.get("keypoints") for a in content["annotations"] if isinstance(a, dict))
        counts = {len(n) // 3 for n in numbers if isinstance(n, list) and n}
        if len(counts) > 1:
            raise InputError(f"{file}: annotations with {sorted(counts)} keypoints; expected the same in all")
        numbered = counts.pop() if counts else 0
        refuse_many(numbered, f"{file}: annotations", "landmarks")
        reading.landmarks = point_names(numbered)
        reading.pairs, reading.skeleton = known_scheme(numbered)
    else:
        reading.pairs = scheme_of(reading.landmarks)[0]
    reading.skeleton = reading.skeleton or _bones(file, skeleton, len(reading.landmarks), reading)
    return names


def _bones(file: Path, skeleton: Any, count: int, reading: Reading) -> list[tuple[int, int]]:
    """The pairs of landmarks that lines join. COCO counts them from 1; a file with a 0 in it counts from 0."""
    try:
        bones = [(whole(a), whole(b)) for a, b in (bone for bone in skeleton if len(bone) == 2)]
    except (TypeError, ValueError):
        raise InputError(f"{file}: skeleton: found {brief(skeleton)}; expected pairs of keypoints") from None
    base = 0 if any(0 in bone for bone in bones) else 1
    if odd := [bone for bone in bones if min(bone) < base or max(bone) >= count + base]:
        found = f"{len(odd)} lines to keypoints that are not there, such as {list(odd[0])} of {count}; left out"
        reading.problems.append(Problem(file.name, "skeleton", "bad_landmarks", found, "noted"))
    return [(a - base, b - base) for a, b in bones if base <= min(a, b) and max(a, b) < count + base]


FORMAT = Format(
    name="coco",
    tasks=("localize", "detect"),
    Options=NoOptions,
    read=read,
    looks_for="JSON with images, annotations and categories",
    recognize=recognize,
    rank=30,  # three keys that other JSON does not have together
    write=WRITER,
    sign=signs.COCO,
)

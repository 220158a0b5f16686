"""COCO JSON: boxes in pixels `[x, y, w, h]`, keypoints `[x, y, v, ...]` (https://cocodataset.org/#format-data).

Found in `annotations/*.json`, beside the images, or one folder a split as annotation tools export it. The split is
in the file's or folder's name (`instances_val2017.json`, `valid/_annotations.coco.json`), else in lists or the folders
of images. Segmentations are not read.
"""

import json
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import ABSENT, SPLITS, Landmark, Object
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.reading import (
    Candidate,
    ImageIndex,
    Problem,
    Reading,
    files_under,
    give_ids,
    known_scheme,
    landmark,
    left_right_pairs,
    point_names,
    relative,
    upright_size,
    without_suffix,
)
from pipeline.datasets.formats.split_folders import file_splits, folders_of
from pipeline.datasets.formats.split_lists import place, split_lists, val_is_train

KEYS = ("images", "annotations", "categories")
SIDES = 1 << 24  # pixels; a longer side is a mistake


def read(path: Path, labels: Path, options: NoOptions) -> Reading:  # noqa: ARG001 (every format is called alike)
    """`labels` is one JSON file or a folder with them. Raises InputError when they contradict each other.

    A file with image or annotation rows that make no sense gives problems, each with the row's id.

    >>> from tempfile import TemporaryDirectory
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
        found += ((c, file) for c in _Rows(content, where, names, reading, images, splits[where]).candidates())
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
    if files := _annotation_files(labels, misses):
        return f"COCO annotations in {', '.join(relative(f, labels) for f in list(files)[:3])}"
    if misses:
        raise InputError(misses[0])
    return None


def _annotation_files(labels: Path, misses: list[str] | None = None) -> dict[Path, dict[str, Any]]:
    """The files that hold COCO annotations; other JSON (results, captions) is passed over.

    `misses` gets what is against those that nearly do; without it a file that is no JSON is an InputError.
    """
    found = {}
    files = [labels] if labels.is_file() else sorted(files_under(labels, {".json"}))
    for file in files:
        if file != labels and len(file.relative_to(labels).parts) > 3:
            continue
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


def _schema(reading: Reading, file: Path, content: dict[str, Any]) -> dict[Any, str]:
    """Category id -> label; adds labels, landmark names, pairs and skeleton to the reading."""
    try:
        categories = sorted(content["categories"], key=lambda c: c["id"])
        names = {c["id"]: str(c["name"]) for c in categories}
    except (KeyError, TypeError) as error:
        raise InputError(f"{file}: categories: expected objects with id and name ({error})") from None
    reading.labels += [n for n in dict.fromkeys(names.values()) if n not in reading.labels]
    skeleton: list[list[int]] = []
    for category in categories:
        points = [str(p) for p in category.get("keypoints") or []]
        if not points:
            continue
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
        reading.landmarks = point_names(numbered)
        reading.pairs, reading.skeleton = known_scheme(numbered)
    else:
        reading.pairs = left_right_pairs(reading.landmarks)
    # COCO counts from 1; a file with a 0 in it counts from 0
    base = 0 if any(0 in bone for bone in skeleton) else 1
    bones = [(int(a) - base, int(b) - base) for a, b in (bone for bone in skeleton if len(bone) == 2)]
    reading.skeleton = reading.skeleton or [(a, b) for a, b in bones if max(a, b) < len(reading.landmarks)]
    return names


class _Rows:
    """The images and annotations of one file as candidates."""

    def __init__(
        self,
        content: dict[str, Any],
        where: str,
        names: dict[Any, str],
        reading: Reading,
        images: ImageIndex,
        split: str | None,
    ):
        self.content, self.where, self.names, self.reading = content, where, names, reading
        self.images, self.split = images, split
        self.near = ("images", str(PurePosixPath(where).parent), *folders_of(split, images.names))

    def candidates(self) -> list[Candidate]:
        by_image: dict[Any, Candidate] = {}
        refused = set()
        for row in self.content["images"]:
            key = f"image {row.get('id')}" if isinstance(row, dict) else json.dumps(row)[:40]
            if candidate := self._image(row, key):
                by_image[row["id"]] = candidate
            elif isinstance(row, dict):
                refused.add(row.get("id"))
        for row in self.content["annotations"]:
            if not isinstance(row, dict):
                self._problem(json.dumps(row)[:40], "bad_row", "not an object", "dropped")
            elif row.get("image_id") in by_image:
                self._annotate(by_image[row["image_id"]], row)
            elif row.get("image_id") not in refused:
                found = f"image_id {row.get('image_id')} is not among the images"
                self._problem(f"annotation {row.get('id')}", "unknown_image", found, "dropped")
        return list(by_image.values())

    def _problem(self, key: str, rule: str, found: str, done: str = "refused", file: str = "") -> None:
        self.reading.problems.append(Problem(file or self.where, key, rule, found, done))

    def _image(self, row: Any, key: str) -> Candidate | None:
        if not isinstance(row, dict) or "id" not in row or not isinstance(row.get("file_name"), str):
            self._problem(key, "bad_row", "an image without id or file_name")
            return None
        found = self.images.find(row["file_name"], self.near)
        if len(found) != 1:
            rule = "ambiguous_file" if found else "missing_file"
            what = f"{len(found)} images of that name" if found else "no such image"
            self._problem(key, rule, what, file=row["file_name"])
            return None
        file = self.images.names[found[0]]
        try:
            size = (int(row["width"]), int(row["height"]))
        except (KeyError, TypeError, ValueError, OverflowError):
            size = (0, 0)
        unsized = not 0 < min(size) <= max(size) < SIDES
        try:
            size = upright_size(file) if unsized else size
        except ValueError as error:
            self._problem(key, "unreadable", str(error), file=found[0])
            return None
        return Candidate(file, found[0], split=self.split, size=size, unsized=unsized)

    def _annotate(self, candidate: Candidate, row: dict[str, Any]) -> None:
        key = f"annotation {row.get('id')}"
        if row.get("category_id") not in self.names:
            found = f"category_id {row.get('category_id')} is not among the categories"
            self._problem(key, "unknown_class", found, "dropped", candidate.name)
            return
        try:
            x, y, w, h = (float(v) for v in row["bbox"])
        except (KeyError, TypeError, ValueError, OverflowError):
            found = f"bbox {row.get('bbox')!s:.80}"
            self._problem(key, "bad_box", f"{found}; expected [x, y, w, h]", "dropped", candidate.name)
            return
        width, height = candidate.size or (1, 1)
        points = self._landmarks(row, (width, height))
        if points is None:
            values = row["keypoints"]
            count = len(values) if isinstance(values, list) else values
            found = f"{count} keypoint values, expected {3 * len(self.reading.landmarks)} numbers"
            self._problem(key, "bad_landmarks", found, "dropped", candidate.name)
            return
        box = (x / width, y / height, w / width, h / height)
        candidate.objects.append(Object(self.names[row["category_id"]], box, points, crowd=bool(row.get("iscrowd"))))
        candidate.keys.append(key)

    def _landmarks(self, row: dict[str, Any], size: tuple[int, int]) -> list[Landmark] | None:
        """The object's points, all absent where it has none; None if they are not as many as there are names."""
        names, numbers = self.reading.landmarks, row.get("keypoints")
        if not numbers:
            return [Landmark(0.0, 0.0, ABSENT) for _ in names]
        if not isinstance(numbers, list) or len(numbers) != 3 * len(names):
            return None
        try:
            values = [float(v) for v in numbers]
        except (TypeError, ValueError, OverflowError):
            return None
        w, h = size
        triples = list(zip(values[::3], values[1::3], values[2::3], strict=True))
        self.reading.unseen += sum(not seen and bool(x or y) for x, y, seen in triples)
        return [landmark(x / w, y / h, seen) for x, y, seen in triples]


FORMAT = Format(
    name="coco",
    tasks=("localize", "detect"),
    Options=NoOptions,
    read=read,
    looks_for="JSON with images, annotations and categories",
    recognize=recognize,
    rank=30,  # three keys that other JSON does not have together
)

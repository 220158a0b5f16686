"""YOLO text: per image a file of lines `class cx cy w h` (relative), with landmarks after them in pose sets.

Class names come from `data.yaml` (names, kpt_shape, flip_idx, train, val, test as Ultralytics writes it),
`classes.txt` or `obj.names`. A label file lies beside its image, in `labels/` where the image is in `images/`,
or in a folder of its own. An image without a label file is background, as Ultralytics has it.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import InputError, shown
from pipeline.core.sample import VISIBLE, Landmark, Object
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.image_index import ImageIndex, one_form
from pipeline.datasets.formats.keys import brief, class_name, id_text, one_key_each, refuse_twice
from pipeline.datasets.formats.reading import (
    SPLIT_NAMES,
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    known_scheme,
    label_text,
    landmark,
    left_right_pairs,
    point_names,
    relative,
    without_suffix,
)

NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
NO_LABELS = re.compile(r"(classes|predefined_classes|notes|readme.*|license.*|requirements|train|val|valid|test)\.txt$")


@dataclass(slots=True)
class Names:
    """What the names file says: landmarks have `numbers` (2 or 3) numbers each."""

    file: Path
    labels: list[str]
    points: list[str] = field(default_factory=list)
    numbers: int = 3
    pairs: list[tuple[int, int]] = field(default_factory=list)
    skeleton: list[tuple[int, int]] = field(default_factory=list)
    used: set[int] = field(default_factory=set)  # the classes that objects have
    splits: dict[str, list[str]] = field(default_factory=dict)  # split -> folders, or lists of images


def read(path: Path, labels: Path, options: NoOptions) -> Reading:  # noqa: ARG001 (every format is called alike)
    """Raises InputError if there is no file of class names, or it is not as expected.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     _ = Path(folder, "a.txt").write_text("0 0.5 0.5 0.5 0.25")
    ...     _ = Path(folder, "classes.txt").write_text("cow")
    ...     reading = read(Path(folder), Path(folder), NoOptions())
    >>> [(o.label, o.box) for o in reading.candidates[0].objects]
    [('cow', (0.25, 0.375, 0.5, 0.25))]
    """
    names = _names(path, labels)
    images = ImageIndex(path)
    reading = Reading([], names.labels, names.points, names.pairs, names.skeleton)
    texts = {f: relative(f, labels, path) for root in (labels, path) for f in sorted(files_under(root, {".txt"}))}
    by_name = {name: file for file, name in reversed(texts.items())}
    label_files = _label_files(images, by_name)
    fits = Counter(label_files.values())
    for name, file in images.names.items():
        text = label_files.get(name)
        if text is not None and fits[text] > 1:
            found = f"{shown(text)} fits {fits[text]} images; expected one"
            reading.problems.append(Problem(name, text, "ambiguous_file", found))
            continue
        candidate = Candidate(file, name, split=_split(name, names))
        if text is not None:
            _read_lines(by_name[text], text, candidate, names, reading)
        reading.candidates.append(candidate)
    _settle_names(reading, names)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    if empty := len(images.names) - len(label_files):
        found = f"{empty} images without a label file; taken as background"
        reading.problems.append(Problem("", "", "no_label", found, "noted"))
    used = {by_name[text] for text in fits}
    for file, name in texts.items():
        if file not in used and not NO_LABELS.match(file.name.lower()):
            found = f"a label file without an image{images.reason(file.stem)}"
            reading.problems.append(Problem(name, "", "no_image", found))
    return reading


def _settle_names(reading: Reading, names: Names) -> None:
    """Have each class once. Raises InputError where objects have two classes of one name."""
    numbers = list(enumerate(names.labels))
    for note in one_key_each(numbers, names.used, f"{names.file}: names", "class"):
        reading.problems.append(Problem(names.file.name, "names", "duplicate_id", note, "noted"))
    reading.labels = list(dict.fromkeys(names.labels))


def recognize(path: Path, labels: Path) -> str | None:
    try:
        names = _names(path, labels)
    except InputError:
        return None
    texts = [f for f in files_under(labels, {".txt"}) if not NO_LABELS.match(f.name.lower())]
    return f"{len(texts)} label files, class names in {names.file.name}" if texts else None


def _names(path: Path, labels: Path) -> Names:
    roots = [r for r in dict.fromkeys((labels, path, path / "labels")) if r.is_dir()]
    for root in roots:
        for file in sorted((*root.glob("*.yaml"), *root.glob("*.yml"))):
            if names := _from_yaml(file):
                return names
        for file in (root / name for name in NAME_LISTS):
            if file.is_file():
                lines = [line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().splitlines()]
                return Names(file, _class_names(lines, str(file)))
    raise InputError(f"{labels}: no class names; expected data.yaml, {', '.join(NAME_LISTS[:2])} in it or in {path}")


def _from_yaml(file: Path) -> Names | None:
    """None if the file has no `names`. Raises InputError if it is not YAML or a key is not as expected."""
    try:
        content = YAML(typ="safe").load(file)
    except YAMLError as error:
        raise InputError(f"{file}: not YAML: {error}") from None
    if not isinstance(content, dict) or "names" not in content:
        return None
    labels = content["names"]
    if isinstance(labels, dict):
        by_key = {id_text(key): label for key, label in labels.items()}
        if len(by_key) < len(labels) or set(by_key) != {str(i) for i in range(len(labels))}:
            raise InputError(f"{file}: names: keys {brief(list(labels)[:5])}; expected 0, 1, 2 and so on, each once")
        labels = [by_key[str(i)] for i in range(len(labels))]
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{file}: names: found {labels!r}; expected a list of class names")
    names = Names(file, _class_names(labels, f"{file}: names"))
    if shape := content.get("kpt_shape"):
        _set_points(names, shape, content.get("kpt_names"), content.get("flip_idx"))
    for split in ("train", "val", "test"):
        said = content.get(split) or (content.get("valid") if split == "val" else None) or []
        for entry in [said] if isinstance(said, str) else said:
            names.splits.setdefault(split, []).extend(_images_of(file, str(entry), content.get("path")))
    return names


def _class_names(labels: list[Any], where: str) -> list[str]:
    """Raises InputError that begins with `where` for what is no name: an empty line between names would shift them."""
    return [class_name(label, f"{where}: class {number}") for number, label in enumerate(labels)]


def _set_points(names: Names, shape: Any, said: Any, flipped: Any) -> None:
    """Landmarks as `kpt_shape`, `kpt_names` and `flip_idx` have them. Raises InputError if they make no sense."""
    if not isinstance(shape, list) or len(shape) != 2 or not _is_count(shape[0]) or shape[1] not in (2, 3):
        raise InputError(f"{names.file}: kpt_shape: found {shape}; expected [points, 2 or 3]")
    count, names.numbers = shape
    said = next(iter(said.values()), None) if isinstance(said, dict) else said
    names.points = point_names(count)
    if isinstance(said, list) and len(said) == count:
        names.points = [label_text(point) for point in said]
        refuse_twice(names.points, f"{names.file}: kpt_names", "landmark")
    if flipped and not _is_flip(flipped, count):
        raise InputError(f"{names.file}: flip_idx: found {brief(flipped)}; expected {count} places from 0, in pairs")
    scheme = known_scheme(0 if said else count)
    by_index = [(i, j) for i, j in enumerate(flipped or []) if i < j]
    names.pairs = by_index if flipped else left_right_pairs(names.points) or scheme[0]
    names.skeleton = scheme[1]


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value > 0


def _is_flip(places: Any, count: int) -> bool:
    """Whether each place says whose place it takes in the mirror, and that one the other way round."""
    if not isinstance(places, list) or len(places) != count or not all(type(i) is int for i in places):
        return False
    return all(0 <= i < count and places[i] == own for own, i in enumerate(places))


def _images_of(file: Path, entry: str, root: Any) -> list[str]:
    """A split's folder, or the images that its list names; without leading dots, which seldom hold elsewhere."""
    if entry.endswith(".txt"):
        for place in (file.parent / entry, file.parent / str(root or "") / entry):
            if place.is_file():
                return [_tail(line) for line in place.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    return [_tail(entry)]


def _tail(entry: str) -> str:
    parts = PurePosixPath(entry.strip().replace("\\", "/")).parts
    return "/".join(p for p in parts if p not in (".", "..", "/"))


def _split(name: str, names: Names) -> str | None:
    """The split that data.yaml gives the image, else the one that a folder on its path speaks of."""
    for split in ("test", "val", "train"):
        for tail in names.splits.get(split, []):
            if f"/{name}".endswith(f"/{tail}") or f"/{name}".startswith(f"/{tail}/"):
                return split
    folders = [SPLIT_NAMES[p.lower()] for p in PurePosixPath(name).parts[:-1] if p.lower() in SPLIT_NAMES]
    return folders[0] if folders else None


def _label_files(images: ImageIndex, texts: Collection[str]) -> dict[str, str]:
    """Image -> its label file, of `texts`: of the same name, else of one that is the same text in another form."""
    places = {name: _places(name, images) for name in images.names}
    found = {name: next((p for p in own if p in texts), None) for name, own in places.items()}
    taken = set(found.values())
    forms: dict[str, list[str]] = defaultdict(list)
    for text in texts:
        if text not in taken:
            forms[one_form(text)].append(text)
    for name, own in places.items():
        if found[name] is None:
            alike = (forms.get(one_form(place), []) for place in own)
            found[name] = next((there[0] for there in alike if len(there) == 1), None)
    return {name: text for name, text in found.items() if text is not None}


def _places(name: str, images: ImageIndex) -> list[str]:
    """Where the label file of an image may lie: beside it, in the parallel tree, or (if only one image can be meant)
    by its name.
    """
    text = PurePosixPath(name).with_suffix(".txt")
    parts = list(text.parts)
    places = [str(text), f"labels/{text}"]
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        places.append("/".join([*parts[:last], "labels", *parts[last + 1 :]]))
        places.append("/".join([*parts[:last], *parts[last + 1 :]]))
    if len(images.find(text.stem)) == 1:
        places.append(text.name)
    return places


def _read_lines(file: Path, where: str, candidate: Candidate, names: Names, reading: Reading) -> None:
    expected = 5 + len(names.points) * names.numbers
    for number, line in enumerate(file.read_text(encoding="utf-8-sig", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        key = f"{where}:{number}"
        try:
            index, *numbers = (float(word) for word in line.split())
        except ValueError:
            reading.problems.append(Problem(candidate.name, key, "bad_line", line[:60], "dropped"))
            continue
        if len(numbers) + 1 != expected:
            found = f"{len(numbers) + 1} numbers, expected {expected}"
            reading.problems.append(Problem(candidate.name, key, "bad_line", found, "dropped"))
        elif index not in range(len(names.labels)):
            found = f"class {index:g}, expected 0 to {len(names.labels) - 1}"
            reading.problems.append(Problem(candidate.name, key, "unknown_class", found, "dropped"))
        else:
            cx, cy, w, h = numbers[:4]
            points = _landmarks(numbers[4:], names.numbers)
            names.used.add(int(index))
            candidate.objects.append(Object(names.labels[int(index)], (cx - w / 2, cy - h / 2, w, h), points))
            candidate.keys.append(key)


def _landmarks(numbers: list[float], each: int) -> list[Landmark]:
    """Without a visibility, Ultralytics writes 0 0 for a point that is not there."""
    points = []
    for i in range(0, len(numbers), each):
        x, y = numbers[i : i + 2]
        points.append(landmark(x, y, numbers[i + 2] if each == 3 else VISIBLE * bool(x or y)))
    return points


FORMAT = Format(
    name="yolo",
    tasks=("localize", "detect"),
    Options=NoOptions,
    read=read,
    looks_for="text files of class and box, with a file of class names",
    recognize=recognize,
    rank=50,  # text files and a list of names may also be notes beside other labels
)

"""What a YOLO set says of its classes and landmarks: in `data.yaml`, the list of `obj.data` or `classes.txt`, or what
Label Studio writes beside them, `notes.json`.
"""

import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, read_text
from pipeline.core.lines import read_rows
from pipeline.core.yaml_text import keys_as_written, yaml_value
from pipeline.datasets.formats import darknet
from pipeline.datasets.formats.keys import brief, class_list, class_names, id_text
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES, SPLIT_NAMES, is_split_name, relative, says_nothing
from pipeline.datasets.formats.yaml_splits import YamlSplits, unlike, yaml_splits
from pipeline.datasets.formats.yolo_lines import Points, points_of

NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
KEY = re.compile(r"(0|[1-9][0-9]*)(\.0+)?")
NOTES = "notes.json"
LIST = ".names"
DATA = ("data.yaml", "data.yml")
YAML = (".yaml", ".yml")
# what a model's YAML, or that of its training, has; not task, batch, date or version: people say these of a set too
OF_MODELS = ("stride", "imgsz", "backbone", "head", "anchors", "weights", "epochs", "optimizer", "lr0")
_NAMES = re.compile(rb"^\{? ?[\"']?names[\"']?\s*:", re.MULTILINE)
_ONE_OF_THEM = "one of the two files alone"


@dataclass(slots=True)
class Names:
    """What the file of names, and what lies beside it, says."""

    file: Path
    labels: list[str]
    points: Points = field(default_factory=Points)
    splits: YamlSplits | None = None
    darknet_data: darknet.Data | None = None
    used: set[int] = field(default_factory=set)  # the classes that objects have
    others: dict[Path, str] = field(default_factory=dict)  # YAML with names that is of no set -> the key that says so


class NamesDifferError(InputError):
    """Two files of names say different things."""


def names_of(path: Path, labels: Path) -> Names:
    if names := found_names(path, labels):
        return names
    raise InputError(f"{labels}: {no_names(path, labels)}")


def no_names(path: Path, labels: Path) -> str:
    places = " or in ".join(str(place) for place in dict.fromkeys((labels, path)))
    return f"no class names; expected data.yaml, {', '.join(NAME_LISTS[:2])} in {places}{_near_miss(path, labels)}"


def _roots(path: Path, labels: Path) -> list[Path]:
    return [r for r in dict.fromkeys((labels, path, path / "labels")) if r.is_dir()]


def _lists_in(folder: Path) -> list[Path]:
    """The lists of names in a folder, in the order of NAME_LISTS, in small letters or capitals."""
    with os.scandir(folder) as entries:  # of many thousands of images too
        names = [entry.name for entry in entries if entry.name.lower() in NAME_LISTS]
    return [folder / name for name in sorted(names, key=lambda name: (NAME_LISTS.index(name.lower()), name))]


def _near_miss(path: Path, labels: Path) -> str:
    """What may have been meant for a file of names, and why it is none."""
    if len(lists := _darknets(path, labels)) > 1:
        return f"; {' and '.join(file.name for file in lists[:2])}: of several lists nobody can say which is meant"
    for root in dict.fromkeys((labels, path)):
        for folder, folders, files in os.walk(root):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(filter(_of_names, (*folders, *files))):
                file = Path(folder, name)
                where = relative(file, root)
                if not file.is_file():
                    return f"; {where} is {'a link that leads to nothing' if file.is_symlink() else 'no file'}"
                if folder != str(root):
                    return f"; {where} lies too deep to be of the whole set, move it up"
    return ""


def _of_names(name: str) -> bool:
    return name.lower() in (*NAME_LISTS, *DATA) or (name.lower().endswith(LIST) and not name.startswith("."))


def _darknets(path: Path, labels: Path) -> list[Path]:
    """Lists of names as darknet's users call them, herd.names; of two that are the same the first one."""
    files = [
        file
        for root in _roots(path, labels)
        for file in sorted(root.iterdir())
        if _of_names(file.name) and file.suffix.lower() == LIST
    ]
    files = [file for file in files if file.name.lower() not in NAME_LISTS and file.is_file()]
    return list({read_rows(file): file for file in reversed(files)}.values())[::-1]


def found_names(path: Path, labels: Path) -> Names | None:
    """What all files of names say. Raises NamesDifferError where two of them do not agree."""
    roots = _roots(path, labels)
    contents: dict[Path, dict[Any, Any]] = {}
    told: dict[Path, Names] = {}
    for root in roots:
        for file in sorted(f for f in root.iterdir() if f.suffix.lower() in YAML and not f.name.startswith(".")):
            if content := _with_names(file):
                contents[file] = content
        if data := darknet.find(root):
            told.setdefault(data.names, Names(data.names, darknet.labels_of(data), darknet_data=data))
    lists = [file for root in roots for file in _lists_in(root) if file.is_file() and file not in told]
    images = _Stems(path)
    lists += [file for file in _of_splits(roots) if file not in {*told, *lists} and not images.has(file)]
    sets = [file for file, content in contents.items() if not _model_key(file, content)]
    notes = {file: rows for root in roots if (rows := _categories(file := root / NOTES))}
    if not (sets or told or notes or [file for file in lists if file.name.lower() != NAME_LISTS[-1]]):
        sets = list(contents)
        alone = [] if sets else _darknets(path, labels)
        lists = alone if len(alone) == 1 else [] if alone else lists
    yaml = {file: _from_yaml(file, contents[file]) for file in sets}
    # labelImg puts its own twenty classes into predefined_classes.txt, whatever the set has
    lists = [file for file in lists if file.name.lower() != NAME_LISTS[-1]] or ([] if yaml or told or notes else lists)
    if yaml or told:
        lists = [file for file in lists if not images.has(file)]
    found = [*yaml.values(), *told.values(), *(Names(file, class_list(file)) for file in lists)]
    found += [Names(file, _noted(file, rows)) for file, rows in notes.items() if not found or _is_numbered(rows)]
    for other in found[1:]:
        _refuse_other_classes(found[0], other)
    by_splits = sorted(yaml.values(), key=lambda names: not (names.splits and names.splits.entries))
    for other in by_splits[1:]:
        _refuse_other_content(by_splits[0], other)
    names = next(iter((*by_splits, *found)), None)
    if names:
        names.others = {file: _model_key(file, content) for file, content in contents.items() if file not in yaml}
    if names and told and not (names.splits and names.splits.entries):
        names.darknet_data = next(iter(told.values())).darknet_data
    return names


def _of_splits(roots: list[Path]) -> list[Path]:
    """The lists of names in folders of splits: labelImg puts one beside the labels of each, as train/classes.txt."""
    folders = [folder for root in roots for folder in _plain_folders(root)]
    folders += [below for folder in folders for below in _plain_folders(folder)]
    files = (file for folder in dict.fromkeys(folders) for file in _lists_in(folder))
    return [file for file in files if file.name.lower() != NAME_LISTS[-1] and file.is_file()]


def _plain_folders(root: Path) -> list[Path]:
    """Those in `root` that are called like a split, or only say that images or labels lie there."""
    with os.scandir(root) as entries:  # of many thousands of images too
        names = sorted(e.name for e in entries if not (e.name.startswith(".") or e.is_file(follow_symlinks=False)))
    folders = (root / name for name in names if is_split_name(name) or says_nothing(name))
    return [folder for folder in folders if folder.is_dir()]


def _categories(file: Path) -> list[dict[Any, Any]] | None:
    """What Label Studio's export to YOLO writes beside the labels; None without it, and for any other JSON."""
    if not file.is_file():
        return None
    try:
        content = read_json(file)
    except InputError:  # somebody's notes
        return None
    said = content.get("categories") if isinstance(content, dict) and "annotations" not in content else None
    return said if isinstance(said, list) and said and all(isinstance(row, dict) for row in said) else None


def _is_numbered(rows: list[dict[Any, Any]]) -> bool:
    return {id_text(row.get("id")) for row in rows} == {str(i) for i in range(len(rows))}


def _noted(file: Path, rows: list[dict[Any, Any]]) -> list[str]:
    """The names by their id. Raises InputError if these are not 0, 1, 2 and so on, each once."""
    if not _is_numbered(rows):
        found = brief([row.get("id") for row in rows[:5]])
        raise InputError(f"{file}: categories: ids {found}; expected 0, 1, 2 and so on, each once")
    names = {id_text(row["id"]): row.get("name") for row in rows}
    return class_names([names[str(i)] for i in range(len(rows))], f"{file}: categories")


class _Stems:
    """The names of the images in `path`, without suffix. A list called like an image has the boxes of that. Its folders
    are walked once, and only if asked.
    """

    def __init__(self, path: Path):
        self._path = path

    @cached_property
    def _all(self) -> set[str]:
        names = (os.path.splitext(name) for _, _, files in os.walk(self._path) for name in files)  # noqa: PTH122 (fast)
        return {stem for stem, suffix in names if suffix.lower() in IMAGE_SUFFIXES}

    def has(self, file: Path) -> bool:
        return file.stem in self._all


def _refuse_other_classes(first: Names, other: Names) -> None:
    if first.labels == other.labels:
        return
    both = zip(other.labels, first.labels, strict=False)
    said = next(((f"class {i} is {its!r}", repr(own)) for i, (its, own) in enumerate(both) if its != own), None)
    found, known = said or (f"{len(other.labels)} classes", str(len(first.labels)))
    raise NamesDifferError(
        f"{other.file}: {found}, in {first.file} {known}; expected the same class names, or {_ONE_OF_THEM}"
    )


def _refuse_other_content(first: Names, other: Names) -> None:
    """Of two YAML with the same classes; one may leave all splits to the other."""
    for (key, known), (_, found) in zip(_landmarks(first.points), _landmarks(other.points), strict=True):
        if known != found:
            raise NamesDifferError(
                f"{other.file}: {key}: {brief(found)}, in {first.file} {brief(known)}; "
                f"expected the same landmarks, or {_ONE_OF_THEM}"
            )
    if first.splits and other.splits and (said := unlike(first.splits, other.splits)):
        split, *both = said
        raise NamesDifferError(
            f"{other.file}: {split}: {both[1]}, in {first.file} {both[0]}; expected the same splits, or {_ONE_OF_THEM}"
        )


def _landmarks(points: Points) -> list[tuple[str, list[Any]]]:
    return [("kpt_shape", [len(points.names), points.each]), ("kpt_names", points.names), ("flip_idx", points.pairs)]


def _with_names(file: Path) -> dict[Any, Any] | None:
    """What is in a YAML that has `names`; None for any other. Raises InputError if it may have them and is not YAML."""
    try:
        content = yaml_value(read_text(file), str(file))
    except InputError:
        if file.stem.lower() == "data" or not file.is_file() or _NAMES.search(file.read_bytes().replace(b"\0", b"")):
            raise
        return None  # another tool's, with tags of its own or several documents
    return content if isinstance(content, dict) and "names" in content else None


def _model_key(file: Path, content: dict[Any, Any]) -> str:
    """The key by which a YAML with `names` is of a model, which has those of what it was trained on; "" of a set's."""
    keys = {str(key).lower() for key in content}
    if file.stem.lower() == "data" or keys & {*SPLIT_NAMES, "path"}:
        return ""
    return next((key for key in OF_MODELS if key in keys), "")


def _from_yaml(file: Path, content: dict[Any, Any]) -> Names:
    """Raises InputError if a key is not as expected."""
    labels = content["names"]
    if isinstance(labels, dict):
        _refuse_odd_keys(file)
        by_key = {id_text(key): label for key, label in labels.items()}
        if len(by_key) < len(labels) or set(by_key) != {str(i) for i in range(len(labels))}:
            raise InputError(f"{file}: names: keys {brief(list(labels)[:5])}; expected 0, 1, 2 and so on, each once")
        labels = [by_key[str(i)] for i in range(len(labels))]
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{file}: names: found {brief(labels)}; expected a list of class names")
    if (count := content.get("nc")) is not None and id_text(count) != str(len(labels)):
        raise InputError(
            f"{file}: nc: found {brief(count)}, while names has {len(labels)} classes; expected their number"
        )
    return Names(file, class_names(labels, f"{file}: names"), points_of(file, content), yaml_splits(file, content))


def _refuse_odd_keys(file: Path) -> None:
    """Raises InputError for a number of a class that not all readers of YAML read alike: 010 is 8 to some."""
    keys = keys_as_written(read_text(file), "names")
    if odd := [key for key in keys if key[:2].strip("+-")[:1].isdigit() and not KEY.fullmatch(key)]:
        raise InputError(f"{file}: names: key {brief(odd[0])}; expected 0, 1, 2 and so on, in plain digits")

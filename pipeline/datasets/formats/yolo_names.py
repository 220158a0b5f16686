"""What a YOLO set says of its classes and landmarks, in `data.yaml` or in a list such as `classes.txt`."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import InputError
from pipeline.core.files import read_text
from pipeline.datasets.formats.keys import brief, class_name, id_text, refuse_twice
from pipeline.datasets.formats.reading import known_scheme, label_text, left_right_pairs, point_names
from pipeline.datasets.formats.yaml_splits import YamlSplits, yaml_splits

NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")


@dataclass(slots=True)
class Names:
    """What the names file says: landmarks have `numbers` (2 or 3) numbers each."""

    file: Path
    labels: list[str]
    points: list[str] = field(default_factory=list)
    numbers: int = 3
    pairs: list[tuple[int, int]] = field(default_factory=list)
    skeleton: list[tuple[int, int]] = field(default_factory=list)
    splits: YamlSplits | None = None
    used: set[int] = field(default_factory=set)  # the classes that objects have


def names_of(path: Path, labels: Path) -> Names:
    if names := found_names(path, labels):
        return names
    raise InputError(f"{labels}: {no_names(path, labels)}")


def no_names(path: Path, labels: Path) -> str:
    return f"no class names; expected data.yaml, {', '.join(NAME_LISTS[:2])} in {labels} or in {path}"


def found_names(path: Path, labels: Path) -> Names | None:
    roots = [r for r in dict.fromkeys((labels, path, path / "labels")) if r.is_dir()]
    for root in roots:
        for file in sorted(f for kind in ("*.yaml", "*.yml") for f in root.glob(kind) if not f.name.startswith(".")):
            if names := _from_yaml(file):
                return names
        for file in (root / name for name in NAME_LISTS):
            if file.is_file():
                lines = [line.strip() for line in read_text(file).rstrip().split("\n")]
                return Names(file, _class_names(lines, str(file)))
    return None


def _from_yaml(file: Path) -> Names | None:
    """None if the file has no `names`. Raises InputError if it is not YAML or a key is not as expected."""
    text = read_text(file)
    try:
        content = YAML(typ="safe").load(text)
    except (YAMLError, ValueError, RecursionError) as error:
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
    names.splits = yaml_splits(file, content)
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

"""What a YOLO set says of its classes and landmarks: in `data.yaml`, or in the list of `obj.data` or `classes.txt`."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_text
from pipeline.core.yaml_text import keys_as_written, yaml_value
from pipeline.datasets.formats import darknet
from pipeline.datasets.formats.keys import brief, class_list, class_names, id_text
from pipeline.datasets.formats.reading import IMAGE_SUFFIXES
from pipeline.datasets.formats.yaml_splits import YamlSplits, unlike, yaml_splits
from pipeline.datasets.formats.yolo_lines import Points, points_of

NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
KEY = re.compile(r"(0|[1-9][0-9]*)(\.0+)?")
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


class NamesDifferError(InputError):
    """Two files of names say different things."""


def names_of(path: Path, labels: Path) -> Names:
    if names := found_names(path, labels):
        return names
    raise InputError(f"{labels}: {no_names(path, labels)}")


def no_names(path: Path, labels: Path) -> str:
    return f"no class names; expected data.yaml, {', '.join(NAME_LISTS[:2])} in {labels} or in {path}"


def found_names(path: Path, labels: Path) -> Names | None:
    """What all files of names say. Raises NamesDifferError where two of them do not agree."""
    roots = [r for r in dict.fromkeys((labels, path, path / "labels")) if r.is_dir()]
    yaml: dict[Path, Names] = {}
    told: dict[Path, Names] = {}
    for root in roots:
        for file in sorted(f for kind in ("*.yaml", "*.yml") for f in root.glob(kind) if not f.name.startswith(".")):
            if names := _from_yaml(file):
                yaml[file] = names
        if data := darknet.find(root):
            told.setdefault(data.names, Names(data.names, darknet.labels_of(data), darknet_data=data))
    lists = [file for root in roots for name in NAME_LISTS if (file := root / name).is_file() and file not in told]
    # labelImg puts its own twenty classes into predefined_classes.txt, whatever the set has
    lists = [file for file in lists if file.name != NAME_LISTS[-1]] or ([] if yaml or told else lists)
    if yaml or told:
        lists = [file for file in lists if not _is_of_an_image(file, path)]
    found = [*yaml.values(), *told.values(), *(Names(file, class_list(file)) for file in lists)]
    for other in found[1:]:
        _refuse_other_classes(found[0], other)
    by_splits = sorted(yaml.values(), key=lambda names: not (names.splits and names.splits.entries))
    for other in by_splits[1:]:
        _refuse_other_content(by_splits[0], other)
    names = next(iter((*by_splits, *found)), None)
    if names and told and not (names.splits and names.splits.entries):
        names.darknet_data = next(iter(told.values())).darknet_data
    return names


def _is_of_an_image(file: Path, path: Path) -> bool:
    """Whether an image in `path` is called like it: its boxes are in there."""
    return any(found.suffix.lower() in IMAGE_SUFFIXES for found in path.rglob(f"{file.stem}.*"))


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


def _from_yaml(file: Path) -> Names | None:
    """None if the file has no `names`. Raises InputError if it is not YAML or a key is not as expected."""
    content = yaml_value(read_text(file), str(file))
    if not isinstance(content, dict) or "names" not in content:
        return None
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

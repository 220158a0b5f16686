"""What a YOLO set says of its classes and landmarks: in `data.yaml`, or in the list of `obj.data` or `classes.txt`."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import read_text
from pipeline.core.yaml_text import yaml_value
from pipeline.datasets.formats import darknet
from pipeline.datasets.formats.keys import brief, class_list, class_names, id_text
from pipeline.datasets.formats.yaml_splits import YamlSplits, yaml_splits
from pipeline.datasets.formats.yolo_lines import Points, points_of

NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")


@dataclass(slots=True)
class Names:
    """What the file of names, and what lies beside it, says."""

    file: Path
    labels: list[str]
    points: Points = field(default_factory=Points)
    splits: YamlSplits | None = None
    darknet_data: darknet.Data | None = None
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
        if data := darknet.find(root):
            return Names(data.names, darknet.labels_of(data), darknet_data=data)
        if names := _from_lists([file for name in NAME_LISTS if (file := root / name).is_file()]):
            return names
    return None


def _from_lists(files: list[Path]) -> Names | None:
    """A class name a line. Raises InputError where two files say different ones."""
    # labelImg puts its own twenty classes into predefined_classes.txt, whatever the set has
    files = [file for file in files if file.name != NAME_LISTS[-1]] or files
    said = [Names(file, class_list(file)) for file in files]
    if other := next((names for names in said if names.labels != said[0].labels), None):
        raise InputError(
            f"{other.file}: {', '.join(other.labels[:3])}, {said[0].file.name} beside it: "
            f"{', '.join(said[0].labels[:3])}; expected the same class names, or one of the two files"
        )
    return said[0] if said else None


def _from_yaml(file: Path) -> Names | None:
    """None if the file has no `names`. Raises InputError if it is not YAML or a key is not as expected."""
    content = yaml_value(read_text(file), str(file))
    if not isinstance(content, dict) or "names" not in content:
        return None
    labels = content["names"]
    if isinstance(labels, dict):
        by_key = {id_text(key): label for key, label in labels.items()}
        if len(by_key) < len(labels) or set(by_key) != {str(i) for i in range(len(labels))}:
            raise InputError(f"{file}: names: keys {brief(list(labels)[:5])}; expected 0, 1, 2 and so on, each once")
        labels = [by_key[str(i)] for i in range(len(labels))]
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{file}: names: found {brief(labels)}; expected a list of class names")
    return Names(file, class_names(labels, f"{file}: names"), points_of(file, content), yaml_splits(file, content))

"""What Hugging Face calls the classes of a dataset: `class_label` names in the YAML head of README.md."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.core.files import read_text
from pipeline.core.yaml_text import yaml_value
from pipeline.datasets.formats.keys import refuse_many, refuse_twice
from pipeline.datasets.formats.reading import label_text


@dataclass(slots=True)
class Names:
    """The names of classes by number; empty where the dataset does not say. `objects` may have others than `images`."""

    images: list[str] = field(default_factory=list)
    objects: list[str] = field(default_factory=list)
    only: list[str] | None = None  # those of a dataset.json, where there is one: it lists all
    _kinds: dict[str, set[type]] = field(default_factory=dict)  # a class without a name -> how it was written

    def label(self, said: Any, of_objects: bool = False) -> str:
        """The class that a text or number means. Raises ValueError for anything else, a number without a name, and one
        that is not listed.
        """
        names = self.objects if of_objects else self.images
        if isinstance(said, float) and said.is_integer():  # of a column with gaps
            said = int(said)
        if isinstance(said, bool) or not isinstance(said, str | int) or said == "":
            raise ValueError(f"class {said!r:.40}; expected a name or a number")
        text = label_text(said)
        if names and text not in names and text.isascii() and text.isdecimal():
            if int(said) >= len(names):
                raise ValueError(f"class {said}, expected 0 to {len(names) - 1} as README.md has names")
            text = names[int(said)]
        if self.only is not None and text not in self.only:
            raise ValueError(unlisted(text))
        if text not in names:
            self._kinds.setdefault(text, set()).add(type(said))
        return text

    def said_twice(self) -> list[str]:
        """Classes that were written once as a number and once as a text."""
        return sorted(name for name, kinds in self._kinds.items() if len(kinds) > 1)

    def in_order(self, seen: set[str]) -> list[str]:
        """The labels of the dataset: those with a number in its order, then the others, numbers by their size."""
        known = list(dict.fromkeys([*self.images, *self.objects]))
        others = sorted(seen - set(known), key=lambda name: (not name.isdecimal(), name.zfill(9), name))
        return [*known, *others]


def unlisted(label: object) -> str:
    """What is wrong with a class that the dataset.json beside it does not have.

    >>> unlisted("cow")
    "label 'cow', which dataset.json does not list"
    """
    return f"label {label!r:.40}, which dataset.json does not list"


def of_readme(folder: Path, label: str, objects: str) -> Names:
    """The names in `folder`/README.md of the columns `label` and `objects`. Raises InputError for broken YAML."""
    file = folder / "README.md"
    if not file.is_file():
        return Names()
    head = read_text(file).replace("\r\n", "\n").split("---\n")
    if len(head) < 3 or head[0].strip() or "class_label" not in head[1]:
        return Names()
    content = yaml_value(head[1], f"{file}: its head")
    found: dict[str, list[str]] = {}
    for name, names in _classes(content, ""):
        refuse_many(len(names), f"{file}: class_label of {name}", "classes")
        refuse_twice(names, f"{file}: class_label of {name}", "class")
        found.setdefault(name, names)
    return Names(found.get(label, []), found.get(objects, []))


def _classes(value: Any, column: str) -> Iterator[tuple[str, list[str]]]:
    """(column, names) of each class_label; of columns in a column the outer one's name."""
    if isinstance(value, list):
        for part in value:
            yield from _classes(part, column)
    elif isinstance(value, dict):
        names = value["class_label"].get("names") if isinstance(value.get("class_label"), dict) else None
        if isinstance(names, dict):
            names = [names[key] for key in sorted(names, key=lambda key: (len(str(key)), str(key)))]
        if isinstance(names, list):
            yield column, [label_text(name) for name in names]
        for key, part in value.items():
            if key != "class_label":
                yield from _classes(part, column or str(value.get("name") or ""))

"""YOLO text: per image a file of lines `class cx cy w h` (relative), with landmarks after them in pose sets.

Class names come from `data.yaml` (names, kpt_shape, flip_idx, train, val, test as Ultralytics writes it), the file that
darknet's `obj.data` names, `classes.txt` or `obj.names`. A label file lies beside its image, in `labels/` where the
image is in `images/`, or in a folder of its own. An image without a label file is background, as Ultralytics has it.
The splits are what `data.yaml` or `obj.data` says, else what lists (`train.txt`) or folders say.
"""

import math
import re
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import InputError
from pipeline.core.files import read_text
from pipeline.datasets.formats import darknet
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.reading import (
    Candidate,
    ImageIndex,
    Problem,
    Reading,
    files_under,
    give_ids,
    relative,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import Given, SplitList, place, split_lists
from pipeline.datasets.formats.yaml_splits import YamlSplits, given_by, yaml_splits
from pipeline.datasets.formats.yolo_lines import PREDICTION, LineError, Points, object_of, points_of, unseen_in

NAME_LISTS = ("classes.txt", "obj.names", "_darknet.labels", "predefined_classes.txt")
NO_LABELS = re.compile(r"(classes|predefined_classes|notes|readme.*|license.*|requirements|train|val|valid|test)\.txt$")


@dataclass(slots=True)
class Names:
    """What the file of names, and what lies beside it, says."""

    file: Path
    labels: list[str]
    points: Points = field(default_factory=Points)
    splits: YamlSplits | None = None
    darknet_data: darknet.Data | None = None


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
    reading = Reading([], names.labels, names.points.names, names.points.pairs, names.points.skeleton)
    texts = {f: relative(f, labels, path) for root in (labels, path) for f in sorted(files_under(root, {".txt"}))}
    by_name = {name: file for file, name in reversed(texts.items())}
    used = set()
    empty = 0
    for name, file in images.names.items():
        candidate = Candidate(file, name, unsized=True)
        text = _label_file(name, by_name, images)
        if text is None:
            empty += 1
        else:
            used.add(by_name[text])
            if not _read_lines(by_name[text], text, candidate, names, reading):
                continue
        reading.candidates.append(candidate)
    _refuse_predictions(reading, labels)
    given, lists = _lists(names, images, reading, path, labels)
    place(reading, path, images.names, lists, given)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    if empty:
        found = f"{empty} images without a label file; taken as background"
        reading.problems.append(Problem("", "", "no_label", found, "noted"))
    used |= {one.file for one in lists}
    for file, name in texts.items():
        if file not in used and not NO_LABELS.match(file.name.lower()):
            reading.problems.append(Problem(name, "", "no_image", "a label file without an image"))
    return reading


def _lists(
    names: Names, images: ImageIndex, reading: Reading, path: Path, labels: Path
) -> tuple[list[Given], list[SplitList]]:
    """What data.yaml gives, and the lists that it, obj.data or else their own names say are of a split."""
    given, lists = given_by(names.splits, images.names, reading, path, labels) if names.splits else ([], [])
    if data := names.darknet_data:
        lists = data.lists
        for said in data.missing:
            found = f"{said}: no such file beside it or above"
            reading.problems.append(Problem(relative(data.file, labels, path), "", "not_here", found, "noted"))
    return given, lists if given or lists else split_lists(reading, path, labels)


def _refuse_predictions(reading: Reading, labels: Path) -> None:
    first = next((p for p in reading.problems if p.rule == "bad_line" and PREDICTION in p.found), None)
    if first and not any(c.objects for c in reading.candidates):
        raise InputError(
            f"{labels}: no line is of a label; {first.key}: {first.found}; expected labels, not predictions"
        )


def recognize(path: Path, labels: Path) -> str | None:
    texts = [f for f in files_under(labels, {".txt"}) if not NO_LABELS.match(f.name.lower())]
    names = _found_names(path, labels)
    if names is None:
        if like := next((f for f in texts[:20] if _like_labels(f)), None):
            raise InputError(f"{like}: lines of class and box, but {_no_names(path, labels)}")
        return None  # notes beside other labels
    if not texts:
        raise InputError(f"{names.file}: class names, but no text files of class and box in {labels} or below")
    return f"{len(texts)} label files, class names in {names.file.name}"


def _like_labels(file: Path) -> bool:
    try:
        words = read_text(file).split("\n")[0].split()
        return len(words) >= 5 and all(map(math.isfinite, map(float, words)))
    except (InputError, ValueError):
        return False


def _names(path: Path, labels: Path) -> Names:
    if names := _found_names(path, labels):
        return names
    raise InputError(f"{labels}: {_no_names(path, labels)}")


def _no_names(path: Path, labels: Path) -> str:
    return f"no class names; expected data.yaml, {', '.join(NAME_LISTS[:2])} in {labels} or in {path}"


def _found_names(path: Path, labels: Path) -> Names | None:
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
    said = [Names(file, [name for line in read_text(file).split("\n") if (name := line.strip())]) for file in files]
    # labelImg puts its own twenty classes into predefined_classes.txt, whatever the set has
    said = [names for names in said if names.file.name != NAME_LISTS[-1]] or said
    if other := next((names for names in said if names.labels != said[0].labels), None):
        raise InputError(
            f"{other.file}: {', '.join(other.labels[:3])}, {said[0].file.name} beside it: "
            f"{', '.join(said[0].labels[:3])}; expected the same class names, or one of the two files"
        )
    return said[0] if said else None


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
        if set(labels) != set(range(len(labels))):
            raise InputError(f"{file}: names: keys {list(labels)[:5]}; expected 0, 1, 2 and so on")
        labels = [labels[i] for i in range(len(labels))]
    if not isinstance(labels, list) or not labels:
        raise InputError(f"{file}: names: found {labels!r}; expected a list of class names")
    names = Names(file, [str(label) for label in labels], points_of(file, content))
    names.splits = yaml_splits(file, content)
    return names


def _label_file(name: str, texts: dict[str, Path], images: ImageIndex) -> str | None:
    """The label file of an image: beside it, in the parallel tree, or (if only one can be meant) by its name."""
    text = PurePosixPath(name).with_suffix(".txt")
    parts = list(text.parts)
    places = [str(text), f"labels/{text}"]
    if "images" in parts:
        last = len(parts) - 1 - parts[::-1].index("images")
        places.append("/".join([*parts[:last], "labels", *parts[last + 1 :]]))
        places.append("/".join([*parts[:last], *parts[last + 1 :]]))
    if len(images.find(text.stem)) == 1:
        places.append(text.name)
    return next((place for place in places if place in texts), None)


def _read_lines(file: Path, where: str, candidate: Candidate, names: Names, reading: Reading) -> bool:
    """Whether the file is text: without it nobody knows what is in the image."""
    try:
        lines = read_text(file).split("\n")
    except InputError as error:
        reading.problems.append(Problem(candidate.name, where, "bad_text", str(error).removeprefix(f"{file}: ")))
        return False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key = f"{where}:{number}"
        try:
            candidate.objects.append(object_of(line, names.labels, len(names.points.names), names.points.each))
            candidate.keys.append(key)
            reading.unseen += unseen_in(line, names.points.each)
        except LineError as error:
            reading.problems.append(Problem(candidate.name, key, error.rule, str(error), "dropped"))
    return True


FORMAT = Format(
    name="yolo",
    tasks=("localize", "detect"),
    Options=NoOptions,
    read=read,
    looks_for="text files of class and box, with a file of class names",
    recognize=recognize,
    rank=50,  # text files and a list of names may also be notes beside other labels
)

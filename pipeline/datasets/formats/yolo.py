"""YOLO text: per image a file of lines `class cx cy w h` (relative), with landmarks after them in pose sets.

Class names come from `data.yaml` (names, kpt_shape, flip_idx, train, val, test as Ultralytics writes it), the file that
darknet's `obj.data` names, `classes.txt` or `obj.names`. A label file lies beside its image, in `labels/` where the
image is in `images/`, or in a folder of its own. An image without a label file is background, as Ultralytics has it.
The splits are what `data.yaml` or `obj.data` says, else what lists (`train.txt`) or folders say.
"""

import math
import re
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.lines import first_line, read_rows
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.format import Format, NoOptions
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import one_key_each
from pipeline.datasets.formats.reading import (
    IMAGE_SUFFIXES,
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    relative,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import Given, SplitList, named_lists, place, split_lists
from pipeline.datasets.formats.yaml_splits import given_by
from pipeline.datasets.formats.yolo_files import label_files
from pipeline.datasets.formats.yolo_lines import PREDICTION, LineError, class_in, object_of, unseen_in
from pipeline.datasets.formats.yolo_names import YAML, Names, NamesDifferError, found_names, names_of, no_names
from pipeline.datasets.formats.yolo_write import WRITER

LOOKED_AT = 1000  # texts of a folder that may be full of captions
NO_LABELS = re.compile(r"(classes|predefined_classes|notes|readme.*|license.*|requirements|train|val|valid|test)\.txt$")


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
    names = names_of(path, labels)
    images = ImageIndex(path)
    reading = Reading([], names.labels, names.points.names, names.points.pairs, names.points.skeleton)
    texts = {f: relative(f, labels, path) for root in (labels, path) for f in sorted(files_under(root, {".txt"}))}
    own, called = label_files(images, texts, 5 + len(names.points.names) * names.points.each, reading)
    for name, file in images.names.items():
        candidate = Candidate(file, name, unsized=True)
        text = own.get(name)
        if text is None and name in own:
            continue
        if text is None or _read_lines(text, texts[text], candidate, names, reading):
            reading.candidates.append(candidate)
    _refuse_predictions(reading, labels)
    _settle_names(reading, names)
    for other, key in names.others.items():
        found = f"names and {key}, as of a model or its training, but no split and no path; not taken for a data.yaml"
        reading.problems.append(Problem(relative(other, labels, path), "names", "not_read", found, "noted"))
    given, lists = _lists(names, images, reading, path, labels)
    place(reading, path, images.names, lists, given)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    if empty := len(images.names) - len(own):
        found = f"{empty} images without a label file; taken as background"
        reading.problems.append(Problem("", "", "no_label", found, "noted"))
    used = called | {one.file for one in (*lists, *named_lists(path, labels))}
    for file, name in texts.items():
        if file in used or NO_LABELS.match(file.name.lower()):
            continue
        if _lists_images(file):
            reading.problems.append(Problem(name, "", "not_read", "a list of images that nothing asks for", "noted"))
        else:
            found = f"a label file without an image{images.reason(file.stem)}"
            reading.problems.append(Problem(name, "", "no_image", found))
    return reading


def _settle_names(reading: Reading, names: Names) -> None:
    """Have each class once. Raises InputError where objects have two classes of one name."""
    numbers = list(enumerate(names.labels))
    for note in one_key_each(numbers, names.used, f"{names.file}: names", "class"):
        reading.problems.append(Problem(names.file.name, "names", "duplicate_id", note, "noted"))
    reading.labels = list(dict.fromkeys(names.labels))


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
    try:
        names = found_names(path, labels)
    except NamesDifferError:
        if not any(map(_like_labels, texts[:20])):
            raise
        return f"{len(texts)} label files, several files of class names"  # that differ, which stops when they are read
    if names is None:
        if like := next((f for f in texts[:20] if _like_labels(f)), None):
            raise InputError(f"{like}: lines of class and box, but {no_names(path, labels)}")
        return None  # notes beside other labels
    some = texts[:: -(-len(texts) // LOOKED_AT) or 1]
    if some and names.file.suffix.lower() not in YAML and not any(map(_like_labels, some)):
        return None  # a list of something beside notes or captions
    if not texts:
        raise InputError(f"{names.file}: class names, but no text files of class and box in {labels} or below")
    return f"{len(texts)} label files, class names in {names.file.name}"


def _like_labels(file: Path) -> bool:
    try:
        words = first_line(file).replace(",", ".").split()  # decimal commas are no labels, and meant to be
        return len(words) >= 5 and all(map(math.isfinite, map(float, words)))
    except (InputError, ValueError):
        return False


def _lists_images(file: Path) -> bool:
    try:
        first = first_line(file)
    except InputError:
        return False
    name = re.sub(r"\s+[-+]?\d+$", "", first).strip('" \r')
    return PurePosixPath(name).suffix.lower() in IMAGE_SUFFIXES


def _read_lines(file: Path, where: str, candidate: Candidate, names: Names, reading: Reading) -> bool:
    """Whether the file is text: without it nobody knows what is in the image."""
    try:
        lines = read_rows(file).split("\n")
    except InputError as error:
        reading.problems.append(Problem(candidate.name, where, "bad_text", str(error).removeprefix(f"{file}: ")))
        return False
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        key = f"{where}:{number}"
        try:
            candidate.objects.append(object_of(line, names.labels, len(names.points.names), names.points.each))
            names.used.add(class_in(line))
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
    write=WRITER,
    sign=signs.YOLO,
)

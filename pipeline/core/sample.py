"""The one form of data: images with their labels, on disk as `metadata.jsonl` beside the images.

Coordinates are relative to the image, x to the right and y down, (0, 0) the upper-left corner and (1, 1) the
lower-right one. Ground truth, predictions and corrections are all `Sample`s.
"""

import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_json, write_text
from pipeline.core.lines import check_lines
from pipeline.core.names import check_labels, check_name

SPLITS = ("train", "val", "test")
ABSENT, HIDDEN, VISIBLE = 0, 1, 2


@dataclass(slots=True)
class Landmark:
    """A named point of an object. `visibility` as in COCO: 0 not labelled, 1 labelled but hidden, 2 visible."""

    x: float
    y: float
    visibility: int = VISIBLE


@dataclass(slots=True)
class Object:
    """One labelled thing: `box` is (x, y, w, h), the upper-left corner first; `score` is None on ground truth."""

    label: str
    box: tuple[float, float, float, float]
    landmarks: list[Landmark] = field(default_factory=list)
    crowd: bool = False
    score: float | None = None

    def to_json(self) -> dict[str, Any]:
        """A JSON object; what is not there is left out."""
        row: dict[str, Any] = {"label": self.label, "box": self.box}
        if self.landmarks:
            row["landmarks"] = [[p.x, p.y, p.visibility] for p in self.landmarks]
        if self.crowd:
            row["crowd"] = True
        return row if self.score is None else {**row, "score": self.score}


@dataclass(slots=True)
class Sample:
    """One image. `file_name` is relative to the folder of its metadata.jsonl; `width`, `height` in pixels.

    `group` names what must stay on one side of a split (the clip's group, the original of a copy); `clip` the
    video that a frame was taken from. `label` is the image label; `scores` the predicted probability per label.
    """

    id: str
    file_name: str
    width: int
    height: int
    split: str | None = None
    group: str | None = None
    clip: str | None = None
    label: str | None = None
    scores: dict[str, float] | None = None
    objects: list[Object] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON object with `file_name` first (the imagefolder convention); what is not there is left out."""
        row: dict[str, Any] = {"file_name": self.file_name}
        row |= {f.name: getattr(self, f.name) for f in fields(self)}
        return {k: v for k, v in row.items() if v is not None} | {"objects": [o.to_json() for o in self.objects]}

    def to_line(self) -> str:
        """Its line of a metadata.jsonl, with the end of the line."""
        return json.dumps(self.to_json(), ensure_ascii=False, allow_nan=False) + "\n"

    @staticmethod
    def from_json(row: Any) -> "Sample":
        """Raises ValueError with the key, what was found and what was expected; the values in it are not looked at."""
        if not isinstance(row, dict):
            raise ValueError(f"found {row!r:.40}, expected a JSON object")  # noqa: TRY004 (one error for all rows)
        check_keys(row, "", NEEDED, KEYS)
        if not isinstance(rows := row.get("objects", []), list):
            raise ValueError(f"objects: found {rows!r:.40}, expected a list")  # noqa: TRY004
        return Sample(**{**row, "objects": [_object(o, place) for place, o in enumerate(rows)]})


NEEDED = ("file_name", "id", "width", "height")
KEYS = tuple(f.name for f in fields(Sample))
LISTS = frozenset([list])


def check_keys(row: Any, where: str, needed: tuple[str, ...], known: Sequence[str]) -> None:
    """Raises ValueError that begins with `where` for what is no object with the `needed` keys, and `known` ones.

    >>> check_keys({"id": "1"}, "", ("id", "pixels"), ("id", "pixels"))
    Traceback (most recent call last):
    ValueError: no pixels; expected id, pixels
    """
    said = f"{where}: " if where else ""
    if not isinstance(row, dict):
        raise ValueError(f"{said}found {row!r:.40}, expected an object with {', '.join(needed)}")  # noqa: TRY004
    if missing := [key for key in needed if key not in row]:
        raise ValueError(f"{said}no {', '.join(missing)}; expected {', '.join(needed)}")
    if strange := [key for key in row if key not in known]:
        raise ValueError(f"{said}unknown key {strange[0]!r:.40}; expected some of {', '.join(known)}")


def _object(row: Any, place: int) -> Object:
    """Raises ValueError that names the `place` among the objects. All samples of a dataset come through here: words
    are made only for what is wrong."""
    if not isinstance(row, dict) or "label" not in row or "box" not in row:
        check_keys(row, f"objects[{place}]", ("label", "box"), list(row) if isinstance(row, dict) else ())
    box, points = row["box"], row.get("landmarks", [])
    if not isinstance(box, list) or len(box) != 4:
        raise ValueError(f"objects[{place}]: box: found {box!r:.40}, expected [x, y, w, h]")
    landmarks = []
    if points != []:
        try:
            if not isinstance(points, list) or not LISTS.issuperset(map(type, points)):
                raise ValueError  # noqa: TRY301 (one error for all that is no list of three)
            landmarks = [Landmark(x, y, visibility) for x, y, visibility in points]
        except ValueError:
            found = f"objects[{place}]: landmarks: found {points!r:.40}"
            raise ValueError(f"{found}, expected a list of [x, y, visibility]") from None
    return Object(row["label"], (box[0], box[1], box[2], box[3]), landmarks, row.get("crowd", False), row.get("score"))


@dataclass(slots=True)
class Dataset:
    """What all samples of a dataset share (`dataset.json`).

    `labels` in the order of the class indices; `landmarks` the point names in order; `pairs` their left-right
    index pairs; `skeleton` index pairs to draw; `counts` images per split; `preprocess` the steps (a name and its
    arguments) that an image goes through before a net, which `augment` writes beside what nets learn from.
    """

    name: str
    labels: list[str]
    landmarks: list[str] = field(default_factory=list)
    pairs: list[tuple[int, int]] = field(default_factory=list)
    skeleton: list[tuple[int, int]] = field(default_factory=list)
    source: dict[str, Any] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    preprocess: list[dict[str, Any]] = field(default_factory=list)


def write_dataset(folder: Path | str, dataset: Dataset) -> None:
    """Write `folder`/dataset.json.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_dataset(folder, Dataset("herd", ["cow", "goat"]))
    ...     read_json(f"{folder}/dataset.json")["labels"]
    ['cow', 'goat']
    """
    said = asdict(dataset)
    if not dataset.preprocess:
        del said["preprocess"]
    write_json(Path(folder) / "dataset.json", said)


def read_dataset(folder: Path | str) -> Dataset:
    """Read `folder`/dataset.json. Raises InputError naming the file if it is missing or another kind of JSON, or a name
    in it is none that a dataset or a class may have.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_dataset(folder, Dataset("herd", ["cow"], landmarks=["left_eye", "right_eye"], pairs=[(0, 1)]))
    ...     dataset = read_dataset(folder)
    >>> dataset.labels, dataset.pairs
    (['cow'], [(0, 1)])
    """
    row = read_json(path := Path(folder) / "dataset.json")
    try:
        dataset = _dataset(row)
    except ValueError as error:
        raise InputError(f"{path}: not a dataset: {error}") from None
    check_name(dataset.name, f"{path}: name")
    check_labels(dataset.labels, str(path))
    return dataset


def _dataset(row: Any) -> Dataset:
    """Raises ValueError with the key, what was found and what was expected."""
    check_keys(row, "", ("name", "labels", "pairs", "skeleton"), [f.name for f in fields(Dataset)])
    for key, kind, words in (("name", str, "a text"), ("labels", list, "a list of names")):
        if not isinstance(row[key], kind):
            raise ValueError(f"{key}: found {row[key]!r:.40}, expected {words}")  # noqa: TRY004
    return Dataset(**row | {key: _index_pairs(row[key], key) for key in ("pairs", "skeleton")})


def _index_pairs(said: Any, key: str) -> list[tuple[Any, ...]]:
    if not isinstance(said, list) or not all(isinstance(pair, list) for pair in said):
        raise ValueError(f"{key}: found {said!r:.40}, expected a list of pairs")
    return [tuple(pair) for pair in said]


def write_samples(folder: Path | str, samples: Iterable[Sample]) -> None:
    """Write `folder`/metadata.jsonl, one line per sample. Raises InputError naming a sample with a number that is not
    finite: JSON has none.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_samples(folder, [Sample("1", "1.jpg", 64, 48, label="cow")])
    ...     print(Path(folder, "metadata.jsonl").read_text(), end="")
    {"file_name": "1.jpg", "id": "1", "width": 64, "height": 48, "label": "cow", "objects": []}
    """
    path, lines = Path(folder) / "metadata.jsonl", []
    for number, sample in enumerate(samples, 1):
        try:
            lines.append(sample.to_line())
        except ValueError as error:
            raise InputError(f"{path}:{number}: sample {sample.id!r}: expected finite numbers: {error}") from None
    write_text(path, "".join(lines))


def read_samples(folder: Path | str) -> list[Sample]:
    """Read `folder`/metadata.jsonl. Raises InputError naming the file and line that is missing or malformed.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_samples(folder, [Sample("1", "1.jpg", 64, 48, objects=[Object("cow", (0.5, 0, 0.5, 1))])])
    ...     [sample] = read_samples(folder)
    >>> sample.objects[0].label, sample.objects[0].box
    ('cow', (0.5, 0, 0.5, 1))
    """
    path = Path(folder) / "metadata.jsonl"
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected one line of JSON per image")
    samples = []
    # not splitlines: a JSON string may hold U+2028, which it splits at
    check_lines(path)
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines[:-1] if lines[-1] == b"" else lines, 1):
        try:
            samples.append(Sample.from_json(json.loads(line.decode())))
        except UnicodeDecodeError as error:
            raise InputError(f"{path}:{number}: not UTF-8 text (byte {error.start} of the line)") from None
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not a sample: {error}") from None
    return samples


def seen_from(folder: Path | str, samples: Iterable[Sample], home: Path | str) -> list[Sample]:
    """The samples of folder `home` as another `folder` has them: their file names lead from there to the images.

    >>> [s.file_name for s in seen_from("reports/herd", [Sample("1", "1.jpg", 64, 48)], "data/test")]
    ['../../data/test/1.jpg']
    """
    way = Path(os.path.relpath(home, folder))
    return [replace(s, file_name=(way / s.file_name).as_posix()) for s in samples]

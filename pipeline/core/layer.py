"""A label layer: what people said of images, beside the source that they leave as it is.

`labels/<dataset>/<layer>.jsonl` has one statement per image, in the coordinates of the ingested image. `ingest` lays it
over the source after the split, so that no label moves an image to another one.
"""

import hashlib
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.lines import read_rows
from pipeline.core.sample import ABSENT, HIDDEN, VISIBLE, Object, Sample

STATES = ("labelled", "empty", "skipped", "untouched", "excluded")
SAYS = ("labelled", "empty", "excluded")  # the states that change something
HEX = re.compile("([0-9a-fA-F]{2})*")
CELLS = 8  # a side: of so many colours is the look of an image
LOOK_ALIKE = 10  # of 255: photos at a third of their size and quality 70 differ by 2 to 9, another small shape by 13


@dataclass(slots=True)
class Statement:
    """What is said of one image.

    `state`: labelled, empty (on purpose), skipped (looked at, not answered), untouched (nobody has looked) or excluded
    (to be left out). `label` and `objects` are the whole answer and not a difference. `pixels` and `look` are
    `pixels_of` and `look_of` the image that was shown; `against` is `content_of` the labels that the dataset had then.
    `by` names the person, `shown` the model whose predictions were shown, "" if none were; `seconds` it took.
    """

    id: str
    pixels: str
    look: str
    state: str
    against: str
    by: str
    shown: str = ""
    seconds: float | None = None
    label: str | None = None
    objects: list[Object] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """A JSON object; what is not there is left out."""
        row = {f.name: getattr(self, f.name) for f in fields(self)} | {"objects": [o.to_json() for o in self.objects]}
        return {key: value for key, value in row.items() if value not in (None, "", [])}

    @staticmethod
    def from_json(row: Any) -> "Statement":
        """Raises TypeError, ValueError or KeyError for what is no statement."""
        sample = Sample.from_json(
            {"file_name": "", "width": 1, "height": 1, **_picked(row, ("id", "label", "objects"))}
        )
        known = {f.name for f in fields(Statement)}
        if strange := sorted(row.keys() - known):
            raise ValueError(f"unknown key {strange[0]!r}; expected some of {', '.join(sorted(known))}")
        if missing := [key for key in ("id", "pixels", "look", "state", "against") if key not in row]:
            raise ValueError(f"no {', '.join(missing)}; expected id, pixels, look, state and against")
        if row.get("state") not in STATES:
            raise ValueError(f"state {row.get('state')!r}; expected one of {', '.join(STATES)}")
        if row["state"] != "labelled" and (sample.label is not None or sample.objects):
            raise ValueError(f"a label or objects on an image that is {row['state']}")
        said = Statement(**{"by": "", **row, "label": sample.label, "objects": sample.objects})
        _check(said)
        return said


def _check(said: Statement) -> None:
    """Raise TypeError or ValueError for a value that cannot be one of its key."""
    words = (said.id, said.pixels, said.look, said.against, said.by, said.shown, *(o.label for o in said.objects))
    numbers = [v for o in said.objects for v in (*o.box, *(v for p in o.landmarks for v in (p.x, p.y)))]
    for word in (*words, *([] if said.label is None else [said.label])):
        if not isinstance(word, str):
            raise TypeError(f"found {word!r:.40}, expected a text")
    if not HEX.fullmatch(said.look):
        raise ValueError(f"look {said.look!r:.40}; expected hexadecimal digits, two for each byte")
    for value in (*numbers, *([] if said.seconds is None else [said.seconds])):
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"found {value!r:.40}, expected a finite number")
    for p in (p for o in said.objects for p in o.landmarks):
        if p.visibility not in (ABSENT, HIDDEN, VISIBLE):
            raise ValueError(f"visibility {p.visibility!r:.40}; expected 0, 1 or 2")


def _picked(row: Any, keys: Iterable[str]) -> dict[str, Any]:
    if not isinstance(row, dict):
        raise TypeError(f"found {row!r:.40}, expected a JSON object")
    return {key: row[key] for key in keys if key in row}


def layer_file(labels: Path | str, dataset: str, layer: str) -> Path:
    """Where a layer lies, in the project's folder `labels`.

    >>> layer_file("labels", "herd", "round1").as_posix()
    'labels/herd/round1.jsonl'
    """
    return Path(labels) / dataset / f"{layer}.jsonl"


def content_of(sample: Sample) -> str:
    """What two samples with the same labels share: a hash of the image label and the objects without their scores.

    >>> cow, goat = (Sample("1", "1.jpg", 64, 48, label=label) for label in ("cow", "goat"))
    >>> content_of(cow) == content_of(goat), len(content_of(cow))
    (False, 16)
    """
    objects = [{key: value for key, value in o.to_json().items() if key != "score"} for o in sample.objects]
    text = json.dumps([sample.label, objects], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def pixels_of(image: Image.Image) -> str:
    """What identical images share: a hash of the size and the pixels.

    >>> pixels_of(Image.new("RGB", (2, 1))) == pixels_of(Image.new("RGB", (1, 2)))
    False
    """
    return hashlib.sha256(repr(image.size).encode() + image.convert("RGB").tobytes()).hexdigest()[:16]


def look_of(image: Image.Image) -> str:
    """384 hex digits that stay nearly the same when an image is scaled or saved anew: the mean colours of 8 x 8 cells.

    >>> look_of(Image.new("RGB", (64, 48), (255, 0, 16)))[:6]
    'ff0010'
    """
    return np.asarray(image.convert("RGB").resize((CELLS, CELLS), Image.Resampling.BILINEAR)).tobytes().hex()


def is_of(statement: Statement, image: Image.Image) -> bool:
    """Whether a statement is about this image, as it is now or as it was at another size.

    >>> black = Image.new("RGB", (64, 48))
    >>> is_of(Statement("1", "", look_of(black), "empty", "", "ann"), black.resize((32, 24)))
    True
    """
    if statement.pixels == pixels_of(image):
        return True
    shown, now = (np.frombuffer(bytes.fromhex(look), np.uint8).astype(int) for look in (statement.look, look_of(image)))
    return len(shown) == len(now) and int(abs(shown - now).max()) <= LOOK_ALIKE


def write_layer(path: Path | str, statements: Iterable[Statement]) -> None:
    """Write a layer, a line per statement, by id.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_layer(f"{folder}/round1.jsonl", [Statement("1", "ab", "0f", "empty", "cd", "ann")])
    ...     print(Path(folder, "round1.jsonl").read_text(), end="")
    {"id": "1", "pixels": "ab", "look": "0f", "state": "empty", "against": "cd", "by": "ann"}
    """
    rows = sorted((s.to_json() for s in statements), key=lambda row: str(row["id"]))
    write_text(path, "".join(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n" for row in rows))


def read_layer(path: Path | str) -> list[Statement]:
    """Read a layer. Raises InputError naming the line that is no statement, or is about an image that has one.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_layer(f"{folder}/round1.jsonl", [Statement("1", "ab", "0f", "empty", "cd", "ann")])
    ...     [(s.id, s.state) for s in read_layer(f"{folder}/round1.jsonl")]
    [('1', 'empty')]
    """
    statements: dict[str, Statement] = {}
    text = read_rows(path)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        try:
            statement = Statement.from_json(json.loads(line))
        except (ValueError, TypeError, RecursionError, OverflowError) as error:
            raise InputError(f"{path}:{number}: not a statement about an image: {error}") from None
        if statement.id in statements:
            raise InputError(f"{path}:{number}: a second statement about {statement.id!r}; expected one per image")
        statements[statement.id] = statement
    return list(statements.values())

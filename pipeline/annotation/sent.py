"""What was sent to people, kept beside the layers: without it nobody could say later what they saw and changed."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.lines import read_rows
from pipeline.core.sample import Sample, check_keys


@dataclass(slots=True)
class Sent:
    """One image that was sent. `sample` has the label and objects that were shown with it, none if it went out blind;
    `shown` names whose they are, "labels" or a model's name. `pixels`, `look` and `against` are a `Statement`'s.
    """

    sample: Sample
    pixels: str
    look: str
    against: str
    shown: str = ""

    def to_json(self) -> dict[str, Any]:
        row = {"pixels": self.pixels, "look": self.look, "against": self.against, "shown": self.shown}
        return row | {"sample": self.sample.to_json()}

    @staticmethod
    def from_json(row: Any) -> "Sent":
        """Raises ValueError for what was not written here."""
        check_keys(row, "", ("pixels", "look", "against", "sample"), [f.name for f in fields(Sent)])
        return Sent(**row | {"sample": Sample.from_json(row["sample"])})


def write_sent(path: Path, rows: Iterable[Sent]) -> None:
    """A line per image, by id.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     write_sent(Path(folder, "a.jsonl"), [Sent(Sample("1", "1.jpg", 8, 8), "ab", "0f", "cd")])
    ...     list(read_sent(Path(folder, "a.jsonl")))
    ['1']
    """
    lines = sorted((row.to_json() for row in rows), key=lambda row: str(row["sample"]["id"]))
    write_text(path, "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines))


def read_sent(path: Path) -> dict[str, Sent]:
    """The images that were sent, by id; none if the file is not there. Raises InputError naming a line that is wrong.

    >>> read_sent(Path("labels/herd/.sent/0a1b2c3d.jsonl"))
    {}
    """
    rows: dict[str, Sent] = {}
    if not path.exists():
        return rows
    text = read_rows(path)
    for number, line in enumerate(text.removesuffix("\n").split("\n") if text else [], 1):
        try:
            row = Sent.from_json(json.loads(line))
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path}:{number}: not an image that was sent: {error}") from None
        rows[row.sample.id] = row
    return rows


def new_words(new: list[Sent], rows: list[Sent], tasks: int = 1) -> str:
    """What was done with `rows`, of which those in `new` were sent, in so many tasks.

    >>> row = Sent(Sample("1", "1.jpg", 8, 8), "ab", "0f", "cd")
    >>> new_words([row], [row, row])
    '1 images sent, 1 of them blind, 1 were there'
    """
    blind, there = sum(not row.shown for row in new), len(rows) - len(new)
    said = f"{len(new)} images sent" + (f" in {tasks} tasks" if tasks > 1 else "")
    return said + (f", {blind} of them blind" if blind else "") + (f", {there} were there" if there else "")


def changed_words(ids: list[str], how: str, tool: str) -> str:
    """What to do about those that were sent before, and are otherwise now; "" if there are none.

    >>> changed_words([], "as they looked before", "cvat")
    ''
    """
    if not ids:
        return ""
    return (
        f"; {len(ids)} are there {how} (first: {ids[0]}): fetch them by `pocketlens annotated --from {tool}`, delete "
        "their tasks, and send them anew"
    )

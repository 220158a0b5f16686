"""Label Studio's JSON export (https://labelstud.io/guide/export): a list of tasks, each with what people drew.

Places are percent of the upright image. A box that is turned (`rotation`) is turned about its upper-left corner, in
pixels, and becomes the box around it. A keypoint belongs to the box that is its `parentID`, else to the only
one that it lies in. Of an image that was skipped, or that nobody has seen, nothing is known, and predictions are no
truth. JSON-MIN has lost who drew what, the ids and the parents: it is not read.
"""

import json
import re
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.lines import first_bytes
from pipeline.core.params import Block
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.drawn import Drawing
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import brief
from pipeline.datasets.formats.label_studio_config import names_in
from pipeline.datasets.formats.label_studio_regions import Regions
from pipeline.datasets.formats.label_studio_write import WRITER
from pipeline.datasets.formats.reading import (
    IMAGE_SUFFIXES,
    Reading,
    files_under,
    is_split_name,
    relative,
    split_of,
)
from pipeline.datasets.formats.shapes import Drawings
from pipeline.datasets.formats.signs import foreign_in
from pipeline.datasets.formats.split_folders import file_splits

HEAD = 1 << 20  # bytes of a file that tell whose it is
LOOKED_AT = 50  # files of a folder that may be full of other JSON
DEEP = 3
ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+://[^/]*/([^?#]*)", re.IGNORECASE)
LOCAL = re.compile(r"local-files/?\?(?:.*&)?d=([^&]*)")
UPLOADED = re.compile(r"[0-9a-f]{8}-(?=.)")


DRAWN = frozenset({"annotations", "completions"})  # as annotations were called before version 1.0
PREDICTED = "predictions"
SUBMIT = (
    "in Label Studio's Data Manager choose Create Annotations From Predictions, or open each and press Submit, "
    "then export again"
)
ONLY_PREDICTED = f"tasks with predictions and no annotation; left out; {SUBMIT}"


class Options(Block):
    annotator: Annotated[str, Field(min_length=1)] = "first"
    """Whose labels are taken: an id, email or name in `completed_by`, or `first`, who finished an image first."""
    image_labels: bool = False
    """Take the choices for images and not the boxes; without a box in the whole set they are taken anyway."""


def read(path: Path, labels: Path, options: Options) -> Reading:
    """`labels` is one JSON file or a folder with some. Raises InputError if there is none.

    >>> from tempfile import TemporaryDirectory
    >>> value = {"x": 10, "y": 10, "width": 50, "height": 40, "rotation": 0, "rectanglelabels": ["cow"]}
    >>> region = {"id": "r", "type": "rectanglelabels", "value": value, "original_width": 100, "original_height": 50}
    >>> task = {"id": 1, "data": {"image": "/data/upload/1/0a1b2c3d-a.jpg"}, "annotations": [{"result": [region]}]}
    >>> with TemporaryDirectory() as folder:
    ...     Path(folder, "a.jpg").touch()
    ...     _ = Path(folder, "tasks.json").write_text(json.dumps([task]))
    ...     reading = read(Path(folder), Path(folder), Options())
    >>> [(o.label, [round(v, 9) for v in o.box]) for o in reading.candidates[0].objects]
    [('cow', [0.1, 0.1, 0.5, 0.4])]
    """
    files = list(_files(labels, DRAWN | {PREDICTED}))
    if not files:
        _refuse(labels)
    reading = Reading([], [])
    drawings = Drawings(reading, ImageIndex(path), labels, files)
    splits = file_splits([relative(file, labels, path) for file in files], labels, reading)
    for file in files:
        content = read_json(file)
        if not isinstance(content, list):
            raise InputError(f"{file}: {type(content).__name__}; expected a list of tasks")
        where = relative(file, labels, path)
        for place, task in enumerate(content, 1):
            if isinstance(task, dict) and isinstance(task.get("data"), dict):
                _Task(task, file, f"{where}: task {task.get('id', f'number {place}')}", drawings).read(
                    options, splits[where]
                )
            else:
                drawings.problem(where, f"task number {place}", "bad_row", "no object with data", "refused")
    predicted = drawings.notes["no_label", ONLY_PREDICTED]
    if predicted and not drawings.by_name:
        raise InputError(f"{labels}: {predicted} tasks with predictions and none with an annotation; {SUBMIT}")
    drawn = drawings.by_name.values()
    said = names_in(labels if labels.is_dir() else labels.parent)
    known = said.boxes if any(d.boxes for d in drawn) and not options.image_labels else said.images
    seen = sorted({p.name for d in drawn for p in d.points})
    drawings.finish([*said.landmarks, *seen], options.image_labels, known)
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    found = next(_files(labels, DRAWN, LOOKED_AT), None)
    return f"Label Studio tasks in {relative(found, labels)}" if found else None


def _files(labels: Path, of: frozenset[str], most: int | None = None) -> Iterator[Path]:
    """The files that begin as a list of tasks with one of the keys `of`, among `most` or all; other JSON is passed
    over.
    """
    files: Iterable[Path] = [labels]
    if not labels.is_file():
        files = (f for f in files_under(labels, {".json"}) if len(f.relative_to(labels).parts) <= DEEP)
    for file in sorted(islice(files, most)):
        keys = _first_keys(file)
        if "data" in keys and keys & of:
            yield file


def _first_keys(file: Path) -> set[str]:
    """The keys of the first object of a list, or those that can be seen in the beginning of a very long one."""
    text = first_bytes(file, HEAD).decode("utf-8-sig", errors="replace").lstrip()
    if not text.startswith("["):
        return set()
    try:
        first, _ = json.JSONDecoder().raw_decode(text[1:].lstrip())
    except (ValueError, RecursionError):
        return set(re.findall(r'"(data|annotations|completions|predictions)"\s*:\s*[\[{]', text))
    return set(first) if isinstance(first, dict) else set()


def _refuse(labels: Path) -> None:
    """Raises InputError saying what the JSON file is instead."""
    said = "no JSON of Label Studio (a list of tasks with data and annotations)"
    if labels.is_file() and _first_keys(labels) & {"annotation_id", "annotator", "lead_time"}:
        said = "JSON-MIN, which has lost ids and parents; export as JSON"
    raise InputError(f"{labels}: {said}{'' if labels.is_file() else foreign_in(labels)}")


class _Task:
    def __init__(self, task: dict[str, Any], file: Path, where: str, drawings: Drawings):
        self.task, self.file, self.where, self.drawings = task, file, where, drawings

    def read(self, options: Options, split: str | None) -> None:
        annotation = self._annotation(options.annotator)
        if annotation is None:
            return
        name = self.drawings.find(self._names(), self.file, ("images",), self.where)
        if name is None:
            return
        regions = [r for r in annotation["result"] if isinstance(r, dict)]
        for _ in range(len(annotation["result"]) - len(regions)):
            self.drawings.problem(name, self.where, "bad_row", "a region that is no object")
        first: dict[str, Any] = next((r for r in regions if "original_width" in r), {})
        size = self.drawings.size(name, first.get("original_width"), first.get("original_height"))
        if size is None:
            return
        drawing = Drawing(name, size, self.where, _said_split(self.task["data"]) or split)
        Regions(regions, drawing, self.drawings).read()
        self.drawings.add(drawing)

    def _annotation(self, annotator: str) -> dict[str, Any] | None:
        """The one that counts; None, and a note, where there is none."""
        said = self.task.get("annotations", self.task.get("completions"))
        every = said if isinstance(said, list) else [] if said is None else [said]
        kept = [a for a in every if not (isinstance(a, dict) and a.get("was_cancelled"))]
        done = [a for a in kept if isinstance(a, dict) and isinstance(a.get("result"), list)]
        if len(done) < len(kept):
            odd = next(a for a in kept if not (isinstance(a, dict) and isinstance(a.get("result"), list)))
            what = f"with result {brief(odd.get('result'))}" if isinstance(odd, dict) else brief(odd)
            found = f"an annotation {what}; expected one with a list `result`"
            self.drawings.problem(self.where, "", "bad_row", found, "dropped" if done else "refused")
            if not done:
                return None
        if not done:
            said = f"tasks {'that were skipped' if every else 'without an annotation'}; left out"
            self.drawings.notes["no_label", ONLY_PREDICTED if not every and self.task.get(PREDICTED) else said] += 1
            return None
        if annotator != "first":
            done = [a for a in done if annotator in _called(a.get("completed_by"))]
            if not done:
                self.drawings.notes["no_label", f"tasks without an annotation by {annotator}; left out"] += 1
                return None
        elif len(done) > 1:
            self.drawings.notes["several_annotators", "tasks with several annotations; the first one is taken"] += 1
        return min(done, key=lambda a: str(a.get("created_at") or "~"))  # ISO 8601 sorts as text

    def _names(self) -> list[str]:
        """What the image may be called on disk, the likeliest first."""
        data = self.task["data"]
        texts = [v for v in data.values() if isinstance(v, str) and _suffix(v) in IMAGE_SUFFIXES]
        said = data.get("image")
        said = said if isinstance(said, str) else texts[0] if texts else ""
        names = []
        if local := LOCAL.search(said):
            names = [unquote(local[1]), local[1]]
        elif address := ADDRESS.match(said):
            names = [unquote(address[1]), address[1]]
        elif said:
            names = [said, unquote(said)]
        uploaded = self.task.get("file_upload")
        names += [uploaded] if isinstance(uploaded, str) else []
        # what was uploaded has got a hash before its name, and lies where Label Studio keeps it
        last = [PurePosixPath(name).name for name in names if "upload/" in name or UPLOADED.match(Path(name).name)]
        return [*names, *last, *(UPLOADED.sub("", name, count=1) for name in last)]


def _said_split(data: dict[str, Any]) -> str | None:
    said = data.get("split")
    return split_of(said) if isinstance(said, str) and is_split_name(said) else None


def _suffix(text: str) -> str:
    return PurePosixPath(unquote(text.partition("?")[0])).suffix.lower()


def _called(who: Any) -> set[str]:
    """What an annotator is called: `completed_by` is an id, or an object with it."""
    if isinstance(who, dict):
        name = f"{who.get('first_name', '')} {who.get('last_name', '')}".strip()
        return {str(who.get(key)) for key in ("id", "email", "username")} | {name}
    return {str(who)}


FORMAT = Format(
    name="label_studio",
    tasks=("classify", "localize", "detect"),
    Options=Options,
    read=read,
    looks_for="JSON with a list of tasks, each with data and annotations",
    recognize=recognize,
    rank=34,  # two keys of a list's first object
    write=WRITER,
    sign=signs.LABEL_STUDIO,
)

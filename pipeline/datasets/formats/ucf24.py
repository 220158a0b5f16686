"""Person boxes on UCF101's clips, as UCF101-24 has them (Singh et al. 2017): one JSON file of tracks, a box per frame.

    {"v_Basketball_g01_c01": {"tracks": [{"start_frame": 8, "end_frame": 52, "boxes_xywh": [[189, 102, 47, 78], ...]}]}}

Frames count from 0, `end_frame` is the first one without the person, boxes are in pixels of the clip. Frames outside
all tracks are not labelled, though people may be in them: none of those is taken.
"""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from pipeline.core.errors import InputError, shown
from pipeline.core.files import read_json
from pipeline.core.params import Block, Count
from pipeline.core.sample import Object
from pipeline.datasets.formats import ucf101
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.keys import brief, id_text
from pipeline.datasets.formats.reading import (
    CLIP_SUFFIXES,
    Candidate,
    Problem,
    Reading,
    files_under,
    label_text,
    relative,
)
from pipeline.datasets.formats.values import four

Marks = dict[int, list[Object]]


KEYS = ("start_frame", "end_frame", "boxes_xywh")  # of a track


class Options(Block):
    split: Literal[1, 2, 3] = 1
    """Which of UCF101's three official lists."""
    frames: Count = 8
    """Images per clip, evenly spaced among the frames with boxes."""
    label: Annotated[str, Field(min_length=1)] = "person"
    """What the boxes are of; the file does not say."""


def read(path: Path, labels: Path, options: Options) -> Reading:
    """Clips as for `ucf101`, with `labels` the JSON file or its folder. Raises InputError if there is none of tracks.

    A clip without tracks is refused, a class without any is left out (of UCF101's 101 classes 24 have them).

    >>> from tempfile import TemporaryDirectory
    >>> import json
    >>> track = {"start_frame": 8, "end_frame": 10, "boxes_xywh": [[189, 102, 47, 78], [190, 102, 47, 78]]}
    >>> with TemporaryDirectory() as folder:
    ...     for name in ("Run/v_Run_g01_c01.avi", "Jump/v_Jump_g02_c01.avi"):
    ...         Path(folder, name).parent.mkdir()
    ...         Path(folder, name).touch()
    ...     boxes = Path(folder, "boxes.json")
    ...     _ = boxes.write_text(json.dumps({"v_Run_g01_c01": {"tracks": [track]}}))
    ...     reading = read(Path(folder), boxes, Options())
    >>> [(c.clip, sorted(c.marks)) for c in reading.candidates]
    [('v_Run_g01_c01', [8, 9])]
    """
    file, tracks = _annotations(_json_files(labels), labels)
    reading = ucf101.clips(path, path, options.split)
    reading.labels, kept = [options.label], []
    named = _named(reading.candidates, tracks)
    tracked = {c.label for c in reading.candidates if named[c.name]}
    where = relative(file, labels.parent)
    for label, count in sorted(Counter(c.label or "" for c in reading.candidates if c.label not in tracked).items()):
        found = f"class {label}: {count} clips, none with tracks"
        reading.problems.append(Problem(where, "", "no_label", found, "noted"))
    clips_of = Counter(key for keys in named.values() for key in keys)
    for candidate in (c for c in reading.candidates if c.label in tracked):
        keys = named[candidate.name]
        if fault := _fault(keys, clips_of, where):
            reading.problems.append(Problem(candidate.name, "", *fault))
            continue
        marks, problems = _marks(candidate, tracks[keys[0]], options.label)
        reading.problems += problems
        if not marks:
            reading.problems.append(Problem(candidate.name, "", "no_label", "no frame with a box"))
            continue
        candidate.label, candidate.frames, candidate.marks = None, options.frames, marks
        kept.append(candidate)
    tracks = {key: entry for key, entry in tracks.items() if key not in clips_of}
    if tracks:
        found = f"{len(tracks)} clips with tracks are not here"
        reading.problems.append(Problem(relative(file, labels.parent), "", "not_here", found, "noted"))
    reading.candidates = kept
    return reading


def _named(candidates: list[Candidate], tracks: dict[str, Any]) -> dict[str, list[str]]:
    """Clip -> the keys of `tracks` that mean it: its name, with its class or suffix or without."""
    by_clip: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for key in tracks:
        *folders, name = label_text(key.replace("\\", "/")).split("/")
        stem, suffix = os.path.splitext(name)  # noqa: PTH122 (a name may be a suffix alone)
        clip = stem if suffix.lower() in CLIP_SUFFIXES else name
        by_clip[clip].append((key, folders[-1] if folders else ""))
    found = {}
    for c in candidates:
        there = by_clip.get(label_text(c.file.stem), [])
        found[c.name] = [key for key, label in there if label in ("", c.label)]
    return found


def _fault(keys: list[str], clips_of: Mapping[str, int], where: str) -> tuple[str, str] | None:
    """The ledger's rule, and what was found, where not just one key means a clip, and that clip alone."""
    if not keys:
        return "no_label", f"no tracks in {where}"
    if len(keys) > 1:
        return "duplicate_id", f"tracks as {' and as '.join(map(shown, keys))}; expected one of them"
    if clips_of[keys[0]] > 1:
        return "ambiguous_file", f"{clips_of[keys[0]]} clips are called {shown(keys[0])}; expected one"
    return None


def recognize(path: Path, labels: Path) -> str | None:
    """Only where `labels` is told apart from the clips: the folder alone is UCF101's."""
    if labels == path:
        _refuse_unnamed(path)
        return None
    if not (labels.is_file() and labels.suffix == ".json"):
        return None
    if next(files_under(path, CLIP_SUFFIXES), None) is None:
        return None
    _, tracks = _annotations([labels])
    return f"tracks of {len(tracks)} clips in {labels.name}" if ucf101.recognize(path, path) else None


def _refuse_unnamed(path: Path) -> None:
    """Raises InputError if tracks lie in the folder of the clips, which only the labels' own path makes labels."""
    files = _json_files(path)
    if not files or next(files_under(path, CLIP_SUFFIXES), None) is None:
        return
    for file in files:
        try:
            _annotations([file])
        except InputError:
            continue
        raise InputError(f"{file}: tracks of clips; missing is --labels {file}")


def _json_files(labels: Path) -> list[Path]:
    return [labels] if labels.is_file() else sorted(f for f in labels.glob("*.json") if not f.name.startswith("."))


def _annotations(files: list[Path], labels: Path | None = None) -> tuple[Path, dict[str, Any]]:
    for file in files:
        found = read_json(file)
        if isinstance(found, dict) and found and all(isinstance(e, dict) and "tracks" in e for e in found.values()):
            return file, found
    raise InputError(f"{labels or files[0]}: no JSON of clips with tracks; expected {{clip: {{'tracks': [...]}}}}")


def _frame(track: dict[str, Any], key: str) -> int:
    """Raises InputError for what is no number of a frame: 8 and "8" are, 8.5, true and -1 are not."""
    text = id_text(track[key])
    if text is None or not re.fullmatch("[0-9]{1,18}", text):
        raise InputError(f"{key} {brief(track[key])}; expected the number of a frame")
    return int(text)


def _track(track: Any) -> tuple[int, list[tuple[float, float, float, float]]]:
    """The first frame, and the boxes from it on. Raises InputError that says what is no track about it."""
    if not isinstance(track, dict):
        raise InputError(f"{brief(track)}; expected an object with {', '.join(KEYS[:2])} and {KEYS[2]}")
    if missing := [key for key in KEYS if key not in track]:
        raise InputError(f"no {', '.join(missing)}")
    (start, end), boxes = (_frame(track, key) for key in KEYS[:2]), track[KEYS[2]]
    if not isinstance(boxes, list):
        raise InputError(f"{KEYS[2]} {brief(boxes)}; expected a list of boxes")
    rows = [_box(box, place) for place, box in enumerate(boxes)]
    if len(rows) != end - start:
        raise InputError(f"{len(rows)} boxes for frames {start} to {end}; expected one a frame")
    return start, rows


def _box(box: Any, place: int) -> tuple[float, float, float, float]:
    try:
        return four(box, f"box {place} is")
    except ValueError as error:
        raise InputError(str(error)) from None


def _marks(candidate: Candidate, entry: dict[str, Any], label: str) -> tuple[Marks, list[Problem]]:
    """The boxes of each frame, in pixels; a malformed track is dropped and named."""
    marks: Marks = defaultdict(list)
    problems = []
    if not isinstance(entry["tracks"], list):
        found = f"tracks: {brief(entry['tracks'])}, expected a list"
        return {}, [Problem(candidate.name, "tracks", "bad_row", found, "dropped")]
    for number, track in enumerate(entry["tracks"]):
        try:
            start, boxes = _track(track)
        except InputError as error:
            problems.append(Problem(candidate.name, f"track {number}", "bad_box", str(error), "dropped"))
            continue
        for place, box in enumerate(boxes, start):
            marks[place].append(Object(label, box))
    return dict(marks), problems


FORMAT = Format(
    name="ucf24",
    tasks=("detect",),
    Options=Options,
    read=read,
    looks_for="a JSON file of tracks, apart from the clips",
    recognize=recognize,
    rank=10,  # without the file of tracks it is ucf101, which would recognize it too
)

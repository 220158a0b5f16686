"""`.pts` files: one per image, its landmarks in pixels, as 300-W and other sets of faces have them.

    version: 1
    n_points: 68
    {
    357.4 308.5
    ...
    }

No standard says where the counting begins. The files come from Matlab, whose first pixel is (1, 1), and menpo, by
the group that made 300-W, takes 1 off every number (github.com/menpo/menpo/issues/160). So does this module.
"""

import re
from pathlib import Path, PurePosixPath

from pipeline.core.errors import InputError
from pipeline.core.lines import first_bytes, read_rows
from pipeline.datasets.formats import signs
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.image_index import ImageIndex
from pipeline.datasets.formats.keys import MOST_NAMES
from pipeline.datasets.formats.points import UNSET, LandmarkOptions, Point, is_labelled, name_points, object_of, usual
from pipeline.datasets.formats.reading import (
    Candidate,
    Problem,
    Reading,
    files_under,
    give_ids,
    relative,
    upright_size,
    without_suffix,
)
from pipeline.datasets.formats.split_lists import place, split_lists
from pipeline.datasets.formats.values import number

FORM = re.compile(r"\s*(?:version:\s*\S+\s+)?n_points:\s*([0-9]+)\s*\{([^{}]*)\}\s*", re.IGNORECASE)


def read(path: Path, labels: Path, options: LandmarkOptions) -> Reading:
    """Every .pts file under `labels` with its image under `path`; `options` has `label` and `pairs`.

    The split is in a folder's name, or in lists. Raises InputError if there is no .pts file that can be read.

    >>> from tempfile import TemporaryDirectory
    >>> from PIL import Image
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (100, 50)).save(Path(folder, "a.png"))
    ...     _ = Path(folder, "a.pts").write_text("version: 1 n_points: 2 {\\n 11 6\\n 51 26\\n}")
    ...     reading = read(Path(folder), Path(folder), LandmarkOptions(label="face"))
    >>> [(p.x, p.y) for p in reading.candidates[0].objects[0].landmarks]
    [(0.1, 0.1), (0.5, 0.5)]
    """
    files = sorted(files_under(labels, {".pts"}))
    if not files:
        raise InputError(f"{labels}: no .pts files; expected one per image")
    images = ImageIndex(path)
    reading = Reading([], [options.label])
    found: dict[str, tuple[str, list[Point]]] = {}  # image -> its file and points
    named = set()
    for file in files:
        where = relative(file, labels, path)
        image = _image_of(where, images.folder_of(file, labels), images, reading)
        if image is None:
            continue
        named.add(image)
        points = _points_of(file, where, reading)
        if points is None:
            continue
        if image in found:
            said = f"landmarks for {image}, as in {found[image][0]}"
            reading.problems.append(Problem(where, "", "listed_twice", said))
        else:
            found[image] = (where, points)
    if not found:
        raise InputError(f"{labels}: none of {len(files)} .pts files can be read; first {_said(reading.problems[0])}")
    count = usual(len(points) for _, points in found.values())
    name_points(reading, count, [], options.pairs)
    for name, (where, points) in sorted(found.items()):
        _add(reading, images.names[name], name, where, points, options.label)
    beside = {name: where for name, (where, _) in found.items()}
    place(reading, path, images.names, split_lists(reading, path, labels), beside=beside)
    give_ids(reading.candidates, [without_suffix(c.name) for c in reading.candidates])
    for name in sorted(images.names.keys() - named):
        reading.problems.append(Problem(name, "", "no_label", "an image without a .pts file"))
    return reading


def recognize(path: Path, labels: Path) -> str | None:  # noqa: ARG001
    files = list(files_under(labels, {".pts"}))
    if not files:
        return None
    form = (first_bytes(file, 800).replace(b"\0", b"").lower() for file in files[:20])  # of UTF-16
    if not any(b"n_points" in text for text in form):
        raise InputError(f"{files[0]}: no `n_points:` in it; expected version: 1, n_points: N, {{ lines of x y }}")
    return f"{len(files)} .pts files of landmarks"


def parse(text: str) -> list[Point]:
    """The points of a .pts file in pixels from (0, 0). Raises ValueError saying what is wrong with it."""
    form = FORM.fullmatch(text)
    if form is None:
        raise ValueError("not of the form: version: 1, n_points: N, { lines of x y }")
    lines = [line.split() for line in form[2].splitlines() if line.strip()]
    if len(lines) != int(form[1]):
        raise ValueError(f"{len(lines)} lines of points, expected {form[1]} as n_points says")
    if len(lines) > MOST_NAMES["landmarks"]:
        raise ValueError(f"{len(lines)} points, expected at most {MOST_NAMES['landmarks']}")
    points: list[Point] = []
    for row, words in enumerate(lines, 1):
        try:
            x, y = (number(word, finite=False) for word in words)
        except ValueError:
            raise ValueError(f"point {row}: {' '.join(words)[:40]!r}, expected x y") from None
        points.append((x, y) if (x, y) in UNSET else (x - 1, y - 1))
    return points


def _points_of(file: Path, where: str, reading: Reading) -> list[Point] | None:
    try:
        return parse(read_rows(file))
    except InputError as error:
        reading.problems.append(Problem(where, "", "bad_text", str(error).removeprefix(f"{file}: ")))
    except ValueError as error:
        reading.problems.append(Problem(where, "", "bad_pts", str(error)))
    return None


def _image_of(where: str, folder: str, images: ImageIndex, reading: Reading) -> str | None:
    """The image beside the file `where`, or the one of its name in a folder that fits."""
    stem = PurePosixPath(where).stem
    wanted = PurePosixPath(folder, stem).as_posix()
    found = images.find(wanted, near=("images",))
    if len(found) == 1:
        return found[0]
    reading.problems.append(Problem(where, "", *images.fault(wanted, found, f"no image named {stem}")))
    return None


def _add(reading: Reading, file: Path, name: str, where: str, points: list[Point], label: str) -> None:
    expected = len(reading.landmarks)
    if len(points) != expected:
        found = f"{len(points)} landmarks, expected {expected} as in most files"
        reading.problems.append(Problem(name, where, "bad_landmarks", found))
        return
    try:
        size = upright_size(file)
    except ValueError as error:
        reading.problems.append(Problem(name, "size", "unreadable", str(error)))
        reading.lost += any(map(is_labelled, points))
        return
    candidate = Candidate(file, name, size=size, unsized=True)
    if any(map(is_labelled, points)):
        candidate.objects.append(object_of(points, label, size))
        candidate.keys.append(where)
    reading.candidates.append(candidate)


def _said(problem: Problem) -> str:
    return f"{problem.file}: {problem.found}"


FORMAT = Format(
    name="pts",
    tasks=("localize", "detect"),
    Options=LandmarkOptions,
    read=read,
    looks_for=".pts files of landmarks",
    recognize=recognize,
    rank=60,
    sign=signs.PTS,
)

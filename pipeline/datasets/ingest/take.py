"""An image or clip of a dataset -> its checked, scaled copy in the one form."""

import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.image_file import DecodedImage, ImageFileError, decode_image
from pipeline.core.parallel import own_place
from pipeline.core.sample import Object, Sample
from pipeline.datasets.formats.reading import Candidate, Problem
from pipeline.datasets.ingest.checks import LabelledSizeError, check_objects, checked
from pipeline.datasets.ingest.similar import digest, thumbnail
from pipeline.datasets.video import ClipError, frames
from pipeline.ops.preprocess import FILL

QUALITY = 95


@dataclass(slots=True)
class Taken:
    """What came of one image or clip; `seen` images were in it. The first three lists go together.

    `size` is that of the upright image, or of a clip's frames; of an image also its EXIF `orientation`, as decode_image
    has it, and its `brightest` value.
    """

    samples: list[Sample] = field(default_factory=list)
    thumbnails: list[NDArray[np.uint8]] = field(default_factory=list)
    digests: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    clipped_silently: int = 0
    seen: int = 1
    size: tuple[int, int] | None = None
    orientation: int = 1
    brightest: int | None = None


def names_of(candidates: Iterable[Candidate], taken: Iterable[Taken]) -> dict[str, str]:
    """Id of each sample -> the file that it is of, as the ledger names it.

    >>> names_of([Candidate(Path("a.jpg"), "a.jpg")], [Taken([Sample("a", "a.png", 64, 48)])])
    {'a': 'a.jpg'}
    """
    return {s.id: c.name for c, t in zip(candidates, taken, strict=True) for s in t.samples}


def by_file(candidates: list[Candidate]) -> list[list[Candidate]]:
    """The crops of one file, which stand in a row, together; anything else alone.

    >>> crops = [Candidate(Path("a.jpg"), f"a.jpg#{i}", crop=(i, 0, 8)) for i in range(2)]
    >>> [len(members) for members in by_file([*crops, Candidate(Path("b.jpg"), "b.jpg")])]
    [2, 1]
    """
    rows = groupby(enumerate(candidates), lambda row: (row[1].file, 0) if row[1].crop else (row[1].file, row[0]))
    return [[candidate for _, candidate in members] for _, members in rows]


def take_all(candidates: list[Candidate], folder: Path, max_side: int) -> list[Taken]:
    """`take` of each, of one file, which is decoded once.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     Image.new("RGB", (80, 60)).save(f"{folder}/source.png")
    ...     [taken] = take_all([Candidate(Path(folder, "source.png"), "source.png", "one")], Path(folder), max_side=64)
    >>> [(s.file_name, s.width, s.height) for s in taken.samples]
    [('one.jpg', 64, 48)]
    """
    read = lru_cache(maxsize=1)(_decoded) if len(candidates) > 1 else _decoded
    return [take(candidate, folder, max_side, read) for candidate in candidates]


def take(
    candidate: Candidate, folder: Path, max_side: int, read: Callable[[Path, int | None], DecodedImage] | None = None
) -> Taken:
    """Decode an image or clip, check its labels, write it into `folder`; nothing is raised for what is broken."""
    if candidate.frames is not None:
        return _take_clip(candidate, folder, max_side)
    taken = Taken()
    try:
        decoded = (read or _decoded)(candidate.file, None if candidate.crop else max_side)
        objects, problems, taken.clipped_silently = checked(candidate, decoded)
    except ImageFileError as error:
        taken.problems.append(Problem(candidate.name, "", error.rule, error.found))
        return taken
    except LabelledSizeError as error:
        taken.problems.append(Problem(candidate.name, "", "size_mismatch", str(error)))
        return taken
    taken.problems += problems
    taken.size, taken.orientation = decoded.size, decoded.orientation
    if candidate.crop:
        square = cut(decoded.image, candidate.crop)
        square.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
        _write(taken, square, candidate, candidate.id, folder)
    else:
        taken.brightest = int(np.asarray(decoded.image).max())
        source = candidate.file if decoded.untouched else None
        exact = decoded.image.size == decoded.size
        _write(taken, decoded.image, candidate, candidate.id, folder, source, exact)
    taken.samples[0].objects = objects
    return taken


def ended(candidates: list[Candidate]) -> list[Taken]:
    """In place of `take_all` for a file that ends each process that decodes it.

    >>> [taken.problems[0].rule for taken in ended([Candidate(Path("a.jpg"), "a.jpg")])]
    ['unreadable']
    """
    found = "the process that decodes it is ended"
    rules = ["unreadable" if c.frames is None else "unreadable_clip" for c in candidates]
    return [Taken(problems=[Problem(c.name, "", rule, found)]) for c, rule in zip(candidates, rules, strict=True)]


def source(candidates: list[Candidate]) -> Path:
    """The one file that they are of.

    >>> source([Candidate(Path("herd/a.jpg"), "a.jpg")]).as_posix()
    'herd/a.jpg'
    """
    return candidates[0].file


def _decoded(file: Path, max_side: int | None) -> DecodedImage:
    return decode_image(file, max_side, whole=True)


def _take_clip(candidate: Candidate, folder: Path, max_side: int) -> Taken:
    taken = Taken()
    faults: list[str] = []
    try:
        for place, _, image in frames(candidate.file, candidate.frames or 1, candidate.marks, faults):
            size = taken.size = image.size
            image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS, reducing_gap=3.0)
            _write(taken, image, candidate, f"{candidate.id}-{place:05d}", folder)
            if candidate.marks is not None:
                taken.samples[-1].objects, problems, clipped_silently = of_frame(candidate, place, size)
                taken.problems += problems
                taken.clipped_silently += clipped_silently
    except ClipError as error:
        return Taken(problems=[Problem(candidate.name, "", "unreadable_clip", str(error))])
    taken.seen = len(taken.samples)
    taken.problems += of_damage(candidate.name, faults)
    return taken


def of_damage(name: str, faults: list[str]) -> list[Problem]:
    """The row about a clip of which images are taken, for what `frames` found wrong with it.

    >>> [problem.found for problem in of_damage("walk.avi", ["9 of 10 declared frames decode"])]
    ['9 of 10 declared frames decode']
    """
    return [Problem(name, "", "damaged_clip", "; ".join(faults), "noted")] if faults else []


def of_frame(candidate: Candidate, place: int, size: tuple[int, int]) -> tuple[list[Object], list[Problem], int]:
    """As `check_objects`, the objects in the frame at `place` of a clip, which is of `size` pixels.

    >>> clip = Candidate(Path("walk.mp4"), "walk.mp4", frames=1, marks={7: [Object("cow", (8, 0, 16, 24))]})
    >>> of_frame(clip, 7, (32, 24))[0][0].box
    (0.25, 0.0, 0.5, 1.0)
    """
    marks = [_relative(o, size) for o in (candidate.marks or {}).get(place, [])]
    return check_objects(candidate.name, marks, [f"frame {place}, box {i}" for i in range(len(marks))], size)


def _relative(o: Object, size: tuple[int, int]) -> Object:
    (x, y, w, h), (width, height) = o.box, size
    return replace(o, box=(x / width, y / height, w / width, h / height))


def cut(image: Image.Image, crop: tuple[int, int, int]) -> Image.Image:
    """The square (left, top, side) of the image, grey where it reaches over the edge.

    >>> cut(Image.new("RGB", (4, 4)), (2, 2, 4)).getpixel((3, 3)) == (FILL, FILL, FILL)
    True
    """
    left, top, side = crop
    square = Image.new("RGB", (side, side), (FILL, FILL, FILL))
    square.paste(image, (-left, -top))
    return square


def _write(
    taken: Taken,
    image: Image.Image,
    candidate: Candidate,
    name: str,
    folder: Path,
    source: Path | None = None,
    exact: bool = False,
) -> None:
    """Save `image` as <name>.jpg, or copy the `source` that already is just that.

    `exact`: as <name>.png. An image that was not scaled is trained on as `predict` sees it in its own file.
    """
    file = folder / f"{name}{'.png' if exact and not source else '.jpg'}"
    with own_place(file) as place:
        if source:
            shutil.copyfile(source, place)  # no hard link: whoever edits the copy must not edit the source
        elif exact:
            image.save(place, "PNG", compress_level=1)  # half the time of the usual 6, for 4 % more bytes
        else:
            image.save(place, "JPEG", quality=QUALITY)
    c = candidate
    taken.samples.append(Sample(name, file.name, *image.size, c.split, c.group, c.clip, c.label))
    taken.thumbnails.append(thumbnail(image))
    taken.digests.append(digest(image))

"""Square crops of an ingested dataset with boxes: of each object, and of nothing; for a classifier that will slide.

`path` is `data/ingested/<name>`. Each crop keeps the split and the group of its image, so that nothing of an image
that is tested on has been trained on.
"""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from pipeline.core.errors import InputError
from pipeline.core.params import Block, Seed
from pipeline.core.sample import SPLITS, Object, Sample, read_dataset, read_samples
from pipeline.datasets.formats import samples
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.keys import refuse_twice
from pipeline.datasets.formats.reading import Candidate, Problem, Reading, give_ids

if TYPE_CHECKING:
    import numpy as np

BACKGROUND = "background"
FAR = 100  # a box further away, in sides of the image, is a mistake
TRIES = 50  # tries for one square without an object; a full image may have no room for it
Square = tuple[int, int, int]  # left, top, side in pixels of the image; it may reach over the edge


class Options(Block):
    margin: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Around an object, as a share of its longer side; the object is in the middle."""
    min_side: Annotated[int, Field(ge=1)] = 32
    """In pixels: an object whose longer side is shorter is not cropped."""
    backgrounds: Annotated[int, Field(ge=0)] = 8
    """Crops of nothing per image; an image that is full gives fewer."""
    max_iou: Annotated[float, Field(gt=0, le=1)] = 0.5
    """A crop of nothing overlaps the crop of any object by less than this IoU."""
    seed: Seed = 0
    """Of the crops of nothing; they depend on it and on the image's id."""


def read(path: Path, labels: Path, options: Options) -> Reading:  # noqa: ARG001 (every format is called alike)
    """Raises InputError if `path` is not an ingested dataset with boxes.

    A crop of an object has its label and, as its one object, where its box lies in the crop. Crowds are not cropped.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.core.sample import Dataset, write_dataset, write_samples
    >>> cow = Object("cow", (0.4, 0.25, 0.2, 0.5))
    >>> with TemporaryDirectory() as folder:
    ...     write_dataset(folder, Dataset("herd", ["cow"]))
    ...     for split in SPLITS:
    ...         write_samples(Path(folder, split), [Sample(split, "1.jpg", 100, 80, split, objects=[cow])])
    ...     reading = read(Path(folder), Path(folder), Options(margin=0.25, backgrounds=0))
    >>> [(c.split, c.label, c.crop) for c in reading.candidates]
    [('train', 'cow', (20, 10, 60)), ('val', 'cow', (20, 10, 60)), ('test', 'cow', (20, 10, 60))]
    """
    if not (path / "dataset.json").is_file():
        raise InputError(f"{path}: no dataset.json; expected a dataset that was ingested: data/ingested/<name>")
    dataset = read_dataset(path)
    if BACKGROUND in dataset.labels:
        raise InputError(f"{path}: has a label {BACKGROUND!r}, which crops of nothing get; rename it")
    refuse_twice(dataset.labels, f"{path / 'dataset.json'}: labels", "label")
    reading = Reading([], [*dataset.labels, BACKGROUND])
    small = 0
    by_split = {split: read_samples(path / split) for split in SPLITS}
    refuse_twice((s.id for samples_ in by_split.values() for s in samples_), f"{path}: metadata.jsonl", "id")
    for split in SPLITS:
        for sample in by_split[split]:
            _refuse_damaged(sample, path / split / "metadata.jsonl", reading)
            file = path / split / sample.file_name
            objects = [o for o in sample.objects if not o.crowd]
            large = [o for o in objects if max(_pixels(o, sample)[2:]) >= options.min_side]
            small += len(objects) - len(large)
            crops = [(square_around(o, sample, options.margin), o) for o in large]
            nothing = squares_of_nothing(sample, options)
            for number, (square, o) in enumerate([*crops, *((s, None) for s in nothing)]):
                reading.candidates.append(_candidate(file, f"{split}/{sample.file_name}#{number}", sample, square, o))
    if not any(c.objects for c in reading.candidates):
        raise InputError(f"{path}: no boxes of {options.min_side} pixels or more to crop; expected a dataset of boxes")
    if small:
        found = f"{small} objects below options.min_side {options.min_side}; not cropped"
        reading.problems.append(Problem("", "", "small_object", found, "noted"))
    give_ids(reading.candidates, [c.id for c in reading.candidates])
    return reading


def _refuse_damaged(sample: Sample, file: Path, reading: Reading) -> None:
    """Raise InputError for a row that ingest has not written: nothing is cropped by half."""
    found = samples.fault(sample) or (
        "" if isinstance(sample.file_name, str) else f"file_name {sample.file_name!r:.40}"
    )
    for thing in sample.objects:
        found = found or samples.fault_of_object(replace(thing, landmarks=[]), True, reading)[1]
        if not found and not all(-FAR < side < FAR for side in thing.box):
            found = f"box {thing.box!r:.80}; expected shares of the image"
    if found:
        raise InputError(f"{file}: sample {sample.id!r:.60}: {found}")


def square_around(o: Object, sample: Sample, margin: float) -> Square:
    """The square with the object's box in its middle and `margin` of the box's longer side around that side."""
    x, y, w, h = _pixels(o, sample)
    side = max(1, round(max(w, h) * (1 + 2 * margin)))
    return round(x + w / 2 - side / 2), round(y + h / 2 - side / 2), side


def squares_of_nothing(sample: Sample, options: Options) -> list[Square]:
    """Up to `options.backgrounds` squares that no object's square overlaps by an IoU of `options.max_iou`.

    Every second one is drawn near an object, where one is: a sliding window meets each object also off its middle, too
    small and too large, and has to know that this is nothing. The others are anywhere; their sides are spread evenly
    over their logarithm. The draw depends on the seed and the sample's id alone.
    """
    import numpy as np

    digest = hashlib.sha256(f"{options.seed}:{sample.id}".encode(errors="surrogatepass")).digest()
    draw = np.random.default_rng(list(digest))
    objects = [square_around(o, sample, options.margin) for o in sample.objects if not o.crowd]
    crowds = [_pixels(o, sample) for o in sample.objects if o.crowd]
    over = options.margin / (1 + 2 * options.margin)  # as far as an object's square may reach over the edge
    longest = max(sample.width, sample.height)
    found: list[Square] = []
    for _ in range(TRIES * options.backgrounds):
        if len(found) == options.backgrounds:
            break
        if objects and len(found) % 2:
            square = _near(draw, objects[draw.integers(len(objects))])
        else:
            side = round(np.exp(draw.uniform(np.log(min(options.min_side, longest)), np.log(longest))))
            left, top = (_place(draw, length, side, round(over * side)) for length in (sample.width, sample.height))
            square = (left, top, side)
        # a crowd's box holds objects that nobody has outlined: what lies in it may be one
        if all(_iou(square, s) < options.max_iou for s in objects) and all(_shared(square, c) == 0 for c in crowds):
            found.append(square)
    return found


def _candidate(file: Path, name: str, sample: Sample, square: Square, o: Object | None) -> Candidate:
    number = name.rpartition("#")[2]
    crop = Candidate(file, name, f"{sample.id}-{number}", sample.split, sample.group or sample.id, crop=square)
    if o is None:
        crop.label = BACKGROUND
        return crop
    left, top, side = square
    x, y, w, h = _pixels(o, sample)
    crop.label, crop.keys = o.label, [o.label]
    crop.objects = [Object(o.label, ((x - left) / side, (y - top) / side, w / side, h / side))]
    return crop


def _near(draw: "np.random.Generator", square: Square) -> Square:
    """A square from half to twice as long, its middle up to three quarters of the side away in x and y."""
    left, top, side = square
    length = max(1, round(side * 2 ** draw.uniform(-1, 1)))
    x, y = draw.uniform(-0.75, 0.75, size=2) * side + (side - length) / 2
    return left + round(x), top + round(y), length


def _place(draw: "np.random.Generator", length: int, side: int, over: int) -> int:
    """Where a square begins that lies in 0 to `length` and up to `over` pixels outside; centred if it is too long."""
    if side >= length:
        return (length - side) // 2
    return int(draw.integers(-over, length - side + over, endpoint=True))


def _pixels(o: Object, sample: Sample) -> tuple[float, float, float, float]:
    x, y, w, h = o.box
    return x * sample.width, y * sample.height, w * sample.width, h * sample.height


def _iou(a: Square, b: Square) -> float:
    shared = _shared(a, (b[0], b[1], b[2], b[2]))
    return shared / (a[2] ** 2 + b[2] ** 2 - shared)


def _shared(a: Square, box: tuple[float, float, float, float]) -> float:
    """The area that a square and a box (x, y, w, h) share."""
    wide = min(a[0] + a[2], box[0] + box[2]) - max(a[0], box[0])
    high = min(a[1] + a[2], box[1] + box[3]) - max(a[1], box[1])
    return max(0.0, wide) * max(0.0, high)


FORMAT = Format(
    name="crops",
    tasks=("classify",),
    Options=Options,
    read=read,
    looks_for="an ingested dataset with boxes",  # nothing recognizes it: any ingested dataset would be taken for crops
)

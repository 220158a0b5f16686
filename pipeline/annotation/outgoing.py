"""Which images go out to people, and what is shown with each."""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from pipeline.annotation.sent import Sent
from pipeline.core.errors import InputError
from pipeline.core.errors import shown as printed
from pipeline.core.image_file import open_image
from pipeline.core.layer import content_of, look_of, pixels_of
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, read_samples

LABELS = "labels"  # what is shown: those that the dataset has
BLIND = ("val", "test")
EDGE = 0.01  # of a side: a box that is further outside was not made for this image

# images of a folder -> what is shown of each, and how sure the model is of it
Predict = Callable[[Path, list[Sample]], list[tuple[Sample, float]]]


def chosen(folder: Path, split: str, ids: Iterable[str] | None) -> list[Sample]:
    """The ingested images of `folder` that are to go out: those `ids`, in their order and as they are or as commands
    print them, else those of `split`. Raises InputError for an id that the dataset does not have, or no images.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.core.sample import write_samples
    >>> with TemporaryDirectory() as folder:
    ...     for split in SPLITS:
    ...         write_samples(f"{folder}/{split}", [Sample(f"{split}-1", "1.jpg", 8, 8, split)])
    ...     [s.id for s in chosen(Path(folder), "train", None)], [s.id for s in chosen(Path(folder), "", ["val-1"])]
    (['train-1'], ['val-1'])
    """
    if ids is None:
        samples = [replace(s, split=split) for s in read_samples(folder / split)]
    else:
        samples = [replace(s, split=name) for name in SPLITS for s in read_samples(folder / name)]
        known = {printed(s.id): s for s in samples} | {s.id: s for s in samples}
        wanted = list(dict.fromkeys(ids))
        if strange := [id for id in wanted if id not in known]:
            raise InputError(
                f"{folder}: no image {strange[0]!r} ({len(strange)} of {len(wanted)} ids are not there); expected ids "
                "of ingested images: those of a pool are to be in the dataset before"
            )
        samples = [known[id] for id in wanted]
    if not samples:
        raise InputError(f"{folder}: no images to send; expected ids, or a split that has some")
    return samples


def outgoing(
    folder: Path, samples: list[Sample], dataset: Dataset, model: str, predict: Predict | None, not_blind: bool
) -> tuple[list[Sent], dict[str, float]]:
    """What is sent of `samples`, and by id how sure the model is of it.

    Shown are the dataset's labels, or what `predict` says of the images of a folder; `model` is its name. Validation
    and test images go out blind, unless `not_blind`: people agree with what they are shown, and figures of a test set
    that was made so flatter the model. Raises InputError for a label, or a number, that cannot be shown.
    """
    shown, sure = {s.id: s for s in samples}, dict[str, float]()
    if predict is not None:
        for split in dict.fromkeys(s.split for s in samples):
            if split in BLIND and not not_blind:
                continue
            for p, certain in predict(folder / str(split), [s for s in samples if s.split == split]):
                shown[p.id], sure[p.id] = p, certain
    rows = []
    for sample in samples:
        image = open_image(folder / str(sample.split) / sample.file_name)
        blind = sample.split in BLIND and not not_blind
        seen = Sample("", "", 0, 0) if blind else _checked(shown[sample.id], dataset)
        given = replace(sample, label=seen.label, objects=seen.objects, scores=None)
        what = "" if blind else model or LABELS
        rows.append(Sent(given, pixels_of(image), look_of(image), content_of(sample), what))
    return rows, sure


def certainty(prediction: Sample) -> float:
    """From 0.5 (as a coin) to 1: how sure the model is of what it is least sure of. A class is judged by its
    probability, an object by its score, whichever side of the threshold it is on.

    >>> certainty(Sample("1", "1.jpg", 8, 8, scores={"cow": 0.9, "goat": 0.1}))
    0.9
    >>> boxes = [Object("cow", (0, 0, 1, 1), score=score) for score in (0.75, 0.01)]
    >>> certainty(Sample("1", "1.jpg", 8, 8, objects=boxes))
    0.75
    """
    if prediction.scores:
        return max(0.5, *prediction.scores.values())
    return min((max(o.score or 0.0, 1 - (o.score or 0.0)) for o in prediction.objects), default=1.0)


def _checked(sample: Sample, dataset: Dataset) -> Sample:
    labels = [o.label for o in sample.objects] + ([] if sample.label is None else [sample.label])
    if strange := [label for label in labels if label not in dataset.labels]:
        raise InputError(f"sample {sample.id!r}: label {strange[0]!r}; expected one of {', '.join(dataset.labels)}")
    for o in sample.objects:
        x, y, w, h = o.box
        points = [value for p in o.landmarks if p.visibility for value in (p.x, p.y)]
        if not all(math.isfinite(v) for v in (*o.box, *points)):
            raise InputError(f"sample {sample.id!r}: a box or landmark of {o.label} is not finite: {o.box}")
        if min(x, y) < -EDGE or max(x + w, y + h) > 1 + EDGE or min(w, h) <= 0:
            raise InputError(f"sample {sample.id!r}: box {o.box} of {o.label}; expected one in the image, from 0 to 1")
    return sample


def clipped(sample: Sample) -> Sample:
    """With its boxes within the image, to the last digit: an editor shows no others.

    >>> o = clipped(Sample("1", "1.jpg", 8, 8, objects=[Object("cow", (-1e-9, 0, 0.5, 1.0001))])).objects[0]
    >>> o.box[0], o.box[1] + o.box[3]
    (0.0, 1.0)
    """
    return replace(sample, objects=[_clipped(o) for o in sample.objects])


def _clipped(o: Object) -> Object:
    x, y, w, h = o.box
    left, top, right, bottom = max(x, 0.0), max(y, 0.0), min(x + w, 1.0), min(y + h, 1.0)
    inside = left == x and top == y and x + w <= 1 and y + h <= 1
    return o if inside else replace(o, box=(left, top, right - left, bottom - top))

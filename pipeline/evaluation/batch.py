"""A picture of a training's first batch: its labels are drawn from what the loss took, not from what was annotated."""

import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import open_file
from pipeline.core.sample import ABSENT, VISIBLE, Dataset, Landmark, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.viz.sheets import contact_sheet, draw

COLUMNS, TILE = 4, 320
DAMAGED = (BadZipFile, zlib.error, EOFError, KeyError, IndexError, TypeError, ValueError)  # how NumPy says it of a file

Arrays = Mapping[str, NDArray[Any]]


def batch_sheet(path: Path, spec: ModelSpec) -> Image.Image:
    """The images of `path`, the batch.npz of the training of `spec`, with its targets. Raises InputError naming a file
    that is not there or is damaged.
    """
    try:
        with open_file(path) as opened, np.load(opened) as file:
            arrays = {name: file[name] for name in file.files}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; `dvc repro` makes it") from None
    except DAMAGED as error:
        raise InputError(f"{path}: not a batch of run {spec.run}: {error}; `dvc repro --force` makes it anew") from None
    if missing := {"images", *TARGETS[spec.task]} - arrays.keys():
        said = f"no {', '.join(sorted(missing))}"
        raise InputError(f"{path}: not a batch of run {spec.run}: {said}; `dvc repro --force` makes it anew")
    images = arrays.pop("images")
    samples = [Sample("", "", image.shape[1], image.shape[0]) for image in images]
    READ[spec.task](samples, arrays, spec)
    dataset = Dataset(spec.dataset, spec.labels, spec.landmarks, spec.pairs, spec.skeleton)
    tiles = [(draw(Image.fromarray(i), s, dataset), s.id) for i, s in zip(images, samples, strict=True)]
    return contact_sheet(tiles, COLUMNS, TILE)


def _label(samples: list[Sample], target: Arrays, spec: ModelSpec) -> None:
    """Of images that were mixed `label` has the shares of the labels [N, K]."""
    for sample, row in zip(samples, target["label"], strict=True):
        shares = row if row.ndim else np.eye(len(spec.labels))[row]
        held = {spec.labels[i]: float(shares[i]) for i in np.argsort(-shares) if shares[i] > 0}
        sample.label, sample.scores = next(iter(held)), held if len(held) > 1 else None
        sample.id = ", ".join(f"{label} {share:.2f}" if share < 1 else label for label, share in held.items())


def _localize(samples: list[Sample], target: Arrays, spec: ModelSpec) -> None:
    rows = zip(*(target[name].tolist() for name in TARGETS["localize"]), strict=True)
    for sample, (there, box, label, spots) in zip(samples, rows, strict=True):
        sample.id = "" if there else "no object"
        if there:
            points = [Landmark(x, y, VISIBLE if seen else ABSENT) for x, y, seen in spots]
            sample.objects = [Object(spec.labels[label], tuple(box), points)]


def _detect(samples: list[Sample], target: Arrays, spec: ModelSpec) -> None:
    """Corners and landmarks are in pixels of the batch's images."""
    side = samples[0].width
    rows = zip(*(target[name].tolist() for name in TARGETS["detect"]), strict=True)
    for image, (left, top, right, bottom), label, spots in rows:
        points = [Landmark(x / side, y / side, int(seen)) for x, y, seen in spots]
        box = left / side, top / side, (right - left) / side, (bottom - top) / side
        samples[image].objects.append(Object(spec.labels[label], box, points))
    for sample in samples:
        many = len(sample.objects)
        sample.id = f"{many or 'no'} object{'' if many == 1 else 's'}"


READ = {"classify": _label, "localize": _localize, "detect": _detect}
TARGETS = {
    "classify": ("label",),
    "localize": ("presence", "box", "label", "landmarks"),
    "detect": ("image", "box", "label", "landmarks"),
}

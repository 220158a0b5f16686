"""The train images that int8 ranges come from."""

from collections import Counter, defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.image_file import open_image
from pipeline.core.room import take_room
from pipeline.core.sample import Sample
from pipeline.ops.preprocess import FILL, prepare

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec


def choose(samples: list[Sample], count: int) -> list[Sample]:
    """`count` samples, or all if there are fewer: as many of each label as there are, evenly spaced within it.

    Where images have no label of their own, their largest object's counts; those without any are a kind too.
    """
    kinds: dict[str, list[Sample]] = defaultdict(list)
    for s in sorted(samples, key=lambda s: s.id):
        largest = max(s.objects, key=lambda o: o.box[2] * o.box[3], default=None)
        kinds[s.label or (largest.label if largest else "")].append(s)
    left = sorted(kinds.values(), key=len)  # all images of rare labels are taken, the others fill up
    chosen: list[Sample] = []
    for i, kind in enumerate(left):
        share = min(len(kind), -(-(count - len(chosen)) // (len(left) - i)))
        chosen += [kind[(2 * n + 1) * len(kind) // (2 * share)] for n in range(share)]
    return sorted(chosen, key=lambda s: s.id)


def described(chosen: list[Sample], asked: int, spec: "ModelSpec") -> dict[str, Any]:
    """What export.json says of the images that ranges come from; `warnings` are for people."""
    labels = Counter(label for s in chosen for label in {s.label or "", *(o.label for o in s.objects)} if label)
    warnings = []
    if len(chosen) < asked:
        warnings.append(f"{asked} calibration images were asked for, train has {len(chosen)}")
    if len(labels) == 1 < len(spec.labels):
        warnings.append(f"all calibration images are of {next(iter(labels))!r}: ranges may not fit the other labels")
    return {
        "split": "train",
        "asked": asked,
        "used": len(chosen),
        "labels": dict(sorted(labels.items())),
        "warnings": warnings,
        "ids": [s.id for s in chosen],
    }


def blank(images: NDArray[np.uint8]) -> list[str]:
    """A warning where none of the canvases uint8 [n, 1, S, S, 3] shows anything but its padding."""
    if any(_shows(canvas.reshape(-1, 3)) for canvas in images):
        return []
    return [f"all {len(images)} calibration images are of one colour each, as black: int8 ranges of photos are others"]


def _shows(pixels: NDArray[np.uint8]) -> bool:
    image = pixels[(pixels != FILL).any(axis=1)]
    return bool((image != image[:1]).any())


def stored(path: Path, train_folder: Path, samples: list[Sample], spec: "ModelSpec") -> NDArray[np.uint8]:
    """uint8 [n, 1, S, S, 3] that stays on disk: how many there are is not a matter of memory."""
    shape = (len(samples), 1, spec.size, spec.size, 3)
    stored = np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=shape)
    take_room(path)
    for i, sample in enumerate(samples):
        stored[i, 0] = prepare(open_image(train_folder / sample.file_name), spec)[0]
    return stored

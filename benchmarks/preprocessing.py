"""What each step of preprocessing costs in CPU time, and how it looks.

    python -m benchmarks.preprocessing FOLDER [--sheet FILE] [--images N] [--repeats N]

FOLDER is a split of an ingested dataset whose images have objects, such as data/ingested/herd/train. Steps that go
before the net are timed on a canvas, the others on a stored image, both stretched to a square. The sheet shows images
with noise added.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from typing import Any

import cv2
import numpy as np
from PIL import Image
from pydantic import TypeAdapter

from pipeline.augment.filters import filtered
from pipeline.augment.steps import STEPS, Step, Steps
from pipeline.core.image_file import open_image
from pipeline.core.sample import Sample, read_samples
from pipeline.ops.preprocess import resize
from pipeline.ops.steps import STEPS as ON_PHONE
from pipeline.viz.sheets import contact_sheet

MORE: tuple[tuple[str, dict[str, Any]], ...] = (("gaussian", {"side": 5}), ("grabcut", {"around": "centre"}))
SIDE, STORED, TILE = 224, 320, 200  # pixels a side of a canvas, of a stored image, of a picture in the sheet
NOISE = 15  # standard deviation, in levels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sheet", type=Path, help="a JPEG to write")
    parser.add_argument("--images", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=9)
    asked = parser.parse_args()
    cv2.setNumThreads(0)
    samples = [s for s in read_samples(asked.folder) if s.objects][: asked.images]
    steps = _steps()
    images = [_noisy(asked.folder, s) for s in samples]
    print(f"{'step':42} {'image':>9} {'CPU ms':>8}")
    for name, step in steps:
        side = SIDE if step.step in ON_PHONE else STORED
        image = resize(Image.fromarray(images[0]), side, "stretch")[0]
        taken = [_timed(step, image, samples[0]) for _ in range(asked.repeats)]
        print(f"{name:42} {image.shape[1]:4} x {image.shape[0]:<4}{median(taken) * 1000:6.1f}")
    if asked.sheet:
        tiles = []
        for image, sample in zip(images, samples, strict=True):
            tiles.append((Image.fromarray(image), "with noise"))
            tiles += [(Image.fromarray(filtered([s], image, sample.objects, 0)[0]), name) for name, s in steps]
        contact_sheet(tiles, columns=5, tile=TILE).save(asked.sheet, quality=88)


def _steps() -> list[tuple[str, Step]]:
    said: list[tuple[str, dict[str, Any]]] = sorted([*((name, {}) for name in STEPS), *MORE], key=_order)
    names = [" ".join([name, *(f"{key}: {value}" for key, value in more.items())]) for name, more in said]
    steps = TypeAdapter(Steps).validate_python([{"step": name, "train_only": True, **more} for name, more in said])
    return list(zip(names, steps, strict=True))


def _order(said: tuple[str, dict[str, Any]]) -> int:
    return list(STEPS).index(said[0])


def _noisy(folder: Path, sample: Sample) -> np.ndarray:
    pixels = np.asarray(open_image(folder / sample.file_name))
    noise = np.random.default_rng(0).normal(0, NOISE, pixels.shape)
    return np.clip(pixels + noise, 0, 255).astype(np.uint8)


def _timed(step: Step, image: np.ndarray, sample: Sample) -> float:
    start = time.process_time()
    filtered([step], image, sample.objects, 0)
    return time.process_time() - start


if __name__ == "__main__":
    main()

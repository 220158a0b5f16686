"""Images per second of one core, of each augmentation policy and of the bare library that does the same.

    python -m benchmarks.augment [--policies P1,P2] [--size PIXELS] [--images N] [--rounds N]

The images are drawn, with a few animals each. Without labels and with their boxes and landmarks; CPU time of this
process on one thread; ours and the library take turns, and the medians of the rounds are printed. The library draws
from a generator that runs on, while each of our draws begins from a seed of its own.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch

from benchmarks.bare_policies import ALONE, bare, library_of, seeded
from pipeline.augment.policies import POLICIES, augmenter
from pipeline.augment.policies.policy import Pixels
from pipeline.core.image_file import open_image
from pipeline.core.sample import ABSENT, Dataset, Object
from pipeline.core.seeds import derived_seed
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.synthetic.coco import draw_herd
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.ops.preprocess import resize

LEAST = 0.3  # seconds of a round, so that quick policies are drawn from often: draws differ in what they cost


class Shown(NamedTuple):
    """An image with its objects, as ours takes them, and as libraries do."""

    pixels: Pixels
    objects: list[Object]
    tensor: torch.Tensor
    boxes: np.ndarray
    points: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    named = [policy for policy in POLICIES if policy != "none"]
    parser.add_argument("--policies", type=lambda text: text.split(","), default=named)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=9)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    shown, dataset = drawn(asked.images, asked.size)
    objects = sum(len(one.objects) for one in shown) / len(shown)
    points = sum(len(one.points) for one in shown) / len(shown)
    print(
        f"{asked.images} images of {asked.size} pixels, {objects:.1f} boxes and {points:.1f} landmarks each, one core"
    )
    print(f"{'policy':22}{'library':16}{'labels':>8}{'ours':>10}{'library':>10}{'ratio':>8}   images/s")
    for policy in asked.policies:
        for labelled in (False, True):
            if labelled and policy in ALONE:
                continue
            ours, its = rates(policy, shown, dataset, labelled, asked.rounds)
            row = f"{policy:22}{library_of(policy):16}{'yes' if labelled else 'no':>8}"
            print(f"{row}{ours:10.1f}{its:10.1f}{ours / its:8.2f} x", flush=True)


def drawn(count: int, size: int) -> tuple[list[Shown], Dataset]:
    """So many images of a herd, stretched to a square."""
    with TemporaryDirectory() as folder:
        draw_herd(Path(folder), ImagesParams(images=max(10, count), side=size), 7)
        coco = FORMATS["coco"]
        reading = coco.read(Path(folder), Path(folder), coco.Options())
        shown = [
            _shown(resize(open_image(found.file), size, "stretch")[0].copy(), found.objects)
            for found in reading.candidates[:count]
        ]
    return shown, Dataset("herd", reading.labels, reading.landmarks, reading.pairs, reading.skeleton)


def _shown(pixels: Pixels, objects: list[Object]) -> Shown:
    size = pixels.shape[0]
    boxes = [(o.box[0], o.box[1], o.box[0] + o.box[2], o.box[1] + o.box[3]) for o in objects]
    points = [(p.x, p.y) for o in objects for p in o.landmarks if p.visibility != ABSENT]
    corners, spots = (np.array(found, np.float32).reshape(-1, n) for found, n in ((boxes, 4), (points, 2)))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
    return Shown(pixels, objects, tensor, np.clip(corners, 0, 1) * size, spots * size)


def rates(policy: str, shown: list[Shown], dataset: Dataset, labelled: bool, rounds: int) -> tuple[float, float]:
    """Images per second of ours and of the library's."""
    augment, its = augmenter(policy, dataset), bare(policy, shown[0].pixels.shape[0])
    cv2.setNumThreads(0)
    tensors = library_of(policy) == "torchvision"

    def ours(number: int) -> Any:
        one = shown[number % len(shown)]
        return augment(one.pixels, one.objects if labelled else [], derived_seed(0, number))

    def library(number: int) -> Any:
        one = shown[number % len(shown)]
        image = one.tensor if tensors else one.pixels
        return its(image, one.boxes if labelled else None, one.points if labelled else None)

    taken: dict[Callable[[int], Any], list[float]] = {ours: [], library: []}
    repeats = {call: max(1, round(LEAST / _seconds(call, len(shown)))) for call in taken}  # the first calls warm up
    for turn in range(rounds):
        seeded(turn)
        for call, rate in taken.items():
            count = repeats[call] * len(shown)
            rate.append(count / _seconds(call, count, turn * count))
    return median(taken[ours]), median(taken[library])


def _seconds(call: Callable[[int], Any], count: int, first: int = 0) -> float:
    start = time.process_time()
    for number in range(first, first + count):
        call(number)
    return time.process_time() - start


if __name__ == "__main__":
    main()

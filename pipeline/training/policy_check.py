"""The policy of a training tested before it begins, on its own images as it varies them."""

from dataclasses import replace

import numpy as np
from PIL import Image

from pipeline.augment.policies import Augment
from pipeline.augment.policies.policy import Pixels
from pipeline.augment.policies.selftest import self_test
from pipeline.core.sample import Sample
from pipeline.training.loading import ImageDataset
from pipeline.training.params import RunParams

IMAGES = 8  # at most: reading them takes most of the time
SIDE = 256  # pixels, at most: labels move alike on a smaller canvas, which takes less time


def check_policy(name: str, run: RunParams, augment: Augment, plain: ImageDataset) -> None:
    """The self-test of `augment` on at most `IMAGES` images of `plain`, as they lie on the canvas, shrunk to
    `SIDE`. Nothing is tested where no image is varied.

    Raises what `self_test` raises, naming `train.online.policy` of the run `name`.
    """
    if augment.policy == "none" or not run.train.epochs:
        return
    pixels: dict[str, Pixels] = {}
    samples, side = [], min(SIDE, plain.spec.size)
    for index in sorted({i * len(plain) // IMAGES for i in range(IMAGES)}):
        seen, sample, _, objects = plain[index]
        pixels[sample.id] = np.asarray(Image.fromarray(seen).resize((side, side)))
        samples.append(replace(sample, width=side, height=side, objects=objects))

    def shown(sample: Sample) -> Pixels:
        return pixels[sample.id]

    self_test(augment, samples, run.train.seed, shown, f"runs.{name}.train.online.policy")

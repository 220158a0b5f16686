"""What a model says of images, whichever runtime it has: resized, run, decoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.core.image_file import open_image
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame, resize
from pipeline.runtimes.runtime import Images, Runtime

BATCH = 32


def predict_samples(runtime: Runtime, spec: ModelSpec, folder: Path, samples: list[Sample]) -> list[Sample]:
    """What the model says of the images of `samples` in `folder`: the same ids, with predicted labels or objects.

    Objects come from the score on that `spec.predict` has. Raises InputError naming an image that does not decode.
    """
    predicted = []
    with tqdm(total=len(samples), desc="predict", mininterval=0.5, disable=None) as bar:
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            inputs = [resize(open_image(folder / s.file_name), spec.size, spec.resize) for s in batch]
            outputs = runtime.run(np.stack([canvas for canvas, _ in inputs]))
            for i, (sample, (_, frame)) in enumerate(zip(batch, inputs, strict=True)):
                label, scores, objects = decode([o[i] for o in outputs], spec, frame)
                predicted.append(replace(sample, label=label, scores=scores, objects=objects))
            bar.update(len(batch))
    return predicted


def predict_image(runtime: Runtime, spec: ModelSpec, image: Image.Image) -> Sample:
    """What the model says of one upright RGB image; the sample has no id and no file."""
    return predict_resized(runtime, spec, image.size, *resize(image, spec.size, spec.resize))


def predict_resized(runtime: Runtime, spec: ModelSpec, size: tuple[int, int], canvas: Images, frame: Frame) -> Sample:
    """The same of an image of `size` (width and height in pixels) that `resize` made `canvas` and `frame` of."""
    label, scores, objects = decode([o[0] for o in runtime.run(np.stack([canvas]))], spec, frame)
    return Sample("", "", *size, label=label, scores=scores, objects=objects)

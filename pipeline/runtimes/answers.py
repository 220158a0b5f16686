"""What a model says of images, whichever runtime it has: resized, run, decoded."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from pipeline.core.calibrated import calibrated
from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame, prepare
from pipeline.runtimes.runtime import Images, Outputs, Runtime

BATCH = 32


def predict_samples(runtime: Runtime, spec: ModelSpec, folder: Path, samples: list[Sample]) -> list[Sample]:
    """What the model says of the images of `samples` in `folder`: the same ids, with predicted labels or objects.

    It is to be judged: scores are those that the net says, whatever they are worth. Objects come from the score on that
    `spec.predict` has. Raises InputError naming an image that does not decode, or for which the model's numbers are not
    finite.
    """
    predicted = []
    with tqdm(total=len(samples), desc="predict", mininterval=0.5, disable=None) as bar:
        for start in range(0, len(samples), BATCH):
            batch = samples[start : start + BATCH]
            inputs = [prepare(open_image(folder / s.file_name), spec) for s in batch]
            images = np.stack([canvas for canvas, _ in inputs])
            outputs = _finite(runtime, spec, images, [str(folder / s.file_name) for s in batch])
            for i, (sample, (_, frame)) in enumerate(zip(batch, inputs, strict=True)):
                label, scores, objects = decode([o[i] for o in outputs], spec, frame)
                predicted.append(replace(sample, label=label, scores=scores, objects=objects))
            bar.update(len(batch))
    return predicted


def predict_image(runtime: Runtime, spec: ModelSpec, image: Image.Image) -> Sample:
    """What the model says of one upright RGB image; the sample has no id and no file. Scores are calibrated where
    `spec.predict` has a `calibration`. Raises InputError if the model's numbers are not finite.
    """
    return predict_resized(runtime, spec, image.size, *prepare(image, spec))


def predict_resized(
    runtime: Runtime, spec: ModelSpec, size: tuple[int, int], canvas: Images, frame: Frame, name: str = ""
) -> Sample:
    """The same of an image of `size` (width and height in pixels) that `prepare` made `canvas` and `frame` of; an error
    calls it by its `name`.
    """
    outputs = _finite(runtime, spec, np.stack([canvas]), [name or f"an image of {size[0]} x {size[1]} pixels"])
    label, scores, objects = decode([o[0] for o in outputs], spec, frame)
    return calibrated(Sample("", "", *size, label=label, scores=scores, objects=objects), spec.predict)


def _finite(runtime: Runtime, spec: ModelSpec, images: Images, names: list[str]) -> Outputs:
    """The outputs for `images`, called by `names`. A number that is not finite is no answer: boxes may look well by
    their scores.
    """
    outputs = runtime.run(images)
    for output, values in zip(spec.outputs, outputs, strict=True):
        whole = np.isfinite(values).reshape(len(names), -1).all(axis=1)
        if not whole.all():
            raise InputError(
                f"run {spec.run!r}, {type(runtime).__name__}: the output {output} is not finite for "
                f"{names[int(whole.argmin())]}: the model file is damaged, or its numbers overflow"
            )
    return outputs

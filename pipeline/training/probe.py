"""Features of images by the frozen backbone of a run, as training caches them."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample
from pipeline.training.params import RunParams


def pooled_features(
    name: str, run: RunParams, dataset: Dataset, folder: Path, samples: list[Sample], cache: Path
) -> NDArray[np.float32]:
    """float32 [N, C]: the mean over the last map of the backbone that run `name` starts with, of images in `folder`.

    They are kept in the folder `cache`. Raises InputError for weights that are not there or do not fit.
    """
    from pipeline.training.devices import launch, together
    from pipeline.training.features import Features
    from pipeline.training.loading import ImageDataset
    from pipeline.training.train import pretrained_of, starting_net

    train = [s for s in samples if s.split == "train"]
    net, spec = starting_net(name, run, dataset, train, pretrained_of(name, run))
    fabric = launch(run.train.precision)
    with together(fabric):
        found = Features(ImageDataset(folder, samples, spec), net, cache, fabric)
        return np.stack([found[i][0][-1].astype(np.float32).mean(axis=(1, 2)) for i in range(len(samples))])

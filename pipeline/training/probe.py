"""Features of images by the frozen backbone of a run, as training caches them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample
from pipeline.training.params import DetectRun, RunParams

if TYPE_CHECKING:
    from pipeline.ops.preprocess import Frame

T = TypeVar("T")
CELLS = 32  # pixels a side of the coarsest map's cells: the canvas of a detector is a multiple of it


def pooled_features(
    name: str, run: RunParams, dataset: Dataset, folder: Path, samples: list[Sample], cache: Path
) -> NDArray[np.float32]:
    """float32 [N, C]: the mean over the last map of the backbone that run `name` starts with, of images in `folder`.

    They are kept in the folder `cache`. Raises InputError for weights that are not there or do not fit.
    """
    of = name, run, dataset, folder, samples, cache
    return np.stack(each_map(*of, lambda maps, _: maps[-1].mean(axis=(1, 2), dtype=np.float32)))


def dense_run(run: RunParams) -> RunParams:
    """A detector with the backbone of `run`, which has maps of objects of all sizes: `run` itself, if it is one."""
    if isinstance(run, DetectRun):
        return run
    model = {key: getattr(run.model, key) for key in ("backbone", "pretrained", "pretrained_sha256", "resize")}
    size = -(-run.model.size // CELLS) * CELLS
    return DetectRun.model_validate({"dataset": run.dataset, "task": "detect", "model": {**model, "size": size}})


def each_map(
    name: str,
    run: RunParams,
    dataset: Dataset,
    folder: Path,
    samples: list[Sample],
    cache: Path,
    function: Callable[[list[Any], "Frame"], T],
) -> list[T]:
    """`function` of the maps of each image, float16 [C, H, W] with the coarsest last, and of where it lies on the
    canvas; the maps of one image are held at a time. Raises InputError as `pooled_features` does.
    """
    from tqdm import tqdm

    from pipeline.training.devices import launch, together
    from pipeline.training.features import Features
    from pipeline.training.loading import ImageDataset
    from pipeline.training.train import pretrained_of, starting_net

    train = [s for s in samples if s.split == "train"] or samples
    # batches of a classifier have labels, which nothing here reads: those of a pool without any are the first one
    samples = [replace(s, label=s.label or dataset.labels[0]) for s in samples]
    net, spec = starting_net(name, run, dataset, train, pretrained_of(name, run))
    fabric = launch(run.train.precision)
    with together(fabric):
        found = Features(ImageDataset(folder, samples, spec), net, cache, fabric)
        each = tqdm(range(len(samples)), "read features", unit="image", mininterval=0.5, disable=None)
        return [function(maps, item[2]) for maps, item in (found[i] for i in each)]

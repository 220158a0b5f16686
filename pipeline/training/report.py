"""What a training leaves beside its model: its history, and its first batch. Later stages draw both."""

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.files import new_file, write_text
from pipeline.training.loading import Draw, EpochSampler, ImageDataset, TrainBatches, collated
from pipeline.training.params import RunParams
from pipeline.training.shown import as_seen, mosaics

SHOWN = 16  # images


def write_report(folder: Path, rows: list[dict[str, float]], varied: ImageDataset, run: RunParams) -> None:
    """Write history.csv, a row per validation, and batch.npz (see `write_first_batch`) into `folder`."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(folder / "history.csv", text.getvalue())
    write_first_batch(folder / "batch.npz", varied, run, rows[-1]["epoch"])


def write_first_batch(path: Path, varied: ImageDataset, run: RunParams, last: float) -> None:
    """Write `path`, an npz: `images` uint8 [N, S, S, 3], at most `SHOWN` of the first batch, and what the loss takes of
    them, each tensor of the target by its name. It is the batch of the epochs after the frozen ones, if the `last`
    epoch is one of them; in frozen epochs images are plain. Where a resumed run began later it is the same.
    """
    frozen = last < run.train.frozen_epochs
    dataset = ImageDataset(varied.folder, varied.samples, varied.spec) if frozen else varied
    draws = EpochSampler(len(dataset), run.train.seed, *(() if frozen else mosaics(run)))
    first: list[Draw] = next(iter(TrainBatches(draws, run.train.batch_size, varied.process)))
    images, target, _ = collated([dataset[draw] for draw in first], dataset.spec)
    if not frozen:
        when = run.train.frozen_epochs, 0, run.train.epochs
        images, target = as_seen(images, target, run, len(dataset.spec.labels), *when)
    kept = images[:SHOWN]
    rows = target["image"] < SHOWN if "image" in target else torch.arange(len(images)) < SHOWN
    arrays: dict[str, Any] = {name: values[rows].numpy() for name, values in target.items()}
    with new_file(path) as place, place.open("wb") as file:
        np.savez_compressed(file, images=kept.round().to(torch.uint8).numpy(), **arrays)

"""What choosing images to label is worth, against chance: heads on frozen features, from the same start.

    python -m benchmarks.active_learning WEIGHTS [--seeds N] [--sets NAME,NAME]

WEIGHTS is a file with weights of MobileNetV2 1.0. Sets: `clips` (frames of UCF101's clips, by action), `photos` (alpaca
or not, each photo up to five times, cropped and brightened), `cells` (crops of BCCD, by kind), these three in
$POCKETLENS_REAL_DATA; `actions` (frames of synthetic clips) and `drawn` (synthetic, no two alike); and a control where
no choice can help, `alike` (one image of each label, with noise).

Of each seed 30 % of the groups are the test set, the rest is the pool; B is a quarter of the pool. Choice and chance
have the same start, 0.2 B, and learn at the same budgets up to B. The choice reaches
what chance has at B where it has as much and keeps it. Intervals are 95 % over the seeds, paired.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image, ImageEnhance
from scipy.stats import t as student
from tqdm import tqdm

from pipeline.annotation import worth
from pipeline.core.image_file import open_image
from pipeline.core.parallel import PROCESSES, over
from pipeline.core.sample import Dataset, Sample
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.ingest.similar import digest, near_duplicates, thumbnail
from pipeline.datasets.synthetic.actions import draw_actions
from pipeline.datasets.synthetic.folders import draw_alpaca
from pipeline.datasets.synthetic.params import ActionsParams, ImagesParams
from pipeline.datasets.video import stream
from pipeline.training.params import ClassifyRun
from pipeline.training.probe import pooled_features

SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0)  # of B
GOAL = SHARES.index(0.7)
FRAMES, SIDE, CROPS = 10, 160, 3
Picture = tuple[Image.Image, str, str, str | None]  # an image, its label, its group, its clip


def of_clips(folder: Path) -> Iterator[Picture]:
    for clip in sorted(folder.glob("*/*.avi")):
        images = list(stream(clip))
        for i in np.linspace(0, len(images) - 1, FRAMES).astype(int):
            yield images[i], clip.parent.name, clip.stem.rpartition("_")[0], clip.stem


def clips(folder: Path) -> Iterator[Picture]:
    return of_clips(folder / "ucf101/videos")


def actions(folder: Path) -> Iterator[Picture]:
    draw_actions(folder, ActionsParams(groups=12, clips=2, frames=FRAMES, side=96), 3)
    return of_clips(folder / "videos")


def photos(folder: Path) -> Iterator[Picture]:
    rng = np.random.default_rng(0)
    for label in ("alpaca", "not alpaca"):
        for file in sorted((folder / "alpaca" / label).iterdir()):
            image = open_image(file)
            for _ in range(int(rng.integers(1, 6))):
                left, top, right, bottom = rng.uniform(0, 0.04, 4) * (image.size * 2)
                cut = image.crop((int(left), int(top), int(image.width - right), int(image.height - bottom)))
                yield ImageEnhance.Brightness(cut).enhance(rng.uniform(0.9, 1.1)), label, file.stem, None


def cells(folder: Path) -> Iterator[Picture]:
    row = FORMATS["voc"]
    for found in row.read(folder / "bccd", folder / "bccd", row.Options()).candidates:
        image = open_image(found.file)
        for label in ("RBC", "WBC", "Platelets"):
            for o in [o for o in found.objects if o.label == label][:CROPS]:
                x, y, w, h = (v * side for v, side in zip(o.box, image.size * 2, strict=True))
                if min(w, h) >= 8:
                    yield image.crop((int(x), int(y), int(x + w), int(y + h))), label, found.id, found.id


def drawn(folder: Path) -> Iterator[Picture]:
    draw_alpaca(folder, ImagesParams(images=400, side=128), 3)
    for file in sorted(folder.glob("*/*.jpg")):
        yield open_image(file), file.parent.name, file.stem, None


def alike(folder: Path) -> Iterator[Picture]:
    draw_alpaca(folder, ImagesParams(images=10, side=128), 3)
    rng, files = np.random.default_rng(0), [next(folder.glob(f"{label}/*.jpg")) for label in ("alpaca", "not alpaca")]
    for i in range(300):
        pixels = np.asarray(open_image(files[i % 2])).astype(int)
        noisy = np.clip(pixels + rng.normal(0, 20, pixels.shape), 0, 255).astype(np.uint8)
        yield Image.fromarray(noisy), files[i % 2].parent.name, str(i), None


REAL = {"clips": clips, "photos": photos, "cells": cells}
DRAWN = {"actions": actions, "drawn": drawn, "alike": alike}


def seen(name: str, made: Iterator[Picture], weights: Path, scratch: Path) -> tuple[worth.Images, list[str]]:
    """The features of all pictures, and their groups."""
    samples, looks, digests, groups = [], [], [], []
    for i, (image, label, group, clip) in enumerate(made):
        image.convert("RGB").resize((SIDE, SIDE)).save(scratch / f"{i}.png")
        samples.append(Sample(str(i), f"{i}.png", SIDE, SIDE, "train", label=label, clip=clip))
        looks.append(thumbnail(image))
        digests.append(digest(image))
        groups.append(group)
    labels = sorted({str(s.label) for s in samples})
    model = {"backbone": "mobilenetv2_100", "pretrained": str(weights), "size": SIDE}
    run = ClassifyRun.model_validate({"dataset": name, "task": "classify", "model": model})
    with over(PROCESSES):
        rows = pooled_features(name, run, Dataset(name, labels), scratch, samples, scratch / "features")
    sets = list(range(len(samples)))
    for members in near_duplicates(np.array(looks), digests, [None] * len(looks)).sets:
        for i in members:
            sets[i] = members[0]
    of = np.array([labels.index(str(s.label)) for s in samples], np.int64)
    return worth.Images(rows, of, sets, [s.clip for s in samples], len(labels)), groups


def measured(images: worth.Images, groups: list[str], seeds: int) -> tuple[np.ndarray, int]:
    """Accuracies [seeds, 2, budgets], by choice and by chance, and B."""
    scores = []
    for seed in tqdm(range(seeds), "seeds"):
        rng = np.random.default_rng(seed)
        pool, test = worth.halves(groups, worth.HELD_OUT, rng)
        most = len(pool) // 4
        start = rng.permutation(pool)[: most // 5]
        budgets = [round(share * most) for share in SHARES]
        scores.append([worth.curve(images, pool, test, start, budgets, chance, seed) for chance in (False, True)])
    return np.array(scores), most


def interval(values: np.ndarray) -> tuple[float, float]:
    half = student.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5
    return float(values.mean()), float(half)


def row(name: str, images: worth.Images, scores: np.ndarray, most: int) -> str:
    choice, chance = scores.mean(axis=0)
    below = [n for n, value in enumerate(choice) if value < chance[-1]]
    first = below[-1] + 1 if below else 0
    overall, apart = interval((scores[:, 0] - scores[:, 1]).mean(axis=1))
    goal, wide = interval(scores[:, 0, GOAL] - scores[:, 1, -1])
    said = f"{SHARES[first]:.2f} B" if first < len(SHARES) else "no"
    return (
        f"{name:8} {len(images.labels):5} {images.count:3} {most:4}  {choice[-1]:.4f}  {chance[-1]:.4f}   {said:7} "
        f"{goal:+.4f} +- {wide:.4f}   {overall:+.4f} +- {apart:.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", default=",".join({**REAL, **DRAWN}))
    asked = parser.parse_args()
    if asked.seeds < 5:
        parser.error(f"--seeds {asked.seeds}: expected 5 at least, as fewer give no interval to rely on")
    real = os.environ.get("POCKETLENS_REAL_DATA")
    print(f"{asked.seeds} seeds; accuracy of a head on features of MobileNetV2 1.0")
    print("set      images labels  B  choice  chance   chance's figure by choice at  0.7 B - chance at B   all budgets")
    for name in asked.sets.split(","):
        make: Callable[[Path], Iterator[Picture]] = {**REAL, **DRAWN}[name]
        if name in REAL and not real:
            print(f"{name}: left out, as POCKETLENS_REAL_DATA names no folder", file=sys.stderr)
            continue
        with TemporaryDirectory() as one, TemporaryDirectory() as other:
            images, groups = seen(
                name, make(Path(str(real)) if name in REAL else Path(other)), asked.weights, Path(one)
            )
            print(row(name, images, *measured(images, groups, asked.seeds)), flush=True)


if __name__ == "__main__":
    main()

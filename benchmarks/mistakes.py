"""Label mistakes that are planted in real and synthetic labels: how many are in the first 15 % of the ranking.

    python -m benchmarks.mistakes WEIGHTS [--seeds N] [--sets NAME,NAME]

WEIGHTS is a file with weights of MobileNetV2 1.0. Sets: `photos` (alpaca or not) and `crops` (BCCD's cells, by kind),
of whose labels 5 % are swapped; `cells` (BCCD), `alpacas` (Open Images' boxes) and `herd` (synthetic), of whose boxes
5 % are swapped, 5 % shifted to an IoU of 0.3 to 0.65, and 5 % taken away, all at once. All but `herd` are in
$POCKETLENS_REAL_DATA. The labels have mistakes of their own, which count as none.

Of swapped labels the peer is cleanlab, on the same probabilities out of fold; it is no dependency:
`uv pip install cleanlab` brings it. `in sample` is the same head on what it has learned.
"""

import argparse
import os
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from sklearn.metrics import roc_auc_score

from benchmarks.active_learning import cells as crops_of_cells
from pipeline.annotation.crops import moved, overlap
from pipeline.annotation.heads import Head, margin, out_of_fold
from pipeline.annotation.mistakes import Suspect, find_mistakes
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.synthetic.coco import draw_herd
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.training.params import ClassifyRun, DetectRun
from pipeline.training.probe import pooled_features

FIRST, SHARE = 0.15, 0.05
SIDE, LARGER = 160, 256
Labelled = tuple[Image.Image, list[Object]]


def of_format(name: str, folder: Path, labels: Path, most: int) -> Iterator[Labelled]:
    row = FORMATS[name]
    for found in row.read(folder, labels, row.Options()).candidates[:most]:
        yield (
            open_image(found.file),
            [replace(o, landmarks=[]) for o in found.objects if not o.crowd and min(o.box[2:]) > 0.01],
        )


def boxed(name: str, real: Path, scratch: Path) -> Iterator[Labelled]:
    if name == "cells":
        return of_format("voc", real / "bccd", real / "bccd", 200)
    if name == "alpacas":
        return of_format("yolo", real / "alpaca/alpaca", real / "alpaca-labels", 230)
    draw_herd(scratch, ImagesParams(images=300, side=LARGER), 3)
    return of_format("coco", scratch, scratch, 300)


def images_with_labels(name: str, real: Path) -> Iterator[tuple[Image.Image, str, str]]:
    if name == "crops":
        yield from ((image, label, group) for image, label, group, _ in crops_of_cells(real))
        return
    for label in ("alpaca", "not alpaca"):
        yield from ((open_image(f), label, f.stem) for f in sorted((real / "alpaca" / label).iterdir()))


def swapped(name: str, real: Path, weights: Path, seeds: int) -> None:
    with TemporaryDirectory() as one:
        folder, samples = Path(one), []
        for i, (image, label, group) in enumerate(images_with_labels(name, real)):
            image.convert("RGB").resize((SIDE, SIDE)).save(folder / f"{i}.png")
            samples.append(Sample(str(i), f"{i}.png", SIDE, SIDE, "train", group, label=label))
        labels = sorted({str(s.label) for s in samples})
        model = {"backbone": "mobilenetv2_100", "pretrained": str(weights), "size": SIDE}
        run = ClassifyRun.model_validate({"dataset": name, "task": "classify", "model": model})
        features = pooled_features(name, run, Dataset(name, labels), folder, samples, folder / "features")
    truth = np.array([labels.index(str(s.label)) for s in samples])
    rows = defaultdict(list)
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        wrong = np.zeros(len(truth), bool)
        wrong[rng.permutation(len(truth))[: round(SHARE * len(truth))]] = True
        given = np.where(wrong, (truth + rng.integers(1, len(labels), len(truth))) % len(labels), truth)
        said = out_of_fold(features, given, [str(s.group) for s in samples], len(labels))
        found = {
            "ours": margin(said, given),
            "in sample": margin(Head(features, given, len(labels), 1.0)(features), given),
        }
        if (peer := cleanlab_scores(given, said)) is not None:
            found["cleanlab"] = peer
        for who, scores in found.items():
            first = np.argsort(-scores, kind="stable")[: round(FIRST * len(truth))]
            rows[who].append((wrong[first].sum() / wrong.sum(), roc_auc_score(wrong, scores)))
    for who, pairs in rows.items():
        recall, auroc = np.mean(pairs, axis=0)
        print(f"{name:8} {len(truth):5} labels  swapped   {who:10} recall {recall:.2f}  AUROC {auroc:.3f}", flush=True)


def cleanlab_scores(labels: np.ndarray, said: np.ndarray) -> np.ndarray | None:
    """How bad each label is by its normalized margin, which is what it recommends for other mistakes than outliers."""
    try:
        from cleanlab.rank import get_label_quality_scores
    except ModuleNotFoundError:
        print("cleanlab is not installed: `uv pip install cleanlab` brings it", file=sys.stderr)
        return None
    scores: np.ndarray = 1 - get_label_quality_scores(labels, said, method="normalized_margin")
    return scores


def planted(samples: list[Sample], labels: list[str], seed: int) -> tuple[list[Sample], list[tuple[str, str, object]]]:
    """The samples with mistakes, and these: kind, id, and place in the image or box."""
    rng, made = np.random.default_rng(seed), []
    wrong: list[tuple[str, str, object]] = []
    for s in samples:
        objects: list[Object] = []
        for o in s.objects:
            kind = str(rng.choice(["", "swapped", "shifted", "dropped"], p=[1 - 3 * SHARE, SHARE, SHARE, SHARE]))
            others = [label for label in labels if label != o.label]
            if not kind or (kind == "swapped" and not others):
                objects.append(o)
                continue
            wrong.append((kind, s.id, corners(o) if kind == "dropped" else len(objects)))
            if kind == "swapped":
                objects.append(replace(o, label=str(rng.choice(others))))
            elif kind == "shifted":
                objects.append(replace(o, box=shifted(o, rng)))
        made.append(replace(s, objects=objects))
    return made, wrong


def corners(o: Object) -> np.ndarray:
    x, y, w, h = o.box
    return np.array([[x, y, x + w, y + h]])


def shifted(o: Object, rng: np.random.Generator) -> tuple[float, float, float, float]:
    while True:
        box = moved(corners(o), np.append(rng.uniform(-0.5, 0.5, 2), [0, 0])[None])
        if 0.3 < overlap(box, corners(o)).item() < 0.65:
            left, top, right, bottom = box[0].tolist()
            return left, top, right - left, bottom - top


def found_in(rows: list[Suspect], wrong: list[tuple[str, str, object]]) -> float:
    """The share of what is wrong that `rows` point at, a box by any of the kinds."""
    objects = {(row.id, row.object) for row in rows if row.object is not None}
    hits = 0
    for kind, name, what in wrong:
        if kind != "dropped":
            hits += (name, what) in objects
            continue
        near = [Object("", row.box) for row in rows if row.kind == kind and row.id == name and row.box]
        hits += any(overlap(corners(o), np.asarray(what)).item() >= 0.4 for o in near)
    return hits / max(1, len(wrong))


def boxes(name: str, real: Path, weights: Path, seeds: int) -> None:
    with TemporaryDirectory() as one, TemporaryDirectory() as two:
        folder, samples = Path(one), []
        for i, (image, objects) in enumerate(boxed(name, real, Path(two))):
            image.thumbnail((LARGER, LARGER))
            image.convert("RGB").save(folder / f"{i}.png")
            samples.append(Sample(str(i), f"{i}.png", *image.size, "train", objects=objects))
        labels = sorted({o.label for s in samples for o in s.objects})
        model = {"backbone": "mobilenetv2_100", "pretrained": str(weights), "size": LARGER}
        run = DetectRun.model_validate({"dataset": name, "task": "detect", "model": model})
        recalls = defaultdict(list)
        for seed in range(seeds):
            given, wrong = planted(samples, labels, seed)
            rows = find_mistakes(name, run, Dataset(name, labels), folder, given, folder / "features")
            count = sum(len(s.objects) for s in given)
            for kind in sorted({w[0] for w in wrong}):
                own = [w for w in wrong if w[0] == kind]
                recalls[kind].append([found_in(rows[: round(FIRST * n)], own) for n in (len(rows), count)])
    for kind, shares in recalls.items():
        of_rows, of_objects = np.mean(shares, axis=0)
        print(
            f"{name:8} {count:5} labels  {kind:9} ours       recall {of_rows:.2f} in 15 % of {len(rows)} rows, "
            f"{of_objects:.2f} in as many rows as 15 % of the objects",
            flush=True,
        )


def there(sets: str, real: str | None) -> Iterator[str]:
    """Those of the `sets` that can be measured; the others are named. All but `herd` are in the folder `real`."""
    for name in sets.split(","):
        if name == "herd" or real:
            yield name
        else:
            print(f"{name}: left out, as POCKETLENS_REAL_DATA names no folder", file=sys.stderr)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--sets", default="photos,crops,cells,alpacas,herd")
    asked = parser.parse_args()
    real = os.environ.get("POCKETLENS_REAL_DATA")
    for name in there(asked.sets, real):
        measure = swapped if name in ("photos", "crops") else boxes
        measure(name, Path(str(real)), asked.weights, asked.seeds)


if __name__ == "__main__":
    main()

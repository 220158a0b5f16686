"""What choosing images to label is worth for a detector, against chance, by two prices: an image, and a box.

    python -m benchmarks.active_learning_boxes WEIGHTS [--seeds N] [--sets NAME,NAME] [--epochs N]

WEIGHTS is a file with weights of MobileNetV2 1.0. Sets: `cells` (BCCD) and `alpacas` (Open Images' boxes), these two in
$POCKETLENS_REAL_DATA, and `herd` (synthetic). A head of the detector learns on features of the frozen backbone, for as
many steps at each budget, from the same start.

Of each seed 30 % of the images are the test set and 10 % choose the epoch; the rest is the pool, B a quarter of it. At
0.2, 0.4, 0.7 and 1 B a head learns what is labelled so far, chooses what comes next as `pocketlens next` does, and is
judged by COCO's AP. Images with much on them are chosen rather, so by boxes the choice costs more: its AP is then taken
where it has as many boxes as chance, between two budgets by a straight line. Intervals are 95 % over the seeds, paired.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from tqdm import tqdm

from benchmarks.active_learning import interval
from benchmarks.mistakes import boxed, there
from pipeline.annotation.choice import Taken, typical, uncertain
from pipeline.annotation.doubts import doubt, rarity
from pipeline.annotation.worth import FEW, Floats
from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Sample, write_dataset, write_samples
from pipeline.core.spec import read_spec
from pipeline.datasets.ingest.similar import digest, near_duplicates, thumbnail
from pipeline.evaluation.params import DetectPredict, with_predict
from pipeline.metrics.metrics import judged, score
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import TORCH, open_runtime
from pipeline.training.params import DetectRun
from pipeline.training.probe import pooled_features
from pipeline.training.train import train_run

SHARES = (0.2, 0.4, 0.7, 1.0)  # of B
SIDE, BATCH = 224, 8
IMAGES = 160  # of an epoch: with fewer each is there several times, so that all heads take as many steps
TEST, VAL = 0.3, 0.1


class Pool:
    """A set with its features, and the folder in which heads learn."""

    def __init__(self, name: str, real: Path, weights: Path, epochs: int, folder: Path) -> None:
        self.name, self.folder, self.samples = name, folder, list[Sample]()
        looks, digests = [], []
        for i, (image, objects) in enumerate(boxed(name, real, folder / "drawn")):
            image.thumbnail((SIDE, SIDE))
            image.convert("RGB").save(file := folder / f"{i}.png")
            self.samples.append(Sample(str(i), str(file), *image.size, "train", objects=objects))
            looks.append(thumbnail(open_image(file)))
            digests.append(digest(open_image(file)))
        self.dataset = Dataset(name, sorted({o.label for s in self.samples for o in s.objects}))
        self.groups = list(range(len(self.samples)))
        for members in near_duplicates(np.array(looks), digests, [None] * len(looks)).sets:
            for i in members:
                self.groups[i] = members[0]
        model = {"backbone": "mobilenetv2_100", "pretrained": str(weights), "size": SIDE}
        train = {"frozen_epochs": epochs, "epochs": 0, "batch_size": BATCH}
        self.run = DetectRun.model_validate({"dataset": name, "task": "detect", "model": model, "train": train})
        of = name, self.run, self.dataset, folder, self.samples, folder / "features"
        self.features: Floats = pooled_features(*of)

    def learn(self, known: Sequence[int], val: Sequence[int]) -> Path:
        """The folder of a model whose head has learned the samples `known`."""
        with TemporaryDirectory(dir=self.folder) as scratch:
            folders, times = [], -(-IMAGES // len(known))
            for split, rows in (("train", [*known] * times), ("val", val)):
                folders.append(folder := Path(scratch) / split)
                folder.mkdir()
                write_dataset(folder, self.dataset)
                samples = [replace(self.samples[i], split=split, id=f"{i}.{n}") for n, i in enumerate(rows)]
                write_samples(folder, samples)
            made = self.folder / "model"
            report, resume, cache = Path(scratch) / "report", Path(scratch) / "resume", self.folder / "features"
            train_run(self.name, self.run, folders[0], folders[1], made, report, resume, cache, workers=1)
        return made

    def said(self, model: Path, rows: Sequence[int]) -> list[Sample]:
        spec = judged(with_predict(read_spec(model / "model.json"), DetectPredict().model_dump()))
        return predict_samples(open_runtime(TORCH, model), spec, self.folder, [self.samples[i] for i in rows])

    def chosen(self, model: Path, known: list[int], free: list[int], number: int) -> list[int]:
        """What `pocketlens next` would choose, at most `number` of `free`."""
        labels = [o.label for i in known for o in self.samples[i].objects]
        taken = Taken([self.groups[i] for i in free], [None] * len(free), number)
        taken.give({self.groups[i] for i in known})
        if len(labels) < FEW * len(self.dataset.labels):
            rows = typical(self.features[free], self.features[known], number, taken)
        else:
            weights = rarity(labels)
            doubts = np.array([doubt(said, weights) for said in self.said(model, free)], np.float32)
            rows = uncertain(self.features[free], doubts, number, taken)
        return [free[i] for i in rows]

    def curve(self, seed: int, chance: bool) -> list[tuple[float, float]]:
        """How many boxes were labelled at each share of B, and the AP on the test set."""
        rng = np.random.default_rng(seed)
        order = [int(i) for i in rng.permutation(len(self.samples))]
        test, val = (round(share * len(order)) for share in (TEST, TEST + VAL))
        pool, points = order[val:], list[tuple[float, float]]()
        most = len(pool) // 4
        known = pool[: round(SHARES[0] * most)]
        for share in (*SHARES[1:], None):
            model = self.learn(known, order[test:val])
            truth = [self.samples[i] for i in order[:test]]
            figures = score("detect", truth, self.said(model, order[:test]), self.dataset, whole=False)
            points.append((sum(len(self.samples[i].objects) for i in known), figures["AP"]))
            if share is not None:
                free = [i for i in pool if i not in known]
                number = round(share * most) - len(known)
                rows = [] if chance else self.chosen(model, known, free, number)
                rest = [i for i in free if i not in rows]
                known = known + rows + [int(i) for i in rng.permutation(rest)[: number - len(rows)]]
        return points


def measure(pool: Pool, seeds: int) -> None:
    curves = np.array([[pool.curve(seed, chance) for chance in (False, True)] for seed in tqdm(range(seeds), "seeds")])
    boxes, ap = curves[..., 0], curves[..., 1]  # [seeds, 2, budgets]
    by_boxes = np.array([np.interp(b[1], b[0], a[0]) for b, a in zip(boxes, ap, strict=True)])
    print(f"{pool.name}: {len(pool.samples)} images, {seeds} seeds", flush=True)
    for n, share in enumerate(SHARES):
        counts = boxes.mean(axis=0)[:, n]
        image, box = (interval(found[:, n] - ap[:, 1, n]) for found in (ap[:, 0], by_boxes))
        print(
            f"  {share:.1f} B  boxes {counts[0]:5.0f} by choice {counts[1]:5.0f} by chance   "
            f"AP {ap[:, 0, n].mean():.4f} {ap[:, 1, n].mean():.4f}   choice less chance, "
            f"by images {image[0]:+.4f} +- {image[1]:.4f}  by boxes {box[0]:+.4f} +- {box[1]:.4f}",
            flush=True,
        )
    early = interval(ap[:, 0, SHARES.index(0.7)] - ap[:, 1, -1])
    cheap = np.array([np.interp(0.7 * b[1, -1], b[0], a[0]) - a[1, -1] for b, a in zip(boxes, ap, strict=True)])
    print(
        f"  choice at 0.7 of the price less chance at B: by images {early[0]:+.4f} +- {early[1]:.4f}  "
        f"by boxes {interval(cheap)[0]:+.4f} +- {interval(cheap)[1]:.4f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("weights", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sets", default="cells,alpacas,herd")
    parser.add_argument("--epochs", type=int, default=8, help="of training at each budget")
    asked = parser.parse_args()
    real = os.environ.get("POCKETLENS_REAL_DATA")
    for name in there(asked.sets, real):
        with TemporaryDirectory() as folder:
            measure(Pool(name, Path(str(real)), asked.weights, asked.epochs, Path(folder)), asked.seeds)


if __name__ == "__main__":
    main()

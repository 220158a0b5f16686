"""How often the intervals of figures hold, on simulated sets whose true figures are known.

    python -m benchmarks.intervals [--sets N] [--images N] [--samples N]

Of each set the figure, and three intervals of 95 % by the same samples: the percentiles; those moved to the figure,
which is what metrics.json has; and the "basic" ones, mirrored at the figure. They are held against the mean figure of
sets of that size, and against the figure of one large set. Where sets are in groups, ten images of one are alike.
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Object, Sample
from pipeline.metrics.bootstrap import draws, interval, resampled

LARGE = 20_000  # images of the set that stands for all
GROUP = 10
SETS = (  # task, figure, labels, whether in groups
    ("classify", "accuracy", 5, False),
    ("classify", "accuracy", 5, True),
    ("classify", "macro_f1", 5, False),
    ("localize", "mean_iou", 1, False),
    ("localize", "presence_accuracy", 1, False),
    ("detect", "AP", 1, False),
    ("detect", "AP", 3, False),
    ("detect", "AP50", 3, False),
    ("detect", "AP", 3, True),
)
Floats = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--samples", type=int, default=1000)
    asked = parser.parse_args()
    print(f"{asked.sets} sets of {asked.images} images, {asked.samples} samples of each")
    print("| figure | labels | of a large set | mean | percentiles | moved | basic | of the large set: the same |")
    print("|---|---|---|---|---|---|---|---|")
    for number, (task, figure, labels, grouped) in enumerate(SETS):
        random = np.random.default_rng(number)
        large = simulated(random, task, LARGE, labels, grouped)
        expected = float(resampled(task, *large, np.ones((LARGE, 1), np.int32))[figure][0])
        found = np.array([ends_of(random, task, figure, labels, grouped, asked) for _ in range(asked.sets)])
        mean, ends = float(found[:, 0].mean()), found[:, 1:].reshape(-1, 3, 2)
        held = [((ends[..., 0] <= true) & (true <= ends[..., 1])).mean(axis=0) for true in (mean, expected)]
        shares = [" | ".join(f"{share:.3f}" for share in each) for each in held]
        name = f"`{figure}`" + (f", {asked.images // GROUP} groups" if grouped else "")
        print(f"| {name} | {labels} | {expected:.4f} | {mean:.4f} | {shares[0]} | {shares[1].replace(' | ', ', ')} |")


def ends_of(
    random: np.random.Generator, task: str, figure: str, labels: int, grouped: bool, asked: argparse.Namespace
) -> list[float]:
    """The figure of a new set, and the ends of its three intervals."""
    truth, predicted, dataset = simulated(random, task, asked.images, labels, grouped)
    drawn = draws(truth, asked.samples)
    weights = np.column_stack([drawn.weights, np.ones(len(truth), np.int32)])
    *samples, value = resampled(task, truth, predicted, dataset, weights)[figure]
    low, high = interval(value, np.array(samples), drawn.groups) or (np.nan, np.nan)
    by = float(np.nanmean(samples)) - value
    return [value, low + by, high + by, low, high, 2 * value - high - by, 2 * value - low - by]


def simulated(
    random: np.random.Generator, task: str, images: int, labels: int, grouped: bool
) -> tuple[list[Sample], list[Sample], Dataset]:
    """Images, some of them hard, and what a model says of them."""
    dataset = Dataset("simulated", [str(k) for k in range(max(2, labels))])
    hard = np.repeat(random.random(-(-images // GROUP)), GROUP) if grouped else random.random(images)
    truth, predicted = [], []
    for i in range(images):
        place = (f"{i:06}", f"{i}.jpg", 100, 100)
        t = Sample(*place, group=str(i // GROUP) if grouped else None)
        p = Sample(*place)
        if task == "classify":
            label = int(random.integers(labels))
            t.label, p.label = str(label), str(label if random.random() > 0.4 * hard[i] else (label + 1) % labels)
        else:
            count = int(random.random() < 0.9) if task == "localize" else int(random.poisson(2))
            t.objects, p.objects = _objects(random, count, labels, float(hard[i]))
            p.objects = p.objects[:1] if task == "localize" else p.objects
        truth.append(t)
        predicted.append(p)
    return truth, predicted, dataset


def _objects(random: np.random.Generator, count: int, labels: int, hard: float) -> tuple[list[Object], list[Object]]:
    """So many true ones, and what is found: most of them, a little beside, and false alarms."""
    truth, found = [], []
    for _ in range(count):
        x, y = random.uniform(0, 0.8, 2).tolist()
        dx, dy = random.normal(0, 0.012 * (1 + hard), 2).tolist()
        label = str(random.integers(labels))
        truth.append(Object(label, (x, y, 0.2, 0.2)))
        if random.random() < 0.85 - 0.3 * hard:
            found.append(Object(label, (x + dx, y + dy, 0.2, 0.2), score=float(random.beta(4, 2))))
    for _ in range(random.poisson(2 * hard) if count != 1 else random.poisson(0.2)):
        x, y = random.uniform(0, 0.8, 2).tolist()
        found.append(Object(str(random.integers(labels)), (x, y, 0.2, 0.2), score=float(random.beta(2, 4))))
    return truth, found


if __name__ == "__main__":
    main()

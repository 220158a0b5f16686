"""What a random split would have claimed: frames of one clip, or of one person, on both sides.

    python -m benchmarks.leak RUN [--repeats N]

RUN is a classify run of params.yaml whose data is ingested. A logistic regression on the pooled features of the run's
pretrained backbone is fitted twice: on train and val of the chain's split, which keeps groups together, judged on its
test images; and on as many images drawn at random without regard to groups, judged on the rest.
"""

import argparse
import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

from pipeline.config.params import read_params
from pipeline.core.sample import SPLITS, read_dataset, read_samples
from pipeline.models.backbones import read_pretrained
from pipeline.models.nets import build
from pipeline.training.devices import launch, together
from pipeline.training.features import Features
from pipeline.training.loading import ImageDataset
from pipeline.training.train import make_spec


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    params = read_params()
    run = params.run(asked.run)
    folder = Path("data/ingested") / run.dataset
    pretrained = read_pretrained(run.model.backbone, run.model.pretrained)
    dataset = replace(read_dataset(folder), preprocess=params.steps(run.dataset))
    spec = make_spec(asked.run, run, dataset, pretrained.mean, pretrained.std)
    net, fabric = build(spec, pretrained), launch("fp32")
    vectors, labels, part = [], [], []
    with together(fabric):  # as a training, whose features these are too
        for split in SPLITS:
            samples = read_samples(folder / split)
            found = Features(ImageDataset(folder / split, samples, spec), net, Path(".features"), fabric)
            vectors += [found[i][0][0].astype(np.float32).mean(axis=(1, 2)) for i in range(len(samples))]
            labels += [str(s.label) for s in samples]
            part += [split] * len(samples)
    x, y, is_test = np.stack(vectors), np.array(labels), np.array(part) == "test"

    def accuracy(train: np.ndarray, test: np.ndarray) -> float:
        probe = LogisticRegression(C=0.1, max_iter=5000).fit(x[train], y[train])
        return float(probe.score(x[test], y[test]))

    grouped = accuracy(np.flatnonzero(~is_test), np.flatnonzero(is_test))
    everything, share = np.arange(len(x)), is_test.mean()
    drawn = [
        accuracy(*train_test_split(everything, test_size=share, stratify=y, random_state=seed))
        for seed in range(asked.repeats)
    ]
    print(f"{asked.run}: {run.model.backbone} at {run.model.size}, {len(x)} images, {is_test.sum()} of them test")
    print(f"  groups kept together {grouped:.4f}")
    print(f"  random split         {statistics.mean(drawn):.4f} (mean of {asked.repeats})")


if __name__ == "__main__":
    main()

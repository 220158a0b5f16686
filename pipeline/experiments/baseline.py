"""What nets are measured against: histograms of oriented gradients and a linear SVM, as in Dalal and Triggs 2005."""

import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.files import new_folder, write_json
from pipeline.core.image_file import open_image
from pipeline.core.parallel import each
from pipeline.core.sample import read_dataset, read_samples, write_samples
from pipeline.experiments.hog import features, histograms
from pipeline.metrics.metrics import score
from pipeline.ops.preprocess import prepare
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.runtime import latency
from pipeline.training.params import ClassifyRun
from pipeline.training.train import check_teaches, make_spec

C = 0.01  # the paper's soft SVM
Floats = NDArray[np.float32]


class HogSvm:
    """A runtime like the others: uint8 RGB [N, S, S, 3] -> [margins], float32 [N, K], the highest is the label's.

    `weights` [K, F] and `bias` [K] are for the F numbers of an image's histograms.
    """

    threads = 1

    def __init__(self, weights: Floats, bias: Floats) -> None:
        self.weights, self.bias = weights, bias

    def run(self, images: NDArray[np.uint8]) -> list[Floats]:
        return [np.stack([self.weights @ histograms(image) + self.bias for image in images])]


def measure(name: str, run: ClassifyRun, train_folder: Path, test_folder: Path, out: Path) -> dict[str, Any]:
    """Train on `train_folder`'s images on the run's canvas, judge on `test_folder`'s with the run's own metrics.

    Writes `out`/{model.npz, figures.json, predictions/} and returns the figures: `float` metrics, `train`, `cost`
    (`params` without `macs`: the work is in the histograms, not in the multiply-adds of layers), `latency_ms` and
    `size_bytes` of model.npz, float32. Raises InputError where the data cannot teach the run.
    """
    dataset, train, test = read_dataset(train_folder), read_samples(train_folder), read_samples(test_folder)
    check_teaches(name, run, dataset, train, test)
    start = time.perf_counter()
    spec = make_spec(name, run, dataset, [0.0] * 3, [1.0] * 3)
    rows = each(partial(features, spec), [train_folder / s.file_name for s in train], "histograms")
    weights, bias = _fit(np.stack(rows), [dataset.labels.index(str(s.label)) for s in train], run.train.seed)
    seconds = time.perf_counter() - start
    model = HogSvm(weights, bias)
    spec.outputs = ["logits"]
    predicted = predict_samples(model, spec, test_folder, test)
    canvas = prepare(open_image(test_folder / test[0].file_name), spec)[0][None]
    with new_folder(out) as folder:
        np.savez(folder / "model.npz", allow_pickle=False, weights=weights, bias=bias)
        figures = {
            "float": score("classify", test, predicted, dataset),
            "train": {"seconds": round(seconds, 2), "images_per_second": round(len(train) / seconds, 2)},
            "cost": {"params": weights.size + bias.size},
            "latency_ms": latency(model, canvas),
            "size_bytes": (folder / "model.npz").stat().st_size,
        }
        write_json(folder / "figures.json", figures)
        write_samples(folder / "predictions", predicted)
    return figures


def _fit(rows: Floats, labels: list[int], seed: int) -> tuple[Floats, Floats]:
    """One label against the others: weights [K, F] and bias [K]."""
    from sklearn.svm import LinearSVC

    svm = LinearSVC(C=C, random_state=seed).fit(rows, labels)
    weights, bias = svm.coef_.astype(np.float32), svm.intercept_.astype(np.float32)
    if len(bias) == 1:  # of two labels: what speaks for the one speaks against the other
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    return weights, bias

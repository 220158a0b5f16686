"""COCO's evaluation of 5,000 images by this project and by pycocotools: the same figures, and how long each takes.

    python -m benchmarks.coco_ap [--images N] [--rounds N]

Random boxes, once of 80 labels with few predictions and once of 2 labels with many. Seconds are of the process, medians
over the rounds in turns, from what each takes (Samples here, its dicts there) to precision and recall.
"""

import argparse
import contextlib
import io
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.core.sample import Dataset, Object, Sample
from pipeline.metrics.bootstrap import draws, resampled
from pipeline.metrics.coco_ap import Evaluation, evaluate

SETS = {"80 labels": (80, 7, 15), "2 labels": (2, 3, 30)}  # labels; true objects and false alarms of an image, about
WIDTH, HEIGHT = 640, 480


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    for name, (labels, true, false) in SETS.items():
        truth, predicted, dataset = scene(asked.images, labels, true, false)
        theirs, ours = as_coco(truth, predicted, dataset), (truth, predicted, dataset)
        times: dict[str, list[float]] = {"ours": [], "pycocotools": [], "1,000 samples": []}
        for _ in range(asked.rounds):
            found = timed(times["ours"], evaluate, *ours)
            run = timed(times["pycocotools"], by_pycocotools, *theirs)
            same = np.array_equal(found.precision, run.precision) and np.array_equal(found.recall, run.recall)
        timed(times["1,000 samples"], resampled, "detect", *ours, draws(truth).weights)
        median = {who: statistics.median(taken) for who, taken in times.items()}
        objects = [sum(len(s.objects) for s in samples) for samples in (truth, predicted)]
        print(f"{name}: {asked.images} images, {objects[0]} true objects, {objects[1]} predicted; AP {found.ap():.6f}")
        print(f"  precision and recall {'are the same in every digit' if same else 'DIFFER'}")
        for who, seconds in median.items():
            print(f"  {who:14} {seconds:7.2f} s  {seconds / median['ours']:6.1f} x ours")


def timed(times: list[float], call: Callable[..., Any], *given: Any) -> Any:
    start = time.process_time()
    found = call(*given)
    times.append(time.process_time() - start)
    return found


def scene(images: int, labels: int, true: int, false: int) -> tuple[list[Sample], list[Sample], Dataset]:
    """Images with `true` objects and `false` alarms each, on average; in 1 of 100 objects a crowd."""
    random = np.random.default_rng(0)
    dataset = Dataset("random", [str(k) for k in range(labels)])
    truth, predicted = [], []

    def thing(*box: float, **more: float | bool) -> Object:
        return Object(str(random.integers(labels)), tuple(map(float, box)), **more)  # type: ignore[arg-type]

    for i in range(images):
        objects = [
            thing(*random.uniform(0, 0.5, 2), *random.uniform(0.05, 0.45, 2), crowd=bool(random.random() < 0.01))
            for _ in range(random.integers(2 * true + 1))
        ]
        found = [
            Object(o.label, tuple(np.add(o.box, random.normal(0, 0.02, 4)).clip(0.01).tolist()), score=random.random())
            for o in objects
            for _ in range(random.choice([0, 1, 1, 2]))
        ]
        found += [
            thing(*random.uniform(0, 0.5, 2), *random.uniform(0.05, 0.45, 2), score=random.random() ** 3)
            for _ in range(random.integers(2 * false + 1))
        ]
        place = (f"{i:06}", f"{i}.jpg", WIDTH, HEIGHT)
        truth.append(Sample(*place, objects=objects))
        predicted.append(Sample(*place, objects=found))
    return truth, predicted, dataset


def as_coco(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> tuple[dict, list[dict]]:
    """The ground truth and the results in COCO's form."""
    gold = [(i, o) for i, sample in enumerate(truth, 1) for o in sample.objects]
    boxes = [_row(i, o) | {"id": n, "iscrowd": int(o.crowd)} for n, (i, o) in enumerate(gold, 1)]
    images = [{"id": i, "width": WIDTH, "height": HEIGHT} for i in range(1, len(truth) + 1)]
    categories = [{"id": int(label) + 1, "name": label} for label in dataset.labels]
    results = [_row(i, o) | {"score": o.score} for i, sample in enumerate(predicted, 1) for o in sample.objects]
    return {"images": images, "categories": categories, "annotations": boxes}, results


def _row(image: int, o: Object) -> dict:
    x, y, w, h = o.box
    box = [x * WIDTH, y * HEIGHT, w * WIDTH, h * HEIGHT]
    return {"image_id": image, "category_id": int(o.label) + 1, "bbox": box, "area": box[2] * box[3]}


def by_pycocotools(truth: dict, results: list[dict]) -> Evaluation:
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = truth
        gold.createIndex()
        run = COCOeval(gold, gold.loadRes([dict(row) for row in results]), "bbox")
        run.evaluate()
        run.accumulate()
    return Evaluation(run.eval["precision"][..., 0, -1], run.eval["recall"][..., 0, -1])


if __name__ == "__main__":
    main()

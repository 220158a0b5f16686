"""COCO's average precision on Samples, by faster_coco_eval (the same numbers as pycocotools, without its wait)."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from pipeline.core.sample import Dataset, Sample

# The mean of the 17 values that COCO measured for people, used for every landmark: there are none for other objects.
LANDMARK_SIGMA = 0.067
RECALLS = np.linspace(0, 1, 101)  # where COCO reads precision


@dataclass(frozen=True, slots=True)
class Evaluation:
    """What COCO accumulates, -1 where there is no truth: `precision` [10 IoUs 0.50 to 0.95, 101 recalls, K labels]
    and `recall` [10, K], over objects of any area, at most 100 of a label per image (20 for landmarks)."""

    precision: NDArray[np.float64]
    recall: NDArray[np.float64]

    def ap(self, label: int | None = None, iou: int | None = None) -> float | None:
        """Mean precision, of one label index or all, at one IoU index or all; None without truth to find."""
        part = self.precision if label is None else self.precision[..., label : label + 1]
        return _mean(part if iou is None else part[iou])

    def ar(self) -> float | None:
        """Mean over labels and IoUs of the recall that is reached."""
        return _mean(self.recall)


def evaluate(truth: list[Sample], predicted: list[Sample], dataset: Dataset, kind: str = "bbox") -> Evaluation:
    """COCO's evaluation of boxes (`kind` "bbox") or of landmarks by their object keypoint similarity ("keypoints").

    `truth` and `predicted` are the same images in the same order. Ties between scores of several images are
    broken by that order, as in pycocotools. Method: https://cocodataset.org/#detection-eval.

    >>> from pipeline.core.sample import Object
    >>> truth = Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5))])
    >>> found = Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.4), score=0.9)])
    >>> result = evaluate([truth], [found], Dataset("herd", ["cow"]))  # IoU 0.8: found at 0.50 to 0.75
    >>> round(result.ap(), 3), round(result.ap(iou=0), 3)
    (0.7, 1.0)
    """
    gold = COCO(coco_dict(truth, dataset))
    found = gold.loadRes(coco_results(truth, predicted, dataset))
    sigmas = [LANDMARK_SIGMA] * len(dataset.landmarks)
    run = COCOeval_faster(gold, found, kind, kpt_oks_sigmas=sigmas if kind == "keypoints" else None)
    run.params.catIds = list(range(1, len(dataset.labels) + 1))  # also those without truth
    run.evaluate()
    run.accumulate()
    return Evaluation(run.eval["precision"][:, :, :, 0, -1], run.eval["recall"][:, :, 0, -1])


def resampled_ap(
    truth: list[Sample], predicted: list[Sample], dataset: Dataset, draws: Iterable[NDArray[np.int64]]
) -> list[float]:
    """The AP of boxes over each of `draws`, indices [M] of the images in any number; NaN without truth to find.

    Objects are matched once; of a draw only precision and recall are counted anew.

    >>> from pipeline.core.sample import Object
    >>> truth = [Sample(i, "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5))]) for i in "ab"]
    >>> found = [Sample("a", "a.jpg", 80, 80, objects=[Object("cow", (0, 0, 0.5, 0.5), score=0.9)]), truth[1]]
    >>> found[1] = Sample("b", "a.jpg", 80, 80)
    >>> [round(ap, 3) for ap in resampled_ap(truth, found, Dataset("herd", ["cow"]), [[0, 0], [1, 1], [0, 1]])]
    [1.0, 0.0, 0.505]
    """
    gold = COCO(coco_dict(truth, dataset))
    run = COCOeval_faster(gold, gold.loadRes(coco_results(truth, predicted, dataset)), "bbox", separate_eval=True)
    run.params.catIds = list(range(1, len(dataset.labels) + 1))
    run.params.areaRng, run.params.areaRngLbl, run.params.maxDets = run.params.areaRng[:1], ["all"], [100]
    run.evaluate()
    matched, figures = run._evalImgs_cpp, []  # the images of the first label, then those of the next
    images = _images_of(truth, predicted, dataset)
    # an image without a label changes nothing of the label's figures: it fills up, as all labels take as many images
    free = (k * len(truth) + i for k, own in enumerate(images) for i in np.setdiff1d(np.arange(len(truth)), own))
    filler = [matched[i] for i in islice(free, 1)]
    for drawn in draws:
        times = np.bincount(drawn, minlength=len(truth))
        rows = [np.repeat(k * len(truth) + own, times[own]) for k, own in enumerate(images)]
        most = max(map(len, rows), default=0)
        run._evalImgs_cpp = [one for row in rows for one in [*(matched[i] for i in row), *filler * (most - len(row))]]
        run._paramsEval.imgIds = list(range(1, most + 1))
        run.accumulate()
        ap = _mean(run.eval["precision"])
        figures.append(math.nan if ap is None else ap)
    return figures


def _images_of(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> list[NDArray[np.int64]]:
    """Of each label the indices of the images where it is true or predicted."""
    index = {label: k for k, label in enumerate(dataset.labels)}
    images: list[list[int]] = [[] for _ in dataset.labels]
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        for label in {o.label for o in (*t.objects, *p.objects)}:
            images[index[label]].append(i)
    return [np.array(own, np.int64) for own in images]


def coco_dict(samples: list[Sample], dataset: Dataset) -> dict:
    """Samples as COCO's ground truth: pixels, ids from 1 in the order given (0 means unmatched to COCO)."""
    annotations: list[dict] = []
    index = {label: i for i, label in enumerate(dataset.labels, 1)}
    for image, sample in enumerate(samples, 1):
        for o in sample.objects:
            x, y, w, h = _pixels(o.box, sample)
            points = _keypoints(o.landmarks, sample)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": index[o.label],
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": int(o.crowd),
                    "keypoints": points or [0] * 3 * len(dataset.landmarks),
                    "num_keypoints": sum(p.visibility > 0 for p in o.landmarks),
                }
            )
    return {
        "images": [{"id": i, "width": s.width, "height": s.height} for i, s in enumerate(samples, 1)],
        "categories": [{"id": i, "name": label} for i, label in enumerate(dataset.labels, 1)],
        "annotations": annotations,
    }


def coco_results(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> list[dict]:
    """Predictions as COCO's result list, in the pixels of the true images."""
    index = {label: i for i, label in enumerate(dataset.labels, 1)}
    return [
        {
            "image_id": image,
            "category_id": index[o.label],
            "bbox": list(_pixels(o.box, sample)),
            "score": o.score,
            "keypoints": _keypoints(o.landmarks, sample) or [0] * 3 * len(dataset.landmarks),
        }
        for image, (sample, prediction) in enumerate(zip(truth, predicted, strict=True), 1)
        for o in prediction.objects
    ]


def _pixels(box: tuple[float, float, float, float], sample: Sample) -> tuple[float, float, float, float]:
    x, y, w, h = box
    return x * sample.width, y * sample.height, w * sample.width, h * sample.height


def _keypoints(landmarks: list, sample: Sample) -> list[float]:
    return [value for p in landmarks for value in (p.x * sample.width, p.y * sample.height, p.visibility)]


def _mean(values: NDArray[np.float64]) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None

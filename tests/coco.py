"""Scenes of true and predicted objects, and what pycocotools says of them."""

import contextlib
import io
from random import Random
from typing import Any

import numpy as np
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.core.sample import Dataset, Landmark, Object, Sample
from pipeline.metrics.coco_match import LANDMARK_SIGMA


@st.composite
def scenes(draw: st.DrawFn, dataset: Dataset) -> tuple[list[Sample], list[Sample]]:
    """True and predicted objects: crowds, equal scores, empty images, labels that the truth or the prediction lacks."""
    random = Random(draw(st.integers(0, 2**32)))
    labels = random.sample(dataset.labels, random.randint(1, 3))
    side = random.choice([0.05, 0.2, 0.5])
    steps = random.choice([2, 5, 1000])  # few steps: many ties

    def points(x: float, y: float) -> list[Landmark]:
        return [
            Landmark(x + random.uniform(0, side), y + random.uniform(0, side), random.randint(0, 2))
            for _ in dataset.landmarks
        ]

    truth, predicted = [], []
    for i in range(draw(st.integers(1, 8))):
        size = {"width": random.randint(20, 640), "height": random.randint(20, 640)}
        t, p = Sample(f"i{i}", f"{i}.jpg", **size), Sample(f"i{i}", f"{i}.jpg", **size)
        for _ in range(random.choice([0, 1, 4])):
            x, y, w, h = random.random() * 0.5, random.random() * 0.5, random.random() * side, random.random() * side
            t.objects.append(Object(random.choice(labels), (x, y, w, h), points(x, y), random.random() < 0.15))
            for _ in range(random.choice([0, 1, 1, 2])):
                dx, dy = random.uniform(-0.2, 0.2) * w, random.uniform(-0.2, 0.2) * h
                label = random.choice([t.objects[-1].label, random.choice(dataset.labels)])
                certain = round(random.random() * steps) / steps
                p.objects.append(Object(label, (x + dx, y + dy, w, h), points(x + dx, y + dy), score=certain))
        truth.append(t)
        predicted.append(p)
    return truth, predicted


def pycocotools(truth: list[Sample], predicted: list[Sample], dataset: Dataset, kind: str = "bbox") -> COCOeval:
    """Its evaluation, summarized."""
    with contextlib.redirect_stdout(io.StringIO()):
        gold = COCO()
        gold.dataset = coco_dict(truth, dataset)
        gold.createIndex()
        results = coco_results(truth, predicted, dataset)
        if results:
            found = gold.loadRes(results)
        else:  # pycocotools cannot load an empty list
            found = COCO()
            found.dataset = {**gold.dataset, "annotations": []}
            found.createIndex()
        run = COCOeval(gold, found, kind)
        if kind == "keypoints":
            run.params.kpt_oks_sigmas = np.array([LANDMARK_SIGMA] * len(dataset.landmarks))
        run.evaluate()
        run.accumulate()
        run.summarize()
    return run


def coco_dict(samples: list[Sample], dataset: Dataset) -> dict[str, Any]:
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

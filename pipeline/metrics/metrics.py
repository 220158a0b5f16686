"""One number for a person to compare, and those behind it: predictions against the truth, both as Samples.

Every figure is from 0 (nothing right) to 1, but `nme` and `nme_interocular`, errors. A figure that is not defined
(there is nothing to find) is None.
"""

from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.face68 import is_face68
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.metrics import coco_ap
from pipeline.metrics.coco_match import AREAS
from pipeline.metrics.matching import Pair, interocular_error, iou, landmark_errors, object_pairs

DIGITS = 6
# COCO's AP is over the 100 best detections of an image, however unsure; those below hardly add to its area
FOR_AP = {"score": 0.001, "max_objects": 100}
MAIN = {"classify": "accuracy", "detect": "AP", "localize": "mean_iou"}
NAMED = 5  # ids that an error lists


def main_metric(task: str) -> str:
    """The figure that an exported file must hold, and that training shows for each epoch.

    >>> main_metric("detect")
    'AP'
    """
    return MAIN[task]


def judged(spec: ModelSpec) -> ModelSpec:
    """The spec by which a model's answers are decoded to be judged: of a detector all that AP counts, shown or not.

    >>> spec = ModelSpec(
    ...     *("herd", "herd", "detect", ["cow"], [], [], [], "mobilenetv2_050", {"kind": "anchor_free"}),
    ...     *(256, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], {"score": 0.3, "max_objects": 20}),
    ... )
    >>> judged(spec).predict
    {'score': 0.001, 'max_objects': 100}
    """
    return replace(spec, predict=spec.predict | FOR_AP) if spec.task == "detect" else spec


def shown(sample: Sample, spec: ModelSpec) -> Sample:
    """Without the objects that only AP counts, best first as they are. Ground truth, without scores, stays whole.

    >>> spec = ModelSpec(
    ...     *("herd", "herd", "detect", ["cow"], [], [], [], "mobilenetv2_050", {"kind": "anchor_free"}),
    ...     *(256, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5], {"score": 0.3, "max_objects": 20}),
    ... )
    >>> sure, unsure = Object("cow", (0, 0, 0.5, 0.5), score=0.9), Object("cow", (0.5, 0, 0.5, 0.5), score=0.1)
    >>> [o.score for o in shown(Sample("1", "1.jpg", 64, 48, objects=[sure, unsure]), spec).objects]
    [0.9]
    """
    return replace(sample, objects=shown_of(sample.objects, spec.predict["score"], spec.predict.get("max_objects")))


def shown_of(objects: list[Object], score: float, most: int | None) -> list[Object]:
    """The objects with that score, at most so many of them, best first as they are; those without scores stay.

    >>> objects = [Object("cow", (0, 0, 0.5, 0.5), score=score) for score in (0.9, 0.8, 0.1)]
    >>> [o.score for o in shown_of(objects, 0.5, None)], [o.score for o in shown_of(objects, 0.5, 1)]
    ([0.9, 0.8], [0.9])
    """
    kept = [o for o in objects if o.score is None or o.score >= score]
    return kept[:most] if any(o.score is not None for o in kept) else kept


def rank(metrics: dict[str, Any]) -> float:
    """What training keeps the best of: the main metric, for a localizer of landmarks the mean of it and 1 - NME.

    The box is learnt long before the landmarks: by its IoU alone an early epoch would be kept. PCK counts hits and
    jumps about on a small split; NME does not.

    >>> rank({"task": "classify", "accuracy": 0.7})
    0.7
    >>> rank({"task": "localize", "mean_iou": 0.5, "nme": 0.25})
    0.625
    """
    main = float(metrics[main_metric(metrics["task"])] or 0.0)
    if metrics["task"] == "localize" and "nme" in metrics:
        nme = metrics["nme"]
        return (main + (0.0 if nme is None else max(0.0, 1 - nme))) / 2
    return main


def score(
    task: str, truth: list[Sample], predicted: list[Sample], dataset: Dataset, whole: bool = True
) -> dict[str, Any]:
    """The metrics of a task, ready for JSON, rounded to 6 digits; the order of the lists does not matter. Of a detector
    that is not judged as a `whole` the figures of boxes of any size: those of a size and of landmarks take longer.

    Raises InputError naming the ids where `truth` and `predicted` are not the same images, a label is not the
    dataset's, or a predicted object has no score.

    >>> truth = [Sample("a", "a.jpg", 8, 8, label="cow"), Sample("b", "b.jpg", 8, 8, label="goat")]
    >>> predicted = [Sample("b", "b.jpg", 8, 8, label="cow"), Sample("a", "a.jpg", 8, 8, label="cow")]
    >>> figures = score("classify", truth, predicted, Dataset("herd", ["cow", "goat"]))
    >>> figures["accuracy"], figures["per_class"]["cow"]["precision"], figures["per_class"]["goat"]["recall"]
    (0.5, 0.5, 0.0)
    """
    truth, predicted = paired(truth, predicted)
    _check(task, truth, predicted, dataset)
    if task == "detect":
        figures = _detect(truth, predicted, dataset, whole)
    else:
        figures = {"classify": _classify, "localize": _localize}[task](truth, predicted, dataset)
    return _rounded({"task": task, "n_images": len(truth), **figures})


def paired(truth: list[Sample], predicted: list[Sample]) -> tuple[list[Sample], list[Sample]]:
    """Both sorted by id. Raises InputError naming the ids that only one of them has, or that stand twice.

    >>> a, b = Sample("a", "a.jpg", 8, 8), Sample("b", "b.jpg", 8, 8)
    >>> truth, predicted = paired([a, b], [b, a])
    >>> [(t.id, p.id) for t, p in zip(truth, predicted)]
    [('a', 'a'), ('b', 'b')]
    """
    for name, samples in (("truth", truth), ("predictions", predicted)):
        twice = sorted(i for i, n in Counter(s.id for s in samples).items() if n > 1)
        if twice:
            raise InputError(f"{name}: these ids stand more than once: {_some(twice)}")
    gold, found = {s.id: s for s in truth}, {s.id: s for s in predicted}
    for name, missing in (("predictions", gold.keys() - found.keys()), ("truth", found.keys() - gold.keys())):
        if missing:
            raise InputError(f"{name}: no sample for {len(missing)} ids that the other side has: {_some(missing)}")
    ids = sorted(gold)
    return [gold[i] for i in ids], [found[i] for i in ids]


def _check(task: str, truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> None:
    known = set(dataset.labels)
    for name, samples in (("truth", truth), ("predictions", predicted)):
        for s in samples:
            labels = [s.label] if task == "classify" else [o.label for o in s.objects]
            for label in labels:
                if label not in known:
                    raise InputError(
                        f"{name}: sample {s.id!r} has the label {label!r}; expected one of {dataset.labels}"
                    )
            if name == "predictions" and any(o.score is None for o in s.objects):
                raise InputError(f"{name}: sample {s.id!r} has an object without a score")


def accuracy(truth: list[Sample], predicted: list[Sample]) -> float | None:
    """The share of the images whose predicted label is the true one; both lists in one order.

    >>> cow, goat = Sample("a", "a.jpg", 8, 8, label="cow"), Sample("b", "b.jpg", 8, 8, label="goat")
    >>> accuracy([cow, goat], [cow, cow])
    0.5
    """
    return _share(sum(t.label == p.label for t, p in zip(truth, predicted, strict=True)), len(truth))


def mean_iou(truth: list[Sample], predicted: list[Sample]) -> float | None:
    """The mean IoU of each image's one object (`one_object`) with the predicted one, wherever that lies; 0 where none
    is predicted. Images without an object do not count; both lists in one order.

    >>> truth = Sample("a", "a.jpg", 8, 8, objects=[Object("cow", (0, 0, 0.5, 0.5))])
    >>> half = Sample("a", "a.jpg", 8, 8, objects=[Object("cow", (0, 0, 0.5, 0.25))])
    >>> mean_iou([truth], [half])
    0.5
    """
    pairs = [(one_object(t), one_object(p)) for t, p in zip(truth, predicted, strict=True)]
    return _mean([float(iou([p], [o])[0, 0]) if p else 0.0 for o, p in pairs if o is not None])


def _classify(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> dict[str, Any]:
    """Macro F1 is the mean over the labels that occur in the truth or the predictions, as in scikit-learn.

    scikit-learn does not count here, because its import takes longer than the metrics of a small dataset; the tests
    compare the figures with its own.
    """
    table = Counter((t.label, p.label) for t, p in zip(truth, predicted, strict=True))
    support, named = Counter(t.label for t in truth), Counter(p.label for p in predicted)
    per_class = {
        label: _class_figures(table.get((label, label), 0), support[label], named[label]) for label in dataset.labels
    }
    f1 = [row["f1"] for row in per_class.values() if row["f1"] is not None]
    return {
        "accuracy": accuracy(truth, predicted),
        "macro_f1": _mean(f1),
        **_clip_figures(truth, predicted),
        "per_class": per_class,
        "confusion": {
            "labels": list(dataset.labels),
            # a row per true label
            "matrix": [[table.get((t, p), 0) for p in dataset.labels] for t in dataset.labels],
        },
    }


def _class_figures(right: int, support: int, named: int) -> dict[str, Any]:
    """Of a label that `support` images have and `named` predictions, `right` of them both."""
    return {
        "precision": _share(right, named),
        "recall": _share(right, support),
        "f1": _share(2 * right, support + named),
        "support": support,
    }


def _clip_figures(truth: list[Sample], predicted: list[Sample]) -> dict[str, Any]:
    """A clip's label is the one with the highest mean probability over its frames."""
    clips: dict[str, list[tuple[Sample, Sample]]] = defaultdict(list)
    for t, p in zip(truth, predicted, strict=True):
        if t.clip is not None:
            clips[t.clip].append((t, p))
    if not clips:
        return {}
    right = 0
    for frames in clips.values():
        total: dict[str, float] = defaultdict(float)
        for _, p in frames:
            for label, probability in (p.scores or {str(p.label): 1.0}).items():
                total[label] += probability
        right += max(total, key=lambda label: total[label]) == frames[0][0].label
    return {"clip_accuracy": _share(right, len(clips)), "n_clips": len(clips)}


def _detect(truth: list[Sample], predicted: list[Sample], dataset: Dataset, whole: bool) -> dict[str, Any]:
    boxes = coco_ap.evaluate(truth, predicted, dataset)
    present = Counter(o.label for s in truth for o in s.objects if not o.crowd)
    sizes = AREAS if whole else ()
    figures: dict[str, Any] = {
        "AP": boxes.ap(),
        "AP50": boxes.ap(iou=0),
        "AP75": boxes.ap(iou=5),
        "AR": boxes.ar(),
        **{f"AP_{size}": coco_ap.evaluate(truth, predicted, dataset, size=size).ap() for size in sizes},
        "per_class": {
            label: {"AP": boxes.ap(k), "AP50": boxes.ap(k, iou=0), "n": present[label]}
            for k, label in enumerate(dataset.labels)
        },
    }
    if dataset.landmarks and whole:
        figures |= _landmark_figures(object_pairs(truth, predicted), dataset)
        figures["landmark_AP"] = coco_ap.evaluate(truth, predicted, dataset, "keypoints").ap()
    return figures


def _localize(truth: list[Sample], predicted: list[Sample], dataset: Dataset) -> dict[str, Any]:
    """One object or none per image; the prediction belongs to the object however far apart they are."""
    pairs = [(t, one_object(t), one_object(p)) for t, p in zip(truth, predicted, strict=True)]
    present = [(t, o, p) for t, o, p in pairs if o is not None]
    figures: dict[str, Any] = {
        "presence_accuracy": _share(sum((o is None) == (p is None) for _, o, p in pairs), len(pairs)),
        "accuracy": _share(sum(p is not None and p.label == o.label for _, o, p in present), len(present)),
        "mean_iou": mean_iou(truth, predicted),
    }
    if dataset.landmarks:
        figures |= _landmark_figures([(o, p, t.width, t.height) for t, o, p in present], dataset)
    return figures


def one_object(sample: Sample) -> Object | None:
    """What a localizer is to find: the largest object that is not a crowd, or None.

    >>> near, far = Object("cow", (0, 0, 0.5, 0.5)), Object("goat", (0.8, 0, 0.1, 0.1))
    >>> one_object(Sample("a", "a.jpg", 8, 8, objects=[far, near])).label
    'cow'
    """
    single = [o for o in sample.objects if not o.crowd]
    return max(single, key=lambda o: o.box[2] * o.box[3], default=None)


def _landmark_figures(pairs: list[Pair], dataset: Dataset) -> dict[str, Any]:
    e = landmark_errors(pairs)
    figures = {"nme": e.nme, "pck": e.pck, "nme_objects": e.matched, "nme_missed": e.missed}
    if is_face68(dataset.landmarks, dataset.pairs):
        figures["nme_interocular"] = interocular_error(pairs)
    return figures


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    return round(value, DIGITS) if isinstance(value, float) else value


def _some(ids: Any) -> str:
    ids = sorted(ids)
    return ", ".join(map(repr, ids[:NAMED])) + (", ..." if len(ids) > NAMED else "")

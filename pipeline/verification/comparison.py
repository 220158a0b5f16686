"""How far one model's answers fall from another's: by the metrics, by label, by image, and whatever the truth."""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.matching import iou, match
from pipeline.metrics.metrics import DIGITS, accuracy, main_metric, mean_iou, shown
from pipeline.viz.mistakes import mistake

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec

CLOSE = 0.9  # IoU
EPSILON = 1e-9  # rounding error of equal sums
MOST_LABELS = 50  # of more, a report has no confusion: nobody reads a million counts, a line each
ERRORS = ("nme", "nme_interocular")  # figures of which less is better
COUNTS = ("n_images", "n_clips", "nme_objects", "nme_missed")


def reported(metrics: dict[str, Any]) -> dict[str, Any]:
    """What verify.json has of a metrics.json: all, but the confusion of more than `MOST_LABELS` labels."""
    many = len(metrics.get("per_class", ())) > MOST_LABELS
    return {name: figure for name, figure in metrics.items() if not (many and name == "confusion")}


def drop(exact: float | None, close: float | None) -> float | None:
    """How much lower `close` is; None where one of them is not defined."""
    return None if exact is None or close is None else round(exact - close, 6)


def drops(exact: dict[str, Any], close: dict[str, Any]) -> dict[str, float | None]:
    """Of every figure that two metrics.json have in total: positive is worse, of errors too."""
    return {
        name: drop(close[name], figure) if name in ERRORS else drop(figure, close[name])
        for name, figure in exact.items()
        if name in close and name not in COUNTS and isinstance(figure, int | float | None)
    }


def drop_per_class(
    task: str,
    truth: list[Sample],
    predictions: tuple[list[Sample], list[Sample]],
    metrics: tuple[dict[str, Any], dict[str, Any]],
    dataset: Dataset,
) -> dict[str, float | None]:
    """How far the main metric falls for each label; None where a label does not occur. The pairs: float, file."""
    main = main_metric(task)
    if task == "detect":
        exact, close = (figures["per_class"] for figures in metrics)
        return {label: drop(exact[label][main], close[label][main]) for label in dataset.labels}

    figure = {"classify": accuracy, "localize": mean_iou}[task]
    exact_figures, close_figures = (_by_label(figure, truth, predicted) for predicted in predictions)
    return {label: drop(exact_figures.get(label), close_figures.get(label)) for label in dataset.labels}


def _by_label(
    figure: Callable[[list[Sample], list[Sample]], float | None], truth: list[Sample], predicted: list[Sample]
) -> dict[str, float | None]:
    """`figure` of the images that have a label as theirs or an object's, for each label that occurs, rounded as in
    metrics.json.
    """
    pairs: dict[str, list[tuple[Sample, Sample]]] = defaultdict(list)
    for t, p in zip(truth, predicted, strict=True):
        for label in {t.label, *(o.label for o in t.objects)} - {None}:
            pairs[str(label)].append((t, p))
    figures = {label: figure([t for t, _ in own], [p for _, p in own]) for label, own in pairs.items()}
    return {label: None if value is None else round(value, DIGITS) for label, value in figures.items()}


def agreement(spec: "ModelSpec", exact: list[Sample], close: list[Sample]) -> dict[str, float | None]:
    """How alike two models' answers are, whatever the truth, from 0 to 1.

    Classify: the share of images with the same label. Else, over the objects that are shown: `objects`, the share
    that both found (IoU 0.5, same label; Dice's coefficient); `objects_iou90`, the share whose boxes lie within 0.9;
    and the mean IoU of all that both found.
    """
    if spec.task == "classify":
        same = sum(a.label == b.label for a, b in zip(exact, close, strict=True))
        return {"label": round(same / len(exact), 6)}
    overlaps: list[float] = []
    total = 0
    for a, b in zip(exact, close, strict=True):
        left, right = shown(a, spec).objects, shown(b, spec).objects
        found = match(left, right)
        each = iou(right, left)
        overlaps += [float(each[p, t]) for t, p in found.items()]
        total += len(left) + len(right)
    close_by = sum(o >= CLOSE for o in overlaps)
    return {
        "objects": round(2 * len(overlaps) / total, 6) if total else None,
        "objects_iou90": round(2 * close_by / total, 6) if total else None,
        "mean_iou": round(sum(overlaps) / len(overlaps), 6) if overlaps else None,
    }


def worse(
    spec: "ModelSpec", truth: list[Sample], exact: list[Sample], close: list[Sample]
) -> list[tuple[Sample, Sample, Sample]]:
    """(truth, float, file) of the images that the file does worse on than the float model, the worst first; of the
    predictions what is shown.
    """
    rows = []
    for t, *both in zip(truth, exact, close, strict=True):
        a, b = (shown(p, spec) for p in both)
        by = mistake(spec.task, t, b)[0] - mistake(spec.task, t, a)[0]
        if by > EPSILON:
            rows.append((-by, t.id, (t, a, b)))
    return [row for _, _, row in sorted(rows, key=lambda row: row[:2])]

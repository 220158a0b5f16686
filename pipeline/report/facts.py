"""What the chain's files say of a run, as rows of the page."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import without_password
from pipeline.core.files import read_json
from pipeline.core.params import flat
from pipeline.metrics.metrics import main_metric

FIGURES = {  # of metrics.json: its name here, and what it is
    "accuracy": ("accuracy", "share of the answers with the right label"),
    "macro_f1": ("macro F1", "F1, the mean of the labels"),
    "clip_accuracy": ("accuracy of clips", "share of whole clips with the right label"),
    "AP": ("AP", "COCO's average precision, mean over IoU 0.50 to 0.95 and the labels"),
    "AP50": ("AP50", "the same at IoU 0.50"),
    "AP75": ("AP75", "the same at IoU 0.75"),
    "AR": ("AR", "recall that is reached, mean over IoU 0.50 to 0.95 and the labels"),
    "AP_small": ("AP, small", "AP of objects up to 32 × 32 pixels of the image, by the area of the box"),
    "AP_medium": ("AP, medium", "the same from there to 96 × 96 pixels"),
    "AP_large": ("AP, large", "the same of larger ones"),
    "landmark_AP": ("AP of landmarks", "COCO's average precision by the similarity of keypoints"),
    "presence_accuracy": ("presence", "share of the images where object or none is right"),
    "mean_iou": ("mean IoU", "how far boxes and objects overlap; 0 for an object that is missed"),
    "nme": ("NME", "error of landmarks over the root of the box's area; 0 is best"),
    "pck": ("PCK", "share of landmarks within 0.1 of the box's longer side"),
    "nme_interocular": ("NME, interocular", "error of landmarks over the distance of the eyes; 0 is best"),
}
CALIBRATION = {  # of metrics.json: its name here, and what it is; 0 is best
    "ECE": ("ECE", "how far score and accuracy are apart, the mean over ranges of scores"),
    "D_ECE": ("D-ECE", "how far score and precision at IoU 0.5 are apart, the mean over ranges of scores"),
    "LaECE": ("LaECE", "how far score and IoU are apart, the mean over ranges of scores and the labels"),
    "LaACE": ("LaACE", "the same object by object, without ranges"),
}
UNDEFINED = {  # of metrics.json: why it has no value
    **{
        f"AP_{size}": "undefined, as the test split has no object of this size" for size in ("small", "medium", "large")
    },
    **dict.fromkeys(("nme", "nme_interocular"), "undefined, as no object that has them is found"),
    "pck": "undefined, as the test split has no landmarks",
    "macro_f1": "undefined, as no label is known or answered",
}
NO_TRUTH = "undefined, as the test split has nothing that it could be of"
COUNTS = {"n_images", "n_clips", "nme_objects", "nme_missed"}
MOST_ROWS = 60  # of a table; the files have all


def optional(path: Path) -> Any:
    """What is in a JSON file; {} where there is none. Raises InputError if it is no JSON."""
    return read_json(path) if path.is_file() else {}


def figures(metrics: dict[str, Any]) -> list[dict[str, Any]]:
    """A row per figure: `key`, `name`, `value` (None: undefined), `interval` (None or [low, high]), `what`,
    and of one that is undefined `why`.
    """
    intervals = metrics.get("intervals") or {}
    rows = []
    for key, value in metrics.items():
        if key in COUNTS or isinstance(value, bool | str | dict | list):
            continue
        name, what = FIGURES.get(key, (key, ""))
        why = UNDEFINED.get(key, NO_TRUTH) if value is None else ""
        rows.append(
            {"key": key, "name": name, "value": value, "interval": intervals.get(key), "what": what, "why": why}
        )
    return rows


def calibration(metrics: dict[str, Any]) -> list[tuple[str, float | None, str]]:
    """A row per calibration error: name, value (None: no answers), what it is."""
    found = metrics.get("calibration") or {}
    return [(name, found[key], what) for key, (name, what) in CALIBRATION.items() if key in found]


def chosen_words(metrics: dict[str, Any]) -> str:
    """How the score was chosen from which objects are shown; "" where params.yaml states it.

    >>> chosen_words({"chosen": {"on": "val", "images": 40, "score": 0.41, "by": "F1", "F1": 0.8}})
    'Objects are shown from a score of 0.41 on. It was chosen on the 40 images of val, by F1: 0.8 there.'
    """
    chosen = metrics.get("chosen")
    if not chosen or "score" not in chosen:
        return ""
    if chosen["by"] == "F1":
        by = f"F1: {chosen['F1']:g} there"
    else:
        by = f"the cost of {chosen['miss_cost']:g} a miss and {chosen['alarm_cost']:g} a false alarm"
    on = f"the {chosen['images']} images of {chosen['on']}"
    return f"Objects are shown from a score of {chosen['score']:g} on. It was chosen on {on}, by {by}."


def calibrated_words(metrics: dict[str, Any]) -> str:
    """On what scores were calibrated, and what the errors were before; "" where they are those of the net.

    >>> made = {"on": "val", "images": 40, "answers": 90, "fit": {"by": "platt", "slope": 0.5, "offset": 0.1}}
    >>> calibrated_words({"calibrated": made, "calibration": {"ECE": 0.02, "raw": {"ECE": 0.1}}})
    'Scores are calibrated, by 90 answers on the 40 images of val (platt). Errors without it: ECE 0.1.'
    """
    made = metrics.get("calibrated")
    if not made:
        return ""
    errors = (metrics.get("calibration") or {}).get("raw") or {}
    known = ", ".join(f"{CALIBRATION[key][0]} {value:g}" for key, value in errors.items() if value is not None)
    before = f" Errors without it: {known}." if known else ""
    shown = "" if metrics.get("task") in (None, "classify") else " Which objects are shown is decided by those before."
    on = f"the {made['images']} images of {made['on']}"
    return f"Scores are calibrated, by {made['answers']} answers on {on} ({made['fit']['by']}).{shown}{before}"


def bootstrap_words(metrics: dict[str, Any]) -> str:
    """How the intervals were made, by what metrics.json says of it; "" without intervals."""
    made = metrics.get("bootstrap") or {}
    if not metrics.get("intervals"):
        return ""
    level = f"{100 * made['level']:g} % intervals" if "level" in made else "Intervals"
    drawn = f" from {made['replicates']} draws" if "replicates" in made else ""
    of = f" of the {made['groups']} " if "groups" in made else " of the "
    unit = {"group": "groups of images", "clip": "clips"}.get(made.get("unit", "image"), "images")
    return f"{level}{drawn}{of}{unit} of the test split (bootstrap)."


def per_class(metrics: dict[str, Any]) -> dict[str, Any]:
    """`columns`, and `rows` of (label, figures); of more than `MOST_ROWS` the weakest, and how many are `left`."""
    table = metrics.get("per_class") or {}
    columns = list(dict.fromkeys(key for row in table.values() for key in row))
    rows = [(label, [row.get(key) for key in columns]) for label, row in table.items()]
    if len(rows) > MOST_ROWS and columns:
        rows.sort(key=lambda row: (row[1][0] is None, row[1][0] or 0.0))
    return {"columns": columns, "rows": rows[:MOST_ROWS], "left": max(0, len(rows) - MOST_ROWS)}


def ceilings(labels: Path, source: dict[str, Any], task: str) -> list[dict[str, Any]]:
    """A row for each two people who have labelled the same images of a layer that the dataset has, from
    `labels`/<layer>.agreement.json: the `layer`, how many `images`, and the `value` of the `figure` that one of them
    reaches as a model judged by the other. Who they are is left out.
    """
    key = main_metric("classify" if task == "classify" else "detect")  # boxes are judged as those of a detector
    return [
        {"layer": layer, "images": row["images"], "figure": FIGURES[key][0], "value": row["figures"].get(key)}
        for layer in source.get("layers", {})
        for row in optional(labels / f"{layer}.agreement.json") or []
    ]


def said(tree: Any) -> list[tuple[str, str]]:
    """Nested params as (dotted key, value), without the passwords of addresses."""
    rows = []
    for key, value in flat(tree or {}).items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        rows.append((key, without_password(text)[:400]))
    return rows

"""The worst and the best images of a run, for a person to look at."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from pipeline.core.image_file import open_image
from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.bootstrap import drawn_with
from pipeline.metrics.matching import iou, landmark_errors, match, of_nothing
from pipeline.metrics.metrics import one_object
from pipeline.metrics.nothing import nothing_found
from pipeline.viz.sheets import PAPER, contact_sheet, draw, key_of

COUNT, COLUMNS = 12, 4  # of a sheet
TILE = 320  # pixels
OF_EACH = 2  # images of a group or clip, whose images are alike
NONE_RIGHT = {  # what is said in place of the best images
    "classify": "none: the label of no image is right",
    "detect": "none: no object is found in any image",
    "localize": "none: the object is found in no image",
}
KEY = "truth", "prediction"
RIGHT = "right: "  # what is said of an image without a mistake begins with it, but of boxes that fit more or less
NOTHING = f"{RIGHT}nothing"
Ranked = tuple[float, str, Sample, Sample]  # how bad, what is wrong, truth, prediction


def mistakes_sheet(
    task: str,
    folder: Path,
    truth: list[Sample],
    shown: list[Sample],
    dataset: Dataset,
    path: Path,
    best: bool = False,
) -> None:
    """Write a JPEG of the `COUNT` worst images of `folder`, worst first, truth and prediction drawn in: of those with
    a mistake, or, where there is none, of all. Or of the `best`, best first, of those in which something is found;
    where that is none, the sheet says so. Of a group or clip there are few, as `few_of_each` says.
    """
    tiles, rows = [], ranked(task, truth, shown, best)
    for _, text, t, p in (rows[i] for i in few_of_each([row[2] for row in rows], COUNT)):
        image = draw(open_image(folder / t.file_name), t, dataset, p)
        tiles.append((image, f"{t.id}\n{text}"))
    if not tiles:
        tiles = [(Image.new("RGB", (TILE, 1), PAPER), NONE_RIGHT[task])]
    contact_sheet(tiles, COLUMNS, TILE, key_of(dataset, *KEY)).save(path, quality=90)


def ranked(task: str, truth: list[Sample], shown: list[Sample], best: bool = False) -> list[Ranked]:
    """The images in the order of `mistakes_sheet`, each with how bad it is and what is wrong."""
    judged = [(*mistake(task, t, p), t, p) for t, p in zip(truth, shown, strict=True)]
    if best:
        judged = [row for row in judged if _finds(task, *row[2:])]
    else:
        judged = [row for row in judged if not row[1].startswith(RIGHT)] or judged
    return sorted(judged, key=lambda row: (row[0] if best else -row[0], row[2].id))


def few_of_each(samples: Sequence[Sample], count: int) -> list[int]:
    """The places of `count` of the `samples`, in their order: the first ones, but of a group or clip no more than
    `OF_EACH` as long as there are others.
    """
    number, turns = Counter[tuple[str, str]](), list[tuple[bool, int]]()
    for i, sample in enumerate(samples):
        number[drawn_with(sample)] += 1
        turns.append((number[drawn_with(sample)] > OF_EACH, i))
    return sorted(i for _, i in sorted(turns)[:count])


def _finds(task: str, truth: Sample, shown: Sample) -> bool:
    """Whether there is something to find and some of it is found."""
    if task == "classify":
        return shown.label == truth.label
    return any(not o.crowd for o in truth.objects) and not nothing_found(task, [truth], [shown], None)


def sureness(task: str, truth: Sample, predicted: Sample) -> float | None:
    """The highest score of what is wrong in a prediction: a wrong label, an object where none is, or where it is not
    (IoU below 0.5). None where nothing is, and of what is missed: it has no score.
    """
    if task == "classify":
        return (predicted.scores or {}).get(str(predicted.label)) if predicted.label != truth.label else None
    found = match(truth.objects, predicted.objects, by_label=False)
    wrong = [predicted.objects[p] for t, p in found.items() if truth.objects[t].label != predicted.objects[p].label]
    wrong += of_nothing(truth.objects, predicted.objects, found)
    return max((o.score or 0.0 for o in wrong), default=None)


def side_by_side_sheet(
    task: str,
    folder: Path,
    rows: list[tuple[Sample, Sample, Sample]],
    dataset: Dataset,
    name: str,
    path: Path,
) -> None:
    """Write a JPEG of the `rows` (truth, float model's prediction, that of the file `name`) in their order, two beside
    each other: each image of `folder` with the truth and the float model's prediction, then with the file's.
    """
    tiles = []
    for t, exact, close in rows:
        image = open_image(folder / t.file_name)
        for whose, predicted in (("float", exact), (name, close)):
            words = f"{t.id}\n{whose}: {mistake(task, t, predicted)[1]}"
            tiles.append((draw(image, t, dataset, predicted), words))
    contact_sheet(tiles, COLUMNS, TILE, key_of(dataset, *KEY)).save(path, quality=90)


def mistake(task: str, truth: Sample, predicted: Sample) -> tuple[float, str]:
    """How bad a prediction is (0 is perfect, comparable within a task) and what is wrong, in words."""
    return {"classify": _label_mistake, "detect": _object_mistakes, "localize": _place_mistake}[task](truth, predicted)


def _label_mistake(truth: Sample, predicted: Sample) -> tuple[float, str]:
    right = (predicted.scores or {}).get(str(truth.label), 0.0)
    if predicted.label == truth.label:
        return 1 - right, f"{RIGHT}{truth.label}, {right:.2f}"
    return 2 - right, f"{truth.label} taken for {predicted.label}"


def _object_mistakes(truth: Sample, predicted: Sample) -> tuple[float, str]:
    """A miss, a wrong label and a sure prediction of nothing count 1 each; a perfect fit of the rest counts 0."""
    found = match(truth.objects, predicted.objects, by_label=False)
    overlap = iou(predicted.objects, truth.objects)
    single = [t for t, o in enumerate(truth.objects) if not o.crowd]
    missed = sum(t not in found for t in single)
    wrong = sum(truth.objects[t].label != predicted.objects[p].label for t, p in found.items())
    extra = [o.score or 0.0 for o in of_nothing(truth.objects, predicted.objects, found)]
    loose = sum(1 - float(overlap[p, t]) for t, p in found.items()) / max(1, len(single))
    words = [f"{n} {name}" for n, name in ((missed, "missed"), (wrong, "wrong label"), (len(extra), "extra")) if n]
    right = f"mean IoU {1 - loose:.2f}" if single else NOTHING
    return missed + wrong + sum(extra) + loose, ", ".join(words) or right


def _place_mistake(truth: Sample, predicted: Sample) -> tuple[float, str]:
    o, p = one_object(truth), one_object(predicted)
    if o is None or p is None:
        if p is not None:
            return 2 + (p.score or 0.0), f"{p.label} where nothing is"
        return (0.0, NOTHING) if o is None else (2.0, f"{o.label} missed")
    overlap = float(iou([p], [o])[0, 0])
    nme = landmark_errors([(o, p, truth.width, truth.height)]).nme
    words = f"IoU {overlap:.2f}" + (f", NME {nme:.2f}" if nme is not None else "")
    if p.label != o.label:
        words = f"{o.label} taken for {p.label}, IoU {overlap:.2f}"
    return 1 - overlap + (p.label != o.label) + (nme or 0.0), words

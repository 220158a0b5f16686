"""What a run answered on the test split, as the page shows it: confusion, sizes, and images with what is wrong."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.core.calibrated import calibrated
from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.lines import read_table
from pipeline.core.sample import Dataset, Sample
from pipeline.metrics.matching import BACKGROUND, iou, match
from pipeline.report.pictures import data_uri
from pipeline.viz.mistakes import NONE_RIGHT, Ranked, few_of_each, ranked, sureness
from pipeline.viz.sheets import draw

WORST, SUREST, BEST = 12, 8, 8  # images
TILE, TILE_BYTES = 400, 36_000  # pixels of the longer side
MOST_LABELS = 12  # of more the confusion is a list: nobody reads so wide a table
MOST_CONFUSED = 20
# area in pixels: where COCO draws the line
SIZES = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, float("inf")))
SIZE_WORDS = ("under 32 × 32 pixels", "up to 96 × 96", "larger")


@dataclass(frozen=True, slots=True)
class Answers:
    """Truth and prediction of the same images in the same order; of the predictions what is shown, with the scores of
    the net, and the `fit` of what they are worth, if there is one.
    """

    task: str
    folder: Path
    dataset: Dataset
    truth: list[Sample]
    shown: list[Sample]
    fit: dict[str, Any] | None = None


@contextmanager
def as_made(file: Path) -> Iterator[None]:
    """Raises InputError that names the file for a ValueError: its rows are not those of `evaluate`."""
    try:
        yield
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{file}: not as evaluate writes it: {error}; `dvc repro --force` makes it anew") from None


def confusion(table_file: Path, task: str, labels: list[str]) -> dict[str, Any]:
    """`columns` and `rows` (label, [(count, share of the row)]) of up to `MOST_LABELS` labels; of more only `pairs`:
    (actual, predicted, count) of the most frequent mistakes.
    """
    with as_made(table_file):
        counts = Counter((actual, predicted) for actual, predicted in islice(read_table(table_file), 1, None))
    wrong = sorted(((-n, *pair) for pair, n in counts.items() if pair[0] != pair[1]))
    pairs = [(actual, predicted, -n) for n, actual, predicted in wrong[:MOST_CONFUSED]]
    names = [*labels] if task == "classify" else [*labels, BACKGROUND]
    if len(names) > MOST_LABELS:
        return {"columns": [], "rows": [], "pairs": pairs}
    rows = []
    for actual in names:
        row = [counts.get((actual, predicted), 0) for predicted in names]
        rows.append((actual, [(n, n / max(1, sum(row))) for n in row]))
    return {"columns": names, "rows": rows, "pairs": pairs}


def by_size(answers: Answers) -> list[tuple[str, str, int, int, float | None]]:
    """Of true objects of each of COCO's sizes: its name, what that is, how many there are, how many are found with
    their label at an IoU of 0.5, and the mean IoU of those.
    """
    found: dict[str, list[float | None]] = {name: [] for name, _, _ in SIZES}
    for t, p in zip(answers.truth, answers.shown, strict=True):
        pairs, overlap = match(t.objects, p.objects), iou(p.objects, t.objects)
        for i, o in enumerate(t.objects):
            area = o.box[2] * t.width * o.box[3] * t.height
            size = next(name for name, low, high in SIZES if low <= area < high)
            if not o.crowd:
                found[size].append(float(overlap[pairs[i], i]) if i in pairs else None)
    rows = []
    for (name, fits), words in zip(found.items(), SIZE_WORDS, strict=True):
        matched = [fit for fit in fits if fit is not None]
        rows.append((name, words, len(fits), len(matched), sum(matched) / len(matched) if matched else None))
    return rows


def pictures(answers: Answers) -> list[dict[str, Any]]:
    """The worst images, at most half of all; the surest mistakes among the others; and the best of what is left: a
    `title`, what it `says`, `tiles`, and of a group without any the word for that. Of a group or clip there are few.
    """
    task, both = answers.task, (answers.truth, answers.shown)
    order = ranked(task, *both)
    worst = _first([row for row in order if row[0] > 0], min(WORST, -(-len(answers.truth) // 2)))
    seen = {t.id for _, _, t, _ in worst}
    sure = [(sureness(task, t, p), row) for row in order if (t := row[2]).id not in seen and (p := row[3])]
    by_score = sorted(((s, row) for s, row in sure if s is not None), key=lambda pair: (-pair[0], pair[1][2].id))
    surest = _first([row for _, row in by_score], SUREST)
    seen |= {t.id for _, _, t, _ in surest}
    right = ranked(task, *both, best=True)
    best = _first([row for row in right if row[2].id not in seen], BEST)
    found = "with the right label" if task == "classify" else "in which something is found"
    above = "None but those above."
    none = above if right else f"N{NONE_RIGHT[task][1:]}."
    groups = [
        ("Worst", "The worst first.", worst, "None."),
        ("Surest mistakes", "Wrong answers with the highest score, but for those above.", surest, above),
        ("Best", f"The best of those {found}, but for those above.", best, none),
    ]
    return [
        {"title": title, "says": says, "tiles": [_tile(answers, row) for row in rows], "none": none}
        for title, says, rows, none in groups
    ]


def _first(rows: list[Ranked], count: int) -> list[Ranked]:
    return [rows[i] for i in few_of_each([row[2] for row in rows], count)]


def _tile(answers: Answers, row: Ranked) -> dict[str, str]:
    _, words, t, p = row
    p = calibrated(p, {"calibration": answers.fit})
    image = draw(open_image(answers.folder / t.file_name), t, answers.dataset, p)
    told = f"truth: {_in_words(t)}; prediction: {_in_words(p)}"
    return {"id": t.id, "words": words, "alt": told, "uri": data_uri(image, TILE, TILE_BYTES)}


def _in_words(sample: Sample) -> str:
    if sample.label is not None:
        score = (sample.scores or {}).get(sample.label)
        return sample.label if score is None else f"{sample.label} {score:.2f}"
    return (
        ", ".join(f"{n} {label}" for label, n in sorted(Counter(o.label for o in sample.objects).items())) or "nothing"
    )

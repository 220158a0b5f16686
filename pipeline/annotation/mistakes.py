"""Labels that may be wrong: each judged by a head that has not seen its image, nor its group; the likeliest first."""

import csv
import io
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.annotation.boxes import Boxed, Judgement, judge, unlabelled
from pipeline.annotation.crops import Shrunk, on_canvas, overlap
from pipeline.annotation.heads import group_of, margin, out_of_fold
from pipeline.core.errors import InputError, shown
from pipeline.core.files import write_text
from pipeline.core.image_file import open_image
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, read_samples
from pipeline.core.tables import cell
from pipeline.experiments.sheets import write_sheet
from pipeline.ops.preprocess import Frame
from pipeline.training.params import RunParams
from pipeline.training.probe import dense_run, each_map, pooled_features
from pipeline.viz.sheets import draw, key_of

KINDS = ("swapped", "shifted", "dropped", "spurious")
LEARNT_FROM = 100  # images that the projection of maps is fitted to
LISTED = 20  # that the text names
DRAWN = 24  # of a sheet
ENOUGH = 8  # objects or images

Box = tuple[float, float, float, float]


@dataclass(slots=True)
class Suspect:
    """A label that may be wrong: of `object` of image `id`, by its place in the image, or of the image (None).

    `kind`: swapped (`likelier` is its label), shifted (it lies rather in `box`), spurious (nothing is there) or dropped
    (`likelier` is in `box`, which has no label; `object` is None). `score`, 0 to 1, is that kind's own.
    """

    id: str
    object: int | None
    score: float
    kind: str
    given: str = ""
    likelier: str = ""
    box: Box | None = None


def labelled_samples(folder: Path) -> list[Sample]:
    """The samples of all splits of an ingested dataset, with file names relative to `folder`."""
    samples = []
    for split in SPLITS:
        for s in read_samples(folder / split):
            s.split, s.file_name = split, f"{split}/{s.file_name}"
            samples.append(s)
    return samples


def find_mistakes(
    name: str, run: RunParams, dataset: Dataset, folder: Path, samples: list[Sample], cache: Path
) -> list[Suspect]:
    """All labels of `samples` in `folder`, those that are likeliest wrong first, by features of the backbone that run
    `name` starts with, kept in `cache`. Raises InputError where there are too few to learn from, or weights are wrong.
    """
    of = name, run, dataset, folder
    if run.task == "classify":
        return image_suspects(dataset, *judged_images(*of, samples, cache))
    return suspects_of(samples, dataset, *judged_boxes(*of, samples, cache))


def suspects_of(
    samples: list[Sample],
    dataset: Dataset,
    images: list[Boxed],
    judgements: list[Judgement],
    frames: dict[str, Frame],
) -> list[Suspect]:
    """The rows of all objects as `judged_boxes` judges them, and of the surest things without a box, at most as many;
    the likeliest mistake first.
    """
    rows = []
    for s, image, judgement in zip(samples, images, judgements, strict=True):
        for row in _of_image(s, dataset, image, judgement):
            if row.box is not None:
                row.box = frames[s.id].to_image(Object("", row.box)).box
            rows.append(row)
    missing = sorted((row for row in rows if row.kind == "dropped"), key=lambda row: (-row.score, row.id))
    most = sum(len(image.boxes) for image in images)
    return ranked([row for row in rows if row.kind != "dropped"] + missing[:most])


def judged_images(
    name: str, run: RunParams, dataset: Dataset, folder: Path, samples: list[Sample], cache: Path
) -> tuple[list[Sample], NDArray[np.float32]]:
    """Those of `samples` that have a label, and out of fold the probabilities of each label [N, K]."""
    kept = [s for s in samples if s.label is not None]
    _check(dataset, len(kept), "labelled images", {group_of(s) for s in kept})
    features = pooled_features(name, run, dataset, folder, kept, cache)
    labels = np.array([dataset.labels.index(str(s.label)) for s in kept])
    return kept, out_of_fold(features, labels, [group_of(s) for s in kept], len(dataset.labels))


def judged_boxes(
    name: str, run: RunParams, dataset: Dataset, folder: Path, samples: list[Sample], cache: Path
) -> tuple[list[Boxed], list[Judgement], dict[str, Frame]]:
    """Each of `samples`, what is said out of fold of its objects but crowds, and by id where it lies on the canvas."""
    count = sum(len(_single(s)) for s in samples)
    _check(dataset, count, "objects", {group_of(s) for s in samples if _single(s)})
    dense = dense_run(run)
    some = [samples[i] for i in np.random.default_rng(0).permutation(len(samples))[:LEARNT_FROM]]
    shrunk = Shrunk(each_map(name, dense, dataset, folder, some, cache, lambda maps, _: list(maps)))
    made = each_map(name, dense, dataset, folder, samples, cache, lambda maps, frame: (shrunk(maps), frame))
    images, frames = [], {}
    for s, (maps, frame) in zip(samples, made, strict=True):
        objects = [s.objects[i] for i in _single(s)]
        labels = np.array([dataset.labels.index(o.label) for o in objects], np.int64)
        crowds = on_canvas([o for o in s.objects if o.crowd], frame)
        images.append(Boxed(maps, on_canvas(objects, frame), labels, crowds))
        frames[s.id] = frame
    return images, judge(images, [group_of(s) for s in samples], len(dataset.labels)), frames


def _check(dataset: Dataset, count: int, what: str, groups: set[str]) -> None:
    if count < ENOUGH or len(groups) < 2:
        raise InputError(
            f"dataset {dataset.name!r}: {count} {what} in {len(groups)} groups; expected {ENOUGH} at least, and two "
            f"groups, as each is judged by what was learned of the others"
        )


def image_suspects(dataset: Dataset, samples: list[Sample], said: NDArray[np.float32]) -> list[Suspect]:
    """A row for each of `samples`, by the probabilities of the labels [N, K], the likeliest mistake first."""
    labels = np.array([dataset.labels.index(str(s.label)) for s in samples])
    rows = []
    for s, given, chances, score in zip(samples, labels, said, margin(said, labels), strict=True):
        rows.append(Suspect(s.id, None, float(score), "swapped", str(s.label), _other(dataset, chances, int(given))))
    return sorted(rows, key=lambda row: (-row.score, row.id))


def _of_image(sample: Sample, dataset: Dataset, image: Boxed, judgement: Judgement) -> list[Suspect]:
    """Up to three rows for each object, and one for each thing without a box; boxes are the canvas's."""
    said, rows = judgement.said, list[Suspect]()
    count = len(dataset.labels)
    of_some = said[:, :count] / np.maximum(said[:, :count].sum(axis=1, keepdims=True), 1e-9)
    margins, fits = margin(of_some, image.labels), np.diagonal(overlap(image.boxes, judgement.places))
    for n, (i, given) in enumerate(zip(_single(sample), image.labels.tolist(), strict=True)):
        label = sample.objects[i].label
        if count > 1:
            rows.append(Suspect(sample.id, i, float(margins[n]), "swapped", label, _other(dataset, of_some[n], given)))
        place = _frame(judgement.places[n])
        rows.append(Suspect(sample.id, i, float(1 - fits[n]), "shifted", label, "", place))
        rows.append(Suspect(sample.id, i, float(said[n, count]), "spurious", label))
    for n in unlabelled(judgement, image.all):
        scores, box = judgement.scores[n], _frame(judgement.found[n])
        rows.append(
            Suspect(sample.id, None, float(scores.sum()), "dropped", "", dataset.labels[int(scores.argmax())], box)
        )
    return rows


def _single(sample: Sample) -> list[int]:
    """The places of the objects that are one thing each, and of some size."""
    return [i for i, o in enumerate(sample.objects) if not o.crowd and min(o.box[2:]) > 0]


def _other(dataset: Dataset, chances: NDArray[np.float32], given: int) -> str:
    others = chances.copy()
    others[given] = -1
    return dataset.labels[int(others.argmax())]


def _frame(box: NDArray[np.float64]) -> Box:
    left, top, right, bottom = (float(v) for v in box)
    return left, top, right - left, bottom - top


def ranked(rows: list[Suspect]) -> list[Suspect]:
    """The likeliest mistake first, an object once. Of a kind the score decides; between kinds how far a score stands
    out among all of its kind: its logit's distance from their median, over that of the highest tenth.
    """
    far: dict[int, float] = {}
    for kind in KINDS:
        own = [i for i, row in enumerate(rows) if row.kind == kind]
        scores = np.clip([rows[i].score for i in own], 1e-4, 1 - 1e-4)
        logits = np.log(scores / (1 - scores))
        apart = logits - (np.median(logits) if own else 0)
        spread = max(float(np.quantile(apart, 0.9)), 1e-3) if own else 1.0
        far |= dict(zip(own, (apart / spread).tolist(), strict=True))
    order, seen, found = sorted(far, key=lambda i: (-far[i], rows[i].id, i)), set(), []
    for i in order:
        key = (rows[i].id, rows[i].object)
        if key[1] is None or key not in seen:
            seen.add(key)
            found.append(rows[i])
    return found


def write_mistakes(path: Path, rows: list[Suspect]) -> None:
    """Write a CSV with a line per row, in their order; a box is x, y, w, h, relative to the image."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "object", "score", "kind", "given", "likelier", "box"])
    for row in rows:
        box = " ".join(f"{v:.4f}" for v in row.box) if row.box else ""
        place = "" if row.object is None else row.object
        writer.writerow([row.id, place, f"{row.score:.4f}", row.kind, cell(row.given), cell(row.likelier), box])
    write_text(path, text.getvalue())


def mistakes_text(dataset: str, rows: list[Suspect], path: Path) -> str:
    """The first rows, for a person."""
    of_boxes = any(row.box or row.object is not None for row in rows)
    what = "an object, or a place where one may lack its box" if of_boxes else "an image with its label"
    lines = [
        f"{dataset}: {len(rows)} rows in {path}, the likeliest mistake first",
        f"A row is {what}, judged by a head that has learned from other groups of images. Most are right; the first:",
    ]
    lines += [f"  {shown(row.id)}: {_said(row)}" for row in rows[:LISTED]]
    more = [f"  and {len(rows) - LISTED} more in {path}"] if len(rows) > LISTED else []
    return "\n".join(lines + more)


def _said(row: Suspect) -> str:
    what = f"object {row.object}, {row.given}" if row.object is not None else row.given
    words = {
        "swapped": f"{what}: rather {row.likelier}",
        "shifted": f"{what}: lies rather elsewhere",
        "spurious": f"{what}: nothing there",
        "dropped": f"{row.likelier} without a box",
    }
    return f"{words[row.kind]} ({row.score:.2f})"


def suspects_sheet(rows: list[Suspect], dataset: Dataset, folder: Path, samples: list[Sample], path: Path) -> None:
    """Write a picture of the first rows: the labels of `samples` in `folder`, and in magenta what is likelier. Raises
    InputError as `check_sheet` does.
    """
    by_id, tiles = {s.id: s for s in samples}, []
    for row in rows[:DRAWN]:
        s = by_id[row.id]
        likelier = Object(row.likelier or row.given, row.box) if row.box else None
        label = row.likelier if row.object is None and row.box is None else None
        drawn = replace(s, label=label, scores=None, objects=[likelier] if likelier else [])
        if row.object is not None:
            s = replace(s, objects=[s.objects[row.object]])
        tiles.append((draw(open_image(folder / s.file_name), s, dataset, drawn), f"{s.split}: {s.id}\n{_said(row)}"))
    write_sheet(tiles, path, key_of(dataset, "the label as it is", "what is likelier"))

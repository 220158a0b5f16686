"""A run in FiftyOne: its test images with the truth, what the trained net and each file that ships say, how far these
are apart, and FiftyOne's own evaluation.
"""

from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

from pipeline.core.files import read_json
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples
from pipeline.inspection import judging
from pipeline.inspection.edits import Labels
from pipeline.inspection.evaluation import evaluate, landmarks
from pipeline.inspection.images import image_of
from pipeline.inspection.labels import TRUTH, classification, declare, with_objects
from pipeline.inspection.opening import PREFIX, Opened, View, fingerprint, opened
from pipeline.inspection.saved import save_views
from pipeline.inspection.sidebar import set_up
from pipeline.metrics.metrics import paired, shown_of


@dataclass(frozen=True, slots=True)
class RunFiles:
    """What a view of `run` is made of: the ingested test split `truth`, the trained net's `predictions`, and, of
    `files` (a folder, or None), what each file that ships predicts. Labels that a person changes go to `labels`.
    """

    run: str
    truth: Path
    predictions: Path
    files: Path | None
    labels: Path
    by: str = "app"

    def targets(self) -> dict[str, Path]:
        """Target -> its metadata.jsonl, of those that have run."""
        found = sorted(self.files.glob("*/metadata.jsonl")) if self.files else []
        return {file.parent.name: file for file in found}


def name_of(run: str) -> str:
    return f"{PREFIX}-run-{run}"


def open_run(files: RunFiles, database: Path, today: date | None = None, edits: bool = True) -> Opened:
    """The run's FiftyOne dataset: the one in the database if it was made from these files, else made anew.

    Fields: `ground_truth` and `predictions` with FiftyOne's evaluation `eval`, for objects with `..._landmarks` beside
    them; `predictions_all` (detect; hidden in the App at first) also has the objects below the score from which
    they are shown, for mAP. Of each file that ships its predictions under the target's name and `<target>_gap`, its
    distance from the net; the largest is `gap`. `info["figures"]` is what FiftyOne found. Without `edits` nothing is
    written to `files.labels`, and what a person has changed stays in the database as it is. Raises InputError if a file
    is missing, two do not belong together or there is no database.
    """
    truth = files.truth.resolve()
    made_of = [truth / "metadata.jsonl", truth.parent / "dataset.json"]
    made_of += [truth / s.file_name for s in read_samples(truth)] if made_of[0].is_file() else []
    predicted = (files.predictions / "metadata.jsonl", files.predictions / "dataset.json")
    core = fingerprint(str(truth), *made_of, *predicted)
    all_of = fingerprint(core, *(part for name, file in files.targets().items() for part in (name, file)))
    dataset = read_dataset(truth.parent).name
    made_from = core if files.files is None else all_of
    labels = Labels(files.labels, dataset, files.by, files.run)
    return opened(
        database,
        View(name_of(files.run), made_from, lambda fo, view: _build(fo, view, files), labels, core),
        today or date.today(),
        edits,
    )


def _build(fo: Any, view: Any, files: RunFiles) -> None:
    truth_folder = files.truth.resolve()
    info = read_dataset(truth_folder.parent)
    source = read_json(files.predictions / "dataset.json")["source"]
    truth, predicted = paired(read_samples(truth_folder), read_samples(files.predictions))
    shipped = {name: paired(truth, read_samples(file.parent))[1] for name, file in files.targets().items()}
    view.add_samples(_samples(fo, truth_folder, info, source, truth, predicted, shipped))
    declare(fo, view)
    shown = [_shown(p, source) for p in predicted]
    figures, beside = evaluate(fo, view, source["task"], info, truth, predicted, shown)
    save_views(fo, view, judging.uncertain_ones(len(truth)))
    set_up(fo, view, info, list(shipped))
    view.info = {"figures": figures, "beside": beside, "source": source}
    if files.files is not None:  # takes as long as all else: not for the chain, which has nobody who looks
        view.info = {**view.info, "landmarks": landmarks(view, info, truth, shown)}


def _samples(
    fo: Any,
    folder: Path,
    info: Dataset,
    source: dict[str, Any],
    truth: list[Sample],
    predicted: list[Sample],
    shipped: dict[str, list[Sample]],
) -> list[Any]:
    """What FiftyOne shows; it reads those that are kept from the database again at each change of a field."""
    rows, samples = _judgements(source["task"], truth, predicted, source, shipped), []
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        sample = image_of(fo, folder / t.file_name, t)
        for field, labelled in ((TRUTH, t), ("predictions", p), *((name, own[i]) for name, own in shipped.items())):
            for path, value in _labels(fo, field, labelled, source, info).items():
                sample[path] = value
        for path, value in rows[i].items():
            sample[path] = value
        samples.append(sample)
    return samples


def _labels(fo: Any, field: str, sample: Sample, source: dict[str, Any], info: Dataset) -> dict[str, Any]:
    if source["task"] == "classify":
        return {field: classification(fo, sample)}
    return with_objects(fo, field, _shown(sample, source).objects, bool(info.landmarks))


def _shown(sample: Sample, source: dict[str, Any]) -> Sample:
    return replace(sample, objects=shown_of(sample.objects, source["shown"], source.get("most")))


def _judgements(
    task: str, truth: list[Sample], predicted: list[Sample], source: dict[str, Any], shipped: dict[str, list[Sample]]
) -> list[dict[str, Any]]:
    """The fields of each image that say what is wrong, and what to look at first."""
    rows = []
    for i, (t, p) in enumerate(zip(truth, predicted, strict=True)):
        exact = _shown(p, source)
        row = judging.judged(task, t, exact) | {"uncertainty": judging.uncertainty(task, p)}
        close = {name: _shown(own[i], source) for name, own in shipped.items()}
        gaps = {f"{name}_gap": judging.gap(task, exact, own) for name, own in close.items()}
        if gaps:
            differs = any(judging.differ(task, exact, own) for own in close.values())
            row |= {**gaps, "gap": max(gaps.values()), "differs": differs}
        rows.append(row)
    places = judging.ranks([row["uncertainty"] for row in rows])
    return [row | {"uncertainty_rank": place} for row, place in zip(rows, places, strict=True)]

"""A run in FiftyOne: its test images with the truth, the predictions and FiftyOne's own evaluation.

The FiftyOne dataset is a view of files (the ingested test split and the run's predictions) and is made again from
them whenever it is missing or older.
"""

import hashlib
import math
from pathlib import Path
from typing import Any

from filelock import FileLock

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.sample import Dataset, Object, Sample, read_dataset, read_samples
from pipeline.inspection.database import connect
from pipeline.metrics.metrics import paired, shown_of

LAYOUT = 1  # of the fields below; another number makes every view stale
FIELDS = {"ground_truth": "#40ff60", "predictions": "#ff60e0"}  # the colours of the sheets


def name_of(run: str) -> str:
    return f"pocketlens-{run}"


def open_run(run: str, truth_folder: Path, predictions_folder: Path, database: Path) -> Any:
    """The run's FiftyOne dataset: the one in the database if it was made from these files, else made anew.

    Fields: `ground_truth` and `predictions` with FiftyOne's evaluation `eval`, for objects with `..._landmarks` beside
    them; `predictions_all` (detect; hidden in the App at first) also has the objects below the score from which
    they are shown, for mAP. The saved view "mistakes" has what is wrong, `info["figures"]` what FiftyOne found.
    Raises InputError if a file is missing, the two do not belong together or there is no database.
    """
    truth_folder = truth_folder.resolve()
    made_from = _fingerprint(truth_folder, predictions_folder)
    fo = connect(database)
    name = name_of(run)
    with FileLock(database.resolve() / f"{name}.lock"):
        if fo.dataset_exists(name):
            found = fo.load_dataset(name)
            if found.info.get("made_from") == made_from:
                return found
        return _build(fo, name, truth_folder, predictions_folder, made_from)


def _fingerprint(truth_folder: Path, predictions_folder: Path) -> str:
    """Of all that a view shows; the place of the images too, as FiftyOne keeps their paths."""
    digest = hashlib.sha256(f"{LAYOUT} {truth_folder}".encode())
    for file in (
        truth_folder / "metadata.jsonl",
        truth_folder.parent / "dataset.json",
        predictions_folder / "metadata.jsonl",
        predictions_folder / "dataset.json",
    ):
        if not file.is_file():
            raise InputError(f"{file}: no such file; `dvc repro` makes it, `dvc checkout` or `dvc pull` brings it back")
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()


def _build(fo: Any, name: str, truth_folder: Path, predictions_folder: Path, made_from: str) -> Any:
    info = read_dataset(truth_folder.parent)
    source = read_json(predictions_folder / "dataset.json")["source"]
    truth, predicted = paired(read_samples(truth_folder), read_samples(predictions_folder))
    view = fo.Dataset(name, persistent=True, overwrite=True)
    classify = source["task"] == "classify"
    samples = []
    for t, p in zip(truth, predicted, strict=True):
        labels = _classified(fo, t, p) if classify else _with_objects(fo, t, p, source, info)
        known = {k: v for k, v in {"name": t.id, "group": t.group, "clip": t.clip, **labels}.items() if v is not None}
        sample = fo.Sample(truth_folder / t.file_name, tags=[t.split] if t.split else [], **known)
        sample.metadata = fo.ImageMetadata(width=t.width, height=t.height)
        samples.append(sample)
    view.add_samples(samples)
    _set_up_app(fo, view, info)
    figures = _evaluate(fo, view, source["task"], info, predicted)
    # written last: a view that was cut short has none and is made anew
    view.info = {"figures": figures, "made_from": made_from, "source": source}
    view.save()
    return view


def _classified(fo: Any, truth: Sample, predicted: Sample) -> dict[str, Any]:
    confidence = (predicted.scores or {}).get(str(predicted.label))
    return {
        "ground_truth": fo.Classification(label=truth.label),
        "predictions": fo.Classification(label=predicted.label, confidence=confidence),
    }


def _with_objects(fo: Any, truth: Sample, predicted: Sample, source: dict[str, Any], info: Dataset) -> dict[str, Any]:
    above = shown_of(predicted.objects, source["shown"], source.get("most"))
    fields = {}
    for field, objects in (("ground_truth", truth.objects), ("predictions", above)):
        fields[field] = _detections(fo, objects)
        if info.landmarks:
            points = [_keypoint(fo, o) for o in objects if o.landmarks]
            fields[f"{field}_landmarks"] = fo.Keypoints(keypoints=points)
    return fields


def _detections(fo: Any, objects: list[Object]) -> Any:
    return fo.Detections(
        detections=[
            fo.Detection(label=o.label, bounding_box=list(o.box), confidence=o.score, iscrowd=o.crowd) for o in objects
        ]
    )


def _keypoint(fo: Any, o: Object) -> Any:
    gone = (math.nan, math.nan)
    return fo.Keypoint(label=o.label, points=[(p.x, p.y) if p.visibility else gone for p in o.landmarks])


def _set_up_app(fo: Any, view: Any, info: Dataset) -> None:
    """Truth and predictions in the colours of the sheets, landmarks named and joined."""
    colours = dict(FIELDS)
    if view.has_field("ground_truth_landmarks"):
        points = {f"{field}_landmarks": colour for field, colour in FIELDS.items()}
        skeleton = fo.KeypointSkeleton(labels=info.landmarks, edges=[list(pair) for pair in info.skeleton])
        view.skeletons = dict.fromkeys(points, skeleton)
        colours |= points
    view.app_config.color_scheme = fo.ColorScheme(
        color_by="field", fields=[{"path": field, "fieldColor": colour} for field, colour in colours.items()]
    )
    view.app_config.active_fields = fo.ActiveFields(paths=list(colours), exclude=False)


def _evaluate(fo: Any, view: Any, task: str, info: Dataset, predicted: list[Sample]) -> dict[str, float | None]:
    """FiftyOne's figures, the saved view "mistakes" and the field `predictions_all`."""
    if not predicted:
        return {}
    at = fo.ViewField
    if task == "classify":
        results = view.evaluate_classifications("predictions", eval_key="eval", classes=info.labels)
        view.save_view("mistakes", view.match(at("eval") == False))  # noqa: E712
    else:
        results = view.evaluate_detections("predictions", eval_key="eval", classes=info.labels)
        view.save_view("mistakes", view.match((at("eval_fp") > 0) | (at("eval_fn") > 0)))
    figures = {k: _defined(v) for k, v in results.metrics().items()}
    if task == "detect":
        # last and without an evaluation key: FiftyOne takes milliseconds to read or write one such object
        view.set_values("predictions_all", [_detections(fo, p.objects) for p in predicted])
        needed = view.select_fields(["ground_truth", "predictions_all"])
        results = needed.evaluate_detections("predictions_all", classes=info.labels, compute_mAP=True)
        figures["mAP"] = _defined(results.mAP())
    return figures


def _defined(value: float) -> float | None:
    return float(value) if math.isfinite(value) and value >= 0 else None

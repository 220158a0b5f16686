"""A project with a run, drawn by hand: what FiftyOne is to show."""

from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

from PIL import Image, ImageDraw

from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.inspection.opening import Opened
from pipeline.inspection.run_view import RunFiles, open_run

HERD = Dataset("herd", ["cow", "horse"], ["nose", "left_ear", "right_ear", "tail"], [(1, 2)], [(0, 1), (0, 2), (0, 3)])
SHOWN = 0.3
BODY = (200, 60, 40)
TRUTH, PREDICTED = ((0x40, 0xFF, 0x60), (0xFF, 0x60, 0xE0))
PICTURES = 6


def draw_run(root: Path, task: str) -> tuple[Path, Path, list[Sample], list[Sample]]:
    """A project in `root` with a test split and predictions of run "r" that are the truth, moved a little."""
    random = Random(5)
    test, predictions = root / "data/ingested/herd/test", root / "reports/evaluate/r/predictions"
    test.mkdir(parents=True)
    predictions.mkdir(parents=True)
    truth, predicted = [], []
    for i in range(PICTURES):
        picture = Image.new("RGB", (256, 192), (90, 140, 100 + i))
        t = Sample(f"img{i}", f"img{i}.jpg", 256, 192, "test", clip=f"clip{i // 2}")
        p = replace(t, objects=[])
        if task == "classify":
            t.label, p.label = HERD.labels[i % 2], HERD.labels[i % 3 % 2]
            p.scores = {p.label: 0.75}
        for _ in range({"classify": 0, "localize": i % 2, "detect": i % 4}[task]):
            box = (random.uniform(0, 0.6), random.uniform(0, 0.6), random.uniform(0.2, 0.4), random.uniform(0.2, 0.4))
            x, y, w, h = box
            ImageDraw.Draw(picture).ellipse((x * 256, y * 192, (x + w) * 256, (y + h) * 192), BODY)
            places = ((0.1, 0.3, 2), (0.3, 0.1, 2), (0.4, 0.1, 0), (0.9, 0.5, 1))
            landmarks = [Landmark(x + w * a, y + h * b, seen) for a, b, seen in places]
            moved = (x + random.uniform(-0.05, 0.05), y + 0.01, w, h)
            t.objects.append(Object(random.choice(HERD.labels), box, landmarks))
            near = [replace(mark, x=mark.x + 0.05) for mark in landmarks]
            p.objects.append(Object(random.choice(HERD.labels), moved, near, score=random.uniform(0.35, 1)))
        if task == "detect":
            p.objects.append(Object("cow", (0.7, 0.1, 0.2, 0.2), score=random.uniform(0.01, 0.29)))
        picture.save(test / t.file_name, quality=95)
        truth.append(t)
        predicted.append(p)
    write_samples(test, truth)
    write_dataset(test.parent, HERD)
    write_samples(predictions, predicted)
    write_dataset(predictions, replace(HERD, source={"run": "r", "task": task, "score": 0.01, "shown": SHOWN}))
    return test, predictions, truth, predicted


def files_of(run: str, test: Path, predictions: Path, files: Path | None = None) -> RunFiles:
    return RunFiles(run, test, predictions, files, test.parents[3] / "labels")


def opened_run(run: str, test: Path, predictions: Path, database: Path, files: Path | None = None) -> Opened:
    return open_run(files_of(run, test, predictions, files), database)


def edit(view: Any, name: str) -> list[float]:
    """MongoDB's document is changed, as by the App, and as by what heeds no field that is read-only."""
    box, first = [0.25, 0.25, 0.5, 0.5], "ground_truth.detections.0"
    change = {f"{first}.bounding_box": box, f"{first}.label": "horse"}
    assert view._sample_collection.update_one({"name": name}, {"$set": change}).modified_count == 1
    return box

"""What the evaluate stage leaves behind: reports that other tools read, the same bytes each time."""

import csv
import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.sample import (
    Dataset,
    Landmark,
    Object,
    Sample,
    read_dataset,
    read_samples,
    write_dataset,
    write_samples,
)
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.evaluation.evaluate import _no_better_than_always_one, evaluate_run, write_report
from pipeline.metrics.nothing import nothing_found
from pipeline.viz.mistakes import few_of_each, mistake, mistakes_sheet
from pipeline.viz.plots import plot_confusion, plot_precision_recall

HERD = Dataset("herd", ["cow", "horse"], ["nose", "tail"], skeleton=[(0, 1)])
FILES = {"metrics.json", "plots", "worst.jpg", "best.jpg", "predictions"}


def spec_of(task: str) -> ModelSpec:
    return ModelSpec(
        run="r",
        dataset="herd",
        task=task,
        labels=HERD.labels,
        landmarks=[] if task == "classify" else HERD.landmarks,
        pairs=[],
        skeleton=[],
        backbone="mobilenetv2_035",
        head={
            "classify": {"kind": "pool", "dropout": 0.0},
            "localize": {"channels": 16, "dropout": 0.0},
            "detect": {"kind": "anchor_free", "strides": [8, 16, 32], "neck": 16, "channels": 16},
        }[task],
        size=64,
        resize="letterbox",
        mean=[0.5] * 3,
        std=[0.5] * 3,
        predict={"score": 0.3, "nms": "hard", "nms_iou": 0.6, "max_objects": 100},
    )


def draw_split(root: Path, task: str, pictures: int = 5) -> tuple[Path, list[Sample], list[Sample]]:
    """A test split on disk, and predictions that are the truth with mistakes."""
    random = Random(3)
    folder = root / "data/ingested/herd/test"
    folder.mkdir(parents=True)
    truth, predicted = [], []
    for i in range(pictures):
        t = Sample(f"i{i}", f"i{i}.jpg", 80, 60, "test")
        Image.new("RGB", (80, 60), (40 * i, 90, 120)).save(folder / t.file_name)
        p = replace(t, objects=[])
        if task == "classify":
            t.label, p.label = HERD.labels[i % 2], HERD.labels[i % 3 % 2]
            p.scores = {label: 0.7 if label == p.label else 0.3 for label in HERD.labels}
        for k in range(0 if task == "classify" else (i % 2 if task == "localize" else i % 3)):
            box = (0.1 + 0.4 * k, 0.2, 0.3, 0.4)
            marks = [Landmark(box[0], 0.3), Landmark(box[0] + 0.2, 0.4)]
            t.objects.append(Object("cow", box, marks))
            p.objects.append(Object(HERD.labels[i % 4 // 3], box, marks, score=random.uniform(0.35, 1)))
        if task == "detect":
            p.objects.append(Object("horse", (0.6, 0.6, 0.3, 0.3), score=0.02))
        truth.append(t)
        predicted.append(p)
    write_samples(folder, truth)
    write_dataset(folder.parent, HERD)
    return folder, truth, predicted


def write_history(root: Path) -> Path:
    header = "epoch,train_loss,val_loss,val_metric,val_rank,learning_rate\n"
    (root / "history.csv").write_text(header + "0,1.5,1.6,0.1,0.1,0.01\n1,1.2,1.3,0.4,0.4,0.005\n")
    return root / "history.csv"


@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_a_report_is_complete_and_the_same_each_time(task, tmp_path):
    folder, truth, predicted = draw_split(tmp_path, task)
    reports = [tmp_path / "reports/evaluate" / name for name in ("a", "b")]
    for report in reports:
        report.mkdir(parents=True)
        metrics = write_report(report, spec_of(task), folder, truth, predicted)
    a, b = reports
    assert {p.name for p in a.iterdir()} == FILES
    plots = {p.name for p in (a / "plots").iterdir()}
    scored = set() if task == "localize" else {"reliability.csv", "reliability.png"}
    assert plots == {"confusion.csv", "confusion.png"} | scored | ({"pr.csv", "pr.png"} if task == "detect" else set())
    assert ("calibration" in metrics) == bool(scored)
    assert json.loads((a / "metrics.json").read_text()) == metrics
    for path in a.rglob("*"):
        if path.is_file():
            assert path.read_bytes() == (b / path.relative_to(a)).read_bytes(), f"{path} differs from run to run"
    for path in a.rglob("*.[jp][pn]g"):
        assert min(Image.open(path).size) > 100
    found = read_samples(a / "predictions")
    assert [replace(p, file_name=s.file_name) for p, s in zip(found, truth, strict=True)] == predicted
    assert all(
        (a / "predictions" / p.file_name).samefile(folder / t.file_name) for p, t in zip(found, truth, strict=True)
    )
    source = read_dataset(a / "predictions").source
    assert source == {
        "run": "r",
        "task": task,
        "score": 0.001 if task == "detect" else 0.3,
        "shown": 0.3,
        "most": spec_of(task).predict.get("max_objects"),
    }


def test_confusion_has_a_row_per_image_or_object(tmp_path):
    for task, rows in {"classify": 5, "detect": 4, "localize": 5}.items():
        folder, truth, predicted = draw_split(tmp_path / task, task)
        report = tmp_path / task / "report"
        report.mkdir()
        write_report(report, spec_of(task), folder, truth, predicted)
        with (report / "plots/confusion.csv").open(newline="") as file:
            table = list(csv.DictReader(file))
        assert len(table) == rows and set(table[0]) == {"actual", "predicted"}, task


def test_precision_recall_has_a_column_per_label_with_truth(tmp_path):
    folder, truth, predicted = draw_split(tmp_path, "detect")
    (tmp_path / "report").mkdir()
    write_report(tmp_path / "report", spec_of("detect"), folder, truth, predicted)
    with (tmp_path / "report/plots/pr.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 101 and list(table[0]) == ["recall", "cow", "mean"]
    assert float(table[0]["cow"]) == 1.0 and all(0 <= float(row["mean"]) <= 1 for row in table)


def test_labels_are_drawn_as_they_are(tmp_path):
    for kind, label in enumerate(["a$b$", r"$\no$", "_a", "_b"]):
        plot_confusion({(label, "cow"): 2}, [label, "cow"], [label, "cow"], tmp_path / f"confusion{kind}.png")
        plot_precision_recall({label: [1.0, 0.5]}, [0.0, 1.0], tmp_path / f"pr{kind}.png")
    assert (tmp_path / "pr2.png").read_bytes() != (tmp_path / "pr3.png").read_bytes(), "both are in the legend"


COW, GOAT = Object("cow", (0.1, 0.1, 0.4, 0.4)), Object("goat", (0.1, 0.1, 0.4, 0.4), score=0.9)
MISTAKES = [
    ("classify", {"label": "cow"}, {"label": "goat", "scores": {"goat": 0.9, "cow": 0.1}}, "cow taken for goat"),
    ("classify", {"label": "cow"}, {"label": "cow", "scores": {"cow": 0.6}}, "right: cow, 0.60"),
    ("detect", {"objects": [COW]}, {"objects": []}, "1 missed"),
    ("detect", {"objects": []}, {"objects": [GOAT]}, "1 extra"),
    ("detect", {"objects": [COW]}, {"objects": [GOAT]}, "1 wrong label"),
    ("detect", {"objects": [COW]}, {"objects": [replace(COW, score=0.9)]}, "mean IoU 1.00"),
    ("detect", {"objects": []}, {"objects": []}, "right: nothing"),
    ("localize", {"objects": [COW]}, {"objects": []}, "cow missed"),
    ("localize", {"objects": []}, {"objects": [GOAT]}, "goat where nothing is"),
    ("localize", {"objects": [COW]}, {"objects": [GOAT]}, "cow taken for goat, IoU 1.00"),
]


@pytest.mark.parametrize(("task", "truth", "predicted", "words"), MISTAKES)
def test_mistakes_in_words(task, truth, predicted, words):
    bad, text = mistake(task, Sample("i", "i.jpg", 80, 60, **truth), Sample("i", "i.jpg", 80, 60, **predicted))
    assert text == words
    assert (bad > 0.5) == (not words.startswith(("right", "mean")))


@pytest.mark.parametrize(("right", "said"), [(5, "; no better than to answer cow always (0.6250)"), (6, "")])
def test_a_classifier_that_shows_nothing_learned_is_told(right: int, said: str) -> None:
    truth = [Sample(f"{i}", f"{i}.jpg", 80, 60, label="cow" if i < 5 else "goat") for i in range(8)]
    assert _no_better_than_always_one({"task": "classify", "accuracy": right / 8}, truth) == said


def test_a_detector_that_finds_nothing_is_told_why() -> None:
    truth = [Sample("a", "a.png", 8, 8, objects=[Object("dog", (0.0, 0.0, 0.5, 0.5))])]
    far, near = (Object("dog", box, score=0.9) for box in ((0.6, 0.6, 0.3, 0.3), (0.0, 0.0, 0.2, 0.5)))

    def told(task: str, *objects: Object) -> str:
        return nothing_found(task, truth, [replace(truth[0], objects=[*objects])], 0.4)

    assert told("detect") == told("localize") == "nothing is found: no object has a score of 0.4 or more"
    assert "of the 2 that are answered none lies on one" in told("detect", far, near)
    assert "none touches one" in told("localize", far)
    assert told("localize", near) == told("detect", far, replace(truth[0].objects[0], score=0.5)) == ""
    assert nothing_found("detect", [replace(truth[0], objects=[])], [replace(truth[0], objects=[])], 0.4) == ""


def test_right_answers_fill_no_sheet_of_the_worst(tmp_path: Path) -> None:
    folder, truth, predicted = draw_split(tmp_path, "classify")
    right = [replace(p, label=t.label) for t, p in zip(truth, predicted, strict=True)]
    wrong = [replace(right[0], label="none"), *right[1:]]
    dataset = read_dataset(folder.parent)
    for shown, tiles in ((wrong, 1), (right, min(len(truth), 4))):
        mistakes_sheet("classify", folder, truth, shown, dataset, tmp_path / "worst.jpg")
        assert Image.open(tmp_path / "worst.jpg").width == min(tiles, 4) * 326 + 6


@pytest.mark.parametrize("task", ["classify", "detect", "localize"])
def test_where_nothing_is_right_the_best_are_none_in_words(task: str, tmp_path: Path, monkeypatch) -> None:
    folder, truth, _ = draw_split(tmp_path, task)
    wrong = dict(zip(HERD.labels, reversed(HERD.labels), strict=True))
    nothing = [replace(t, label=wrong.get(str(t.label)), objects=[]) for t in truth]
    said, dataset = list[list[str]](), read_dataset(folder.parent)

    def sheet(tiles, *args):
        said.append([text for _, text in tiles])
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("pipeline.viz.mistakes.contact_sheet", sheet)
    for shown in (nothing, truth):
        mistakes_sheet(task, folder, truth, shown, dataset, tmp_path / "best.jpg", best=True)
    assert len(said[0]) == 1 and said[0][0].startswith("none: ")
    assert len(said[1]) == sum(bool(t.objects) or task == "classify" for t in truth)
    assert not any(text.startswith("none") for text in said[1])


def test_a_bad_clip_does_not_fill_the_sheet(tmp_path: Path) -> None:
    many = [Sample(f"a{i:02}", "a.jpg", 8, 8, label="cow", clip="bad") for i in range(20)]
    others = [Sample(f"b{i:02}", "b.jpg", 8, 8, label="cow", clip=f"{i // 4}") for i in range(12)]
    kept = few_of_each([*many, *others], 12)
    assert kept == [0, 1, 2, 3, 4, 5, 20, 21, 24, 25, 28, 29], "the order stays; others come before a third frame"
    assert few_of_each(others, 6) == [0, 1, 4, 5, 8, 9]
    assert few_of_each(many, 12) == list(range(12)), "there is no other one"
    alone = [replace(s, clip=None) for s in many]
    assert few_of_each(alone, 12) == list(range(12))


def test_an_empty_test_split_is_an_input_error(tmp_path):
    folder, *_ = draw_split(tmp_path, "classify", pictures=0)
    write_spec(tmp_path / "model/model.json", spec_of("classify"))
    with pytest.raises(InputError, match=r"test: no images to test on; raise datasets.herd.splits.test"):
        evaluate_run(tmp_path / "model", folder, write_history(tmp_path), tmp_path / "report")


def write_model(root: Path, task: str) -> Path:
    from safetensors.torch import save_file

    from pipeline.models.nets import build

    spec = spec_of(task)
    net = build(spec)
    spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    write_spec(root / "model/model.json", spec)
    save_file(net.state_dict(), root / "model/model.safetensors")
    return root / "model"


def test_a_model_is_evaluated_and_its_training_drawn(tmp_path):
    folder, truth, _ = draw_split(tmp_path, "detect")
    report = tmp_path / "reports/evaluate/r"
    said = evaluate_run(write_model(tmp_path, "detect"), folder, write_history(tmp_path), report)
    assert said.startswith(f"{report}: AP ") and said.endswith(
        f" on {len(truth)} images; nothing is found: no object has a score of 0.3 or more"
    )
    assert {p.name for p in report.iterdir()} == FILES
    assert {p.name for p in (report / "plots").glob("*.png")} == {
        *("confusion.png", "pr.png", "history.png", "reliability.png"),
    }
    assert min(Image.open(report / "plots/history.png").size) > 100
    assert [p.id for p in read_samples(report / "predictions")] == [t.id for t in truth]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: path.unlink(), r"history.csv: no such file; `dvc repro` makes it"),
        (lambda path: path.write_text(path.read_text().replace("1.5", "much")), r"history.csv: .*'much'"),
    ],
)
def test_a_history_that_cannot_be_read_is_named(change, message, tmp_path):
    folder, *_ = draw_split(tmp_path, "classify")
    write_spec(tmp_path / "model/model.json", spec_of("classify"))
    history = write_history(tmp_path)
    change(history)
    with pytest.raises(InputError, match=message):
        evaluate_run(tmp_path / "model", folder, history, tmp_path / "report")
    assert not (tmp_path / "report").exists()

"""What is left to val: the score from which objects are shown, and everyone who reads it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_evaluate import draw_split, spec_of, write_history, write_model

from pipeline.commands.common import shown_block
from pipeline.core.calibrated import worth
from pipeline.core.errors import InputError
from pipeline.core.files import write_json
from pipeline.core.params import HOW
from pipeline.core.sample import Object, Sample, read_dataset, read_samples, write_samples
from pipeline.evaluation import choosing
from pipeline.evaluation.evaluate import evaluate_run
from pipeline.evaluation.params import DetectPredict, with_predict
from pipeline.metrics.chosen import choose_score, settled
from pipeline.metrics.metrics import shown_of
from pipeline.report.facts import chosen_words

BOX, AWAY = (0.1, 0.1, 0.4, 0.4), (0.6, 0.6, 0.3, 0.3)


def split(seed: int, images: int = 30) -> tuple[list[Sample], list[Sample]]:
    """Images with a cow or none, and a detector that is surer of what is there; some scores are equal."""
    random = np.random.default_rng(seed)
    truth, predicted = [], []
    for i in range(images):
        there = [Object("cow", BOX)] if random.random() < 0.6 else []
        found = [Object("cow", BOX if random.random() < 0.8 else AWAY, score=round(random.beta(4, 2), 2))]
        found += [Object("cow", AWAY, score=round(random.beta(2, 4), 2))] if random.random() < 0.5 else []
        found.sort(key=lambda o: -(o.score or 0))
        truth.append(Sample(f"{i}", "a.jpg", 80, 80, objects=there))
        predicted.append(Sample(f"{i}", "a.jpg", 80, 80, objects=found))
    return truth, predicted


def tally(truth: list[Sample], predicted: list[Sample], score: float) -> tuple[int, int, int]:
    """Found, missed, false alarms from that score on, counted image by image."""
    found = missed = alarms = 0
    for t, p in zip(truth, predicted, strict=True):
        seen = shown_of(p.objects, score, None)
        hit = bool(t.objects) and any(o.box == BOX for o in seen)
        found, missed = found + hit, missed + len(t.objects) - hit
        alarms += len(seen) - hit
    return found, missed, alarms


@pytest.mark.parametrize("seed", range(5))
def test_no_other_score_is_better_on_val(seed: int) -> None:
    truth, predicted = split(seed)
    by_f1, by_cost = choose_score("detect", truth, predicted), choose_score("detect", truth, predicted, (5.0, 1.0))
    tries = [i / 200 for i in range(1, 200)]

    def f1(score: float) -> float:
        found, missed, alarms = tally(truth, predicted, score)
        return 2 * found / (2 * found + missed + alarms)

    def cost(score: float) -> float:
        _, missed, alarms = tally(truth, predicted, score)
        return 5 * missed + alarms

    assert f1(by_f1["score"]) == pytest.approx(by_f1["F1"], abs=1e-6) == pytest.approx(max(map(f1, tries)), abs=1e-6)
    assert cost(by_cost["score"]) == by_cost["cost"] == min(map(cost, tries))


def test_a_dear_miss_shows_more_and_a_dear_alarm_less() -> None:
    truth, predicted = split(1)
    scores = [choose_score("detect", truth, predicted, costs)["score"] for costs in ((50, 1), (1, 1), (1, 50))]
    assert scores == sorted(scores) and scores[0] < scores[-1]


def test_a_localizer_is_judged_by_presence_alone() -> None:
    truth = [Sample("a", "a.jpg", 8, 8, objects=[Object("cow", BOX)]), Sample("b", "b.jpg", 8, 8)]
    predicted = [replace(t, objects=[Object("goat", AWAY, score=s)]) for t, s in zip(truth, (0.7, 0.3), strict=True)]
    assert choose_score("localize", truth, predicted) == {"score": 0.5, "by": "F1", "F1": 1.0}


def test_a_net_that_finds_nothing_gets_a_score_all_the_same() -> None:
    truth = [Sample("a", "a.jpg", 8, 8, objects=[Object("cow", BOX)])]
    assert choose_score("detect", truth, [replace(truth[0], objects=[])])["F1"] == 0
    with pytest.raises(ValueError, match="no object"):
        choose_score("detect", [Sample("a", "a.jpg", 8, 8)], [Sample("a", "a.jpg", 8, 8)])


AUTO = {**DetectPredict().model_dump(), "score": "auto"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A detector that nobody trained, its test split, and the same images as val."""
    folder, truth, _ = draw_split(tmp_path, "detect")
    write_model(tmp_path, "detect")
    (folder.parent / "val").mkdir()
    for sample in truth:
        (folder.parent / "val" / sample.file_name).write_bytes((folder / sample.file_name).read_bytes())
    write_samples(folder.parent / "val", truth)
    return tmp_path


def evaluate(project: Path, report: str = "reports/evaluate/r", **predict: Any) -> dict[str, Any]:
    data = project / "data/ingested/herd"
    history = write_history(project)
    (project / report).parent.mkdir(parents=True, exist_ok=True)
    evaluate_run(project / "model", data / "test", history, project / report, AUTO | predict, data / "val")
    metrics: dict[str, Any] = json.loads((project / report / "metrics.json").read_text())
    return metrics


def test_evaluate_writes_the_number_where_others_read_it(project: Path) -> None:
    metrics = evaluate(project)
    chosen = metrics["chosen"]
    assert (chosen["on"], chosen["images"], chosen["by"]) == ("val", 5, "F1") and 0 < chosen["score"] < 1
    assert metrics["calibration"]["score"] == chosen["score"]
    assert read_dataset(project / "reports/evaluate/r/predictions").source["shown"] == chosen["score"]
    assert f"a score of {chosen['score']:g} on" in chosen_words(metrics) and "5 images of val" in chosen_words(metrics)
    stated = evaluate(project, "reports/evaluate/stated", score=chosen["score"])
    assert {k: v for k, v in metrics.items() if k != "chosen"} == stated, "but for that it is the same evaluation"


def test_costs_are_told(project: Path) -> None:
    metrics = evaluate(project, miss_cost=3.0)
    assert (metrics["chosen"]["miss_cost"], metrics["chosen"]["alarm_cost"]) == (3.0, 1.0)
    assert "cost of 3 a miss and 1 a false alarm" in chosen_words(metrics)


def test_val_is_read_only_where_something_is_left_to_it(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: Path) -> list[Sample]:
        raise AssertionError(f"{folder} is read")

    monkeypatch.setattr(choosing, "read_samples", refuse)
    evaluate(project, score=0.3)


def test_val_without_an_object_is_said(project: Path) -> None:
    val = project / "data/ingested/herd/val"
    write_samples(val, [replace(sample, objects=[]) for sample in read_samples(val)])
    with pytest.raises(InputError, match=r"val: no object .* state a number for predict\.score"):
        evaluate(project)


def test_val_without_images_is_said(project: Path) -> None:
    write_samples(project / "data/ingested/herd/val", [])
    with pytest.raises(InputError, match=r"predict\.score: found auto: .*val has no images to choose it by"):
        evaluate(project)


@pytest.mark.parametrize("how", ["platt", "isotonic"])
@pytest.mark.parametrize("task", ["classify", "detect", "localize"])
def test_one_label_and_a_net_that_is_always_right(task: str, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is nothing to tell apart: neither a line of log-odds nor steps may come out as no numbers."""
    cow = Object("cow", BOX)
    truth = [Sample(i, "a.jpg", 80, 80, label="cow", objects=[cow]) for i in "abcd"]
    found = [replace(s, scores={"cow": 1.0}, objects=[replace(cow, score=0.7)]) for s in truth]
    monkeypatch.setattr(choosing, "_on_val", lambda *_: (truth, found))
    asked = {**AUTO, "score": 0.3 if task == "classify" else "auto", "calibrate": how}
    block, decided = choosing.choose_on_val(object(), spec_of(task), asked, Path("val"))  # type: ignore[arg-type]
    assert block["score"] == (0.3 if task == "classify" else 0.35)
    assert 0.5 < worth(1.0 if task == "classify" else 0.7, decided["calibrated"]["fit"]) <= 1
    json.dumps(decided, allow_nan=False)


def test_what_ships_and_predicts_takes_the_number(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`export` and `pocketlens predict` read it by `settled`, with metrics.json of the run."""
    metrics = evaluate(project)
    file = project / "reports/evaluate/r/metrics.json"
    plain = {key: value for key, value in DetectPredict().model_dump().items() if key not in HOW}
    assert settled(AUTO, file) == plain | {"score": metrics["chosen"]["score"]}
    assert settled(DetectPredict().model_dump(), project / "nosuch.json") == plain
    (project / "params.yaml").write_text(
        "datasets: {herd: {format: coco, path: a, labels: a}}\n"
        "runs: {r: {dataset: herd, task: detect, predict: {score: auto}}}\n"
    )
    monkeypatch.chdir(project)
    assert shown_block("r") == plain | {"score": metrics["chosen"]["score"]}
    write_json(file, {"task": "detect"})
    with pytest.raises(InputError, match=r"metrics\.json: has no score that was chosen; .* evaluate chooses one"):
        shown_block("r")
    file.unlink()
    with pytest.raises(InputError, match=r"metrics\.json: no such file; .* evaluate chooses one"):
        shown_block("r")
    with pytest.raises(InputError, match=r"predict\.score: found auto, expected the number"):
        with_predict(spec_of("detect"), AUTO)

"""Scores that say how often they are right: fitted on val, shown by everyone; no figure but their errors changes."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_calibration import classified
from test_chosen import AUTO, project, split  # noqa: F401  (a fixture)
from test_evaluate import spec_of, write_history

from pipeline.core.calibrated import calibrated, worth
from pipeline.core.errors import InputError
from pipeline.core.sample import Sample, read_samples, write_samples
from pipeline.core.spec import read_spec
from pipeline.evaluation import choosing
from pipeline.evaluation.evaluate import evaluate_run
from pipeline.evaluation.params import DetectPredict, with_predict
from pipeline.export.card.contract import preprocessing
from pipeline.metrics.calibration import Scored, calibration, scored
from pipeline.metrics.chosen import settled
from pipeline.metrics.fitting import fitted
from pipeline.report.facts import calibrated_words
from pipeline.runtimes.answers import predict_image, predict_samples
from pipeline.runtimes.on_torch import TorchRuntime

PLATT = {"by": "platt", "slope": 0.5, "offset": -0.5}


@pytest.mark.parametrize("how", ["platt", "isotonic"])
def test_the_error_of_a_boastful_classifier_falls_on_other_images(how: str) -> None:
    fit = fitted(how, scored("classify", *classified(2000, 3, 1)))
    test = classified(5000, 3, 2)
    before, after = (calibration("classify", *test, None, given)[0] for given in (None, fit))
    assert before["ECE"] > 0.1 > 0.03 > after["ECE"]
    assert after["raw"] == {"ECE": before["ECE"]} and after["answers"] == before["answers"]


@pytest.mark.parametrize("how", ["platt", "isotonic"])
def test_the_error_of_a_detector_falls_on_other_images(how: str) -> None:
    fit = fitted(how, scored("detect", *split(0, 600)))
    before, after = (calibration("detect", *split(1, 600), 0.0, given)[0] for given in (None, fit))
    assert after["D_ECE"] < 0.07 < 0.1 < before["D_ECE"]
    assert after["raw"] == {name: before[name] for name in ("D_ECE", "LaECE", "LaACE")}


def test_platt_undoes_what_is_a_line_of_log_odds() -> None:
    fit = fitted("platt", scored("classify", *classified(20_000, 3)))
    assert (fit["slope"], fit["offset"]) == pytest.approx((1 / 3, 0), abs=0.03)


@pytest.mark.parametrize("how", ["platt", "isotonic"])
@given(data=st.data())
def test_a_higher_score_is_never_worth_less(how: str, data: st.DataObject) -> None:
    rows = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=12)
    score, right = (np.array(column, float) for column in zip(*data.draw(rows), strict=True))
    fit = json.loads(json.dumps(fitted(how, Scored(["cow"] * len(score), score, right))))
    told = [worth(i / 50, fit) for i in range(51)]
    assert told == sorted(told) and told[0] >= 0 and told[-1] <= 1


@pytest.mark.parametrize("how", ["platt", "isotonic"])
def test_no_answer_is_nothing_to_fit(how: str) -> None:
    with pytest.raises(ValueError, match="no answer"):
        fitted(how, Scored([], np.array([]), np.array([])))


@pytest.mark.parametrize("fit", [PLATT, {"by": "isotonic", "scores": [0.4, 0.6], "right": [0.3, 0.4]}])
@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.booleans())
def test_the_answer_stays_the_first(fit: dict[str, Any], drawn: list[float], none: bool) -> None:
    total = sum(drawn) or 1.0
    scores = {"1": 0.0, **{f"l{i}": score / total for i, score in enumerate(drawn)}} if none else {"a": 0.55, "b": 0.45}
    label = max(scores, key=lambda name: scores[name])
    told = calibrated(Sample("1", "", 8, 8, label=label, scores=scores), {"calibration": fit}).scores
    assert told[label] == worth(scores[label], fit) == max(told.values()) and sum(told.values()) <= 1 + 1e-5


def test_a_classifier_that_is_certain_leaves_the_others_alike() -> None:
    said = Sample("1", "", 8, 8, label="a", scores={"a": 1.0, "b": 0.0, "c": 0.0})
    shares = calibrated(said, {"calibration": PLATT}).scores
    assert shares["b"] == shares["c"] > 0 and sum(shares.values()) == pytest.approx(1)
    alone = replace(said, scores={"a": 1.0})
    assert calibrated(alone, {"calibration": PLATT}).scores == {"a": shares["a"]}


def evaluate(project: Path, report: str, **predict: Any) -> dict[str, Any]:  # noqa: F811
    data, place = project / "data/ingested/herd", project / "reports/evaluate" / report
    place.parent.mkdir(parents=True, exist_ok=True)
    block = {**AUTO, "score": 0.01, **predict}
    evaluate_run(project / "model", data / "test", write_history(project), place, block, data / "val")
    metrics: dict[str, Any] = json.loads((place / "metrics.json").read_text())
    return metrics


def test_no_other_figure_changes_and_what_is_fitted_is_written(project: Path) -> None:  # noqa: F811
    plain, found = evaluate(project, "plain"), evaluate(project, "platt", calibrate="platt")
    made = found.pop("calibrated")
    errors = found["calibration"].pop("raw")
    assert errors.items() <= plain["calibration"].items() and "calibrated" not in plain
    assert found["calibration"]["D_ECE"] < errors["D_ECE"], "val has the images of test here"
    assert found.keys() == plain.keys() and all(found[key] == plain[key] for key in found if key != "calibration")
    lines = [project / "reports/evaluate" / name / "predictions/metadata.jsonl" for name in ("plain", "platt")]
    assert lines[0].read_bytes() == lines[1].read_bytes(), "scores are kept as the net says them"
    assert (made["on"], made["images"], made["fit"]["by"]) == ("val", 5, "platt") and made["answers"] > 0
    assert "5 images of val (platt)" in calibrated_words({"calibrated": made})
    asked = {**DetectPredict().model_dump(), "calibrate": "platt"}
    assert settled(asked, project / "reports/evaluate/platt/metrics.json")["calibration"] == made["fit"]
    with pytest.raises(InputError, match=r"plain/metrics\.json: has no fit .*predict\.calibrate is platt, .* evaluate"):
        settled(asked, project / "reports/evaluate/plain/metrics.json")
    with pytest.raises(InputError, match=r"has a fit by platt; predict\.calibrate is isotonic, .* evaluate makes one"):
        settled({**asked, "calibrate": "isotonic"}, project / "reports/evaluate/platt/metrics.json")
    with pytest.raises(InputError, match=r"predict\.calibrate: found platt, expected the fit"):
        with_predict(spec_of("detect"), asked)


def test_it_goes_with_a_score_that_val_chooses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_on_val", lambda *_: split(0, 100))
    of = object(), spec_of("detect")
    alone = choosing.choose_on_val(*of, AUTO, Path("val"))
    block, decided = choosing.choose_on_val(*of, {**AUTO, "calibrate": "isotonic"}, Path("val"))
    assert decided["chosen"] == alone[1]["chosen"], "it is a score before calibration"
    fit = decided["calibrated"]["fit"]
    assert block == {**alone[0], "calibration": fit}
    assert fit["scores"][0] >= block["score"] > 0.1, "fitted on what is shown"


def test_val_without_an_answer_is_said(project: Path) -> None:  # noqa: F811
    with pytest.raises(InputError, match=r"val: no answer .* state none for predict\.calibrate"):
        evaluate(project, "r", calibrate="platt", score=1.0)
    write_samples(project / "data/ingested/herd/val", [])
    with pytest.raises(InputError, match=r"predict\.calibrate: found platt: .*val has no images to choose it by"):
        evaluate(project, "r", calibrate="platt")


def test_who_asks_gets_calibrated_scores_and_who_judges_those_of_the_net(project: Path) -> None:  # noqa: F811
    test = project / "data/ingested/herd/test"
    spec = read_spec(project / "model/model.json")
    runtime, sample = TorchRuntime(project / "model", None), read_samples(test)[0]
    fitted_spec = replace(spec, predict={**spec.predict, "score": 0.005, "calibration": PLATT})
    [judged] = predict_samples(runtime, fitted_spec, test, [sample])
    shown = predict_image(runtime, fitted_spec, Image.open(test / sample.file_name).convert("RGB"))
    assert len(shown.objects) == len(judged.objects) > 0
    for said, told in zip(judged.objects, shown.objects, strict=True):
        assert told.score == pytest.approx(worth(said.score, PLATT), abs=2e-6) and told.score != said.score


@pytest.mark.parametrize("task", ["classify", "localize", "detect"])
def test_the_contract_of_an_app_has_the_fit(task: str) -> None:
    spec = replace(spec_of(task), outputs=[], boxes="distances", strides=[8])
    plain = preprocessing(spec)["decode"]
    found = preprocessing(replace(spec, predict={**spec.predict, "calibration": PLATT}))["decode"]
    assert found.pop("calibration") == PLATT and "calibration" not in plain
    assert found["steps"][:-1] == plain["steps"] and "slope log(p / (1 - p)) + offset" in found["steps"][-1]

"""The page of a run: whole and true for each task, safe with any name, readable anywhere, the same bytes again."""

import json
import os
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from conftest import open_browser
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from selenium import webdriver
from selenium.webdriver.common.by import By
from shared import made_once

from pipeline.config.repro import unreported
from pipeline.core.errors import InputError
from pipeline.core.files import write_json, write_text
from pipeline.core.sample import Dataset, Object, Sample, read_dataset, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.evaluation.evaluate import write_report
from pipeline.metrics.metrics import main_metric
from pipeline.report.page import write_page
from pipeline.viz.plots import plot_history, plot_precision_recall
from stages.report import _stated

TASKS = ("classify", "localize", "detect")
NAMES = [
    "<img src=x onerror=alert(1)>",
    "</style></script><script>alert(2)</script>",
    "\N{RIGHT-TO-LEFT OVERRIDE}אלפקה و لاما",
    "long" * 50,
    "🦙 $\\no$ & \"'`{{ 7 * 7 }}",
    "javascript:alert(3)",
]
MOST_BYTES = 3_000_000
INTERVALS = {"accuracy": [0.1, 0.9], "AP": [0.125, 0.625], "mean_iou": [0.25, 0.75]}
SEEN = {"format": "coco", "files": 20, "seen": 20, "kept": 18, "refused": 2, "by_rule": {"broken <b>": 1, "tiny": 1}}


def spec_of(task: str, labels: list[str]) -> ModelSpec:
    predict = {"score": 0.3, "max_objects": 100}
    return ModelSpec(
        *("r", "d", task, labels, [], [], [], "mobilenetv2_050", {}, 64, "letterbox", [0.5] * 3, [0.5] * 3, predict),
        trained={"epochs": 2, "best_epoch": 1, "weights": NAMES[0]},
        weights_sha256="f" * 64,
    )


def draw_project(
    root: Path, task: str, labels: list[str], images: int = 20, side: int = 48, score: float | None = None
) -> Path:
    """A project with run "r" evaluated on dataset "d", by the stage's own function, and nothing more. Objects have that
    `score`, or any that is shown.
    """
    noise, random = np.random.default_rng(0), Random(0)
    dataset = Dataset("d", labels, source={"format": "coco", "path": f"s3://me:secret@host/{labels[0]}"})
    truth, predicted = [], []
    test = root / "data/ingested/d/test"
    test.mkdir(parents=True)
    for i in range(images):
        t = Sample(f"{i}-{labels[i % len(labels)]}", f"{i}.png", side, side, "test")
        Image.fromarray(noise.integers(0, 255, (side, side, 3), dtype=np.uint8)).save(test / t.file_name)
        p, label = replace(t, objects=[]), labels[i % len(labels)]
        other = labels[(i + i % 3) % len(labels)]
        if task == "classify":
            t.label, p.label, p.scores = label, other, {other: random.uniform(0.5, 1)}
        elif i % 4:
            box = (0.1, 0.1, random.uniform(0.2, 0.8), 0.8)
            t.objects, p.objects = [Object(label, box)], [Object(other, box, score=score or random.uniform(0.3, 1))]
        truth.append(t)
        predicted.append(p)
    write_dataset(test.parent, replace(dataset, counts={"train": 0, "val": 0, "test": images}))
    write_samples(test, truth)
    report = root / "reports/evaluate/r"
    report.mkdir(parents=True)
    write_report(report, spec_of(task, labels), test, truth, predicted)
    return root


def finish(project: Path, task: str) -> None:
    """What else the chain makes, in the chain's forms."""
    evaluated = project / "reports/evaluate/r/metrics.json"
    metrics = json.loads(evaluated.read_text())
    metrics |= {"intervals": INTERVALS, "bootstrap": {"replicates": 1000, "unit": "group", "groups": 9, "level": 0.95}}
    write_json(evaluated, metrics)
    write_json(project / "reports/ingest/d/summary.json", SEEN)
    Image.effect_noise((2000, 3000), 90).convert("RGB").save(project / "reports/ingest/d/contact_sheet.jpg")
    header = "epoch,train_loss,val_loss,val_metric,val_rank,learning_rate\n"
    write_text(project / "reports/train/r/history.csv", header + "0,1.5,1.6,0.1,0.1,0.01\n1,1.2,1.3,0.4,0.4,0.005\n")
    write_json(project / "reports/train/r/training.json", {"seconds": 61.4, "epochs": 2, "device": "cpu"})
    write_spec(project / "models/r/model.json", spec_of(task, NAMES))
    cost = {"macs": 12_500_000, "params": 700_000, "activation_bytes": 2_000_000, "peak_bytes": 500_000}
    made = {"dvc": {"data": "d41d8cd9.dir", "model": "e0.dir"}}
    files = {
        "onnx_int8": {"file": "model.int8.onnx", "int8": True},
        "coreml": {"file": "model.mlpackage", "int8": False},
    }
    export = {"cost": cost, "made_from": made, "versions": {"torch": "2"}, "targets": files}
    write_json(project / "exports/r/export.json", {**export, "float_weights_bytes": 2_900_000})
    main = main_metric(task)
    good = {
        **{"metrics": metrics | {main: 0.4321}, "drop": -0.0125, "drop_interval": [-0.05, 0.03], "tolerance": 0.03},
        **{
            "size_bytes": 830_000,
            "size_ratio": 0.3,
            "size_ratio_to": "onnx_float",
            "int8_layers": 0.98,
            "passed": True,
        },
        **{"reason": "", "too_small": "9 images cannot tell", "agreement": {"label": 0.95}},
        "drop_per_class": {NAMES[0]: 0.25, NAMES[1]: -0.1},
    }
    bad = dict.fromkeys(good) | {"tolerance": 0.03, "passed": False, "reason": f"not run: <b>{NAMES[0]}</b>"}
    verdict = {"passed": False, "main_metric": main, "float": metrics, "targets": {"onnx_int8": good, "coreml": bad}}
    write_json(project / "reports/verify/r/verdict.json", verdict)
    timed = {"latency_ms_by_threads": {"1": {"median": 7.68}}, "peak_memory_bytes": 9_000_000}
    write_json(project / "reports/verify/r/verify.json", verdict | {"targets": {"onnx_int8": good | timed}})


def page(project: Path, **stated: Any) -> Path:
    write_page(project, "r", {"dataset": "d", "train": {"epochs": 2}}, stated)
    return project / "reports/evaluate/r/report.html"


@pytest.fixture(params=TASKS)
def task(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(task: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of hostile names, with all that the chain makes: to be read only."""

    def make(folder: Path) -> None:
        finish(draw_project(folder, task, NAMES), task)
        page(folder, note=f"{NAMES[1]} s3://me:secret@host")

    return made_once(tmp_path_factory, f"report-{task}", make)


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    """A browser for which there is no network, and that says what it asks for."""
    offline = "host-resolver-rules=MAP * ~NOTFOUND"
    with open_browser(tmp_path_factory.mktemp("browser") / "profile", offline) as window:
        yield window


def opened(window: webdriver.Chrome, file: Path) -> webdriver.Chrome:
    window.get(file.as_uri())
    return window


def test_any_name_is_text_and_nothing_is_asked_for(project: Path, window: webdriver.Chrome) -> None:
    opened(window, project / "reports/evaluate/r/report.html")
    assert window.get_log("browser") == [], "no error, nothing refused: a dialog would have ended the test before"
    assert window.execute_script("return performance.getEntriesByType('resource').map(r => r.name)") == []
    assert window.execute_script("return document.querySelectorAll('script, img:not([src^=data]), iframe').length") == 0
    text = window.find_element(By.TAG_NAME, "body").text
    for name in NAMES:
        assert name in text, name
    assert "49" not in window.title and "secret" not in window.page_source
    images = window.find_elements(By.TAG_NAME, "img")
    assert len(images) > 12 and all(image.get_attribute("alt") for image in images)
    loaded = window.execute_script("return [...document.images].every(i => i.complete && i.naturalWidth > 15)")
    assert loaded, "each image is whole"


def test_figures_are_those_of_the_files(project: Path, task: str, window: webdriver.Chrome) -> None:
    opened(window, project / "reports/evaluate/r/report.html")
    metrics = json.loads((project / "reports/evaluate/r/metrics.json").read_text())
    rows = {row.get_attribute("data-figure"): row for row in window.find_elements(By.CSS_SELECTOR, "tr[data-figure]")}
    numbers = {k: v for k, v in metrics.items() if isinstance(v, float) or v is None}
    assert set(rows) == set(numbers) and len(rows) > 1
    for key, value in numbers.items():
        cells = [cell.text for cell in rows[key].find_elements(By.TAG_NAME, "td")]
        low, high = INTERVALS.get(key, (None, None))
        assert cells[0] == ("undefined" if value is None else f"{value:.4f}")
        assert cells[1] == (f"{low:.4f} to {high:.4f}" if low is not None else "–")
    main = main_metric(task)
    assert window.find_element(By.ID, "headline").text == f"{metrics[main]:.4f}"
    text = window.find_element(By.ID, "files").text
    for said in (
        "✓ passed",
        "✗ failed",
        "0.4321",
        "-0.0125",
        "0.83 MB",
        "30.0 %",
        "7.7",
        "9.00 MB",
        "95.0 % same label",
    ):
        assert said in text, said
    everything = window.find_element(By.TAG_NAME, "body").text
    for said in (
        "d41d8cd9.dir",
        "12\N{NARROW NO-BREAK SPACE}500\N{NARROW NO-BREAK SPACE}000",
        "61 s",
        "2 of 20",
        "1000 draws of the 9",
    ):
        assert said in everything.replace("refused\n2\nof 20", "2 of 20"), said


def test_calibration_is_shown_where_there_is_one(project: Path, task: str, window: webdriver.Chrome) -> None:
    opened(window, project / "reports/evaluate/r/report.html")
    parts = window.find_elements(By.ID, "calibration")
    found = json.loads((project / "reports/evaluate/r/metrics.json").read_text()).get("calibration", {})
    assert len(parts) == bool(found) == (task != "localize")
    for part in parts:
        names = {"ECE": "ECE", "D_ECE": "D-ECE", "LaECE": "LaECE", "LaACE": "LaACE"}
        for key in names.keys() & found.keys():
            assert f"{names[key]} {found[key]:.4f}" in part.text
        assert part.find_elements(By.TAG_NAME, "svg")


def test_it_is_readable_on_a_phone_and_by_ear(project: Path, window: webdriver.Chrome) -> None:
    phone = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    window.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", phone)
    try:
        opened(window, project / "reports/evaluate/r/report.html")
        wide = window.execute_script("return [document.documentElement.scrollWidth, innerWidth]")
    finally:
        window.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    assert wide == [360, 360], "tables scroll in themselves, the page does not"
    assert window.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"
    levels = [int(h.tag_name[1]) for h in window.find_elements(By.CSS_SELECTOR, "h1, h2, h3, h4")]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in pairwise(levels))
    assert all(s.get_attribute("aria-label") for s in window.find_elements(By.TAG_NAME, "svg"))
    assert window.execute_script(
        "return [...document.querySelectorAll('nav a')].every(a => document.querySelector(a.hash))"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_from_what_is_behind_it(scheme: str, project: Path, window: webdriver.Chrome) -> None:
    """WCAG's contrast of 4.5 for all colours of text, on the page and on its cards."""
    window.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    opened(window, project / "reports/evaluate/r/report.html")
    colours = window.execute_script(
        "const s = getComputedStyle(document.documentElement);"
        "return ['ink', 'soft', 'good', 'bad', 'paper', 'card'].map(n => s.getPropertyValue('--' + n).trim())"
    )
    *inks, paper, card = (_luminance(colour) for colour in colours)
    assert (paper > 0.5) == (scheme == "light")
    for ink in inks:
        for behind in (paper, card):
            light, dark = max(ink, behind), min(ink, behind)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, colours


def _luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def test_it_prints_without_a_cut(project: Path, window: webdriver.Chrome) -> None:
    opened(window, project / "reports/evaluate/r/report.html")
    window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        styles = (
            "return [...new Set([...document.querySelectorAll(arguments[0])]"
            ".map(e => getComputedStyle(e)[arguments[1]]))]"
        )
        scrolls = window.execute_script(styles, ".table, .chart", "overflowX")
        breaks = window.execute_script(styles, "tr, figure", "breakInside")
    finally:
        window.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})
    assert (scrolls, breaks) == (["visible"], ["avoid"])


def test_the_same_files_give_the_same_bytes_below_the_limit(project: Path) -> None:
    file = project / "reports/evaluate/r/report.html"
    before = file.read_bytes()
    assert 50_000 < len(before) < MOST_BYTES
    page(project, note=f"{NAMES[1]} s3://me:secret@host")
    assert file.read_bytes() == before
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">'.encode() in before
    assert not re.search(rb"https?://(?!www\.w3\.org/)", before), "but for the names of SVG"


def test_what_is_missing_is_said(task: str, tmp_path: Path) -> None:
    draw_project(tmp_path, task, ["cow", "goat"], images=4)
    metrics = tmp_path / "reports/evaluate/r/metrics.json"
    write_json(metrics, json.loads(metrics.read_text()) | {"intervals": {}})
    text = page(tmp_path).read_text()
    for said in ("no verdict", "not judged yet", "no interval", "No summary", "Not counted yet", "No git revision"):
        assert said in text, said
    assert "`" not in text and "<code>verify</code>" in text


@pytest.mark.parametrize("images", [1, 2])
def test_one_label_and_next_to_no_images_have_a_page(task: str, images: int, tmp_path: Path) -> None:
    draw_project(tmp_path, task, ["cow"], images=images)
    text = page(tmp_path).read_text()
    assert f"the {images} images of the test split" in text and not re.search(r">\s*(nan|None|-?inf)\s*<", text)


@pytest.mark.parametrize("images", [3, pytest.param(10, marks=pytest.mark.exhaustive), 40])
def test_no_image_is_shown_twice(task: str, images: int, tmp_path: Path) -> None:
    draw_project(tmp_path, task, ["cow", "goat"], images=images)
    shown = re.findall(r"</strong> <bdi>(.*?)</bdi></figcaption>", page(tmp_path).read_text())
    assert len(shown) == len(set(shown)) >= min(images // 2, 12)


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_where_nothing_is_found_it_says_why_and_praises_nothing(task: str, tmp_path: Path) -> None:
    draw_project(tmp_path, task, ["cow"], images=4, score=0.2)  # shown from 0.3 on
    finish(tmp_path, task)
    verdict = json.loads((tmp_path / "reports/verify/r/verdict.json").read_text())
    metrics = json.loads((tmp_path / "reports/evaluate/r/metrics.json").read_text())
    good = verdict["targets"]["onnx_int8"]
    write_json(
        tmp_path / "reports/verify/r/verdict.json",
        verdict | {"passed": True, "float": metrics, "targets": {"onnx_int8": good}},
    )
    text = page(tmp_path).read_text()
    assert "Nothing is found: no object has a score of 0.3 or more." in text
    assert "nothing to lose" in text and "✓ passed" not in text and 'class="good"' not in text
    assert text.count("undefined") == len(re.findall("undefined, as |<td>undefined</td>", text))
    if task == "detect":
        assert 'aria-label="Reliability"' not in text and "No errors and no diagram: no object has a score" in text


def test_what_people_have_said_and_reach_is_shown_without_their_names(task: str, tmp_path: Path) -> None:
    draw_project(tmp_path, task, ["cow", "goat"], images=4)
    data = tmp_path / "data/ingested/d"
    assert "What people reach" not in page(tmp_path).read_text()
    write_dataset(data, replace(read_dataset(data), source={"layers": {"round1": "0a", "round2": "0b"}}))
    counts = {"relabelled": 0, "not_there": 0, "untouched": 37}
    write_json(tmp_path / "reports/ingest/d/summary.json", SEEN | {"by_rule": {}, "layers": {"round1": counts}})
    figure = "accuracy" if task == "classify" else "AP"
    agreement = {"truth": "ann@farm", "judged": "bob@farm", "images": 31, "figures": {figure: 0.8125}}
    write_json(tmp_path / "labels/d/round1.agreement.json", [agreement])
    write_json(tmp_path / "labels/d/other.agreement.json", [agreement | {"images": 99}])
    text = re.sub(r"<[^>]*>|\s", " ", page(tmp_path).read_text())
    assert re.search(r"What people reach .* label layer +images +" + figure + r" +round1 +31 +0\.8125", text)
    assert re.search(r"Label layers .* relabelled +not there +untouched +round1 +0 +0 +37", text)
    assert "farm" not in text and text.count("0.8125") == 1


def test_the_names_of_the_curves_lie_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("pipeline.viz.plots._save", lambda figure, _: drawn.append(figure))
    for names in (["cow", "goat"], [f"a breed with a long name {i}" for i in range(12)]):
        plot_precision_recall({name: [1.0, 0.5, 0.0] for name in names}, [0.0, 0.5, 1.0], tmp_path / "pr.svg")
        figure = drawn.pop()
        FigureCanvasAgg(figure).draw()
        [axes] = figure.axes
        names_at = axes.get_legend().get_window_extent()
        assert names_at.y1 <= min(label.get_window_extent().y0 for label in (axes.xaxis.label, *axes.get_xticklabels()))


@pytest.mark.parametrize("epochs", [1, 2, 30])
def test_the_history_has_whole_epochs_on_its_axis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, epochs: int) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("pipeline.viz.plots._save", lambda figure, _: drawn.append(figure))
    rows = [{"epoch": e, "train_loss": 1.0, "val_loss": 1.0, "val_metric": 0.5} for e in range(epochs)]
    plot_history(rows, tmp_path / "history.png", "r", "AP", {})
    for axes in drawn[0].axes:
        left, right = axes.get_xlim()
        ticks = [tick for tick in axes.get_xticks() if left <= tick <= right]
        assert ticks and all(tick == round(tick) for tick in ticks) and (epochs > 1 or ticks == [0])


@pytest.mark.parametrize(("frozen", "at"), [(0, []), (3, [2.5]), (6, []), (9, [])])
def test_the_history_marks_where_the_epochs_of_the_head_alone_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, frozen: int, at: list[float]
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr("pipeline.viz.plots._save", lambda figure, _: drawn.append(figure))
    rows = [{"epoch": e, "train_loss": 1.0, "val_loss": 1.0, "val_metric": 0.5} for e in range(6)]
    trained = {"best_epoch": 4, "epochs": 6}
    plot_history(rows, tmp_path / "history.png", "r", "AP", trained, frozen)
    for axes in drawn[0].axes:
        upright = [line.get_xdata()[0] for line in axes.lines if len(line.get_xdata()) == 2]
        assert upright == [4, *at]
        assert [text.get_text().strip() for text in axes.texts] == ["head alone", "fine-tuned"] * bool(at)
    assert ("the head alone" in drawn[0].get_suptitle()) == (frozen >= 6), "there is no epoch after them"


def test_where_nothing_is_found_the_page_says_so_in_place_of_the_best(tmp_path: Path) -> None:
    draw_project(tmp_path, "detect", ["cow"], images=6, score=0.01)
    text = page(tmp_path).read_text()
    assert "<p>None: no object is found in any image.</p>" in text and text.count("<figcaption>") == 3, "half of six"


def test_a_verdict_on_another_evaluation_is_not_shown(tmp_path: Path) -> None:
    draw_project(tmp_path, "detect", ["cow"], images=4)
    finish(tmp_path, "detect")
    metrics = tmp_path / "reports/evaluate/r/metrics.json"
    write_json(metrics, json.loads(metrics.read_text()) | {"AP": 0.9})
    text = page(tmp_path).read_text()
    assert "reports/verify is of another evaluation than metrics.json" in text and "0.4321" not in text


def test_pictures_have_what_scores_are_worth(tmp_path: Path) -> None:
    draw_project(tmp_path, "classify", ["cow", "goat"], images=4)
    metrics, told = tmp_path / "reports/evaluate/r/metrics.json", re.compile(r"prediction: \w+ (0\.\d\d)")
    assert set(told.findall(page(tmp_path).read_text())) - {"0.50"}
    fit = {"by": "platt", "slope": 0.0, "offset": 0.0}
    made = {"on": "val", "images": 9, "answers": 8, "fit": fit}
    write_json(metrics, json.loads(metrics.read_text()) | {"calibrated": made})
    text = page(tmp_path).read_text()
    assert set(told.findall(text)) == {"0.50"} and "by 8 answers on the 9 images of val (platt)" in text


def test_an_evaluation_that_does_not_say_how_many_are_shown_has_a_page(tmp_path: Path) -> None:
    draw_project(tmp_path, "detect", ["cow"], images=2)
    file = tmp_path / "reports/evaluate/r/predictions/dataset.json"
    said = json.loads(file.read_text())
    del said["source"]["most"]
    write_json(file, said)
    assert page(tmp_path).is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the file: found None"),
        ("runs:\n", "runs: found None"),
        ("runs: {r: null}\n", "r: found None"),
        ("runs: [\n", "not YAML"),
    ],
)
def test_params_that_state_nothing_are_named(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(text)
    with pytest.raises(InputError, match=f"params.yaml: {said}"):
        _stated("r")
    Path("params.yaml").write_text("runs: {r: {epochs: 2}}\n")
    assert (_stated("r"), _stated("other")) == ({"epochs": 2}, {})


def later(file: Path) -> None:
    """Written in another minute than anything else."""
    os.utime(file, (file.stat().st_atime, file.stat().st_mtime + 60))


def test_a_run_whose_files_may_not_ship_still_gets_its_page(tmp_path: Path) -> None:
    draw_project(tmp_path, "detect", ["cow"], images=4)
    assert unreported(tmp_path) == []
    finish(tmp_path, "detect")
    (tmp_path / "resolved.yaml").write_text("runs: {another: {}}")
    assert unreported(tmp_path) == [], "params.yaml has it no more"
    (tmp_path / "resolved.yaml").write_text("runs: {r: {}}")
    assert unreported(tmp_path) == ["r"]
    page(tmp_path)
    assert unreported(tmp_path) == []
    verdict = tmp_path / "reports/verify/r/verdict.json"
    later(verdict)
    assert unreported(tmp_path) == ["r"], "it was judged anew"
    write_json(verdict, json.loads(verdict.read_text()) | {"passed": True})
    later(verdict)
    assert unreported(tmp_path) == [], "DVC makes it"
    verdict.write_text("no JSON")
    later(verdict)
    assert unreported(tmp_path) == []


def test_without_an_evaluation_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"metrics\.json: no such file"):
        page(tmp_path)


def test_many_labels_large_images_and_noise_stay_below_the_limit(tmp_path: Path) -> None:
    labels = [f"{i:04}" + "label" * 40 for i in range(100)]
    draw_project(tmp_path, "detect", labels, images=45, side=600)
    finish(tmp_path, "detect")
    file = page(tmp_path)
    assert file.stat().st_size < MOST_BYTES
    text = file.read_text()
    assert "The most frequent mistakes" in text and "40 more are in metrics.json" in text

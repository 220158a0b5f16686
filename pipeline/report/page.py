"""report.html: one file for a person to read, without any script, that loads nothing."""

from itertools import islice
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.core import errors
from pipeline.core.files import read_json, write_text
from pipeline.core.image_file import open_image
from pipeline.core.lines import read_figures, read_table
from pipeline.core.revision import git_revision
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples
from pipeline.core.spec import ModelSpec, read_spec
from pipeline.metrics.metrics import main_metric, paired, shown_of
from pipeline.metrics.nothing import nothing_found
from pipeline.report import facts, words
from pipeline.report.answers import Answers, as_made, by_size, confusion, pictures
from pipeline.report.pictures import data_uri, svg
from pipeline.report.shipped import shipped
from pipeline.viz.plots import MANY, plot_history, plot_precision_recall, plot_reliability

# of the data's contact sheet; with those of `answers` and base64 the page stays below 3 MB
SHEET, SHEET_BYTES = 1200, 500_000  # pixels of the longer side
TASKS = {
    "classify": "names what an image shows",
    "localize": "says whether the object is there, and where",
    "detect": "finds all objects of an image",
}


def write_page(project: Path, run: str, knobs: dict[str, Any], stated: dict[str, Any]) -> str:
    """Write reports/evaluate/<run>/report.html in `project` from the files of the chain; returns a line that says so.

    `knobs` are all of the run, `stated` what params.yaml states of it. The evaluation must be there; what comes after
    it (exports, verdict) and what is only told (summary, history) is said to be missing where it is. The same files
    give the same bytes. Raises InputError if the evaluation or the test images are missing.
    """
    evaluated = project / "reports/evaluate" / run
    metrics = read_json(evaluated / "metrics.json")
    source = read_dataset(evaluated / "predictions").source
    data = project / "data/ingested" / knobs["dataset"]
    dataset = read_dataset(data)
    truth, predicted = _paired(data / "test", evaluated / "predictions", source)
    fit = metrics.get("calibrated", {}).get("fit")
    answers = Answers(metrics["task"], data / "test", dataset, truth, predicted, fit)
    verdict, timed = (facts.optional(project / f"reports/verify/{run}/{name}.json") for name in ("verdict", "verify"))
    made = facts.optional(project / "exports" / run / "export.json")
    nothing = nothing_found(metrics["task"], truth, predicted, source["shown"])
    text = _template().render(
        run=run,
        does=TASKS[metrics["task"]],
        metrics=metrics,
        main=facts.figures({key: metrics.get(key) for key in (main_metric(metrics["task"]), "intervals")})[0],
        figures=facts.figures(metrics),
        nothing=nothing,
        bootstrap=facts.bootstrap_words(metrics),
        per_class=facts.per_class(metrics),
        files=shipped(metrics, verdict, timed, made, nothing),
        made=made,
        training=facts.optional(project / f"reports/train/{run}/training.json"),
        shown=source["shown"],
        chosen=facts.chosen_words(metrics),
        calibrated=facts.calibrated_words(metrics),
        ceilings=facts.ceilings(project / "labels" / dataset.name, dataset.source, metrics["task"]),
        curves=_curves(project, run, metrics["task"], knobs.get("train", {}).get("frozen_epochs", 0)),
        calibration=facts.calibration(metrics),
        reliability=_reliability(evaluated / "plots/reliability.csv"),
        confusion=confusion(evaluated / "plots/confusion.csv", metrics["task"], dataset.labels),
        sizes=by_size(answers) if metrics["task"] == "detect" else [],
        pictures=pictures(answers),
        spec=_spec(project, run),
        data=_data(project, dataset),
        knobs=facts.said(knobs),
        stated=facts.said(stated),
        revision=git_revision(project),
    )
    path = evaluated / "report.html"
    write_text(path, text)
    return f"{path.relative_to(project)}: {path.stat().st_size / 1e6:.1f} MB"


def _paired(test: Path, predictions: Path, source: dict[str, Any]) -> tuple[list[Sample], list[Sample]]:
    """The images of the test split and what is shown of the answers to them, in one order."""
    truth, predicted = paired(read_samples(test), read_samples(predictions))
    for sample in predicted:
        sample.objects = shown_of(sample.objects, source["shown"], source.get("most"))
    return truth, predicted


def _spec(project: Path, run: str) -> ModelSpec | None:
    path = project / "models" / run / "model.json"
    return read_spec(path) if path.is_file() else None


def _data(project: Path, dataset: Dataset) -> dict[str, Any]:
    """What `ingest` told of the dataset, and what its dataset.json says of itself."""
    reports = project / "reports/ingest" / dataset.name
    sheet = reports / "contact_sheet.jpg"
    return {
        "name": dataset.name,
        "labels": dataset.labels,
        "landmarks": dataset.landmarks,
        "counts": dataset.counts,
        "source": facts.said(dataset.source),
        "summary": facts.optional(reports / "summary.json"),
        "sheet": data_uri(open_image(sheet), SHEET, SHEET_BYTES) if sheet.is_file() else None,
    }


def _curves(project: Path, run: str, task: str, frozen: int) -> list[tuple[str, str]]:
    """(title, SVG) of the training's history and of precision over recall, as far as there are files of them."""
    found = []
    history, recall = project / f"reports/train/{run}/history.csv", project / f"reports/evaluate/{run}/plots/pr.csv"
    if history.is_file() and (rows := read_figures(history)):
        spec, name = _spec(project, run), main_metric(task)
        last = f"{name} on val {rows[-1]['val_metric']:.3f} after {len(rows)} epoch{'' if len(rows) == 1 else 's'}"
        trained = spec.trained if spec else {}
        found.append(("Training", last, lambda path: plot_history(rows, path, run, name, trained, frozen)))
    if recall.is_file():
        with as_made(recall):
            header, *lines = read_table(recall)
            columns = [[float(cell) for cell in column if cell] for column in zip(*lines, strict=True)]
            named = dict(zip(header[1:], columns[1:], strict=True))
        drawn = named if len(named) <= MANY else {"mean": columns[-1]}
        drawn = {label: column for label, column in drawn.items() if column}
        found.append(
            ("Precision over recall", "", lambda path: plot_precision_recall(drawn, columns[0], path)),
        )
    return [(title, svg(title.split()[0], f"{title}. {says}", draw)) for title, says, draw in found]


def _reliability(table_file: Path) -> str | None:
    """The SVG of how right answers are over their score; None where there is no file of it, or no answer in it."""
    if not table_file.is_file():
        return None
    with as_made(table_file):
        lines = islice(read_table(table_file), 1, None)
        rows = [(float(a), float(b), int(n), float(s), float(r)) for a, b, n, s, r in lines]
    if not rows:
        return None
    return svg("Reliability", "How right answers are over their score", lambda path: plot_reliability(rows, path))


def _template() -> Any:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        f.__name__: f for f in (words.figure, words.percent, words.megabytes, words.count, words.cell, words.code)
    }
    environment.filters["plain"] = lambda value: errors.shown(str(value))
    return environment.get_template("report.html.j2")

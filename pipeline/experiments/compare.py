"""One run with one backbone after another: a DVC experiment and an MLflow run each, and all of them side by side."""

import csv
import io
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, write_text
from pipeline.core.params import flat
from pipeline.core.sample import Sample, read_dataset, read_samples
from pipeline.experiments.dvc_experiments import LOCK, check_git, fetch, repro, run_experiment
from pipeline.experiments.paired import Behind, Paired
from pipeline.metrics.metrics import main_metric
from pipeline.runtimes.exported import read_made
from pipeline.runtimes.targets import TARGETS
from pipeline.tracking.dvc_state import OF_DATASET, OF_RUN, read_lock
from pipeline.tracking.store import whole_uri
from pipeline.tracking.track import track_compared, track_figures
from pipeline.training.params import ClassifyRun, RunParams
from pipeline.viz.plots import Dot, plot_compared

BASELINE = "hog_svm"
TRAINED, EVALUATED = OF_RUN[:2], ("metrics.json", "predictions")  # of a net whose files are not compared
FETCHED = ("models/", "exports/", "reports/")  # not the data: they are the project's own


@dataclass(frozen=True, slots=True)
class Row:
    """A model of the comparison. `figure` is the run's main metric of the trained model on test, `int8` that of the
    int8 file; milliseconds are for one image on this machine; None is what a model does not have. `note` says why a
    model failed. `behind` is of the best model's figure, `answers` what this one predicts on test.
    """

    model: str
    figure: float | None = None
    int8: float | None = None
    macs: int | None = None
    params: int | None = None
    float_bytes: int | None = None
    int8_bytes: int | None = None
    float_ms: float | None = None
    int8_ms: float | None = None
    train_seconds: float | None = None
    experiment: str = ""
    note: str = ""
    behind: Behind | None = None
    answers: list[Sample] | None = field(default=None, repr=False, compare=False)


def compare(
    project: Path,
    run: str,
    base: RunParams,
    compared: Mapping[str, RunParams],
    uri: str | None,
    environment: Mapping[str, str],
    experiment: str = "",
    files: bool = True,
) -> Iterator[Row]:
    """A row per model as it is done, the classical one first where the run classifies. Without `files` each net is
    trained and evaluated, and that is all: nothing is exported, and there is no classical model.

    A model that fails is a row with its reason, and the others go on. `base` are the params of `run`, `compared` those
    of each model, as from `config.variants`; `uri` is MLflow's, None takes the project's own store, `experiment` the
    name there. Raises InputError if the project is not in git, or its data do not come through ingest and augment.
    """
    experiment = experiment or experiment_of(run)
    check_git(project)
    uri = whole_uri(project, uri)
    repro(project, f"augment@{base.dataset}", environment)
    first = next(iter(compared.values()))
    if files and isinstance(first, ClassifyRun):
        yield _classical(project, run, first, uri)
    for model, variant in compared.items():
        try:
            yield _net(project, run, base, model, variant, uri, environment, experiment, files)
        except InputError as error:
            yield Row(model, note=str(error))


def compare_and_write(
    project: Path,
    run: str,
    base: RunParams,
    compared: Mapping[str, RunParams],
    uri: str | None,
    environment: Mapping[str, str],
) -> Iterator[str]:
    """`compare`, in words: a line per model as it is done, then the table. Raises InputError at the end if one failed.

    reports/compare/<run>.csv and .png are written after each model: a comparison that is stopped shows what it has.
    """
    metric, rows = main_metric(base.task), list[Row]()
    judged: Paired | None = None
    table, plot = (project / "reports/compare" / f"{run}{kind}" for kind in (".csv", ".png"))
    ingested = project / "data/ingested" / base.dataset
    for row in compare(project, run, base, compared, uri, environment):
        judged = judged or Paired(base.task, read_samples(ingested / "test"), read_dataset(ingested))
        rows = against_best([*rows, row], judged)
        write_comparison(order(rows), metric, table, plot)
        said = f"failed: {row.note}" if row.note else f"{metric} {row.figure}"
        yield f"{len(rows)}: {row.model}: {said}"
    places = " and ".join(path.relative_to(project).as_posix() for path in (table, plot))
    said = table_text(order(rows), metric) + alike(rows, metric)
    yield f"{said}\n{places}; MLflow: make ui, experiment {experiment_of(run)}; dvc exp show"
    if failed := [row.model for row in rows if row.note]:
        raise InputError(f"{len(failed)} of {len(rows)} models failed: {', '.join(failed)}")


def against_best(rows: list[Row], judged: Paired) -> list[Row]:
    """The rows with how far each is `behind` the best one on the images of `judged`."""
    answers = {row.model: [row.answers] for row in rows if row.answers is not None}
    figures = {row.model: row.figure for row in rows if row.figure is not None}
    behind = judged.behind_best(answers, figures)
    return [replace(row, behind=behind.get(row.model)) for row in rows]


def alike(rows: list[Row], metric: str) -> str:
    """A line that names the models that the test images cannot tell from the best one; else ""."""
    near = [(row.model, row.behind) for row in order(rows) if row.behind is not None and not row.behind.told]
    if not near:
        return ""
    best, names = near[0][1].best, ", ".join(model for model, _ in near)
    return f"\nno difference in {metric} from {best} can be told on these test images: {names}"


def experiment_of(run: str) -> str:
    """MLflow's name for the comparison of `run`."""
    return f"compare-{run}"


def order(rows: list[Row]) -> list[Row]:
    """The classical model first, then the most accurate, those that failed last."""
    return sorted(rows, key=lambda r: (r.model != BASELINE, r.figure is None, -(r.figure or 0.0), r.model))


def write_comparison(rows: list[Row], metric: str, table: Path, plot: Path) -> None:
    """`table`: a CSV with a line per model, in the rows' order, numbers as measured; `plot`: a PNG."""
    text = io.StringIO(newline="")
    called = {"figure": metric, "int8": f"int8_{metric}"}
    kept = [f.name for f in fields(Row) if f.name not in ("behind", "answers")]
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(called.get(name, name) for name in kept), "behind", "behind_low", "behind_high"])
    writer.writerows(
        [*(getattr(row, name) for name in kept), *(row.behind[1:] if row.behind else (None,) * 3)] for row in rows
    )
    write_text(table, text.getvalue())
    dots = [Dot(r.model, r.figure, r.macs, r.int8_bytes or r.float_bytes or 0) for r in rows if r.figure is not None]
    plot_compared(dots, metric, plot)


def table_text(rows: list[Row], metric: str) -> str:
    """The rows for a terminal: sizes in 10^6 bytes, a dash where there is nothing."""
    head = ("model", metric, "behind", "in int8", "M macs", "M params", "MB", "int8 MB", "ms", "int8 ms", "train s")
    lines = table_lines([head, *(_cells(row) for row in rows)])
    notes = ["", *(f"  failed: {row.note.splitlines()[0]}" if row.note else "" for row in rows)]
    return "\n".join(line + note for line, note in zip(lines, notes, strict=True))


def table_lines(cells: list[tuple[str, ...]]) -> list[str]:
    """The rows of a table in columns of one width, the first to the left, the others to the right."""
    widths = [max(len(line[i]) for line in cells) for i in range(len(cells[0]))]
    lines = []
    for line in cells:
        numbers = (cell.rjust(width) for cell, width in zip(line[1:], widths[1:], strict=True))
        lines.append("  ".join([line[0].ljust(widths[0]), *numbers]))
    return lines


def _cells(row: Row) -> tuple[str, ...]:
    def shown(value: float | None, form: str, unit: float = 1) -> str:
        return "-" if value is None else format(value / unit, form)

    return (
        row.model,
        shown(row.figure, ".4f"),
        "-" if row.behind is None else "{:.4f} [{:.4f}, {:.4f}]".format(*row.behind[1:]),
        shown(row.int8, ".4f"),
        shown(row.macs, ".1f", 1e6),
        shown(row.params, ".2f", 1e6),
        shown(row.float_bytes, ".2f", 1e6),
        shown(row.int8_bytes, ".2f", 1e6),
        shown(row.float_ms, ".2f"),
        shown(row.int8_ms, ".2f"),
        shown(row.train_seconds, ".0f"),
    )


def _classical(project: Path, run: str, settings: ClassifyRun, uri: str) -> Row:
    from pipeline.experiments.baseline import measure
    from pipeline.experiments.hog import SETTINGS

    found = measure(
        run,
        settings,
        project / "data/augmented" / settings.dataset,
        project / "data/ingested" / settings.dataset / "test",
        project / "reports/compare" / run / BASELINE,
    )
    params = {"backbone": BASELINE, "size": settings.model.size, "resize": settings.model.resize, "hog": SETTINGS}
    figures = {k: v for k, v in found.items() if k in ("float", "train", "cost")}
    file = {"size_bytes": found["size_bytes"], "latency_ms": found["latency_ms"]}
    track_figures(run, BASELINE, params, {**figures, "file": file}, uri, experiment_of(run))
    return Row(
        BASELINE,
        figure=found["float"][main_metric("classify")],
        params=found["cost"]["params"],
        float_bytes=found["size_bytes"],
        float_ms=found["latency_ms"]["median"],
        train_seconds=found["train"]["seconds"],
        answers=read_samples(project / "reports/compare" / run / BASELINE / "predictions"),
    )


def _net(
    project: Path,
    run: str,
    base: RunParams,
    model: str,
    variant: RunParams,
    uri: str,
    environment: Mapping[str, str],
    experiment: str,
    files: bool,
) -> Row:
    before, after = flat(base.model_dump()), flat(variant.model_dump())
    changes = {f"runs.{run}.{key}": value for key, value in after.items() if before.get(key) != value}
    name, stages = f"{run}-{model}", ["params", *(f"{stage}@{run}" for stage in (OF_RUN if files else TRAINED))]
    commit = run_experiment(project, name, stages, changes, _weights(variant), environment)
    if not files:
        return _trained(project, run, commit, model, variant, uri, experiment)
    made = [*(f"{stage}@{run}" for stage in OF_RUN), *(f"{stage}@{base.dataset}" for stage in OF_DATASET)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fetch(project, commit, [LOCK, f"data/ingested/{base.dataset}/dataset.json"], folder)
        # not their folders: the report's page lies in one of them, and no comparison makes it
        outs = [out["path"] for address in made for out in read_lock(folder)[address]["outs"]]
        fetch(project, commit, [out for out in outs if out.startswith(FETCHED)], folder)
        track_compared(run, folder, commit, uri, experiment)
        return _row(folder, run, model, name)


def _trained(project: Path, run: str, commit: str, model: str, variant: RunParams, uri: str, experiment: str) -> Row:
    reports = [f"reports/train/{run}/training.json", *(f"reports/evaluate/{run}/{made}" for made in EVALUATED)]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        fetch(project, commit, reports, folder)
        training, metrics = (read_json(folder / report) for report in reports[:2])
        answers = read_samples(folder / f"reports/evaluate/{run}/predictions")
    figures = {"float": metrics, "train": {"seconds": training["seconds"]}}
    track_figures(run, model, flat(variant.model_dump()), figures, uri, experiment)
    figure = metrics[main_metric(variant.task)]
    return Row(model, figure=figure, train_seconds=training["seconds"], experiment=f"{run}-{model}", answers=answers)


def _weights(variant: RunParams) -> list[str]:
    """The files that it starts from: of a whole net of ours model.json tells which labels it knows."""
    file = variant.model.pretrained
    return [file, Path(file).with_name("model.json").as_posix()] if isinstance(file, str) else []


def _row(folder: Path, run: str, model: str, experiment: str) -> Row:
    verdict = read_json(folder / "reports/verify" / run / "verify.json")
    made = read_made(folder / "exports" / run)
    targets, metric = verdict["targets"], verdict["main_metric"]
    measured = {name: row for name, row in targets.items() if row["metrics"]}  # Core ML's file has no figures here
    whole = next((row for name, row in measured.items() if not TARGETS[name].int8), None)
    small = next((row for name, row in measured.items() if TARGETS[name].int8), None)
    return Row(
        model,
        figure=verdict["float"][metric],
        int8=small and small["metrics"][metric],
        macs=made["cost"]["macs"],
        params=made["cost"]["params"],
        float_bytes=whole["size_bytes"] if whole else made["float_weights_bytes"],
        int8_bytes=small and small["size_bytes"],
        float_ms=whole and whole["latency_ms"]["median"],
        int8_ms=small and small["latency_ms"]["median"],
        train_seconds=read_json(folder / "reports/train" / run / "training.json")["seconds"],
        experiment=experiment,
        answers=read_samples(folder / "reports/evaluate" / run / "predictions"),
    )

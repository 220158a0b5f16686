"""What each command of `pocketlens` does, with what argparse read; only those that ask for a library load it."""

import argparse
import json
import os
import sys
from collections.abc import Sized
from contextlib import closing
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.errors import InputError
from pipeline.runtimes.targets import TORCH

if TYPE_CHECKING:
    from pipeline.core.machine import MachineParams

DATABASE = Path(".fiftyone")
MADE = (  # by the chain: what dvc.yaml has as outs, and `make clean` removes
    *("data/sample", "data/ingested", "data/augmented", "models", "exports", "reports", "resolved.yaml", "splits"),
    *(".fetched", ".resume", ".features", ".fiftyone", ".pocketlens.log"),
    *("mlflow.db", "mlflow.db.lock", "mlruns", "mlartifacts"),
)


def add(args: argparse.Namespace) -> None:
    from pipeline.config.adding import add

    dataset = args.data, args.task, args.format, args.labels
    print(add(Path("params.yaml"), args.name, *dataset, args.backbone, args.pretrained, args.set, args.from_scratch))


def convert(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_settings
    from pipeline.datasets.convert.convert import convert, summary_line

    _check_place("OUT", args.out)
    settings = read_settings(args.set)
    if wrong := [key for key in settings if not key.startswith("options.")]:
        raise InputError(f"--set {wrong[0]}: expected an option of the format of IN, as options.{wrong[0]}")
    options = {key.removeprefix("options."): value for key, value in settings.items()}
    summary = convert(args.source, args.out, args.to, args.format, args.labels, options)
    print(_json(summary) if args.json else summary_line(summary))


def download(args: argparse.Namespace) -> None:
    from pipeline.datasets.public.download import download

    _check_place("--to", args.to)
    print(download(args.set, args.to or Path("data/public") / args.set, args.max))


def _budget(args: argparse.Namespace) -> None:
    from pipeline.experiments.budget import budget_text, candidates, check_plot, fitting, read_budget, write_plot

    budget = read_budget(args.budget)
    if args.plot:
        _check_place("--plot", args.plot)
        check_plot(args.plot)  # before minutes of measuring
    considered = candidates(args.labels)
    rows = fitting(considered, budget, args.labels, args.best)
    if args.plot:
        write_plot(considered, rows, args.plot)
    print(_json([asdict(row) for row in rows]) if args.json else budget_text(rows))


def cost(args: argparse.Namespace) -> None:
    if args.budget:
        _budget(args)
        return
    if args.plot:
        raise InputError(f"--plot {args.plot}: is drawn of a --budget; there is none")
    from pipeline.core.spec import model_folder
    from pipeline.graph.cost import backbone_cost, cost, cost_text
    from pipeline.models.mobilenets import FAMILIES, named
    from pipeline.models.nets import load_model

    if args.run:
        _check_made(args.run)
        net, spec = load_model(model_folder(Path("models"), args.run))
        name, size, found = args.run, spec.size, cost(net, (3, spec.size, spec.size))
    else:
        name, size = args.backbone, args.resolution
        if name in FAMILIES:
            name = named(name, 1.0 if args.width is None else args.width)
        elif args.width is not None:
            raise InputError(f"--width: {name} has its own; expected --backbone {' or '.join(FAMILIES)}")
        found = backbone_cost(name, size, args.labels)
    if args.json:
        print(_json({"name": name, "resolution": size, **asdict(found)}))
        return
    print(cost_text(name, size, found, args.layers))


def predict(args: argparse.Namespace) -> None:
    from pipeline.core.parallel import over
    from pipeline.inference.predict import predict_sources, prediction_text

    _check_made(args.run)
    _check_place("--draw", args.draw)
    places = Path("models"), Path("exports"), args.draw
    # an exported file brings along what it was exported with
    shown = _shown(args.run) if args.target == TORCH else None
    answers = predict_sources(args.sources, args.run, args.target, *places, args.every, args.frames, shown)
    with over(_machine().parallel), closing(answers):  # Ctrl+C while printing finishes the drawings too
        for prediction in answers:
            print(_json(prediction.to_json()) if args.json else prediction_text(prediction))


def slide(args: argparse.Namespace) -> None:
    from pipeline.inference.sliding import figures_text, slide_run

    _check_made(args.run)
    _check_place("--draw", args.draw)
    data = Path("data/ingested")
    what = args.dataset, args.split, args.scales, args.background
    figures = slide_run(args.run, Path("models"), data, *what, args.draw, args.score, _shown(args.run))
    print(_json(figures) if args.json else figures_text(figures))


def _json(value: Any) -> str:
    """With JSON's own escapes where stdout cannot take a character, as of a file name that is not UTF-8."""
    text = json.dumps(value, ensure_ascii=False)
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(value)
    return text


def _check_place(option: str, path: Path | None) -> None:
    """Raises InputError for a place in what the chain makes: DVC removes it before a stage runs again, and
    `make clean` all of it.
    """
    for made in MADE:
        if path is not None and path.resolve().is_relative_to(Path(made).resolve()):
            where = f"is {made}" if Path(made).suffix else f"lies in {made}/"
            raise InputError(f"{option} {path}: {where}, which the chain makes and removes; expected elsewhere")


def _check_made(run: str) -> None:
    """Raises InputError for a run that params.yaml knows, but whose model is not here, as on a fresh clone."""
    from pipeline.config.params import read_params

    folder = Path("models") / run
    if not folder.exists() and Path("params.yaml").is_file() and run in read_params().runs:
        raise InputError(
            f"{folder}: not here, though params.yaml has the run; `dvc pull` or `dvc checkout` brings it back, "
            f"`dvc repro train@{run}` makes it"
        )


def _shown(run: str) -> dict[str, Any] | None:
    """What params.yaml says of the answers that are shown; None for a model that it does not know."""
    from pipeline.config.params import read_params

    params = read_params() if Path("params.yaml").is_file() else None
    return params.runs[run].predict.model_dump() if params and run in params.runs else None


def _machine() -> "MachineParams":
    from pipeline.config.params import read_params
    from pipeline.core.machine import MachineParams

    return read_params().machine if Path("params.yaml").is_file() else MachineParams()


def epochs(args: argparse.Namespace) -> None:
    from pipeline.config.epochs import fit_epochs

    print(fit_epochs(Path("params.yaml"), args.run, args.minutes))


def params(args: argparse.Namespace) -> None:
    from pipeline.config.resolve import knobs, knobs_text

    found = knobs("params.yaml", args.name)
    print(_json([asdict(knob) for knob in found]) if args.json else knobs_text(found))


def inspect(args: argparse.Namespace) -> None:
    from pipeline.inspection.app import inspect_run

    inspect_run(args.run, Path.cwd(), DATABASE, args.port, partial(print, flush=True))


def demo(args: argparse.Namespace) -> None:
    from pipeline.inference.demo import addresses, open_server, page_folder, runtime_folder, write_site

    page, runtime = page_folder(Path("exports"), args.run), runtime_folder(Path("node_modules"))
    if args.write:
        _check_place("--write", args.write)
        write_site(page, runtime, args.write)
        print(f"{args.write}: the page of {args.run}, for any static host")
        return
    with open_server(page, runtime, args.host, args.port) as server:
        print(f"{args.run} in a browser: {'  '.join(addresses(server))}  (Ctrl+C ends it)", flush=True)
        server.serve_forever()


def compare(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params, read_settings
    from pipeline.config.variants import started, variants
    from pipeline.experiments.compare import compare_and_write

    params = read_params()
    run = args.run or (params.compare.run if params.compare else "")
    made = variants(params, run, args.models or [], read_settings(args.set))
    compared = started(Path.cwd(), params.run(run), made)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    for line in compare_and_write(Path.cwd(), run, params.run(run), compared, uri, os.environ):
        print(line, flush=True)


def trace(args: argparse.Namespace) -> None:
    from pipeline.tracking.trace.text import trace_text
    from pipeline.tracking.trace.trace import trace

    found = trace(args.file, Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"))
    print(_json(found) if args.json else trace_text(found))


def ledger(args: argparse.Namespace) -> None:
    from pipeline.experiments.sheets import check_sheet, difference_sheet
    from pipeline.experiments.versions import difference, difference_text, open_version

    if args.sheet:
        _check_place("--sheet", args.sheet)
        check_sheet(args.sheet)
    with open_version(args.before, Path.cwd()) as before, open_version(args.now, Path.cwd()) as now:
        found = difference(before, now)
        print(_json(found.to_json()) if args.json else difference_text(found))
        if args.sheet and _to_draw(args.sheet, found.changed or found.added or found.removed):
            difference_sheet(found, args.sheet)


def leaks(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params
    from pipeline.experiments import leaks
    from pipeline.training.probe import pooled_features
    from pipeline.experiments.sheets import check_sheet, leaks_sheet

    params = read_params()
    dataset = params.dataset(args.dataset)
    run = args.run or next((name for name, run in params.runs.items() if run.dataset == args.dataset), None)
    if run and params.run(run).dataset != args.dataset:
        raise InputError(f"--run {run}: its dataset is {params.run(run).dataset}; expected a run on {args.dataset}")
    if args.sheet:
        _check_place("--sheet", args.sheet)
        check_sheet(args.sheet)
    ingested = Path("data/ingested") / args.dataset
    given = args.split == "given"
    with leaks.source_images(args.dataset, dataset) if given else leaks.ingested_images(ingested) as images:
        found = leaks.find_leaks(images, dataset.near_duplicate_bits)
        found.unpriced = leaks.NO_RUN
        if run:
            what = images.dataset, images.folder, images.samples, Path(".features")
            features = pooled_features(run, params.run(run), *what)
            model = params.run(run).model
            weights = {"False": "random weights", "True": "timm's weights"}.get(f"{model.pretrained}", model.pretrained)
            found.price = leaks.priced(found, images, features, f"{model.backbone} with {weights}")
            found.unpriced = "" if found.price else leaks.ONE_LABEL
        print(_json(found.to_json()) if args.json else leaks.leaks_text(found))
        if args.sheet and _to_draw(args.sheet, found.pairs):
            leaks_sheet(found, images, args.sheet)


def _to_draw(sheet: Path, found: Sized) -> bool:
    if not found:
        print(f"{sheet}: not written, as there is nothing to draw", file=sys.stderr)
    return bool(found)


def track(_args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params
    from pipeline.tracking.track import track_all

    experiment = read_params().track.experiment
    for line in track_all(Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"), experiment):
        print(line, flush=True)  # before what is wrong at the end


def repro(args: argparse.Namespace) -> None:
    from pipeline.config.repro import repro

    line = repro(Path.cwd(), args.targets)
    if line is not None:
        if line:
            print(line)
        sys.exit(1)


def missing(_args: argparse.Namespace) -> None:
    from pipeline.tracking.missing import NOTHING, missing_line

    print(line := missing_line(Path.cwd()))
    if line != NOTHING:
        sys.exit(1)

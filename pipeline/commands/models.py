"""The commands on models: `cost`, `epochs`, `predict`, `slide`, `demo`, `compare`."""

import argparse
import os
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.common import check_made, check_place, json_text, say_written, shown_block
from pipeline.core.errors import InputError
from pipeline.runtimes.targets import TORCH

if TYPE_CHECKING:
    from pipeline.config.params import Params
    from pipeline.core.machine import MachineParams


def _budget(args: argparse.Namespace) -> None:
    check_place("--plot", args.plot)
    from pipeline.experiments.budget import budget_text, candidates, check_plot, read_budget, weigh, write_plot

    budget = read_budget(args.budget)
    if args.plot:
        check_plot(args.plot)  # before minutes of measuring
    weighed = weigh(candidates(args.labels), budget, args.labels, args.best)
    if args.plot:
        write_plot(weighed, budget, args.plot)
    print(json_text([asdict(row) for row in weighed.fit]) if args.json else budget_text(weighed.fit))
    if args.plot:
        say_written(args.plot, "what was considered, drawn")


def cost(args: argparse.Namespace) -> None:
    if args.budget:
        _budget(args)
        return
    if args.plot:
        raise InputError(f"--plot {args.plot}: is drawn of a --budget; there is none")
    if args.table:
        from pipeline.experiments.papers import tables, tables_text

        found_tables = tables()
        print(json_text(found_tables) if args.json else tables_text(found_tables))
        return
    from pipeline.core.spec import model_folder
    from pipeline.graph.cost import backbone_cost, cost, cost_text
    from pipeline.models.mobilenets import FAMILIES, named
    from pipeline.models.nets import load_model

    if args.run:
        check_made(args.run)
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
        print(json_text({"name": name, "resolution": size, **asdict(found)}))
        return
    print(cost_text(name, size, found, args.layers))


def epochs(args: argparse.Namespace) -> None:
    from pipeline.config.epochs import fit_epochs

    print(fit_epochs(Path("params.yaml"), args.run, args.minutes))


def predict(args: argparse.Namespace) -> None:
    from pipeline.core.parallel import over
    from pipeline.inference.predict import predict_sources, prediction_text

    check_made(args.run)
    check_place("--draw", args.draw)
    places = Path("models"), Path("exports"), args.draw
    # an exported file brings along what it was exported with
    shown = shown_block(args.run) if args.target == TORCH else None
    answers = predict_sources(args.sources, args.run, args.target, *places, args.every, args.frames, shown)
    with over(_machine().parallel), closing(answers):  # Ctrl+C while printing finishes the drawings too
        for prediction in answers:
            print(json_text(prediction.to_json()) if args.json else prediction_text(prediction))
    if args.draw:
        say_written(args.draw, "predictions drawn into images and clips, and metadata.jsonl")


def slide(args: argparse.Namespace) -> None:
    from pipeline.inference.sliding import figures_text, slide_run

    check_made(args.run)
    check_place("--draw", args.draw)
    data = Path("data/ingested")
    what = args.dataset, args.split, args.scales, args.background
    figures = slide_run(args.run, Path("models"), data, *what, args.draw, args.score, shown_block(args.run))
    print(json_text(figures) if args.json else figures_text(figures))
    if args.draw:
        say_written(args.draw, "images with truth and boxes drawn in")


def demo(args: argparse.Namespace) -> None:
    from pipeline.inference.demo import addresses, open_server, page_folder, runtime_folder, write_site

    check_made(args.run, "exports", "export")
    page, runtime = page_folder(Path("exports"), args.run), runtime_folder(Path("node_modules"), args.run)
    if args.write:
        check_place("--write", args.write)
        write_site(page, runtime, args.write)
        print(f"{args.write}: the page of {args.run}, for any static host")
        return
    with open_server(page, runtime, args.host, args.port, args.name) as server:
        print(f"{args.run} in a browser: {'  '.join(addresses(server))}  (Ctrl+C ends it)", flush=True)
        server.serve_forever()


def compare(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params, read_settings
    from pipeline.config.variants import started, variants
    from pipeline.experiments.compare import compare_and_write

    params = read_params()
    run = args.run or (params.compare.run if params.compare else "")
    if args.policies:
        _compare_policies(params, run, args)
        return
    made = variants(params, run, args.models or [], read_settings(args.set))
    compared = started(Path.cwd(), params.run(run), made)
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    for line in compare_and_write(Path.cwd(), run, params.run(run), compared, uri, os.environ):
        print(line, flush=True)


def _compare_policies(params: "Params", run: str, args: argparse.Namespace) -> None:
    from pipeline.config.params import read_settings
    from pipeline.config.variants import policy_variants
    from pipeline.experiments.policies import compare_policies

    compared = policy_variants(params, run, args.policies, args.seeds, read_settings(args.set))
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    for line in compare_policies(Path.cwd(), run, params.run(run), compared, uri, os.environ):
        print(line, flush=True)


def _machine() -> "MachineParams":
    from pipeline.config.params import read_params
    from pipeline.core.machine import MachineParams

    return read_params().machine if Path("params.yaml").is_file() else MachineParams()

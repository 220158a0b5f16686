"""The command `pocketlens`: what is done beside the chain."""

import argparse
import json
import os
import sys
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.params import TASKS
from pipeline.runtimes.targets import TARGETS, TORCH

DATABASE = Path(".fiftyone")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="pocketlens", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_parser(commands.add_parser("add", help="write a dataset and a run for a folder of your own into params.yaml"))
    _predict_parser(commands.add_parser("predict", help="what a trained run says of images"))
    _inspect_parser(commands.add_parser("inspect", help="open a run's data and predictions in the FiftyOne App"))
    _demo_parser(commands.add_parser("demo", help="serve the page that runs an exported model in a browser"))
    _cost_parser(commands.add_parser("cost", help="multiply-adds, parameters and memory of a backbone or run"))
    _slide_parser(commands.add_parser("slide", help="slide a trained classifier over the images of a box dataset"))
    _compare_parser(commands.add_parser("compare", help="a run with one backbone after another, side by side"))
    _trace_parser(commands.add_parser("trace", help="where a file came from, and whether it still is what it was"))
    _params_parser(commands.add_parser("params", help="every knob of a run, its meaning, and whether it is a default"))
    track = commands.add_parser("track", help="rebuild the MLflow runs from the chain's files where they are missing")
    track.set_defaults(command=_track)
    missing = commands.add_parser("missing", help="which stages of the chain are still to be made, in one line")
    missing.set_defaults(command=_missing)
    args = parser.parse_args(arguments)
    os.environ.setdefault("FIFTYONE_DO_NOT_TRACK", "1")
    try:
        args.command(args)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _add_parser(parser: argparse.ArgumentParser) -> None:
    from pipeline.datasets.formats import FORMATS

    parser.add_argument("name", help="of the new dataset and run")
    parser.add_argument("--data", type=Path, required=True, help="folder with the images or clips")
    parser.add_argument("--labels", type=Path, help="folder or file with the labels, where they lie elsewhere")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--format", help=f"{', '.join(FORMATS)}; recognized from the folder if not given")
    parser.add_argument("--backbone", help="any timm name (default mobilenetv2_100)")
    parser.add_argument("--pretrained", type=Path, metavar="FILE", help="weights in timm's or torchvision's names")
    _add_settings(parser, "a knob: train.epochs=5, dataset.max_side=320")
    parser.set_defaults(command=_add)


def _cost_parser(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--backbone", help="any timm name, or mobilenetv1 and mobilenetv2 with --width")
    what.add_argument("--run", help="the whole net of a trained run, at its size")
    what.add_argument("--budget", help="the MobileNets that a phone can afford: macs=150M,size=1MB,ms=5")
    parser.add_argument("--best", type=int, default=5, help="with --budget: how many to measure and list (default 5)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="with --budget: draw what was considered as PNG")
    parser.add_argument("--width", type=float, help="of a mobilenetv1 or mobilenetv2 (default 1)")
    parser.add_argument("--resolution", type=int, default=224, help="side of the input in pixels (default 224)")
    parser.add_argument("--labels", type=int, default=1000, help="classes of the last layer (default 1000)")
    parser.add_argument("--layers", action="store_true", help="a line per layer as well")
    parser.add_argument("--json", action="store_true", help="macs, params, weights, bytes of activations, layers")
    parser.set_defaults(command=_cost)


def _predict_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", nargs="+", metavar="SOURCE", help="images, clips, folders of both, camera, camera:1")
    parser.add_argument("--run", required=True)
    parser.add_argument(
        "--target", default=TORCH, help=f"{TORCH} (default), or a file that ships: {', '.join(TARGETS)}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per image")
    parser.add_argument(
        "--draw",
        type=Path,
        metavar="FOLDER",
        help="write predictions drawn into images and clips, and metadata.jsonl",
    )
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of clips and cameras each N-th frame")
    parser.add_argument("--frames", type=int, metavar="N", help="of a camera so many frames (default: until Ctrl+C)")
    parser.set_defaults(command=_predict)


def _slide_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", help="a classifier, trained on crops of objects and of nothing")
    parser.add_argument("dataset", help="an ingested dataset with boxes of the same labels")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test")
    parser.add_argument(
        "--scales",
        type=_numbers,
        default=[1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5],
        metavar="N,N,...",
        help="how often a window fits into the longer side of an image (default 1,1.25,1.6,2,2.5,3.2,4,5)",
    )
    parser.add_argument("--background", default="background", help="the label of nothing (default background)")
    parser.add_argument("--score", type=float, help="with --draw: objects below are not drawn (default: the run's)")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")
    parser.add_argument("--draw", type=Path, metavar="FOLDER", help="write the images with truth and boxes drawn in")
    parser.set_defaults(command=_slide)


def _trace_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=Path, help="of exports, models, reports or data; or a copy of one, anywhere")
    parser.add_argument("--json", action="store_true", help="all that is known, as one JSON object")
    parser.set_defaults(command=_trace)


def _params_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", nargs="?", help="of a run, or of a dataset (default: all)")
    parser.add_argument("--json", action="store_true", help="a list of key, value, stated and meaning")
    parser.set_defaults(command=_params)


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def _add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def _inspect_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run")
    parser.add_argument("--port", type=int, default=5151)
    parser.set_defaults(command=_inspect)


def _demo_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run")
    parser.add_argument("--host", default="127.0.0.1", help="0.0.0.0 lets phones on the same network in")
    parser.add_argument("--port", type=int, default=5151)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="write the page there, for any static host")
    parser.set_defaults(command=_demo)


def _compare_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", help="whose data and knobs are taken (default: compare.run of params.yaml)")
    parser.add_argument("--models", help="any timm names, with commas between (default: compare.models)")
    _add_settings(parser, "a knob of the run, for all models: train.epochs=5")
    parser.set_defaults(command=_compare)


def _add(args: argparse.Namespace) -> None:
    from pipeline.config.adding import add

    params = Path("params.yaml")
    print(
        add(params, args.name, args.data, args.task, args.format, args.labels, args.backbone, args.pretrained, args.set)
    )


def _budget(args: argparse.Namespace) -> None:
    from pipeline.experiments.budget import budget_text, candidates, fitting, read_budget, write_plot

    budget = read_budget(args.budget)
    considered = candidates(args.labels)
    rows = fitting(considered, budget, args.labels, args.best)
    if args.plot:
        write_plot(considered, rows, args.plot)
    print(json.dumps([asdict(row) for row in rows]) if args.json else budget_text(rows))


def _cost(args: argparse.Namespace) -> None:
    if args.budget:
        _budget(args)
        return
    from pipeline.core.spec import model_folder
    from pipeline.graph.cost import backbone_cost, cost, cost_text
    from pipeline.models.mobilenets import FAMILIES, named
    from pipeline.models.nets import load_model

    if args.run:
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
        print(json.dumps({"name": name, "resolution": size, **asdict(found)}))
        return
    print(cost_text(name, size, found, args.layers))


def _predict(args: argparse.Namespace) -> None:
    from pipeline.inference.predict import predict_sources, prediction_text

    if args.every < 1:
        raise InputError(f"--every {args.every}: expected 1 or more")
    places = Path("models"), Path("exports"), args.draw
    # an exported file brings along what it was exported with
    shown = _shown(args.run) if args.target == TORCH else None
    answers = predict_sources(args.sources, args.run, args.target, *places, args.every, args.frames, shown)
    with closing(answers):  # Ctrl+C while printing finishes the drawings too
        for prediction in answers:
            print(json.dumps(prediction.to_json(), ensure_ascii=False) if args.json else prediction_text(prediction))


def _slide(args: argparse.Namespace) -> None:
    from pipeline.inference.sliding import figures_text, slide_run

    data = Path("data/ingested")
    what = args.dataset, args.split, args.scales, args.background
    figures = slide_run(args.run, Path("models"), data, *what, args.draw, args.score, _shown(args.run))
    print(json.dumps(figures) if args.json else figures_text(figures))


def _shown(run: str) -> dict[str, Any] | None:
    """What params.yaml says of the answers that are shown; None for a model that it does not know."""
    from pipeline.config.params import read_params

    params = read_params() if Path("params.yaml").is_file() else None
    return params.runs[run].predict.model_dump() if params and run in params.runs else None


def _params(args: argparse.Namespace) -> None:
    from pipeline.config.resolve import knobs, knobs_text

    found = knobs("params.yaml", args.name)
    print(json.dumps([asdict(knob) for knob in found]) if args.json else knobs_text(found))


def _inspect(args: argparse.Namespace) -> None:
    from pipeline.inspection.app import inspect_run

    inspect_run(args.run, Path.cwd(), DATABASE, args.port)


def _demo(args: argparse.Namespace) -> None:
    from pipeline.inference.demo import addresses, open_server, page_folder, runtime_folder, write_site

    page, runtime = page_folder(Path("exports"), args.run), runtime_folder(Path("node_modules"))
    if args.write:
        write_site(page, runtime, args.write)
        print(f"{args.write}: the page of {args.run}, for any static host")
        return
    with open_server(page, runtime, args.host, args.port) as server:
        print(f"{args.run} in a browser: {'  '.join(addresses(server))}  (Ctrl+C ends it)", flush=True)
        server.serve_forever()


def _compare(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params, read_settings
    from pipeline.config.variants import variants
    from pipeline.experiments.compare import compare_and_write

    params = read_params()
    models = args.models.split(",") if args.models else []
    run = args.run or (params.compare.run if params.compare else "")
    compared = variants(params, run, models, read_settings(args.set))
    uri = os.environ.get("MLFLOW_TRACKING_URI")
    for line in compare_and_write(Path.cwd(), run, params.run(run), compared, uri, os.environ):
        print(line, flush=True)


def _trace(args: argparse.Namespace) -> None:
    from pipeline.tracking.trace.text import trace_text
    from pipeline.tracking.trace.trace import trace

    found = trace(args.file, Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"))
    print(json.dumps(found, ensure_ascii=False) if args.json else trace_text(found))


def _track(_args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params
    from pipeline.tracking.track import track_all

    experiment = read_params().track.experiment
    for line in track_all(Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"), experiment):
        print(line)


def _missing(_args: argparse.Namespace) -> None:
    from pipeline.tracking.missing import missing_line

    print(missing_line(Path.cwd()))


if __name__ == "__main__":
    main()

"""The command `pocketlens`: the chain, and what is done beside it."""

import argparse
import sys

from pipeline.commands import chain, data, inspect, models
from pipeline.commands.arguments import above_0, add_report, count, name, numbers, path, place, port, share, word, words
from pipeline.commands.label_parsers import annotate_parser, annotated_parser, mistakes_parser, next_parser
from pipeline.core.boundary import exit_code
from pipeline.core.params import TASKS
from pipeline.runtimes.targets import TARGETS, TORCH


def main(arguments: list[str] | None = None) -> None:
    if code := exit_code(lambda: _run(arguments)):
        sys.exit(code)


def _run(arguments: list[str] | None) -> None:
    parser = argparse.ArgumentParser(prog="pocketlens", description=__doc__)
    new = parser.add_subparsers(required=True, metavar="COMMAND").add_parser
    _add_parser(new("add", help="write a dataset and a run for a folder of your own into params.yaml"))
    _convert_parser(new("convert", help="write a labelled dataset in another format"))
    _augment_parser(new("augment", help="what augmentation policies make of a dataset's own images, on a sheet"))
    _download_parser(new("download", help="a public dataset, as a folder that `add` takes"))
    _predict_parser(new("predict", help="what a trained run says of images"))
    _inspect_parser(new("inspect", help="open a run with its predictions, or a dataset, in the FiftyOne App"))
    _demo_parser(new("demo", help="serve the page that runs an exported model in a browser"))
    _cost_parser(new("cost", help="multiply-adds, parameters and memory of a backbone or run"))
    _slide_parser(new("slide", help="slide a trained classifier over the images of a box dataset"))
    _compare_parser(new("compare", help="a run with one backbone, or augmentation policy, after another"))
    _trace_parser(new("trace", help="where a file came from, and whether it still is what it was"))
    _epochs_parser(
        new("epochs", help="write the epochs that fit into so many minutes, measured here, into params.yaml")
    )
    _params_parser(new("params", help="every knob of a run or dataset, its meaning, and whether it is a default"))
    _ledger_parser(
        new("ledger", help="what ingest has refused of a dataset, or what has changed between two versions of it")
    )
    _leaks_parser(new("leaks", help="images on both sides of a dataset's splits, and what they are worth"))
    next_parser(new("next", help="the images that are worth a label next, one id a line"))
    mistakes_parser(new("mistakes", help="labels that may be wrong, the likeliest first"))
    annotate_parser(new("annotate", help="send images to people who label them, with what a model or the dataset says"))
    annotated_parser(new("annotated", help="fetch what people have labelled, as a label layer beside the source"))
    track = new("track", help="rebuild the MLflow runs from the chain's files where they are missing")
    track.set_defaults(command=chain.track)
    again = new("repro", help="run the chain: what params.yaml, data and code have changed since the last time")
    again.add_argument("targets", nargs="*", metavar="STAGE", help="such as track@herd, with what it needs; else all")
    again.set_defaults(command=chain.repro)
    missing = new("missing", help="which stages of the chain are still to be made, in one line; exit code 1 if any are")
    missing.set_defaults(command=chain.missing)
    doctor = new("doctor", help="hash data, models, exports, DVC's cache and databases; exit code 1 if any is broken")
    doctor.set_defaults(command=chain.doctor)
    args = parser.parse_args(arguments)
    args.command(args)


def _add_parser(parser: argparse.ArgumentParser) -> None:
    from pipeline.datasets.formats import FORMATS

    parser.add_argument("name", type=word, help="of the new dataset and run")
    parser.add_argument("--data", type=place, required=True, help="folder with the images or clips, or its URL")
    parser.add_argument("--labels", type=place, help="folder or file with the labels, where they lie elsewhere")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument("--format", type=word, help=f"{', '.join(FORMATS)}; recognized from the folder if not given")
    parser.add_argument("--backbone", type=word, help="any timm name (default mobilenetv2_100)")
    start = parser.add_mutually_exclusive_group()
    start.add_argument(
        "--pretrained",
        type=path,
        metavar="FILE",
        help="weights in timm's or torchvision's names (default: those in weights/ that fit, else timm's from its hub)",
    )
    start.add_argument("--from-scratch", action="store_true", help="start from random weights")
    _add_settings(parser, "a knob: train.epochs=5, dataset.max_side=320")
    parser.set_defaults(command=data.add)


def _convert_parser(parser: argparse.ArgumentParser) -> None:
    from pipeline.datasets.formats import FORMATS

    written = ", ".join(name for name, row in FORMATS.items() if row.write)
    parser.add_argument("source", type=path, metavar="IN", help="folder with the images or clips")
    parser.add_argument("out", type=path, metavar="OUT", help="a new or empty folder")
    parser.add_argument("--to", type=word, required=True, metavar="FORMAT", help=written)
    parser.add_argument("--labels", type=path, help="folder or file with the labels of IN, where they lie elsewhere")
    parser.add_argument("--format", type=word, help="of IN; recognized from the folder if not given")
    _add_settings(parser, "an option of the format of IN: options.frames=4")
    parser.add_argument("--follow-links", action="store_true", help="also links that lead out of IN")
    parser.add_argument("--json", action="store_true", help="the counts as one JSON object")
    parser.set_defaults(command=data.convert)


def _augment_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=word, help="of params.yaml, ingested")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--preview", action="store_true", help="draws of one policy (default: that of copies, else of the first run)"
    )
    what.add_argument("--compare", type=words, metavar="P1,P2,...", help="a draw of each of these policies")
    parser.add_argument("--policy", type=word, help="with --preview")
    parser.add_argument("-n", "--images", type=count, default=8, metavar="N", help="images on the sheet (default 8)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.set_defaults(command=data.augment)


def _download_parser(parser: argparse.ArgumentParser) -> None:
    from pipeline.datasets.public.sets import SETS

    width = max(map(len, SETS))
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(f"  {name:{width}}  {row.what} ({row.size}; {row.licence})" for name, row in SETS.items())
    parser.add_argument("set", type=word, help=", ".join(SETS))
    parser.add_argument("--max", type=count, metavar="N", help="the first N images or clips of each split")
    parser.add_argument("--to", type=path, metavar="FOLDER", help="a new folder (default: data/public/SET)")
    parser.set_defaults(command=data.download)


def _cost_parser(parser: argparse.ArgumentParser) -> None:
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--backbone", type=word, help="any timm name, or mobilenetv1 and mobilenetv2 with --width")
    what.add_argument("--run", type=name, help="the whole net of a trained run, at its size")
    what.add_argument("--table", choices=["seeds"], help="published tables of MobileNets and others, and our count")
    what.add_argument("--budget", type=word, help="the MobileNets that a phone can afford: macs=150M,size=1MB,ms=5")
    parser.add_argument("--best", type=count, default=5, help="with --budget: how many to measure and list (default 5)")
    parser.add_argument("--plot", type=path, metavar="FILE", help="with --budget: draw what was considered, a new PNG")
    parser.add_argument("--width", type=above_0, help="of a mobilenetv1 or mobilenetv2 (default 1)")
    parser.add_argument("--resolution", type=count, default=224, help="side of the input in pixels (default 224)")
    parser.add_argument("--labels", type=count, default=1000, help="classes of the last layer (default 1000)")
    parser.add_argument("--layers", action="store_true", help="a line per layer as well")
    parser.add_argument("--json", action="store_true", help="macs, params, weights, bytes of activations, layers")
    parser.set_defaults(command=models.cost)


def _predict_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "sources", type=word, nargs="+", metavar="SOURCE", help="images, clips, folders of both, camera, camera:1"
    )
    parser.add_argument("--run", type=name, required=True)
    parser.add_argument(
        "--target", type=word, default=TORCH, help=f"{TORCH} (default), or a file that ships: {', '.join(TARGETS)}"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per image")
    parser.add_argument(
        "--draw",
        type=path,
        metavar="FOLDER",
        help="write predictions drawn into images and clips, and metadata.jsonl; a folder for nothing else",
    )
    parser.add_argument("--every", type=count, default=1, metavar="N", help="of clips and cameras each N-th frame")
    parser.add_argument("--frames", type=count, metavar="N", help="of a camera so many frames (default: until Ctrl+C)")
    parser.set_defaults(command=models.predict)


def _slide_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=name, help="a classifier, trained on crops of objects and of nothing")
    parser.add_argument("dataset", type=name, help="an ingested dataset with boxes of the same labels")
    parser.add_argument("--split", choices=("train", "val", "test"), default="test", help="default: test")
    parser.add_argument(
        "--scales",
        type=numbers,
        default=[1, 1.25, 1.6, 2, 2.5, 3.2, 4, 5],
        metavar="N,N,...",
        help="how often a window fits into the longer side of an image (default 1,1.25,1.6,2,2.5,3.2,4,5)",
    )
    parser.add_argument(
        "--background", type=word, default="background", help="the label of nothing (default background)"
    )
    parser.add_argument("--score", type=share, help="with --draw: objects below are not drawn (default: the run's)")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object")
    parser.add_argument("--draw", type=path, metavar="FOLDER", help="write the images with truth and boxes drawn in")
    parser.set_defaults(command=models.slide)


def _trace_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", type=path, help="of exports, models, reports or data; or a copy of one, anywhere")
    parser.add_argument("--json", action="store_true", help="all that is known, as one JSON object")
    parser.set_defaults(command=chain.trace)


def _ledger_parser(parser: argparse.ArgumentParser) -> None:
    what = "a folder of ingested data, a dataset of params.yaml, or NAME@REV, as it was at a revision of git"
    parser.add_argument("before", type=word, metavar="A", help=what)
    alone = "the other one; without it A is a dataset of params.yaml, and what ingest has refused of it is told by rule"
    parser.add_argument("now", type=word, nargs="?", metavar="B", help=alone)
    add_report(parser, "draw the images that have changed, before and now")
    parser.set_defaults(command=data.ledger)


def _leaks_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=word, help="of params.yaml")
    what = "the splits of the source as its owner has it (default), or those that ingest has made"
    parser.add_argument("--split", choices=("given", "ours"), default="given", help=what)
    parser.add_argument("--run", type=word, help="whose backbone prices them (default: the first run on the dataset)")
    add_report(parser, "draw the worst pairs")
    parser.set_defaults(command=data.leaks)


def _epochs_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=word, help="its data must be there: dvc repro augment@DATASET")
    parser.add_argument("--minutes", type=above_0, required=True, metavar="N", help="that training may take")
    parser.set_defaults(command=models.epochs)


def _params_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", type=word, nargs="?", help="of a run, or of a dataset (default: all)")
    parser.add_argument("--json", action="store_true", help="a list of key, value, stated and meaning")
    parser.set_defaults(command=chain.params)


def _add_settings(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=what)


def _inspect_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", type=name, help="of a run, or of a dataset; of both: the run")
    parser.add_argument("--dataset", action="store_true", help="the dataset of that name, also where a run has it")
    parser.add_argument("--run", type=word, help="of a dataset: whose backbone makes the map (default: its first run)")
    parser.add_argument("--no-map", action="store_true", help="of a dataset: without map, likeness and uniqueness")
    parser.add_argument("--tagged", type=word, metavar="TAG", help="print the ids of the images with this tag instead")
    parser.add_argument("--port", type=port, default=5151, help="of the App on 127.0.0.1 (default 5151)")
    parser.set_defaults(command=inspect.inspect)


def _demo_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=name)
    parser.add_argument(
        "--host", type=word, default="127.0.0.1", help="default 127.0.0.1; 0.0.0.0 lets phones on the same network in"
    )
    parser.add_argument("--port", type=port, default=5151, help="of the page (default 5151)")
    parser.add_argument(
        "--name", type=word, action="append", default=[], metavar="HOST", help="another name that browsers find it by"
    )
    parser.add_argument("--write", type=path, metavar="FOLDER", help="write the page there, for any static host")
    parser.set_defaults(command=models.demo)


def _compare_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--run", type=word, help="whose data and knobs are taken (default: compare.run of params.yaml)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--models", type=words, help="any timm names, with commas between (default: compare.models)")
    what.add_argument(
        "--policies", type=words, help="augmentation policies in place of backbones, such as none,photo_geometry"
    )
    parser.add_argument("--seeds", type=count, default=3, help="trainings of each policy (default 3)")
    _add_settings(parser, "a knob of the run, for all models: train.epochs=5")
    parser.set_defaults(command=models.compare)


if __name__ == "__main__":
    main()

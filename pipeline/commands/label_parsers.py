"""The arguments of the commands on labels: `annotate`, `annotated`, `next`, `mistakes`."""

import argparse

from pipeline.commands import choice, labels
from pipeline.commands.arguments import add_report, count, path, word


def next_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", type=word, metavar="RUN|DATASET", help="whose model, or whose backbone alone, judges")
    parser.add_argument("count", type=count, metavar="N", help="how many")
    what = "a folder of images without labels (default: the train split, to be labelled again)"
    parser.add_argument("--pool", type=path, metavar="FOLDER", help=what)
    parser.add_argument("--json", action="store_true", help="a list of id, score and why")
    parser.set_defaults(command=choice.next)


def mistakes_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=word, help="of params.yaml, ingested")
    parser.add_argument("--run", type=word, help="whose backbone judges (default: the first run on the dataset)")
    what = "print the ids of the first N images and nothing else, one a line, as `annotate --ids -` reads them"
    parser.add_argument("--ids", type=count, metavar="N", help=what)
    add_report(parser, "draw the first ones")
    parser.set_defaults(command=choice.mistakes)


def annotate_parser(parser: argparse.ArgumentParser) -> None:
    what = "a dataset, whose labels are shown; or a run, whose predictions are"
    parser.add_argument("name", type=word, metavar="DATASET|RUN", help=what)
    parser.add_argument("--to", choices=("label-studio", "cvat"), required=True, help="the tool")
    parser.add_argument(
        "--out", type=path, metavar="FOLDER", help="cvat, without --url: a new folder, of which a task is made by hand"
    )
    _add_server(parser)
    parser.add_argument("--run", type=word, help="whose predictions are shown, where a dataset has the run's name")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--ids", type=path, metavar="FILE", help="a file with an id per line, in this order; - for stdin"
    )
    what = "the images with this tag in FiftyOne's App, in the view of the dataset or of a run on it"
    which.add_argument("--tag", type=word, metavar="TAG", help=what)
    which.add_argument("--split", choices=("train", "val", "test"), default="train", help="default: train")
    parser.add_argument(
        "--images", type=word, metavar="ROOT", help="what data/ingested is called where the server runs (default: here)"
    )
    parser.add_argument("--annotators", type=count, metavar="N", help="who label each image (default 1)")
    parser.add_argument(
        "--not-blind",
        action="store_true",
        help="show labels on val and test images too: people agree with what they see, and figures of a test set that "
        "was made so flatter the model",
    )
    parser.set_defaults(command=labels.annotate)


def annotated_parser(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("dataset", type=word, help="of params.yaml")
    parser.add_argument(
        "--name", type=word, required=True, metavar="LAYER", help="of the layer: labels/DATASET/LAYER.jsonl"
    )
    parser.add_argument("--from", choices=("label-studio", "cvat"), help="the tool (default: label-studio)")
    _add_server(parser)
    parser.add_argument("--project", type=count, metavar="N", help="its number there (default: that of `annotate`)")
    parser.add_argument(
        "--reviewer",
        type=word,
        action="append",
        default=[],
        dest="reviewers",
        metavar="EMAIL",
        help="whose answer counts before all others; may be given again",
    )
    cvat = parser.add_argument_group("CVAT")
    cvat.add_argument("--xml", type=path, metavar="FILE", help="what it exported as 'CVAT for images 1.1'")
    cvat.add_argument(
        "--empty-is-background",
        action="store_true",
        help="images without shapes have been looked at, all of them: the file does not say",
    )
    cvat.add_argument("--by", type=word, metavar="NAME", help="who drew (default: whose job or task it is)")
    what = "the name of the folder that its task was made of, where an image was sent in two and not alike"
    cvat.add_argument("--task", type=word, metavar="NAME", help=what)
    parser.set_defaults(command=labels.annotated)


def _add_server(parser: argparse.ArgumentParser) -> None:
    what = "of the server (default: LABEL_STUDIO_URL or CVAT_URL of the environment)"
    parser.add_argument("--url", type=word, help=what)
    what = "label-studio (default: LABEL_STUDIO_API_KEY of the environment, which other users cannot see); cvat takes "
    parser.add_argument("--token", type=word, help=f"{what}CVAT_ACCESS_TOKEN of the environment only")

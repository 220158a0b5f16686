"""The commands on data: `add`, `convert`, `augment`, `download`, `ledger`, `leaks`."""

import argparse
import sys
from collections.abc import Sized
from dataclasses import replace
from pathlib import Path

from pipeline.commands.common import check_ingested, check_place, json_text, say_written, show
from pipeline.core.errors import InputError


def add(args: argparse.Namespace) -> None:
    from pipeline.config.adding import add

    dataset = args.data, args.task, args.format, args.labels
    print(add(Path("params.yaml"), args.name, *dataset, args.backbone, args.pretrained, args.set, args.from_scratch))


def convert(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_settings
    from pipeline.datasets.convert.convert import convert, summary_line

    check_place("OUT", args.out)
    settings = read_settings(args.set)
    if wrong := [key for key in settings if not key.startswith("options.")]:
        raise InputError(f"--set {wrong[0]}: expected an option of the format of IN, as options.{wrong[0]}")
    options = {key.removeprefix("options."): value for key, value in settings.items()}
    summary = convert(args.source, args.out, args.to, args.format, args.labels, options, args.follow_links)
    print(json_text(summary) if args.json else summary_line(summary))


def augment(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params

    if args.compare and args.policy:
        raise InputError(f"--policy {args.policy}: with --compare the policies are {', '.join(args.compare)}")
    params = read_params()
    block = params.dataset(args.dataset).augment
    own = block.policy if block.copies else "none"
    runs = [name for name, run in params.runs.items() if run.dataset == args.dataset]
    if args.compare or args.policy:
        policies, whose = args.compare or [args.policy], ""
    elif own != "none" or not runs:
        policies, whose = [own], f", that of dataset {args.dataset}"
    else:
        policies, whose = [params.run(runs[0]).train.online.policy], f", that of run {runs[0]} in training"
    check_ingested(args.dataset)
    from pipeline.augment.preview import preview

    steps = params.dataset(args.dataset).preprocess
    # no dataset's name has a dot
    sheet = Path("reports/preview") / f"{args.dataset}{'.compare' if args.compare else ''}.jpg"
    shown = preview(Path("data/ingested") / args.dataset, policies, args.images, args.seed, sheet, steps)
    names = ", ".join(policy if isinstance(policy, str) else "the list of params.yaml" for policy in policies)
    print(f"{sheet}: {shown} images by {names}{whose}")
    show(sheet)


def download(args: argparse.Namespace) -> None:
    from pipeline.datasets.public.download import download

    check_place("--to", args.to)
    print(download(args.set, args.to or Path("data/public") / args.set, args.max))


def ledger(args: argparse.Namespace) -> None:
    if args.now is None:
        _ledger_of(args)
        return
    from pipeline.experiments.sheets import check_sheet, difference_sheet
    from pipeline.experiments.versions import difference, difference_text, open_version

    if args.sheet:
        check_place("--sheet", args.sheet)
        check_sheet(args.sheet)
    with open_version(args.before, Path.cwd()) as before, open_version(args.now, Path.cwd()) as now:
        found = difference(before, now)
        print(json_text(found.to_json()) if args.json else difference_text(found))
        if args.sheet and _to_draw(args.sheet, found.changed or found.added or found.removed):
            difference_sheet(found, args.sheet)
            say_written(args.sheet, "the images that have changed, before and now")


def _ledger_of(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params
    from pipeline.datasets.ingest.report import by_rule, by_rule_text

    if args.sheet:
        raise InputError(f"--sheet {args.sheet}: draws what has changed; expected a second version of {args.before}")
    read_params().dataset(args.before)
    path = Path("reports/ingest") / args.before / "ledger.csv"
    rows = by_rule(path)
    print(json_text(rows) if args.json else by_rule_text(path, rows))


def leaks(args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params
    from pipeline.experiments import leaks
    from pipeline.experiments.sheets import check_sheet, leaks_sheet
    from pipeline.training.probe import pooled_features

    params = read_params()
    dataset = params.dataset(args.dataset)
    run = params.run_on(args.dataset, args.run)
    if args.sheet:
        check_place("--sheet", args.sheet)
        check_sheet(args.sheet)
    ingested = Path("data/ingested") / args.dataset
    given = args.split == "given"
    with leaks.source_images(args.dataset, dataset) if given else leaks.ingested_images(ingested) as images:
        found = leaks.find_leaks(images, dataset.near_duplicate_bits)
        found.unpriced = leaks.NO_RUN
        if run:
            seen = replace(images.dataset, preprocess=params.steps(args.dataset))
            what = seen, images.folder, images.samples, Path(".features")
            features = pooled_features(run, params.run(run), *what)
            model = params.run(run).model
            weights = {"False": "random weights", "True": "timm's weights"}.get(f"{model.pretrained}", model.pretrained)
            found.price = leaks.priced(found, images, features, f"{model.backbone} with {weights}")
            found.unpriced = "" if found.price else leaks.ONE_LABEL
        print(json_text(found.to_json()) if args.json else leaks.leaks_text(found))
        if args.sheet and _to_draw(args.sheet, found.pairs):
            leaks_sheet(found, images, args.sheet)
            say_written(args.sheet, "the worst pairs, drawn")


def _to_draw(sheet: Path, found: Sized) -> bool:
    if not found:
        print(f"{sheet}: not written, as there is nothing to draw", file=sys.stderr)
    return bool(found)

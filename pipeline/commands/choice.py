"""The commands on labels: `next`, `mistakes`."""

import argparse
import sys
from dataclasses import asdict, replace
from pathlib import Path

from pipeline.commands.common import check_ingested, check_place, json_text, say_written, shown_block
from pipeline.config.params import Params, read_params
from pipeline.core.errors import InputError, shown
from pipeline.core.params import nearest


def next(args: argparse.Namespace) -> None:
    from pipeline.annotation.next import Run, choose, pool_images, refused_text, write_choices
    from pipeline.experiments.leaks import ingested_images
    from pipeline.inspection.dataset_view import read_ledger

    params = read_params()
    name, dataset = _run_and_dataset(params, args.name)
    check_ingested(dataset)
    block = params.run(name)
    run = Run(name, block, shown_block(name) or {}, Path("models"), Path("exports"), Path(".features"))
    ledger = Path("reports/ingest") / dataset / "ledger.csv"
    refused = read_ledger(ledger).refused
    with ingested_images(Path("data/ingested") / dataset) as labelled:
        labelled.dataset = replace(labelled.dataset, preprocess=params.steps(dataset))
        source = Path(str(labelled.dataset.source.get("path", ".")))
        before = {(source / file).resolve(): "; ".join(why) for file, why in refused.items()}
        pool = pool_images(args.pool, labelled.dataset, before) if args.pool else None
        chosen, worth = choose(run, labelled, pool, args.count, params.dataset(dataset).near_duplicate_bits)
    path = Path("reports/next") / f"{args.name}.csv"
    write_choices(path, chosen)
    print(json_text([asdict(row) for row in chosen]) if args.json else "\n".join(shown(row.id) for row in chosen))
    for problem in pool.refused if pool else []:
        print(f"not looked at: {shown(problem.found)}", file=sys.stderr)
    if pool and pool.refused:
        count = f"{len(pool.refused)} of {len(pool.refused) + len(pool.samples)}"
        print(f"not looked at: {count} images of {args.pool}, which `ingest` refuses", file=sys.stderr)
    elif not pool and refused:
        print(refused_text(refused, ledger), file=sys.stderr)
    short = "" if len(chosen) == args.count else f" of {args.count}: all others show what these or labelled ones show"
    print(f"{path}: {len(chosen)} images{short}; {worth}", file=sys.stderr)


def mistakes(args: argparse.Namespace) -> None:
    from pipeline.annotation.mistakes import (
        find_mistakes,
        labelled_samples,
        mistakes_text,
        suspects_sheet,
        write_mistakes,
    )
    from pipeline.core.sample import read_dataset
    from pipeline.experiments.sheets import check_sheet

    params = read_params()
    params.dataset(args.dataset)
    check_ingested(args.dataset)
    name = _judge(params, args.dataset, args.run)
    if args.sheet:
        check_place("--sheet", args.sheet)
        check_sheet(args.sheet)
    folder = Path("data/ingested") / args.dataset
    dataset, samples = replace(read_dataset(folder), preprocess=params.steps(args.dataset)), labelled_samples(folder)
    rows = find_mistakes(name, params.run(name), dataset, folder, samples, Path(".features"))
    path = Path("reports/mistakes") / f"{args.dataset}.csv"
    write_mistakes(path, rows)
    if args.ids:
        print("\n".join(shown(id) for id in [*dict.fromkeys(row.id for row in rows)][: args.ids]))
    else:
        print(json_text([asdict(row) for row in rows]) if args.json else mistakes_text(args.dataset, rows, path))
    if args.sheet:
        suspects_sheet(rows, dataset, folder, samples, args.sheet)
        say_written(args.sheet, "the first ones, drawn")


def _run_and_dataset(params: Params, name: str) -> tuple[str, str]:
    """A run is meant where both have the name."""
    if name in params.runs:
        return name, params.run(name).dataset
    if name in params.datasets:
        return _judge(params, name), name
    known = [*params.runs, *params.datasets]
    raise InputError(f"no run and no dataset {name!r} in params.yaml{nearest(name, known)}")


def _judge(params: Params, dataset: str, named: str | None = None) -> str:
    """The run whose backbone judges images of the dataset."""
    run = params.run_on(dataset, named)
    if run is None:
        raise InputError(f"dataset {dataset!r}: no run of params.yaml has it, whose backbone could tell images apart")
    return run

"""The command `inspect`."""

import argparse
import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.commands.common import DATABASE, check_made
from pipeline.core.errors import InputError, shown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from pipeline.config.params import Params
    from pipeline.core.sample import Sample
    from pipeline.inspection.dataset_view import DatasetFiles


def inspect(args: argparse.Namespace) -> None:
    """A name that is both a run's and a dataset's is the run's, but with --dataset."""
    from pipeline.inspection.app import inspect_dataset, inspect_run, run_files, tagged_ids

    root, by = Path.cwd(), os.environ.get("USER") or "app"
    ingested = root / "data/ingested" / args.name
    evaluated = root / "reports/evaluate" / args.name
    dataset = args.dataset or (not evaluated.is_dir() and ingested.is_dir())
    if args.tagged:
        print("\n".join(shown(id) for id in tagged_ids(args.name, dataset, args.tagged, DATABASE)))
        return
    say = partial(print, flush=True)
    if dataset:
        inspect_dataset(_dataset_files(args, root, by), DATABASE, args.port, say)
    elif args.run:
        raise InputError(f"--run {args.run}: is for the map of a dataset; {args.name} is a run")
    else:
        check_made(args.name, "reports/evaluate", "evaluate")
        inspect_run(run_files(args.name, root, by), DATABASE, args.port, say)


def _dataset_files(args: argparse.Namespace, root: Path, by: str) -> "DatasetFiles":
    from pipeline.config.params import read_params
    from pipeline.core.sample import SPLITS, read_dataset, read_samples
    from pipeline.datasets.formats.made_ids import source_files
    from pipeline.experiments.leaks import twins_of
    from pipeline.inspection.dataset_view import DatasetFiles

    params = read_params()
    dataset, ingested = params.dataset(args.name), root / "data/ingested" / args.name
    if not ingested.is_dir():
        raise InputError(f"{ingested}: not there; `dvc repro ingest@{args.name}` makes it")
    run = params.run_on(args.name, args.run)
    backbone = " ".join(map(str, [params.run(run).model, *params.steps(args.name)])) if run else ""
    path = read_dataset(ingested).source.get("path")
    source = Path(path) if path and Path(path).is_dir() else None
    ids = [s.id for split in SPLITS for s in read_samples(ingested / split)]
    return DatasetFiles(
        name=args.name,
        ingested=ingested,
        ledger=root / "reports/ingest" / args.name / "ledger.csv",
        mistakes=root / "reports/mistakes" / f"{args.name}.csv",
        labels=root / "labels",
        source=source,
        sources=source_files(source, ids) if source else {},
        twins=partial(twins_of, ingested, dataset.near_duplicate_bits),
        vectors=partial(_vectors, params, run, ingested) if run and not args.no_map else None,
        backbone="" if args.no_map else backbone,
        by=by,
    )


def _vectors(params: "Params", run: str, ingested: Path, samples: "list[Sample]") -> "NDArray[np.float32]":
    from pipeline.core.sample import read_dataset
    from pipeline.training.probe import pooled_features

    block = params.run(run)
    dataset = replace(read_dataset(ingested), preprocess=params.steps(block.dataset))
    return pooled_features(run, block, dataset, ingested, samples, Path(".features"))

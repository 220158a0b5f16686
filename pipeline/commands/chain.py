"""The commands on the chain: `params`, `repro`, `missing`, `doctor`, `track`, `trace`."""

import argparse
import os
import sys
from dataclasses import asdict
from pathlib import Path

from pipeline.commands.common import json_text


def params(args: argparse.Namespace) -> None:
    from pipeline.config.resolve import knobs, knobs_text

    found = knobs("params.yaml", args.name)
    print(json_text([asdict(knob) for knob in found]) if args.json else knobs_text(found))


def repro(args: argparse.Namespace) -> None:
    from pipeline.config.repro import repro
    from pipeline.core.lock_copy import repro_runs

    with repro_runs(Path.cwd()) as killed:
        _mend_locks(killed)
        try:
            line = repro(Path.cwd(), args.targets)
        except BaseException:  # Ctrl+C ends DVC at any moment
            _mend_locks(killed=True)
            raise
        _mend_locks()
    if line is not None:
        if line:
            print(line)
        sys.exit(1)


def _mend_locks(killed: bool = False) -> None:
    from pipeline.core.lock_copy import drop_cut_rwlock, keep_lock

    for said in filter(None, (drop_cut_rwlock(Path.cwd()), keep_lock(Path.cwd(), killed))):
        print(said, file=sys.stderr, flush=True)


def missing(_args: argparse.Namespace) -> None:
    from pipeline.tracking.missing import NOTHING, missing_line

    print(line := missing_line(Path.cwd()))
    if line != NOTHING:
        sys.exit(1)


def doctor(_args: argparse.Namespace) -> None:
    from pipeline.core.errors import shown
    from pipeline.tracking.doctor import examine, is_made

    found = examine(Path.cwd())
    for broken in found:
        print(shown(f"{broken.path}: {broken.found}; {broken.cure}"))
    if found:
        print(f"{len(found)} broken")
        sys.exit(1)
    made = is_made(Path.cwd())
    print("all files are what was written" if made else "nothing is made yet here; `pocketlens repro` runs the chain")


def track(_args: argparse.Namespace) -> None:
    from pipeline.config.params import read_params
    from pipeline.tracking.track import track_all

    experiment = read_params().track.experiment
    for line in track_all(Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"), experiment):
        print(line, flush=True)  # before what is wrong at the end


def trace(args: argparse.Namespace) -> None:
    from pipeline.tracking.trace.text import trace_text
    from pipeline.tracking.trace.trace import trace

    found = trace(args.file, Path.cwd(), os.environ.get("MLFLOW_TRACKING_URI"))
    print(json_text(found) if args.json else trace_text(found))

"""The whole chain by DVC, as `make repro` runs it: params first, and Ctrl+C ends it.

`dvc repro --keep-going` alone takes a stage that Ctrl+C ends for one that has failed, and goes on with the next one.
"""

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from pipeline.config.resolve import run_of
from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.resolved import FILE, Resolved
from pipeline.tracking.missing import missing_line

SECONDS = 20.0  # for a stage to end in after Ctrl+C
PARAMS = ("-m", "stages.params")
DVC = ("-m", "dvc", "repro", "--keep-going")


def repro(project: Path, targets: list[str]) -> str | None:
    """Make what params.yaml, data and code have changed since the last time, of all or of some `targets`. Returns None,
    or what is to be said of what was not made ("" where it was said: a mistake in params.yaml).

    First params.yaml, of which DVC itself needs some keys and says less; this also notices weights that were replaced.
    DVC sees no edge from a run to one that starts from its model: that model is made before, and its hash taken. A
    stage that fails costs what waits for it and no more; the page of a run whose files may not ship is made all the
    same, and the view of all runs, which waits for the pages. Raises KeyboardInterrupt when all that was running has
    ended.
    """
    if _fails(project, *PARAMS):
        return ""
    for run in _others_start_from(project):
        _fails(project, *DVC, f"train@{run}")
        _fails(project, *PARAMS)
    if not _fails(project, *DVC, *targets):
        return None
    failed = unreported(project)
    for run in failed:
        _fails(project, "-m", "stages.report", run)
    if failed and not targets:
        _fails(project, "-m", "stages.inspect")
    return missing_line(project)


def unreported(project: Path) -> list[str]:
    """Runs of params.yaml whose files may not ship and whose page does not say so yet: DVC runs no stage after one that
    fails.
    """
    found, known = [], _runs(project)
    for verdict in sorted(project.glob("reports/verify/*/verdict.json")):
        if verdict.parent.name not in known:  # taken out of params.yaml; its reports may lie there still
            continue
        page = project / "reports/evaluate" / verdict.parent.name / "report.html"
        unsaid = not page.exists() or page.stat().st_mtime < verdict.stat().st_mtime
        if unsaid and _failed(verdict):
            found.append(verdict.parent.name)
    return found


def _failed(verdict: Path) -> bool:
    try:
        return read_json(verdict).get("passed") is False
    except (InputError, AttributeError):  # damaged: it says nothing, and DVC makes it anew
        return False


def _runs(project: Path) -> dict[str, Any]:
    """The blocks of the runs; none before the stage params has run."""
    if not (project / FILE).is_file():
        return {}
    return Resolved(project / FILE).block(dict[str, Any], "runs", default={})


def _others_start_from(project: Path) -> list[str]:
    """Runs whose model others start from, each after the one that it starts from itself."""
    runs = _runs(project)
    starts = {name: str(run["model"].get("pretrained")) for name, run in runs.items() if "model" in run}
    source = {name: run_of(project, weights) for name, weights in starts.items()}
    found: list[str] = []
    for name in sorted(filter(None, source.values())):
        way: list[str] = []
        first = name
        while first and first not in found and first not in way:
            way.insert(0, first)
            first = source.get(first, "")
        found += way
    return found


def _fails(project: Path, *command: str) -> bool:
    """Whether a program ends with an error. Only this process hears of Ctrl+C, which so comes before a next stage."""
    process = subprocess.Popen([sys.executable, *command], cwd=project, process_group=0)
    before = {number: signal.signal(number, _interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        return process.wait() != 0
    except KeyboardInterrupt:
        _end(process)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _interrupt(*_: Any) -> None:
    raise KeyboardInterrupt


def _end(process: subprocess.Popen[bytes]) -> None:
    """DVC first, so that it begins no other stage; then the one that runs is interrupted, as Ctrl+C would do it."""
    running = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    process.terminate()
    process.wait()
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        if not psutil.wait_procs(running, SECONDS)[1]:
            return

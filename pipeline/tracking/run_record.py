"""What a run's files say, in the flat form that an experiment tracker takes; no tracker is imported here."""

import logging
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pipeline.core.files import read_json
from pipeline.core.lines import read_figures
from pipeline.core.params import flat
from pipeline.core.revision import git_revision
from pipeline.tracking.dvc_state import OF_DATASET, OF_RUN, RunState

KINDS = (".png", ".jpg", ".svg", ".json", ".csv", ".html")
MOST_BYTES = 4_000_000  # a larger file stays in reports/ only
# what only some files, trainings and systems have: a share of ExecuTorch's, images that pass the whole net, memory
NOT_OF_ALL = (
    *("/delegated_operators", "/images_per_second", "/data_wait_share", "peak_memory_bytes", "/too_small"),
    *("/AP_small", "/AP_medium", "/AP_large"),  # a test split may have no object of a size
)
log = logging.getLogger(__name__)


def git_tags(project: Path) -> dict[str, str]:
    """The commit and whether files differ from it, as MLflow's tags; {} outside of git."""
    found = git_revision(project)
    return {"mlflow.source.git.commit": found[0], "pocketlens.git.dirty": str(found[1]).lower()} if found else {}


def history(path: Path) -> list[tuple[str, float, int]]:
    """(metric, value, epoch) of each cell of history.csv that holds a number; the others are warned of."""
    cells = [
        (key, value, int(row["epoch"])) for row in read_figures(path) for key, value in row.items() if key != "epoch"
    ]
    return _finite(path, cells)


def final_figures(project: Path, run: str) -> list[tuple[str, float, int]]:
    """The final figures, all at step 0: float/AP, onnx_int8/AP, onnx_int8/drop, cost/macs, train/seconds, ...

    Seconds, latencies and memory are those at hand, and are left out where they are not: no state of a run has them.
    """
    reports, made = project / "reports", project / "exports" / run / "export.json"
    metrics, verdict = reports / "evaluate" / run / "metrics.json", reports / "verify" / run / "verdict.json"
    training, verify = reports / "train" / run / "training.json", reports / "verify" / run / "verify.json"
    figures = {key: value for key, value in read_json(metrics).items() if key not in ("bootstrap", "calibrated")}
    found = _finite(metrics, _leaves("float", figures))
    found += _finite(made, _leaves("cost", read_json(made)["cost"]))
    if training.is_file():
        found += _finite(training, _leaves("train", read_json(training)))
    measured = read_json(verify)["targets"] if verify.is_file() else {}
    for target, judged in read_json(verdict)["targets"].items():
        row = {**measured.get(target, {}), **judged}
        found += _finite(
            verdict, _leaves(target, {**(row["metrics"] or {}), **{k: v for k, v in row.items() if k != "metrics"}})
        )
    return found


def report_files(reports: Path, state: RunState) -> Iterator[tuple[Path, str]]:
    """The plots, sheets and tables of the run and its dataset, each with its folder among the artifacts."""
    stages = [(stage, state.dataset) for stage in OF_DATASET] + [(stage, state.run) for stage in OF_RUN]
    for stage, name in stages:
        folder = reports / stage / name
        for path in sorted([*folder.glob("*"), *folder.glob("plots/*")]):
            if path.suffix not in KINDS or not path.is_file():
                continue
            if path.stat().st_size > MOST_BYTES:
                log.warning("%s: not tracked, larger than %d bytes", path, MOST_BYTES)
                continue
            yield path, (Path("reports") / stage / path.parent.relative_to(folder)).as_posix()


def numbers(figures: dict[str, Any]) -> list[tuple[str, float]]:
    """What of `figures` is a finite number, by its keys joined with slashes."""
    found = [(legal_name(key), value) for key, value in flat(figures, "/").items()]
    return [(k, v) for k, v in found if isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)]


def legal_name(key: str) -> str:
    """A name that MLflow takes; a class label in it may hold anything. Its parts between slashes stay parts."""
    parts = [re.sub(r"[^\w.\- :]", "_", part) for part in key.split("/")]
    return "/".join(part if part.strip(". ") else f"_{part}" for part in parts if part)[:250]


def _leaves(prefix: str, tree: dict[str, Any]) -> list[tuple[str, float | None, int]]:
    """The numbers and the undefined figures of a report; its texts, verdicts and tables are left to the file."""
    return [
        (f"{prefix}/{key}", value, 0)
        for key, value in flat(tree, "/").items()
        if value is None or (isinstance(value, int | float) and not isinstance(value, bool))
    ]


def _finite(path: Path, cells: Sequence[tuple[str, float | None, int]]) -> list[tuple[str, float, int]]:
    kept = [(legal_name(key), value, step) for key, value, step in cells if value is not None and math.isfinite(value)]
    left_out = {key for key, value, _ in cells if value is None or not math.isfinite(value)}
    left = sorted(key for key in left_out if not key.endswith(NOT_OF_ALL))
    if left:
        log.warning("%s: not tracked where it is not a finite number: %s", path, ", ".join(left))
    return kept

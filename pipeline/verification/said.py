"""What `verify` says of its verdict: why files fail, or that they pass, and what the test split cannot tell."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.metrics.nothing import NOTHING_TO_LOSE
from pipeline.verification.gate import falls
from pipeline.verification.params import VerifyParams


def failed_text(report: Path, verdict: Mapping[str, Any], run: str, params: VerifyParams) -> str:
    """Why files of `verdict`, a verify.json, fail, a line each; then where to look, and the knob of falls."""
    failed = {target: row for target, row in verdict["targets"].items() if not row["passed"]}
    knob = f"runs.{run}.verify.tolerance"
    fell = any(row["metrics"] and falls(row, verdict["float"], params.per_class) for row in failed.values())
    how = f"; `{knob}` says how far figures may fall, `{knob}s` how far single ones may" if fell else ""
    lines = [f"{target}: {_reason(row)}" for target, row in failed.items()]
    page = f"`python -m stages.report {run}` draws its page all the same"
    return "\n".join([*lines, f"see {report}; nothing is registered; {page}{how}"])


def _reason(row: dict[str, Any]) -> str:
    """Why a file failed, and what its test split cannot tell."""
    small = row.get("too_small")
    return row["reason"] if not small or small in row["reason"] else f"{row['reason']}; {small}"


def passed_line(report: Path, verdict: Mapping[str, Any], images: int, params: VerifyParams) -> str:
    """How far each file of `verdict`, a verify.json whose files all pass on so many `images`, falls."""
    main, targets = verdict["main_metric"], verdict["targets"]
    each = ", ".join(
        f"{target} {row['metrics'][main]:.4f}" if row["metrics"] else f"{target} {row['reason']}"
        for target, row in targets.items()
    )
    result = f"{NOTHING_TO_LOSE}, as {verdict['nothing']}" if "nothing" in verdict else "passed"
    line = f"{report}: {main} float {verdict['float'][main]:.4f}, {each} on {images} images: {result}"
    small = {target: row["too_small"] for target, row in targets.items() if row["too_small"]}
    if small and params.small_test == "warn":
        told = [f"{target}: {why}" for target, why in small.items()]
        if len(small) == len(targets) > 1 and len(set(small.values())) == 1:
            told = [*set(small.values())]
        line += f"; but the test split is small: {', '.join(told)}"
    return line

"""The files that ship beside the trained model, as `verify` judged them."""

from typing import Any

from pipeline.metrics.nothing import NOTHING_TO_LOSE
from pipeline.report.facts import FIGURES
from pipeline.report.words import NONE, cell, figure, megabytes, percent, signed

PASSED, FAILED = "✓ passed", "✗ failed"
NOT_JUDGED = "not judged yet: stage `verify` judges the exported files"
OTHER = "reports/verify is of another evaluation than metrics.json and is left out: `dvc repro` brings both up to date"
AGREE = {"label": "same label", "objects": "same objects"}


def shipped(
    metrics: dict[str, Any], verdict: dict[str, Any], measured: dict[str, Any], made: dict[str, Any], nothing: str = ""
) -> dict[str, Any]:
    """`names` of the files, a `table` of (what, of the trained model, of each file), `notes` of (name, what is to be
    said of it), `passed` (None without a verdict), `problem` (why there is none), `smallest` (name and bytes, of int8).

    `verdict` is verdict.json, `made` export.json, `nothing` why the trained model finds nothing; of `measured`,
    verify.json as it lies there, only what a clock says is taken.
    """
    problem = "" if verdict else NOT_JUDGED
    if any(metrics.get(key) != value for key, value in verdict.get("float", {}).items()):
        problem = OTHER
    if problem:
        return {"names": [], "table": [], "notes": [], "passed": None, "problem": problem, "smallest": None}
    passed = NOTHING_TO_LOSE if nothing else PASSED
    main, rows = verdict["main_metric"], verdict["targets"]
    timed = {name: measured.get("targets", {}).get(name, {}) for name in rows}
    weights = megabytes(made.get("float_weights_bytes"))
    table = [
        (
            "verdict",
            "",
            [passed if row["passed"] else FAILED for row in rows.values()],
        ),
        (
            FIGURES[main][0],
            figure(metrics[main]),
            [cell((row.get("metrics") or {}).get(main)) for row in rows.values()],
        ),
        ("drop", "", [signed(row.get("drop")) for row in rows.values()]),
        ("drop lies in (95\N{NO-BREAK SPACE}%)", "", [_between(row.get("drop_interval")) for row in rows.values()]),
        ("tolerance", "", [cell(row.get("tolerance")) for row in rows.values()]),
        ("agrees with the trained model", "", [_agreement(row.get("agreement")) for row in rows.values()]),
        ("size", weights, [megabytes(row.get("size_bytes")) for row in rows.values()]),
        ("of the size of its float file", "", [percent(row.get("size_ratio")) for row in rows.values()]),
        ("layers in int8", "", [percent(row.get("int8_layers")) for row in rows.values()]),
        *((f"ms an image, threads: {n}", "", [_median(row, n) for row in timed.values()]) for n in ("1", "2")),
        ("memory", "", [megabytes(row.get("peak_memory_bytes")) for row in timed.values()]),
    ]
    int8 = [name for name, facts in made.get("targets", {}).items() if facts.get("int8") and name in rows]
    sizes = {name: size for name in int8 if (size := rows[name].get("size_bytes"))}
    return {
        "names": [*rows],
        "table": table,
        "notes": [(name, note) for name, row in rows.items() for note in _notes(row)],
        "passed": verdict["passed"],
        "problem": "",
        "smallest": min(sizes.items(), key=lambda item: item[1], default=None),
    }


def _notes(row: dict[str, Any]) -> list[str]:
    fallen = {label: drop for label, drop in (row.get("drop_per_class") or {}).items() if drop is not None and drop > 0}
    notes = [row["reason"], row.get("too_small")]
    if fallen:
        label = max(fallen, key=lambda label: fallen[label])
        notes.append(f"of the labels {label} falls most, by {fallen[label]:.4f}")
    return [note for note in notes if note]


def _between(pair: list[float] | None) -> str:
    return f"{signed(pair[0])} to {signed(pair[1])}" if pair else NONE


def _agreement(row: dict[str, float | None] | None) -> str:
    """The first figure of how alike the answers are."""
    for key, value in (row or {}).items():
        if value is not None:
            return f"{percent(value)} {AGREE.get(key, key)}"
    return NONE


def _median(row: dict[str, Any], threads: str) -> str:
    timed = (row.get("latency_ms_by_threads") or {}).get(threads)
    return f"{timed['median']:.1f}" if timed else NONE

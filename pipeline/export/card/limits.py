"""What a trained run is weak at: labels, sizes, few examples; as Markdown for its model card."""

from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core.files import read_json
from pipeline.core.markdown import table
from pipeline.core.sample import Dataset, Sample, read_dataset, read_samples
from pipeline.metrics.matching import object_pairs
from pipeline.metrics.metrics import paired, shown
from pipeline.ops.preprocess import frame_of

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec

FEW_TO_LEARN, FEW_TO_JUDGE = 100, 30  # examples of a label
NAMED = 3  # labels, confusions
DRAWN = "data/sample/"  # where the chain's own data lie


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the chain's reports say: `summary` of ingest, `metrics` of the trained net on test, and of the test
    images the `truth` with what the net shows for each, in one order.
    """

    dataset: Dataset
    summary: dict[str, Any]
    metrics: dict[str, Any]
    truth: list[Sample]
    shown: list[Sample]


def read_evidence(spec: "ModelSpec", data: Path, reports: Path) -> Evidence:
    """`data`: the ingested dataset; `reports`: of all stages. Raises InputError naming a file that is missing."""
    evaluated = reports / "evaluate" / spec.run
    truth, predicted = paired(read_samples(data / "test"), read_samples(evaluated / "predictions"))
    seen = [shown(s, spec) for s in predicted]
    summary = read_json(reports / "ingest" / spec.dataset / "summary.json")
    return Evidence(read_dataset(data), summary, read_json(evaluated / "metrics.json"), truth, seen)


def limits(spec: "ModelSpec", evidence: Evidence) -> str:
    lines = []
    if str(evidence.dataset.source.get("path", "")).startswith(DRAWN):
        lines.append("It learned from images drawn by code: it shows how the chain works, not what photos need.")
    lines += _weak_labels(evidence.metrics)
    for split, few, why in (("train", FEW_TO_LEARN, "learn"), ("test", FEW_TO_JUDGE, "be judged")):
        counts = evidence.summary["labels"].get(split, {})
        rare = [f"{label} ({counts.get(label, 0)})" for label in spec.labels if counts.get(label, 0) < few]
        if rare:
            lines.append(f"Fewer than {few} examples to {why} from in {split}: {some(rare, 10)}.")
    table = "" if spec.task == "classify" else _found_by_size(spec, evidence)
    return "".join(f"- {line}\n" for line in lines) + table


def _weak_labels(metrics: dict[str, Any]) -> list[str]:
    """The labels with the lowest figures, and of a classifier what is taken for what most often."""
    lines = []
    figure = "AP" if "AP" in metrics else "f1"
    own = {label: row[figure] for label, row in metrics.get("per_class", {}).items() if row[figure] is not None}
    if len(own) > 1:
        lowest = sorted(own, key=lambda label: own[label])[: min(NAMED, len(own) - 1)]  # the best is not among them
        lines.append(f"Lowest {figure}: {some([f'{label} {own[label]:.3f}' for label in lowest], NAMED)}.")
    if "confusion" in metrics:
        labels, matrix = metrics["confusion"]["labels"], metrics["confusion"]["matrix"]
        wrong = sorted(
            (-n, truth, said)
            for truth, row in zip(labels, matrix, strict=False)
            for said, n in zip(labels, row, strict=False)
            if n and truth != said
        )
        told = [f"{truth} taken for {said} ({-n})" for n, truth, said in wrong[:NAMED]]
        if told:
            lines.append(f"Most frequent mistakes on test: {some(told, NAMED)}.")
    return lines


def _found_by_size(spec: "ModelSpec", evidence: Evidence) -> str:
    """How many true objects are found (IoU 0.5, right label), by the side of a square of their area on the canvas."""
    edges = [0, spec.size / 16, spec.size / 8, spec.size / 4, spec.size / 2, float("inf")]
    counts = [[0, 0] for _ in edges[1:]]
    for truth, found, width, height in object_pairs(evidence.truth, evidence.shown):
        frame = frame_of(width, height, spec.size, spec.resize)
        side = spec.size * sqrt(truth.box[2] * frame.scale_x * truth.box[3] * frame.scale_y)
        row = counts[max(i for i, edge in enumerate(edges[:-1]) if side >= edge)]
        row[0] += 1
        row[1] += found is not None
    rows = [
        (f"{low:g} and more" if high == edges[-1] else f"{low:g} to {high:g}", str(n), f"{found / n:.2f}")
        for low, high, (n, found) in zip(edges[:-1], edges[1:], counts, strict=True)
        if n
    ]
    head = ("side on the canvas, pixels", "objects in test", "found")
    chosen = ", chosen on val," if "chosen" in evidence.metrics else ""
    score = f"{spec.predict['score']:g}{chosen}"
    return f"- By size, at the score of {score} that it shows objects from:\n\n{table(head, rows)}\n\n"


def some(words: list[str], most: int) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")

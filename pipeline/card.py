"""The model card: README.md of an export folder, in Hugging Face's form (YAML in front, then prose and tables).

Every figure is read from a file of the chain. What is measured on the exported files comes later, from `verify`; a
card cannot hold it, nor the lock state that covers the card.
"""

import json
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.files import read_json
from pipeline.matching import object_pairs
from pipeline.metrics import main_metric, paired
from pipeline.preprocess import frame_of
from pipeline.sample import Dataset, Sample, read_dataset, read_samples

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from pipeline.models.spec import ModelSpec

FEW_TO_LEARN, FEW_TO_JUDGE = 100, 30  # examples of a label
NAMED = 3  # labels, confusions
DRAWN = "data/sample/"  # where the chain's own data lie
PIPELINES = {"classify": "image-classification", "localize": "object-detection", "detect": "object-detection"}
FIGURES = {  # of metrics.json: the metric's id on the hub, and its name here
    "accuracy": ("accuracy", "accuracy"),
    "macro_f1": ("f1", "F1, mean of the labels"),
    "clip_accuracy": ("accuracy", "accuracy of whole clips"),
    "AP": ("mean_average_precision", "AP, COCO, IoU 0.50 to 0.95"),
    "AP50": ("mean_average_precision", "AP at IoU 0.50"),
    "AP75": ("mean_average_precision", "AP at IoU 0.75"),
    "presence_accuracy": ("accuracy", "accuracy of object or none"),
    "mean_iou": ("mean_iou", "mean IoU"),
    "nme": ("nme", "NME of landmarks (an error: 0 is best)"),
    "pck": ("pck", "PCK of landmarks at 0.1 of the box"),
    "landmark_AP": ("mean_average_precision", "AP of landmarks"),
}


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the chain's reports say: `summary` of ingest, `metrics` of the trained net on test, and of the test
    pictures the `truth` with what the net shows for each, in one order.
    """

    dataset: Dataset
    summary: dict[str, Any]
    metrics: dict[str, Any]
    truth: list[Sample]
    shown: list[Sample]


def read_evidence(spec: "ModelSpec", data: Path, reports: Path) -> Evidence:
    """`data`: the ingested dataset; `reports`: the folder of all stages' reports. Raises InputError for a missing one."""
    evaluated = reports / "evaluate" / spec.run
    truth, predicted = paired(read_samples(data / "test"), read_samples(evaluated / "predictions"))
    floor = spec.predict["score"]
    shown = [replace(s, objects=[o for o in s.objects if (o.score or 0) >= floor]) for s in predicted]
    summary = read_json(reports / "ingest" / spec.dataset / "summary.json")
    return Evidence(read_dataset(data), summary, read_json(evaluated / "metrics.json"), truth, shown)


def model_card(spec: "ModelSpec", facts: dict[str, Any], evidence: Evidence | None) -> str:
    """`facts` are those of export.json; without `evidence` the card says that nothing was measured."""
    data = _data(spec, evidence) if evidence else "Nothing is known of the data: exported outside of the chain.\n"
    results = _results(evidence) if evidence else "Not measured: exported outside of the chain.\n"
    limits = _limits(spec, evidence) if evidence else "- Nothing was measured.\n"
    return f"""---
{_front_matter(spec, facts, evidence)}
---

# {spec.run}: {spec.task} on {spec.dataset}

A {spec.backbone} for phones: {_purpose(spec)} Labels: {_some(spec.labels, len(spec.labels))}.

## Files

{_files(facts)}

Every file takes uint8 RGB [1, {spec.size}, {spec.size}, 3] and has the normalization inside. `preprocess.json` says how a
picture becomes that ({spec.resize}) and what the outputs mean ({", ".join(f"`{name}`" for name in spec.outputs)});
`samples/` has it as code for Android and iOS. `golden/` has pictures, inputs and outputs to prove an app with, and
`python replay.py` proves this folder with them where only numpy, Pillow and a runtime are installed.

## Limits

{limits}- It answers for pictures like those it was judged on. Others were not tried.

## Data

{data}
Int8 ranges come from {facts["calibration"]["used"]} of the train pictures ({facts["calibration"]["asked"]} were asked for).

## Training

{_training(spec)}

## Evaluation

{results}
These are the trained net's. The files are judged after this card is written, on the same pictures, with size and speed:
`verify.json`, beside this card in what MLflow holds, else `reports/verify/{spec.run}/verify.json` of the project;
`pocketlens trace` on any of the files says whether it passed.

## Licence

Not stated. The data's licence and that of any pretrained weights apply; fill this in before you publish the model.

## Lineage

{_lineage(spec, facts)}
"""


def _front_matter(spec: "ModelSpec", facts: dict[str, Any], evidence: Evidence | None) -> str:
    from huggingface_hub import ModelCardData

    runtimes = sorted({target.rsplit("_", 1)[0] for target in facts["targets"]})
    numbers = ["int8"] if any(target.endswith("int8") for target in facts["targets"]) else []
    results = _eval_results(spec, facts, evidence) if evidence else None
    head = ModelCardData(
        license="unknown",
        library_name=runtimes[0] if "onnx" not in runtimes else "onnx",
        pipeline_tag=PIPELINES[spec.task],
        tags=["pocketlens", *runtimes, *numbers, "mobile", spec.backbone, *(["keypoint-detection"] * bool(spec.landmarks))],
        datasets=[spec.dataset],
        metrics=list(dict.fromkeys(r.metric_type for r in results)) if results else None,
        model_name=f"pocketlens-{spec.run}" if results else None,
        eval_results=results,
    )
    return head.to_yaml()


def _eval_results(spec: "ModelSpec", facts: dict[str, Any], evidence: Evidence) -> "list[EvalResult]":
    from huggingface_hub import EvalResult

    return [
        EvalResult(
            task_type=PIPELINES[spec.task],
            dataset_type=spec.dataset,
            dataset_name=spec.dataset,
            dataset_split="test",
            dataset_revision=facts["made_from"]["dvc"]["data"],
            metric_type=kind,
            metric_name=name,
            metric_value=evidence.metrics[key],
        )
        for key, (kind, name) in FIGURES.items()
        if evidence.metrics.get(key) is not None
    ]


def _purpose(spec: "ModelSpec") -> str:
    points = f", each with {len(spec.landmarks)} landmarks" if spec.landmarks else ""
    return {
        "classify": "it names what a picture shows, one label for the whole picture.",
        "localize": f"it says whether the one object is there, and its box and label{points}.",
        "detect": f"it finds all objects of a picture, as boxes with a label{points}.",
    }[spec.task]


def _files(facts: dict[str, Any]) -> str:
    rows = [
        (f"`{r['file']}`", target, f"{r['size_bytes'] / 1e6:.2f} MB", r.get("settings", "float32"))
        for target, r in facts["targets"].items()
    ]
    cost = facts["cost"]
    return (
        f"{_table(('file', 'target', 'size', 'numbers'), rows)}\n\nOne picture takes {cost['macs'] / 1e6:.1f} M "
        f"multiply-adds; {cost['params'] / 1e6:.2f} M parameters."
    )


def _limits(spec: "ModelSpec", evidence: Evidence) -> str:
    lines = []
    if str(evidence.dataset.source.get("path", "")).startswith(DRAWN):
        lines.append("It learned from pictures drawn by code: it shows how the chain works, not what photos need.")
    lines += _weak_labels(evidence.metrics)
    for split, few, why in (("train", FEW_TO_LEARN, "learn"), ("test", FEW_TO_JUDGE, "be judged")):
        counts = evidence.summary["labels"].get(split, {})
        rare = [f"{label} ({counts.get(label, 0)})" for label in spec.labels if counts.get(label, 0) < few]
        if rare:
            lines.append(f"Fewer than {few} examples to {why} from in {split}: {_some(rare, 10)}.")
    table = "" if spec.task == "classify" else _found_by_size(spec, evidence)
    return "".join(f"- {line}\n" for line in lines) + table


def _weak_labels(metrics: dict[str, Any]) -> list[str]:
    """The labels with the lowest figures, and of a classifier what is taken for what most often."""
    lines = []
    figure = "AP" if "AP" in metrics else "f1"
    own = {label: row[figure] for label, row in metrics.get("per_class", {}).items() if row[figure] is not None}
    if len(own) > 1:
        lowest = sorted(own, key=lambda label: own[label])[:NAMED]
        lines.append(f"Lowest {figure}: {_some([f'{label} {own[label]:.3f}' for label in lowest], NAMED)}.")
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
            lines.append(f"Most frequent mistakes on test: {_some(told, NAMED)}.")
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
    return f"- By size, at the score of {spec.predict['score']:g} that it shows objects from:\n\n{_table(head, rows)}\n\n"


def _data(spec: "ModelSpec", evidence: Evidence) -> str:
    summary, source = evidence.summary, evidence.dataset.source
    splits = summary["labels"]
    rows = [(label, *(str(splits.get(s, {}).get(label, 0)) for s in splits)) for label in spec.labels]
    rows.append(("pictures", *(str(summary["splits"].get(s, 0)) for s in splits)))
    refused = f"; {summary['refused']} refused: {json.dumps(summary['by_rule'])}" if summary["refused"] else ""
    leaks = summary["leaks"]
    return f"""From `{source.get("path")}`, format {summary["format"]}: {summary["seen"]} pictures seen, {summary["kept"]} kept{refused}.
Groups and near-duplicates ({summary["near_duplicate_pairs"]} pairs) are kept in one split; on both sides of a split are
{leaks["groups"]} groups and {leaks["near_duplicates"]} near-duplicates.

{_table(("objects or pictures of", *splits), rows)}
"""


def _training(spec: "ModelSpec") -> str:
    described = {"backbone": spec.backbone, "head": spec.head, "size": spec.size, **spec.trained}
    return f"```json\n{json.dumps(described, indent=1)}\n```"


def _results(evidence: Evidence) -> str:
    metrics = evidence.metrics
    rows = [(name, f"{metrics[key]:.4f}") for key, (_, name) in FIGURES.items() if metrics.get(key) is not None]
    clips = f" of {metrics['n_clips']} clips" if "n_clips" in metrics else ""
    text = f"On the {metrics['n_images']} test pictures{clips}; `{main_metric(metrics['task'])}` is the figure that files are held to.\n\n"
    text += _table(("figure", "value"), rows) + "\n"
    if own := metrics.get("per_class"):
        keys = list(next(iter(own.values())))
        cells = [(label, *(_number(row[k]) for k in keys)) for label, row in own.items()]
        text += "\n" + _table(("label", *keys), cells) + "\n"
    return text


def _lineage(spec: "ModelSpec", facts: dict[str, Any]) -> str:
    made, dvc = facts["made_from"], facts["made_from"]["dvc"]
    rows = [
        (f"`data/ingested/{spec.dataset}`", f"DVC md5 `{dvc['data']}`"),
        (f"`models/{spec.run}`", f"DVC md5 `{dvc['model']}`"),
        *((f"`{name}`", f"sha256 `{digest}`") for name, digest in made.items() if name != "dvc"),
    ]
    query = f"tags.`pocketlens.run` = '{spec.run}' and tags.`pocketlens.data` = '{dvc['data']}'"
    return f"""{_table(("made from", "hash"), rows)}

The md5s are those of dvc.lock, so `git log -S{dvc["model"].removesuffix(".dir")} -- dvc.lock` finds the commit.
In MLflow: `{query}`. Its tag `pocketlens.lock` is the lock state of the whole chain; it
covers this folder and so cannot stand in it: `pocketlens trace` prints it."""


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, tuple("---" for _ in head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _number(value: Any) -> str:
    return "undefined" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)


def _some(words: list[str], most: int) -> str:
    return ", ".join(words[:most]) + (f" and {len(words) - most} more" if len(words) > most else "")

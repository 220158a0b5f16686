"""The model card: README.md of an export folder, in Hugging Face's form (YAML in front, then prose and tables).

Every figure is read from a file of the chain. What is measured on the exported files comes later, from `verify`; a
card cannot hold it, nor the lock state that covers the card.
"""

import json
from typing import TYPE_CHECKING, Any

from pipeline.core.markdown import table
from pipeline.core.params import flat
from pipeline.core.tables import told
from pipeline.export.card.hub import FIGURES, front_matter
from pipeline.export.card.limits import Evidence, limits, some
from pipeline.metrics.metrics import main_metric

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec


def model_card(spec: "ModelSpec", facts: dict[str, Any], evidence: Evidence | None) -> str:
    """`facts` are those of export.json; without `evidence` the card says that nothing was measured."""
    calibration = facts["calibration"]
    data = _data(spec, evidence) if evidence else "Nothing is known of the data: exported outside of the chain.\n"
    weak = limits(spec, evidence) if evidence else "- Nothing was measured.\n"
    return f"""---
{front_matter(spec, facts, evidence.metrics if evidence else None)}
---

# {spec.run}: {spec.task} on {spec.dataset}

A {spec.backbone} for phones: {_purpose(spec)} Labels: {some(spec.labels, len(spec.labels))}.

## Files

{_files(facts)}

Every file takes uint8 RGB [1, {spec.size}, {spec.size}, 3] and has the normalization inside. `preprocess.json` says how
an image becomes that ({_way(spec)}) and what the outputs mean; `samples/` has it as code for Android and iOS.
`golden/` has images, inputs and outputs to prove an app with; `python replay.py` proves this folder with them where
only numpy, Pillow and a runtime are installed.

## Limits

{weak}- It answers for images like those it was judged on. Others were not tried.

## Data

{data}
Int8 ranges come from {calibration["used"]} of the train images ({calibration["asked"]} were asked for).

## Training

{_training(spec)}

## Evaluation

{_evaluation(spec, evidence)}

## Licence

Not stated. The data's licence and that of any pretrained weights apply; fill this in before you publish the model.

## Lineage

{_lineage(spec, facts)}
"""


def _way(spec: "ModelSpec") -> str:
    """From an image to the input, in names."""
    return ", then ".join([spec.resize, *(" ".join(map(str, step.values())) for step in spec.preprocess)])


def _purpose(spec: "ModelSpec") -> str:
    points = f", each with {len(spec.landmarks)} landmarks" if spec.landmarks else ""
    return {
        "classify": "it names what an image shows, one label for the whole image.",
        "localize": f"it says whether the one object is there, and its box and label{points}.",
        "detect": f"it finds all objects of an image, as boxes with a label{points}.",
    }[spec.task]


def _files(facts: dict[str, Any]) -> str:
    rows = [
        (
            *(f"`{r['file']}`", target, f"{r['size_bytes'] / 1e6:.2f} MB", r.get("settings", "float32")),
            *(r["runtime"], r["oldest_version"] or "not known"),
        )
        for target, r in facts["targets"].items()
    ]
    cost, head = facts["cost"], ("file", "target", "size", "numbers", "runtime", "oldest version known to run it")
    return (
        f"{table(head, rows)}\n\nA newer version should run a file too; of older ones nothing is promised. One image "
        f"takes {cost['macs'] / 1e6:.1f} M multiply-adds; {cost['params'] / 1e6:.2f} M parameters."
    )


def _data(spec: "ModelSpec", evidence: Evidence) -> str:
    summary, source = evidence.summary, evidence.dataset.source
    splits = summary["labels"]
    rows = [(label, *(str(splits.get(s, {}).get(label, 0)) for s in splits)) for label in spec.labels]
    rows.append(("images", *(str(summary["splits"].get(s, 0)) for s in splits)))
    refused = f"; {summary['refused']} refused: {json.dumps(summary['by_rule'])}" if summary["refused"] else ""
    leaks, layers = summary["leaks"], source.get("layers", {})
    relabelled = ", ".join(f"`{layer}` (sha256 {sha256})" for layer, sha256 in layers.items())
    relabelled = f"Labelled anew since, in this order: {relabelled}.\n" if layers else ""
    return f"""From `{told(str(source.get("path")))}`, format {summary["format"]}.
{relabelled}\
{summary["seen"]} images seen, {summary["kept"]} kept{refused}.
Groups and near-duplicates ({summary["near_duplicate_pairs"]} pairs) are kept in one split; on both sides of a split are
{leaks["groups"]} groups and {leaks["near_duplicates"]} near-duplicates.

{table(("objects or images of", *splits), rows)}
"""


def _training(spec: "ModelSpec") -> str:
    described = {"backbone": spec.backbone, "head": spec.head, "size": spec.size, **spec.trained}
    rows = [(key, value if isinstance(value, str) else json.dumps(value)) for key, value in flat(described).items()]
    return table(("what", "value"), rows)


def _evaluation(spec: "ModelSpec", evidence: Evidence | None) -> str:
    results = _results(evidence) if evidence else "Not measured: exported outside of the chain.\n"
    if fit := spec.predict.get("calibration"):
        results += f"""
Scores are calibrated, by the validation split ({fit["by"]}): `decode` of `preprocess.json` says how. Which objects are
shown is decided by the scores before that, and so are the figures above.
"""
    return f"""{results}
These are the trained net's. The files are judged after this card is written, on the same images, with size and speed:
`verify.json`, beside this card in what MLflow holds, else `reports/verify/{spec.run}/verify.json` of the project;
`pocketlens trace` on any of the files says whether it passed."""


def _results(evidence: Evidence) -> str:
    metrics = evidence.metrics
    rows = [(name, f"{metrics[key]:.4f}") for key, (_, name) in FIGURES.items() if metrics.get(key) is not None]
    clips = f" of {metrics['n_clips']} clips" if "n_clips" in metrics else ""
    main = main_metric(metrics["task"])
    text = f"On the {metrics['n_images']} test images{clips}; `{main}` is the figure that files are held to.\n\n"
    text += table(("figure", "value"), rows) + "\n"
    if own := metrics.get("per_class"):
        keys = list(next(iter(own.values())))
        cells = [(label, *(_number(row[k]) for k in keys)) for label, row in own.items()]
        text += "\n" + table(("label", *keys), cells) + "\n"
    return text


def _lineage(spec: "ModelSpec", facts: dict[str, Any]) -> str:
    made, dvc = facts["made_from"], facts["made_from"]["dvc"]
    rows = [
        (f"`data/ingested/{spec.dataset}`", f"DVC md5 `{dvc['data']}`"),
        (f"`models/{spec.run}`", f"DVC md5 `{dvc['model']}`"),
        *((f"`{name}`", f"sha256 `{digest}`") for name, digest in made.items() if name != "dvc"),
    ]
    query = f"tags.`pocketlens.run` = '{spec.run}' and tags.`pocketlens.data` = '{dvc['data']}'"
    return f"""{table(("made from", "hash"), rows)}

The md5s are those of dvc.lock, so `git log -S{dvc["model"].removesuffix(".dir")} -- dvc.lock` finds the commit.
The MLflow runs of this model have these tags:

```
{query}
```

Their tag `pocketlens.lock` is the state of the whole chain. It covers this folder and so cannot stand in it;
`pocketlens trace` prints it, with the run's id and all parameters."""


def _number(value: Any) -> str:
    return "undefined" if value is None else f"{value:.4f}" if isinstance(value, float) else str(value)

"""The metadata of a model card as Hugging Face's hub reads it: huggingface_hub, and only here."""

from typing import TYPE_CHECKING, Any

from pipeline.runtimes.targets import TARGETS

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

    from pipeline.core.spec import ModelSpec

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


def front_matter(spec: "ModelSpec", facts: dict[str, Any], metrics: dict[str, Any] | None) -> str:
    """YAML for the head of README.md; `facts` are those of export.json, `metrics` the trained net's on test."""
    from huggingface_hub import ModelCardData

    made = [TARGETS[target] for target in facts["targets"]]
    runtimes = sorted({row.engine.tag for row in made})
    numbers = ["int8"] if any(row.int8 for row in made) else []
    results = _eval_results(spec, facts, metrics) if metrics else None
    head = ModelCardData(
        license="unknown",
        library_name=runtimes[0] if "onnx" not in runtimes else "onnx",
        pipeline_tag=PIPELINES[spec.task],
        tags=[
            "pocketlens",
            *runtimes,
            *numbers,
            "mobile",
            spec.backbone,
            *(["keypoint-detection"] * bool(spec.landmarks)),
        ],
        datasets=[spec.dataset],
        metrics=list(dict.fromkeys(r.metric_type for r in results)) if results else None,
        model_name=f"pocketlens-{spec.run}" if results else None,
        eval_results=results,
    )
    return head.to_yaml()


def _eval_results(spec: "ModelSpec", facts: dict[str, Any], metrics: dict[str, Any]) -> "list[EvalResult]":
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
            metric_value=metrics[key],
        )
        for key, (kind, name) in FIGURES.items()
        if metrics.get(key) is not None
    ]

"""The files that ship, each in its own runtime on the test split, against the float model: may they ship?"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import InputError
from pipeline.export import exported_file
from pipeline.files import new_folder, read_json, size_bytes, write_json
from pipeline.matching import iou, match
from pipeline.metrics import main_metric, paired, score
from pipeline.mistakes import mistake, mistakes_sheet
from pipeline.params import ExportParams
from pipeline.preprocess import open_image, resize
from pipeline.sample import Dataset, Sample, read_dataset, read_samples
from pipeline.unrun import NOT_MEASURED, unrun

if TYPE_CHECKING:
    from pipeline.models.spec import ModelSpec
    from pipeline.runtimes import Runtime

SIZE_RATIO = 0.35  # of the float file: what int8 is for
NAMED, DRAWN = 5, 12  # pictures that a failure names and draws
CLOSE = 0.9  # IoU
EPSILON = 1e-9  # a drop of exactly the tolerance passes


def verify_run(exports: Path, evaluated: Path, truth_folder: Path, report: Path, params: ExportParams) -> str:
    """Judge every target of `params` in folder `exports`; returns a line that says how far each one falls.

    `evaluated` holds the trained model's metrics and predictions on the same pictures. Writes `report`: verify.json;
    metrics.json, its figures that are the same every time; and, of a target that fails, the pictures that it does
    worse on. Raises InputError, after writing, that names what failed, the class and the pictures.
    """
    from pipeline.models.spec import read_spec

    spec = read_spec(exports / "model.json")
    truth, exact = paired(read_samples(truth_folder), read_samples(evaluated / "predictions"))
    case = _Case(
        exports=exports,
        truth_folder=truth_folder,
        spec=spec,
        dataset=read_dataset(truth_folder.parent),
        truth=truth,
        exact=exact,
        floor=float(read_dataset(evaluated / "predictions").source["score"]),
        metrics=read_json(evaluated / "metrics.json"),
        main=main_metric(spec.task),
        tolerance=params.tolerance,
    )
    with new_folder(report) as folder:
        targets: dict[str, dict[str, Any]] = {t: _row(case, t, folder) for t in params.targets}
        verdict = {
            "passed": all(row["passed"] for row in targets.values()),
            "main_metric": case.main,
            "float": case.metrics,
            "targets": targets,
        }
        write_json(folder / "verify.json", verdict)
        write_json(folder / "metrics.json", _steady(case, targets))
    failed = [f"{target}: {row['reason']}" for target, row in targets.items() if not row["passed"]]
    if failed:
        raise InputError("\n".join([*failed, f"see {report}; nothing is registered"]))
    falls = ", ".join(
        f"{target} {row['metrics'][case.main]:.4f}" if row["metrics"] else f"{target} {row['reason']}"
        for target, row in targets.items()
    )
    return f"{report}: {case.main} float {case.metrics[case.main]:.4f}, {falls} on {len(truth)} pictures: passed"


@dataclass(frozen=True, slots=True)
class _Case:
    """What all targets of a run are judged by; `exact` is what the trained net predicts for `truth`."""

    exports: Path
    truth_folder: Path
    spec: "ModelSpec"
    dataset: Dataset
    truth: list[Sample]
    exact: list[Sample]
    floor: float
    metrics: dict[str, Any]
    main: str
    tolerance: float


def _row(case: _Case, target: str, folder: Path) -> dict[str, Any]:
    """The target's row of verify.json. A file that is not there, broken or cannot be run here has no figures."""
    from pipeline.runtimes import NOT_RUN, open_runtime

    try:
        path = exported_file(case.exports, target)
        if target in NOT_RUN:
            size = _size(case.exports, target)
            row = unrun(case.exports, path, NOT_RUN[target], _too_large(target, size))
            return {**row, "tolerance": case.tolerance, **size}
        runtime = open_runtime(target, path)
    except InputError as error:
        empty = dict.fromkeys((*NOT_MEASURED, "size_bytes", "size_ratio", "size_ratio_to"))
        return {**empty, "tolerance": case.tolerance, "passed": False, "reason": str(error)}
    return _judge(case, target, runtime, folder)


def _judge(case: _Case, target: str, runtime: "Runtime", folder: Path) -> dict[str, Any]:
    """The row of a target that runs; draws its worst pictures into `folder` if it fails."""
    from pipeline.runtimes import latency, predict_samples

    spec, truth = case.spec, case.truth
    close = predict_samples(runtime, spec, case.truth_folder, truth, case.floor)
    metrics = score(spec.task, truth, close, case.dataset)
    row = {
        "metrics": metrics,
        "drop": _drop(case.metrics[case.main], metrics[case.main]),
        "drop_per_class": _drop_per_class(case, close, metrics),
        "tolerance": case.tolerance,
        "agreement": agreement(spec, case.exact, close),
        **_size(case.exports, target),
        "golden_difference": _golden_difference(runtime, case.exports, spec),
        "latency_ms": latency(runtime, _canvas(case.truth_folder / truth[0].file_name, spec)),
    }
    worse = _worse(spec, truth, case.exact, close)
    reason = _reason(case, target, row, [t.id for t, _ in worse[:NAMED]])
    if reason and worse:
        gold, found = [t for t, _ in worse[:DRAWN]], [_shown(p, spec) for _, p in worse[:DRAWN]]
        mistakes_sheet(spec.task, case.truth_folder, gold, found, case.dataset, folder / f"worst_{target}.jpg")
    return {**row, "passed": not reason, "reason": reason}


def _drop_per_class(case: _Case, close: list[Sample], metrics: dict[str, Any]) -> dict[str, float | None]:
    """How far the main metric falls for each label; None where a label does not occur."""
    if case.spec.task == "detect":
        exact, per_class = case.metrics["per_class"], metrics["per_class"]
        return {label: _drop(exact[label][case.main], per_class[label][case.main]) for label in case.dataset.labels}
    return {
        label: _drop(_of_class(case, label, case.exact), _of_class(case, label, close)) for label in case.dataset.labels
    }


def _of_class(case: _Case, label: str, predicted: list[Sample]) -> float | None:
    """The main metric on the pictures of `label` alone."""
    pairs = [
        (t, p)
        for t, p in zip(case.truth, predicted, strict=True)
        if t.label == label or any(o.label == label for o in t.objects)
    ]
    if not pairs:
        return None
    figures = score(case.spec.task, [t for t, _ in pairs], [p for _, p in pairs], case.dataset)
    figure: float | None = figures[case.main]
    return figure


def agreement(spec: "ModelSpec", exact: list[Sample], close: list[Sample]) -> dict[str, float | None]:
    """How alike two models' answers are, whatever the truth, from 0 to 1.

    Classify: the share of pictures with the same label. Else, over the objects that are shown: `objects`, the share
    that both found (IoU 0.5, same label; Dice's coefficient); `objects_iou90`, the share whose boxes lie within 0.9;
    and the mean IoU of all that both found.
    """
    if spec.task == "classify":
        same = sum(a.label == b.label for a, b in zip(exact, close, strict=True))
        return {"label": round(same / len(exact), 6)}
    overlaps: list[float] = []
    total = 0
    for a, b in zip(exact, close, strict=True):
        left, right = _shown(a, spec).objects, _shown(b, spec).objects
        found = match(left, right)
        each = iou(right, left)
        overlaps += [float(each[p, t]) for t, p in found.items()]
        total += len(left) + len(right)
    close_by = sum(o >= CLOSE for o in overlaps)
    return {
        "objects": round(2 * len(overlaps) / total, 6) if total else None,
        "objects_iou90": round(2 * close_by / total, 6) if total else None,
        "mean_iou": round(sum(overlaps) / len(overlaps), 6) if overlaps else None,
    }


def _shown(sample: Sample, spec: "ModelSpec") -> Sample:
    """Without the unsure objects that only AP looks at. Ground truth, which has no scores, stays whole."""
    kept = [o for o in sample.objects if o.score is None or o.score >= spec.predict["score"]]
    return replace(sample, objects=kept)


def _drop(exact: float | None, close: float | None) -> float | None:
    return None if exact is None or close is None else round(exact - close, 6)


def _size(exports: Path, target: str) -> dict[str, Any]:
    """`size_ratio` is over the float file of the same runtime, or the trained weights where that was not exported."""
    made = read_json(exports / "export.json")
    size = size_bytes(exported_file(exports, target))
    counterpart = target.replace("_int8", "_float")
    if counterpart.endswith("_float") and counterpart in made["targets"]:
        whole, name = made["targets"][counterpart]["size_bytes"], counterpart
    else:
        whole, name = made["float_weights_bytes"], "model.safetensors"
    return {"size_bytes": size, "size_ratio": round(size / whole, 4), "size_ratio_to": name}


def _golden_difference(runtime: "Runtime", exports: Path, spec: "ModelSpec") -> float:
    """The largest absolute difference from the trained net's outputs on the golden inputs."""
    with np.load(exports / "golden" / "golden.npz") as golden:
        outputs = runtime.run(golden["image"])
        pairs = zip(outputs, (golden[name] for name in spec.outputs), strict=True)
        return round(max(float(np.abs(a - b).max()) for a, b in pairs), 7)


def _canvas(picture: Path, spec: "ModelSpec") -> NDArray[np.uint8]:
    return np.stack([resize(open_image(picture), spec.size, spec.resize)[0]])


def _worse(
    spec: "ModelSpec", truth: list[Sample], exact: list[Sample], close: list[Sample]
) -> list[tuple[Sample, Sample]]:
    """(truth, prediction) of the pictures that the file does worse on than the float model, the worst first."""
    rows = []
    for t, a, b in zip(truth, exact, close, strict=True):
        by = mistake(spec.task, t, _shown(b, spec))[0] - mistake(spec.task, t, _shown(a, spec))[0]
        if by > EPSILON:
            rows.append((-by, t.id, t, b))
    return [(t, b) for _, _, t, b in sorted(rows, key=lambda row: row[:2])]


def _reason(case: _Case, target: str, row: dict[str, Any], worst: list[str]) -> str:
    """Why a file may not ship; empty if it may."""
    reasons = []
    if row["drop"] is None:
        reasons.append(f"{case.main} is not defined: the test split has nothing to find")
    elif row["drop"] > row["tolerance"] + EPSILON:
        drops = {label: drop for label, drop in row["drop_per_class"].items() if drop is not None}
        label = max(drops, key=lambda label: drops[label])
        reasons.append(
            f"{case.main} falls by {row['drop']:.4f} from {case.metrics[case.main]:.4f}, tolerance "
            f"{row['tolerance']:g}; most in {label!r}, by {drops[label]:.4f}; worst pictures: {', '.join(worst)}"
        )
    reasons += _too_large(target, row)
    bound = read_json(case.exports / "golden" / "golden.json")["float_tolerance"]
    if target.endswith("_float") and row["golden_difference"] > bound:
        reasons.append(f"{row['golden_difference']} from the trained net on the golden inputs, expected {bound}")
    return "; ".join(reasons)


def _too_large(target: str, size: dict[str, Any]) -> list[str]:
    if target.endswith("_float") or size["size_ratio"] <= SIZE_RATIO:
        return []
    return [f"{size['size_ratio']} of the size of {size['size_ratio_to']}, expected at most {SIZE_RATIO}"]


def _steady(case: _Case, targets: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """A line per file for `dvc metrics show`, and what the net costs; without what is measured anew each time."""
    name = case.main
    rows = {
        t: {name: (r["metrics"] or {}).get(name), **{k: r[k] for k in ("drop", "size_ratio")}}
        for t, r in targets.items()
    }
    cost = {key: read_json(case.exports / "export.json")["cost"][key] for key in ("macs", "params")}
    return {"float": {name: case.metrics[name]}, "cost": cost, **rows}

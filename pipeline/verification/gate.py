"""What a file is held to: which figures may not fall, and by how much, of every part of an answer, not of the main
metric alone; how large it may be.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.params import nearest
from pipeline.core.room import size_bytes
from pipeline.metrics.metrics import main_metric
from pipeline.runtimes.targets import TARGETS
from pipeline.verification.params import BY_CHOICE, FIGURES, VerifyParams

ROUNDING = 2e-6  # of a fall: figures and tolerances have six digits
NAMED = 5  # labels that a reason lists
FEW = 200  # images of which a fall is counted too
# Bytes that are free in an int8 file, for what is no weight: the graph, a scale and a bias per channel, names. Those of
# a small detector take 70 KB (ONNX) to 300 KB (Core ML), for part of which the ratio has room: weights take 0.25.
BESIDE_WEIGHTS = 256 * 1024


def tolerances(metrics: Mapping[str, Any], params: VerifyParams) -> dict[str, float]:
    """How far each figure of the float model's metrics.json that a file is held to may fall.

    Clips are few: unless `params.tolerances` names their accuracy, one of them may be lost whatever its share.

    Raises InputError naming a figure of `params.tolerances` that the metrics do not have.

    >>> tolerances({"task": "classify", "accuracy": 0.9, "macro_f1": 0.9}, VerifyParams(tolerances={"macro_f1": 0.1}))
    {'accuracy': 0.03, 'macro_f1': 0.1}
    """
    known = [name for name in FIGURES[metrics["task"]] if name in metrics]
    for name in params.tolerances:
        if name not in known:
            raise InputError(f"verify.tolerances.{name}: this test split gives no such figure{nearest(name, known)}")
    held = {name: params.tolerance_of(name) for name in known if name not in BY_CHOICE or name in params.tolerances}
    if "clip_accuracy" in held and "clip_accuracy" not in params.tolerances and metrics["n_clips"]:
        held["clip_accuracy"] = max(held["clip_accuracy"], 1 / metrics["n_clips"])
    return {name: round(value, 6) for name, value in held.items()}


def falls(row: Mapping[str, Any], exact: Mapping[str, Any], per_class: bool) -> list[str]:
    """What falls too far: a reason per figure, the part of the answers first.

    `row` is a target's of verify.json, with `metrics`, `drops`, `tolerances` and `drop_per_class`; `exact` the float
    model's metrics.json.
    """
    main, parts = main_metric(exact["task"]), FIGURES[exact["task"]]
    by_label = {label: by for label, by in row["drop_per_class"].items() if by is not None}
    falling = sorted(by_label, key=lambda label: -by_label[label])
    reasons = []
    if exact[main] is None:
        reasons.append(f"{main} is not defined: the test split has nothing to find")
    for name, tolerance in row["tolerances"].items():
        before, by = exact[name], row["drops"][name]
        if before is None or tolerance >= 1:
            continue
        if by is None:
            reasons.append(f"{parts[name]}: {name} was {before:.4f} and is not defined any more: nothing is found")
        elif not by <= tolerance + ROUNDING:
            verb = "rises" if row["metrics"][name] > before else "falls"
            lost = _lost(name, by, exact)
            reason = f"{parts[name]}: {name} {verb} by {by:.4f} from {before:.4f}{lost}, tolerance {tolerance:g}"
            most = f"; most in {falling[0]!r}, by {by_label[falling[0]]:.4f}" if name == main and falling else ""
            reasons.append(reason + most)
    bound = row["tolerances"][main]
    wrong = [f"{label!r} by {by_label[label]:.4f}" for label in falling if not by_label[label] <= bound + ROUNDING]
    if per_class and wrong and bound < 1:
        more = f" and {len(wrong) - NAMED} more" if len(wrong) > NAMED else ""
        reasons.append(f"labels: {main} falls in {', '.join(wrong[:NAMED])}{more}, tolerance {bound:g} for each")
    return reasons


def _lost(name: str, by: float, exact: Mapping[str, Any]) -> str:
    """How many images or clips a fall of their accuracy is, where they are few."""
    units = {"accuracy": "images", "clip_accuracy": "clips"}.get(name)
    if exact["task"] != "classify" or units is None or not (many := exact.get(f"n_{units}")) or many > FEW:
        return ""
    return f" ({by * many:.0f} of {many} {units})"


def size_of(made: Mapping[str, Any], target: str, path: Path) -> dict[str, Any]:
    """The size of the file `path` for its row of verify.json; `made` is export.json.

    `size_ratio` is over the float file that an int8 one is held against (of a float file: itself), or over the trained
    weights where that was not exported.
    """
    size, (whole, name) = size_bytes(path), _counterpart(made, target)
    return {"size_bytes": size, "size_ratio": round(size / whole, 4), "size_ratio_to": name}


def too_large(made: Mapping[str, Any], target: str, size: int, ratio: float) -> list[str]:
    """Why an int8 file of `size` bytes is too large, where `verify.size_ratio` is `ratio`; empty if it is not."""
    whole, name = _counterpart(made, target)
    most = int(ratio * whole) + BESIDE_WEIGHTS
    if name in made["targets"]:
        most = min(most, whole - 1)  # a float file by the name of an int8 one is too large however small it is
    if not TARGETS[target].int8 or size <= most:
        return []
    return [
        f"{size} bytes, expected at most {most}: verify.size_ratio is {ratio:g} of {name} with {whole} bytes, and "
        f"{BESIDE_WEIGHTS} bytes are for what is no weight"
    ]


def _counterpart(made: Mapping[str, Any], target: str) -> tuple[int, str]:
    """The bytes and the name of what a file's size is compared with."""
    name = TARGETS[target].held_against if TARGETS[target].int8 else target
    if name is not None and name in made["targets"]:
        return made["targets"][name]["size_bytes"], name
    return made["float_weights_bytes"], "model.safetensors"

"""The MobileNets that a phone can afford, best first."""

import os
import re
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.params import nearest
from pipeline.graph.cost import Cost, backbone_cost
from pipeline.models.mobilenets import named
from pipeline.viz.plots import plot_budget

UNITS = {"": 1.0, "k": 1e3, "m": 1e6, "g": 1e9, "kb": 1e3, "mb": 1e6, "gb": 1e9, "b": 1.0, "ms": 1.0}
LIMITS = ("macs", "params", "size", "ms")
BEYOND = {  # why a candidate is left out
    "macs": "too many multiply-adds",
    "params": "too many parameters",
    "size": "the file is too large",
    "ms": "too slow on this machine",
}
MEASURED = "onnx_int8"  # the target whose size and speed a budget is held against
CALIBRATION = 4  # noise images: a file's size and speed do not depend on what its ranges are
ROOM = 1.15  # how far a file may be from the estimate of its size before it is made
# ImageNet top-1 in per cent, width -> resolution -> figure, as TensorFlow's model pages publish them: to rank by.
PUBLISHED: dict[str, dict[float, dict[int, float]]] = {
    "mobilenetv1": {
        1.0: {224: 70.9, 192: 70.0, 160: 68.0, 128: 65.2},
        0.75: {224: 68.4, 192: 67.2, 160: 65.3, 128: 62.1},
        0.5: {224: 63.3, 192: 61.7, 160: 59.1, 128: 56.3},
        0.25: {224: 49.8, 192: 47.7, 160: 45.5, 128: 41.5},
    },
    "mobilenetv2": {
        1.4: {224: 75.0},
        1.3: {224: 74.4},
        1.0: {224: 71.8, 192: 70.7, 160: 68.8, 128: 65.3, 96: 60.3},
        0.75: {224: 69.8, 192: 68.7, 160: 66.4, 128: 63.2, 96: 58.8},
        0.5: {224: 65.4, 192: 63.9, 160: 61.0, 128: 57.7, 96: 51.2},
        0.35: {224: 60.3, 192: 58.2, 160: 55.7, 128: 50.8, 96: 45.5},
    },
}


@dataclass(frozen=True, slots=True)
class Candidate:
    """A net at a resolution; `file_bytes` is an estimate until `ms` is measured (0: not yet)."""

    backbone: str
    size: int
    top1: float
    macs: int
    params: int
    file_bytes: int
    ms: float = 0.0


def published(backbone: str, size: int) -> float | None:
    """ImageNet top-1 in per cent of a MobileNetV1 or V2 as published, None for another net, width or resolution."""
    nets = {named(family, width): sizes for family, widths in PUBLISHED.items() for width, sizes in widths.items()}
    return nets.get(backbone, {}).get(size)


def read_budget(text: str) -> dict[str, float]:
    """ "macs=150M,size=1MB,ms=5" -> limits; raises InputError naming a part that is not a limit."""
    budget = {}
    for part in text.split(","):
        key, _, value = part.strip().partition("=")
        if key not in LIMITS:
            raise InputError(f"--budget {part}: unknown limit{nearest(key, LIMITS)}; there are {', '.join(LIMITS)}")
        found = re.fullmatch(r"(\d+\.?\d*|\.\d+)\s*([a-zA-Z]*)", value.strip())
        if key in budget:
            raise InputError(f"--budget {part}: {key} is stated twice")
        if found is None or found[2].lower() not in UNITS:
            raise InputError(f"--budget {part}: expected a number with k, M, G, kB or MB, as in {key}=1.5M")
        budget[key] = float(found[1]) * UNITS[found[2].lower()]
    return budget


def candidates(labels: int) -> list[Candidate]:
    """Every published width and resolution of MobileNetV1 and V2, with a last layer for `labels` classes."""
    found = []
    for family, widths in PUBLISHED.items():
        for width, accuracies in widths.items():
            backbone = named(family, width)
            whole = backbone_cost(backbone, 224, labels)
            linear = sum(layer.macs for layer in whole.layers if layer.kind == "linear")
            for size, top1 in accuracies.items():
                # exact: every feature map of these nets shrinks alike at multiples of 32
                macs = (whole.macs - linear) * size**2 // 224**2 + linear
                found.append(Candidate(backbone, size, top1, macs, whole.params, _estimate(whole)))
    return sorted(found, key=lambda c: (-c.top1, c.macs))


class Weighed(NamedTuple):
    """The candidates that fit, the best first, and the others by the words for why they are left out."""

    fit: list[Candidate]
    left_out: dict[str, list[Candidate]]


def weigh(considered: Sequence[Candidate], budget: dict[str, float], labels: int, best: int) -> Weighed:
    """The `best` first candidates that fit, their int8 ONNX file made and run: its bytes and its milliseconds."""
    fit, left_out, room = list[Candidate](), dict[str, list[Candidate]](), budget | {"ms": np.inf}
    if "size" in budget:
        room["size"] *= ROOM
    hopeful = [c for c in considered if _over(c, room) is None]
    with tqdm(hopeful, "measure", disable=None) as bar:
        for candidate in considered:
            limit, measured = _over(candidate, room), candidate
            if limit is None and len(fit) < best:
                measured = _measured(candidate, labels)
                bar.update()
                limit = _over(measured, budget)
                if limit is None:
                    fit.append(measured)
                    continue
            why = f"the best {best} are found already" if limit is None else BEYOND[limit]
            left_out.setdefault(why, []).append(measured)
    return Weighed(fit, left_out)


def _over(c: Candidate, budget: dict[str, float]) -> str | None:
    """The first limit that a candidate is over."""
    found = {"macs": c.macs, "params": c.params, "size": c.file_bytes, "ms": c.ms}
    return next((limit for limit in LIMITS if found[limit] > budget.get(limit, np.inf)), None)


def budget_text(rows: Sequence[Candidate]) -> str:
    """What fits, by `weigh`, for a terminal; sizes in 10^6."""
    lines = [f"{'backbone':16} {'size':>4} {'top-1':>6} {'M macs':>7} {'M params':>8} {'int8 MB':>8} {'ms':>7}"]
    lines += [
        f"{r.backbone:16} {r.size:4} {r.top1:6.1f} {r.macs / 1e6:7.1f} {r.params / 1e6:8.2f} "
        f"{r.file_bytes / 1e6:8.2f} {r.ms:7.2f}"
        for r in rows
    ]
    if not rows:
        lines.append("none of the considered MobileNets fits")
    lines.append(
        "top-1: published for ImageNet, to rank by; MB and ms: the int8 ONNX file, one thread, on this machine"
    )
    return "\n".join(lines)


def check_plot(path: Path) -> None:
    """Raises InputError for a file that is there already, or has another suffix than .png."""
    if os.path.lexists(path):
        raise InputError(f"--plot {path}: is there already; expected a new file")
    if path.suffix.lower() != ".png":
        raise InputError(f"--plot {path}: expected a name that ends in .png")


def write_plot(weighed: Weighed, budget: dict[str, float], path: Path) -> None:
    """Draw what was considered as PNG, with rings around what fits, and why the others are left out. Raises InputError
    as `check_plot` does.
    """
    check_plot(path)
    lines: dict[str, list[tuple[float, float]]] = {}
    for c in [*weighed.fit, *chain.from_iterable(weighed.left_out.values())]:
        lines.setdefault(c.backbone, []).append((c.macs, c.top1))
    left_out = {why: [(c.macs, c.top1) for c in own] for why, own in weighed.left_out.items()}
    try:
        plot_budget(
            dict(sorted(lines.items())), [(c.macs, c.top1) for c in weighed.fit], left_out, budget.get("macs"), path
        )
    except OSError as error:
        raise InputError(f"--plot {path}: cannot be written: {error}") from None


def _estimate(cost: Cost) -> int:
    """Bytes of the int8 file: a byte per weight, scale and bias per channel, and what describes a layer."""
    return cost.weights + 9 * (cost.params - cost.weights) + 1500 * len(cost.layers)


def _measured(candidate: Candidate, labels: int) -> Candidate:
    from pipeline.core.spec import ModelSpec
    from pipeline.models.nets import Deployed, build
    from pipeline.runtimes.runtime import latency
    from pipeline.runtimes.targets import TARGETS, open_runtime

    size = candidate.size
    spec = ModelSpec(
        run="budget", dataset="", task="classify", labels=[str(i) for i in range(labels)], landmarks=[], pairs=[],
        skeleton=[], backbone=candidate.backbone, head={"kind": "pool", "dropout": 0.0}, size=size, resize="stretch",
        mean=[0.5] * 3, std=[0.5] * 3, predict={},
    )  # fmt: skip
    net = build(spec)
    noise = np.random.default_rng(0)
    images = [noise.integers(0, 256, (1, size, size, 3), dtype=np.uint8) for _ in range(CALIBRATION)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / TARGETS[MEASURED].file
        TARGETS[MEASURED].export(Deployed(net, spec), images, path, list(net.outputs))
        taken = latency(open_runtime(MEASURED, path), images[0])
        return replace(candidate, file_bytes=path.stat().st_size, ms=taken["median"])

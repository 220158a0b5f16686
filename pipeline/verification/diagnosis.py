"""What is wrong with a file that fails: the mistake that, made up for, brings its answers back to the golden ones."""

import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Sample
from pipeline.metrics.matching import match
from pipeline.metrics.metrics import shown
from pipeline.runtimes.runtime import relative_error

if TYPE_CHECKING:
    from pipeline.core.spec import ModelSpec
    from pipeline.runtimes.runtime import Outputs, Runtime

AS_IT_IS = "as it is"
SWAPPED = "with red and blue exchanged"
NORMALIZED = "with the normalization put before it"
STANDARDIZED = "with mean and standard deviation put before it"
CAUSES = {
    SWAPPED: "red and blue are swapped",
    NORMALIZED: "the normalization is left out",
    STANDARDIZED: "mean and standard deviation are left out of the normalization",
}
BETTER = 3  # times nearer to the golden answers: a cause, not a coincidence
DEAD = 1e-3  # of the trained net's spread over the images: answers that do not move
AGREED = 0.6  # of a label's predictions


class Golden(NamedTuple):
    images: NDArray[np.uint8]  # [N, S, S, 3]
    answers: "Outputs"  # of the trained net


def misfits(runtime: "Runtime", path: Path, spec: "ModelSpec", golden: Golden, answers: "Outputs") -> dict[str, float]:
    """How far the file's `answers` are from the golden ones, and with each mistake made up for that it may have."""
    from pipeline.runtimes.on_onnx import OnnxRuntime

    found = {
        AS_IT_IS: answers,
        SWAPPED: runtime.run(np.ascontiguousarray(golden.images[..., ::-1])),
    }
    if path.suffix == ".onnx":
        mean, std = np.array(spec.mean, np.float32), np.array(spec.std, np.float32)
        for name, scale in ((NORMALIZED, 255.0), (STANDARDIZED, 1.0)):
            with tempfile.TemporaryDirectory() as folder:
                changed = Path(folder) / "changed.onnx"
                if _with_affine(path, 1 / (std * scale), -mean * 255 / (std * scale), changed):
                    found[name] = OnnxRuntime(changed, 1).run(golden.images)
    return {name: round(relative_error(outputs, golden.answers), 4) for name, outputs in found.items()}


def causes(
    spec: "ModelSpec",
    path: Path,
    each: dict[str, float],
    answers: "Outputs",
    golden: Golden,
    predictions: tuple[list[Sample], list[Sample]],
) -> list[str]:
    """What the figures of `misfits`, a file's `answers` to the golden images and its predictions (float's, the
    file's) say for certain; empty where they do not.
    """
    found = []
    if path.suffix == ".onnx":
        zeros, scales = _zero_scales(path)
        if zeros:
            found.append(f"{zeros} of its {scales} scales are 0")
    best = min(each, key=lambda name: each[name])
    if best != AS_IT_IS and each[best] * BETTER <= each[AS_IT_IS]:
        found.append(
            f"{CAUSES[best]}: on the golden inputs it is {each[AS_IT_IS]:.2f} of their spread off as it is, "
            f"{each[best]:.2f} {best}"
        )
    elif _dead(answers, golden.answers):
        found.append("it answers the same whatever the image")
    order = _other_order(spec, *predictions)
    if not found and order:
        found.append(f"the labels are in another order: it says {order}")
    return found


def _dead(answers: "Outputs", expected: "Outputs") -> bool:
    moves = [float(a.std(axis=0).max()) for a in answers]
    return all(m <= DEAD * float(b.std(axis=0).max()) for m, b in zip(moves, expected, strict=True))


def _other_order(spec: "ModelSpec", exact: list[Sample], close: list[Sample]) -> str:
    """Which label the file gives where the float model gives which, if that is a rule other than the same."""
    counts = Counter(pair for a, b in zip(exact, close, strict=True) for pair in _label_pairs(spec, a, b))
    table = np.array([[counts[a, b] for b in spec.labels] for a in spec.labels])
    totals = table.sum(axis=1)
    used = [(a, int(table[a].argmax())) for a in range(len(spec.labels)) if totals[a]]
    says = [b for _, b in used]
    if len(used) < 2 or len(set(says)) < len(says) or any(table[a, b] < AGREED * totals[a] for a, b in used):
        return ""
    return ", ".join(f"{spec.labels[b]!r} for {spec.labels[a]!r}" for a, b in used if a != b)


def _label_pairs(spec: "ModelSpec", exact: Sample, close: Sample) -> list[tuple[str | None, str | None]]:
    if spec.task == "classify":
        return [(exact.label, close.label)]
    left, right = shown(exact, spec).objects, shown(close, spec).objects
    return [(left[t].label, right[p].label) for t, p in match(left, right, by_label=False).items()]


def _zero_scales(path: Path) -> tuple[int, int]:
    """How many of the scales that an ONNX file turns bytes into floats with are 0, and how many there are."""
    import onnx

    graph = onnx.load(path).graph
    names = {node.input[1] for node in graph.node if node.op_type in ("QuantizeLinear", "DequantizeLinear")}
    scales = [onnx.numpy_helper.to_array(constant).ravel() for constant in graph.initializer if constant.name in names]
    every = np.concatenate(scales) if scales else np.zeros(0)
    return int((every == 0).sum()), len(every)


def _with_affine(path: Path, scale: NDArray[Any], shift: NDArray[Any], out: Path) -> bool:
    """Write to `out` the ONNX file `path` with pixel * scale + shift, by channel, once pixels [1, S, S, 3] are floats;
    False where it turns them into floats in another way than ours do.
    """
    import onnx

    model = onnx.load(path)
    graph: Any = model.graph
    casts = [node for node in graph.node if node.op_type == "Cast" and node.input[0] == graph.input[0].name]
    if len(casts) != 1:
        return False
    (cast,) = casts
    into = cast.output[0]
    cast.output[0] = "pixels"
    for name, values in (("put_scale", scale), ("put_shift", shift)):
        graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
    place = list(graph.node).index(cast) + 1
    graph.node.insert(place, onnx.helper.make_node("Mul", ["pixels", "put_scale"], ["scaled"]))
    graph.node.insert(place + 1, onnx.helper.make_node("Add", ["scaled", "put_shift"], [into]))
    onnx.save(model, out)
    return True

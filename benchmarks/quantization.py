"""What int8 costs two nets with ImageNet weights on labelled images: each file as it is exported, run in its runtime.

    python -m benchmarks.quantization PICTURES [--v1 FILE] [--v2 FILE] [--calibration N] [--budget SHARE ...]

PICTURES holds images/ and labels.csv (file,class_index). --v2: torchvision's MobileNetV2 1.0 (its keys); --v1: timm's
MobileNetV1 1.0, trained with TensorFlow's padding and pixels in -1 to 1. Two folds: ranges come from N images of one
half, the other half is judged, then the other way round; so every image is judged, and none by a file that saw it.
Beside the files stands the naive one that ONNX Runtime makes when nothing is asked: a scale per tensor, from the
smallest to the largest value.
"""

import argparse
import csv
import logging
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from pipeline.core.image_file import open_image
from pipeline.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from pipeline.models.nets import Deployed
from pipeline.ops.preprocess import resize
from pipeline.runtimes.targets import TARGETS, open_runtime

SIZE, BATCH = 224, 25
Images = NDArray[np.uint8]
Logits = NDArray[np.float32]


class Row(NamedTuple):
    """A file's `logits` for all images; its size, and the row that it is held against; how it was made."""

    logits: Logits
    size: int
    held_against: str
    seconds: float
    facts: dict[str, Any]


class _Tuple(nn.Module):
    """A net whose one output comes in a tuple."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, image: Tensor) -> tuple[Tensor]:
        return (self.net(image),)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("pictures", type=Path)
    parser.add_argument("--v1", type=Path)
    parser.add_argument("--v2", type=Path)
    parser.add_argument("--calibration", type=int, default=64)
    parser.add_argument("--budget", type=float, nargs="*", default=[0.0])
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    images, truth = _pictures(asked.pictures)
    if asked.v2:
        net = mobilenet_v2()
        net.load_state_dict({k: v.float() for k, v in load_file(asked.v2).items()})
        _judge("MobileNetV2 1.0", _deployed(net, IMAGENET_MEAN, IMAGENET_STD), images, truth, asked)
    if asked.v1:
        net = timm.create_model("mobilenetv1_100", pad_type="same")
        net.load_state_dict({k: v.float() for k, v in load_file(asked.v1).items()})
        _judge("MobileNetV1 1.0", _deployed(net, [0.5] * 3, [0.5] * 3), images, truth, asked)


def _pictures(folder: Path) -> tuple[Images, NDArray[np.int64]]:
    with (folder / "labels.csv").open(newline="") as file:
        rows = sorted((row["file"], int(row["class_index"])) for row in csv.DictReader(file))
    images = [np.array(resize(open_image(folder / "images" / name), SIZE, "stretch")[0]) for name, _ in rows]
    return np.stack(images), np.array([label for _, label in rows])


def _deployed(net: nn.Module, mean: list[float], std: list[float]) -> nn.Module:
    spec: Any = SimpleNamespace(mean=mean, std=std)
    return Deployed(_Tuple(net), spec).eval()


def _judge(title: str, net: nn.Module, images: Images, truth: NDArray[np.int64], asked: argparse.Namespace) -> None:
    with torch.inference_mode():
        exact = np.concatenate([net(torch.from_numpy(b))[0].numpy() for b in np.split(images, len(images) // BATCH)])
    rows = {target: _folds(net, images, target, asked.calibration, {}) for target in ("onnx_float", "executorch_float")}
    for budget in asked.budget:
        for target in ("onnx_int8", "executorch_int8"):
            name = f"{target} + {budget:.0%}" if budget else target
            rows[name] = _folds(net, images, target, asked.calibration, {"budget": budget} if budget else {})
    rows["naive per tensor"] = _folds(net, images, "naive", asked.calibration, {})
    _print(title, exact, rows, truth)


def _folds(net: nn.Module, images: Images, target: str, calibration: int, options: dict[str, Any]) -> Row:
    """The logits of each half come from a file that was calibrated on the other half; float files need one only."""
    logits: Logits = np.zeros((len(images), 1000), np.float32)
    made = TARGETS["onnx_int8" if target == "naive" else target]
    size, facts, start = 0, {}, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for half in (0, 1):
            seen = images[half::2]
            chosen = [seen[i : i + 1] for i in range(0, len(seen), max(1, len(seen) // calibration))][:calibration]
            path = Path(folder) / f"model{half}"
            facts = _export(net, chosen, target, path, options)
            size = path.stat().st_size
            runtime = open_runtime("onnx_int8" if target == "naive" else target, path)
            logits[1 - half :: 2] = runtime.run(images[1 - half :: 2])[0]
            if not made.int8:
                logits[half::2] = runtime.run(seen)[0]
                break
    return Row(logits, size, made.held_against or target, time.perf_counter() - start, facts)


def _export(net: nn.Module, chosen: list[Images], target: str, path: Path, options: dict[str, Any]) -> dict[str, Any]:
    if target != "naive":
        return TARGETS[target].export(net, chosen, path, ["logits"], **options)
    from onnxruntime.quantization import quantize_static

    whole = path.with_suffix(".onnx")
    TARGETS["onnx_float"].export(net, chosen, whole, ["logits"])
    quantize_static(whole, path, _Reader(chosen))
    return {}


class _Reader:
    """What ONNX Runtime's quantizer reads images from."""

    def __init__(self, images: list[Images]) -> None:
        self.images = iter(images)

    def get_next(self) -> dict[str, Images] | None:
        image = next(self.images, None)
        return None if image is None else {"image": image}


def _print(title: str, exact: Logits, rows: dict[str, Row], truth: NDArray[np.int64]) -> None:
    """A line per file; `off` is the largest difference of a logit over the largest logit."""
    best = exact.argmax(1)
    top1 = 100 * float((best == truth).mean())
    print(f"\n{title}, {len(truth)} images: top-1 {top1:.2f} % in torch")
    print(f"{'file':24} {'top-1':>6} {'drop':>6} {'agrees':>7} {'MB':>6} {'ratio':>6} {'off':>8} {'rms':>7} {'s':>5}")
    for name, row in rows.items():
        found = row.logits.argmax(1)
        right, same = 100 * float((found == truth).mean()), 100 * float((found == best).mean())
        whole = rows[row.held_against].size
        off = np.abs(row.logits - exact)
        print(
            f"{name:24} {right:6.2f} {top1 - right:6.2f} {same:6.2f}% {row.size / 1e6:6.2f} {row.size / whole:6.3f} "
            f"{off.max() / np.abs(exact).max():8.1e} {np.sqrt((off**2).mean()) / exact.std():7.4f} {row.seconds:5.0f}"
        )
    for name, row in rows.items():
        for key in ("settings", "relative_error", "budget"):
            if key in row.facts:
                print(f"  {name}: {key} {row.facts[key]}")


if __name__ == "__main__":
    main()

"""What int8 costs: each file as exported, run in its runtime; beside stock recipes, and without each of our steps.

    python -m benchmarks.quantization [--pictures FOLDER [--v1 FILE] [--v2 FILE]] [--run RUN ...] [--calibration N]

--pictures holds images/ and labels.csv (file,class_index). --v2: torchvision's MobileNetV2 1.0 (its keys); --v1: timm's
MobileNetV1 1.0, trained with TensorFlow's padding and pixels in -1 to 1. Two folds: ranges come from N images of one
half, the other half is judged, then the other way round; so every image is judged, and none by a file that saw it.
--run is a trained run of this project: ranges come from N images of its train split, its test split is judged.

`stock` is what the runtime's own tools make with a scale per channel: ONNX Runtime's quant_pre_process and
quantize_static, torchao's prepare_pt2e and convert_pt2e with XNNPACK's quantizer. `naive` has a scale per tensor.
"""

import argparse
import csv
import logging
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import timm
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import mobilenet_v2

from pipeline.config.params import read_params
from pipeline.core.image_file import open_image
from pipeline.core.sample import read_dataset, read_samples
from pipeline.export.calibration import choose
from pipeline.export.int8.ranges import Histogram
from pipeline.metrics.metrics import judged, main_metric, score
from pipeline.models.backbones import IMAGENET_MEAN, IMAGENET_STD
from pipeline.models.nets import Deployed, load_model
from pipeline.ops.preprocess import prepare, resize
from pipeline.runtimes.answers import predict_samples
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
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--v1", type=Path)
    parser.add_argument("--v2", type=Path)
    parser.add_argument("--run", nargs="*", default=[])
    parser.add_argument("--calibration", type=int, default=64)
    asked = parser.parse_args()
    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    images, truth = _pictures(asked.pictures) if asked.pictures else (np.zeros(0, np.uint8), np.zeros(0, np.int64))
    if asked.v2:
        net = mobilenet_v2()
        net.load_state_dict({k: v.float() for k, v in load_file(asked.v2).items()})
        _judge("MobileNetV2 1.0", _deployed(net, IMAGENET_MEAN, IMAGENET_STD), images, truth, asked.calibration)
    if asked.v1:
        net = timm.create_model("mobilenetv1_100", pad_type="same")
        net.load_state_dict({k: v.float() for k, v in load_file(asked.v1).items()})
        _judge("MobileNetV1 1.0", _deployed(net, [0.5] * 3, [0.5] * 3), images, truth, asked.calibration)
    for name in asked.run:
        _judge_run(name, asked.calibration)


class Made(NamedTuple):
    """How a file of the table is made: the target that it is run and measured as, its exporter, what is left out."""

    target: str
    export: Callable[..., dict[str, Any]]
    without: tuple[str, ...] = ()
    budget: float = 0.0


def _table() -> dict[str, Made]:
    table = {target: Made(target, TARGETS[target].export) for target in ("onnx_float", "executorch_float")}
    for target, stock in (("onnx_int8", _stock_onnx), ("executorch_int8", _stock_executorch)):
        ours = TARGETS[target].export
        table |= {
            target: Made(target, ours),
            f"{target} + 3%": Made(target, ours, budget=0.03),
            f"{target}, as trained": Made(target, ours, ("equalize",)),
            f"{target}, whole ranges": Made(target, ours, ("ranges",)),
            f"{target}, neither": Made(target, ours, ("equalize", "ranges")),
            f"{target}, stock": Made(target, stock),
        }
    return table | {"onnx_int8, naive": Made("onnx_int8", _naive_onnx)}


def _make(made: Made, net: nn.Module, images: list[Images], path: Path, outputs: list[str]) -> dict[str, Any]:
    """Write the file, with channels as trained or ranges from the smallest to the largest value where `made` says."""
    more = {"budget": made.budget} if made.budget else {}
    with ExitStack() as patched:
        if "equalize" in made.without:
            for module in ("onnx", "executorch"):
                patched.enter_context(mock.patch(f"pipeline.export.targets.{module}.equalize"))
        if "ranges" in made.without:
            patched.enter_context(mock.patch.object(Histogram, "span", lambda seen, _=False: (seen.least, seen.most)))
        return made.export(net, images, path, outputs, **more)


def _pictures(folder: Path) -> tuple[Images, NDArray[np.int64]]:
    with (folder / "labels.csv").open(newline="") as file:
        rows = sorted((row["file"], int(row["class_index"])) for row in csv.DictReader(file))
    images = [np.array(resize(open_image(folder / "images" / name), SIZE, "stretch")[0]) for name, _ in rows]
    return np.stack(images), np.array([label for _, label in rows])


def _deployed(net: nn.Module, mean: list[float], std: list[float]) -> nn.Module:
    spec: Any = SimpleNamespace(mean=mean, std=std)
    return Deployed(_Tuple(net), spec).eval()


def _judge(title: str, net: nn.Module, images: Images, truth: NDArray[np.int64], calibration: int) -> None:
    with torch.inference_mode():
        exact = np.concatenate([net(torch.from_numpy(b))[0].numpy() for b in np.split(images, len(images) // BATCH)])
    rows = {name: _folds(net, images, made, calibration) for name, made in _table().items()}
    _print(title, exact, rows, truth)


def _folds(net: nn.Module, images: Images, made: Made, calibration: int) -> Row:
    """The logits of each half come from a file that was calibrated on the other half; float files need one only."""
    logits: Logits = np.zeros((len(images), 1000), np.float32)
    row = TARGETS[made.target]
    size, facts, start = 0, {}, time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        for half in (0, 1):
            seen = images[half::2]
            chosen = [seen[i : i + 1] for i in range(0, len(seen), max(1, len(seen) // calibration))][:calibration]
            path = Path(folder) / f"model{half}"
            facts = _make(made, net, chosen, path, ["logits"])
            size = path.stat().st_size
            runtime = open_runtime(made.target, path)
            logits[1 - half :: 2] = runtime.run(images[1 - half :: 2])[0]
            if not row.int8:
                logits[half::2] = runtime.run(seen)[0]
                break
    return Row(logits, size, row.held_against or made.target, time.perf_counter() - start, facts)


def _judge_run(name: str, calibration: int) -> None:
    """A line per file with the main metric of the run's task on its test split."""
    _, spec = load_model(Path("models") / name)
    spec = judged(replace(spec, predict=read_params().run(name).predict.model_dump()))
    data = Path("data/ingested") / spec.dataset
    truth, dataset = read_samples(data / "test"), read_dataset(data)
    chosen = choose(read_samples(data / "train"), calibration)
    images = [prepare(open_image(data / "train" / s.file_name), spec)[0][None] for s in chosen]
    metric = main_metric(spec.task)
    print(f"\n{name}, {len(truth)} test images, {len(images)} for the ranges")
    print(f"{'file':29} {metric:>9} {'drop':>7} {'MB':>6} {'ratio':>6} {'s':>5}")
    whole, sizes = 0.0, dict[str, int]()
    with tempfile.TemporaryDirectory() as folder:
        for label, made in _table().items():
            path, start = Path(folder) / TARGETS[made.target].file, time.perf_counter()
            try:
                _make(made, Deployed(load_model(Path("models") / name)[0], spec), images, path, spec.outputs)
            except RuntimeError as error:  # stock recipes do not take every net
                print(f"{label:29} not made: {error}", flush=True)
                continue
            taken, sizes[label] = time.perf_counter() - start, path.stat().st_size
            found = predict_samples(open_runtime(made.target, path), spec, data / "test", truth)
            value = float(score(spec.task, truth, found, dataset)[metric])
            whole = whole or value
            ratio = sizes[label] / sizes[TARGETS[made.target].held_against or made.target]
            print(
                f"{label:29} {value:9.4f} {whole - value:7.4f} {sizes[label] / 1e6:6.2f} {ratio:6.3f} {taken:5.0f}",
                flush=True,
            )


def _naive_onnx(net: nn.Module, images: list[Images], path: Path, outputs: list[str]) -> dict[str, Any]:
    from onnxruntime.quantization import quantize_static

    whole = path.with_suffix(".whole")
    TARGETS["onnx_float"].export(net, images, whole, outputs)
    quantize_static(whole, path, _Reader(images))
    return {}


def _stock_onnx(net: nn.Module, images: list[Images], path: Path, outputs: list[str]) -> dict[str, Any]:
    from onnxruntime.quantization import quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    whole, prepared = path.with_suffix(".whole"), path.with_suffix(".prepared")
    TARGETS["onnx_float"].export(net, images, whole, outputs)
    quant_pre_process(whole, prepared)
    quantize_static(prepared, path, _Reader(images), per_channel=True)
    return {}


def _stock_executorch(net: nn.Module, images: list[Images], path: Path, _outputs: list[str]) -> dict[str, Any]:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import (
        XNNPACKQuantizer,
        get_symmetric_quantization_config,
    )
    from executorch.exir import to_edge_transform_and_lower
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    inputs = (torch.from_numpy(images[0]),)
    quantizer = XNNPACKQuantizer().set_global(get_symmetric_quantization_config(is_per_channel=True))
    prepared = prepare_pt2e(torch.export.export(net, inputs).module(), quantizer)
    for image in images:
        prepared(torch.from_numpy(image))
    program = torch.export.export(convert_pt2e(prepared), inputs)
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
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
    print(f"{'file':29} {'top-1':>6} {'drop':>6} {'agrees':>7} {'MB':>6} {'ratio':>6} {'off':>8} {'rms':>7} {'s':>5}")
    for name, row in rows.items():
        found = row.logits.argmax(1)
        right, same = 100 * float((found == truth).mean()), 100 * float((found == best).mean())
        whole = rows[row.held_against].size
        off = np.abs(row.logits - exact)
        print(
            f"{name:29} {right:6.2f} {top1 - right:6.2f} {same:6.2f}% {row.size / 1e6:6.2f} {row.size / whole:6.3f} "
            f"{off.max() / np.abs(exact).max():8.1e} {np.sqrt((off**2).mean()) / exact.std():7.4f} {row.seconds:5.0f}"
        )
    for name, row in rows.items():
        for key in ("settings", "relative_error", "budget"):
            if key in row.facts:
                print(f"  {name}: {key} {row.facts[key]}")


if __name__ == "__main__":
    main()

"""One image through the shipped files and through eager PyTorch, uint8 on the canvas to logits.

    python -m benchmarks.latency [--backbone NAME] [--size PIXELS] [--threads N]

Each in a row, in several rounds; medians in milliseconds and the ratio to eager PyTorch.
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.timing import milliseconds
from pipeline.core.spec import ModelSpec
from pipeline.models.nets import Deployed, build
from pipeline.runtimes.runtime import Runtime
from pipeline.runtimes.targets import TARGETS, open_runtime
from pipeline.training.train import write_weights

MEASURED = ("executorch_int8", "executorch_float", "onnx_int8", "onnx_float")


def classifier_of(backbone: str, size: int) -> ModelSpec:
    """Of 1000 labels."""
    return ModelSpec(
        run="latency", dataset="", task="classify", labels=[str(i) for i in range(1000)], landmarks=[], pairs=[],
        skeleton=[], backbone=backbone, head={"kind": "pool", "dropout": 0.0}, size=size, resize="stretch",
        mean=[0.5] * 3, std=[0.5] * 3, predict={}, outputs=["logits"],
    )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    spec = classifier_of(asked.backbone, asked.size)
    net = build(spec).eval()
    noise = np.random.default_rng(0)
    pictures = [noise.integers(0, 256, (1, asked.size, asked.size, 3), dtype=np.uint8) for _ in range(8)]
    torch.set_num_threads(asked.threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(net, spec, folder)
        runtimes: dict[str, Runtime] = {"torch eager": open_runtime("torch", folder, asked.threads)}
        for target in MEASURED:
            file, export = TARGETS[target].file, TARGETS[target].export
            export(Deployed(net, spec), pictures, folder / file, spec.outputs)
            runtimes[target] = open_runtime(target, folder / file, asked.threads)
        calls = {target: partial(runtime.run, pictures[0]) for target, runtime in runtimes.items()}
        median = milliseconds(calls)
    print(f"{asked.backbone} at {asked.size}, one image, {asked.threads} threads")
    for target, value in median.items():
        threads = runtimes[target].threads
        print(f"  {target:17} {value:7.2f} ms  {median['torch eager'] / value:5.1f} x eager  ({threads} threads)")


if __name__ == "__main__":
    main()

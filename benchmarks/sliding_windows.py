"""A classifier over every window of an image: one fully convolutional pass against the windows cut out one by one.

    python -m benchmarks.sliding_windows [--backbone NAME] [--size PIXELS] [--head pool|flatten] [--picture W H]

Prints the milliseconds per image, the median over the repetitions (interleaved, so that a slow spell hits both), the
ratio of the two, and the largest difference of the logits. The windows go through the same net in batches.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.core.spec import ModelSpec
from pipeline.inference.sliding import Array, one_pass
from pipeline.models.classifier import Classifier
from pipeline.models.nets import Deployed, build

WARM_UP, REPEATS, BATCH = 1, 7, 32


def one_by_one(net: Classifier, spec: ModelSpec, stride: int) -> Callable[[NDArray[np.uint8]], Array]:
    """What `one_pass` of inference.sliding gives, the slow way: canvas uint8 [H, W, 3] -> logits [K, rows, columns]."""
    deployed = Deployed(net, spec).eval().to(memory_format=torch.channels_last)
    size = spec.size

    def windows(canvas: NDArray[np.uint8]) -> Array:
        rows, columns = ((side - size) // stride + 1 for side in canvas.shape[:2])
        places = [(y * stride, x * stride) for y in range(rows) for x in range(columns)]
        logits = []
        with torch.inference_mode():
            for start in range(0, len(places), BATCH):
                cut = np.stack([canvas[y : y + size, x : x + size] for y, x in places[start : start + BATCH]])
                logits.append(deployed(torch.from_numpy(cut))[0].numpy())
        return np.concatenate(logits).reshape(rows, columns, -1).transpose(2, 0, 1)

    return windows


def classifier(backbone: str, size: int, head: str) -> tuple[Classifier, ModelSpec]:
    """A classifier of four labels with random weights."""
    spec = ModelSpec(
        run="", dataset="", task="classify", labels=["a", "b", "c", "background"], landmarks=[], pairs=[], skeleton=[],
        backbone=backbone, head={"kind": head, "dropout": 0.0}, size=size, resize="letterbox",
        mean=[0.485, 0.456, 0.406], std=[0.229, 0.224, 0.225], predict={},
    )  # fmt: skip
    torch.manual_seed(0)
    net = build(spec)
    assert isinstance(net, Classifier)
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # else a random net's features fade to nothing
            module.train().reset_running_stats()
            module.momentum = None
    with torch.no_grad():
        net(torch.rand(8, 3, size, size) * 4 - 2)
    return net.eval(), spec


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mobilenetv1_050_short_valid")
    parser.add_argument("--size", type=int, default=96, help="of the window in pixels")
    parser.add_argument("--head", choices=("pool", "flatten"), default="flatten")
    parser.add_argument("--picture", type=int, nargs=2, default=(640, 480), metavar=("W", "H"))
    asked = parser.parse_args()
    net, spec = classifier(asked.backbone, asked.size, asked.head)
    ours, stride = one_pass(net, spec)
    ways = {"one pass": ours, "one by one": one_by_one(net, spec, stride)}
    width, height = asked.picture
    canvas = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    logits: dict[str, Array] = {}
    for round_ in range(WARM_UP + REPEATS):
        for name, windows in ways.items():
            start = time.perf_counter()
            logits[name] = windows(canvas)
            if round_ >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    found = logits["one pass"]
    print(
        f"{asked.backbone}, {asked.head} head: {found[0].size} windows of {asked.size} pixels, {stride} apart, "
        f"in {width} x {height}, {torch.get_num_threads()} threads"
    )
    fast, slow = (statistics.median(seconds[name]) for name in ways)
    print(f"  one pass    {fast * 1000:8.1f} ms")
    print(f"  one by one  {slow * 1000:8.1f} ms  {slow / fast:.1f} x")
    difference = np.abs(found - logits["one by one"]).max()
    print(f"  logits differ by {difference:.1e} at most; their standard deviation is {found.std():.2g}")


if __name__ == "__main__":
    main()

"""A training step of MobileNetV2: plain PyTorch in float32 and bfloat16 against what `pipeline.training.loop` does.

    python -m benchmarks.train_step [--backbone NAME] [--size PIXELS] [--batch N]

Prints images per second, the median over the repetitions (interleaved, so that a slow spell hits all alike).
"""

import argparse
import statistics
import time
from collections.abc import Callable

import timm
import torch
from torch.nn import functional as F

from pipeline.training.devices import keep_freed_memory
from pipeline.training.quick import quicken

WARM_UP, REPEATS = 2, 5


def stepper(backbone: str, images: torch.Tensor, labels: torch.Tensor, half: bool, ours: bool) -> Callable[[], None]:
    net = timm.create_model(backbone).to(memory_format=torch.channels_last).train()
    if ours:
        quicken(net)
    optimizer = torch.optim.AdamW(net.parameters(), fused=ours)

    def step() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=half):
            outputs = net(images)
        F.cross_entropy(outputs.float(), labels).backward()
        optimizer.step()
        optimizer.zero_grad()

    return step


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=32)
    asked = parser.parse_args()
    images = torch.rand(asked.batch, 3, asked.size, asked.size).contiguous(memory_format=torch.channels_last)
    labels = torch.randint(0, 1000, (asked.batch,))
    kinds = {"float32": (False, False), "bfloat16": (True, False), "ours, bfloat16": (True, True)}
    steps = {name: stepper(asked.backbone, images, labels, *kind) for name, kind in kinds.items()}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for round_ in range(WARM_UP + REPEATS):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_ >= WARM_UP:
                seconds[name].append(time.perf_counter() - start)
    speed = {name: asked.batch / statistics.median(times) for name, times in seconds.items()}
    print(f"{asked.backbone} at {asked.size}, batch {asked.batch}, {torch.get_num_threads()} threads")
    for name, images_per_second in speed.items():
        ratio = images_per_second / speed["float32"]
        print(f"  {name:16} {images_per_second:6.1f} images/s  {ratio:.2f} x float32")


if __name__ == "__main__":
    keep_freed_memory()
    main()

"""Frames per second of MobileNetV1 and V2 with one, two and three buffers between preparing a frame and the net.

    python -m benchmarks.buffers [--target NAME] [--size PIXELS] [--frames N] [--repeats N]

A buffer is the memory of one canvas. A thread fills it: it resizes a frame of 1280 x 720, as from a camera. The net, on
one thread, reads it, and it is free again. With one buffer the two wait for each other; with two, the next frame is
prepared while the net works (double buffering); with three, a slow frame holds up neither of them. On a phone the net
is on another chip; here both are on the CPU and need a core each. Random weights; nets and buffers take turns; medians.
"""

import argparse
import statistics
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import torch
from PIL import Image

from benchmarks.latency import classifier_of
from pipeline.models.nets import Deployed, build
from pipeline.ops.preprocess import resize
from pipeline.runtimes.runtime import Runtime
from pipeline.runtimes.targets import TARGETS, open_runtime

NETS = {"MobileNet V1": "mobilenetv1_100", "MobileNet V2": "mobilenetv2_100"}
BUFFERS = (1, 2, 3)
WIDTH, HEIGHT = 1280, 720


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--target", default="onnx_int8", choices=[t for t in TARGETS if t.startswith(("onnx", "exec"))])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    noise = np.random.default_rng(0)
    frames = [Image.fromarray(noise.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)) for _ in range(8)]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runtimes = {name: _runtime(backbone, asked.size, asked.target, Path(folder)) for name, backbone in NETS.items()}
        taken: dict[tuple[str, int], list[float]] = {(name, n): [] for name in NETS for n in BUFFERS}
        for repeat in range(asked.repeats + 1):
            for (name, buffers), seconds in taken.items():
                one = seconds_of(frames, runtimes[name], asked.size, buffers, asked.frames)
                if repeat:  # the first one warms up
                    seconds.append(one)
    print(f"{asked.target} at {asked.size}, frames per second:   " + "   ".join(f"{n} buffers" for n in BUFFERS))
    for name in NETS:
        rates = [asked.frames / statistics.median(taken[name, n]) for n in BUFFERS]
        print(f"{name:40}" + "   ".join(f"{rate:9.1f}" for rate in rates))


def seconds_of(frames: list[Image.Image], runtime: Runtime, size: int, buffers: int, count: int) -> float:
    """What `count` of `frames`, over and over, take with so many `buffers`."""
    free: SimpleQueue[np.ndarray] = SimpleQueue()
    full: SimpleQueue[np.ndarray] = SimpleQueue()
    for _ in range(buffers):
        free.put(np.empty((1, size, size, 3), dtype=np.uint8))

    def prepare() -> None:
        for frame in islice(cycle(frames), count):
            canvas = free.get()
            canvas[0] = resize(frame, size, "stretch")[0]
            full.put(canvas)

    start = time.perf_counter()
    thread = threading.Thread(target=prepare, daemon=True)
    thread.start()
    for _ in range(count):
        canvas = full.get()
        runtime.run(canvas)
        free.put(canvas)
    thread.join()
    return time.perf_counter() - start


def _runtime(backbone: str, size: int, target: str, folder: Path) -> Runtime:
    spec = classifier_of(backbone, size)
    file, export = TARGETS[target].file, TARGETS[target].export
    (folder / backbone).mkdir()
    noise = np.random.default_rng(1)
    images = [noise.integers(0, 256, (1, size, size, 3), dtype=np.uint8) for _ in range(4)]
    export(Deployed(build(spec), spec), images, folder / backbone / file, spec.outputs)
    return open_runtime(target, folder / backbone / file, 1)


if __name__ == "__main__":
    main()

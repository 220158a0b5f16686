"""What `ingest` takes for an image: beside a plain Pillow loop, and as a dataset grows.

    python -m benchmarks.ingest [--counts 1000,10000] [--frames 10000]

Draws class folders of that many JPEG files of 96 x 72 pixels, each another image, and ingests them: milliseconds an
image by the clock and of CPU, with that of all processes that work for it, and how much memory the process had at its
highest above what it began with. The loop does what anyone would write: open, RGB, scale down, save. Each runs in a
process of its own; `ingest` on all cores that it may use, the loop on one. `--frames`: so many thumbnails of a fixed
camera, and what near-duplicates take alone.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

from pipeline.core.memory import peak_memory
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.ingest.similar import near_duplicates
from pipeline.datasets.params import DATASETS

LABELS, SIZE, CELLS = 10, (96, 72), (9, 8)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--counts", default="1000,10000")
    parser.add_argument("--frames", type=int, default=10000)
    parser.add_argument("--alone", nargs=2, help=argparse.SUPPRESS)  # a call and what it is given
    asked = parser.parse_args()
    if asked.alone:
        _measure(*asked.alone)
        return
    print("   images  ingest ms    CPU ms  images/s   loop ms    CPU ms  images/s  memory MB", flush=True)
    for count in map(int, asked.counts.split(",")):
        with tempfile.TemporaryDirectory() as name:
            draw(Path(name) / "set", count)
            taken, cpu, memory = _alone("ingest", name)
            plain, plain_cpu, _ = _alone("loop", name)
        print(
            f"{count:9,} {1000 * taken / count:10.2f} {1000 * cpu / count:9.2f} {count / taken:9.0f} "
            f"{1000 * plain / count:9.2f} {1000 * plain_cpu / count:9.2f} {count / plain:9.0f} {memory / 1e6:10.0f}",
            flush=True,
        )
    taken, cpu, memory = _alone("frames", str(asked.frames))
    print(
        f"near-duplicates of {asked.frames:,} frames of a fixed camera: {taken:.1f} s, {cpu:.1f} s of CPU, "
        f"{memory / 1e6:.0f} MB"
    )


def draw(root: Path, count: int) -> None:
    drawn = np.random.default_rng(0)
    for i in range(count):
        folder = root / f"label{i % LABELS}"
        folder.mkdir(parents=True, exist_ok=True)
        cells = drawn.integers(0, 256, (*CELLS[::-1], 3), dtype=np.uint8)
        Image.fromarray(cells).resize(SIZE, Image.Resampling.BICUBIC).save(folder / f"{i:06d}.jpg", quality=92)


def ingested(folder: str) -> None:
    root = Path(folder)
    block = {"format": "folder", "path": str(root / "set"), "labels": str(root / "set")}
    summary = ingest("drawn", DATASETS["folder"].model_validate(block), root / "data", root / "reports")
    assert summary["refused"] == 0, summary


def loop(folder: str) -> None:
    root = Path(folder)
    (root / "loop").mkdir()
    for file in (root / "set").rglob("*.jpg"):
        with Image.open(file) as opened:
            image = opened.convert("RGB")
            image.thumbnail((640, 640))
            image.save(root / "loop" / file.name, quality=95)


def fixed_camera(frames: str) -> None:
    count = int(frames)
    drawn = np.random.default_rng(0)
    scene = drawn.integers(60, 200, (16, 17))
    seen = np.stack([np.clip(scene + drawn.integers(-6, 6, (16, 17)), 0, 255).astype(np.uint8) for _ in range(count)])
    found = near_duplicates(seen, [str(i) for i in range(count)], [None] * count)
    assert [len(s) for s in found.sets] == [count]


def _alone(call: str, given: str) -> tuple[float, float, int]:
    """Seconds, seconds of CPU, and bytes above what it had before, of one of CALLS in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.ingest", "--alone", call, given]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds, cpu, memory = said.split()
    return float(seconds), float(cpu), int(memory)


def _measure(call: str, given: str) -> None:
    before, cpu, start = peak_memory() or 0, _cpu_seconds(), time.perf_counter()
    CALLS[call](given)
    print(time.perf_counter() - start, _cpu_seconds() - cpu, (peak_memory() or 0) - before)


def _cpu_seconds() -> float:
    """Of this process and those that work for it, which wait for more work."""
    times = [one.cpu_times() for one in (psutil.Process(), *psutil.Process().children(recursive=True))]
    return sum(t.user + t.system for t in times)


CALLS: dict[str, Callable[[str], None]] = {"ingest": ingested, "loop": loop, "frames": fixed_camera}


if __name__ == "__main__":
    main()

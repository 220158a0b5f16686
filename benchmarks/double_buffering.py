"""Frames per second of `pocketlens predict` on a clip: its steps overlapping, and one after the other.

    python -m benchmarks.double_buffering RUN [--clip FILE] [--targets NAMES] [--repeats N]

RUN is exported. Without --clip: images of its ingested test split drift by, 1280 x 720. Timed as a user has it, from
the call to the last answer, the opening of the model's file included; alone, and with --draw (drawing and encoding).
"One after the other" is a plain loop over the same steps. x264 has threads of its own in both, so with drawing the
encoder overlaps with the rest either way. Runs are interleaved; medians and their ratio.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import reduce
from itertools import cycle, islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

from PIL import Image

from pipeline.core.image_file import open_image
from pipeline.core.sample import read_samples
from pipeline.core.spec import model_folder, read_spec
from pipeline.datasets.video_write import ClipWriter
from pipeline.inference.overlap import Stream
from pipeline.inference.predict import predict_sources

MODELS, EXPORTS = Path("models"), Path("exports")
WIDTH, HEIGHT, FRAMES = 1280, 720, 200
SHOWN = 15  # frames of each image


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("--clip", type=Path)
    parser.add_argument("--targets", default="onnx_int8,executorch_int8")
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()
    print(f"{asked.run}, frames per second:   one after the other   overlapping   ratio")
    with tempfile.TemporaryDirectory() as name:
        clip = asked.clip or _drifting(asked.run, Path(name) / "clip.mp4")
        for target in asked.targets.split(","):
            for drawings in (None, Path(name) / "drawn"):
                seconds: dict[bool, list[float]] = {True: [], False: []}
                for repeat in range(asked.repeats + 1):
                    for overlaps, taken in seconds.items():
                        frames, value = _timed(clip, asked.run, target, drawings, overlaps)
                        if repeat > 0:  # the first one warms up
                            taken.append(value)
                after, over = (frames / statistics.median(seconds[way]) for way in (False, True))
                what = f"{target}, {'predict only' if drawings is None else 'draw and encode'}"
                print(f"{what:35} {after:11.1f} {over:13.1f} {over / after:9.2f} x", flush=True)


def _timed(clip: Path, run: str, target: str, drawings: Path | None, overlaps: bool) -> tuple[int, float]:
    """How many frames, and seconds."""
    start = time.perf_counter()
    answers = predict_sources([str(clip)], run, target, MODELS, EXPORTS, drawings)
    if overlaps:
        return sum(1 for _ in answers), time.perf_counter() - start
    with patch("pipeline.inference.predict.overlapped", _one_after_the_other):
        return sum(1 for _ in answers), time.perf_counter() - start


def _one_after_the_other(items: Stream, *steps: Callable[[Any], Any]) -> Stream:
    for item in items:
        yield reduce(lambda made, step: step(made), steps, item)


def _drifting(run: str, path: Path) -> Path:
    test = Path("data/ingested") / read_spec(model_folder(MODELS, run) / "model.json").dataset / "test"
    pictures = (open_image(test / s.file_name) for s in cycle(read_samples(test)))
    writer = ClipWriter(path, Fraction(30))
    for picture in islice(pictures, FRAMES // SHOWN):
        for frame in _drift(picture):
            writer.add(frame)
    writer.close()
    return path


def _drift(picture: Image.Image) -> Iterator[Image.Image]:
    """Nine tenths of the image in each direction, ever further to the right and down."""
    w, h = picture.size
    for place in range(SHOWN):
        left, top = (0.1 * side * place / SHOWN for side in (w, h))
        box = (left, top, left + 0.9 * w, top + 0.9 * h)
        yield picture.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC, box=box)


if __name__ == "__main__":
    main()

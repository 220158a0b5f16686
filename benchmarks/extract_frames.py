"""Frames of clips: ours beside OpenCV, PyAV, torchcodec and the program ffmpeg, on the same clips.

    python -m benchmarks.extract_frames [--clips FOLDER] [--count 8] [--rounds 5] [--threads 1]

Takes `--count` evenly spaced frames of each clip, as `ingest` does, and then all of them, as Pillow's images; of the
clips below FOLDER (default: ucf101/videos of POCKETLENS_REAL_DATA, where that is set) and of a drawn one of 20 seconds,
1920 x 1080, H.264. Each runs in a process of its own, in turns: frames per second by the clock and of CPU (with that of
the program ffmpeg), and the process's highest memory, medians of the rounds, and the ratio to the fastest by CPU, which
other programs disturb less. A clip is decoded on `--threads` threads, as `ingest` gives a core to each. What is not
installed is named and left out: torchcodec and the program ffmpeg (or imageio-ffmpeg, which carries it).
"""

import argparse
import importlib.util
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.core.memory import peak_memory
from pipeline.datasets.formats.reading import CLIP_SUFFIXES, files_under
from pipeline.datasets.video import frames, stream
from pipeline.datasets.video_write import ClipWriter

SECONDS, RATE, SIZE = 20, 25, (1920, 1080)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--clips", type=Path)
    parser.add_argument("--count", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--alone", nargs=4, help=argparse.SUPPRESS)  # reader, clips, count, threads
    asked = parser.parse_args()
    if asked.alone:
        reader, clips, count, threads = asked.alone
        _measure(reader, json.loads(clips), int(count), int(threads))
        return
    real = os.environ.get("POCKETLENS_REAL_DATA")
    folder = asked.clips or (Path(real) / "ucf101/videos" if real else None)
    with tempfile.TemporaryDirectory() as name:
        sets = {"a drawn clip of 1080p": [str(draw(Path(name) / "drawn.mp4"))]}
        if folder:
            sets = {str(folder.name): [str(p) for p in sorted(files_under(folder, CLIP_SUFFIXES))], **sets}
        for of, clips in sets.items():
            for count in (asked.count, 0):
                what = f"{count} frames of each" if count else "all frames"
                print(f"{of}, {len(clips)} clips, {what}, {asked.threads} threads", flush=True)
                compare(clips, count, asked.threads, asked.rounds)


def compare(clips: list[str], count: int, threads: int, rounds: int) -> None:
    measured: dict[str, list[list[float]]] = {name: [] for name in READERS if not missing(name)}
    for _ in range(rounds):
        for name, rows in measured.items():
            rows.append(_alone(name, clips, count, threads))
    medians = {name: [statistics.median(of) for of in zip(*rows, strict=True)] for name, rows in measured.items()}
    fastest = max(of_cpu for _, of_cpu, _ in medians.values())
    for name in READERS:
        if why := missing(name):
            print(f"  {name:10} not installed: {why}")
            continue
        by_clock, of_cpu, memory = medians[name]
        print(
            f"  {name:10} {by_clock:7.1f} frames/s {of_cpu:7.1f} of CPU {of_cpu / fastest:5.2f} of the fastest "
            f"{memory / 1e6:5.0f} MB",
            flush=True,
        )


def draw(path: Path) -> Path:
    """A scene of smooth colours that moves, with noise, as film has."""
    drawn = np.random.default_rng(0)
    scene = Image.fromarray(drawn.integers(0, 256, (20, 40, 3), dtype=np.uint8)).resize(
        (SIZE[0] + 1000, SIZE[1] + 500), Image.Resampling.BICUBIC
    )
    writer = ClipWriter(path, Fraction(RATE))
    for i in range(SECONDS * RATE):
        seen = np.asarray(scene.crop((2 * i, i, 2 * i + SIZE[0], i + SIZE[1]))).astype(np.int16)
        noise = drawn.integers(-4, 5, (SIZE[1] // 2, SIZE[0] // 2, 1)).repeat(2, axis=0).repeat(2, axis=1)
        writer.add(Image.fromarray(np.clip(seen + noise, 0, 255).astype(np.uint8)))
    writer.close()
    return path


def ours(path: str, count: int, threads: int) -> Iterator[Image.Image]:  # noqa: ARG001 (one thread)
    return (image for _, _, image in frames(path, count)) if count else stream(path)


def opencv(path: str, count: int, threads: int) -> Iterator[Image.Image]:
    os.environ["OPENCV_FFMPEG_CAPTURE_OPTIONS"] = f"threads;{threads}"
    import cv2

    clip = cv2.VideoCapture(path, cv2.CAP_FFMPEG)
    length = int(clip.get(cv2.CAP_PROP_FRAME_COUNT))
    wanted = set(places(length, count))
    for i in range(length):
        if not clip.grab():
            break
        if i in wanted:
            yield Image.fromarray(cv2.cvtColor(clip.retrieve()[1], cv2.COLOR_BGR2RGB))
    clip.release()


def pyav(path: str, count: int, threads: int) -> Iterator[Image.Image]:
    import av

    with av.open(path) as container:
        video = container.streams.video[0]
        video.codec_context.thread_count = threads
        length = video.frames or sum(packet.size > 0 for packet in container.demux(video))  # some containers say 0
        container.seek(0)
        wanted = set(places(length, count))
        for i, frame in enumerate(container.decode(video)):
            if i in wanted:
                yield frame.to_image()


def torchcodec(path: str, count: int, threads: int) -> Iterator[Image.Image]:
    from torchcodec.decoders import VideoDecoder

    clip = VideoDecoder(path, dimension_order="NHWC", num_ffmpeg_threads=threads)
    if count:
        yield from map(Image.fromarray, clip.get_frames_at(places(len(clip), count)).data.numpy())
        return
    for i in range(len(clip)):
        try:
            yield Image.fromarray(clip[i].numpy())
        except RuntimeError:  # of some clips it counts one more than there are
            return


def ffmpeg(path: str, count: int, threads: int) -> Iterator[Image.Image]:
    import av

    with av.open(path) as container:
        video = container.streams.video[0]
        length, width, height = video.frames, video.width, video.height
        length = length or sum(packet.size > 0 for packet in container.demux(video))
    chosen = "+".join(rf"eq(n\,{i})" for i in places(length, count))
    picked = ["-vf", f"select={chosen}", "-fps_mode", "passthrough"] if count else []
    command = [ffmpeg_program(), "-v", "error", "-threads", str(threads), "-i", path, *picked]
    with subprocess.Popen([*command, "-f", "rawvideo", "-pix_fmt", "rgb24", "-"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        while len(pixels := process.stdout.read(width * height * 3)) == width * height * 3:
            yield Image.frombytes("RGB", (width, height), pixels)


def ffmpeg_program() -> str:
    if found := shutil.which("ffmpeg"):
        return found
    import imageio_ffmpeg

    return str(imageio_ffmpeg.get_ffmpeg_exe())


def places(length: int, count: int) -> list[int]:
    """The middles of `count` equal parts; all for 0."""
    return [(2 * i + 1) * length // (2 * count) for i in range(count)] if count else list(range(length))


def missing(reader: str) -> str:
    """What is to be installed for it; "" for nothing."""
    if reader == "torchcodec" and not importlib.util.find_spec("torchcodec"):
        return "torchcodec"
    if reader == "ffmpeg" and not (shutil.which("ffmpeg") or importlib.util.find_spec("imageio_ffmpeg")):
        return "the program ffmpeg, or imageio-ffmpeg"
    return ""


def _alone(reader: str, clips: list[str], count: int, threads: int) -> list[float]:
    """Frames per second by the clock and of CPU, and highest bytes of memory, of a reader in a process of its own."""
    given = [reader, json.dumps(clips), str(count), str(threads)]
    command = [sys.executable, "-m", "benchmarks.extract_frames", "--alone", *given]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [float(word) for word in said.split()]


def _measure(reader: str, clips: list[str], count: int, threads: int) -> None:
    read = READERS[reader]
    for _ in read(clips[0], 1, threads):  # imports
        pass
    cpu, start, taken = _cpu_seconds(), time.perf_counter(), 0
    for clip in clips:
        for _ in read(clip, count, threads):
            taken += 1
    print(taken / (time.perf_counter() - start), taken / (_cpu_seconds() - cpu), peak_memory() or 0)


def _cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


READERS: dict[str, Callable[[str, int, int], Iterator[Image.Image]]] = {
    "ours": ours,
    "OpenCV": opencv,
    "PyAV": pyav,
    "torchcodec": torchcodec,
    "ffmpeg": ffmpeg,
}


if __name__ == "__main__":
    main()

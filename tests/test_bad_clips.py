"""Every kind of odd or broken clip in one set, in both formats of clips: what plays is kept, with a note where it is
damaged, what does not is refused by name, and the source stays as it was.
"""

import json
import os
import random
import shutil
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from source import unchanged
from test_bad_labels import block
from test_ingest import ledger, run
from test_video import without_video

FRAMES, SIZE = 20, (96, 72)


def clip(path: Path, seed: int = 0, codec: str = "mpeg4", pix_fmt: str = "yuv420p", **options: str) -> Path:
    """Noise, whose frames differ and take many bytes."""
    draw = np.random.default_rng(seed)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        (stream.width, stream.height), stream.pix_fmt = SIZE, pix_fmt
        for _ in range(FRAMES):
            pixels = draw.integers(0, 256, (*SIZE[::-1], 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def changed(path: Path, change: Callable[[bytearray], bytes]) -> None:
    clip(path, sum(path.name.encode()))
    path.write_bytes(change(bytearray(path.read_bytes())))


def without_index(data: bytearray) -> bytes:
    return bytes(data[: data.rindex(b"idx1") + 8]) + bytes(len(data) - data.rindex(b"idx1") - 8)


def corrupt(data: bytearray) -> bytes:
    data[len(data) // 2 : len(data) // 2 + 200] = random.Random(1).randbytes(200)
    return bytes(data)


def without_frames(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        container.start_encoding()


def variable_rate(path: Path) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for i in range(FRAMES):
            frame = av.VideoFrame.from_ndarray(np.full((*SIZE[::-1], 3), 10 * i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = 40 * i + (i > 9) * 700 + i % 3, Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


# name -> how it is made; the ledger's rule, "" for a clip that is as good as any
ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "no_index.avi": (lambda path: changed(path, without_index), ""),
    "variable_rate.mp4": (variable_rate, ""),
    "ten_bits.mkv": (lambda path: clip(path, 1, "ffv1", "yuv420p10le"), ""),
    "reordered.mp4": (lambda path: clip(path, 2, bf="2"), ""),
    "other_container.avi": (lambda path: clip(path.with_suffix(".mp4"), 3).rename(path), ""),
    "fewer.avi": (lambda path: changed(path, lambda data: data[: len(data) * 95 // 100]), "damaged_clip"),
    "corrupt.avi": (lambda path: changed(path, corrupt), ""),  # where no frame is taken
    "short.mkv": (lambda path: changed(path, lambda data: data[: len(data) * 8 // 10]), "damaged_clip"),
    "half.avi": (lambda path: changed(path, lambda data: data[: len(data) // 2]), "unreadable_clip"),
    "cut.mp4": (lambda path: changed(path, lambda data: data[: len(data) // 2]), "unreadable_clip"),
    "no_frames.avi": (without_frames, "unreadable_clip"),
    "no_decoder.avi": (lambda path: changed(path, lambda data: data.replace(b"FMP4", b"ZZZZ")), "unreadable_clip"),
    "sound.avi": (without_video, "unreadable_clip"),
    "empty.avi": (Path.touch, "unreadable_clip"),
    "page.avi": (lambda path: path.write_text("<html>"), "unreadable_clip"),
    "dangling.avi": (lambda path: path.symlink_to("nowhere.avi"), "unreadable_clip"),
    "loop.avi": (lambda path: path.symlink_to(path), "unreadable_clip"),
}  # fmt: skip


def taken(tmp_path: Path, root: Path, form: str) -> tuple[dict[str, int], set[tuple[str, str]]]:
    """Clip -> how many images of it are kept; and the ledger's rows about clips."""
    labels = root
    if form == "ucf24":
        labels = tmp_path / "boxes.json"
        track = {"start_frame": 0, "end_frame": 3, "boxes_xywh": [[4, 4, 20, 20]] * 3}
        labels.write_text(json.dumps({f.stem: {"tracks": [track]} for f in root.rglob("*.*")}))
    with unchanged(root):
        _, samples = run(tmp_path, block(form, root, labels=labels))
    counts: dict[str, int] = {}
    for s in samples.values():
        counts[str(s.clip)] = counts.get(str(s.clip), 0) + 1
    return counts, {(Path(file).name, rule) for file, _, rule, _ in ledger(tmp_path) if file.startswith(("Run", "Hop"))}


@pytest.mark.parametrize("form", ["ucf101", "ucf24"])
def test_odd_clips_are_kept_and_broken_ones_are_named(tmp_path: Path, form: str) -> None:
    root = tmp_path / "clips"
    for i in range(6):
        path = root / ("Run", "Hop")[i % 2] / f"good{i}.avi"
        path.parent.mkdir(parents=True, exist_ok=True)
        clip(path, 10 + i)
    names = {name: f"{('Run', 'Hop')[i % 2]}/{name}" for i, name in enumerate(ODD)}
    for name, (make, _) in ODD.items():
        make(root / names[name])
    counts, rows = taken(tmp_path, root, form)
    assert rows == {(name, rule) for name, (_, rule) in ODD.items() if rule}
    kept = [name for name, (_, rule) in ODD.items() if rule != "unreadable_clip"]
    each = {"ucf101": 8, "ucf24": 3}[form]
    assert counts == dict.fromkeys((*(f"good{i}" for i in range(6)), *(Path(name).stem for name in kept)), each)


@pytest.mark.real
@pytest.mark.parametrize("form", ["ucf101", "ucf24"])
def test_real_odd_clips_are_kept(tmp_path: Path, form: str) -> None:
    """Turned ones, 10 bits, AV1, H.265, unordered timestamps, pixels that are wider than high."""
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    files = sorted(Path(os.environ["POCKETLENS_REAL_DATA"], "odd-videos").iterdir())
    for file in files:
        label = "Hop" if file.stem in ("part_0", "test") else "Run"  # a part and the whole, with the same pixels
        (tmp_path / "clips" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(file, tmp_path / "clips" / label / file.name)
    counts, rows = taken(tmp_path, tmp_path / "clips", form)
    short = {"unordered": 4} | dict.fromkeys(("video_0", "video_90", "video_180"), 3)
    most = {"ucf101": 8, "ucf24": 3}[form]
    assert rows == set()
    assert counts == {file.stem: min(most, short.get(file.stem, most)) for file in files}

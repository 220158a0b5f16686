"""Evenly spaced, upright frames of whatever decodes."""

import os
import random
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline.datasets import video
from pipeline.datasets.video import ClipError, frame_rate, frames, stream
from pipeline.datasets.video_write import ClipWriter

LEVELS = 30  # a frame's grey level says which one it is: 5 levels a frame


def clip(path, count, size=(64, 48), codec="mpeg4", rate=25):
    """Write a clip whose frame i is grey 5 i."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
        for i in range(count):
            pixels = np.full((size[1], size[0], 3), 5 * i, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("length", "count", "expected"),
    [
        (10, 1, [5]),
        (10, 2, [2, 7]),
        (10, 5, [1, 3, 5, 7, 9]),
        (10, 10, list(range(10))),
        (3, 8, [0, 1, 2]),  # fewer than asked
        (1, 4, [0]),
    ],
)
def test_frames_are_the_middles_of_equal_parts(tmp_path, length, count, expected):
    found = list(frames(clip(tmp_path / "c.avi", length), count))
    assert [place for place, _, _ in found] == expected
    for place, time, image in found:
        assert image.mode == "RGB"
        assert image.size == (64, 48)
        assert time == pytest.approx(place / 25)
        assert np.asarray(image).mean() == pytest.approx(5 * place, abs=4)


@pytest.mark.parametrize(("name", "codec"), [("c.avi", "mjpeg"), ("c.mp4", "mpeg4"), ("c.mkv", "ffv1")])
def test_containers_and_codecs(tmp_path, name, codec):
    found = list(frames(clip(tmp_path / name, 12, codec=codec), 3))
    assert [place for place, _, _ in found] == [2, 6, 10]


@pytest.mark.parametrize("read", [lambda path: list(frames(path, 3)), lambda path: next(stream(path)), frame_rate])
def test_a_pipe_is_not_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "c.mp4")
    with pytest.raises(ClipError, match="no regular file"):
        read(tmp_path / "c.mp4")


def truncated(path):
    whole = clip(path, 40, codec="mjpeg").read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def without_video(path):
    with av.open(str(path), "w", format="wav") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
        container.mux(stream.encode(None))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda path: path.write_bytes(b""), "does not decode"),
        (lambda path: path.write_text("not a clip"), "does not decode"),
        (lambda path: None, "does not decode: No such file"),
        (truncated, "of 40 frames decode"),
        (without_video, "no video stream"),
    ],
)
def test_what_does_not_decode_is_said(tmp_path, make, found):
    make(tmp_path / "c.avi")
    with pytest.raises(ClipError, match=found) as error:
        list(frames(tmp_path / "c.avi", 4))
    assert str(tmp_path) not in str(error.value)


@pytest.mark.parametrize("seed", range(90))
def test_a_spoilt_clip_is_one_kind_of_error(tmp_path, seed):
    """Of FFmpeg's errors most are no OSError; PyAV has some of its own."""
    draw, data = random.Random(seed), bytearray(clip(tmp_path / "c.mp4", 12).read_bytes())
    if seed % 3 == 0:
        data = data[: draw.randrange(len(data))]
    for _ in range(draw.randint(1, 12) if seed % 3 else 0):
        place = draw.randrange(len(data)) if seed % 3 == 1 else -draw.randint(1, 1200)  # the index is at the end
        data[place] = draw.randrange(256)
    (tmp_path / "c.mp4").write_bytes(data)
    for read in (lambda path: list(stream(path)), lambda path: list(frames(path, 3)), frame_rate):
        try:
            assert read(tmp_path / "c.mp4") or read is not frame_rate
        except ClipError as error:
            assert str(error)


def test_an_image_that_would_be_too_large_with_square_pixels_is_not_made(tmp_path):
    with av.open(str(tmp_path / "c.mp4"), "w") as container:
        made = container.add_stream("mpeg4", rate=5)
        made.width, made.height, made.pix_fmt = 720, 576, "yuv420p"
        made.codec_context.sample_aspect_ratio = Fraction(255, 1)
        container.mux(made.encode(av.VideoFrame.from_ndarray(np.zeros((576, 720, 3), np.uint8), format="rgb24")))
        container.mux(made.encode(None))
    with pytest.raises(ClipError, match="183600 x 576 pixels; expected at most"):
        list(stream(tmp_path / "c.mp4"))


@pytest.mark.parametrize("size", [(17000, 20), (20000, 20000)])
def test_what_the_encoder_does_not_take_is_an_oserror(tmp_path, size):
    writer = ClipWriter(tmp_path / "c.mp4", Fraction(10))
    with pytest.raises(OSError, match=r"external library|Invalid argument"):
        writer.add(Image.new("RGB", size))
    writer.discard()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "size", "count"),
    [
        ("video_0.mov", (568, 320), 3),
        ("video_90.mov", (320, 568), 3),
        ("video_180.mov", (568, 320), 3),
        ("unordered.mov", (50, 50), 4),
        ("h264_10bits.mp4", (200, 200), 5),
        ("av1_video.mkv", (640, 360), 5),
        ("h265_video.mp4", (128, 128), 5),
        ("part_0.mp4", (455, 256), 5),  # 340 x 256 pixels that are wider than high
        ("test.mp4", (455, 256), 5),
    ],
)
def test_odd_videos(name, size, count):
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    found = list(frames(Path(os.environ["POCKETLENS_REAL_DATA"]) / "odd-videos" / name, 5))
    assert len(found) == count
    assert {image.size for _, _, image in found} == {size}
    times = [time for _, time, _ in found]
    assert times == sorted(times)


def encoded(path, count, codec="libx264", options=None, size=(64, 48)):
    """A clip of noise that moves, in which no frame could be another one, and which is no new scene each time."""
    noise = np.random.default_rng(0).integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        made = container.add_stream(codec, rate=25, options=options or {})
        (made.width, made.height), made.pix_fmt = size, "yuv420p"
        for i in range(count):
            pixels = np.ascontiguousarray(np.roll(noise, i, axis=1))
            container.mux(made.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(made.encode(None))
    return path


@pytest.mark.parametrize("width", [16, 48, 50, 52, 54, 56, 58, 62, 322, 320])
def test_pixels_are_those_of_pyav_at_any_width(tmp_path, width):
    made = encoded(tmp_path / "c.mp4", 3, "mpeg4", size=(width, 34))
    with av.open(str(made)) as container:
        expected = [frame.to_image().tobytes() for frame in container.decode(video=0)]
    assert [image.tobytes() for image in stream(made)] == expected
    assert [image.convert("RGBA").getextrema()[3] for image in stream(made)] == [(255, 255)] * 3


def looked_at(monkeypatch):
    """Counts the frames that are decoded where the whole clip is."""
    decoded, whole = [], video._decode

    def counted(path):
        for frame in whole(path):
            decoded.append(frame)
            yield frame

    monkeypatch.setattr(video, "_decode", counted)
    return decoded


def as_the_whole_clip_has_them(monkeypatch, path, count, among=None, notes=None):
    with monkeypatch.context() as patch:
        patch.setattr(video, "frames_by_keyframes", lambda *_: None)
        return [(place, time, image.tobytes()) for place, time, image in frames(path, count, among, notes)]


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("c.mp4", "libx264", {"g": "10"}),
        ("c.mp4", "libx264", {"g": "10", "bf": "3", "x264-params": "open-gop=1:b-pyramid=normal:scenecut=0"}),
        ("c.mp4", "libx264", {"g": "1"}),
        ("c.mov", "libx264", {"g": "250", "bf": "0"}),
        ("c.mp4", "libx265", {"g": "10", "x265-params": "log-level=none:bframes=3:open-gop=1"}),
        ("c.avi", "mpeg4", {"g": "12"}),
        ("c.mp4", "mpeg4", {"g": "12", "bf": "2"}),
        ("c.avi", "mjpeg", {}),
    ],
)
@pytest.mark.parametrize(("count", "among"), [(1, None), (5, None), (60, None), (3, range(21, 40))])
def test_frames_by_keyframes_are_those_of_the_whole_clip(tmp_path, monkeypatch, name, codec, options, count, among):
    if codec not in av.codecs_available:
        pytest.skip(f"this FFmpeg has no {codec}")
    made = encoded(tmp_path / name, 60, codec, options) if codec != "mjpeg" else clip(tmp_path / name, 50, codec=codec)
    expected = as_the_whole_clip_has_them(monkeypatch, made, count, among)
    decoded = looked_at(monkeypatch)
    assert [(place, time, image.tobytes()) for place, time, image in frames(made, count, among)] == expected
    assert decoded == []


def short_of_a_frame(path, short=(27,)):
    """As some of UCF101: MPEG-4 packets that say there is no new frame, which the index counts as one each."""
    source = encoded(path.with_name("whole.avi"), 40, "mpeg4", {"g": "12"})
    with av.open(str(source)) as given, av.open(str(path), "w") as container:
        made = container.add_stream_from_template(given.streams.video[0])
        for i, packet in enumerate(packet for packet in given.demux(video=0) if packet.size):
            out = av.Packet(not_coded(bytes(packet))) if i in short else packet
            out.pts, out.dts, out.time_base, out.stream = packet.pts, packet.dts, packet.time_base, made
            container.mux(out)
    return path


def not_coded(packet):
    """The beginning of a VOP up to and with the bit vop_coded, as 0; 25 frames a second have 5 bits of time."""
    bits = "".join(f"{byte:08b}" for byte in packet[4:12])
    kind, rest = bits[:2], bits[2:]
    seconds = rest.index("0") + 1
    head = kind + rest[: seconds + 1 + 5 + 1] + "0"
    head += "0" + "1" * (-(len(head) + 1) % 8)
    return packet[:4] + bytes(int(head[i : i + 8], 2) for i in range(0, len(head), 8))


def cut(path):
    data = encoded(path, 40, "mpeg4", {"g": "12"}).read_bytes()
    path.write_bytes(data[: int(len(data) * 0.95)])


def damaged(path):
    data = bytearray(encoded(path, 40, "mpeg4", {"g": "12"}).read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = random.Random(1).randbytes(200)
    path.write_bytes(data)


@pytest.mark.parametrize(("short", "parts"), [((27,), True), ((39,), True), ((3, 13, 27), False)])
@pytest.mark.parametrize("count", [1, 3, 40])
def test_packets_without_a_frame_are_told_by_decoding_what_lies_around_them(tmp_path, monkeypatch, short, parts, count):
    path = short_of_a_frame(tmp_path / "c.avi", short)
    whole, told = [], []
    expected = as_the_whole_clip_has_them(monkeypatch, path, count, notes=whole)
    decoded = looked_at(monkeypatch)
    assert [(place, time, image.tobytes()) for place, time, image in frames(path, count, notes=told)] == expected
    assert (decoded == []) == parts, "where most parts have such a packet, all are decoded"
    with av.open(str(path)) as container:
        decode = sum(1 for _ in container.decode(video=0))
    assert told == whole == ([f"{decode} of 40 declared frames decode"] if decode < 40 else [])


@pytest.mark.parametrize(("spoil", "count"), [(cut, 3), (damaged, 40)])
def test_a_clip_that_is_not_as_it_tells_is_decoded_in_whole(tmp_path, monkeypatch, spoil, count):
    path = tmp_path / "c.avi"
    spoil(path)
    expected = as_the_whole_clip_has_them(monkeypatch, path, count)
    decoded = looked_at(monkeypatch)
    assert [(place, time, image.tobytes()) for place, time, image in frames(path, count)] == expected
    assert decoded


def test_a_clip_that_is_too_large_to_keep_is_decoded_twice(tmp_path, monkeypatch):
    path = encoded(tmp_path / "c.mkv", 20, "mpeg4")  # Matroska does not say how many frames there are
    decoded = looked_at(monkeypatch)
    expected = [(place, image.tobytes()) for place, _, image in frames(path, 20)]
    assert len(decoded) == 20
    monkeypatch.setattr(video, "ROOM", 10_000)
    decoded.clear()
    assert [(place, image.tobytes()) for place, _, image in frames(path, 20)] == expected
    assert len(decoded) == 40


def noise(path, count, codec, size=(128, 96)):
    """A clip that takes many bytes, so that damage falls into its frames."""
    draw = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        made = container.add_stream(codec, rate=25)
        (made.width, made.height), made.pix_fmt = size, "yuv420p"
        for _ in range(count):
            pixels = draw.integers(0, 256, (*size[::-1], 3), dtype=np.uint8)
            container.mux(made.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(made.encode(None))
    return path


@pytest.mark.parametrize(
    ("name", "codec", "cut", "found"),
    [
        ("c.avi", "mpeg4", 0.95, r"(\d+) of 40 declared frames decode; 1 of \1 frames decode with damage"),
        ("c.mkv", "mpeg4", 0.6, r"\d+ frames decode, of about 40 by its length"),
        ("c.webm", "libvpx", 0.6, r"\d+ frames decode, of about 40 by its length"),
    ],
)
def test_fewer_frames_than_declared_are_said(tmp_path, name, codec, cut, found):
    path, notes = noise(tmp_path / name, 40, codec), []
    assert len(list(frames(path, 4, notes=notes))) == 4
    assert notes == []
    path.write_bytes(path.read_bytes()[: int(cut * path.stat().st_size)])
    assert len(list(frames(path, 4, notes=notes))) == 4
    assert re.match(found, "; ".join(notes))


def test_damage_in_the_middle_is_said(tmp_path):
    path, notes = noise(tmp_path / "c.avi", 40, "mpeg4"), []
    data = bytearray(path.read_bytes())
    data[len(data) // 2 : len(data) // 2 + 200] = random.Random(1).randbytes(200)
    path.write_bytes(data)
    assert len(list(frames(path, 40, notes=notes))) == 40
    assert notes == ["1 of 40 frames decode with damage"]


def test_labels_behind_the_end_are_said(tmp_path):
    notes = []
    assert [place for place, _, _ in frames(clip(tmp_path / "c.avi", 10), 4, {3, 8, 10, 30}, notes)] == [3, 8]
    assert notes == ["2 labelled frames, from 10 on, are behind its end"]

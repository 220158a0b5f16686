"""A clip as evenly spaced images, by PyAV."""

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from PIL import Image

from pipeline.core.boundary import of_the_machine
from pipeline.core.image_file import MOST_PIXELS
from pipeline.datasets.keyframes import NotAsToldError, frames_by_keyframes

ROOM = 64 << 20  # bytes of a clip's frames that are kept, so that it is decoded once
WHOLE = 0.9  # a clip of which less than this share decodes is broken
LENGTH = re.compile(r"(\d+):(\d+):(\d+\.?\d*)")  # as Matroska has it


class ClipError(ValueError):
    """The clip does not decode; the message says what was found."""


def frames(
    path: Path | str, count: int, among: Collection[int] | None = None, notes: list[str] | None = None
) -> Iterator[tuple[int, float | None, Image.Image]]:
    """Yield `count` images as (place in the clip from 0, seconds or None, RGB image), evenly spaced.

    They are the middles of `count` equal parts of the frames that decode, in the order of their timestamps; a clip
    with fewer frames gives those it has. With `among`, the places that may be taken, the parts are of those. Upright
    and with square pixels, as a player shows them. Where the container tells which frames there are, and those that are
    taken decode as it tells, the others are not looked at. `notes` gets what is wrong with a clip of which images are
    taken all the same. Raises ClipError.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.datasets.video_write import ClipWriter
    >>> with TemporaryDirectory() as folder:
    ...     writer = ClipWriter(Path(folder, "clip.mp4"), Fraction(10))
    ...     for _ in range(8):
    ...         writer.add(Image.new("RGB", (64, 48)))
    ...     writer.close()
    ...     [(place, image.size) for place, _, image in frames(Path(folder, "clip.mp4"), 2)]
    [(2, (64, 48)), (6, (64, 48))]
    """
    try:
        sought = _sought(path, count, among, notes)
    except (ClipError, NotAsToldError):
        sought = None
    if sought is not None:
        yield from sought
        return
    kept: list[tuple[av.VideoFrame, Fraction]] = []
    times, faults = _decoded_times(path, kept)
    # containers may hold frames out of order, and without timestamps the order of decoding is all there is
    order = sorted(range(len(times)), key=lambda i: (times[i] is None, times[i] or 0, i))
    open_to = range(len(order)) if among is None else sorted(place for place in among if 0 <= place < len(order))
    if not open_to:
        raise ClipError(f"none of the {len(order)} frames that decode is labelled")
    if behind := [place for place in among or () if place >= len(order)]:
        faults.append(f"{len(behind)} labelled frames, from {min(behind)} on, are behind its end")
    if notes is not None:
        notes += faults
    places = _middles(open_to, count)
    wanted = {order[place]: place for place in places}
    taken: dict[int, tuple[float | None, Image.Image]] = {}
    to_rgb = VideoReformatter()
    for i, (frame, aspect) in enumerate(kept or _decode(path)):
        if i in wanted:
            taken[wanted[i]] = (frame.time if frame.pts is not None else None, _upright(frame, aspect, to_rgb))
        if len(taken) == len(places):
            break
    for place in places:
        yield place, *taken[place]


def stream(path: Path | str) -> Iterator[Image.Image]:
    """All frames of a clip as RGB images, upright, in the order in which they decode. Raises ClipError.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.datasets.video_write import ClipWriter
    >>> with TemporaryDirectory() as folder:
    ...     writer = ClipWriter(Path(folder, "clip.mp4"), Fraction(10))
    ...     for _ in range(3):
    ...         writer.add(Image.new("RGB", (64, 48)))
    ...     writer.close()
    ...     len(list(stream(Path(folder, "clip.mp4"))))
    3
    """
    to_rgb = VideoReformatter()
    for frame, aspect in _decode(path):
        yield _upright(frame, aspect, to_rgb)


def frame_rate(path: Path | str) -> Fraction:
    """Frames in a second, on average; 25 where the clip does not say. Raises ClipError.

    >>> from tempfile import TemporaryDirectory
    >>> from pipeline.datasets.video_write import ClipWriter
    >>> with TemporaryDirectory() as folder:
    ...     writer = ClipWriter(Path(folder, "clip.mp4"), Fraction(10))
    ...     for _ in range(3):
    ...         writer.add(Image.new("RGB", (64, 48)))
    ...     writer.close()
    ...     frame_rate(Path(folder, "clip.mp4"))
    Fraction(10, 1)
    """
    with _decoding(), av.open(_url(path)) as container:
        return next((s.average_rate for s in container.streams.video if s.average_rate), Fraction(25))


def camera(number: int) -> Iterator[Image.Image]:
    """What a camera of this machine sees, RGB, until it is unplugged. Raises ClipError if there is none."""
    import cv2

    device = cv2.VideoCapture(number)
    try:
        if not device.isOpened():
            raise ClipError(f"no camera {number} that opens on this machine")
        while True:
            seen, pixels = device.read()
            if not seen:
                raise ClipError(f"camera {number} gives no more images")
            yield Image.fromarray(cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB))
    finally:
        device.release()


def _url(path: Path | str) -> str:
    """As FFmpeg takes it: it would read a path with a colon, as of a folder camera:1, as an address. Raises ClipError
    for what is there and no file, as a pipe that nobody writes into: FFmpeg would wait for it.
    """
    if Path(path).exists() and not Path(path).is_file():
        raise ClipError("no regular file")
    return f"file:{path}"


@contextmanager
def _decoding() -> Iterator[None]:
    """Raises ClipError for what a spoilt clip makes FFmpeg, PyAV and Pillow raise, which is almost anything."""
    try:
        yield
    except (ClipError, NotAsToldError):
        raise
    except Exception as error:  # as in core.image_file
        if of_the_machine(error):
            raise
        found = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise ClipError(f"does not decode: {found}") from None


def _middles(open_to: Sequence[int], count: int) -> list[int]:
    """Of `count` equal parts."""
    count = min(count, len(open_to))
    return [open_to[(2 * i + 1) * len(open_to) // (2 * count)] for i in range(count)]


def _sought(
    path: Path | str, count: int, among: Collection[int] | None, notes: list[str] | None
) -> list[tuple[int, float | None, Image.Image]] | None:
    """What `frames` gives, by keyframes; None where the whole clip has to be decoded. Raises NotAsToldError too."""

    to_rgb, faults = VideoReformatter(), list[str]()
    with _decoding(), av.open(_url(path)) as container:
        video = _video(container)

        def wanted(length: int) -> list[int]:
            if length < WHOLE * video.frames:
                return []
            faults.extend(_fewer(length, video.frames))
            if among is None:
                return _middles(range(length), count)
            # a place behind the end, or none at all, is for those to tell who know all frames
            return _middles(sorted(among), count) if among and max(among) < length and min(among) >= 0 else []

        found = frames_by_keyframes(container, video, wanted)
        aspect = Fraction(video.sample_aspect_ratio or 1)
        taken: list[tuple[int, float | None, Image.Image]] = []
        for place, frame in found or ():
            taken.append((place, frame.time, _upright(frame, aspect, to_rgb)))
    if taken and notes is not None:
        notes += faults
    return taken or None


def _decoded_times(path: Path | str, kept: list[tuple[av.VideoFrame, Fraction]]) -> tuple[list[int | None], list[str]]:
    """The timestamp of each frame that decodes, as what the container declares is often wrong; and what is wrong.

    `kept` gets the frames, if there is ROOM for all of them.
    """
    times, damaged, room = [], 0, ROOM
    for frame, aspect in _decode(path):
        times.append(frame.pts)
        damaged += frame.is_corrupt
        if room > 0:
            kept.append((frame, aspect))
            room -= sum(plane.buffer_size for plane in frame.planes)
        else:
            kept.clear()
    with _decoding(), av.open(_url(path)) as container:
        stream = container.streams.video[0]
        declared, seconds, rate = (
            stream.frames,
            LENGTH.fullmatch(stream.metadata.get("DURATION", "")),
            stream.average_rate,
        )
    if not times or len(times) < WHOLE * declared:
        raise ClipError(f"{len(times)} of {declared or 'its'} frames decode")
    faults = _fewer(len(times), declared)
    if not declared and seconds and rate:  # Matroska and WebM say how long they are, and no number
        expected = round((int(seconds[1]) * 3600 + int(seconds[2]) * 60 + float(seconds[3])) * rate)
        if len(times) < WHOLE * expected:
            faults.append(f"{len(times)} frames decode, of about {expected} by its length")
    if damaged:
        faults.append(f"{damaged} of {len(times)} frames decode with damage")
    return times, faults


def _fewer(decode: int, declared: int) -> list[str]:
    return [f"{decode} of {declared} declared frames decode"] if decode < declared else []


def _decode(path: Path | str) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Each frame with the width of its pixels over their height. Raises ClipError."""
    with _decoding(), av.open(_url(path)) as container:
        stream = _video(container)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        for frame in container.decode(stream):
            yield frame, aspect


def _video(container: InputContainer) -> VideoStream:
    if not container.streams.video:
        raise ClipError("no video stream in it")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ClipError("no decoder for the video stream in it")
    stream.codec_context.thread_count = 1  # clips, not frames, are spread over the cores
    return stream


def _upright(frame: av.VideoFrame, aspect: Fraction, to_rgb: VideoReformatter) -> Image.Image:
    width = frame.width if aspect == 1 else max(1, round(frame.width * aspect))
    if width * frame.height > MOST_PIXELS:
        raise ClipError(f"{width} x {frame.height} pixels; expected at most {MOST_PIXELS}")
    # four bytes a pixel, as Pillow keeps them, are copied in half the time; of other widths FFmpeg leaves out the last
    made, raw = ("rgba", "RGBX") if width % 16 == 0 else ("rgb24", "RGB")
    image = Image.new("RGB", (width, frame.height), None)
    with _decoding():
        # one for all frames: to make it takes as long as a frame's conversion does, and more
        plane = to_rgb.reformat(frame, width, frame.height, made, threads=1).planes[0]
        image.frombytes(memoryview(plane), "raw", raw, plane.line_size, 1)
        turns = round(frame.rotation / 90) % 4  # counter-clockwise, as Pillow turns
    return image.rotate(90 * turns, expand=True) if turns else image

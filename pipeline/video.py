"""A clip as evenly spaced pictures, by PyAV."""

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

WHOLE = 0.9  # a clip of which less than this share decodes is a broken one


class ClipError(ValueError):
    """The clip does not decode; the message says what was found."""


def frames(path: Path | str, count: int) -> Iterator[tuple[int, float | None, Image.Image]]:
    """Yield `count` pictures as (place in the clip from 0, seconds or None, RGB image), evenly spaced.

    They are the middles of `count` equal parts of the frames that decode, in the order of their timestamps; a clip
    with fewer frames gives those it has. Upright and with square pixels, as a player shows them. Raises ClipError.
    """
    times = _decoded_times(path)
    # containers may hold frames out of order, and without timestamps the order of decoding is all there is
    order = sorted(range(len(times)), key=lambda i: (times[i] is None, times[i] or 0, i))
    count = min(count, len(order))
    places = [(2 * i + 1) * len(order) // (2 * count) for i in range(count)]
    wanted = {order[place]: place for place in places}
    taken: dict[int, tuple[float | None, Image.Image]] = {}
    for i, (frame, aspect) in enumerate(_decode(path)):
        if i in wanted:
            taken[wanted[i]] = (frame.time if frame.pts is not None else None, _picture(frame, aspect))
        if len(taken) == count:
            break
    for place in places:
        yield place, *taken[place]


def _decoded_times(path: Path | str) -> list[int | None]:
    """The timestamp of each frame that decodes; what the container declares is often wrong."""
    times = [frame.pts for frame, _ in _decode(path)]
    with av.open(str(path)) as container:
        declared = container.streams.video[0].frames
    if not times or len(times) < WHOLE * declared:
        raise ClipError(f"{len(times)} of {declared or 'its'} frames decode")
    return times


def _decode(path: Path | str) -> Iterator[tuple[av.VideoFrame, Fraction]]:
    """Each frame with the width of its pixels over their height. Raises ClipError."""
    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                raise ClipError("no video stream in it")
            stream = container.streams.video[0]
            stream.codec_context.thread_count = 1  # clips, not frames, are spread over the cores
            aspect = Fraction(stream.sample_aspect_ratio or 1)
            for frame in container.decode(stream):
                yield frame, aspect
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"does not decode: {error.strerror or error}") from None


def _picture(frame: av.VideoFrame, aspect: Fraction) -> Image.Image:
    image = frame.to_image(width=max(1, round(frame.width * aspect)), height=frame.height, threads=1)
    turns = round(frame.rotation / 90) % 4  # counter-clockwise, as Pillow turns
    return image.rotate(90 * turns, expand=True) if turns else image

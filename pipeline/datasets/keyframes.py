"""A few frames of a clip, decoded from the keyframe before each: what lies between is not looked at."""

from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable, Iterator

import av
from av.container import InputContainer
from av.video.stream import VideoStream

# each packet of these is a frame, and nothing before a keyframe is needed for what is shown after it
CODECS = ("h264", "hevc", "mpeg4", "mjpeg")
NOT_CODED = 16  # bytes: a packet of MPEG-4 that is as small may say that there is no new frame
MOST_DOUBTFUL = 1 / 3  # of the parts between keyframes; with more of them all are decoded


def frames_by_keyframes(
    container: InputContainer, stream: VideoStream, wanted: Callable[[int], list[int]]
) -> Iterator[tuple[int, av.VideoFrame]] | None:
    """The frames that `wanted` chooses of their number, by place in the order of timestamps, and each with its place.

    None where the container does not tell which frames there are: it does if it declares as many as it has packets,
    each whole and with a timestamp of its own. Of those that may hold no frame, what lies around them is decoded. What
    it tells is held to what decodes: NotAsToldError at the first frame that is another one or is damaged.
    """
    name = stream.codec_context.name
    if name not in CODECS:
        return None
    times: list[int] = []
    keys: list[int] = []
    doubtful: list[int] = []
    for packet in container.demux(stream):
        size, pts = packet.size, packet.pts
        if not size:
            continue
        if packet.is_corrupt or packet.is_discard or pts is None:
            return None
        times.append(pts)
        if packet.is_keyframe:
            keys.append(pts)
        elif size <= NOT_CODED and name == "mpeg4":
            doubtful.append(pts)
    times.sort()
    keys.sort()
    if keys[:1] != times[:1] or len(set(times)) != len(times) or len(times) != stream.frames:
        return None
    if doubtful:
        parts = sorted({bisect_right(keys, time) - 1 for time in doubtful})
        if len(parts) > MOST_DOUBTFUL * len(keys):
            return None
        gone = {time for part in parts for time in _gone(container, stream, times, *keys[part : part + 2])}
        times = [time for time in times if time not in gone]
    return _sought(container, stream, wanted(len(times)), times, keys)


class NotAsToldError(Exception):
    """What decodes is not what the container tells."""


def _gone(
    container: InputContainer, stream: VideoStream, times: list[int], key: int, end: int | None = None
) -> set[int]:
    """Those of the `times`, in order, from `key` to before the next keyframe, `end`, at which no frame decodes."""
    decode: set[int] = set()
    container.seek(key, stream=stream)
    stream.codec_context.skip_frame = "DEFAULT"
    for frame in container.decode(stream):
        if frame.pts is None or frame.is_corrupt:
            raise NotAsToldError
        if end is not None and frame.pts >= end:
            break
        decode.add(frame.pts)
    return {*times[bisect_left(times, key) : len(times) if end is None else bisect_left(times, end)]} - decode


def _sought(
    container: InputContainer, stream: VideoStream, places: list[int], times: list[int], keys: list[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    after: dict[int, dict[int, int]] = defaultdict(dict)
    for place in sorted(places):
        after[keys[bisect_right(keys, times[place]) - 1]][times[place]] = place
    known = set(times)
    for key, chosen in after.items():
        yield from _after(container, stream, key, chosen, known)


def _after(
    container: InputContainer, stream: VideoStream, key: int, chosen: dict[int, int], times: set[int]
) -> Iterator[tuple[int, av.VideoFrame]]:
    """Those of one keyframe, by timestamp. What no other frame needs is not decoded unless it is chosen."""
    container.seek(key, stream=stream)
    before, whole = key - 1, None
    for packet in container.demux(stream):
        if (wanted := packet.pts in chosen) != whole:
            whole = wanted
            stream.codec_context.skip_frame = "DEFAULT" if whole else "NONREF"
        for frame in stream.decode(packet):
            pts = frame.pts
            if pts is not None and pts < key:  # shown before the keyframe, decoded after it
                continue
            if pts is None or pts <= before or pts not in times or frame.is_corrupt:
                raise NotAsToldError
            if pts in chosen:
                yield chosen.pop(pts), frame
                if not chosen:
                    return
            before = pts
    raise NotAsToldError

"""Images as a clip, by PyAV."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from fractions import Fraction
from pathlib import Path

import av
from PIL import Image

from pipeline.core.files import unfinished
from pipeline.core.sole import unlink_planted


class ClipWriter:
    """An MP4 file of `rate` images a second, H.264 where this machine's FFmpeg has an encoder for it; the first
    image gives the size. It is under a hidden name beside `path` until `close` moves it there: a clip without an end
    has no index, and does not play. `discard` removes it. Each method but that may raise OSError.
    """

    def __init__(self, path: Path, rate: Fraction) -> None:
        self._path, self._unfinished = path, unfinished(path)
        codec = next(c for c in ("libx264", "libopenh264", "mpeg4") if c in av.codecs_available)
        unlink_planted(self._unfinished)
        with _encoding():
            self._container = av.open(f"file:{self._unfinished}", "w", format="mp4")
            # with x264's own choice, "medium", encoding takes more than twice the time, for a file of the same size
            self._stream = self._container.add_stream(codec, rate=rate, options={"preset": "veryfast"})
        self._sized = False

    def add(self, image: Image.Image) -> None:
        if not self._sized:  # its sides are even, as the format wants them
            self._stream.width, self._stream.height = (max(2, side // 2 * 2) for side in image.size)
            self._stream.pix_fmt = "yuv420p"
            self._sized = True
        size = (self._stream.width, self._stream.height)
        with _encoding():
            frame = av.VideoFrame.from_image(image if image.size == size else image.resize(size))
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        try:
            with _encoding():
                if self._sized:
                    self._container.mux(self._stream.encode(None))
                self._container.close()
            self._unfinished.replace(self._path)
        except BaseException:
            self.discard()
            raise

    def discard(self) -> None:
        # what is thrown away may be cut: its end need not be written
        with suppress(av.FFmpegError, OSError):
            self._container.close()
        self._unfinished.unlink(missing_ok=True)


@contextmanager
def _encoding() -> Iterator[None]:
    """Raises OSError for every error of FFmpeg; some of them are not."""
    try:
        yield
    except av.FFmpegError as error:
        if isinstance(error, OSError):
            raise
        raise OSError(error.errno or errno.EIO, error.strerror or str(error)) from None

"""THE resize: training, evaluation, calibration, verification and the phone all use this one.

An image becomes `size` x `size` RGB bytes, which go through the model's steps (`ops.steps`), if it has any; mean and
standard deviation are inside the model's graph. Pillow's bilinear filter (antialiased when it shrinks) is the rule, so
that numpy and Pillow are enough to repeat it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.core.sample import Landmark, Object
from pipeline.core.spec import ModelSpec
from pipeline.ops.steps import apply_steps

FILL = 114  # the grey that letterboxed borders get


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image lies on the model's canvas: canvas = image * scale + offset, all relative (0 to 1)."""

    scale_x: float
    scale_y: float
    offset_x: float
    offset_y: float

    def to_canvas(self, o: Object) -> Object:
        return self._map(o, self.scale_x, self.scale_y, self.offset_x, self.offset_y)

    def to_image(self, o: Object) -> Object:
        """The inverse of `to_canvas`."""
        sx, sy = 1 / self.scale_x, 1 / self.scale_y
        return self._map(o, sx, sy, -self.offset_x * sx, -self.offset_y * sy)

    def pixels(self, size: int) -> tuple[int, int, int, int]:
        """Left, top, width and height of the image on a canvas of `size` pixels a side."""
        x, y, w, h = (round(v * size) for v in (self.offset_x, self.offset_y, self.scale_x, self.scale_y))
        return x, y, w, h

    @staticmethod
    def _map(o: Object, sx: float, sy: float, dx: float, dy: float) -> Object:
        x, y, w, h = o.box
        points = [Landmark(p.x * sx + dx, p.y * sy + dy, p.visibility) for p in o.landmarks]
        return Object(o.label, (x * sx + dx, y * sy + dy, w * sx, h * sy), points, o.crowd, o.score)


def prepare(image: Image.Image, spec: ModelSpec) -> tuple[NDArray[np.uint8], Frame]:
    """An RGB image as the model of `spec` takes it, uint8 [S, S, 3], and where the image lies on that canvas. Raises
    InputError for a step that is not known.

    >>> spec = ModelSpec(
    ...     *("farm", "farm", "classify", ["cow", "goat"], [], [], [], "mobilenetv2_050", {}, 64, "stretch"),
    ...     *([0.5] * 3, [0.5] * 3),
    ...     preprocess=[{"step": "gray"}],
    ... )
    >>> canvas, frame = prepare(Image.new("RGB", (100, 50), "red"), spec)
    >>> canvas.shape, canvas[0, 0].tolist()
    ((64, 64, 3), [76, 76, 76])
    """
    canvas, frame = resize(image, spec.size, spec.resize)
    return apply_steps(spec.preprocess, canvas), frame


def resize(image: Image.Image, size: int, rule: str) -> tuple[NDArray[np.uint8], Frame]:
    """Bring an RGB image onto a `size` x `size` canvas; returns uint8 [size, size, 3] and where the image lies.

    `rule`: "stretch" fills the canvas, "letterbox" keeps the aspect and pads with grey, "crop" keeps the aspect
    and cuts the middle square out. Raises ValueError for another rule.

    >>> canvas, frame = resize(Image.new("RGB", (100, 50)), 64, "letterbox")
    >>> canvas.shape, canvas[0, 0].tolist(), canvas[32, 32].tolist()
    ((64, 64, 3), [114, 114, 114], [0, 0, 0])
    >>> frame
    Frame(scale_x=1.0, scale_y=0.5, offset_x=0.0, offset_y=0.25)
    """
    w, h = image.size
    frame = frame_of(w, h, size, rule)
    if rule == "stretch":
        return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)), frame
    if rule == "letterbox":
        left, top, inner_w, inner_h = frame.pixels(size)
        canvas = Image.new("RGB", (size, size), (FILL, FILL, FILL))
        canvas.paste(image.resize((inner_w, inner_h), Image.Resampling.BILINEAR), (left, top))
        return np.asarray(canvas), frame
    side = min(w, h)
    left, top = (w - side) // 2, (h - side) // 2
    box = (left, top, left + side, top + side)
    return np.asarray(image.resize((size, size), Image.Resampling.BILINEAR, box=box)), frame


def frame_of(width: int, height: int, size: int, rule: str) -> Frame:
    """Where an image of `width` x `height` pixels lies after `resize`. Raises ValueError for an unknown rule.

    >>> frame = frame_of(100, 50, 64, "letterbox")
    >>> frame.pixels(64)
    (0, 16, 64, 32)
    >>> frame.to_image(Object("cat", (0.25, 0.25, 0.5, 0.25))).box
    (0.25, 0.0, 0.5, 0.5)
    """
    if rule == "stretch":
        return Frame(1, 1, 0, 0)
    if rule == "letterbox":
        ratio = size / max(width, height)
        inner_w, inner_h = max(1, round(width * ratio)), max(1, round(height * ratio))
        return Frame(inner_w / size, inner_h / size, (size - inner_w) // 2 / size, (size - inner_h) // 2 / size)
    if rule == "crop":
        side = min(width, height)
        return Frame(width / side, height / side, -((width - side) // 2) / side, -((height - side) // 2) / side)
    raise ValueError(f"resize rule {rule!r}: expected stretch, letterbox or crop")

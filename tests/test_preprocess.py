"""THE resize, and where the image lies on the canvas."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.core.sample import Landmark, Object
from pipeline.ops.preprocess import FILL, Frame, resize


def marked(width: int, height: int, x: int, y: int) -> Image.Image:
    """Black with a white square of 9 pixels around (x, y)."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[y - 4 : y + 5, x - 4 : x + 5] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("rule", ["stretch", "letterbox", "crop"])
@pytest.mark.parametrize(("width", "height"), [(320, 200), (200, 320), (90, 90), (31, 97)])
def test_a_mark_is_where_the_frame_says(rule: str, width: int, height: int) -> None:
    x, y = width // 2 + 3, height // 2 - 5
    pixels, frame = resize(marked(width, height, x, y), 128, rule)
    assert pixels.shape == (128, 128, 3)
    rows, columns = np.nonzero(pixels[:, :, 0] > 180)
    moved = frame.to_canvas(Object("m", ((x + 0.5) / width, (y + 0.5) / height, 0, 0)))
    assert columns.mean() + 0.5 == pytest.approx(moved.box[0] * 128, abs=1)
    assert rows.mean() + 0.5 == pytest.approx(moved.box[1] * 128, abs=1)


def test_letterbox_bars_are_grey() -> None:
    pixels, frame = resize(Image.new("RGB", (100, 50)), 64, "letterbox")
    assert (pixels[:16] == FILL).all()
    assert (pixels[48:] == FILL).all()
    assert (pixels[16:48] == 0).all()
    assert frame == Frame(1, 0.5, 0, 0.25)


@given(
    st.integers(20, 400),
    st.integers(20, 400),
    st.sampled_from(["stretch", "letterbox", "crop"]),
    st.tuples(*[st.floats(0, 1)] * 4),
)
def test_there_and_back(width: int, height: int, rule: str, box: tuple[float, float, float, float]) -> None:
    _, frame = resize(Image.new("RGB", (width, height)), 64, rule)
    back = frame.to_image(frame.to_canvas(Object("o", box, [Landmark(box[0], box[1])])))
    assert back.box == pytest.approx(box, abs=1e-9)
    assert (back.landmarks[0].x, back.landmarks[0].y) == pytest.approx(box[:2], abs=1e-9)


def test_an_unknown_rule_is_an_error() -> None:
    with pytest.raises(ValueError, match="expected stretch, letterbox or crop"):
        resize(Image.new("RGB", (9, 9)), 32, "squash")

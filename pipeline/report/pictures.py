"""Pictures that lie in the page itself, each within a number of bytes: JPEG in base64, and plots as SVG."""

import base64
import html
import io
import re
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib import rc_context
from PIL import Image

QUALITIES = (82, 65, 45, 25)  # of JPEG, the first one that fits
INK = "#010203"  # stands for the colour of the page's text, which is another one in the dark
PLOT: dict[Any, Any] = {
    "svg.fonttype": "none",  # names as text: they can be read out, found and copied
    "savefig.transparent": True,
    "legend.framealpha": 0.0,
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
}


def data_uri(image: Image.Image, side: int, most_bytes: int) -> str:
    """The RGB `image` as a JPEG of at most `most_bytes`, its longer side at most `side` pixels: of a lower quality,
    then smaller, where it would be larger.

    >>> data_uri(Image.new("RGB", (64, 48)), 32, 2000)[:27]
    'data:image/jpeg;base64,/9j/'
    """
    while True:
        small = image.copy()
        small.thumbnail((side, side), Image.Resampling.LANCZOS)
        for quality in QUALITIES:
            file = io.BytesIO()
            small.save(file, "JPEG", quality=quality)
            if file.tell() <= most_bytes or side < 16:
                return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
        side = side * 3 // 4


def svg(name: str, says: str, draw: Callable[[Path], None]) -> str:
    """The SVG that `draw` writes, to be put into a page: `says` is what is read out in its place, `name` keeps its ids
    apart from those of others.
    """
    with TemporaryDirectory() as folder, rc_context({**PLOT, "svg.hashsalt": name}):
        path = Path(folder) / f"{name}.svg"
        draw(path)
        text = path.read_text(encoding="utf-8")
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text[text.index("<svg ") :], flags=re.DOTALL)
    said = f'<svg role="img" aria-label="{html.escape(says)}" '
    return text.replace("<svg ", said, 1).replace(INK, "currentColor")

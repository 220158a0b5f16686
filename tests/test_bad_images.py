"""Every kind of odd or broken image in one set, in every format: what is good is kept with its label where the pixels
are that it means, what is not is refused by name, and the source stays as it was.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from label_sets import SETS, SIZE, Row, write_files
from PIL import Image
from source import unchanged
from test_ingest import ledger, params, run

from pipeline.core.image_file import ORIENTATION
from pipeline.datasets.formats import FORMATS

BOMB, TINY = (10000, 9000), (6, 4)
BACK = {
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}  # fmt: skip  # what an upright image is stored as
ODD_NAMES = ("M\u00fc \u00df.png", "a&b 'c'.png", "100%.png", "\u2603.png", "x" * 200 + ".png", "a,b;c.png", "-1.PNG")


def scene(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Dark noise, bright where the label's box is, at a tenth to six tenths of both sides."""
    w, h = size
    draw = np.random.default_rng(seed)
    pixels = draw.integers(0, 60, (h, w, 3), dtype=np.uint8)
    pixels[round(0.1 * h) : round(0.6 * h), round(0.1 * w) : round(0.6 * w)] += 180
    return Image.fromarray(pixels)


def turned(orientation: int) -> Callable[[Path], None]:
    def save(path: Path) -> None:
        image, exif = scene(orientation), Image.Exif()
        exif[ORIENTATION] = orientation
        image = image.transpose(BACK[orientation]) if orientation in BACK else image
        image.save(path, exif=exif, quality=95)

    return save


def truncated(path: Path) -> None:
    scene(70, (300, 200)).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def deep(path: Path) -> None:
    Image.fromarray(np.asarray(scene(71).convert("L")).astype(np.uint16) * 257).save(path)


def with_alpha(path: Path) -> None:
    image = scene(72)
    image.putalpha(Image.new("L", image.size, 0))
    image.save(path)


def animated(path: Path) -> None:
    first, *others = (scene(73 + i).convert("P") for i in range(3))
    first.save(path, save_all=True, append_images=[Image.new("P", SIZE), *others])


KEPT: dict[str, Callable[[Path], object]] = {
    "png_inside.jpg": lambda path: scene(60).save(path, "PNG"),
    "cmyk.jpg": lambda path: scene(61).convert("CMYK").save(path, quality=95),
    "palette.png": lambda path: scene(62).quantize(64).save(path),
    "grey.png": lambda path: scene(63).convert("L").save(path),
    "deep.png": deep,
    "alpha.png": with_alpha,
    "animated.gif": animated,
    "moving.webp": lambda path: scene(64).save(path, save_all=True, append_images=[scene(65)], lossless=True),
    "progressive.jpg": lambda path: scene(66).save(path, progressive=True, quality=95),
    **{f"exif{i}.jpg": turned(i) for i in range(1, 9)},
    **{name: lambda path, seed=i: scene(80 + seed).save(path) for i, name in enumerate(ODD_NAMES)},
}
REFUSED: dict[str, tuple[str, Callable[[Path], object]]] = {
    "empty.jpg": ("empty_file", Path.touch),
    "cut.jpg": ("unreadable", truncated),
    "page.jpg": ("unreadable", lambda path: path.write_text("<html>")),
    "bomb.png": ("too_large", lambda path: Image.new("1", BOMB).save(path)),
    "dangling.jpg": ("missing_file", lambda path: path.symlink_to("nowhere.jpg")),
    "loop.jpg": ("missing_file", lambda path: path.symlink_to(path)),
}


def fill(root: Path, form: str) -> list[Row]:
    """24 good images, the odd ones, a folder that leads to itself; the labels of all. Of `folder` in two classes."""
    every: dict[str, Callable[[Path], Any]] = {
        **{f"{i:02}.jpg": lambda path, i=i: scene(i).save(path, quality=95) for i in range(24)},
        **KEPT,
        "tiny.png": lambda path: scene(90, TINY).save(path),
        **{name: save for name, (_, save) in REFUSED.items()},
    }
    rows = []
    for i, (name, save) in enumerate(every.items()):
        w, h = {"tiny.png": TINY, "bomb.png": BOMB}.get(name, SIZE)
        row = Row(f"{('cow', 'goat')[i % 2]}/{name}" if form == "folder" else name, (w, h))
        row.boxes = [(0.1 * w, 0.1 * h, 0.6 * w, 0.6 * h)]
        (root / row.name).parent.mkdir(parents=True, exist_ok=True)
        save(root / row.name)
        rows.append(row)
    (root / "loop").symlink_to(root, target_is_directory=True)
    return rows


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("form", [*SETS, "folder"])
def test_odd_images_are_kept_and_broken_ones_are_named(tmp_path: Path, form: str) -> None:
    root = tmp_path / "herd"
    rows = fill(root, form)
    if form != "folder":
        write_files(root, SETS[form](rows))
    with unchanged(root):
        reading = ingest_of(tmp_path, root, form)
    summary, samples = reading
    refused = {row.name: REFUSED[Path(row.name).name][0] for row in rows if Path(row.name).name in REFUSED}
    found = {file: rule for file, key, rule, done in ledger(tmp_path) if done != "noted"}
    # where labels have no size, an image is looked at for it when they are read
    assert {file: refused[file] if rule == "unreadable" else rule for file, rule in found.items()} == refused
    assert (summary["kept"], summary["refused"]) == (len(rows) - len(refused), len(refused))
    for s in samples.values():
        with Image.open(tmp_path / "data" / "set" / str(s.split) / s.file_name) as image:
            pixels = np.asarray(image.convert("L")).astype(float)
        assert pixels.shape in {SIZE[::-1], TINY[::-1]}, s.id
        x0, y0, x1, y1 = (
            round(share * side) for share, side in zip((0.1, 0.1, 0.6, 0.6), (s.width, s.height) * 2, strict=True)
        )
        inside = np.zeros(pixels.shape, bool)
        inside[y0:y1, x0:x1] = True
        assert pixels[inside].mean() > 150 > 90 > pixels[~inside].mean(), s.id
        assert [o.box for o in s.objects] == ([] if form == "folder" else [pytest.approx((0.1, 0.1, 0.5, 0.5))]), s.id


def ingest_of(tmp_path: Path, root: Path, form: str) -> tuple[dict[str, Any], dict[str, Any]]:
    options = {
        name: field.get_default(call_default_factory=True) for name, field in FORMATS[form].Options.model_fields.items()
    }
    return run(
        tmp_path, params(form, root, options=options, refuse_over=1.0, near_duplicates="off", other_units="note")
    )

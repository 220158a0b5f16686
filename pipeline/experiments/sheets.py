"""Sheets of image pairs: what two versions of a dataset differ in, and what lies on both sides of a split."""

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from pipeline.core.errors import InputError
from pipeline.core.files import new_file
from pipeline.core.image_file import open_image
from pipeline.experiments.leaks import Images, Leaks
from pipeline.experiments.versions import Difference, Version
from pipeline.viz.sheets import Colour, contact_sheet, draw, key_of

PAIRS, COLUMNS = 24, 4  # of a sheet: two pairs a row
TILE = 320  # pixels
NOTHING = (200, 200, 200)  # where an image is not there


def check_sheet(path: Path) -> None:
    """Raises InputError for a file that is there already, or is neither a .jpg nor a .png."""
    if os.path.lexists(path):
        raise InputError(f"--sheet {path}: is there already; expected a new file")
    if path.suffix.lower() not in (".jpg", ".png"):
        raise InputError(f"--sheet {path}: expected a name that ends in .jpg or .png")


def difference_sheet(found: Difference, path: Path) -> None:
    """Write a picture of the images that have changed, then of those that went or came, each before and now, with what
    only one of them says in magenta. Raises InputError as `check_sheet` does.
    """
    what = {change.id: "; ".join(change.kinds().values()) for change in found.changed}
    what |= dict.fromkeys(found.removed, "removed") | dict.fromkeys(found.added, "added")
    tiles = []
    for i, text in list(what.items())[:PAIRS]:
        before, now = _drawn(found.before, i, found.now), _drawn(found.now, i, found.before)
        tiles += [(before, f"{i}\nbefore"), (now, f"{i}\n{text}")]
    write_sheet(tiles, path, key_of(found.now.dataset, "labels of both versions", "labels of this version alone"))


def leaks_sheet(found: Leaks, images: Images, path: Path) -> None:
    """Write a picture of the worst pairs, the held-out image first. Raises InputError as `check_sheet` does."""
    samples = {s.id: s for s in images.samples}
    tiles = []
    for pair in found.pairs[:PAIRS]:
        far = "" if pair.bits is None else f", {pair.bits} bits apart"
        for i, split, said in ((pair.held_out, pair.splits[0], pair.kind + far), (pair.twin, pair.splits[1], "")):
            s = samples[i]
            tiles.append((draw(open_image(images.folder / s.file_name), s, images.dataset), f"{split}: {i}\n{said}"))
    write_sheet(tiles, path)


def _drawn(version: Version, i: str, other: Version) -> Image.Image:
    """The image with what both versions say of it in green, and what the other one does not say in magenta."""
    if i not in version.images:
        return Image.new("RGB", (TILE, TILE), NOTHING)
    s, theirs = version.images[i], other.images.get(i)
    both = [o for o in s.objects if theirs and o in theirs.objects]
    alone = [o for o in s.objects if o not in both]
    label = s.label if theirs and s.label == theirs.label else None
    common = replace(s, label=label, objects=both)
    own = replace(s, label=None if label else s.label, objects=alone)
    return draw(open_image(version.file(i)), common, version.dataset, own)


def write_sheet(tiles: list[tuple[Image.Image, str]], path: Path, key: Sequence[tuple[Colour, str]] = ()) -> None:
    """Write `tiles`, image and caption, pairs side by side, with a `key` to the colours."""
    check_sheet(path)
    sheet = contact_sheet(tiles, COLUMNS, TILE, key)
    with new_file(path) as place:
        sheet.save(place, "PNG" if path.suffix.lower() == ".png" else "JPEG", quality=90)

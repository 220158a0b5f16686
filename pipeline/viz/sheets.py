"""Images for people: labels drawn into an image, and many images on one sheet."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from pipeline.core.sample import ABSENT, HIDDEN, Dataset, Object, Sample

TRUTH = (64, 255, 96)
PREDICTED = (255, 96, 224)
PAPER = (248, 248, 248)
INK = (24, 24, 24)
MARGIN = 6  # pixels between tiles
DRAWN_SIDE = 480
MOST_LINES = 3  # that one line of a caption may become


Colour = tuple[int, int, int]
MOST_APART = 400  # names; of more nobody reads all, and to hold each against all others takes seconds
Plate = tuple[float, float, float, float]  # left, top, right, bottom in pixels


def draw(
    image: Image.Image,
    sample: Sample,
    dataset: Dataset,
    predicted: Sample | None = None,
) -> Image.Image:
    """A copy of the RGB `image` with the labels drawn in: ground truth green, `predicted` magenta. The name of a true
    object stands above its box and that of a predicted one below, farther off where another name is already: none hides
    another, where there is room.

    An image whose longer side is below `DRAWN_SIDE` pixels is enlarged first, so that lines and names stay legible.
    """
    ratio = max(1.0, DRAWN_SIDE / max(image.size))
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    canvas = image.convert("RGB").resize(size, Image.Resampling.BICUBIC) if ratio > 1 else image.convert("RGB").copy()
    pen = ImageDraw.Draw(canvas)
    unit = max(1, round(max(canvas.size) / 320))  # a line's width
    colours = [(TRUTH, sample), (PREDICTED, predicted)]
    for colour, drawn in colours:
        for o in drawn.objects if drawn else []:
            _draw_object(pen, canvas.size, o, dataset, colour, unit)
    plates: list[Plate] = []
    for colour, drawn in colours:  # after all lines, which would cross them
        objects = drawn.objects if drawn else []
        letters = (10 if len(objects) <= 8 else 6) * unit  # larger names of many objects would cover them
        for o in objects:
            left, top = o.box[0] * canvas.width, o.box[1] * canvas.height
            bottom = top + max(0.0, o.box[3] * canvas.height)
            place = left, bottom if drawn is predicted else top - 1.3 * letters
            label = _caption(o.label + (" (crowd)" if o.crowd else ""), o.score)
            _name(pen, canvas.size, place, label, colour, letters, plates, down=drawn is predicted)
    for colour, drawn in colours:
        if drawn is not None and drawn.label is not None:
            score = (drawn.scores or {}).get(drawn.label)
            _name(pen, canvas.size, (0, 0), _caption(drawn.label, score), colour, 10 * unit, plates)
    return canvas


def key_of(dataset: Dataset, truth: str, predicted: str) -> list[tuple[Colour, str]]:
    """What the two colours of `draw` mean, with the mark of a hidden landmark where the dataset has some."""
    marks = "; a ring is a hidden landmark" if dataset.landmarks else ""
    return [(TRUTH, f"{truth}{marks}"), (PREDICTED, predicted)]


def contact_sheet(
    tiles: Sequence[tuple[Image.Image, str]], columns: int, tile: int, key: Sequence[tuple[Colour, str]] = ()
) -> Image.Image:
    """One RGB sheet of `tiles` (image, caption), row by row: each image fits a square of `tile` pixels, and a row is as
    high as its highest image and its longest caption. `key`, what the colours in them mean, comes below.

    The caption just below an image may have several lines; one that is too wide goes on in the next, and a word that is
    too wide loses its middle.
    """
    columns = max(1, min(columns, len(tiles)))
    font = _font(max(10, tile // 18))
    line = int(font.getbbox("Ag|")[3]) + 2
    captions = [_wrapped(text, font, tile) if text else [] for _, text in tiles]
    images = [_fit(image.convert("RGB"), tile) for image, _ in tiles]
    wide, ends = columns * (tile + MARGIN) - MARGIN, [MARGIN]  # of the rows, from above
    rows = [slice(i, i + columns) for i in range(0, len(tiles), columns)]
    highest = [max(image.height for image in images[row]) for row in rows]
    for row, high in zip(rows, highest, strict=True):
        ends.append(ends[-1] + high + line * max(map(len, captions[row])) + MARGIN)
    meant = [(colour, words) for colour, text in key for words in [_shortened(text, font, wide - line)]]
    size = wide + 2 * MARGIN, ends[-1] + (len(meant) * line + MARGIN if meant else 0)
    sheet = Image.new("RGB", size, PAPER)
    pen = ImageDraw.Draw(sheet)
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        x, y = MARGIN + i % columns * (tile + MARGIN), ends[i // columns] + highest[i // columns]
        sheet.paste(image, (x + (tile - image.width) // 2, y - image.height))
        for n, words in enumerate(caption):
            pen.text((x, y + n * line), words, fill=INK, font=font)
    for n, (colour, words) in enumerate(meant):
        y = ends[-1] + n * line
        pen.rectangle((MARGIN, y + 2, MARGIN + line - 6, y + line - 4), fill=colour, outline=INK)
        pen.text((MARGIN + line, y), words, fill=INK, font=font)
    return sheet


def _draw_object(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    o: Object,
    dataset: Dataset,
    colour: Colour,
    unit: int,
) -> None:
    w, h = size
    left, top = o.box[0] * w, o.box[1] * h
    right, bottom = max(left, left + o.box[2] * w), max(top, top + o.box[3] * h)
    pen.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=(0, 0, 0), width=1)
    pen.rectangle((left, top, right, bottom), outline=colour, width=unit)
    seen = {i: (p.x * w, p.y * h) for i, p in enumerate(o.landmarks) if p.visibility != ABSENT}
    for a, b in dataset.skeleton:
        if a in seen and b in seen:
            pen.line((seen[a], seen[b]), fill=colour, width=unit)
    # larger dots of dense landmarks (a face has 68 or more) would cover the object
    radius = unit if len(seen) > 30 else 2 * unit
    for i, (x, y) in seen.items():
        spot = (x - radius, y - radius, x + radius, y + radius)
        hidden = o.landmarks[i].visibility == HIDDEN
        pen.ellipse(spot, fill=None if hidden else colour, outline=colour if hidden else (0, 0, 0), width=1)


def _name(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    at: tuple[float, float],
    text: str,
    colour: Colour,
    letters: int,
    plates: list[Plate],
    down: bool = True,
) -> None:
    """Text on a plate of `colour`, moved so far that it stays inside the image, and `down` or up to be off the other
    `plates`, of which it becomes one.
    """
    font = _font(max(9, letters))
    _, _, wide, high = pen.textbbox((0, 0), text, font=font)
    wide, high = wide + 3, high + 2
    x = min(max(0.0, at[0]), max(0.0, size[0] - wide - 1))
    first = min(max(0.0, at[1]), max(0.0, size[1] - high - 2))
    near = plates if len(plates) < MOST_APART else []
    moves = (_free((x, first, x + wide, first + high), near, below) for below in (down, not down))
    plate = next((p for p in moves if p[1] >= 0 and p[3] <= size[1]), (x, first, x + wide, first + high))
    plates.append(plate)
    pen.rectangle(plate, fill=colour)
    pen.text((x + 2, plate[1]), text, fill=INK, font=font)


def _free(plate: Plate, others: list[Plate], down: bool) -> Plate:
    """Moved down or up, just as far as all `others` ask."""
    left, top, right, bottom = plate
    for _, other_top, _, other_bottom in sorted(
        (o for o in others if o[0] < right and left < o[2]), key=lambda o: o[1] if down else -o[3]
    ):
        if other_top < bottom and top < other_bottom:
            top, bottom = (other_bottom, other_bottom + bottom - top) if down else (other_top - bottom + top, other_top)
    return left, top, right, bottom


def _caption(label: str, score: float | None) -> str:
    return label if score is None else f"{label} {score:.2f}"


def _fit(image: Image.Image, side: int) -> Image.Image:
    ratio = side / max(image.size)
    size = (max(1, round(image.width * ratio)), max(1, round(image.height * ratio)))
    return image.resize(size, Image.Resampling.LANCZOS)


def _shortened(text: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    """Without what is in the middle: the names of a set often begin alike, and differ in their last digits."""
    short, kept = text, len(text)
    while kept > 1 and font.getlength(short) > width:
        kept -= 1
        head = kept // 2
        short = f"{text[:head].rstrip()}…{text[head - kept :].lstrip()}"
    return short


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    lines = []
    for part in text.split("\n"):
        own = [""]
        for word in part.split(" "):
            longer = f"{own[-1]} {word}" if own[-1] else word
            if own[-1] and font.getlength(longer) > width and len(own) < MOST_LINES:
                own.append(word)
            else:
                own[-1] = longer
        lines += [_shortened(words, font, width) for words in own]
    return lines


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, which matplotlib brings, so that a sheet looks the same on every machine."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf", size)

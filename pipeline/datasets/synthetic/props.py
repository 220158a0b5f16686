"""Things that stand about: trees, bushes, fences, houses, cars, basketball hoops."""

import math
from collections.abc import Sequence

import cv2
import numpy as np

from pipeline.datasets.synthetic.solids import Color, Figure, Light, Solid, Sprite, View, render

GREENS = ((72, 118, 56), (92, 138, 62), (56, 96, 62), (124, 140, 66), (150, 118, 58))
WALLS = ((214, 200, 176), (186, 110, 88), (232, 230, 222), (150, 164, 176), (206, 178, 118))
ROOFS = ((150, 72, 56), (92, 88, 92), (112, 82, 60))
PAINTS = ((188, 40, 44), (40, 84, 160), (228, 228, 226), (58, 60, 66), (206, 170, 60), (70, 130, 110))
WOOD, STEEL = (128, 98, 70), (150, 152, 156)


def tree(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A tree of 2.5 to 5 m, with leaves or needles."""
    green, tall = _pick(GREENS, rng), float(rng.uniform(2.5, 5))
    figure = Figure([Solid((0, 0, 0), (0, 0, tall * 0.5), 0.14, 0.1, WOOD)])
    if rng.random() < 0.35:  # needles
        for k in range(4):
            low, radius = tall * (0.15 + 0.2 * k), tall * (0.23 - 0.045 * k)
            figure.solids.append(Solid((0, 0, low + radius), (0, 0, low + tall * 0.3), radius, 0.04, green, 0.12))
    else:
        for _ in range(7):
            at = rng.normal([0, 0, 0.68 * tall], [0.16 * tall, 0.16 * tall, 0.11 * tall])
            figure.solids.append(_ball(at, float(rng.uniform(0.12, 0.2)) * tall, green, rng))
    return render(figure, View(0, 0.05, scale), light, int(rng.integers(2**31)))


def bush(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A bush, 0.4 to 0.9 m high."""
    green, high = _pick(GREENS, rng), float(rng.uniform(0.4, 0.9))
    figure = Figure()
    for _ in range(6):
        radius = high * float(rng.uniform(0.3, 0.45))
        at = np.array([rng.normal(0, high * 0.55), rng.normal(0, high * 0.3), radius * rng.uniform(0.6, 1.4)])
        figure.solids.append(_ball(at, radius, green, rng))
    return render(figure, View(0, 0.05, scale), light, int(rng.integers(2**31)))


def fence(rng: np.random.Generator, width: int, scale: float, light: Light) -> Sprite:
    """Posts and rails across `width` pixels; its foot is the middle of the lower edge."""
    high = int(scale * rng.uniform(0.7, 1.0))
    color, mask = _sheet(high, width)
    wood = _lit(_pick((WOOD, (196, 190, 178), (98, 78, 62)), rng), light)
    rail = max(2, int(0.06 * scale))
    for share in (0.25, 0.62):
        y, drop = int(high * share), int(rng.normal(0, 0.03 * scale))
        _polygon(color, mask, [(0, y), (width, y + drop), (width, y + drop + rail), (0, y + rail)], wood)
    shaded = (0.88 * wood[0], 0.88 * wood[1], 0.88 * wood[2])
    for x in np.arange(rng.uniform(0, scale), width, 1.3 * scale).tolist():
        post = [(x, 0), (x + 1.6 * rail, 0), (x + 1.6 * rail, high), (x, high)]
        _polygon(color, mask, post, shaded)
    return Sprite(color, mask.astype(bool), (width / 2, high))


def house(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A house with a roof, a door and windows, 5 to 8 m wide."""
    w, h = int(scale * rng.uniform(5, 8)), int(scale * rng.uniform(2.4, 3.2))
    roof = int(h * rng.uniform(0.5, 0.8))
    color, mask = _sheet(h + roof, w)
    wall = _lit(_pick(WALLS, rng), light)
    _polygon(color, mask, [(w * 0.06, roof), (w * 0.94, roof), (w * 0.94, h + roof), (w * 0.06, h + roof)], wall)
    ridge = w * rng.uniform(0.1, 0.3)
    tiles = _lit(_pick(ROOFS, rng), light)
    _polygon(color, mask, [(0, roof * 1.05), (ridge, 0), (w - ridge, 0), (w, roof * 1.05)], tiles)
    for x in np.arange(0.16, 0.85, 0.24):
        glass = _lit((92, 116, 140), light)
        top, low = (0.25, 0.62) if rng.random() < 0.75 else (0.3, 1.0)
        box = [(w * x, roof + h * top), (w * (x + 0.1), roof + h * top)]
        box += [(w * (x + 0.1), roof + h * low), (w * x, roof + h * low)]
        _polygon(color, mask, box, glass if low < 1 else _lit(WOOD, light))
    return Sprite(color, mask.astype(bool), (w / 2, h + roof))


def car(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A car from its side, 4 m long."""
    w, h = int(4.1 * scale), int(1.5 * scale)
    color, mask = _sheet(h, w)
    paint = _lit(_pick(PAINTS, rng), light)
    nose, back = rng.uniform(0.22, 0.32), rng.uniform(0.05, 0.2)
    body = [(0, 0.5), (0.05, 0.44), (nose, 0.40), (1 - back, 0.40), (1, 0.48), (1, 0.82), (0, 0.82)]
    cabin = [(nose - 0.03, 0.42), (nose + 0.1, 0.05), (0.9 - back, 0.05), (1 - back, 0.42)]
    glass = [(nose + 0.03, 0.38), (nose + 0.12, 0.12), (0.88 - back, 0.12), (0.95 - back, 0.38)]
    for shape, tone in ((cabin, paint), (glass, _lit((70, 84, 98), light)), (body, paint)):
        _polygon(color, mask, [(x * w, y * h) for x, y in shape], tone)
    for x in (0.2, 0.79):
        for radius, tone in ((0.21, (30, 30, 32)), (0.11, (170, 172, 176))):
            at = (int(x * w), int(0.79 * h))
            cv2.circle(color, at, int(radius * h), tone, -1)
            cv2.circle(mask, at, int(radius * h), 1, -1)
    return _maybe_flipped(Sprite(color, mask.astype(bool), (w / 2, h - 1)), rng)


def hoop(rng: np.random.Generator, scale: float, light: Light) -> Sprite:
    """A basketball hoop on its post, 3.05 m to the ring."""
    w, h = int(1.5 * scale), int(3.8 * scale)
    color, mask = _sheet(h, w)
    steel = _lit(STEEL, light)
    for box, tone in (
        ((0.08, 0.15, 0.16, 1.0), steel),
        ((0.10, 0.12, 0.52, 0.16), steel),
        ((0.50, 0.00, 0.58, 0.26), _lit((236, 236, 232), light)),
        ((0.58, 0.19, 0.92, 0.205), _lit((222, 92, 40), light)),
    ):
        x0, y0, x1, y1 = (v * s for v, s in zip(box, (w, h, w, h), strict=True))
        _polygon(color, mask, [(x0, y0), (x1, y0), (x1, y1), (x0, y1)], tone)
    for k in range(5):
        top, low = (0.6 + 0.075 * k) * w, (0.66 + 0.05 * k) * w
        net = [(top, 0.205 * h), (top + 1.5, 0.205 * h), (low + 1.5, 0.29 * h), (low, 0.29 * h)]
        _polygon(color, mask, net, _lit((226, 226, 226), light))
    return _maybe_flipped(Sprite(color, mask.astype(bool), (0.12 * w, h - 1)), rng)


def _sheet(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)


def _polygon(color: np.ndarray, mask: np.ndarray, corners: Sequence[tuple[float, float]], tone: Color) -> None:
    points = np.array(corners).round().astype(np.int32)
    cv2.fillPoly(color, [points], tone)
    cv2.fillPoly(mask, [points], 1)


def _ball(at: np.ndarray, radius: float, color: Color, rng: np.random.Generator) -> Solid:
    r, g, b = np.clip(np.array(color) * rng.uniform(0.85, 1.15), 0, 255)
    spot = (float(at[0]), float(at[1]), float(at[2]))
    return Solid(spot, spot, radius, radius, (float(r), float(g), float(b)), 0.15)


def _maybe_flipped(sprite: Sprite, rng: np.random.Generator) -> Sprite:
    if rng.random() < 0.5:
        return sprite
    flipped = sprite.mask.shape[1] - sprite.foot[0]
    return Sprite(sprite.color[:, ::-1], sprite.mask[:, ::-1], (flipped, sprite.foot[1]))


def _pick(colors: tuple[Color, ...], rng: np.random.Generator) -> Color:
    return colors[rng.integers(len(colors))]


def _lit(color: Color, light: Light) -> Color:
    shade = light.ambient + 0.45 * (1 - light.ambient) * math.hypot(*light.direction)
    r, g, b = (min(255.0, c * t * min(1.0, shade + 0.15)) for c, t in zip(color, light.tint, strict=True))
    return r, g, b

"""Where things happen: sky, hills, trees and ground out of doors, or a hall."""

import math
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.datasets.synthetic.canvas import SCALE, Canvas
from pipeline.datasets.synthetic.noise import PATCHES, noise, tile
from pipeline.datasets.synthetic.props import house, tree
from pipeline.datasets.synthetic.solids import Color, Light


@dataclass(frozen=True, slots=True)
class Sky:
    """Colours at the top and at the horizon; what its light does."""

    top: Color
    low: Color
    tint: Color
    ambient: float
    clouds: float  # 0 none, 1 covered


SKIES = (
    Sky((86, 142, 214), (201, 223, 238), (1.0, 1.0, 0.98), 0.58, 0.35),  # noon
    Sky((92, 150, 220), (214, 230, 240), (1.04, 1.02, 0.98), 0.52, 0.1),  # clear
    Sky((150, 164, 178), (205, 210, 212), (0.92, 0.94, 0.97), 0.80, 0.9),  # overcast
    Sky((98, 108, 170), (247, 194, 146), (1.06, 0.96, 0.86), 0.52, 0.5),  # evening
    Sky((128, 176, 214), (246, 232, 208), (1.05, 1.0, 0.9), 0.6, 0.3),  # morning
    Sky((74, 90, 138), (160, 156, 182), (0.82, 0.85, 0.92), 0.66, 0.4),  # dusk
)
GROUNDS: dict[str, tuple[Color, Color]] = {  # near, far
    "grass": (((84, 130, 56)), (132, 160, 92)),
    "meadow": ((66, 116, 50), (120, 150, 84)),
    "dry": ((174, 154, 92), (196, 182, 130)),
    "dirt": ((140, 112, 82), (168, 146, 116)),
    "snow": ((224, 228, 236), (236, 240, 244)),
    "sand": ((214, 194, 150), (226, 210, 172)),
    "court": ((112, 116, 120), (140, 142, 144)),
    "clay": ((168, 92, 66), (178, 118, 92)),
}
GREEN = ("grass", "meadow", "dry")
PASTURES = ("grass", "grass", "grass", "meadow", "meadow", "meadow", "dry", "snow")


def draw_light(rng: np.random.Generator, sky: Sky) -> Light:
    right, up, near = rng.uniform(-0.8, 0.8), rng.uniform(0.5, 0.9), rng.uniform(0.25, 0.6)
    length = math.hypot(right, up, near)
    gain = float(rng.normal(1.04, 0.07))
    red, green, blue = (gain * t for t in sky.tint)
    return Light((right / length, up / length, near / length), sky.ambient, (red, green, blue))


def outdoors(rng: np.random.Generator, width: int, height: int, ground: str, horizon: float | None = None) -> Canvas:
    """A landscape for an image [height,width]; `ground` is a key of GROUNDS, `horizon` a share of the height."""
    sky = SKIES[rng.integers(len(SKIES))]
    light = draw_light(rng, sky)
    line = int(height * (horizon or rng.uniform(0.25, 0.5)))
    image = np.empty((height, width, 3), np.uint8)
    image[:line] = _sky(rng, sky, line, width)
    for k in range(int(rng.integers(1, 4))):
        _hills(image, rng, line, k, sky, GROUNDS[ground][1], light)
    image[line:] = _ground(rng, height - line, width, GROUNDS[ground], light)
    canvas = _enlarged(image, line, light)
    _far_things(canvas, rng)
    if ground in (*GREEN, "dirt"):
        _blades(canvas, rng, GROUNDS["grass" if ground == "dirt" else ground][0])
    return canvas


def indoors(rng: np.random.Generator, width: int, height: int) -> Canvas:
    """A hall or a room: a wall with a stripe and windows, a wooden floor."""
    light = Light((0.2, 0.85, 0.45), 0.7, (1.0, 0.98, 0.94))
    line = int(height * rng.uniform(0.42, 0.55))
    wall = np.array(((216, 210, 196), (176, 196, 206), (206, 190, 160), (150, 160, 150))[rng.integers(4)], float)
    image = np.empty((height, width, 3), np.uint8)
    shade = np.linspace(0.8, 1.02, line)[:, None, None]
    image[:line] = np.clip(wall * shade, 0, 255)
    stripe = int(line * rng.uniform(0.55, 0.8))
    cv2.rectangle(image, (0, stripe), (width, stripe + line // 12), tuple(rng.integers(40, 220, 3).tolist()), -1)
    for x in range(int(rng.integers(0, 60)), width, width // 5):
        cv2.rectangle(image, (x, line // 10), (x + width // 9, line // 3), (226, 236, 240), -1)
    wood: Color = ((196, 152, 98), (178, 128, 82), (206, 172, 122))[rng.integers(3)]
    image[line:] = _ground(rng, height - line, width, (wood, wood), light, planks=True)
    return _enlarged(image, line, light)


def court_lines(canvas: Canvas, rng: np.random.Generator) -> None:
    """Painted lines on the floor, toward the vanishing point and across."""
    color = ((240, 240, 236), (226, 200, 70), (70, 110, 180))[rng.integers(3)]
    low, line = canvas.height, canvas.horizon
    y = int(line + (low - line) * rng.uniform(0.15, 0.5))
    cv2.line(canvas.image, (0, y), (canvas.width, y), color, 3)
    for x in rng.uniform(-0.5, 1.5, 2) * canvas.width:
        share = (y - line) / (low - line)
        end = (int(canvas.width / 2 + (x - canvas.width / 2) * share), y)
        cv2.line(canvas.image, (int(x), low), end, color, 4)


def _enlarged(image: np.ndarray, line: int, light: Light) -> Canvas:
    """What is soft is painted in the image's own size, which is a quarter of the work."""
    large = cv2.resize(image, None, fx=SCALE, fy=SCALE, interpolation=cv2.INTER_LINEAR)
    return Canvas(large, np.full(large.shape[:2], -1, np.int16), SCALE * line, light)


def _sky(rng: np.random.Generator, sky: Sky, height: int, width: int) -> np.ndarray:
    down = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    color = np.array(sky.top, np.float32) * (1 - down) + np.array(sky.low, np.float32) * down
    wisps = cv2.resize(noise(height, width // 3 + 1, width / 500, rng, (8, 24, 72)), (width, height))[..., None]
    cover = np.clip((wisps - 0.62 + 0.3 * sky.clouds) * 4, 0, 0.9)
    white = np.array([250, 250, 250], np.float32) * np.array(sky.tint, np.float32).clip(0, 1)
    return np.clip(color * (1 - cover) + white * cover * (1 - 0.15 * sky.clouds), 0, 255)


def _hills(
    image: np.ndarray, rng: np.random.Generator, line: int, k: int, sky: Sky, ground: Color, light: Light
) -> None:
    """A ridge; the nearer ones (larger `k`) are lower and take the colour of the ground."""
    width = image.shape[1]
    x = np.linspace(0, 1, width)
    ridge = sum(math.sin(rng.uniform(0, 6)) * np.sin(x * rng.uniform(2, 14) + rng.uniform(0, 6)) / n for n in (1, 2, 4))
    top = line - line * rng.uniform(0.1, 0.34) / (k + 1) * (1 + 0.6 * ridge)
    near = 0.35 + 0.2 * k
    tone = (1 - near) * np.array(sky.low) * 0.85 + near * np.array(ground) * np.array(light.tint) * 0.8
    corners = np.concatenate([np.stack([x * width, top], 1), [[width, line + 1], [0, line + 1]]])
    cv2.fillPoly(image, [corners.round().astype(np.int32)], tone.tolist(), cv2.LINE_AA)


def _ground(
    rng: np.random.Generator, height: int, width: int, tones: tuple[Color, Color], light: Light, planks: bool = False
) -> np.ndarray:
    """The ground in perspective: its texture is fine and pale near the horizon, which is the first row."""
    near = (np.arange(height, dtype=np.float32) + 6) / (height + 6)
    near = near[:, None]
    across = (np.arange(width, dtype=np.float32) - width / 2)[None] / near * (170 / width)
    along = np.broadcast_to(90 / near, (height, width))
    if planks:
        across, along = across * 0.8, along * 0.02
    start = rng.uniform(0, 512, 2)
    maps = ((across + start[0]) % 511).astype(np.float32), ((along + start[1]) % 511).astype(np.float32)
    fine = cv2.remap(tile((64, 256)), *maps, cv2.INTER_LINEAR)
    broad = cv2.remap(tile(PATCHES), *maps, cv2.INTER_LINEAR)
    texture = 1 + (0.5 * (fine - 0.5) + 0.3 * (broad - 0.5)) * np.sqrt(near)
    color = np.array(tones[1], np.float32) * (1 - near[..., None]) + np.array(tones[0], np.float32) * near[..., None]
    sun = 0.55 * light.ambient + 0.62
    return np.clip(color * (texture * sun)[..., None] * np.array(light.tint, np.float32), 0, 255)


def _far_things(canvas: Canvas, rng: np.random.Generator) -> None:
    """Trees along the horizon, sometimes a house."""
    line, scale = canvas.horizon, canvas.height / 55
    if rng.random() < 0.2:
        canvas.paste(house(rng, scale * 0.8, canvas.light), rng.uniform(0, canvas.width), line + 5, shadow=False)
    middle, spread = rng.uniform(0, canvas.width), rng.uniform(0.1, 0.5) * canvas.width
    for _ in range(int(rng.choice([0, 3, 6, 10], p=[0.2, 0.3, 0.3, 0.2]))):
        size = scale * rng.uniform(0.7, 1.8)
        canvas.paste(tree(rng, size, canvas.light), rng.normal(middle, spread), line + 2 + size, shadow=False)
    canvas.owner[:] = -1  # scenery hides nothing that is drawn later


def _blades(canvas: Canvas, rng: np.random.Generator, tone: Color) -> None:
    """Tufts of grass, longer toward the viewer."""
    count = int(rng.integers(150, 450))
    down = np.sqrt(rng.uniform(0.02, 1, count))
    y = canvas.horizon + down * (canvas.height - canvas.horizon)
    x = rng.uniform(0, canvas.width, count)
    length = down * canvas.height * rng.uniform(0.012, 0.035, count)
    lean = rng.normal(0, 0.35, count) * length
    lines = np.stack([np.stack([x, y], 1), np.stack([x + lean, y - length], 1)], 1).round().astype(np.int32)
    for part, factor in enumerate((0.72, 0.88, 1.12, 1.28)):
        color = np.array(tone) * factor * np.array(canvas.light.tint)
        cv2.polylines(canvas.image, list(lines[part::4]), False, color.clip(0, 255).tolist(), 1, cv2.LINE_AA)

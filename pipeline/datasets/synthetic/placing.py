"""Animals and things into an image: who stands where, how much of each stays visible."""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.datasets.synthetic import props
from pipeline.datasets.synthetic.animals import LANDMARKS, animal_figure, draw_animal, draw_stance
from pipeline.datasets.synthetic.canvas import SCALE, Canvas, corner
from pipeline.datasets.synthetic.people import draw_body_pose, draw_person, person_figure
from pipeline.datasets.synthetic.solids import Figure, Sprite, View, render

SHAPES = {"landscape": (1.0, 0.75), "square": (1.0, 1.0), "wide": (1.0, 0.667), "portrait": (0.75, 1.0)}


@dataclass(slots=True)
class Placed:
    """An animal in an image; `mask` [H,W] is its silhouette there, `seen` what nothing nearer hides of it."""

    species: str
    sprite: Sprite
    x: float
    y: float
    number: int
    mask: np.ndarray
    seen: np.ndarray


@dataclass(slots=True)
class Scene:
    """An image and the animals that were placed into it, the far ones first."""

    canvas: Canvas
    placed: list[Placed] = field(default_factory=list)

    def add(self, species: str, sprite: Sprite, x: float, y: float, inside: float, visible: float) -> bool:
        """Paste an animal unless less than `inside` of it is in the image or `visible` of another stays in sight."""
        mask = self.canvas.covers(sprite, x, y)
        if mask.sum() < inside * sprite.mask.sum() or not self._leaves(mask, visible):
            return False
        self._hide(mask)
        self.placed.append(Placed(species, sprite, x, y, len(self.placed), mask, mask.copy()))
        self.canvas.paste(sprite, x, y, self.placed[-1].number)
        return True

    def occlude(self, sprite: Sprite, x: float, y: float, visible: float) -> bool:
        """Paste a thing before the animals unless less than `visible` of one of them stays in sight."""
        mask = self.canvas.covers(sprite, x, y)
        if not self._leaves(mask, visible):
            return False
        self._hide(mask)
        self.canvas.paste(sprite, x, y)
        return True

    def _leaves(self, mask: np.ndarray, visible: float) -> bool:
        return all((p.seen & ~mask).sum() >= visible * p.sprite.mask.sum() for p in self.placed)

    def _hide(self, mask: np.ndarray) -> None:
        for other in self.placed:
            other.seen &= ~mask


def draw_shape(rng: np.random.Generator, side: int, names: tuple[str, ...]) -> tuple[int, int]:
    """Width and height of an image whose longer side is `side`."""
    w, h = SHAPES[names[rng.integers(len(names))]]
    return round(side * w), round(side * h)


def draw_yaw(rng: np.random.Generator) -> float:
    """Mostly seen from a side, sometimes from anywhere."""
    if rng.random() < 0.2:
        return float(rng.uniform(-math.pi, math.pi))
    return float(math.pi * rng.integers(2) + rng.normal(0, 0.45))


def draw_figure(rng: np.random.Generator, kind: str) -> tuple[Figure, int]:
    """One animal of a species, or a "person", in some pose; and the seed of its fleece."""
    if kind == "person":
        return person_figure(draw_person(rng), draw_body_pose(rng)), 0
    animal = draw_animal(kind, rng)
    return animal_figure(animal, draw_stance(rng, kind)), animal.seed


def draw_sprite(rng: np.random.Generator, canvas: Canvas, kind: str, scale: float) -> Sprite:
    """An animal or person at `scale` drawn pixels per metre."""
    figure, fleece = draw_figure(rng, kind)
    return render(figure, View(draw_yaw(rng), float(rng.uniform(0.05, 0.2)), scale), canvas.light, fleece)


def draw_large(rng: np.random.Generator, canvas: Canvas, kind: str, low: float, high: float) -> Sprite:
    """An animal or person that takes `low` to `high` of the image's height and not more than its width."""
    figure, fleece = draw_figure(rng, kind)
    yaw = draw_yaw(rng)
    length, tall = figure.reach()
    room = canvas.width / (2 * length * max(abs(math.cos(yaw)), 0.4))
    scale = min(rng.uniform(low, high) * canvas.height / tall, 1.05 * room)
    return render(figure, View(yaw, float(rng.uniform(0.05, 0.2)), scale), canvas.light, fleece)


def draw_spot(rng: np.random.Generator, canvas: Canvas, sprite: Sprite, edge: float) -> tuple[float, float]:
    """Where a large figure stands: wholly in the image, or with the chance `edge` cut by its left or right edge."""
    h, w = sprite.mask.shape
    low, high = sprite.foot[0], canvas.width - (w - sprite.foot[0])
    x = rng.uniform(min(low, high), max(low, high))
    if rng.random() < edge:
        x = rng.choice([low - 0.35 * w, high + 0.35 * w])
    below = h - sprite.foot[1]
    highest = max(canvas.horizon + 4, sprite.foot[1])
    return float(x), float(rng.uniform(min(highest, canvas.height - below), canvas.height - below))


def bush_or_fence(rng: np.random.Generator, scene: Scene, scale: float, visible: float) -> None:
    """Something at the front that may hide part of an animal."""
    canvas = scene.canvas
    if rng.random() < 0.4:
        rails = props.fence(rng, canvas.width, scale * 0.8, canvas.light)
        scene.occlude(rails, canvas.width / 2, canvas.height * rng.uniform(0.93, 1.08), visible)
        return
    for _ in range(int(rng.integers(1, 3))):
        green = props.bush(rng, scale, canvas.light)
        spot = rng.uniform(0, canvas.width), canvas.height * rng.uniform(0.9, 1.02)
        scene.occlude(green, *spot, visible)


def coco_annotation(placed: Placed, canvas: Canvas) -> dict[str, Any]:
    """`bbox`, `area` and `keypoints` of one animal in pixels of the finished image, (0, 0) its upper-left corner."""
    rows, columns = np.flatnonzero(placed.mask.any(1)), np.flatnonzero(placed.mask.any(0))
    x, y = int(columns[0]) / SCALE, int(rows[0]) / SCALE
    box = [x, y, (int(columns[-1]) + 1) / SCALE - x, (int(rows[-1]) + 1) / SCALE - y]
    keypoints: list[float] = []
    left, top = corner(placed.sprite, placed.x, placed.y)
    for name in LANDMARKS:
        px, py, clear = placed.sprite.points[name]
        px, py = px + left, py + top
        if not (0 <= px < canvas.width and 0 <= py < canvas.height):
            keypoints += [0, 0, 0]
            continue
        hidden = canvas.owner[int(py), int(px)] > placed.number or not clear
        keypoints += [round(px / SCALE, 2), round(py / SCALE, 2), 1 if hidden else 2]
    return {
        "bbox": box,
        "area": float(placed.mask.sum() / SCALE**2),
        "iscrowd": 0,
        "keypoints": keypoints,
        "num_keypoints": sum(v > 0 for v in keypoints[2::3]),
    }

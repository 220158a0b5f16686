"""`alpaca`: alpaca or not, as class folders of photos."""

from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.core.parallel import each
from pipeline.datasets.synthetic import props
from pipeline.datasets.synthetic.canvas import SCALE, finish, generator
from pipeline.datasets.synthetic.params import ImagesParams
from pipeline.datasets.synthetic.placing import Scene, bush_or_fence, draw_large, draw_shape, draw_spot
from pipeline.datasets.synthetic.scenery import PASTURES, outdoors

LABELS = ("alpaca", "not alpaca")
OTHERS = {
    **{"sheep": 0.14, "deer": 0.08, "horse": 0.19, "dog": 0.18, "cow": 0.19},
    **{"person": 0.1, "nothing": 0.05, "house": 0.03, "car": 0.04},
}
LIVING = ("sheep", "deer", "horse", "dog", "cow", "person")


def draw_alpaca(folder: Path, params: ImagesParams, seed: int) -> int:
    """Draw JPEGs into `folder`/alpaca and `folder`/not alpaca, three to two; returns how many images."""
    for label in LABELS:
        (folder / label).mkdir()
    return len(each(partial(_photo, folder, params.side, seed), range(params.images), "draw alpaca"))


def _photo(folder: Path, side: int, seed: int, index: int) -> None:
    rng = generator(seed, "alpaca", index)
    label = LABELS[index % 5 in (1, 3)]
    width, height = draw_shape(rng, side, ("landscape", "landscape", "square", "portrait", "wide"))
    scene = Scene(outdoors(rng, width, height, PASTURES[rng.integers(len(PASTURES))]))
    kind = "alpaca" if label == "alpaca" else str(rng.choice(list(OTHERS), p=list(OTHERS.values())))
    if rng.random() < 0.12:  # company in the background
        company = str(rng.choice(LIVING)) if label != "alpaca" or rng.random() < 0.6 else "alpaca"
        _put(rng, scene, company, 0.2, 0.35)
    if kind in ("house", "car"):
        _building(rng, scene, kind)
    elif kind != "nothing":
        _put(rng, scene, kind, 0.8, 1.2)
    if rng.random() < 0.2:
        bush_or_fence(rng, scene, 0.35 * scene.canvas.height, visible=0.4)
    pixels = finish(scene.canvas.image, width, height, rng, rng.uniform(0, 0.9), rng.uniform(1, 7))
    Image.fromarray(pixels).save(folder / label / f"{index:04d}.jpg", quality=90)


def _put(rng: np.random.Generator, scene: Scene, kind: str, low: float, high: float) -> None:
    """An animal or person where it hides no other too far; after five tries anywhere."""
    for _ in range(5):
        sprite = draw_large(rng, scene.canvas, kind, low, high)
        if scene.add(kind, sprite, *draw_spot(rng, scene.canvas, sprite, edge=0.06), inside=0.5, visible=0.3):
            return
    scene.add(kind, sprite, *draw_spot(rng, scene.canvas, sprite, edge=0), inside=0, visible=0)


def _building(rng: np.random.Generator, scene: Scene, kind: str) -> None:
    canvas = scene.canvas
    scale = rng.uniform(0.07, 0.11) * SCALE * 100 * canvas.width / 512
    draw = props.house if kind == "house" else props.car
    sprite = draw(rng, scale * (1 if kind == "house" else 2.2), canvas.light)
    y = canvas.horizon + rng.uniform(0.05 if kind == "house" else 0.4, 0.8) * (canvas.height - canvas.horizon)
    canvas.paste(sprite, rng.uniform(0.25, 0.75) * canvas.width, y)

"""Policies by torchvision v2: its changes of look, its classifiers' policies, and moves by one warp of our own.

torchvision moves points in another frame than boxes when it mirrors, and a box otherwise than the image when the canvas
grows. Its random transforms draw from torch's generator of the whole process.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pipeline.augment.policies.notes import called, note
from pipeline.augment.policies.policy import Pixels, Points, Policy
from pipeline.augment.policies.warps import CORNERS, Matrix, Size, Warp, about_middle, fitted, quad_to_quad, turn

Move = tuple[Matrix, Points | None] | None
PERSPECTIVE = 0.5  # torchvision's distortion_scale, of half a side: below a third of a side no corner turns in


def alpaca_lab() -> Policy:
    """A horizontal flip, and a turn by up to 0.2 of a whole one, both ways, about the middle."""
    return Policy(geometry=Warp(_flip_and_turn))


def ucf101() -> Policy:
    """One of ten at random: a flip either way, affine, resized crop, perspective, a turn by up to 90 degrees that
    cuts nothing off, gray, any hue, blur, morphology.
    """
    moved, look = Policy(geometry=Warp(_one_move)), Policy(look=_one_look)
    share = len(MOVES) / (len(MOVES) + len(LOOKS))
    return Policy(drawn=lambda seed: moved if seed < share * 2**64 else look)


def randaugment() -> Policy:
    """RandAugment (Cubuk et al., 2020): two of fourteen changes, of strength 9 of 30."""
    return Policy(drawn=_Changes(v2.RandAugment(), 2, 9))


def trivialaugment() -> Policy:
    """TrivialAugment Wide (Müller and Hutter, 2021): one of fourteen changes, of any strength."""
    return Policy(drawn=_Changes(v2.TrivialAugmentWide(), 1, None))


@dataclass(frozen=True)
class _Changes:
    """Draws `count` changes from torchvision's table of them: those that move become one warp, which labels follow. Of
    a table of strengths the one numbered `strength` is taken, or any.
    """

    library: v2.RandAugment | v2.TrivialAugmentWide
    count: int
    strength: int | None

    def __call__(self, seed: int) -> Policy:
        known = list(self.library._AUGMENTATION_SPACE)
        names = [known[i] for i in np.random.default_rng(seed).integers(len(known), size=self.count)]
        moves, looks = [n for n in names if n in MATRICES], [n for n in names if n not in MATRICES]
        return Policy(Warp(partial(self._move, moves)) if moves else None, partial(self._look, looks))

    def _move(self, names: list[str], draw: np.random.Generator, size: Size) -> Move:
        matrix = np.eye(3)
        for name in names:
            matrix = MATRICES[name](self._drawn(name, draw, size), size) @ matrix
        return matrix, None

    def _look(self, names: list[str], pixels: Pixels, seed: int) -> Pixels:
        draw, image = np.random.default_rng(seed), _image(pixels)
        for name in names:
            strength = self._drawn(name, draw, np.array(pixels.shape[1::-1]))
            note(partial(_told, name, strength))
            image = self.library._apply_image_or_video_transform(image, name, strength, INTERPOLATION, {})
        return _pixels(image) if names else pixels

    def _drawn(self, name: str, draw: np.random.Generator, size: Size) -> float:
        """A strength of one change, 0 where it has none; of some it has a sign, drawn too."""
        table, signed = self.library._AUGMENTATION_SPACE[name]
        strengths = table(self.library.num_magnitude_bins, int(size[1]), int(size[0]))
        if strengths is None:
            return 0.0
        number = draw.integers(len(strengths)) if self.strength is None else self.strength
        return float(strengths[number]) * (draw.choice((-1.0, 1.0)) if signed else 1.0)


def _told(name: str, strength: float) -> str:
    return f"{called(name)} {strength:.2g}" if strength else called(name)


def _shift(x: float, y: float) -> Matrix:
    return np.array([[1.0, 0.0, x], [0.0, 1.0, y], [0.0, 0.0, 1.0]])


INTERPOLATION = v2.InterpolationMode.BILINEAR
# what torchvision's changes that move do, about the image's corner or its middle as there
MATRICES: dict[str, Callable[[float, Size], Matrix]] = {
    "ShearX": lambda strength, _: np.array([[1, -strength, 0], [0, 1, 0], [0, 0, 1]], float),
    "ShearY": lambda strength, _: np.array([[1, 0, 0], [-strength, 1, 0], [0, 0, 1]], float),
    "TranslateX": lambda strength, _: _shift(int(strength), 0),
    "TranslateY": lambda strength, _: _shift(0, int(strength)),
    "Rotate": lambda strength, size: about_middle(turn(-np.radians(strength)), size),
}


def _image(pixels: Pixels) -> Tensor:
    # not as a view: torchvision's steps are slower on one
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def _pixels(image: Tensor) -> Pixels:
    return np.asarray(cv2.merge(list(image.numpy())), dtype=np.uint8)  # a tenth of the time of a copy by NumPy


def _flip_and_turn(draw: np.random.Generator, size: Size) -> Move:
    flip = np.diag([draw.choice((-1.0, 1.0)), 1.0])
    return about_middle(turn(2 * np.pi * draw.uniform(-0.2, 0.2)) @ flip, size), None


def _one_move(draw: np.random.Generator, size: Size) -> Move:
    return MOVES[draw.integers(len(MOVES))](draw, size), None


def _horizontal_flip(_draw: np.random.Generator, size: Size) -> Matrix:
    return about_middle(np.diag([-1.0, 1.0]), size)


def _vertical_flip(_draw: np.random.Generator, size: Size) -> Matrix:
    return about_middle(np.diag([1.0, -1.0]), size)


def _affine(draw: np.random.Generator, size: Size) -> Matrix:
    shear = np.array([[1, np.tan(np.radians(draw.uniform(-10, 10)))], [0, 1]])
    linear = turn(np.radians(draw.uniform(-15, 15))) @ shear * draw.uniform(0.8, 1.2)
    return about_middle(linear, size, draw.uniform(-0.1, 0.1, 2) * size)


def _resized_crop(draw: np.random.Generator, size: Size) -> Matrix:
    """From half of the area to all of it, a third wider or narrower than the image at most, as in torchvision."""
    sides = np.sqrt(draw.uniform(0.5, 1)) * np.exp(np.log(4 / 3) * draw.uniform(-0.5, 0.5) * np.array([1, -1]))
    sides = np.minimum(sides, 1)
    left_top = draw.uniform(0, 1, 2) * (1 - sides)
    return np.array([[1 / sides[0], 0, 0], [0, 1 / sides[1], 0], [0, 0, 1]]) @ np.array(
        [[1, 0, -left_top[0] * size[0]], [0, 1, -left_top[1] * size[1]], [0, 0, 1]]
    )


def _perspective(draw: np.random.Generator, size: Size) -> Matrix:
    inwards = draw.uniform(0, PERSPECTIVE / 2, (4, 2)) * (1 - 2 * CORNERS)
    return quad_to_quad(CORNERS, CORNERS + inwards, size)


def _whole_turn(draw: np.random.Generator, size: Size) -> Matrix:
    return fitted(turn(np.radians(draw.uniform(-90, 90))), size)


MOVES: tuple[Callable[[np.random.Generator, Size], Matrix], ...] = (
    *(_horizontal_flip, _vertical_flip, _affine, _resized_crop, _perspective, _whole_turn),
)


def _one_look(pixels: Pixels, seed: int) -> Pixels:
    draw = np.random.default_rng(seed)
    look = LOOKS[draw.integers(len(LOOKS))]
    note(lambda: look.__name__.strip("_"))
    return look(pixels, draw)


def _gray(pixels: Pixels, _draw: np.random.Generator) -> Pixels:
    return _pixels(functional.rgb_to_grayscale(_image(pixels), num_output_channels=3))


def _hue(pixels: Pixels, draw: np.random.Generator) -> Pixels:
    return _pixels(functional.adjust_hue(_image(pixels), draw.uniform(-0.5, 0.5)))


def _blur(pixels: Pixels, draw: np.random.Generator) -> Pixels:
    size: Any = [5, 5]
    return _pixels(functional.gaussian_blur(_image(pixels), size, [draw.uniform(0.1, 2.0)]))


def _morphology(pixels: Pixels, draw: np.random.Generator) -> Pixels:
    """Opening or closing, which smooths edges; torchvision has neither."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    kind = cv2.MORPH_OPEN if draw.random() < 0.5 else cv2.MORPH_CLOSE
    return np.asarray(cv2.morphologyEx(pixels, kind, disc), dtype=np.uint8)


LOOKS: tuple[Callable[[Pixels, np.random.Generator], Pixels], ...] = (_gray, _hue, _blur, _morphology)

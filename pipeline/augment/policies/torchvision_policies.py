"""Policies by torchvision v2: its changes of look, its classifiers' policies, and moves by one warp of our own.

torchvision moves points in another frame than boxes when it mirrors, and a box otherwise than the image when the canvas
grows. Its random transforms draw from torch's generator of the whole process.
"""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from pipeline.augment.policies.notes import note
from pipeline.augment.policies.policy import BORDER, Pixels, Points, Policy
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
    return Policy(geometry=Warp(_one_move), look=_one_look, moved_share=len(MOVES) / (len(MOVES) + len(LOOKS)))


def randaugment() -> Policy:
    """RandAugment (Cubuk et al., 2020): two of fourteen changes, of strength 9 of 30. It moves no labels."""
    return Policy(look=_Seeded(_RandAugment(interpolation=v2.InterpolationMode.BILINEAR, fill=BORDER)))


def trivialaugment() -> Policy:
    """TrivialAugment Wide (Müller and Hutter, 2021): one of fourteen changes, of any strength. It moves no labels."""
    return Policy(look=_Seeded(_TrivialAugment(interpolation=v2.InterpolationMode.BILINEAR, fill=BORDER)))


class _Noted(v2.Transform):
    """Notes which change is applied, and how strong."""

    def _apply_image_or_video_transform(
        self, image: Tensor, transform_id: str, magnitude: float, **more: Any
    ) -> Tensor:
        note(lambda: f"{transform_id} {magnitude:.2g}" if magnitude else transform_id)
        changed: Tensor = super()._apply_image_or_video_transform(image, transform_id, magnitude, **more)
        return changed


class _RandAugment(_Noted, v2.RandAugment):
    """As torchvision has it."""


class _TrivialAugment(_Noted, v2.TrivialAugmentWide):
    """As torchvision has it."""


class _Seeded:
    """A transform of torchvision's, drawn by a seed. torch's own generator is left as it was, on every device."""

    def __init__(self, transform: v2.Transform) -> None:
        self.transform = transform

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return _pixels(self.transform(_image(pixels)))


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

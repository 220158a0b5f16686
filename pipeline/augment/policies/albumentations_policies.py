"""Policies by albumentations 2.0.8, the last release under the MIT licence."""

import random
from functools import partial
from typing import Any

import cv2
import numpy as np

from pipeline.augment.policies.bare_albumentations import A
from pipeline.augment.policies.notes import arguments, called, is_noting, note
from pipeline.augment.policies.policy import BORDER, Pixels, Points, Policy


def photo() -> Policy:
    """What light, lens, sensor and file do to a photo. Nothing moves."""
    return Policy(look=Look(_photo_looks()))


def photo_geometry() -> Policy:
    """`photo`, and the horizontal flip, shift, scale and slight rotation that a hand-held camera has."""
    return Policy(geometry=Geometry(_hand_held((0.8, 1.2), 0.08)), look=Look(_photo_looks()))


def photo_zoom() -> Policy:
    """`photo_geometry` over a wide range of distances, from half to nearly twice the size: for detectors."""
    return Policy(geometry=Geometry(_hand_held((0.5, 1.8), 0.2)), look=Look(_photo_looks()))


def _photo_looks() -> list[A.BasicTransform]:
    light = [
        A.RandomBrightnessContrast(brightness_limit=0.25, contrast_limit=0.25),
        A.RandomGamma(gamma_limit=(70, 140)),
    ]
    colour = [
        A.HueSaturationValue(hue_shift_limit=10, sat_shift_limit=30, val_shift_limit=10),
        A.PlanckianJitter(),  # the colour of daylight and of lamps
    ]
    return [
        A.OneOf(light, p=0.8),
        A.OneOf(colour, p=0.5),
        A.ToGray(p=0.03),
        A.OneOf([A.GaussianBlur(sigma_limit=(0.3, 1.2)), A.MotionBlur(blur_limit=(3, 5))], p=0.15),
        A.GaussNoise(std_range=(0.01, 0.05), p=0.2),
        A.ImageCompression(quality_range=(40, 95), p=0.2),
    ]


def _hand_held(scale: tuple[float, float], shift: float) -> list[A.BasicTransform]:
    warp = _Affine(
        scale=scale,
        translate_percent={"x": (-shift, shift), "y": (-shift, shift)},
        rotate=(-7, 7),
        keep_ratio=True,
        border_mode=cv2.BORDER_CONSTANT,
        fill=BORDER,
        p=0.7,
    )
    return [A.HorizontalFlip(p=0.5), warp]


class Look:
    """A policy's look by albumentations' transforms, one after the other."""

    def __init__(self, transforms: list[A.BasicTransform]) -> None:
        self.transform = A.Compose(transforms, is_check_shapes=False)

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        _seed(self.transform, seed)
        if not is_noting():
            moved: Pixels = _done(self.transform, {"image": pixels})["image"]
            return moved
        self.transform.save_applied_params = True
        done = self.transform(image=pixels)
        for name, drawn in done["applied_transforms"]:
            note(partial(_told, name, drawn))
        return done["image"]


class Geometry:
    """A policy's geometry by albumentations' transforms, of which one warps at most: a second could shift back into the
    image what the first has cut off, labels without pixels.
    """

    def __init__(self, transforms: list[A.BasicTransform]) -> None:
        self.transform = A.Compose(
            transforms,
            # the library would drop points outside, and with them which landmark is which
            keypoint_params=A.KeypointParams("xy", remove_invisible=False),
            is_check_shapes=False,
        )

    def __call__(self, pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
        _seed(self.transform, seed)
        if not len(points):
            return _done(self.transform, {"image": pixels})["image"], points
        size = np.array([pixels.shape[1], pixels.shape[0]], dtype=float)
        spots = np.zeros((len(points), 5), np.float32)  # x, y, z, angle, scale
        # its keypoints count from the middle of the first pixel, ours from the image's corner
        spots[:, :2] = points * size - 0.5
        moved = _done(self.transform, {"image": pixels, "keypoints": spots})
        return moved["image"], (moved["keypoints"][:, :2].astype(float) + 0.5) / size


class _Affine(A.Affine):
    """albumentations', without asking twice of a matrix whether it does anything, which takes as long as the warp."""

    def apply(self, img: Pixels, matrix: Any, output_shape: tuple[int, int], **_params: Any) -> Pixels:
        height, width = output_shape
        fill = (self.fill,) * 3
        moved = cv2.warpAffine(img, matrix[:2], (width, height), None, self.interpolation, self.border_mode, fill)
        return np.asarray(moved, dtype=np.uint8)

    def apply_to_keypoints(self, keypoints: Any, matrix: Any, **_params: Any) -> Any:
        moved = keypoints.copy()
        if len(moved):  # of none OpenCV makes no array
            moved[:, :2] = cv2.transform(keypoints[:, None, :2], matrix[:2])[:, 0]
        return moved


def _done(whole: A.Compose, data: dict[str, Any]) -> dict[str, Any]:
    """What `whole` makes of `data`, keypoints as its transforms have them: without the checks of each of its calls."""
    whole.py_random.random()  # it draws whether to do anything
    for transform in whole.transforms:
        data = transform(**data)
    return data


def _told(name: str, drawn: dict[str, Any]) -> str:
    return f"{called(name)} {arguments(drawn)}".strip()


def _seed(transform: A.Compose, seed: int) -> None:
    """Start all transforms from `seed`. `set_random_seed` would make a generator for each of them, ten times slower."""
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))

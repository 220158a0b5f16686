"""Policies by imgaug 0.4.0, which was written for NumPy 1."""

from collections.abc import Callable
from functools import cache, cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.notes import called, is_noting, note
from pipeline.augment.policies.policy import BORDER, Pixels, Points, Policy
from pipeline.augment.policies.warps import (
    CORNERS,
    FURTHEST,
    GRID,
    Matrix,
    Size,
    Warp,
    about_middle,
    is_before_camera,
    quad_to_quad,
    turn,
)

# NumPy 2 lacks names that imgaug uses: `sctypes` while it is imported, `complex` in its frequency noise. (`np.bool`
# must stay NumPy's own: in NumPy 2 it is the type that was `np.bool_`.)
_FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
_INTS = [np.int8, np.int16, np.int32, np.int64]
_UINTS = [np.uint8, np.uint16, np.uint32, np.uint64]
for _name, _value in (("sctypes", {"float": _FLOATS, "int": _INTS, "uint": _UINTS}), ("complex", complex)):
    if not hasattr(np, _name):
        setattr(np, _name, _value)

import imgaug as ia  # noqa: E402 (the names must be there first)
import imgaug.augmenters as iaa  # noqa: E402

MOST_INSIDE = 32  # steps in a step


def ucf101() -> Policy:
    """The policy of a MobileNetV2 trained on frames of UCF101: up to five strong changes of look, in any order.

    That listing begins behind its geometric part, so the geometry here is our own, and mild.
    """
    return Policy(geometry=Warp(_moves), look=_Look(_looks()))


def ucf101_warped() -> Policy:
    """`imgaug_ucf101`, with the three steps that its listing leaves out: pixels moved a little way at random, the image
    pulled at the knots of a mesh, and perspective; the last two in half of the images each.
    """
    # pixels move by a few, each for itself: labels stay
    shaken = iaa.Sometimes(0.5, iaa.ElasticTransformation(alpha=(0.5, 3.5), sigma=0.25, cval=BORDER))
    return Policy(geometry=Warp(_warped_moves), look=_Look(_looks(shaken)))


def _moves(draw: np.random.Generator, size: Size) -> tuple[Matrix, None]:
    """A flip, and mostly a warp as a camera in a hand has it."""
    linear = np.diag([draw.choice((-1.0, 1.0)), 1.0])
    if draw.random() >= 0.7:
        return about_middle(linear, size), None
    shear = np.array([[1, np.tan(np.radians(draw.uniform(-4, 4)))], [0, 1]])
    linear = turn(np.radians(draw.uniform(-7, 7))) @ shear @ np.diag(draw.uniform(0.85, 1.15, 2)) @ linear
    return about_middle(linear, size, draw.uniform(-0.08, 0.08, 2) * size), None


def _warped_moves(draw: np.random.Generator, size: Size) -> tuple[Matrix, Points | None]:
    matrix, knots = _moves(draw, size)[0], None
    if draw.random() < 0.5:
        matrix = _perspective(draw, size) @ matrix
    if draw.random() < 0.5:
        jitter = draw.normal(0, draw.uniform(0.01, 0.05), GRID.shape)
        knots = GRID + np.clip(jitter, -FURTHEST, FURTHEST)
    return matrix, knots


def _perspective(draw: np.random.Generator, size: Size) -> Matrix:
    """Four corners of a piece of the image go to those of the image."""
    inwards = np.clip(np.abs(draw.normal(0, draw.uniform(0.01, 0.1), (4, 2))), 0, 0.3) * (1 - 2 * CORNERS)
    while not is_before_camera(matrix := quad_to_quad(CORNERS + inwards, CORNERS, size), size):
        inwards /= 2
    return matrix


def _looks(*more: iaa.Augmenter) -> iaa.Augmenter:
    multiplied = iaa.Multiply((0.5, 1.5), per_channel=0.5)
    patches = iaa.BlendAlphaFrequencyNoise(
        exponent=(-4, 0),
        foreground=iaa.Multiply((0.5, 1.5), per_channel=True),
        background=iaa.LinearContrast((0.5, 2.0)),
    )
    edges = iaa.OneOf(
        [iaa.EdgeDetect(alpha=(0.5, 1.0)), iaa.DirectedEdgeDetect(alpha=(0.5, 1.0), direction=(0.0, 1.0))]
    )
    holes = [
        iaa.Dropout((0.01, 0.1), per_channel=0.5),
        iaa.CoarseDropout((0.03, 0.15), size_percent=(0.02, 0.05), per_channel=0.2),
    ]
    return iaa.SomeOf(
        (0, 5),
        [
            iaa.Sometimes(0.5, Superpixels(p_replace=(0, 1.0), n_segments=(20, 200))),
            iaa.OneOf([iaa.GaussianBlur((0, 3.0)), iaa.AverageBlur(k=(2, 7)), iaa.MedianBlur(k=(3, 11))]),
            iaa.Sharpen(alpha=(0, 1.0), lightness=(0.75, 1.5)),
            iaa.Emboss(alpha=(0, 1.0), strength=(0, 2.0)),
            # in a list of its own: imgaug's seed_ passes over a OneOf that is itself the list of children
            iaa.BlendAlphaSimplexNoise([edges]),
            iaa.AdditiveGaussianNoise(loc=0, scale=(0.0, 0.05 * 255), per_channel=0.5),
            iaa.OneOf(holes),
            iaa.Invert(0.05, per_channel=True),
            iaa.Add((-10, 10), per_channel=0.5),
            iaa.AddToHueAndSaturation((-20, 20)),
            iaa.OneOf([multiplied, patches]),
            iaa.LinearContrast((0.5, 2.0), per_channel=0.5),
            iaa.Grayscale(alpha=(0.0, 1.0)),
            *more,
        ],
        random_order=True,
    )


class Superpixels(iaa.Superpixels):
    """imgaug's, which counts segments from 0: scikit-image counts them from 1 now, and each segment would get the
    colour of the one after it.
    """

    @classmethod
    def _replace_segments(cls, image: Pixels, segments: NDArray[np.int64], replace: NDArray[np.float64]) -> Pixels:
        numbers = (segments - segments.min()).ravel()
        sizes = np.bincount(numbers)
        sums = [np.bincount(numbers, channel.ravel()) for channel in np.moveaxis(image, 2, 0)]
        means = np.round(np.stack(sums, axis=1) / sizes[:, None]).astype(np.uint8)
        # there can be more segments than were asked for, and drawn for
        drawn = replace[np.arange(len(sizes)) % len(replace)] > 0.5
        return np.where(drawn[numbers, None], means[numbers], image.reshape(-1, 3)).reshape(image.shape)


class _Look:
    """The steps of `augmenter`. Each draws what it would after imgaug's own `seed_`, which makes a generator for every
    one of them, in a quarter of the time of a call; here only those get one that an image meets.
    """

    def __init__(self, augmenter: iaa.Augmenter) -> None:
        self.augmenter = augmenter

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        _seed(self.augmenter, _Start(lambda: np.random.SeedSequence(seed)))
        return self.augmenter.augment_image(pixels, hooks=ia.HooksImages(preprocessor=_note) if is_noting() else None)


class _Start(ia.random.RNG):
    """A step's generator, made where it is drawn from."""

    def __init__(self, sequence: Callable[[], np.random.SeedSequence]) -> None:
        self._sequence, self._is_new_rng_style = cache(sequence), True

    @cached_property
    def generator(self) -> np.random.Generator:
        return np.random.Generator(np.random.SFC64(self._sequence()))

    @cached_property
    def inside(self) -> NDArray[np.int32]:
        """Seeds of the steps in it: imgaug draws two for each, and takes the second."""
        limits = ia.random.SEED_MIN_VALUE, ia.random.SEED_MAX_VALUE
        afresh = np.random.Generator(np.random.SFC64(self._sequence()))
        return afresh.integers(*limits, (MOST_INSIDE, 2), np.int32)[:, 1]


def _seed(step: iaa.Augmenter, start: _Start) -> None:
    step.random_state = start
    inside = (child for children in step.get_children_lists() for child in children)
    for number, child in enumerate(inside):
        _seed(child, _Start(partial(_spawned, start, number)))


def _spawned(parent: _Start, number: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(parent.inside[number], spawn_key=(0,))


def _note(images: Any, augmenter: iaa.Augmenter, _parents: Any) -> Any:
    """Note a step that is applied, by its name: imgaug draws the numbers inside it, and does not tell them."""
    if not augmenter.get_children_lists() and not isinstance(augmenter, iaa.Identity):
        note(lambda: called(type(augmenter).__name__))
    return images

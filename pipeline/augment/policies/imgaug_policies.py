"""Policies by imgaug 0.4.0, which was written for NumPy 1."""

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.policy import BORDER, Pixels, Points, Policy

# NumPy 2 lacks names that imgaug uses: `sctypes` while it is imported, `complex` in its frequency noise. (`np.bool`
# must stay NumPy's own: in NumPy 2 it is the type that was `np.bool_`.)
_FLOATS = [np.float16, np.float32, np.float64, np.longdouble]
_INTS = [np.int8, np.int16, np.int32, np.int64]
_UINTS = [np.uint8, np.uint16, np.uint32, np.uint64]
for _name, _value in (("sctypes", {"float": _FLOATS, "int": _INTS, "uint": _UINTS}), ("complex", complex)):
    if not hasattr(np, _name):
        setattr(np, _name, _value)

import imgaug.augmenters as iaa  # noqa: E402 (the names must be there first)


def ucf101() -> Policy:
    """The policy of a MobileNetV2 trained on frames of UCF101: up to five strong changes of look, in any order.

    That listing begins behind its geometric part, so the geometry here is our own, and mild.
    """
    return Policy(geometry=_Geometry(_moves()), look=_Look(_looks()))


def _moves() -> iaa.Augmenter:
    # one warp only: a second could shift back into the image what the first has cut off, labels without pixels
    warp = iaa.Affine(
        scale={"x": (0.85, 1.15), "y": (0.85, 1.15)},
        translate_percent={"x": (-0.08, 0.08), "y": (-0.08, 0.08)},
        rotate=(-7, 7),
        shear=(-4, 4),
        order=1,
        mode="constant",
        cval=BORDER,
    )
    return iaa.Sequential([iaa.Fliplr(0.5), iaa.Sometimes(0.7, warp)])


def _looks() -> iaa.Augmenter:
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
    def __init__(self, augmenter: iaa.Augmenter) -> None:
        self.augmenter = augmenter

    def __call__(self, pixels: Pixels, seed: int) -> Pixels:
        self.augmenter.seed_(seed)
        return self.augmenter.augment_image(pixels)


class _Geometry:
    def __init__(self, augmenter: iaa.Augmenter) -> None:
        self.augmenter = augmenter

    def __call__(self, pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
        self.augmenter.seed_(seed)
        size = np.array([pixels.shape[1], pixels.shape[0]], dtype=float)
        moved, spots = self.augmenter(image=pixels, keypoints=[tuple(spot) for spot in points * size])
        return moved, np.array([(spot[0], spot[1]) for spot in spots], dtype=float).reshape(-1, 2) / size

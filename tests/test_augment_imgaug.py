"""imgaug's augmenters one by one, each on a picture on which what it should paint is known."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from pipeline.augment.policies import imgaug_policies

iaa = imgaug_policies.iaa  # imported there, with the names that NumPy 2 lacks


def noise(height: int = 24, width: int = 36) -> np.ndarray:
    return np.random.default_rng(0).integers(60, 180, (height, width, 3), dtype=np.uint8)


def flat(*colour: int) -> np.ndarray:
    return np.full((24, 36, 3), colour, np.uint8)


def blocks(rows: int = 4, columns: int = 4, side: int = 16) -> np.ndarray:
    """A chessboard of flat squares, no two of one colour."""
    colours = np.random.default_rng(1).permutation(256)[: rows * columns * 3].reshape(rows, columns, 3)
    return colours.astype(np.uint8).repeat(side, axis=0).repeat(side, axis=1)


@pytest.mark.parametrize(("rows", "columns"), [(1, 2), (4, 4)])
def test_superpixels_keep_the_colours_of_flat_blocks(rows, columns):
    pixels = blocks(rows, columns)
    painted = imgaug_policies.Superpixels(p_replace=1, n_segments=rows * columns, seed=0).augment_image(pixels)
    assert np.abs(painted.astype(int) - pixels).max() <= 2


def test_superpixels_are_the_means_of_their_segments_and_some_stay():
    pixels = blocks(6, 6, 8) // 2 + noise(48, 48) // 8
    painted = imgaug_policies.Superpixels(p_replace=1, n_segments=30, seed=0).augment_image(pixels)
    colours = np.unique(painted.reshape(-1, 3), axis=0)
    assert 20 < len(colours) < 60
    for colour in colours:
        here = (painted == colour).all(axis=2)
        assert np.abs(pixels[here].mean(axis=0) - colour).max() <= 0.5
    half = imgaug_policies.Superpixels(p_replace=0.5, n_segments=30, seed=0).augment_image(pixels)
    assert 0.2 < (half == pixels).all(axis=2).mean() < 0.8


def convolved(*kernel: tuple[float, ...]) -> np.ndarray:
    return np.clip(np.round(cv2.filter2D(noise().astype(float), -1, np.array(kernel, float))), 0, 255)


def directed() -> np.ndarray:
    """Edges that are seen from above: neighbours count by the fourth power of how near to that way they are."""
    around = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1) if (x, y) != (0, 0)]
    likeness = {(x, y): (1 - abs(np.degrees(np.arctan2(x, -y))) / 180) ** 4 for x, y in around}
    share = {at: value / sum(likeness.values()) for at, value in likeness.items()}
    return convolved(*[[-share.get((x, y), -1.0) for x in (-1, 0, 1)] for y in (-1, 0, 1)])


def shifted_hue(by: int) -> np.ndarray:
    hsv = cv2.cvtColor(noise(), cv2.COLOR_RGB2HSV).astype(int)
    hsv[..., 0] = (hsv[..., 0] + round(by / 255 * 180)) % 180
    return cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2RGB)


def blurred(sigma: float, radius: int) -> np.ndarray:
    sigmas, radii = (sigma, sigma, 0), (radius, radius, 0)
    return ndimage.gaussian_filter(noise().astype(float), sigmas, radius=radii, mode="mirror")


def median(size: int) -> np.ndarray:
    return np.stack([ndimage.median_filter(noise()[..., c], size, mode="nearest") for c in range(3)], axis=2)


KNOWN = {
    "Add": (iaa.Add(10), noise() + 10, 0),
    "Multiply": (iaa.Multiply(1.4), np.clip(noise() * 1.4, 0, 255), 1),
    "LinearContrast": (iaa.LinearContrast(0.5), 127 + (noise() - 127.0) * 0.5, 1),
    "Invert": (iaa.Invert(1.0), 255 - noise(), 0),
    "Grayscale": (iaa.Grayscale(1.0), (noise() @ [0.299, 0.587, 0.114])[..., None].repeat(3, axis=2), 1),
    "GaussianBlur": (iaa.GaussianBlur(1.5), blurred(1.5, radius=2), 1),
    "AverageBlur": (iaa.AverageBlur(3), convolved(*[(1 / 9,) * 3] * 3), 1),
    "MedianBlur": (iaa.MedianBlur(3), median(3), 0),
    "Sharpen": (iaa.Sharpen(1.0, lightness=1.0), convolved((-1, -1, -1), (-1, 9, -1), (-1, -1, -1)), 1),
    "Emboss": (iaa.Emboss(1.0, strength=1.0), convolved((-2, -1, 0), (-1, 1, 1), (0, 1, 2)), 1),
    "EdgeDetect": (iaa.EdgeDetect(0.6), convolved((0, 0.6, 0), (0.6, 0.4 - 2.4, 0.6), (0, 0.6, 0)), 1),
    "DirectedEdgeDetect": (iaa.DirectedEdgeDetect(1.0, direction=0.0), directed(), 1),
    "AddToHueAndSaturation": (iaa.AddToHue(40), shifted_hue(40), 3),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_has_one_right_answer_gives_it(name):
    augmenter, expected, tolerance = KNOWN[name]
    painted = augmenter.augment_image(noise())
    assert np.abs(painted - expected.astype(float)).max() <= tolerance


def share_changed(augmenter: iaa.Augmenter, pixels: np.ndarray) -> list[float]:
    return [float((augmenter.augment_image(pixels) != pixels).any(axis=2).mean()) for _ in range(20)]


def test_noise_and_holes_have_the_size_that_they_are_asked_for():
    grey = np.full((60, 90, 3), 128, np.uint8)
    spread = iaa.AdditiveGaussianNoise(scale=12, per_channel=True, seed=1).augment_image(grey).astype(float)
    assert abs(spread.mean() - 128) < 0.5 and abs(spread.std() - 12) < 0.5
    assert abs(np.corrcoef(spread.reshape(-1, 3).T)[0, 1]) < 0.1
    assert abs(np.mean(share_changed(iaa.Dropout(0.1, seed=1), grey)) - 0.1) < 0.01
    coarse = iaa.CoarseDropout(0.1, size_percent=0.1, seed=1)
    assert abs(np.mean(share_changed(coarse, grey)) - 0.1) < 0.05
    holes = coarse.augment_image(grey)
    assert set(np.unique(holes)) <= {0, 128}


@pytest.mark.parametrize("blend", [iaa.BlendAlphaSimplexNoise, iaa.BlendAlphaFrequencyNoise])
def test_a_blend_by_noise_lies_between_both_pictures(blend):
    grey = flat(100, 100, 100)
    painted = [
        blend(foreground=iaa.Add(40), background=iaa.Add(-40), seed=seed).augment_image(grey) for seed in range(6)
    ]
    assert all(p.min() >= 60 and p.max() <= 140 for p in painted)
    assert np.ptp(np.stack(painted)) > 60


@pytest.mark.parametrize("build", [imgaug_policies.ucf101, imgaug_policies.ucf101_warped])
def test_each_step_draws_what_it_would_by_imgaugs_own_seed(build) -> None:
    pixels, theirs = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8), build().look.augmenter
    look = build().look
    for seed in (0, 1, 2**63 + 7, 12, 13, 14, 15, 16):
        theirs.seed_(seed)
        np.testing.assert_array_equal(look(pixels, seed), theirs.augment_image(pixels))

"""Steps of OpenCV's, for copies of training images: uint8 RGB [H, W, 3] in and out, the same bytes on any machine."""

import threading
from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.policy import Pixels
from pipeline.augment.steps import Step
from pipeline.core.lazy import load
from pipeline.core.sample import ABSENT, Object
from pipeline.core.seeds import derived_seed
from pipeline.ops.preprocess import FILL

Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]  # left, top, right, bottom in pixels; the last two are the first ones outside

ROOM = 0.5  # of a box's sides: what GrabCut sees around it
BACKGROUND = 2  # pixels inside each edge of that are sure to be none of the object
FEWEST = 5  # pixels of each kind, as GrabCut fits five colours to both
LEAST, MOST = 0.05, 0.95  # of the box: another foreground is none
DOT = 0.03  # of a box's shorter side: how far around a landmark is foreground
ALONE = threading.Lock()  # OpenCV's number of threads belongs to the process


def filtered(steps: Sequence[Step], pixels: Pixels, objects: list[Object], seed: int) -> tuple[Pixels, int]:
    """An image after `steps`, and of how many foregrounds an ellipse had to take the place."""
    ellipses = 0
    for step in steps:
        if step.step == "grabcut":
            pixels, more = grabcut(pixels, objects, seed, **step.arguments())
            ellipses += more
        else:
            pixels = load(step.DOES)(pixels, **step.arguments())
    return pixels, ellipses


def bilateral(pixels: Pixels, diameter: int, levels: float, reach: float) -> Pixels:
    """Tomasi and Manduchi 1998."""
    return np.asarray(cv2.bilateralFilter(pixels, diameter, levels, reach), np.uint8)


def non_local_means(pixels: Pixels, strength: float, patch: int, search: int) -> Pixels:
    """Buades, Coll and Morel 2005. OpenCV takes blue for the first channel where it tells light from colour."""
    image = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR)
    image = cv2.fastNlMeansDenoisingColored(image, None, strength, strength, patch, search)
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)


def clahe(pixels: Pixels, clip: float, tiles: int) -> Pixels:
    """Zuiderveld 1994, of the lightness in CIELAB."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clip, (tiles, tiles)).apply(lab[..., 0])
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def grabcut(
    pixels: Pixels,
    objects: list[Object],
    seed: int,
    around: str,
    share: float,
    iterations: int,
    opening: int,
    closing: int,
) -> tuple[Pixels, int]:
    """The foreground on grey, and in how many boxes GrabCut found none that is of use: an ellipse took its place.

    An image without objects stays as it is where it is cut around these.
    """
    height, width = pixels.shape[:2]
    edge = (1 - share) / 2
    wanted = objects if around == "objects" else [Object("", (edge, edge, share, share))]
    if not wanted:
        return pixels, 0
    whole, ellipses = np.zeros((height, width), bool), 0
    for number, o in enumerate(wanted):
        box = _in_pixels(o, width, height)
        dots = _dots(o, box, width, height)
        found = _foreground(pixels, box, dots, derived_seed(seed, "grabcut", number), iterations, (opening, closing))
        ellipses += found is None
        whole |= (_ellipse(box, width, height) if found is None else found) | dots
    return np.where(whole[..., None], pixels, np.uint8(FILL)), ellipses


def _in_pixels(o: Object, width: int, height: int) -> Box:
    """A box of one pixel at least, within the image."""
    left, top = min(width - 1, max(0, round(o.box[0] * width))), min(height - 1, max(0, round(o.box[1] * height)))
    right, bottom = round((o.box[0] + o.box[2]) * width), round((o.box[1] + o.box[3]) * height)
    return left, top, min(width, max(left + 1, right)), min(height, max(top + 1, bottom))


def _foreground(
    pixels: Pixels, box: Box, dots: Mask, seed: int, iterations: int, sides: tuple[int, int]
) -> Mask | None:
    """What is foreground in `box`, by what is around it; None where GrabCut cannot tell the two apart."""
    (left, top, right, bottom), (height, width) = box, pixels.shape[:2]
    across, down = round(ROOM * (right - left)) + BACKGROUND, round(ROOM * (bottom - top)) + BACKGROUND
    x0, y0, x1, y1 = max(0, left - across), max(0, top - down), min(width, right + across), min(height, bottom + down)
    part = np.ascontiguousarray(pixels[y0:y1, x0:x1])
    kinds = np.full(part.shape[:2], cv2.GC_BGD, np.uint8)
    inside = (
        slice(max(top - y0, BACKGROUND), min(bottom - y0, y1 - y0 - BACKGROUND)),
        slice(max(left - x0, BACKGROUND), min(right - x0, x1 - x0 - BACKGROUND)),
    )
    kinds[inside] = cv2.GC_PR_FGD
    kinds[dots[y0:y1, x0:x1] & (kinds == cv2.GC_PR_FGD)] = cv2.GC_FGD
    background = np.count_nonzero(kinds == cv2.GC_BGD)
    if min(background, kinds.size - background) < FEWEST or not _cut(part, kinds, seed, iterations):
        return None
    found = np.isin(kinds, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.uint8)
    for change, side in zip((cv2.MORPH_OPEN, cv2.MORPH_CLOSE), sides, strict=True):
        found = np.asarray(cv2.morphologyEx(found, change, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (side, side))))
    mask = np.zeros((height, width), bool)
    mask[y0:y1, x0:x1] = found > 0
    within = np.zeros_like(mask)
    within[top:bottom, left:right] = True
    mask &= within
    return mask if LEAST <= np.count_nonzero(mask) / np.count_nonzero(within) <= MOST else None


def _cut(part: Pixels, kinds: NDArray[np.uint8], seed: int, iterations: int) -> bool:
    """Run GrabCut, which writes into `kinds`; whether it had enough pixels of both kinds for its colours.

    It draws from OpenCV's generator, which belongs to the thread and is what the last user left of it.
    """
    models = np.zeros((1, 65)), np.zeros((1, 65))
    with ALONE:
        threads = cv2.getNumThreads()
        cv2.setNumThreads(0)
        cv2.setRNGSeed(seed % 2**31)
        try:
            cv2.grabCut(part, kinds, (0, 0, 1, 1), *models, iterations, cv2.GC_INIT_WITH_MASK)  # the box is unused
        except cv2.error as error:
            if error.code != cv2.Error.StsAssert:  # not enough pixels of one kind
                raise
            return False
        finally:
            cv2.setNumThreads(threads)
    return True


def _ellipse(box: Box, width: int, height: int) -> Mask:
    """The one that fills `box`."""
    left, top, right, bottom = box
    x = (np.arange(width) + 0.5 - (left + right) / 2) / ((right - left) / 2)
    y = (np.arange(height) + 0.5 - (top + bottom) / 2) / ((bottom - top) / 2)
    mask: Mask = x[None] ** 2 + y[:, None] ** 2 <= 1
    return mask


def _dots(o: Object, box: Box, width: int, height: int) -> Mask:
    """The surroundings of its landmarks, as far as they are in `box`: no label is left without what it names."""
    left, top, right, bottom = box
    reach = max(1.5, DOT * min(right - left, bottom - top))
    x, y = np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5
    mask = np.zeros((height, width), bool)
    for p in o.landmarks:
        if p.visibility != ABSENT:
            mask[top:bottom, left:right] |= (x[None] - p.x * width) ** 2 + (y[:, None] - p.y * height) ** 2 <= reach**2
    return mask

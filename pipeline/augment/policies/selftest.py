"""Does a policy move the labels to where it moves the pixels? Measured on painted images with real labels.

Discs at the landmarks and ellipses in the boxes are painted on black images of the real sizes; what the policy's
geometry makes of the paint is compared with the labels that it returns. Nothing here looks at how labels are moved.
What the whole policy makes of the images themselves is held to show something.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from math import comb
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies import DRAWS, Augment
from pipeline.augment.policies.failing import naming
from pipeline.augment.policies.policy import Pixels
from pipeline.core.errors import InputError
from pipeline.core.sample import ABSENT, Landmark, Object, Sample
from pipeline.core.seeds import derived_seed

MOST_IMAGES = 16  # at most, evenly spread over the samples
DRAWS_EACH = 2
TOLERANCE = 2.0  # pixels between a label and its paint
TIP = 0.02  # the ends of a thin ellipse fall between the pixels: this share of its longer side is forgiven
RADIUS = 3.0  # of a disc, in pixels
FLAT, SHOWS = 2.0, 10.0  # standard deviations of an image's values: below it shows nothing, above it shows something
EMPTIED = 0.05  # share of the draws that may show nothing: a strong policy makes a picture black now and then
CHANCE = 0.001  # that so many draws show nothing by chance: only fewer are let through
# stands in where an image has no objects, so that every library that moves pixels is tested
STAND_IN = Object("stand-in", (0.3, 0.3, 0.4, 0.3), [Landmark(0.4, 0.4), Landmark(0.6, 0.5)])

Paint = NDArray[np.float64]


@dataclass
class _Found:
    draws: int = 0
    rejected: int = 0
    stayed: int = 0
    mirrored: int = 0
    shown: int = 0  # draws of images that show something
    emptied: list[str] = field(default_factory=list)  # ids of those of which a draw shows nothing, one per draw
    landmarks: list[float] = field(default_factory=list)  # pixels off, one per checked landmark
    boxes: list[float] = field(default_factory=list)


def self_test(
    augment: Augment, samples: list[Sample], seed: int, pixels_of: Callable[[Sample], Pixels], key: str
) -> dict[str, Any]:
    """Count rejected draws and measure how far, in pixels, moved labels lie from the moved paint. Where no label of the
    samples can be measured, as of boxes that fill their images, it is `STAND_IN` on images of the same sizes.

    Raises RuntimeError naming the sample whose label lies off, as the library moves labels in another way than pixels;
    InputError with the `key` of params.yaml that the policy has where more draws show nothing than can be by chance.
    """
    found = _Found()
    chosen = _tested(samples)
    for sample in chosen:
        pixels = pixels_of(sample)
        for draw in range(DRAWS_EACH):
            own = derived_seed(seed, "self-test", sample.id, draw)
            _measure(augment, sample, own, found)
            if _contrast(pixels) >= SHOWS:
                found.shown += 1
                with naming(sample.id):
                    varied, _ = augment(pixels, sample.objects, own)
                found.emptied += [sample.id] if _contrast(varied) < FLAT else []
    allowed = most_by_chance(found.shown)
    if len(found.emptied) > allowed:
        raise InputError(
            f"{key}: {augment.policy}: of {found.shown} draws {len(found.emptied)} show nothing any more, first one of "
            f"{found.emptied[0]}; expected {allowed} at most, and a policy that changes less"
        )
    if not (found.boxes and found.landmarks):
        for sample in chosen:
            for draw in range(DRAWS_EACH):
                stand_in = replace(sample, objects=[STAND_IN])
                _measure(augment, stand_in, derived_seed(seed, "stand-in", sample.id, draw), found)
    return {
        "policy": augment.policy,
        "images": len(chosen),
        "draws": found.draws,
        "rejected": found.rejected,
        "stayed": found.stayed,
        "mirrored": found.mirrored,
        "emptied": len(found.emptied),
        "tolerance_px": TOLERANCE,
        "landmarks": len(found.landmarks),
        "landmark_error_px": round(max(found.landmarks, default=0.0), 3),
        "boxes": len(found.boxes),
        "box_error_px": round(max(found.boxes, default=0.0), 3),
    }


def _tested(samples: list[Sample]) -> list[Sample]:
    """Those that the self-test looks at: `MOST_IMAGES` at most, evenly spread."""
    return samples[:: max(1, -(-len(samples) // MOST_IMAGES))]


def most_by_chance(draws: int) -> int:
    """Of so many draws, each of which shows nothing with a chance of `EMPTIED`, how many may do so: more than that has
    a chance below `CHANCE` (the binomial distribution's upper tail).

    >>> most_by_chance(2), most_by_chance(32)
    (2, 6)
    """
    left, most = 1.0, -1
    while left >= CHANCE and most < draws:
        most += 1
        left -= comb(draws, most) * EMPTIED**most * (1 - EMPTIED) ** (draws - most)
    return most


@dataclass(frozen=True)
class _Draw:
    """One draw of the geometry, for a blank image and for any paint on it."""

    augment: Augment
    objects: list[Object]
    seed: int
    blank: Pixels
    moved_blank: Pixels

    def move(self, painted: Pixels) -> list[Paint]:
        """Where the paint of each channel went, [H, W] each; the borders that the policy adds are taken off."""
        moved = self.augment.move(painted, self.objects, self.seed)[0]
        return list(np.moveaxis(np.abs(moved.astype(float) - self.moved_blank), 2, 0))


def _measure(augment: Augment, sample: Sample, seed: int, found: _Found) -> None:
    objects = sample.objects or [STAND_IN]
    blank = np.zeros((sample.height, sample.width, 3), np.uint8)
    moved_blank, moved, rejected = augment.move(blank, objects, seed)
    draw = _Draw(augment, objects, seed, blank, moved_blank)
    found.draws += 1
    found.rejected += rejected
    found.stayed += rejected == DRAWS
    mirrored = _is_mirrored(draw)
    found.mirrored += mirrored
    if mirrored and not augment.mirrors:
        raise RuntimeError(
            f"policy {augment.policy}: {sample.id} is mirrored, but no `pairs` says what is left and right"
        )
    _measure_landmarks(draw, sample, moved, mirrored, found)
    # the boxes without landmarks, which would widen them
    bare = [Object(o.label, o.box, [], o.crowd) for o in objects]
    moved_blank, moved, _ = augment.move(blank, bare, seed)
    _measure_boxes(_Draw(augment, bare, seed, blank, moved_blank), sample, moved, found)


def _contrast(pixels: Pixels) -> float:
    """The standard deviation of the channel that shows most."""
    return float(pixels.std(axis=(0, 1)).max())


def _is_mirrored(draw: _Draw) -> bool:
    """Seen from three discs: do they still turn the same way round?"""
    h, w = draw.blank.shape[:2]
    middle, step = np.array([w / 2, h / 2]), min(h, w) / 6
    spots = [middle + np.array(way) * step for way in ((-1, -1), (1, -1), (-1, 1))]
    a, b, c = (_middle(paint) for paint in draw.move(_discs(draw.blank, spots)))
    return bool(np.linalg.det([b - a, c - a]) < 0)


def _measure_landmarks(draw: _Draw, sample: Sample, moved: list[Object], mirrored: bool, found: _Found) -> None:
    size = np.array([sample.width, sample.height])
    pairs = draw.augment.pairs if mirrored else ()
    for before, after in zip(draw.objects, moved, strict=True):
        count = len(before.landmarks)
        partner = {i: j for a, b in pairs if max(a, b) < count for i, j in ((a, b), (b, a))}
        places = {i: np.array([p.x, p.y]) * size for i, p in enumerate(before.landmarks) if p.visibility != ABSENT}
        # a disc that is cut by the border has its middle elsewhere
        whole = [i for i, at in places.items() if _inside(at, at, draw.blank.shape, 2 * RADIUS)][:6]
        for three in filter(None, (whole[:3], whole[3:])):  # each move takes all objects along
            spots = [places[i] for i in three]
            for i, paint in zip(three, draw.move(_discs(draw.blank, spots)), strict=False):
                p = after.landmarks[partner.get(i, i)]
                _compare_landmark(draw, sample, i, places[i], paint, np.array([p.x, p.y]) * size, p.visibility, found)


def _compare_landmark(
    draw: _Draw, sample: Sample, index: int, before: Paint, paint: Paint, label: Paint, visibility: int, found: _Found
) -> None:
    """`before` is where the landmark was, `paint` where its disc went, `label` where it is said to be, in pixels."""
    seen = _middle(paint)
    if np.isnan(seen).any() and visibility != ABSENT and _has_left(draw, before):
        raise RuntimeError(
            f"policy {draw.augment.policy}: {sample.id}: landmark {index} is at {label.round(1).tolist()} px, "
            f"but has left the image"
        )
    if not _inside(seen, seen, paint.shape, 2 * RADIUS):
        return
    off = float(np.linalg.norm(seen - label))
    if visibility == ABSENT or off > TOLERANCE:
        raise RuntimeError(
            f"policy {draw.augment.policy}: {sample.id}: landmark {index} is at {label.round(1).tolist()} px "
            f"(visibility {visibility}), but the image shows it at {seen.round(1).tolist()}"
        )
    found.landmarks.append(off)


def _has_left(draw: _Draw, spot: Paint) -> bool:
    """Whether nothing is seen of a larger disc either: a small one may be lost between the pixels of a shrunk image."""
    return not draw.move(_discs(draw.blank, [spot], 2 * RADIUS))[0].any()


def _measure_boxes(draw: _Draw, sample: Sample, moved: list[Object], found: _Found) -> None:
    h, w = draw.blank.shape[:2]
    for start in range(0, min(6, len(moved)), 3):
        painted = _ellipses(draw.blank, [o.box for o in draw.objects[start : start + 3]])
        for o, paint in zip(moved[start : start + 3], draw.move(painted), strict=False):
            low, size = np.array(o.box[:2]) * (w, h), np.array(o.box[2:]) * (w, h)
            # an ellipse that is cut by the border has other ends than its box; of a tiny one they cannot be found
            if not paint.any() or not _inside(low, low + size, paint.shape, 1) or size.min() < 2 * RADIUS:
                continue
            y, x = np.nonzero(paint > paint.max() / 2)
            seen = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
            label = np.concatenate([low, low + size])
            off = float(np.abs(seen - label).max())
            if off > TOLERANCE + TIP * size.max():
                raise RuntimeError(
                    f"policy {draw.augment.policy}: {sample.id}: a box is at {label.round(1).tolist()} px "
                    f"(left, top, right, bottom), but the image shows it at {seen.tolist()}"
                )
            found.boxes.append(off)


def _discs(blank: Pixels, spots: list[Paint], radius: float = RADIUS) -> Pixels:
    """Up to three soft discs (x, y in pixels from the image's corner), one per channel."""
    y, x = np.mgrid[: blank.shape[0], : blank.shape[1]] + 0.5
    painted = blank.copy()
    for channel, spot in enumerate(spots):
        inside = np.clip(radius + 0.5 - np.hypot(x - spot[0], y - spot[1]), 0, 1)
        painted[..., channel] = (255 * inside).astype(np.uint8)
    return painted


def _ellipses(blank: Pixels, boxes: list[tuple[float, float, float, float]]) -> Pixels:
    """Up to three ellipses in their boxes, one per channel."""
    h, w = blank.shape[:2]
    y, x = (np.mgrid[:h, :w] + 0.5) / np.array([h, w]).reshape(2, 1, 1)
    painted = blank.copy()
    for channel, box in enumerate(boxes):
        if min(box[2:]) > 0:
            across = (x - box[0] - box[2] / 2) / (box[2] / 2)
            along = (y - box[1] - box[3] / 2) / (box[3] / 2)
            painted[..., channel] = 255 * (across**2 + along**2 <= 1)
    return painted


def _middle(paint: Paint) -> Paint:
    """The centre of mass as x, y in pixels from the image's corner; NaN where there is no paint."""
    y, x = np.mgrid[: paint.shape[0], : paint.shape[1]] + 0.5
    total = paint.sum()
    return np.array([(x * paint).sum(), (y * paint).sum()]) / total if total else np.array([np.nan, np.nan])


def _inside(low: Paint, high: Paint, shape: tuple[int, ...], edge: float) -> bool:
    return bool((low >= edge).all() and (high <= np.array([shape[1], shape[0]]) - edge).all())

"""An image while it is drawn, at twice its size: things are pasted onto it, the far ones first."""

import zlib
from dataclasses import dataclass

import cv2
import numpy as np

from pipeline.datasets.synthetic.solids import Light, Sprite

SCALE = 2  # drawn larger and scaled down, which smooths the edges
PROP = 1000  # the number of a thing that is not an animal


def generator(seed: int, kind: str, *numbers: int) -> np.random.Generator:
    """Random numbers of one image: the same however many images are drawn, and whichever process draws it."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), *numbers])


def corner(sprite: Sprite, x: float, y: float) -> tuple[int, int]:
    """The upper-left pixel of a sprite whose foot is at (x, y)."""
    return round(x - sprite.foot[0]), round(y - sprite.foot[1])


@dataclass(slots=True)
class Canvas:
    """`image` RGB [H,W,3] uint8, `owner` [H,W] the number of what was pasted last, -1 for the background.

    `horizon` is its y in drawn pixels.
    """

    image: np.ndarray
    owner: np.ndarray
    horizon: int
    light: Light

    @property
    def height(self) -> int:
        return self.image.shape[0]

    @property
    def width(self) -> int:
        return self.image.shape[1]

    def copy(self) -> "Canvas":
        return Canvas(self.image.copy(), self.owner.copy(), self.horizon, self.light)

    def covers(self, sprite: Sprite, x: float, y: float) -> np.ndarray:
        """The pixels [H,W] that `sprite` takes with its foot at (x, y)."""
        mask = np.zeros(self.owner.shape, bool)
        inside, own = self._overlap(sprite, x, y)
        mask[inside] = sprite.mask[own]
        return mask

    def paste(self, sprite: Sprite, x: float, y: float, number: int = PROP, shadow: bool = True) -> None:
        """Draw `sprite` with its foot at (x, y) and its shadow on the ground."""
        if shadow:
            self._cast(sprite, x, y)
        inside, own = self._overlap(sprite, x, y)
        np.copyto(self.image[inside], sprite.color[own], where=sprite.mask[own][..., None])
        np.copyto(self.owner[inside], number, where=sprite.mask[own])

    def _overlap(self, sprite: Sprite, x: float, y: float) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
        """The rows and columns that both have: of the image and of the sprite."""
        left, top = corner(sprite, x, y)
        h, w = sprite.mask.shape
        y0, y1 = max(0, top), max(0, min(self.height, top + h))
        x0, x1 = max(0, left), max(0, min(self.width, left + w))
        own = slice(max(0, y0 - top), max(0, y1 - top)), slice(max(0, x0 - left), max(0, x1 - left))
        return (slice(y0, y1), slice(x0, x1)), own

    def _cast(self, sprite: Sprite, x: float, y: float) -> None:
        """Darken the ground: the silhouette laid flat, away from the light."""
        right, up, near = self.light.direction
        flat, slant = -0.30 * np.sign(near) * (1.3 - up), right / max(up, 0.3) * 0.5
        fx, fy = sprite.foot
        # silhouette (u, v) -> (x + (u - fx) + slant (v - fy), y - flat' (v - fy)): feet stay, the rest lies down
        reach = sprite.mask.shape[0] * (abs(slant) + 0.1) + sprite.mask.shape[1]
        x0, x1 = (int(np.clip(v, 0, self.width)) for v in (x - reach, x + reach))
        rise = sprite.mask.shape[0] * abs(flat) + 8
        y0, y1 = (int(np.clip(v, 0, self.height)) for v in (y - rise, y + rise))
        if x1 - x0 < 2 or y1 - y0 < 2:
            return
        turn = np.array([[1, slant, x - fx - slant * fy - x0], [0, -flat, y + flat * fy - y0]], np.float32)
        laid = cv2.warpAffine(sprite.mask.astype(np.uint8) * 255, turn, (x1 - x0, y1 - y0))
        soft = cv2.blur(laid, (9, 5)).astype(np.float32) * ((1 - self.light.ambient) * 1.1 / 255)
        region = self.image[y0:y1, x0:x1]
        region[:] = (region * (1 - soft[..., None])).astype(np.uint8)


def finish(
    image: np.ndarray, width: int, height: int, rng: np.random.Generator, soft: float, grain: float
) -> np.ndarray:
    """Scale a drawn image down to [height,width,3], blur it by `soft` pixels and add sensor noise of `grain` levels."""
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    if soft > 0.25:
        small = cv2.GaussianBlur(small, (0, 0), soft)
    speckle = rng.standard_normal((height, width, 1), dtype=np.float32) * np.float32(grain)
    return np.clip(small + speckle, 0, 255).astype(np.uint8)

"""Moves by one warp: however many turns, shifts and flips a draw has, the image is resampled once, and what has left it
cannot come back as labels without pixels.

A matrix [3, 3] takes (x, y, 1), in pixels from the image's upper left corner, to where that point goes; the third
number that comes out divides the first two. In a product the last factor comes first.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.augment.policies.policy import BORDER, Pixels, Points

Matrix = NDArray[np.float64]
Size = NDArray[np.float64]  # width and height in pixels
HALF = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])  # from OpenCV's pixels, whose middles are whole, to corners
CORNERS = np.array([(0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)])
KNOTS = 4  # of a mesh, along each side
FURTHEST = 0.24 / (KNOTS - 1)  # that a knot moves: from a quarter of their distance on, triangles could turn over
PIECE = 2**18  # pixels that are moved at once by a mesh: of 12 megapixels all would take 1.5 GB
LEAST_DEPTH = 0.2  # of the nearest corner of the image before the camera, of the furthest one's


@dataclass(frozen=True)
class Warp:
    """A geometry by one draw: `draw(generator, size)` is a matrix and a mesh after it or None; None moves nothing."""

    draw: Callable[[np.random.Generator, Size], tuple[Matrix, Points | None] | None]

    def __call__(self, pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
        size = np.array([pixels.shape[1], pixels.shape[0]], dtype=float)
        drawn = self.draw(np.random.default_rng(seed), size)
        if drawn is None:
            return pixels, points
        matrix, knots = drawn
        moved = moved_points(points * size, matrix) / size
        if knots is None:
            return warped(pixels, matrix), moved
        return meshed(pixels, matrix, knots), mesh_points(moved, knots)


def about_middle(linear: NDArray[np.float64], size: Size, shift: NDArray[np.float64] | float = 0.0) -> Matrix:
    """`linear` [2, 2] about the image's middle, then `shift` (x, y) in pixels."""
    matrix = np.eye(3)
    matrix[:2, :2] = linear
    matrix[:2, 2] = size / 2 - linear @ size / 2 + shift
    return matrix


def turn(angle: float) -> NDArray[np.float64]:
    """[2, 2]: a rotation by `angle` in radians, clockwise as y points down."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def fitted(linear: NDArray[np.float64], size: Size) -> Matrix:
    """`linear` [2, 2] about the image's middle on a canvas that holds all of it, shrunk to the image's own size."""
    room = np.ptp(CORNERS * size @ linear.T, axis=0)
    return about_middle(linear * min(size / room), size)


def quad_to_quad(before: Points, after: Points, size: Size) -> Matrix:
    """The perspective that takes four corners (relative to the image) to four others."""
    first, second = ((corners * size).astype(np.float32) for corners in (before, after))
    return np.asarray(cv2.getPerspectiveTransform(first, second), dtype=np.float64)


def is_before_camera(matrix: Matrix, size: Size) -> bool:
    """Whether the whole image is: what is behind it would come out turned over, or infinitely far away."""
    depth = np.column_stack([CORNERS * size, np.ones(4)]) @ matrix[2]
    return bool(depth.min() > LEAST_DEPTH * depth.max())


def moved_points(points: Points, matrix: Matrix) -> Points:
    """Where `points` [N, 2] in pixels go."""
    moved = np.column_stack([points, np.ones(len(points))]) @ matrix.T
    return np.asarray(moved[:, :2] / moved[:, 2:])


def warped(pixels: Pixels, matrix: Matrix) -> Pixels:
    """The image moved by `matrix`, of its own size, with `BORDER` where nothing comes from."""
    height, width = pixels.shape[:2]
    centred = _inverse(HALF) @ matrix @ HALF
    fill = (BORDER,) * 3
    if np.array_equal(centred[2], (0, 0, 1)):
        moved = cv2.warpAffine(pixels, centred[:2], (width, height), flags=cv2.INTER_LINEAR, borderValue=fill)
    else:
        moved = cv2.warpPerspective(pixels, centred, (width, height), flags=cv2.INTER_LINEAR, borderValue=fill)
    return np.asarray(moved, dtype=np.uint8)


def meshed(pixels: Pixels, matrix: Matrix, knots: Points) -> Pixels:
    """The image moved by `matrix` and then by a mesh: `knots` [KNOTS * KNOTS, 2], relative to the image and row by row,
    is what moves to a regular grid. Between them two triangles in each cell move straight.
    """
    height, width = pixels.shape[:2]
    back, made = _inverse(matrix), np.empty_like(pixels)
    rows = max(PIECE // width, 1)
    triangles = _kept_triangles if rows >= height else _triangles
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        numbers, weights = triangles(height, width, top, bottom)
        places = np.einsum("pk,pkc->pc", weights, knots[numbers]) * (width, height)
        sources = moved_points(places, back).reshape(bottom - top, width, 2).astype(np.float32) - np.float32(0.5)
        x, y = sources[..., 0], sources[..., 1]
        made[top:bottom] = cv2.remap(pixels, x, y, cv2.INTER_LINEAR, borderValue=(BORDER,) * 3)
    return made


def mesh_points(points: Points, knots: Points) -> Points:
    """Where a mesh moves `points` [N, 2], relative to the image; beyond its edge the nearest triangle's way."""
    corners = knots[TRIANGLES]  # [T, 3, 2]
    sides = corners[:, 1:] - corners[:, :1]
    inverse = np.linalg.inv(np.swapaxes(sides, 1, 2))
    parts = np.einsum("tij,ntj->nti", inverse, points[:, None] - corners[None, :, 0])
    weights = np.concatenate([1 - parts.sum(axis=2, keepdims=True), parts], axis=2)  # [N, T, 3]
    chosen = weights.min(axis=2).argmax(axis=1)
    return np.einsum("nk,nkc->nc", weights[np.arange(len(points)), chosen], GRID[TRIANGLES[chosen]])


def _inverse(matrix: Matrix) -> Matrix:
    return np.asarray(np.linalg.inv(matrix), dtype=np.float64)


def _cell(row: int, column: int) -> list[tuple[int, int, int]]:
    first = row * KNOTS + column
    return [(first, first + 1, first + KNOTS), (first + KNOTS + 1, first + KNOTS, first + 1)]


GRID = np.stack(np.meshgrid(*[np.linspace(0, 1, KNOTS)] * 2), axis=-1).reshape(-1, 2)  # row by row
TRIANGLES = np.array([three for row in range(KNOTS - 1) for column in range(KNOTS - 1) for three in _cell(row, column)])


def _triangles(height: int, width: int, top: int, bottom: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Of each pixel in the rows from `top` to before `bottom` the knots of its triangle in the regular grid [P, 3], and
    their shares in its middle.
    """
    y, x = np.mgrid[top:bottom, :width] + 0.5
    across, down = x.ravel() / width * (KNOTS - 1), y.ravel() / height * (KNOTS - 1)
    column, row = across.astype(int), down.astype(int)
    across, down = across - column, down - row
    lower = (across + down > 1).astype(int)
    numbers = TRIANGLES[2 * (row * (KNOTS - 1) + column) + lower]
    across, down = np.where(lower, 1 - across, across), np.where(lower, 1 - down, down)
    return numbers, np.stack([1 - across - down, across, down], axis=1)


_kept_triangles = lru_cache(maxsize=4)(_triangles)  # sizes of images

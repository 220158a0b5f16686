"""Features of boxes on the maps of a frozen backbone, and boxes that are moved, drawn by chance or laid out in a grid.

Boxes are float [N, 4], left, top, right and bottom, relative to the canvas.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.core.sample import Object

if TYPE_CHECKING:
    from pipeline.ops.preprocess import Frame

CELLS = 4  # a side of the grid that a box is pooled to
AROUND = 1.8  # of a box's side: an edge shows by what is on both sides of it
CHANNELS = 32  # that are kept of a map
NUMBERS = 192  # that are kept of a box
SIZES = 5  # of the boxes of a grid
STEP = 1 / 3  # of their side

Floats = NDArray[np.float32]
Boxes = NDArray[np.float64]
Maps = list[NDArray[np.floating[Any]]]  # [C, H, W] each, in half precision as they are kept
NONE = np.zeros((0, 4))


def on_canvas(objects: list[Object], frame: "Frame") -> Boxes:
    """The boxes of `objects`, which are relative to the image, on its canvas."""
    rows = [frame.to_canvas(o).box for o in objects]
    return np.array([(x, y, x + w, y + h) for x, y, w, h in rows]) if rows else NONE


def overlap(a: Boxes, b: Boxes) -> Boxes:
    """[A, B] intersection over union."""
    both = _common(a, b)
    union = _area(a)[:, None] + _area(b)[None] - both
    result: Boxes = both / np.maximum(union, 1e-9)
    return result


def inside(a: Boxes, b: Boxes) -> Boxes:
    """[A, B]: the share of each box of `a` that lies in one of `b`."""
    result: Boxes = _common(a, b) / np.maximum(_area(a), 1e-9)[:, None]
    return result


def _common(a: Boxes, b: Boxes) -> Boxes:
    sides = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    result: Boxes = np.prod(np.maximum(sides, 0), axis=-1)
    return result


def _area(boxes: Boxes) -> Boxes:
    result: Boxes = np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1)
    return result


def moved(boxes: Boxes, by: Boxes) -> Boxes:
    """Each box moved by `by` [N, 4]: x and y in its own sides, then the logarithms of the factors of its sides, as
    R-CNN has it (Girshick et al., 2014).
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    middle = boxes[:, :2] + sides / 2 + by[:, :2] * sides
    half = sides * np.exp(np.clip(by[:, 2:], -1, 1)) / 2
    return np.concatenate([middle - half, middle + half], axis=1)


def moves(boxes: Boxes, to: Boxes) -> Boxes:
    """What `moved` makes of each of `boxes` the box of the same row in `to`."""
    sides, wanted = (np.maximum(b[:, 2:] - b[:, :2], 1e-4) for b in (boxes, to))
    apart = (to[:, 2:] + to[:, :2] - boxes[:, 2:] - boxes[:, :2]) / 2
    return np.concatenate([apart / sides, np.log(wanted / sides)], axis=1)


def of_nothing(rng: np.random.Generator, boxes: Boxes, sizes: Boxes, count: int) -> Boxes:
    """At most `count` boxes about as large as some of `sizes` [S, 2], by chance where none of `boxes` is."""
    tried = 4 * count
    half = sizes[rng.integers(len(sizes), size=tried)] * np.exp(rng.uniform(-0.3, 0.3, (tried, 2))) / 2
    middle = rng.random((tried, 2))
    found = np.concatenate([middle - half, middle + half], axis=1)
    return found[overlap(found, boxes).max(axis=1, initial=0) < 0.3][:count]


def grid(sizes: Boxes) -> Boxes:
    """Boxes of a few typical `sizes` [S, 2] all over the canvas."""
    from sklearn.cluster import KMeans

    logs = np.log(np.maximum(sizes, 0.02))
    count = min(SIZES, len(np.unique(logs, axis=0)))
    boxes = []
    for w, h in np.exp(KMeans(count, n_init=1, random_state=0).fit(logs).cluster_centers_):
        xs, ys = (np.arange(0, max(1 - side, 0) + 1e-6, side * STEP) for side in (w, h))
        boxes += [(x, y, x + w, y + h) for y in ys for x in xs]
    return np.array(boxes)


def pooled(maps: Maps, boxes: Boxes) -> Floats:
    """[N, D]: each map pooled to `CELLS` x `CELLS` over each box and what is around it."""
    import torch
    from torchvision.ops import roi_align

    half = (boxes[:, 2:] - boxes[:, :2]) * AROUND / 2
    middle = (boxes[:, 2:] + boxes[:, :2]) / 2
    wide = torch.from_numpy(np.concatenate([middle - half, middle + half], axis=1).astype(np.float32))
    rows = []
    for m in maps:
        size = torch.tensor([m.shape[2], m.shape[1]] * 2, dtype=torch.float32)
        given = torch.from_numpy(m.astype(np.float32))[None]
        rows.append(roi_align(given, [wide * size], CELLS, sampling_ratio=1, aligned=True).flatten(1))
    result: Floats = torch.cat(rows, dim=1).numpy()
    return result


class Projection:
    """The main components of some `rows` [N, D], at most `count`, each of about the same spread."""

    def __init__(self, rows: Floats, count: int) -> None:
        from sklearn.decomposition import PCA

        self.mean, spread = rows.mean(axis=0), rows.std(axis=0) + np.float32(1e-3)
        fitted = PCA(min(count, *rows.shape), svd_solver="randomized", random_state=0).fit((rows - self.mean) / spread)
        # between equal spreads, which raise noise, and the own ones, by which little is seen of what is small
        scale = np.maximum(fitted.explained_variance_, 1e-6) ** 0.25
        self.axes = (fitted.components_ / spread).T / scale

    def __call__(self, rows: Floats) -> Floats:
        result: Floats = ((rows - self.mean) @ self.axes).astype(np.float32)
        return result


class Shrunk:
    """Maps with fewer channels, by a `Projection` for each level that was fitted to some images' maps."""

    def __init__(self, images: list[Maps]) -> None:
        self._levels = [
            Projection(np.concatenate([_cells(maps[i]) for maps in images]), CHANNELS) for i in range(len(images[0]))
        ]

    def __call__(self, maps: Maps) -> Maps:
        made = []
        for m, level in zip(maps, self._levels, strict=True):
            rows = level(_cells(m))
            made.append(rows.T.reshape(-1, *m.shape[1:]).astype(np.float16))
        return made


def _cells(m: NDArray[np.floating[Any]]) -> Floats:
    result: Floats = m.reshape(len(m), -1).T.astype(np.float32)
    return result

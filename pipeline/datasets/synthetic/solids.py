"""Balls swept along lines, drawn with a depth buffer and shaded: what people, animals and trees are made of.

A figure stands in a frame of its own, in metres: forward, left, up, the ground at up = 0 below its middle.
On the canvas x runs right and y down, in pixels.
"""

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.datasets.synthetic.noise import CURLS, PATCHES, noise

Color = tuple[float, float, float]  # RGB, 0 to 255
Point = tuple[float, float, float]  # forward, left, up


@dataclass(slots=True)
class Solid:
    """A ball moved from `a` to `b` while its radius goes from `ra` to `rb`.

    `fluff` is how curly its surface is, as a share of the radius.
    """

    a: Point
    b: Point
    ra: float
    rb: float
    color: Color
    fluff: float = 0.0
    patch: Color | None = None  # the colour of large irregular patches


@dataclass(slots=True)
class Figure:
    """Solids and named points; a point has a position and the radius of what it lies in."""

    solids: list[Solid] = field(default_factory=list)
    points: dict[str, tuple[Point, float]] = field(default_factory=dict)

    def reach(self) -> tuple[float, float]:
        """Metres that it reaches: to the farther of front and back, and up."""
        ends = [(p, r) for s in self.solids for p, r in ((s.a, s.ra), (s.b, s.rb))]
        return max(abs(p[0]) + r for p, r in ends), max(p[2] + r for p, r in ends)

    def moved(self, forward: float, left: float, up: float) -> "Figure":
        """The figure moved by so many metres."""

        def move(p: Point) -> Point:
            return (p[0] + forward, p[1] + left, p[2] + up)

        solids = [Solid(move(s.a), move(s.b), s.ra, s.rb, s.color, s.fluff, s.patch) for s in self.solids]
        return Figure(solids, {name: (move(p), r) for name, (p, r) in self.points.items()})


@dataclass(frozen=True, slots=True)
class Light:
    """`direction` points to the light (right, up, toward the viewer); `ambient` is the share from all sides."""

    direction: tuple[float, float, float]
    ambient: float
    tint: Color  # factors per channel


@dataclass(frozen=True, slots=True)
class View:
    """`yaw` 0 faces right, pi / 2 the viewer; `pitch`: how far the camera looks down; `scale`: pixels a metre."""

    yaw: float
    pitch: float
    scale: float

    def matrix(self) -> np.ndarray:
        """[3,3]: forward, left, up in metres to right, down, toward the viewer in pixels."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        cp, sp = math.cos(self.pitch), math.sin(self.pitch)
        return self.scale * np.array([[c, s, 0], [sp * s, -sp * c, -cp], [cp * s, -cp * c, sp]])


@dataclass(slots=True)
class Sprite:
    """A drawn thing: RGB [h,w,3] and mask [h,w]; `foot` is the pixel that stands on the ground.

    `points`: x, y in the sprite's pixels and whether nothing of the figure itself hides it.
    """

    color: np.ndarray
    mask: np.ndarray
    foot: tuple[float, float]
    points: dict[str, tuple[float, float, bool]] = field(default_factory=dict)


class _Buffers:
    """What is nearest at each pixel: its depth toward the viewer and the solid that it belongs to, -1 for none."""

    def __init__(self, height: int, width: int) -> None:
        self.depth = np.full((height, width), -np.inf, np.float32)
        self.part = np.full((height, width), -1, np.int16)
        self.x = np.arange(width, dtype=np.float32)
        self.y = np.arange(height, dtype=np.float32)[:, None]

    def add(self, number: int, a: np.ndarray, b: np.ndarray, ra: float, rb: float, bumps: np.ndarray | None) -> None:
        """Draw one solid; `a`, `b`: right, down, toward the viewer in pixels; `bumps`: factors of the radius."""
        grown = 1.15 if bumps is not None else 1.0
        low = np.minimum(a - ra * grown, b - rb * grown)
        high = np.maximum(a + ra * grown, b + rb * grown)
        x0, x1, y0, y1 = max(0, int(low[0])), int(high[0]) + 2, max(0, int(low[1])), int(high[1]) + 2
        box = np.s_[y0:y1, x0:x1]
        dx, dy, dz = (float(v) for v in b - a)
        ux, uy = self.x[x0:x1] - float(a[0]), self.y[y0:y1] - float(a[1])
        length = dx * dx + dy * dy
        radius: np.ndarray | float
        middle: np.ndarray | float
        if length > 0.25:
            t = np.clip(ux * (dx / length) + uy * (dy / length), 0, 1)
            ux, uy = ux - t * dx, uy - t * dy
            radius, middle = ra + t * (rb - ra), a[2] + t * dz
        else:  # seen along its axis
            radius, middle = (rb, float(b[2])) if dz > 0 else (ra, float(a[2]))
        if bumps is not None:
            radius = radius * bumps[box]
        rise = radius * radius - ux * ux - uy * uy
        depth = middle + np.sqrt(np.maximum(rise, 0))
        nearer = (rise > 0) & (depth > self.depth[box])
        np.copyto(self.depth[box], depth, where=nearer)
        np.copyto(self.part[box], np.int16(number), where=nearer)


def render(figure: Figure, view: View, light: Light, seed: int = 0) -> Sprite:
    """Draw a figure. `seed` fixes fleece and patches, so that they stay the same in all frames of a clip."""
    rng = np.random.default_rng(seed)
    matrix, solids = view.matrix(), figure.solids
    ends = np.array([[s.a, s.b] for s in solids]) @ matrix.T  # [N,2,3]
    radii = np.maximum(np.array([[s.ra, s.rb] for s in solids]) * view.scale, 0.6)
    spread = radii[..., None] * 1.15 + 2
    low = np.floor((ends[..., :2] - spread).min(axis=(0, 1)))
    width, height = (int(v) for v in np.ceil((ends[..., :2] + spread).max(axis=(0, 1))) - low)
    ends[..., :2] -= low
    ends, radii = ends.astype(np.float32), radii.astype(np.float32)
    curls = noise(height, width, 0.02 * view.scale, rng, CURLS)
    blotches = noise(height, width, 0.008 * view.scale, rng, PATCHES)
    buffers = _Buffers(height, width)
    bumps = {f: (1 - f + 2 * f * curls).clip(0.85, 1.15) if f else None for f in {s.fluff for s in solids}}
    for number, solid in enumerate(solids):
        (a, b), (ra, rb) = ends[number], radii[number]
        buffers.add(number, a, b, ra, rb, bumps[solid.fluff])
    mask = buffers.part >= 0
    color = np.zeros((height, width, 3), np.uint8)
    color[mask] = _shade(buffers, mask, figure, ends, radii, light, curls[mask], blotches[mask])
    points = {}
    for name, (position, radius) in figure.points.items():
        x, y, depth = matrix @ position
        x, y = x - low[0], y - low[1]
        nearest = buffers.depth[min(max(int(y), 0), height - 1), min(max(int(x), 0), width - 1)]
        points[name] = (float(x), float(y), bool(depth + (radius + 0.03) * view.scale >= nearest))
    return Sprite(color, mask, (-float(low[0]), -float(low[1])), points)


def _normals(part: np.ndarray, pixels: np.ndarray, ends: np.ndarray, radii: np.ndarray) -> np.ndarray:
    """How the surface leans right and down, [2,n], at n pixels (x, y rows of `pixels`) of the solids `part`."""
    start, step = ends[:, 0, :2], ends[:, 1, :2] - ends[:, 0, :2]
    length = np.maximum((step**2).sum(1), 0.25)
    from_start = pixels - start[part].T
    t = np.clip((from_start * step[part].T).sum(0) / length[part], 0, 1)
    radius = radii[part, 0] + t * (radii[part, 1] - radii[part, 0])
    return (from_start - t * step[part].T) / radius


def _shade(
    buffers: _Buffers,
    mask: np.ndarray,
    figure: Figure,
    ends: np.ndarray,
    radii: np.ndarray,
    light: Light,
    curls: np.ndarray,
    blotches: np.ndarray,
) -> np.ndarray:
    """Colours [n,3] of the drawn pixels: lit from one side, fleece with dark dents, what is farther away darker."""
    solids, part, depth = figure.solids, buffers.part[mask], buffers.depth[mask]
    color = np.array([s.color for s in solids], np.float32)[part]
    if any(s.patch for s in solids):
        other = np.array([s.patch or s.color for s in solids], np.float32)[part]
        color = np.where((blotches > 0.55)[:, None], other, color)
    lean = _normals(part, np.stack(np.nonzero(mask)[::-1]).astype(np.float32), ends, radii)
    toward = np.sqrt(np.maximum(0, 1 - (lean**2).sum(0)))
    right, up, near = light.direction
    lit = np.clip(lean[0] * right - lean[1] * up + toward * near, 0, 1)
    shade = light.ambient + (1.1 - light.ambient) * lit
    shade *= 1 + 5 * np.array([s.fluff for s in solids], np.float32)[part] * (curls - 0.5)
    farthest = depth.min()
    shade *= 0.74 + 0.32 * (depth - farthest) / max(depth.max() - farthest, 1)
    return np.clip(color * shade[:, None] * np.array(light.tint, np.float32), 0, 255)

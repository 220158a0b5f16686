"""Four-legged animals: one skeleton, its measures by species, its landmarks."""

import math
from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import numpy as np

from pipeline.datasets.synthetic.solids import Color, Figure, Point, Solid
from pipeline.datasets.synthetic.species import DARK, HOOF, HORN, SPECIES, Species

LANDMARKS = (
    "nose",
    "left_eye",
    "right_eye",
    "left_ear",
    "right_ear",
    "withers",
    "tail",
    "left_front_hoof",
    "right_front_hoof",
    "left_hind_hoof",
    "right_hind_hoof",
)
SKELETON = (
    ("nose", "left_eye"),
    ("nose", "right_eye"),
    ("left_eye", "left_ear"),
    ("right_eye", "right_ear"),
    ("left_ear", "withers"),
    ("right_ear", "withers"),
    ("withers", "tail"),
    ("withers", "left_front_hoof"),
    ("withers", "right_front_hoof"),
    ("tail", "left_hind_hoof"),
    ("tail", "right_hind_hoof"),
)


@dataclass(frozen=True, slots=True)
class Animal:
    """One animal of a species: its own measures and colours."""

    size: Species
    body: Color
    face: Color
    patch: Color | None
    seed: int


@dataclass(frozen=True, slots=True)
class Stance:
    """What an animal is doing; angles in radians."""

    stride: float = 0.0  # how far the legs swing
    phase: float = 0.0
    neck: float = 0.0  # added to the neck's angle
    turn: float = 0.0  # of the head, to its left
    nod: float = 0.35  # the muzzle below the horizon
    wag: float = 0.0
    fold: float = 0.0  # 1: lying on folded legs


def draw_animal(species: str, rng: np.random.Generator) -> Animal:
    """One animal with its own measures and coat."""
    size = SPECIES[species]
    angles = ("neck_angle", "ear_angle", "tail_angle")
    changes = {
        f.name: getattr(size, f.name) * float(np.exp(rng.normal(0, 0.07)))
        for f in fields(size)
        if f.name not in (*angles, "fleece", "crest", "coats")
    }
    changes |= {name: getattr(size, name) + float(rng.normal(0, 0.1)) for name in angles}
    if species == "dog" and rng.random() < 0.5:
        changes["ear_angle"] = -0.9  # hanging ears
    body, face, patch = size.coats[rng.integers(len(size.coats))]
    tone = rng.normal(1, 0.06) + rng.normal(0, 0.02, 3)
    crest = "" if size.crest in ("antlers", "horns") and rng.random() < 0.5 else size.crest
    size = replace(size, crest=crest, **changes)
    return Animal(size, _tone(body, tone), _tone(face, tone), patch, int(rng.integers(2**31)))


def draw_stance(rng: np.random.Generator, species: str) -> Stance:
    """Standing, walking, grazing or lying, the head turned somewhere."""
    kind = rng.choice(["stand", "walk", "graze", "lie"], p=[0.5, 0.32, 0.11, 0.07])
    walking = kind == "walk"
    grazing = kind == "graze" and species != "dog"
    return Stance(
        stride=float(rng.uniform(0.25, 0.5) if walking else rng.uniform(0, 0.12)),
        phase=float(rng.uniform(0, 2 * math.pi)),
        neck=float(-SPECIES[species].neck_angle - rng.uniform(0.7, 1.1) if grazing else rng.normal(-0.05, 0.15)),
        turn=float(np.clip(rng.normal(0, 0.5), -1.1, 1.1)),
        nod=float(rng.uniform(0.9, 1.3) if grazing else rng.normal(0.35, 0.15)),
        wag=float(rng.uniform(-0.4, 0.4)),
        fold=1.0 if kind == "lie" and species != "dog" else 0.0,
    )


def animal_figure(animal: Animal, stance: Stance) -> Figure:
    """The animal in that stance, its lowest part on the ground, with all LANDMARKS."""
    s, figure = animal.size, Figure()
    half = s.trunk / 2
    hair = {"fluff": s.fleece, "patch": animal.patch}
    chest, hip = (half, 0.0, s.stand), (-half, 0.0, s.stand + 0.02)
    figure.solids.append(Solid(chest, hip, s.r_chest, s.r_hip, animal.body, **hair))  # type: ignore[arg-type]
    for side, name in ((1, "left"), (-1, "right")):
        for front in (True, False):
            _leg(figure, animal, stance, side, front, f"{name}_{'front' if front else 'hind'}_hoof")
    figure.points["withers"] = ((half * 0.8, 0, s.stand + s.r_chest * 0.95), s.r_chest * 0.4)
    start: Point = (-half - s.r_hip * 0.75, 0, s.stand + s.r_hip * 0.45)
    tip = _along(start, s.tail, math.pi + stance.wag, s.tail_angle)
    tail_color = DARK if s.crest == "mane" else animal.body
    figure.solids.append(Solid(start, tip, s.r_tail, s.r_tail * 0.6, tail_color, s.fleece))
    figure.points["tail"] = (start, s.r_hip * 0.5)
    _head(figure, animal, stance)
    lowest = min(min(p[2] - r for p, r in ((o.a, o.ra), (o.b, o.rb))) for o in figure.solids)
    return figure.moved(0, 0, -lowest)


def _leg(figure: Figure, animal: Animal, stance: Stance, side: int, front: bool, hoof: str) -> None:
    s = animal.size
    # diagonal legs swing together
    swing = stance.stride * math.sin(stance.phase + (0 if (side == 1) == front else math.pi))
    lift = stance.stride * max(0.0, math.cos(stance.phase + (0 if (side == 1) == front else math.pi)))
    upper, lower = swing + (0.12 if front else -0.15), swing - 1.2 * lift + (0 if front else 0.12)
    if stance.fold:
        upper, lower = (-0.9, 1.75) if front else (1.2, -1.3)
    radius = s.r_chest if front else s.r_hip
    top = ((1 if front else -1) * s.trunk / 2, side * radius * 0.55, s.stand - radius * 0.15)
    length = top[2] * (0.62 if stance.fold else 1)
    knee = _down(top, length * 0.5, upper)
    foot = _down(knee, length * 0.5 - s.r_leg * 0.5, lower)
    thigh, woolly = (s.r_leg * 2.0, s.r_leg * 1.1), s.fleece * 0.8
    figure.solids.append(Solid(top, knee, *thigh, animal.body, woolly, animal.patch))
    shin = animal.body if s.crest == "topknot" else animal.face
    figure.solids.append(Solid(knee, foot, s.r_leg, s.r_leg * 0.65, shin, woolly / 2))
    toe = (foot[0] + s.r_leg * 0.4, foot[1], foot[2])
    figure.solids.append(Solid(foot, toe, s.r_leg * 0.75, s.r_leg * 0.7, HOOF))
    figure.points[hoof] = (foot, s.r_leg * 0.8)


def _head(figure: Figure, animal: Animal, stance: Stance) -> None:
    s = animal.size
    base = (s.trunk / 2 + s.r_chest * 0.45, 0.0, s.stand + s.r_chest * 0.35)
    skull = _along(base, s.neck, stance.turn * 0.3, s.neck_angle + stance.neck)
    neck = animal.body
    figure.solids.append(Solid(base, skull, s.r_neck, s.r_throat, neck, s.fleece, animal.patch))
    # the head's own axes, turned to its left and then nodding
    ct, st, cn, sn = math.cos(stance.turn), math.sin(stance.turn), math.cos(stance.nod), math.sin(stance.nod)
    forward, left, up = np.array([ct * cn, st * cn, -sn]), np.array([-st, ct, 0]), np.array([ct * sn, st * sn, cn])

    def at(f: float, lateral: float, u: float) -> Point:
        x, y, z = np.array(skull) + s.r_head * (f * forward + lateral * left + u * up)
        return float(x), float(y), float(z)

    reach = s.muzzle / s.r_head
    add = figure.solids.append
    add(Solid(at(0, 0, 0), at(0.35, 0, 0), s.r_head, s.r_head * 0.9, animal.face, s.fleece * 0.4))
    add(Solid(at(0.5, 0, -0.15), at(0.3 + reach, 0, -0.2), s.r_muzzle * 1.25, s.r_muzzle, animal.face))
    add(Solid(at(0.55 + reach, 0, 0), at(0.6 + reach, 0, 0), s.r_muzzle * 0.5, s.r_muzzle * 0.45, DARK))
    figure.points["nose"] = (at(0.6 + reach, 0, 0), s.r_muzzle * 0.5)
    for side, name in ((1, "left"), (-1, "right")):
        eye = at(0.62, side * 0.74, 0.32)
        add(Solid(eye, eye, s.r_head * 0.24, s.r_head * 0.24, DARK))
        figure.points[f"{name}_eye"] = (eye, s.r_head * 0.25)
        length = s.ear / s.r_head
        a, b = math.cos(s.ear_angle), math.sin(s.ear_angle)
        tip = at(-0.45, side * (0.55 + length * a), 0.7 + length * b)
        add(Solid(at(-0.1, side * 0.55, 0.65), tip, s.r_ear, s.r_ear * 0.45, animal.face, patch=animal.patch))
        figure.points[f"{name}_ear"] = (tip, s.r_ear)
    _crest(figure, animal, base, at)


def _crest(figure: Figure, animal: Animal, base: Point, at: Callable[[float, float, float], Point]) -> None:
    s, add = animal.size, figure.solids.append
    if s.crest == "topknot":
        add(Solid(at(-0.1, 0, 0.75), at(0.35, 0, 0.85), s.r_head * 0.8, s.r_head * 0.6, animal.body, s.fleece))
    elif s.crest == "mane":
        top = at(-0.5, 0, 0.9)
        add(Solid((base[0] - s.r_neck, 0, base[2] + s.r_neck * 0.6), top, s.r_neck * 0.4, s.r_neck * 0.4, DARK, 0.05))
    elif s.crest in ("horns", "antlers"):
        length = 0.9 if s.crest == "horns" else 2.4
        for side in (1, -1):
            fork = at(-0.3, side * (0.4 + length * 0.4), 0.8 + length * 0.7)
            add(Solid(at(0, side * 0.5, 0.8), fork, s.r_head * 0.16, s.r_head * 0.1, HORN))
            if s.crest == "antlers":
                for f in (0.7, -0.5):
                    add(Solid(fork, at(f, side * 1.6, 3.4), s.r_head * 0.1, s.r_head * 0.07, HORN))


def _along(start: Point, length: float, yaw: float, pitch: float) -> Point:
    flat = length * math.cos(pitch)
    return (
        start[0] + flat * math.cos(yaw),
        start[1] + flat * math.sin(yaw),
        start[2] + length * math.sin(pitch),
    )


def _down(start: Point, length: float, swing: float) -> Point:
    return (start[0] + length * math.sin(swing), start[1], start[2] - length * math.cos(swing))


def _tone(color: Color, factor: np.ndarray) -> Color:
    r, g, b = np.clip(np.array(color) * factor, 0, 255)
    return float(r), float(g), float(b)

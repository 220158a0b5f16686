"""People: one jointed body, its measures and clothes, its pose as joint angles."""

import math
from dataclasses import dataclass

import numpy as np

from pipeline.datasets.synthetic.solids import Color, Figure, Point, Solid

SKINS = ((244, 208, 178), (226, 180, 142), (196, 144, 104), (144, 98, 68), (94, 64, 48))
HAIRS = ((44, 34, 30), (92, 62, 40), (176, 132, 74), (150, 146, 142), (128, 62, 36))
CLOTHES = (
    *((196, 52, 48), (48, 92, 168), (58, 132, 84), (232, 186, 62), (236, 234, 228), (52, 54, 62)),
    *((138, 82, 152), (226, 128, 58), (98, 168, 190), (152, 146, 138), (220, 136, 156), (74, 66, 54)),
)


@dataclass(frozen=True, slots=True)
class Person:
    """`size` scales everything (1 is 1.75 m), `girth` the thickness."""

    size: float
    girth: float
    skin: Color
    hair: Color
    shirt: Color
    trousers: Color
    shoes: Color
    long_sleeves: bool
    shorts: bool
    long_hair: bool
    cap: Color | None


@dataclass(frozen=True, slots=True)
class Limb:
    """Angles in radians from hanging straight down: sideways, forward, and the bend of elbow or knee."""

    side: float = 0.0
    forward: float = 0.0
    bend: float = 0.0


@dataclass(frozen=True, slots=True)
class BodyPose:
    """`arms` and `legs` are (left, right); `lift` is the height of the feet above the ground in metres."""

    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    lean: float = 0.0
    turn: float = 0.0  # of the head, to its left
    lift: float = 0.0


def draw_person(rng: np.random.Generator) -> Person:
    def pick(colors: tuple[Color, ...]) -> Color:
        r, g, b = np.clip(np.array(colors[rng.integers(len(colors))]) + rng.normal(0, 8, 3), 0, 255)
        return float(r), float(g), float(b)

    return Person(
        size=float(rng.uniform(0.86, 1.06)),
        girth=float(rng.uniform(0.88, 1.2)),
        skin=pick(SKINS),
        hair=pick(HAIRS),
        shirt=pick(CLOTHES),
        trousers=pick(CLOTHES),
        shoes=pick(CLOTHES),
        long_sleeves=bool(rng.random() < 0.4),
        shorts=bool(rng.random() < 0.4),
        long_hair=bool(rng.random() < 0.4),
        cap=pick(CLOTHES) if rng.random() < 0.25 else None,
    )


def draw_body_pose(rng: np.random.Generator) -> BodyPose:
    """Standing or walking, the arms somewhere."""
    step = float(rng.uniform(0, 0.45))
    arms = [Limb(float(rng.uniform(0.05, 0.5)), float(rng.normal(0, 0.4)), float(rng.uniform(0, 1.2))) for _ in "lr"]
    legs = (Limb(0.05, step, 0.1), Limb(0.05, -step, step))
    return BodyPose((arms[0], arms[1]), legs, turn=float(rng.normal(0, 0.5)))


def person_figure(person: Person, pose: BodyPose) -> Figure:
    """The person in that pose, feet on the ground but for `lift`; points left_hand, right_hand, head."""
    k, g = person.size, person.size * person.girth
    figure = Figure()
    add = figure.solids.append
    sin, cos = math.sin(pose.lean), math.cos(pose.lean)

    def trunk(lateral: float, up: float) -> Point:
        """A point of the trunk, `up` above the hips."""
        return (k * (up * sin), k * lateral, k * (up * cos))

    add(Solid(trunk(-0.07, 0.02), trunk(0.07, 0.02), 0.115 * g, 0.115 * g, person.trousers))
    add(Solid(trunk(0, 0.08), trunk(0, 0.28), 0.125 * g, 0.14 * g, person.shirt))
    add(Solid(trunk(-0.11, 0.40), trunk(0.11, 0.40), 0.105 * g, 0.105 * g, person.shirt))
    add(Solid(trunk(0, 0.45), trunk(0, 0.60), 0.055 * g, 0.05 * g, person.skin))
    for side, arm, leg, name in ((1, pose.arms[0], pose.legs[0], "left"), (-1, pose.arms[1], pose.legs[1], "right")):
        _leg(figure, person, leg, trunk(side * 0.09, -0.02), side)
        _arm(figure, person, arm, trunk(side * 0.20, 0.43), side, pose.lean, f"{name}_hand")
    _head(figure, person, trunk(0, 0.68), pose.turn)
    lowest = min(min(s.a[2] - s.ra, s.b[2] - s.rb) for s in figure.solids)
    return figure.moved(0, 0, pose.lift - lowest)


def _leg(figure: Figure, person: Person, limb: Limb, hip: Point, side: int) -> None:
    k, g = person.size, person.size * person.girth
    knee = _reach(hip, 0.43 * k, limb.forward, limb.side, side)
    ankle = _reach(knee, 0.40 * k, limb.forward - limb.bend, limb.side, side)
    figure.solids.append(Solid(hip, knee, 0.09 * g, 0.062 * g, person.trousers))
    shin = person.skin if person.shorts else person.trousers
    figure.solids.append(Solid(knee, ankle, 0.06 * g, 0.045 * g, shin))
    toe = _reach(ankle, 0.15 * k, limb.forward - limb.bend + 1.35, 0, side)
    figure.solids.append(Solid(ankle, toe, 0.055 * k, 0.042 * k, person.shoes))


def _arm(figure: Figure, person: Person, limb: Limb, shoulder: Point, side: int, lean: float, hand: str) -> None:
    k, g = person.size, person.size * person.girth
    elbow = _reach(shoulder, 0.28 * k, limb.forward - lean, limb.side, side)
    wrist = _reach(elbow, 0.26 * k, limb.forward - lean + limb.bend, limb.side * 1.05, side)
    figure.solids.append(Solid(shoulder, elbow, 0.062 * g, 0.048 * g, person.shirt))
    sleeve = person.shirt if person.long_sleeves else person.skin
    figure.solids.append(Solid(elbow, wrist, 0.045 * g, 0.036 * g, sleeve))
    figure.solids.append(Solid(wrist, wrist, 0.052 * k, 0.052 * k, person.skin))
    figure.points[hand] = (wrist, 0.05 * k)


def _head(figure: Figure, person: Person, middle: Point, turn: float) -> None:
    k, (x, y, z) = person.size, middle
    cos, sin = math.cos(turn), math.sin(turn)

    def at(forward: float, left: float, up: float) -> Point:
        return (x + k * (forward * cos - left * sin), y + k * (forward * sin + left * cos), z + k * up)

    add = figure.solids.append
    add(Solid(at(0, 0, -0.02), at(0.01, 0, 0.04), 0.10 * k, 0.11 * k, person.skin))
    add(Solid(at(0.11, 0, -0.01), at(0.12, 0, -0.02), 0.02 * k, 0.02 * k, person.skin))
    for side in (1, -1):
        eye = at(0.093, side * 0.045, 0.03)
        add(Solid(eye, eye, 0.017 * k, 0.017 * k, (30, 26, 26)))
    top = person.cap or person.hair
    add(Solid(at(-0.03, 0, 0.07), at(-0.01, 0, 0.08), 0.115 * k, 0.105 * k, top, 0 if person.cap else 0.08))
    add(Solid(at(-0.05, 0, 0.0), at(-0.05, 0, 0.05), 0.095 * k, 0.1 * k, person.hair, 0.08))
    if person.cap:
        add(Solid(at(0.06, 0, 0.085), at(0.18, 0, 0.075), 0.05 * k, 0.03 * k, person.cap))
    if person.long_hair:
        add(Solid(at(-0.07, 0, 0), at(-0.10, 0, -0.22), 0.09 * k, 0.06 * k, person.hair, 0.1))
    figure.points["head"] = (middle, 0.12 * k)


def _reach(start: Point, length: float, forward: float, side: float, sign: int) -> Point:
    """The far end of a limb that hangs from `start`, swung forward and away from the body (`sign` 1: to the left)."""
    flat = math.cos(forward) * length
    return (
        start[0] + length * math.sin(forward),
        start[1] + sign * flat * math.sin(side),
        start[2] - flat * math.cos(side),
    )

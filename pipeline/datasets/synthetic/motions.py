"""The three actions: what a person (and a ball, or a dog) looks like at a time of a clip."""

import math
from collections.abc import Callable

import numpy as np

from pipeline.datasets.synthetic.animals import Stance, animal_figure, draw_animal
from pipeline.datasets.synthetic.people import BodyPose, Limb, Person, person_figure
from pipeline.datasets.synthetic.solids import Color, Figure, Point, Solid

Motion = Callable[[float], tuple[Figure, float]]  # seconds -> the figure and the metres that it has gone forward

BALLS: tuple[Color, ...] = ((216, 112, 44), (190, 84, 40), (228, 140, 70))
LEASH: Color = (120, 40, 40)


def jumping_jack(person: Person, rng: np.random.Generator) -> Motion:
    """Arms and legs out and in again; some people lift their arms only half or bend their elbows."""
    rate, phase = rng.uniform(0.8, 1.5), rng.uniform(0, 1)
    high, wide, bend = rng.uniform(2.0, 2.85), rng.uniform(0.3, 0.52), rng.uniform(0, 0.5)
    turn = float(rng.normal(0, 0.15))

    def at(t: float) -> tuple[Figure, float]:
        out = 0.5 - 0.5 * math.cos(2 * math.pi * (rate * t + phase))
        arm = Limb(0.15 + (high - 0.15) * out, 0.08, bend * (0.3 + 0.4 * out))
        leg = Limb(0.04 + wide * out, 0.04, 0.1)
        lift = 0.14 * math.sin(math.pi * ((2 * (rate * t + phase)) % 1))
        return person_figure(person, BodyPose((arm, arm), (leg, leg), 0.02, turn, lift)), 0.0

    return at


def basketball(person: Person, rng: np.random.Generator) -> Motion:
    """Dribbling on the spot or on the move; in some clips a throw follows, in some the ball lies still in the hand."""
    rate, phase, speed = rng.uniform(1.2, 2.0), rng.uniform(0, 1), float(rng.choice([0, 0, rng.uniform(0.4, 1.4)]))
    throw_at = float(rng.uniform(0.3, 1.1)) if rng.random() < 0.5 else math.inf
    lean, radius = rng.uniform(0.1, 0.35), 0.12
    ball, turn = BALLS[rng.integers(len(BALLS))], float(rng.normal(0, 0.3))

    def at(t: float) -> tuple[Figure, float]:
        step = 0.35 * math.sin(2 * math.pi * t * 1.2 + phase) if speed else 0.12
        legs = (Limb(0.12, step + 0.25, 0.5), Limb(0.12, -step + 0.15, 0.45))
        since = t - throw_at
        if since < 0:  # the ball is in the hand once per bounce
            bounce = abs(math.sin(math.pi * (rate * t + phase)))
            right = Limb(0.15, 0.75 + 0.25 * bounce, 0.65 + 0.3 * bounce)
            pose = BodyPose((Limb(0.45, 0.3, 0.6), right), legs, lean, turn)
            figure = person_figure(person, pose)
            hand = figure.points["right_hand"][0]
            spot = (hand[0] + 0.05, hand[1], radius + (hand[2] - 2 * radius) * bounce)
        else:  # both arms up, the ball flies on
            rise = min(1.0, since / 0.3)
            arm = Limb(0.12, 0.9 + 1.9 * rise, 0.9 * (1 - rise))
            straight = (Limb(0.08, 0.2 * (1 - rise), 0.3 * (1 - rise)),) * 2
            figure = person_figure(person, BodyPose((arm, arm), straight, 0.0, 0.0, 0.12 * rise))
            x, y, z = figure.points["right_hand"][0]
            flown = max(0.0, since - 0.3)
            spot = (x + 0.1 + 3.2 * flown, y + 0.1, z + 0.12 + 3.4 * flown - 4.9 * flown**2)
        figure.solids.append(Solid(spot, spot, radius, radius, ball))
        return figure, speed * min(t, throw_at)

    return at


def walking_with_dog(person: Person, rng: np.random.Generator) -> Motion:
    """A walk with a dog on a leash: before, beside or behind the person, sometimes far enough to be out of sight."""
    rate, phase, speed = rng.uniform(0.75, 1.05), rng.uniform(0, 6), float(rng.uniform(0.6, 1.3))
    dog, pull = draw_animal("dog", rng), rng.uniform(0.6, 0.95)
    ahead = float(
        rng.choice([rng.uniform(0.9, 1.5), rng.uniform(-0.4, 0.4), rng.uniform(-1.6, -1.0)], p=[0.6, 0.2, 0.2])
    )
    beside, turn = float(rng.choice([-1, 1]) * rng.uniform(0.25, 0.5)), float(rng.normal(0, 0.3))
    side = 0 if beside > 0 else 1

    def at(t: float) -> tuple[Figure, float]:
        swing = 2 * math.pi * rate * t + phase
        a, b = 0.45 * math.sin(swing), 0.45 * max(0.0, math.cos(swing))
        legs = (Limb(0.03, a, 0.1 + b), Limb(0.03, -a, 0.1 + 0.45 * max(0.0, -math.cos(swing))))
        arms = [Limb(0.08, -0.8 * a, 0.3), Limb(0.08, 0.8 * a, 0.3)]
        arms[side] = Limb(0.15, 0.35 * math.copysign(1, ahead) + 0.05 * a, 0.6)
        figure = person_figure(person, BodyPose((arms[0], arms[1]), legs, 0.05, turn))
        stance = Stance(0.4, 2 * swing, -0.1, 0.2 * math.sin(swing), 0.3, 0.3 * math.sin(3 * swing))
        walker = animal_figure(dog, stance).moved(ahead * pull, beside, 0)
        collar = walker.points["withers"][0]
        figure.solids += walker.solids
        _leash(figure, figure.points["left_hand" if side == 0 else "right_hand"][0], collar)
        return figure, speed * t

    return at


def _leash(figure: Figure, hand: Point, collar: Point) -> None:
    """It sags a little."""
    middle = (
        (hand[0] + collar[0]) / 2,
        (hand[1] + collar[1]) / 2,
        (hand[2] + collar[2]) / 2 - 0.12,
    )
    for a, b in ((hand, middle), (middle, collar)):
        figure.solids.append(Solid(a, b, 0.012, 0.012, LEASH))


MOTIONS: dict[str, Callable[[Person, np.random.Generator], Motion]] = {
    "Basketball": basketball,
    "JumpingJack": jumping_jack,
    "WalkingWithDog": walking_with_dog,
}

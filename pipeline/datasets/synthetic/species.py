"""The measures and coats of the four-legged species."""

from dataclasses import dataclass

from pipeline.datasets.synthetic.solids import Color


@dataclass(frozen=True, slots=True)
class Species:
    """Measures in metres (`r_` radii) and radians. `coats`: body, face and legs, patches or None."""

    stand: float  # height of the trunk's axis
    trunk: float  # shoulder to hip
    r_chest: float
    r_hip: float
    r_leg: float
    neck: float
    neck_angle: float  # above the horizon
    r_neck: float
    r_throat: float
    r_head: float
    muzzle: float
    r_muzzle: float
    ear: float
    r_ear: float
    ear_angle: float  # 0 to the side, pi / 2 up, below 0 hanging
    tail: float
    r_tail: float
    tail_angle: float
    fleece: float  # of body and neck: 0 smooth
    crest: str  # topknot, horns, antlers, mane or nothing
    coats: tuple[tuple[Color, Color, Color | None], ...]


WHITE, CREAM, FAWN, BROWN = (240, 236, 226), (232, 214, 180), (214, 170, 120), (124, 80, 52)
BLACK, GREY, TAN, RUST = (52, 46, 46), (150, 146, 144), (190, 150, 106), (142, 78, 46)
HOOF, DARK, HORN = (52, 44, 40), (26, 22, 22), (196, 180, 150)

SPECIES = {
    "alpaca": Species(
        stand=0.74,
        trunk=0.6,
        r_chest=0.25,
        r_hip=0.26,
        r_leg=0.085,
        neck=0.62,
        neck_angle=1.3,
        r_neck=0.15,
        r_throat=0.105,
        r_head=0.1,
        muzzle=0.13,
        r_muzzle=0.058,
        ear=0.19,
        r_ear=0.038,
        ear_angle=1.05,
        tail=0.16,
        r_tail=0.07,
        tail_angle=-0.9,
        fleece=0.2,
        crest="topknot",
        coats=(
            (WHITE, CREAM, None),
            (CREAM, WHITE, None),
            (CREAM, CREAM, None),
            (FAWN, CREAM, None),
            (FAWN, FAWN, None),
            (FAWN, WHITE, None),
            (FAWN, BROWN, None),
            (CREAM, CREAM, FAWN),
        ),
    ),
    "sheep": Species(
        stand=0.52,
        trunk=0.5,
        r_chest=0.27,
        r_hip=0.28,
        r_leg=0.05,
        neck=0.24,
        neck_angle=0.55,
        r_neck=0.15,
        r_throat=0.1,
        r_head=0.095,
        muzzle=0.15,
        r_muzzle=0.058,
        ear=0.13,
        r_ear=0.034,
        ear_angle=-0.15,
        tail=0.12,
        r_tail=0.05,
        tail_angle=-1.1,
        fleece=0.1,
        crest="",
        coats=(
            (WHITE, BLACK, None),
            (WHITE, (224, 204, 182), None),
            (GREY, BLACK, None),
            ((96, 92, 92), BLACK, None),
        ),
    ),
    "dog": Species(
        stand=0.46,
        trunk=0.46,
        r_chest=0.145,
        r_hip=0.115,
        r_leg=0.045,
        neck=0.2,
        neck_angle=0.9,
        r_neck=0.095,
        r_throat=0.085,
        r_head=0.092,
        muzzle=0.13,
        r_muzzle=0.05,
        ear=0.11,
        r_ear=0.036,
        ear_angle=1.2,
        tail=0.34,
        r_tail=0.032,
        tail_angle=0.9,
        fleece=0.03,
        crest="",
        coats=(
            (BLACK, TAN, None),
            (BROWN, WHITE, WHITE),
            (WHITE, WHITE, BLACK),
            (GREY, WHITE, None),
            (RUST, RUST, None),
            (BLACK, BLACK, WHITE),
        ),
    ),
    "horse": Species(
        stand=1.08,
        trunk=0.86,
        r_chest=0.28,
        r_hip=0.28,
        r_leg=0.075,
        neck=0.66,
        neck_angle=0.92,
        r_neck=0.19,
        r_throat=0.12,
        r_head=0.13,
        muzzle=0.34,
        r_muzzle=0.08,
        ear=0.14,
        r_ear=0.03,
        ear_angle=1.3,
        tail=0.62,
        r_tail=0.06,
        tail_angle=-1.2,
        fleece=0.0,
        crest="mane",
        coats=(
            (BROWN, BROWN, None),
            (RUST, RUST, None),
            (GREY, GREY, None),
            (BLACK, BLACK, None),
            ((92, 54, 36), (92, 54, 36), None),
        ),
    ),
    "deer": Species(
        stand=0.82,
        trunk=0.6,
        r_chest=0.19,
        r_hip=0.18,
        r_leg=0.045,
        neck=0.52,
        neck_angle=1.1,
        r_neck=0.11,
        r_throat=0.075,
        r_head=0.085,
        muzzle=0.18,
        r_muzzle=0.042,
        ear=0.18,
        r_ear=0.036,
        ear_angle=0.6,
        tail=0.12,
        r_tail=0.04,
        tail_angle=-0.6,
        fleece=0.02,
        crest="antlers",
        coats=((RUST, TAN, None), (BROWN, BROWN, None), (RUST, RUST, None)),
    ),
    "cow": Species(
        stand=0.86,
        trunk=0.86,
        r_chest=0.34,
        r_hip=0.34,
        r_leg=0.08,
        neck=0.36,
        neck_angle=0.4,
        r_neck=0.23,
        r_throat=0.135,
        r_head=0.15,
        muzzle=0.24,
        r_muzzle=0.095,
        ear=0.17,
        r_ear=0.045,
        ear_angle=0.05,
        tail=0.55,
        r_tail=0.035,
        tail_angle=-1.35,
        fleece=0.0,
        crest="horns",
        coats=((WHITE, WHITE, BLACK), (RUST, RUST, WHITE), (BLACK, WHITE, WHITE), (BROWN, BROWN, None)),
    ),
}

"""Augmentation: labels go where the pixels go, draws repeat only where their seeds do, both libraries alike."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.policies import DRAWS, POLICIES, Row, augmenter
from pipeline.augment.policies.labels import MIN_VISIBLE, move_objects
from pipeline.augment.policies.policy import Policy
from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object
from pipeline.core.seeds import derived_seed

ROOT = Path(__file__).parent.parent
PAIRS = ((0, 1), (2, 3))
MOVING = (
    *("photo_geometry", "photo_zoom", "alpaca_lab", "ucf101_torch", "imgaug_ucf101", "imgaug_ucf101_warped"),
    *("randaugment", "trivialaugment"),
)


def picture(height: int = 60, width: int = 80, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise; write-protected, as Pillow's arrays are."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    ramp = np.stack([x * 255 / width, y * 255 / height, (x + y) * 255 / (height + width)], axis=2)
    pixels = np.clip(ramp + draw.normal(0, 12, ramp.shape), 0, 255).astype(np.uint8)
    pixels.setflags(write=False)
    return pixels


def animal(x: float = 0.3, y: float = 0.3, w: float = 0.4, h: float = 0.3) -> Object:
    spots = [(0.1, 0.2), (0.9, 0.2), (0.2, 0.9), (0.8, 0.9), (0.5, 0.5)]
    return Object("alpaca", (x, y, w, h), [Landmark(x + a * w, y + b * h, 2) for a, b in spots])


def affine(matrix, shift=(0.0, 0.0)):
    """A geometry that only moves points: about the image's middle, then by `shift`."""
    return lambda pixels, points, seed: (pixels, (points - 0.5) @ np.array(matrix, float).T + 0.5 + shift)


FLIP, TURN = affine([[-1, 0], [0, 1]]), affine([[-1, 0], [0, -1]])
unit = st.floats(0, 1, allow_subnormal=False)


@st.composite
def objects(draw):
    """An object somewhere in the image with landmarks in and around its box, some absent."""
    x, y = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    w, h = draw(st.floats(0.01, 1 - x)), draw(st.floats(0.01, 1 - y))
    points = draw(st.lists(st.tuples(unit, unit, st.integers(0, 2)), min_size=5, max_size=5))
    return Object("alpaca", (x, y, w, h), [Landmark(*p) if p[2] else Landmark(0, 0, 0) for p in points])


@given(objects())
def test_flip_mirrors_boxes_and_swaps_left_and_right(o):
    (moved,) = move_objects(FLIP, picture(), [o], 0, PAIRS)[1]
    x, y, w, h = o.box
    assert moved.box == pytest.approx((1 - x - w, y, w, h), abs=1e-9)
    for i, j in enumerate((1, 0, 3, 2, 4)):
        assert moved.landmarks[i].visibility == o.landmarks[j].visibility
        if o.landmarks[j].visibility:
            expected = (1 - o.landmarks[j].x, o.landmarks[j].y)
            assert (moved.landmarks[i].x, moved.landmarks[i].y) == pytest.approx(expected, abs=1e-9)
    (back,) = move_objects(FLIP, picture(), [moved], 0, PAIRS)[1]
    assert back.box == pytest.approx(o.box, abs=1e-9)
    assert [p.x for p in back.landmarks] == pytest.approx([p.x for p in o.landmarks], abs=1e-9)


@given(objects())
def test_half_a_turn_swaps_nothing(o):
    (moved,) = move_objects(TURN, picture(), [o], 0, PAIRS)[1]
    assert [p.visibility for p in moved.landmarks] == [p.visibility for p in o.landmarks]


@given(objects(), st.floats(0.5, 1.5), st.floats(-0.4, 0.4), st.floats(-0.4, 0.4))
def test_scale_and_shift_move_the_box_exactly_and_clip_it(o, scale, dx, dy):
    moved = move_objects(affine([[scale, 0], [0, scale]], (dx, dy)), picture(), [o], 0, PAIRS)[1]
    x, y, w, h = o.box
    left, top = (x - 0.5) * scale + 0.5 + dx, (y - 0.5) * scale + 0.5 + dy
    right, bottom = left + w * scale, top + h * scale
    seen = (
        max(0, min(right, 1) - max(left, 0)) * max(0, min(bottom, 1) - max(top, 0)) / ((right - left) * (bottom - top))
    )
    if seen < MIN_VISIBLE - 0.05:
        assert moved is None
    if seen > MIN_VISIBLE + 0.05:
        box = moved[0].box
        corners = (box[0], box[1], box[0] + box[2], box[1] + box[3])
        assert corners == pytest.approx(np.clip([left, top, right, bottom], 0, 1), abs=1e-9)


@given(objects(), st.floats(-0.2, 0.2), st.integers(0, 1))
def test_a_moved_box_holds_the_landmarks_that_it_held(o, angle, mirror):
    c, s = np.cos(angle), np.sin(angle)
    matrix = np.array([[c, -s], [s, c]]) @ np.diag([1 - 2 * mirror, 1])
    moved = move_objects(affine(matrix), picture(), [o], 0, ())[1]
    if moved is None:
        return
    x, y, w, h = moved[0].box
    assert x >= 0 and y >= 0 and x + w <= 1 + 1e-9 and y + h <= 1 + 1e-9
    for before, after in zip(o.landmarks, moved[0].landmarks, strict=True):
        in_box = o.box[0] <= before.x <= o.box[0] + o.box[2] and o.box[1] <= before.y <= o.box[1] + o.box[3]
        if after.visibility and in_box:
            assert x - 1e-9 <= after.x <= x + w + 1e-9 and y - 1e-9 <= after.y <= y + h + 1e-9


def test_a_landmark_that_leaves_becomes_absent_and_absent_ones_stay_absent():
    o = replace(animal(0.05, 0.3, 0.5, 0.3), crowd=True)
    o.landmarks[4] = Landmark(0, 0, 0)
    (moved,) = move_objects(affine(np.eye(2), (-0.15, 0)), picture(), [o], 0, PAIRS)[1]
    assert [p.visibility for p in moved.landmarks] == [0, 2, 2, 2, 0]
    assert (moved.landmarks[0].x, moved.landmarks[4].y) == (0, 0)
    assert moved.label == "alpaca" and moved.crowd and moved.box[0] == 0


@pytest.mark.parametrize(("name", "hint"), [("photo_geometri", "'photo_geometry'"), ("zzz", "one of none, photo")])
def test_an_unknown_policy_names_the_nearest(name, hint):
    with pytest.raises(InputError, match=hint):
        augmenter(name)


def away() -> Policy:
    return Policy(geometry=affine(np.eye(2), (0.9, 0)))


def test_a_picture_is_never_shown_without_its_objects(monkeypatch):
    monkeypatch.setitem(POLICIES, "away", Row("test_augment:away"))
    given_objects = [animal(), animal(0.1, 0.1, 0.2, 0.2)]
    _, after, rejected = augmenter("away").move(picture(), given_objects, 1)
    assert (after, rejected) == (given_objects, DRAWS)
    assert augmenter("away").move(picture(), [], 1)[2] == 0
    # beyond the border before anything moved: not this image's loss
    beyond = Object("alpaca", (1.2, 0.1, 0.3, 0.3))
    assert augmenter("away").move(picture(), [beyond], 1)[2] == 0


CROWD = [animal(0.05 + 0.09 * (i % 10), 0.05 + 0.17 * (i // 10), 0.06, 0.1) for i in range(50)]
EDGES = [
    Object("alpaca", box) for box in [(0, 0, 1, 1), (0, 0, 0.2, 0.3), (0.8, 0.7, 0.2, 0.3), (-4.8e-8, 0, 1 + 1e-7, 0.5)]
]


@pytest.mark.parametrize(
    ("pixels", "labelled"),
    [
        (picture(8, 8), [animal()]),
        (np.repeat(picture()[..., :1], 3, axis=2), [animal()]),
        (picture(), []),
        (picture(), CROWD),
        (picture(33, 120), EDGES),
        (np.zeros((40, 40, 3), np.uint8), [Object("alpaca", (0.5, 0.5, 0, 0))]),
    ],
    ids=["8x8", "grey", "no objects", "crowd", "edges", "black, empty box"],
)
@pytest.mark.parametrize("policy", POLICIES)
def test_every_policy_takes_every_picture(policy, pixels, labelled):
    before = pixels.copy()
    for seed in range(12):
        varied, moved = augmenter(policy, PAIRS)(pixels, labelled, seed)
        assert varied.shape == pixels.shape and varied.dtype == np.uint8
        assert [(o.label, len(o.landmarks)) for o in moved] == [(o.label, len(o.landmarks)) for o in labelled]
        if policy in MOVING and moved != labelled:
            boxes = np.array([o.box for o in moved]).reshape(-1, 4)
            assert (boxes >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 1 + 1e-9).all()
    assert (pixels == before).all()


@pytest.mark.parametrize("policy", [p for p in POLICIES if p != "none"])
def test_a_draw_depends_on_its_seed_and_not_on_earlier_ones(policy):
    augment, pixels = augmenter(policy, PAIRS), picture()
    first = [augment(pixels, [animal()], seed) for seed in range(40)]
    for seed in np.random.default_rng(0).permutation(40):
        again, moved = augment(pixels, [animal()], seed)
        assert (again == first[seed][0]).all() and moved == first[seed][1]
    assert len({varied.tobytes() for varied, _ in first}) > 25  # a flip has no second draw


def test_every_augmenter_of_the_imgaug_policy_runs_under_numpy_2():
    from pipeline.augment.policies import imgaug_policies

    children = imgaug_policies.ucf101_warped().look.augmenter.get_all_children(flat=True)
    names = {"BlendAlphaFrequencyNoise", "BlendAlphaSimplexNoise", "Superpixels", "ElasticTransformation"}
    assert names <= {type(c).__name__ for c in children}
    for child in children:
        for seed in range(6):
            child.seed_(seed)
            varied = child.augment_image(picture())
            child.seed_(seed)
            assert varied.dtype == np.uint8 and (varied == child.augment_image(picture())).all(), child
    assert np.bool is np.bool_


def test_the_libraries_ask_no_network():
    code = """if True:
        import sys
        asked = []
        sys.addaudithook(lambda event, args: asked.append((event, args)) if event.startswith("socket.") else None)
        from pipeline.augment.policies import POLICIES
        from pipeline.core.lazy import load
        assert not {"albumentations", "imgaug", "torch"} & set(sys.modules)
        from pipeline.augment.policies import albumentations_policies
        assert "torch" not in sys.modules
        import albumentations.pytorch
        for row in POLICIES.values():
            load(row.build)()
        sys.exit(str([a for a in asked if a[0] in ("socket.getaddrinfo", "socket.connect")] or ""))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip() == ""


class Varied:
    """A torch map dataset whose item is (epoch, index)."""

    def __init__(self, policy: str) -> None:
        self.augment = augmenter(policy, PAIRS)

    def __getitem__(self, key: tuple[int, int]) -> bytes:
        return self.augment(picture(32, 32), [animal()], derived_seed(3, *key))[0].tobytes()


def test_workers_and_epochs_repeat_nothing_and_the_number_of_workers_changes_nothing():
    from torch.utils.data import DataLoader

    def epoch(number: int, workers: int) -> list[bytes]:
        keys = [(number, index) for index in range(12)]
        loader = DataLoader(Varied("photo_geometry"), batch_size=2, sampler=keys, num_workers=workers, collate_fn=list)
        return [item for batch in loader for item in batch]

    first, second = epoch(0, workers=2), epoch(1, workers=2)
    assert len(set(first + second)) == 24
    assert epoch(0, workers=0) == first


@pytest.mark.parametrize("name", ["photo_geometry", "photo_zoom"])
def test_albumentations_transforms_draw_and_move_as_its_compose_has_them(name):
    """Ours calls them one by one; of the keypoints that its affine gives only x and y are asked for."""
    from pipeline.augment.policies import albumentations_policies as ours

    pixels, points = picture(seed=1), np.random.default_rng(0).uniform(0, 1, (5, 2))
    size = np.array(pixels.shape[1::-1])
    policy, theirs = getattr(ours, name)(), getattr(ours, name)()
    moves = [ours.A.Affine(**arguments(step)) if step.p == 0.7 else step for step in theirs.geometry.transform]
    whole = ours.A.Compose(moves, keypoint_params=ours.A.KeypointParams("xy", remove_invisible=False))
    for seed in range(6):
        ours._seed(whole, seed)
        expected = whole(image=pixels, keypoints=points * size - 0.5)
        moved, spots = policy.geometry(pixels, points, seed)
        np.testing.assert_array_equal(moved, expected["image"])
        np.testing.assert_array_equal(spots, (expected["keypoints"].astype(float) + 0.5) / size)
        np.testing.assert_array_equal(policy.geometry(pixels, points[:0], seed)[0], moved)
        ours._seed(theirs.look.transform, seed)
        np.testing.assert_array_equal(policy.look(pixels, seed), theirs.look.transform(image=pixels)["image"])


def arguments(step):
    """Of a transform of albumentations', as its class takes them."""
    return {name: getattr(step, name) for name in step.get_transform_init_args_names() if name != "mask_interpolation"}

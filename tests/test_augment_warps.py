"""Geometry: what a policy paints lies where its labels say, for any draw, and as the formulas say."""

import random
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from test_augment_offline import noise
from torchvision.transforms import v2

from pipeline.augment.policies import POLICIES, augmenter, warps
from pipeline.augment.policies.imgaug_policies import ucf101_warped
from pipeline.augment.policies.labels import move_objects
from pipeline.augment.policies.policy import BORDER
from pipeline.augment.policies.selftest import self_test
from pipeline.augment.policies.sides import unpaired
from pipeline.augment.policies.torchvision_policies import MATRICES, MOVES, randaugment, trivialaugment
from pipeline.augment.policies.warps import (
    CORNERS,
    FURTHEST,
    GRID,
    Warp,
    about_middle,
    fitted,
    is_before_camera,
    mesh_points,
    meshed,
    moved_points,
    quad_to_quad,
    turn,
    warped,
)
from pipeline.core.sample import Dataset, Landmark, Object, Sample
from pipeline.core.seeds import derived_seed
from pipeline.training import train
from pipeline.training.params import AnyRun

MOVING = (
    *("photo_geometry", "photo_zoom", "alpaca_lab", "ucf101_torch", "imgaug_ucf101", "imgaug_ucf101_warped"),
    *("randaugment", "trivialaugment"),
)
FEW = settings(max_examples=25, deadline=None, derandomize=True)
WIDTH, HEIGHT = 96, 72
SIZE = np.array([WIDTH, HEIGHT], dtype=float)
seeds, inner = st.integers(0, 2**32), st.floats(0.2, 0.8)


def disc(x: float, y: float, width: int = WIDTH, height: int = HEIGHT, radius: float = 4) -> np.ndarray:
    """A soft white disc on black, x and y in pixels from the corner."""
    down, across = np.mgrid[:height, :width] + 0.5
    shade = np.clip(radius + 0.5 - np.hypot(across - x, down - y), 0, 1) * 255
    return np.repeat(shade[..., None], 3, axis=2).astype(np.uint8)


def middle(painted: np.ndarray, blank: np.ndarray) -> np.ndarray:
    """Of what was painted: x, y in pixels from the corner."""
    weight = np.abs(painted[..., 0].astype(float) - blank[..., 0])
    down, across = np.mgrid[: weight.shape[0], : weight.shape[1]] + 0.5
    return np.array([(across * weight).sum(), (down * weight).sum()]) / weight.sum()


@pytest.mark.parametrize("name", MATRICES)
@pytest.mark.parametrize("library", [v2.RandAugment(), v2.TrivialAugmentWide()])
def test_a_change_that_moves_is_torchvisions(name, library):
    blocks = np.kron(np.random.default_rng(0).integers(0, 255, (6, 8, 3)), np.ones((12, 12, 1))).astype(np.uint8)
    strengths = library._AUGMENTATION_SPACE[name][0](31, HEIGHT, WIDTH)
    image = torch.from_numpy(np.moveaxis(blocks, 2, 0).copy())
    for strength in (float(strengths[5]), -float(strengths[30])):
        grey = {torch.Tensor: [float(BORDER)] * 3}
        theirs = library._apply_image_or_video_transform(image, name, strength, v2.InterpolationMode.BILINEAR, grey)
        ours = warped(blocks, MATRICES[name](strength, SIZE))
        off = np.abs(ours.astype(int) - np.moveaxis(theirs.numpy(), 0, 2))
        assert off.mean() < 1 and (off.max(axis=2) > 8).mean() < 0.03, (
            strength
        )  # the border's pixels are blended otherwise


def test_randaugment_has_two_changes_and_trivialaugment_one():
    for policy, count in ((randaugment(), 2), (trivialaugment(), 1)):
        space = set()
        for seed in range(60):
            steps = policy.drawn(derived_seed(seed))
            moves = steps.geometry.draw.args[0] if steps.geometry else []
            looks = steps.look.args[0]
            assert len(moves) + len(looks) == count
            space |= {*moves, *looks}
        assert len(space) == 14


@pytest.mark.parametrize("policy", MOVING)
@FEW
@given(seed=seeds, x=inner, y=inner)
def test_a_landmark_lies_on_its_paint(policy, seed, x, y):
    augment = augmenter(policy)
    objects = [Object("goat", (0.1, 0.1, 0.8, 0.8), [Landmark(x, y, 2)])]
    blank, moved, _ = augment.move(np.zeros((HEIGHT, WIDTH, 3), np.uint8), objects, seed)
    bent = policy == "imgaug_ucf101_warped"  # in which the middle of a large disc is another one
    painted = augment.move(disc(x * WIDTH, y * HEIGHT, radius=2 if bent else 4), objects, seed)[0]
    (spot,) = moved[0].landmarks
    at = np.array([spot.x, spot.y]) * SIZE
    if spot.visibility and (at > 9).all() and (at < SIZE - 9).all():
        assert np.abs(middle(painted, blank) - at).max() < (1.0 if bent else 0.5), (seed, x, y)
    if not spot.visibility:
        assert (painted[10:-10, 10:-10] == blank[10:-10, 10:-10]).all()  # at most its rim is seen


@FEW
@given(st.floats(-180, 180), inner, inner, st.floats(0.05, 0.2), st.floats(0.05, 0.2))
def test_a_turned_box_is_that_of_the_turned_ellipse(angle, x, y, across, down):
    """Its half sides by the closed form, sqrt((a cos)^2 + (b sin)^2) and the other way round."""
    geometry = Warp(lambda draw, size: (fitted(turn(np.radians(angle)), size), None))
    o = Object("goat", (x - across, y - down, 2 * across, 2 * down))
    (moved,) = move_objects(geometry, np.zeros((HEIGHT, WIDTH, 3), np.uint8), [o], 0, ())[1]
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    shrunk = min(WIDTH / (WIDTH * abs(cos) + HEIGHT * abs(sin)), HEIGHT / (WIDTH * abs(sin) + HEIGHT * abs(cos)))
    a, b = across * WIDTH, down * HEIGHT
    half = shrunk * np.array([np.hypot(a * cos, b * sin), np.hypot(a * sin, b * cos)])
    off = (np.array([x, y]) - 0.5) * SIZE
    at = SIZE / 2 + shrunk * np.array([cos * off[0] - sin * off[1], sin * off[0] + cos * off[1]])
    expected = np.clip(np.concatenate([at - half, at + half]), 0, np.tile(SIZE, 2))
    box = np.array([moved.box[0], moved.box[1], moved.box[0] + moved.box[2], moved.box[1] + moved.box[3]])
    assert np.abs(box * np.tile(SIZE, 2) - expected).max() < 0.5


@pytest.mark.parametrize(("width", "height"), [(17, 11), (33, 64), (64, 64)])
def test_a_turn_that_fits_shows_all_of_the_image_and_touches_the_border(width, height):
    size = np.array([width, height], dtype=float)
    for angle in range(-180, 181):
        corners = moved_points(CORNERS * size, fitted(turn(np.radians(angle)), size))
        assert corners.min() > -1e-6 and (corners < size + 1e-6).all()
        assert np.isclose(np.ptp(corners, axis=0) / size, 1).any()


@pytest.mark.parametrize("angle", [-90, -37, 15, 60, 90, 180])
def test_the_image_turns_with_the_labels(angle):
    matrix = fitted(turn(np.radians(angle)), SIZE)
    place = np.array([[20.0, 50.0]])
    painted, blank = warped(disc(20, 50), matrix), warped(np.zeros((HEIGHT, WIDTH, 3), np.uint8), matrix)
    assert np.abs(middle(painted, blank) - moved_points(place, matrix)).max() < 0.25


def test_a_flip_twice_and_a_shift_there_and_back_change_nothing():
    pixels = np.random.default_rng(0).integers(0, 255, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    flip = about_middle(np.diag([-1.0, 1.0]), SIZE)
    assert (warped(pixels, flip) == pixels[:, ::-1]).all() and (warped(pixels, flip @ flip) == pixels).all()
    away, back = (about_middle(np.eye(2), SIZE, np.array([0.6, 0]) * SIZE * way) for way in (1, -1))
    assert (warped(pixels, back @ away) == pixels).all()
    assert (warped(pixels, away)[:, : WIDTH // 2] == BORDER).all()


@FEW
@given(seeds, st.floats(0, 0.7), st.floats(0, 0.7))
def test_perspective_turns_nothing_inside_out(seed, x, y):
    for draw in (MOVES[4], lambda generator, size: ucf101_warped().geometry.draw(generator, size)[0]):
        matrix = draw(np.random.default_rng(seed), SIZE)
        assert is_before_camera(matrix, SIZE)
        box = np.array([x, y]) + CORNERS * 0.3
        inside = np.array([x, y]) + np.random.default_rng(seed).random((50, 2)) * 0.3
        corners, points = (moved_points(p * SIZE, matrix) for p in (box, inside))
        assert np.isfinite(corners).all()
        assert (points >= corners.min(axis=0) - 1e-9).all() and (points <= corners.max(axis=0) + 1e-9).all()


def test_what_is_behind_the_camera_is_told():
    assert is_before_camera(quad_to_quad(CORNERS, CORNERS + 0.2 * (0.5 - CORNERS), SIZE), SIZE)
    steep = np.eye(3)
    steep[2] = -1.5 / WIDTH, 0, 1
    assert not is_before_camera(steep, SIZE)


@FEW
@given(seeds)
def test_a_mesh_moves_points_as_pixels_and_there_is_a_way_back(seed):
    draw = np.random.default_rng(seed)
    knots = GRID + draw.uniform(-FURTHEST, FURTHEST, GRID.shape)
    assert np.allclose(mesh_points(knots, knots), GRID, atol=1e-9)
    place = draw.uniform(0.3, 0.7, 2)
    at = mesh_points(place[None], knots)[0] * SIZE
    pixels = disc(*(place * SIZE), radius=2)
    painted = meshed(pixels, np.eye(3), knots)
    if (at > 8).all() and (at < SIZE - 8).all():
        assert np.abs(middle(painted, meshed(np.zeros_like(pixels), np.eye(3), knots)) - at).max() < 1


def test_an_image_is_moved_or_looks_otherwise_never_both():
    augment, pixels = augmenter("ucf101_torch"), disc(30, 30)
    objects = [Object("goat", (0.2, 0.2, 0.5, 0.5))]
    moved = [augment.move(pixels, objects, seed)[1] != objects for seed in range(200)]
    looked = [augment.look(pixels, seed) is not pixels for seed in range(200)]
    assert not any(m and k for m, k in zip(moved, looked, strict=True))
    assert 100 < sum(moved) < 140 and 60 < sum(looked) < 100


def generators() -> tuple[bytes, bytes, object]:
    legacy = np.random.get_state()[1]  # noqa: NPY002 (libraries may draw from it)
    return torch.get_rng_state().numpy().tobytes(), legacy.tobytes(), random.getstate()


@pytest.mark.parametrize("policy", POLICIES)
def test_no_generator_of_the_process_is_drawn_from(policy):
    before = generators()
    augmenter(policy)(disc(30, 30), [], 3)
    assert generators() == before


EARS = Dataset("herd", ["goat"], ["left_ear", "right_ear", "nose"], [(0, 1)])


def test_a_mesh_moves_a_large_image_piece_by_piece_to_the_same_bytes(monkeypatch):
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, (131, 97, 3), dtype=np.uint8)
    knots = warps.GRID + random.uniform(-0.9, 0.9, warps.GRID.shape) * warps.FURTHEST
    matrix = warps.about_middle(warps.turn(0.3), np.array([97.0, 131.0]))
    matrix[2, 0] = 1e-3
    whole = meshed(pixels, matrix, knots)
    warps._kept_triangles.cache_clear()
    for piece in (1, 97 * 13, 97 * 131 - 1):
        monkeypatch.setattr(warps, "PIECE", piece)
        assert np.array_equal(meshed(pixels, matrix, knots), whole)
    assert warps._kept_triangles.cache_info().currsize == 0, "of a large image nothing is kept"


@pytest.mark.parametrize("policy", ["photo_geometry", "ucf101_torch"])
def test_landmarks_that_look_sided_are_not_mirrored_without_pairs(policy):
    bare = replace(EARS, pairs=[])
    o = Object("goat", (0.3, 0.3, 0.4, 0.3), [Landmark(0.35, 0.4), Landmark(0.6, 0.4), Landmark(0.5, 0.5)])
    samples = [Sample(str(i), f"{i}.jpg", 96, 72, objects=[o]) for i in range(12)]
    found = self_test(augmenter(policy, bare), samples, 0, noise, "policy")
    assert found["mirrored"] == 0 and found["landmarks"] > 20
    assert self_test(augmenter(policy, EARS), samples, 0, noise, "policy")["mirrored"] > 1


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        (["left_ear", "right_ear"], "left_ear, right_ear look like left and right ones"),
        (["L_hand", "tail"], "L_hand look"),
        (["leftEye", "RightEye", "tail"], "leftEye, RightEye look"),
        (["LEye", "eyeR"], "LEye, eyeR look"),
        (["leftear", "earright"], "leftear, earright look"),
        (["LEFT_EAR", "l1"], "LEFT_EAR, l1 look"),
        (["upright", "tail", "ear", "Lip"], ""),
        (["0", "1", "2"], "0, 1, 2 have numbers for names"),
        (["tail", "nose"], ""),
        (["0"], ""),
        ([], ""),
    ],
)
def test_why_a_dataset_is_never_mirrored(names, reason):
    said = unpaired(Dataset("herd", ["goat"], names))
    assert (reason in said) if reason else said == ""
    assert unpaired(EARS) == ""


def test_images_that_have_a_label_each_are_mirrored_whatever_landmarks_there_are():
    bare = replace(EARS, pairs=[])
    assert augmenter("photo", bare, objects=False).mirrors and not augmenter("photo", bare).mirrors


@pytest.mark.parametrize(
    ("task", "policy", "told"), [("detect", "photo", True), ("detect", "none", False), ("classify", "photo", False)]
)
def test_training_tells_that_nothing_is_mirrored(capsys, task, policy, told):
    run = TypeAdapter(AnyRun).validate_python(
        {"dataset": "herd", "task": task, "train": {"online": {"policy": policy}}}
    )
    augment = train._augment(run, replace(EARS, pairs=[]))
    assert augment.mirrors == (task == "classify")
    assert ("herd: never mirrored: landmarks left_ear, right_ear look" in capsys.readouterr().out) == told

"""A policy that params.yaml writes down, and policies that do not fit: refused by name, with what would be right."""

import functools
import json
import math
import pickle

import numpy as np
import pytest
from test_augment_offline import noise

from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.augment.policies import POLICIES, augmenter
from pipeline.augment.policies.selftest import self_test
from pipeline.augment.policies.written import FLIPS, KNOWN, LOOKS, WARPS, checked
from pipeline.config.params import parse_params
from pipeline.config.resolve import resolve, resolved_text
from pipeline.core.errors import InputError
from pipeline.core.resolved import Resolved
from pipeline.core.sample import Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.training.params import TRAINED_BY, AnyRun

LIST = [
    {"transform": "HorizontalFlip"},
    {"transform": "Rotate", "limit": [-20, 20], "p": 1.0},
    {"transform": "GaussNoise", "std_range": [0.01, 0.05], "p": 0.3},
]
TURN, FLIP, BLUR = ([{"transform": name}] for name in ("Rotate", "HorizontalFlip", "Blur"))
DEEP = functools.reduce(lambda inner, _: [{"transform": "Sequential", "transforms": inner}], range(9), BLUR)
NESTED = [
    {"transform": "OneOf", "transforms": [*TURN, {"transform": "Affine", "shear": [-20, 20], "p": 0.5}], "p": 1.0},
    {"transform": "SomeOf", "transforms": [*FLIP, {"transform": "VerticalFlip"}], "n": 2, "p": 1.0},
    {"transform": "Sequential", "transforms": [*BLUR, {"transform": "OneOf", "transforms": [{"transform": "ToGray"}]}]},
]
GOAT = Object("goat", (0.3, 0.3, 0.4, 0.3), [Landmark(0.4, 0.4), Landmark(0.6, 0.5)])


def picture() -> np.ndarray:
    """Blocks of 16 pixels, whose edges looks may not shift."""
    rough = np.random.default_rng(0).integers(0, 255, (7, 9, 3), dtype=np.uint8)
    return np.kron(rough, np.ones((16, 16, 1), np.uint8))


def edges(pixels: np.ndarray) -> np.ndarray:
    down, across = np.gradient(pixels.astype(float), axis=(0, 1))
    return np.hypot(down, across).max(axis=2)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([], "an empty list"),
        (["HorizontalFlip"], "expected {transform: NAME"),
        ([{"p": 0.5}], "expected {transform: NAME"),
        ([{"transform": "HorizontalFlop"}], "did you mean 'HorizontalFlip'"),
        ([{"transform": "Perspective"}], "labels can follow: a corner can get behind the camera; policy ucf101_torch"),
        ([{"transform": "CopyPaste"}], "to paste one takes its mask; `online.mosaic` mixes images"),
        ([{"transform": "RandomResizedCrop"}], "labels can follow; expected one of HorizontalFlip, VerticalFlip"),
        ([{"transform": "os.system"}], "no transform of that name"),
        ([{"transform": "ElasticTransform"}], "no transform of that name that labels can follow"),
        ([{"transform": "Rotate", "limt": 5}], "0: Rotate.limt: no such argument; did you mean 'limit'"),
        ([{"transform": "Rotate", "crop_border": True}], "Rotate.crop_border: no such argument"),
        ([{"transform": "Rotate", "limit": "far"}], "0: Rotate: limit: .*found 'far'"),
        ([{"transform": "Rotate", "border_mode": "reflect"}], "Rotate.border_mode: found 'reflect'; expected constant"),
        ([{"transform": "Rotate", "border_mode": "constnt"}], "did you mean 'constant'"),
        ([{"transform": "Affine", "border_mode": 4}], "Affine.border_mode: found 4"),
        ([{"transform": "ToGray", "p": 2}], "0: ToGray.p: found 2; expected a number from 0 to 1"),
        ([{"transform": "ToGray", "p": math.nan}], "0: ToGray.p: found nan; expected a number from 0 to 1"),
        ([{"transform": "ToGray", "p": None}], "0: ToGray.p: found None; expected a number from 0 to 1"),
        ([{"transform": False}], "expected {transform: NAME, p: 0.5, ...}, found {'transform': False}"),
        ([{"transform": "no"}], "0: no: no transform of that name .* expected one of HorizontalFlip, VerticalFlip, "),
        ([{"transform": "Affine", "fit_output": True}], "Affine.fit_output: no such argument"),
        ([{"transform": "Affine", "scale": [0, 0]}], "Affine.scale: found 0; expected a number from 0.1 to 10"),
        ([{"transform": "Affine", "scale": {"x": [1, math.nan]}}], "Affine.scale: found nan"),
        ([{"transform": "Affine", "rotate": [0, math.inf]}], "Affine.rotate: found inf; expected a number from"),
        ([{"transform": "Affine", "translate_px": 10**30}], "Affine.translate_px: found 1000"),
        ([{"transform": "Affine", "fill": "nan"}], "Affine.fill: found 'nan'; expected a number from 0 to 255"),
        ([{"transform": "ToGray", "num_output_channels": 1}], r"ToGray: .*found uint8 \[96, 128\]; expected its size"),
        ([{"transform": "ToGray", "num_output_channels": 4}], r"ToGray: .*found uint8 \[96, 128, 4\]"),
        ([{"transform": "ChannelDropout", "channel_drop_range": [1, 3]}], "ChannelDropout.channel_drop_range: found 3"),
        ([{"transform": "ChannelDropout", "fill": 500}], "ChannelDropout.fill: found 500"),
        ([{"transform": "Downscale", "scale_range": [0.001, 0.5]}], "Downscale.scale_range: found 0.001"),
        ([{"transform": "RandomRain", "drop_length": 1000}], "RandomRain.drop_length: found 1000"),
        ([{"transform": "RandomShadow", "shadow_roi": [0, 0, 0, 0]}], "RandomShadow: .*ValueError: high <= 0"),
        ([{"transform": "Sharpen", "method": "gaussian", "kernel_size": 4}], "Sharpen: on an image of 128 x 96"),
        ([{"transform": "ShotNoise", "scale_range": [0, 0]}], "ShotNoise.scale_range: found 0"),
        ([{"transform": "GaussianBlur", "sigma_limit": [1e5, 1e5]}], "GaussianBlur.sigma_limit: found 100000.0"),
        ([{"transform": "ZoomBlur", "step_factor": [1e-9, 1e-9]}], "ZoomBlur.step_factor: found 1e-09"),
        (
            [{"transform": "CoarseDropout", "num_holes_range": [1, 100000]}],
            "num_holes_range: found 100000",
        ),
        ([{"transform": "GridDropout", "holes_number_xy": [1000, 1000]}], "GridDropout.holes_number_xy: found 1000"),
        ([{"transform": "CLAHE", "tile_grid_size": [1000, 1000]}], "CLAHE.tile_grid_size: found 1000"),
        ([{"transform": "PlanckianJitter", "temperature_limit": [3, 4]}], r"\[3000, 15000\] range$"),
        ([{"transform": "OneOf"}], "0: OneOf.transforms: expected a list of transforms, found None"),
        ([{"transform": "OneOf", "transforms": []}], "0: OneOf.transforms: expected a list of transforms"),
        ([{"transform": "OneOf", "transforms": [{"transform": "Blurr"}]}], "0: OneOf.0: Blurr: .*did you mean 'Blur'"),
        ([{"transform": "OneOf", "transforms": BLUR, "n": 1}], "OneOf.n: no such argument"),
        (
            [{"transform": "OneOf", "transforms": [*BLUR, *TURN]}],
            "OneOf: Blur, Rotate; expected transforms that move",
        ),
        ([{"transform": "OneOf", "transforms": [{"transform": "Blur", "p": 0}]}], "OneOf: p of each is 0"),
        ([{"transform": "SomeOf", "transforms": BLUR, "n": 2}], "SomeOf.n: found 2; expected how many of its 1"),
        ([{"transform": "SomeOf", "transforms": BLUR, "replace": "no"}], "SomeOf.replace: found 'no'"),
        ([{"transform": "Sequential", "transforms": [*TURN, *TURN]}], "Rotate and Rotate: the second would bring back"),
        ([{"transform": "SomeOf", "transforms": [*TURN, *FLIP], "n": 2, "replace": True}], "Rotate: the second would"),
        ([*TURN, {"transform": "OneOf", "transforms": [*FLIP, *TURN]}], "Rotate and Rotate: the second would bring"),
        (DEEP, "more than 4 blocks in each other"),
        ([{"transform": "Rotate"}, {"transform": "Affine"}], "Rotate and Affine: the second would bring back"),
    ],
)
def test_what_is_wrong_in_a_list_is_named(steps, message):
    with pytest.raises(InputError, match=message):
        checked(steps)


def test_a_list_is_kept_with_its_chance_and_draws_the_same_when_it_is_read_again():
    kept = checked(LIST)
    assert kept[0] == {"transform": "HorizontalFlip", "p": 0.5} and kept == checked(json.loads(json.dumps(kept)))
    first, second = augmenter(LIST), pickle.loads(pickle.dumps(augmenter(kept)))
    for seed in range(8):
        (one, moved), (other, again) = (a(picture(), [GOAT], seed) for a in (first, second))
        assert (one == other).all() and moved == again and (one != picture()).any()


def test_blocks_in_a_list_draw_as_albumentations_does_and_labels_follow():
    kept = checked(NESTED)
    assert kept == checked(json.loads(json.dumps(kept))) and kept[2]["transforms"][1]["transforms"][0]["p"] == 0.5
    samples = [Sample(str(i), f"{i}.jpg", 96, 72, objects=[GOAT]) for i in range(8)]
    found = self_test(augmenter(NESTED, ((0, 1),)), samples, 0, noise, "policy")
    assert found["landmark_error_px"] < 0.5 and found["box_error_px"] < 2 and found["landmarks"] > 10
    assert 0 < found["mirrored"] < found["draws"]
    look, pixels = augmenter([NESTED[2] | {"p": 1.0}]).look, noise(samples[0])
    gray = [np.ptp(look(pixels, seed).astype(int), axis=2).max() == 0 for seed in range(16)]
    assert 0 < sum(gray) < 16  # OneOf has 0.5 where nothing is stated


@pytest.mark.parametrize("name", [*FLIPS, *WARPS])
def test_every_transform_that_moves_moves_labels_alike(name):
    samples = [Sample(str(i), f"{i}.jpg", 96, 72, objects=[GOAT]) for i in range(6)]
    found = self_test(augmenter([{"transform": name, "p": 1.0}]), samples, 0, noise, "policy")
    assert found["landmark_error_px"] < 0.5 and found["box_error_px"] < 2 and found["landmarks"] > 10
    pixels, objects = np.zeros((72, 96, 3), np.uint8), [GOAT, Object("goat", (0.0, 0.8, 0.1, 0.2), [Landmark(0, 1)])]
    for seed in range(8):
        moved = augmenter([{"transform": name, "p": 1.0}]).move(pixels, objects, seed)[1]
        assert [len(o.landmarks) for o in moved] == [2, 1]


@pytest.mark.parametrize("name", LOOKS)
def test_every_other_transform_leaves_everything_where_it_is(name):
    augment, pixels = augmenter([{"transform": name, "p": 1.0}]), picture()
    before, ways = edges(pixels), [(x, y) for x in (-8, 0, 8) for y in (-8, 0, 8)]
    for seed in range(3):
        looked, (moved,) = augment(pixels, [GOAT], seed)
        assert moved == GOAT and looked.shape == pixels.shape and looked.dtype == np.uint8
        after = edges(looked)[8:-8, 8:-8]
        seen = {(x, y): before[8 + y : 104 + y, 8 + x : 136 + x] for x, y in ways}
        likeness = {way: np.corrcoef(there.ravel(), after.ravel())[0, 1] for way, there in seen.items()}
        assert likeness[0, 0] == max(likeness.values()), name


def test_names_are_known_once():
    assert len(set(KNOWN)) == len(KNOWN)


PARAMS = """
datasets:
  herd: {{format: coco, path: a, labels: b, augment: {{policy: {offline}}}}}
runs:
  goats: {{dataset: herd, task: {task}, train: {{online: {{policy: {online}}}}}}}
"""


def test_both_places_take_a_list_and_keep_it(tmp_path):
    text = PARAMS.format(offline=json.dumps(LIST), online=json.dumps(LIST), task="detect")
    (tmp_path / "params.yaml").write_text(text)
    resolved = resolve(tmp_path / "params.yaml")
    written = tmp_path / "resolved.yaml"
    written.write_text(resolved_text(resolved))
    read = Resolved(written)
    run = read.blocks(AnyRun, "runs", "goats", only=TRAINED_BY)
    offline = read.block(AugmentParams, "datasets", "herd", "augment")
    assert run.train.online.policy == offline.policy == checked(LIST)
    assert resolved_text(resolve(tmp_path / "params.yaml")) == written.read_text()


@pytest.fixture
def pixels(monkeypatch):
    """A policy of this name, that moves no labels."""
    monkeypatch.setitem(POLICIES, "pixels", POLICIES["photo"]._replace(tasks=("classify",)))


@pytest.mark.parametrize(
    ("offline", "online", "task", "message"),
    [
        ("none", "pixels", "detect", "runs.goats.*train.online.policy: policy 'pixels' moves no boxes"),
        ("none", "pixels", "localize", "for classify, not for localize"),
        ("pixels", "none", "detect", "datasets.herd.augment.policy: policy 'pixels' .* run 'goats'"),
        ("none", "copy_paste", "detect", "runs.goats.train.online.policy: .*'copy_paste': .* takes its mask"),
        ("none", "mixup", "detect", "`online.mixup`, of a classifier"),
        ("none", "5", "detect", "expected the name of a policy, or a list of transforms, found 5"),
        ("none", "[{transform: Rotat}]", "detect", "0: Rotat: no transform of that name .* did you mean 'Rotate'"),
    ],
)
def test_a_policy_that_does_not_fit_is_named_with_its_place(tmp_path, pixels, offline, online, task, message):
    text = PARAMS.format(offline=offline, online=online, task=task)
    with pytest.raises(InputError, match=message):
        parse_params(text, tmp_path / "params.yaml")


def test_a_policy_that_moves_no_labels_is_refused_where_images_have_objects(tmp_path, pixels):
    (tmp_path / "in/train").mkdir(parents=True)
    write_samples(tmp_path / "in/train", [Sample("a", "a.jpg", 96, 72, objects=[GOAT])])
    write_dataset(tmp_path / "in", Dataset("herd", ["goat"]))
    with pytest.raises(InputError, match="images with objects; policy 'pixels' moves no boxes"):
        augment_dataset(tmp_path / "in", tmp_path / "out", tmp_path / "report", AugmentParams(policy="pixels"))

"""Steps for training alone: what OpenCV does to copies of training images, the same bytes each time."""

import json
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter
from test_augment_offline import files_of, ingested

from pipeline.augment import offline
from pipeline.augment.filters import FILL, filtered, grabcut, non_local_means
from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.augment.steps import STEPS, Steps, before_the_net
from pipeline.config.params import parse_params
from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object, read_dataset, read_samples
from pipeline.ops.steps import STEPS as ON_PHONE
from stages import augment as stage

CUT = {"around": "objects", "share": 0.8, "iterations": 2, "opening": 3, "closing": 3}
DISC = Object("cow", (0.25, 0.2, 0.5, 0.6))


def steps(*said):
    return TypeAdapter(Steps).validate_python(list(said))


def disc(seed: int = 0, side: int = 48) -> np.ndarray:
    """A bright disc on dark noise, in the box of DISC."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side] + 0.5
    inside = ((x / side - 0.5) / 0.2) ** 2 + ((y / side - 0.5) / 0.25) ** 2 <= 1
    dark, bright = rng.integers(0, 80, (side, side, 3)), rng.integers(170, 256, (side, side, 3))
    return np.where(inside[..., None], bright, dark).astype(np.uint8)


def test_grabcut_finds_what_the_box_is_around():
    pixels = disc()
    cut, ellipses = grabcut(pixels, [DISC], 1, **CUT)
    kept = (cut != FILL).any(axis=-1)
    assert ellipses == 0
    assert np.count_nonzero(kept != (pixels.mean(axis=-1) > 125)) < 25, "but for the rim"
    assert (cut[kept] == pixels[kept]).all()


def quilt() -> np.ndarray:
    """Patches of nine colours, some more frequent in the middle and some around it: what is foreground is a matter of
    where k-means begins.
    """
    rng = np.random.default_rng(2)
    palette, middle = rng.integers(0, 256, (9, 3)), np.zeros((16, 16), bool)
    middle[4:-4, 4:-4] = True
    colours = np.where(middle, rng.integers(0, 6, (16, 16)), rng.integers(3, 9, (16, 16)))
    pixels = np.kron(palette[colours], np.ones((3, 3, 1), int)) + rng.integers(-20, 21, (48, 48, 3))
    return np.clip(pixels, 0, 255).astype(np.uint8)


def test_what_else_opencv_says_in_grabcut_is_not_taken_for_too_few_pixels(monkeypatch):
    def full(*_):
        error = cv2.error("out of memory")
        error.code = cv2.Error.StsNoMem
        raise error

    monkeypatch.setattr(cv2, "grabCut", full)
    with pytest.raises(cv2.error, match="out of memory"):
        grabcut(disc(), [DISC], 1, **CUT)


def test_grabcut_is_the_same_whatever_ran_before_it():
    """k-means draws from OpenCV's generator of the thread, which others use and imgaug sets back."""
    jobs = [(seed, threads) for seed in range(8) for threads in (1, 4)]
    random.Random(0).shuffle(jobs)
    pixels, cow, knobs = quilt(), Object("cow", (0.25, 0.25, 0.5, 0.5)), {**CUT, "iterations": 1, "opening": 1}

    def one(job: tuple[int, int]) -> tuple[int, bytes]:
        seed, threads = job
        cv2.setNumThreads(threads)
        cv2.randu(np.zeros((3, 3), np.uint8), 0, 255)  # another user
        return seed, grabcut(pixels, [cow], seed, **{**knobs, "closing": 1})[0].tobytes()

    before = cv2.getNumThreads()
    with ThreadPoolExecutor(4) as pool:
        found = [one(job) for job in jobs] + list(pool.map(one, jobs))
    cv2.setNumThreads(before)
    assert len(set(found)) == 8
    assert len({cut for _, cut in found}) > 1, "other seeds cut otherwise, or there would be nothing to find"


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from(["flat", "noise", "halves"]),
    st.tuples(*[st.floats(-0.2, 1)] * 2, *[st.floats(0, 1.3)] * 2),
    st.sampled_from([1, 3, 9]),
)
def test_grabcut_never_raises_and_stays_in_its_box(width, height, kind, box, side):
    pixels = np.full((height, width, 3), 30, np.uint8)
    if kind == "noise":
        pixels = np.random.default_rng(0).integers(0, 100, pixels.shape, dtype=np.uint8)
    elif kind == "halves":
        pixels[:, width // 2 :] = 90
    cut, ellipses = grabcut(pixels, [Object("a", box)], 0, **{**CUT, "opening": side, "closing": side})
    kept = (cut == pixels).all(axis=-1)
    left, top = (min(n - 1, max(0, round(v * n))) for v, n in zip(box[:2], (width, height), strict=True))
    right, bottom = (max(a + 1, round((v + s) * n)) for a, v, s, n in
                     zip((left, top), box[:2], box[2:], (width, height), strict=True))  # fmt: skip
    assert kept[top:bottom, left:right].any() and ellipses in (0, 1)
    kept[top:bottom, left:right] = False
    assert not kept.any()


@pytest.mark.parametrize(
    ("pixels", "box"),
    [
        (disc(), (0.5, 0.5, 0.001, 0.001)),  # a pixel
        (np.full((40, 40, 3), 7, np.uint8), (0.2, 0.2, 0.6, 0.6)),  # one colour: nothing to tell apart
        (np.full((3, 3, 3), 7, np.uint8), (0.0, 0.0, 1.0, 1.0)),
    ],
)
def test_an_ellipse_takes_the_place_of_a_foreground_that_is_none(pixels, box):
    cut, ellipses = grabcut(pixels, [Object("a", box)], 0, **CUT)
    assert ellipses == 1
    assert (cut == pixels).all(axis=-1).any()


def test_a_box_as_large_as_the_image_leaves_a_background():
    cut, ellipses = grabcut(disc(), [Object("a", (0, 0, 1, 1))], 0, **CUT)
    kept = (cut != FILL).any(axis=-1)
    assert ellipses == 0 and 0.05 < kept.mean() < 0.5


def test_a_landmark_is_never_on_grey():
    """Where GrabCut takes an ear for background, its label would have nothing to name."""
    ear = Landmark(0.3, 0.25)
    assert (grabcut(disc(), [DISC], 0, **CUT)[0][12, 14] == FILL).all()
    shown = grabcut(disc(), [Object(DISC.label, DISC.box, [ear])], 0, **CUT)[0]
    assert (shown[12, 14] == disc()[12, 14]).all()
    absent = grabcut(disc(), [Object(DISC.label, DISC.box, [Landmark(0.3, 0.25, 0)])], 0, **CUT)[0]
    assert (absent[12, 14] == FILL).all()


def test_images_without_objects_stay_and_the_middle_needs_none():
    assert (grabcut(disc(), [], 0, **CUT)[0] == disc()).all()
    assert (grabcut(disc(), [], 0, **{**CUT, "around": "centre"})[0][0, 0] == FILL).all()


def test_non_local_means_is_told_which_channel_is_blue():
    pixels = disc(side=24)
    pixels[..., 2] //= 3
    found = non_local_means(pixels, 10.0, 3, 7)
    theirs = cv2.fastNlMeansDenoisingColored(pixels[..., ::-1].copy(), None, 10.0, 10.0, 3, 7)
    assert (found == theirs[..., ::-1]).all()
    assert (found != cv2.fastNlMeansDenoisingColored(pixels, None, 10.0, 10.0, 3, 7)).any()


@pytest.mark.parametrize("name", ["bilateral", "non_local_means", "clahe", "gaussian", "median", "gray"])
def test_every_step_makes_another_image_of_the_same_size(name):
    pixels = (disc() // 8 + 100).astype(np.uint8)
    found, ellipses = filtered(steps({"step": name, "train_only": True}), pixels, [], 0)
    assert (found.shape, found.dtype, ellipses) == (pixels.shape, np.uint8, 0)
    assert (found != pixels).any()
    if name in ("bilateral", "non_local_means"):
        quiet = pixels[:8, :8].std(axis=(0, 1))
        assert (found[:8, :8].std(axis=(0, 1)) < 0.8 * quiet).all()


def test_filters_make_one_more_copy(tmp_path: Path, monkeypatch):
    asked = steps("gray", {"step": "bilateral", "train_only": True}, {"step": "grabcut", "train_only": True})
    source, params = ingested(tmp_path / "in"), AugmentParams(policy="photo", copies=1)
    made = augment_dataset(source, tmp_path / "out", tmp_path / "report", params, asked)
    assert {k: made[k] for k in ("originals", "copies", "filtered")} == {"originals": 4, "copies": 8, "filtered": 4}
    rows = {row.id: row for row in read_samples(tmp_path / "out")}
    assert set(rows) == {f"s{i}{copy}" for i in range(4) for copy in ("", "~1", "~filtered")}
    for i in range(4):
        copy, original = rows[f"s{i}~filtered"], rows[f"s{i}"]
        assert (copy.objects, copy.group) == (original.objects, original.group or original.id)
        assert (tmp_path / "out" / copy.file_name).is_file()
        assert (tmp_path / "out" / original.file_name).read_bytes() == (
            source / "train" / original.file_name
        ).read_bytes()
    assert read_dataset(tmp_path / "out").preprocess == [{"step": "gray"}], "the others are no phone's"
    assert '"filtered": 4' in (tmp_path / "report" / "self_test.json").read_text()
    once, twice = files_of(tmp_path / "out"), tmp_path / "again"
    monkeypatch.setattr(offline, "FEW", 0)
    augment_dataset(source, twice, tmp_path / "report2", AugmentParams(), asked)  # albumentations takes long to import
    again = files_of(twice)
    assert {name for name in once if "~filtered" in name or "~" not in name} == set(again)
    assert all(once[name] == again[name] for name in again if name.endswith(".jpg")), "in two processes"


def test_without_steps_nothing_is_written_of_them(tmp_path: Path):
    augment_dataset(ingested(tmp_path / "in"), tmp_path / "out", tmp_path / "report", AugmentParams())
    assert "preprocess" not in (tmp_path / "out" / "dataset.json").read_text()
    assert "filtered" not in (tmp_path / "report" / "self_test.json").read_text()


def test_grabcut_around_boxes_that_there_are_none_of(tmp_path: Path):
    source = ingested(tmp_path / "in", labelled=False)
    asked = steps({"step": "grabcut", "train_only": True})
    with pytest.raises(InputError, match=r"herd\.preprocess: grabcut: around: objects, .* expected around: centre"):
        augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(), asked)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", [name for name in STEPS if name not in ON_PHONE])
def test_what_no_phone_has_is_refused_before_the_net(name):
    with pytest.raises(InputError) as refused:
        parse_params(params_of(f"[{name}]"), Path("params.yaml"))
    assert f"datasets.herd.preprocess.0: {name}: no phone has it before the net; expected train_only: true" in str(
        refused.value
    )
    asked = parse_params(params_of(f"[{{step: {name}, train_only: true}}, median]"), Path("params.yaml"))
    assert before_the_net(asked.datasets["herd"].preprocess) == [{"step": "median"}]


def params_of(preprocess: str) -> str:
    return f"datasets: {{herd: {{format: coco, path: a, labels: b, preprocess: {preprocess}}}}}"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("[grey]", "datasets.herd.preprocess.0.step: 'grey' is not one of .*did you mean 'gray'"),
        ("[gray, {step: medain}]", "datasets.herd.preprocess.1.step: 'medain' is not one of .*did you mean 'median'"),
        ("[{step: gaussian, sied: 3}]", "datasets.herd.preprocess.0.sied: unknown key; did you mean 'side'"),
        ("[{step: gray, side: 3}]", "datasets.herd.preprocess.0.side: unknown key; it goes with step: gaussian"),
        ("[{step: gaussian, side: 4}]", "datasets.herd.preprocess.0.side: input should be 3 or 5, found 4"),
        ("[{side: 3}]", "datasets.herd.preprocess: .*found {.side.: 3}; expected a list of steps"),
        ("gray", "datasets.herd.preprocess: .*found .gray.; expected a list of steps"),
        ("[{step: grabcut, around: center, train_only: true}]", "preprocess.0.around: input should be 'objects' or"),
    ],
)
def test_a_wrong_step_is_named(said, told):
    with pytest.raises(InputError, match=told):
        parse_params(params_of(said), Path("params.yaml"))


def test_the_stage_says_what_was_filtered(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ingested(tmp_path / "data/ingested/herd", images=2)
    asked = [{"step": "gray"}, {"step": "grabcut", "around": "centre", "train_only": True}]
    block = {"augment": {"policy": "none", "copies": 0, "seed": 0}, "preprocess": asked}
    (tmp_path / "resolved.yaml").write_text(json.dumps({"datasets": {"herd": block}}))
    line = stage.main("herd")
    assert line.startswith("data/augmented/herd: 2 images and 0 copies by policy none, 2 by grabcut")
    found = json.loads((tmp_path / "reports/augment/herd/self_test.json").read_text())
    assert (f"({found['ellipses']} foregrounds are an ellipse)" in line) == bool(found["ellipses"])

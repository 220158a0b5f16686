"""Steps between the resize and the net: the same bytes in training, on the phone and in `replay.py`."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from shipped import SIDE, spec_of

from pipeline.augment.policies import augmenter
from pipeline.core.errors import InputError
from pipeline.core.sample import Sample, write_samples
from pipeline.core.spec import read_spec, write_spec
from pipeline.export.bundle import replay
from pipeline.export.calibration import stored
from pipeline.export.card.card import _way
from pipeline.export.card.contract import preprocessing
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams
from pipeline.inference.sliding import Slider, slide
from pipeline.ops.preprocess import prepare, resize
from pipeline.ops.steps import STEPS, apply_steps
from pipeline.runtimes.answers import predict_image
from pipeline.training.loading import Draw, ImageDataset

EACH: list[dict[str, Any]] = [
    {"step": "gray"},
    {"step": "gaussian", "side": 3},
    {"step": "gaussian", "side": 5},
    {"step": "median"},
]
ALL: list[dict[str, Any]] = [{"step": "median"}, {"step": "gray"}, {"step": "gaussian", "side": 5}]
RULES = ("stretch", "letterbox", "crop")


def noise(width: int, height: int, seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    pixels[: height // 3], pixels[-height // 4 :] = 255, 0  # the ends of the scale too
    return pixels


def by_library(step: dict[str, Any], pixels: np.ndarray) -> np.ndarray:
    match step["step"]:
        case "gray":
            return np.asarray(Image.fromarray(pixels).convert("L").convert("RGB"))
        case "gaussian":
            side = step["side"]
            return cv2.GaussianBlur(pixels, (side, side), 0, borderType=cv2.BORDER_REPLICATE)
        case _:
            return cv2.medianBlur(pixels, 3)


@pytest.mark.parametrize("step", EACH, ids=str)
@pytest.mark.parametrize(("width", "height"), [(64, 64), (33, 17), (1, 1), (2, 1), (1, 3)])
def test_a_step_has_the_bytes_of_the_library_that_it_is_named_after(step, width, height):
    pixels = noise(width, height)
    kept = pixels.copy()
    found = apply_steps([step], pixels)
    assert found.dtype == np.uint8 and (found == by_library(step, pixels)).all()
    assert (pixels == kept).all()


@pytest.mark.parametrize("step", EACH, ids=str)
def test_a_step_changes_something(step):
    assert (apply_steps([step], noise(16, 16)) != noise(16, 16)).any()


def test_all_steps_are_tried_here():
    assert {step["step"] for step in EACH} == set(STEPS)


def test_an_unknown_step_is_named():
    with pytest.raises(InputError, match="preprocess: no phone has the step 'grey'; did you mean 'gray'"):
        apply_steps([{"step": "grey"}], noise(4, 4))


@pytest.mark.parametrize("steps", [[step] for step in EACH] + [ALL], ids=str)
@pytest.mark.parametrize("rule", RULES)
def test_replay_prepares_images_as_we_do(steps, rule):
    spec = replace(spec_of("classify"), resize=rule, preprocess=steps)
    contract = json.loads(json.dumps(preprocessing(spec)))
    image = Image.fromarray(noise(90, 50))
    assert (replay.canvas(image, contract)[0] == prepare(image, spec)[0]).all()


def test_replay_names_a_step_that_it_does_not_know():
    contract = preprocessing(spec_of("classify")) | {"preprocess": [{"step": "clahe"}]}
    with pytest.raises(ValueError, match="step 'clahe'; this script knows gray, gaussian and median"):
        replay.canvas(Image.new("RGB", (9, 9)), contract)


def test_the_contract_says_each_step_in_words():
    said = preprocessing(replace(spec_of("classify"), preprocess=EACH))["preprocess"]
    assert [{k: v for k, v in step.items() if k != "does"} for step in said] == EACH
    assert all(len(step["does"]) > 20 for step in said)
    assert preprocessing(spec_of("classify"))["preprocess"] == []


def test_the_card_names_them():
    assert _way(replace(spec_of("classify"), preprocess=ALL)) == "stretch, then median, then gray, then gaussian 5"
    assert _way(spec_of("classify")) == "stretch"


def test_model_json_keeps_the_steps_and_is_what_it_was_without_any(tmp_path: Path):
    spec = replace(spec_of("classify"), preprocess=ALL)
    write_spec(tmp_path / "model.json", spec)
    assert read_spec(tmp_path / "model.json").preprocess == ALL
    write_spec(tmp_path / "model.json", spec_of("classify"))
    assert "preprocess" not in json.loads((tmp_path / "model.json").read_text())


class Echo:
    """A runtime that keeps what it was given."""

    threads = 1

    def __init__(self) -> None:
        self.given: list[np.ndarray] = []

    def run(self, images: np.ndarray) -> list[np.ndarray]:
        self.given += list(images)
        return [np.zeros((len(images), 3), np.float32)]


def test_whatever_answers_is_fed_with_them():
    spec, image, runtime = replace(spec_of("classify"), preprocess=ALL), Image.fromarray(noise(90, 50)), Echo()
    predict_image(runtime, spec, image)
    wanted = apply_steps(ALL, resize(image, SIDE, spec.resize)[0])
    assert (runtime.given[0] == wanted).all()


def test_windows_are_cut_from_an_image_that_went_through_them():
    given = []

    def windows(canvas: np.ndarray) -> np.ndarray:
        given.append(canvas)
        return np.zeros((3, 1, 1), np.float32)

    spec = replace(spec_of("classify"), preprocess=[{"step": "gray"}])
    slide(Slider(spec, windows, 32, spec.labels[0], np.ones((3, 4))), Image.new("RGB", (64, 64), "red"), [1.0], 0.5)
    assert set(given[0].reshape(-1, 3)[:, 0].tolist()) == {114, 76}
    assert (given[0] == given[0][..., :1]).all()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    Image.fromarray(noise(90, 50)).save(tmp_path / "0.png")
    write_samples(tmp_path, [Sample("0", "0.png", 90, 50, label="circle")])
    return tmp_path


def test_training_goes_through_them_after_augmentation(folder: Path):
    """A phone's camera varies the light first: no coloured pixel reaches a net that sees grey ones."""
    samples = [Sample("0", "0.png", 90, 50, label="circle")]
    spec = replace(spec_of("classify"), preprocess=[{"step": "gray"}])
    varied = ImageDataset(folder, samples, spec, augmenter("photo"))
    plain = ImageDataset(folder, samples, replace(spec, preprocess=[]), augmenter("photo"))
    varied.room = plain.room = 10**6
    for seed in range(3):
        for key in (0, Draw(0, seed), Draw(0, seed, (0, 0, 0))):
            assert (varied[key][0] == apply_steps(spec.preprocess, plain[key][0])).all()
    assert (plain[Draw(0, 1)][0] != plain[Draw(0, 1)][0][..., :1]).any(), "there was colour to lose"


def test_ranges_of_int8_come_from_what_went_through_them(folder: Path):
    spec = replace(spec_of("classify"), preprocess=ALL)
    images = stored(folder / "calibration.npy", folder, [Sample("0", "0.png", 90, 50)], spec)
    assert (images[0, 0] == prepare(Image.fromarray(noise(90, 50)), spec)[0]).all()


def test_export_refuses_a_step_that_no_phone_has(folder: Path):
    """As a model.json may have one that was written by hand, or by another version."""
    write_spec(folder / "model.json", replace(spec_of("classify"), preprocess=[{"step": "non_local_means"}]))
    with pytest.raises(InputError, match=r"model\.json: preprocess: no phone has the step 'non_local_means'"):
        export_run(folder, folder, folder / "out", ExportParams())
    assert not (folder / "out").exists()

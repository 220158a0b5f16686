"""Offline copies: every original with its copies, the same bytes each time, and a self-test that would notice."""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter, ValidationError

from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.augment.policies import POLICIES, Augment, Row, augmenter
from pipeline.augment.policies.policy import BORDER, Pixels, Points, Policy
from pipeline.augment.policies.selftest import self_test
from pipeline.augment.steps import Steps
from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.sample import (
    Dataset,
    Landmark,
    Object,
    Sample,
    read_dataset,
    read_samples,
    write_dataset,
    write_samples,
)
from stages import augment as stage

ROOT = Path(__file__).parent.parent
PAIRS = ((0, 1), (2, 3))
MIRRORING = ("photo_geometry", "photo_zoom", "alpaca_lab", "ucf101_torch", "imgaug_ucf101", "imgaug_ucf101_warped")


def animal(x: float = 0.3) -> Object:
    spots = [(0.34, 0.36), (0.66, 0.36), (0.38, 0.57), (0.62, 0.57), (0.5, 0.45)]
    return Object("alpaca", (x, 0.3, 0.4, 0.3), [Landmark(a + x - 0.3, b) for a, b in spots])


def noise(sample: Sample) -> Pixels:
    return np.random.default_rng(0).integers(0, 255, (sample.height, sample.width, 3), dtype=np.uint8)


@pytest.mark.parametrize("policy", POLICIES)
def test_self_test_finds_labels_where_the_pixels_are(policy):
    samples = [Sample(str(i), f"{i}.jpg", 120, 90, objects=[animal()] if i % 3 else []) for i in range(8)]
    found = self_test(augmenter(policy, PAIRS), samples, 0, noise, "policy")
    assert found["landmark_error_px"] < 0.5 and found["box_error_px"] < 2
    assert found["landmarks"] > 12 and found["boxes"] > 6
    assert (found["mirrored"] > 1) == (policy in MIRRORING)


def shifted(pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
    """The pixels go 5 px to the right, and the labels stay."""
    return np.roll(pixels, 5, axis=1), points


def mirrored(pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
    """Pixels and labels are mirrored, and the three points that would tell it are not."""
    return pixels[:, ::-1], np.concatenate([points[:3], points[3:] * (-1, 1) + (1, 0)])


def shrunk(pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
    """The image is shrunk to half about its middle; the first box goes where its middle goes and keeps its size."""
    height, width = pixels.shape[:2]
    small = np.full_like(pixels, BORDER)
    left, top = width // 4, height // 4
    small[top : top + height // 2, left : left + width // 2] = pixels[: height // 2 * 2 : 2, : width // 2 * 2 : 2]
    moved = points * 0.5 + 0.25
    moved[3:35] += (points[3:35] - points[3:35].mean(axis=0)) * 0.5
    return small, moved


def kept(pixels: Pixels, points: Points, seed: int) -> tuple[Pixels, Points]:
    """Half of the image is moved out; labels that left are kept on its edge."""
    width = pixels.shape[1] // 2
    moved = np.full_like(pixels, BORDER)
    moved[:, width:] = pixels[:, : pixels.shape[1] - width]
    return moved, np.clip(points + np.array([0.5, 0]), 0, 1)


def emptied(pixels: Pixels, seed: int) -> Pixels:
    return np.full_like(pixels, 128) if seed % 2 == 0 else pixels


FAULTS = {
    "shifted": (Policy(shifted), r"s0: landmark 0 is at .* but the image shows it at"),
    "mirrored": (Policy(mirrored), r"s0: landmark 0 is at .* but the image shows it at"),
    "shrunk": (Policy(shrunk), r"s0: a box is at .* but the image shows it at"),
    "kept": (Policy(kept), r"s0: landmark 1 is at .* px, but has left the image"),
    "emptied": (
        Policy(look=emptied),
        r"^datasets.herd.augment.policy: emptied: of 24 draws \d+ show .* expected 5 at most",
    ),
}


def planted() -> Policy:
    return FAULTS[os.environ["PLANTED"]][0]


@pytest.fixture(params=FAULTS)
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A policy with a fault, by its name."""
    monkeypatch.setenv("PLANTED", request.param)
    monkeypatch.setitem(POLICIES, request.param, Row("test_augment_offline:planted"))
    return str(request.param)


def test_self_test_notices_a_planted_fault(fault, tmp_path):
    """On the whole stage, which leaves nothing behind: no later stage runs."""
    source = ingested(tmp_path / "in", images=12)
    with pytest.raises(RuntimeError if fault != "emptied" else InputError, match=FAULTS[fault][1]):
        augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(policy=fault, copies=1))
    assert not (tmp_path / "out").exists() and not (tmp_path / "report").exists()


def test_boxes_without_landmarks_are_moved_for_no_landmark(monkeypatch):
    """Each move takes all of an image's objects along: of a hundred boxes that took a minute."""
    moves = []
    move = Augment.move
    monkeypatch.setattr(Augment, "move", lambda *given: moves.append(1) or move(*given))
    boxes = [Object("cell", (i % 10 / 10, i // 10 / 10, 0.05, 0.05)) for i in range(100)]
    found = self_test(augmenter("photo_zoom"), [Sample("0", "0.jpg", 300, 300, objects=boxes)], 0, noise, "policy")
    assert found["boxes"] > 3
    assert len(moves) < 30


def test_a_few_odd_images_do_not_stop_a_policy(monkeypatch):
    monkeypatch.setitem(POLICIES, "odd", Row("test_augment_offline:odd"))
    samples = [Sample(str(i), f"{i}.jpg", 40, 30 + (i < 2)) for i in range(16)]  # two, with two draws each
    assert self_test(augmenter("odd"), samples, 0, noise, "policy")["emptied"] == 4


def odd() -> Policy:
    return Policy(look=lambda pixels, seed: np.zeros_like(pixels) if len(pixels) == 31 else pixels)


@pytest.mark.parametrize("policy", POLICIES)
def test_an_image_however_small_or_narrow_is_varied_or_left_as_it_is(policy):
    """A look that is wider than an image, superpixels of one row, colours of one pixel."""
    augment = augmenter(policy, PAIRS)
    for height, width in ((1, 1), (2, 2), (1, 300), (300, 1), (7, 40), (8, 8)):
        pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        for seed in range(8):
            varied, (moved,) = augment(pixels, [animal()], seed)
            assert varied.shape == pixels.shape and varied.dtype == np.uint8 and len(moved.landmarks) == 5


def test_a_step_that_fails_names_the_image_the_policy_and_the_transform(tmp_path):
    policy = [{"transform": "GridDropout", "unit_size_range": [61, 62], "p": 1.0}]  # of images of 80 x 60
    source = ingested(tmp_path / "in")
    with pytest.raises(InputError, match=r'^s0: policy \[{"transform": "GridDropout".*: GridDropout: ValueError: Grid'):
        augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(policy=policy, copies=1))


def test_a_copy_has_the_size_that_its_row_says(tmp_path, monkeypatch):
    source = ingested(tmp_path / "in")
    write_samples(source / "train", [replace(s, width=s.width + 1) for s in read_samples(source / "train")])
    with pytest.raises(InputError, match=r"s0.jpg: its copy is 80 x 60 pixels; expected 81 x 60, as its row"):
        augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(policy="photo", copies=1))
    assert not (tmp_path / "out").exists()


def test_copies_are_bounded():
    with pytest.raises(ValidationError, match="less than or equal to 1000"):
        AugmentParams(copies=10**23)


def ingested(folder: Path, labelled: bool = True, images: int = 4) -> Path:
    """An ingested dataset whose train split has one image without objects, and an image label if not `labelled`."""
    (folder / "train" / "deep").mkdir(parents=True)
    rows = []
    for i in range(images):
        row = Sample(f"s{i}", f"deep/s{i}.jpg", 80, 60, split="train", group="g" if i else None)
        row.label, row.objects = (None, [animal()] if i else []) if labelled else ("alpaca", [])
        pixels = np.random.default_rng(i).integers(0, 255, (60, 80, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "train" / row.file_name, quality=95)
        rows.append(row)
    write_samples(folder / "train", rows)
    names = ["left_ear", "right_ear", "left_foot", "right_foot", "nose"] if labelled else []
    write_dataset(folder, Dataset("herd", ["alpaca"], names, list(PAIRS) if labelled else [], counts={"train": images}))
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("copies", [0, 2])
@pytest.mark.parametrize("labelled", [True, False])
def test_offline_copies(tmp_path, copies, labelled):
    source = ingested(tmp_path / "in", labelled)
    params = AugmentParams(policy="photo_geometry", copies=copies, seed=5)
    made = augment_dataset(source, tmp_path / "out", tmp_path / "report", params)
    rows = read_samples(tmp_path / "out")
    counts = {"originals": 4, "copies": 4 * copies, "stayed": 0, "filtered": 0, "ellipses": 0}
    assert made == counts and len(rows) == 4 + 4 * copies
    originals = {row.id: row for row in read_samples(source / "train")}
    for row in rows:
        original = originals[row.id.split("~")[0]]
        assert (row.label, row.split, len(row.objects)) == (original.label, "train", len(original.objects))
        assert Image.open(tmp_path / "out" / row.file_name).size == (row.width, row.height)
        assert row == original or (row.group == (original.group or original.id) and "~" in row.id)
    assert (tmp_path / "out/deep/s1.jpg").samefile(source / "train/deep/s1.jpg")
    assert read_dataset(tmp_path / "out").counts == {"train": len(rows)}
    assert set(files_of(tmp_path / "report")) == {"contact_sheet.jpg", "self_test.json"}


@pytest.mark.parametrize(("copies", "step"), [(1, []), (0, ["bilateral"])])
def test_an_original_that_is_called_as_a_copy_is_refused(tmp_path, copies, step):
    """Of images called cat.jpg and cat~1.jpg, which `ingest` takes, the copy of the one would replace the other."""
    source = ingested(tmp_path / "in")
    rows = read_samples(source / "train")
    called = "1" if copies else "filtered"
    (source / "train" / rows[2].file_name).rename(source / f"train/deep/s1~{called}.jpg")
    rows[2] = replace(rows[2], id=f"s1~{called}", file_name=f"deep/s1~{called}.jpg")
    write_samples(source / "train", rows)
    steps = TypeAdapter(Steps).validate_python([{"step": name, "train_only": True} for name in step])
    with pytest.raises(InputError, match=rf"train: 's1~{called}' \(deep/s1~{called}.jpg\) is called as a copy of 's1'"):
        augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(copies=copies), steps)
    assert not (tmp_path / "out").exists()


def test_copies_of_images_with_a_label_each_are_mirrored_as_in_training(tmp_path):
    """Though the dataset has landmarks of the left and right, and no pairs."""
    source = ingested(tmp_path / "in", labelled=False)
    write_dataset(source, Dataset("herd", ["alpaca"], ["left_ear", "right_ear"], counts={"train": 4}))
    flip = [{"transform": "HorizontalFlip", "p": 1.0}]
    augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(policy=flip, copies=1))
    for row in read_samples(source / "train"):
        mirrored = np.asarray(Image.open(source / "train" / row.file_name), float)[:, ::-1]
        copy = np.asarray(Image.open(tmp_path / f"out/deep/{row.id}~1.jpg"), float)
        assert np.abs(copy - mirrored).mean() < 0.2 * np.abs(copy - mirrored[:, ::-1]).mean()


def test_offline_copies_are_the_same_bytes_from_any_number_of_processes(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.augment.offline.FEW", 0)
    source, params = ingested(tmp_path / "in"), AugmentParams(policy="photo_geometry", copies=2, seed=5)
    for jobs in (1, 2):
        monkeypatch.setenv("LOKY_MAX_CPU_COUNT", str(jobs))
        augment_dataset(source, tmp_path / f"out{jobs}", tmp_path / f"report{jobs}", params)
    assert files_of(tmp_path / "out1") == files_of(tmp_path / "out2")
    assert files_of(tmp_path / "report1") == files_of(tmp_path / "report2")
    less = ingested(tmp_path / "less", images=3)  # the other copies stay what they are
    augment_dataset(less, tmp_path / "out3", tmp_path / "report3", params)
    shared = {k: v for k, v in files_of(tmp_path / "out3").items() if k.endswith(".jpg")}
    assert shared.items() <= files_of(tmp_path / "out1").items()


def test_that_nothing_is_mirrored_is_told(tmp_path, capsys):
    source = ingested(tmp_path / "in")
    write_dataset(source, replace(read_dataset(source), pairs=[]))
    augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(policy="alpaca_lab"))
    assert "herd: never mirrored: landmarks left_ear, right_ear, left_foot look" in capsys.readouterr().out
    assert json.loads((tmp_path / "report/self_test.json").read_text())["mirrored"] == 0


def _without_rows(folder: Path) -> None:
    write_samples(folder / "train", [])


def _without_image(folder: Path) -> None:
    (folder / "train/deep/s2.jpg").unlink()


def _with_half_an_image(folder: Path) -> None:
    path = folder / "train/deep/s2.jpg"
    path.write_bytes(path.read_bytes()[:900])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_without_rows, r"train/metadata.jsonl: no images"),
        (_without_image, r"s2.jpg: no such file"),
        (_with_half_an_image, r"s2.jpg: not an image that decodes"),
    ],
)
def test_what_is_missing_is_named_and_nothing_half_written(tmp_path, spoil, message):
    source = ingested(tmp_path / "in")
    spoil(source)
    with pytest.raises(InputError, match=message):
        augment_dataset(source, tmp_path / "out", tmp_path / "report", AugmentParams(policy="none", copies=1, seed=0))
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".*"))


def test_stage_says_what_it_made(tmp_path, monkeypatch):
    block = read_params(ROOT / "params.yaml").datasets["herd"].augment
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "resolved.yaml", ".")
    ingested(Path("data/ingested/herd"))
    said = stage.main("herd")
    assert said == f"data/augmented/herd: 4 images and {4 * block.copies} copies by policy {block.policy}"
    with pytest.raises(InputError, match="did you mean 'herd'"):
        stage.main("hert")

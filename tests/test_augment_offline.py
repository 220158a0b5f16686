"""Offline copies: every original with its copies, the same bytes each time, and a self-test that would notice."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.augment.policies import POLICIES, Row, augmenter
from pipeline.augment.policies.policy import Policy
from pipeline.augment.selftest import self_test
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


@pytest.mark.parametrize("policy", POLICIES)
def test_self_test_finds_labels_where_the_pixels_are(policy):
    samples = [Sample(str(i), f"{i}.jpg", 120, 90, objects=[animal()] if i % 3 else []) for i in range(8)]
    found = self_test(augmenter(policy, PAIRS), samples, 0)
    assert found["landmark_error_px"] < 0.5 and found["box_error_px"] < 2
    assert found["landmarks"] > 12 and found["boxes"] > 6
    assert (found["mirrored"] > 1) == (policy in MIRRORING)


def flipped_pixels() -> Policy:
    return Policy(geometry=lambda pixels, points, seed: (pixels[:, ::-1], points))


def three_pixels_off() -> Policy:
    return Policy(geometry=lambda pixels, points, seed: (np.roll(pixels, 3, axis=1), points))


@pytest.mark.parametrize("wrong", ["flipped_pixels", "three_pixels_off"])
def test_self_test_fails_where_labels_are_moved_wrongly(wrong, monkeypatch):
    monkeypatch.setitem(POLICIES, wrong, Row(f"test_augment_offline:{wrong}"))
    with pytest.raises(RuntimeError, match=r"cow-7: landmark 0 is at .* but the image shows it at"):
        self_test(augmenter(wrong, PAIRS), [Sample("cow-7", "a.jpg", 120, 90, objects=[animal(0.2)])], 0)


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

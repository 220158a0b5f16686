"""A net's own mean and deviation: of the training images as it sees them, each pixel once."""

import random
from dataclasses import replace
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter, ValidationError
from shared import exported_here
from shipped import spec_of

from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Sample, write_dataset, write_samples
from pipeline.core.spec import read_spec
from pipeline.evaluation.params import ClassifyPredict
from pipeline.export.bundle import replay
from pipeline.export.export import export_run
from pipeline.export.params import ExportParams
from pipeline.models.nets import Deployed, build, load_model
from pipeline.ops.preprocess import prepare
from pipeline.runtimes.targets import open_runtime
from pipeline.training import statistics
from pipeline.training.params import AnyRun
from pipeline.training.statistics import Sums, dataset_normalization, mean_and_deviation, sums_of
from pipeline.training.train import train_run

ALONE: Any = SimpleNamespace(global_rank=0, world_size=1, broadcast=lambda found, _: found)


def images(count: int = 6) -> list[np.ndarray]:
    """Of different sizes and lights: the mean of their own deviations is far from that of all pixels."""
    rng = np.random.default_rng(1)
    sizes = rng.integers(20, 90, (count, 2))
    return [
        np.clip(rng.normal((40 * i + 9, 40 * i, 40 * i - 20), 6 + i, (h, w, 3)), 0, 255).astype(np.uint8)
        for i, (w, h) in enumerate(sizes)
    ]


def write(folder: Path, pictures: list[np.ndarray]) -> list[Sample]:
    folder.mkdir(parents=True)
    rows = []
    for i, pixels in enumerate(pictures):
        Image.fromarray(pixels).save(folder / f"{i}.png")
        height, width = pixels.shape[:2]
        rows.append(Sample(str(i), f"{i}.png", width, height, label=("circle", "cross")[i % 2]))
    write_samples(folder, rows)
    return rows


def test_it_is_numpys_of_all_pixels_together():
    flat = [image.reshape(-1, 3) for image in images()]
    mean, deviation = mean_and_deviation(reduce(Sums.__add__, map(sums_of, images())))
    together = np.concatenate(flat) / 255
    assert mean == pytest.approx(together.mean(axis=0).tolist(), abs=1e-9)
    assert deviation == pytest.approx(together.std(axis=0).tolist(), abs=1e-9)
    apart = np.mean([part.std(axis=0) for part in flat], axis=0) / 255
    assert (np.array(deviation) > 2 * apart).all(), "the mean of deviations is another number"


def test_parts_and_their_order_leave_no_trace():
    rows = np.concatenate([image.reshape(-1, 3) for image in images()])
    whole = mean_and_deviation(sums_of(rows[None]))
    rng = random.Random(0)
    for count in (2, 7, 100):
        parts = np.array_split(rows, sorted(rng.sample(range(1, len(rows)), count)))
        rng.shuffle(parts)
        assert mean_and_deviation(reduce(Sums.__add__, (sums_of(part[None]) for part in parts))) == whole


def test_sums_are_whole_numbers_of_any_size():
    sums = sums_of(np.full((1, 1, 3), 255, np.uint8))
    many = Sums(sums.count * 10**12, tuple(v * 10**12 for v in sums.values), tuple(v * 10**12 for v in sums.squares))
    assert mean_and_deviation(many) == ([1.0] * 3, [0.0] * 3)


@pytest.mark.parametrize("steps", [[], [{"step": "gray"}]], ids=str)
@pytest.mark.parametrize("rule", ["stretch", "letterbox", "crop"])
def test_it_is_of_what_the_net_sees_without_the_bars(rule, steps, tmp_path: Path, monkeypatch):
    spec = replace(spec_of("classify"), resize=rule, preprocess=steps)
    samples = write(tmp_path / "train", images())
    parts = []
    for pixels in images():
        canvas, frame = prepare(Image.fromarray(pixels), spec)
        x, y, w, h = frame.pixels(spec.size) if rule == "letterbox" else (0, 0, spec.size, spec.size)
        parts.append(canvas[y : y + h, x : x + w].reshape(-1, 3) / 255)
    mean, deviation = dataset_normalization(tmp_path / "train", samples, spec, ALONE)
    assert mean == pytest.approx(np.concatenate(parts).mean(axis=0).tolist(), abs=1e-9)
    assert deviation == pytest.approx(np.concatenate(parts).std(axis=0).tolist(), abs=1e-9)


def test_any_number_of_processes_finds_the_same(tmp_path: Path, monkeypatch):
    samples = write(tmp_path / "train", images())
    once = dataset_normalization(tmp_path / "train", samples, spec_of("classify"), ALONE)
    asked = []

    def two(function: Any, items: Any, label: str, jobs: int | None) -> list[Any]:
        asked.append(jobs)
        return [function(item) for item in items]

    monkeypatch.setattr(statistics, "FEW", 0)
    monkeypatch.setattr(statistics, "each", two)
    assert dataset_normalization(tmp_path / "train", samples, spec_of("classify"), ALONE) == once
    assert asked == [None]


@pytest.mark.parametrize("count", [2, 5])
def test_processes_that_train_together_read_a_share_each_and_find_the_same(tmp_path: Path, monkeypatch, count: int):
    samples, spec = write(tmp_path / "train", images())[:4], spec_of("classify")
    whole, read, said = dataset_normalization(tmp_path / "train", samples, spec, ALONE), [], {}
    reading = statistics._sums
    monkeypatch.setattr(statistics, "_sums", lambda *a: read.append(a[2].id) or reading(*a))

    def of(rank: int) -> tuple[list[float], list[float]]:
        """As if each of the others had said what it has found."""

        def broadcast(own: statistics.Sums, of: int) -> statistics.Sums:
            return said.setdefault(of, own) if of == rank else said.get(of, statistics.NOTHING)

        fabric: Any = SimpleNamespace(global_rank=rank, world_size=count, broadcast=broadcast)
        return dataset_normalization(tmp_path / "train", samples, spec, fabric)

    assert [of(rank) for rank in range(count)][-1] == whole
    assert sorted(read) == sorted(s.id for s in samples), "each image once"


def test_images_of_one_colour_have_none(tmp_path: Path):
    samples = write(tmp_path / "train", [np.full((9, 9, 3), (9, 8, 7), np.uint8)] * 2)
    with pytest.raises(InputError, match=r"all pixels have the same red: .*expected model.normalization: pretrained"):
        dataset_normalization(tmp_path / "train", samples, spec_of("classify"), ALONE)


def run(normalization: str, **train: Any) -> Any:
    model = {"backbone": "mobilenetv2_035", "size": 32, "normalization": normalization}
    knobs = {"epochs": 1, "batch_size": 2, "precision": "fp32", "online": {"policy": "none"}, **train}
    return TypeAdapter(AnyRun).validate_python({"dataset": "d", "task": "classify", "model": model, "train": knobs})


def trained(folder: Path, normalization: str, val: list[np.ndarray]) -> Path:
    for split, pictures in (("train", images()), ("val", val)):
        write(folder / split, pictures)
        write_dataset(folder / split, Dataset("d", ["circle", "cross"], preprocess=[{"step": "gray"}]))
    places = folder / "train", folder / "val", folder / "models", folder / "reports"
    train_run("r", run(normalization), *places, folder / "resume", folder / "features", workers=0)
    return folder / "models"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(tmp_path_factory.mktemp("own"), "dataset", images()[:2])


def test_a_run_may_take_its_datasets_own(own: Path, tmp_path: Path):
    spec = read_spec(own / "model.json")
    assert spec.preprocess == [{"step": "gray"}], "of dataset.json beside what it learnt from"
    samples = [Sample(str(i), f"{i}.png", 1, 1) for i in range(6)]
    found = dataset_normalization(own.parent / "train", samples, spec, ALONE)
    assert (spec.mean, spec.std) == found
    other = trained(tmp_path, "dataset", [255 - image for image in images()[:2]])
    assert (read_spec(other / "model.json").mean, read_spec(other / "model.json").std) == found, "val changes nothing"


def test_without_a_word_the_backbones_own_are_kept(tmp_path: Path):
    spec = read_spec(trained(tmp_path, "pretrained", images()[:2]) / "model.json")
    assert (spec.mean, spec.std) == ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    plain = TypeAdapter(AnyRun).validate_python({"dataset": "d", "task": "classify"})
    assert plain.model.normalization == "pretrained"


def test_the_exported_file_has_it_inside_and_its_golden_images_went_through_the_steps(own: Path, tmp_path: Path):
    net, spec = load_model(own)
    asked = ExportParams(targets=["onnx_float"], calibration_images=4)
    with exported_here():
        export_run(own, own.parent / "train", tmp_path / "exports", asked, ClassifyPredict().model_dump())
    with np.load(tmp_path / "exports" / "golden" / "golden.npz") as golden:
        pixels = golden["image"]
    assert len(pixels) == 4 and (pixels == pixels[..., :1]).all(), "gray"
    assert replay.replay(tmp_path / "exports") == 0
    normal = (pixels / 255 - np.array(spec.mean)) / np.array(spec.std)
    with torch.no_grad():
        wanted = net(torch.from_numpy(normal).permute(0, 3, 1, 2).float())[0].numpy()
        other = Deployed(build_like(net, spec), replace(spec, mean=[0.485] * 3, std=[0.229] * 3))
        apart = np.abs(other(torch.from_numpy(pixels))[0].numpy() - wanted).max()
    (found,) = open_runtime("onnx_float", tmp_path / "exports" / "model.onnx").run(pixels)
    assert np.abs(found - wanted).max() < 1e-4 < apart


def build_like(net: Any, spec: Any) -> Any:
    other = build(spec)
    other.load_state_dict(net.state_dict())
    return other


def test_layers_that_stay_frozen_keep_what_they_know():
    said = {"dataset": "d", "task": "classify", "model": {"pretrained": True, "normalization": "dataset"}}
    with pytest.raises(ValidationError, match=r"normalization: dataset, while train\.frozen_epochs leaves pretrained"):
        TypeAdapter(AnyRun).validate_python(said)
    assert TypeAdapter(AnyRun).validate_python({**said, "train": {"frozen_epochs": 0}}).train.epochs

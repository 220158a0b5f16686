"""Training: repeatable, resumed after a kill, and clear about data that teaches nothing."""

import contextlib
import csv
import hashlib
import json
import logging
import math
import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from lightning_fabric.accelerators.mps import MPSAccelerator
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pipeline.config.params import read_params
from pipeline.core import memory
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Object, Sample, read_dataset, read_samples, write_dataset, write_samples
from pipeline.core.spec import read_spec
from pipeline.evaluation.params import DetectPredict
from pipeline.metrics.metrics import judged as by_metric
from pipeline.metrics.metrics import score
from pipeline.models.backbones import learning_order
from pipeline.models.losses import label_weights
from pipeline.models.nets import build, load_model
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import open_runtime
from pipeline.training import devices, loop, mixing
from pipeline.training.cost import Busy, time_left, timing
from pipeline.training.devices import launch
from pipeline.training.loading import ImageDataset, eval_loader, plain_loader
from pipeline.training.optimization import Phase, WholeNet, is_validated, new_optimizer, validation_interval
from pipeline.training.params import ClassifyModel, ClassifyRun, DetectRun
from pipeline.training.progress import SoFar, fine_tuned
from pipeline.training.quick import measure_norms
from pipeline.training.train import check_teaches, make_spec, train_run
from pipeline.training.validation import TIES, validate

ROOT = Path(__file__).parents[1]
RUN: dict[str, Any] = {
    "dataset": "d",
    "task": "classify",
    "model": {"backbone": "mobilenetv2_035", "size": 32, "resize": "stretch"},
    "train": {"epochs": 5, "patience": 5, "batch_size": 8, "learning_rate": 0.003, "precision": "fp32", "seed": 3},
}


def pictures(folder: Path, count: int) -> list[Sample]:
    """Red or blue with noise: two classes."""
    folder.mkdir(parents=True)
    samples = []
    for i in range(count):
        pixels = np.random.default_rng(i).integers(0, 120, (40, 40, 3), dtype=np.uint8)
        pixels[:, :, 2 * (i % 2)] += 100
        Image.fromarray(pixels).save(folder / f"{i}.png")
        samples.append(Sample(f"{i}", f"{i}.png", 40, 40, label=["red", "blue"][i % 2]))
    write_samples(folder, samples)
    write_dataset(folder, Dataset("d", ["red", "blue"]))
    return samples


def mislabel_one(folder: Path) -> None:
    """No net is right on all of them."""
    first, *rest = read_samples(folder)
    write_samples(folder, [replace(first, label="blue" if first.label == "red" else "red"), *rest])


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def block(run: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`run` with knobs of its net or its training changed, by their own names."""
    net = {key: value for key, value in changes.items() if key in ClassifyModel.model_fields}
    rest = {key: value for key, value in changes.items() if key not in net}
    return run | {"model": run["model"] | net, "train": run["train"] | rest}


def run(**changes: Any) -> ClassifyRun:
    return ClassifyRun.model_validate(block(RUN, changes))


def test_a_frozen_backbone_stays_as_it_was(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 16)
    pictures(tmp_path / "val", 4)
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", run(epochs=0, frozen_epochs=2), *places, workers=0)
    after = load_file(tmp_path / "model/model.safetensors")
    for name, tensor in start_state().items():
        assert torch.equal(tensor, after[name]) == (not name.startswith("body.classifier")), name


def start_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(run().train.seed)
    spec = make_spec("r", run(), Dataset("d", ["red", "blue"]), [0.5] * 3, [0.5] * 3)
    return build(spec).state_dict()


def test_only_the_last_blocks_learn(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 16)
    pictures(tmp_path / "val", 4)
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", run(epochs=2, tuned_blocks=2), *places, workers=0)
    after = load_file(tmp_path / "model/model.safetensors")
    # timm counts the last convolution with the block before it
    learning = ("body.blocks.5.2", "body.blocks.6.", "body.conv_head", "body.bn2", "body.classifier")
    for name, tensor in start_state().items():
        assert torch.equal(tensor, after[name]) == (not name.startswith(learning)), name


def test_rates_fall_from_the_head_to_the_stem() -> None:
    knobs = run(frozen_epochs=1, learning_rate=0.01, head_rate=0.5, backbone_rate=0.1, layer_decay=0.8)
    net = build(make_spec("r", knobs, Dataset("d", ["red", "blue"]), [0.5] * 3, [0.5] * 3))

    def rates(phase: Phase) -> dict[str, float]:
        groups = new_optimizer(net, knobs, phase).param_groups
        rate = {id(p): group["lr"] for group in groups for p in group["params"]}
        return {name: rate[id(p)] for name, p in net.named_parameters()}

    first, tuned = rates(Phase(True, 1, 0.01)), rates(Phase(False, 1, 0.01, first=1))
    assert first["body.classifier.weight"] == pytest.approx(0.01), "in frozen epochs it learns from nothing"
    assert tuned["body.classifier.weight"] == pytest.approx(0.005)
    blocks = learning_order(knobs.model.backbone, net.body)
    assert len(blocks) > 10
    name_of = {id(p): name for name, p in net.named_parameters()}
    for depth, parameters in enumerate(reversed(blocks)):
        for p in parameters:
            assert tuned[name_of[id(p)]] == pytest.approx(0.01 * 0.1 * 0.8**depth), name_of[id(p)]


def test_statistics_of_batch_norm_come_from_plain_images_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def better_in_the_end(*given: Any) -> dict[str, float]:
        row = validate(*given)
        return row | {"val_rank": row["val_rank"] + (given[-1] == "the end")}

    monkeypatch.setattr(loop, "validate", better_in_the_end)
    pictures(tmp_path / "train", 40)
    pictures(tmp_path / "val", 8)
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    knobs = run(epochs=2)
    train_run("r", knobs, *places, workers=0)
    net, spec = load_model(tmp_path / "model")
    plain = plain_loader(ImageDataset(tmp_path / "train", read_samples(tmp_path / "train"), spec), 8, knobs.train.seed)
    assert sorted(i for batch in plain.batch_sampler for i in batch) == list(range(40))
    whole = WholeNet(net.eval(), spec, frozen=False).to(memory_format=torch.channels_last).eval()
    kept = {name: value.clone() for name, value in net.state_dict().items()}
    measure_norms([m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)], whole, [b[0] for b in plain])
    for name, value in net.state_dict().items():
        if "num_batches" not in name:
            torch.testing.assert_close(value, kept[name], rtol=1e-4, atol=1e-5, msg=name)


def test_statistics_that_are_worse_are_not_kept() -> None:
    net = torch.nn.BatchNorm2d(1)
    so_far = SoFar()
    so_far.take({"epoch": 0, "val_metric": 0.5, "val_rank": 0.5}, net)
    so_far.take({"epoch": 1, "val_metric": 0.4, "val_rank": 0.4}, net)
    torch.nn.init.constant_(net.running_mean, 7.0)
    so_far.settle({"val_metric": 0.3, "val_rank": 0.3}, net)
    assert (so_far.rows[0]["val_metric"], float(so_far.best["running_mean"])) == (0.5, 0.0)
    so_far.settle({"val_metric": 0.6, "val_rank": 0.6}, net)
    assert (so_far.rows[0]["val_metric"], float(so_far.best["running_mean"])) == (0.6, 7.0)
    assert so_far.rows[1]["val_metric"] == 0.4


def test_fine_tuning_is_held_against_the_frozen_epochs(tmp_path: Path) -> None:
    """It gains nothing here, at a rate that destroys the net: `patience` epochs are all that it costs."""
    pictures(tmp_path / "train", 24)
    pictures(tmp_path / "val", 8)
    mislabel_one(tmp_path / "val")
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", run(epochs=6, patience=2, frozen_epochs=10, learning_rate=0.5), *places, workers=0)
    with (tmp_path / "report/history.csv").open() as file:
        epochs = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert epochs == list(range(12))
    assert json.loads((tmp_path / "model/model.json").read_text())["trained"]["best_epoch"] < 10


def test_what_val_cannot_tell_apart_stays_with_the_frozen_backbone() -> None:
    """Of 40 images 36 are right: a standard error is two images, or one of 400."""
    net = torch.nn.BatchNorm2d(1)

    def kept(images: int, *metrics: float) -> int:
        so_far = SoFar()
        so_far.next_phase(images)
        so_far.take({"val_metric": 0.9, "val_rank": 0.9}, net)
        so_far.next_phase(images)
        for metric in metrics:
            so_far.take({"val_metric": metric, "val_rank": metric}, net)
        return so_far.place

    assert kept(40, 0.9, 0.925) == 0
    assert kept(40, 0.925, 0.975, 0.95) == 2
    assert kept(40, 0.975, 1.0) == 2, "within a phase any better one is better"
    assert kept(4000, 0.9, 0.91) == 2
    assert kept(10, 0.9, 0.99) == 0


@pytest.mark.parametrize(("images", "frozen"), [(1, 0.0), (2, 0.5), (5, 0.85), (6, 0.9), (10, 0.92), (48, 0.98)])
def test_on_a_small_val_an_epoch_without_a_mistake_is_kept(images: int, frozen: float) -> None:
    """A standard error is more than what is left there. No other epoch is kept, not even of less loss."""
    net, so_far = torch.nn.BatchNorm2d(1), SoFar()
    so_far.take({"epoch": 0, "val_metric": frozen, "val_rank": frozen - TIES * 0.9}, net)
    so_far.next_phase(images)
    assert not so_far.perfect
    so_far.take({"epoch": 1, "val_metric": frozen, "val_rank": frozen}, net)
    assert so_far.place == 0
    assert "fine-tuning is not kept" in fine_tuned(so_far, 1)
    so_far.take({"epoch": 2, "val_metric": 1.0, "val_rank": 1.0 - TIES * 0.9}, net)
    assert so_far.place == 2
    assert fine_tuned(so_far, 1) == ""


def test_the_line_of_train_says_why_fine_tuning_is_not_kept(tmp_path: Path) -> None:
    """And there is none where the frozen epochs make no mistake on val."""
    pictures(tmp_path / "train", 24)
    pictures(tmp_path / "val", 8)
    right = (tmp_path / "val/metadata.jsonl").read_text()
    mislabel_one(tmp_path / "val")
    places = [tmp_path / name for name in PLACES]
    knobs = run(epochs=4, patience=1, frozen_epochs=10, learning_rate=0.5)
    said = train_run("r", knobs, *places, workers=0)
    assert re.search(r"/model: epoch \d is kept, 11 of 14 trained; val_accuracy 0\.\d+; fine-tuning is not kept", said)
    assert re.search(r"val_rank 0\.\d+ at best, expected more than 0\.\d+, .*of 8 independent val images", said)
    (tmp_path / "val/metadata.jsonl").write_text(right)
    frozen = run(epochs=4, frozen_epochs=60, learning_rate=0.003)
    said = train_run("r", frozen, *places, workers=0)
    assert re.search(r" is kept, 60 of 64 trained; val_accuracy 1\.0000; not fine-tuned: .* no mistake on val", said)
    trained = read_spec(tmp_path / "model/model.json").trained
    assert (trained["epochs"], trained["planned_epochs"]) == (60, 64)


def test_what_learning_on_made_worse_is_not_kept(tmp_path: Path) -> None:
    """The best epoch of both phases counts: here a rate that destroys the net follows the frozen epochs."""
    pictures(tmp_path / "train", 24)
    pictures(tmp_path / "val", 8)
    mislabel_one(tmp_path / "val")
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", run(epochs=0, frozen_epochs=10, learning_rate=0.5), *places, workers=0)
    frozen = digest(tmp_path / "model/model.safetensors")
    train_run("r", run(epochs=1, frozen_epochs=10, learning_rate=0.5, batch_size=8), *places, workers=0)
    rows = (tmp_path / "report/history.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(i) for i in range(len(rows))]
    written = json.loads((tmp_path / "model/model.json").read_text())
    assert written["trained"]["best_epoch"] < written["trained"]["epochs"] - 1 == len(rows) - 1
    assert written["weights_sha256"] == digest(tmp_path / "model/model.safetensors") == frozen


@pytest.mark.parametrize("task", ["classify", "detect"])
def test_balanced_weights_are_scikit_learns(task: str) -> None:
    labels = ["a"] * 7 + ["b"] * 2 + ["c"]
    if task == "classify":
        samples = [Sample(f"{i}", "f", 1, 1, label=label) for i, label in enumerate(labels)]
    else:
        samples = [Sample("x", "f", 1, 1, objects=[Object(label, (0, 0, 1, 1)) for label in labels])]
    found = label_weights(task, samples, ["a", "b", "c"])
    expected = compute_class_weight("balanced", classes=np.array(["a", "b", "c"]), y=labels)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6)


def test_half_precision_trains_and_says_so(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 16)
    pictures(tmp_path / "val", 4)
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    before = time.perf_counter()
    train_run("r", run(precision="bf16", epochs=2), *places, workers=0)
    most = time.perf_counter() - before
    assert json.loads((tmp_path / "model/model.json").read_text())["trained"]["precision"] == "bf16-mixed"
    taken = json.loads((tmp_path / "report/training.json").read_text())
    assert 0 < taken["seconds"] <= most + 0.01
    assert taken["images_per_second"] >= 16 * 2 / most - 0.01, "no slower than the whole call"
    assert 0 < taken["data_wait_share"] < 1


@pytest.mark.parametrize(
    ("seconds", "images", "epochs", "resumed", "rate"),
    [(10.0, 20, 3, False, 6.0), (0.5, 7, 1, False, 14.0), (10.0, 20, 3, True, None), (10.0, 0, 3, False, None)],
)
def test_images_per_second_count_every_epoch(
    seconds: float, images: int, epochs: int, resumed: bool, rate: float | None
) -> None:
    """There is no rate where the seconds are not those of all the epochs, or where epochs passed no images."""
    found = timing(seconds, images, {"epochs": epochs, "precision": "32-true"}, resumed)
    assert found["images_per_second"] == rate
    assert (found["seconds"], found["resumed"], found["epochs"]) == (seconds, resumed, epochs)


@pytest.mark.parametrize(
    ("phase", "epoch", "seconds", "said"),
    [
        (Phase(False, 15, 0.1), 0, (10.0, 2.0), "epoch 0 took 12.0 s: about 2 min 48 s to the end of epoch 14, "
                                               "less where images stay in memory"),
        (Phase(False, 15, 0.1, 30), 4, (10.0, 2.0), "epoch 34 took 12.0 s: about 2 min 0 s to the end of epoch 44, "
                                               "less where images stay in memory"),
        (Phase(False, 60, 0.1), 0, (60.0, None), "epoch 0 took 1 min 0 s: about 59 min 0 s to the end of epoch 59, "
                                                 "and 20 validations, less where images stay in memory"),
        (Phase(False, 60, 0.1), 2, (120.0, 60.0), "epoch 2 took 3 min 0 s: about 2 h 13 min to the end of epoch 59, "
                                                 "less where images stay in memory"),
        (Phase(True, 30, 0.1), 0, (0.2, 0.1), "frozen epoch 0 took 0.3 s: about 8.7 s to the end of epoch 29; "
                                              "an epoch after them takes longer"),
        (Phase(False, 1, 0.1), 0, (3.0, 1.0), "epoch 0 took 4.0 s"),
    ],
)  # fmt: skip
def test_the_time_to_the_end_counts_what_is_left(
    phase: Phase, epoch: int, seconds: tuple[float, float | None], said: str
) -> None:
    assert time_left(phase, epoch, *seconds) == said


def test_each_phase_says_the_time_to_its_end_and_what_memory_it_took(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And both are no part of the model."""
    pictures(tmp_path / "train", 16)
    pictures(tmp_path / "val", 4)
    places = [tmp_path / name for name in PLACES]
    train_run("r", run(epochs=2, frozen_epochs=2), *places, workers=1)
    said = [line for line in capsys.readouterr().out.splitlines() if " took " in line]
    assert [line.split(" took ")[0] for line in said] == ["frozen epoch 0", "epoch 2"]
    taken = json.loads((tmp_path / "report/training.json").read_text())
    assert 1e8 < taken["loaders_peak_memory_bytes"] < 1e10
    assert 1e8 < taken["peak_memory_bytes"] < 1e11
    model = digest(tmp_path / "model/model.safetensors")
    train_run("r", run(epochs=2, frozen_epochs=2), *places, workers=0)
    assert json.loads((tmp_path / "report/training.json").read_text())["loaders_peak_memory_bytes"] == 0
    assert digest(tmp_path / "model/model.safetensors") == model


@pytest.mark.parametrize(("system", "times"), [("darwin", 1), ("freebsd14", 1024), ("win32", None)])
def test_the_memory_of_a_process_is_told_as_the_system_tells_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, system: str, times: int | None
) -> None:
    """By /proc on Linux; by `resource`, which Windows lacks, in bytes on macOS and in KiB elsewhere."""
    assert 1e8 < (memory.peak_memory() or 0) < 1e11
    assert 1e8 < (memory.peak_memory(os.getpid()) or 0) < 1e11
    monkeypatch.setattr(memory, "Path", lambda _: tmp_path / "no such file")
    monkeypatch.setattr(memory.sys, "platform", system)
    told = SimpleNamespace(RUSAGE_SELF=0, getrusage=lambda _: SimpleNamespace(ru_maxrss=5000))
    monkeypatch.setitem(sys.modules, "resource", told if times else None)
    assert memory.peak_memory() == (5000 * times if times else None)
    assert memory.peak_memory(os.getpid()) is None


def test_other_params_do_not_resume_from_a_checkpoint_of_these(tmp_path: Path) -> None:
    pictures(tmp_path / "train", 16)
    pictures(tmp_path / "val", 4)
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", run(epochs=1), *places, workers=0)
    left = next((tmp_path / "model").iterdir()).parent
    (tmp_path / "resume/r/another").mkdir(parents=True)
    (tmp_path / "resume/r/another/last.ckpt").write_bytes(b"of other params")
    train_run("r", run(epochs=2), *places, workers=0)
    assert len((tmp_path / "report/history.csv").read_text().splitlines()) == 3
    assert (left / "model.safetensors").is_file()


def exchange_labels(folder: Path) -> None:
    other = {"red": "blue", "blue": "red"}
    write_samples(folder, [replace(s, label=other[str(s.label)]) for s in read_samples(folder)])


def paint(folder: Path) -> None:
    """The first picture anew, in as many bytes."""
    Image.new("RGB", (40, 40), (0, 255, 0)).save(folder / "0.png", compress_level=0)


def draw_weights(folder: Path, seed: int = 1) -> None:
    torch.manual_seed(seed)
    save_file(timm.create_model("mobilenetv2_035").state_dict(), folder.with_name("start.safetensors"))


def kill_after_an_epoch(monkeypatch: pytest.MonkeyPatch, params: ClassifyRun, places: list[Path]) -> Path:
    """The checkpoint that it leaves."""

    def killed(*of_epoch: Any) -> None:
        save_checkpoint(*of_epoch)
        raise KeyboardInterrupt

    save_checkpoint = loop.save
    monkeypatch.setattr(loop, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        train_run("r", params, *places, workers=0)
    monkeypatch.undo()
    [left] = places[4].glob("r/*/last.ckpt")
    return left


@pytest.mark.parametrize(
    ("split", "change"),
    [
        *(("train", exchange_labels), ("val", paint)),
        *(
            pytest.param(*more, marks=pytest.mark.exhaustive)
            for more in (("val", exchange_labels), ("train", paint), ("train", draw_weights))
        ),
    ],
)
def test_a_killed_run_goes_on_only_with_the_content_it_began_with(
    split: str, change: Callable[[Path], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and sizes are the same before and after."""
    for name, count in (("train", 16), ("val", 4)):
        pictures(tmp_path / name, count)
        Image.new("RGB", (40, 40), (255, 0, 0)).save(tmp_path / name / "0.png", compress_level=0)
    draw_weights(tmp_path / "train", seed=0)
    places = [tmp_path / name for name in PLACES]
    params = run(pretrained=str(tmp_path / "start.safetensors"), epochs=2, frozen_epochs=0)

    def sizes() -> list[tuple[Path, int]]:
        files = [
            p for name in ("train", "val", "start.safetensors") for p in (tmp_path / name, *tmp_path.glob(f"{name}/*"))
        ]
        return [(p, p.stat().st_size) for p in files if p.is_file()]

    before = sizes()
    kill_after_an_epoch(monkeypatch, params, places)
    left = shutil.copytree(tmp_path / "resume", tmp_path / "left")
    train_run("r", params, *places, workers=0)
    assert json.loads((tmp_path / "report/training.json").read_text())["resumed"]
    shutil.copytree(left, tmp_path / "resume", dirs_exist_ok=True)
    change(tmp_path / split)
    assert sizes() == before
    train_run("r", params, *places, workers=0)
    assert not json.loads((tmp_path / "report/training.json").read_text())["resumed"]


@pytest.mark.parametrize(
    ("labels", "train", "val", "message"),
    [
        (["a", "b"], [], ["a"], "the train split of dataset 'd' has no images"),
        (["a", "b"], ["a", "b"], [], "the val split of dataset 'd' has no images"),
        (["a"], ["a"], ["a"], r"the one class \['a'\]; expected two"),
        (["a", "b"], ["a", "a"], ["b"], "no image of b in the train split"),
        (
            ["a", "b"],
            ["a", None, "b"],
            ["b"],
            "classify needs a label per image; 1 of dataset 'd' have none, first x1",
        ),
    ],
)
def test_data_that_cannot_teach_is_named(labels: list[str], train: list[Any], val: list[Any], message: str) -> None:
    samples = [[Sample(f"x{i}", "f", 1, 1, label=label) for i, label in enumerate(split)] for split in (train, val)]
    with pytest.raises(InputError, match=message):
        check_teaches("r", run(), Dataset("d", labels), *samples)


def test_a_detector_needs_boxes() -> None:
    herd = read_params(ROOT / "params.yaml").runs["herd"]
    empty = [Sample("x", "f", 1, 1)]
    with pytest.raises(InputError, match="detect needs boxes; dataset 'herd' has none in train"):
        check_teaches("herd", herd, Dataset("herd", ["alpaca"]), empty, empty)
    boxed = [Sample("x", "f", 1, 1, objects=[Object("alpaca", (0, 0, 1, 1))])]
    check_teaches("herd", herd, Dataset("herd", ["alpaca"]), boxed, boxed)
    with pytest.raises(InputError, match="detect needs boxes; dataset 'herd' has none in val"):
        check_teaches("herd", herd, Dataset("herd", ["alpaca"]), boxed, empty)
    with pytest.raises(InputError, match="no image of llama in the train split of 'herd'"):
        check_teaches("herd", herd, Dataset("herd", ["alpaca", "llama"]), boxed, boxed)


# --- the detector


def scenes(folder: Path, count: int, side: int = 128) -> None:
    """Images of one or two bright boxes on noise, labelled by their colour."""
    folder.mkdir(parents=True)
    samples = []
    for i in range(count):
        draw = np.random.default_rng(i)
        pixels = draw.integers(0, 110, (side, side, 3), dtype=np.uint8)
        objects = []
        for k in range(1 + i % 2):
            w, h = (int(v) for v in draw.integers(side // 5, side // 2, 2))
            x, y = int(draw.integers(0, side // 2 - w // 2)) + k * side // 2, int(draw.integers(0, side - h))
            w = min(w, side - x)
            colour = int(draw.integers(0, 2))
            pixels[y : y + h, x : x + w, 2 * colour] = 250
            objects.append(Object(["red", "blue"][colour], (x / side, y / side, w / side, h / side)))
        Image.fromarray(pixels).save(folder / f"{i}.png")
        samples.append(Sample(f"{i}", f"{i}.png", side, side, objects=objects))
    write_samples(folder, samples)
    write_dataset(folder, Dataset("d", ["red", "blue"]))


def detector(kind: str = "anchor_free", **changes: Any) -> DetectRun:
    head = {"kind": kind, "strides": [8, 16, 32], "neck": 32, "channels": 32, "dropout": 0.0}
    online = {"policy": "none", "mosaic": 0.0, "smallest": 1.0, "quiet_epochs": 0}
    usual = {"size": 128, "head": head, "online": online}
    return DetectRun.model_validate(block(RUN, usual | changes) | {"task": "detect"})


@pytest.mark.parametrize("epochs", [1, 7, 19, 20, 39, 40, 60, 61, 100, 240])
def test_a_long_run_is_validated_twenty_times_at_least(epochs: int) -> None:
    """And after its last epoch, evenly, no more often than that takes; a short run and a frozen phase after each."""
    phase = Phase(False, epochs, 0.1)
    found = [epoch for epoch in range(epochs) if is_validated(phase, epoch)]
    every = validation_interval(phase)
    assert len(found) >= min(20, epochs)
    assert found[-1] == epochs - 1
    assert {b - a for a, b in pairwise(found)} <= {every}
    assert math.ceil(epochs / (every + 1)) <= 20
    frozen = Phase(True, epochs, 0.1)
    assert all(is_validated(frozen, epoch) for epoch in range(epochs))


PLACES = ("train", "val", "model", "report", "resume", "features")
SHALLOW = {"backbone": "mobilenetv1_025_shallow"}  # a third of the layers: many epochs take a moment


def judged(root: Path, split: str) -> dict[str, Any]:
    """What the weights that were kept make of a split, read as those of a model that ships are by default."""
    spec = by_metric(replace(read_spec(root / "model/model.json"), predict=DetectPredict().model_dump()))
    truth = read_samples(root / split)
    predicted = predict_samples(open_runtime("torch", root / "model"), spec, root / split, truth)
    return score("detect", truth, predicted, read_dataset(root / split))


@pytest.mark.parametrize("kind", ["classify", "anchor_free", "yolov3"])
def test_a_loss_that_is_not_finite_names_the_pictures(tmp_path: Path, kind: str) -> None:
    for name, count in (("train", 8), ("val", 4)):
        (pictures if kind == "classify" else scenes)(tmp_path / name, count)
    large = timm.create_model("mobilenetv2_035").state_dict()
    large["conv_stem.weight"][0] = 3e38
    save_file(large, tmp_path / "large.safetensors")
    start = {"pretrained": str(tmp_path / "large.safetensors"), "frozen_epochs": 0}
    knobs: Any = start | {"backbone_norm": "batch", "tuned_blocks": "all"}
    with pytest.raises(InputError, match=r"the loss is (nan|inf) in epoch \d, on these images: \d"):
        train_run(
            "r",
            run(**knobs) if kind == "classify" else detector(kind, **knobs),
            *[tmp_path / name for name in PLACES],
            workers=0,
        )
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("work", "threads", "policy", "said"),
    [
        (20.0, 2, None, "\nother programs keep 0.8 of "),
        (13.0, 2, None, ""),
        (20.0, 1, None, ""),
        (20.0, 2, "PASSIVE", ""),
    ],
)
def test_other_programs_that_keep_the_processors_busy_are_told(
    monkeypatch: pytest.MonkeyPatch, work: float, threads: int, policy: str | None, said: str
) -> None:
    """In 10 seconds training itself has worked 12."""
    times = iter([(0.0, 100.0, 3.0), (10.0, 100.0 + work, 15.0)])
    monkeypatch.setattr(Busy, "_now", staticmethod(lambda: next(times)))
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if policy:
        monkeypatch.setenv("OMP_WAIT_POLICY", policy)
    found = Busy().said()
    assert found.startswith(said) and bool(found) == bool(said)


def test_what_is_counted_as_work_is_there() -> None:
    clock, work, own = Busy._now()
    assert clock > 0 and work > own > 0


def test_a_damaged_weights_file_is_named_and_not_the_pictures(tmp_path: Path) -> None:
    for name, count in (("train", 4), ("val", 2)):
        pictures(tmp_path / name, count)
    broken = timm.create_model("mobilenetv2_035").state_dict()
    broken["conv_stem.weight"][0] = float("nan")
    save_file(broken, tmp_path / "broken.safetensors")
    with pytest.raises(InputError, match=r"broken\.safetensors: conv_stem\.weight holds numbers that are not finite"):
        train_run(
            "r",
            run(pretrained=str(tmp_path / "broken.safetensors")),
            *[tmp_path / name for name in PLACES],
            workers=0,
        )


def change_the_epoch(left: Path) -> None:
    state = torch.load(left, weights_only=True)
    torch.save(state | {"epoch": 1}, left)


def flip_a_bit_of_a_moment(left: Path) -> None:
    """All numbers stay finite."""
    moments = torch.load(left, weights_only=True)["optimizer"]["state"].values()
    moment = next(m["exp_avg_sq"] for m in moments if m["exp_avg_sq"].ndim == 1)
    whole = bytearray(left.read_bytes())
    whole[whole.index(moment.numpy().tobytes())] ^= 1
    left.write_bytes(whole)


def test_what_the_weights_file_did_not_have_is_said(tmp_path: Path) -> None:
    for name, count in (("train", 16), ("val", 4)):
        pictures(tmp_path / name, count)
    state = timm.create_model("mobilenetv2_035").state_dict()
    part = {name: tensor for name, tensor in state.items() if not name.startswith(("conv_head", "bn2"))}
    save_file(part, tmp_path / "part.safetensors")
    places = [tmp_path / name for name in PLACES]
    said = train_run(
        "r", run(pretrained=str(tmp_path / "part.safetensors"), frozen_epochs=0, epochs=1), *places, workers=0
    )
    assert said.endswith("; of the backbone 5 tensors were not in part.safetensors and began at random, first bn2.bias")
    save_file(state, tmp_path / "whole.safetensors")
    said = train_run(
        "r", run(pretrained=str(tmp_path / "whole.safetensors"), frozen_epochs=0, epochs=1), *places, workers=0
    )
    assert "at random" not in said


def test_a_run_goes_on_from_the_model_of_another(tmp_path: Path) -> None:
    """With its head: before the first step it answers as that one did. The line and model.json say so."""
    for name, count in (("train", 16), ("val", 4)):
        scenes(tmp_path / name, count, 96)
    places = [tmp_path / name for name in PLACES]
    train_run("r", detector(epochs=2, size=96), *places, workers=0)
    (tmp_path / "models").mkdir()
    before = shutil.copytree(tmp_path / "model", tmp_path / "models/first") / "model.safetensors"
    still = {"epochs": 1, "size": 96, "learning_rate": 1e-9, "backbone_norm": "frozen"}
    said = train_run("r", detector(pretrained=str(before), **still), *places, workers=0)
    assert re.search(r"; beyond the backbone \d+ tensors are from model\.safetensors, labels by name: \w+", said)
    assert "at random" not in said
    old, new = load_file(before), load_file(tmp_path / "model/model.safetensors")
    for name in ("head.scores.weight", "head.boxes.weight", "neck.lateral.0.0.weight"):
        torch.testing.assert_close(new[name], old[name], rtol=0, atol=1e-6)
    weights = read_spec(tmp_path / "model/model.json").trained["weights"]
    assert (weights["run"], weights["anew"]) == ("r", 0)
    gone = "models/second/model.safetensors"
    with pytest.raises(InputError, match=r"second/model\.safetensors: no such file; `dvc repro train@second` makes it"):
        train_run("r", detector(pretrained=gone, **still), *places, workers=0)
    with pytest.raises(InputError, match=r"second/model\.safetensors: no such file$"):  # of another project
        train_run("r", detector(pretrained=str(tmp_path / gone), **still), *places, workers=0)


@pytest.mark.parametrize("kind", ["anchor_free", "yolov3"])
def test_a_validation_that_is_not_finite_names_the_pictures_too(tmp_path: Path, kind: str) -> None:
    scenes(tmp_path / "val", 2, 96)
    run, samples, dataset = detector(kind, size=96), read_samples(tmp_path / "val"), read_dataset(tmp_path / "val")
    spec = make_spec("r", run, dataset, [0.5] * 3, [0.25] * 3)
    spec.head |= {"anchors": [[[8, 8], [16, 8], [8, 16]]] * 3} if kind == "yolov3" else {}
    net = build(spec)
    torch.nn.init.constant_(net.head.scores.bias, float("nan"))
    torch.nn.init.constant_(net.head.boxes.bias, float("nan"))
    spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
    whole, loader = WholeNet(net, spec, False).eval(), eval_loader(ImageDataset(tmp_path / "val", samples, spec), 2)
    with pytest.raises(InputError, match="the loss is nan in epoch 0, on these images: 0, 1"):
        validate(launch("fp32"), whole, spec, loader, dataset, "epoch 0")


def settings() -> tuple[Any, ...]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
        torch.get_num_threads(),
        logging.getLogger("lightning_fabric").level,
        list(warnings.filters),
    )


@pytest.mark.parametrize("ends", ["well", "with an error"])
def test_what_training_sets_for_the_process_is_put_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    for name, count in (("train", 4), ("val", 2)):
        pictures(tmp_path / name, count)
    seen: list[bool] = []
    epoch_of = loop.learn_an_epoch

    def learn_an_epoch(*given: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        if ends != "well":
            raise InputError("ends here")
        return epoch_of(*given)

    monkeypatch.setattr(loop, "learn_an_epoch", learn_an_epoch)
    places = [tmp_path / name for name in PLACES]
    train_run("r", run(epochs=1), *places, workers=0) if ends == "well" else None  # what is imported sets filters too
    before = settings()
    with contextlib.nullcontext() if ends == "well" else pytest.raises(InputError, match="ends here"):
        train_run("r", run(epochs=1), *places, workers=0)
    assert all(seen)
    assert settings() == before


@pytest.mark.parametrize("when", ["while it learns", "before an epoch"])
def test_a_loading_process_that_is_ended_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    """torch hears of its end by a signal, at any place of the program."""
    for name, count in (("train", 16), ("val", 2)):
        pictures(tmp_path / name, count)
    epoch_of = loop.learn_an_epoch

    def learn_an_epoch(t: Any, loader: Any, epoch: int, bar: Any) -> Any:
        if epoch == 1:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid or 0, signal.SIGKILL)
            if when == "before an epoch":
                worker.join()
        return epoch_of(t, loader, epoch, bar)

    monkeypatch.setattr(loop, "learn_an_epoch", learn_an_epoch)
    # how often torch looks whether they are still there, in seconds, in place of its 5
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.5,))
    with pytest.raises(InputError, match=r"^loading images: one of its processes was ended, as a system does.*again$"):
        train_run("r", run(epochs=3), *[tmp_path / name for name in PLACES], workers=1)


def test_windows_has_no_mallopt(monkeypatch: pytest.MonkeyPatch) -> None:
    """`ctypes.CDLL(None)` is a TypeError there."""

    def no_library(_: Any) -> None:
        raise TypeError("bad argument type for built-in operation")

    monkeypatch.setattr(devices.ctypes, "CDLL", no_library)
    monkeypatch.setattr(devices.sys, "platform", "win32")
    devices.keep_freed_memory()


def test_apples_gpu_is_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no float64."""
    monkeypatch.setattr(MPSAccelerator, "is_available", staticmethod(lambda: True))
    assert launch("fp32").device.type == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize(
    ("asked", "device", "cores", "local", "expected"),
    [
        (0, "cuda", 16, 1, 0), (3, "cpu", 1, 1, 3),
        (None, "cpu", 1, 1, 0), (None, "cpu", 2, 1, 0), (None, "cpu", 4, 1, 1), (None, "cuda", 2, 1, 1),
        (None, "cpu", 4, 2, 0), (None, "cpu", 8, 2, 1),
    ],
)  # fmt: skip
def test_images_are_loaded_where_a_core_is_to_spare(
    monkeypatch: pytest.MonkeyPatch, asked: int | None, device: str, cores: int, local: int, expected: int
) -> None:
    fabric: Any = SimpleNamespace(device=torch.device(device))
    monkeypatch.setattr(devices, "cpu_count", lambda: cores)
    if local > 1:
        for name, value in (("WORLD_SIZE", local), ("LOCAL_WORLD_SIZE", local), ("TORCHELASTIC_RUN_ID", "one")):
            monkeypatch.setenv(name, str(value))
    assert devices.loading_processes(fabric, asked) == expected


def shown_epochs(root: Path, monkeypatch: pytest.MonkeyPatch, **changes: Any) -> tuple[list[tuple[int, bool]], Any]:
    """Train a detector that gets no better before its last epoch; of each epoch whether its batches were mixed, and the
    report's rows.
    """
    shown: list[tuple[int, bool]] = []
    epoch_of, draw = loop.learn_an_epoch, mixing.shrunk

    def learn_an_epoch(t: loop.Training, loader: Any, epoch: int, bar: Any) -> Any:
        def shrunk(*given: Any) -> Any:
            shown[-1] = (epoch, True)
            return draw(*given)

        shown.append((epoch, False))
        with monkeypatch.context() as learning:  # after training the first batch is made once more, for its picture
            learning.setattr("pipeline.training.shown.shrunk", shrunk)
            return epoch_of(t, loader, epoch, bar)

    monkeypatch.setattr(loop, "learn_an_epoch", learn_an_epoch)
    last = f"epoch {changes['epochs'] - 1}"
    monkeypatch.setattr(
        loop, "validate", lambda *_: {"val_loss": 1.0, "val_metric": 0.5, "val_rank": 0.6 if _[-1] == last else 0.5}
    )
    for name, count in (("train", 4), ("val", 2)):
        if not (root / name).exists():
            scenes(root / name, count, 96)
    train_run("r", detector(size=96, batch_size=4, **SHALLOW, **changes), *[root / name for name in PLACES], workers=0)
    monkeypatch.undo()
    with (root / "report/history.csv").open() as file:
        return shown, list(csv.DictReader(file))


def test_an_early_stop_goes_on_with_the_quiet_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the learning rate that they have without it."""
    online = {"policy": "none", "mosaic": 0.5, "smallest": 0.5, "quiet_epochs": 2}
    whole, rows = shown_epochs(tmp_path, monkeypatch, epochs=9, patience=9, online=online)
    assert whole == [(epoch, epoch < 7) for epoch in range(9)]
    rates = {row["epoch"]: row["learning_rate"] for row in rows}
    shown, rows = shown_epochs(tmp_path, monkeypatch, epochs=9, patience=3, online=online)
    assert shown == [(0, True), (1, True), (2, True), (3, True), (7, False), (8, False)]
    trained = read_spec(tmp_path / "model/model.json").trained
    assert (trained["epochs"], trained["planned_epochs"]) == (6, 9), "what was left out is not counted"
    assert trained["best_epoch"] == 8
    assert {row["epoch"]: row["learning_rate"] for row in rows} == {f"{e}": rates[f"{e}"] for e, _ in shown}
    shown, _ = shown_epochs(tmp_path, monkeypatch, epochs=9, patience=3, online=online | {"quiet_epochs": 0})
    assert [epoch for epoch, _ in shown] == [0, 1, 2, 3]
    shown, _ = shown_epochs(tmp_path, monkeypatch, epochs=3, patience=1, online=online | {"quiet_epochs": 10})
    assert shown == [(0, False), (1, False), (2, False)]


@pytest.mark.parametrize(
    ("kind", "epochs", "rate"),
    [("anchor_free", 60, 0.01), pytest.param("yolov3", 200, 0.006, marks=pytest.mark.exhaustive)],
)
def test_a_detector_learns_eight_pictures_by_heart(tmp_path: Path, kind: str, epochs: int, rate: float) -> None:
    scenes(tmp_path / "train", 8, 96)
    places = [tmp_path / name.replace("val", "train") for name in PLACES]
    learning = {"epochs": epochs, "patience": epochs, "learning_rate": rate}
    train_run("r", detector(kind, size=96, **learning, **SHALLOW), *places, workers=0)
    spec = read_spec(tmp_path / "model/model.json")
    assert ("anchors" in spec.head) == (kind == "yolov3")
    assert judged(tmp_path, "train")["AP"] >= 0.95
    with (tmp_path / "report/history.csv").open() as file:
        validated = [int(row["epoch"]) for row in csv.DictReader(file)]
    every = epochs // 20
    assert validated == list(range(every - 1, epochs, every)), "not every epoch of a long run, but the last one"
    assert spec.trained["epochs"] == epochs


@pytest.mark.parametrize("kind", ["anchor_free", "yolov3"])
def test_odd_pictures_and_boxes_are_learned_and_judged(tmp_path: Path, kind: str) -> None:
    """1:10, 10:1, smaller than a stride, grey, empty; hundreds of tiny boxes in a huge one, twice the same, a line."""
    tiny = [Object("red", (i % 20 / 20, i // 20 / 20, 0.02, 0.02)) for i in range(400)]
    whole, half = Object("blue", (0, 0, 1, 1)), Object("red", (0.25, 0.25, 0.5, 0.5))
    odd: list[tuple[tuple[int, int], str, list[Object]]] = [
        ((320, 32), "RGB", [half]), ((32, 320), "RGB", [whole]), ((5, 7), "RGB", [whole]), ((96, 96), "L", [half]),
        ((96, 96), "RGB", [whole, *tiny]), ((96, 96), "RGB", [half, half]), ((96, 96), "RGB", []),
        ((96, 96), "RGB", [Object("red", (0.5, 0.1, 0.0, 0.5)), Object("red", (0.5, 0.1, 1e-5, 0.5))]),
    ]  # fmt: skip
    for name in ("train", "val"):
        samples = [Sample(f"{i}", f"{i}.png", *size, objects=objects) for i, (size, _, objects) in enumerate(odd)]
        (tmp_path / name).mkdir()
        for sample, (size, mode, _) in zip(samples, odd, strict=True):
            Image.effect_noise(size, 80).convert(mode).save(tmp_path / name / sample.file_name)
        write_samples(tmp_path / name, samples)
        write_dataset(tmp_path / name, Dataset("d", ["red", "blue"]))
    online = {"policy": "photo_zoom", "mosaic": 0.5, "smallest": 0.4, "quiet_epochs": 1}
    places = [tmp_path / name for name in PLACES]
    train_run("r", detector(kind, size=96, epochs=3, batch_size=4, online=online, **SHALLOW), *places, workers=0)
    assert 0 <= judged(tmp_path, "val")["AP"] <= 1
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / "model/model.safetensors").values())


@pytest.mark.parametrize("precision", ["fp32", pytest.param("bf16", marks=pytest.mark.exhaustive)])
def test_the_metric_that_an_epoch_is_kept_for_is_that_of_its_weights(tmp_path: Path, precision: str) -> None:
    """The averaged weights in the precision that ships, with the statistics that batch norm has for them."""
    for name, count in (("train", 16), ("val", 8)):
        scenes(tmp_path / name, count, 96)
    places = [tmp_path / name for name in PLACES]
    knobs: Any = {"size": 96, "batch_size": 4, "epochs": 12, "learning_rate": 0.02, "precision": precision}
    train_run("r", detector(**knobs, **SHALLOW), *places, workers=0)
    trained = read_spec(tmp_path / "model/model.json").trained
    assert judged(tmp_path, "val")["AP"] == pytest.approx(trained["val_AP"], abs=1e-3)
    assert trained["val_AP"] > 0.02


def test_a_frozen_norm_keeps_its_statistics(tmp_path: Path) -> None:
    for name, count in (("train", 16), ("val", 4)):
        scenes(tmp_path / name, count, 96)
    save_file(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "start.safetensors")
    places = [tmp_path / name for name in PLACES]
    start = {"pretrained": str(tmp_path / "start.safetensors"), "backbone_norm": "frozen", "size": 96}
    train_run("r", detector(**start, epochs=2, tuned_blocks=6), *places, workers=0)
    before, after = (load_file(tmp_path / name) for name in ("start.safetensors", "model/model.safetensors"))
    kinds = {"running": 0, "weight": 0}
    for name, tensor in after.items():
        if name.startswith("body.") and not name.endswith("num_batches_tracked"):
            same = torch.equal(tensor, before[name.removeprefix("body.")])
            assert same or not name.endswith(("running_mean", "running_var")), name
            kinds["running" if "running" in name else "weight"] += not same
    assert kinds["running"] == 0
    assert kinds["weight"] > 20, "the weights of the last blocks have learned"
    assert (after["neck.lateral.0.1.running_mean"] != 0).any()
    with pytest.raises(InputError, match=r"runs\.r\.train\.backbone_norm: frozen, but model\.pretrained is false"):
        train_run("r", detector(backbone_norm="frozen"), *places, workers=0)


def test_weights_that_changed_since_the_params_were_resolved_are_named(tmp_path: Path) -> None:
    for name, count in (("train", 4), ("val", 2)):
        pictures(tmp_path / name, count)
    save_file(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "w.safetensors")
    params = run(pretrained=str(tmp_path / "w.safetensors"), pretrained_sha256="0" * 64)
    with pytest.raises(InputError, match=r"w\.safetensors: sha256 \w{12}\.\.\.; resolved\.yaml expects 000000000000"):
        train_run("r", params, *[tmp_path / name for name in PLACES], workers=0)
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("knobs", "blocks", "named"),
    [
        ({"epochs": 1}, 1000, r"\.resume/r/\w+/last\.ckpt: File too large; make room on the disk"),
        pytest.param(
            *({"epochs": 0, "frozen_epochs": 1}, 1000),
            r"models/r: .*File too large \(os error 27\); make room on the disk",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            *({"epochs": 0, "frozen_epochs": 1}, 8),
            r"\.features/\w+\.sqlite: disk I/O error; make room on the disk",
            marks=pytest.mark.exhaustive,
        ),
    ],
)
def test_a_disk_that_is_full_is_one_line_that_names_the_file(
    tmp_path: Path, knobs: dict[str, int], blocks: int, named: str
) -> None:
    pictures(tmp_path / "data/augmented/d", 16)
    pictures(tmp_path / "data/ingested/d/val", 4)
    blocks_of = {"runs": {"r": run(**knobs).model_dump(mode="json")}, "machine": {"workers": 0}}
    (tmp_path / "resolved.yaml").write_text(json.dumps(blocks_of))
    (tmp_path / "params.yaml").write_text("{}")
    done = subprocess.run(
        ["sh", "-c", f'ulimit -f {blocks}; exec "$@"', "sh", sys.executable, "-m", "stages.train", "r"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert re.match(f"error: {named}", done.stderr.splitlines()[-1]), done.stderr[-2000:]
    assert not (tmp_path / "models/r").exists()
    log = tmp_path / ".pocketlens.log"
    assert not log.exists() or "Traceback" not in log.read_text()

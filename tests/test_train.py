"""Training: repeatable, resumed after a kill, and clear about data that teaches nothing."""

import csv
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from sklearn.utils.class_weight import compute_class_weight

from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Object, Sample, read_dataset, read_samples, write_dataset, write_samples
from pipeline.core.spec import read_spec
from pipeline.evaluation.params import DetectPredict
from pipeline.metrics.metrics import judged as by_metric
from pipeline.metrics.metrics import score
from pipeline.models.losses import label_weights
from pipeline.models.nets import build
from pipeline.runtimes.answers import predict_samples
from pipeline.runtimes.targets import open_runtime
from pipeline.training import devices, loop
from pipeline.training.devices import launch
from pipeline.training.loading import ImageDataset, eval_loader
from pipeline.training.optimization import Phase, WholeNet, validation_interval
from pipeline.training.params import ClassifyModel, ClassifyRun, DetectRun
from pipeline.training.train import check_labels, make_spec, timing, train_run
from pipeline.training.validation import validate

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


def test_what_learning_on_made_worse_is_not_kept(tmp_path: Path) -> None:
    """The best epoch of both phases counts: here a rate that destroys the net follows the frozen epochs."""
    pictures(tmp_path / "train", 24)
    pictures(tmp_path / "val", 8)
    places = [tmp_path / name for name in ("train", "val", "model", "report", "resume", "features")]
    train_run("r", run(epochs=0, frozen_epochs=10, learning_rate=0.5), *places, workers=0)
    frozen = digest(tmp_path / "model/model.safetensors")
    train_run("r", run(epochs=1, frozen_epochs=10, learning_rate=0.5, batch_size=8), *places, workers=0)
    rows = (tmp_path / "report/history.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == [str(i) for i in range(len(rows))]
    trained = json.loads((tmp_path / "model/model.json").read_text())["trained"]
    assert trained["best_epoch"] < trained["epochs"] - 1 == len(rows) - 1
    assert digest(tmp_path / "model/model.safetensors") == frozen


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
    [("train", exchange_labels), ("val", exchange_labels), ("train", paint), ("val", paint), ("train", draw_weights)],
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
        check_labels("r", run(), Dataset("d", labels), *samples)


def test_a_detector_needs_boxes() -> None:
    herd = read_params(ROOT / "params.yaml").runs["herd"]
    empty = [Sample("x", "f", 1, 1)]
    with pytest.raises(InputError, match="detect needs boxes; dataset 'herd' has none in train"):
        check_labels("herd", herd, Dataset("herd", ["alpaca"]), empty, empty)
    boxed = [Sample("x", "f", 1, 1, objects=[Object("alpaca", (0, 0, 1, 1))])]
    check_labels("herd", herd, Dataset("herd", ["alpaca"]), boxed, boxed)
    with pytest.raises(InputError, match="detect needs boxes; dataset 'herd' has none in val"):
        check_labels("herd", herd, Dataset("herd", ["alpaca"]), boxed, empty)
    with pytest.raises(InputError, match="no image of llama in the train split of 'herd'"):
        check_labels("herd", herd, Dataset("herd", ["alpaca", "llama"]), boxed, boxed)


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
    """And after its last epoch; no more often than that takes. A short run is after each epoch, a frozen phase too."""

    def validated(every: int) -> list[int]:
        return [epoch for epoch in range(epochs) if (epoch + 1) % every == 0]

    every = validation_interval(Phase(False, epochs, 0.1))
    assert len(validated(every)) >= min(20, epochs)
    assert validated(every)[-1] == epochs - 1
    rarer = [n for n in range(every + 1, epochs + 1) if epochs - 1 in validated(n)]
    assert all(len(validated(n)) < 20 for n in rarer)
    assert validation_interval(Phase(True, epochs, 0.1)) == 1


PLACES = ("train", "val", "model", "report", "resume", "features")


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


@pytest.mark.parametrize("damage", ["cut short", "not finite"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str) -> None:
    for name, count in (("train", 16), ("val", 4)):
        pictures(tmp_path / name, count)
    places = [tmp_path / name for name in PLACES]
    left = kill_after_an_epoch(monkeypatch, run(epochs=2), places)
    if damage == "cut short":
        left.write_bytes(left.read_bytes()[:5000])
    else:
        state = torch.load(left, weights_only=True)
        state["average"]["module.net.body.conv_stem.weight"][0] = float("nan")
        torch.save(state, left)
    with pytest.raises(InputError, match=r"last\.ckpt.*(not a checkpoint|conv_stem\.weight.* not finite).*remove it"):
        train_run("r", run(epochs=2), *places, workers=0)
    left.unlink()
    train_run("r", run(epochs=2), *places, workers=0)


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


@pytest.mark.parametrize("kind", ["anchor_free", "yolov3"])
def test_a_detector_learns_eight_pictures_by_heart(tmp_path: Path, kind: str) -> None:
    scenes(tmp_path / "train", 8, 96)
    places = [tmp_path / name.replace("val", "train") for name in PLACES]
    train_run("r", detector(kind, size=96, epochs=200, patience=200, learning_rate=0.006), *places, workers=0)
    spec = read_spec(tmp_path / "model/model.json")
    assert ("anchors" in spec.head) == (kind == "yolov3")
    assert judged(tmp_path, "train")["AP"] >= 0.95
    with (tmp_path / "report/history.csv").open() as file:
        validated = [int(row["epoch"]) for row in csv.DictReader(file)]
    assert validated == list(range(9, 200, 10)), "not every epoch of a long run, but the last one"
    assert spec.trained["epochs"] == 200


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
    train_run("r", detector(kind, size=96, epochs=3, batch_size=4, online=online), *places, workers=0)
    assert 0 <= judged(tmp_path, "val")["AP"] <= 1
    assert all(torch.isfinite(t).all() for t in load_file(tmp_path / "model/model.safetensors").values())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_metric_that_an_epoch_is_kept_for_is_that_of_its_weights(tmp_path: Path, precision: str) -> None:
    """The averaged weights in the precision that ships, with the statistics that batch norm has for them."""
    for name, count in (("train", 16), ("val", 8)):
        scenes(tmp_path / name, count, 96)
    places = [tmp_path / name for name in PLACES]
    train_run(
        "r", detector(size=96, batch_size=4, epochs=12, learning_rate=0.02, precision=precision), *places, workers=0
    )
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
        ({"epochs": 0, "frozen_epochs": 1}, 1000, r"models/r: .*File too large \(os error 27\); make room on the disk"),
        ({"epochs": 0, "frozen_epochs": 1}, 8, r"\.features/\w+\.sqlite: disk I/O error; make room on its disk"),
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
    assert not (tmp_path / ".pocketlens.log").exists()

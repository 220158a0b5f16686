"""A training's first batch: what the net and its loss take, drawn from the targets."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import TypeAdapter
from torch import Tensor

from pipeline.augment.policies import augmenter
from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.evaluation import batch
from pipeline.evaluation.batch import batch_sheet
from pipeline.training import loop, shown
from pipeline.training.loading import ImageDataset, train_loader
from pipeline.training.params import AnyRun, RunParams
from pipeline.training.report import SHOWN, write_first_batch

SIDE = 64
GREEN = np.array((64, 255, 96))  # of labels
RED = (200, 20, 20)


def spec_of(task: str) -> ModelSpec:
    points = [] if task == "classify" else ["nose"]
    head = {"kind": "pool"} if task == "classify" else {}
    return ModelSpec(*("r", "d", task, ["cow", "goat"], points, [], [], "mobilenetv2_035", head, SIDE, "stretch"),
                     *([0.5] * 3, [0.5] * 3))  # fmt: skip


def run_of(task: str, **train: Any) -> RunParams:
    knobs = {"batch_size": 20, "epochs": 3, "frozen_epochs": 2, **train}
    model = {"size": SIDE, "pretrained": False}
    return TypeAdapter[RunParams](AnyRun).validate_python(
        {"dataset": "d", "task": task, "model": model, "train": knobs}
    )


def images_of(folder: Path, task: str, count: int = 24) -> ImageDataset:
    """Grey images with a red square, which is the object."""
    folder.mkdir()
    samples = []
    for number in range(count):
        image = Image.new("RGB", (SIDE, SIDE), (90, 90, 90))
        at = 8 + number
        image.paste(RED, (at, 20, at + 16, 36))
        image.save(folder / f"{number}.png")
        box = (at / SIDE, 20 / SIDE, 0.25, 0.25)
        sample = Sample(str(number), f"{number}.png", SIDE, SIDE, label=("cow", "goat")[number % 2])
        if task != "classify":
            sample.label, sample.objects = None, [Object("goat", box, [Landmark((at + 8) / SIDE, 28 / SIDE)])]
        samples.append(sample)
    return ImageDataset(folder, samples, spec_of(task), augmenter("alpaca_lab"))


def written(path: Path, *what: Any) -> dict[str, Any]:
    write_first_batch(path, *what)
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize(
    ("task", "online"),
    [
        ("classify", {"mixup": 1.0}),
        ("localize", {}),
        ("detect", {"mosaic": 0.5, "smallest": 0.5}),
    ],
)
def test_the_batch_is_the_one_that_the_loop_trains_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, task: str, online: dict[str, float]
) -> None:
    run, varied = run_of(task, online=online | {"quiet_epochs": 0} if online else {}), images_of(tmp_path / "in", task)
    found = written(tmp_path / "batch.npz", varied, run, 2)
    taken: list[tuple[Tensor, dict[str, Tensor]]] = []

    class StopError(Exception):
        pass

    def stopped(net: Any, outputs: Tensor, target: dict[str, Tensor], *_: Any) -> Tensor:
        taken.append((outputs, target))
        raise StopError

    monkeypatch.setattr(loop, "finite_loss", stopped)
    monkeypatch.setattr(loop, "train_mode", lambda whole: None)
    phase = loop.Phase(False, run.train.epochs, 0.01, run.train.frozen_epochs)
    fabric = SimpleNamespace(global_rank=0, world_size=1, device=torch.device("cpu"), to_device=lambda data: data)
    whole = SimpleNamespace(labels=2, net=None)
    t: Any = SimpleNamespace(
        fabric=fabric, run=run, phase=phase, whole=whole, learner=lambda images: images, class_weights={}
    )
    loader = train_loader(varied, run.train.batch_size, 0, run.train.seed, *shown.mosaics(run))
    with pytest.raises(StopError):
        loop.learn_an_epoch(t, loader, 0, None)
    images, target = taken[0]
    assert np.abs(found.pop("images") - images[:SHOWN].numpy().astype(float)).max() <= 0.5
    assert set(found) == set(target)
    for name, values in found.items():
        kept = target["image"] < SHOWN if task == "detect" else slice(SHOWN)
        np.testing.assert_array_equal(values, target[name][kept].numpy())


def test_frozen_epochs_see_plain_images(tmp_path: Path) -> None:
    varied = images_of(tmp_path / "in", "classify")
    found = written(tmp_path / "batch.npz", varied, run_of("classify", online={"mixup": 1.0}), 1)
    plain = {Path(varied.folder / s.file_name): s.label for s in varied.samples}
    known = {np.asarray(Image.open(path)).tobytes(): label for path, label in plain.items()}
    assert [known[i.tobytes()] for i in found["images"]] == [("cow", "goat")[n] for n in found["label"]]


def green_in(sheet: Image.Image, tile: int) -> np.ndarray:
    """The mask of label colour of one tile, without its caption."""
    x, y = 6 + tile % 4 * 326, 6
    part = np.asarray(sheet.crop((x, y, x + 320, y + 320)), dtype=int)
    return np.abs(part - GREEN).max(axis=2) < 60


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_labels_are_drawn_where_the_targets_say(tmp_path: Path, task: str) -> None:
    """Targets that lie elsewhere than the objects are drawn elsewhere: the picture shows what the loss takes."""
    varied = images_of(tmp_path / "in", task)
    arrays = written(tmp_path / "batch.npz", varied, run_of(task), 2)
    assert len(arrays["images"]) == SHOWN
    scale = 1 if task == "localize" else arrays["images"].shape[1]
    box = np.array([0.5, 0.5, 0.25, 0.25]) if task == "localize" else np.array([0.5, 0.5, 0.75, 0.75]) * scale
    arrays["box"][:] = box
    arrays["landmarks"][:] = 0
    np.savez(tmp_path / "moved.npz", **arrays)
    mask = green_in(batch_sheet(tmp_path / "moved.npz", spec_of(task)), 0)
    rows, columns = np.nonzero(mask[150:])[0] + 150, np.nonzero(mask[150:])[1]
    assert abs(columns.min() - 160) < 4 and abs(columns.max() - 240) < 4
    assert abs(rows.max() - 240) < 4


def test_shares_of_mixed_labels_are_told(tmp_path: Path) -> None:
    images = np.zeros((2, SIDE, SIDE, 3), np.uint8)
    plain, mixed = tmp_path / "plain.npz", tmp_path / "mixed.npz"
    np.savez(plain, images=images, label=np.array([0, 1]))
    np.savez(mixed, images=images, label=np.array([[0.7, 0.3], [0, 1]], np.float32))
    first, second = (batch_sheet(path, spec_of("classify")) for path in (plain, mixed))
    tiles = [[np.asarray(sheet)[:, 6 + 326 * i : 326 + 326 * i] for i in (0, 1)] for sheet in (first, second)]
    assert np.array_equal(tiles[0][1], tiles[1][1]), "an image that is a goat in both"
    assert not np.array_equal(tiles[0][0], tiles[1][0]), "0.70 and 0.30 stand there"


def test_a_batch_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "batch.npz"
    with pytest.raises(InputError, match=r"batch.npz: no such file; `dvc repro` makes it"):
        batch_sheet(path, spec_of("detect"))
    np.savez(path, images=np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(InputError, match=r"batch.npz: not a batch of run r: .*image"):
        batch_sheet(path, spec_of("detect"))
    names = "image", "box", "label", "landmarks"
    np.savez(path, images=np.zeros((1, 8, 8, 3), np.uint8), **{name: np.zeros((1, 4, 3), int) for name in names})
    with pytest.raises(KeyError, match="odd"), monkeypatch.context() as patch:  # a fault of ours is no damaged file
        patch.setitem(batch.READ, "detect", lambda *_: {}["odd"])
        batch_sheet(path, spec_of("detect"))
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(InputError, match=r"batch.npz: not a batch of run r"):
        batch_sheet(path, spec_of("detect"))

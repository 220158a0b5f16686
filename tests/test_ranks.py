"""Training by several processes: what one learns from whole batches, several learn from their shares of them."""

import contextlib
import functools
import hashlib
import io
import itertools
import json
import multiprocessing
import os
import pickle
import signal
import socket
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from safetensors.torch import load_file, save_file
from test_train import PLACES, block, digest, pictures, scenes

from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Landmark, read_samples, write_dataset, write_samples
from pipeline.models import losses
from pipeline.models.mobilenets import register
from pipeline.training import devices, loop, optimization
from pipeline.training.loading import EpochSampler, Process, TrainBatches, own_batches
from pipeline.training.params import ClassifyRun, DetectRun, LocalizeRun
from pipeline.training.train import train_run

SMALL = "mobilenetv1_050_shallow"  # few layers: an epoch takes a moment
RUN: dict[str, Any] = {
    "dataset": "d",
    "model": {"backbone": SMALL, "size": 64, "resize": "stretch"},
    "train": {"epochs": 2, "patience": 9, "batch_size": 8, "learning_rate": 0.003, "precision": "fp32", "seed": 3},
}
STILL = {"policy": "none"}
SLOWLY = {"learning_rate": 2e-5, "frozen_epochs": 0}
FORKED = multiprocessing.get_context("forkserver")
FORKED.set_forkserver_preload(["test_ranks"])  # torch is imported once, and every process is a copy of that one


def each_rank(count: int, body: Callable[[], Any], folder: Path) -> list[Any]:
    """What `body` returns in each of `count` processes, set up as torchrun sets up its own; where it ended otherwise
    (an exception, a kill) the exit code. One process is set up as one without torchrun.
    """
    folder.mkdir(exist_ok=True)
    with mock.patch.dict(os.environ, {"PYTHONPATH": str(Path(__file__).parent)}):  # for what is imported once
        forkserver.ensure_running()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    results = [folder / f"result{rank}.pickle" for rank in range(count)]
    started = []
    for rank, result in enumerate(results):
        result.unlink(missing_ok=True)
        started.append(FORKED.Process(target=_rank, args=(rank, count, port, body, result)))
        started[-1].start()
    for process in started:
        process.join()
    return [pickle.loads(r.read_bytes()) if r.exists() else p.exitcode for r, p in zip(results, started, strict=True)]


def _rank(rank: int, count: int, port: int, body: Callable[[], Any], result: Path) -> None:
    torch.set_num_threads(1)
    if count > 1:
        numbers = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count, "GROUP_RANK": 0}
        os.environ |= {name: str(value) for name, value in numbers.items()}
        os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "TORCHELASTIC_RUN_ID": "test"}
    value = body()
    result.write_bytes(pickle.dumps(value))


def data(root: Path, task: str, count: int = 21) -> None:
    """Sets that do not come out even: the last batch of 8 has 5 images, a batch of val is one process's alone."""
    for name, images in (("train", count), ("val", 21)):
        (pictures if task == "classify" else scenes)(root / name, images)
        if task == "localize":
            folder, rows = root / name, read_samples(root / name)
            for row in rows:
                del row.objects[1:]
                x, y, w, h = row.objects[0].box
                row.objects[0].landmarks = [Landmark(x + w / 2, y + h / 2)]
            rows[0].objects = []
            write_samples(folder, rows)
            write_dataset(folder, Dataset("d", ["red", "blue"], landmarks=["middle"]))


def made_run(kind: str, **changes: Any) -> Any:
    usual: dict[str, Any] = {"online": STILL}
    if kind == "classify":
        return ClassifyRun.model_validate(block(RUN, usual | changes) | {"task": "classify"})
    if kind == "localize":
        return LocalizeRun.model_validate(block(RUN, usual | changes) | {"task": "localize"})
    usual["head"] = {"kind": kind, "strides": [8, 16, 32], "neck": 16, "channels": 16, "dropout": 0.0}
    usual["online"] = {"policy": "none", "mosaic": 0.5, "smallest": 0.5, "quiet_epochs": 1}
    return DetectRun.model_validate(block(RUN, usual | changes) | {"task": "detect"})


def train(root: Path, out: Path, run: Any, kill: tuple[int, str] | None = None, workers: int = 0) -> dict[str, Any]:
    """Train; returns the loss of every step as all processes have it, a hash of the net after every epoch, and the
    gradients of the first step.

    With `kill` (epoch, when) the first process ends as by a kill: its checkpoint of that epoch is written, or is not.
    """
    steps, hashes, gradients = list[float](), list[str](), list[torch.Tensor]()
    finite, epoch_of, clip = loop.finite_loss, loop.learn_an_epoch, torch.nn.utils.clip_grad_norm_

    def finite_loss(*given: Any) -> torch.Tensor:
        loss = finite(*given)
        if torch.distributed.is_initialized():
            total = loss.detach().double()
            torch.distributed.all_reduce(total)
            steps.append(float(total) / torch.distributed.get_world_size())
        else:
            steps.append(float(loss.detach()))
        return loss

    def learn_an_epoch(t: loop.Training, *given: Any) -> Any:
        found = epoch_of(t, *given)
        hashes.append(hashlib.sha256(b"".join(v.numpy().tobytes() for v in t.whole.state_dict().values())).hexdigest())
        return found

    def clip_grad_norm(parameters: Any, norm: float) -> torch.Tensor:
        parameters = list(parameters)
        if not gradients:
            gradients.extend(p.grad.clone() for p in parameters if p.grad is not None)
        return clip(parameters, norm)

    loop.finite_loss, loop.learn_an_epoch = finite_loss, learn_an_epoch
    torch.nn.utils.clip_grad_norm_ = clip_grad_norm
    if kill is not None:
        save = loop.save

        def save_and_be_killed(t: loop.Training, folder: Path, epoch: int, so_far: Any) -> None:
            dies = epoch == kill[0] and t.fabric.is_global_zero
            if dies and kill[1] == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            save(t, folder, epoch, so_far)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)

        loop.save = save_and_be_killed
    places = [root / "train", root / "val", *(out / name for name in PLACES[2:])]
    train_run("r", run, *places, workers=workers)
    return {"losses": steps, "hashes": hashes, "gradients": gradients}


def weights_file(root: Path) -> str:
    torch.manual_seed(5)
    assert register(SMALL)
    net = timm.create_model(SMALL)
    for norm in (m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)):
        norm.running_mean.uniform_(-0.2, 0.2)
        norm.running_var.uniform_(0.5, 1.5)
    save_file(net.state_dict(), root / "start.safetensors")
    return str(root / "start.safetensors")


def no_dropout(run: Any) -> Any:
    head = run.model.head.model_copy(update={"dropout": 0.0})
    return run.model_copy(update={"model": run.model.model_copy(update={"head": head})})


def one_and_two(root: Path, run: Any) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """What `train` returns of one process, and of two."""
    (one,) = each_rank(1, functools.partial(train, root, root / "one", run), root / "one")
    two = each_rank(2, functools.partial(train, root, root / "two", run), root / "two")
    return one, two


def rows(out: Path) -> list[list[float]]:
    return [[float(v) for v in line.split(",")] for line in (out / "report/history.csv").read_text().splitlines()[1:]]


@pytest.mark.parametrize(
    "kind",
    ["classify", "yolov3", *(pytest.param(k, marks=pytest.mark.exhaustive) for k in ("localize", "anchor_free"))],
)
def test_two_learn_what_one_learns(tmp_path: Path, kind: str) -> None:
    """At a small rate: AdamW's step has the size of the rate, in the direction of a rounding error where that is all.

    With frozen norms the loss of every step to 1e-5, and the gradient of the first one to rounding; with mosaics and
    shrunk batches where there are boxes, an image without an object, and a last batch of five images.
    """
    data(tmp_path, kind)
    one, two = one_and_two(
        tmp_path, no_dropout(made_run(kind, pretrained=weights_file(tmp_path), backbone_norm="frozen", **SLOWLY))
    )
    assert two[0]["losses"] == two[1]["losses"]
    assert len(one["losses"]) == len(two[0]["losses"]) == 2 * 3
    np.testing.assert_allclose(two[0]["losses"], one["losses"], rtol=1e-5)
    assert two[0]["hashes"] == two[1]["hashes"], "the nets of both are the same, batch norm's statistics too"
    largest = max(float(g.abs().max()) for g in one["gradients"])
    assert two[0]["gradients"][0].equal(two[1]["gradients"][0])
    for a, b in zip(one["gradients"], two[0]["gradients"], strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * largest)
    np.testing.assert_allclose(rows(tmp_path / "two"), rows(tmp_path / "one"), atol=1e-3)


@pytest.mark.parametrize("kind", ["classify", pytest.param("anchor_free", marks=pytest.mark.exhaustive)])
def test_batch_norm_takes_the_statistics_of_all(tmp_path: Path, kind: str) -> None:
    """Of uneven shares too; frozen epochs come first, after which other layers learn."""
    data(tmp_path, kind)
    run = no_dropout(
        made_run(kind, pretrained=weights_file(tmp_path), backbone_norm="batch", **SLOWLY | {"frozen_epochs": 1})
    )
    one, two = one_and_two(tmp_path, run)
    assert two[0]["hashes"] == two[1]["hashes"]
    assert len(set(two[0]["hashes"])) == 3
    np.testing.assert_allclose(two[0]["losses"], one["losses"], rtol=1e-3)
    np.testing.assert_allclose(rows(tmp_path / "two"), rows(tmp_path / "one"), rtol=1e-2, atol=1e-3)
    ones, twos = (load_file(tmp_path / name / "model/model.safetensors") for name in ("one", "two"))
    for name in (n for n in ones if "running" in n):
        torch.testing.assert_close(twos[name], ones[name], rtol=1e-2, atol=1e-3)


@pytest.mark.parametrize("count", [1, pytest.param(2, marks=pytest.mark.exhaustive)])
def test_killed_after_each_epoch_gives_the_weights_of_an_unbroken_run(tmp_path: Path, count: int) -> None:
    """With frozen epochs before, dropout, and validations after every other epoch, as those of a long run are."""
    data(tmp_path, "classify")
    run = made_run("classify", frozen_epochs=1, epochs=4, online={"policy": "photo_geometry"})
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    each_rank(count, functools.partial(rarely_validated, tmp_path, whole, run), whole)
    for epoch, when in ((0, "after"), (1, "before"), (1, "after"), (2, "after"), (3, "after")):
        ended = each_rank(count, functools.partial(rarely_validated, tmp_path, broken, run, (epoch, when)), broken)
        assert ended[0] == -signal.SIGKILL
        if epoch < 3:  # after the last epoch the others have nothing left to do
            assert not any(isinstance(value, dict) for value in ended), "the others end too"
        (left,) = broken.glob("resume/r/*/last.ckpt")
        assert torch.load(left, weights_only=True)["epoch"] == epoch - (when == "before")
    assert not (broken / "model").exists()
    each_rank(count, functools.partial(rarely_validated, tmp_path, broken, run), broken)
    for name in ("model/model.safetensors", "model/model.json", "report/history.csv"):
        assert digest(broken / name) == digest(whole / name), name
    assert not list(broken.glob("resume/*"))
    timings = [json.loads((out / "report/training.json").read_text()) for out in (whole, broken)]
    assert [t["resumed"] for t in timings] == [False, True]
    assert [t["processes"] for t in timings] == [count, count]
    assert [t["images_per_second"] for t in timings] == [None, None], "frozen epochs pass no images"


def rarely_validated(*given: Any) -> Any:
    optimization.VALIDATIONS = 2
    return train(*given)


def test_a_checkpoint_that_is_half_written_is_not_there(tmp_path: Path) -> None:
    data(tmp_path, "classify")
    run = made_run("classify", epochs=3)
    (ended,) = each_rank(1, functools.partial(killed_while_writing, tmp_path, tmp_path / "out", run), tmp_path / "out")
    assert ended == -signal.SIGKILL
    (left,) = (tmp_path / "out").glob("resume/r/*/last.ckpt")
    assert torch.load(left, weights_only=True)["epoch"] == 0


def killed_while_writing(*given: Any) -> Any:
    replace, times = Path.replace, list[int]()

    def replace_or_be_killed(path: Path, target: Path) -> Path:
        times.extend([1] * (target.name == "last.ckpt"))
        if len(times) == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        return replace(path, target)

    Path.replace = replace_or_be_killed
    return train(*given)


@pytest.mark.exhaustive
def test_three_processes_have_the_same_net(tmp_path: Path) -> None:
    data(tmp_path, "classify", 10)
    run = made_run("classify", batch_size=4, online={"policy": "photo_geometry"})
    found = each_rank(3, functools.partial(train, tmp_path, tmp_path / "out", run), tmp_path / "out")
    assert found[0]["hashes"] == found[1]["hashes"] == found[2]["hashes"]
    assert len(found[0]["losses"]) == 2 * 2, "a last batch of two images is left out"


@pytest.mark.exhaustive
def test_loaders_of_several_processes_do_not_wait_for_ever(tmp_path: Path) -> None:
    """Two workers each, eight epochs; what they load is what processes without workers load."""
    data(tmp_path, "classify", 4)
    knobs = {"backbone": "mobilenetv1_050_shallow", "size": 32, "epochs": 8, "patience": 8, "batch_size": 4}
    run = made_run("classify", **knobs, online={"policy": "photo_geometry"})
    helped = each_rank(2, functools.partial(train, tmp_path, tmp_path / "helped", run, None, 2), tmp_path / "helped")
    alone = each_rank(2, functools.partial(train, tmp_path, tmp_path / "alone", run), tmp_path / "alone")
    assert helped[0]["hashes"] == helped[1]["hashes"] == alone[0]["hashes"]


def test_half_precision_reduces_in_float32(tmp_path: Path) -> None:
    data(tmp_path, "classify")
    run = made_run("classify", precision="bf16")
    found = each_rank(2, functools.partial(train, tmp_path, tmp_path / "out", run), tmp_path / "out")
    assert found[0]["hashes"] == found[1]["hashes"]
    assert {g.dtype for g in found[0]["gradients"]} == {torch.float32}
    with pytest.raises(ValidationError, match="precision"):
        made_run("classify", precision="bf16-true")


def test_resuming_otherwise_is_said(tmp_path: Path) -> None:
    data(tmp_path, "classify")
    run, out = made_run("classify", epochs=2), tmp_path / "out"
    each_rank(2, functools.partial(train, tmp_path, out, run, (0, "after")), out)
    (said,) = each_rank(1, functools.partial(what_is_said, tmp_path, out, run), out)
    assert "it was begun with processes 2, now 1: the weights can differ in their last bits" in said
    assert "threads" not in said
    assert (out / "model/model.safetensors").is_file()


def what_is_said(*given: Any) -> str:
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        train(*given)
    return said.getvalue()


def test_a_loss_that_is_not_finite_in_one_process_ends_all(tmp_path: Path) -> None:
    data(tmp_path, "classify")
    run = made_run("classify", epochs=1)
    found = each_rank(2, functools.partial(what_ends_it, tmp_path, tmp_path / "out", run), tmp_path / "out")
    assert "another of the 2 processes has ended" in found[0]
    assert "the loss is nan in epoch 0, on these images: " in found[1]


def what_ends_it(*given: Any) -> str:
    def broken(net: Any, outputs: Any, *rest: Any) -> torch.Tensor:
        if torch.distributed.get_rank() == 1:
            outputs = tuple(o * float("nan") for o in outputs)
        return losses.finite_loss(net, outputs, *rest)

    loop.finite_loss = broken
    try:
        train_run("r", given[2], given[0] / "train", given[0] / "val", *(given[1] / n for n in PLACES[2:]), workers=0)
    except InputError as error:
        return str(error)
    return "trained"


def test_sums_are_of_all_and_not_rounded(tmp_path: Path) -> None:
    """A mean of means, or a mean of whole numbers, would not be 5 of 9."""
    found = each_rank(2, five_of_nine, tmp_path)
    assert found == [5 / 9, 5 / 9]


def five_of_nine() -> float:
    fabric = devices.launch("fp32")
    right, of = ((3, 5), (2, 4))[fabric.global_rank]
    total = devices.sum_of_all(fabric, torch.tensor([right, of]))
    return float(total[0] / total[1])


@given(length=st.integers(1, 60), batch_size=st.integers(1, 20), count=st.integers(1, 5), epoch=st.integers(0, 9))
def test_shares_make_up_the_batches(length: int, batch_size: int, count: int, epoch: int) -> None:
    def shares(rank: int, count: int) -> list[list[Any]]:
        batches = TrainBatches(EpochSampler(length, 3), batch_size, Process(rank, count))
        assert not hasattr(batches, "set_epoch"), "Fabric would call it, with epochs of its own"
        list(batches)  # what was drawn before makes no difference
        batches.begin(epoch)
        assert len(list(batches)) == len(batches)
        return list(batches)

    if min(length, batch_size) < count:
        with pytest.raises(InputError, match="expected an image for each at least"):
            shares(0, count)
        return
    whole = shares(0, 1)
    parts = [shares(rank, count) for rank in range(count)]
    assert {len(part) for part in parts} <= {len(whole), len(whole) - 1}
    for batch, *shared in zip(whole, *parts, strict=False):
        assert sorted(draw for share in shared for draw in share) == sorted(batch)
        sizes = {len(share) for share in shared}
        assert min(sizes) >= 1
        assert max(sizes) - min(sizes) <= 1
    lost = sorted(draw for batch in whole[len(parts[0]) :] for draw in batch)
    assert len(lost) < count


@given(length=st.integers(0, 60), batch_size=st.integers(1, 20), count=st.integers(1, 5))
def test_each_batch_of_val_is_one_process_s(length: int, batch_size: int, count: int) -> None:
    found = [own_batches(length, batch_size, Process(rank, count)) for rank in range(count)]
    order = [batch for turn in itertools.zip_longest(*found) for batch in turn if batch]
    assert [i for batch in order for i in batch] == list(range(length))

"""`pocketlens epochs`: a schedule that fits into so many minutes, from what was measured, and nothing else changed."""

import codecs
import difflib
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_cli import error_of, in_this_process
from test_train import pictures, scenes

from pipeline.cli import main
from pipeline.config.epochs import write_epochs
from pipeline.config.estimate import Seconds, estimate, fitting
from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.sample import write_samples
from pipeline.training.params import ClassifyRun, DetectRun

MEASURED = Seconds(start=20, features=40, frozen_epoch=2, epoch=30, validation=10, decoding=0, end=0)


def run(**train: Any) -> ClassifyRun:
    return ClassifyRun.model_validate({"dataset": "d", "task": "classify", "train": train})


def detector(epochs: int, quiet: int) -> DetectRun:
    train = {"epochs": epochs, "online": {"quiet_epochs": quiet}}
    return DetectRun.model_validate({"dataset": "d", "task": "detect", "train": train})


@pytest.mark.parametrize(
    ("frozen", "epochs", "minutes", "found"),
    [
        (30, 15, 12, (30, 15)),  # 20 + 40 + 60 + 600 s: to the second
        (30, 15, 11.99, (30, 14)),
        (30, 15, 100, (30, 15)),  # no more than was asked for
        (30, 15, 160 / 60, (30, 1)),
        (30, 15, 159 / 60, (29, 1)),
        (30, 15, 102 / 60, (1, 1)),
        (30, 15, 101 / 60, (20, 0)),
        (30, 15, 62 / 60, (1, 0)),
        (30, 0, 2, (30, 0)),
        (30, 0, 1.5, (15, 0)),
        (0, 15, 1, (0, 1)),
        (0, 15, 5, (0, 7)),
    ],
)
def test_what_fits_is_as_much_as_can_be(frozen: int, epochs: int, minutes: float, found: tuple[int, int]) -> None:
    knobs = fitting("r", run(frozen_epochs=frozen, epochs=epochs), MEASURED, minutes)
    assert (knobs["train.frozen_epochs"], knobs["train.epochs"]) == found
    assert MEASURED.of(*found) <= 60 * minutes


def test_the_first_epoch_and_the_end_are_counted_once() -> None:
    slow = replace(MEASURED, decoding=100, end=7)
    assert slow.of(30, 1) == MEASURED.of(30, 1) + 107
    assert slow.of(30, 15) == MEASURED.of(30, 15) + 107
    assert slow.of(30, 0) == MEASURED.of(30, 0)
    assert fitting("r", run(frozen_epochs=0, epochs=15), slow, 5)["train.epochs"] == 4


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.exhaustive)])
def test_what_it_takes_to_decode_large_images_is_counted_once(tmp_path: Path, workers: int) -> None:
    """They are in memory when the second epoch comes: it has what the net takes alone."""
    for name, count in (("train", 8), ("val", 4)):
        samples = pictures(tmp_path / name, count)
        pixels = np.random.default_rng(0).integers(0, 256, (2400, 3200, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / name / "0.png", compress_level=1)
        for sample in samples[1:]:
            shutil.copy(tmp_path / name / "0.png", tmp_path / name / sample.file_name)
        write_samples(tmp_path / name, [replace(sample, width=3200, height=2400) for sample in samples])
    net = {"backbone": "mobilenetv1_025_shallow", "size": 32, "normalization": "dataset"}
    knobs = {"frozen_epochs": 2, "epochs": 9, "batch_size": 4}
    slow = ClassifyRun.model_validate({"dataset": "d", "task": "classify", "model": net, "train": knobs})
    seconds = estimate("r", slow, tmp_path / "train", tmp_path / "val", workers)
    assert seconds.decoding > seconds.epoch + seconds.validation, seconds
    assert seconds.features > seconds.frozen_epoch, "it decodes them too"
    assert seconds.start > seconds.features / 3, "it decodes them for their mean"
    assert min(seconds.validation, seconds.end) > 0


def test_a_rare_validation_is_counted_as_rare() -> None:
    assert MEASURED.of(0, 39) == 20 + 39 * 40
    assert MEASURED.of(0, 40) == 20 + 40 * 30 + 20 * 10


@pytest.mark.parametrize(("frozen", "epochs", "least"), [(0, 15, "1.0"), (30, 15, "1.1"), (3, 0, "1.1")])
def test_less_than_an_epoch_is_an_error_that_says_what_would_do(frozen: int, epochs: int, least: str) -> None:
    with pytest.raises(
        InputError, match=rf"--minutes 0\.9: an epoch of runs\.r does not fit; expected {least} at least"
    ):
        fitting("r", run(frozen_epochs=frozen, epochs=epochs), MEASURED, 0.9)


@pytest.mark.parametrize(
    ("epochs", "quiet", "minutes", "expected"),
    [(30, 10, 100, None), (30, 10, 10.34, 5), (30, 10, 2.4, 1), (30, 10, 1, 1), (30, 0, 5, None), (20, 20, 7, 10)],
)
def test_the_quiet_epochs_keep_their_share(epochs: int, quiet: int, minutes: float, expected: int | None) -> None:
    mixing = run(epochs=epochs, frozen_epochs=0, online={"mixup": 0.5, "quiet_epochs": quiet})
    for each in (detector(epochs, quiet), mixing):
        assert fitting("r", each, MEASURED, minutes).get("train.online.quiet_epochs") == expected


FILE = """\
datasets:   # none has been made
  d: {format: folder, path: x, labels: x}
runs:
  r:
    task: classify   # by hand
    dataset: d
TRAIN
    model: {size:   64}
  other: {task: classify, dataset: d, train: {epochs: 99}}
"""


@pytest.mark.parametrize(
    ("train", "gone", "come"),
    [
        ("    train: {batch_size: 4, epochs: 10}", "epochs: 10", "epochs: 1"),
        ("    train: {batch_size: 4,\n            epochs: 10, patience: 3}  # few", "epochs: 10", "epochs: 1"),
        ("    train:\n      epochs: 10  # ten\n      patience: 3", "epochs: 10", "epochs: 1"),
        ("    train: {batch_size: 4}", "{batch_size", "{epochs: 1, batch_size"),
        ("    train: {}", "{}", "{epochs: 1}"),
        ("    train:\n      patience: 3", "      patience", "      epochs: 1\n      patience"),
        ("    train: &lone {patience: 3}", "{patience", "{epochs: 1, patience"),
        ("    train: !!map {}", "{}", "{epochs: 1}"),
        ("    train: !!map &lone\n      patience: 3", "      patience", "      epochs: 1\n      patience"),
        ("    train: {epochs: &lone 10}", "&lone 10", "&lone 1"),
        ("    train:\n      epochs: !!int 10  # ten", "!!int 10", "!!int 1"),
        ("    export: {targets: [onnx_float]}", "    task: classify", "    train: {epochs: 1}\n    task: classify"),
    ],
)
def test_only_the_epochs_change_in_the_file(tmp_path: Path, train: str, gone: str, come: str) -> None:
    params = tmp_path / "params.yaml"
    before = FILE.replace("TRAIN", train)
    params.write_text(before)
    said = write_epochs(params, "r", read_params(params).run("r"), MEASURED, 1)
    assert "runs.r: train.epochs 1; it trains in about 1 min 0 s" in said
    assert params.read_text() == before.replace(gone, come, 1)
    assert read_params(params).run("r").train.epochs == 1
    assert read_params(params).run("other").train.epochs == 99
    again = write_epochs(params, "r", read_params(params).run("r"), MEASURED, 1)
    assert "stays as it is" in again
    assert params.read_text() == before.replace(gone, come, 1)


@pytest.mark.parametrize(
    ("shared", "taken"),
    [("&t {epochs: 10}", "*t"), ("\n      &t\n      epochs: 10", "*t"), ("&t {epochs: 10}", "{<<: *t}")],
)
def test_a_block_that_runs_share_is_not_changed_for_both(tmp_path: Path, shared: str, taken: str) -> None:
    params = tmp_path / "params.yaml"
    text = FILE.replace("TRAIN", f"    train: {shared}").replace("{epochs: 99}", taken)
    params.write_text(text)
    for name in ("r", "other"):
        with pytest.raises(
            InputError, match=rf"share what is to change; write by hand runs\.{name}\.train\.epochs: 1$"
        ):
            write_epochs(params, name, read_params(params).run(name), MEASURED, 1)
    assert params.read_text() == text


@pytest.mark.parametrize("train", ["    train: {epochs: 10}", "    train:\n      patience: 3", "    export: {}"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
@pytest.mark.parametrize("ending", ["\r\n", "\n"])
def test_ends_of_lines_and_the_mark_of_utf8_stay(tmp_path: Path, train: str, mark: bytes, ending: str) -> None:
    params = tmp_path / "params.yaml"
    lines = [line + ending for line in FILE.replace("TRAIN", train).splitlines()]
    lines[1] = lines[1].rstrip() + "\n"  # one that another editor wrote
    before = mark + "".join(lines).encode()
    params.write_bytes(before)
    write_epochs(params, "r", read_params(params).run("r"), MEASURED, 1)
    assert read_params(params).run("r").train.epochs == 1
    old, new = (data.splitlines(keepends=True) for data in (before, params.read_bytes()))
    different = [line for line in new if line not in old]
    assert len(different) == 1
    assert different[0].endswith(b"s: 1" + ending.encode()) or different[0].endswith(b"s: 1}" + ending.encode())
    assert [line for line in old if line not in new] == (
        [b"    train: {epochs: 10}" + ending.encode()] * (": {e" in train)
    )


def test_what_cannot_be_written_is_not_said_to_be_an_alias(tmp_path: Path) -> None:
    params = tmp_path / "params.yaml"
    text = FILE.replace("TRAIN", "    train:\n      epochs: &lone\n        10")
    params.write_text(text)
    with pytest.raises(InputError, match=r"is no plain block with a number; write by hand runs\.r\.train\.epochs: 1$"):
        write_epochs(params, "r", read_params(params).run("r"), MEASURED, 1)
    assert params.read_text() == text


PROJECT = """\
datasets:
  d: {format: folder, path: x, labels: x}
runs:
  c:
    dataset: d
    task: classify
    model: {backbone: mobilenetv2_035, size: 32}
    train: {frozen_epochs: 40000, epochs: 90000, batch_size: 8}  # for ever
  b:
    dataset: boxes
    task: detect
    model: {backbone: mobilenetv1_025_shallow, size: 64, head: {neck: 16, channels: 16}}
    train:
      epochs: 90000
machine: {workers: 0}
"""


@pytest.mark.parametrize("name", [pytest.param("c", marks=pytest.mark.exhaustive), "b"])
def test_a_run_is_measured_and_its_epochs_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], name: str
) -> None:
    data, make = {"c": ("d", pictures), "b": ("boxes", scenes)}[name]
    project = PROJECT.replace("runs:", "  boxes: {format: coco, path: x, labels: x}\nruns:", 1)
    (tmp_path / "params.yaml").write_text(project)
    monkeypatch.chdir(tmp_path)
    missing = in_this_process(lambda: main(["epochs", name, "--minutes", "600"]), monkeypatch, capfd)
    assert f"data/augmented/{data}: not here; `dvc repro augment@{data}`" in error_of(missing)
    (tmp_path / "data/ingested" / data).mkdir(parents=True)
    (tmp_path / "data/augmented").mkdir(parents=True)
    make(tmp_path / "data/augmented" / data, 16)
    make(tmp_path / "data/ingested" / data / "val", 4)
    done = in_this_process(lambda: main(["epochs", name, "--minutes", "60"]), monkeypatch, capfd)
    assert done.returncode == 0, done.stderr
    assert "on this machine an epoch takes" in done.stdout
    assert f"next: dvc repro track@{name}" in done.stdout
    left, changed = project.splitlines(), (tmp_path / "params.yaml").read_text().splitlines()
    different = [line[2:] for line in difflib.ndiff(left, changed) if line[0] in "+-"]
    assert all(re.search(r"epochs", line) for line in different)
    train = read_params(tmp_path / "params.yaml").run(name).train
    assert 0 < train.epochs < 90000
    assert {p.name for p in tmp_path.iterdir()} == {"params.yaml", "data"}, "nothing else is written"

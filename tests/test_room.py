"""A disk without room: said before the work, or in one line, and what was there stays."""

import errno
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter
from test_train import PLACES, pictures, run

from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.core.boundary import exit_code
from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, write_text
from pipeline.core.room import is_full
from pipeline.core.sample import Dataset, read_samples
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import AnyDataset
from pipeline.export import calibration, export
from pipeline.training.train import make_spec, train_run


def full(*_: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_training_asks_for_room_before_its_first_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, count in (("train", 4), ("val", 2)):
        pictures(tmp_path / name, count)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=1_000_000))
    with pytest.raises(InputError, match=r"resume/r/\w+: 1\.0 MB are free on its disk; expected \d+\.\d MB; make room"):
        train_run("r", run(epochs=1), *[tmp_path / name for name in PLACES], workers=0)
    assert not (tmp_path / "model").exists()


def test_ingest_and_augment_ask_for_room_before_their_first_image(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(12):
        place = tmp_path / "source" / ("red" if number % 2 else "blue") / f"{number}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(number).integers(0, 256, (80, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(place)
    said = {"format": "folder", "path": str(tmp_path / "source"), "labels": str(tmp_path / "source"), "max_side": 64}
    params = TypeAdapter(AnyDataset).validate_python(said | {"splits": {"val": 0.2, "test": 0.2}})
    places = tmp_path / "ingested", tmp_path / "reports"
    least = 12 * 64 * 64 // 64
    free = SimpleNamespace(free=least - 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: free)
    with pytest.raises(InputError, match=r"ingested: 0\.8 kB are free on its disk; expected 0\.8 kB; make room on the"):
        ingest("set", params, *places)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    free.free = least
    assert ingest("set", params, *places)["kept"] == 12
    train = read_samples(tmp_path / "ingested/train")
    free.free = 2 * len(train) * 64 * 64 // 64 - 1
    with pytest.raises(InputError, match=r"augmented: .* are free on its disk"):
        augment_dataset(places[0], tmp_path / "augmented", places[1], AugmentParams(copies=2))
    assert not (tmp_path / "augmented").exists()


def test_images_to_calibrate_with_have_room_or_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A map of a file with holes would end the process by a bus error."""
    samples = pictures(tmp_path / "train", 4)
    spec = make_spec("r", run(), Dataset("d", ["red", "blue"]), [0.5] * 3, [0.5] * 3)
    taken = list[tuple[int, int]]()
    monkeypatch.setattr(os, "posix_fallocate", lambda _, start, size: taken.append((start, size)))
    calibration.stored(tmp_path / "images.npy", tmp_path / "train", samples, spec)
    assert taken == [(0, (tmp_path / "images.npy").stat().st_size)]
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left") as raised:
        calibration.stored(tmp_path / "images.npy", tmp_path / "train", read_samples(tmp_path / "train"), spec)
    assert raised.value.filename == str(tmp_path / "images.npy")


def test_a_target_without_room_is_no_target_less(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder of all targets is not moved in without it."""

    def converter(*_: Any) -> None:
        try:
            full()
        except OSError as error:
            raise RuntimeError("the graph cannot be serialized") from error

    write_text(tmp_path / "herd/export.json", "old")
    monkeypatch.setattr("pipeline.models.nets.load_model", converter)

    def body() -> None:
        with new_folder(tmp_path / "herd") as folder:
            export._export_one(tmp_path, np.zeros((1, 1, 8, 8, 3), np.uint8), folder, 0.1, None, "onnx_float")

    assert exit_code(body) == 1
    said = capsys.readouterr().err
    assert said == f"error: {tmp_path}/herd: no room for model.onnx; make room on the disk\n"
    assert [(p.name, p.read_text()) for p in (tmp_path / "herd").iterdir()] == [("export.json", "old")]


@pytest.mark.parametrize(
    ("error", "found"),
    [
        (OSError(errno.EDQUOT, "Disk quota exceeded"), True),
        (RuntimeError("Error: IO Error: No space left on device (os error 28)"), True),
        (ValueError("no kernel for os error 2"), False),
        (OSError(errno.EACCES, "Permission denied"), False),
    ],
)
def test_what_says_that_a_disk_is_full(error: Exception, found: bool) -> None:
    assert is_full(error) == found

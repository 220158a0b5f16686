"""Training that was killed goes on to the weights of an unbroken one, wherever it is moved to, whatever rots."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_train import PLACES, change_the_epoch, digest, flip_a_bit_of_a_moment, kill_after_an_epoch, pictures, run

from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.training import train as train_module
from pipeline.training.train import train_run

STOPS_EARLY = {"epochs": 6, "patience": 1, "learning_rate": 1e-9}


def train(root: Path) -> None:
    train_run("r", run(**STOPS_EARLY), *[root / name for name in PLACES], workers=0)


def model(root: Path) -> str:
    return digest(root / "model/model.safetensors")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, and what an unbroken training makes of it that stops after a few of its epochs."""
    root = tmp_path_factory.mktemp("resume") / "project"
    for name, count in (("train", 8), ("val", 4)):
        pictures(root / name, count)
    train(root)
    trained = read_json(root / "model/model.json")["trained"]
    assert trained["epochs"] < trained["planned_epochs"]
    return root


@pytest.fixture
def project(data: Path, tmp_path: Path) -> Path:
    """The data, untrained."""
    return shutil.copytree(data, tmp_path / "project", ignore=lambda *_: ["model", "report", "resume", "features"])


def die(*_: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("moment", ["write_model", "write_json"])
def test_killed_after_its_last_epoch_it_trains_no_other_weights(
    data: Path, project: Path, monkeypatch: pytest.MonkeyPatch, moment: str
) -> None:
    """Early stopping had spoken; meanwhile the project is moved."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(f"{train_module.__name__}.{moment}", die)
        train(project)
    moved = project.rename(project.with_name("moved"))
    train(moved)
    assert model(moved) == model(data)
    for file in ("model/model.json", "report/history.csv"):
        assert (moved / file).read_bytes() == (data / file).read_bytes()
    assert list((moved / "resume").iterdir()) == []


@pytest.mark.parametrize(
    "damage",
    [
        flip_a_bit_of_a_moment,
        change_the_epoch,
        pytest.param(lambda left: left.write_bytes(b""), marks=pytest.mark.exhaustive),
        lambda left: torch.save([torch.load(left, weights_only=True)], left),
    ],
)
def test_a_damaged_checkpoint_is_set_aside_and_training_begins_anew(
    data: Path,
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    damage: Callable[[Path], Any],
) -> None:
    left = kill_after_an_epoch(monkeypatch, run(**STOPS_EARLY), [project / name for name in PLACES])
    damage(left)
    train(project)
    said = capsys.readouterr().out
    assert f"{left}: damaged: its " in said
    assert f"it is kept as {left}.damaged until the run is trained, which begins anew\n" in said
    assert model(project) == model(data)
    assert not read_json(project / "report/training.json")["resumed"]
    assert list((project / "resume").iterdir()) == []


def test_a_second_training_of_one_run_is_refused_by_name(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second(*_: Any) -> None:
        with pytest.raises(InputError, match=r"runs\.r: another process trains it; wait for that one to end"):
            train(project)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(train_module, "_fit_phases", second)
        train(project)
    assert not (project / "model").exists()

"""The self-test of training's own policy: on its images, before anything is learned."""

from pathlib import Path

import numpy as np
import pytest
from test_augment_offline import shifted
from test_train import detector, scenes

from pipeline.augment.policies import POLICIES, Row
from pipeline.augment.policies.policy import Pixels, Policy
from pipeline.core.errors import InputError
from pipeline.training.train import train_run

PLACES = ("train", "val", "model", "report", "resume", "features")


def black(pixels: Pixels, seed: int) -> Pixels:
    return np.zeros_like(pixels)


def moved_alone() -> Policy:
    return Policy(shifted)


def blackened() -> Policy:
    return Policy(look=black)


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (moved_alone, RuntimeError, "policy moved_alone: .* at .* but the image shows it at"),
        (blackened, InputError, "^runs.r.train.online.policy: blackened: of 16 draws 16 show .* expected 4 at most"),
    ],
)
def test_a_policy_with_a_fault_stops_a_training_before_it_begins(tmp_path: Path, monkeypatch, fault, kind, message):
    for split in ("train", "val"):
        scenes(tmp_path / split, 10, side=96)
    monkeypatch.setitem(POLICIES, fault.__name__, Row(f"{__name__}:{fault.__name__}"))
    monkeypatch.setattr("pipeline.training.train._fit_phases", None)  # never reached
    run = detector(online={"policy": fault.__name__, "mosaic": 0.0}, epochs=1)
    with pytest.raises(kind, match=message):
        train_run("r", run, *[tmp_path / name for name in PLACES], workers=0)
    assert not (tmp_path / "model").exists()

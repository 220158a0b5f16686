"""The weights that come with the project can be made anew from the params that lie beside them."""

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.core.resolved import Resolved
from pipeline.datasets.synthetic.params import SampleParams
from pipeline.training.params import TRAINED_BY, LocalizeRun

ROOT = Path(__file__).parents[1]


def test_their_params_are_those_of_this_version(tmp_path: Path) -> None:
    shutil.copy(ROOT / "weights/params.yaml", tmp_path)
    program = [sys.executable, "-m", "stages.params"]
    done = subprocess.run(
        program, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    resolved = Resolved(tmp_path / "resolved.yaml")
    run = resolved.blocks(LocalizeRun, "runs", "pose", only=TRAINED_BY)
    assert (run.model.backbone, run.model.pretrained, run.train.epochs) == ("mobilenetv2_050", False, 24)
    assert resolved.block(SampleParams, "sample").seed != SampleParams().seed, "the default runs' own test images"


def test_the_program_runs_the_stages_and_keeps_the_backbone_in_half_precision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Its own stages, but for their time: each is asked for in a folder in which the last ones have run."""
    asked: list[str] = []

    def run(command: list[str], cwd: str, **_: Any) -> None:
        asked.append(command[2].removeprefix("stages."))
        if asked[-1] == "train":
            (Path(cwd) / "models/pose").mkdir(parents=True)
            trained = {"body.conv.weight": torch.ones(2), "body.bn.count": torch.ones((), dtype=torch.int64)}
            save_file(trained | {"top.weight": torch.ones(2)}, Path(cwd) / "models/pose/model.safetensors")

    monkeypatch.setattr("subprocess.run", run)
    program = runpy.run_path(str(ROOT / "weights/make.py"))
    program["main"].__globals__["HERE"] = tmp_path
    shutil.copy(ROOT / "weights/params.yaml", tmp_path)
    program["main"]()
    assert asked == ["params", "sample", "ingest", "augment", "train"]
    kept = load_file(tmp_path / "mobilenetv2_050.drawn.safetensors")
    assert {name: tensor.dtype for name, tensor in kept.items()} == {
        "conv.weight": torch.float16, "bn.count": torch.int64
    }  # fmt: skip

"""The weights that come with the project can be made anew from the params that lie beside them."""

import ast
import shutil
import subprocess
import sys
from pathlib import Path

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


def test_params_are_resolved_before_a_stage_reads_them() -> None:
    tree = ast.parse((ROOT / "weights/make.py").read_text(encoding="utf-8"))
    loops = [ast.literal_eval(node.iter) for node in ast.walk(tree) if isinstance(node, ast.For)]
    assert [stage for stage, *_ in loops[0]] == ["params", "sample", "ingest", "augment", "train"]

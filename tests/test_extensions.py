"""One place per extension: a target, a head and a policy that one module adds are known wherever the others are."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.augment.policies import POLICIES
from pipeline.core.lazy import load
from pipeline.models.heads import HEADS
from pipeline.ops.decode import FORMS
from pipeline.runtimes.targets import TARGETS, check_targets

ROOT = Path(__file__).parents[1]

ADDED = '''
"""A target of a runtime of its own, a head of the detector and a policy."""

from typing import Literal

import numpy as np

from pipeline.augment.policies import POLICIES, Row
from pipeline.augment.policies.policy import Policy
from pipeline.models.heads import HEADS, AnchorFreeHead, Head
from pipeline.runtimes.targets import TARGETS, Engine, Target


class Mean:
    def __init__(self, path, threads):
        self.threads = threads or 1

    def run(self, images):
        return [images.mean((1, 2), dtype=np.float32)]


def export(deployed, calibration, path, output_names):
    path.write_text(f"mean of {len(output_names)}")
    return {}


def dark():
    return Policy(look=lambda pixels, seed: pixels // 2)


class NearHead(AnchorFreeHead):
    kind: Literal["near"] = "near"


MEAN = Engine(name="NumPy", tag="numpy", runtime="added:Mean")
TARGETS["mean"] = Target("model.mean", MEAN, "added:export", int8=True, numbers="int8", held_against="onnx_float")
HEADS["near"] = Head("detect", NearHead, module="pipeline.models.anchor_free:AnchorFree", boxes="distances")
POLICIES["dark"] = Row("added:dark")
'''


def run(folder: Path, code: str) -> str:
    """What `code` prints in a process that has imported the module first."""
    (folder / "added.py").write_text(ADDED)
    program = f"import sys; sys.path.insert(0, {str(folder)!r}); import added\n{code}"
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_target_is_known_by_params_help_and_docs_and_is_run(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        f"""
from pathlib import Path
import numpy as np
from pipeline.cli import main
from pipeline.export.params import ExportParams
from pipeline.runtimes.targets import TARGETS, open_runtime, targets_table
print(ExportParams(targets=["mean"]).targets)
print(targets_table())
path = Path({str(tmp_path)!r}) / TARGETS["mean"].file
TARGETS["mean"].export(None, [], path, ["mean"])
print(open_runtime("mean", path).run(np.full((1, 8, 8, 3), 4, np.uint8)))
try:
    main(["predict", "--help"])
except SystemExit:
    pass
""",
    )
    assert "['mean']" in said
    assert "| `mean` | `model.mean` | int8 | `onnx_float` | NumPy |" in said
    assert "4., 4., 4." in said
    assert "coreml, mean" in " ".join(said.split())


def test_a_head_is_known_by_params_and_built_described_and_decoded(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import numpy as np
import torch
from pipeline.core.spec import ModelSpec
from pipeline.export.card.contract import preprocessing
from pipeline.models.nets import build
from pipeline.ops.decode import decode
from pipeline.ops.preprocess import Frame
from pipeline.training.params import DetectModel
model = DetectModel.model_validate({"size": 64, "head": {"kind": "near", "neck": 16, "channels": 16}})
predict = {"score": 0.001, "nms": "hard", "nms_iou": 0.5, "max_objects": 3}
spec = ModelSpec("r", "d", "detect", ["cat"], [], [], [], "mobilenetv2_035", model.head.model_dump(), 64, "stretch",
                 [0.5] * 3, [0.5] * 3, predict)
net = build(spec).eval()
spec.outputs, spec.strides, spec.boxes = list(net.outputs), list(net.strides), net.boxes
with torch.inference_mode():
    outputs = [o[0].numpy() for o in net(torch.zeros(1, 3, 64, 64))]
print(preprocessing(spec)["decode"])
print(len(decode(outputs, spec, Frame(1, 1, 0, 0))[2]), "objects")
""",
    )
    assert "'kind': 'near'" in said
    assert "'boxes': 'distances'" in said
    assert "[4, S/s, S/s]: left, top, right, bottom" in said
    assert said.endswith("3 objects\n")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"file": "model.onnx"}, "model.onnx is the file of another one too"),
        ({"held_against": "onnx_floot"}, "held_against: no target 'onnx_floot'"),
    ],
)
def test_a_target_that_cannot_stand_beside_the_others_is_refused(change: dict[str, str], message: str) -> None:
    row = replace(TARGETS["onnx_int8"], file="model.mine")
    check_targets({**TARGETS, "mine": row})
    with pytest.raises(ValueError, match=message):
        check_targets({**TARGETS, "mine": replace(row, **change)})


def test_a_policy_is_known_by_its_row(tmp_path: Path) -> None:
    said = run(
        tmp_path,
        """
import numpy as np
from pipeline.augment.policies import augmenter
from pipeline.core.errors import InputError
print(augmenter("dark")(np.full((8, 8, 3), 8, np.uint8), [], 0)[0].max())
try:
    augmenter("drak")
except InputError as error:
    print(error)
""",
    )
    assert said == "4\nno augmentation policy 'drak'; did you mean 'dark'?\n"


def test_tables_are_read_without_what_their_rows_need() -> None:
    code = """if True:
        import sys
        import pipeline.augment.policies, pipeline.cli, pipeline.models.heads, pipeline.runtimes.targets
        heavy = "torch onnx onnxruntime executorch ai_edge_litert coremltools albumentations imgaug"
        print(sorted(set(heavy.split()) & set(sys.modules)))
    """
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("name", TARGETS)
def test_a_target_has_all_that_is_asked_of_it(name: str) -> None:
    row, engine = TARGETS[name], TARGETS[name].engine
    assert callable(row.export)
    assert bool(engine.runtime) != bool(engine.not_run), "it is run here, or there is a reason"
    assert bool(engine.not_run) == bool(engine.inspect), "what is not run is inspected"
    if row.int8 and engine.runtime:
        assert engine.operators, "an int8 file is held to layers in int8"
    for place in (engine.runtime, engine.inspect, engine.operators, engine.layers, engine.memory):
        assert not place or callable(load(place)), place
    if row.held_against:
        assert row.int8 and not TARGETS[row.held_against].int8
    assert [r.file for r in TARGETS.values()].count(row.file) == 1


@pytest.mark.parametrize("kind", HEADS)
def test_a_head_has_options_of_its_kind_and_a_detectors_what_computes_it(kind: str) -> None:
    row = HEADS[kind]
    field = row.options.model_fields.get("kind")
    assert (field.default if field else row.task) == kind
    assert (row.task == "detect") == bool(row.module) == (row.boxes in FORMS)
    if row.module:
        assert {"forward", "loss"} <= set(dir(row.module_class))


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_leads_to_a_function(name: str) -> None:
    assert callable(load(POLICIES[name].build))

"""The stages one after another in one process, on the default runs that the chain of the tests leaves out: a classifier
that learns from class folders, and a localizer.
"""

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import copy_project, keep_runs, set_params
from PIL import Image
from shared import exported_here, made_once

from pipeline.core.sample import read_dataset, read_samples
from stages.augment import main as augment
from stages.evaluate import evaluate
from stages.export import export
from stages.ingest import main as ingest
from stages.params import params
from stages.sample import sample
from stages.train import train
from stages.verify import verify

TARGETS = ["onnx_float", "onnx_int8"]
METRICS = {
    "alpaca": {"accuracy", "macro_f1"},
    "pose": {"presence_accuracy", "mean_iou", "nme", "pck"},
}


def smallest(name: str) -> dict[str, Any]:
    return {
        **{f"sample.{other}": {"images": 10, "side": 32} for other in ("alpaca", "herd", "pose")},
        "sample.actions": {"groups": 3, "clips": 1, "frames": 2, "side": 32},
        f"sample.{name}": {"images": 24, "side": 64},
        # few layers, so that an export takes seconds; the chain of the tests has weights that come along
        f"runs.{name}.model": {"size": 64, "backbone": "mobilenetv1_050_shallow"},
        f"runs.{name}.train.epochs": 2,
        f"runs.{name}.export": {"calibration_images": 4, "targets": TARGETS},
        f"runs.{name}.verify.tolerance": 1.0,  # nets that have learned next to nothing
        **({"runs.pose.predict": {"score": "auto"}} if name == "pose" else {}),
        "machine.workers": 0,
    }


@pytest.fixture(params=METRICS)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def project(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose run `name` went through all stages up to verify."""

    def make(folder: Path) -> None:
        copy_project(folder)
        set_params(folder, smallest(name))
        keep_runs(folder, (name,))
        with pytest.MonkeyPatch.context() as patch, exported_here():
            patch.chdir(folder)
            for stage in (params, sample):
                stage("")
            for stage in (ingest, augment, train, evaluate, export, verify):
                stage(name)

    return made_once(tmp_path_factory, f"stages-{name}", make)


def test_the_names_that_others_rely_on(project: Path, name: str) -> None:
    metrics = json.loads((project / f"reports/evaluate/{name}/metrics.json").read_text())
    assert {"task", "n_images", *METRICS[name]} <= set(metrics)
    assert metrics["n_images"] == len(read_samples(project / f"data/ingested/{name}/test")) > 0
    verdict = json.loads((project / f"reports/verify/{name}/verify.json").read_text())
    assert verdict["passed"] is True
    assert verdict["float"] == metrics
    assert list(verdict["targets"]) == TARGETS
    assert verdict["targets"]["onnx_int8"]["size_ratio"] <= 0.35
    assert {p.name for p in (project / f"models/{name}").iterdir()} == {"model.json", "model.safetensors"}


@pytest.mark.parametrize("name", ["pose"])
def test_a_score_that_val_chose_is_what_ships(project: Path, name: str) -> None:
    chosen = json.loads((project / f"reports/evaluate/{name}/metrics.json").read_text())["chosen"]
    assert chosen["images"] == len(read_samples(project / f"data/ingested/{name}/val")) > 0
    exports = project / "exports" / name
    assert json.loads((exports / "model.json").read_text())["predict"] == {"score": chosen["score"]}
    assert json.loads((exports / "preprocess.json").read_text())["decode"]["score"] == chosen["score"]
    assert f"at the score of {chosen['score']:g}, chosen on val," in (exports / "README.md").read_text()


def test_what_came_in_is_what_went_out(project: Path, name: str) -> None:
    summary = json.loads((project / f"reports/ingest/{name}/summary.json").read_text())
    assert summary["seen"] == summary["kept"] + summary["refused"] == 24
    ingested = project / "data/ingested" / name
    splits = {split: read_samples(ingested / split) for split in ("train", "val", "test")}
    assert {split: len(samples) for split, samples in splits.items()} == summary["splits"]
    augmented = read_samples(project / "data/augmented" / name)
    assert {s.id.split("~")[0] for s in augmented} == {s.id for s in splits["train"]}
    assert len(augmented) == 2 * len(splits["train"]), "each with one copy"
    assert read_dataset(project / "data/augmented" / name).labels == read_dataset(ingested).labels


def test_ingest_says_where_its_ledger_is_what_is_empty_and_what_to_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for label in "ab":
        file = tmp_path / f"raw/{label}/1.png"
        file.parent.mkdir(parents=True)
        Image.effect_noise((32, 32), 90).convert("RGB").save(file)

    def said(seed: int) -> str:
        block = f"{{format: folder, path: raw, labels: raw, splits: {{seed: {seed}}}}}"
        (tmp_path / "params.yaml").write_text(f"datasets: {{toys: {block}}}\n")
        params("")
        return ingest("toys")

    ledger, commit = (
        "rows in reports/ingest/toys/ledger.csv, see `pocketlens ledger toys`",
        "splits/toys.csv is to be committed",
    )
    first = said(0)
    assert first.startswith("data/ingested/toys: 2 of 2 images (2 train, 0 val, 0 test), 0 refused; ")
    assert first.endswith(f" {ledger}; warning: no image in val and test; {commit}")
    assert ",,empty_split,no image in val and test,noted\n" in (tmp_path / "reports/ingest/toys/ledger.csv").read_text()
    assert said(0) == first.removesuffix(f"; {commit}")
    assert said(1).endswith(f"; other val, test or seed: 0 files have moved to another split; {commit}")
    assert "moved" not in said(1)

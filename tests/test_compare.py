"""The comparison of backbones: real DVC experiments and a real MLflow store, over a chain that takes no time."""

import csv
import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import timm
from conftest import in_project, project_environment
from dvc.utils.hydra import apply_overrides
from mlflow import MlflowClient
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save_file

from pipeline.augment.policies import POLICIES
from pipeline.config.params import ClassifyRun, Params, parse_params, read_params
from pipeline.config.variants import policy_variants, started, variants
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Sample, write_dataset, write_samples
from pipeline.experiments.baseline import measure
from pipeline.experiments.compare import (
    Row,
    _weights,
    against_best,
    alike,
    compare,
    order,
    table_text,
    write_comparison,
)
from pipeline.experiments.dvc_experiments import _is_left_behind, _override
from pipeline.experiments.paired import Paired
from pipeline.experiments.policies import by_policy, compare_policies
from pipeline.tracking.store import default_uri

ROOT = Path(__file__).parents[1]

# what every stage of the small chain runs: it writes what the real one would, of the figures its backbone stands for
STAGE = """
import json, sys
from pathlib import Path
from pipeline.core.files import write_json, write_text
from pipeline.core.sample import Dataset, Object, Sample, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, write_spec
from pipeline.config.params import read_params

COW = Object("cow", (0.0, 0.0, 1.0, 1.0))
stage, name = sys.argv[1:]
Path("ran.log").parent.mkdir(exist_ok=True)
with open("LOG", "a") as log:
    log.write(f"{stage} {Path.cwd()}\\n")
params = read_params()
if stage in ("ingest", "augment"):
    write_json(f"reports/{stage}/{name}/summary.json", {})
    if stage == "ingest":
        write_samples(Path(f"data/ingested/{name}/test"), [Sample("1", "1.jpg", 8, 8, "test", objects=[COW])])
        write_dataset(Path(f"data/ingested/{name}"), Dataset(name, ["cow", "goat"], counts={"test": 1}))
    sys.exit()
run = params.run(name)
of_policy = {"photo": 0.9, "photo_zoom": 0.5}.get(run.train.online.policy)
accuracy = {"good": 0.9, "poor": 0.6}.get(run.model.backbone, of_policy and round(of_policy + run.train.seed / 50, 2))
metrics = {"task": "detect", "n_images": 8, "AP": accuracy}
if stage == "train":
    if accuracy is None:
        sys.exit("error: backbone 'none' is not in timm")
    place = (name, run.dataset, run.task, ["cow", "goat"], [], [], [], run.model.backbone, {}, run.model.size)
    write_spec(f"models/{name}/model.json", ModelSpec(*place, run.model.resize, [0.5] * 3, [0.5] * 3))
    write_text(f"models/{name}/reached", f"{accuracy}")
    write_text(f"reports/train/{name}/history.csv",
               "epoch,train_loss,val_loss,val_metric,learning_rate\\n0,1.0,1.0,0.5,0.1\\n")
    write_json(f"reports/train/{name}/training.json", {"seconds": 10.0 * run.train.epochs})
elif stage == "evaluate":
    write_json(f"reports/evaluate/{name}/metrics.json", metrics)
    found = [Object(o.label, o.box, score=0.9) for o in [COW]]
    write_samples(Path(f"reports/evaluate/{name}/predictions"), [Sample("1", "1.jpg", 8, 8, "test", objects=found)])
elif stage == "export":
    cost = {"macs": int(accuracy * 1e9), "params": 1000}
    made = {"cost": cost, "float_weights_bytes": 4000, "targets": {}, "not_made": {}}
    write_json(f"exports/{name}/export.json", made)
else:
    target = {"metrics": metrics, "drop": 0.0, "size_bytes": 1000, "latency_ms": {"median": 1.5}}
    verdict = {"passed": True, "main_metric": "AP", "float": metrics, "targets": {"onnx_int8": target}}
    write_json(f"reports/verify/{name}/verify.json", verdict)
    write_json(f"reports/verify/{name}/verdict.json", verdict)
"""


def chain() -> dict[str, Any]:
    run, dataset = "herd", "herd"
    ingested, trained = f"data/ingested/{dataset}", f"models/{run}"
    stages: dict[str, Any] = {
        "ingest": (dataset, [], [], [ingested, f"reports/ingest/{dataset}"]),
        "augment": (dataset, [], [ingested], [f"reports/augment/{dataset}"]),
        "train": (run, [{"resolved.yaml": [f"runs.{run}"]}], [ingested], [trained, f"reports/train/{run}"]),
        "evaluate": (
            run,
            [],
            [trained, ingested],
            [f"reports/evaluate/{run}/{made}" for made in ("metrics.json", "predictions")],
        ),
        "export": (run, [], [trained, ingested], [f"exports/{run}"]),
        "verify": (
            run,
            [],
            [f"{ingested}/test", f"exports/{run}", f"reports/evaluate/{run}/metrics.json"],
            [f"reports/verify/{run}"],
        ),
        # no stage of a comparison: its page is in the folder of one, and not made
        "report": (run, [], [f"reports/verify/{run}"], [f"reports/evaluate/{run}/report.html"]),
    }
    return {
        "stages": {
            "params": {
                "cmd": "python -m stages.params",
                "deps": ["params.yaml"],
                "outs": [{"resolved.yaml": {"cache": False}}],
            }
        }
        | {
            stage: {
                "foreach": [name],
                "do": {"cmd": f"python stage.py {stage} ${{item}}", "params": params, "deps": deps, "outs": outs},
            }
            for stage, (name, params, deps, outs) in stages.items()
        }
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A chain of one detector whose data are ingested; its dvc.lock and data are not in git."""
    folder = tmp_path / "my project"
    folder.mkdir()
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    shutil.copytree(ROOT / "weights", folder / "weights")
    (folder / "stage.py").write_text(STAGE.replace('"LOG"', repr(str(tmp_path / "ran.log"))))
    (folder / "dvc.yaml").write_text(json.dumps(chain()))
    (folder / ".gitignore").write_text("/data\n/models\n/exports\n/reports\n/mlflow.db*\n/mlartifacts\n")
    for command in (
        ["git", "init", "-q"],
        ["git", "config", "user.name", "test"],
        ["git", "config", "user.email", "test@localhost"],
        ["dvc", "init", "-q"],
        ["git", "add", "-A"],
        ["git", "commit", "-qm", "start"],
    ):
        in_project(folder, *command)
    return folder


def params() -> Params:
    return read_params(ROOT / "params.yaml")


def compared(project: Path, *models: str, **settings: Any) -> list[Row]:
    environment = project_environment() | {"PYTHONPATH": str(ROOT)}
    # two of them are not stated in params.yaml
    unstated = {"train.seed": 3, "export.quantize.mode": "qat"}
    settings = {"model.pretrained": False, "train.epochs": 2, **unstated, **settings}
    made = variants(params(), "herd", list(models), settings)
    return list(compare(project, "herd", params().run("herd"), made, None, environment))


def ran(project: Path) -> list[str]:
    lines = (project.parent / "ran.log").read_text().splitlines()
    return [line.split()[0] for line in lines]


def mlflow_runs(project: Path) -> list[tuple[str, float]]:
    client = MlflowClient(default_uri(project))
    experiment = client.get_experiment_by_name("compare-herd")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id], order_by=["metrics.`float/AP` DESC"])
    return [(r.info.run_name, r.data.metrics["cost/macs"]) for r in found]


def test_a_model_is_a_dvc_experiment_and_an_mlflow_run(project: Path) -> None:
    before = {p.relative_to(project) for p in project.glob("*")}
    rows = compared(project, "poor", "none", "good")
    assert [r.model for r in order(rows)] == ["good", "poor", "none"]
    assert rows[0] == Row("poor", 0.6, 0.6, 600000000, 1000, 4000, 1000, None, 1.5, 20.0, "herd-poor")
    assert rows[1] == Row("none", note="backbone 'none' is not in timm")
    assert mlflow_runs(project) == [("good", 900000000.0), ("poor", 600000000.0)]
    shown = json.loads(in_project(project, "dvc", "exp", "show", "--json").stdout)
    experiments = {e["revs"][0]["name"]: e["revs"][0]["data"] for e in shown[1]["experiments"]}
    assert set(experiments) == {"herd-poor", "herd-good"}
    assert experiments["herd-good"]["params"]["params.yaml"]["data"]["runs"]["herd"]["model"]["backbone"] == "good"
    (ref,) = in_project(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps/**/herd-good").stdout.split()
    made = YAML(typ="safe").load(in_project(project, "git", "show", f"{ref}:resolved.yaml").stdout)["runs"]["herd"]
    assert (made["model"]["backbone"], made["train"]["seed"]) == ("good", 3)
    assert made["export"]["quantize"]["mode"] == "qat"
    # the workspace is as it was, but for the data that the comparison needs and the tracker's own files
    after = {p.relative_to(project) for p in project.glob("*")}
    own = {"mlflow.db", "mlflow.db.lock", "mlartifacts"}
    assert {str(p) for p in after - before} == {"data", "reports", "dvc.lock", *own}
    assert in_project(project, "git", "status", "--porcelain").stdout == "?? dvc.lock\n"
    assert not (project / "reports/train").exists()
    client = MlflowClient(default_uri(project))
    assert client.search_registered_models() == []
    (row,) = compared(project, "good", **{"train.epochs": 3})
    assert row.train_seconds == 30
    assert sorted(name for name, _ in mlflow_runs(project)) == ["good", "poor"], "the new takes the last one's place"


@pytest.mark.exhaustive
def test_again_nothing_runs_and_a_lost_store_is_filled_again(project: Path) -> None:
    compared(project, "good", "poor")
    before, lock = ran(project), (project / "dvc.lock").read_bytes()
    assert before == ["ingest", "augment", *["train", "evaluate", "export", "verify"] * 2]
    (project / "mlflow.db").unlink()
    assert [r.figure for r in compared(project, "good", "poor")] == [0.9, 0.6]
    assert ran(project) == before
    assert (project / "dvc.lock").read_bytes() == lock
    assert len(mlflow_runs(project)) == 2


@pytest.mark.exhaustive
def test_policies_are_compared_over_seeds(project: Path) -> None:
    environment = project_environment() | {"PYTHONPATH": str(ROOT)}
    made = policy_variants(params(), "herd", ["photo_zoom", "photo"], 2, {"train.epochs": 2})
    assert {seed: run.train.seed for seed, run in made["photo"].items()} == {0: 0, 1: 1}
    made |= policy_variants(params(), "herd", ["photo_geometry"], 1, {})
    said = list[str]()
    with pytest.raises(InputError, match="1 of 5 trainings failed: photo_geometry-0"):
        said.extend(compare_policies(project, "herd", params().run("herd"), made, None, environment))
    assert said[:2] == ["1 of 5: photo_zoom-0: AP 0.5", "2 of 5: photo_zoom-1: AP 0.52"]
    head, best, other, failed, near, place = said[-1].splitlines()
    assert best.split() == ["photo", "0.9100", "0.9000", "0.9200", "-", "2", "20"]
    assert other.split()[:5] == ["photo_zoom", "0.5100", "0.5000", "0.5200", "0.4000"]
    assert failed.split() == ["photo_geometry", "-", "-", "-", "-", "0", "-"]
    assert near == "no difference in AP from photo can be told on these test images: photo_zoom", "of one image"
    assert head.split()[0] == "policy" and place.startswith("reports/compare/herd/policies.csv; MLflow: make ui, ")
    with (project / "reports/compare/herd/policies.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["policy"], r["seed"], r["AP"]) for r in rows[2:4]] == [("photo", "0", "0.9"), ("photo", "1", "0.92")]
    client = MlflowClient(default_uri(project))
    runs = client.get_experiment_by_name("policies-herd")
    assert runs is not None
    named = sorted(r.info.run_name for r in client.search_runs([runs.experiment_id]))
    assert named == ["photo-0", "photo-1", "photo_zoom-0", "photo_zoom-1"]
    assert ran(project).count("train") > 0 == ran(project).count("export"), "only their figures on test are compared"
    with pytest.raises(InputError, match=r"--policies.*foto.*did you mean 'photo'"):
        policy_variants(params(), "herd", ["foto"], 2, {})
    pixels = POLICIES["photo"]._replace(tasks=("classify",))
    with mock.patch.dict(POLICIES, pixels=pixels), pytest.raises(InputError, match="'pixels' moves no boxes"):
        policy_variants(params(), "herd", ["pixels"], 2, {})


def test_without_a_commit_it_says_what_to_do(project: Path) -> None:
    in_project(project, "git", "update-ref", "-d", "HEAD")
    with pytest.raises(InputError, match="git commit"):
        compared(project, "good")


def test_variants_take_the_settings_then_the_models_own_then_the_command_lines() -> None:
    made = variants(params(), "actions", ["vgg16", "resnet18"], {"train.epochs": 1, "model.head.dropout": 0.1})
    assert isinstance(made["vgg16"], ClassifyRun)
    assert made["vgg16"].model.head.model_dump() == {"kind": "flatten", "dropout": 0.1}
    block = params().compare
    assert block is not None
    rates = [made[m].train.learning_rate for m in ("vgg16", "resnet18")]
    assert rates == [block.models["vgg16"]["train.learning_rate"], block.settings["train.learning_rate"]]
    assert [(m, v.model.backbone, v.train.epochs) for m, v in made.items()] == [
        ("vgg16", "vgg16", 1),
        ("resnet18", "resnet18", 1),
    ]
    assert list(variants(params(), "actions", [], {})) == list(block.models)
    assert variants(params(), "alpaca", ["vgg16"], {})["vgg16"].train.epochs == params().run("alpaca").train.epochs


@pytest.mark.parametrize(
    ("run", "settings", "message"),
    [
        ("actions", {"epoch": 1}, "--set.epoch: .*did you mean 'train.epochs'"),
        ("actions", {"model.size": 33}, "--set.model.size: .*multiple of 32, found 33"),
        ("action", {}, "no run 'action'"),
    ],
)
def test_a_wrong_setting_is_named(run: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        variants(params(), run, [], settings)


def test_without_its_block_there_is_nothing_to_compare() -> None:
    text = (ROOT / "params.yaml").read_text()
    without = parse_params(text[: text.index("compare:\n")], Path("params.yaml"))
    with pytest.raises(InputError, match=r"compare: missing"):
        variants(without, "", [], {})
    with pytest.raises(InputError, match=r"compare: missing"):
        variants(without, "actions", [], {})
    assert list(variants(without, "actions", ["vgg16"], {})) == ["vgg16"]


ROWS = [
    Row("hog_svm", 0.5, None, None, 13000, 52000, None, 3.0, None, 2.0),
    Row("a", 0.75, 0.7, 10**7, 10**6, 4 * 10**6, 10**6, 2.0, 1.0, 10.0, "r-a"),
    Row("b", 0.9, 0.9, 10**9, 10**8, 4 * 10**8, 10**8, 20.0, 10.0, 100.0, "r-b"),
    Row("c", note="the loss is nan in epoch 0\non these images: x"),
]


def test_the_table_has_the_classical_model_first_then_the_best(tmp_path: Path) -> None:
    rows = order(ROWS[::-1])
    assert [r.model for r in rows] == ["hog_svm", "b", "a", "c"]
    lines = table_text(rows, "accuracy").splitlines()
    assert lines[0].split()[:2] == ["model", "accuracy"]
    assert lines[2].split() == [
        "b",
        "0.9000",
        "-",
        "0.9000",
        "1000.0",
        "100.00",
        "400.00",
        "100.00",
        "20.00",
        "10.00",
        "100",
    ]
    assert len({len(line) for line in lines[:4]}) == 1
    assert lines[4].endswith("failed: the loss is nan in epoch 0")
    write_comparison(rows, "accuracy", tmp_path / "t.csv", tmp_path / "t.png")
    with (tmp_path / "t.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [(r["model"], r["accuracy"], r["macs"]) for r in read[:2]] == [
        ("hog_svm", "0.5", ""),
        ("b", "0.9", "1000000000"),
    ]
    assert Image.open(tmp_path / "t.png").size[0] > 600


def test_a_difference_that_the_test_images_cannot_tell_is_said_to_be_none(tmp_path: Path) -> None:
    """Of 100 images the best model has all right, one misses 2 and one 30; one was judged on other images."""
    truth = [Sample(f"{i:02}", "", 8, 8, label="cow") for i in range(100)]
    said = {n: [replace(s, label="goat") if i < n else s for i, s in enumerate(truth)] for n in (0, 2, 30)}
    rows = [Row(str(n), 1 - n / 100, answers=answers) for n, answers in said.items()]
    judged = Paired("classify", truth, Dataset("herd", ["cow", "goat"]))
    rows = against_best([*rows, Row("old", 1.0, answers=truth[:50]), Row("failed", note="no")][::-1], judged)
    behind = {row.model: row.behind for row in rows}
    assert behind["0"] is behind["old"] is behind["failed"] is None
    assert behind["2"].by == 0.02 and behind["2"].low <= 0 < behind["2"].high
    assert behind["30"].by == 0.3 and 0.15 < behind["30"].low < 0.3 < behind["30"].high
    assert alike(rows, "accuracy") == "\nno difference in accuracy from 0 can be told on these test images: 2"
    assert alike(rows[:1], "accuracy") == ""
    assert "0.3000 [0.2" in table_text(rows, "accuracy")
    write_comparison(rows, "accuracy", tmp_path / "t.csv", tmp_path / "t.png")
    with (tmp_path / "t.csv").open(newline="") as file:
        read = {row["model"]: row for row in csv.DictReader(file)}
    assert (read["30"]["behind"], read["0"]["behind"]) == ("0.3", "")
    assert float(read["2"]["behind_low"]) <= 0 < float(read["2"]["behind_high"])


def pictures(folder: Path, count: int, labels: list[str]) -> None:
    """A bar that lies, stands or leans: told apart by its edges alone."""
    folder.mkdir(parents=True)
    samples = []
    for i in range(count):
        draw = np.random.default_rng(i)
        pixels = draw.integers(0, 60, (48, 48, 3), dtype=np.uint8)
        at, kind = int(draw.integers(8, 32)), i % len(labels)
        pixels[(slice(at, at + 8), slice(4, 44)) if kind == 0 else (slice(4, 44), slice(at, at + 8))] += 150
        image = Image.fromarray(pixels)
        image = image.rotate(45, fillcolor=(30, 30, 30)) if kind == 2 else image
        image.save(folder / f"{i}.png")
        samples.append(Sample(f"{i}", f"{i}.png", 48, 48, label=labels[kind]))
    write_samples(folder, samples)
    write_dataset(folder, Dataset("bars", labels))


@pytest.mark.parametrize("labels", [["lies", "stands"], ["lies", "stands", "leans"]])
def test_histograms_and_a_linear_svm_tell_bars_apart(tmp_path: Path, labels: list[str]) -> None:
    pictures(tmp_path / "train", 30, labels)
    pictures(tmp_path / "test", 12, labels)
    run = variants(params(), "actions", ["vgg16"], {"model.size": 64})["vgg16"]
    assert isinstance(run, ClassifyRun)
    found = measure("actions", run, tmp_path / "train", tmp_path / "test", tmp_path / "out")
    assert found["float"]["accuracy"] == 1.0
    with np.load(tmp_path / "out/model.npz") as file:
        assert file["weights"].shape == (len(labels), 7 * 7 * 4 * 9)
        assert found["cost"]["params"] == file["weights"].size + file["bias"].size
    assert found["size_bytes"] == (tmp_path / "out/model.npz").stat().st_size
    assert json.loads((tmp_path / "out/figures.json").read_text()) == found


def test_a_model_of_another_backbone_starts_from_weights_of_its_own(tmp_path: Path) -> None:
    """A run that was added has a file for its backbone, which fits no other one."""
    (tmp_path / "weights").mkdir()
    save_file(timm.create_model("mobilenetv2_035").state_dict(), tmp_path / "weights/mobilenetv2_035.safetensors")
    block = {"dataset": "d", "task": "classify", "model": {"pretrained": "weights/mobilenetv2_100.safetensors"}}
    datasets = {"d": {"format": "folder", "path": "d", "labels": "d"}}
    read = parse_params(json.dumps({"datasets": datasets, "runs": {"r": block}}), tmp_path / "params.yaml")

    def starts(*models: str, **settings: Any) -> list[bool | str]:
        found = started(tmp_path, read.run("r"), variants(read, "r", list(models), settings))
        assert [run.model.backbone for run in found.values()] == list(models)
        return [run.model.pretrained for run in found.values()]

    files = [f"weights/{backbone}.safetensors" for backbone in ("mobilenetv2_100", "mobilenetv2_035")]
    assert starts("mobilenetv2_100", "mobilenetv2_035") == files
    assert _weights(variants(read, "r", ["mobilenetv2_100"], {})["mobilenetv2_100"]) == [files[0], "weights/model.json"]
    assert starts("mobilenetv2_035", **{"model.pretrained": False}) == [False]
    assert starts("mobilenetv2_035", **{"model.pretrained": True}) == [True]
    with pytest.raises(InputError, match=r"compare\.models\.mobilenetv2_077\..*--set model\.pretrained=false"):
        starts("mobilenetv2_077")


def test_a_policy_that_is_a_list_gets_through_dvc_as_it_is(tmp_path: Path) -> None:
    policy = [
        {"transform": "Rotate", "limit": [-15, 15], "p": 0.5},
        {"transform": "Affine", "translate_percent": {"x": [-0.1, 0.1], "y": 0}, "keep_ratio": True, "balanced": None},
        {"transform": "Illumination", "mode": "it's, {corner}: [1]\\"},
    ]
    file = tmp_path / "params.yaml"
    file.write_text("runs: {r: {train: {online: {policy: none}}}}\n")
    apply_overrides(str(file), [f"++runs.r.train.online.policy={_override(policy)}"])
    assert YAML(typ="safe").load(file)["runs"]["r"]["train"]["online"]["policy"] == policy


def test_a_policy_under_which_the_metric_is_undefined_comes_last() -> None:
    """As AP of a test split without objects: its trainings succeed."""
    truth = [Sample("1", "", 8, 8, label="cow")]
    rows = {"none": [Row("none-0", None, answers=truth)], "photo": [Row("photo-0", 0.5, answers=truth)], "failed": []}
    tried = by_policy(rows, Paired("classify", truth, Dataset("herd", ["cow"])))
    assert [(one.policy, one.figure, one.behind) for one in tried] == [
        ("photo", 0.5, None), ("failed", None, None), ("none", None, None)
    ]  # fmt: skip


def test_only_files_of_the_project_that_git_leaves_behind_are_copied(tmp_path: Path) -> None:
    for command in (["init", "-q"], ["add", "known.bin"]):
        (tmp_path / "known.bin").touch()
        subprocess.run(["git", *command], cwd=tmp_path, check=True)
    (tmp_path / "new.bin").touch()
    paths = ("known.bin", "new.bin", "nowhere.bin", str(tmp_path / "new.bin"))
    assert [_is_left_behind(tmp_path, path) for path in paths] == [False, True, False, False]

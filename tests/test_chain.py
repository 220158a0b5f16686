"""The whole chain as its users run it: DVC itself, on the smallest params."""

import csv
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, RUNS, asked_for, guarded, in_project, project_environment, set_params, stages_run
from finished_project import client
from shared import exported_here

from pipeline.core.image_file import open_image
from pipeline.core.layer import Statement, content_of, look_of, pixels_of, read_layer, write_layer
from pipeline.core.sample import read_dataset, read_samples
from stages import augment, evaluate, export, ingest, params, train, verify

pytestmark = pytest.mark.chain
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SMALL = "mobilenetv1_050_shallow"  # few layers, so that an export takes seconds
TARGETS = {"actions": {"onnx_float", "onnx_int8"}, "herd": {"onnx_float", "onnx_int8", "executorch_int8"}}


def test_every_stage_ran_once(chain: Path) -> None:
    """With no database to be found all but the view is made, and the view is all that is left to do with one."""
    said = (chain / "without_database.log").read_text()
    *ran, last = stages_run(said)
    assert last == "inspect"
    assert "error: FiftyOne finds no database at mongodb://127.0.0.1:1" in said
    per_dataset = [f"{stage}@{name}" for stage in ("ingest", "augment") for name in RUNS]
    per_run = [f"{s}@{name}" for s in ("train", "evaluate", "export", "verify", "report", "track") for name in RUNS]
    assert sorted({"params", *ran}) == sorted(["params", "sample", *per_dataset, *per_run])
    assert len(set(ran)) == len(ran)
    assert stages_run((chain / "with_database.log").read_text()) == ["inspect"]
    assert {p.stem for p in (chain / "reports/inspect").iterdir()} == set(RUNS)


def test_no_address_off_this_machine_is_asked_for(chain: Path, project: Path) -> None:
    """By no process of the chain, the views of FiftyOne and MLflow among them, and none of these commands."""
    watched, asked = asked_for(chain / "asked.log")
    assert watched > len(stages_run((chain / "without_database.log").read_text()))
    assert asked == []
    image = next((project / "data/ingested/herd/test").glob("*.jpg"))
    guard = guarded(project / "commands.log")
    for command in (
        ("predict", str(image), "--run", "herd"),
        ("predict", str(image), "--run", "herd", "--target", "onnx_int8"),
        ("trace", str(project / "exports/herd/model.json")),
    ):
        in_project(project, "pocketlens", *command, more=guard)
    assert asked_for(project / "commands.log") == (3, [])


def test_an_ordinary_run_prints_no_warning(chain: Path) -> None:
    """What everyone always sees nobody reads; torch's logs begin with W and the date. DVC's is of the stage that finds
    no database.
    """
    said = re.split(r"[\r\n]", (chain / "without_database.log").read_text())
    found = [line for line in said if re.search(r"warning|deprecat|\bW\d{4} ", line, re.IGNORECASE)]
    assert [line for line in found if "failed to run: sh stages/python.sh -m stages.inspect" not in line] == []


def test_nothing_is_left_to_do(project: Path) -> None:
    assert "up to date" in in_project(project, "dvc", "status").stdout
    assert stages_run(in_project(project, "dvc", "repro").stdout) == []


@pytest.mark.parametrize("run", RUNS)
def test_the_names_that_others_rely_on(chain: Path, run: str) -> None:
    metrics = json.loads((chain / f"reports/evaluate/{run}/metrics.json").read_text())
    wanted = {
        "actions": {"accuracy", "macro_f1", "clip_accuracy"},
        "herd": {"AP", "AP50", "AP75", "per_class", "nme", "pck"},
    }[run]
    assert {"task", "n_images", *wanted} <= set(metrics)
    assert metrics["n_images"] == len(read_samples(chain / f"data/ingested/{run}/test"))
    verdict = json.loads((chain / f"reports/verify/{run}/verify.json").read_text())
    assert verdict["passed"] is True
    assert verdict["float"] == metrics
    assert set(verdict["targets"]) == TARGETS[run]
    for target in verdict["targets"].values():
        assert {"metrics", "drop", "tolerance", "size_bytes", "size_ratio", "latency_ms", "passed", "reason"} <= set(
            target
        )
    exported = json.loads((chain / f"exports/{run}/export.json").read_text())["targets"]
    for target in TARGETS[run] - {"onnx_float"}:
        assert exported[target].get("outside_backend", []) == []
        assert verdict["targets"][target]["size_ratio"] <= 0.35
    assert {p.name for p in (chain / f"models/{run}").iterdir()} == {"model.json", "model.safetensors"}


@pytest.mark.parametrize("dataset", RUNS)
def test_what_came_in_is_what_went_out_and_nothing_leaks(chain: Path, dataset: str) -> None:
    summary = json.loads((chain / f"reports/ingest/{dataset}/summary.json").read_text())
    assert summary["seen"] == summary["kept"] + summary["refused"]
    ingested = chain / "data/ingested" / dataset
    splits = {split: read_samples(ingested / split) for split in ("train", "val", "test")}
    assert {split: len(samples) for split, samples in splits.items()} == summary["splits"]
    assert sum(map(len, splits.values())) == summary["kept"]
    groups = [{s.group for s in samples if s.group} for samples in splits.values()]
    assert not (groups[0] & groups[1] or groups[0] & groups[2] or groups[1] & groups[2])
    for split, samples in splits.items():
        assert all((ingested / split / s.file_name).is_file() for s in samples)
    with (chain / f"reports/ingest/{dataset}/ledger.csv").open(newline="") as file:
        assert csv.DictReader(file).fieldnames == ["file", "key", "rule", "found", "done"]
    with (chain / f"splits/{dataset}.csv").open(newline="") as file:
        recorded = {row["file"]: row["split"] for row in csv.DictReader(file)}
    assert set(recorded.values()) == ({"train", "val"} if dataset == "actions" else set()), "the source has test"
    augmented = read_samples(chain / "data/augmented" / dataset)
    train = {s.id for s in splits["train"]}
    assert {s.id.split("~")[0] for s in augmented} == train
    assert read_dataset(chain / "data/augmented" / dataset).labels == read_dataset(ingested).labels


def test_a_dataset_is_compared_with_what_it_was_at_a_revision(project: Path) -> None:
    commit_lock(project)
    metadata = project / "data/ingested/herd/test/metadata.jsonl"
    metadata.chmod(0o644)
    *rows, last = metadata.read_text().splitlines()
    metadata.write_text("".join(f"{row}\n" for row in rows))
    found = json.loads(in_project(project, "pocketlens", "ledger", "herd@HEAD", "herd", "--json").stdout)
    assert found["removed"] == [json.loads(last)["id"]]
    assert found["changed"] == found["added"] == []
    said = in_project(project, "pocketlens", "ledger", "herd@v1", "herd", check=False).stderr
    assert said == "error: herd@v1: v1 has no dvc.lock: commit it after `make repro`\n"


def commit_lock(project: Path) -> None:
    in_project(project, "git", "add", "dvc.lock")
    in_project(project, "git", "-c", "user.name=t", "-c", "user.email=t@localhost", "commit", "-qm", "lock")


@pytest.mark.exhaustive
def test_a_round_of_labels_is_a_version_on_record(project: Path) -> None:
    """MLflow's run names the layer, and the ledger of before and after lists what the round has changed."""
    commit_lock(project)
    sample = next(s for s in read_samples(project / "data/ingested/herd/train") if s.objects)
    image = open_image(project / "data/ingested/herd/train" / sample.file_name)
    about = pixels_of(image), look_of(image), "empty", content_of(sample)
    write_layer(project / "labels/herd/round1.jsonl", [Statement(sample.id, *about, by="ann")])
    set_params(project, {"datasets.herd.layers": ["round1"], "runs.herd.export.targets": ["onnx_float"]})
    in_project(project, "dvc", "repro", "track@herd")
    (experiment,) = (e for e in client(project).search_experiments() if e.name == "pocketlens")
    (run,) = client(project).search_runs([experiment.experiment_id])
    (data,) = run.inputs.dataset_inputs
    layers = read_dataset(project / "data/ingested/herd").source["layers"]
    assert list(layers) == ["round1"]
    assert json.loads(data.dataset.source)["layers"] == layers
    found = json.loads(in_project(project, "pocketlens", "ledger", "herd@HEAD", "herd", "--json").stdout)
    assert found["changed"] == [{"id": sample.id, "objects_removed": [o.label for o in sample.objects]}]
    assert found["added"] == found["removed"] == []
    assert found["dataset"]["layers"] == {"before": [], "now": [f"round1 ({layers['round1']})"]}


@pytest.mark.exhaustive
def test_leaks_are_priced_by_the_backbone_of_the_run(project: Path) -> None:
    """By the features that its training would cache, and with them again."""
    ask = ["pocketlens", "leaks", "herd", "--split", "ours", "--json", "--sheet", "sheet.jpg"]
    done = in_project(project, *ask)
    found = json.loads(done.stdout)
    assert found["images"] == json.loads((project / "reports/ingest/herd/summary.json").read_text())["splits"]
    assert found["price"]["images"] == found["images"]["test"]
    assert found["price"]["all"] == found["price"]["clean"]
    assert (found["pairs"], (project / "sheet.jpg").exists()) == ([], False)
    assert "not written, as there is nothing to draw" in done.stderr
    caches = {file.name: file.stat().st_size for file in (project / ".features").iterdir()}
    assert json.loads(in_project(project, *ask).stdout) == found
    assert {file.name: file.stat().st_size for file in (project / ".features").iterdir()} == caches


def test_metrics_show_lists_the_runs_float_and_int8(project: Path) -> None:
    shown = json.loads(in_project(project, "dvc", "metrics", "show", "--json").stdout)
    files = shown[""]["data"]
    for run in RUNS:
        data = files[str(Path("reports/verify") / run / "metrics.json")]["data"]
        assert {"float"} | TARGETS[run] <= set(data)


@pytest.mark.exhaustive
def test_verifying_again_takes_other_times_and_makes_no_new_state(project: Path) -> None:
    verify = project / "reports/verify/actions/verify.json"
    before = verify.read_bytes()
    in_project(project, "dvc", "repro", "--force", "--single-item", "verify@actions")
    assert verify.read_bytes() != before
    assert stages_run(in_project(project, "dvc", "repro").stdout) == []


@pytest.mark.exhaustive
def test_mlflow_has_a_run_and_a_registered_model_each(chain: Path, project: Path) -> None:
    assert sorted(row["run"] for row in tracked(chain)) == sorted(RUNS)
    assert not (project / "mlflow.db").exists()
    in_project(project, "pocketlens", "track")
    assert sorted(row["run"] for row in tracked(project)) == sorted(RUNS)


def tracked(project: Path, experiment: str = "pocketlens") -> list[dict[str, Any]]:
    """MLflow's runs as a process of its own sees them: one that had the database open would still see what it was."""
    table = f"runs_table(Path(), experiment={experiment!r}).to_json(orient='records')"
    script = f"from pathlib import Path; from pipeline.tracking.track import runs_table; print({table})"
    return json.loads(in_project(project, "python", "-c", script).stdout.splitlines()[-1])


@pytest.mark.exhaustive
def test_a_comparison_leaves_the_chain_as_it_is(project: Path) -> None:
    in_project(project, "git", "config", "user.name", "test")
    in_project(project, "git", "config", "user.email", "test@localhost")
    lock = (project / "dvc.lock").read_bytes()
    command = ["pocketlens", "compare", "--models", f"{SMALL},nosuch", "--set", "train.epochs=1"]
    command += ["--set", "export.targets=[onnx_float,onnx_int8]"]
    done = in_project(project, *command, check=False)
    assert done.returncode == 1
    with (project / "reports/compare/actions.csv").open(newline="") as file:
        rows = {row["model"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["hog_svm", SMALL, "nosuch"]
    assert "is not in timm" in rows["nosuch"]["note"]
    assert float(rows["hog_svm"]["accuracy"]) > 0.4
    assert int(rows[SMALL]["macs"]) > int(rows[SMALL]["params"]) > 10**5
    assert float(rows[SMALL]["int8_bytes"]) < 0.35 * float(rows[SMALL]["float_bytes"])
    assert (project / "reports/compare/actions.png").is_file()
    costs = [row["cost/params"] for row in tracked(project, "compare-actions")]
    assert sorted(costs) == sorted(int(rows[m]["params"]) for m in ("hog_svm", SMALL))
    assert (project / "dvc.lock").read_bytes() == lock
    assert stages_run(in_project(project, "dvc", "repro").stdout) == []


@pytest.mark.parametrize(
    ("target", "run"),
    [
        # as the test of addresses asks herd
        *(pytest.param(target, "actions", marks=pytest.mark.exhaustive) for target in ("torch", "onnx_int8")),
        ("executorch_int8", "herd"),
    ],
)
def test_predict_says_something_in_every_runtime(chain: Path, target: str, run: str) -> None:
    picture = next((chain / f"data/ingested/{run}/test").glob("*.jpg"))
    done = in_project(chain, "pocketlens", "predict", str(picture), "--run", run, "--target", target, "--json")
    row = json.loads(done.stdout)
    assert row["file_name"] == str(picture)
    if run == "actions":
        assert set(row["scores"]) == set(read_dataset(chain / "data/ingested/actions").labels)
    else:
        assert {o["label"] for o in row["objects"]} <= set(read_dataset(chain / "data/ingested/herd").labels)


@pytest.mark.parametrize(
    "notebook",
    [
        pytest.param(path, id=path.stem, marks=[] if path.stem == "default_runs" else [pytest.mark.exhaustive])
        for path in NOTEBOOKS
    ],
)
def test_it_runs_on_a_finished_chain(
    notebook: Path, chain: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import nbformat  # here: each worker would import it to find the tests
    from nbclient import NotebookClient

    # one writes a plot; the others change nothing, and one of them shows MLflow's runs
    monkeypatch.setenv("POCKETLENS_PROJECT", str(project if notebook.stem == "mobilenets" else chain))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    shown = nbformat.read(notebook, as_version=4)
    NotebookClient(shown, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    outputs = [output for cell in shown.cells if cell.cell_type == "code" for output in cell.outputs]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    tables = [o for o in outputs if "text/html" in o.get("data", {})]
    least = {"annotation_round": (2, 0), "default_runs": (6, 3), "mobilenets": (2, 4)}[notebook.stem]
    assert len(pictures) >= least[0]
    assert len(tables) >= least[1]
    if notebook.stem == "annotation_round":
        (copy,) = tmp_path.glob("round-*")
        said = "".join(o.get("text", "") for o in outputs)
        check_round(copy, said)


def check_round(copy: Path, said: str) -> None:
    """What the layer says is what `ingest` has taken, and what the ledger of both versions lists."""
    layer = read_layer(copy / "labels/herd/round1.jsonl")
    summary = json.loads((copy / "reports/ingest/herd/summary.json").read_text())
    counts = summary["layers"]["round1"]
    assert len(layer) == summary["splits"]["train"] // 4
    assert counts["conflicts"] == counts["not_there"] == 0
    changed = counts["relabelled"] + counts["emptied"]
    assert changed > 0
    assert changed + counts["unchanged"] == len(layer)
    assert "layers: none -> round1 (" in said
    listed = said[said.index("layers: none") :]
    assert sum(f"  {s.id}: " in listed for s in layer) == changed
    assert "before: AP 0." in said
    assert re.search(r"(before|after) is -?\d\.\d+ behind, 95 % interval", said)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "task", "data", "labels", "weights"),
    [
        pytest.param(
            *("photos", "classify", "alpaca", None, "mobilenet_v2_100.torchvision.fp16.safetensors"),
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            *("boxes", "detect", "alpaca/alpaca", "alpaca-labels", "mobilenetv2_035.timm.fp16.safetensors"),
            marks=pytest.mark.exhaustive,
        ),
        ("clips", "classify", "ucf101", None, "mobilenetv2_035.timm.fp16.safetensors"),
    ],
)
def test_real_photos_and_clips_by_params_alone(
    project: Path,
    name: str,
    task: str,
    data: str,
    labels: str | None,
    weights: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    root = Path(os.environ["POCKETLENS_REAL_DATA"])
    pretrained = root / "weights" / weights
    options = [
        "--backbone",
        "mobilenetv2_100" if "100" in weights else "mobilenetv2_035",
        "--pretrained",
        str(pretrained),
    ]
    if labels:
        options += ["--labels", str(root / labels)]
    size = 96 if name == "photos" else 64
    for knob in (f"model.size={size}", "train.epochs=1", "export.targets=[onnx_int8]", "verify.tolerance=1.0"):
        options += ["--set", knob]
    in_project(project, "pocketlens", "add", name, "--data", str(root / data), "--task", task, *options)
    # by the stages' own functions, in this process: under DVC, as the chain above, each would begin by importing torch
    monkeypatch.chdir(project)
    stages = params.params, ingest.main, augment.main, train.train, evaluate.evaluate, export.export, verify.verify
    with exported_here():
        for stage in stages:
            assert stage(name)
    verdict = json.loads((project / f"reports/verify/{name}/verify.json").read_text())
    tested = read_samples(project / f"data/ingested/{name}/test")
    assert verdict["float"]["n_images"] == len(tested) > 40
    assert verdict["passed"] is True
    known = json.loads((project / f"models/{name}/model.json").read_text())["trained"]["weights"]
    assert weights in json.dumps(known)
    if name == "photos":  # an epoch from ImageNet's weights, at 96 pixels, is enough to be far from chance
        assert verdict["float"]["accuracy"] > 0.65


# ends a process, or DVC with the stage that it runs, once the first epoch's checkpoint is there
KILL = """
import os, signal
_save = save
def save(t, folder, epoch, so_far):
    _save(t, folder, epoch, so_far)
    if epoch == 0 and t.fabric.global_rank == t.fabric.world_size - 1:
        os.kill(os.getpid() if t.fabric.world_size > 1 else 0, signal.SIGKILL)
"""
KILLED = "pipeline/training/loop.py"


def test_killed_training_goes_on_from_its_last_epoch(project: Path) -> None:
    set_params(project, {"runs.herd.train.seed": 9})
    code = project / KILLED
    whole = code.read_text()
    code.write_text(whole + KILL)
    command = ["dvc", "repro", "train@herd"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    killed = subprocess.Popen(command, cwd=project, env=project_environment(), start_new_session=True, **quiet)
    assert killed.wait() == -signal.SIGKILL
    code.write_text(whole)
    assert not (project / "models/herd").exists()
    done = in_project(project, *command)
    assert "resuming from" in done.stdout + done.stderr
    rows = (project / "reports/train/herd/history.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows[1:]] == ["0", "1"]


@pytest.mark.exhaustive
def test_torchrun_on_two_machines_and_on_one_where_a_process_is_killed(project: Path) -> None:
    """Both end with the same weights. The machines are two agents on loopback."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = ["--master-addr", "127.0.0.1", "--master-port", str(free.getsockname()[1])]
    set_params(project, {"machine.workers": 0})
    in_project(project, "python", "-m", "stages.params")
    stage, weights = ["-m", "stages.train", "herd"], project / "models/herd/model.safetensors"
    agents = [
        subprocess.Popen(
            ["torchrun", "--nnodes", "2", "--nproc-per-node", "1", "--node-rank", str(rank), *address, *stage],
            cwd=project,
            env=project_environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in (0, 1)
    ]
    said = [agent.communicate(timeout=600)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert [" is kept, 2 of 2 trained; val_AP" in text for text in said] == [True, False], "the first process speaks"
    of_two_machines = weights.read_bytes()
    code = project / KILLED
    whole = code.read_text()
    code.write_text(whole + KILL)
    command = ["torchrun", "--nproc-per-node", "2", *stage]
    killed = in_project(project, *command, check=False)
    assert killed.returncode != 0
    own = [line for line in killed.stderr.splitlines() if line.startswith("error:")]
    assert len(own) <= 1, own
    assert killed.stderr.count("Traceback") <= 1, "torchrun's own"
    code.write_text(whole)
    weights.unlink()
    done = in_project(project, *command)
    assert "resuming from" in done.stdout
    assert "begun with" not in done.stdout
    assert done.stdout.count(" is kept, 2 of 2 trained; val_AP") == 1
    assert weights.read_bytes() == of_two_machines
    assert json.loads((project / "reports/train/herd/training.json").read_text())["processes"] == 2

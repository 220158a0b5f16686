"""A small project whose chain has run, in the chain's own formats and known to DVC: for what comes after the chain."""

import contextlib
import os
from dataclasses import asdict
from pathlib import Path
from unittest import mock

from dvc.cli import main
from mlflow import MlflowClient
from PIL import Image

from pipeline.core.files import write_json, write_text
from pipeline.core.spec import ModelSpec
from pipeline.tracking.store import default_uri

RUNS = {"actions": "classify", "alpaca": "classify", "herd": "detect", "pose": "localize"}
MAIN = {"classify": "accuracy", "detect": "AP", "localize": "mean_iou"}


def write_project(root: Path, runs: dict[str, str]) -> None:
    """A project whose chain has run, small, in the chain's own formats."""
    blocks = {run: {"dataset": run, "task": task, "head": {"dropout": 0.2}} for run, task in runs.items()}
    layers = {"layers": ["round1"], "layers_sha256": {"round1": "7f" * 32}}
    ingest = {"format": "folder", "path": "data/mine", "max_side": 64, **layers}
    source = {"path": "data/mine", "layers": {"round1": "7f" * 6}}
    write_json(root / "params.yaml", {"datasets": {r: {"ingest": ingest} for r in runs}, "runs": blocks})
    for number, (run, task) in enumerate(runs.items()):
        figures = {"task": task, "n_images": 8, MAIN[task]: 0.9 - number / 10, "per_class": {"not / 100%": {"f1": 0.5}}}
        told = {"source": source, "counts": {"train": 8, "val": 4, "test": 8}}
        write_json(root / f"data/ingested/{run}/dataset.json", told)
        write_text(root / f"data/ingested/{run}/test/metadata.jsonl", f"the test images of {run}")
        Image.new("RGB", (64, 48), (40 * number, 90, 160)).save(
            _parent(root / f"reports/ingest/{run}/contact_sheet.jpg")
        )
        spec = ModelSpec(
            *(run, run, task, ["a", "b"], [], [], [], "mobilenetv2_050", {"dropout": 0.2}, 64, "letterbox"),
            *([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
            trained={"weights": "none", "epochs": 3},
        )
        write_json(root / f"models/{run}/model.json", asdict(spec))
        rows = [f"{e},{1 / (e + 1)},{1.5 / (e + 1)},{e / 4},0.001\n" for e in range(3)]
        header = "epoch,train_loss,val_loss,val_metric,learning_rate\n"
        write_text(root / f"reports/train/{run}/history.csv", header + "".join(rows))
        write_text(root / f"reports/evaluate/{run}/plots/pr.csv", "recall,precision\n0,1\n")
        write_json(root / f"reports/evaluate/{run}/metrics.json", {**figures, "macro_f1": None})
        timing = {"seconds": 12.5, "resumed": False, "epochs": 3, "images_per_second": 1.92, "device": "cpu"}
        write_json(root / f"reports/train/{run}/training.json", timing)
        made = {"cost": {"macs": 1000 * number + 500, "params": 40}, "targets": {"onnx_int8": {"file": f"{run}.onnx"}}}
        made["not_made"] = {}
        write_json(root / f"exports/{run}/export.json", made)
        write_json(root / f"exports/{run}/model.json", {"task": task})
        Image.new("RGB", (64, 48)).save(_parent(root / f"exports/{run}/golden/0.png"))
        write_text(root / f"exports/{run}/{run}.onnx", f"the weights of {run}")
        target = {
            "metrics": figures,
            "drop": number / 100,
            "size_bytes": 700,
            "size_ratio": 0.3,
            "latency_ms": {"median": 1.5},
            "reason": "",
        }
        verdict = {
            "passed": True,
            "main_metric": MAIN[task],
            "float": figures,
            "targets": {"onnx_int8": {**target, "passed": True}},
        }
        write_json(root / f"reports/verify/{run}/verify.json", verdict)
        judged = {**verdict["targets"]["onnx_int8"]}
        del judged["latency_ms"]
        write_json(root / f"reports/verify/{run}/verdict.json", {**verdict, "targets": {"onnx_int8": judged}})


def _parent(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def write_dvc(root: Path, runs: dict[str, str]) -> None:
    names = list(runs)
    code = "train.py"
    write_text(root / code, "the code")
    trained = ["models/${item}", "reports/train/${item}/history.csv", "reports/train/${item}/training.json"]
    evaluated = [f"reports/evaluate/${{item}}/{name}" for name in ("metrics.json", "plots")]
    judged = ["reports/verify/${item}/verdict.json", "reports/verify/${item}/verify.json"]
    stages = {
        "ingest": (
            ["datasets.${item}.ingest"],
            [],
            ["data/ingested/${item}", "reports/ingest/${item}/contact_sheet.jpg"],
        ),
        "augment": ([], ["data/ingested/${item}"], []),
        "train": (["runs.${item}"], [code, "data/ingested/${item}/dataset.json"], trained),
        "evaluate": ([], trained[:1], evaluated),
        "export": ([], trained[:1], ["exports/${item}"]),
        "verify": ([], ["exports/${item}", "data/ingested/${item}/test"], judged),
    }
    dag = {
        name: {"foreach": names, "do": {"cmd": f"echo {name}", "params": params, "deps": deps, "outs": outs}}
        for name, (params, deps, outs) in stages.items()
    }
    write_json(root / "dvc.yaml", {"stages": dag})


def write_finished(root: Path, runs: dict[str, str]) -> None:
    """The project in DVC, its runs finished, with an MLflow database without any: a new one takes seconds to make."""
    write_project(root, runs)
    write_dvc(root, runs)
    dvc(root, "init", "--no-scm", "--quiet")
    commit(root)
    MlflowClient(default_uri(root)).search_experiments()


def commit(root: Path) -> None:
    """Have DVC write dvc.lock for the files as they are, as if the stages had just made them."""
    dvc(root, "commit", "--force", "--quiet")


def dvc(root: Path, *arguments: str) -> None:
    """The command, in this process: it takes a second to start."""
    with contextlib.chdir(root), mock.patch.dict(os.environ, DVC_NO_ANALYTICS="1"):
        assert main(list(arguments)) == 0


def client(project: Path) -> MlflowClient:
    """Of the project's own store and registry."""
    return MlflowClient(default_uri(project), default_uri(project))

"""Files that a stranger gives us hold no code that runs: of each kind that the product reads, one that would."""

import ast
import hashlib
import io
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import ROOT
from PIL import Image

from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.resolved import Resolved
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.core.yaml_text import yaml_value
from pipeline.evaluation.batch import batch_sheet
from pipeline.models.backbones import check_size, feature_maps, learning_order, read_pretrained
from pipeline.models.nets import build
from pipeline.models.weights import read_weights
from pipeline.training.checkpoint import read_checkpoint
from pipeline.training.maps import NET, Elsewhere, parts_in

SPEC = ModelSpec(
    *("herd", "herd", "classify", ["cow", "goat"], [], [], [], "mobilenetv1_025_shallow"),
    {"kind": "pool", "dropout": 0.0},
    *(32, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
)


class Planted:
    """What is pickled makes a folder where it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def torch_bytes(planted: Planted) -> bytes:
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.zeros(2)}, "more": planted}, file)
    return file.getvalue()


def array_bytes(planted: Planted) -> bytes:
    file = io.BytesIO()
    one = np.array([planted, None], dtype=object)
    np.savez(file, names=one, maps=one, images=one, canvases=one)
    return file.getvalue()


def checked(content: bytes) -> bytes:
    return content + hashlib.sha256(content).digest()


READ: dict[str, tuple[str, Callable[[Planted], bytes], Callable[[Path], object]]] = {
    "weights": ("weights/net.pth", torch_bytes, read_weights),
    "weights of a name that is safe": ("weights/net.safetensors", torch_bytes, read_weights),
    "weights that a run starts from": (
        *("weights/net.pt", torch_bytes),
        lambda file: read_pretrained("mobilenetv1_025_shallow", str(file)),
    ),
    "a checkpoint": (".resume/herd/0/last.ckpt", lambda planted: checked(torch_bytes(planted)), read_checkpoint),
    "features of other machines": (
        *(".features/0.parts/0.npz", array_bytes),
        lambda file: list(parts_in(file.parent)),
    ),
    "the first batch": (
        *("reports/train/herd/batch.npz", array_bytes),
        lambda file: batch_sheet(file, SPEC),
    ),
}


@pytest.mark.parametrize("kind", READ)
def test_what_is_pickled_in_a_file_does_not_run(kind: str, tmp_path: Path) -> None:
    name, content, read = READ[kind]
    mark, file = tmp_path / "mark", tmp_path / name
    file.parent.mkdir(parents=True)
    file.write_bytes(content(Planted(mark)))
    with suppress(InputError):  # a damaged file of features is passed over, the others are named
        read(file)
    assert not mark.exists()


TAGS = "!!python/object/apply:os.mkdir [{mark}]", "!!python/object/new:os.mkdir [{mark}]", "!!python/name:os.mkdir"


@pytest.mark.parametrize("tag", TAGS)
@pytest.mark.parametrize("file", ["params.yaml", "resolved.yaml", "data.yaml"])
def test_tags_of_yaml_make_nothing(file: str, tag: str, tmp_path: Path) -> None:
    mark, place = tmp_path / "mark", tmp_path / file
    place.write_text(f"datasets: {tag.format(mark=mark)}\nnames: [cow]\n")
    readers = {"params.yaml": read_params, "resolved.yaml": Resolved}
    with pytest.raises(InputError):
        readers.get(file, lambda path: yaml_value(path.read_text(), str(path)))(place)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["hf-hub:someone/net", "local-dir:."])
def test_a_planted_card_names_a_backbone_of_timms_own_list_only(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("socket.getaddrinfo", lambda host, *_, **__: asked.append(host))
    start = read_pretrained("mobilenetv1_025_shallow", False)
    for made in (
        lambda: build(replace(SPEC, backbone=name)),
        lambda: build(replace(SPEC, task="localize", head={"dropout": 0.0, "channels": 8}, backbone=name)),
        lambda: feature_maps(name, start, (8,)),
        lambda: learning_order(name, torch.nn.Identity()),
        lambda: check_size(name, 64),
        lambda: read_pretrained(name, True),
    ):
        with pytest.raises(InputError, match="is not in timm"):
            made()
    assert not asked


def test_a_net_that_other_machines_compute_with_is_no_code(tmp_path: Path) -> None:
    """It lies in a shared folder, where another file may have taken its place."""
    Image.new("RGB", (32, 32)).save(tmp_path / "1.png")
    mark, database = tmp_path / "mark", tmp_path / "known.sqlite"
    with closing(sqlite3.connect(database)) as known:
        known.execute("CREATE TABLE features (image BLOB PRIMARY KEY, maps BLOB)")
    (tmp_path / NET).write_bytes(torch_bytes(Planted(mark)))
    work = Elsewhere(tmp_path, tmp_path, database, SPEC, False, 1)
    with pytest.raises(InputError, match=NET):
        work([Sample("1", "1.png", 32, 32, label="cow")])
    assert not mark.exists()


@pytest.mark.parametrize("names", [np.uint8(1), np.zeros((2, 32), np.uint8)])
def test_a_file_of_features_of_another_form_is_passed_over(names: Any, tmp_path: Path) -> None:
    good = {"names": np.zeros((1, 32), np.uint8), "maps": np.zeros((1, 4), np.float16)}
    np.savez(tmp_path / "0.npz", **good | {"names": names})
    np.savez(tmp_path / "2.npz", **good)
    (tmp_path / "1.npz").mkdir()
    [(known, maps)] = parts_in(tmp_path)
    assert (known, maps.shape) == ([bytes(32)], (1, 4))


FORBIDDEN = {
    *("pickle.load", "pickle.loads", "pickle.Unpickler", "marshal.load", "marshal.loads", "joblib.load", "dill.load"),
    *("dill.loads", "pandas.read_pickle", "pandas.read_hdf", "os.system", "os.popen", "eval", "exec", "shelve.open"),
    *("yaml.load", "yaml.unsafe_load", "mlflow.pyfunc.load_model"),
}  # fmt: skip


def unsafe_calls(source: str) -> list[str]:
    """What may run what a file says: `line: name`, by the name of its module, however it was imported."""
    tree, full, found = ast.parse(source), dict[str, str](), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            full |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            full |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called, given = full.get(first, first) + dot + rest, {k.arg: ast.unparse(k.value) for k in node.keywords}
        unsafe = called in FORBIDDEN or (called == "torch.load" and given.get("weights_only") != "True")
        unsafe |= given.get("allow_pickle") == "True" or given.get("shell") == "True"
        unsafe |= called == "ruamel.yaml.YAML" and given.get("typ") == "'unsafe'"
        found += [f"{node.lineno}: {called}"] if unsafe else []
    return found


@pytest.mark.parametrize(
    ("source", "called"),
    [
        ("import pickle\npickle.loads(b)", "pickle.loads"),
        ("from pickle import loads\nloads(b)", "pickle.loads"),
        ("from pickle import loads as read\nread(b)", "pickle.loads"),
        ("import pickle as p\np.Unpickler(b).load()", "pickle.Unpickler"),
        ("import pandas as pd\npd.read_pickle(b)", "pandas.read_pickle"),
        ("from torch import load\nload(b, weights_only=False)", "torch.load"),
        ("from ruamel.yaml import YAML\nYAML(typ='unsafe')", "ruamel.yaml.YAML"),
    ],
)
def test_what_may_run_is_seen_however_it_is_imported(source: str, called: str) -> None:
    assert unsafe_calls(source) == [f"2: {called}"]


def test_no_code_of_ours_reads_what_may_run() -> None:
    files = [*(ROOT / "pipeline").rglob("*.py"), *(ROOT / "stages").glob("*.py")]
    found = {str(file.relative_to(ROOT)): unsafe_calls(file.read_text(encoding="utf-8")) for file in files}
    assert {name: calls for name, calls in found.items() if calls} == {}


def test_a_dataset_brings_no_stage_and_no_rule_of_what_dvc_sees(tmp_path: Path) -> None:
    """DVC takes each dvc.yaml below the project for its own, and runs what it says."""
    from dvc.repo import Repo

    Repo.init(str(tmp_path), no_scm=True).close()
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    (tmp_path / "dvc.yaml").write_text("stages: {own: {cmd: 'true', deps: [photos]}}")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/dvc.yaml").write_text("stages: {evil: {cmd: 'touch planted'}}")
    (tmp_path / "photos/.dvcignore").write_text("*")
    (tmp_path / "photos/1.jpg").touch()
    with Repo(str(tmp_path)) as repo:
        assert [stage.name for stage in repo.index.stages] == ["own"]
        assert not repo.dvcignore.is_ignored_file(str(tmp_path / "photos/1.jpg"))

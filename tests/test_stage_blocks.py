"""A stage reads the blocks of resolved.yaml that its `params:` in dvc.yaml list, and no others."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from pipeline.core.errors import InputError
from pipeline.metrics.chosen import settled

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
RESOLVED: dict[str, Any] = YAML(typ="safe").load(ROOT / "resolved.yaml")
DATASET, RUN = "actions", "herd"
DRAW = "pipeline.datasets.synthetic"
DRAWINGS = ("actions.draw_actions", "folders.draw_alpaca", "coco.draw_herd", "coco.draw_pose")
COUNTS = {"splits": {}, "kept": 1, "seen": 1, "refused": 0, "originals": 1, "copies": 0, "stayed": 0, "filtered": 0}
COUNTS |= {"by_rule": {}, "recorded": {"files": 0, "moved": 0}}

# the calls into the library, which take minutes: what they would have been given is kept, and this is their answer
CALLS: dict[str, dict[str, Any]] = {
    "sample": {f"{DRAW}.{name}": 1 for name in DRAWINGS},
    "ingest": {"pipeline.datasets.ingest.ingest.ingest": COUNTS},
    "augment": {"pipeline.augment.offline.augment_dataset": COUNTS},
    "train": {"stages.train.train_run": "trained"},
    "evaluate": {"stages.evaluate.evaluate_run": "evaluated"},
    "export": {"pipeline.export.export.export_run": "exported"},
    "verify": {"pipeline.verification.verify.verify_run": "verified"},
    "report": {"stages.report.write_page": "reported"},
    "track": {
        "stages.track.track_run": SimpleNamespace(version=None, lock="0"),
        "stages.track.describe": "tracked",
    },
    "inspect": {"stages.inspect.inspect_runs": "inspected"},
}  # fmt: skip


def body(stage: str) -> dict[str, Any]:
    return STAGES[stage].get("do", STAGES[stage])


def name_of(stage: str) -> str:
    return {"${datasets}": DATASET, "${runs}": RUN}.get(STAGES[stage].get("foreach", ""), "")


def listed(stage: str) -> list[str]:
    keys = [key for block in body(stage).get("params", []) for key in block["resolved.yaml"]]
    return [key.replace("${key}", name_of(stage)) for key in keys]


def only(keys: list[str]) -> dict[str, Any]:
    """RESOLVED with what is at `keys`, and nothing else."""
    found: dict[str, Any] = {}
    for key in keys:
        source, target = RESOLVED, found
        *path, last = key.split(".")
        for step in path:
            source, target = source[step], target.setdefault(step, {})
        target[last] = source[last]
    return found


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def called(stage: str, keys: list[str], monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Run the stage's body on a resolved.yaml that has `keys` only: the arguments of each call into the library."""
    YAML(typ="safe").dump(only(keys), Path("resolved.yaml"))
    script = importlib.import_module(f"stages.{stage}")
    given: dict[str, list[Any]] = {}
    for place, answer in CALLS[stage].items():

        def record(*args: Any, _place: str = place, _answer: Any = answer, **kwargs: Any) -> Any:
            given[_place] = [*args, *kwargs.values()]
            return _answer

        monkeypatch.setattr(place, record)
    if hasattr(script, "read_spec"):
        monkeypatch.setattr(script, "read_spec", lambda path: SimpleNamespace(dataset=DATASET))
    main = getattr(script, "main", None) or getattr(script, stage)
    assert main(name_of(stage))
    return given


def test_every_stage_is_here() -> None:
    assert set(CALLS) == set(STAGES) - {"params"}  # which makes the file


@pytest.mark.parametrize("stage", CALLS)
def test_it_needs_no_other_block(stage: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = called(stage, listed(stage), monkeypatch)
    assert set(given) == set(CALLS[stage])
    values = [value for arguments in given.values() for value in arguments]
    if stage == "train":
        (params,) = (value for value in values if hasattr(value, "train"))
        blocks = [key.rpartition(".")[2] for key in listed(stage)]
        assert params.model_dump() == {block: RESOLVED["runs"][RUN][block] for block in blocks}
        assert given["stages.train.train_run"][-1] is None, "workers: the default"
    elif stage in ("ingest", "augment", "export", "verify"):
        (params,) = (value for value in values if hasattr(value, "model_dump"))
        section, name = ("datasets", DATASET) if stage in ("ingest", "augment") else ("runs", RUN)
        assert params.model_dump() == RESOLVED[section][name][stage]
    if stage == "augment":
        assert RESOLVED["datasets"][DATASET]["preprocess"] in values
    if stage == "evaluate":
        assert RESOLVED["runs"][RUN]["predict"] in values
    if stage == "export":
        assert settled(RESOLVED["runs"][RUN]["predict"], Path("metrics.json")) in values
    if stage == "report":
        assert RESOLVED["runs"][RUN] in values
    if stage == "track":
        assert RESOLVED["track"]["experiment"] in values


@pytest.mark.parametrize(("stage", "key"), [(stage, key) for stage in CALLS for key in listed(stage)])
def test_it_reads_each_of_them(stage: str, key: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    others = [other for other in listed(stage) if other != key]
    missing = "|".join(".".join(key.split(".")[: i + 1]) for i in range(key.count(".") + 1))
    with pytest.raises(InputError, match=rf"resolved\.yaml: no ({missing.replace('.', chr(92) + '.')})(;|$)"):
        called(stage, others, monkeypatch)


def test_workers_are_those_of_the_machine(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(RESOLVED, "machine", {"workers": 7})
    given = called("train", [*listed("train"), "machine"], monkeypatch)
    assert 7 in given["stages.train.train_run"]

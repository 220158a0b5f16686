"""What a change reruns, as DVC itself decides it: the chain's own graph and params, over stages that take no time.

Two of the runs that ship, each with its dataset; the stage `params` is the real one.
"""

import contextlib
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, in_project, project_environment, set_params
from dvc.utils.serialize import _yaml as dvc_yaml
from ruamel.yaml import YAML

from pipeline.config.adding import add
from pipeline.core.errors import InputError
from pipeline.core.layer import Statement, write_layer
from pipeline.tracking.dvc_state import read_state

KEPT = ("herd", "pose")
WEIGHTS, OF_HERD = "weights/mobilenetv2_050.drawn.safetensors", "weights/herd.safetensors"
FROM_EXPORT = ("export", "verify", "report", "track")
FROM_TRAIN = ("train", "evaluate", *FROM_EXPORT)
Edit = Callable[[Path], None]


@pytest.fixture(scope="module", autouse=True)
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """DVC's own files lie apart, and the stages' `python` is this one. DVC writes dvc.lock after each stage, with its
    comments, in pure Python: two thirds of all the time here. It has none, and JSON is YAML.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path_factory.mktemp("dvc")))
        patch.setenv("PATH", project_environment()["PATH"])
        patch.setenv("DVC_NO_ANALYTICS", "1")
        patch.setattr(dvc_yaml, "parse_yaml_for_update", dvc_yaml.parse_yaml)
        patch.setattr(dvc_yaml, "_dump", lambda data, file: file.write(f"{json.dumps(data)}\n"))
        yield


@pytest.fixture(scope="module")
def cloned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project as git has it, but for quick stages; the run herd has a weights file of its own."""
    folder = tmp_path_factory.mktemp("cloned") / "project"
    hidden = shutil.ignore_patterns("__pycache__", "*.egg-info")
    for name in ("pipeline", "stages", "weights", "labels"):
        shutil.copytree(ROOT / name, folder / name, ignore=hidden)
    for name in ("params.yaml", ".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "tests/quick_stage.py"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    dag = (ROOT / "dvc.yaml").read_text(encoding="utf-8")
    quick = re.sub(r"sh stages/python.sh -m stages\.(?!params)", "python tests/quick_stage.py ", dag)
    assert quick.count("quick_stage.py") == dag.count("cmd: ") - 1
    (folder / "dvc.yaml").write_text(quick, encoding="utf-8")
    shutil.copy(folder / WEIGHTS, folder / OF_HERD)
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    for section in ("datasets", "runs"):
        for name in set(params[section]) - set(KEPT):
            del params[section][name]
    del params["compare"]
    params["runs"]["herd"]["model"]["pretrained"] = OF_HERD
    yaml.dump(params, folder / "params.yaml")
    in_project(folder, "python", "-m", "stages.params")
    for command in (["init", "-q"], ["config", "user.name", "test"], ["config", "user.email", "test@localhost"],
                    ["add", "-A"], ["commit", "-qm", "start"]):  # fmt: skip
        in_project(folder, "git", *command)
    return folder


@pytest.fixture(scope="module")
def finished(cloned: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with everything up to date."""
    folder = tmp_path_factory.mktemp("finished") / "project"
    shutil.copytree(cloned, folder)
    assert set(repro(folder)) == every("ingest", "augment", *FROM_TRAIN) | {"params", "sample", "inspect"}
    return folder


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "project")


def repro(project: Path, *targets: str) -> list[str]:
    """The stages that `dvc repro` has run, in its order."""
    from dvc.repo import Repo

    with contextlib.chdir(project), Repo() as repo:
        return [stage.addressing for stage in repo.reproduce(targets=list(targets) or None)]


def every(*stages: str, of: tuple[str, ...] = KEPT) -> set[str]:
    return {f"{stage}@{name}" for stage in stages for name in of}


def herds(*stages: str) -> set[str]:
    return every(*stages, of=("herd",))


def edit(file: str, old: str, new: str) -> Edit:
    def change(project: Path) -> None:
        text = (project / file).read_text(encoding="utf-8")
        assert old in text, f"{file} has no {old!r}"
        (project / file).write_text(text.replace(old, new, 1), encoding="utf-8")

    return change


def both(first: Edit, second: Edit) -> Edit:
    def change(project: Path) -> None:
        first(project)
        second(project)

    return change


def knob(**changes: Any) -> Edit:
    return lambda project: set_params(project, {key.replace("__", "."): value for key, value in changes.items()})


def new_format(project: Path) -> None:
    formats = project / "pipeline/datasets/formats"
    text = (formats / "folder.py").read_text(encoding="utf-8")
    assert 'name="folder"' in text
    (formats / "drawers.py").write_text(text.replace('name="folder"', 'name="drawers"'), encoding="utf-8")


def other_weights(project: Path) -> None:
    (project / OF_HERD).write_bytes(b"other weights under the same name")


def new_knob(file: str, block: str, base: str = "Block") -> Edit:
    heading = f"class {block}({base}):\n"
    return edit(file, heading, f'{heading}    again: int = 3\n    """Times."""\n')


VIEWS = every("ingest", "augment", "evaluate", "verify", "report", "track") | {"inspect"}
# what it is, the change, and what runs for it after `params`
CHANGES: list[tuple[str, Edit, set[str]]] = [
    ("a plot's colour", edit("pipeline/viz/plots.py", 'color="C2"', 'color="C3"'), VIEWS),
    ("a format", new_format, every("ingest")),
    (
        "a knob of export and one of verify",
        both(
            new_knob("pipeline/export/params.py", "ExportParams"),
            new_knob("pipeline/verification/params.py", "VerifyParams"),
        ),
        every(*FROM_EXPORT) | {"inspect"},
    ),
    (
        "a knob of predict",
        new_knob("pipeline/evaluation/params.py", "DetectPredict", "_Choosable"),
        every("evaluate") | herds(*FROM_EXPORT) | {"inspect"},
    ),
    (
        "predict.score",
        knob(runs__herd__predict__score=0.4),
        herds("evaluate", *FROM_EXPORT) | {"inspect"},
    ),
    (
        "machine.workers, machine.parallel and a comment in params.yaml",
        both(
            knob(machine__workers=0, machine__parallel="dask://head-node:8786"),
            edit("params.yaml", "datasets:\n", "# what there is to learn from\ndatasets:\n"),
        ),
        set(),
    ),
    ("a comment in the code of export", edit("pipeline/export/export.py", "\n", "\n# a comment\n"), every("export")),
    ("epochs", knob(runs__herd__train__epochs=3), herds(*FROM_TRAIN) | {"inspect"}),
    ("a weights file", other_weights, herds(*FROM_TRAIN) | {"inspect"}),
    ("verify.tolerance", knob(runs__herd__verify__tolerance=0.5), herds("verify", "report", "track") | {"inspect"}),
    ("export.calibration_images", knob(runs__herd__export__calibration_images=9), herds(*FROM_EXPORT) | {"inspect"}),
    ("track.experiment", knob(track__experiment="other"), every("track")),
    (
        "a step before the net",
        knob(datasets__herd__preprocess=["gray"]),
        herds("augment", *FROM_TRAIN) | {"inspect"},
    ),
    (
        "max_side",
        knob(datasets__herd__max_side=200),
        herds("ingest", "augment", *FROM_TRAIN) | {"inspect"},
    ),
]


# what another row, or the test of a label layer, holds by another knob or line of code
MORE = (
    *("a knob of export and one of verify", "a knob of predict", "export.calibration_images", "a step before the net"),
    *(
        "a weights file",
        "track.experiment",
        "max_side",
        "predict.score",
        "a comment in the code of export",
        "verify.tolerance",
    ),
)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        pytest.param(change, expected, id=name, marks=[pytest.mark.exhaustive] if name in MORE else [])
        for name, change, expected in CHANGES
    ],
)
def test_a_change_reruns_what_it_can_change(project: Path, change: Edit, expected: set[str]) -> None:
    before = read_state(project, "herd", "herd").lock
    change(project)
    ran = repro(project)
    assert ran[0] == "params"
    assert set(ran[1:]) == expected
    # the state that MLflow's runs and versions are known by: data, params and what they made, and nothing else
    changed = expected not in (VIEWS, every("ingest"), every("export"), every("track"), set())
    assert (read_state(project, "herd", "herd").lock != before) == changed


def test_with_no_change_nothing_is_done(project: Path) -> None:
    assert repro(project) == []
    assert "up to date" in in_project(project, "dvc", "repro").stdout


def test_a_clone_without_resolved_yaml(cloned: Path, tmp_path: Path) -> None:
    clone = shutil.copytree(cloned, tmp_path / "clone")
    committed = (clone / "resolved.yaml").read_bytes()
    (clone / "resolved.yaml").unlink()
    for command in (["dag"], ["status"], ["repro", "--dry", "--force"]):
        in_project(clone, "dvc", *command)
    assert not (clone / "resolved.yaml").exists()
    assert repro(clone, "params") == ["params"]
    assert (clone / "resolved.yaml").read_bytes() == committed


def test_resolved_yaml_is_the_same_bytes_and_put_right(project: Path) -> None:
    file = project / "resolved.yaml"
    before = file.read_bytes()
    in_project(project, "python", "-m", "stages.params")
    assert file.read_bytes() == before
    edit("resolved.yaml", "calibration_images: 64", "calibration_images: 65")(project)
    assert repro(project) == ["params"]
    assert file.read_bytes() == before


@pytest.mark.exhaustive
def test_make_repro_notices_weights_that_were_replaced_anywhere(project: Path) -> None:
    weights = project / "mine.safetensors"
    weights.write_bytes(b"weights")
    set_params(project, {"runs.herd.model.pretrained": weights.name})
    assert set(repro(project)) == {"params", "inspect", *herds(*FROM_TRAIN)}
    weights.write_bytes(b"other weights under the same name")
    in_project(project, "python", "-m", "stages.params")  # what make does first
    assert set(repro(project)) == {"params", "inspect", *herds(*FROM_TRAIN)}


@pytest.mark.exhaustive
def test_make_repro_trains_anew_what_starts_from_a_run_that_was_trained_anew(project: Path) -> None:
    other = next(name for name in KEPT if name != "herd")
    set_params(project, {"runs.herd.model.pretrained": f"models/{other}/model.safetensors"})
    assert set(repro(project)) == {"params", "inspect", *herds(*FROM_TRAIN)}
    set_params(project, {f"runs.{other}.train.seed": 5})
    assert f"train@{other}" in repro(project)
    in_project(project, "python", "-m", "stages.params")  # what make does first
    assert set(repro(project)) == {"params", "inspect", *herds(*FROM_TRAIN)}
    assert repro(project) == []


@pytest.mark.exhaustive
def test_a_record_of_splits_is_there_when_ingest_runs_and_is_no_other_state(project: Path) -> None:
    record = project / "splits/herd.csv"
    assert "?? splits/" in in_project(project, "git", "status", "--porcelain").stdout, "to be committed"
    lock = read_state(project, "herd", "herd").lock
    before = record.read_bytes()
    set_params(project, {"datasets.herd.max_side": 200})
    assert {"ingest@herd"} < set(repro(project))
    assert record.read_bytes() == before, "DVC takes other outs away"
    set_params(project, {"datasets.herd.max_side": 320})
    repro(project)
    assert read_state(project, "herd", "herd").lock == lock
    record.write_bytes(before + b"another row, as a colleague has committed it\n")
    assert "splits/herd.csv" in in_project(project, "dvc", "status").stdout
    assert repro(project) == ["ingest@herd"]
    assert record.read_bytes() != before
    assert read_state(project, "herd", "herd").lock == lock
    assert repro(project) == []


def test_a_label_layer_reruns_ingest_and_what_comes_of_it_when_it_changes(project: Path) -> None:
    layer = project / "labels/herd/round1.jsonl"
    write_layer(layer, [])
    assert repro(project) == ["params"], "no dataset names it"
    set_params(project, {"datasets.herd.layers": ["round1"]})
    follows = herds("ingest", "augment", *FROM_TRAIN)
    assert set(repro(project)) == {"params", "inspect", *follows}
    before = read_state(project, "herd", "herd")
    assert before.params["dataset.ingest.layers"] == ["round1"]
    write_layer(layer, [Statement("a", "ab", "0f", "empty", "cd", "ann")])
    assert "labels" in in_project(project, "dvc", "status").stdout
    assert set(repro(project)) == {"params", "inspect", *follows}
    now = read_state(project, "herd", "herd")
    assert (now.lock != before.lock, repro(project)) == (True, [])
    in_project(project, "dvc", "add", "-q", "labels/herd/round1.jsonl")  # as a large one is kept
    assert repro(project) in ([], ["params"])


def test_a_mistake_leaves_resolved_yaml_as_it_was(project: Path) -> None:
    before = (project / "resolved.yaml").read_bytes()
    edit("params.yaml", " epochs: ", " epochz: ")(project)
    assert in_project(project, "dvc", "repro", "params", check=False).returncode != 0
    assert (project / "resolved.yaml").read_bytes() == before


# --- experiments


def experiment(project: Path, *settings: str, check: bool = True) -> tuple[str, list[str]]:
    """What `dvc exp run` says with these -S, and the stages that ran."""
    changes = [part for setting in settings for part in ("-S", setting)]
    done = in_project(project, "dvc", "exp", "run", "--name", "tried", *changes, check=check)
    assert (done.returncode == 0) == check
    return done.stdout + done.stderr, re.findall(r"Running stage '([^']+)'", done.stdout)


def resolved(text: str) -> dict[str, Any]:
    return YAML(typ="safe").load(text)


def comments(path: Path) -> list[str]:
    return re.findall(r"#.*", path.read_text(encoding="utf-8"))


def test_an_experiment_sets_stated_unstated_and_nested_knobs(project: Path) -> None:
    before = resolved((project / "resolved.yaml").read_text())
    said = comments(project / "params.yaml")
    _, ran = experiment(
        project,
        "runs.herd.train.epochs=3",
        "++runs.herd.train.seed=1",
        "++runs.herd.export.quantize.mode=qat",
        "resolved.yaml:runs.herd.train.batch_size=99",  # made anew of params.yaml
    )
    assert set(ran) == {"params", *herds(*FROM_TRAIN), "inspect"}
    after = resolved((project / "resolved.yaml").read_text())
    (ref,) = in_project(project, "git", "for-each-ref", "--format=%(refname)", "refs/exps/**/tried").stdout.split()
    assert resolved(in_project(project, "git", "show", f"{ref}:resolved.yaml").stdout) == after
    herd = after["runs"].pop("herd")
    old = before["runs"].pop("herd")
    assert (herd["train"]["epochs"], herd["train"]["seed"]) == (3, 1)
    assert herd["export"]["quantize"]["mode"] == "qat"
    assert herd["train"] == old["train"] | {"epochs": 3, "seed": 1}
    assert after == before
    assert comments(project / "params.yaml") == said
    shown = json.loads(in_project(project, "dvc", "exp", "show", "--json").stdout)
    (kept,) = (entry["revs"][0]["data"] for entry in shown[1]["experiments"])
    assert kept["params"]["params.yaml"]["data"]["runs"]["herd"]["train"]["seed"] == 1


def test_a_mistyped_knob_fails_before_anything_has_run(project: Path) -> None:
    said, ran = experiment(project, "++runs.herd.train.epoch=3", check=False)
    assert "params.yaml: runs.herd.train.epoch: unknown key; did you mean 'epochs'?" in said
    assert ran == ["params"]


@pytest.mark.parametrize("name", ["a.b", "a*", "a[0]", "a@b", "a b", "a/b", ""])
@pytest.mark.parametrize("section", ["datasets", "runs"])
def test_a_name_that_dvc_would_take_for_something_else(cloned: Path, tmp_path: Path, section: str, name: str) -> None:
    from pipeline.config.resolve import resolve

    params = Path(shutil.copy(cloned / "params.yaml", tmp_path))
    with pytest.raises(InputError, match=f"name {re.escape(repr(name))}: expected letters, digits, _ and - only"):
        add(params, name, tmp_path, "classify", None, None, None, None, [], from_scratch=True)
    yaml = YAML()
    tree = yaml.load(params)
    tree[section][name] = tree[section]["herd"]
    yaml.dump(tree, params)
    with pytest.raises(InputError, match=f"{section}: name {re.escape(repr(name))}: expected letters"):
        resolve(params)

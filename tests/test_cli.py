"""The command and the stage scripts as a user meets them: in a process of their own, in a project of their own."""

import hashlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import timm
import torch
from huggingface_hub import constants
from PIL import Image
from ruamel.yaml import YAML
from safetensors.torch import save
from servers import hub

from pipeline.cli import main
from pipeline.config.adding import add
from pipeline.config.params import read_params
from pipeline.config.resolve import resolve as resolve_params
from pipeline.core.boundary import LOG
from pipeline.core.errors import InputError
from pipeline.models.backbones import read_pretrained

ROOT = Path(__file__).parents[1]
HEAVY = {"torch", "torchvision", "timm", "fiftyone", "mlflow", "lightning_fabric", "onnx", "onnxruntime", "executorch"}
STAGES = sorted(p.stem for p in (ROOT / "stages").glob("[!_]*.py"))
Called = Callable[..., subprocess.CompletedProcess[str]]
NAMED = [stage for stage in STAGES if stage not in ("params", "sample", "track", "inspect")]


def python(cwd: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """A Python process in `cwd` that finds the project's code; exit code, stdout and stderr."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "COLUMNS": "120"}
    line = [*before, sys.executable, *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def pocketlens(cwd: Path, *arguments: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return python(cwd, "-m", "pipeline.cli", *arguments, before=before)


@pytest.fixture
def called(project: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Called:
    """The command in this process, which has imported what a process of its own would import anew."""

    def call(*arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(project)
        return in_this_process(lambda: main(list(arguments)), monkeypatch, capfd)

    return call


@pytest.fixture
def staged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Called:
    """`python -m stages.STAGE` in this process."""

    def call(stage: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", [stage, *arguments])
        return in_this_process(lambda: runpy.run_module(f"stages.{stage}", run_name="__main__"), monkeypatch, capfd)

    return call


def in_this_process(
    body: Callable[[], object], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> subprocess.CompletedProcess[str]:
    monkeypatch.setenv("COLUMNS", "120")
    code = 0
    try:
        body()
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        code = ended.code
    return subprocess.CompletedProcess([], code, *capfd.readouterr())


def error_of(done: subprocess.CompletedProcess[str]) -> str:
    """The message of an error that is the user's to mend: no traceback, exit code 1, nothing on stdout."""
    assert (done.returncode, done.stdout) == (1, ""), done.stderr
    assert "Traceback" not in done.stderr
    assert done.stderr.startswith("error: ")
    return done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    for label in ("cat", "dog"):
        (tmp_path / "data/mine" / label).mkdir(parents=True)
        Image.new("RGB", (40, 30)).save(tmp_path / "data/mine" / label / "a.jpg")
    return tmp_path


# --- the command


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ([], ["add", "predict", "inspect", "slide", "compare", "track", "epochs"]),
        (
            ["add"],
            ["--data", "--labels", "--task", "--format", "--backbone", "--pretrained", "--from-scratch", "--set"],
        ),
        (["predict"], ["--run", "--target", "--json", "--draw", "--every", "--frames"]),
        (["inspect"], ["--port", "--dataset", "--tagged"]),
        (["slide"], ["--split", "--scales", "--background", "--score", "--json", "--draw"]),
        (["compare"], ["--run", "--models", "--set"]),
        (["track"], []),
        (["params"], ["--json"]),
        (["epochs"], ["--minutes"]),
    ],
)
def test_help(called: Called, command: list[str], words: list[str]) -> None:
    done = called(*command, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: pocketlens")
    assert all(word in done.stdout for word in words)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["add", "mine", "--data", "x", "--task", "segment"], "segment"),
        (["predict", "--run", "r"], "SOURCE"),
        (["slide", "r", "d", "--scales", "1,x"], "--scales"),
        (["predict", "", "--run", "r"], "argument SOURCE: found ''"),
        (["predict", "a.jpg", "--run", ""], "argument --run: found ''"),
        (["predict", "a.jpg", "--run", "r", "--target", ""], "argument --target: found ''"),
        (["predict", "a.jpg", "--run", "r", "--draw="], "argument --draw: found ''"),
        (["predict", "camera", "--run", "r", "--frames", "0"], "argument --frames: found '0'"),
        (["predict", "a.mp4", "--run", "r", "--every", "-1"], "argument --every: found '-1'"),
        (["slide", "", "d"], "argument run: found ''"),
        (["slide", "r", " "], "argument dataset: found ' '"),
        (["slide", "r", "d", "--scales", ""], "--scales"),
        (["slide", "r", "d", "--background", ""], "argument --background: found ''"),
        (["slide", "r", "d", "--draw", ""], "argument --draw: found ''"),
        (["add", "", "--data", "x", "--task", "classify"], "argument name: found ''"),
        (["add", "m", "--data", "", "--task", "classify"], "argument --data: found ''"),
        (["add", "m", "--data", "x", "--task", "classify", "--labels", ""], "argument --labels: found ''"),
        (["add", "m", "--data", "x", "--task", "classify", "--format", ""], "argument --format: found ''"),
        (["add", "m", "--data", "x", "--task", "classify", "--backbone", ""], "argument --backbone: found ''"),
        (["add", "m", "--data", "x", "--task", "classify", "--pretrained", ""], "argument --pretrained: found ''"),
        (
            ["add", "m", "--data", "x", "--task", "classify", "--pretrained", "w", "--from-scratch"],
            "argument --from-scratch: not allowed with argument --pretrained",
        ),
        (
            ["convert", "https://me:secret@farm/herd", "out", "--to", "coco"],
            "argument IN: found 'https://farm/herd'; expected a path of this machine; `pocketlens add --data` fetches",
        ),
        (["convert", "a", "s3://farm/herd", "--to", "coco"], "argument OUT: found 's3://farm/herd'; expected a path"),
        (["convert", "a", "out", "--to", "coco", "--labels", "gs://b"], "argument --labels: found 'gs://b'; expected"),
        (["cost", "--backbone", ""], "argument --backbone: found ''"),
        (["cost", "--run", ""], "argument --run: found ''"),
        (["cost", "--budget", ""], "argument --budget: found ''"),
        (["cost", "--budget", "ms=1", "--plot", ""], "argument --plot: found ''"),
        (["cost", "--budget", "ms=1", "--best", "0"], "argument --best: found '0'"),
        (["cost", "--backbone", "a", "--labels", "0"], "argument --labels: found '0'"),
        (["cost", "--backbone", "a", "--resolution", "-5"], "argument --resolution: found '-5'"),
        (["compare", "--run", ""], "argument --run: found ''"),
        (["compare", "--models", ","], "argument --models: found ','"),
        (["compare", "--models", ""], "argument --models: found ''"),
        (["inspect", ""], "argument name: found ''"),
        (["demo", ""], "argument run: found ''"),
        (["demo", "r", "--write", ""], "argument --write: found ''"),
        (["demo", "r", "--host", ""], "argument --host: found ''"),
        (["trace", ""], "argument file: found ''"),
        (["params", ""], "argument name: found ''"),
        (["epochs", "", "--minutes", "5"], "argument run: found ''"),
        (["epochs", "r"], "--minutes"),
        *(
            (["epochs", "r", f"--minutes={m}"], f"argument --minutes: found '{m}'")
            for m in ("", "0", "-1", "x", "nan", "inf")
        ),
    ],
)
def test_a_wrong_call_shows_the_usage(called: Called, arguments: list[str], words: str) -> None:
    done = called(*arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: pocketlens")
    assert words in done.stderr


def test_add_end_to_end(project: Path, called: Called) -> None:
    before = (project / "params.yaml").read_text().splitlines()
    done = called(
        "add", "mine", "--data", "data/mine", "--task", "classify", "--backbone", "mobilenetv2_050",
        "--from-scratch", "--set", "train.epochs=5", "--set", "dataset.max_side=320",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    found, start, written, following = done.stdout.splitlines()
    assert start == "the run starts from random weights"
    assert found == "data/mine: folder (2 class folders of images (cat, dog))"
    assert written == "params.yaml: datasets.mine and runs.mine written"
    assert following == "next: dvc repro track@mine (`pocketlens params mine` lists its knobs)"
    params = read_params(project / "params.yaml")
    run, dataset = params.run("mine"), params.dataset("mine")
    assert (run.model.backbone, run.train.epochs, dataset.max_side) == ("mobilenetv2_050", 5, 320)
    assert dataset.path == "data/mine"
    after = iter((project / "params.yaml").read_text().splitlines())
    assert all(line in after for line in before)

    again = called("add", "mine", "--data", "data/mine", "--task", "classify")
    assert "params.yaml: datasets.mine is there already" in error_of(again)


def test_add_fetches_weights_once_and_the_project_keeps_them(
    project: Path, monkeypatch: pytest.MonkeyPatch, called: Called, staged: Called
) -> None:
    """From a hub on this machine; a chain without a network then knows their hash."""
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv2_050")
    name = "timm/mobilenetv2_050.lamb_in1k/model.safetensors"
    words = ["--data", "data/mine", "--task", "classify", "--backbone", "mobilenetv2_050"]
    (project / "weights").mkdir()
    shutil.copy(ROOT / "weights/mobilenetv2_050.drawn.safetensors", project / "weights")
    monkeypatch.setenv("HF_HOME", str(project / "cache"))
    with hub({name: save(net.state_dict())}) as (address, asked):
        monkeypatch.setenv("HF_ENDPOINT", address)
        full = error_of(
            pocketlens(project, "add", "mine", *words, before=("sh", "-c", 'ulimit -f 500; exec "$@"', "sh"))
        )
        assert re.match(rf"error: {project}/cache/\S+: File too large; make room on the disk, or raise ", full), full
        assert "no pretrained weights" not in full
        asked.clear()
        monkeypatch.setattr(constants, "ENDPOINT", address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(project / "cache"))
        template = f"{address}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        done = called("add", "mine", *words)
    assert done.returncode == 0, done.stderr
    file = "weights/mobilenetv2_050.lamb_in1k.safetensors"
    fetched = "fetched from timm's hub (timm/mobilenetv2_050.lamb_in1k)"
    assert done.stdout.splitlines()[1] == f"{file}: the run starts from these weights, {fetched}"
    assert len([line for line in asked if line.startswith("GET")]) == 1
    assert sorted(p.name for p in (project / "weights").iterdir()) == [
        "mobilenetv2_050.drawn.safetensors", Path(file).name
    ]  # fmt: skip
    state = read_pretrained("mobilenetv2_050", str(project / file)).state
    assert state is not None
    assert torch.equal(state["conv_stem.weight"], net.state_dict()["conv_stem.weight"])
    monkeypatch.chdir(project)
    add(Path("params.yaml"), "again", Path("data/mine"), "classify", None, None, "mobilenetv2_050", None, [])
    assert staged("params").returncode == 0
    runs = YAML(typ="safe").load(project / "resolved.yaml")["runs"]
    for run in (runs["mine"], runs["again"]):
        known = hashlib.sha256((project / file).read_bytes()).hexdigest()
        assert (run["model"]["pretrained"], run["model"]["pretrained_sha256"]) == (file, known)
        assert run["train"]["frozen_epochs"] == 30


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("add my.name --data data/mine --task classify", "error: name 'my.name': expected letters"),
        ("add mine --data data/mine --task classify --pretrained data", "error: --pretrained data: not a file"),
        ("add mine --data nosuch --task classify", "error: --data nosuch: no such file or folder"),
        ("add mine --data data/mine --task detect", "error: data/mine: found folder"),
        ("add mine --data data/mine --task classify --set epoch=5", "did you mean 'train.epochs'?"),
        ("predict a.jpg --run herd", "error: models/herd: not here, though params.yaml has the run; `dvc pull` or"),
        ("inspect herd", "reports/evaluate/herd: not here, though params.yaml has the run; `dvc pull` or"),
        ("inspect herd", "`dvc repro evaluate@herd` makes it"),
        ("demo herd", "`dvc repro export@herd` makes it"),
        ("slide herd herd", "`dvc repro train@herd` makes it"),
        ("cost --run herd", "`dvc repro train@herd` makes it"),
        ("predict a.jpg --run nosuch", "error: models/nosuch: no such model; trained runs: none"),
        (
            "inspect nosuch",
            "error: {}/reports/evaluate/nosuch/predictions: not there; evaluated runs: none",
        ),
        ("cost --run nosuch", "error: models/nosuch: no such model; trained runs: none"),
        ("slide nosuch herd", "error: models/nosuch: no such model; trained runs: none"),
        ("compare --set epoch=5", "--set.epoch: unknown key; did you mean 'train.epochs'?"),
        ("compare --run nosuch", "error: no run 'nosuch' in params.yaml"),
        ("compare", "not a git repository with a commit"),
    ],
)
def test_a_mistake_is_an_error_of_one_line(project: Path, called: Called, arguments: str, message: str) -> None:
    stderr = error_of(called(*arguments.split()))
    assert message.format(project) in stderr
    assert stderr.count("\n") == 1


def test_a_folder_whose_name_is_not_utf_8_cannot_be_added(project: Path) -> None:
    named = os.fsdecode(b"data/\xff")
    (project / "data/mine").rename(project / named)
    before = (project / "params.yaml").read_bytes()
    said = error_of(pocketlens(project, "add", "mine", "--data", named, "--task", "classify"))
    assert said.endswith("data/\\udcff: its name is not UTF-8, and params.yaml is: rename it\n")
    assert (project / "params.yaml").read_bytes() == before


def test_add_where_there_is_no_project(project: Path, called: Called) -> None:
    (project / "params.yaml").unlink()
    done = called("add", "mine", "--data", "data/mine", "--task", "classify")
    assert "error: params.yaml: no such file" in error_of(done)


# --- start-up


def heavy_modules(done: subprocess.CompletedProcess[str]) -> set[str]:
    """Those of HEAVY that a process started with `-X importtime` imported."""
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    assert len(lines) > 50
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines} & HEAVY


def test_the_command_starts_without_the_heavy_libraries(project: Path) -> None:
    code = "import json, sys, pipeline.cli; print(json.dumps(sorted(sys.modules)))"
    loaded = {name.partition(".")[0] for name in json.loads(python(project, "-c", code).stdout)}
    assert "pipeline" in loaded
    assert not loaded & HEAVY
    command = "-X importtime -m pipeline.cli add mine --data data/mine --task classify --from-scratch"
    done = python(project, *command.split())
    assert done.returncode == 0
    assert not heavy_modules(done)


def resolve(project: Path) -> Path:
    shutil.copytree(ROOT / "weights", project / "weights")
    done = python(project, "-X", "importtime", "-m", "stages.params")
    assert (done.returncode, done.stdout) == (0, "resolved.yaml: 4 datasets, 4 runs\n")
    assert not heavy_modules(done)
    return project / "resolved.yaml"


def test_params_are_resolved_the_same_each_time(project: Path) -> None:
    assert resolve(project).read_bytes() == (ROOT / "resolved.yaml").read_bytes(), "python -m stages.params"


HERT = """
import json, runpy, sys
_, *stages = sys.argv
for stage in stages:
    sys.argv[1:] = ["hert"]
    try:
        runpy.run_module(f"stages.{stage}", run_name="__main__")
    except SystemExit as ended:
        print(json.dumps([stage, ended.code, sorted({name.partition(".")[0] for name in sys.modules})]))
"""


def test_a_stage_names_what_it_does_not_know_before_anything_heavy(project: Path) -> None:
    resolve(project)
    done = python(project, "-c", HERT, *NAMED)
    said = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(stage, code) for stage, code, _ in said] == [(stage, 1) for stage in NAMED]
    assert [(stage, found) for stage, _, loaded in said if (found := HEAVY & set(loaded))] == []
    for stage, error in zip(NAMED, done.stderr.splitlines(), strict=True):
        kind = "datasets" if stage in ("ingest", "augment") else "runs"
        assert error.startswith(f"error: resolved.yaml: no {kind}.hert; did you mean 'herd'?")


def test_train_lists_the_runs_if_none_is_near(project: Path, staged: Called) -> None:
    shutil.copy(ROOT / "resolved.yaml", project)
    known = ", ".join(read_params(project / "params.yaml").runs)
    for wrong, name in ((["qqqq"], "qqqq"), ([], "")):
        said = error_of(staged("train", *wrong))
        advice = "`python -m stages.params` writes it anew from params.yaml"
        assert said == f"error: resolved.yaml: no runs.{name}; expected one of {known}; {advice}\n"


def test_typos_in_the_params_are_all_named_and_nothing_is_written(project: Path, staged: Called) -> None:
    resolved = Path(shutil.copy(ROOT / "resolved.yaml", project)).read_bytes()
    text = (project / "params.yaml").read_text()
    text = text.replace(" epochs: ", " epoch: ", 1).replace("    max_side: ", "    max_sid: ", 1)
    (project / "params.yaml").write_text(text)
    before = sorted(project.rglob("*"))
    done = staged("params")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: params.yaml: ")
    assert "params.yaml: runs.actions.train.epoch: unknown key; did you mean 'epochs'?" in done.stderr
    assert "params.yaml: datasets.actions.max_sid: unknown key; did you mean 'max_side'?" in done.stderr
    assert "Traceback" not in done.stderr
    assert sorted(p for p in project.rglob("*") if p.name != LOG) == before
    assert (project / "resolved.yaml").read_bytes() == resolved


@pytest.mark.parametrize(
    ("pretrained", "sha256", "message"),
    [
        ("w.bin", "0" * 64, "runs.r.model.pretrained_sha256: found 000"),
        (False, "0" * 64, "runs.r.model.pretrained_sha256: found 000"),
        ("w.bin", hashlib.sha256(b"weights").hexdigest(), ""),
    ],
)
def test_a_stated_hash_holds_its_file(
    staged: Called, tmp_path: Path, pretrained: str | bool, sha256: str, message: str
) -> None:
    (tmp_path / "w.bin").write_bytes(b"weights")
    run = {"dataset": "d", "task": "classify", "model": {"pretrained": pretrained, "pretrained_sha256": sha256}}
    datasets = {"d": {"format": "folder", "path": "d", "labels": "d"}}
    (tmp_path / "params.yaml").write_text(json.dumps({"datasets": datasets, "runs": {"r": run}}))
    done = staged("params")
    assert (done.returncode == 0) == (not message)
    assert message in done.stderr


def of_models(*starts: str) -> str:
    """params.yaml with a run for each of `starts`: a, b, ... and what it starts from."""
    runs = {
        name: {"dataset": "d", "task": "classify", "model": {"pretrained": start or False}}
        for name, start in zip("abc", starts, strict=False)
    }
    return json.dumps({"datasets": {"d": {"format": "folder", "path": "d", "labels": "d"}}, "runs": runs})


def test_the_model_of_a_run_is_held_by_its_hash_once_it_is_there(tmp_path: Path) -> None:
    """A run that starts from it then is trained anew where that was."""
    (tmp_path / "params.yaml").write_text(of_models("", "models/a/model.safetensors"))
    assert resolve_params(tmp_path / "params.yaml")["runs"]["b"]["model"]["pretrained_sha256"] is None
    for content in (b"weights", b"others"):
        (tmp_path / "models/a").mkdir(parents=True, exist_ok=True)
        (tmp_path / "models/a/model.safetensors").write_bytes(content)
        model = resolve_params(tmp_path / "params.yaml")["runs"]["b"]["model"]
        assert model["pretrained_sha256"] == hashlib.sha256(content).hexdigest()


@pytest.mark.parametrize("start", ["models/a", "./models/a", "models/b/../a", "{}/models/a", "{}/link/../models//a"])
def test_the_model_of_a_run_is_known_however_its_path_is_written(tmp_path: Path, start: str) -> None:
    weights = f"{start.format(tmp_path)}/model.safetensors"
    (tmp_path / "params.yaml").write_text(of_models("", weights))
    assert resolve_params(tmp_path / "params.yaml")["runs"]["b"]["model"]["pretrained"] == "models/a/model.safetensors"
    (tmp_path / "params.yaml").write_text(of_models(weights))
    with pytest.raises(InputError, match="the run starts from itself, by a;"):
        resolve_params(tmp_path / "params.yaml")


def test_a_project_behind_a_link_knows_its_runs_models(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "params.yaml").write_text(of_models("", f"{tmp_path}/models/a/model.safetensors"))
    found = resolve_params(tmp_path / "link/params.yaml")["runs"]["b"]["model"]["pretrained"]
    assert found == "models/a/model.safetensors"
    (tmp_path / "params.yaml").write_text(of_models("", f"{tmp_path}/other/models/a/model.safetensors"))
    with pytest.raises(InputError, match="no such file"):
        resolve_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("starts", "message"),
    [
        (
            ["models/a/model.safetensors"],
            r"runs\.a\.model\.pretrained: models/a/model\.safetensors: the run starts from itself",
        ),
        (["models/b/model.safetensors", "models/a/model.safetensors"], "the run starts from itself, by b and a;"),
        (["", "models/aa/model.safetensors"], "models/aa/model.safetensors: no run of that name; did you mean 'a'?"),
        (["", "models/a/model.pth"], "models/a/model.pth: no such file"),
        (["weights/w.pth"], "runs.a.model.pretrained: weights/w.pth: no such file"),
    ],
)
def test_a_start_that_cannot_be_is_named(tmp_path: Path, starts: list[str], message: str) -> None:
    (tmp_path / "params.yaml").write_text(of_models(*starts))
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        resolve_params(tmp_path / "params.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "error: params.yaml: no such file\n"),
        ("runs: [\n", "error: params.yaml: not YAML: "),
        ("- a list\n", "error: params.yaml: expected keys and values (datasets: ..., runs: ...), found ['a list']"),
        (b"# \xe9\n", "error: params.yaml: not UTF-8: byte 0xe9 at 2"),
    ],
)
def test_a_params_file_that_cannot_be_read(
    staged: Called, tmp_path: Path, text: str | bytes | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "params.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert error_of(staged("params")).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "error: resolved.yaml: no such file; `dvc repro params` writes it from params.yaml\n"),
        ("runs: [\n", "error: resolved.yaml: not YAML: "),
        (b"# \xe9\n", "error: resolved.yaml: not UTF-8; `dvc repro --force params` writes it anew: "),
        ("runs: {herd: {dataset: herd}}\n", "error: resolved.yaml: no runs.herd.task; "),
    ],
)
def test_a_resolved_file_that_cannot_be_read(
    staged: Called, tmp_path: Path, text: str | bytes | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "resolved.yaml").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert error_of(staged("train", "herd")).startswith(message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "herd", "--port", "99999"], "argument --port: found '99999'; expected a port, up to 65535"),
        (["demo", "herd", "--port", "-5"], "argument --port: found '-5'; expected a port, up to 65535"),
        (["slide", "r", "d", "--score", "nan"], "argument --score: found 'nan'; expected a number from 0 to 1"),
        (["slide", "r", "d", "--scales", "1,,2"], "argument --scales: found ''; expected a number above 0"),
        (
            ["cost", "--backbone", "mobilenetv1", "--width", "nan"],
            "argument --width: found 'nan'; expected a number above",
        ),
        (["epochs", "herd", "--minutes", "0"], "argument --minutes: found '0'; expected a number above 0"),
    ],
)
def test_numbers_out_of_their_range_are_named(called: Called, arguments: list[str], message: str) -> None:
    done = called(*arguments)
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    "place", ["models/herd/x", "exports", "data/ingested/herd/x", "reports/../models/x", ".features/x", "mlflow.db"]
)
@pytest.mark.parametrize(
    "command",
    [["predict", "photo.jpg", "--run", "other", "--draw"], ["cost", "--budget", "macs=1M", "--plot"]],
)
def test_nothing_is_written_where_the_chain_removes_it(
    project: Path, called: Called, command: list[str], place: str
) -> None:
    (project / "models").mkdir()
    found = error_of(called(*command, place))
    assert re.search(
        rf"{command[-1]} {place}: (lies in \S+/|is mlflow\.db), which the chain makes and removes; expected elsewhere",
        found,
    )
    assert not list((project / "models").iterdir())


def test_params_are_explained(project: Path, called: Called) -> None:
    weights = project / "weights/mobilenetv2_050.drawn.safetensors"
    weights.parent.mkdir()
    weights.write_bytes(b"")
    lines = called("params", "herd").stdout.splitlines()
    said = {line.split()[0]: line.split(maxsplit=2)[2] for line in lines}
    assert said["runs.herd.train.epochs"].startswith("stated ")
    assert said["runs.herd.train.seed"] == "default  Of the weights, the order of images, dropout and augmentation."
    assert "datasets.herd.format" in said
    every = json.loads(called("params", "--json").stdout)
    runs, sections = {"actions", "alpaca", "herd", "pose"}, ["sample", "datasets", "runs", "machine", "track"]
    assert {knob["key"].split(".")[1] for knob in every if knob["key"].startswith("runs.")} == runs
    assert list(dict.fromkeys(knob["key"].split(".")[0] for knob in every)) == sections
    assert len({knob["key"] for knob in every}) == len(every)
    assert all(knob["meaning"] for knob in every)
    assert "no run or dataset 'hert' in params.yaml; did you mean 'herd'?" in error_of(called("params", "hert"))

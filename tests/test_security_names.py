"""Names of datasets, runs and images that would be paths, commands or other files: they are refused wherever they are
read, also from files that only the chain writes, as a foreign project brings them along.
"""

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT
from label_sets import SETS, SIZE, Row, write_files
from PIL import Image
from ruamel.yaml import YAML

from pipeline.augment.offline import augment_dataset
from pipeline.augment.params import AugmentParams
from pipeline.cli import main
from pipeline.config.params import read_params
from pipeline.core.errors import InputError, shown
from pipeline.core.files import write_json
from pipeline.core.sample import Dataset, Sample, read_dataset, write_dataset, write_samples
from pipeline.core.spec import ModelSpec, read_spec, write_spec
from pipeline.datasets.formats import FORMATS
from pipeline.inspection.app import run_files
from stages import run

EVIL = ("../../victim", ".", "..", "x;touch planted", "$(touch planted)", "a\nb", "a b", "-rf", "'", "a/b", "é", "")
SPEC = ModelSpec(
    *("herd", "herd", "classify", ["cow", "goat"], [], [], [], "mobilenetv2_050", {"kind": "pool"}),
    *(96, "letterbox", [0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
)


@pytest.mark.parametrize("section", ["datasets", "runs"])
@pytest.mark.parametrize("name", EVIL)
def test_params_have_no_name_that_is_a_path_or_a_command(name: str, section: str, tmp_path: Path) -> None:
    write_json(tmp_path / "params.yaml", {section: {name: {}}})
    with pytest.raises(InputError, match=rf"params.yaml: {section}: name .*expected letters, digits"):
        read_params(tmp_path / "params.yaml")


@pytest.mark.parametrize("name", [name for name in EVIL if name])
def test_a_stage_takes_no_name_that_is_a_path_or_a_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    called: list[str] = []
    monkeypatch.setattr("sys.argv", ["stages.train", name])
    with pytest.raises(SystemExit) as ended:
        run(lambda name: called.append(name) or "")
    assert ended.value.code == 1
    assert not called
    assert "expected letters, digits" in capsys.readouterr().err


def test_every_command_of_dvc_yaml_keeps_a_name_one_word() -> None:
    stages = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
    for name, stage in stages.items():
        command = stage.get("do", stage)["cmd"]
        assert command.count("${") == command.count("'${key}'"), name
        filled = command.replace("${key}", "x;touch planted $(touch planted)").replace("sh stages/python.sh", "echo")
        said = subprocess.run(["sh", "-c", filled], capture_output=True, text=True, check=True).stdout
        assert "${" not in command or said.endswith("x;touch planted $(touch planted)\n"), name


@pytest.mark.parametrize("name", EVIL)
def test_a_planted_card_or_dataset_names_no_other_folder(name: str, tmp_path: Path) -> None:
    for key in ("run", "dataset"):
        write_spec(tmp_path / "model.json", replace(SPEC, **{key: name}))
        with pytest.raises(InputError, match=r"model.json.*expected letters, digits"):
            read_spec(tmp_path / "model.json")
    write_json(tmp_path / "dataset.json", {"name": name, "labels": [], "pairs": [], "skeleton": []})
    with pytest.raises(InputError, match=r"dataset.json.*expected letters, digits"):
        read_dataset(tmp_path)


WITHOUT = ("yolo", "pts", "landmarks_csv", "deeplabcut")  # a name ends with its line, or there are none


@pytest.mark.parametrize("form", SETS)
def test_no_class_has_a_line_of_its_own(form: str, tmp_path: Path) -> None:
    """A line break in a name would move the number of each class after it in labels.txt."""
    Image.new("RGB", SIZE).save(tmp_path / "0.jpg")
    write_files(tmp_path, SETS[form]([Row("0.jpg", label="cow\ngoat\u2028pig")]))
    reading = FORMATS[form].read(tmp_path, tmp_path, FORMATS[form].Options())
    named = [*reading.labels, *(o.label for c in reading.candidates for o in c.objects)]
    assert [name for name in named if shown(name) != name] == []
    assert form in WITHOUT or any(name.endswith(r"cow\ngoat\u2028pig") for name in named)


@pytest.mark.parametrize("label", ["cow\ngoat", "cow\x1b[31m", "cow\u2028"])
def test_a_planted_card_or_dataset_has_no_such_class(label: str, tmp_path: Path) -> None:
    write_spec(tmp_path / "model.json", replace(SPEC, labels=["goat", label]))
    with pytest.raises(InputError, match=r"model.json: label .*expected a name on one line"):
        read_spec(tmp_path / "model.json")
    write_dataset(tmp_path, Dataset("herd", [label]))
    with pytest.raises(InputError, match=r"dataset.json: label .*expected a name on one line"):
        read_dataset(tmp_path)


@pytest.mark.parametrize("command", ["predict photo.jpg --run", "slide herd", "slide", "demo", "cost --run", "inspect"])
def test_a_command_takes_no_name_that_is_a_path(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*command.split(), "../../victim", *(["herd"] if command == "slide" else [])])
    assert ended.value.code == 2
    assert "expected letters, digits" in capsys.readouterr().err


def test_labels_of_a_view_stay_in_the_project(tmp_path: Path) -> None:
    predictions = tmp_path / "reports/evaluate/herd/predictions"
    write_json(predictions / "dataset.json", {"name": "../../victim", "labels": [], "pairs": [], "skeleton": []})
    with pytest.raises(InputError, match="expected letters, digits"):
        run_files("herd", tmp_path, "me")


@pytest.mark.parametrize("planted", ["../../victim.jpg", "/absolute.jpg", "..", "a/../../b.jpg"])
def test_copies_are_written_into_their_own_folder_only(planted: str, tmp_path: Path) -> None:
    project = tmp_path / "far" / "project"
    train = project / "in" / "train"
    train.mkdir(parents=True)
    lies = Path(f"{tmp_path}{planted}") if planted.startswith("/") else train / planted
    lies = lies if lies.suffix else train / "1.jpg"
    lies.parent.mkdir(parents=True, exist_ok=True)
    (train / "a").mkdir(exist_ok=True)
    Image.new("RGB", (8, 8)).save(lies)
    write_dataset(project / "in", Dataset("herd", ["cow"]))
    write_samples(train, [Sample("1", str(lies) if planted.startswith("/") else planted, 8, 8, label="cow")])
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"metadata.jsonl.*leads out of its folder"):
        augment_dataset(project / "in", project / "out", project / "reports", AugmentParams(policy="photo", copies=1))
    assert sorted(tmp_path.rglob("*")) == before

"""One file makes a format: the schema, `pocketlens add`, error sentences and the docs are made from the table."""

import ast
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from PIL import Image

from pipeline.cli import TASKS
from pipeline.config.params import parse_params
from pipeline.core.errors import InputError
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.format import Format, Task

ROOT = Path(__file__).parents[1]
MODULES = ROOT / "pipeline/datasets/formats"
PARAMS = (ROOT / "params.yaml").read_text(encoding="utf-8")

Command = Callable[..., subprocess.CompletedProcess[str]]

rows = pytest.mark.parametrize("row", FORMATS.values(), ids=FORMATS)


@rows
def test_a_row_says_all_that_is_made_of_it(row: Format) -> None:
    assert set(row.tasks) <= set(get_args(Task)) == set(TASKS)
    assert row.tasks
    assert row.looks_for
    for name, field in row.Options.model_fields.items():
        assert not field.is_required(), f"{row.name}: {name} has no default"
        assert field.description, f"{row.name}: {name} has no docstring that says its meaning and unit"


@rows
def test_every_option_is_read(row: Format) -> None:
    tree = ast.parse((MODULES / f"{row.name}.py").read_text(encoding="utf-8"))
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    read = {node.attr for node in attributes if isinstance(node.value, ast.Name) and node.value.id == "options"}
    assert set(row.Options.model_fields) <= read


def test_a_format_that_others_have_by_chance_is_asked_last() -> None:
    """class folders of images are in nearly every dataset, and UCF101-24's boxes lie beside UCF101's clips"""
    order = [name for name, row in FORMATS.items() if row.recognize]
    annotated = ["imagefolder", "labelme", "coco", "label_studio", "deeplabcut", "cvat", "open_images"]
    assert order == ["ucf24", "ucf101", *annotated, "voc", "yolo", "pts", "landmarks_csv", "folder"]


def test_a_format_imports_no_package_beside_core_and_its_own() -> None:
    """dvc.yaml's deps follow imports that are written; the table imports its modules by name"""
    for file in MODULES.glob("*.py"):
        found = re.findall(r"^\s*(?:from|import) (pipeline\.\w+(?:\.\w+)?)", file.read_text(encoding="utf-8"), re.M)
        wrong = [name for name in found if not re.match(r"pipeline\.core|pipeline\.datasets\.formats", name)]
        assert not wrong, f"{file.name}: imports {wrong}"


def test_params_import_nothing_heavy() -> None:
    """params are read before anything else, by every stage and command"""
    heavy = ["numpy", "PIL", "av", "cv2", "pandas", "torch"]
    code = f"import sys, pipeline.config.params; print([m for m in {heavy} if m in sys.modules])"
    assert run(ROOT, "-c", code).stdout == "[]\n"


# --- the dataset blocks of params.yaml


def with_dataset(block: str) -> str:
    return PARAMS.replace("\ndatasets:\n", f"\ndatasets:\n  mine:\n{block}", 1)


def block(form: str, options: str = "") -> str:
    return f"""\
    format: {form}
    path: data/mine
    labels: data/mine
{options}\
    splits: {{val: 0.2, test: 0.2, seed: 0}}
    max_side: 320
    refuse_over: 0.1
    augment: {{policy: none, copies: 0, seed: 0}}
"""


@rows
def test_options_that_are_left_out_have_their_defaults(row: Format) -> None:
    defaults = row.Options().model_dump()
    for options in ("", "    options: {}\n"):
        dataset = parse_params(with_dataset(block(row.name, options)), Path("p")).dataset("mine")
        assert type(dataset.options) is row.Options
        assert (dataset.format, dataset.options.model_dump()) == (row.name, defaults)


def test_one_option_can_be_given_alone() -> None:
    text = with_dataset(block("crops", "    options: {margin: 0.3}\n"))
    options: Any = parse_params(text, Path("p")).dataset("mine").options
    assert (options.margin, options.min_side) == (0.3, 32)


@pytest.mark.parametrize(
    ("form", "options", "message"),
    [
        ("cocco", "", r"datasets\.mine\.format: 'cocco' is not one of .*'ucf24'.*; did you mean 'coco'\?"),
        ("ucf101", "{frame: 8}", r"datasets\.mine\.options\.frame: unknown key; did you mean 'frames'\?"),
        ("ucf101", "{split: 4}", r"datasets\.mine\.options\.split: .*found 4"),
        ("crops", "{marign: 0.1}", r"datasets\.mine\.options\.marign: unknown key; did you mean 'margin'\?"),
        ("landmarks_csv", "{labl: face}", r"datasets\.mine\.options\.labl: unknown key; did you mean 'label'\?"),
        ("ucf24", "{x: 1}", r"datasets\.mine\.options\.x: unknown key; expected one of split, frames, label"),
        ("coco", "{label: x}", r"datasets\.mine\.options\.label: unknown key"),
        ("pts", "[]", r"datasets\.mine\.options: .*found \[\]"),
    ],
)
def test_a_wrong_option_is_named(form: str, options: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^params\.yaml: {message}"):
        parse_params(with_dataset(block(form, f"    options: {options}\n" if options else "")), Path("params.yaml"))


# --- a format that is added: one file in the folder, in a copy of the project

ADDED = '''"""Images listed in a file `roll.txt`: a name and a class a line."""

from collections.abc import Iterable
from pathlib import Path

from pipeline.core.params import Block, Count
from pipeline.core.sample import Dataset, Sample
from pipeline.datasets.formats.format import Format
from pipeline.datasets.formats.reading import Candidate, Reading, give_ids
from pipeline.datasets.formats.writing import Lost, Writer


class Options(Block):
    skip: Count = 3
    """Lines of a heading."""


def read(path: Path, labels: Path, options: Options) -> Reading:
    lines = (labels / "roll.txt").read_text().splitlines()[options.skip :]
    names = [line.split() for line in lines]
    reading = Reading([Candidate(path / n, n, label=label) for n, label in names], sorted({x for _, x in names}))
    give_ids(reading.candidates, [n for n, _ in names])
    return reading


def recognize(path: Path, labels: Path) -> str | None:
    return "a roll" if (labels / "roll.txt").is_file() else None


def write(folder: Path, dataset: Dataset, samples: Iterable[Sample], lost: Lost) -> None:
    (folder / "roll.txt").write_text("a\\nb\\nc\\n" + "".join(f"{s.file_name} {s.label}\\n" for s in samples))


WRITER = Writer(lambda split, name: name, write, frozenset({"image_labels"}))
FORMAT = Format("roll", ("classify",), Options, read, "a roll of images, roll.txt", recognize, write=WRITER)
'''


def run(cwd: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(cwd), "COLUMNS": "200", "PYTHONDONTWRITEBYTECODE": "1"}
    line = [sys.executable, *arguments]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "pipeline", root / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "docs", root / "docs")
    shutil.copytree(ROOT / "stages", root / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copyfile(ROOT / name, root / name)
    (root / "pipeline/datasets/formats/roll.py").write_text(ADDED, encoding="utf-8")
    (root / "data/mine").mkdir(parents=True)
    (root / "data/mine/roll.txt").write_text("a\nb\nc\n1.jpg cat\n2.jpg dog\n", encoding="utf-8")
    (root / "data/none").mkdir()
    for name in ("cat/1.png", "dog/2.png"):
        (root / "data/pets" / name).parent.mkdir(parents=True)
        Image.new("RGB", (9, 9)).save(root / "data/pets" / name)
    return root


@pytest.fixture
def pocketlens(project: Path) -> Command:
    (project / "params.yaml").write_text(PARAMS, encoding="utf-8")
    return lambda *arguments: run(project, "-m", "pipeline.cli", *arguments)


def test_the_help_lists_it(pocketlens: Command) -> None:
    assert re.search(
        r"--format FORMAT .*\blandmarks_csv, roll, folder, crops; recognized", pocketlens("add", "-h").stdout
    )


def test_a_folder_of_it_is_recognized_and_added(project: Path, pocketlens: Command) -> None:
    done = pocketlens(
        "add", "mine", "--data", "data/mine", "--task", "classify", "--from-scratch", "--set", "dataset.options.skip=2"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("data/mine: roll (a roll)\n")
    written = (project / "params.yaml").read_text(encoding="utf-8")
    assert re.search(r"\n  mine:\n    format: roll\n(    .*\n)*      skip: 2\n", written)
    # what was written is read again, by the schema that was made with it
    done = pocketlens("add", "more", "--data", "data/mine", "--task", "classify", "--from-scratch")
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["data/none", "--task", "classify"],
            "data/none: no known format.*; looked for .*a roll of images, roll.txt .roll",
        ),
        (["data/mine", "--task", "detect"], "data/mine: found roll .a roll., but detect learns from ucf24"),
        (["data/none", "--task", "classify", "--format", "rol"], "format 'rol'; did you mean 'roll'?"),
        (["data/mine", "--task", "classify", "--set", "dataset.options.skip=0"], "mine.options.skip: .*found 0"),
    ],
)
def test_error_sentences_know_it(pocketlens: Command, arguments: list[str], message: str) -> None:
    done = pocketlens("add", "mine", "--data", *arguments)
    assert done.returncode == 1
    assert re.search(message.replace("?", r"\?"), done.stderr), done.stderr


def test_a_set_is_converted_to_it(project: Path, pocketlens: Command) -> None:
    assert re.search(r"--to FORMAT .*\broll\b", pocketlens("convert", "-h").stdout)
    done = pocketlens("convert", "data/pets", "rolled", "--to", "roll")
    assert done.returncode == 0, done.stderr
    assert (project / "rolled/roll.txt").read_text() == "a\nb\nc\ncat/1.png cat\ndog/2.png dog\n"
    done = pocketlens("convert", "data/pets", "coco", "--to", "coco")
    assert re.search("data/pets: has classes of images, but coco holds .*; expected --to .*roll", done.stderr)


def test_an_unknown_option_of_it_is_named(project: Path, pocketlens: Command) -> None:
    text = with_dataset(block("roll", "    options: {skp: 1}\n"))
    (project / "params.yaml").write_text(text, encoding="utf-8")
    done = pocketlens("add", "more", "--data", "data/mine", "--task", "classify")
    assert done.stderr == "error: params.yaml: datasets.mine.options.skp: unknown key; did you mean 'skip'?\n"


def test_the_docs_tables_get_it(project: Path) -> None:
    done = run(project, "-m", "pipeline.config.doc_tables")
    assert (done.returncode, done.stderr) == (0, "")
    text = (project / "docs/datasets.md").read_text(encoding="utf-8")
    assert "| `roll` | a roll of images, roll.txt | classify | `skip` |" in text
    assert "| `roll` | `skip` | `3` | Lines of a heading. |" in text
    assert "| `roll` | yes | yes | classes of images |" in text


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", "ValueError: {}: FORMAT is named 'roll'; expected 'coil'"),
        ("FORMAT = ", "FORMAT = 'a row'\nOTHER = ", "TypeError: {}: FORMAT is str; expected Format(...)"),
        ('"classify"', '"clasify"', "ValueError: {}: tasks ['clasify']; expected of classify, localize, detect"),
    ],
)
def test_a_row_that_cannot_be_is_refused(project: Path, old: str, new: str, message: str) -> None:
    wrong = project / "pipeline/datasets/formats/coil.py"
    assert old in ADDED
    wrong.write_text(ADDED.replace(old, new) if old else ADDED, encoding="utf-8")
    try:
        done = run(project, "-c", "import pipeline.datasets.formats")
    finally:
        wrong.unlink()
    assert message.format("pipeline.datasets.formats.coil") in done.stderr

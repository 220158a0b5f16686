"""What judges images by a backbone gives it what nets see: the dataset's steps of preprocessing are done before."""

import shutil
import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from test_label_mistakes import project

from pipeline.annotation.mistakes import labelled_samples
from pipeline.cli import main
from pipeline.core.files import write_text
from pipeline.inspection import app
from pipeline.ops.steps import gray

INGESTED, POOL, LEDGER = Path("data/ingested/mine"), Path("pool"), Path("reports/ingest/mine/ledger.csv")
SEEN = list[tuple[bytes, bytes]]


@pytest.fixture(scope="module")
def projects(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Images and a pool in colour, of which `preprocess` makes gray ones; and gray files without a step. They are of
    the canvas's size: to resize gray pixels is to round other numbers.
    """
    colour, plain = tmp_path_factory.mktemp("colour"), tmp_path_factory.mktemp("plain")
    project(colour, "classify")
    (colour / POOL).mkdir()
    for i in range(3):
        pixels = np.random.default_rng(i).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(colour / POOL / f"{i}.png")
    write_text(colour / LEDGER, "file,key,rule,found,done\n")
    shutil.copytree(colour, plain, dirs_exist_ok=True)
    for file in plain.rglob("*.png"):
        with Image.open(file) as image:
            pixels = gray(np.asarray(image))
        Image.fromarray(pixels).save(file)
    said = (colour / "params.yaml").read_text()
    write_text(colour / "params.yaml", said.replace("labels: data/mine", "labels: data/mine, preprocess: [gray]"))
    return colour, plain


def seen(folder: Path, command: list[str], monkeypatch: pytest.MonkeyPatch) -> SEEN:
    """A hash of each canvas that `command` shows to the backbone, and what the backbone makes of it."""
    monkeypatch.chdir(folder)
    shutil.rmtree(".features", ignore_errors=True)
    main(command)
    [file] = Path(".features").glob("*.sqlite")
    with sqlite3.connect(file) as database:
        return sorted(database.execute("SELECT image, maps FROM features"))


@pytest.mark.parametrize(
    ("command", "images"),
    [
        (["mistakes", "mine"], 40),
        (["leaks", "mine", "--split", "ours"], 40),
        (["next", "mine", "2"], 40),
        (["next", "mine", "2", "--pool", "pool"], 43),
        (["inspect", "mine", "--dataset"], 40),
    ],
)
def test_a_backbone_sees_what_the_datasets_steps_make_of_an_image(
    projects: tuple[Path, Path], command: list[str], images: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def map_alone(files: Any, *_: Any) -> None:
        """In place of FiftyOne, for which the vectors are made."""
        files.vectors(labelled_samples(files.ingested))

    monkeypatch.setattr(app, "inspect_dataset", map_alone)
    colour, plain = (seen(folder, command, monkeypatch) for folder in projects)
    assert len(colour) == images
    assert colour == plain


def test_other_steps_make_another_map(projects: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """The one in the database is kept while it is by the same `backbone`."""
    shown: list[Any] = []
    monkeypatch.setattr(app, "inspect_dataset", lambda files, *_: shown.append(files))
    for folder in projects:
        monkeypatch.chdir(folder)
        main(["inspect", "mine", "--dataset"])
    with_gray, without = shown
    assert with_gray.backbone == f"{without.backbone} {{'step': 'gray'}}"

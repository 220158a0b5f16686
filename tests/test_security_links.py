"""Links and lists in somebody's data that lead out of it: nothing of this machine gets into what is made of it."""

from collections.abc import Callable
from pathlib import Path

import pytest
from finished_project import dvc
from PIL import Image

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.datasets.convert.convert import convert
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.params import DATASETS, DatasetParams

SECRET = "root:x:0:0:of-this-machine"


def herd(folder: Path, images: int = 6) -> Path:
    """A YOLO set, beside a file of the machine that is no part of it."""
    data = folder / "data"
    data.mkdir()
    (folder / "secret.txt").write_text(f"{SECRET}\n")
    (data / "classes.txt").write_text("cow\n")
    for number in range(images):
        Image.new("RGB", (64, 48), (40 * number, 90, 160)).save(data / f"{number}.jpg")
        (data / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    return data


def block(data: Path, **more: object) -> DatasetParams:
    knobs = {"format": "yolo", "path": str(data), "labels": str(data), "refuse_over": 1.0, **more}
    return DATASETS["yolo"].model_validate(knobs)


def ingested(data: Path, out: Path, **more: object) -> str:
    """All that was written, as one text."""
    places = out / "data", out / "reports", out / "splits.csv", out / "labels"
    ingest("herd", block(data, **more), *places)
    files = (file for file in out.rglob("*") if file.suffix in (".json", ".csv", ".jsonl"))
    return "\n".join(file.read_text() for file in files)


def classes(data: Path) -> None:
    (data / "classes.txt").unlink()
    (data / "classes.txt").symlink_to(data.parent / "secret.txt")


def label_file(data: Path) -> None:
    (data / "1.txt").unlink()
    (data / "1.txt").symlink_to(data.parent / "secret.txt")


def folder(data: Path) -> None:
    (data.parent / "more").mkdir()
    (data / "more").symlink_to(data.parent / "more")


def by_way_of_another(data: Path) -> None:
    (data / "one").symlink_to(data.parent / "secret.txt")
    (data / "two.txt").symlink_to(data / "one")


@pytest.mark.parametrize("plant", [classes, label_file, folder, by_way_of_another])
def test_a_link_that_leads_out_is_named_with_the_knob(plant: Callable[[Path], None], tmp_path: Path) -> None:
    data = herd(tmp_path)
    plant(data)
    with pytest.raises(InputError, match=r"lead out of it; .*datasets\.herd\.links_out: follow") as said:
        ingested(data, tmp_path / "out")
    assert SECRET not in str(said.value)
    assert not list(tmp_path.glob("out/data/*"))
    with pytest.raises(InputError, match=r"lead out of it; .*--follow-links"):
        convert(data, tmp_path / "coco", "coco", "yolo")


def test_an_image_that_is_such_a_link_is_a_row_and_the_others_are_taken(tmp_path: Path) -> None:
    data = herd(tmp_path)
    (data / "1.jpg").rename(tmp_path / "private.jpg")
    (data / "1.jpg").symlink_to(tmp_path / "private.jpg")
    written = ingested(data, tmp_path / "out")
    assert "1.jpg,,link_out,a link that leads out of the folder; datasets.herd.links_out: follow,refused" in written
    assert '"id": "1"' not in written and '"id": "2"' in written
    assert '"id": "1"' in ingested(data, tmp_path / "followed", links_out="follow")


def test_links_within_the_data_are_followed(tmp_path: Path) -> None:
    data = herd(tmp_path)
    (data / ".pool").mkdir()
    (data / "1.jpg").rename(data / ".pool" / "a.jpg")
    (data / "1.jpg").symlink_to(".pool/a.jpg")
    assert '"id": "1"' in ingested(data, tmp_path / "out")


def test_what_dvc_has_linked_to_its_cache_is_part_of_the_data(tmp_path: Path) -> None:
    data = herd(tmp_path)
    dvc(tmp_path, "init", "--no-scm", "--quiet")
    dvc(tmp_path, "config", "cache.type", "symlink")
    dvc(tmp_path, "add", "--quiet", "data")
    assert all(file.is_symlink() for file in data.iterdir())
    assert '"id": "1"' in ingested(data, tmp_path / "out")
    classes(data)
    with pytest.raises(InputError, match=r"classes\.txt: links that lead out of it"):
        ingested(data, tmp_path / "again")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("obj.data", "classes = 1\nnames = beside/secret.txt\n"),
        ("obj.data", "classes = 1\nnames = ../secret.txt\n"),
        ("obj.data", "classes = 1\nnames = classes.txt\ntrain = {above}/secret.txt\n"),
        ("data.yaml", "names: [cow]\ntrain: {above}/secret.txt\n"),
        ("data.yaml", "names: [cow]\npath: {above}\ntrain: secret.txt\n"),
        ("data.yaml", "names: [cow]\ntrain: ../secret.txt\nval: ../../../../etc/passwd.txt\n"),
    ],
)
def test_a_list_outside_of_the_data_is_not_read(file: str, text: str, tmp_path: Path) -> None:
    data = herd(tmp_path)
    (tmp_path / "beside").mkdir()
    (tmp_path / "beside/secret.txt").write_text(f"{SECRET}\n")
    (data / file).write_text(text.format(above=tmp_path))
    try:
        reading = FORMATS["yolo"].read(data, data, block(data).options)
        said = repr((reading.labels, reading.problems))
    except InputError as error:
        said = str(error)
    assert SECRET not in said


def test_the_command_follows_links_only_where_it_is_told_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = herd(tmp_path)
    classes(data)
    monkeypatch.chdir(tmp_path)
    command = ["convert", str(data), "out", "--to", "coco"]
    with pytest.raises(SystemExit):
        main(command)
    main([*command, "--follow-links"])
    assert SECRET in (tmp_path / "out/annotations/instances.json").read_text()

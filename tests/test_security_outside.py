"""Nothing is written by way of a link that lies in a project under a name that is known beforehand."""

import os
import subprocess
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from pipeline.core import boundary
from pipeline.core.boundary import unforeseen
from pipeline.core.files import new_folder, unfinished, write_text
from pipeline.core.sole import only
from pipeline.datasets.formats.reading import DRAWINGS
from pipeline.datasets.video_write import ClipWriter
from pipeline.inference.drawings import DrawingFolder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    write_text(tmp_path / "photos/family.txt", "mine")
    (tmp_path / "project").mkdir()
    return tmp_path / "photos"


def is_as_it_was(photos: Path) -> bool:
    return [(file.name, file.read_text()) for file in photos.iterdir()] == [("family.txt", "mine")]


@pytest.mark.parametrize("name", [".herd.unfinished", ".herd.replaced"])
@pytest.mark.parametrize("fails", [False, True])
def test_a_folder_is_not_made_where_a_link_of_its_hidden_name_leads(name: str, fails: bool, photos: Path) -> None:
    herd = photos.parent / "project/herd"
    (herd.parent / name).symlink_to("../photos")
    try:
        with new_folder(herd) as place:
            write_text(place / "a", "cow")
            assert not fails, "as if it went wrong here"
    except AssertionError:
        assert fails
    assert is_as_it_was(photos)
    assert [file.name for file in herd.parent.rglob("*")] == ([] if fails else ["herd", "a"])
    assert not herd.is_symlink()


def by_link(place: Path, target: Path) -> None:
    place.symlink_to(target)


def by_hard_link(place: Path, target: Path) -> None:
    os.link(target, place)


def pipe(place: Path, target: Path) -> None:
    os.mkfifo(place)


@pytest.mark.parametrize("plant", [by_link, by_hard_link, pipe])
def test_a_file_is_not_written_where_a_link_of_its_hidden_name_leads(
    plant: Callable[[Path, Path], None], photos: Path
) -> None:
    note, clip = photos.parent / "project/note", photos.parent / "project/walk.mp4"
    for file in (note, clip):
        plant(unfinished(file), photos / "family.txt")
    write_text(note, "cow")
    writer = ClipWriter(clip, Fraction(10))
    writer.add(Image.new("RGB", (64, 48)))
    writer.close()
    assert is_as_it_was(photos)
    assert note.read_text() == "cow" and note.is_file() and not note.is_symlink()
    assert not clip.is_symlink()


def test_the_folder_of_a_training_may_be_a_link(photos: Path) -> None:
    resume = photos.parent / "project/.resume"
    resume.symlink_to(photos)
    with only(resume, "herd: another process trains it"):
        pass


READ_ONLY = """
import sys
from pathlib import Path
from pipeline.core.files import new_folder
with new_folder(Path(sys.argv[1])) as place:
    (place / "a").touch()
"""


def test_what_cannot_be_removed_gets_into_no_folder(bound: tuple[str, ...], tmp_path: Path) -> None:
    kept = tmp_path / ".herd.unfinished/kept"
    write_text(kept / "secret.txt", "of another user")
    kept.chmod(0o500)
    done = subprocess.run(
        [*bound, sys.executable, "-c", READ_ONLY, str(tmp_path / "herd")],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    kept.chmod(0o700)
    assert "InTheWayError" in done.stderr and f"{kept}: cannot be removed" in done.stderr
    assert not (tmp_path / "herd").exists()


@pytest.mark.parametrize("size", [10, 3 << 20])
@pytest.mark.parametrize("plant", [by_link, by_hard_link])
def test_the_log_is_not_written_where_a_link_leads(
    plant: Callable[[Path, Path], None], size: int, photos: Path
) -> None:
    project = photos.parent / "project"
    (project / "params.yaml").touch()
    before = b"m" * size
    (photos / "family.txt").write_bytes(before)
    plant(project / boundary.LOG, photos / "family.txt")
    said = unforeseen(KeyError("cow"), project)
    assert (photos / "family.txt").read_bytes() == before
    assert str(project / boundary.LOG) in said and "KeyError: 'cow'" in (project / boundary.LOG).read_text()


@pytest.mark.parametrize("plant", [by_link, by_hard_link])
def test_the_list_of_drawings_is_not_written_where_a_link_leads(
    plant: Callable[[Path, Path], None], photos: Path
) -> None:
    drawn = photos.parent / "project/drawn"
    drawn.mkdir()
    plant(drawn / DRAWINGS, photos / "family.txt")
    drawings = DrawingFolder(drawn, [])
    drawings.make("metadata.jsonl")
    assert is_as_it_was(photos)
    assert "metadata.jsonl" in (drawn / DRAWINGS).read_text()


@pytest.mark.parametrize("plant", [by_link, by_hard_link])
def test_drawings_that_dvc_has_linked_to_its_cache_are_still_ours(
    plant: Callable[[Path, Path], None], tmp_path: Path
) -> None:
    first = DrawingFolder(tmp_path / "drawn", [])
    first.make("metadata.jsonl")
    write_text(first.free("a", ".png"), "a cow")
    (tmp_path / "drawn" / DRAWINGS).rename(tmp_path / "cached")
    plant(tmp_path / "drawn" / DRAWINGS, tmp_path / "cached")
    DrawingFolder(tmp_path / "drawn", []).make("b.png")
    third = DrawingFolder(tmp_path / "drawn", [])
    assert third.free("a", ".png").name == "a.png"
    assert "b.png" not in (tmp_path / "cached").read_text()

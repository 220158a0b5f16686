"""A file is finished or not there."""

import os
from pathlib import Path

import pytest

from pipeline.core.errors import InputError
from pipeline.core.files import new_folder, read_json, write_json


def test_an_error_leaves_the_old_folder_and_no_rest(tmp_path: Path) -> None:
    with new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "out") as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (tmp_path / "out" / "a").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_new_folder_takes_the_old_ones_place(tmp_path: Path) -> None:
    for name in ("a", "b"):
        with new_folder(tmp_path / "out") as folder:
            (folder / name).touch()
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["b"]


def test_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(("content", "message"), [(b"{\n]", "a.json:2: not JSON"), (b"\xff\xfe{", "not UTF-8")])
def test_what_is_no_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_json(tmp_path / "a.json")


def test_a_name_that_is_not_utf_8_survives_in_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"b\xff.jpg")
    write_json(tmp_path / "a.json", {"file": name})
    assert (tmp_path / "a.json").read_bytes().isascii()
    assert read_json(tmp_path / "a.json") == {"file": name}

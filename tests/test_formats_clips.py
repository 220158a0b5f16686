"""Clips by class folder, as people share them: subsets of UCF101 in folders of splits, and clips of any name."""

from pathlib import Path

import pytest
from test_formats import make, read, rules

from pipeline.core.errors import InputError
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import Reading
from pipeline.datasets.formats.ucf101 import Options


def read_clips(root: Path) -> Reading:
    return read("ucf101", root, options=Options())


@pytest.mark.parametrize("top", ["", "UCF101_subset/"])
@pytest.mark.parametrize("val", ["val", "validation"])
def test_a_subset_of_ucf101_in_folders_of_splits(tmp_path: Path, top: str, val: str) -> None:
    """its tables beside the folders say the same as these; one recording's number is another one in another class"""
    names = {
        "train/Run/v_Run_g08_c01.avi": ("train", "Run/g08"),
        "train/Hop/v_Hop_g09_c01.avi": ("train", "Hop/g09"),
        f"{val}/Run/v_Run_g09_c01.avi": ("val", "Run/g09"),
        f"{val}/Hop/v_Hop_g10_c01.avi": ("val", "Hop/g10"),
        "test/Run/v_Run_g01_c01.avi": ("test", "Run/g01"),
        "test/Hop/v_Hop_g08_c01.avi": ("test", "Hop/g08"),
    }
    tables = {
        f"{top}{split}.csv": f"clip_name,clip_path,label\nx,/{split}/Run/x.avi,Run\n" for split in ("train", "val")
    }
    root = make(tmp_path, {f"{top}{name}": "" for name in names} | tables)
    assert detect_format(root) == ("ucf101", "6 clips in 2 class folders")
    reading = read_clips(root)
    assert {c.name.removeprefix(top): (c.split, c.group) for c in reading.candidates} == names
    assert (reading.labels, {c.label for c in reading.candidates}, rules(reading)) == (
        ["Hop", "Run"],
        {"Hop", "Run"},
        [],
    )


def test_clips_of_any_name_are_groups_of_their_own(tmp_path: Path) -> None:
    names = ["dive/a/1.mp4", "dive/b/1.mp4", "surf/1.mp4", "surf/2.mov"]
    root = make(tmp_path, dict.fromkeys([*names, "surf/3.flv", "about.mp4"], ""))
    reading = read_clips(root)
    assert {c.name: c.label for c in reading.candidates} == {name: name[:4] for name in names}
    assert len({c.group for c in reading.candidates}) == len({c.id for c in reading.candidates}) == len(names)
    assert ("surf/3.flv", "unreadable_clip", "refused") in rules(reading)


def test_one_class_of_clips_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes dive; expected two or more"):
        read_clips(make(tmp_path, {"dive/1.mp4": "", "dive/2.mp4": ""}))

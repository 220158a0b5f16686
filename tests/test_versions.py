"""Two versions of a dataset, compared by id: each change is found, named and drawn, and nothing else is."""

import json
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from conftest import ROOT
from finished_project import dvc
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS, Dataset, Landmark, Object, Sample, write_dataset, write_samples
from pipeline.datasets.formats.reading import Problem
from pipeline.datasets.ingest.report import ledger_text
from pipeline.experiments.sheets import difference_sheet
from pipeline.experiments.versions import LISTED, Change, compare_objects, difference, difference_text, open_version
from pipeline.viz.sheets import PREDICTED, TRUTH

COW, GOAT = Object("cow", (0.1, 0.1, 0.3, 0.4)), Object("goat", (0.6, 0.5, 0.2, 0.2))
FACE = Object("cow", (0.1, 0.1, 0.3, 0.4), [Landmark(0.2, 0.2), Landmark(0.3, 0.2), Landmark(0, 0, 0)])


def write(folder, images, labels=("cow", "goat"), scheme=(["a", "b", "c"], [], [(0, 1)])):
    """`images`: a sample each with the seed of its pixels."""
    for split in SPLITS:
        (folder / split).mkdir(parents=True)
        write_samples(folder / split, [s for s, _ in images if s.split == split])
    for s, seed in images:
        pixels = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 48)).save(folder / s.split / s.file_name)
    write_dataset(folder, Dataset("set", list(labels), *scheme))
    return folder


def sample(i, split="train", label=None, objects=()):
    return Sample(str(i), f"{i}.png", 64, 48, split, label=label, objects=list(objects))


BEFORE = [
    (sample("same", objects=[COW, GOAT]), 0),
    (sample("gone"), 1),
    (sample("side"), 2),
    (sample("pixels", objects=[COW]), 3),
    (sample("class", label="cow"), 4),
    (sample("box", objects=[COW, GOAT]), 5),
    (sample("name", objects=[COW, GOAT]), 6),
    (sample("far", objects=[GOAT]), 7),
    (sample("points", objects=[FACE]), 8),
    (sample("crowd", objects=[COW]), 9),
    (sample("more", objects=[COW]), 10),
]
NOW = [
    (sample("same", objects=[GOAT, COW]), 0),  # another order is no change
    (sample("new"), 11),
    (sample("side", "test"), 2),
    (sample("pixels", objects=[COW]), 33),
    (sample("class", label="goat"), 4),
    (sample("box", objects=[replace(COW, box=(0.1, 0.1, 0.3, 0.2)), GOAT]), 5),
    (sample("name", objects=[replace(COW, label="yak"), GOAT]), 6),
    (sample("far", objects=[replace(GOAT, box=(0.0, 0.0, 0.2, 0.2))]), 7),
    (sample("points", objects=[replace(FACE, landmarks=[Landmark(0.2, 0.3), *FACE.landmarks[1:]])]), 8),
    (sample("crowd", objects=[replace(COW, crowd=True)]), 9),
    (sample("more", objects=[COW, GOAT]), 10),
]
CHANGES = {
    "side": {"split": "train -> test"},
    "pixels": {"pixels": "other pixels"},
    "class": {"label": "cow -> goat"},
    "box": {"boxes_moved": "cow box IoU 0.50"},
    "name": {"relabelled": "cow -> yak"},
    "far": {"objects_added": "+ goat", "objects_removed": "- goat"},
    "points": {"landmarks_moved": "cow 1 points by 0.100"},
    "crowd": {"relabelled": "cow -> cow (crowd)"},
    "more": {"objects_added": "+ goat"},
}


@pytest.fixture
def versions(tmp_path):
    return write(tmp_path / "a", BEFORE), write(tmp_path / "b", NOW, ("cow", "goat", "yak"))


def compared(a, b):
    with open_version(str(a), a.parent) as before, open_version(str(b), b.parent) as now:
        return difference(before, now)


def test_each_change_is_found_and_nothing_else(versions):
    found = compared(*versions)
    assert {change.id: change.kinds() for change in found.changed} == CHANGES
    assert (found.added, found.removed) == (["new"], ["gone"])
    assert found.counts() == {
        **{"added": 1, "removed": 1, "unchanged": 1, "split": 1, "label": 1, "pixels": 1, "relabelled": 2},
        **{"objects_added": 2, "objects_removed": 1, "boxes_moved": 1, "landmarks_moved": 1},
    }
    back = compared(*reversed(versions))
    assert {change.id for change in back.changed} == set(CHANGES)
    assert (back.added, back.removed) == (["gone"], ["new"])
    assert compared(versions[0], versions[0]).counts()["unchanged"] == len(BEFORE)


def colours_in(sheet):
    """Those of the images: the key, which has both, comes below."""
    images = sheet.crop((0, 0, sheet.width, sheet.height - 60))
    return {colour for _, colour in images.getcolors(maxcolors=2**24)}


def test_what_both_versions_say_is_not_drawn_as_changed(tmp_path):
    before = write(tmp_path / "a", [(sample("pixels", objects=[COW]), 3)])
    compared_with = write(tmp_path / "b", [(sample("pixels", objects=[COW]), 33)])
    difference_sheet(compared(before, compared_with), tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        seen = colours_in(image)
    assert TRUTH in seen and PREDICTED not in seen


def test_the_command_prints_and_draws(versions, tmp_path, capsys):
    sheet = tmp_path / "sheet.png"
    main(["ledger", *map(str, versions), "--sheet", str(sheet)])
    said, errors = capsys.readouterr()
    assert errors == f"{sheet}: the images that have changed, before and now\n"
    heading = f"{versions[0]}: 11 images -> {versions[1]}: 11 images\nadded 1  removed 1  unchanged 1  split 1"
    assert said.startswith(heading)
    assert "\nlabels: cow, goat -> cow, goat, yak\n" in said
    assert "\n  box: cow box IoU 0.50\n" in said
    with Image.open(sheet) as image:
        assert image.size[0] > 1200
        seen = colours_in(image)
    assert {TRUTH, PREDICTED, (200, 200, 200)} <= seen, "what both say, what one says, and where nothing is"
    with pytest.raises(SystemExit):
        main(["ledger", *map(str, versions), "--sheet", str(sheet)])
    assert "is there already; expected a new file" in capsys.readouterr().err
    main(["ledger", *map(str, versions), "--json"])
    row = json.loads(capsys.readouterr().out)
    assert row["counts"]["boxes_moved"] == 1
    (box,) = (change for change in row["changed"] if change["id"] == "box")
    assert box == {"id": "box", "boxes_moved": [["cow", pytest.approx(0.5), pytest.approx(0.1)]]}


def test_of_one_dataset_the_ledger_is_told_by_rule(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    problems = [
        Problem("a.jpg", "line 2", "bad_line", "3 numbers", "dropped"),
        Problem("=b.jpg", "", "unreadable", "truncated"),
        Problem("", "", "not_listed", "2 images", "noted"),
        Problem("c.jpg", "line 7", "bad_line", "4 numbers", "dropped"),
    ]
    write(tmp_path / "data/ingested/herd", BEFORE)
    with pytest.raises(SystemExit):
        main(["ledger", "herd"])
    assert "ledger.csv: no such file; `dvc repro ingest@herd` makes it" in capsys.readouterr().err
    file = tmp_path / "reports/ingest/herd/ledger.csv"
    file.parent.mkdir(parents=True)
    file.write_text(ledger_text(problems))
    main(["ledger", "herd"])
    assert capsys.readouterr().out.splitlines() == [
        "reports/ingest/herd/ledger.csv: 4 rows",
        "refused       1  unreadable: =b.jpg: truncated",
        "dropped       2  bad_line: a.jpg line 2: 3 numbers",
        "noted         1  not_listed: 2 images",
    ]
    main(["ledger", "herd", "--json"])
    assert [(row["rule"], row["rows"]) for row in json.loads(capsys.readouterr().out)] == [
        *(("unreadable", 1), ("bad_line", 2), ("not_listed", 1))
    ]
    file.write_text("file,key,rule,found,done\na.jpg,,\x1b[2Jbad,\x1b]0;x\x07,noted\n")
    main(["ledger", "herd"])
    assert "\x1b" not in capsys.readouterr().out
    for text in ("file,key\n", "file,key,rule,found,done\na.jpg,x\n"):
        file.write_text(text)
        with pytest.raises(SystemExit):
            main(["ledger", "herd"])
        assert "expected file, key, rule, found, done" in capsys.readouterr().err


def test_what_all_images_share_is_compared_too(tmp_path, capsys):
    a = write(tmp_path / "a", BEFORE)
    b = write(tmp_path / "b", BEFORE, ("cow",), (["a", "b", "nose"], [(0, 1)], []))
    main(["ledger", str(a), str(b), "--json"])
    assert json.loads(capsys.readouterr().out)["dataset"] == {
        "labels": {"before": ["cow", "goat"], "now": ["cow"]},
        "landmarks": {"before": ["a", "b", "c"], "now": ["a", "b", "nose"]},
        "pairs": {"before": [], "now": [[0, 1]]},
        "skeleton": {"before": [[0, 1]], "now": []},
    }
    assert difference_text(compared(a, b)).splitlines()[2:] == [
        "labels: cow, goat -> cow",
        "landmarks: a, b, c -> a, b, nose",
        "pairs: none -> 0-1",
        "skeleton: 0-1 -> none",
    ]
    assert compared(a, a).to_json()["dataset"] == {}


@given(st.lists(st.tuples(st.sampled_from(["cow", "goat"]), st.integers(0, 3), st.integers(0, 3)), max_size=5))
def test_objects_are_accounted_for(rows):
    """Every object that is not the same is in one pair, or came or went."""
    before = [Object(label, (0.1 * x, 0.1 * y, 0.2, 0.2)) for label, x, y in rows]
    for now in (before[::-1], before[1:], [replace(o, label="goat") for o in before]):
        change = Change("1")
        compare_objects(before, now, change)
        assert len(before) - len(change.objects_removed) == len(now) - len(change.objects_added)


def test_many_changes_are_counted_and_some_are_named(tmp_path):
    images = [(sample(f"{i:02d}", label="cow"), 0) for i in range(50)]
    a = write(tmp_path / "a", images)
    b = write(tmp_path / "b", [(replace(s, label="goat"), 0) for s, _ in images])
    text = difference_text(compared(a, b))
    assert text.splitlines()[1] == "label 50"
    assert text.endswith(f"  and {50 - LISTED} more")


def test_what_is_no_version_is_named(versions, tmp_path):
    with pytest.raises(
        InputError, match=r"herd: no ingested data in .*; expected its folder, a dataset's name or NAME@"
    ):
        compared(versions[0], versions[0].parent / "herd")
    (versions[1] / "train" / "box.png").unlink()
    with pytest.raises(InputError, match=r"box.png: no such file, though metadata.jsonl"):
        compared(*versions)


def test_what_a_revision_lacks_is_said_in_words(tmp_path):
    def git(*arguments):
        subprocess.run(
            ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments], cwd=tmp_path, check=True
        )

    def said(name):
        with pytest.raises(InputError) as caught, open_version(name, tmp_path):
            pass
        return str(caught.value)

    git("init", "-q")
    dvc(tmp_path, "init", "--quiet")
    git("commit", "-qm", "start")
    assert said("herd@HEAD") == "herd@HEAD: HEAD has no dvc.lock: commit it after `make repro`"
    stages = {"ingest@herd": {"cmd": "ingest", "outs": []}, "train@balls": {"cmd": "train"}}
    (tmp_path / "dvc.lock").write_text(json.dumps({"schema": "2.0", "stages": stages}))
    git("add", "dvc.lock")
    git("commit", "-qm", "lock")
    assert said("balls@HEAD") == "balls@HEAD: dvc.lock of HEAD has no dataset 'balls'; it has herd"
    assert re.search(r"DVC has no such data of HEAD \(.*\); commit dvc.lock after", said("herd@HEAD"))

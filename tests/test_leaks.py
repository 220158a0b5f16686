"""Leaks that were planted are found, no others, and their price is what scikit-learn's nearest neighbour says."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.implementations.local import LocalFileSystem
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier
from test_ingest import params, picture

from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.sample import Dataset, Object, Sample
from pipeline.datasets.ingest.ingest import ingest
from pipeline.experiments import leaks as leaks_module
from pipeline.experiments.leaks import NAMED, Images, find_leaks, ingested_images, leaks_text, priced, source_images
from pipeline.training import probe


@pytest.fixture
def animals(tmp_path: Path) -> Path:
    """Splits by folder, with an image of train in test and one in val, and one that was scaled and saved again."""
    root = tmp_path / "animals"
    for first, split, count in ((0, "train", 12), (200, "val", 5), (400, "test", 6)):
        for i in range(count):
            picture(root / split / "cat" / f"{i}.jpg", first + i)
            picture(root / split / "dog" / f"{i}.jpg", first + 100 + i)
    shutil.copy(root / "train/cat/3.jpg", root / "test/cat/same.jpg")
    shutil.copy(root / "train/dog/5.jpg", root / "val/dog/same.jpg")
    picture(root / "test" / "dog" / "small.jpg", 100 + 7, size=(48, 32), quality=60)
    return root


PLANTED = {
    ("identical", "test-cat-same", "train-cat-3"),
    ("identical", "val-dog-same", "train-dog-5"),
    ("similar", "test-dog-small", "train-dog-7"),
}


def test_what_was_planted_is_found_and_nothing_else(tmp_path: Path, animals: Path) -> None:
    block = params("folder", animals)
    with source_images("set", block) as images:
        assert len(images.samples) == 49
        found = find_leaks(images, 32)
        assert {(p.kind, p.held_out, p.twin) for p in found.pairs} == PLANTED
    assert not images.folder.exists()
    assert [p.kind for p in found.pairs] == ["identical", "identical", "similar"], "the worst first"
    assert found.counts == {"identical: test in train": 1, "identical: val in train": 1, "similar: test in train": 1}
    assert found.images == {"train": 24, "val": 11, "test": 14}
    text = leaks_text(found)
    assert "set: 24 train, 11 val, 14 test\n  1 identical: test in train\n" in text
    assert "  identical: test-cat-same (test), train-cat-3 (train)\n" in text
    ingest("set", block, tmp_path / "data", tmp_path / "reports")
    with ingested_images(tmp_path / "data") as images:
        assert find_leaks(images, 32).pairs == []
        assert "no image of one split is in another one" in leaks_text(find_leaks(images, 32))


def test_a_source_elsewhere_is_fetched_and_what_is_missing_is_said(
    tmp_path: Path, animals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (animals / "test/cat/broken.jpg").write_bytes(b"no image")
    (animals / "test/cat/falls.jpg").write_bytes(b"ends its process")

    def copied(system: LocalFileSystem, key: str, to: str) -> None:
        if key.endswith("test/cat/0.jpg"):
            raise FileNotFoundError(key)
        shutil.copyfile(key, to)

    def without_one(function: Any, items: Any, label: str, ended: Any, **_: Any) -> list[Any]:
        return [ended(i) if i[0].file.name == "falls.jpg" else function(i) for i in items]

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LocalFileSystem, "get_file", copied)
    monkeypatch.setattr(leaks_module, "each", without_one)
    url = f"file://{animals}"
    with source_images("set", params("folder", animals).model_copy(update={"path": url, "labels": url})) as images:
        found = find_leaks(images, 32)
    assert {(p.kind, p.held_out, p.twin) for p in found.pairs} == PLANTED
    assert found.refused == found.to_json()["refused"] == {"changed_while_reading": 1, "unreadable": 2}
    assert "  not looked at: 1 changed_while_reading, 2 unreadable\n" in leaks_text(found)


def test_a_password_is_not_printed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    url = "nosuch://me:s3cret@farm/set"
    block = params("folder", tmp_path).model_copy(update={"path": url, "labels": url})
    with pytest.raises(InputError, match=r"^nosuch://farm/set: cannot be listed"), source_images("set", block):
        pass


def images_of(rows: list[tuple[str, str, str | None, str]], seed: int = 0) -> Images:
    """Of each (id, split, group, digest) an image that is like no other one."""
    rng = np.random.default_rng(seed)
    images = Images(Dataset("set", ["cat", "dog"]), Path())
    for i, (name, split, group, digest) in enumerate(rows):
        label = ("cat", "dog")[i % 2]
        images.samples.append(Sample(name, f"{name}.jpg", 8, 8, split, group=group, label=label))
        images.thumbnails.append(rng.integers(0, 256, (16, 17), dtype=np.uint8))
        images.digests.append(digest)
    return images


def test_groups_and_many_twins() -> None:
    rows = [(f"a{i}", "train", "g1" if i < 9 else None, f"a{i}") for i in range(20)]
    rows += [
        ("b0", "test", "g1", "b0"),
        ("b1", "val", "g2", "b1"),
        ("b2", "test", "g2", "a15"),
        ("b3", "test", None, "b"),
    ]
    found = find_leaks(images_of(rows), 32)
    assert [(p.held_out, p.twin) for p in found.pairs if p.kind == "group"] == [
        *(("b0", f"a{i}") for i in range(NAMED)),
        ("b2", "b1"),
    ]
    assert [(p.held_out, p.twin) for p in found.pairs if p.kind == "identical"] == [("b2", "a15")]
    assert (found.leaking, found.twins) == ({"b0", "b2"}, {"test": {*(f"a{i}" for i in range(9)), "a15"}})
    assert found.counts == {"group: test in train": 1, "group: test in val": 1, "identical: test in train": 1}


@pytest.mark.parametrize("seed", range(3))
def test_the_price_is_that_of_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rows = [(f"a{i:02d}", "train", None, f"{i}") for i in range(60)]
    rows += [(f"b{i:02d}", "test", None, f"{i}" if i < 15 else f"b{i}") for i in range(40)]
    images = images_of(rows, seed)
    features = rng.normal(size=(100, 16)).astype(np.float32)
    features[60:75] = features[:15] * 3  # the same images; a length says nothing
    found = priced(find_leaks(images, 32), images, features, "a net")
    assert found is not None
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    labels = np.array([s.label for s in images.samples])

    def score(train: np.ndarray, test: np.ndarray) -> float:
        return float(KNeighborsClassifier(1).fit(unit[train], labels[train]).score(unit[test], labels[test]))

    train, test = np.arange(60), np.arange(60, 100)
    assert (found.images, found.leaking_images, found.twins) == (40, 15, 15)
    assert found.all == pytest.approx(score(train, test))
    assert found.leaking == pytest.approx(score(train, test[:15])) == 1.0
    assert found.clean == pytest.approx(score(train, test[15:]))
    assert found.without_twins == pytest.approx(score(train[15:], test))
    assert found.all > found.clean


def test_an_image_of_objects_counts_for_most_of_them() -> None:
    images = images_of([("a", "train", None, "1"), ("b", "train", None, "2"), ("c", "val", None, "3")])
    box = (0.0, 0.0, 0.5, 0.5)
    for s, labels in zip(images.samples, (["cat", "dog", "dog"], ["cat"], ["dog", "dog", "cat"]), strict=True):
        s.label, s.objects = None, [Object(label, box) for label in labels]
    found = priced(find_leaks(images, 32), images, np.eye(3, dtype=np.float32)[[0, 1, 0]], "a net")
    assert found is not None
    assert (found.split, found.all, found.clean, found.leaking, found.without_twins) == ("val", 1.0, 1.0, None, None)


def test_the_command(
    tmp_path: Path, animals: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """With features that need no net: those of the chain's own runs are asked for in tests/test_chain.py."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(Path(__file__).parents[1] / "params.yaml", tmp_path)
    base = ["--data", str(animals), "--task", "classify", "--from-scratch"]
    main(["add", "mine", *base])
    monkeypatch.setattr(probe, "pooled_features", lambda *args: np.eye(len(args[4]), dtype=np.float32))
    capsys.readouterr()
    main(["leaks", "mine", "--sheet", "sheet.jpg"])
    said, errors = capsys.readouterr()
    assert errors.endswith("sheet.jpg: the worst pairs, drawn\n")
    assert "accuracy of the nearest neighbour by features of mobilenetv2_100 with random weights:\n" in said
    assert " on all 14 images of test\n" in said
    assert " on all, where their 2 twins leave train" in said
    with Image.open("sheet.jpg") as sheet:
        assert sheet.size[0] > 1200
    main(["leaks", "mine", "--json"])
    row = json.loads(capsys.readouterr().out)
    assert len(row["pairs"]) == 3
    assert row["price"]["leaking_images"] == 2
    for wrong, message in (
        (["leaks", "alpaca"], "datasets.alpaca.path: data/sample/alpaca: no such folder"),
        (["leaks", "mien"], "no dataset 'mien' in params.yaml; did you mean 'mine'?"),
        (["leaks", "mine", "--run", "herd"], "--run herd: its dataset is herd; expected a run on mine"),
        (["leaks", "mine", "--sheet", "sheet.jpg"], "--sheet sheet.jpg: is there already"),
        (["leaks", "mine", "--sheet", "splits/sheet.jpg"], "lies in splits/, which the chain makes"),
        (["leaks", "mine", "--split", "ours"], "data/ingested/mine/dataset.json: no such file"),
    ):
        with pytest.raises(SystemExit):
            main(wrong)
        assert message in capsys.readouterr().err


def test_a_source_without_splits_has_none_to_leak(tmp_path: Path) -> None:
    for i in range(3):
        picture(tmp_path / "set" / "cat" / f"{i}.jpg", i)
        picture(tmp_path / "set" / "dog" / f"{i}.jpg", 50 + i)
    with (
        pytest.raises(InputError, match="the source has no splits of its own"),
        source_images("set", params("folder", tmp_path / "set")),
    ):
        pass

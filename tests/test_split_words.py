"""What people call a split: as folders at the usual places, and as files; and what is no split's name."""

from pathlib import Path

import pytest
from drawn import BY_CLASS, BY_LABEL, coco, csv, draw, read, rows, splits, write
from PIL import Image

from pipeline.core.errors import InputError
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import is_split_name, split_of

WORDS = {
    "train": "train Train TRAINING set_training trainset Train_Data TrainData seg_train obj_train_data train17",
    "val": "val valid Validation dev Dev_Set val2017 valImages ValImages valset validation-images images.val",
    "test": "test Testing eval Evaluation test1 seg_test testset test-dev test-dev2017 devtest TESTset minitest",
}
NO_WORDS = "trainval train_val TrainValTest val_test contest latest trainee unlabeled devices interval evaluate protest"
BESIDE = {"train": "val", "val": "train", "test": "train"}

ALL = [*BY_CLASS, *BY_LABEL]
CLASS_PLACES = ("{split}/{c}/{n}", "images/{split}/{c}/{n}", "{c}/{split}/{n}", "{split}/images/{c}/{n}")
LABEL_PLACES = ("{split}/{n}", "images/{split}/{n}", "{split}/images/{n}", "{split}/a/b/{n}")
PLACES = dict.fromkeys(BY_CLASS, CLASS_PLACES) | dict.fromkeys(BY_LABEL, LABEL_PLACES)


def paths(form: str, place: str, split: str) -> list[str]:
    """Two files, in a class each where the format has classes for folders; the names are ids in the whole set."""
    return [place.format(split=split, c=c, n=f"{split}_{c}") for c in ("cat", "dog")]


@pytest.mark.parametrize(("split", "words"), WORDS.items())
def test_the_words_people_use(split: str, words: str) -> None:
    assert {word: split_of(word) for word in words.split()} == dict.fromkeys(words.split(), split)
    assert {word: is_split_name(word) for word in words.split()} == dict.fromkeys(words.split(), True)


@pytest.mark.parametrize("word", NO_WORDS.split())
def test_words_that_are_of_no_one_split(word: str) -> None:
    assert (split_of(word), is_split_name(word)) == (None, False)


@pytest.mark.parametrize(
    ("form", "place"), [(form, place) for form, places in PLACES.items() for place in places], ids="-".join
)
def test_folders_are_splits_at_the_usual_places(tmp_path: Path, form: str, place: str) -> None:
    for split, words in WORDS.items():
        for word in words.split()[:8]:
            beside = BESIDE[split]
            here, there = paths(form, place, word), paths(form, place, beside)
            reading = read(form, draw(form, tmp_path / split / word, here + there))
            assert splits(reading) == dict.fromkeys(here, split) | dict.fromkeys(there, beside), word
            assert reading.labels == (["cat", "dog"] if form in BY_CLASS else [reading.labels[0]])


@pytest.mark.parametrize("form", ALL)
def test_a_folder_of_no_split_among_splits_is_an_error(tmp_path: Path, form: str) -> None:
    place = PLACES[form][1]
    names = [name for split in ("train", "test", "more") for name in paths(form, place, split)]
    with pytest.raises(InputError, match="more") as caught:
        read(form, draw(form, tmp_path, names))
    assert "expected" in str(caught.value)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("form", BY_LABEL)
def test_a_folder_of_train_and_val_is_told_what_to_do(tmp_path: Path, form: str) -> None:
    names = [name for split in ("trainval", "test") for name in paths(form, "{split}/{n}", split)]
    with pytest.raises(InputError, match=r"trainval: speaks of train and val, unlike test .* name it train: val"):
        read(form, draw(form, tmp_path, names))


@pytest.mark.parametrize("form", BY_LABEL)
def test_files_of_no_split_beside_others_are_counted(tmp_path: Path, form: str) -> None:
    reading = read(form, draw(form, tmp_path, ["train/1", "train/2", "val/3", "4", "5"]))
    assert splits(reading) == {"train/1": "train", "train/2": "train", "val/3": "val", "4": None, "5": None}
    assert rows(reading, "no_split") == [("", "2 of 5 files are of no split, while others are; taken as train")]


@pytest.mark.parametrize("form", BY_LABEL)
def test_folders_without_a_split_say_nothing_and_one_of_two_splits_is_a_row(tmp_path: Path, form: str) -> None:
    reading = read(form, draw(form, tmp_path, ["cam1/1", "cam2/2", "train_val/3"]))
    assert set(splits(reading).values()) == {None}
    assert rows(reading, "no_split") == [("train_val", "speaks of train and val")]


@pytest.mark.parametrize("form", ALL)
def test_names_with_other_words_are_splits_only_together(tmp_path: Path, form: str) -> None:
    """birds_train beside birds_test are splits; a project that is called test_rig, and its cameras, are not"""
    place = PLACES[form][0]
    names = [name for split in ("birds_train", "birds_test") for name in paths(form, place, split)]
    reading = read(form, draw(form, tmp_path / "splits", names))
    assert splits(reading) == {name: "train" if name.startswith("birds_train") else "test" for name in names}
    if form in BY_LABEL:
        reading = read(form, draw(form, tmp_path / "rig", ["test_rig/train/1", "test_rig/val/2"]))
        assert splits(reading) == {"test_rig/train/1": "train", "test_rig/val/2": "val"}
        reading = read(form, draw(form, tmp_path / "cameras", ["test_rig/1", "yard/2"]))
        assert set(splits(reading).values()) == {None}


# --- classes that are called like splits


@pytest.mark.parametrize("form", BY_CLASS)
@pytest.mark.parametrize(
    ("names", "error"),
    [
        (["train/1", "bus/2", "car/3"], "folder train is called like a split, bus, car beside it like classes"),
        (["healthy/1", "Test/2"], "folder Test is called like a split, healthy beside it like classes"),
        (["train/cat/1", "train/dog/2", "cat/3"], "folder train is called like a split, cat beside it like classes"),
        (["my_test/cat/1", "other/cat/2"], "folder my_test is called like a split, other beside it like classes"),
        (["train/cat.1", "train/dog.2", "test1/3"], r"split folders \(test1, train\) without class folders in them"),
        (
            ["fold1/train/cat/1", "fold2/test/dog/2"],
            "fold1, fold2 hold folders of splits and are called like no class",
        ),
        (["val/train/1", "val/test/2"], "class folder test in a split's folder is called like a split"),
        (["train/cat/1", "train/test/2", "val/cat/3"], "class folder test in a split's folder is called like a split"),
    ],
)
def test_a_class_that_is_called_like_a_split(tmp_path: Path, form: str, names: list[str], error: str) -> None:
    with pytest.raises(InputError, match=error):
        read(form, draw(form, tmp_path, names))
    with pytest.raises(InputError, match=f"no known format; .*{form}, but .*{error}"):
        detect_format(tmp_path)


@pytest.mark.parametrize("form", BY_CLASS)
def test_a_class_that_can_be_nothing_else_is_one_and_noted(tmp_path: Path, form: str) -> None:
    flat = read(form, draw(form, tmp_path / "flat", ["test_tube/1", "beaker/2"]))
    assert flat.labels == ["beaker", "test_tube"]
    assert [file for file, _ in rows(flat, "class_like_split")] == ["test_tube"]
    below = ["train/train/1", "train/bus/2", "test/train/3", "test/bus/4"]
    reading = read(form, draw(form, tmp_path / "below", below))
    assert (reading.labels, splits(reading)) == (["bus", "train"], {name: name.split("/")[0] for name in below})
    assert [file for file, _ in rows(reading, "class_like_split")] == ["train"]


@pytest.mark.parametrize("form", BY_CLASS)
def test_a_folder_around_it_all_and_a_split_in_itself(tmp_path: Path, form: str) -> None:
    inside = ["seg_train/seg_train/sea/1", "seg_train/seg_train/ice/2", "seg_test/seg_test/sea/3"]
    reading = read(form, draw(form, tmp_path / "own", [f"ILSVRC/Data/CLS-LOC/{name}" for name in inside]))
    assert reading.labels == ["ice", "sea"]
    assert list(splits(reading).values()) == ["test", "train", "train"]
    assert read(form, draw(form, tmp_path / "images", ["images/sea/1", "images/ice/2"])).labels == ["ice", "sea"]
    with pytest.raises(InputError, match=r"two or more|classes sea; expected"):
        read(form, draw(form, tmp_path / "one", ["sea/calm/1", "sea/rough/2"]))  # as it was: one class


@pytest.mark.parametrize("form", BY_CLASS)
@pytest.mark.parametrize("above", ["", "train/"])
def test_classes_that_hold_the_same_folders_are_noted(tmp_path: Path, form: str, above: str) -> None:
    places = [f"{place}/{c}/{place}_{c}" for place in ("site1", "more") for c in ("cat", "dog")]
    draw(
        form,
        tmp_path,
        [f"{above}{place}" for place in places] + (["test/site1/cat/x", "test/more/cat/y"] if above else []),
    )
    (row,) = [p for p in read(form, tmp_path).problems if p.rule == "same_folders"]
    assert row.found.startswith(
        "more, site1 are the classes; each holds cat, dog, which say nothing then; where they are"
    )


@pytest.mark.parametrize("form", BY_CLASS)
@pytest.mark.parametrize("inner", [("", ""), ("left/", "right/"), ("left/", "left/"), ("train/", "val/")])
def test_classes_that_hold_other_folders_are_not(tmp_path: Path, form: str, inner: tuple[str, str]) -> None:
    draw(form, tmp_path, [f"{c}/{i}{c}{n}" for c, i in zip(("cat", "dog"), inner, strict=True) for n in (1, 2)])
    assert not [p for p in read(form, tmp_path).problems if p.rule == "same_folders"]


def test_a_picture_beside_the_classes_of_a_split_is_refused(tmp_path: Path) -> None:
    reading = read("folder", draw("folder", tmp_path, ["train/cat/1", "train/dog/2", "test/3", "4"]))
    assert rows(reading, "no_class") == [
        ("4.jpg", "an image outside every class folder"),
        ("test/3.jpg", "an image outside every class folder"),
    ]


# --- files of labels


@pytest.mark.parametrize(("form", "suffix", "text"), [("coco", "json", coco), ("landmarks_csv", "csv", csv)])
def test_the_files_of_labels(tmp_path: Path, form: str, suffix: str, text) -> None:
    def read_files(case: str, files: dict[str, str]) -> tuple[dict[str, str | None], list[tuple[str, str]]]:
        for file, name in files.items():
            image = tmp_path / case / f"{name}.jpg"
            image.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 10)).save(image)
            write(tmp_path / case, f"{file}.{suffix}", text([f"{name}.jpg"]))
        reading = read(form, tmp_path / case)
        return splits(reading), rows(reading, "no_split")

    assert read_files("names", {"points_Training": "a", "ValImages": "b", "x_eval": "c"}) == (
        {"a": "train", "b": "val", "c": "test"},
        [],
    )
    assert read_files("folders", {"train/labels/x": "a", "dev/labels/x": "b"}) == ({"a": "train", "b": "val"}, [])
    # none has a split in its name, so the folders of the images tell
    assert read_files("images", {"one": "train/a", "two": "val/b"}) == (
        {"train/a": "train", "val/b": "val"},
        [(f"{name}.{suffix}", "one of several files, no split in its name or its folder's") for name in ("one", "two")],
    )
    with pytest.raises(InputError, match=f"mini.{suffix}: speaks of no split, unlike train.{suffix} beside it"):
        read_files("one without", {"train": "a", "mini": "b"})
    with pytest.raises(InputError, match=f"trainval.{suffix}: speaks of train and val, unlike test.{suffix}"):
        read_files("two in one", {"trainval": "a", "test": "b"})


@pytest.mark.parametrize(("form", "suffix", "text"), [("coco", "json", coco), ("landmarks_csv", "csv", csv)])
def test_a_file_of_val_that_has_the_images_of_train(tmp_path: Path, form: str, suffix: str, text) -> None:
    root = draw(form, tmp_path, ["a", "b", "c"])
    (root / f"all.{suffix}").unlink()
    for name, images in (("train", ["a.jpg", "b.jpg"]), ("val", ["b.jpg", "a.jpg"]), ("test", ["c.jpg"])):
        write(root, f"{name}.{suffix}", text(images))
    reading = read(form, root)
    assert splits(reading) == {"a": "train", "b": "train", "c": "test"}
    assert [len(c.objects) for c in reading.candidates] == [1, 1, 1]
    assert rows(reading, "same_files", "listed_twice") == [
        (f"val.{suffix}", "val has the same 2 files as train; val is taken out of train")
    ]

"""Lists of a split's files: matched by the end of the path, counted where they do not match."""

from pathlib import Path

import pytest
from drawn import BY_CLASS, BY_LABEL, coco, draw, read, rows, splits, write

from pipeline.core import files
from pipeline.core.errors import InputError
from pipeline.core.sample import Sample
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.beside import other_labels
from pipeline.datasets.formats.reading import Reading
from pipeline.datasets.formats.split_lists import UNCLEAR, Ends
from pipeline.datasets.ingest.splits import assign
from pipeline.datasets.params import SplitParams

ALL = [*BY_CLASS, *BY_LABEL]
NAMES = ["obj/cat/1", "obj/cat/2", "obj/cat/3", "obj/dog/4", "obj/dog/5", "obj/dog/6"]
GIVEN = {"train": NAMES[:3], "val": NAMES[3:5], "test": NAMES[5:]}
WHOLE = {name: split for split, names in GIVEN.items() for name in names}
FORMS = {
    "relative": "{name}{suffix}",
    "dots": "./{name}{suffix}",
    "upwards": "../data/{name}{suffix}",
    "foreign": "/content/drive/MyDrive/ships/data/{name}{suffix}",
    "windows": "C:\\Users\\anna\\ships\\{windows}{suffix}",
    "url": "https://example.org/ships/{name}{suffix}",
    "without suffix": "{name}",
    "shorter": "{short}{suffix}",
    "capitals": "/DATA/{capitals}{suffix}",
    "another suffix": "{name}.png",
    "quoted": '"{name}{suffix}"',
    "with a number": "{name}{suffix} 3",
    "with another file": "{name}{suffix}\t/masks/{name}.png",
}
LISTS = {"plain": "{split}.txt", "image sets": "ImageSets/Main/{split}.txt", "others": "splits/{split}_list.txt"}
LISTS["Ultralytics' own"] = "autosplit_{split}.txt"


def listed(root: Path, form: str, style: str, given: dict[str, list[str]], place: str = "{split}.txt") -> None:
    for split, names in given.items():
        lines = [
            FORMS[style].format(
                name=name,
                suffix=".avi" if form == "ucf101" else ".jpg",
                windows=name.replace("/", "\\"),
                short=name.partition("/")[2],
                capitals=name.upper(),
            )
            for name in names
        ]
        write(root, place.format(split=split), "\r\n".join(["", *lines, ""]))


@pytest.mark.parametrize("style", FORMS)
@pytest.mark.parametrize("form", ALL)
def test_an_entry_is_matched_by_the_end_of_its_path(tmp_path: Path, form: str, style: str) -> None:
    if style == "another suffix" and form == "ucf101":
        pytest.skip("a clip is no PNG")
    listed(draw(form, tmp_path, NAMES), form, style, GIVEN)
    reading = read(form, tmp_path)
    assert splits(reading) == WHOLE
    assert rows(reading, "not_here", "no_split", "listed_twice", "no_image", "not_an_image") == []


@pytest.mark.parametrize("place", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize("form", ALL)
def test_the_places_of_lists(tmp_path: Path, form: str, place: str) -> None:
    listed(draw(form, tmp_path, NAMES), form, "without suffix", GIVEN, place)
    assert splits(read(form, tmp_path)) == WHOLE


@pytest.mark.parametrize("form", ALL)
def test_lists_know_better_than_folders(tmp_path: Path, form: str) -> None:
    names = ["train/cat/1", "train/dog/2", "val/cat/3", "val/dog/4"]
    listed(draw(form, tmp_path, names), form, "relative", {"test": names[1:2], "train": names[2:3]})
    assert splits(read(form, tmp_path)) == dict(zip(names, ["train", "test", "train", "val"], strict=True))


@pytest.mark.parametrize("form", ALL)
def test_what_a_list_names_and_is_not_here_is_counted(tmp_path: Path, form: str) -> None:
    listed(draw(form, tmp_path, NAMES), form, "foreign", GIVEN | {"test": [NAMES[5], "obj/cat/8", "obj/cat/9"]})
    reading = read(form, tmp_path)
    assert splits(reading) == WHOLE
    what = "clips of these classes" if form == "ucf101" else "images"
    assert rows(reading, "not_here") == [("test.txt", f"2 {what} are on the list and not here")]


@pytest.mark.parametrize("form", ALL)
def test_a_list_of_which_nothing_is_here_is_an_error(tmp_path: Path, form: str) -> None:
    listed(draw(form, tmp_path, NAMES), form, "foreign", GIVEN | {"test": ["obj/cat/8", "obj/cat/9"]})
    with pytest.raises(InputError, match=r"test\.txt: nothing that it lists is here: 2 lines, first '/content/.*/8\."):
        read(form, tmp_path)


@pytest.mark.parametrize("form", ALL)
def test_a_file_of_the_same_name_in_another_folder_is_another_one(tmp_path: Path, form: str) -> None:
    names = ["cat/cam1/1", "cat/cam1/2", "dog/cam1/3"]
    root = draw(form, tmp_path, names)
    listed(root, form, "foreign", {"train": names[1:], "test": ["cat/cam1/1", "cat/cam2/1"]})
    reading = read(form, root)
    assert splits(reading) == dict(zip(names, ["test", "train", "train"], strict=True))
    assert len(rows(reading, "not_here")) == 1
    listed(root, form, "foreign", {"test": ["cat/cam2/1"]})
    with pytest.raises(InputError, match=r"test\.txt: nothing that it lists is here"):
        read(form, root)


@pytest.mark.parametrize("form", ALL)
def test_names_alone_will_do_where_no_folder_fits(tmp_path: Path, form: str) -> None:
    names = [f"all/{c}/{i}" for i, c in enumerate(["cat", "cat", "dog", "dog"])]
    root = draw(form, tmp_path, names)
    there = {"train": ["/data/x/0", "/data/x/2"], "test": ["/data/x/1", "/data/x/3"]}
    listed(root, form, "relative", there)
    assert [file for file, _ in rows(read(form, root), "matched_by_name")] == ["test.txt", "train.txt"]
    assert splits(read(form, root)) == dict(zip(names, ["train", "test", "train", "test"], strict=True))


@pytest.mark.parametrize("form", ALL)
def test_what_two_lists_name_is_held_out_and_noted(tmp_path: Path, form: str) -> None:
    listed(draw(form, tmp_path, NAMES), form, "relative", GIVEN | {"train": NAMES[:4]})
    reading = read(form, tmp_path)
    assert splits(reading) == WHOLE
    assert [found for _, found in rows(reading, "listed_twice")] == ["listed for train and for val; taken as val"]


@pytest.mark.parametrize("form", ALL)
def test_a_val_that_is_train_is_said_and_taken_out_of_train(tmp_path: Path, form: str) -> None:
    listed(draw(form, tmp_path, NAMES), form, "relative", {"train": NAMES[:4], "val": NAMES[:4], "test": NAMES[4:]})
    reading = read(form, tmp_path)
    assert splits(reading) == {name: "train" if name in NAMES[:4] else "test" for name in NAMES}
    assert [found for _, found in rows(reading, "same_files")] == [
        "val has the same 4 files as train; val is taken out of train"
    ]
    samples = [Sample(c.id, c.name, 20, 10, c.split, label="cow") for c in reading.candidates]
    assigned, _ = assign(samples, [], SplitParams(val=0.25, test=0.2))
    assert sorted(assigned.values()).count("val") == 1
    assert {i for i, split in assigned.items() if split == "test"} == {c.id for c in reading.candidates[-2:]}


@pytest.mark.parametrize("form", ALL)
def test_notes_and_lists_of_one_class_are_no_lists(tmp_path: Path, form: str) -> None:
    root = draw(form, tmp_path, NAMES)
    write(root, "test.txt", "what we know of the test rig\n")
    write(root, "ImageSets/Main/cat_train.txt", "1  1\n4 -1\n")
    reading = read(form, root)
    assert set(splits(reading).values()) == {None}


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_image_sets(tmp_path: Path, form: str) -> None:
    root = draw(form, tmp_path, ["JPEGImages/a b", "JPEGImages/c", "JPEGImages/d"])
    write(root, "ImageSets/Main/trainval.txt", "a b\nc\n")
    write(root, "ImageSets/Main/test.txt", "d\n")
    reading = read(form, root)
    assert splits(reading) == {"JPEGImages/a b": None, "JPEGImages/c": None, "JPEGImages/d": "test"}
    found = "train and val in one; those that no other list names are train"
    assert ("ImageSets/Main/trainval.txt", found) in rows(reading, "no_split")
    write(root, "ImageSets/Main/mini.txt", "c\n")
    with pytest.raises(InputError, match=r"ImageSets/Main/mini\.txt: speaks of no split, unlike test\.txt beside it"):
        read(form, root)


def test_voc_lists_above_the_folder_of_images(tmp_path: Path) -> None:
    root = draw("voc", tmp_path / "set/JPEGImages", ["a", "b"]).parent
    write(root, "ImageSets/Main/train.txt", "a\n")
    write(root, "ImageSets/Main/val.txt", "b\n")
    assert splits(read("voc", root / "JPEGImages")) == {"a": "train", "b": "val"}


def test_the_split_of_a_label_file_s_folder(tmp_path: Path) -> None:
    """the images lie together, the label files in folders of splits"""
    for form, suffix in (("voc", "xml"), ("pts", "pts")):
        root = draw(form, tmp_path / form, ["images/a", "images/b"])
        for name, split in (("a", "train"), ("b", "test")):
            (root / "labels" / split).mkdir(parents=True)
            (root / f"images/{name}.{suffix}").replace(root / "labels" / split / f"{name}.{suffix}")
        assert splits(read(form, root)) == {"images/a": "train", "images/b": "test"}


# --- UCF101's official lists


@pytest.mark.parametrize("before", ["", "UCF-101/", "D:\\ucf\\"])
def test_official_lists_of_another_place(tmp_path: Path, before: str) -> None:
    names = [f"videos/{c}/v_{c}_g0{g}_c01" for c in ("Run", "Hop") for g in (1, 2)]
    root = draw("ucf101", tmp_path, names)
    write(
        root, "ucfTrainTestlist/trainlist01.txt", f"{before}Run/v_Run_g02_c01.avi 1\n{before}Hop/v_Hop_g02_c01.avi 2\n"
    )
    write(root, "ucfTrainTestlist/testlist01.txt", f"{before}Run/v_Run_g01_c01.avi\n{before}Hop/v_Hop_g01_c01.avi\n")
    assert splits(read("ucf101", root)) == {name: "train" if "g02" in name else "test" for name in names}
    write(root, "ucfTrainTestlist/testlist01.txt", "Sit/v_Sit_g01_c01.avi\n")
    with pytest.raises(InputError, match=r"testlist01\.txt: nothing that it lists is here: 1 lines, first 'Sit/v_Sit"):
        read("ucf101", root)


# --- data.yaml


def yolo(root: Path, names: list[str], yaml: str, lists: dict[str, list[str]] | None = None) -> Path:
    draw("yolo", root, names)
    for name, lines in (lists or {}).items():
        write(root, name, "\n".join(lines))
    write(root, "data.yaml", f"names: [cow]\n{yaml}")
    return root


TWO = ["images/train/a", "images/held/b"]


def unasked(reading: Reading, root: Path, form: str = "yolo") -> list[tuple[str, str]]:
    """(file, what was found) of the rows about lists that nothing has asked for."""
    return sorted((p.file, p.found) for p in other_labels(form, reading, root, root) if p.file)


@pytest.mark.parametrize(
    "yaml",
    [
        "train: images/train\nval: images/held\n",
        "train: ./images/train/\nvalid: [./images/held/]\n",
        "train: /content/ships/images/train\nval: /content/ships/images/held\n",
        "train: 'D:\\ships\\images\\train'\nval: 'D:\\ships\\images\\held'\n",
        "path: ../datasets/ships\ntrain: images/train\ndev: images/held\n",
        "path: images\ntrain: train\nvalidation: held\n",
        "train: ../train\nval: ../held\n",
        "train: lists/a.txt\nval: lists/b.txt\n",
        "train: /content/ships/lists/a.txt\nval: ['C:\\ships\\lists\\b.txt']\n",
    ],
)
def test_yaml_folders_and_lists(tmp_path: Path, yaml: str) -> None:
    lists = {"lists/a.txt": ["/x/images/train/a.jpg"], "lists/b.txt": ["C:\\x\\images\\held\\b.jpg"]}
    reading = read("yolo", yolo(tmp_path, TWO, yaml, lists if ".txt" in yaml else {}))
    assert splits(reading) == {"images/train/a": "train", "images/held/b": "val"}
    assert rows(reading, "not_here", "no_image", "no_split") == []


@pytest.mark.parametrize("labels", ["images", "."])
def test_yaml_folders_where_the_data_are_the_folder_of_images(tmp_path: Path, labels: str) -> None:
    root = yolo(tmp_path / "ships", TWO, "train: images/train\nval: images/held\n")
    (root / "data.yaml").rename(root / labels / "data.yaml")
    assert splits(read("yolo", root / "images", root / labels)) == {"train/a": "train", "held/b": "val"}


def test_yaml_of_what_is_not_here(tmp_path: Path) -> None:
    yaml = "train: ../train/images\nval: ../valid/images\ntest: test-dev2017.txt\n"
    reading = read("yolo", yolo(tmp_path, ["train/images/a", "train/images/b"], yaml))
    assert set(splits(reading).values()) == {"train"}
    assert rows(reading, "not_here", "same_files") == [
        ("data.yaml", "../valid/images: no such list, nor such a folder of images"),
        ("data.yaml", "test-dev2017.txt: no such list, nor such a folder of images"),
    ]


def test_yaml_folders_by_their_last_names_alone(tmp_path: Path) -> None:
    yaml = "train: /data/photos/train\nval: /data/photos/held\n"
    reading = read("yolo", yolo(tmp_path, TWO, yaml))
    assert splits(reading) == {"images/train/a": "train", "images/held/b": "val"}
    assert [file for file, _ in rows(reading, "matched_by_name")] == ["data.yaml"]


def test_yaml_val_is_train_and_test(tmp_path: Path) -> None:
    reading = read("yolo", yolo(tmp_path, TWO, "train: images\nval: images\ntest: images\n"))
    assert set(splits(reading).values()) == {"train"}
    assert [found.split(";")[0] for _, found in rows(reading, "same_files")] == [
        "val has the same 2 files as train",
        "test has the same 2 files as train",
    ]
    reading = read("yolo", yolo(tmp_path, TWO, "train: images/train\nval: images/held\ntest: images/held\n"))
    assert splits(reading) == {"images/train/a": "train", "images/held/b": "test"}
    assert [found.split(";")[1] for _, found in rows(reading, "same_files")] == [" val is taken out of train"]


def test_lists_that_yaml_does_not_ask_for_are_noted(tmp_path: Path) -> None:
    lists = {"autosplit_val.txt": ["./images/train/a.jpg"], "fold 1.txt": ["", "x/images/held/b.jpg 1"]}
    root = yolo(tmp_path, TWO, "train: images/train\nval: images/held\n", lists)
    write(root, "labels/c.txt", "0 .5 .5 .2 .2\n")
    reading = read("yolo", root)
    assert splits(reading) == {"images/train/a": "train", "images/held/b": "val"}
    assert rows(reading, "not_read") == [("fold 1.txt", "a list of images that nothing asks for")]
    apart = "a list for val that nothing asks for; 1 of the 1 images on it that are here are of another split"
    assert unasked(reading, root) == [("autosplit_val.txt", apart)]
    assert [file for file, _ in rows(reading, "no_image")] == ["labels/c.txt"]


@pytest.mark.parametrize("form", ["yolo", "coco"])
def test_lists_beside_splits_that_are_given_otherwise_have_a_row(tmp_path: Path, form: str) -> None:
    lists = {"train.txt": "./images/train/a.jpg", "splits/test.txt": "b\na", "valid.txt": "x/c.jpg"}
    root = yolo(tmp_path, TWO, "train: images/train\nval: images/held\n")
    for name, text in (lists | {"val.txt": b"c.jpg\n\xff"}).items():
        write(root, name, text)
    if form == "coco":
        for split, name in (("train", TWO[0]), ("val", TWO[1])):
            write(root, f"instances_{split}.json", coco([f"{name}.jpg"]))
    reading = read(form, root)
    assert splits(reading) == {"images/train/a": "train", "images/held/b": "val"}
    of = "a list for {} that nothing asks for; {}"
    assert unasked(reading, root, form) == [
        ("splits/test.txt", of.format("test", "2 of the 2 images on it that are here are of another split")),
        ("train.txt", of.format("train", "the 1 images on it that are here are of that split")),
        ("val.txt", of.format("val", "not UTF-8 text (byte 6 is 0xff)")),
        ("valid.txt", of.format("val", "none of its images are here")),
    ]


def test_lists_that_give_the_splits_have_no_row(tmp_path: Path) -> None:
    root = draw("coco", tmp_path, ["a", "b"])
    for name, text in (("train.txt", "a.jpg"), ("test.txt", "b.jpg"), ("training notes.txt", "of May")):
        write(root, name, text)
    reading = read("coco", root)
    assert splits(reading) == {"a": "train", "b": "test"}
    assert unasked(reading, root, "coco") == []


@pytest.mark.parametrize("said", ["3", "{a: b}", "[1, 2]"])
def test_yaml_entries_of_another_type(tmp_path: Path, said: str) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: val: found .*; expected a folder, a list of images, or several"):
        read("yolo", yolo(tmp_path, TWO, f"train: images/train\nval: {said}\n"))


def test_a_list_of_its_own_is_no_label_file(tmp_path: Path) -> None:
    """an image that is called test1 has label lines in test1.txt"""
    root = draw("yolo", tmp_path, ["test1", "train1", "c"])
    reading = read("yolo", root)
    assert [len(c.objects) for c in reading.candidates] == [1, 1, 1]
    assert set(splits(reading).values()) == {None}


# --- paths by their ends


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        ("a/x/1.jpg", ("a/x/1.jpg", True)),
        ("/foreign/b/x/1.jpg", ("b/x/1.jpg", True)),
        ("x/1.jpg", UNCLEAR),  # of a and of b
        ("1.jpg", ("1.jpg", True)),
        ("/foreign/1", ("1.jpg", True)),
        ("c/x/1.jpg", UNCLEAR),
        ("c/2", ("a/2.png", False)),
        ("a/2", ("a/2.png", True)),
        ("3.tar", ("a/3.tar.jpg", True)),
        ("A/X/1.JPG", ("a/x/1.jpg", True)),
        ("u\u0308/4", ("\u00fc/4.jpg", True)),
        ("my%20dog.jpg", ("my dog.jpg", True)),
        ("my dog", ("my dog.jpg", True)),
        ("5.jpg", UNCLEAR),  # 5.png and 5.gif
        ("6.jpg", None),
        ("%25" * 2000, None),
        ("..", None),
        ("", None),
    ],
)
def test_the_longest_common_end(entry: str, found: tuple[str, bool] | None) -> None:
    names = [
        "a/x/1.jpg",
        "b/x/1.jpg",
        "1.jpg",
        "a/2.png",
        "a/3.tar.jpg",
        "\u00fc/4.jpg",
        "my dog.jpg",
        "5.png",
        "5.gif",
    ]
    assert Ends([*names, "5.png", "5.gif"]).find(entry) == found


def test_a_list_beside_coco_is_passed_over_where_the_files_of_labels_say(tmp_path: Path) -> None:
    root = draw("coco", tmp_path, ["a", "b"])
    (root / "all.json").unlink()
    write(root, "train.json", coco(["a.jpg"]))
    write(root, "val.json", coco(["b.jpg"]))
    write(root, "test.txt", "a.jpg\n")
    assert splits(read("coco", root)) == {"a": "train", "b": "val"}


@pytest.mark.parametrize("form", ALL)
def test_bare_names_are_a_list_if_they_are_here_and_what_macos_leaves_is_none(tmp_path: Path, form: str) -> None:
    names = ["obj/cat/ann", "obj/dog/bob", "obj/dog/our picnic"]
    root = draw(form, tmp_path, names)
    write(root, "train.txt", "ann\n")
    write(root, "test.txt", "bob\nour picnic\n")
    write(root, "valid.txt", "nobody\n")
    write(root, "._train.txt", b"\0\5\x16\7\xff1")
    write(root, "._data.yaml", b"\0\5\x16\7\xff1")
    assert splits(read(form, root)) == dict(zip(names, ["train", "test", "test"], strict=True))
    assert detect_format(root)[0] == form


def test_a_list_of_paths_with_blanks(tmp_path: Path) -> None:
    root = draw("yolo", tmp_path, ["my pictures/1", "my pictures/2"])
    write(root, "train.txt", "/data/my pictures/1.jpg\n")
    write(root, "val.txt", "my pictures/2.jpg\n")
    assert splits(read("yolo", root)) == {"my pictures/1": "train", "my pictures/2": "val"}


@pytest.mark.parametrize("form", ["voc", "yolo", "pts"])
def test_a_long_list_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    root = draw(form, tmp_path, ["1", "2"])
    write(root, "train.txt", "1.jpg\n" + "elsewhere/a long name.jpg\n" * 10_000)
    write(root, "val.txt", "2.jpg\n")
    whole, content = [], files.content_of_file
    monkeypatch.setattr(files, "content_of_file", lambda path: whole.append(path.name) or content(path))
    found = read(form, root)
    assert splits(found) == {"1": "train", "2": "val"}
    assert not rows(Reading([], other_labels(form, found, root, root)), "not_read")
    assert whole.count("train.txt") == 1


@pytest.mark.parametrize("form", ["voc", "yolo", "pts"])
def test_an_entry_that_fits_several_files_is_none_of_them(tmp_path: Path, form: str) -> None:
    root = draw(form, tmp_path, ["a/1", "b/1", "a/2"])
    write(root, "train.txt", "1.jpg\n2.jpg\n")
    reading = read(form, root)
    assert splits(reading) == {"a/1": None, "a/2": "train", "b/1": None}
    assert rows(reading, "ambiguous_file") == [("train.txt", "1 lines of the list fit several files; not used")]
    write(root, "train.txt", "1.jpg\n")
    with pytest.raises(
        InputError, match=r"train\.txt: nothing that it lists is here: 1 lines, .*; 1 fit several files"
    ):
        read(form, root)

"""YOLO lines that are labels, and those that are something else: poses, predictions, polygons, rotated boxes."""

import os
import re
from pathlib import Path

import pytest
from test_formats import make, read

from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.format import NoOptions
from pipeline.datasets.formats.reading import Reading
from pipeline.datasets.formats.yolo_names import found_names

P = (100, 50)
LINE = "0 0.5 0.4 0.2 0.1"
POSE = "names: [cow]\nkpt_shape: [2, 3]\n"


def read_yolo(root: Path, labels: Path | None = None) -> Reading:
    return read("yolo", root, labels, NoOptions())


def bad_line(tmp_path: Path, line: str, names: str = "names: [cow]\n", good: str = LINE) -> str:
    """What is said of a line below a good one; it is dropped."""
    reading = read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": f"{good}\n{line}\n", "data.yaml": names}))
    assert [(p.file, p.key, p.rule, p.done) for p in reading.problems] == [("a.jpg", "a.txt:2", "bad_line", "dropped")]
    assert len(reading.candidates[0].objects) == 1
    return reading.problems[0].found


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"{LINE} 0.93", "a prediction? 0.93 after the box may be a confidence or the number of a track"),
        (f"{LINE} 7", "a prediction? 7 after the box may be"),
        (f"{LINE} 0.93 7", "a prediction? 0.93 7 after the box may be"),
        ("0 .1 .1 .2 .1 .2 .2 .1 .2", "four corners: a rotated box or a polygon, not read"),
        ("0 .1 .1 .2 .1 .2 .2 .1 .2 .9", "four corners: a rotated box or a polygon, not read"),
        ("0 .1 .1 .2 .1 .2 .2 .1 .2 .3 .3", "a polygon, not read"),
        ("0 0.5 0.4", "3 numbers, expected 5"),
        (f"{LINE} nan", "6 numbers, expected 5"),
    ],
)
def test_a_line_that_is_no_labelled_box_says_what_it_is(tmp_path: Path, line: str, said: str) -> None:
    assert said in bad_line(tmp_path, line)


@pytest.mark.parametrize("word", ["1_0", "0.1_", "\u0661", "\uff11", "0x1", "1,5", "cow"])
@pytest.mark.parametrize("place", range(5))
def test_a_line_with_what_only_python_takes_for_a_number_is_said(tmp_path: Path, word: str, place: int) -> None:
    line = " ".join([*LINE.split()[:place], word, *LINE.split()[place + 1 :]])
    assert bad_line(tmp_path, line) == line


@pytest.mark.parametrize("blank", ["\t", "  ", "\xa0", "\u3000"])
def test_the_blanks_of_a_line_may_be_any(tmp_path: Path, blank: str) -> None:
    root = make(tmp_path, {"a.jpg": P, "a.txt": LINE.replace(" ", blank), YAML: COWS})
    assert [o.label for o in read_yolo(root).candidates[0].objects] == ["cow"]


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (".1 .2 2 .3 .4 1 0.9", "a prediction? 0.9 after the landmarks may be a confidence"),
        (".1 .2 2 .3 .4 1 0.9 3", "a prediction? 0.9 3 after the landmarks"),
        (
            ".1 .2 0.87 .3 .4 0.5",
            "visibility 0.87, expected 0, 1 or 2; a prediction? it may be a landmark's confidence",
        ),
        (".1 .2 3 .3 .4 0", "visibility 3, expected 0, 1 or 2"),
        (".1 .2 .3 .4", "as of landmarks with 2 numbers each, while kpt_shape says 3"),
        (".1 .2 2", "8 numbers, expected 11"),
        ("", "5 numbers, expected 11"),
    ],
)
def test_a_pose_line_of_other_numbers_says_why(tmp_path: Path, points: str, said: str) -> None:
    assert said in bad_line(tmp_path, f"{LINE} {points}", POSE, f"{LINE} .1 .2 2 0 0 0")


def test_predictions_alone_are_no_labels(tmp_path: Path) -> None:
    root = make(tmp_path, {"images/a.jpg": P, "labels/a.txt": f"{LINE} 0.93\n{LINE} 0.4\n", "classes.txt": "cow\n"})
    with pytest.raises(
        InputError, match=r"no line is of a label; labels/a\.txt:1: 6 numbers, expected 5; a prediction\?"
    ):
        read_yolo(root)


@pytest.mark.parametrize(
    ("yaml", "points", "names", "pairs"),
    [
        ("kpt_shape: [2, 3]\n", ".1 .2 2 .3 .4 1", ["point_0", "point_1"], []),
        ("kpt_shape: [2, 2]\nflip_idx: [1, 0]\n", ".1 .2 .3 .4", ["point_0", "point_1"], [(0, 1)]),
        ("kpt_shape: [2, 2]\nflip_idx: [0, 1]\nkpt_names: [l, r]\n", ".1 .2 .3 .4", ["l", "r"], []),
        ("kpt_shape: [2, 3]\nkpt_names: {0: [L eye, R eye]}\n", ".1 .2 2 .3 .4 1", ["L eye", "R eye"], [(0, 1)]),
    ],
)
def test_poses(tmp_path: Path, yaml: str, points: str, names: list[str], pairs: list[tuple[int, int]]) -> None:
    reading = read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": f"{LINE} {points}", "data.yaml": f"names: [cow]\n{yaml}"}))
    assert (reading.landmarks, reading.pairs) == (names, pairs)
    seen = 1 if "2, 3" in yaml else 2
    assert reading.candidates[0].objects[0].landmarks == [Landmark(0.1, 0.2, 2), Landmark(0.3, 0.4, seen)]


@pytest.mark.parametrize(
    ("yaml", "error"),
    [
        ("kpt_shape: [17]", r"kpt_shape: found \[17\]; expected \[points, 2 or 3\]"),
        ("kpt_shape: 17", "kpt_shape: found 17; expected"),
        ("kpt_shape: [17, 4]", r"kpt_shape: found \[17, 4\]"),
        ("kpt_shape: [-1, 3]", r"kpt_shape: found \[-1, 3\]"),
        ("kpt_shape: [170000000000, 3]", "kpt_shape: found"),
        ("kpt_shape: [2, 3]\nflip_idx: [1, 2]", r"flip_idx: found \[1, 2\]; expected each of 0 to 1 once"),
        ("kpt_shape: [3, 3]\nflip_idx: [1, 2, 0]", "flip_idx: 0 becomes 1, which does not become it; expected pairs"),
        ("kpt_shape: [2, 3]\nflip_idx: 1", "flip_idx: found 1"),
        ("kpt_shape: [2, 3]\nkpt_names: [a]", r"kpt_names: found \['a'\]; expected 2 names as kpt_shape says"),
        ("kpt_shape: [2, 3]\nkpt_names: [a, a]", "kpt_names has 'a' twice; expected each landmark once"),
        ("kpt_shape: [2, 3]\nkpt_names: {0: [a, b], 1: [b, c]}", "kpt_names: .*expected the same for all classes"),
    ],
)
def test_a_pose_that_does_not_fit_itself(tmp_path: Path, yaml: str, error: str) -> None:
    with pytest.raises(InputError, match=rf"data\.yaml: {error}"):
        read_yolo(make(tmp_path, {"a.jpg": P, "data.yaml": f"names: [cow, dog]\n{yaml}\n"}))


# --- darknet

DATA = "classes= 2\ntrain  = data/train.txt\nvalid = data/test.txt\nnames = data/obj.names\nbackup = backup/\n"


YAML, COWS = "data.yaml", "names: [cow, dog]\n"


@pytest.mark.parametrize("top", ["", "darknet/data"])
@pytest.mark.parametrize("prefix", ["data/obj/", "/home/me/darknet/data/obj/", "C:\\darknet\\data\\obj\\", "obj/"])
def test_darknet_says_names_and_lists(tmp_path: Path, top: str, prefix: str) -> None:
    """its paths are relative to the folder that it ran in, with or without which the data is here"""
    data = tmp_path / "data"
    root = data.parent if top else data
    make(data, {f"obj/{i}.jpg": P for i in range(4)} | {f"obj/{i}.txt": f"1 {LINE[2:]}\n" for i in range(4)})
    lists = {"train.txt": "".join(f"{prefix}{i}.jpg\n" for i in (0, 1)), "test.txt": f"{prefix}2.jpg\r\n{prefix}3.jpg"}
    make(data, {"obj.data": DATA, "obj.names": "cow\ndog\n", "coco.names": "person\n", **lists})
    reading = read_yolo(root)
    assert {c.file.stem: (c.split, c.objects[0].label) for c in reading.candidates} == {
        "0": ("train", "dog"),
        "1": ("train", "dog"),
        "2": ("val", "dog"),
        "3": ("val", "dog"),
    }
    assert (reading.labels, reading.problems) == (["cow", "dog"], [])


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"obj.data": DATA}, r"obj\.data: names = data/obj\.names: no such file beside it or above"),
        ({"obj.data": f"names = {'x' * 400}"}, r"obj\.data: names = x+: no such file beside it or above"),
        ({"obj.data": DATA, "obj.names": "cow\n"}, r"obj\.names: 1 names, while obj\.data says classes = 2"),
        (
            {"a.data": "names=a.names", "b.data": "names=b.names", "a.names": "x", "b.names": "y"},
            r"a\.data gives a\.names, b\.data gives b\.names; expected one \.data file",
        ),
        (
            {"classes.txt": "cow\ndog\n", "obj.names": "dog\ncow\n"},
            r"obj\.names: class 0 is 'dog', in .*classes\.txt 'cow'; expected the same .*, or one of the two",
        ),
        ({YAML: COWS, "custom.yaml": "names: [dog, cow]"}, r"data\.yaml: class 0 is 'cow', in .*custom\.yaml 'dog'"),
        ({YAML: COWS, "data (old).yml": "names: [cow]"}, r"data\.yaml: 2 classes, in .*data \(old\)\.yml 1"),
        ({YAML: COWS, "classes.txt": "cow\npig\n"}, r"classes\.txt: class 1 is 'pig', in .*data\.yaml 'dog'"),
        ({YAML: COWS, "labels/classes.txt": "dog\ncow\n"}, r"labels/classes\.txt: class 0 is 'dog', in .*data\.yaml"),
        ({YAML: COWS, "obj.data": DATA, "obj.names": "dog\ncow\n"}, r"obj\.names: class 0 is 'dog', in .*data\.yaml"),
        (
            {YAML: f"{COWS}train: a\nval: b\n", "two.yaml": f"{COWS}train: b\nval: a\n"},
            r"two\.yaml: train: b, in .*data\.yaml a; expected the same splits, or one of the two files alone",
        ),
        ({YAML: f"{COWS}path: f1\ntrain: a\n", "two.yaml": f"{COWS}path: f2\ntrain: a\n"}, r"two\.yaml: train: f2/a, "),
        (
            {YAML: f"{COWS}train: a\n", "two.yaml": f"{COWS}train: a\nval: b\n"},
            r"two\.yaml: val: b, in .*data\.yaml none",
        ),
        ({YAML: COWS, "two.yaml": f"{COWS}kpt_shape: [2, 3]\n"}, r"two\.yaml: kpt_shape: \[2, 3\], in .*yaml \[0, 3\]"),
        (
            {YAML: f"{COWS}kpt_shape: [2, 3]\n", "two.yaml": f"{COWS}kpt_shape: [2, 3]\nflip_idx: [1, 0]\n"},
            "two.*flip_idx",
        ),
        ({YAML: f"nc: 3\n{COWS}"}, r"data\.yaml: nc: found 3, while names has 2 classes; expected their number"),
    ],
)
def test_names_that_contradict_each_other(tmp_path: Path, files: dict[str, str], error: str) -> None:
    with pytest.raises(InputError, match=error):
        read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, **files}))


@pytest.mark.parametrize("key", ["0x1", "01", "+1", "0o1", "1_", "0b1", "1e0"])
def test_a_number_of_a_class_has_plain_digits(tmp_path: Path, key: str) -> None:
    """not all readers of YAML take 010 for ten"""
    root = make(tmp_path, {"a.jpg": P, "a.txt": LINE, YAML: f"names: {{0: cow, {key}: dog}}\n"})
    with pytest.raises(InputError, match=re.escape(f"data.yaml: names: key '{key}'; expected 0, 1, 2 and so on, in")):
        read_yolo(root)


@pytest.mark.parametrize("word", ["1", "01", "+1", "1.0", "1.000000e+00"])
def test_a_class_in_a_line_is_a_number_as_programs_write_them(tmp_path: Path, word: str) -> None:
    """numpy.savetxt writes all of them with an exponent"""
    reading = read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": f"{word} {LINE[2:]}", YAML: COWS}))
    assert [o.label for o in reading.candidates[0].objects] == ["dog"]


OTHER_YAML = {
    "hyp.yaml": "lr0: 0.01\nmosaic: 1.0\n",
    "args.yaml": "task: detect\ndata: data.yaml\nname: train7\n",
    "yolov5s.yaml": "nc: 80\nbackbone: []\nhead: []\n",
    "docker-compose.yaml": "services: {web: {image: ships}}\n",
    "mkdocs.yml": "site_name: Ships\nmarkdown_extensions:\n- x: !!python/name:material.emoji\n",
    "pods.yaml": "kind: Pod\n---\nkind: Service\n",
    "chart.yaml": "name: {{ .Values.name }}\n",
}


def test_yaml_of_other_tools_is_passed_over(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.jpg": P, "a.txt": LINE, YAML: f"{COWS}train: .\n", **OTHER_YAML})
    (root / "old.yaml").write_bytes(b"owner: Stra\xdfe\n")
    assert detect_format(root) == ("yolo", "1 label files, class names in data.yaml")
    reading = read_yolo(root)
    assert (reading.labels, [p for p in reading.problems if p.rule == "not_read"]) == (["cow", "dog"], [])


@pytest.mark.parametrize("names", [{YAML: f"{COWS}train: .\n"}, {"classes.txt": "cow\ndog\n"}])
def test_the_names_of_a_model_beside_the_set_are_not_its_own(tmp_path: Path, names: dict[str, str]) -> None:
    model = {
        "metadata.yaml": "names: {0: person, 1: bicycle}\nstride: 32\ntask: detect\n",
        "net.yaml": "names: 3\nbackbone: []\nHead: []\n",
    }
    reading = read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, **model, **names}))
    assert reading.labels == ["cow", "dog"]
    found = "names and {}, as of a model or its training, but no split and no path; not taken for a data.yaml"
    assert [(p.file, p.key, p.found) for p in reading.problems if p.rule == "not_read"] == [
        ("metadata.yaml", "names", found.format("stride")),
        ("net.yaml", "names", found.format("backbone")),
    ]
    alone = {name: text for name, text in model.items() if name == "metadata.yaml"}
    assert read_yolo(make(tmp_path / "alone", {"a.jpg": P, "a.txt": LINE, **alone})).labels == ["person", "bicycle"]


OWN_KEYS = ["license", "author", "roboflow", "download", "description", "date", "version", "task", "batch", "Farm"]


@pytest.mark.parametrize("key", OWN_KEYS)
def test_yaml_with_keys_of_its_author_counts_beside_a_list(tmp_path: Path, key: str) -> None:
    own = f"names: [cow, goat]\n{key}: of the farm\n"
    files = {"a.jpg": P, "a.txt": f"{LINE} .1 .2 2 .3 .4 1", "herd.yaml": f"{own}kpt_shape: [2, 3]\n"}
    reading = read_yolo(make(tmp_path, {**files, "classes.txt": "cow\ngoat\n"}))
    assert [(o.label, len(o.landmarks)) for o in reading.candidates[0].objects] == [("cow", 2)]
    assert not reading.problems
    with pytest.raises(InputError, match=r"classes\.txt: class 0 is 'goat', in .*herd\.yaml 'cow'; expected the same"):
        read_yolo(make(tmp_path, {"classes.txt": "goat\ncow\n"}))


def notes(*names: str, first: int = 0) -> dict[str, object]:
    return {"categories": [{"id": i, "name": n} for i, n in enumerate(names, first)], "info": {"year": 2026}}


IN_SPLITS = {"train/images/a.jpg": P, "train/labels/a.txt": LINE, "val/images/b.jpg": P, "val/labels/b.txt": LINE}


@pytest.mark.parametrize(
    "names",
    [
        {"train/classes.txt": "cow\ndog\n", "val/classes.txt": "cow\r\ndog"},
        {"train/labels/classes.txt": "cow\ndog\n"},
        {"val/images/classes.txt": "cow\ndog\n", "notes.json": notes("cow", "dog")},
        {"notes.json": notes("cow", "dog")},
        {"train/obj.names": "cow\ndog\n", YAML: COWS, "holiday/classes.txt": "sun\n"},
        {YAML: COWS, "notes.json": notes("ox", first=1)},
        {"Classes.TXT": "cow\ndog\n"},
        {"train/labels/OBJ.names": "cow\ndog\n"},
        {"herd.names": "cow\ndog\n"},
        {"predefined_classes.txt": "dog\nperson\n", "herd.names": "cow\ndog\n", "._herd.names": "x"},
        {"herd.NAMES": "cow\ndog\n", "labels/herd.names": "cow\ndog\n"},
    ],
)
def test_names_in_folders_of_splits_and_label_studio_s_notes_are_read(tmp_path: Path, names: dict) -> None:
    root = make(tmp_path, IN_SPLITS | names)
    assert detect_format(root)[0] == "yolo"
    reading = read_yolo(root)
    assert (reading.labels, [len(c.objects) for c in reading.candidates]) == (["cow", "dog"], [1, 1])
    assert not [p for p in reading.problems if p.done != "noted"]


@pytest.mark.parametrize(
    ("names", "error"),
    [
        (
            {"train/classes.txt": "cow\ndog", "val/classes.txt": "dog\ncow"},
            r"val/classes\.txt: class 0 is 'dog', in .*train/classes\.txt 'cow'; expected the same class names",
        ),
        ({YAML: COWS, "train/labels/classes.txt": "dog"}, r"classes\.txt: class 0 is 'dog', in .*data\.yaml 'cow'"),
        ({YAML: COWS, "notes.json": notes("dog", "cow")}, r"notes\.json: class 0 is 'dog', in .*data\.yaml 'cow'"),
        ({"notes.json": notes("cow", first=1)}, r"notes\.json: categories: ids \[1\]; expected 0, 1, 2 and so on"),
        ({"notes.json": notes("cow", "")}, r"notes\.json: categories: class 1: found ''; expected the name of a class"),
    ],
)
def test_names_in_folders_of_splits_that_contradict(tmp_path: Path, names: dict, error: str) -> None:
    with pytest.raises(InputError, match=error):
        read_yolo(make(tmp_path, IN_SPLITS | names))


@pytest.mark.parametrize("text", ["{", '{"cows": 3}', '{"categories": "cows"}', "[]"])
def test_notes_of_something_else_name_no_classes(tmp_path: Path, text: str) -> None:
    (tmp_path / "herd").mkdir()
    root = make(tmp_path / "herd", {**IN_SPLITS, "notes.json": text})
    with pytest.raises(
        InputError, match=r"no class names; expected data\.yaml, classes\.txt, obj\.names in [^ ]*herd$"
    ):
        read_yolo(root)


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"labels/deep/data.yaml": COWS}, "labels/deep/data.yaml lies too deep to be of the whole set, move it up"),
        ({"holiday/classes.txt": "cow\ndog\n"}, "holiday/classes.txt lies too deep to be of the whole set, move it up"),
        (
            {"cows.names": "cow\n", "dogs.names": "dog\n"},
            "cows.names and dogs.names: of several lists nobody can say which is meant",
        ),
        ({"classes.txt/notes": ""}, "classes.txt is no file"),
        ({"cfg/herd.names": "cow"}, "cfg/herd.names lies too deep"),
        ({".git/classes.txt": "x", "cfg/Classes.txt": "cow"}, "cfg/Classes.txt lies too deep"),
    ],
)
def test_a_file_of_names_that_is_nearly_one_is_named(tmp_path: Path, files: dict, said: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"; {said}")):
        read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, **files}))


def test_a_list_of_names_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.jpg": P, "a.txt": LINE})
    (root / "classes.txt").symlink_to("classes.txt")
    with pytest.raises(InputError, match=r"; classes\.txt is a link that leads to nothing"):
        read_yolo(root)


def test_folders_are_no_classes_where_names_contradict_each_other(tmp_path: Path) -> None:
    files = {"cam1/a.jpg": P, "cam1/a.txt": LINE, "cam2/b.jpg": P, "cam2/b.txt": LINE, YAML: COWS, "classes.txt": "dog"}
    assert detect_format(make(tmp_path, files))[0] == "yolo"


def test_the_label_of_an_image_that_is_called_like_a_list_of_names_is_no_list(tmp_path: Path) -> None:
    files = {"images/classes.jpg": P, "labels/classes.txt": LINE, YAML: COWS}
    (found,) = read_yolo(make(tmp_path, files)).candidates
    assert len(found.objects) == 1


def test_folders_are_walked_once_for_all_lists_of_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = ["classes.txt", "obj.names", "_darknet.labels", "train/classes.txt", "val/labels/classes.txt"]
    root = make(tmp_path, {**IN_SPLITS, "train/images/far/b.jpg": P, **dict.fromkeys(lists, "cow\ndog\n"), YAML: COWS})
    walked, scandir = [], os.scandir
    monkeypatch.setattr(os, "scandir", lambda at: walked.append(Path(at).name) or scandir(at))
    assert found_names(root, root).labels == ["cow", "dog"]
    assert walked.count("far") == 1


def test_names_that_stand_twice_or_are_a_tool_s_own_are_no_contradiction(tmp_path: Path) -> None:
    names = {"classes.txt": "cow\n", "obj.names": "cow\r\n\r\n", "predefined_classes.txt": "dog\nperson\n"}
    assert read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, **names})).labels == ["cow"]
    names |= {"data.yaml": "nc: 1\nnames: {0: cow}\n", "args.yaml": "lr0: 0.01\n", "labels/classes.txt": "cow"}
    assert read_yolo(make(tmp_path, names)).labels == ["cow"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("path: /content/ships\ntrain: images/in\n", "path: 'D:\\ships'\ntrain: ./images/in/\n"),
        ("train: images/in\n", "train: [/content/ships/images/in]\n"),
        ("path: .\ntrain: ../images/in\n", ""),
        ("", "path: ..\nvalid:\ntrain: images/in\n"),
    ],
)
def test_the_splits_of_two_yaml_that_agree(tmp_path: Path, first: str, second: str) -> None:
    """for two machines, or in one of them alone; neither first in the alphabet hides the other"""
    files = {"images/in/a.jpg": P, "images/b.jpg": P, "classes.txt": "cow\n"}
    yaml = {"a.yaml": f"names: [cow]\n{first}", "b.yaml": f"names: [cow]\n{second}"}
    reading = read_yolo(make(tmp_path, files | yaml))
    assert {c.file.stem: c.split for c in reading.candidates} == {"a": "train", "b": None}


def test_the_lists_of_cvat_s_subsets(tmp_path: Path) -> None:
    data = (
        "classes = 1\nTrain = data/Train.txt\nValidation = data/Validation.txt\nnames = data/obj.names\neval = coco\n"
    )
    files = {"obj_Train_data/a.jpg": P, "obj_Validation_data/b.jpg": P, "obj.data": data, "obj.names": "cow\n"}
    lists = {"Train.txt": "data/obj_Train_data/a.jpg\n", "Validation.txt": "data/obj_Validation_data/b.jpg\n"}
    reading = read_yolo(make(tmp_path, files | lists))
    assert {c.file.stem: c.split for c in reading.candidates} == {"a": "train", "b": "val"}
    assert [p.rule for p in reading.problems] == ["no_label"]


def test_a_yaml_without_splits_leaves_them_to_obj_data(tmp_path: Path) -> None:
    files = {"a.jpg": P, "data.yaml": COWS, "obj.data": DATA, "obj.names": "cow\ndog\n", "test.txt": "a.jpg\n"}
    assert [c.split for c in read_yolo(make(tmp_path, files)).candidates] == ["val"]


def test_a_list_of_darknet_s_that_is_not_here_is_said(tmp_path: Path) -> None:
    files = {"obj.data": DATA, "obj.names": "cow\ndog\n", "train.txt": "a.jpg\n", "weights.data": "\0\1\2"}
    reading = read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, **files}))
    assert [(p.file, p.rule, p.found) for p in reading.problems] == [
        ("obj.data", "not_here", "valid = data/test.txt: no such file beside it or above")
    ]


@pytest.mark.parametrize("name", ["DATA.YAML", "Data.Yml"])
def test_a_yaml_in_capitals_is_one(tmp_path: Path, name: str) -> None:
    assert read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, name: COWS})).labels == ["cow", "dog"]
    with pytest.raises(InputError, match="expected the same class names"):
        read_yolo(make(tmp_path / "both", {"a.jpg": P, "a.txt": LINE, name: COWS, "other.yaml": "names: [dog, cow]\n"}))


def test_a_comment_before_the_first_class_shifts_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"classes\.txt:1: '# classes'; expected the name of class 0, and no comment"):
        read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, "classes.txt": "# classes\ncow\n"}))


def test_a_name_of_a_class_has_a_length(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: names: class 0: a name of 100000 letters, 'c+\.\.\.; expected"):
        read_yolo(make(tmp_path, {"a.jpg": P, "a.txt": LINE, YAML: f"names: [{'c' * 100_000}]\n"}))


def test_a_label_file_that_is_a_link_to_itself_has_a_row(tmp_path: Path) -> None:
    root = make(tmp_path, {"a.jpg": P, "b.jpg": P, "a.txt": LINE, YAML: COWS})
    (root / "b.txt").symlink_to("b.txt")
    rows = [(p.file, p.found) for p in read_yolo(root).problems if "b." in p.file]
    assert rows == [("b.jpg", "a link that leads to nothing; expected a file")]


SAME = (f"{LINE}\n", LINE, "0 0.50 .4 0.200000 0.1\n\n", f"\n{LINE}", f"# by me\n{LINE}\n")
NONE = ("a cow on a meadow\n", f"{LINE} 0.93\n")


@pytest.mark.parametrize(
    ("first", "second"), [("images/a.txt", "labels/a.txt"), ("labels/a.txt", "labels/images/a.txt")]
)
@pytest.mark.parametrize("other", [*SAME, *NONE, "0 .1 .1 .2 .2\n", f"\n1{LINE[1:]}\n"])
def test_of_two_texts_of_an_image_the_one_with_labels_is_read(
    tmp_path: Path, first: str, second: str, other: str
) -> None:
    for here, there in ((first, second), (second, first)):
        files = {"images/a.jpg": P, here: f"{LINE}\n", there: other, YAML: COWS}
        reading = read_yolo(make(tmp_path / here.replace("/", "-"), files))
        found = [[(o.label, o.box) for o in c.objects] for c in reading.candidates]
        problems = [p for p in reading.problems if p.rule != "bad_line"]  # of a comment
        if other in (*SAME, *NONE):
            assert found == [[("cow", pytest.approx((0.4, 0.35, 0.2, 0.1)))]]
            assert [(p.rule, p.found.partition(" such")[0]) for p in problems] == [("not_read", "1 texts")]
        else:
            assert [(p.file, p.rule) for p in problems] == [("images/a.jpg", "ambiguous_file")]
            assert problems[0].found == "images/a.txt and labels/a.txt have other labels; expected one of them" or (
                "labels/images/a.txt" in problems[0].found
            )


def test_an_empty_text_among_labels_is_a_label(tmp_path: Path) -> None:
    for beside, images in (("a meadow\n", ["images/a.jpg"]), (f"{LINE}\n", [])):
        files = {"images/a.jpg": P, "images/a.txt": beside, "labels/a.txt": "", YAML: COWS}
        reading = read_yolo(make(tmp_path / str(len(images)), files))
        assert [(c.name, c.objects) for c in reading.candidates] == [(name, []) for name in images]
        assert [p.rule for p in reading.problems] == ["not_read" if images else "ambiguous_file"]
    reading = read_yolo(
        make(tmp_path / "beside", {"images/a.jpg": P, "images/a.txt": "", "labels/a.txt": LINE, YAML: COWS})
    )
    assert len(reading.candidates[0].objects) == 1


@pytest.mark.parametrize("text", ["a.jpg.txt", "labels/a.jpg.txt"])
def test_a_text_with_the_suffix_of_its_image_too_is_its_label(tmp_path: Path, text: str) -> None:
    image = "images/a.jpg" if "/" in text else "a.jpg"
    reading = read_yolo(make(tmp_path, {image: P, text: LINE, YAML: COWS}))
    assert ([len(c.objects) for c in reading.candidates], reading.problems) == ([1], [])


@pytest.mark.parametrize("names", ["pets.names", "Classes.txt", "classes.txt"])
@pytest.mark.parametrize("texts", [{"info.txt": "two pets\n"}, {"cat/1.txt": "a cat\n", "dog/2.txt": "a dog\n"}])
def test_a_list_of_names_beside_notes_and_captions_is_no_yolo(tmp_path: Path, names: str, texts: dict) -> None:
    root = make(tmp_path, {"cat/1.jpg": P, "dog/2.jpg": P, names: "cat\ndog\n", **texts})
    assert detect_format(root)[0] == "folder"


@pytest.mark.parametrize("stray", ["train/a.txt", "a.txt", "labels/train/A.txt"])
def test_a_text_elsewhere_is_not_held_against_the_one_that_surely_is_of_the_image(tmp_path: Path, stray: str) -> None:
    texts = {"labels/train/a.txt": f"{LINE}\n", stray: "1 .1 .1 .2 .2\n"}
    reading = read_yolo(make(tmp_path, {"images/train/a.jpg": P, YAML: COWS, **texts}))
    assert [c.objects[0].label for c in reading.candidates] == ["cow"]
    (row,) = reading.problems
    found = "labels for images/train/a.jpg, whose own are labels/train/a.txt; not read"
    assert (row.file, row.rule, row.found) == (stray, "not_read", found)


def test_texts_of_one_name_in_two_folders_do_not_hide_each_other(tmp_path: Path) -> None:
    for other, labels in ((LINE, ["cow"]), ("1 .1 .1 .2 .2", [])):
        files = {"images/a.jpg": P, "images/a.txt": other, "labels/a.txt": LINE, f"labels/{YAML}": COWS}
        root = make(tmp_path / str(len(labels)), files)
        reading = read_yolo(root / "images", root / "labels")
        assert [o.label for c in reading.candidates for o in c.objects] == labels
        (row,) = reading.problems
        rule = "not_read" if labels else "ambiguous_file"
        assert row.rule == rule
        if not labels:
            assert row.found == "labels/a.txt and images/a.txt have other labels; expected one of them"


def test_a_text_beside_another_image_is_that_one_s(tmp_path: Path) -> None:
    texts = {"images/a.txt": f"{LINE}\n", "a.txt": "1 .1 .1 .2 .2\n"}
    root = make(tmp_path, {"images/a.jpg": P, "a.jpg": P, YAML: COWS, **texts})
    reading = read_yolo(root)
    assert {c.name: c.objects[0].label for c in reading.candidates} == {"images/a.jpg": "cow", "a.jpg": "dog"}
    assert reading.problems == []

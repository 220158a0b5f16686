"""Open Images' CSV: what is downloaded, and what is read."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import boxes, make, notes, read, rows

from pipeline.core.errors import InputError
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import label_text

P = (100, 50)
HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
COW, BIRD = "/m/01xq0k1", "/m/015p6"
NAMES = f"{COW},Cattle\n{BIRD},Bird\n"


def row(
    image: str = "0a", code: str = COW, box: str = "0.1,0.6,0.2,0.7", flags: str = "0,0,0,0,0", sure: str = "1"
) -> str:
    return f"{image},xclick,{code},{sure},{box},{flags}"


def table(*lines: str) -> str:
    return "\n".join([HEADER, *lines, ""])


def set_of(root: Path, *lines: str, images: tuple[str, ...] = ("0a",), **files: Any) -> Path:
    names = {"class-descriptions-boxable.csv": NAMES, "train-annotations-bbox.csv": table(*lines)}
    return make(root, names | {f"{name}.jpg": P for name in images} | files)


def test_boxes_names_and_flags(tmp_path: Path) -> None:
    lines = [
        row(),
        row(code=BIRD, box="0,1,0,1", flags="-1,-1,1,-1,-1"),
        row("0b", code=BIRD, box="0.5,0.75,0,0.25", flags="0,0,-1,1,0"),
        row("gone"),
        row("gone", BIRD),
    ]
    set_of(tmp_path, *lines, images=("0a", "0b", "0c"))
    assert detect_format(tmp_path)[0] == "open_images"
    reading = read("open_images", tmp_path)
    assert boxes(reading) == {
        "0a.jpg": [("Cattle", 0.1, 0.2, 0.5, 0.5), ("Bird", 0.0, 0.0, 1.0, 1.0)],
        "0b.jpg": [("Bird", 0.5, 0.0, 0.25, 0.25)],
    }
    assert [[o.crowd for o in c.objects] for c in reading.candidates] == [[False, True], [False]]
    assert reading.labels == ["Cattle", "Bird"]
    assert {c.split for c in reading.candidates} == {None}  # a single file is the whole set
    assert rows(reading) == []
    assert notes(reading) == {
        "not_here": "1 images of the files are not here",
        "not_listed": "1 images that no file names; left out",
    }


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::5])
def test_columns_are_found_by_their_names(tmp_path: Path, order: tuple[int, ...]) -> None:
    columns = [("XMin", "0.1"), ("XMax", "0.6"), ("YMin", "0.2"), ("YMax", "0.7")]
    header, cells = zip(*(columns[i] for i in order), strict=True)
    text = f"{','.join(header)},LabelName,ImageID\r\n{','.join(cells)},{COW},0a\r\n"
    reading = read("open_images", make(tmp_path, {"0a.jpg": P, "boxes.csv": "\ufeff" + text}))
    assert boxes(reading) == {"0a.jpg": [(COW, 0.1, 0.2, 0.5, 0.5)]}


def test_depictions_can_be_left_out(tmp_path: Path) -> None:
    root = set_of(tmp_path, row(), row(code=BIRD, flags="0,0,0,1,0"))
    reading = read("open_images", root, depictions=False)
    assert boxes(reading) == {"0a.jpg": [("Cattle", 0.1, 0.2, 0.5, 0.5)]}
    assert notes(reading)["depiction"].startswith("1 boxes of depictions")


def test_files_are_splits_and_a_held_out_image_is_not_trained_on(tmp_path: Path) -> None:
    """the folders of a download, in which two splits may have an image of one name"""
    files = {
        "validation-annotations-bbox.csv": table(row("0a", BIRD)),
        "test-annotations-bbox.csv": table(row("0c"), row("0d")),
        "train/0a.jpg": P,
        "validation/0a.jpg": P,
        "test/0c.jpg": P,
        "test/0d.jpg": P,
    }
    reading = read("open_images", set_of(tmp_path, row("0a"), row("0d"), images=(), **files))
    assert {c.name: c.split for c in reading.candidates} == {
        "test/0c.jpg": "test",
        "test/0d.jpg": "test",
        "train/0a.jpg": "train",
        "validation/0a.jpg": "val",
    }
    assert boxes(reading)["validation/0a.jpg"][0][0] == "Bird"
    assert notes(reading)["listed_twice"] == "1 rows of images that are test in other files"


def test_an_image_without_a_box_needs_a_list(tmp_path: Path) -> None:
    files = {
        "train-images-boxable-with-rotation.csv": "ImageID,Subset,Rotation\n0a,train,0.0\n0b,train,90.0\n0t,test,0.0\n",
        "train-annotations-human-imagelabels-boxable.csv": "ImageID,Source,LabelName,Confidence\n0b,x,/m/1,0\n",
    }
    reading = read("open_images", set_of(tmp_path, row(), images=("0a", "0b", "0c", "0t"), **files))
    assert {name: len(found) for name, found in boxes(reading).items()} == {"0a.jpg": 1, "0b.jpg": 0}
    assert notes(reading) == {
        "no_label": "1 images without a box; taken as background",
        "not_listed": "2 images that no file names; left out",
        "not_read": "1 files of verified labels of images; a class that nobody looked for counts as not there",
    }


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        (row(box="0.1,x,0.2,0.7"), "bad_box"),
        (row(box="0.1,,0.2,0.7"), "bad_box"),
        (row(box="0.1,nan,0.2,0.7"), "bad_box"),
        ("0a,xclick", "bad_box"),
        *((row(flags=f"0,0,{said},0,0"), "bad_row") for said in ("2", "0.5", "yes", "-2")),
        (row(flags="0,0,0,2,0"), "bad_row"),
        (row(box="0.1,1_0,0.2,0.7"), "bad_box"),
        (row(code=""), "unknown_class"),
        (row(sure="0"), "unverified"),
        (row(code="Cattle, brown"), "bad_row"),
    ],
)
def test_what_is_not_read_is_a_row(tmp_path: Path, line: str, rule: str) -> None:
    reading = read("open_images", set_of(tmp_path, row(), line))
    assert rows(reading) == [("0a.jpg", rule, "dropped")]
    assert reading.problems[0].key == "train-annotations-bbox.csv:3"
    assert len(reading.candidates[0].objects) == 1


@pytest.mark.parametrize(
    ("line", "found"),
    [
        (row(box="0.1,x,0.2,0.7"), "XMax: 'x', expected a number"),
        ("0a,xclick", "XMin: None, expected a number"),
        (row(sure="?"), "Confidence: '?', expected a number"),
        (row(flags="0,0,2,0,0"), "IsGroupOf: '2', expected 0, 1, or -1 for unknown"),
        (row(flags="0,0,0,yes,0"), "IsDepiction: 'yes', expected 0, 1, or -1 for unknown"),
    ],
)
def test_a_row_names_the_column(tmp_path: Path, line: str, found: str) -> None:
    assert [p.found for p in read("open_images", set_of(tmp_path, row(), line)).problems] == [found]


def test_a_name_with_a_comma_that_is_not_quoted_is_said(tmp_path: Path) -> None:
    reading = read(
        "open_images",
        set_of(tmp_path, row(), **{"class-descriptions-boxable.csv": f"{COW},Cattle, brown\n{BIRD},Bird\n/m/1,Ox\n"}),
    )
    assert reading.labels == [COW]
    assert rows(reading) == [("class-descriptions-boxable.csv", "bad_row", "noted")]


def test_codes_without_a_name_and_two_of_one_name(tmp_path: Path) -> None:
    names = f"LabelName,DisplayName\n{COW},Bird\n{BIRD},Bird\n"
    files = {"class-descriptions-boxable.csv": names}
    reading = read("open_images", set_of(tmp_path, row(), row(code=BIRD), row(code="/m/0new"), **files))
    assert reading.labels == [f"Bird ({COW})", f"Bird ({BIRD})", "/m/0new"]
    assert notes(reading)["no_name"] == "1 boxes of /m/0new, which has no name in the files"


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1).filter(str.strip))
def test_names_are_kept_but_for_their_form(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    quoted = '"' + name.replace('"', '""') + '"'
    root = make(
        tmp_path_factory.mktemp("names"), {"0a.jpg": P, "boxes.csv": table(row()), "c.csv": f"{COW},{quoted}\n"}
    )
    assert read("open_images", root).labels == [label_text(name)]


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"boxes.csv": table(row("gone"))}, "none of the 1 images that .* names is here"),
        ({"boxes.csv": "ImageID,XMin\n"}, "no CSV of boxes; expected the columns ImageID, LabelName"),
        (
            {"boxes.csv": table(row()), "c.csv": f"{COW},Cattle\n{COW},Ox\n"},
            r"c\.csv:2: /m/01xq0k1 is 'Ox', and 'Cattle' before; expected one name",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, files: dict[str, str], error: str) -> None:
    with pytest.raises(InputError, match=error):
        read("open_images", make(tmp_path, {"0a.jpg": P} | files))


def test_text_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    make(tmp_path, {"0a.jpg": P, "boxes.csv": table(row())})
    (tmp_path / "class-descriptions.csv").write_bytes(f"{COW},K\xfche\n".encode("cp1252"))
    with pytest.raises(InputError, match=r"class-descriptions\.csv: not UTF-8 text, after line 0"):
        read("open_images", tmp_path)


def test_a_single_file_is_read_without_the_others(tmp_path: Path) -> None:
    root = set_of(tmp_path, row(), images=("0a", "0b"), **{"test-annotations-bbox.csv": table(row("0b"))})
    reading = read("open_images", root, root / "train-annotations-bbox.csv")
    assert boxes(reading) == {"0a.jpg": [("Cattle", 0.1, 0.2, 0.5, 0.5)]}

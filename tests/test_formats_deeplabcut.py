"""DeepLabCut's tables of labels, as its versions write them."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from test_formats import make, read, rules

from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import Reading

MOUSE = SimpleNamespace(label="mouse", pairs=[])
P = (100, 50)
PARTS = ("left_paw", "right_paw")
HEADER = "scorer,anna,anna,anna,anna\nbodyparts,left_paw,left_paw,right_paw,right_paw\ncoords,x,y,x,y\n"
ONE = "labeled-data/m1/CollectedData_anna.csv"


def read_dlc(root: Path, labels: Path | None = None) -> Reading:
    return read("deeplabcut", root, labels, MOUSE)


def table(rows: dict[tuple[str, ...] | str, list[float]], columns: list[tuple[str, ...]], names: list[str]) -> str:
    """As DeepLabCut writes it: by pandas, with columns of several rows and an index of one column or three."""
    several = isinstance(next(iter(rows)), tuple)
    index = pd.MultiIndex.from_tuples(list(rows)) if several else pd.Index(list(rows))
    text: str = pd.DataFrame(
        list(rows.values()), index=index, columns=pd.MultiIndex.from_tuples(columns, names=names)
    ).to_csv()
    return text


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("slash", ["/", "\\"])
@pytest.mark.parametrize("likelihood", [False, True])
def test_one_animal(tmp_path: Path, several: bool, slash: str, likelihood: bool) -> None:
    axes = ["x", "y", *(["likelihood"] if likelihood else [])]
    columns = [("anna", part, axis) for part in PARTS for axis in axes]
    more = [0.9] if likelihood else []
    nan = float("nan")
    values = {"1.png": [10.0, 5.0, *more, 50.5, 25.0, *more], "2.png": [20.0, 10.0, *more, nan, nan, *more]}
    rows = {
        ("labeled-data", "m1", n) if several else slash.join(("labeled-data", "m1", n)): v for n, v in values.items()
    }
    text = table(rows, columns, ["scorer", "bodyparts", "coords"])
    root = make(tmp_path, {ONE: text, "labeled-data/m1/1.png": P, "labeled-data/m1/2.png": P})
    assert detect_format(root) == ("deeplabcut", f"DeepLabCut's labels in {ONE}")
    reading = read_dlc(root)
    assert (reading.labels, reading.landmarks, reading.pairs) == (["mouse"], list(PARTS), [(0, 1)])
    both, left = (c.objects[0] for c in reading.candidates)
    assert both.landmarks == [Landmark(0.1, 0.1), Landmark(0.505, 0.5)]
    assert both.box == pytest.approx((0.1, 0.1, 0.405, 0.4))
    assert left.landmarks == [Landmark(0.2, 0.2), Landmark(0, 0, 0)]
    assert [c.keys for c in reading.candidates] == [[f"{ONE}:4"], [f"{ONE}:5"]]
    assert rules(reading) == [*([(ONE, "not_read", "noted")] if likelihood else []), ("", "few_videos", "noted")]
    # what pandas makes of the same file is what was read
    frame = pd.read_csv(root / ONE, header=[0, 1, 2], index_col=[0, 1, 2] if several else 0)
    assert frame.iloc[0][("anna", "right_paw", "x")] == both.landmarks[1].x * P[0]


def test_several_animals_and_points_of_none(tmp_path: Path) -> None:
    columns = [("anna", who, part, axis) for who in ("m1", "m2") for part in PARTS for axis in "xy"]
    columns += [("anna", "single", "corner", axis) for axis in "xy"]
    nan = float("nan")
    rows: dict[tuple[str, ...] | str, list[float]] = {
        ("labeled-data", "m1", "1.png"): [10, 5, 50, 25, 20, 10, 60, 30, 1, 1],
        ("labeled-data", "m1", "2.png"): [nan] * 4 + [20, 10, 60, 30, 1, 1],
        ("labeled-data", "m1", "3.png"): [nan] * 8 + [1, 1],
    }
    text = table(rows, columns, ["scorer", "individuals", "bodyparts", "coords"])
    reading = read_dlc(make(tmp_path, {ONE: text} | {f"labeled-data/m1/{n}.png": P for n in "123"}))
    assert [[k.split()[-1] for k in c.keys] for c in reading.candidates] == [["m1", "m2"], ["m2"], []]
    assert reading.landmarks == list(PARTS)
    assert [o.landmarks[1] for o in reading.candidates[0].objects] == [Landmark(0.5, 0.5), Landmark(0.6, 0.6)]
    assert [p.found for p in reading.problems if p.rule != "few_videos"] == [
        "1 points of no animal (corner); not read",
        "1 rows without a number; taken as images with nothing to find",
    ]


def test_a_frame_is_that_of_its_video(tmp_path: Path) -> None:
    """every video has an img001.png; the table of one video names another one's too"""
    files = {f"labeled-data/m{i}/img001.png": (100 * i, 50) for i in (1, 2, 3)}
    tables = {
        f"labeled-data/m{i}/CollectedData_anna.csv": HEADER + f"labeled-data/m{i}/img001.png,10,5,50,25\n"
        for i in (1, 2, 3)
    }
    lost = HEADER + "labeled-data/m9/img001.png,10,5,50,25\nimg001.png,10,5,50,25\n"
    again = "training-datasets/iteration-0/UnaugmentedDataSet_x/CollectedData_anna.csv"
    root = make(tmp_path, files | tables | {"labeled-data/m3/CollectedData_anna.csv": lost, again: lost})
    reading = read_dlc(root)
    assert {c.name: (c.group, c.size) for c in reading.candidates} == {
        f"labeled-data/m{i}/img001.png": (f"labeled-data/m{i}", (100 * i, 50)) for i in (1, 2, 3)
    }
    assert rules(reading) == [("labeled-data/m9/img001.png", "missing_file", "refused")]
    # from the folder of one video on, its frames are those beside the table, and no other video's
    reading = read_dlc(root / "labeled-data/m1")
    assert [c.name for c in reading.candidates] == ["img001.png"]
    reading = read_dlc(root / "labeled-data/m2", root / "labeled-data/m1")
    assert rules(reading)[0] == ("labeled-data/m1/img001.png", "missing_file", "refused")


def test_what_lies_beside_and_is_not_read(tmp_path: Path) -> None:
    predicted = HEADER.replace("coords,x,y,x,y", "coords,x,y,likelihood,x").replace("anna", "DLC_resnet50")
    files = {
        ONE: HEADER + "labeled-data/m1/1.png,1,2,3,4\n",
        ONE.replace(".csv", ".h5"): "",
        "videos/m1DLC.csv": predicted,
    }
    root = make(tmp_path, files | {"labeled-data/m1/1.png": P, "labeled-data/m1/2.png": P})
    assert rules(read_dlc(root)) == [
        (ONE.replace(".csv", ".h5"), "not_read", "noted"),
        ("", "few_videos", "noted"),
        ("", "not_listed", "noted"),
    ]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        (
            "labeled-data/m1/2.png,1,2,3,x",
            ("labeled-data/m1/2.png", "bad_row", "columns 4 and 5: '3', 'x'; expected two"),
        ),
        ("labeled-data/m1/2.png,1,,3,4", ("labeled-data/m1/2.png", "landmark_not_finite", "left_paw: 1, nan")),
        ("labeled-data/m1/9.png,1,2,3,4", ("labeled-data/m1/9.png", "missing_file", "no such image")),
        ("labeled-data/m1/1.png,1,2,3,4", ("labeled-data/m1/1.png", "listed_twice", f"there already, in {ONE}:4")),
        (",1,2,3,4", (f"{ONE}:5", "bad_row", "no file name")),
        ("labeled-data/m1/2.png,1,5,2,3,4", ("labeled-data/m1/2.png", "bad_row", "6 cells, expected 5 as in the h")),
        ("labeled-data/m1/3.png,1,2,3,4", ("labeled-data/m1/3.png", "unreadable", "")),
    ],
)
def test_bad_rows(tmp_path: Path, row: str, problem: tuple[str, str, str]) -> None:
    files = {ONE: f"{HEADER}labeled-data/m1/1.png,1,2,3,4\n{row}\n", "labeled-data/m1/3.png": "no image"}
    reading = read_dlc(make(tmp_path, files | {f"labeled-data/m1/{n}.png": P for n in "12"}))
    found = [p for p in reading.problems if p.rule not in ("few_videos", "not_listed")]
    assert [(p.file, p.rule) for p in found] == [problem[:2]]
    assert found[0].found.startswith(problem[2])


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("scorer,anna\nparts,x\n", r"its first rows begin with scorer, parts; expected scorer, bodyparts, coords"),
        ("scorer,anna,anna\nbodyparts,a,a\n", "no row that begins with coords"),
        ("scorer,anna,anna\nbodyparts,a\ncoords,x,y\n", "header rows of 2 and 3 columns"),
        ("scorer,anna,anna\nbodyparts,a,b\ncoords,x,y\n", "column 2 is x of 'a'; expected y of it in the next one"),
        ("scorer,anna,anna\nbodyparts,,\ncoords,x,y\n", "column 2 is x of ''"),
        ("scorer,anna,anna\nbodyparts,a,a\ncoords,u,v\n", "coords: no x and y"),
        ("scorer,a,a,b,b\nbodyparts,n,n,n,n\ncoords,x,y,x,y\n", "bodyparts: 'n' twice; expected each once"),
    ],
)
def test_a_header_that_cannot_be(tmp_path: Path, text: str, error: str) -> None:
    root = make(tmp_path, {ONE: text, "labeled-data/m1/1.png": P})
    with pytest.raises(InputError, match=error) as caught:
        read_dlc(root)
    assert ONE in str(caught.value)


def test_what_is_no_table_of_labels(tmp_path: Path) -> None:
    predicted = "scorer,D,D,D\nbodyparts,a,a,a\ncoords,x,y,likelihood\n0,1,2,0.9\n"
    root = make(tmp_path, {"1.png": P, "m1DLC.csv": predicted, "CollectedData_anna.h5": ""})
    with pytest.raises(InputError, match=r"no CollectedData_<scorer>\.csv .*; found CollectedData_anna\.h5"):
        read_dlc(root)
    with pytest.raises(InputError, match=r"m1DLC\.csv: predictions, by their likelihood"):
        read_dlc(root, root / "m1DLC.csv")
    names = {
        "a/CollectedData_x.csv": HEADER,
        "b/CollectedData_x.csv": HEADER.replace("left_paw", "0").replace("right_paw", "1"),
    }
    with pytest.raises(InputError, match=r"bodyparts 0, 1, .*: left_paw, right_paw; expected names in all files"):
        read_dlc(make(tmp_path / "numbers", {"1.png": P} | names))
    with pytest.raises(InputError, match="the header of DeepLabCut; expected format `deeplabcut`"):
        read("landmarks_csv", root, root / "m1DLC.csv", MOUSE)

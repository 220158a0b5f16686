"""Every kind of broken label in one set, in every format in which it can occur: each is a row of the ledger, what is
good is kept, and the source stays as it was. Whole files that are broken, or made to break a reader, are named.
"""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from label_sets import BOX, POINTS, SETS, SIZED, Row, write_files
from source import unchanged
from test_bad_images import scene
from test_ingest import ledger, params, run

from pipeline.config.params import parse_yaml
from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.reading import Problem
from pipeline.datasets.ingest.checks import check_objects

NAN, GOOD = math.nan, 24
X0, Y0, X1, Y1 = BOX
DROPPED, REFUSED = "dropped", "refused"
# kind -> the row, the ledger's rule, what is done; in the formats of boxes
FAULTS: dict[str, tuple[Row, str, str]] = {
    "nan": (Row("nan.jpg", boxes=[(NAN, Y0, X1, Y1)]), "box_not_finite", DROPPED),
    "reversed": (Row("reversed.jpg", boxes=[(X1, Y1, X0, Y0)]), "box_zero_area", DROPPED),
    "no area": (Row("no area.jpg", boxes=[(X0, Y0, X0, Y1)]), "box_zero_area", DROPPED),
    "outside": (Row("outside.jpg", boxes=[(70.0, Y0, 90.0, Y1)]), "box_outside", DROPPED),
    "spill": (Row("spill.jpg", boxes=[(-9.0, Y0, X1, Y1)]), "box_clipped", "clipped"),
    "beyond": (Row("beyond.jpg", boxes=[(X0, Y0, 1e30, Y1)]), "box_beyond", DROPPED),
    "infinite": (Row("infinite.jpg", boxes=[(X0, Y0, math.inf, Y1)]), "box_not_finite", DROPPED),
    "twice": (Row("twice.jpg", boxes=[BOX, BOX]), "box_duplicate", DROPPED),
    "no class": (Row("no class.jpg", label=""), "unknown_class", DROPPED),
    "orphan": (Row("gone.jpg"), "missing_file", REFUSED),
    "other size": (Row("other size.jpg", size=(40, 60)), "size_mismatch", REFUSED),
}
# where a format sees it itself, or means another thing by it
OTHERWISE: dict[tuple[str, str], tuple[str, str] | None] = {
    **{
        (form, kind): ("bad_box", DROPPED)
        for form in ("cvat", "labelme", "label_studio", "open_images")
        for kind in ("nan", "infinite")
    },
    ("labelme", "reversed"): None,  # two opposite corners, in any order
    ("label_studio", "reversed"): None,  # drawn from the lower right
    ("yolo", "orphan"): ("no_image", REFUSED),
    ("open_images", "orphan"): None,  # most people have a part of the images; how many are not here is noted
}
OF_POINTS: dict[str, tuple[Row, str, str]] = {
    "nan": (Row("nan.jpg", boxes=[(NAN, Y0, X1, Y1)]), "landmark_not_finite", "hidden"),
    "outside": (Row("outside.jpg", boxes=[(X0, Y0, 90.0, Y1)]), "landmark_outside", "hidden"),
    "beyond": (Row("beyond.jpg", boxes=[(X0, Y0, 1e30, Y1)]), "landmark_outside", "hidden"),
    "unset": (Row("unset.jpg", boxes=[(0.0, 0.0, X1, Y1)]), "landmark_unset", "hidden"),
    "one spot": (Row("one spot.jpg", boxes=[(X0, Y0, X0, Y0)]), "box_zero_area", DROPPED),
    "orphan": (Row("gone.jpg"), "missing_file", REFUSED),
}


def faults_of(form: str) -> list[tuple[Row, tuple[str, str] | None]]:
    if form in POINTS:
        return [(row, (rule, done)) for row, rule, done in OF_POINTS.values()]
    kinds = [kind for kind in FAULTS if form in SIZED or kind != "other size"]
    return [(FAULTS[kind][0], OTHERWISE.get((form, kind), FAULTS[kind][1:])) for kind in kinds]


def drawn(root: Path, names: list[str]) -> None:
    root.mkdir()
    for i, name in enumerate(names):
        scene(i).save(root / name, quality=95)


def block(form: str, root: Path, **other: Any) -> Any:
    fields = FORMATS[form].Options.model_fields.items()
    options = {name: field.get_default(call_default_factory=True) for name, field in fields}
    allowed = {"refuse_over": 1.0, "near_duplicates": "off", "other_units": "note"} | other
    return params(form, root, options=options, **allowed)


@pytest.mark.parametrize("form", SETS)
def test_broken_labels_are_rows_and_good_ones_stay(tmp_path: Path, form: str) -> None:
    root, faults = tmp_path / "herd", faults_of(form)
    good = [f"{i:02}.jpg" for i in range(GOOD)]
    drawn(root, [*good, *(row.name for row, _ in faults if row.name != "gone.jpg")])
    write_files(root, SETS[form]([*map(Row, good), *(row for row, _ in faults)]))
    with unchanged(root):
        summary, samples = run(tmp_path, block(form, root))
    rows = {(Path(file).stem, rule, done) for file, _, rule, done in ledger(tmp_path) if done != "noted"}
    assert rows == {(Path(row.name).stem, *expected) for row, expected in faults if expected}
    refused = sum(expected is not None and expected[1] == REFUSED for _, expected in faults)
    assert summary["refused"] == refused
    whole = [name.removesuffix(".jpg") for name in good]
    whole += [row.name.removesuffix(".jpg") for row, expected in faults if expected is None and row.name != "gone.jpg"]
    boxes = {i: [o.box for o in s.objects] for i, s in samples.items()}
    assert {i: boxes[i] for i in whole} == {i: [pytest.approx((0.1, 0.1, 0.5, 0.5))] for i in whole}


@pytest.mark.parametrize(
    ("box", "found"),
    [
        ((0.0, 0.0, 1e30, 0.5), "width 6e+31 px, 1e+30 times the image's 60; no image is so large"),
        ((0.0, 0.0, 0.5, 1e308), "height inf px, 1e+308 times the image's 40; no image is so large"),
        ((0.0, -1e9, 0.5, 1e9), "y -4e+10 px, -1e+09 times the image's 40; no image is so large"),
        ((5e5, 0.0, 0.5, 1.0), "x 3e+07 px, 500000 times the image's 60; no image is so large"),
    ],
)
def test_numbers_that_no_image_has_are_said(box: tuple[float, float, float, float], found: str) -> None:
    kept, rows, _ = check_objects("a.jpg", [Object("cow", box)], ["object 1"], (60, 40))
    assert (kept, [(p.rule, p.found, p.done) for p in rows]) == ([], [("box_beyond", found, "dropped")])


def test_a_landmark_that_is_far_outside_is_said_in_few_digits() -> None:
    thing = Object("cow", (0.0, 0.0, 1.0, 1.0), [Landmark(1e300, 0.5), Landmark(2.0, 0.5)])
    _, rows, _ = check_objects("a.jpg", [thing], ["object 1"], (60, 40))
    assert [p.found for p in rows] == ["landmark 0: 6e+301, 20.0 px", "landmark 1: 120.0, 20.0 px"]


NUMBER = re.compile(r"(?<!version>)(?<![\w.-])\d+\.\d+(?![\w.])")  # of a box or landmark


def with_numbers(form: str, rows: list[Row], change: Callable[[str], str]) -> dict[str, Any]:
    """The files of a set, each number of a box or landmark changed; in JSON it becomes text."""
    files = SETS[form](rows)
    name = label_file(files)
    text = files[name] if isinstance(files[name], str) else json.dumps(files[name])
    quote = '"' if text.startswith(("{", "[")) else ""
    return files | {name: NUMBER.sub(lambda found: f"{quote}{change(found[0])}{quote}", text)}


@pytest.mark.parametrize("form", SETS)
@pytest.mark.parametrize("change", ["{}", "+{}", " {}"])
def test_a_number_may_be_text(tmp_path: Path, form: str, change: str) -> None:
    root, rows = tmp_path / "herd", [Row("0.jpg", boxes=[(6.5, 4.5, 36.5, 24.5)])]
    drawn(root, ["0.jpg"])
    found = []
    for said in ("{}", change):
        write_files(root, with_numbers(form, rows, said.format))
        reading = FORMATS[form].read(root, root, FORMATS[form].Options())
        assert [p for p in reading.problems if p.done != "noted"] == []
        found.append([(o.box, o.landmarks) for c in reading.candidates for o in c.objects])
    assert len(found[0]) == 1
    assert found[0] == found[1]


@pytest.mark.parametrize("form", SETS)
@pytest.mark.parametrize("said", ["1_0", "0x1", "\N{ARABIC-INDIC DIGIT ONE}", "\N{FULLWIDTH DIGIT ONE}", "true", "1e"])
def test_what_python_alone_takes_for_a_number_is_none(tmp_path: Path, form: str, said: str) -> None:
    root = tmp_path / "herd"
    drawn(root, ["0.jpg"])
    write_files(root, with_numbers(form, [Row("0.jpg")], lambda _: said))
    if form == "pts":
        with pytest.raises(InputError, match=r"none of 1 \.pts files can be read; first 0\.pts: point 1: "):
            FORMATS[form].read(root, root, FORMATS[form].Options())
        return
    reading = FORMATS[form].read(root, root, FORMATS[form].Options())
    told = [p for p in reading.problems if p.done != "noted"]
    assert [p.rule for p in told] == ["bad_row" if form in POINTS else "bad_line" if form == "yolo" else "bad_box"]
    assert [o for c in reading.candidates for o in c.objects] == []


LAUGHS = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 10))
BOMBS = {
    ".xml": ("entities", "a file of the system"),
    ".json": ("deep", "deep objects", "a long number", "a key twice"),
}
DAMAGE = ("cut", "half a line", "empty", "zeros")


def bomb(kind: str, content: str) -> str:
    root = "<annotation>" if "<annotation>" in content else "<annotations>"
    inside = content.replace(root, f"{root}&x;", 1)
    return {
        "entities": f'<!DOCTYPE x [<!ENTITY a0 "ha">{LAUGHS}<!ENTITY x "&a9;">]>{inside}',
        "a file of the system": f'<!DOCTYPE x [<!ENTITY x SYSTEM "file:///etc/hostname">]>{inside}',
        "deep": "[" * 200_000,
        "deep objects": '{"a":' * 200_000,
        "a long number": re.sub(r"(?<=[ \[])\d+\.\d+", "6" * 5000, content, count=1),
        "a key twice": content.replace("{", '{"version": 1, "version": 2, "id": 1, "id": 2, ', 1),
    }[kind]


def label_file(files: dict[str, Any]) -> str:
    return next(name for name in files if name not in ("classes.txt", "names.csv"))


CASES = [
    (form, kind)
    for form, make in SETS.items()
    for kind in (
        *DAMAGE,
        *(k for suffix, kinds in BOMBS.items() if suffix in label_file(make([Row("0.jpg")])) for k in kinds),
    )
    if (form, kind) != ("yolo", "empty")  # an image without objects
]


@pytest.mark.parametrize(("form", "kind"), CASES)
def test_a_file_of_labels_that_is_broken_or_a_bomb_is_named(tmp_path: Path, form: str, kind: str) -> None:
    """As an error, or as a row for the one image whose file it is; then the others are read."""
    root = tmp_path / "herd"
    rows = [Row(f"{i}.jpg") for i in range(4)]
    drawn(root, [row.name for row in rows])
    files = SETS[form](rows)
    name = label_file(files)
    content = files[name] if isinstance(files[name], str) else json.dumps(files[name])
    spoilt = {
        "cut": content[: len(content) // 2],
        "half a line": content[:-9],
        "empty": "",
        "zeros": "\0" * 2000,
    }
    write_files(root, files | {name: spoilt[kind] if kind in spoilt else bomb(kind, content)})
    with unchanged(root):
        said = outcome(form, root)
    # of rows that are not there no one can say more than that images have none
    assert any(re.search(f"{re.escape(name)}|{Path(name).stem}|not_listed|: no .*csv", text) for text in said), said


def outcome(form: str, root: Path) -> list[str]:
    """The error, or the files of the rows."""
    row = FORMATS[form]
    try:
        reading = row.read(root, root, row.Options())
    except InputError as error:
        return [str(error)]
    assert len(reading.candidates) < 4 or any(len(c.objects) != 1 for c in reading.candidates) or reading.problems
    return [shown(problem) for problem in reading.problems]


def shown(problem: Problem) -> str:
    return f"{problem.file} {problem.key} {problem.rule} {problem.found}"


FEW = "a0: &a0 [ha, ha]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 10))


TAGS = [f"a: !!{value}\n" for value in ('int ""', 'float ""', "bool maybe")]


@pytest.mark.parametrize("text", [FEW, "names: &a [*a]\n", "names: &a {0: *a}\n", "[" * 5000, *TAGS, "? [{}]\n: 1\n"])
@pytest.mark.parametrize("file", ["data.yaml", "README.md", "params.yaml"])
def test_a_yaml_of_aliases_is_no_bomb(tmp_path: Path, file: str, text: str) -> None:
    """A few lines that stand for ten to the ninth values, or hold themselves; values that are not what they say."""
    drawn(tmp_path / "herd", ["0.jpg"])
    if file == "params.yaml":
        with pytest.raises(InputError, match=r"params\.yaml: "):
            parse_yaml(text, tmp_path / file)
        return
    form = {"data.yaml": "yolo", "README.md": "imagefolder"}[file]
    more = "names: *a9\n" if text is FEW else ""
    whole = f"---\nclass_label: x\n{text}{more}---\n" if file == "README.md" else text + more
    write_files(tmp_path / "herd", SETS[form]([Row("0.jpg")]) | {file: whole})
    (tmp_path / "herd" / "classes.txt").unlink(missing_ok=True)
    with pytest.raises(InputError, match=f"{file}: "):
        FORMATS[form].read(tmp_path / "herd", tmp_path / "herd", FORMATS[form].Options())

"""Files of few bytes that stand for much, or of which a reader would end the process: each is refused by name, soon and
in little memory. Bombs of labels are in test_bad_labels.py, archives in test_unpack.py.
"""

import json
import os
import re
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import ROOT
from PIL import Image

from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.lines import read_figures, read_rows
from pipeline.core.resolved import Resolved
from pipeline.core.sample import Dataset, read_samples
from pipeline.core.yaml_text import yaml_value
from pipeline.datasets.formats import FORMATS, deeplabcut, landmarks_csv, open_images, split_lists
from pipeline.datasets.ingest.record import read_record
from pipeline.datasets.params import SplitParams
from pipeline.tracking.dvc_state import read_lock

MEMORY, SECONDS = 4 << 30, 30  # of address space, in which the interpreter and its libraries have 2; of the processor
TENTHS = "".join(f"  a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 6))
ALIASES = f"  a0: &a0 [ha, ha, ha, ha]\n{TENTHS}"
READS = """
import sys
from pathlib import Path
from pipeline.config.params import read_params
from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.layer import read_layer
from pipeline.core.resolved import Resolved
from pipeline.core.sample import Dataset, read_samples
from pipeline.core.spec import read_spec
from pipeline.datasets.formats import FORMATS
from pipeline.tracking.dvc_state import read_lock
folder = Path(sys.argv[1])
readers = {
    "params.yaml": read_params, "resolved.yaml": Resolved, "dvc.lock": lambda file: read_lock(file.parent),
    "data.yaml": lambda file: FORMATS["yolo"].read(file.parent, file.parent, FORMATS["yolo"].Options()),
    "metrics.json": read_json, "model.json": read_spec, "round1.jsonl": read_layer,
    "metadata.jsonl": lambda file: read_samples(file.parent),
}
for file in sorted(folder.rglob("*.*")):
    if file.name in readers:
        try:
            readers[file.name](file)
            print(file.name, "was read")
        except InputError as error:
            print(file.name, len(str(error)), str(error).replace(str(file.parent), ""))
"""


def limited() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))


def test_what_is_nested_a_hundred_thousand_deep_ends_no_process(tmp_path: Path) -> None:
    """In one process for all: a reader that is ended by the system says nothing of the others."""
    lists, maps = "[" * 100_000 + "]" * 100_000, '{"a":' * 100_000 + "1" + "}" * 100_000
    names = ("params.yaml", "resolved.yaml", "dvc.lock", "data.yaml")
    for kind, text in (("lists", lists), ("maps", maps), ("blocks", "- " * 100_000 + "1")):
        (tmp_path / kind).mkdir()
        for name in (*names, *(() if kind == "blocks" else ("metrics.json", "model.json", "round1.jsonl"))):
            (tmp_path / kind / name).write_text(f"datasets: {text}" if name in names and kind != "blocks" else text)
        (tmp_path / kind / "a.jpg").touch()
    (tmp_path / "lists/metadata.jsonl").write_text(maps)
    done = subprocess.run(
        [sys.executable, "-c", READS, str(tmp_path)], preexec_fn=limited, capture_output=True, text=True, check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stdout.splitlines()
    assert len(said) == 19 and not [line for line in said if line.endswith("was read")]
    assert all(int(line.split()[1]) < 400 for line in said), "an error is a line, not the bomb"


@pytest.mark.parametrize("key", ["datasets", "runs", "sample", "machine", "track", "compare"])
def test_aliases_in_a_known_key_are_a_short_error(key: str, tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"{key}:\n{ALIASES}")
    with pytest.raises(InputError) as said:
        read_params(tmp_path / "params.yaml")
    assert len(str(said.value)) < 4000


def test_a_long_value_is_cut_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(f"machine: {{workers: {'9' * 4000}x}}\ntrack: [{'ha, ' * 4000}]\n")
    with pytest.raises(InputError) as said:
        read_params(tmp_path / "params.yaml")
    assert len(str(said.value)) < 1000


def test_a_cell_that_is_longer_than_csv_takes_is_named(tmp_path: Path) -> None:
    (tmp_path / "history.csv").write_text(f"epoch,loss\n0,{'9' * 200_000}\n")
    with pytest.raises(InputError, match=r"history\.csv: expected a number in each cell"):
        read_figures(tmp_path / "history.csv")


MERGED = "".join(f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 10)}]}}\n" for n in range(1, 8))


@pytest.mark.parametrize("inner", ["{x: 1}", "{x: 1, <<: {y: 2}}"])
def test_aliases_that_are_merged_are_refused_before_they_are(inner: str) -> None:
    with pytest.raises(InputError, match=r"data\.yaml: more than 1000000 values"):
        yaml_value(f"a0: &a0 {inner}\n{MERGED}", "data.yaml")


def test_few_merged_keys_are_read() -> None:
    text = "a: &a {x: 1}\nb: {<<: [*a, *a], y: 2}\nc: *a\n"
    assert yaml_value(text, "data.yaml")["b"] == {"x": 1, "y": 2}


def test_aliases_are_no_deeper_than_brackets() -> None:
    chain = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 120))
    with pytest.raises(InputError, match="more than 100 levels"):
        yaml_value(chain, "data.yaml")
    yaml_value("".join(chain.splitlines(keepends=True)[:90]), "data.yaml")


def reads_table(file: Path) -> object:
    return landmarks_csv._rows(file)


def reads_boxes(file: Path) -> object:
    return list(open_images._rows(file))


def reads_animals(file: Path) -> object:
    return deeplabcut._table(file)


def reads_record(file: Path) -> object:
    return read_record(file, SplitParams())


def reads_samples(file: Path) -> object:
    (file.parent / "metadata.jsonl").symlink_to(file)
    return read_samples(file.parent)


@pytest.mark.parametrize(
    "read",
    [read_rows, reads_table, reads_boxes, reads_animals, reads_record, reads_samples, split_lists._entries],
)
def test_a_line_of_200_megabytes_is_refused_before_it_is_read(tmp_path: Path, read: Callable[[Path], object]) -> None:
    """In memory that is a small share of it: the file has holes, which are read as zeros."""
    file = tmp_path / "table.csv"
    file.write_text("file,split\n")
    with file.open("r+b") as opened:
        opened.truncate(200_000_000)
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match=r"(table\.csv|metadata\.jsonl): line 2: a line of more than 16 MB"):
            read(file)
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_lines_count_by_any_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr("pipeline.core.lines.LONGEST_LINE", 100)
    monkeypatch.setattr("pipeline.core.lines.PART", 7)
    (tmp_path / "a.txt").write_text(f"{'a' * 100}{end}" * 3, newline="")
    assert read_rows(tmp_path / "a.txt") == f"{'a' * 100}\n" * 3
    (tmp_path / "a.txt").write_text(f"{'a' * 100}{end}{'a' * 101}", newline="")
    with pytest.raises(InputError, match=r"a\.txt: line 2: a line of more than"):
        read_rows(tmp_path / "a.txt")


@pytest.mark.parametrize("planted", ["pipe", "endless"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("params.yaml", read_params),
        ("resolved.yaml", Resolved),
        ("dvc.lock", lambda path: read_lock(path.parent)),
        ("model.json", read_json),
        ("classes.txt", read_rows),
    ],
)
def test_pipes_and_devices_by_a_files_name_are_not_read(
    tmp_path: Path, planted: str, name: str, read: Callable[[Path], object]
) -> None:
    """A pipe would be waited for; what leads to /dev/zero never ends."""
    if planted == "pipe":
        os.mkfifo(tmp_path / name)
    else:
        (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(InputError, match=rf"{re.escape(name)}: a pipe, a device or a socket; expected a file"):
        read(tmp_path / name)


def animals(parts: int, individuals: int = 1) -> str:
    names = [f"p{number % parts}" for number in range(parts * individuals) for _ in "xy"]
    owners = [f"m{number // parts // 2}" for number in range(2 * parts * individuals)]
    rows = ("scorer", ["anna"] * len(names)), ("individuals", owners), ("bodyparts", names)
    axes = ["x", "y"] * (parts * individuals)
    return "".join(",".join([head, *cells]) + "\n" for head, cells in (*rows, ("coords", axes))) + "img/1.png\n"


def coco(points: int, numbered: bool = False, classes: int = 1) -> str:
    categories = [{"id": i, "name": f"c{i}", "keypoints": []} for i in range(classes)]
    annotation = {"id": 1, "image_id": 1, "category_id": 0, "bbox": [1, 1, 2, 2], "keypoints": [1, 1, 2] * points}
    if not numbered:
        categories[0]["keypoints"], annotation["keypoints"] = [f"p{i}" for i in range(points)], []
    images = [{"id": 1, "file_name": "1.jpg", "width": 32, "height": 32}]
    return json.dumps({"images": images, "categories": categories, "annotations": [annotation]})


MANY = {
    "body parts": ("deeplabcut", "CollectedData_anna.csv", lambda: animals(200_000), "found 200000 landmarks"),
    "animals": ("deeplabcut", "CollectedData_anna.csv", lambda: animals(2, 5000), "found 5000 individuals"),
    "columns": (
        *("landmarks_csv", "faces.csv"),
        lambda: "image," + ",".join(f"p{i}_x,p{i}_y" for i in range(50_000)) + "\n1.jpg,1,1\n",
        "the header: found 50000 landmarks; expected at most 1000",
    ),
    "no header": (
        *("landmarks_csv", "faces.csv", lambda: "1.jpg" + ",1" * 100_000 + "\n"),
        "most rows: found 50000 landmarks",
    ),
    "keypoints": ("coco", "a.json", lambda: coco(300_000), "category 'c0': found 300000 landmarks"),
    "numbered": ("coco", "a.json", lambda: coco(300_000, numbered=True), "annotations: found 300000 landmarks"),
    "categories": ("coco", "a.json", lambda: coco(0, classes=150_000), "categories: found 150000 classes"),
    "yolo": (
        *("yolo", "data.yaml", lambda: "names: [" + ",".join(f"c{i}" for i in range(150_000)) + "]\n"),
        "names: found 150000 classes; expected at most 100000",
    ),
    "a list": ("yolo", "classes.txt", lambda: "".join(f"c{i}\n" for i in range(150_000)), "found 150000 classes"),
    "kpt_shape": ("yolo", "data.yaml", lambda: "names: [cow]\nkpt_shape: [1000000, 3]\n", "found 1000000 landmarks"),
    "pts": (
        *("pts", "1.pts", lambda: "version: 1\nn_points: 2000\n{\n" + "1 1\n" * 2000 + "}\n"),
        "2000 points, expected at most 1000",
    ),
    "labelme": (
        *("labelme", "1.json"),
        lambda: json.dumps({
            "version": "5.0", "imagePath": "1.jpg", "imageWidth": 32, "imageHeight": 32,
            "shapes": [{"label": f"p{i}", "shape_type": "point", "points": [[1, 1]]} for i in range(2000)],
        }),
        "found 2000 landmarks",
    ),
    "ours": (
        *("imagefolder", "dataset.json"),
        lambda: json.dumps(asdict(Dataset("herd", ["cow"], [f"p{i}" for i in range(2000)]))),
        "2000 landmarks; expected at most 1000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", MANY)
def test_more_names_than_any_dataset_has_are_refused_by_the_file(tmp_path: Path, what: str) -> None:
    """Soon: each object of thousands would have room for each of them."""
    form, name, text, said = MANY[what]
    Image.new("RGB", (32, 32)).save(tmp_path / "1.jpg")
    (tmp_path / "1.txt").write_text("0 .5 .5 .2 .2\n")
    (tmp_path / name).write_text(text())
    if what == "ours":
        (tmp_path / "metadata.jsonl").write_text('{"file_name": "1.jpg"}\n')
    began = time.process_time()
    with pytest.raises(InputError, match=rf"{name}.*{re.escape(said)}|{tmp_path}: {said}"):
        FORMATS[form].read(tmp_path, tmp_path, FORMATS[form].Options())
    assert time.process_time() - began < SECONDS

"""Files of few bytes that stand for much, or of which a reader would end the process: each is refused by name, soon and
in little memory. Bombs of labels are in test_bad_labels.py, archives in test_unpack.py.
"""

import io
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import pytest
from conftest import ROOT
from label_sets import SETS, SIZE, Row, write_files
from PIL import Image
from test_security_planted import SPEC

from pipeline.annotation.sent import read_sent
from pipeline.commands import labels
from pipeline.config.params import read_params
from pipeline.core import lines
from pipeline.core.errors import InputError
from pipeline.core.files import read_json
from pipeline.core.layer import read_layer
from pipeline.core.lines import HEAD, first_line, read_figures, read_rows
from pipeline.core.resolved import Resolved
from pipeline.core.sample import Dataset, read_dataset, read_samples
from pipeline.core.spec import read_spec, write_spec
from pipeline.core.yaml_text import yaml_value
from pipeline.datasets import remote
from pipeline.datasets.formats import FORMATS, deeplabcut, label_studio_config, landmarks_csv, split_lists
from pipeline.datasets.formats.open_images_tables import rows_of
from pipeline.datasets.formats.reading import Reading
from pipeline.datasets.ingest.accounts import unread
from pipeline.datasets.ingest.record import read_record
from pipeline.datasets.params import SplitParams
from pipeline.evaluation.batch import batch_sheet
from pipeline.models.nets import load_model
from pipeline.models.weights import read_weights
from pipeline.report import page
from pipeline.report.answers import confusion
from pipeline.tracking.doctor import examine
from pipeline.tracking.dvc_state import read_lock
from pipeline.training import maps
from pipeline.training.checkpoint import read_checkpoint
from pipeline.training.maps import parts_in

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
    return list(rows_of(file))


def reads_animals(file: Path) -> object:
    return deeplabcut._table(file)


def reads_record(file: Path) -> object:
    return read_record(file, SplitParams())


def reads_samples(file: Path) -> object:
    (file.parent / "metadata.jsonl").symlink_to(file)
    return read_samples(file.parent)


@pytest.mark.parametrize(
    "read",
    [read_rows, reads_table, reads_boxes, reads_animals, reads_record, reads_samples, split_lists.entries],
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


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("", ""),
        (" \n\t\r\n", ""),
        ("1.jpg", "1.jpg"),
        ("\r\r a b.jpg \r2.jpg", "a b.jpg"),
        ("1.jpg\n" + "ä\u20ac\U0001f404" * HEAD, "1.jpg"),
        ("1.jpg\n1" + "ä\u20ac\U0001f404" * HEAD, "1.jpg"),
        ("\n" * HEAD + "1.jpg\n2.jpg\n" * HEAD, "1.jpg"),
        ("ä" * HEAD + "\n2.jpg", "ä" * HEAD),
        ("a" * (HEAD - 1) + "\r\n2.jpg", "a" * (HEAD - 1)),
    ],
)
def test_the_first_line_is_that_of_the_whole(tmp_path: Path, text: str, first: str, encoding: str) -> None:
    file = tmp_path / "train.txt"
    file.write_bytes(text.encode(encoding))
    assert first_line(file) == first == next((line.strip() for line in read_rows(file).split("\n") if line.strip()), "")


@pytest.mark.parametrize("content", [b"\xff.jpg\n", b"\0.jpg\n", b"1\0.jpg\n2.jpg\n", b"\n" * HEAD + b"\xff.jpg\n"])
def test_a_first_line_that_is_no_text_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "train.txt").write_bytes(content)
    with pytest.raises(InputError, match=r"train\.txt: not UTF-8 text \(byte \d+ is "):
        first_line(tmp_path / "train.txt")
    (tmp_path / "lost.txt").symlink_to("nowhere")
    with pytest.raises(InputError, match=r"lost\.txt: a link that leads to nothing"):
        first_line(tmp_path / "lost.txt")


@pytest.mark.parametrize("planted", ["pipe", "endless"])
@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("params.yaml", read_params),
        ("resolved.yaml", Resolved),
        ("dvc.lock", lambda path: read_lock(path.parent)),
        ("model.json", read_json),
        ("classes.txt", read_rows),
        ("train.txt", first_line),
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


def waits(*_: object) -> None:
    raise TimeoutError("it was waited for")


@pytest.fixture
def no_waiting() -> Iterator[None]:
    """What waits for a pipe is an error after a while."""
    before = signal.signal(signal.SIGALRM, waits)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("form", SETS)
@pytest.mark.usefixtures("no_waiting")
def test_a_pipe_in_place_of_any_file_of_labels_is_named(tmp_path: Path, form: str) -> None:
    """Also where one only looks for the format. An image that is one is in test_security_pictures.py."""
    rows = [Row(f"{number}.jpg") for number in range(2)]
    files = SETS[form](rows)
    for number, name in enumerate(files):
        root = tmp_path / str(number)
        write_files(root, files)
        for row in rows:
            Image.new("RGB", SIZE).save(root / row.name)
        (root / name).unlink()
        os.mkfifo(root / name)
        said = []
        for read in (lambda root: FORMATS[form].read(root, root, FORMATS[form].Options()), recognized):
            try:
                said += [f"{row.file} {row.rule} {row.found}" for row in read(root).problems]
            except InputError as error:
                said.append(str(error))
        beginning = Path(name).name.partition(".")[0]
        assert any(re.search(rf"{re.escape(beginning)}\b|no .*(XML|JSON|csv|json|names)", text) for text in said), said


def recognized(root: Path) -> Reading:
    """What is said where the formats of all files are looked for."""
    for form in FORMATS.values():
        if form.recognize:
            with suppress(InputError):
                form.recognize(root, root)
    return Reading([], [], problems=unread(Reading([], []), root, root))


PLACES: dict[str, Callable[[Path], object]] = {
    "params.yaml": read_params,
    "resolved.yaml": Resolved,
    "dvc.lock": lambda path: read_lock(path.parent),
    "data/metadata.jsonl": lambda path: read_samples(path.parent),
    "data/dataset.json": lambda path: read_dataset(path.parent),
    "splits/herd.csv": lambda path: read_record(path, SplitParams()),
    "labels/herd/round1.jsonl": read_layer,
    "labels/herd/.sent/round1.jsonl": read_sent,
    "label_config.xml": lambda path: label_studio_config.names_in(path.parent),
    "models/herd/model.json": read_spec,
    "models/herd/model.safetensors": lambda path: load_model(path.parent),
    "weights/net.pth": read_weights,
    "exports/herd/export.json": read_json,
    ".resume/herd/last.ckpt": read_checkpoint,
    "reports/train/herd/batch.npz": lambda path: batch_sheet(path, SPEC),
    "reports/train/herd/history.csv": read_figures,
    "reports/evaluate/herd/confusion.csv": lambda path: confusion(path, "classify", ["cow"]),
    ".fetched/herd.jsonl": lambda path: remote._held(path, path.parent, {}, {}),
    "parts/net.safetensors": lambda path: maps._net(path, SPEC),
    "parts/1.npz": lambda path: pytest.fail("read") if list(parts_in(path.parent)) else refused(path),
    "mlflow.db": lambda path: refused(path) if examine(path.parent) else None,
}


def refused(path: Path) -> None:
    raise InputError(f"{path}: was passed over")


@pytest.mark.parametrize("name", PLACES)
@pytest.mark.usefixtures("no_waiting")
def test_a_pipe_in_place_of_any_file_that_is_read_is_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if name.endswith("model.safetensors"):
        write_spec(path.parent / "model.json", SPEC)
    os.mkfifo(path)
    if name == "label_config.xml":
        assert not PLACES[name](path).boxes  # as where there is none
        return
    with pytest.raises(InputError, match=re.escape(path.name)):
        PLACES[name](path)


def test_tables_of_the_report_are_bounded_and_named_where_they_are_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = tmp_path / "confusion.csv"
    for text in ("actual,predicted\ncow\n", "actual,predicted\ncow,goat,1\n"):
        table.write_text(text)
        with pytest.raises(InputError, match=r"confusion\.csv: not as evaluate writes it"):
            confusion(table, "classify", ["cow"])
    monkeypatch.setattr(lines, "LARGEST_TABLE", 1 << 20)
    table.write_text("actual,predicted\n" + "cow,goat\n" * 200_000)  # a row per object: more than of a row per epoch
    assert confusion(table, "classify", ["cow", "goat"])["pairs"] == [("cow", "goat", 200_000)]
    monkeypatch.setattr(lines, "LARGEST_LIST", 1 << 20)
    with table.open("r+b") as opened:
        opened.truncate(3 << 20)
    for read in (read_figures, lambda path: confusion(path, "classify", ["cow"]), page._reliability):
        with pytest.raises(InputError, match=r"confusion\.csv: 3 MB; expected at most 1 MB"):
            read(table)


def test_what_is_piped_in_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "MOST_PIPED", 10)
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n2\n"))
    assert labels._ids(Path("-")) == ["1", "2"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("1\n" * 20))
    with pytest.raises(InputError, match=r"--ids -: more than .* were piped in; expected ids"):
        labels._ids(Path("-"))


def test_the_list_of_what_was_fetched_is_bounded(tmp_path: Path) -> None:
    with (tmp_path / "herd.jsonl").open("wb") as opened:
        opened.truncate(2 << 30)
    with pytest.raises(InputError, match=r"herd\.jsonl: 2048 MB; expected at most 1024 MB"):
        remote._held(tmp_path / "herd.jsonl", tmp_path, {}, {})

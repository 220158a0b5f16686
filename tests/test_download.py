"""Public sets from a server on this machine, in their publishers' layout, come as `pocketlens add` takes them."""

import argparse
import csv
import io
import json
import shlex
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from PIL import Image

from pipeline import cli
from pipeline.commands import data
from pipeline.core.errors import InputError
from pipeline.datasets.formats import FORMATS, detect_format
from pipeline.datasets.public import download as code
from pipeline.datasets.public import fetch, layouts
from pipeline.datasets.public.download import download
from pipeline.datasets.public.fetch import RemoteFile
from pipeline.datasets.public.open_images_subset import open_images
from pipeline.datasets.public.sets import SETS
from tests.archives import rarred, tarred, zipped
from tests.servers import Served, files_served
from tests.test_unpack import needs_rar

Files = dict[str, Served]
CLASSES = ("Archery", "Basketball", "Surfing")


def jpeg(color: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (32, 24), (color % 256, 60, 90)).save(out, "JPEG")
    return out.getvalue()


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Files, str, list[tuple[str, str]]]]:
    monkeypatch.setattr(fetch, "PAUSES", ())
    files: Files = {}
    with files_served(files) as (url, asked):
        yield files, url, asked


def ucf101(files: Files, url: str, folder: Path) -> Callable[..., None]:
    clips = {f"{c}/v_{c}_g0{g}_c01.avi": f"{c}{g}".encode() for c in CLASSES for g in (1, 2, 3, 4)}
    train = [f"{name} {CLASSES.index(name.split('/')[0]) + 1}" for name in clips if "g01" not in name]
    test = [name for name in clips if "g01" in name]
    files["UCF101.rar"] = Served(
        rarred(folder / "r", {f"UCF-101/{name}": content for name, content in clips.items()}).read_bytes()
    )
    files["lists.zip"] = Served(
        zipped(
            folder / "z",
            {
                "ucfTrainTestlist/classInd.txt": b"1 Archery\r\n",
                "ucfTrainTestlist/trainlist01.txt": "\r\n".join(train).encode(),
                "ucfTrainTestlist/testlist01.txt": "\r\n".join(test).encode(),
            },
        ).read_bytes()
    )
    return layouts.ucf101(RemoteFile(f"{url}/UCF101.rar"), RemoteFile(f"{url}/lists.zip"))


def ucf101_subset(files: Files, url: str, folder: Path) -> Callable[..., None]:
    clips = {
        f"UCF101_subset/{split}/{c}/v_{c}_g0{g}_c01.avi": f"{c}{g}".encode()
        for c in CLASSES
        for split, groups in {"train": (1, 2), "val": (3,), "test": (4,)}.items()
        for g in groups
    }
    files["s.tar.gz"] = Served(tarred(folder / "t", {**clips, "UCF101_subset/test.csv": b"a"}, mode="w").read_bytes())
    return layouts.class_folders(RemoteFile(f"{url}/s.tar.gz"))


def oxford_pets(files: Files, url: str, folder: Path) -> Callable[..., None]:
    stems = [f"{breed}_{i}" for breed in ("Bengal", "great_pyrenees") for i in range(1, 7)]
    train, test = [s for s in stems if int(s[-1]) > 2], [s for s in stems if int(s[-1]) <= 2]
    xml = "<annotation><filename>{0}.jpg</filename><size><width>32</width><height>24</height><depth>3</depth></size>" \
        "<object><name>cat</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>" \
        "</annotation>"  # fmt: skip
    labels = {f"annotations/xmls/{s}.xml": xml.format(s).encode() for s in train}
    labels |= {f"annotations/trimaps/{s}.png": b"png" for s in stems} | {"annotations/trimaps/._a.png": b"mac"}
    labels |= {f"annotations/{name}.txt": "".join(f"{s} 1 1 1\n" for s in of).encode()
               for name, of in (("trainval", train), ("test", test))}  # fmt: skip
    photos = {f"images/{s}.jpg": jpeg(i * 20) for i, s in enumerate(stems)} | {"images/Bengal_1.mat": b"matlab"}
    files["images.tar.gz"] = Served(tarred(folder / "i", photos).read_bytes())
    files["annotations.tar.gz"] = Served(tarred(folder / "a", labels).read_bytes())
    return layouts.oxford_pets(RemoteFile(f"{url}/images.tar.gz"), RemoteFile(f"{url}/annotations.tar.gz"))


def coco128(files: Files, url: str, folder: Path) -> Callable[..., None]:
    packed = {"coco128/LICENSE": b"GPL", "coco128/README.txt": b"read"}
    for i in range(6):
        packed[f"coco128/images/train2017/00000000000{i}.jpg"] = jpeg(i * 30)
        if i != 2:  # an image without objects has no text
            packed[f"coco128/labels/train2017/00000000000{i}.txt"] = b"79 0.5 0.5 0.2 0.4\n"
    files["coco128.zip"] = Served(zipped(folder / "c", packed).read_bytes())
    return layouts.coco128(RemoteFile(f"{url}/coco128.zip"))


def coco_val2017(files: Files, url: str, folder: Path) -> Callable[..., None]:
    rows = [{"id": 100 - i, "file_name": f"{i}.jpg", "width": 32, "height": 24, "coco_url": f"{url}/val2017/{i}.jpg"}
            for i in range(5)]  # fmt: skip
    boxes = [{"id": i, "image_id": 100 - i, "category_id": 90, "bbox": [2, 3, 10, 12], "iscrowd": 0} for i in range(5)]
    said = {"images": rows, "annotations": boxes, "categories": [{"id": 90, "name": "toothbrush"}]}
    labels = {
        "annotations/instances_val2017.json": json.dumps(said).encode(),
        "annotations/captions_val2017.json": b"{}",
    }
    files["annotations.zip"] = Served(zipped(folder / "a", labels).read_bytes())
    files["val2017.zip"] = Served(
        zipped(folder / "v", {f"val2017/{i}.jpg": jpeg(i * 9) for i in range(5)}).read_bytes()
    )
    files |= {f"val2017/{i}.jpg": Served(jpeg(i * 9)) for i in range(5)}
    annotations, images = RemoteFile(f"{url}/annotations.zip"), RemoteFile(f"{url}/val2017.zip")
    return layouts.coco(annotations, "instances_val2017.json", images)


def voc2007(files: Files, url: str, folder: Path) -> Callable[..., None]:
    xml = "<annotation><filename>{0}.jpg</filename><size><width>32</width><height>24</height><depth>3</depth></size>" \
        "<object><name>cow</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>20</xmax><ymax>20</ymax></bndbox></object>" \
        "</annotation>"  # fmt: skip
    for name, lists in {"trainval": {"train": range(4), "val": range(4, 7)}, "test": {"test": range(7, 10)}}.items():
        ids = [i for of in lists.values() for i in of]
        packed = {f"VOCdevkit/VOC2007/JPEGImages/00000{i}.jpg": jpeg(i * 20) for i in ids}
        packed |= {f"VOCdevkit/VOC2007/Annotations/00000{i}.xml": xml.format(f"00000{i}").encode() for i in ids}
        packed |= {f"VOCdevkit/VOC2007/ImageSets/Main/{split}.txt": "".join(f"00000{i}\n" for i in of).encode()
                   for split, of in lists.items()}  # fmt: skip
        packed |= {f"VOCdevkit/VOC2007/ImageSets/Main/cow_{name}.txt": b"000000 -1\n"}
        files[f"{name}.tar"] = Served(tarred(folder / name, packed, mode="w").read_bytes())
    return layouts.voc(RemoteFile(f"{url}/trainval.tar"), RemoteFile(f"{url}/test.tar"))


def alpaca(files: Files, url: str, folder: Path) -> Callable[..., None]:
    boxes = {}
    for number, split in enumerate(("train", "validation", "test")):
        out = io.StringIO()
        rows = csv.writer(out)
        rows.writerow(["ImageID", "Source", "LabelName", "Confidence", "XMin", "XMax", "YMin", "YMax", "IsGroupOf"])
        for i in range(9):
            image, label = f"{number}{i:03x}", "/m/0pcr" if i % 3 == 0 else "/m/01yrx"
            rows.writerow([image, "xclick", "/m/03bt1vf", 1, 0.1, 0.2, 0.1, 0.2, 0])
            rows.writerow([image, "xclick", label, 1, 0.2, 0.8, 0.3, 0.9, 0])
            files[f"{split}/{image}.jpg"] = Served(jpeg(30 * i + number))
        files[f"{split}.csv"] = Served(out.getvalue().encode())
        boxes[split] = RemoteFile(f"{url}/{split}.csv")
    return open_images("/m/0pcr", "alpaca", boxes, f"{url}/{{split}}/{{id}}.jpg")


MAKES = {
    "ucf101": ucf101,
    "ucf101-subset": ucf101_subset,
    "alpaca": alpaca,
    "oxford-pets": oxford_pets,
    "coco128": coco128,
    "coco-val2017": coco_val2017,
    "voc2007": voc2007,
}
NAMES = [pytest.param(name, marks=needs_rar if name == "ucf101" else ()) for name in MAKES]
# images or clips by split, all and with --max 2, of each of the lines that add the set
COUNTS: dict[str, list[tuple[dict[str | None, int], dict[str | None, int]]]] = {
    "ucf101": [({"train": 9, "test": 3}, {"train": 2, "test": 2})],
    "ucf101-subset": [({"train": 6, "val": 3, "test": 3}, {"train": 2, "val": 2, "test": 2})],
    "alpaca": [
        ({"train": 6, "val": 6, "test": 6}, {"train": 4, "val": 4, "test": 4}),
        ({"train": 6, "val": 6, "test": 6}, {"train": 4, "val": 4, "test": 4}),
    ],
    "oxford-pets": [({"train": 8, "test": 4}, {"train": 2, "test": 2}), ({None: 8}, {None: 2})],
    "coco128": [({"train": 6}, {"train": 2})],
    "coco-val2017": [({None: 5}, {None: 2})],
    "voc2007": [({"train": 4, "val": 3, "test": 3}, {"train": 2, "val": 2, "test": 2})],
}


def put(monkeypatch: pytest.MonkeyPatch, name: str, served: tuple[Files, str, Any], folder: Path) -> None:
    """Have the set `name` come from the server of the test."""
    folder.mkdir(exist_ok=True)
    bring = MAKES[name](served[0], served[1], folder)
    monkeypatch.setitem(SETS, name, replace(SETS[name], bring=bring))


def adds(said: str) -> list[argparse.Namespace]:
    """What the lines `pocketlens add ...` of an answer ask for."""
    asked: list[argparse.Namespace] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "add", asked.append)
        for line in said.splitlines():
            if line.startswith("pocketlens "):
                cli.main(shlex.split(line)[1:])
    return asked


def counts(args: argparse.Namespace) -> dict[str | None, int]:
    format, _ = detect_format(args.data, args.labels)
    row = FORMATS[format]
    assert args.task in row.tasks
    reading = row.read(args.data.resolve(), (args.labels or args.data).resolve(), row.Options())
    assert [p for p in reading.problems if p.done != "noted"] == []
    splits = [candidate.split for candidate in reading.candidates]
    return {split: splits.count(split) for split in set(splits)}


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_tried(name):
    assert name in MAKES
    assert len(COUNTS[name]) == len(SETS[name].add)
    assert all(one in FORMATS for one in SETS[name].formats)


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("name", NAMES)
def test_a_set_comes_as_add_takes_it(tmp_path, monkeypatch, served, name, most):
    put(monkeypatch, name, served, tmp_path / "made")
    said = download(name, tmp_path / "sets/my set", most)
    assert said.splitlines()[1] == "next:"
    found = [counts(args) for args in adds(said)]
    assert found == [few if most else all for all, few in COUNTS[name]]
    formats = {detect_format(args.data, args.labels)[0] for args in adds(said)}
    assert formats == set(SETS[name].formats)
    assert sorted(p.name for p in (tmp_path / "sets").iterdir()) == [".downloads", "my set"]


@pytest.mark.parametrize("name", ["coco-val2017", "alpaca"])
def test_of_a_few_images_only_those_are_fetched(tmp_path, monkeypatch, served, name):
    put(monkeypatch, name, served, tmp_path / "made")
    download(name, tmp_path / "set", 1)
    photos = [path for path, _ in served[2] if path.endswith(".jpg")]
    assert len(photos) == len(set(photos)) == {"coco-val2017": 1, "alpaca": 6}[name]
    assert "val2017.zip" not in dict(served[2])


def test_the_same_few_come_each_time(tmp_path, monkeypatch, served):
    put(monkeypatch, "oxford-pets", served, tmp_path / "made")
    for folder in ("a", "b"):
        download("oxford-pets", tmp_path / folder, 3)
    one, two = ({p.relative_to(tmp_path / f): p.read_bytes() for p in (tmp_path / f).rglob("*") if p.is_file()}
                for f in ("a", "b"))  # fmt: skip
    assert one == two


def test_what_is_there_is_not_fetched_again(tmp_path, monkeypatch, served):
    put(monkeypatch, "coco128", served, tmp_path / "made")
    said = download("coco128", tmp_path / "set")
    del served[2][:]
    assert download("coco128", tmp_path / "set") == said
    assert served[2] == []
    with pytest.raises(InputError, match="set: has set coco128 already; expected another folder"):
        download("coco128", tmp_path / "set", 2)
    with pytest.raises(InputError, match="set: has set coco128 already"):
        download("voc2007", tmp_path / "set")


@pytest.mark.parametrize("to", [".", "../here", "in/.."])
def test_a_set_comes_into_the_folder_that_one_is_in(tmp_path, monkeypatch, served, to):
    put(monkeypatch, "coco128", served, tmp_path / "made")
    here = tmp_path / "sets/here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    said = download("coco128", Path(to), 2)
    assert said.splitlines()[0].startswith(f"{here}: coco128, 7 files")
    assert (here / "data.yaml").is_file()
    assert sorted(p.name for p in here.parent.iterdir()) == [".downloads", "here"]


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set/mine.jpg").write_bytes(b"mine")
    with pytest.raises(InputError, match="set: is there already; expected a new or empty folder"):
        download("coco128", tmp_path / "set")
    assert (tmp_path / "set/mine.jpg").read_bytes() == b"mine"


def test_a_download_that_stops_leaves_no_set_and_goes_on(tmp_path, monkeypatch, served):
    files, _, asked = served
    put(monkeypatch, "oxford-pets", served, tmp_path / "made")
    files["images.tar.gz"].cuts = [700, 0]
    with pytest.raises(InputError, match="700 bytes of it are kept"):
        download("oxford-pets", tmp_path / "pets")
    assert sorted(p.name for p in tmp_path.iterdir()) == [".downloads", "made"]
    files["images.tar.gz"].cuts = []
    del asked[:]
    download("oxford-pets", tmp_path / "pets")
    assert asked == [("images.tar.gz", "bytes=700-")]


def test_a_set_is_held_to_what_came_the_first_time(tmp_path, monkeypatch, served):
    put(monkeypatch, "coco128", served, tmp_path / "made")
    download("coco128", tmp_path / "set")
    shutil.rmtree(tmp_path / "set")
    changed = zipped(tmp_path / "c", {"coco128/images/train2017/1.jpg": jpeg(1)}).read_bytes()
    served[0]["coco128.zip"] = Served(changed, tag='"2"')
    with pytest.raises(InputError, match=r"coco128\.zip: sha256 .*, as it had at the first download"):
        download("coco128", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_page_in_place_of_the_archive_is_not_remembered(tmp_path, monkeypatch, served):
    put(monkeypatch, "coco128", served, tmp_path / "made")
    good = served[0]["coco128.zip"]
    served[0]["coco128.zip"] = Served(b"<html>sign in first</html>")
    with pytest.raises(InputError, match="not a whole tar, zip or RAR archive"):
        download("coco128", tmp_path / "set")
    served[0]["coco128.zip"] = good
    download("coco128", tmp_path / "set")


def test_a_page_in_place_of_a_table_is_said(tmp_path, monkeypatch, served):
    put(monkeypatch, "alpaca", served, tmp_path / "made")
    served[0]["validation.csv"] = Served(b"<html>sign in first</html>")
    with pytest.raises(
        InputError, match=r"validation\.csv: begins with '<html>sign in first</html>'; expected ImageID"
    ):
        download("alpaca", tmp_path / "set")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (b"../../x,xclick,/m/0pcr,1,0,1,0,1,0", r"'../../x'; expected ImageID in hexadecimal digits"),
        (b"0a1,xclick", "2 cells; expected the 9 of the header"),
    ],
)
def test_a_row_that_is_none_of_boxes_is_said_with_its_number(tmp_path, monkeypatch, served, row, said):
    put(monkeypatch, "alpaca", served, tmp_path / "made")
    table = served[0]["train.csv"]
    table.content = table.content.replace(b"\r\n", b"\r\n" + row + b"\r\n", 1)
    with pytest.raises(InputError, match=rf"train\.csv:2: {said}"):
        download("alpaca", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_a_blank_row_is_none(tmp_path, monkeypatch, served):
    put(monkeypatch, "alpaca", served, tmp_path / "made")
    served[0]["train.csv"].content += b"\r\n"
    assert [counts(args) for args in adds(download("alpaca", tmp_path / "set"))] == [all for all, _ in COUNTS["alpaca"]]


@pytest.mark.parametrize(("name", "photo"), [("alpaca", "test/2000.jpg"), ("coco-val2017", "val2017/4.jpg")])
def test_a_photo_that_is_gone_is_counted_and_the_others_come(tmp_path, monkeypatch, served, name, photo):
    put(monkeypatch, name, served, tmp_path / "made")
    del served[0][photo]
    said = download(name, tmp_path / "set", 2)
    assert said.splitlines()[1] == f"1 image is no longer on the server and not in the set: {served[1]}/{photo}"
    assert download(name, tmp_path / "set", 2) == said
    lacking = [{**few, s: few[s] - 1} for _, few in COUNTS[name] for s in ["test" if name == "alpaca" else None]]
    assert [counts(args) for args in adds(said)] == lacking


def test_many_photos_that_are_gone_are_an_error(tmp_path, monkeypatch, served):
    put(monkeypatch, "alpaca", served, tmp_path / "made")
    for photo in ("test/2000.jpg", "test/2001.jpg"):
        del served[0][photo]
    with pytest.raises(InputError, match=r"200.\.jpg: the server answers 404 .*2 of 18 images.* at most 1"):
        download("alpaca", tmp_path / "set")
    assert not (tmp_path / "set").exists()


def test_two_downloads_of_a_set_do_not_meet(tmp_path, monkeypatch, served):
    put(monkeypatch, "coco128", served, tmp_path / "made")
    (tmp_path / ".downloads").mkdir()
    with (
        FileLock(tmp_path / ".downloads/coco128.lock"),
        pytest.raises(InputError, match="another download of coco128 is at work there"),
    ):
        download("coco128", tmp_path / "set")


def test_the_command(tmp_path, monkeypatch, served, capsys):
    monkeypatch.chdir(tmp_path)
    put(monkeypatch, "coco128", served, tmp_path / "made")
    cli.main(["download", "coco128", "--max", "3"])
    assert capsys.readouterr().out.splitlines() == [
        "data/public/coco128: coco128, 8 files (licence: labels CC BY 4.0, images Flickr's terms)",
        "next:",
        "pocketlens add coco128 --data data/public/coco128 --task detect",
    ]
    assert (tmp_path / "data/public/coco128/data.yaml").is_file()
    with pytest.raises(SystemExit):
        cli.main(["download", "coco"])
    assert "error: set 'coco'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        cli.main(["download", "coco128", "--to", "data/ingested/x"])
    assert "lies in data/ingested/" in capsys.readouterr().err


def test_every_address_and_checksum_is_well_formed():
    for row in SETS.values():
        for file in row.files:
            kind, _, digits = file.checksum.partition(":")
            assert file.url.startswith(("https://", "http://"))
            assert not file.checksum or (kind, len(digits)) in (("sha256", 64), ("md5", 32))
    assert code.RECORD.startswith(".")

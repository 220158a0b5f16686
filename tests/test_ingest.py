"""From data as its owner has it to the one form: nothing lost silently, the source left alone, the same each time."""

import csv
import hashlib
import json
import os
import shutil
from collections import Counter
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image
from pydantic import TypeAdapter

from pipeline.core.errors import InputError
from pipeline.core.image_file import decode_image
from pipeline.core.sample import SPLITS, Dataset, Object, Sample, read_dataset, read_samples
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.ingest import take
from pipeline.datasets.ingest.ingest import ingest
from pipeline.datasets.ingest.report import labels_sheet
from pipeline.datasets.params import AnyDataset

OPTIONS = {
    "ucf101": {"split": 1, "frames": 4, "classes": []},
    "pts": {"label": "face", "pairs": []},
    "landmarks_csv": {"label": "face", "pairs": []},
}


def params(form, path, labels=None, options=None, **other):
    block = {
        "format": form,
        "path": str(path),
        "labels": str(labels or path),
        "options": options or OPTIONS.get(form, {}),
        "splits": {"val": 0.2, "test": 0.2, "seed": 0},
        "max_side": 64,
        "refuse_over": 0.2,
    } | other
    return TypeAdapter(AnyDataset).validate_python(block)


def run(tmp_path, block, name="data"):
    summary = ingest("set", block, tmp_path / name / "set", tmp_path / "reports" / name)
    folder = tmp_path / name / "set"
    samples = [s for split in SPLITS for s in read_samples(folder / split)]
    for s in samples:
        with Image.open(folder / s.split / s.file_name) as image:
            assert (image.format, image.mode, image.size) == (
                {".jpg": "JPEG", ".png": "PNG"}[Path(s.file_name).suffix],
                "RGB",
                (s.width, s.height),
            )
    assert (
        len([*folder.rglob("*.jpg"), *folder.rglob("*.png")])
        == len(samples)
        == summary["kept"]
        == summary["seen"] - summary["refused"]
    )
    assert {split: sum(s.split == split for s in samples) for split in SPLITS} == summary["splits"]
    assert {f.name for f in (tmp_path / "reports" / name).iterdir()} == {
        "summary.json",
        "ledger.csv",
        "contact_sheet.jpg",
    }
    assert json.loads((tmp_path / "reports" / name / "summary.json").read_text()) == summary
    rows = [row["done"] for row in rows_of(tmp_path, name)]
    assert summary["refused"] == rows.count("refused")
    objects, clips = summary["objects"], summary["clips"]
    assert objects["kept"] == sum(len(s.objects) for s in samples) == objects["seen"] - objects["dropped"]
    assert objects["dropped"] >= rows.count("dropped")
    assert clips["seen"] == clips["kept"] + clips["refused"]
    assert clips["kept"] == len({s.clip for s in samples if s.clip}) or block.format not in ("ucf101", "ucf24")
    assert summary["leaks"] == {"groups": 0, "near_duplicates": 0}
    return summary, {s.id: s for s in samples}


def rows_of(tmp_path, name="data"):
    with (tmp_path / "reports" / name / "ledger.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def ledger(tmp_path, name="data"):
    return {(row["file"], row["key"], row["rule"], row["done"]) for row in rows_of(tmp_path, name)}


def hashes(folder):
    files = sorted(f for f in folder.rglob("*") if f.is_file())
    return {f.relative_to(folder).as_posix(): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def picture(path, seed, size=(60, 40), suffix="JPEG", **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    small = np.random.default_rng(seed).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(path, suffix, **options)


@pytest.fixture
def animals(tmp_path):
    """Class folders of 15 cats and 15 dogs, some unusual and some broken."""
    root = tmp_path / "animals"
    for i in range(15):
        picture(root / "cat" / f"{i}.jpg", i, size=(60 + 10 * i, 40), quality=95)
        picture(root / "not a cat" / f"{i}.png", 100 + i, suffix="PNG")
    return root


def test_class_folders(tmp_path, animals):
    (animals / "cat" / "empty.jpg").touch()
    (animals / "cat" / "cut.jpg").write_bytes((animals / "cat" / "3.jpg").read_bytes()[:500])
    (animals / "not a cat" / "page.jpg").write_text("<html>")
    shutil.copy(animals / "cat" / "4.jpg", animals / "not a cat" / "cat.jpg")  # two truths
    shutil.copy(animals / "cat" / "5.jpg", animals / "cat" / "again.jpg")
    before = hashes(animals)
    summary, samples = run(tmp_path, params("folder", animals))
    assert hashes(animals) == before
    assert ledger(tmp_path) == {
        ("cat/empty.jpg", "", "empty_file", "refused"),
        ("cat/cut.jpg", "", "unreadable", "refused"),
        ("not a cat/page.jpg", "", "unreadable", "refused"),
        ("cat/4.jpg", "", "conflicting_labels", "refused"),
        ("not a cat/cat.jpg", "", "conflicting_labels", "refused"),
    }
    assert (summary["seen"], summary["kept"], summary["refused"]) == (35, 30, 5)
    assert summary["by_rule"] == {"conflicting_labels": 2, "empty_file": 1, "unreadable": 2}
    assert summary["splits"] == {"train": 18, "val": 6, "test": 6}
    assert samples["cat-5"].split == samples["cat-again"].split
    assert samples["cat-5"].group == samples["cat-again"].group == "cat-5"
    assert (samples["not_a_cat-0"].label, samples["cat-14"].width, samples["cat-0"].width) == ("not a cat", 64, 60)
    dataset = read_dataset(tmp_path / "data" / "set")
    assert (dataset.name, dataset.labels, dataset.counts) == ("set", ["cat", "not a cat"], summary["splits"])
    # what needs no change keeps its bytes
    kept = tmp_path / "data" / "set" / samples["cat-0"].split / "cat-0.jpg"
    assert kept.read_bytes() == (animals / "cat" / "0.jpg").read_bytes()
    assert not kept.samefile(animals / "cat" / "0.jpg")


def test_a_name_that_is_not_utf_8_is_a_name(tmp_path, animals):
    """Of a good image and of a spoilt one; two that look alike without their bytes have ids of their own."""
    for place, name in ((0, b"\xff.jpg"), (1, b"\xfe.jpg")):
        (animals / "cat" / f"{place}.jpg").rename(animals / "cat" / os.fsdecode(name))
    (animals / "cat" / os.fsdecode(b"spoilt\xff.jpg")).write_bytes(b"no image")
    summary, samples = run(tmp_path, params("folder", animals))
    assert (summary["kept"], summary["refused"]) == (30, 1)
    named = {(f"cat/{name}.jpg", "", "bad_name", "noted") for name in ("\\xff", "\\xfe", "spoilt\\xff")}
    assert ledger(tmp_path) == {("cat/spoilt\\xff.jpg", "", "unreadable", "refused"), *named}
    assert len([name for name in samples if name.startswith("cat-")]) == 15


def test_the_same_params_give_the_same_bytes(tmp_path, animals):
    for name in ("one", "two"):
        run(tmp_path, params("folder", animals), name)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert hashes(tmp_path / "reports" / "one") == hashes(tmp_path / "reports" / "two")


def test_too_many_problems_stop_it_and_are_reported(tmp_path, animals):
    run(tmp_path, params("folder", animals))
    for i in range(9):
        (animals / "cat" / f"{i}.jpg").write_bytes(b"")
    before = hashes(tmp_path / "data")
    with pytest.raises(InputError, match=r"datasets.set: 9 of 30 files have problems \(9 empty_file\).*ledger.csv"):
        run(tmp_path, params("folder", animals))
    assert len(ledger(tmp_path)) == 9
    assert hashes(tmp_path / "data") == before
    run(tmp_path, params("folder", animals, refuse_over=0.3))


def test_a_class_that_cannot_be_learnt(tmp_path, animals):
    (animals / "cow").mkdir()
    picture(animals / "cow" / "1.jpg", 500)
    _, samples = run(tmp_path, params("folder", animals))
    assert samples["cow-1"].split == "train"
    assert ledger(tmp_path) == {("", "cow", "few_images", "noted")}
    for folder in ("cat", "not a cat"):
        for file in sorted((animals / folder).iterdir()):
            split = "train" if file.stem.endswith(("1", "2")) else "test"
            (animals / split / folder).mkdir(parents=True, exist_ok=True)
            file.replace(animals / split / folder / file.name)
    shutil.copytree(animals / "cow", animals / "test" / "cow")
    for folder in ("cat", "not a cat", "cow"):
        shutil.rmtree(animals / folder)
    with pytest.raises(InputError, match=r"no image in train has cow; see .*ledger"):
        run(tmp_path, params("folder", animals))


def test_copies_of_test_pictures_leave_train(tmp_path):
    root = tmp_path / "animals"
    for i in range(12):
        for label in ("cat", "dog"):
            seed = 50 * (label == "dog") + i
            picture(root / ("test" if i < 4 else "train") / label / f"{i}.jpg", seed)
    picture(root / "train" / "cat" / "small.jpg", 2, size=(48, 32), quality=60)
    summary, samples = run(tmp_path, params("folder", root))
    assert ledger(tmp_path) == {("train/cat/small.jpg", "", "leak", "refused")}
    assert summary["splits"] == {"train": 12, "val": 4, "test": 8}
    assert all(s.split == "test" for i, s in samples.items() if i.startswith("test"))


def coco(root, count, size=(60, 40)):
    """`count` images of one cow each, and the annotations; returns both as rows to change."""
    for i in range(count):
        picture(root / "images" / f"{i}.jpg", i, size)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 60, "height": 40} for i in range(count)]
    rows = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [6, 4, 30, 20], "keypoints": [12, 8, 2, 0, 0, 0]}
        for i in range(count)
    ]
    return images, rows


def write_coco(root, images, rows):
    categories = [{"id": 1, "name": "cow", "keypoints": ["left_eye", "right_eye"], "skeleton": [[1, 2]]}]
    categories.append({"id": 2, "name": "yak"})
    (root / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": rows, "categories": categories})
    )


def test_boxes_and_landmarks(tmp_path):
    root = tmp_path / "herd"
    images, rows = coco(root, 20)
    rows[0]["bbox"] = [-9, 4, 30, 20]
    rows[1]["bbox"] = [6, 4, 0, 20]
    rows[2]["keypoints"] = [200, 8, 2, 12, 8, 1]
    rows[3]["image_id"] = 4
    picture(root / "images" / "5.jpg", 5, size=(600, 400))  # labelled small, stored large
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(root / "images" / "6.jpg", 6, exif=exif)  # labelled as stored, lying on its side
    picture(root / "images" / "7.jpg", 7, size=(40, 40))
    write_coco(root, images, rows)
    summary, samples = run(tmp_path, params("coco", root))
    assert ledger(tmp_path) == {
        ("images/0.jpg", "annotation 0", "box_clipped", "clipped"),
        ("images/1.jpg", "annotation 1", "box_zero_area", "dropped"),
        ("images/2.jpg", "annotation 2", "landmark_outside", "hidden"),
        ("images/4.jpg", "annotation 4", "box_duplicate", "dropped"),
        ("images/7.jpg", "", "size_mismatch", "refused"),
        ("", "", "unused_label", "noted"),
        ("", "", "left_empty", "noted"),
    }
    boxes = {i: [o.box for o in s.objects] for i, s in samples.items()}
    assert boxes["images-0"] == [pytest.approx((0, 0.1, 0.35, 0.5))]
    assert boxes["images-1"] == boxes["images-3"] == []
    assert boxes["images-5"] == boxes["images-8"] == [pytest.approx((0.1, 0.1, 0.5, 0.5))]
    assert boxes["images-6"] == [pytest.approx((0.4, 0.1, 0.5, 0.5))]
    assert (samples["images-6"].width, samples["images-6"].height) == (40, 60)
    assert (samples["images-5"].width, samples["images-5"].height) == (64, 43)
    points = [[p.x, p.y, p.visibility] for p in samples["images-6"].objects[0].landmarks]
    assert points == [pytest.approx([0.8, 0.2, 2]), [0, 0, 0]]
    dataset = read_dataset(tmp_path / "data" / "set")
    assert (dataset.labels, dataset.landmarks, dataset.pairs, dataset.skeleton) == (
        ["cow"],
        ["left_eye", "right_eye"],
        [(0, 1)],
        [(0, 1)],
    )
    assert summary["labels"]["train"] == {"cow": sum(len(s.objects) for s in samples.values() if s.split == "train")}


def test_landmarks_without_boxes(tmp_path):
    root = tmp_path / "faces"
    lines = ["name,nose_x,nose_y,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    for i in range(20):
        picture(root / f"{i}.jpg", i)  # 60 x 40
        lines.append(f"{i}.jpg,30,20,36,10,24,10")
    lines[2] = "1.jpg,30,20,36,10"
    lines[3] = "2.jpg,30,20,66,10,24,10"  # an eye is where the image is not
    lines[4] = "3.jpg,30,20,30,20,30,20"  # on one spot: there is no box
    lines[5] = "4.jpg,30,20,36,10,nan,10"
    (root / "points.csv").write_text("\n".join(lines))
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(root / "5.jpg", 5, size=(40, 60), exif=exif)  # labelled as it is seen, 60 x 40
    summary, samples = run(tmp_path, params("landmarks_csv", root))
    assert ledger(tmp_path) == {
        ("1.jpg", "points.csv:3", "bad_landmarks", "refused"),
        ("2.jpg", "points.csv:4", "landmark_outside", "hidden"),
        ("3.jpg", "points.csv:5", "box_zero_area", "dropped"),
        ("4.jpg", "points.csv:6", "landmark_not_finite", "hidden"),
        ("", "", "left_empty", "noted"),
    }
    assert (summary["seen"], summary["kept"], summary["refused"]) == (20, 19, 1)
    (o,) = samples["0"].objects
    assert (o.label, o.box) == ("face", pytest.approx((0.4, 0.25, 0.2, 0.25)))
    assert [(p.x, p.y, p.visibility) for p in o.landmarks] == [(0.5, 0.5, 2), (0.6, 0.25, 2), (0.4, 0.25, 2)]
    assert samples["5"].objects == samples["0"].objects
    assert samples["2"].objects[0].box == pytest.approx((0.4, 0.25, 0.1, 0.25))  # around the other two
    assert [p.visibility for p in samples["2"].objects[0].landmarks] == [2, 0, 2]
    assert samples["4"].objects[0].box == pytest.approx((0.5, 0.25, 0.1, 0.25))
    dataset = read_dataset(tmp_path / "data" / "set")
    assert (dataset.labels, dataset.landmarks) == (["face"], ["nose", "left_eye", "right_eye"])
    assert dataset.pairs == [(1, 2)]


def clip(path, seed, count=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    scene = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((96, 72), Image.Resampling.BICUBIC)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 96, 72, "yuvj420p"
        for i in range(count):
            container.mux(stream.encode(av.VideoFrame.from_image(scene.rotate(2 * i))))
        container.mux(stream.encode(None))


def test_clips(tmp_path):
    root = tmp_path / "clips"
    names = [f"v_{label}_g{g:02d}_c{c:02d}" for label in ("Run", "Hop") for g in range(1, 6) for c in (1, 2)]
    for seed, name in enumerate(names):
        clip(root / name.split("_")[1] / f"{name}.avi", seed // 2)
    (root / "Run" / "v_Run_g03_c02.avi").write_bytes(b"RIFF")
    lists = root / "ucfTrainTestlist"
    lists.mkdir()
    for stem, groups in (("trainlist01", "2345"), ("testlist01", "1")):
        lines = [f"{n.split('_')[1]}/{n}.avi" for n in names if n.split("_")[2][2] in groups]
        (lists / f"{stem}.txt").write_text("\r\n".join(lines))
    options = {"split": 1, "frames": 4, "classes": []}
    summary, samples = run(tmp_path, params("ucf101", root, options=options))
    assert ledger(tmp_path) == {("Run/v_Run_g03_c02.avi", "", "unreadable_clip", "refused")}
    assert (summary["files"], summary["seen"], summary["kept"]) == (20, 77, 76)
    assert summary["splits"]["test"] == 16
    assert summary["splits"]["val"] in (12, 14, 16)
    sides = {(s.group, s.split) for s in samples.values()}
    assert len(sides) == len({group for group, _ in sides}) == 5
    assert Counter(s.clip for s in samples.values())["v_Hop_g01_c01"] == 4
    assert samples["v_Hop_g01_c01-00001"].width == 64


def test_boxes_on_clips(tmp_path):
    """Frames are taken of the labelled part alone; a box lies on the frame that it was drawn on."""
    root, tracks = tmp_path / "clips", {}
    for g in range(1, 7):
        for number, label in enumerate(("Run", "Hop", "Sit")):
            name = f"v_{label}_g{g:02d}_c01"
            clip(root / label / f"{name}.avi", g * 10 + number)
            if label != "Sit":
                boxes = [[4.0 * i, 9, 12, 18] for i in range(6)]
                tracks[name] = {"tracks": [{"start_frame": 5, "end_frame": 11, "boxes_xywh": boxes}]}
    tracks["v_Run_g02_c01"]["tracks"].append({"start_frame": 9, "end_frame": 40, "boxes_xywh": [[48, 36, 96, 36]] * 31})
    tracks["v_Run_g03_c01"]["tracks"].append({"start_frame": 0, "end_frame": 9, "boxes_xywh": [[1, 2, 3, 4]]})
    tracks["v_Hop_g04_c01"]["tracks"] = []
    del tracks["v_Hop_g05_c01"]
    tracks["v_Run_g09_c01"] = {"tracks": []}
    (tmp_path / "boxes.json").write_text(json.dumps(tracks))
    options = {"split": 1, "frames": 3, "label": "person"}
    summary, samples = run(tmp_path, params("ucf24", root, tmp_path / "boxes.json", options, refuse_over=0.5))
    assert {(file, key, rule, done) for file, key, rule, done in ledger(tmp_path)} == {
        ("boxes.json", "", "no_label", "noted"),  # no clip of Sit
        ("boxes.json", "", "not_here", "noted"),
        ("ucfTrainTestlist", "", "no_lists", "noted"),
        ("Run/v_Run_g03_c01.avi", "track 1", "bad_box", "dropped"),
        ("Run/v_Run_g02_c01.avi", "frame 10, box 1", "box_clipped", "clipped"),
        ("Run/v_Run_g02_c01.avi", "", "damaged_clip", "noted"),  # labels go on behind its 12 frames
        ("Hop/v_Hop_g04_c01.avi", "", "no_label", "refused"),
        ("Hop/v_Hop_g05_c01.avi", "", "no_label", "refused"),
    }
    assert read_dataset(tmp_path / "data" / "set").labels == ["person"]
    assert (summary["kept"], summary["refused"]) == (30, 2)
    places = sorted(i for i in samples if i.startswith("v_Run_g01"))
    assert places == [f"v_Run_g01_c01-{p:05d}" for p in (6, 8, 10)]
    for place in (6, 8, 10):
        sample = samples[f"v_Run_g01_c01-{place:05d}"]
        assert (sample.label, sample.group, sample.clip) == (None, "g01", "v_Run_g01_c01")
        (o,) = sample.objects
        assert o.label == "person"
        assert o.box == pytest.approx((4 * (place - 5) / 96, 9 / 72, 12 / 96, 18 / 72))
    near, far = samples["v_Run_g02_c01-00010"].objects
    assert near.box == pytest.approx((20 / 96, 9 / 72, 12 / 96, 0.25))
    assert far.box == pytest.approx((0.5, 0.5, 0.5, 0.5))


@pytest.mark.parametrize(
    ("form", "path", "labels", "error"),
    [
        ("folder", "nowhere", None, "datasets.set.path: .*nowhere: no such folder"),
        ("folder", "file.txt", None, "datasets.set.path: .*file.txt: not a folder"),
        ("coco", "empty", "nowhere.json", "datasets.set.labels: .*nowhere.json: no such file or folder"),
        ("folder", "empty", None, "no images in it or below"),
        ("coco", "empty", None, "no COCO JSON"),
        ("yolo", "empty", None, "no class names"),
        ("voc", "empty", None, r"no \.xml files"),
        ("pts", "empty", None, r"no \.pts files"),
        ("landmarks_csv", "empty", None, "no images in it or below"),
        ("ucf101", "empty", None, "no clips in class folders"),
    ],
)
def test_a_wrong_path_is_named(tmp_path, form, path, labels, error):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file.txt").touch()
    block = params(form, tmp_path / path, tmp_path / labels if labels else None)
    with pytest.raises(InputError, match=error):
        run(tmp_path, block)
    assert not (tmp_path / "data").exists()


@pytest.mark.real
@pytest.mark.parametrize(
    ("form", "path", "labels", "kept", "rules"),
    [
        ("folder", "alpaca", "alpaca", 385, {}),
        ("yolo", "alpaca", "alpaca-labels", 385, {"no_label": 1}),
        ("voc", "bccd", "bccd", 200, {"box_zero_area": 1, "not_read": 1}),
        ("ucf101", "ucf101", "ucf101", 72, {"not_here": 2, "damaged_clip": 1}),
    ],
)
def test_real_sets(tmp_path, form, path, labels, kept, rules):
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    root = Path(os.environ["POCKETLENS_REAL_DATA"])
    options = {"split": 1, "frames": 2, "classes": []} if form == "ucf101" else {}
    summary, _ = run(tmp_path, params(form, root / path, root / labels, options))
    assert (summary["kept"], summary["refused"], summary["by_rule"]) == (kept, 0, rules)
    assert summary["splits"]["val"] == pytest.approx(0.2 * (kept if form != "ucf101" else 48), abs=8)


@pytest.mark.real
def test_real_faces(tmp_path):
    if "POCKETLENS_REAL_DATA" not in os.environ:
        pytest.skip("POCKETLENS_REAL_DATA is not set")
    root = Path(os.environ["POCKETLENS_REAL_DATA"]) / "faces68"
    summary, samples = run(tmp_path, params("landmarks_csv", root))
    # other frames of the same shots are in both lists: those that look alike stay in test
    assert {(rule, done) for _, _, rule, done in ledger(tmp_path)} == {("leak", "refused"), ("not_read", "noted")}
    assert (summary["seen"], summary["kept"], summary["by_rule"]) == (120, 108, {"leak": 12, "not_read": 1})
    assert summary["splits"]["test"] == 30
    assert all(len(s.objects) == 1 and len(s.objects[0].landmarks) == 68 for s in samples.values())
    dataset = read_dataset(tmp_path / "data" / "set")
    assert (len(dataset.pairs), len(dataset.skeleton)) == (29, 63)


def test_the_crops_of_an_image_decode_it_once(tmp_path, monkeypatch):
    """By the number of times that its file is opened; a spoilt image has a row for each crop."""
    root = tmp_path / "herd"
    images, rows = coco(root, 12, size=(600, 400))
    rows += [{"id": 100 + i, "image_id": i, "category_id": 1, "bbox": [30, 4, 20, 30]} for i in range(12)]
    write_coco(root, images, rows)
    run(tmp_path, params("coco", root, max_side=600), "herd")
    owned = tmp_path / "herd" / "set"
    first = read_samples(owned / "train")[0]
    (owned / "train" / first.file_name).write_bytes(b"no image")
    options = {"margin": 0.1, "min_side": 32, "backgrounds": 2, "max_iou": 0.5, "seed": 0}
    reading = FORMATS["crops"].read(owned, owned, FORMATS["crops"].Options(**options))
    opened = []
    monkeypatch.setattr(take, "decode_image", lambda file, *_, **__: opened.append(file) or decode_image(file))
    grouped = take.by_file(reading.candidates)
    (tmp_path / "out").mkdir()
    taken = [one for row in grouped for one in take.take_all(row, tmp_path / "out", 64)]
    assert len(taken) == len(reading.candidates) > 30
    spoilt = [t.problems[0] for t in taken if not t.samples]
    assert {(p.file.split("#")[0], p.rule) for p in spoilt} == {(f"train/{first.file_name}", "unreadable")}
    assert len(opened) == 12 + len(spoilt) - 1  # what does not decode is tried again
    assert len(grouped) == 12


def test_a_class_of_clips_that_are_named_alike(tmp_path):
    """Clips of one name in two folders are two recordings: their groups are their paths."""
    for label in ("Run", "Hop", "Sit"):
        for i in range(4):
            clip(tmp_path / "clips" / label / f"{i}.avi", 1000 * i + ord(label[0]))
    options = {"split": 1, "frames": 2, "classes": []}
    _, samples = run(tmp_path, params("ucf101", tmp_path / "clips", options=options))
    assert len({s.group for s in samples.values()}) == 12


def test_the_contact_sheet_says_of_an_image_that_it_has_no_objects(tmp_path, monkeypatch):
    said = list[str]()

    def sheet(tiles, *_args):
        said.extend(text for _, text in tiles)
        return Image.new("RGB", (8, 8))

    monkeypatch.setattr("pipeline.datasets.ingest.report.contact_sheet", sheet)
    samples = [
        Sample("a", "a.jpg", 8, 8, "train", objects=[Object("cow", (0, 0, 1, 1))]),
        Sample("b", "b.jpg", 8, 8, "train"),
        Sample("c", "c.jpg", 8, 8, "train", label="cow"),
    ]
    for s in samples:
        (tmp_path / "train").mkdir(exist_ok=True)
        Image.new("RGB", (8, 8)).save(tmp_path / "train" / s.file_name)
    labels_sheet(tmp_path, samples, Dataset("d", ["cow"]))
    assert sorted(said) == ["train: a", "train: b\nno objects", "train: c"]

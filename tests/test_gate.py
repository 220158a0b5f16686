"""What stops `ingest`: files, images, objects or classes that were lost, each by its share, and said so."""

import pytest
from test_ingest import coco, ledger, params, picture, run, write_coco

from pipeline.core.errors import InputError

COUNT = 20


def two_labels(root):
    """A COCO set of 20 images with a cow each and a yak in every fourth."""
    images, rows = coco(root, COUNT)
    yaks = [{"id": 100 + i, "image_id": i, "category_id": 2, "bbox": [40, 20, 15, 15]} for i in range(0, COUNT, 4)]
    return images, rows, yaks


def test_annotations_that_fit_no_image_are_lost_objects(tmp_path):
    images, rows = coco(tmp_path, COUNT)
    for row in rows[::2]:
        row["image_id"] = f"number {row['image_id']}"
    write_coco(tmp_path, images, rows)
    with pytest.raises(InputError, match=r"10 of 20 objects are lost \(10 unknown_image\).*allows 20%.*ledger.csv"):
        run(tmp_path, params("coco", tmp_path))
    assert len(ledger(tmp_path)) == 11  # and a class without any
    run(tmp_path, params("coco", tmp_path, refuse_over=0.5), "data2")


def yolo(root, line):
    for i in range(COUNT):
        picture(root / f"{i}.jpg", i)
        (root / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.4\n" if i % 4 else line)
    (root / "classes.txt").write_text("cow\nyak")


@pytest.mark.parametrize(
    ("line", "rule"),
    [
        ("0 0.5 0.5 0.4 0.4 0.6 0.6\n", "bad_line"),
        ("7 0.5 0.5 0.4 0.4\n", "unknown_class"),
        ("0 320 240 100 80\n", "box_outside"),
        ("0 0.5 0.5 0 0.4\n", "box_zero_area"),
        ("0 0.5 0.5 nan 0.4\n", "box_not_finite"),
    ],
)
def test_an_image_whose_objects_are_all_dropped_is_no_background(tmp_path, line, rule):
    yolo(tmp_path, line)
    said = rf"5 of 20 labelled images are left without objects \(5 {rule}\); 5 of 20 objects are lost \(5 {rule}\)"
    with pytest.raises(InputError, match=said):
        run(tmp_path, params("yolo", tmp_path))
    run(tmp_path, params("yolo", tmp_path, refuse_over=0.25), "data2")


def test_many_objects_of_few_images(tmp_path):
    """3 of 20 images are within what is allowed; the objects on them are not."""
    yolo(tmp_path, "0 0.5 0.5 0.4 0.4\n")
    for i in range(3):
        (tmp_path / f"{i}.txt").write_text(
            "".join(f"9 0.5 0.5 0.{j} 0.4\n" for j in range(1, 6)) + "0 0.5 0.5 0.4 0.4\n"
        )
    with pytest.raises(InputError, match=r"set: 15 of 35 objects are lost \(15 unknown_class\); refuse_over"):
        run(tmp_path, params("yolo", tmp_path))


def test_a_class_that_loses_all_it_had(tmp_path):
    images, rows, yaks = two_labels(tmp_path)
    for yak in yaks:
        yak["bbox"] = [70, 50, 15, 15]  # outside of 60 x 40
    write_coco(tmp_path, images, [*rows, *yaks])
    with pytest.raises(InputError, match=r"1 of 2 classes are lost with all they had: yak \(5\); refuse_over"):
        run(tmp_path, params("coco", tmp_path, refuse_over=0.5))
    run(tmp_path, params("coco", tmp_path, refuse_over=1.0), "data2")


def test_a_class_whose_images_are_all_broken(tmp_path):
    for label in ("cat", "dog"):
        for i in range(COUNT):
            picture(tmp_path / "animals" / label / f"{i}.jpg", i + 100 * (label == "dog"))
    for i in range(2):
        (tmp_path / "animals" / "cow").mkdir(exist_ok=True)
        (tmp_path / "animals" / "cow" / f"{i}.jpg").write_bytes(b"no image")
    with pytest.raises(InputError, match=r"set: 1 of 3 classes are lost with all they had: cow \(2\)"):
        run(tmp_path, params("folder", tmp_path / "animals"))


def test_what_stands_twice_is_not_lost(tmp_path):
    yolo(tmp_path, "0 0.5 0.5 0.4 0.4\n" * 3)
    summary, _ = run(tmp_path, params("yolo", tmp_path))
    assert summary["by_rule"]["box_duplicate"] == 10
    assert summary["kept"] == COUNT


def test_rows_of_one_label_file_count_one_by_one(tmp_path):
    images, rows = coco(tmp_path, COUNT)
    images += [{"id": 100 + i, "width": 60, "height": 40} for i in range(15)]  # no file names
    write_coco(tmp_path, images, rows)
    with pytest.raises(InputError, match=r"15 of 35 files have problems \(15 bad_row\)"):
        run(tmp_path, params("coco", tmp_path))


def test_the_ledger_is_there_when_nothing_is_usable(tmp_path):
    images, rows = coco(tmp_path, 3)
    for image in images:
        image["file_name"] = f"gone/{image['id']}.png"
    write_coco(tmp_path, images, rows)
    said = r"nothing usable in .*: 3 missing_file; the first missing_file: gone/0\.png.*: .*; see .*ledger.csv"
    with pytest.raises(InputError, match=said):
        run(tmp_path, params("coco", tmp_path))
    assert {(file, rule) for file, _, rule, _ in ledger(tmp_path)} >= {
        (f"gone/{i}.png", "missing_file") for i in range(3)
    }
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(("refuse_over", "end"), [(0.2, "refuse_over allows 20%"), (1.0, "nothing is left of these")])
def test_an_image_is_named_when_all_are_refused(tmp_path, refuse_over, end):
    images, rows = coco(tmp_path, COUNT)
    for image in images[1:]:
        image["width"] = 90
    (tmp_path / "images" / "0.jpg").write_bytes(b"")
    write_coco(tmp_path, images, rows)
    first = r"; the first size_mismatch: images/1\.jpg: 60 x 40 pixels, labelled as 90 x 40"
    said = rf"20 of 20 files have problems \(19 size_mismatch, 1 empty_file\).*; {end}{first}; see .*ledger.csv"
    with pytest.raises(InputError, match=said):
        run(tmp_path, params("coco", tmp_path, refuse_over=refuse_over))


def test_the_ledger_is_there_when_nothing_is_left_for_train(tmp_path):
    for split in ("val", "test"):
        picture(tmp_path / "herd" / split / f"{split}.jpg", len(split))
        (tmp_path / "herd" / split / "spoilt.jpg").write_bytes(b"no image")
    (tmp_path / "herd" / "classes.txt").write_text("cow")
    with pytest.raises(InputError, match=r"images for test and val, none for train; see .*ledger.csv"):
        run(tmp_path, params("yolo", tmp_path / "herd"))
    assert {rule for _, _, rule, _ in ledger(tmp_path)} >= {"unreadable"}

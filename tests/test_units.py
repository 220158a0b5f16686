"""Labels in another unit or convention: the set is asked as a whole, and stops or is noted with the numbers."""

import json

import numpy as np
import pytest
from label_sets import SETS, Row, write_files
from PIL import Image
from test_ingest import clip, coco, ledger, params, picture, run, write_coco

from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object, Sample
from pipeline.datasets.formats import FORMATS

COUNT, SIZE = 24, (300, 240)
BOX = (40.0, 30.0, 200.0, 150.0)  # x, y, w, h in pixels


def write(root, form, box, options=None):
    """A set of this format whose labels have this box, x y w h as they are, on each image of 300 x 240 pixels."""
    x, y, w, h = box
    rows = ["image,a_x,a_y,b_x,b_y"]
    images = []
    for i in range(COUNT):
        picture(root / f"{i}.jpg", i, SIZE, **(options or {}))
        images.append({"id": i, "file_name": f"{i}.jpg", "width": SIZE[0], "height": SIZE[1]})
        rows.append(f"{i}.jpg,{x},{y},{x + w},{y + h}")
        if form == "yolo":
            (root / f"{i}.txt").write_text(f"0 {x + w / 2} {y + h / 2} {w} {h}")
        if form == "pts":
            points = f"{x + 1} {y + 1}\n{x + w + 1} {y + h + 1}"
            (root / f"{i}.pts").write_text(f"version: 1\nn_points: 2\n{{\n{points}\n}}")
        if form == "voc":
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True)
            box_of = "".join(f"<{tag}>{value}</{tag}>" for tag, value in corners)
            named = f"<object><name>cow</name><bndbox>{box_of}</bndbox></object>"
            (root / f"{i}.xml").write_text(f"<annotation>{named}</annotation>")
    if form == "yolo":
        (root / "classes.txt").write_text("cow")
    if form == "landmarks_csv":
        (root / "points.csv").write_text("\n".join(rows))
    if form == "coco":
        annotations = [{"id": i, "image_id": i, "category_id": 1, "bbox": list(box)} for i in range(COUNT)]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cow"}]}
        (root / "a.json").write_text(json.dumps(content))
    return params(form, root)


def scaled(x, y):
    return BOX[0] * x, BOX[1] * y, BOX[2] * x, BOX[3] * y


SHARES, PERCENT = scaled(1 / SIZE[0], 1 / SIZE[1]), scaled(100 / SIZE[0], 100 / SIZE[1])
PIXELS = ("coco", "voc", "pts", "landmarks_csv")


@pytest.mark.parametrize("form", [*PIXELS, "yolo"])
def test_labels_in_the_format_s_own_unit_pass(tmp_path, form):
    summary, _ = run(tmp_path, write(tmp_path, form, SHARES if form == "yolo" else BOX))
    assert summary["kept"] == COUNT
    assert "other_unit" not in summary["by_rule"]


@pytest.mark.parametrize(
    ("form", "box", "found"),
    [
        *((form, SHARES, "all 24 boxes are below two pixels, such as .* px in 0.jpg .300.*shares") for form in PIXELS),
        *((form, PERCENT, "all 24 boxes lie in the first 100 pixels of images of 200.*percent") for form in PIXELS),
        ("yolo", BOX, "24 of 24 boxes reach over the edge or lie outside, such as .*in another unit"),
        ("yolo", PERCENT, "24 of 24 boxes reach over the edge or lie outside"),
        ("yolo", tuple(v / 300 for v in SHARES), "all 24 boxes are below two pixels"),
        ("coco", (140, 130, 290, 230), "24 of 24 boxes reach over the edge .*corners for a corner and a size"),
    ],
)  # fmt: skip
def test_another_unit_stops_it_and_can_be_allowed(tmp_path, form, box, found):
    block = write(tmp_path, form, box)
    with pytest.raises(InputError, match=rf"datasets.set: {found}.*other_units: note; see .*ledger.csv"):
        run(tmp_path, block)
    assert ("", "", "other_unit", "noted") in ledger(tmp_path)
    if form == "coco":
        run(tmp_path, block.model_copy(update={"other_units": "note"}), "allowed")


OTHERS = {
    "cvat": {SHARES: "below two pixels", PERCENT: "percent for pixels"},
    "labelme": {SHARES: "below two pixels", PERCENT: "percent for pixels"},
    "imagefolder": {SHARES: "below two pixels", PERCENT: "percent for pixels"},
    "deeplabcut": {SHARES: "below two pixels", PERCENT: "percent for pixels"},
    "label_studio": {scaled(SIZE[0] / 100, SIZE[1] / 100): "reach over the edge"},  # pixels for percent
    "open_images": {scaled(*SIZE): "reach over the edge"},  # pixels for shares
}


@pytest.mark.parametrize(("form", "box"), [(form, box) for form, boxes in OTHERS.items() for box in (BOX, *boxes)])
def test_so_it_is_in_the_formats_of_tools(tmp_path, form, box):
    x, y, w, h = box
    rows = [Row(f"{i}.jpg", SIZE, [(x, y, x + w, y + h)]) for i in range(COUNT)]
    exif = Image.Exif()
    exif[0x0112] = 6
    for i, row in enumerate(rows):
        if form == "deeplabcut":  # its other two landmarks lie where the maker puts them
            row.size = (10 * x, 10 * y)
        turned = {"exif": exif} if box == BOX and form in ("deeplabcut", "imagefolder") else {}
        picture(tmp_path / "herd" / row.name, i, SIZE, **turned)
    write_files(tmp_path / "herd", SETS[form](rows))
    options = {name: f.get_default(call_default_factory=True) for name, f in FORMATS[form].Options.model_fields.items()}
    block = params(form, tmp_path / "herd", options=options)
    if box == BOX:
        rules = run(tmp_path, block)[0]["by_rule"]
        assert "other_unit" not in rules
        assert rules.get("turned_unsized", 0) == (form in ("deeplabcut", "imagefolder"))
        return
    with pytest.raises(InputError, match=OTHERS[form][box]):
        run(tmp_path, block)


def test_one_small_box_is_a_small_box(tmp_path):
    images, rows = coco(tmp_path, 20)
    rows[0]["bbox"] = [5, 5, 1, 1]
    write_coco(tmp_path, images, rows)
    assert "other_unit" not in run(tmp_path, params("coco", tmp_path))[0]["by_rule"]


@pytest.mark.parametrize("unset", ["0,0", "-1,-1", "-1.0,-1.0", "0.0,0"])
def test_a_landmark_that_nobody_set_is_not_labelled_and_no_corner_of_the_box(tmp_path, unset):
    rows = ["image,left_eye_x,left_eye_y,right_eye_x,right_eye_y,nose_x,nose_y"]
    for i in range(20):
        picture(tmp_path / f"{i}.jpg", i)
        rows.append(f"{i}.jpg,{20 + i},10,{unset if i % 4 == 0 else f'{30 + i},10'},{25 + i},30")
    picture(tmp_path / "20.jpg", 20)
    rows.append(f"20.jpg,{unset},{unset},{unset}")
    (tmp_path / "points.csv").write_text("\n".join(rows))
    _, samples = run(tmp_path, params("landmarks_csv", tmp_path))
    (o,) = samples["4"].objects
    assert [p.visibility for p in o.landmarks] == [2, 0, 2]
    assert o.box == pytest.approx((24 / 60, 10 / 40, 5 / 60, 20 / 40))
    assert [p.visibility for p in samples["5"].objects[0].landmarks] == [2, 2, 2]
    assert samples["20"].objects == []
    assert {row for row in ledger(tmp_path) if row[2] == "landmark_unset"} == {
        (f"{i}.jpg", f"points.csv:{i + 2}", "landmark_unset", "hidden") for i in range(0, 20, 4)
    }


@pytest.mark.parametrize("unset", ["0 0", "-1 -1"])
def test_so_it_is_in_pts_whose_pixels_count_from_1(tmp_path, unset):
    for i in range(12):
        picture(tmp_path / f"{i}.jpg", i)
        points = f"{11 + i} 11\n{unset if i == 3 else '31 11'}\n{16 + i} 31"
        (tmp_path / f"{i}.pts").write_text(f"version: 1\nn_points: 3\n{{\n{points}\n}}")
    _, samples = run(tmp_path, params("pts", tmp_path))
    (o,) = samples["3"].objects
    assert [p.visibility for p in o.landmarks] == [2, 0, 2]
    assert o.box == pytest.approx((13 / 60, 10 / 40, 5 / 60, 20 / 40))


@pytest.mark.parametrize("orientation", [1, 6])
def test_so_it_is_in_coco_before_the_image_is_turned(tmp_path, orientation):
    images, rows = coco(tmp_path, 20)
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture(tmp_path / "images" / "7.jpg", 7, exif=exif)
    rows[7]["keypoints"] = [0, 0, 2, 12, 8, 2]
    write_coco(tmp_path, images, rows)
    _, samples = run(tmp_path, params("coco", tmp_path))
    assert [p.visibility for p in samples["images-7"].objects[0].landmarks] == [0, 2]
    assert ("images/7.jpg", "annotation 7", "landmark_unset", "hidden") in ledger(tmp_path)


def test_the_box_of_landmarks_is_that_of_those_that_are_kept(tmp_path):
    rows = ["image,nose_x,nose_y,left_eye_x,left_eye_y,right_eye_x,right_eye_y"]
    for i in range(12):
        picture(tmp_path / f"{i}.jpg", i)  # 60 x 40
        rows.append(f"{i}.jpg,30,{20 + i / 2},{66 if i == 2 else 36},10,24,10")
    (tmp_path / "points.csv").write_text("\n".join(rows))
    _, samples = run(tmp_path, params("landmarks_csv", tmp_path))
    assert samples["2"].objects[0].box == pytest.approx((24 / 60, 10 / 40, 6 / 60, 11 / 40))
    assert ("2.jpg", "points.csv:4", "landmark_outside", "hidden") in ledger(tmp_path)
    assert ("", "left_eye", "landmark_same_spot", "noted") in ledger(tmp_path)


@pytest.mark.parametrize("form", ["coco", "yolo"])
def test_landmarks_of_which_none_counts_as_labelled(tmp_path, form):
    if form == "coco":
        images, rows = coco(tmp_path, 20)
        for row in rows:
            row["keypoints"] = [12, 8, 0, 20, 8, 0]
        write_coco(tmp_path, images, rows)
    else:
        for i in range(20):
            picture(tmp_path / f"{i}.jpg", i)
            (tmp_path / f"{i}.txt").write_text("0 0.5 0.5 0.4 0.4 0.4 0.4 0 0.6 0.4 0")
        (tmp_path / "data.yaml").write_text("names: [cow]\nkpt_shape: [2, 3]\n")
    with pytest.raises(InputError, match=r"none of 40 landmarks that have a place counts as labelled.*expected 1"):
        run(tmp_path, params(form, tmp_path))


def test_so_are_those_of_an_ingested_form(tmp_path):
    landmark = Landmark(0.2, 0.2, 0)
    (tmp_path / "train").mkdir()
    samples = [
        Sample(f"{i}", f"{i}.jpg", *SIZE, objects=[Object("cow", (0.1, 0.1, 0.5, 0.5), [landmark])]) for i in range(5)
    ]
    for i, s in enumerate(samples):
        picture(tmp_path / "train" / s.file_name, i, SIZE)
    (tmp_path / "train" / "metadata.jsonl").write_text("\n".join(s.to_line() for s in samples))
    reading = FORMATS["imagefolder"].read(tmp_path, tmp_path, FORMATS["imagefolder"].Options())
    assert reading.unseen == 5


@pytest.mark.parametrize(("most", "stops"), [(4095, True), (65535, False)])
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_twelve_bits_in_sixteen(tmp_path, most, stops, suffix):
    for i in range(24):
        file = tmp_path / "set" / ("a" if i % 2 else "b") / f"{i}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng(i).integers(0, most, (6, 8)).astype(np.uint16)
        Image.fromarray(np.kron(pixels, np.ones((6, 6), np.uint16))).save(file)
    block = params("folder", tmp_path / "set")
    if stops:
        with pytest.raises(InputError, match=r"24 of 24 images use a sixteenth of their range or less.*12 bits in 16"):
            run(tmp_path, block)
    else:
        run(tmp_path, block)


def test_labels_without_a_size_on_images_that_exif_turns(tmp_path):
    """Noted where they fit what is seen; they stop it where they fit what is stored."""
    exif = Image.Exif()
    exif[0x0112] = 6
    summary, _ = run(tmp_path, write(tmp_path / "seen", "landmarks_csv", (20, 20, 150, 200), {"exif": exif}))
    assert summary["by_rule"]["turned_unsized"] == 1
    block = write(tmp_path / "stored", "landmarks_csv", (20, 20, 250, 200), {"exif": exif})
    with pytest.raises(InputError, match="were they made for the images as they are stored"):
        run(tmp_path, block, "stored_out")
    summary, _ = run(tmp_path, write(tmp_path / "yolo", "yolo", SHARES, {"exif": exif}), "yolo_out")
    assert summary["by_rule"]["turned_unsized"] == 1
    summary, _ = run(tmp_path, write(tmp_path / "coco", "coco", BOX, {"exif": exif}), "coco_out")
    assert "turned_unsized" not in summary["by_rule"]


def test_boxes_on_clips_are_asked_too(tmp_path):
    """In pixels of the clip, each of its frames that is labelled."""
    tracks = {}
    for g in range(1, 7):
        clip(tmp_path / "clips" / "Run" / f"v_Run_g{g:02d}_c01.avi", g, count=4)
        clip(tmp_path / "clips" / "Hop" / f"v_Hop_g{g:02d}_c01.avi", 50 + g, count=4)
        track = {"start_frame": 0, "end_frame": 4, "boxes_xywh": [[0.1, 0.2, 0.5, 0.5]] * 4}
        tracks |= {f"v_{label}_g{g:02d}_c01": {"tracks": [track]} for label in ("Run", "Hop")}
    (tmp_path / "boxes.json").write_text(json.dumps(tracks))
    block = params("ucf24", tmp_path / "clips", tmp_path / "boxes.json", options={"frames": 2})
    with pytest.raises(InputError, match=r"all 48 boxes are below two pixels, such as .* \(96 x 72\).*shares"):
        run(tmp_path, block)
    run(tmp_path, block.model_copy(update={"other_units": "note"}), "noted")

"""Label layers: their file, and what `ingest` makes of them."""

import itertools
import json
import math
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw
from test_ingest import clip, hashes, params, picture, rows_of
from test_sample import objects

from pipeline.config.resolve import resolve
from pipeline.core.errors import InputError
from pipeline.core.image_file import open_image
from pipeline.core.layer import Statement, content_of, is_of, look_of, pixels_of, read_layer, write_layer
from pipeline.core.sample import SPLITS, Landmark, Object, read_dataset, read_samples
from pipeline.core.tables import of_cell
from pipeline.datasets.ingest.ingest import ingest
from pipeline.experiments.versions import difference, difference_text, open_version

words = st.text(max_size=5)
hexes = st.binary(min_size=1, max_size=8).map(bytes.hex)
statements = st.builds(
    Statement,
    id=st.text(min_size=1, max_size=5),
    pixels=hexes,
    look=hexes,
    state=st.just("labelled"),
    against=hexes,
    by=words,
    shown=words,
    seconds=st.none() | st.floats(0, 1e4),
    label=st.none() | st.text(min_size=1, max_size=5),
    objects=st.lists(objects, max_size=2),
)


@given(st.lists(statements, max_size=3, unique_by=lambda s: s.id))
def test_what_is_stated_is_read_again(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("layers") / "a.jsonl"
    write_layer(path, rows)
    assert read_layer(path) == sorted(rows, key=lambda s: s.id)


def test_a_black_image_is_not_taken_for_a_white_one():
    black, white = (Image.new("RGB", (240, 180), colour) for colour in ("black", "white"))
    statement = Statement("a", pixels_of(black), look_of(black), "empty", "", "ann")
    assert is_of(statement, black)
    assert not is_of(statement, white)


COW = {"id": "b", "pixels": "ab", "look": "0f", "state": "labelled", "against": "cd"}
A_BOX = {"label": "cow", "box": [0, 0, 1, 1]}
GOOD = Statement("a", "ab", "0f", "empty", "cd", "ann").to_json()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ([1], "expected a JSON object"),
        (GOOD | {"state": "done"}, "state 'done'; expected one of labelled, empty"),
        (GOOD | {"label": "cow"}, "a label or objects on an image that is empty"),
        (GOOD | {"colour": "red"}, "unknown key 'colour'"),
        (GOOD | {"look": "zz"}, "look 'zz'; expected hexadecimal digits"),
        (GOOD | {"seconds": 10**400}, "not a statement"),
        ({"id": "a", "state": "empty"}, "no pixels, look, against; expected id, pixels, look, state and against"),
        (GOOD | {"id": 7}, "found 7, expected a text"),
        (COW | {"label": ["cow"]}, "found ['cow'], expected a text"),
        (COW | {"objects": [{"label": 7, "box": [0, 0, 1, 1]}]}, "found 7, expected a text"),
        (COW | {"objects": [{"label": "cow", "box": [0, 0, "1", 1]}]}, "found '1', expected a finite number"),
        (COW | {"objects": [{"label": "cow", "box": [0, 0, math.nan, 1]}]}, "found nan, expected a finite number"),
        (COW | {"objects": [{"label": "cow", "box": [0, 0, 1]}]}, "objects[0]: box: found [0, 0, 1], expected [x, "),
        (COW | {"objects": [A_BOX | {"landmarks": [[0, 0, 7]]}]}, "visibility 7; expected 0, 1 or 2"),
        (COW | {"objects": [A_BOX | {"landmarks": [[0, True, 1]]}]}, "found True, expected a finite number"),
        (COW | {"objects": "cow"}, "objects: found 'cow', expected a list"),
        (GOOD, "a second statement about 'a'"),
    ],
)
def test_a_line_that_is_no_statement_is_named(line, said, tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(line)}\n")
    with pytest.raises(InputError, match=r"a\.jsonl:2: ") as error:
        read_layer(path)
    assert said in str(error.value)


def shape(kind, at):
    image = Image.new("RGB", (160, 120), "white")
    getattr(ImageDraw.Draw(image), kind)((at, 50, at + 12, 62), fill="red")
    return image


def test_small_shapes_on_a_plain_ground_are_other_images():
    shapes = [shape(kind, at) for kind in ("ellipse", "rectangle") for at in range(0, 140, 16)]
    for first, other in itertools.permutations(shapes, 2):
        assert not is_of(Statement("a", pixels_of(first), look_of(first), "empty", "", "ann"), other)


def test_an_image_is_known_again_when_it_was_scaled_and_saved(tmp_path):
    image = Image.effect_mandelbrot((240, 180), (-2, -1, 1, 1), 40).convert("RGB")
    image.resize((120, 90), Image.Resampling.LANCZOS).save(tmp_path / "small.jpg", quality=80)
    statement = Statement("a", pixels_of(image), look_of(image), "empty", "", "ann")
    with Image.open(tmp_path / "small.jpg") as small:
        assert is_of(statement, small)
    assert not is_of(statement, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))


# --- laid over a dataset by ingest


class Set:
    """A small dataset in a folder of its own, and what `ingest` last made of it."""

    def __init__(self, root, form):
        self.root, self.form, self.layers, self.more = root, form, [], {"refuse_over": 0.05}
        self.source = root / ("labels" if form == "coco" else "images")

    def ingest(self, *layers, **more):
        block = params(self.form, self.root / "images", self.source, layers=list(layers), **{**self.more, **more})
        out, reports, record = self.root / "data", self.root / "reports/data", self.root / "splits.csv"
        self.summary = ingest("herd", block, out, reports, record, self.root / "layers")
        self.samples = {s.id: s for split in SPLITS for s in self.of(split)}
        self.rows = [(row["file"], row["rule"], row["done"]) for row in rows_of(self.root)]
        self.found = [of_cell(row["found"]) for row in rows_of(self.root) if row["key"].startswith("round")]
        return self

    def of(self, split):
        return [replace(s, split=split) for s in read_samples(self.root / "data" / split)]

    def image(self, i):
        return open_image(self.root / "data" / self.samples[i].split / self.samples[i].file_name)

    def say(self, i, state="labelled", by="ann", **answer):
        image, against = self.image(i), content_of(self.samples[i])
        return Statement(i, pixels_of(image), look_of(image), state, against, by, **answer)

    def write(self, layer, *statements):
        write_layer(self.root / "layers/herd" / f"{layer}.jsonl", statements)

    def splits(self):
        return {i: s.split for i, s in self.samples.items()}

    def train(self, count):
        return sorted(i for i, split in self.splits().items() if split == "train")[:count]

    def changed(self, before):
        return {i for i, s in self.samples.items() if content_of(s) != content_of(before[i])}


def coco(root, count=16, size=(60, 40)):
    """Images of one cow or goat each, with two landmarks, and a class that no image has."""
    images, boxes = [], []
    for i in range(count):
        picture(root / f"images/{i:02}.png", i, size, "PNG")
        images.append({"id": i, "file_name": f"{i:02}.png", "width": size[0], "height": size[1]})
        points = [10 + i, 12, 2, 20 + i, 14, 1]
        boxes.append({"id": i, "image_id": i, "category_id": i % 2, "bbox": [5 + i, 6, 30, 20], "keypoints": points})
    named = {"keypoints": ["nose", "tail"]}
    categories = [{"id": i, "name": name, **named} for i, name in enumerate(("cow", "goat", "yak"))]
    (root / "labels").mkdir()
    (root / "labels/herd.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )
    return Set(root, "coco")


@pytest.fixture
def herd(tmp_path):
    return coco(tmp_path).ingest()


@pytest.fixture
def classes(tmp_path):
    for i in range(16):
        picture(tmp_path / "images" / ("cow", "goat")[i % 2] / f"{i:02}.png", i, suffix="PNG")
    return Set(tmp_path, "folder").ingest()


def a_box(label="yak", x=0.25, points=2):
    return Object(label, (x, 0.25, 0.5, 0.5), [Landmark(0.5, 0.5, 1), Landmark(0.0, 0.0, 0)][:points])


def test_without_a_layer_nothing_speaks_of_them(herd):
    assert "layers" not in herd.summary
    assert "layers" not in read_dataset(herd.root / "data").source


def test_each_state_changes_what_it_says_and_nothing_else(herd):
    before, a, b, c, d, e, f = herd.samples, *herd.train(6)
    sheet = herd.root / "reports/data/contact_sheet.jpg"
    drawn = sheet.read_bytes()
    herd.write(
        "round1",
        herd.say(a, objects=[a_box(), a_box("cow", 0.1)]),
        herd.say(b, "empty"),
        herd.say(c, "excluded"),
        herd.say(d, "skipped"),
        herd.say(e, "untouched"),
        herd.say(f, objects=herd.samples[f].objects),
        replace(herd.say(f, "empty"), id="of another dataset"),
    )
    herd.ingest("round1")
    assert herd.samples[a].objects == [a_box(), a_box("cow", 0.1)]
    assert herd.samples[b].objects == []
    assert sheet.read_bytes() != drawn
    assert before.keys() - herd.samples.keys() == {c}
    assert herd.changed(before) == {a, b}
    assert herd.splits() == {i: s.split for i, s in before.items() if i != c}
    assert herd.summary["layers"]["round1"] == {
        "relabelled": 1, "emptied": 1, "excluded": 1, "unchanged": 1, "conflicts": 0, "not_there": 1,
        "skipped": 1, "untouched": 1,
    }  # fmt: skip
    assert [row for row in sorted(herd.rows) if row[1] != "few_images"] == [
        ("", "layer_not_there", "noted"),
        (f"{a}.png", "relabelled", "replaced"),
        (f"{b}.png", "emptied", "replaced"),
        (f"{c}.png", "excluded", "refused"),
    ]
    assert herd.found == [
        "1 statements about images that are not in the dataset: of another dataset",
        {"cow": "moved 1 cow, + 1 yak", "goat": "- 1 goat, + 1 cow, + 1 yak"}[before[a].objects[0].label] + ", by ann",
        f"- 1 {before[b].objects[0].label}, by ann",
        "left out, by ann",
    ]
    assert (herd.summary["seen"], herd.summary["kept"], herd.summary["refused"]) == (16, 15, 1)
    assert herd.summary["objects"] == {"seen": 16, "kept": 15, "dropped": 1}, "those of the source"
    assert sum(count.get("yak", 0) for count in herd.summary["labels"].values()) == 1
    assert read_dataset(herd.root / "data").labels == ["cow", "goat", "yak"], "the label has an image now"
    assert [*herd.summary["splits"].values()] == [len(herd.of(split)) for split in SPLITS]
    (layer,) = read_dataset(herd.root / "data").source["layers"].items()
    assert layer[0] == "round1"
    assert len(layer[1]) == 12


def test_a_class_renamed_and_a_tenth_emptied_moves_no_image(herd):
    before = herd.samples
    record = (herd.root / "splits.csv").read_bytes()
    cows = [i for i, s in sorted(before.items()) if s.objects[0].label == "cow"]
    renamed = [herd.say(i, objects=[replace(before[i].objects[0], label="yak")]) for i in cows]
    goats = [i for i in sorted(before) if i not in cows]
    herd.write("round1", *renamed, *(herd.say(i, "empty") for i in goats[:2]))
    (herd.root / "splits.csv").unlink()  # drawn anew, as elsewhere
    herd.ingest("round1")
    assert herd.splits() == {i: s.split for i, s in before.items()}
    assert (herd.root / "splits.csv").read_bytes() == record
    assert herd.changed(before) == {*cows, *goats[:2]}
    assert read_dataset(herd.root / "data").labels == ["goat", "yak"]
    assert [row for row in herd.rows if row[1] == "unused_label"] == [("", "unused_label", "noted")]


def test_the_ledger_of_two_versions_lists_a_round_image_by_image(herd):
    a, b, c = herd.train(3)
    shutil.copytree(herd.root / "data", herd.root / "before")
    herd.write("round1", herd.say(a, objects=[a_box()]), herd.say(b, "empty"), herd.say(c, "excluded"))
    herd.ingest("round1")
    with (
        open_version(str(herd.root / "before"), herd.root) as old,
        open_version(str(herd.root / "data"), herd.root) as new,
    ):
        found = difference(old, new)
    assert [change.id for change in found.changed] == [a, b]
    assert (found.removed, found.added, found.counts()["split"]) == ([c], [], 0)
    assert "\nlayers: none -> round1 (" in difference_text(found)


def test_labels_of_images(classes):
    before, a, b, c = classes.samples, *classes.train(3)
    other = {"cow": "goat", "goat": "cow"}[before[a].label]
    classes.write("round1", classes.say(a, by="", label=other), classes.say(b, "empty"), classes.say(c, "excluded"))
    classes.ingest("round1")
    assert classes.samples[a].label == other
    assert classes.changed(before) == {a}
    assert before.keys() - classes.samples.keys() == {c}
    assert f"{before[a].label} -> {other}" in classes.found
    (conflict,) = (found for found in classes.found if "round1.jsonl:" in found)
    assert "empty, by ann, but an image of a classifier has a label; expected another label, or excluded" in conflict


def test_the_second_layer_is_about_what_the_first_has_left(herd):
    a, b = herd.train(2)
    herd.write("round1", herd.say(a, objects=[a_box()]), herd.say(b, "empty"))
    stale = herd.say(b, objects=[a_box()], by="eve")
    herd.ingest("round1")
    herd.write("round2", herd.say(a, objects=[a_box("cow")], by="bob"), stale)
    herd.ingest("round1", "round2")
    assert herd.samples[a].objects == [a_box("cow")]
    assert herd.samples[b].objects == []
    assert "round2.jsonl:2: labelled, by eve, but its labels are others since; the source stays as it is" in " ".join(
        herd.found
    )
    herd.ingest("round2", "round1")
    assert [herd.summary["layers"][layer]["conflicts"] for layer in ("round2", "round1")] == [1, 1]
    assert herd.samples[b].objects == [a_box()]


def test_labels_that_the_source_has_changed_since_win(herd):
    a, b = herd.train(2)
    mended = replace(herd.samples[b].objects[0], label="yak")
    herd.write("round1", herd.say(a, "empty"), herd.say(b, objects=[mended]))
    file = herd.root / "labels/herd.json"
    source = json.loads(file.read_text())
    for i in (a, b):
        source["annotations"][int(i)]["category_id"] = 2
    file.write_text(json.dumps(source))
    herd.ingest("round1")
    assert [herd.samples[i].objects[0].label for i in (a, b)] == ["yak", "yak"]
    counts = herd.summary["layers"]["round1"]
    assert (counts["conflicts"], counts["unchanged"]) == (1, 1), "the source says now what the layer said"
    assert [row for row in herd.rows if row[1] == "layer_conflict"] == [(f"{a}.png", "layer_conflict", "noted")]


def test_another_image_under_the_same_name_is_not_relabelled(herd):
    a, b = herd.train(2)
    herd.write("round1", herd.say(a, "empty"), herd.say(b, "empty"))
    picture(herd.root / f"images/{a}.png", 77, suffix="PNG")
    herd.ingest("round1")
    assert [len(herd.samples[i].objects) for i in (a, b)] == [1, 0]
    assert any("but its pixels are others since" in found for found in herd.found)


def test_a_layer_holds_when_images_are_scaled_otherwise(tmp_path):
    herd = coco(tmp_path, size=(240, 160)).ingest(max_side=200)
    a, b = herd.train(2)
    herd.write("round1", herd.say(a, "empty"), herd.say(b, objects=[a_box()]))
    herd.ingest("round1", max_side=96)
    assert herd.samples[a].width == 96
    assert (herd.samples[a].objects, herd.samples[b].objects) == ([], [a_box()])


def test_objects_of_a_layer_are_held_to_the_rules_of_the_source(herd):
    (a,) = herd.train(1)
    over = replace(a_box(x=0.75), landmarks=[Landmark(1.5, 0.5, 2), Landmark(0.5, 0.5, 2)])
    herd.write("round1", herd.say(a, objects=[over, a_box(), a_box()]))
    herd.ingest("round1")
    first, second = herd.samples[a].objects
    assert (first.box, first.landmarks[0].visibility) == ((0.75, 0.25, 0.25, 0.5), 0)
    assert second == a_box()
    assert {row[1:] for row in herd.rows if row[0] == f"{a}.png"} == {
        ("relabelled", "replaced"), ("box_clipped", "clipped"), ("landmark_outside", "hidden"),
        ("box_duplicate", "dropped"),
    }  # fmt: skip
    assert herd.summary["objects"] == {"seen": 16, "kept": 16, "dropped": 0}


def test_an_image_that_one_layer_leaves_out_is_known_to_the_next(herd):
    a, b = herd.train(2)
    herd.write("round1", herd.say(a, "excluded"), herd.say(b, "excluded"))
    herd.write("round2", herd.say(a, "excluded"), herd.say(b, objects=[a_box()]))
    herd.ingest("round1", "round2")
    assert not {a, b} & herd.samples.keys()
    counts = herd.summary["layers"]["round2"]
    assert (counts["unchanged"], counts["conflicts"], counts["not_there"]) == (1, 1, 0)
    assert "labelled, by ann, but the layer round1 leaves the image out; " in " ".join(herd.found)


def test_an_answer_of_which_no_box_can_be_kept_does_not_empty_the_image(herd):
    a, *_ = herd.train(1)
    before = herd.samples
    herd.write("round1", herd.say(a, objects=[replace(a_box(), box=(1.5, 0.2, 0.2, 0.2))]))
    herd.ingest("round1")
    assert herd.changed(before) == set()
    assert herd.summary["layers"]["round1"]["conflicts"] == 1
    assert ("layer_conflict", "noted") in {row[1:] for row in herd.rows if row[0] == f"{a}.png"}


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"objects": [a_box("gaot")]}, "no label 'gaot' in the dataset; did you mean 'goat'?"),
        ({"objects": [a_box(points=1)]}, "yak with 1 landmarks; expected 2, absent ones with visibility 0, or none"),
        ({"objects": [a_box()], "label": "cow"}, "label 'cow'; expected objects and no label"),
        ({}, "labelled, and nothing is; expected the state empty"),
    ],
)
def test_what_the_dataset_cannot_have_is_an_error_with_its_line(herd, answer, said):
    a, b = herd.train(2)
    herd.write("round1", herd.say(a, "empty"), herd.say(b, **answer))
    made = hashes(herd.root / "data")
    with pytest.raises(InputError) as error:
        herd.ingest("round1")
    assert f"round1.jsonl:2: {b!r}: {said}" in str(error.value)
    assert hashes(herd.root / "data") == made


def test_frames_of_a_clip(tmp_path):
    for i in range(15):
        label = ("Walk", "Jump")[i % 2]
        clip(tmp_path / f"images/{label}/v_{label}_g{i:02}_c01.avi", i)
    walks = Set(tmp_path, "ucf101").ingest()
    before, (a, b) = walks.samples, walks.train(2)
    other = {"Walk": "Jump", "Jump": "Walk"}[before[a].label]
    walks.write("round1", walks.say(a, label=other), walks.say(b, "excluded"))
    walks.ingest("round1")
    assert walks.changed(before) == {a}
    assert before.keys() - walks.samples.keys() == {b}
    (row,) = (row for row in rows_of(tmp_path) if row["rule"] == "relabelled")
    assert row["file"].endswith(".avi")
    assert row["key"] == f"round1, {a}"
    assert walks.splits() == {i: s.split for i, s in before.items() if i != b}


def test_objects_are_no_labels_of_images(classes):
    (a,) = classes.train(1)
    classes.write("round1", classes.say(a, label="cow", objects=[a_box("cow", points=0)]))
    with pytest.raises(InputError, match="1 objects; expected none: the dataset has labels of images"):
        classes.ingest("round1")
    classes.write("round1", classes.say(a, objects=[a_box("cow", points=0)]))
    with pytest.raises(InputError, match="label None; expected a label"):
        classes.ingest("round1")


def test_images_left_out_on_purpose_are_not_lost(herd):
    herd.write("round1", *(herd.say(i, "excluded") for i in herd.train(4)))
    herd.ingest("round1")  # a quarter, where refuse_over allows a twentieth
    assert herd.summary["refused"] == 4


def test_a_layer_that_leaves_a_label_nowhere_in_train_stops_the_stage(herd):
    cows = [s.id for s in herd.of("train") if s.objects[0].label == "cow"]
    herd.write("round1", *(herd.say(i, "empty") for i in cows))
    with pytest.raises(InputError, match="no image in train has cow; see "):
        herd.ingest("round1")


# --- named in params.yaml


@pytest.fixture
def project(tmp_path):
    """params.yaml with a dataset that has a layer."""
    (tmp_path / "params.yaml").write_text("datasets: {herd: {format: coco, path: a, labels: a, layers: [round1]}}\n")
    write_layer(tmp_path / "labels/herd/round1.jsonl", [])
    return tmp_path


def test_the_hash_of_a_layer_is_in_its_datasets_block(project):
    def block():
        return resolve(project / "params.yaml")["datasets"]["herd"]

    before = block()
    write_layer(project / "labels/herd/round1.jsonl", [Statement("a", "ab", "0f", "empty", "cd", "ann")])
    now = block()
    assert [*before["ingest"]["layers_sha256"]] == [*now["ingest"]["layers_sha256"]] == before["ingest"]["layers"]
    assert before["ingest"] != now["ingest"]
    assert before["augment"] == now["augment"]


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("layers: [round2]", "datasets.herd.layers: round2: no such file: labels/herd/round2.jsonl"),
        ("layers: [round1], layers_sha256: {round1: ab}", "layers_sha256.round1: found ab; that of labels/herd/round1"),
        ("layers: [round1], layers_sha256: {round: ab}", "layers_sha256.round: no layer of that name; did you mean"),
        ("layers: [round1, round1]", "'round1' stands twice"),
        ("layers: [../round1]", "layers"),
    ],
)
def test_a_layer_that_is_not_there_is_named(project, layers, said):
    params = project / "params.yaml"
    params.write_text(params.read_text().replace("layers: [round1]", layers))
    with pytest.raises(InputError) as error:
        resolve(params)
    assert "params.yaml: datasets.herd" in str(error.value)
    assert said in str(error.value)


def test_a_layer_that_cannot_be_read_stops_before_ingest_and_its_data_stay(project):
    (project / "labels/herd/round1.jsonl").write_text('{"id": "a", "state": "empty"}\n')
    with pytest.raises(InputError, match=r"round1\.jsonl:1: .*no pixels, look, against"):
        resolve(project / "params.yaml")


def test_a_layer_that_has_changed_since_params_ran_is_refused(herd):
    herd.write("round1", herd.say(min(herd.samples), "skipped"))
    with pytest.raises(InputError, match=r"round1\.jsonl: sha256 .*layers_sha256.round1 is 00"):
        herd.ingest("round1", layers_sha256={"round1": "00"})

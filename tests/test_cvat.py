"""CVAT both ways: a dataset goes out as its XML, and what people did comes back as statements about the images."""

import json
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_layers import classes, herd  # noqa: F401 (fixtures)

from pipeline.annotation import cvat
from pipeline.annotation.outgoing import chosen, outgoing
from pipeline.annotation.project import project_of
from pipeline.annotation.snap import snap
from pipeline.cli import main
from pipeline.core.errors import InputError
from pipeline.core.layer import content_of, read_layer
from pipeline.core.sample import Landmark, Object
from pipeline.datasets.formats.cvat_shapes import Shapes
from pipeline.datasets.formats.cvat_write import skeletons_of
from pipeline.datasets.formats.drawn import Drawing, Drawn
from pipeline.datasets.formats.reading import Reading

OTHER = {"cow": "goat", "goat": "cow"}
SIDES = ("xtl", "ytl", "xbr", "ybr", "rotation")


class Task:
    """A task of CVAT that was made of what was sent: `images` by name, which people edit, and what it exports."""

    def __init__(self, made, ids=None):
        self.root = made.root
        self.project = project_of("data", made.root, made.root / "layers")
        samples = chosen(self.project.folder, "train", ids)
        self.rows, _ = outgoing(self.project.folder, samples, self.project.dataset, "", None, not_blind=False)
        cvat.send(made.root / "sent", self.project, self.rows)
        self.tree = ElementTree.parse(made.root / "sent/annotations.xml").getroot()
        ElementTree.SubElement(ElementTree.SubElement(self.tree.find("meta/task"), "assignee"), "username").text = "ann"
        self.images = {image.get("name"): image for image in self.tree.iter("image")}

    def first(self, count=1):
        return [self.images[name] for name in sorted(self.images)[:count]]

    def export(self, **options):
        """As CVAT writes: hundredths of a pixel, images numbered anew, a skeleton's points in any order."""
        for number, image in enumerate(sorted(self.tree.iter("image"), key=lambda i: i.get("name"), reverse=True)):
            image.set("id", str(number))
        for shape in self.tree.iter():
            for key in SIDES:
                if shape.get(key):
                    shape.set(key, f"{float(shape.get(key)):.2f}")
            if shape.get("points"):
                pairs = [pair.split(",") for pair in shape.get("points").split(";")]
                shape.set("points", ";".join(",".join(f"{float(v):.2f}" for v in pair) for pair in pairs))
            if shape.tag == "skeleton":
                shape[:] = list(shape)[::-1]
        file = self.root / "export.xml"
        ElementTree.ElementTree(self.tree).write(file, encoding="utf-8", xml_declaration=True)
        self.found = cvat.fetch(file, self.project, **options)
        self.rules = [(row.rule, row.done) for row in self.found.rows]
        return {s.id: s for s in self.found.statements}


def by_hand(shape, **changes):
    for key, value in {"source": "manual", **changes}.items():
        shape.set(key, str(value))


def add(parent, tag, **said):
    return ElementTree.SubElement(parent, tag, {key: str(value) for key, value in said.items()})


def test_what_goes_out_is_flat_and_in_its_order(herd):  # noqa: F811
    ids = herd.train(3)[::-1]
    task = Task(herd, ids)
    assert [*task.images] == [f"{i}.png" for i in ids]
    assert sorted(p.name for p in (herd.root / "sent/images").iterdir()) == sorted(task.images)
    assert "subset" not in task.first()[0].attrib
    with pytest.raises(InputError, match="sent: is there already; expected a new folder"):
        cvat.send(herd.root / "sent", task.project, task.rows)


def test_images_of_val_and_test_go_out_blind(herd):  # noqa: F811
    held_out = [s.id for s in herd.of("test")]
    task = Task(herd, [*herd.train(1), *held_out])
    assert [len(image) > 0 for image in task.images.values()] == [True, *(False for _ in held_out)]


@pytest.mark.parametrize("source", ["file", "auto", "manual", "semi-auto"])
def test_out_and_in_without_a_touch_is_no_change(herd, source):  # noqa: F811
    """A person who only looks into a shape makes it `manual`."""
    task, before = Task(herd), herd.samples
    for shape in task.tree.iter("box"):
        shape.set("source", source)
    said = task.export()
    assert task.found.rows == []
    by_person = source in cvat.BY_PEOPLE
    assert {s.state for s in said.values()} == {"labelled" if by_person else "untouched"}
    assert said.keys() == set(herd.train(None))
    herd.write("round1", *said.values())
    herd.ingest("round1")
    assert herd.changed(before) == set()
    assert herd.summary["layers"]["round1"]["unchanged" if by_person else "untouched"] == len(said)
    assert [row for row in herd.rows if row[1] == "relabelled"] == []


@st.composite
def drawn(draw):
    """Objects on an image of this size, no two of a label in one place."""
    size = draw(st.tuples(st.integers(20, 4000), st.integers(20, 4000)))
    share = st.floats(0, 1)
    objects = {}
    for _ in range(draw(st.integers(0, 5))):
        (x, to_x), (y, to_y) = (sorted(draw(st.tuples(share, share))) for _ in "xy")
        seen = draw(st.lists(st.tuples(share, share, st.integers(1, 2)) | st.none(), min_size=2, max_size=2))
        points = [Landmark(*p) if p else Landmark(0.0, 0.0, 0) for p in seen]
        label = draw(st.sampled_from("ab"))
        place = tuple(round(v * side, 0) for v, side in zip((x, y, to_x, to_y), size * 2, strict=True))
        objects[label, place] = Object(label, (x, y, to_x - x, to_y - y), points, draw(st.booleans()))
    return size, list(objects.values())


@given(drawn(), st.randoms())
def test_numbers_that_were_rounded_on_the_way_are_the_ones_that_were_sent(task, random):
    (width, height), sent = task

    def rounded(value, side):
        return float(f"{value * side:.2f}") / side

    back = []
    for o in sent:
        (x, y, w, h), known = o.box, [p for p in o.landmarks if p.visibility]
        left, top, right, bottom = (
            rounded(v, s) for v, s in zip((x, y, x + w, y + h), (width, height) * 2, strict=True)
        )
        points = [replace(p, x=rounded(p.x, width), y=rounded(p.y, height)) if p in known else p for p in o.landmarks]
        back.append(Object(o.label, (left, top, right - left, bottom - top), points))
    random.shuffle(back)
    assert snap(back, sent, sent, (cvat.NEAR / width, cvat.NEAR / height)) == (sent, len(sent))


def test_a_new_object_has_nothing_of_one_that_is_still_there():
    crowd = Object("cow", (0.0, 0.0, 0.5, 0.5), crowd=True)
    new = Object("cow", (0.0, 0.0, 0.2, 0.9))
    assert snap([new, replace(crowd, crowd=False)], [crowd], [crowd], (1e-3, 1e-3)) == ([crowd, new], 1)
    assert snap([new], [crowd], [crowd], (1e-3, 1e-3)) == ([replace(new, crowd=True)], 0)


def test_a_crowd_that_was_moved_is_a_crowd():
    crowd, calf = Object("cow", (0.1, 0.1, 0.5, 0.5), crowd=True), Object("cow", (0.2, 0.2, 0.3, 0.3))
    moved, other = replace(crowd, box=(0.12, 0.13, 0.49, 0.5), crowd=False), Object("goat", (0.15, 0.15, 0.4, 0.4))
    found, kept = snap([moved, other], [crowd, calf], [crowd, calf], (1e-3, 1e-3))
    assert (found, kept) == ([replace(moved, crowd=True), other], 0)
    away = replace(crowd, box=(0.6, 0.62, 0.3, 0.3), crowd=False)
    assert snap([away], [crowd], [crowd], (1e-3, 1e-3)) == ([away], 0)


def test_what_a_person_did_changes_that_image_and_that_number(herd):  # noqa: F811
    task, before = Task(herd), herd.samples
    moved, relabelled, emptied, added = task.first(4)
    by_hand(moved.find("box"), xbr=float(moved.find("box").get("xbr")) + 6)
    by_hand(relabelled.find("box"), label=OTHER[relabelled.find("box").get("label")])
    point = emptied.find("skeleton/points[@label='tail']")
    by_hand(point, outside="1")
    add(added, "box", label="goat", source="semi-auto", xtl=1, ytl=2, xbr=31, ybr=22)
    herd.write("round1", *task.export().values())
    herd.ingest("round1")
    a, b, c, d = herd.train(4)
    assert herd.changed(before) == {a, b, c, d}
    ((x, y, w, h),) = (o.box for o in before[a].objects)
    (now,) = herd.samples[a].objects
    assert (now.box[0], now.box[1], now.box[3], now.landmarks) == (x, y, h, before[a].objects[0].landmarks)
    assert now.box[2] == pytest.approx(w + 0.1, abs=1e-3)
    assert herd.samples[b].objects == [replace(before[b].objects[0], label=OTHER[before[b].objects[0].label])]
    assert [p.visibility for p in herd.samples[c].objects[0].landmarks] == [2, 0]
    assert herd.samples[c].objects[0].box == before[c].objects[0].box
    assert herd.samples[d].objects[0] == before[d].objects[0]
    assert herd.samples[d].objects[1].box == pytest.approx((1 / 60, 2 / 40, 0.5, 0.5))
    assert [p.visibility for p in herd.samples[d].objects[1].landmarks] == [0, 0]
    assert task.found.people["ann"].images == 4


@pytest.mark.parametrize("changed", ["box", "skeleton"])
def test_a_class_that_was_changed_of_a_box_or_its_skeleton_counts_for_both(herd, changed):  # noqa: F811
    task, a = Task(herd), herd.train(1)[0]
    (image,), (sent,) = task.first(), herd.samples[a].objects
    other, points = OTHER[sent.label], skeletons_of(task.project.dataset)
    by_hand(image.find(changed), label=other if changed == "box" else points[other])
    assert task.export()[a].objects == [replace(sent, label=other)]
    by_hand(image.find("box"), label=other)
    by_hand(image.find("skeleton"), label=points[other])
    assert task.export()[a].objects == [replace(sent, label=other)] and task.found.rows == []


def test_a_new_box_is_of_its_own_class_whatever_its_skeleton_is_of(herd):  # noqa: F811
    task, (a,) = Task(herd), herd.train(1)
    (image,) = task.first()
    image.remove(image.find("box"))
    image.find("skeleton").set("group_id", "9")
    for point in image.iter("points"):
        point.set("points", "1.5,2.5")
    sides = {"xtl": 1, "ytl": 2, "xbr": 2, "ybr": 3}
    label = OTHER[herd.samples[a].objects[0].label]
    add(image, "box", label=label, source="manual", group_id=9, **sides)
    assert [o.label for o in task.export()[a].objects] == [label]
    assert task.rules == [("class_unlike", "noted")]


def test_an_object_that_was_taken_out_is_gone(herd):  # noqa: F811
    a = herd.train(1)[0]
    two = replace(herd.samples[a], objects=[*herd.samples[a].objects, Object("yak", (0.1, 0.1, 0.2, 0.2))])
    task = Task(herd, [a])
    task.rows[0].sample = two
    cvat.send(herd.root / "again", task.project, task.rows)
    said = task.export(task="again")[a]  # with the first of the two only, which nobody has touched
    assert (said.state, said.objects, said.by) == ("labelled", herd.samples[a].objects, "ann")


def test_shapes_that_nobody_has_touched_are_nobodys_work(herd):  # noqa: F811
    task = Task(herd)
    (image,) = task.first()
    add(image, "box", label="goat", source="auto", xtl=1, ytl=2, xbr=31, ybr=22)
    assert {s.state for s in task.export().values()} == {"untouched"}
    assert task.rules == [("not_by_people", "dropped")]
    del image[-1].attrib["source"]  # as older versions write it
    by_old = [len(s.objects) for s in task.export().values() if s.state == "labelled"]
    image[-1].set("source", "auto")
    by_hand(image.find("box"))
    said = task.export()
    assert by_old == [len(s.objects) for s in said.values() if s.state == "labelled"] == [2]


def test_images_without_shapes_are_untouched_unless_that_is_said_to_mean_something(herd):  # noqa: F811
    task = Task(herd)
    half = task.first(5)
    for image in half:
        image[:] = []
    said = task.export()
    assert {s.state for s in said.values()} == {"untouched"}
    assert task.rules == [("no_shapes", "noted")] * 5
    said = task.export(empty_is_background=True, by="bob")
    assert {s.id for s in said.values() if s.state == "empty" and s.by == "bob"} == set(herd.train(5))
    assert [s.state for s in said.values()].count("untouched") == len(said) - 5


def test_an_image_is_known_by_its_name_and_size_only(herd):  # noqa: F811
    task, (a, b, c, d) = Task(herd), herd.train(4)
    of_a, of_b, of_c, of_d = task.first(4)
    for image in (of_a, of_b, of_c, of_d):
        by_hand(image.find("box"), label=OTHER[image.find("box").get("label")])
    of_a.set("name", f"{a}.jpg")  # another ending is another image
    of_b.set("width", "40")
    of_b.set("height", "60")
    of_c.set("name", f"images/{c}.png")  # of a folder that was uploaded
    task.tree.append(ElementTree.fromstring(ElementTree.tostring(of_d)))
    said = task.export()
    assert a not in said
    assert [said[i].state for i in (b, c, d)] == ["untouched", "labelled", "untouched"]
    assert sorted(task.rules) == [
        ("listed_twice", "refused"), ("not_there", "noted"), ("other_size", "refused"), ("unknown_image", "refused")
    ]  # fmt: skip


@pytest.mark.parametrize(("outside", "occluded", "visibility"), [(0, 0, 2), (0, 1, 1), (1, 0, 0), (1, 1, 0)])
def test_outside_is_absent_and_occluded_is_hidden(herd, outside, occluded, visibility):  # noqa: F811
    task, (a,) = Task(herd), herd.train(1)
    point = task.first()[0].find("skeleton/points[@label='nose']")
    by_hand(point, outside=outside, occluded=occluded)
    found = task.export()[a].objects[0].landmarks[0]
    x, y = (herd.samples[a].objects[0].landmarks[0].x, herd.samples[a].objects[0].landmarks[0].y)
    assert found == (Landmark(x, y, visibility) if visibility else Landmark(0.0, 0.0, 0))


def drawn_anew(image, **said):
    """The skeleton deleted and drawn again, with its points in the same places."""
    old = image.find("skeleton")
    image.remove(old)
    new = add(image, "skeleton", label=old.get("label"), source="manual", z_order=0, **said)
    new.extend(list(old))


def test_one_group_for_all_shapes_of_an_image_doubles_no_object():
    shapes, drawn = Shapes(), Drawn(Reading([], ["cow"], ["nose"]))
    for x in (0, 50):
        shapes.take(ElementTree.fromstring(f'<box xtl="{x}" ytl="0" xbr="{x + 40}" ybr="40"/>'), "box", "cow", "1")
    for x in (70, 20):
        nose = f'<skeleton><points label="nose" points="{x},10"/></skeleton>'
        shapes.take(ElementTree.fromstring(nose), "skeleton", "cow", "1")
    objects = drawn.objects_of(shapes.drawn(Drawing("1", (100, 100), ""), drawn))
    assert [(o.box[0], o.landmarks) for o in objects] == [(0, [Landmark(0.2, 0.1)]), (0.5, [Landmark(0.7, 0.1)])]


def test_one_group_for_all_shapes_keeps_a_skeleton_whose_box_has_another_class_now():
    shapes, drawn = Shapes(), Drawn(Reading([], ["cow", "goat"], ["nose"]))
    for x, label in ((0, "goat"), (50, "cow")):
        shapes.take(ElementTree.fromstring(f'<box xtl="{x}" ytl="0" xbr="{x + 40}" ybr="40"/>'), "box", label, "1")
        nose = f'<skeleton><points label="nose" points="{x + 20},10"/></skeleton>'
        shapes.take(ElementTree.fromstring(nose), "skeleton", "cow", "1")
    objects = drawn.objects_of(shapes.drawn(Drawing("1", (100, 100), ""), drawn))
    assert [(o.label, o.landmarks) for o in objects] == [("goat", [Landmark(0.2, 0.1)]), ("cow", [Landmark(0.7, 0.1)])]


def test_a_skeleton_keeps_its_box_by_group_or_else_by_place(herd):  # noqa: F811
    task, before, (a, b, c) = Task(herd), herd.samples, herd.train(3)
    grouped, placed, away = task.first(3)
    for key in ("xtl", "ytl"):
        by_hand(grouped.find("box"), **{key: 0})  # no landmark is out there
    drawn_anew(placed)
    drawn_anew(away)
    away.remove(away.find("box"))
    said = task.export()
    x, y, w, h = before[a].objects[0].box
    assert said[a].objects[0].box == pytest.approx((0, 0, x + w, y + h))
    assert said[b].objects == before[b].objects
    (hull,) = said[c].objects
    (nose, tail) = before[c].objects[0].landmarks
    assert hull.label == before[c].objects[0].label
    assert hull.box == pytest.approx((nose.x, nose.y, tail.x - nose.x, tail.y - nose.y), abs=1e-3)
    assert hull.landmarks == [nose, tail]
    assert task.rules == [("box_made", "noted")]


def test_shapes_that_are_no_answer_are_named(herd):  # noqa: F811
    task, (a, b, c) = Task(herd), herd.train(3)
    turned, strange, broken = task.first(3)
    by_hand(turned.find("box"), rotation=90)
    by_hand(strange.find("box"), label="zebra")
    add(broken, "polygon", label="cow", source="manual", points="1,2;3,4;5,6")
    add(broken, "box", label="cow", source="manual", xtl="nan", ytl=1, xbr=2, ybr=2)
    add(broken, "tag", label="cow", source="manual")
    said = task.export()
    x, y, w, h = (v * side for v, side in zip(herd.samples[a].objects[0].box, (60, 40) * 2, strict=True))
    middle = x + w / 2, y + h / 2
    turned_box = [v * side for v, side in zip(said[a].objects[0].box, (60, 40) * 2, strict=True)]
    assert turned_box == pytest.approx((middle[0] - h / 2, middle[1] - w / 2, h, w), abs=0.02)
    assert said[b].state == "untouched"
    assert said[c].objects == herd.samples[c].objects
    assert task.rules == [
        ("box_turned", "noted"), ("unknown_class", "refused"), ("other_shape", "dropped"), ("bad_box", "dropped"),
        ("not_read", "noted"),
    ]  # fmt: skip


def test_labels_of_images(classes):  # noqa: F811
    task, before, (a, b, c) = Task(classes), classes.samples, classes.train(3)
    same, other, none = task.first(3)
    by_hand(same.find("tag"))
    by_hand(other.find("tag"), label=OTHER[before[b].label])
    none[:] = []
    said = task.export(empty_is_background=True)
    assert (said[a].label, said[a].state) == (before[a].label, "labelled")
    assert (said[b].label, said[c].state) == (other.find("tag").get("label"), "untouched")
    add(other, "tag", label=before[b].label, source="manual")
    assert task.export()[b].state == "untouched"
    assert ("several_labels", "refused") in task.rules


def test_what_is_no_export_is_named(herd, tmp_path):  # noqa: F811
    task, file = Task(herd), tmp_path / "other.xml"
    for text, said in (
        ("<annotations><image", "not XML of CVAT to its end"),
        ("<annotations><version>1.1</version></annotations>", "no images of CVAT in it"),
        ("<annotation><image/></annotation>", "no images of CVAT in it"),
        ("<annotations><track/></annotations>", "has tracks; expected an export as 'CVAT for images 1.1'"),
        ("<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "not XML of CVAT"),
    ):
        file.write_text(text)
        with pytest.raises(InputError, match=said) as error:
            cvat.fetch(file, task.project)
        assert str(error.value).startswith(str(file))
    with pytest.raises(InputError, match=r"none\.xml: No such file"):
        cvat.fetch(tmp_path / "none.xml", task.project)
    cvat.listed(task.project, "sent").unlink()
    with pytest.raises(InputError, match="nothing is listed as sent"):
        cvat.fetch(tmp_path / "none.xml", task.project)


def test_a_statement_is_against_the_labels_of_the_dataset(herd):  # noqa: F811
    task, (a,) = Task(herd), herd.train(1)
    task.rows[0].shown, task.rows[0].sample = "herd 1a2b", replace(task.rows[0].sample, objects=[])
    cvat.send(herd.root / "again", task.project, task.rows)
    said = task.export(task="again")[a]
    assert (said.against, said.shown) == (content_of(herd.samples[a]), "herd 1a2b")


def test_an_old_export_is_about_what_was_sent_then(herd):  # noqa: F811
    task, (a, b) = Task(herd), herd.train(2)
    first = herd.samples[a].objects[0]
    by_hand(task.first()[0].find("box"))  # left as it was
    relabelled = herd.say(a, objects=[replace(first, label=OTHER[first.label])])
    herd.write("round1", relabelled)
    herd.ingest("round1")
    rows, _ = outgoing(
        task.project.folder, chosen(task.project.folder, "train", [a]), task.project.dataset, "", None, False
    )
    cvat.send(herd.root / "second", task.project, rows)
    with pytest.raises(
        InputError, match=f"'{a}' was sent in two tasks, and not alike; expected --task second or --task sent"
    ):
        task.export()
    said = task.export(task="sent")
    assert said[a].against == relabelled.against and said[a].objects == [first] and b in said
    herd.write("round2", said[a])
    herd.ingest("round1", "round2")
    assert herd.summary["layers"]["round2"]["conflicts"] == 1 and herd.samples[a].objects == relabelled.objects
    with pytest.raises(InputError, match=r"cvat-second\.jsonl lists another task of this name; expected another --out"):
        cvat.send(herd.root / "other/second", task.project, task.rows)


def test_the_commands_send_and_fetch(herd, monkeypatch, capsys):  # noqa: F811
    project, (a, b) = herd.root / "project", herd.train(2)
    (project / "data/ingested").mkdir(parents=True)
    (project / "data/ingested/herd").symlink_to(herd.root / "data")
    (project / "params.yaml").write_text("datasets: {herd: {format: coco, path: a, labels: a}}\n")
    (project / "ids.txt").write_text(f"{b}\n{a}\n")
    monkeypatch.chdir(project)
    main(["annotate", "herd", "--to", "cvat", "--out", "task", "--ids", "ids.txt"])
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "task: 2 images" and said[1].endswith("`pocketlens annotated herd --name LAYER --xml FILE`")
    labels = json.loads((project / "task/labels.json").read_text())
    assert [(label["name"], label["type"]) for label in labels] == [
        ("cow", "any"), ("goat", "any"), ("cow_points", "skeleton"), ("goat_points", "skeleton")
    ]  # fmt: skip
    assert [point["name"] for point in labels[2]["sublabels"]] == ["nose", "tail"]
    tree = ElementTree.parse(project / "task/annotations.xml")
    by_hand(tree.find("image/box"), xtl=0)
    tree.write(project / "export.xml")
    main(["annotated", "herd", "--name", "round1", "--xml", "export.xml", "--by", "ann"])
    assert "labels/herd/round1.jsonl: 1 labelled, 1 untouched\nann: 1 images" in capsys.readouterr().out
    assert [(s.id, s.by) for s in read_layer(project / "labels/herd/round1.jsonl") if s.state == "labelled"] == [
        (b, "ann")
    ]
    (project / "params.yaml").write_text("datasets: {herd: {format: coco, path: a, labels: a, layers: [round1]}}\n")
    for name, following in (
        ("round2", "`layers: [round1, round2]` under datasets.herd in params.yaml, then "),
        ("round1", ""),
    ):
        main(["annotated", "herd", "--name", name, "--xml", "export.xml"])
        assert capsys.readouterr().out.splitlines()[-1] == f"next: {following}`make repro`"
    for wrong in (["--to", "cvat"], ["--to", "label-studio", "--out", "task2"]):
        with pytest.raises(SystemExit):
            main(["annotate", "herd", *wrong])
        assert "--out" in capsys.readouterr().err

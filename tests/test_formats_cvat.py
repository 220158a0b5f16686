"""CVAT's XML of images and of a video: what its users draw, and what is read."""

from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_files import boxes, make, notes, read, rows

from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark
from pipeline.datasets.formats import detect_format
from pipeline.datasets.formats.reading import label_text

P = (100, 50)


def xml(*parts: str, labels: str = "") -> str:
    meta = f"<meta><task><labels>{labels}</labels></task></meta>" if labels else ""
    head = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'
    return f"{head}{meta}{''.join(parts)}</annotations>"


def image(name: str, *shapes: str, more: str = "") -> str:
    return f'<image id="0" name="{name}" width="100" height="50"{more}>{"".join(shapes)}</image>'


def box(xtl: Any, ytl: float, xbr: float, ybr: float, label: str = "cow", more: str = "") -> str:
    return f'<box label="{label}" occluded="0" xtl="{xtl}" ytl="{ytl}" xbr="{xbr}" ybr="{ybr}" {more}/>'


def tracked(frame: int, more: str = 'outside="0"') -> str:
    return f'<box frame="{frame}" keyframe="1" occluded="0" xtl="10" ytl="5" xbr="60" ybr="25" {more}/>'


NAMES = "".join(f"<label><name>{n}</name><type>any</type></label>" for n in ("dog", "cow"))
SVG = "&lt;line data-node-from='2' data-node-to='1'/&gt;" + "".join(
    f"&lt;circle data-node-id='{i}' data-label-name='{n}'/&gt;"
    for i, n in enumerate(("nose", "left_ear", "right_ear"), 1)
)
POSE = (
    "<label><name>cow</name><type>rectangle</type></label>"
    f"<label><name>cow_points</name><type>skeleton</type><svg>{SVG}</svg></label>"
    + "".join(f"<label><name>{n}</name><parent>cow_points</parent></label>" for n in ("nose", "left_ear", "right_ear"))
)


def skeleton(more: str = "", nose: str = "20,10") -> str:
    """Its points in another order than <meta>'s, as CVAT writes them."""
    return (
        f'<skeleton label="cow_points" {more}>'
        '<points label="right_ear" outside="1" occluded="0" points="0,0"/>'
        '<points label="left_ear" outside="0" occluded="1" points="30,20"/>'
        f'<points label="nose" outside="0" occluded="0" points="{nose}"/></skeleton>'
    )


def test_boxes_of_images_with_subsets_and_tags(tmp_path: Path) -> None:
    content = xml(
        image("a.jpg", box(10, 5, 60, 25), '<tag label="dog"/>', more=' subset="Train"'),
        image("cam/b.jpg", box(-7.5, 0, 50, 25, "dog"), more=' subset="Validation"'),
        image("c.jpg", more=' subset="Test"'),
        labels=NAMES + "<label><name>never</name><type>rectangle</type></label>",
    )
    files = {
        "annotations.xml": content,
        "images/Train/a.jpg": P,
        "images/Validation/cam/b.jpg": P,
        "images/Test/c.jpg": P,
    }
    assert detect_format(make(tmp_path, files))[0] == "cvat"
    reading = read("cvat", tmp_path)
    assert boxes(reading) == {
        "images/Test/c.jpg": [],
        "images/Train/a.jpg": [("cow", 0.1, 0.1, 0.5, 0.4)],
        "images/Validation/cam/b.jpg": [("dog", -0.075, 0.0, 0.575, 0.5)],
    }
    assert [c.split for c in reading.candidates] == ["test", "train", "val"]
    assert [c.label for c in reading.candidates] == [None] * 3
    assert reading.labels == ["dog", "cow", "never"]
    assert rows(reading) == []
    assert notes(reading) == {
        "no_label": "1 images without an object; taken as background",
        "not_read": "1 labels of images beside boxes; options.image_labels takes them instead",
    }


@pytest.mark.parametrize("degrees", ["30", "-330", "210.0"])
def test_a_box_is_turned_about_its_middle(tmp_path: Path, degrees: str) -> None:
    """half sides 20 and 10 about (50, 25): half as wide as 20 cos + 10 sin"""
    turned = box(30, 15, 70, 35, more=f'rotation="{degrees}"')
    reading = read("cvat", make(tmp_path, {"a.xml": xml(image("a.jpg", turned)), "a.jpg": P}))
    w, h = 10 * 3**0.5 + 5, 10 + 5 * 3**0.5
    expected = ((50 - w) / 100, (25 - h) / 50, w / 50, h / 25)
    assert reading.candidates[0].objects[0].box == pytest.approx(expected)
    assert notes(reading)["box_turned"].startswith("1 boxes")


@pytest.mark.parametrize(("degrees", "sides"), [(0, (40, 20)), (90, (20, 40)), (180, (40, 20)), (-90, (20, 40))])
def test_a_box_that_is_turned_to_be_upright_again(tmp_path: Path, degrees: int, sides: tuple[int, int]) -> None:
    turned = box(30, 15, 70, 35, more=f'rotation="{degrees}.00"')
    reading = read("cvat", make(tmp_path, {"a.xml": xml(image("a.jpg", turned)), "a.jpg": P}))
    w, h = sides
    assert reading.candidates[0].objects[0].box == pytest.approx((0.5 - w / 200, 0.5 - h / 100, w / 100, h / 50))


@pytest.mark.parametrize(
    ("shapes", "label", "box_", "note"),
    [
        ([box(10, 5, 60, 25, more='group_id="7"'), skeleton('group_id="7"')], "cow", (0.1, 0.1, 0.5, 0.4), None),
        # without a group the one box around it; a second box that is no cow's is not meant
        ([box(10, 5, 60, 25), skeleton()], "cow", (0.1, 0.1, 0.5, 0.4), None),
        # a box of another group, or one that it reaches out of, is not its own
        ([skeleton('group_id="7"')], "cow_points", (0.2, 0.2, 0.1, 0.2), "box_made"),
        ([skeleton()], "cow_points", (0.2, 0.2, 0.1, 0.2), "box_made"),
    ],
)
def test_a_skeleton_belongs_to_a_box(
    tmp_path: Path, shapes: list[str], label: str, box_: Any, note: str | None
) -> None:
    reading = read("cvat", make(tmp_path, {"a.xml": xml(image("a.jpg", *shapes), labels=POSE), "a.jpg": P}))
    assert (reading.landmarks, reading.pairs) == (["nose", "left_ear", "right_ear"], [(1, 2)])
    assert reading.skeleton == [(1, 0)]
    (thing,) = reading.candidates[0].objects
    assert (thing.label, thing.box) == (label, pytest.approx(box_))
    assert thing.landmarks == [Landmark(0.2, 0.2, 2), Landmark(0.3, 0.4, 1), Landmark(0, 0, 0)]
    assert (note in notes(reading)) == bool(note)


def test_a_skeleton_of_another_class_than_its_box_is_said(tmp_path: Path) -> None:
    dog = box(10, 5, 60, 25, label="dog", more='group_id="7"')
    files = {"a.xml": xml(image("a.jpg", dog, skeleton('group_id="7"')), labels=NAMES + POSE), "a.jpg": P}
    reading = read("cvat", make(tmp_path, files))
    assert [o.label for o in reading.candidates[0].objects] == ["dog"]
    assert notes(reading)["class_unlike"].startswith("1 skeletons of another class")


def test_a_skeleton_in_two_boxes_gets_its_own(tmp_path: Path) -> None:
    shapes = [box(10, 5, 60, 25), box(5, 5, 60, 30), skeleton()]
    reading = read("cvat", make(tmp_path, {"a.xml": xml(image("a.jpg", *shapes), labels=POSE), "a.jpg": P}))
    assert [o.label for o in reading.candidates[0].objects] == ["cow", "cow", "cow_points"]


def test_points_belong_to_the_box_of_their_group_or_the_only_one_around_them(tmp_path: Path) -> None:
    def point(at: str, label: str, more: str = "") -> str:
        return f'<points label="{label}" occluded="0" points="{at}" {more}/>'

    shapes = [
        box(10, 5, 60, 25, more='group_id="1"'),
        box(50, 5, 90, 45),
        point("95,2", "nose", 'group_id="1"'),
        point("80,40", "tail"),
        point("55,20", "tail"),  # in both boxes
        point("1,1;2,2", "tail"),
        point("80,30", "nose", 'group_id="9"'),
        point("70,30", "tail"),
    ]
    reading = read("cvat", make(tmp_path, {"a.xml": xml(image("a.jpg", *shapes)), "a.jpg": P}))
    assert reading.landmarks == ["nose", "tail"]
    first, second = reading.candidates[0].objects
    assert first.landmarks == [Landmark(0.95, 0.04), Landmark(0, 0, 0)]
    assert second.landmarks == [Landmark(0, 0, 0), Landmark(0.8, 0.8)]
    assert [r[1] for r in rows(reading)] == ["bad_landmarks", "loose_point", "loose_point", "landmark_twice"]


def test_tags_are_labels_where_no_box_is_drawn(tmp_path: Path) -> None:
    tag = '<tag label="{}"/>'.format
    images = [image("a.jpg", tag("dog")), image("b.jpg", tag("cow")), image("c.jpg", tag("dog"), tag("cow"))]
    make(tmp_path, {"a.xml": xml(*images, image("d.jpg"))} | {f"{n}.jpg": P for n in "abcd"})
    reading = read("cvat", tmp_path)
    assert {c.name: c.label for c in reading.candidates} == {"a.jpg": "dog", "b.jpg": "cow"}
    assert rows(reading) == [("c.jpg", "several_labels", "refused")]
    assert notes(reading) == {"no_label": "1 images without a label; left out"}


def test_tags_can_be_taken_instead_of_boxes(tmp_path: Path) -> None:
    content = xml(image("a.jpg", box(10, 5, 60, 25), '<tag label="dog"/>'))
    reading = read("cvat", make(tmp_path, {"a.xml": content, "a.jpg": P}), image_labels=True)
    assert [(c.label, c.objects) for c in reading.candidates] == [("dog", [])]
    assert notes(reading) == {"not_read": "1 boxes beside labels of images"}


@pytest.mark.parametrize(
    ("shape", "rule"),
    [
        ('<polygon label="cow" points="1,1;2,2;3,1"/>', "other_shape"),
        ('<ellipse label="cow" cx="5" cy="5" rx="2" ry="2"/>', "other_shape"),
        ('<mask label="cow" rle="1, 2" left="0" top="0" width="3" height="1"/>', "other_shape"),
        (box(1, 2, 3, 4, "sheep"), "unknown_class"),
        ('<box xtl="1" ytl="2" xbr="3" ybr="4"/>', "unknown_class"),
        ('<box label="cow" xtl="1" ytl="2" xbr="3"/>', "bad_box"),
        (box(1, 2, float("nan"), 4), "bad_box"),
        (box(1, 2, 3, 4, more='rotation="x"'), "bad_box"),
        ('<points label="cow" points="1"/>', "bad_landmarks"),
        ('<points label="cow" occluded="2" points="12,6"/>', "bad_landmarks"),
        ('<skeleton label="cow"><points label="nose" outside="yes" points="12,6"/></skeleton>', "bad_landmarks"),
        (box(1, 2, 3, 4, more='outside="2"'), "bad_row"),
        (box("1_0", 2, 30, 4), "bad_box"),
        ('<skeleton label="cow"><points outside="0" points="1,2"/></skeleton>', "bad_landmarks"),
    ],
)
def test_what_is_not_read_is_a_row(tmp_path: Path, shape: str, rule: str) -> None:
    content = xml(image("a.jpg", shape, box(10, 5, 60, 25)), labels=NAMES)
    reading = read("cvat", make(tmp_path, {"a.xml": content, "a.jpg": P}))
    assert rows(reading) == [("a.jpg", rule, "dropped")]
    assert len(reading.candidates[0].objects) == 1


@pytest.mark.parametrize("place", ["task", "job", "project"])
def test_labels_are_those_of_the_meta(tmp_path: Path, place: str) -> None:
    meta = f"<meta><{place}><labels>{NAMES}</labels></{place}><dumped>2026-01-02</dumped></meta>"
    content = xml(meta, image("a.jpg", box(10, 5, 60, 25), box(1, 2, 3, 4, "sheep")))
    reading = read("cvat", make(tmp_path, {"a.xml": content, "a.jpg": P}))
    assert (reading.labels, rows(reading)) == (["dog", "cow"], [("a.jpg", "unknown_class", "dropped")])


@given(st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], include_characters="\t\n"), min_size=1))
def test_labels_are_kept_but_for_their_form(tmp_path_factory: pytest.TempPathFactory, label: str) -> None:
    label = label.translate({0xFFFE: "x", 0xFFFF: "x"})  # XML has no such characters
    shape = f'<box label={quoteattr(label)} xtl="10" ytl="5" xbr="60" ybr="25"/>'
    named = f"<label><name>{escape(label)}</name></label>"
    root = make(tmp_path_factory.mktemp("labels"), {"a.jpg": P, "a.xml": xml(image("a.jpg", shape), labels=named)})
    assert read("cvat", root).labels == [label_text(label)]


def test_attributes_are_noted(tmp_path: Path) -> None:
    named = "<label><name>cow</name><attributes><attribute><name>age</name></attribute></attributes></label>"
    content = xml(image("a.jpg", box(10, 5, 60, 25)), labels=named)
    assert (
        notes(read("cvat", make(tmp_path, {"a.xml": content, "a.jpg": P})))["not_read"]
        == "1 labels with attributes in a.xml"
    )


# --- videos


def video(*tracks: str, meta: str = "") -> str:
    size = "<original_size><width>100</width><height>50</height></original_size>"
    return f"<annotations><version>1.1</version><meta><task>{meta}{size}</task></meta>{''.join(tracks)}</annotations>"


def track(number: int, *shapes: str, more: str = "") -> str:
    return f'<track id="{number}" label="cow" {more}>{"".join(shapes)}</track>'


def frames(numbers: Any, form: str = "images/frame_{:06d}.PNG") -> dict[str, Any]:
    return {form.format(n): P for n in numbers}


def test_three_tracks_with_gaps(tmp_path: Path) -> None:
    """outside is no object, an interpolated frame (keyframe="0") is one; a frame without an object is background"""
    inside, outside = 'outside="0"', 'outside="1"'
    content = video(
        track(0, tracked(0), tracked(1), tracked(2, outside)),
        track(
            1,
            tracked(1).replace('xtl="10"', 'xtl="20"'),
            tracked(2, outside),
            tracked(3).replace('xtl="10"', 'xtl="20"'),
        ),
        track(2, tracked(3).replace('keyframe="1"', 'keyframe="0"'), tracked(4, inside), tracked(5, outside)),
        meta="<start_frame>0</start_frame><stop_frame>5</stop_frame>",
    )
    make(tmp_path, {"annotations.xml": content, "images/poster.png": P} | frames(range(6)))
    assert detect_format(tmp_path)[0] == "cvat"
    reading = read("cvat", tmp_path)
    assert [len(c.objects) for c in reading.candidates] == [1, 2, 0, 2, 1, 0]
    assert [c.name for c in reading.candidates][-1] == "images/frame_000005.PNG"
    assert notes(reading)["not_listed"] == "1 images that no label file names; left out"


def test_frames_keep_their_numbers_where_some_are_left_out(tmp_path: Path) -> None:
    meta = "<start_frame>10</start_frame><stop_frame>25</stop_frame><frame_filter>step=5</frame_filter>"
    content = video(track(0, tracked(10), tracked(15), tracked(20, 'outside="1"')), meta=meta)
    reading = read("cvat", make(tmp_path, {"a.xml": content} | frames((10, 15, 20, 25), "walk_{}.jpg")))
    assert {c.name: len(c.objects) for c in reading.candidates} == {
        "walk_10.jpg": 1,
        "walk_15.jpg": 1,
        "walk_20.jpg": 0,
        "walk_25.jpg": 0,
    }


def test_each_video_has_the_frames_below_its_own_file(tmp_path: Path) -> None:
    one, two = video(track(0, tracked(0))), video(track(0, tracked(0), tracked(1)))
    files = {"one/a.xml": one, "two/a.xml": two} | frames((0, 1), "one/images/frame_{:06d}.PNG")
    reading = read("cvat", make(tmp_path, files | frames((0, 1), "two/images/frame_{:06d}.PNG")))
    assert {c.name: len(c.objects) for c in reading.candidates} == {
        "one/images/frame_000000.PNG": 1,
        "two/images/frame_000000.PNG": 1,
        "two/images/frame_000001.PNG": 1,
    }


@pytest.mark.parametrize(("count", "groups"), [(2, {None}), (3, {"v0/a.xml", "v1/a.xml", "v2/a.xml"})])
def test_the_frames_of_a_video_are_a_group_where_there_are_enough(tmp_path: Path, count: int, groups: set[Any]) -> None:
    files: dict[str, Any] = {}
    for i in range(count):
        files |= {f"v{i}/a.xml": video(track(0, tracked(0), tracked(1)))} | frames((0, 1), f"v{i}/frame_{{:06d}}.jpg")
    assert {c.group for c in read("cvat", make(tmp_path, files)).candidates} == groups


def test_a_frame_whose_image_is_missing_or_unclear_is_a_row(tmp_path: Path) -> None:
    content = video(track(0, tracked(0), tracked(1), tracked(2), '<box frame="x"/>'))
    files = {"a.xml": content, "a/frame_000000.PNG": P, "a/frame_000001.PNG": P, "b/frame_000001.PNG": P}
    reading = read("cvat", make(tmp_path, files))
    assert [c.name for c in reading.candidates] == ["a/frame_000000.PNG"]
    assert rows(reading) == [
        ("a.xml", "bad_row", "dropped"),
        ("a.xml: frame 1", "ambiguous_file", "refused"),
        ("a.xml: frame 2", "missing_file", "refused"),
    ]


def test_skeletons_of_a_track(tmp_path: Path) -> None:
    def posed(frame: int, outside: int) -> str:
        points = f'<points label="nose" keyframe="1" outside="{outside}" occluded="0" points="20,10"/>'
        return f'<skeleton frame="{frame}" keyframe="1">{points}</skeleton>'

    tracks = (
        track(0, tracked(0), tracked(1), more='group_id="3"'),
        track(1, posed(0, 0), posed(1, 1), more='group_id="3"'),
    )
    reading = read("cvat", make(tmp_path, {"a.xml": video(*tracks)} | frames((0, 1))))
    assert [[o.landmarks for o in c.objects] for c in reading.candidates] == [
        [[Landmark(0.2, 0.2)]],
        [[Landmark(0, 0, 0)]],
    ]


# --- files


def test_each_task_has_the_images_below_its_own_file(tmp_path: Path) -> None:
    """the frames of two videos, exported as images: of one name, and without a suffix"""
    files = {f"{n}/a.xml": xml(image("frame_000000", box(10, 5, 60, 25, n))) for n in ("one", "two")}
    reading = read("cvat", make(tmp_path, files | {f"{n}/images/frame_000000.PNG": P for n in ("one", "two")}))
    assert {c.name: [o.label for o in c.objects] for c in reading.candidates} == {
        "one/images/frame_000000.PNG": ["one"],
        "two/images/frame_000000.PNG": ["two"],
    }


def test_an_image_that_two_files_have_alike_is_one(tmp_path: Path) -> None:
    """the jobs of a task overlap by some frames"""
    one, two = xml(image("a.jpg", box(10, 5, 60, 25))), xml(image("a.jpg", box(10, 5, 60, 25)), image("b.jpg"))
    reading = read("cvat", make(tmp_path, {"1.xml": one, "2.xml": two, "a.jpg": P, "b.jpg": P}))
    assert {name: len(found) for name, found in boxes(reading).items()} == {"a.jpg": 1, "b.jpg": 0}
    assert ("a.jpg", "listed_twice", "noted") in rows(reading)


def test_an_image_that_two_files_have_otherwise_is_refused(tmp_path: Path) -> None:
    one, two = xml(image("a.jpg", box(10, 5, 60, 25))), xml(image("a.jpg"), image("b.jpg"))
    reading = read("cvat", make(tmp_path, {"1.xml": one, "2.xml": two, "3.xml": two, "a.jpg": P, "b.jpg": P}))
    assert list(boxes(reading)) == ["b.jpg"]
    assert ("a.jpg", "listed_twice", "refused") in rows(reading)


@pytest.mark.parametrize(
    ("files", "error"),
    [
        ({"a.xml": xml(image("a.jpg", box(1, 2, 3, 4)))[:-20]}, r"a\.xml: not XML of CVAT to its end: .*line 2"),
        (
            {"a.xml": '<!DOCTYPE a [<!ENTITY b "c">]>' + xml(image("a.jpg")).partition("\n")[2]},
            r"no XML of CVAT",
        ),
        ({"a.xml": "<annotation/>"}, r"no XML of CVAT \(root <annotations>\)"),
        (
            {"a.xml": video(track(0, tracked(0), more='task_id="1"'), track(1, tracked(0), more='task_id="2"'))},
            r"a\.xml: tracks of several tasks",
        ),
    ],
)
def test_files_that_cannot_be_read(tmp_path: Path, files: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        read("cvat", make(tmp_path, files | {"a.jpg": P}))


def test_entities_are_refused_in_the_middle_too(tmp_path: Path) -> None:
    content = xml(image("a.jpg", box(1, 2, 3, 4, "&cow;")))
    with pytest.raises(InputError, match="not XML of CVAT to its end: undefined entity"):
        read("cvat", make(tmp_path, {"a.xml": content, "a.jpg": P}))


def test_vocs_files_stay_vocs(tmp_path: Path) -> None:
    """their root differs by a letter"""
    voc = "<annotation><object><name>cow</name></object></annotation>"
    make(tmp_path, {"a.jpg": P, "a.xml": voc})
    assert detect_format(tmp_path)[0] == "voc"
    make(tmp_path, {"other.xml": xml(image("a.jpg"))})
    assert detect_format(tmp_path)[0] == "voc"

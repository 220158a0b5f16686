"""Labels drawn where they are; sheets that hold any number of images."""

import numpy as np
import pytest
from PIL import Image

from pipeline.core.sample import ABSENT, HIDDEN, Dataset, Landmark, Object, Sample
from pipeline.viz.sheets import PREDICTED, TRUTH, contact_sheet, draw, key_of

DATASET = Dataset("d", ["cow"], ["nose", "tail"], [], [(0, 1)])


def has(image, colour, box):
    """Whether `colour` is in the region `box` (relative) of the image."""
    w, h = image.size
    part = np.asarray(image.crop((int(box[0] * w), int(box[1] * h), int(box[2] * w), int(box[3] * h))))
    return bool((part == colour).all(axis=-1).any())


def test_truth_and_prediction_are_drawn_in_their_colours():
    image = Image.new("RGB", (400, 400), (0, 0, 128))
    points = [Landmark(0.2, 0.3), Landmark(0.35, 0.4, HIDDEN)]
    truth = Sample("s", "s.jpg", 400, 400, objects=[Object("cow", (0.1, 0.2, 0.3, 0.3), points)])
    said = Sample("s", "s.jpg", 400, 400, objects=[Object("cow", (0.6, 0.6, 0.3, 0.3), score=0.7)])
    drawn = draw(image, truth, DATASET, said)
    assert has(drawn, TRUTH, (0.05, 0.1, 0.45, 0.55))
    assert not has(drawn, PREDICTED, (0.05, 0.1, 0.45, 0.5))
    assert has(drawn, PREDICTED, (0.55, 0.55, 0.95, 0.95))
    assert not has(drawn, TRUTH, (0.55, 0.5, 1, 1))
    assert has(drawn, TRUTH, (0.19, 0.29, 0.21, 0.31))
    assert has(drawn, TRUTH, (0.26, 0.33, 0.29, 0.37))  # the bone between the landmarks
    assert np.asarray(image).max() == 128  # the image itself is left alone


def test_the_name_of_a_prediction_does_not_hide_that_of_the_truth():
    image, box = Image.new("RGB", (400, 400)), (0.3, 0.3, 0.4, 0.4)
    truth = Sample("s", "s.jpg", 400, 400, objects=[Object("cow", box)])
    said = Sample("s", "s.jpg", 400, 400, objects=[Object("cow", box, score=0.7)])
    alone, both = draw(image, truth, DATASET), draw(image, truth, DATASET, said)
    above = (0, 0, 480, int(0.29 * 480))
    assert has(both, TRUTH, (0.3, 0.25, 0.4, 0.29)) and has(both, PREDICTED, (0.3, 0.71, 0.4, 0.75))
    assert np.array_equal(np.asarray(alone.crop(above)), np.asarray(both.crop(above)))


def test_an_absent_landmark_is_not_drawn():
    image = Image.new("RGB", (400, 400))
    points = [Landmark(0.5, 0.5, ABSENT), Landmark(0.9, 0.9)]
    drawn = draw(
        image, Sample("s", "s.jpg", 400, 400, objects=[Object("cow", (0.1, 0.1, 0.85, 0.85), points)]), DATASET
    )
    assert not has(drawn, TRUTH, (0.3, 0.3, 0.8, 0.8))


@pytest.mark.parametrize("size", [(8, 8), (40, 30), (1, 300), (300, 1), (2000, 1500)])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_any_size_is_drawn_on(size, mode):
    objects = [Object("cow", (-0.1, 0.9, 0.5, 0.5), [Landmark(2, 2), Landmark(0, 0)], crowd=True)] * 12
    sample = Sample("s", "s.jpg", *size, label="a very long name of a label", objects=objects)
    drawn = draw(Image.new(mode, size), sample, DATASET)
    assert drawn.mode == "RGB"
    assert max(drawn.size) == max(480, *size)


@pytest.mark.parametrize(("count", "columns", "rows"), [(0, 1, 1), (1, 1, 1), (6, 6, 1), (7, 6, 2), (24, 6, 4)])
def test_a_sheet_has_a_row_for_each_six(count, columns, rows):
    tiles = [
        (Image.new("RGB", (30 + i, 50)), f"image {i}\nof the second line, which is rather long") for i in range(count)
    ]
    sheet = contact_sheet(tiles, 6, 100)
    assert sheet.width == columns * 106 + 6
    assert sheet.height >= rows * (106 if count else 0)
    assert contact_sheet(tiles, 6, 100).tobytes() == sheet.tobytes()


def test_captions_that_begin_alike_keep_their_ends_just_below_the_image():
    image = Image.new("RGB", (100, 20), (0, 0, 255))
    one, other = (contact_sheet([(image, f"train: JPEGImages-BloodImage_0001{end}")], 1, 100) for end in "34")
    changed = np.argwhere((np.asarray(one) != np.asarray(other)).any(axis=-1))
    assert changed[:, 1].min() > 80
    assert one.getpixel((50, 25)) == (0, 0, 255)
    assert one.getpixel((50, 27)) != (0, 0, 255)


def test_a_row_is_as_high_as_what_is_in_it():
    wide, square = Image.new("RGB", (100, 20)), Image.new("RGB", (100, 100))
    both = contact_sheet([(wide, "a"), (wide, "b\nc"), (square, "d"), (square, "")], 2, 100)
    rows = [contact_sheet([(image, text)], 1, 100).height - 12 for image, text in ((wide, "b\nc"), (square, "d"))]
    assert both.height == sum(rows) + 3 * 6


def test_a_long_caption_goes_on_below_and_the_key_is_under_all():
    image = Image.new("RGB", (200, 200), (0, 0, 128))
    short, long = (contact_sheet([(image, text)], 1, 200) for text in ("object 0", "object 0, cow: rather a goat " * 3))
    line = (long.height - short.height) / 2
    assert 12 <= line <= 24 and line == int(line), "two more lines"
    key = key_of(DATASET, "the label as it is", "what is likelier")
    assert key == [(TRUTH, "the label as it is; a ring is a hidden landmark"), (PREDICTED, "what is likelier")]
    keyed = contact_sheet([(image, "object 0")], 1, 200, key)
    assert keyed.height > short.height + 2 * line - 1
    assert np.array_equal(np.asarray(keyed)[: short.height - 6], np.asarray(short)[:-6])
    below = keyed.crop((0, short.height - 6, keyed.width, keyed.height))
    assert has(below, TRUTH, (0, 0, 0.1, 0.6)) and has(below, PREDICTED, (0, 0.4, 0.1, 1))


@pytest.mark.parametrize("at", [(0.3, 0.3), (0.3, 0.0), (0.3, 0.6)])
def test_the_names_of_objects_in_one_place_do_not_hide_each_other(at):
    image, colour = Image.new("RGB", (480, 480)), np.array(PREDICTED)
    objects = [Object("cow", (*at, 0.4, 0.4 - i / 100), score=0.9 - i / 10) for i in range(3)]
    truth = Sample("s", "s.jpg", 480, 480)
    plates = []
    for count in (0, 1, 3):
        drawn = draw(image, truth, DATASET, Sample("s", "s.jpg", 480, 480, objects=objects[:count]))
        plates.append(int((np.asarray(drawn) == colour).all(axis=-1).sum()))
    alone = plates[1] - plates[0]  # a box with its name; of three, whose boxes cover each other, three names are seen
    assert plates[2] > 1.8 * alone

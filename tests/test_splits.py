"""Nothing in test has been seen in training, whatever the groups, labels and near-duplicates are."""

import io
import random
from collections import Counter, defaultdict

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from pipeline.core.errors import InputError
from pipeline.core.sample import SPLITS, Object, Sample
from pipeline.datasets.ingest.similar import near_duplicates, thumbnail
from pipeline.datasets.ingest.splits import assign, joined, leak_report
from pipeline.datasets.params import SplitParams

PARAMS = SplitParams(val=0.2, test=0.2, seed=0)


def sample(i, label="a", group=None, split=None, objects=()):
    return Sample(str(i), f"{i}.jpg", 8, 8, split=split, group=group, label=label, objects=list(objects))


@st.composite
def datasets(draw):
    count = draw(st.integers(1, 40))
    groups = st.sampled_from([None, "g1", "g2", "g3", "g4", "g5"])
    splits = st.sampled_from(draw(st.sampled_from([[None], ["train", "test"], [None, *SPLITS], ["train", "val"]])))
    samples = [sample(i, draw(st.sampled_from("abc")), draw(groups), draw(splits)) for i in range(count)]
    ids = st.sampled_from([s.id for s in samples])
    return samples, draw(st.lists(st.tuples(ids, ids), max_size=8))


@given(datasets(), st.integers(0, 3))
def test_no_group_and_no_near_duplicates_end_up_on_two_sides(dataset, seed):
    samples, pairs = dataset
    params = SplitParams(val=0.2, test=0.3, seed=seed)
    try:
        splits, leaks = assign(samples, pairs, params)
    except InputError:
        assert "train" not in {s.split for s in samples}  # all others are joined to images of val or test
        return
    assert splits.keys() == {s.id for s in samples}
    for s in samples:
        s.split = splits[s.id]
    kept = [s for s in samples if s.id not in leaks]
    assert leak_report(kept, pairs) == {"groups": 0, "near_duplicates": 0}


@given(datasets(), st.randoms(use_true_random=False))
def test_the_order_of_reading_does_not_matter(dataset, rng: random.Random):
    samples, pairs = dataset
    shuffled = rng.sample(samples, len(samples))
    turned = [(b, a) for a, b in rng.sample(pairs, len(pairs))]
    try:
        assert assign(samples, pairs, PARAMS) == assign(shuffled, turned, PARAMS)
    except InputError as error:
        with pytest.raises(InputError, match=str(error)):
            assign(shuffled, turned, PARAMS)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
def test_a_label_of_three_groups_is_in_all_three_splits(labels):
    samples = [sample(i, label, group=f"g{i}") for i, label in enumerate(labels)]
    splits, leaks = assign(samples, [], PARAMS)
    assert not leaks
    there = defaultdict(set)
    for s in samples:
        there[s.label].add(splits[s.id])
    for label, count in Counter(labels).items():
        assert "train" in there[label]
        assert count < 3 or there[label] == set(SPLITS)


@pytest.mark.parametrize(
    ("given_splits", "expected"),
    [
        ({None: 100}, {"train": 60, "val": 20, "test": 20}),
        ({"train": 100}, {"train": 60, "val": 20, "test": 20}),  # all in one: the source does not say
        ({"test": 100}, {"train": 60, "val": 20, "test": 20}),
        ({"train": 50, "test": 50}, {"train": 40, "val": 10, "test": 50}),
        ({"train": 50, "val": 50}, {"train": 40, "val": 50, "test": 10}),
        ({"train": 40, "val": 30, "test": 30}, {"train": 40, "val": 30, "test": 30}),
        ({None: 50, "test": 50}, {"train": 40, "val": 10, "test": 50}),
        ({None: 40, "val": 30, "test": 30}, {"train": 40, "val": 30, "test": 30}),
        ({"val": 50, "test": 50}, InputError),
    ],
)
def test_the_source_s_splits_are_kept_and_filled_in(given_splits, expected):
    names = [split for split, count in given_splits.items() for _ in range(count)]
    samples = [sample(i, split=split) for i, split in enumerate(names)]
    if expected is InputError:
        with pytest.raises(InputError, match="images for test and val, none for train"):
            assign(samples, [], PARAMS)
        return
    splits, _ = assign(samples, [], PARAMS)
    assert Counter(splits.values()) == expected
    if len(given_splits) > 1:
        assert all(splits[s.id] == s.split for s in samples if s.split in ("val", "test"))


def test_groups_of_one_recording_weigh_as_much_as_their_pictures():
    samples = [sample(f"{g}-{i}", group=f"g{g}") for g in range(10) for i in range(50 if g == 0 else 5)]
    splits, _ = assign(samples, [], PARAMS)
    counts = Counter(splits.values())
    assert counts["train"] >= 50
    assert {splits[f"0-{i}"] for i in range(50)} == {"train"}
    assert min(counts["val"], counts["test"]) >= 15


def test_labels_of_objects_are_spread_too():
    samples = [
        sample(i, None, objects=[Object("rare" if i % 10 == 0 else "common", (0, 0, 1, 1))] if i % 3 else [])
        for i in range(120)
    ]
    splits, _ = assign(samples, [], PARAMS)
    for label in ("rare", "common"):
        assert {splits[s.id] for s in samples if any(o.label == label for o in s.objects)} == set(SPLITS)
    empty = Counter(splits[s.id] for s in samples if not s.objects)
    assert empty == {"train": 24, "val": 8, "test": 8}


@pytest.mark.parametrize(
    ("first", "second", "gone"),
    [
        ("train", "test", "0"),
        ("test", "train", "1"),
        ("train", "val", "0"),
        ("val", "test", "0"),
        ("train", "train", None),
    ],
)
@pytest.mark.parametrize("group", ["g", None])
def test_copies_nearer_to_training_go(first, second, gone, group):
    rest = [sample(10 + i, split=split) for i, split in enumerate(SPLITS)]
    samples = [sample(0, group=group, split=first), sample(1, group=group, split=second), *rest]
    _, leaks = assign(samples, [] if group else [("0", "1")], PARAMS)
    assert set(leaks) == ({gone} if gone else set())
    assert all(("group of" if group else "near-duplicate of") in found for found in leaks.values())


def test_a_new_seed_gives_other_splits():
    samples = [sample(i) for i in range(60)]
    assert assign(samples, [], PARAMS)[0] != assign(samples, [], SplitParams(val=0.2, test=0.2, seed=1))[0]


def test_near_duplicates_without_a_group_become_one():
    samples = [sample(i) for i in range(4)] + [sample(4, group="g")]
    assert joined(samples, [("0", "1"), ("1", "2")]) == {"0": "0", "1": "0", "2": "0"}
    assert joined(samples, [("3", "4")]) == {"3": "g"}  # the source's own name, though "3" comes before it


def photo(seed, size=(160, 120)):
    """An image with structure at several scales, as photos have it."""
    rng = np.random.default_rng(seed)
    layers = [Image.fromarray(rng.integers(0, 256, (n, n, 3), dtype=np.uint8)).resize(size, 3) for n in (3, 7, 20)]
    return Image.blend(Image.blend(layers[0], layers[1], 0.5), layers[2], 0.3)


def as_jpeg(image, quality):
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file).convert("RGB")


COPIES = {
    "the same": lambda i: i,
    "saved again": lambda i: as_jpeg(i, 30),
    "half the size": lambda i: i.resize((i.width // 2, i.height // 2)),
    "brighter": lambda i: ImageEnhance.Brightness(i).enhance(1.1),
    "trimmed": lambda i: i.crop((1, 1, i.width - 1, i.height - 1)),
}


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_a_near_duplicate(copy):
    images = [photo(i) for i in range(30)] + [COPIES[copy](photo(7))]
    thumbnails = np.array([thumbnail(i) for i in images])
    assert near_duplicates(thumbnails, [str(i) for i in range(31)], [None] * 31).pairs() == [(7, 30)]
    assert near_duplicates(thumbnails, [str(i) for i in range(31)], ["one"] * 31).pairs() == []


def test_flat_pictures_are_the_same_only_if_their_pixels_are():
    images = [Image.new("RGB", (64, 64), (c, c, c)) for c in (0, 1, 255)]
    thumbnails = np.array([thumbnail(i) for i in images])
    assert near_duplicates(thumbnails, ["a", "b", "c"], [None] * 3).pairs() == []
    assert near_duplicates(thumbnails, ["a", "b", "a"], [None] * 3).pairs() == [(0, 2)]
    assert near_duplicates(np.zeros((0, 16, 17), np.uint8), [], []).pairs() == []

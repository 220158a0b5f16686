"""Samples to batches: repeatable whoever loads them, and targets in the frames that the losses expect."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch.utils.data import get_worker_info

from pipeline.augment.policies import augmenter
from pipeline.core.errors import InputError
from pipeline.core.sample import Landmark, Object, Sample
from pipeline.core.spec import ModelSpec
from pipeline.ops.preprocess import FILL
from pipeline.training.loading import (
    Draw,
    EpochSampler,
    ImageDataset,
    box_sizes,
    eval_loader,
    keep_canvases,
    train_loader,
)
from pipeline.training.waits import Waits

LABELS = ["cat", "dog"]


def spec(task: str, rule: str = "letterbox", size: int = 64, points: int = 2) -> ModelSpec:
    return ModelSpec(
        run="r", dataset="d", task=task, labels=LABELS, landmarks=[f"p{i}" for i in range(points)], pairs=[],
        skeleton=[], backbone="mobilenetv2_035", head={}, size=size, resize=rule, mean=[0.5] * 3, std=[0.5] * 3,
        predict={"score": 0.3, "nms": "hard", "nms_iou": 0.6, "max_objects": 10},
    )  # fmt: skip


def sample(folder: Path, i: int, objects: list[Object] | None = None, size: tuple[int, int] = (64, 32)) -> Sample:
    """A noisy image, twice as wide as high."""
    pixels = np.random.default_rng(i).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.png")
    return Sample(f"{i}", f"{i}.png", *size, label=LABELS[i % 2], objects=objects or [])


def samples(folder: Path, count: int) -> list[Sample]:
    return [
        sample(folder, i, [Object(LABELS[i % 2], (0.2, 0.2, 0.5, 0.5), [Landmark(0.3, 0.3), Landmark(0.6, 0.5)])])
        for i in range(count)
    ]


def only_batch(folder: Path, rows: list[Sample], made: ModelSpec) -> tuple[torch.Tensor, dict[str, torch.Tensor], Any]:
    (batch,) = eval_loader(ImageDataset(folder, rows, made), len(rows))
    return batch


def near(found: torch.Tensor, expected: Any) -> None:
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float32).view(found.shape))


# --- the order and the draws


@given(length=st.integers(1, 60), seed=st.integers(0, 2**32 - 1), epoch=st.integers(0, 500))
def test_an_epoch_has_every_index_once_and_is_repeatable(length: int, seed: int, epoch: int) -> None:
    one, other = EpochSampler(length, seed), EpochSampler(length, seed)
    one.begin(epoch)
    other.begin(epoch)
    keys = list(one)
    assert keys == list(other) == list(one)
    assert len(one) == length
    assert sorted(key.image for key in keys) == list(range(length))
    assert len({key.seed for key in keys}) > length * 0.9


def test_epochs_and_seeds_differ() -> None:
    seen = []
    for seed in (0, 1):
        for epoch in (0, 1, 2):
            sampler = EpochSampler(50, seed)
            sampler.begin(epoch)
            seen.append(list(sampler))
    assert len({tuple(key.image for key in keys) for keys in seen}) == 6
    assert len({key.seed for keys in seen for key in keys}) > 295  # no draw comes back in another epoch


def run_through(folder: Path, rows: list[Sample], workers: int) -> list[Any]:
    """Two epochs of batches, loaded by `workers` processes."""
    pictures = ImageDataset(folder, rows, spec("detect"), augmenter("photo_geometry"))
    loader = train_loader(pictures, 3, workers, seed=5)
    batches = []
    for epoch in (0, 1):
        loader.batch_sampler.begin(epoch)
        batches += [(images, target, [item[1].id for item in items]) for images, target, items in loader]
    return batches


def test_batches_do_not_depend_on_who_loads_them(tmp_path: Path) -> None:
    rows = samples(tmp_path, 8)
    alone, helped = run_through(tmp_path, rows, 0), run_through(tmp_path, rows, 2)
    assert [ids for *_, ids in alone] == [ids for *_, ids in helped]
    for (images, target, _), (others, other, _) in zip(alone, helped, strict=True):
        assert torch.equal(images, others)
        assert target.keys() == other.keys()
        assert all(torch.equal(target[key], other[key]) for key in target)
    by_epoch = [{i: image for batch, _, ids in alone[s] for i, image in zip(ids, batch, strict=True)}
                for s in (slice(0, 3), slice(3, 6))]  # fmt: skip
    assert by_epoch[0].keys() == by_epoch[1].keys() == {str(i) for i in range(8)}
    assert all(not torch.equal(by_epoch[0][i], by_epoch[1][i]) for i in by_epoch[0])  # varied anew


@pytest.mark.parametrize("workers", [0, 2])
def test_a_spoilt_image_is_named_whoever_loads_it(tmp_path: Path, workers: int) -> None:
    rows = samples(tmp_path, 8)
    spoilt = tmp_path / rows[5].file_name
    spoilt.write_bytes(b"no image")
    with pytest.raises(InputError) as raised:
        run_through(tmp_path, rows, workers)
    assert str(raised.value).startswith(f"{spoilt}: not an image that decodes: not one of JPEG, ")
    assert "\n" not in str(raised.value)


def test_what_is_kept_of_a_picture_is_not_varied(tmp_path: Path) -> None:
    pictures = ImageDataset(tmp_path, samples(tmp_path, 1), spec("detect"), augmenter("photo_geometry"))
    pictures.room = 64 * 64 * 3
    plain, varied = pictures[0][0].copy(), pictures[Draw(0, 7)][0].copy()
    assert (plain != varied).any()
    assert (pictures[0][0] == plain).all()
    assert (pictures[Draw(0, 7)][0] == varied).all()
    (tmp_path / "0.png").unlink()  # it is kept in memory after its first use
    assert (pictures[0][0] == plain).all()


CANVAS = 64 * 64 * 3


def kept_bytes(pictures: Any) -> int:
    return sum(pixels.nbytes for pixels, _ in pictures._kept.values())


def count_kept(_: list[Any]) -> tuple[int, int]:
    """In place of a batch: who loads it, and the bytes that it keeps."""
    info = get_worker_info()
    assert info is not None
    return info.id, kept_bytes(info.dataset._dataset)


@pytest.mark.parametrize("workers", [0, 1, 3])
@pytest.mark.parametrize("most", [100 * CANVAS, 11 * CANVAS + 7, 2 * CANVAS, 0])
def test_what_is_kept_of_both_splits_is_bounded_over_all_who_load(tmp_path: Path, workers: int, most: int) -> None:
    rows = samples(tmp_path, 12)
    train, val = ImageDataset(tmp_path, rows, spec("detect")), ImageDataset(tmp_path, rows[:4], spec("detect"))
    keep_canvases(train, val, workers, most)
    loader = train_loader(train, 2, workers, seed=0)
    counted: dict[int, int] = {}
    if workers:
        loader.collate_fn = count_kept
    for epoch in range(4):
        loader.batch_sampler.begin(epoch)
        for batch in loader:
            counted |= dict([batch]) if workers else {0: kept_bytes(train)}
        list(eval_loader(val, 2))
    total = sum(counted.values()) + kept_bytes(val) + (kept_bytes(train) if workers else 0)
    assert total <= most
    if most == 100 * CANVAS:
        assert kept_bytes(val) == 4 * CANVAS
        assert all(kept > 6 * CANVAS for kept in counted.values())
    elif most == 11 * CANVAS + 7 and workers < 3:
        assert total >= 8 * CANVAS, "both have their share"


def test_a_batch_holds_no_pixels_twice(tmp_path: Path) -> None:
    """Nor a view of them, which keeps all."""
    for _, _, items in eval_loader(ImageDataset(tmp_path, samples(tmp_path, 4), spec("detect")), 2):
        assert [pixels.nbytes + (0 if pixels.base is None else pixels.base.nbytes) for pixels, *_ in items] == [0, 0]


# --- four in one


def test_a_share_of_the_epoch_is_four_in_one_until_the_quiet_end() -> None:
    sampler, counts = EpochSampler(400, 0, mosaic=0.25, mixed_epochs=2), []
    for epoch in range(4):
        sampler.begin(epoch)
        keys = list(sampler)
        assert sorted(key.image for key in keys) == list(range(400))
        assert all(len(key.others) in (0, 3) for key in keys)
        counts.append(sum(bool(key.others) for key in keys))
    assert all(70 < n < 130 for n in counts[:2])
    assert counts[2:] == [0, 0]


def test_workers_that_stay_stop_mixing_too(tmp_path: Path) -> None:
    loader = train_loader(
        ImageDataset(tmp_path, samples(tmp_path, 8), spec("detect")), 4, 2, 0, mosaic=1.0, mixed_epochs=1
    )
    batches: Any = loader.batch_sampler
    mixed = []
    for epoch in range(2):
        batches.begin(epoch)
        mixed.append([" + " in item[1].id for *_, items in loader for item in items])
    assert mixed == [[True] * 8, [False] * 8]


@pytest.mark.parametrize("rule", ["letterbox", "stretch", "crop"])
def test_four_pictures_in_one_keep_their_objects_on_them(tmp_path: Path, rule: str) -> None:
    """Each image is one colour, with a white box that its object is: the object is found where the box went."""
    rows, colours = [], [(200, 0, 0), (0, 200, 0), (0, 0, 200), (150, 150, 0)]
    for i, colour in enumerate(colours):
        pixels = np.full((48, 96, 3), colour, np.uint8)
        pixels[12:36, 36:60] = 255
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
        rows.append(Sample(f"{i}", f"{i}.png", 96, 48, objects=[Object("cat", (0.375, 0.25, 0.25, 0.5), [])]))
    pictures = ImageDataset(tmp_path, rows, spec("detect", rule, 128, 0))
    for seed in range(5):
        pixels, joined, frame, objects = pictures[Draw(0, seed, (1, 2, 3))]
        assert joined.id == "0 + 1 + 2 + 3"
        assert (frame.scale_x, frame.scale_y, frame.offset_x, frame.offset_y) == (1, 1, 0, 0)
        assert len(objects) == 4
        white = (pixels > 240).all(axis=2)
        for o, colour in zip(objects, colours, strict=True):
            x, y, w, h = (v * 128 for v in o.box)
            assert 0 <= x <= x + w <= 128
            assert 0 <= y <= y + h <= 128
            inside = white[round(y + 1) : round(y + h - 1), round(x + 1) : round(x + w - 1)]
            assert inside.size > 20
            assert inside.mean() > 0.95
            left = pixels[round(y + h / 2), round(x - 3)]
            assert abs(left.astype(int) - colour).max() < 12, "its own image is around it"
        assert white.sum() < 1.1 * sum(o.box[2] * o.box[3] * 128**2 for o in objects)


@pytest.mark.parametrize(("rule", "wide", "high"), [("letterbox", 32, 16), ("stretch", 32, 32), ("crop", 64, 32)])
def test_box_sizes_are_those_on_the_canvas(tmp_path: Path, rule: str, wide: int, high: int) -> None:
    box = Object("cat", (0.25, 0.25, 0.5, 0.5))
    rows = [sample(tmp_path, 0, [box, Object("dog", (0.25, 0.25, 0.5, 0.5), crowd=True)])]
    # of an image twice as wide as high, the middle square shows the middle half
    expected = [[min(wide, 64), high]]
    assert box_sizes(rows, spec("detect", rule)).tolist() == expected


@pytest.mark.parametrize(
    ("count", "batch_size", "sizes"),
    [
        (9, 4, [4, 4]),  # a last batch of one is left out
        (10, 4, [4, 4, 2]),
        (8, 4, [4, 4]),
        (5, 4, [4]),
        (4, 4, [4]),
        (3, 4, [3]),
        (2, 4, [2]),
        (1, 4, [1]),  # there is no other
        (3, 2, [2]),
    ],
)
def test_batch_sizes(tmp_path: Path, count: int, batch_size: int, sizes: list[int]) -> None:
    loader = train_loader(ImageDataset(tmp_path, samples(tmp_path, count), spec("classify")), batch_size, 0, seed=0)
    assert [len(images) for images, _, _ in loader] == sizes
    assert len(loader) == len(sizes)


def test_eval_goes_in_order_and_leaves_none_out(tmp_path: Path) -> None:
    rows = samples(tmp_path, 5)
    pictures = ImageDataset(tmp_path, rows, spec("classify"), augmenter("photo_geometry"))
    batches = list(eval_loader(pictures, 2))
    assert [item[1].id for _, _, items in batches for item in items] == ["0", "1", "2", "3", "4"]
    images = torch.cat([images for images, _, _ in batches])
    plain = ImageDataset(tmp_path, rows, spec("classify"))
    assert all((images[i].numpy() == plain[i][0]).all() for i in range(5))


# --- images and targets


def test_pictures_lie_on_the_canvas(tmp_path: Path) -> None:
    images, _, items = only_batch(tmp_path, samples(tmp_path, 3), spec("classify"))
    assert (images.shape, images.dtype) == ((3, 64, 64, 3), torch.uint8)
    assert (images[:, :16] == FILL).all()
    assert (images[:, 48:] == FILL).all()
    frame = items[0][2]
    assert (frame.scale_x, frame.scale_y, frame.offset_x, frame.offset_y) == (1, 0.5, 0, 0.25)


def test_classify_has_the_index_of_the_label(tmp_path: Path) -> None:
    _, target, _ = only_batch(tmp_path, samples(tmp_path, 3), spec("classify"))
    assert target.keys() == {"label"}
    assert target["label"].dtype == torch.int64
    assert target["label"].tolist() == [0, 1, 0]


def objects() -> list[Object]:
    small = Object("dog", (0.0, 0.0, 0.2, 0.4), [Landmark(0.1, 0.2, 2), Landmark(0, 0, 0)])
    large = Object("cat", (0.25, 0.5, 0.5, 0.5), [Landmark(0.5, 1.0, 1), Landmark(0.75, 0.5, 2)])
    crowd = Object("dog", (0.0, 0.0, 1.0, 1.0), [Landmark(0, 0, 0)] * 2, crowd=True)
    return [small, crowd, large]


def test_localize_has_the_largest_object_relative_to_the_canvas(tmp_path: Path) -> None:
    rows = [sample(tmp_path, 0, objects()), sample(tmp_path, 1), sample(tmp_path, 2, [objects()[1]])]
    _, target, _ = only_batch(tmp_path, rows, spec("localize"))
    assert {k: tuple(v.shape) for k, v in target.items()} == {
        "presence": (3,), "box": (3, 4), "label": (3,), "landmarks": (3, 2, 3),
    }  # fmt: skip
    near(target["presence"], [1, 0, 0])  # an image without any, and one with a crowd alone, have none
    assert target["label"].dtype == torch.int64
    assert target["label"].tolist() == [0, 0, 0]
    # letterbox: x stays, y is halved and moved down by a quarter
    near(target["box"], [[0.25, 0.5, 0.5, 0.25], [0] * 4, [0] * 4])
    near(target["landmarks"][0], [[0.5, 0.75, 1], [0.75, 0.5, 1]])  # labelled counts, hidden or not
    near(target["landmarks"][1:], [0] * 12)


def test_localize_an_absent_landmark_does_not_count(tmp_path: Path) -> None:
    _, target, _ = only_batch(tmp_path, [sample(tmp_path, 0, objects()[:1])], spec("localize"))
    assert target["label"].tolist() == [1]
    near(target["landmarks"][0, 0], [0.1, 0.35, 1])
    assert target["landmarks"][0, 1, 2] == 0


def test_detect_has_all_objects_in_pixels_of_the_canvas(tmp_path: Path) -> None:
    rows = [sample(tmp_path, 0, objects()), sample(tmp_path, 1), sample(tmp_path, 2, objects()[:2])]
    _, target, _ = only_batch(tmp_path, rows, spec("detect"))
    assert target["image"].tolist() == [0, 0, 2]  # crowds are left out
    assert target["label"].tolist() == [1, 0, 1]
    small, large = [0, 16, 12.8, 28.8], [16, 32, 48, 48]  # corners
    near(target["box"], [small, large, small])
    near(target["landmarks"][1], [[32, 48, 1], [48, 32, 2]])  # the visibility as it is
    near(target["landmarks"][0, 0], [6.4, 22.4, 2])
    assert target["landmarks"][0, 1, 2] == 0


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_a_batch_without_objects_has_targets_of_the_right_shape(tmp_path: Path, task: str) -> None:
    _, target, _ = only_batch(tmp_path, [sample(tmp_path, i) for i in range(2)], spec(task))
    rows = 2 if task == "localize" else 0
    assert target["box"].shape == (rows, 4)
    assert target["landmarks"].shape == (rows, 2, 3)
    assert target["label"].dtype == torch.int64
    assert not target["presence"].any() if task == "localize" else target["image"].shape == (0,)


@pytest.mark.parametrize("task", ["localize", "detect"])
def test_objects_without_landmarks(tmp_path: Path, task: str) -> None:
    rows = [sample(tmp_path, 0, [Object("cat", (0.1, 0.1, 0.5, 0.5))])]
    _, target, _ = only_batch(tmp_path, rows, spec(task, points=0))
    assert target["landmarks"].shape == (1, 0, 3)
    _, target, _ = only_batch(tmp_path, rows, spec(task, points=2))
    near(target["landmarks"], [0] * 6)


@pytest.mark.parametrize(
    ("rule", "box"),
    [
        ("stretch", (0.25, 0.5, 0.5, 0.5)),
        ("letterbox", (0.25, 0.5, 0.5, 0.25)),
        ("crop", (0.0, 0.5, 1.0, 0.5)),  # the middle square: x is doubled
    ],
)
def test_boxes_follow_the_resize(tmp_path: Path, rule: str, box: tuple[float, ...]) -> None:
    rows = [sample(tmp_path, 0, [objects()[2]])]
    near(only_batch(tmp_path, rows, spec("localize", rule))[1]["box"], box)
    x, y, w, h = (64 * v for v in box)
    near(only_batch(tmp_path, rows, spec("detect", rule))[1]["box"], (x, y, x + w, y + h))


GONE = Object("dog", (0.0, 0.0, 0.2, 1.0), [Landmark(0.1, 0.5), Landmark(0.15, 0.5)])  # left of the middle square
KEPT = Object("cat", (0.4, 0.4, 0.2, 0.2), [Landmark(0.5, 0.5), Landmark(0.45, 0.45)])


@pytest.mark.parametrize("policy", [None, "none", "photo_geometry"])
@pytest.mark.parametrize("task", ["localize", "detect"])
def test_an_object_that_the_crop_cuts_off_is_not_there(tmp_path: Path, task: str, policy: str | None) -> None:
    rows = [sample(tmp_path, 0, [GONE]), sample(tmp_path, 1, [GONE, KEPT])]
    made = spec(task, "crop")
    if policy is None:
        _, target, _ = only_batch(tmp_path, rows, made)
        order = [0, 1]
    else:
        loader = train_loader(ImageDataset(tmp_path, rows, made, augmenter(policy)), 2, 0, seed=0)
        ((_, target, items),) = list(loader)
        order = [int(item[1].id) for item in items]
    if task == "localize":
        assert target["presence"].tolist() == [float(i) for i in order]
        assert target["label"].tolist() == [0, 0]  # of KEPT, though GONE is larger
    else:
        assert target["image"].tolist() == [order.index(1)]
        assert target["label"].tolist() == [0]


@pytest.mark.parametrize("policy", [None, "none", "photo_geometry"])
@pytest.mark.parametrize("task", ["localize", "detect"])
def test_what_the_crop_leaves_of_a_box_lies_on_the_canvas(tmp_path: Path, task: str, policy: str | None) -> None:
    half = Object("cat", (0.0, 0.25, 0.5, 0.5), [Landmark(0.1, 0.5), Landmark(0.4, 0.5)])
    pictures = ImageDataset(tmp_path, [sample(tmp_path, 0, [half])], spec(task, "crop"), policy and augmenter(policy))
    loader = eval_loader(pictures, 1) if policy is None else train_loader(pictures, 1, 0, seed=0)
    ((_, target, _),) = list(loader)
    box = target["box"][0]
    side = 1 if task == "localize" else 64
    low, high = box[:2], box[:2] + box[2:] if task == "localize" else box[2:]
    assert (low >= -1e-4 * side).all()
    assert (high <= (1 + 1e-4) * side).all()
    gone, seen = target["landmarks"][0]
    assert gone[2] == 0  # off the canvas
    assert seen[2] > 0


def test_the_share_of_the_time_that_is_waited_for_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two epochs: 2 s for a batch and 6 s at work on it, twice; then 4 s until it is clear that there is no third."""
    clock = [0.0]
    monkeypatch.setattr("pipeline.training.waits.time.perf_counter", lambda: clock[0])

    def batches() -> Iterator[int]:
        for number in range(2):
            clock[0] += 2
            yield number
        clock[0] += 4

    waits = Waits()
    assert waits.share is None
    for _ in range(2):
        for _batch in waits.timed(batches):
            clock[0] += 6
    assert (waits.waited, waits.worked, waits.share) == (16, 24, 0.4)

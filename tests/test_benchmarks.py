"""The programs behind the figures in the docs: what is wrong with what they are asked is said, and like meets like."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import active_learning, augment, buffers, extract_frames, loading, recipe, training_memory
from benchmarks.bare_policies import ALONE, bare, library_of
from pipeline.augment.policies import POLICIES
from pipeline.datasets.video_write import ClipWriter


@pytest.mark.parametrize(
    ("program", "asked", "message"),
    [
        (training_memory, ["--images", "3"], "--images 3: expected 4 at least, one of each label"),
        (active_learning, ["file", "--seeds", "2"], "--seeds 2: expected 5 at least, as fewer give no interval"),
        (recipe, ["photos", "--splits", "1"], "--splits 1: expected 2 at least, as there is no interval of one"),
    ],
)
def test_too_few_to_tell_anything_is_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], program, asked, message
) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", *asked])
    with pytest.raises(SystemExit):
        program.main()
    assert message in capsys.readouterr().err


def test_a_training_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmark", "--images", "4", "--backbone", "nosuch"])
    with pytest.raises(SystemExit, match=r"nosuch[\s\S]*error: the training ended with 1$"):
        training_memory.main()


def test_readers_take_the_same_frames(tmp_path: Path) -> None:
    writer = ClipWriter(tmp_path / "c.mp4", Fraction(25))
    for i in range(40):
        writer.add(Image.new("RGB", (64, 48), (6 * i,) * 3))
    writer.close()
    for count in (8, 0):
        found = {
            name: [round(np.asarray(image).mean() / 6) for image in read(str(tmp_path / "c.mp4"), count, 1)]
            for name, read in extract_frames.READERS.items()
            if not extract_frames.missing(name)
        }
        assert {"ours", "OpenCV", "PyAV"} <= set(found)
        assert set(map(tuple, found.values())) == {tuple(extract_frames.places(40, count))}


@pytest.mark.parametrize("count", buffers.BUFFERS)
def test_every_frame_reaches_the_net_in_its_order_in_any_number_of_buffers(count: int) -> None:
    frames = [Image.new("RGB", (64, 36), (40 * i,) * 3) for i in range(5)]
    seen, places = [], set()

    class Net:
        threads = 1

        def run(self, images: np.ndarray) -> list[np.ndarray]:
            seen.append(int(images.max()) // 40)
            places.add(id(images))
            return []

    assert buffers.seconds_of(frames, Net(), 32, count, 12) > 0
    assert seen == [i % 5 for i in range(12)]
    assert len(places) <= count


@pytest.fixture(scope="module")
def herd() -> list[augment.Shown]:
    return augment.drawn(10, 64)[0]


@pytest.mark.parametrize("policy", [policy for policy in POLICIES if policy != "none"])
def test_each_policy_has_its_librarys_own_form_which_moves_labels_too(policy: str, herd: list[augment.Shown]) -> None:
    call, one = bare(policy, 64), max(herd, key=lambda shown: len(shown.objects))
    image = one.tensor if library_of(policy) == "torchvision" else one.pixels
    changed = 0
    for _ in range(12):
        alone = call(image, None, None)
        alone = alone["image"] if isinstance(alone, dict) else alone
        assert alone.shape == image.shape
        changed += not np.array_equal(np.asarray(alone), np.asarray(image))
        if policy not in ALONE:
            made = call(image, one.boxes, one.points)
            moved = list(made.values()) if isinstance(made, dict) else made
            assert np.asarray(moved[0]).shape == np.asarray(image).shape
            assert len(moved) == (4 if isinstance(made, dict) else 3)
    if policy not in ALONE:
        call(image, one.boxes[:0], one.points[:0])  # of an image without objects
    assert changed > 1


def test_both_loaders_read_every_image_once_an_epoch(tmp_path: Path) -> None:
    drawn = loading.draw(tmp_path, 10, 64)
    for run in loading.RUNS.values():
        for loader in loading.LOADERS.values():
            epoch = loader(drawn, run, "alpaca_lab", 0)
            for number in range(2):
                batches = [batch[0] for batch in epoch(number)]
                assert sum(map(len, batches)) == 10
                assert all(run.model.size in batch.shape[1:3] for batch in batches)
    taken = loading.measured(epoch)
    assert taken.first > 0 and taken.later > 0 and taken.cpu > 0
    assert (taken.peak, taken.alone) == (0, 0), "without workers"

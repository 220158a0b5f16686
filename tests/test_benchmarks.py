"""The programs behind the figures in the docs: what is wrong with what they are asked is said, and like meets like."""

import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import active_learning, buffers, extract_frames, recipe, training_memory
from pipeline.datasets.video import ClipWriter


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

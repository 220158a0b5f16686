"""The programs behind the figures in the docs say what is wrong with what they are asked."""

import sys

import pytest

from benchmarks import recipe, training_memory


@pytest.mark.parametrize(
    ("program", "asked", "message"),
    [
        (training_memory, ["--images", "3"], "--images 3: expected 4 at least, one of each label"),
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

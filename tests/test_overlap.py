"""`overlapped` gives what a plain loop gives, holds little, and leaves no thread behind."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from functools import reduce
from pathlib import Path
from typing import Any

import pytest

from pipeline.inference.overlap import Stream, overlapped

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


class Source:
    """Numbers from 0 up to `count`, which knows how many were taken and whether it was closed."""

    def __init__(self, count: int = 1000, error: Exception | None = None) -> None:
        self.count, self.error, self.taken, self.closed = count, error, 0, False

    def items(self) -> Stream:
        try:
            for number in range(self.count):
                self.taken += 1
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


def twice(number: int) -> int:
    return 2 * number


def plus_one(number: int) -> int:
    return number + 1


@pytest.mark.parametrize("ahead", [1, 2, 5])
@pytest.mark.parametrize("steps", [(), (twice,), (twice, plus_one, twice)])
@pytest.mark.parametrize("count", [0, 1, 2, 60])
def test_it_gives_what_a_loop_gives(ahead: int, steps: tuple[Any, ...], count: int) -> None:
    expected = [reduce(lambda item, step: step(item), steps, number) for number in range(count)]
    source = Source(count)
    assert list(overlapped(source.items(), *steps, ahead=ahead)) == expected
    assert source.closed


def test_nothing_is_lost_that_is_false() -> None:
    things = [None, 0, "", []]
    assert list(overlapped(item for item in things)) == things


def test_steps_run_at_the_same_time() -> None:
    """Each waits for the other two, on three items in a row: one after the other they would wait for ever."""
    meet = threading.Barrier(3, timeout=60)
    arrived = []

    def first(number: int) -> int:
        if 2 <= number < 4:
            meet.wait()
        return number

    def second(number: int) -> int:
        if 1 <= number < 3:
            meet.wait()
        return number

    def third(number: int) -> int:
        if 0 <= number < 2:
            meet.wait()
        arrived.append(number)
        return number

    assert list(overlapped(Source(6).items(), first, second, third)) == arrived == list(range(6))


def test_the_source_is_a_few_items_ahead_and_no_more() -> None:
    source = Source(10**9)
    ahead, threads = 2, 3
    with closing(overlapped(source.items(), twice, plus_one, ahead=ahead)) as stream:
        for number in range(200):
            next(stream)
            assert source.taken <= number + (ahead + 1) * threads
    assert source.closed


def test_a_loop_that_is_left_early_ends_every_thread() -> None:
    source = Source(10**9)
    before = threading.active_count()
    with closing(overlapped(source.items(), twice, plus_one)) as stream:
        assert next(stream) == 1
        assert threading.active_count() == before + 3
    assert threading.active_count() == before
    assert source.closed
    never = Source()
    overlapped(never.items(), twice).close()
    assert never.taken == 0


@pytest.mark.parametrize("where", [0, 1, 2])
def test_an_error_of_any_step_comes_after_what_was_before_it(where: int) -> None:
    source, passed = Source(), []

    def step(place: int) -> Any:
        def work(number: int) -> int:
            if place == where and number == 7:
                raise ValueError("7 is none")
            if place >= where:
                passed.append(number)
            return number

        return work

    got = []
    with pytest.raises(ValueError, match="7 is none"):
        for number in overlapped(source.items(), step(0), step(1), step(2)):
            got.append(number)
    assert got == list(range(7))
    assert max(passed) == 6, "nothing after the error goes into the step that failed, or a later one"
    assert source.closed


def test_an_error_of_the_source_comes_after_its_items() -> None:
    source = Source(5, OSError("the camera is gone"))
    got = []
    with pytest.raises(OSError, match="the camera is gone"):
        for number in overlapped(source.items(), twice):
            got.append(number)
    assert got == [0, 2, 4, 6, 8]


ENDLESS = """
import itertools, signal, sys, threading
from pipeline.inference.overlap import overlapped
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have started the tests without
items = (number for number in itertools.count())
for number in overlapped(items, lambda n: n + 1, lambda n: n):
    if number == 50:
        signal.raise_signal(signal.SIGINT)
"""


def test_ctrl_c_ends_the_program() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ENDLESS], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode != 0
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")

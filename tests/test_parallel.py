"""An ordered map over the cores."""

import os

import pytest
import torch

from pipeline.core.parallel import each, each_forked


def halve(n):
    if n < 0:
        raise ValueError(f"{n} is below 0")
    return n / 2


@pytest.mark.parametrize("jobs", [1, 2, None])
def test_results_come_in_the_order_of_the_items(jobs):
    assert each(halve, range(50), "halve", jobs) == [n / 2 for n in range(50)]
    assert each(halve, [], "halve", jobs) == []


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_error_is_raised_here(jobs):
    with pytest.raises(ValueError, match="-3 is below 0"):
        each(halve, [1, 2, -3], "halve", jobs)


def who(n):
    halve(n)
    return n, os.getpid(), torch.get_num_threads()


def test_forked_processes_keep_the_order_and_one_thread_each():
    rows = each_forked(who, range(9), "who")
    assert [n for n, _, _ in rows] == list(range(9))
    assert os.getpid() not in {pid for _, pid, _ in rows}
    assert {threads for _, _, threads in rows} == {1}
    assert each_forked(who, [], "who") == []
    with pytest.raises(ValueError, match="-3 is below 0"):
        each_forked(who, [1, -3], "who")

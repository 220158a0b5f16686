"""An ordered map over the cores."""

import pytest

from pipeline.parallel import each


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

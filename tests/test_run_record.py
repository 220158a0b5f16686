"""The names and figures that a tracker is given."""

import pytest

from pipeline.tracking.run_record import legal_name


@pytest.mark.parametrize(
    ("key", "legal"),
    [
        ("float/per_class/köter & co/f1", "float/per_class/köter _ co/f1"),
        ("a//b", "a/b"),
        ("a/../b", "a/_../b"),
        ("x" * 300, "x" * 250),
    ],
)
def test_legal_names(key: str, legal: str) -> None:
    assert legal_name(key) == legal

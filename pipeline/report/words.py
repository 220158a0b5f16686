"""Numbers as a person reads them."""

import re
from typing import Any

from markupsafe import Markup, escape

NONE = "–"
BETWEEN = re.compile(r"`([^`]+)`")


def figure(value: float | None) -> str:
    """A metric.

    >>> figure(0.41308), figure(None)
    ('0.4131', 'undefined')
    """
    return "undefined" if value is None else f"{value:.4f}"


def signed(value: float | None) -> str:
    """A difference of metrics."""
    return NONE if value is None else f"{value:+.4f}"


def percent(value: float | None) -> str:
    """A share from 0 to 1."""
    return NONE if value is None else f"{100 * value:.1f} %"


def megabytes(value: float | None) -> str:
    """Bytes."""
    return NONE if value is None else f"{value / 1e6:.2f} MB"


def count(value: int) -> str:
    """A whole number, its thousands apart."""
    return f"{value:,}".replace(",", "\N{NARROW NO-BREAK SPACE}")


def code(text: str) -> Markup:
    """What stands between backticks as code, and all of it as text.

    >>> str(code("`dvc repro` makes <it>"))
    '<code>dvc repro</code> makes &lt;it&gt;'
    """
    return Markup(BETWEEN.sub(r"<code>\1</code>", str(escape(text))))


def cell(value: Any) -> str:
    """What stands in a table of a file, of whatever kind it is."""
    if value is None:
        return NONE
    return f"{value:.4f}" if isinstance(value, float) else str(value)

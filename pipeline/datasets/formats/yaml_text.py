"""YAML that is written beside data, for others to read."""

import io
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedSeq
from ruamel.yaml.scalarstring import DoubleQuotedScalarString


def yaml_text(content: dict[str, Any]) -> str:
    """The content as YAML, in its order, each entry on one line.

    >>> print(yaml_text({"names": quoted(["yes", "1"]), "shape": in_a_line([17, 3])}), end="")
    names:
    - "yes"
    - "1"
    shape: [17, 3]
    """
    yaml = YAML()
    yaml.width = 1 << 30
    yaml.representer.ignore_aliases = lambda _: True
    out = io.StringIO()
    yaml.dump(content, out)
    return out.getvalue()


def quoted(names: list[str]) -> list[str]:
    """Without quotes, classes called yes or 1 would be no text."""
    return [DoubleQuotedScalarString(name) for name in names]


def in_a_line(values: list[Any]) -> CommentedSeq:
    line = CommentedSeq(values)
    line.fa.set_flow_style()
    return line

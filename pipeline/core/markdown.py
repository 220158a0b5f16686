"""Tables in Markdown."""

from collections.abc import Iterable, Sequence


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    r"""A table in Markdown, a line per row.

    >>> print(table(["task", "answer"], [["classify", "a|b"]]))
    | task | answer |
    |---|---|
    | classify | a\|b |
    """
    lines = [header, *rows]
    marked = ["| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines]
    return "\n".join([marked[0], "|" + "---|" * len(header), *marked[1:]])

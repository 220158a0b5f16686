"""The tables of the docs that are made from the code's own: `python -m pipeline.config.doc_tables` writes them.

A table stands between the lines `<!-- <name>: begin -->` and `<!-- <name>: end -->` of its file. To add one, put
these lines into the file, and the function that gives the table into TABLES.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.datasets.formats import FORMATS
from pipeline.runtimes.targets import targets_table

Tables = Mapping[str, Callable[[], str]]


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


def formats_table() -> str:
    """The formats, in the order in which they are asked whether a folder is theirs."""
    rows = []
    for row in FORMATS.values():
        found_out = row.looks_for if row.recognize else f"{row.looks_for}; only where it is named"
        options = ", ".join(f"`{name}`" for name in row.Options.model_fields)
        rows.append([f"`{row.name}`", found_out, ", ".join(row.tasks), options])
    return table(["format", "found out by", "tasks", "options"], rows)


def format_options_table() -> str:
    rows = []
    for row in FORMATS.values():
        for name, value in row.Options().model_dump().items():
            meaning = " ".join((row.Options.model_fields[name].description or "").split())
            rows.append([f"`{row.name}`", f"`{name}`", f"`{json.dumps(value)}`", meaning])
    return table(["format", "option", "default", "what"], rows)


TABLES: dict[str, Tables] = {
    "docs/architecture.md": {"targets": targets_table},
    "docs/datasets.md": {"formats": formats_table, "format-options": format_options_table},
}


def filled(text: str, tables: Tables, file: str) -> str:
    """`text` with each of `tables` as it is now. Raises InputError naming `file` and a table without a place there."""
    for name, make in tables.items():
        begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
        if (text.count(begin), text.count(end)) != (1, 1) or text.index(begin) > text.index(end):
            raise InputError(
                f"{file}: no place for the table {name}; expected one line {begin.strip()}, then one {end}"
            )
        before, rest = text.split(begin)
        text = f"{before}{begin}\n{make()}\n\n{end}{rest.split(end)[1]}"
    return text


def write_tables(root: Path) -> list[str]:
    """Bring the docs in the folder `root` up to date; the files that changed. Raises InputError as `filled` does."""
    changed = []
    for file, tables in TABLES.items():
        text = (root / file).read_text(encoding="utf-8")
        if (new := filled(text, tables, file)) != text:
            write_text(root / file, new)
            changed.append(file)
    return changed


if __name__ == "__main__":
    print(f"written: {', '.join(write_tables(Path.cwd())) or 'nothing, all tables are as the code has them'}")

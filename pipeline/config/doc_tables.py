"""The tables of the docs that are made from the code's own: `python -m pipeline.config.doc_tables` writes them.

A table stands between the lines `<!-- <name>: begin -->` and `<!-- <name>: end -->` of its file. To add one, put
these lines into the file, and the function that gives the table into TABLES.
"""

import ast
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from ruamel.yaml import YAML

from pipeline.config.doc_knobs import (
    dataset_knobs_table,
    first_line,
    heads_table,
    other_knobs_table,
    policies_table,
    pretrained_table,
    run_knobs_table,
    steps_table,
)
from pipeline.core.errors import InputError
from pipeline.core.files import write_text
from pipeline.core.markdown import table
from pipeline.datasets.formats import FORMATS
from pipeline.datasets.formats.writing import KINDS, SET_KINDS
from pipeline.datasets.public.sets import sets_table
from pipeline.runtimes.targets import targets_table

Tables = Mapping[str, Callable[[], str]]

ROOT = Path(__file__).parents[2]
# the packages as a reader meets them, from the bottom up
PACKAGES = (
    *("core", "ops", "metrics", "models", "viz", "datasets", "augment", "training", "runtimes", "graph"),
    *("evaluation", "inspection", "export", "verification", "report", "inference", "tracking"),
    *("experiments", "annotation", "config", "commands"),
)


def formats_table() -> str:
    """The formats, in the order in which they are asked whether a folder is theirs."""
    rows = []
    for row in FORMATS.values():
        found_out = row.looks_for if row.recognize else f"{row.looks_for}; only where it is named"
        options = ", ".join(f"`{name}`" for name in row.Options.model_fields)
        rows.append([f"`{row.name}`", found_out, ", ".join(row.tasks), options])
    return table(["format", "found out by", "tasks", "options"], rows)


def both_ways_table() -> str:
    """The formats with what is kept of a set that is written in them and read again."""
    rows = []
    for row in FORMATS.values():
        keeps = row.write.keeps if row.write else ()
        words = [kind.words for name, kind in KINDS.items() if name in keeps]
        words += [said for name, said in SET_KINDS.items() if name in keeps]
        tolerance = f"; to {row.write.tolerance:g} pixels" if row.write and row.write.tolerance else ""
        rows.append([f"`{row.name}`", "yes", "yes" if row.write else "no", f"{', '.join(words)}{tolerance}"])
    return table(["format", "read", "written", "what is kept"], rows)


def format_options_table() -> str:
    rows = []
    for row in FORMATS.values():
        for name, value in row.Options().model_dump().items():
            meaning = " ".join((row.Options.model_fields[name].description or "").split())
            rows.append([f"`{row.name}`", f"`{name}`", f"`{json.dumps(value)}`", meaning])
    return table(["format", "option", "default", "what"], rows)


def stages_table() -> str:
    """The stages of dvc.yaml: what each is made once for, what it does, and the blocks of resolved.yaml it reads."""
    rows = []
    for name, stage in YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"].items():
        body, each = stage.get("do", stage), stage.get("foreach", "")
        one_per = {"${datasets}": "dataset", "${runs}": "run"}.get(each, "chain")
        blocks = [key.split("${key}.")[-1] for entry in body.get("params", []) for key in entry["resolved.yaml"]]
        does = _docstring(ROOT / f"stages/{name}.py").partition(": ")[2].replace(" -> ", " → ")
        rows.append([f"`{name}`", one_per, does, ", ".join(f"`{block}`" for block in blocks)])
    return table(["stage", "one per", "what from what", "blocks of `resolved.yaml`"], rows)


def packages_tree() -> str:
    """The packages, from the bottom up, each with the first sentence of its docstring."""
    lines = list(_tree(ROOT / "pipeline", PACKAGES, 1))
    width = max(len(name) for name, _ in lines)
    return "\n".join(["```", "pipeline/", *(f"{name:{width}}  {text}" for name, text in lines), "```"])


def _tree(folder: Path, known: tuple[str, ...], depth: int) -> Iterator[tuple[str, str]]:
    packages = {file.parent.name for file in folder.glob("*/__init__.py")}
    for name in [*(name for name in known if name in packages), *sorted(packages - set(known))]:
        text = _docstring(folder / name / "__init__.py")
        yield f"{'  ' * depth}{name}/", text.split(". ")[0].rstrip(".")
        yield from _tree(folder / name, (), depth + 1)


def _docstring(file: Path) -> str:
    return first_line(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")


TABLES: dict[str, Tables] = {
    "docs/architecture.md": {"stages": stages_table, "packages": packages_tree},
    "docs/augmentation.md": {"policies": policies_table},
    "docs/datasets.md": {
        "dataset-knobs": dataset_knobs_table,
        "formats": formats_table,
        "formats-both-ways": both_ways_table,
        "format-options": format_options_table,
        "public-sets": sets_table,
    },
    "docs/export.md": {"targets": targets_table},
    "docs/models.md": {"heads": heads_table},
    "docs/params.md": {
        "run-knobs": run_knobs_table,
        "pretrained": pretrained_table,
        "other-knobs": other_knobs_table,
    },
    "docs/preprocessing.md": {"steps": steps_table},
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

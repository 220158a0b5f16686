"""The docs: their links lead somewhere, their tables render, their commands and knobs are those of the code."""

import argparse
import inspect
import itertools
import re
import shlex
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import pytest
from pydantic import TypeAdapter

from pipeline import cli, commands
from pipeline.config.params import AnyRun, Params, put, read_settings
from pipeline.config.problems import fields_at
from pipeline.datasets.formats import FORMATS

ROOT = Path(__file__).parents[1]
PAGES = [p.relative_to(ROOT).as_posix() for p in sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")])]
PRESENT = [page for page in PAGES if page != "CHANGELOG.md"]  # which tells of what was there then
FENCE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
CODE = [import_module(f"pipeline.commands.{found.name}") for found in iter_modules(commands.__path__)]
COMMANDS = [
    (module, name)
    for module in CODE
    for name, made in vars(module).items()
    if inspect.isfunction(made) and [*inspect.get_annotations(made).values()][:1] == [argparse.Namespace]
]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def anchors(page: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_to_a_file_and_a_heading(page: str) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page))):
        if re.match(r"https?://", link):
            continue
        path, _, heading = link.partition("#")
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists() or (heading and heading not in anchors(target.relative_to(ROOT).as_posix())):
            broken.append(link)
    assert broken == []


def cells(row: str) -> int:
    r"""How many cells a row of a table has; `\|` is no border."""
    return len(re.findall(r"(?<!\\)\|", row)) - 1


@pytest.mark.parametrize("page", PAGES)
def test_every_table_renders(page: str) -> None:
    """A header, a line of dashes, rows of as many cells; text before it would swallow it."""
    wrong = []
    for part in FENCE.sub("\n\n", text_of(page)).split("\n\n"):
        lines = part.strip().splitlines()
        rows = [line for line in lines if line.startswith("|")]
        if not rows:
            continue
        dashes = len(rows) > 1 and re.fullmatch(r"\|( ?:?-+:? ?\|)+", rows[1])
        if not dashes or len(rows) != len(lines) or len({cells(row) for row in rows}) > 1:
            wrong.append(rows[0])
    assert wrong == []


def lines_of(page: str) -> Iterator[list[str]]:
    """The words of each `pocketlens ...` line of the page's code blocks, without what the shell makes of them."""
    for block in FENCE.findall(text_of(page)):
        for line in block.replace("\\\n", " ").splitlines():
            found = re.match(r"(?:.*[;|] *)?(?:\.venv/bin/)?pocketlens (.*)", line.strip())
            if found:
                yield [word for word in shlex.split(found[1], comments=True) if word != "$THEN"]


def settings_of(words: list[str]) -> dict[str, Any]:
    return read_settings([value for option, value in itertools.pairwise(words) if option == "--set"])


def test_commands_of_the_docs_are_found() -> None:
    assert len(COMMANDS) > 5
    assert sum(len(list(lines_of(page))) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES)
def test_every_command_parses(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    for module, name in COMMANDS:
        monkeypatch.setattr(module, name, called.append)
    written = list(lines_of(page))
    for words in written:
        cli.main(words)
    assert len(called) == len(written)


@pytest.mark.parametrize("page", PAGES)
def test_every_knob_that_add_sets_is_one(page: str) -> None:
    for words in lines_of(page):
        if words[0] != "add":
            continue
        run: dict[str, Any] = {"dataset": "a", "task": words[words.index("--task") + 1]}
        if "--pretrained" in words:
            run["model"] = {"pretrained": words[words.index("--pretrained") + 1]}
        for key, value in settings_of(words).items():
            if key.startswith("dataset."):
                assert any(is_dataset_knob(format, key) for format in FORMATS), key
            else:
                put(run, key, value)
        TypeAdapter(AnyRun).validate_python(run)


def is_dataset_knob(format: str, key: str) -> bool:
    *path, last = key.split(".")[1:]
    raw = {"datasets": {"a": {"format": format}}}
    try:
        return last in fields_at(Params, raw, ["datasets", "a", *path])
    except KeyError:
        return False


@pytest.mark.parametrize("page", PRESENT)
def test_every_make_target_is_one(page: str) -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = re.findall(r"(?:^|`)make ([a-z-]+)", text_of(page), re.MULTILINE)
    assert [name for name in named if name not in targets] == []


@pytest.mark.parametrize("page", PRESENT)
def test_a_path_of_the_code_is_there(page: str) -> None:
    paths = re.findall(r"`((?:pipeline|stages|tests|benchmarks)/[\w/.]+)`", text_of(page))
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_each_promise_of_security_has_its_test() -> None:
    rows = [
        line
        for line in text_of("docs/security.md").splitlines()
        if line.startswith("| ") and not line.endswith("| test |")
    ]
    assert len(rows) > 20
    assert [row for row in rows if not re.search(r"\| `tests/\w+\.py::\w+`(, `tests/\w+\.py::\w+`)* \|$", row)] == []


@pytest.mark.parametrize("page", PRESENT)
def test_a_test_that_is_named_is_there(page: str) -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", text_of(page))
    assert [test for file, test in named if f"\ndef {test}(" not in (ROOT / file).read_text(encoding="utf-8")] == []

"""YAML that others wrote."""

from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, NodeEvent
from ruamel.yaml.nodes import MappingNode, ScalarNode

from pipeline.core.errors import InputError

MOST = 1_000_000  # values, each counted as often as aliases name it
MERGE = "tag:yaml.org,2002:merge"  # of the key <<
DEEPEST = 100  # levels; of 100,000 the parser in C ends the process


def yaml_value(text: str, where: str) -> Any:
    """The value of a YAML text. Raises InputError that begins with `where` if it is not YAML, or a bomb: few lines
    whose aliases are millions of values, a value that holds itself, or one below more than `DEEPEST` others.

    >>> yaml_value("names: {0: cow, 1: goat}", "data.yaml")
    {'names': {0: 'cow', 1: 'goat'}}
    """
    try:
        _check_size(text, where)
        value = YAML(typ="safe").load(text)
    except InputError:
        raise
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: not YAML: {error}") from None
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:  # as ruamel makes `!!bool maybe`
        raise InputError(f"{where}: not YAML: a value that is not what its tag or place says: {error!r}") from None
    return value


def keys_as_written(text: str, name: str) -> list[str]:
    """The keys of the map `name` at the top of a YAML text that `yaml_value` reads, as they are written.

    >>> keys_as_written("names: {0x10: cow, '1': goat}", "names")
    ['0x10', '1']
    """
    top = YAML(typ="safe").compose(text)
    maps = [value for key, value in top.value if key.value == name] if isinstance(top, MappingNode) else []
    found = [key for value in maps if isinstance(value, MappingNode) for key, _ in value.value]
    return [key.value for key in found if isinstance(key, ScalarNode) and key.tag != MERGE]


def _check_size(text: str, where: str) -> None:
    """By the parser's events: values that are merged (`<<`) are copied, and may take hours to make."""
    known: dict[str, tuple[int, int]] = {}  # how many values an anchor has, on how many levels
    ahead: list[_Collection] = []
    count = 0
    for event in YAML(typ="safe").parse(text):
        levels = 0
        if isinstance(event, AliasEvent):
            if any(event.anchor == one.anchor for one in ahead):
                raise InputError(f"{where}: a value that holds itself: *{event.anchor} within &{event.anchor}")
            values, levels = known.get(event.anchor, (1, 0))
            count += values
        elif isinstance(event, CollectionEndEvent):
            one = ahead.pop()
            levels = one.levels
            if one.anchor:
                known[one.anchor] = count - one.before, levels
        elif isinstance(event, NodeEvent):
            count += 1
            if isinstance(event, CollectionStartEvent):
                ahead.append(_Collection(event.anchor, count - 1))
        if ahead:
            ahead[-1].levels = max(ahead[-1].levels, levels + 1)
        if len(ahead) + levels > DEEPEST:
            raise InputError(f"{where}: not YAML: more than {DEEPEST} levels in each other")
        if count > MOST:
            raise InputError(f"{where}: more than {MOST} values in it, or in what its aliases (&a, *a) stand for")


@dataclass
class _Collection:
    """A list or map whose end is ahead."""

    anchor: str | None
    before: int  # values before it
    levels: int = 1

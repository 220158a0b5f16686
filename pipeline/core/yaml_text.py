"""YAML that others wrote."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from ruamel.yaml.events import CollectionEndEvent, CollectionStartEvent

from pipeline.core.errors import InputError

MOST = 1_000_000  # values, each counted as often as aliases name it
DEEPEST = 100  # levels; of 100,000 the parser in C ends the process


def yaml_value(text: str, where: str) -> Any:
    """The value of a YAML text. Raises InputError that begins with `where` if it is not YAML, or a bomb: few lines
    whose aliases are millions of values, a value that holds itself, or one below more than `DEEPEST` others.

    >>> yaml_value("names: {0: cow, 1: goat}", "data.yaml")
    {'names': {0: 'cow', 1: 'goat'}}
    """
    try:
        _check_depth(text, where)
        value = YAML(typ="safe").load(text)
    except InputError:
        raise
    except (YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{where}: not YAML: {error}") from None
    except (LookupError, TypeError, AttributeError, ArithmeticError) as error:  # as ruamel makes `!!bool maybe`
        raise InputError(f"{where}: not YAML: a value that is not what its tag or place says: {error!r}") from None
    count, ahead = 0, [value]
    while ahead:
        one = ahead.pop()
        within = [*one, *one.values()] if isinstance(one, dict) else one if isinstance(one, list | set | tuple) else ()
        count += len(within)
        if count > MOST:
            raise InputError(f"{where}: more than {MOST} values in it, or in what its aliases (&a, *a) stand for")
        ahead += within
    return value


def _check_depth(text: str, where: str) -> None:
    depth = 0
    for event in YAML(typ="safe").parse(text):
        depth += isinstance(event, CollectionStartEvent) - isinstance(event, CollectionEndEvent)
        if depth > DEEPEST:
            raise InputError(f"{where}: not YAML: more than {DEEPEST} levels in each other")

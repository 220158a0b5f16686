"""YAML that others wrote."""

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.core.errors import InputError

MOST = 1_000_000  # values, each counted as often as aliases name it


def yaml_value(text: str, where: str) -> Any:
    """The value of a YAML text. Raises InputError that begins with `where` if it is not YAML, or a bomb: few lines
    whose aliases are millions of values, or a value that holds itself.

    >>> yaml_value("names: {0: cow, 1: goat}", "data.yaml")
    {'names': {0: 'cow', 1: 'goat'}}
    """
    try:
        value = YAML(typ="safe").load(text)
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

"""Names in tables that are imported only once they are used: a table of all stays as cheap as one line of it."""

from importlib import import_module
from typing import Any


def load(place: str) -> Any:
    """What `place` ("module:name") names, imported now.

    >>> load("pipeline.core.errors:InputError").__name__
    'InputError'

    Raises ModuleNotFoundError or AttributeError if there is no such module or name.
    """
    module, _, name = place.partition(":")
    return getattr(import_module(module), name)

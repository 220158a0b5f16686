"""Base types of the params: blocks, ranges of numbers, and the nearest of the known keys."""

import difflib
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

Fraction = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
AUTO = "auto"  # of predict.score: chosen on val
NONE = "none"  # of predict.calibrate: scores stay as the net says them
COSTS = ("miss_cost", "alarm_cost")
HOW = (*COSTS, "calibrate")  # of the block `predict`: what is left to val and how, nothing that a model needs
TASKS = ("classify", "localize", "detect")
# for classes that `create_model` makes: pydantic would look for meanings in their source, which there is not, for half
# the time that the command takes to start
NO_SOURCE = {"use_attribute_docstrings": False}
LISTED = 40  # names that an error lists


class Block(BaseModel):
    """A block of params: every key is declared, with its type, its range and, where there is one, its default.

    The string under a field is its meaning, with the unit; `pocketlens params` prints it.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


def flat(tree: Any, separator: str = ".") -> dict[str, Any]:
    """Nested dicts as one, their keys joined by `separator`.

    >>> flat({"head": {"kind": "pool", "dropout": 0.2}, "size": 96})
    {'head.kind': 'pool', 'head.dropout': 0.2, 'size': 96}
    """
    result: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            result.update({f"{key}{separator}{k}": v for k, v in flat(value, separator).items()})
        else:
            result[str(key)] = value
    return result


def closest(word: str, known: Any) -> str | None:
    """The one of `known` that `word` is close to, as a slip of the keys would be.

    >>> closest("epoch", ["epochs", "size"])
    'epochs'
    >>> closest("cells", ["labels", "layers"])  # no slip, though they share letters
    """
    return next(iter(difflib.get_close_matches(str(word), [str(k) for k in known], n=1, cutoff=0.6)), None)


def nearest(word: str, known: Any) -> str:
    """The end of an error message: the one of `known` that `word` is close to; else all of them, up to `LISTED`.

    >>> nearest("epoch", ["epochs", "size"])
    "; did you mean 'epochs'?"
    """
    if close := closest(word, known):
        return f"; did you mean {close!r}?"
    return f"; expected one of {', '.join(map(str, known))}" if 0 < len(known) <= LISTED else ""

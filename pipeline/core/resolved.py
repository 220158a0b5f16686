"""resolved.yaml: every knob of every dataset and run, in blocks by stage, as the stage `params` writes it.

A stage reads the blocks that its `params:` in dvc.yaml list, and no others: DVC reruns it when one of these changes.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pipeline.core.errors import InputError
from pipeline.core.files import content_of_file
from pipeline.core.params import nearest
from pipeline.core.yaml_text import yaml_value

FILE = "resolved.yaml"


class Resolved:
    """The blocks of a resolved.yaml. Raises InputError if the file is missing or not YAML."""

    def __init__(self, path: Path | str = FILE) -> None:
        self._path = Path(path)
        try:
            text = content_of_file(self._path).decode("utf-8")
        except UnicodeDecodeError as error:
            raise InputError(f"{path}: not UTF-8; `dvc repro --force params` writes it anew: {error}") from None
        except FileNotFoundError:
            raise InputError(f"{path}: no such file; `dvc repro params` writes it from params.yaml") from None
        try:
            self._tree: dict[str, Any] = yaml_value(text, str(path)) or {}
        except InputError as error:
            raise InputError(f"{error}; `dvc repro --force params` writes it anew") from None

    def block(self, schema: Any, *keys: str, default: Any = None) -> Any:
        """The block at `keys` ("runs", "herd", "predict") as `schema`; without its section, `default` if given.

        Raises InputError naming the key if it is not there, or not what this version of the code expects.
        """
        if default is not None and keys[0] not in self._tree:
            return default
        return self._checked(schema, self._at(*keys), keys)

    def blocks(self, schema: Any, *keys: str, only: Sequence[str]) -> Any:
        """The blocks `only` at `keys`, together as `schema` (a union too). Raises InputError as `block` does."""
        return self._checked(schema, {name: self._at(*keys, name) for name in only}, keys)

    def _at(self, *keys: str) -> Any:
        block: Any = self._tree
        for number, key in enumerate(keys):
            if not isinstance(block, dict) or key not in block:
                known = block if isinstance(block, dict) else {}
                missing = f"{self._path}: no {'.'.join(keys[: number + 1])}{nearest(key, known)}"
                raise InputError(f"{missing}; `python -m stages.params` writes it anew from params.yaml")
            block = block[key]
        return block

    def _checked(self, schema: Any, block: Any, keys: Sequence[str]) -> Any:
        try:
            return TypeAdapter(schema).validate_python(block)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join(map(str, (*keys, *problem["loc"])))
            found = f"{place}: {problem['msg']}, found {problem['input']!r:.200}"
            raise InputError(f"{self._path}: {found}; `dvc repro params` writes it anew") from None

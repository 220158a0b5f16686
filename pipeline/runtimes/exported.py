"""A file that `export` made, found again and held to what export.json says of it."""

from pathlib import Path
from typing import Any

from pipeline.core.errors import InputError
from pipeline.core.files import read_json, sha256
from pipeline.core.room import size_bytes
from pipeline.core.spec import ANEW


def exported_file(folder: Path, target: str) -> Path:
    """The file of `target` in an export folder, or its folder (.mlpackage).

    Raises InputError if it was not exported, is missing, or is another one than `export.json` lists.
    """
    made = read_made(folder)
    if target in made["not_made"]:
        raise InputError(f"{folder}: has no {target}, it could not be made: {made['not_made'][target]}")
    if target not in made["targets"]:
        raise InputError(f"{folder}: has no {target}; export.targets of the run made {', '.join(made['targets'])}")
    row = made["targets"][target]
    path = folder / str(row["file"])
    if not path.exists():
        raise InputError(f"{path}: no such file")
    found = sha256(path)
    if found != row["sha256"]:
        raise InputError(
            f"{path}: damaged, or of another run: {size_bytes(path)} bytes, sha256 {found[:12]}...; export.json "
            f"expects {row['size_bytes']} bytes, sha256 {row['sha256'][:12]}...; `pocketlens doctor` "
            "says what to do"
        )
    return path


def read_made(folder: Path) -> dict[str, Any]:
    """What export.json in an export folder says. Raises InputError if it is missing or does not say what was made."""
    made = read_json(path := folder / "export.json")
    if not isinstance(made, dict) or any(not isinstance(made.get(part), dict) for part in ("targets", "not_made")):
        raise InputError(f"{path}: expected an object with targets and not_made; {ANEW}")
    return made

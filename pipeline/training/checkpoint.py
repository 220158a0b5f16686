"""The file of a checkpoint: what torch.save writes, and its sha256 behind that, as torch reads what has rotted."""

import hashlib
import io
import pickle
from pathlib import Path
from typing import Any

import torch

from pipeline.core.errors import InputError
from pipeline.core.files import new_file
from pipeline.models.weights import first_line

SHA256 = 32  # bytes
ANEW = "remove it to train from the beginning"


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; the file is there whole, or the one before is."""
    written = io.BytesIO()
    torch.save(state, written)
    with new_file(path) as place, place.open("wb") as file:
        file.write(written.getbuffer())
        file.write(hashlib.sha256(written.getbuffer()).digest())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What was written. Raises InputError for a file of other bytes, and one that this version of torch cannot read."""
    whole = path.read_bytes()
    content, digest = whole[:-SHA256], whole[-SHA256:]
    if hashlib.sha256(content).digest() != digest:
        raise InputError(f"{path}: damaged: its {len(whole)} bytes are not those that were written; {ANEW}")
    try:
        state: dict[str, Any] = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise InputError(f"{path}: not a checkpoint that this torch reads: {first_line(error)}; {ANEW}") from None
    return state

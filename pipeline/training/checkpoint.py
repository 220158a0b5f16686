"""The checkpoint of a training that was killed: for which run it is, and its file, which is what torch.save writes
and the sha256 of that, as torch reads what has rotted.
"""

import hashlib
import io
import os
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.files import new_file, open_file, sha256
from pipeline.models.weights import first_line
from pipeline.training.params import RunParams

if TYPE_CHECKING:
    from pipeline.models.backbones import Pretrained

FORM = 4  # one of another form is not resumed
LAST = "last.ckpt"
# of the size of the net: itself, its average, the best one and, as the optimizer has them, two moments; there are two
# checkpoints while one is written in the other's place
NETS = 10

SHA256 = 32  # bytes
PART = 1 << 20  # bytes that are hashed at once


class _Hashed(io.BufferedWriter):
    """A file to write to, and the sha256 of what was written: a checkpoint is never in memory as a whole."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path, "wb"))
        self.sum = hashlib.sha256()
        self.failed: OSError | None = None

    def write(self, content: Any, /) -> int:
        self.sum.update(content)
        try:
            return super().write(content)
        except OSError as error:
            self.failed = error
            raise


def write_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write `state`; the file is there whole, or the one before is."""
    with new_file(path) as place, _Hashed(place) as file:
        try:
            torch.save(state, file)
        except RuntimeError:  # of torch's own counting, in place of what stopped it
            if file.failed:
                raise file.failed from None
            raise
        file.write(file.sum.digest())


def read_checkpoint(path: Path) -> dict[str, Any]:
    """What was written. Raises InputError for a file of other bytes, and one that this version of torch cannot read."""
    with open_file(path) as file:
        size = os.fstat(file.fileno()).st_size
        found, left = hashlib.sha256(), size - SHA256
        while left > 0 and (part := file.read(min(left, PART))):
            found.update(part)
            left -= len(part)
        if found.digest() != file.read():
            raise InputError(f"{path}: damaged: its {size} bytes are not those that were written")
        file.seek(0)
        try:
            state: dict[str, Any] = torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError) as error:
            raise InputError(f"{path}: not a checkpoint that this torch reads: {first_line(error)}") from None
    return state


def is_left(path: Path) -> bool:
    """Whether there is a checkpoint to go on from. One that is damaged is moved aside, which a line tells."""
    if not path.is_file():
        return False
    try:
        read_checkpoint(path)
    except InputError as error:
        aside = path.with_name(f"{path.name}.damaged")
        path.replace(aside)
        tqdm.write(f"{error}; it is kept as {aside} until the run is trained, which begins anew")
        return False
    return True


def fingerprint(run: RunParams, pretrained: "Pretrained", *folders: Path) -> str:
    """Of everything that training depends on, by content: params, each file of the data, the weights it starts from.

    Names and sizes stay when labels are exchanged or weights replaced. Every file is read once, in order: a second for
    0.5 to 2 GB that the system has in memory, else what the disk takes, which the first epoch would wait for anyway.
    """
    weights = hashlib.sha256()
    for name, tensor in sorted(((pretrained.state or {}) | pretrained.rest).items()):
        weights.update(f"{name} {tuple(tensor.shape)}".encode())
        weights.update(tensor.contiguous().numpy().tobytes())
    if pretrained.spec:  # the head's rows are taken by these names
        weights.update(repr((pretrained.spec.labels, pretrained.spec.landmarks)).encode())
    facts: dict[str, Any] = {"checkpoint": FORM, "run": run.model_dump(), "weights": weights.hexdigest()}
    facts |= {"normalization": (pretrained.mean, pretrained.std), "data": [sha256(folder) for folder in folders]}
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:16]

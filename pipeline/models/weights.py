"""Files of weights: ours, and what other makers' training programs leave. Nothing that they hold is ever run."""

import argparse
import hashlib
import io
import pickle
import re
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from pipeline.core.boundary import of_the_machine
from pipeline.core.errors import InputError

# parts of a checkpoint that hold a net's weights, the averaged ones first: they are what its maker judged
_PARTS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema", "state_dict", "model_state_dict", "model", "net")
# what DistributedDataParallel, torch.compile, Lightning and nets around a backbone put before its names
_WRAPPERS = ("module.", "_orig_mod.", "ema_model.", "model.", "net.", "network.", "backbone.", "encoder.", "body.")
_NOT_SAFE = "not a weights file that is safe to load"
_DAMAGED = (
    *(SafetensorError, pickle.UnpicklingError, RuntimeError, OSError, ValueError, EOFError, LookupError),
    zipfile.BadZipFile,
)
_OTHERS = {  # what comes in the place of a file that could not be fetched, by its first bytes
    b"version https://git-lfs": "a pointer of git-lfs, `git lfs pull` brings the file",
    b"<!doctype html": "a page of HTML",
    b"<html": "a page of HTML",
    b"": "it is empty",
}
SAFE = ".safetensors"
MOST_EXPANDED = (
    256 << 20
)  # bytes that numbers stand for which a file has once, as of a mask that is the same everywhere
_DEEP = 3  # levels of a checkpoint that are looked through
_NAMED = 4  # keys and names that a message lists


@dataclass(frozen=True, slots=True)
class WeightsFile:
    """A file that was read: what it holds, and the sha256 of the bytes that hold it."""

    path: Path
    content: Any
    sha256: str

    def nets(self) -> list[tuple[str, dict[str, Tensor]]]:
        """The weights of each net in it with the part that they are ("": the file itself), the likeliest first."""
        return sorted(_states("", self.content), key=lambda part: _rank(part[0]))

    def told(self, wanted: Collection[str]) -> str:
        """What stands in the file and how to make it plain: the end of a message that says that it does not fit."""
        if not isinstance(self.content, dict):
            return f"it holds a {type(self.content).__name__}; expected names and their tensors"
        part, state = next(iter(self.nets()), ("", {}))
        where = "".join(f'["{key}"]' for key in part.split(".") if part)
        reading = f'torch.load("{self.path}", map_location="cpu", weights_only=True){where}'
        if self.path.suffix == SAFE:
            reading = f'safetensors.torch.load_file("{self.path}")'
        return (
            f"it holds {some(self.content)}; its tensors{where and f' in {where}'} begin with {some(state)}, "
            f"timm's with {some(wanted)}. To make it plain, with the names that fit:\n"
            f"    state = {reading}\n"
            f'    torch.save({{name.removeprefix("..."): tensor for name, tensor in state.items()}}, "plain.pth")'
        )


def read_weights(path: Path) -> WeightsFile:
    """A .safetensors file, or one of torch.save. Raises InputError if it is missing, damaged or holds code, and for one
    that stands for more than it has bytes.
    """
    if not path.is_file():
        run = path.parent.name if path.parent.parent == Path("models") else ""
        raise InputError(f"{path}: no such file{run and f'; `dvc repro train@{run}` makes it'}")
    data = path.read_bytes()
    try:
        if path.suffix == SAFE:
            content: Any = dict(sorted(load(data).items()))  # it gives them in any order
        else:
            _check_stored(data)
            # training programs keep their arguments beside the weights: a plain record of values
            with torch.serialization.safe_globals([argparse.Namespace]):
                content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except _DAMAGED as error:
        raise InputError(f"{path}: {_NOT_SAFE}: {_why(error, data)}") from None
    except MemoryError as error:
        if of_the_machine(error):
            raise
        raise InputError(f"{path}: {_NOT_SAFE}: it asks for more memory than there is") from None
    for _, state in _states("", content):
        _check_sizes(path, state)
    return WeightsFile(path, content, hashlib.sha256(data).hexdigest())


def _why(error: Exception, data: bytes) -> str:
    """In our words: torch's own ask for `weights_only=False`, which runs what the file holds."""
    plain = (
        "To make it plain, in the program that made it:\n"
        "    state = model.state_dict()  # of the timm or torchvision net itself\n"
        '    torch.save(state, "plain.pth")'
    )
    if foreign := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return f"it holds a {foreign[1]}, which loading would run. {plain}"
    for begins, what in _OTHERS.items():
        if data[:100].lstrip().lower().startswith(begins) and (begins or not data):
            return f"{what}; expected a .safetensors file, or what torch.save writes of a state_dict"
    if isinstance(error, pickle.UnpicklingError | LookupError):
        found = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
        said = found[1] if found else f"it begins with {data[:12]!r}"
        return f"{said}; expected what torch.save writes of a state_dict in its own protocol. {plain}"
    return first_line(error)


def _check_stored(data: bytes) -> None:
    """Raises ValueError for a zip that is not as torch writes it: its parts as they are, each in bytes of its own."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return
    with zipfile.ZipFile(io.BytesIO(data)) as packed:
        parts = packed.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED for part in parts):
        raise ValueError("its parts are compressed; expected them as torch.save writes them")
    if (size := sum(part.file_size for part in parts)) > len(data):
        raise ValueError(f"its parts have {size} bytes by their list, and the file {len(data)}")


def _check_sizes(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises InputError that names the file and the tensor at which those that stand for more bytes than they have, as
    one number for billions, are more than MOST_EXPANDED.
    """
    total = 0
    for name, tensor in state.items():
        if tensor.layout is torch.strided and not tensor.is_meta:
            own, kept = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
            total += own if own > kept else 0
            if total > MOST_EXPANDED:
                shape = " x ".join(map(str, tensor.shape))
                raise InputError(f"{path}: {_NOT_SAFE}: {name} is {shape}, {own} bytes, of which the file has {kept}")


def check_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises InputError that names the file and the first tensor with a number that is not finite."""
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise InputError(
                f"{path}: {name} holds numbers that are not finite: the file is damaged, or what wrote it had diverged"
            )


def check_usable(path: Path, state: Mapping[str, Tensor]) -> None:
    """Raises InputError that names the file and the first tensor that no net's weights are: integers or complex
    numbers, none in it at all, or a negative variance; and where all are zero.
    """
    for name, tensor in state.items():
        if tensor.layout is not torch.strided or tensor.is_meta:
            raise InputError(f"{path}: {name} is {'empty' if tensor.is_meta else tensor.layout}; expected its numbers")
        if name.endswith((".weight", ".bias", ".running_mean", ".running_var")) and not tensor.is_floating_point():
            raise InputError(f"{path}: {name} has numbers of {tensor.dtype}; expected floating point")
        if name.endswith("running_var") and (tensor < 0).any():
            raise InputError(f"{path}: {name} has a variance below 0: the file is damaged")
    if state and not any(tensor.any() for tensor in state.values()):
        raise InputError(f"{path}: all of its weights are 0")


def first_line(error: BaseException) -> str:
    """Of what a library raises, for the end of a message; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


def most_alike(nets: list[tuple[str, dict[str, Tensor]]], wanted: Collection[str]) -> tuple[str, dict[str, Tensor]]:
    """Of these nets the first with more than half of the names `wanted`, without what wraps it; else the first one.

    Returns it with the place where it was: the part of the file and the prefix of its names.
    """
    for part, state in nets:
        prefix, found = _prefix(state, wanted)
        if found > len(wanted) / 2:
            own = {name.removeprefix(prefix): t for name, t in state.items() if name.startswith(prefix)}
            return ".".join(filter(None, (part, prefix.rstrip(".")))), own
    part, state = nets[0]
    return part, _unwrapped(state)


def _prefix(state: Mapping[str, Tensor], wanted: Collection[str]) -> tuple[str, int]:
    """What stands before most of the names `wanted`, and before how many."""
    before = Counter[str]()
    for name in state:
        steps = name.split(".")
        own = next((i for i in range(len(steps)) if ".".join(steps[i:]) in wanted), None)
        if own is not None:
            before["".join(f"{step}." for step in steps[:own])] += 1
    return before.most_common(1)[0] if before else ("", 0)


def _unwrapped(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the wrappers that stand before most of its names, and without what they do not stand before."""
    while wrapper := next((w for w in _WRAPPERS if sum(n.startswith(w) for n in state) > len(state) / 2), None):
        state = {name.removeprefix(wrapper): t for name, t in state.items() if name.startswith(wrapper)}
    return state


def _states(part: str, value: Any) -> Iterator[tuple[str, dict[str, Tensor]]]:
    if not isinstance(value, dict) or part.count(".") >= _DEEP:
        return
    own = {name: tensor for name, tensor in value.items() if isinstance(name, str) and isinstance(tensor, Tensor)}
    if own:
        yield part, own
    for key, inner in value.items():
        if isinstance(key, str):
            yield from _states(f"{part}.{key}" if part else key, inner)


def _rank(part: str) -> int:
    return min((_PARTS.index(key) for key in part.split(".") if key in _PARTS), default=len(_PARTS))


def some(names: Collection[Any]) -> str:
    """The first few, for a message."""
    shown = ", ".join(str(name) for name in list(names)[:_NAMED])
    return f"{shown or 'nothing'}{', ...' if len(names) > _NAMED else ''}"

"""What a frozen backbone makes of a batch of images: here, or on another machine."""

import hashlib
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.core.errors import InputError
from pipeline.core.files import open_file
from pipeline.core.parallel import own_place
from pipeline.core.sample import Sample
from pipeline.core.spec import ModelSpec
from pipeline.models.nets import Net, build
from pipeline.training.loading import NO_PIXELS, ImageDataset
from pipeline.training.targets import Item

BATCH = 32  # the last batch is padded to it: features of an image must not depend on the size of its batch
NET = "net.safetensors"
DAMAGED = (BadZipFile, zlib.error, EOFError, KeyError, TypeError, ValueError, OSError)  # how NumPy says it of a file
_nets: dict[Path, Net] = {}  # the last one; its file's folder is named by a hash of its weights


def write_net(folder: Path, net: Net) -> None:
    """Write the weights of `net` into the `parts` of `Elsewhere`."""
    with own_place(folder / NET) as place:  # another machine may read the one of a broken run
        save_file({name: tensor.contiguous() for name, tensor in net.state_dict().items()}, place)


def names_of(images: Tensor) -> list[bytes]:
    """A hash of each of the canvases, uint8 [N, S, S, 3]."""
    return [hashlib.sha256(image.numpy()).digest() for image in images]


def maps_of(net: Net, spec: ModelSpec, images: Tensor, half: bool, device: torch.device) -> list[Tensor]:
    """uint8 [N, S, S, 3] -> the maps, float32; computed in bfloat16 where `half`."""
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) * 255 for v in (spec.mean, spec.std))
    normal = (images.to(device).permute(0, 3, 1, 2).float() - mean) / std
    with torch.no_grad(), torch.autocast(device.type, torch.bfloat16, enabled=half):
        maps = net.features(normal.contiguous(memory_format=torch.channels_last))
    return [m.float() for m in maps]


def flat_maps(net: Net, spec: ModelSpec, images: Tensor, half: bool, device: torch.device) -> NDArray[np.float16]:
    """At most `BATCH` images, uint8 [N, S, S, 3] -> [N, D], all maps of an image one after the other."""
    filled = torch.cat([images, images[:1].expand(BATCH - len(images), -1, -1, -1)])
    flat = torch.cat([m.flatten(1) for m in maps_of(net, spec, filled, half, device)], dim=1)
    return flat[: len(images)].half().cpu().numpy()


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """At most `BATCH` samples of the folder `images` -> the names of their canvases and their items without pixels, by
    another machine. What `database` does not know lies in a new file of `parts` then, where the net is that makes it.
    """

    images: Path
    parts: Path
    database: Path
    spec: ModelSpec
    half: bool
    threads: int

    def file_of(self, samples: list[Sample]) -> Path:
        return self.images / samples[0].file_name

    def __call__(self, samples: list[Sample]) -> tuple[list[bytes], list[Item]]:
        dataset = ImageDataset(self.images, samples, self.spec)
        items = [dataset[i] for i in range(len(samples))]
        images = torch.from_numpy(np.stack([item[0] for item in items]))
        names = names_of(images)
        if not self._known(names):
            torch.set_num_threads(self.threads)  # the last bits depend on it
            flat = flat_maps(_net(self.parts / NET, self.spec), self.spec, images, self.half, torch.device("cpu"))
            rows = np.array([np.frombuffer(name, np.uint8) for name in names])
            part = self.parts / f"{hashlib.sha256(rows.tobytes()).hexdigest()}.npz"
            with own_place(part) as place, place.open("wb") as file:
                np.savez(file, names=rows, maps=flat)
        return names, [(NO_PIXELS, *item[1:]) for item in items]

    def _known(self, names: list[bytes]) -> bool:
        """Nobody writes to the database now, and a lock would not hold across machines."""
        with closing(sqlite3.connect(f"{self.database.absolute().as_uri()}?mode=ro&immutable=1", uri=True)) as known:
            query = "SELECT 1 FROM features WHERE image = ?"
            return all(known.execute(query, (name,)).fetchone() for name in names)


def parts_in(folder: Path) -> Iterator[tuple[list[bytes], NDArray[np.float16]]]:
    """What `Elsewhere` has left in its folder `parts`: names, and [N, D] maps of these. A damaged file is passed over:
    what it had is not known, and so computed anew.
    """
    for file in sorted(folder.glob("[!.]*.npz")):
        try:
            with open_file(file) as opened, np.load(opened) as part:
                names, maps = [name.tobytes() for name in part["names"]], part["maps"]
        except DAMAGED:
            continue
        if maps.ndim == 2 and len(maps) == len(names):
            yield names, maps


def _net(file: Path, spec: ModelSpec) -> Net:
    """The net that `write_net` wrote, made anew: a file of a shared folder is data and no code."""
    if file not in _nets:
        net = build(spec)
        try:
            with open_file(file):
                net.load_state_dict(load_file(file))
        except (SafetensorError, RuntimeError, OSError) as error:
            raise InputError(f"{file}: not the weights of {spec.backbone} that were written there: {error}") from None
        _nets.clear()
        _nets[file] = net.eval().to(memory_format=torch.channels_last)
    return _nets[file]

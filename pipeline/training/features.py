"""What a frozen backbone makes of images, computed once and kept on disk for every later run and head."""

import hashlib
import os
import shutil
import sqlite3
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from tqdm import tqdm

from pipeline.core.boundary import known_of
from pipeline.core.errors import InputError
from pipeline.core.parallel import each, on_cluster
from pipeline.core.spec import ModelSpec
from pipeline.models.backbones import used_modules
from pipeline.models.nets import Net
from pipeline.training.loading import (
    EpochSampler,
    ImageDataset,
    Loaders,
    Process,
    TrainBatches,
    eval_loader,
    own_batches,
)
from pipeline.training.maps import BATCH, Elsewhere, flat_maps, maps_of, names_of, parts_in, write_net
from pipeline.training.params import RunParams
from pipeline.training.targets import Item, targets

CHECK = 4  # bytes of the checksum behind an image's maps
ANEW = "delete it: it is computed anew"
FeatureItem = tuple[list[NDArray[np.float16]], Item]


class Features(TorchDataset[FeatureItem]):
    """The maps of `net.features` for the images of `dataset`, in half precision, with what belongs to the images.

    They lie in `folder`/<key>.sqlite under a hash of the image on the canvas, with a checksum behind each. The key is
    made of the layers that were used and their weights, the normalization and the precision. What is missing is
    computed now, batch by batch: a kill loses one. Of several processes of a machine each computes its share; in a
    block of `parallel.over` other machines do. Raises
    InputError, also when an item is taken, for a file that is damaged or cannot be written.
    """

    def __init__(self, dataset: ImageDataset, net: Net, folder: Path, fabric: Fabric) -> None:
        self.spec = dataset.spec
        self._half, self._device = fabric.strategy.precision.precision == "bf16-mixed", fabric.device
        self._net = net.eval().to(self._device).to(memory_format=torch.channels_last)
        side = self.spec.size
        blank = torch.zeros(1, side, side, 3, dtype=torch.uint8)
        self._shapes = [m.shape[1:] for m in maps_of(self._net, self.spec, blank, self._half, self._device)]
        folder.mkdir(parents=True, exist_ok=True)
        self._file = folder / f"{self._key()}.sqlite"
        with self._said():
            self._database = sqlite3.connect(self._file, timeout=60)
            self._database.execute("CREATE TABLE IF NOT EXISTS features (image BLOB PRIMARY KEY, maps BLOB)")
        self._rows: list[tuple[bytes, Item]] = []
        if on_cluster():
            self._rows = self._from_elsewhere(dataset)
            return
        here = Process(fabric.local_rank, int(os.environ["LOCAL_WORLD_SIZE"]) if fabric.world_size > 1 else 1)
        loader = eval_loader(dataset, BATCH)
        batches = tqdm(loader, "features", mininterval=0.5, disable=None if fabric.is_global_zero else True)
        for number, (images, _, items) in enumerate(batches):
            names = names_of(images)
            self._rows += zip(names, items, strict=True)
            if here.owns(number):
                self._keep(names, images)
        fabric.barrier()

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, key: int | tuple[int, int]) -> FeatureItem:
        name, item = self._rows[key[0] if isinstance(key, tuple) else key]
        query = "SELECT maps FROM features WHERE image = ?"
        with self._said():
            (blob,) = self._database.execute(query, (name,)).fetchone() or (b"",)
        blob, check = blob[:-CHECK], blob[-CHECK:]
        if len(blob) != 2 * sum(shape.numel() for shape in self._shapes) or check != checksum(blob):
            raise InputError(f"{self._file}: of image {item[1].id} not what was written; {ANEW}")
        flat, maps = np.frombuffer(blob, np.float16), []
        for shape in self._shapes:
            maps.append(flat[: shape.numel()].reshape(shape))
            flat = flat[shape.numel() :]
        return maps, item

    def _keep(self, names: list[bytes], images: Tensor) -> None:
        query = "SELECT 1 FROM features WHERE image = ?"
        with self._said():
            known = [self._database.execute(query, (name,)).fetchone() for name in names]
        if all(known):
            return
        self._insert(names, flat_maps(self._net, self.spec, images, self._half, self._device))

    def _insert(self, names: list[bytes], flat: NDArray[np.float16]) -> None:
        rows = [(name, (maps := flat[i].tobytes()) + checksum(maps)) for i, name in enumerate(names)]
        with self._said(), self._database:
            self._database.executemany("INSERT OR IGNORE INTO features VALUES (?, ?)", rows)

    def _from_elsewhere(self, dataset: ImageDataset) -> list[tuple[bytes, Item]]:
        """The rows of all images, by other machines. They leave maps in a folder, as those of a broken run did."""
        parts, samples = self._file.with_suffix(".parts"), dataset.samples
        parts.mkdir(exist_ok=True)
        self._take_in(parts)
        write_net(parts, self._net)
        work = Elsewhere(dataset.folder, parts, self._file, self.spec, self._half, torch.get_num_threads())
        batches = [samples[i : i + BATCH] for i in range(0, len(samples), BATCH)]
        made = each(work, batches, "features", reads=work.file_of, writes=parts)
        self._take_in(parts)
        shutil.rmtree(parts)
        return [row for names, items in made for row in zip(names, items, strict=True)]

    def _take_in(self, parts: Path) -> None:
        for names, flat in parts_in(parts):
            self._insert(names, flat)

    @contextmanager
    def _said(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise InputError(known_of(self._file, error, ANEW)) from None

    def _key(self) -> str:
        digest = hashlib.sha256(repr((CHECK, self.spec.mean, self.spec.std, self._half, self._device.type)).encode())
        digest.update(f"{self.spec.backbone} {self.spec.size} {self._shapes}".encode())
        with torch.no_grad():
            blank = torch.zeros(1, 3, self.spec.size, self.spec.size, device=self._device)
            used = used_modules(self._net, lambda: self._net.features(blank))
        for module in used:
            # strides, padding and eps have no tensor
            digest.update(f"{type(module).__name__}({module.extra_repr()})".encode())
            own: list[Any] = [*module.parameters(recurse=False), *module.buffers(recurse=False)]
            for tensor in own:
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


def checksum(blob: bytes) -> bytes:
    return zlib.crc32(blob).to_bytes(CHECK, "little")


def frozen_loaders(
    datasets: tuple[ImageDataset, ImageDataset], net: Net, folder: Path, run: RunParams, fabric: Fabric
) -> Loaders:
    """Batches (maps float32, a list of [N, ...]; targets; items); those of train are shuffled."""
    train, val = (Features(part, net, folder, fabric) for part in datasets)
    size, process = run.train.batch_size, datasets[0].process
    collate = _Collate(train.spec)
    shuffled = TrainBatches(EpochSampler(len(train), run.train.seed), size, process)
    in_order = own_batches(len(val), size, process)
    return Loaders(
        DataLoader(train, batch_sampler=shuffled, collate_fn=collate),
        DataLoader(val, batch_sampler=in_order, collate_fn=collate),
    )


class _Collate:
    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def __call__(self, rows: list[FeatureItem]) -> tuple[list[Tensor], dict[str, Tensor], list[Item]]:
        maps = [torch.from_numpy(np.stack(level)).float() for level in zip(*(r[0] for r in rows), strict=True)]
        items = [row[1] for row in rows]
        return maps, targets(items, self.spec), items

"""Where a net is trained: on the device of one process, or of all that torchrun started; and what these share."""

import ctypes
import logging
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed
from joblib import cpu_count
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from timm.layers import BatchNormAct2d
from torch import Tensor, nn
from tqdm import tqdm

from pipeline.core.errors import InputError
from pipeline.core.parallel import ended

log = logging.getLogger(__name__)
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as in malloc.h
BUSY = 2  # cores that a training takes whole


def launch(precision: str) -> Fabric:
    """Fabric on this process's device, one of those of all the processes that torchrun started; `precision` as in
    `choose_precision`.
    """
    world, local = _processes()
    with _calm():
        fabric = Fabric(
            # "auto" takes Apple's GPU, on which there is no float64
            accelerator="cuda" if torch.cuda.is_available() else "cpu",
            devices=local,  # "auto" is 1 on a CPU: each process would train alone
            num_nodes=world // local,
            strategy=DDPStrategy(broadcast_buffers=False) if world > 1 else "auto",
            precision=choose_precision(precision),  # type: ignore[arg-type]
        )
        fabric.launch()
    assert fabric.world_size == world
    return fabric


@contextmanager
def _calm() -> Iterator[None]:
    """Without the advice of Fabric, which is for those who write code with it."""
    advice = logging.getLogger("lightning_fabric")
    level = advice.level
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning_fabric")
        advice.setLevel(logging.ERROR)
        try:
            yield
        finally:
            advice.setLevel(level)


@contextmanager
def _repeatable() -> Iterator[None]:
    """Algorithms that give the same bits again, and as many threads as there are cores for each process; what was set
    before is put back.
    """
    _, local = _processes()
    threads, fill = torch.get_num_threads(), torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    strict, warns = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # a debugging aid
    if local > 1 and not torch.cuda.is_available():
        torch.set_num_threads(max(1, cpu_count() // local))  # torchrun's own choice is 1
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(strict, warn_only=warns)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]
        torch.set_num_threads(threads)


def loading_processes(fabric: Fabric, asked: int | None) -> int:
    """How many processes load images for each that trains: as many as were `asked` for, else none where a CPU trains
    that has no core to spare for them (docs/benchmarks.md, The loop), or one.
    """
    if asked is not None:
        return asked
    _, local = _processes()
    return 0 if fabric.device.type == "cpu" and cpu_count() <= BUSY * local else 1


def _processes() -> tuple[int, int]:
    """How many torchrun has started, on all machines and on this one."""
    many = torch.distributed.is_torchelastic_launched()
    world, local = (int(os.environ[name]) if many else 1 for name in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    return world, local


@contextmanager
def together(fabric: Fabric) -> Iterator[None]:
    """What all processes do, so that it can be done again with the same bits. Where one of them ends, so do the others,
    with an InputError instead of the words of the library through which they talk. What ends one that is not the first,
    which speaks for all, is printed here.
    """
    keep_freed_memory()
    try:
        with _calm(), _repeatable(), _loaders_whole():
            yield
    except InputError as error:
        if not fabric.is_global_zero:
            tqdm.write(f"error: {error}", file=sys.stderr)
        raise
    except RuntimeError as error:
        if fabric.world_size == 1 or (not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error)):
            raise
        log.debug("a process has ended", exc_info=error)
        raise InputError(
            f"another of the {fabric.world_size} processes has ended, so this one does; "
            f"the same command goes on from the last epoch that was finished"
        ) from None
    if fabric.world_size > 1:
        torch.distributed.destroy_process_group()


@contextmanager
def _loaders_whole() -> Iterator[None]:
    """torch tells of a process that loaded images and was ended wherever the program is at that moment, not only where
    it asks for the next batch.
    """
    try:
        yield
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):
            raise
        log.debug("a process that loads has ended", exc_info=error)
        raise ended("loading images") from None


def choose_precision(precision: str) -> str:
    """Fabric's name for "fp32", "bf16" or "auto": bf16 where a GPU or the CPU's AMX computes it natively."""
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(False) if torch.cuda.is_available() else torch.cpu._is_amx_tile_supported()
        )
        precision = "bf16" if native else "fp32"
    return {"fp32": "32-true", "bf16": "bf16-mixed"}[precision]


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks: given back to the system, each activation's memory would be zeroed anew.

    Applies to the whole process, also afterwards: there is no way to ask what was set. Does nothing where the C library
    is another one.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def circumstances(fabric: Fabric) -> dict[str, int | str]:
    """On what the last bits of a sum depend, beside params and data."""
    name = torch.cuda.get_device_name() if fabric.device.type == "cuda" else torch.backends.cpu.get_cpu_capability()
    return {
        "processes": fabric.world_size,
        "threads": torch.get_num_threads(),
        "device": name,
        "torch": str(torch.__version__),
    }


def to_device(
    fabric: Fabric, batch: tuple[Any, dict[str, Tensor], list[Any]]
) -> tuple[Any, dict[str, Tensor], list[Any]]:
    """A loader's batch (images or a list of maps, target, items) with its tensors on the device."""
    images, target, items = batch
    return *fabric.to_device((images, target)), items


def sum_of_all(fabric: Fabric, values: Tensor) -> Tensor:
    """The sum over all processes, float64 and on the device, of `values`, which have the same shape in each."""
    total = values.detach().to(fabric.device, torch.float64)
    if fabric.world_size > 1:
        torch.distributed.all_reduce(total)
    return total


def gathered(fabric: Fabric, value: Any) -> list[Any]:
    """What `value` is in each process, in every process."""
    if fabric.world_size == 1:
        return [value]
    values: list[Any] = [None] * fabric.world_size
    torch.distributed.all_gather_object(values, value)
    return values


def share_norms(net: nn.Module) -> None:
    """Let the batch norms of `net` that learn take the statistics of all processes' images: a small share of a batch
    has none of its own to speak of. torch's SyncBatchNorm does so on GPUs only.
    """
    for module in net.modules():
        if type(module) in SHARED and module.training:
            module.__class__ = SHARED[type(module)]


class _SumOfAll(torch.autograd.Function):
    """The sum over all processes, of values and of gradients."""

    @staticmethod
    def forward(_ctx: Any, values: Tensor) -> Tensor:
        total = values.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(_ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        torch.distributed.all_reduce(total)
        return total


class SharedNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, [N, C, H, W] in each; N may differ."""

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        variance, mean = torch.var_mean(x.float(), dim=(0, 2, 3), correction=0)
        count = mean.new_full((1,), x.numel() / x.shape[1])
        # each process's numbers in a row of its own, for all to see: counts, means and variances merge without rounding
        rows = mean.new_zeros(torch.distributed.get_world_size(), 2 * len(mean) + 1)
        rows = rows.index_copy(
            0,
            rows.new_tensor([torch.distributed.get_rank()], dtype=torch.int64),
            torch.cat([count, mean, variance])[None],
        )
        counts, means, variances = _SumOfAll.apply(rows).split([1, len(mean), len(mean)], dim=1)
        share, total = counts / counts.sum(), counts.sum()
        mean = (share * means).sum(0)
        variance = (share * (variances + (means - mean) ** 2)).sum(0)
        with torch.no_grad():
            self.num_batches_tracked += 1
            pace = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
            self.running_mean.lerp_(mean.detach(), pace)
            self.running_var.lerp_(variance.detach() * total / (total - 1), pace)
        scale = torch.rsqrt(variance + self.eps) * self.weight
        shift = self.bias - mean * scale
        return (x.float() * scale[:, None, None] + shift[:, None, None]).to(x.dtype)


class SharedNormAct2d(BatchNormAct2d, SharedNorm2d):
    """The same of one that has an activation."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.drop(SharedNorm2d.forward(self, x)))
        return y


SHARED: dict[type[nn.Module], type[nn.Module]] = {nn.BatchNorm2d: SharedNorm2d, BatchNormAct2d: SharedNormAct2d}

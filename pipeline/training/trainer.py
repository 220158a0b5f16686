"""Lightning's trainer as it is set up here: phases, checkpoints, history, precision, memory."""

import ctypes
import logging
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Callback, TQDMProgressBar
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # as in malloc.h
AVERAGE_DECAY = 0.999  # of the moving average of the weights, once it has seen enough steps
VALIDATIONS = 20  # at least, of a run; one of twice as many epochs or more is not validated after each
HISTORY = ("epoch", "train_loss", "val_loss", "val_metric", "val_rank", "learning_rate")


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a training, from epoch `first` on. `frozen`: batches hold `net.features` instead of images, and only
    what comes after them learns; else the run's `tuned_blocks` of the backbone learn with it.
    """

    frozen: bool
    epochs: int
    learning_rate: float
    first: int = 0


def validation_interval(phase: Phase) -> int:
    """Epochs from one validation to the next: so few that there are `VALIDATIONS` at least, the last epoch's among
    them. Frozen epochs take no time: 1.
    """
    most = 1 if phase.frozen else max(1, phase.epochs // VALIDATIONS)
    return next(n for n in range(most, 0, -1) if phase.epochs % n == 0)


def new_trainer(precision: str, phase: Phase, callbacks: list[Callback]) -> pl.Trainer:
    """Lightning's trainer for one phase, on one device; `precision` as in `choose_precision`."""
    return pl.Trainer(
        accelerator="auto",
        devices=1,
        precision=choose_precision(precision),  # type: ignore[arg-type]
        max_epochs=phase.epochs,
        check_val_every_n_epoch=validation_interval(phase),
        deterministic="warn" if torch.cuda.is_available() else True,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=not phase.frozen,
        enable_model_summary=False,
        plugins=[] if phase.frozen else [AtomicCheckpoints()],
        callbacks=[TQDMProgressBar(refresh_rate=5), *callbacks],
    )


def checkpoint_left(resume_folder: Path, train: DataLoader[Any]) -> Path | None:
    """The checkpoint that a killed run left; `train` is told of its epoch."""
    path = resume_folder / "last.ckpt"
    if not path.is_file():
        return None
    tqdm.write(f"resuming from {path}")
    # Lightning sets the sampler's epoch after the workers have fetched the first batches of a resumed epoch
    sampler: Any = train.sampler
    sampler.set_epoch(torch.load(path, map_location="cpu", weights_only=False)["epoch"] + 1)
    return path


class History(Callback):
    """A row per epoch that ended with a validation; travels in the checkpoint so that a resumed run has all."""

    def __init__(self, first: int) -> None:
        self.first, self.rows = first, list[dict[str, float]]()

    def on_train_epoch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if (trainer.current_epoch + 1) % (trainer.check_val_every_n_epoch or 1):
            return
        got = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rate = trainer.optimizers[0].param_groups[-1]["lr"]
        row = {"epoch": self.first + trainer.current_epoch, **{k: got[k] for k in HISTORY[1:5]}, "learning_rate": rate}
        self.rows = [*[r for r in self.rows if r["epoch"] < row["epoch"]], row]

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows = state_dict["rows"]


class AtomicCheckpoints(TorchCheckpointIO):
    """A checkpoint is there or not, also when the process is killed while it writes."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        path = Path(path)
        unfinished = path.with_name(f".{path.name}.unfinished")
        super().save_checkpoint(checkpoint, unfinished, storage_options)
        unfinished.replace(path)


def choose_precision(precision: str) -> str:
    """Lightning's name for "fp32", "bf16" or "auto": bf16 where a GPU or the CPU's AMX computes it natively."""
    if precision == "auto":
        native = (
            torch.cuda.is_bf16_supported(False) if torch.cuda.is_available() else torch.cpu._is_amx_tile_supported()
        )
        precision = "bf16" if native else "fp32"
    return {"fp32": "32-true", "bf16": "bf16-mixed"}[precision]


class KeepBest(Callback):
    """The weights of the best epoch, in memory: for a phase that is over sooner than a checkpoint is written."""

    def __init__(self) -> None:
        self.rank, self.state, self._seen = -math.inf, dict[str, Tensor](), dict[str, Tensor]()

    def on_validation_epoch_end(self, _trainer: pl.Trainer, module: Any) -> None:
        # the moving average is still in the net here, provided that this callback comes before WeightAveraging
        self._seen = {name: tensor.clone() for name, tensor in module.net.state_dict().items()}

    def on_validation_end(self, trainer: pl.Trainer, _module: Any) -> None:
        reached = float(trainer.callback_metrics["val_rank"])
        if reached > self.rank:
            self.rank, self.state = reached, self._seen


def moving_average(averages: Any, currents: Any, steps: Tensor | int) -> None:
    """Exponential, with a short memory at first: the early weights are far from where training ends."""
    decay = min(AVERAGE_DECAY, (1 + float(steps)) / (10 + float(steps)))
    if averages[0].is_floating_point():
        torch._foreach_lerp_(averages, currents, 1 - decay)
    else:
        torch._foreach_copy_(averages, currents)


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks: given back to the system, each activation's memory would be zeroed anew.

    Applies to the whole process. Does nothing where the C library is another one.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def quiet() -> None:
    """Silence Lightning's advice on loaders and loggers, which is for those who write code with it."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module="lightning")
